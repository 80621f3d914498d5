//! Text to tokens, as far as brackets, quotes, comments and lines are concerned.
//!
//! The grammar reads the language; this only sees what has to be set right before the grammar can (`mend`), and keeps
//! the `##` comments that the grammar skips. Every byte of the text is covered by a token or is a blank. Never fails.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    /// `(`, `[` or `{`.
    Open(u8),
    /// `)`, `]` or `}`.
    Close(u8),
    /// `"..."` or `"""..."""`; not closed if the line or the text ends first.
    Text {
        /// Whether its end was found.
        closed: bool,
        /// Whether it has three quotes.
        triple: bool,
    },
    /// `'...'` on one line, which is not how text is written here.
    SingleQuoted {
        /// Whether its end was found on the line.
        closed: bool,
    },
    /// `# ...` or `## ...`.
    Comment,
    /// `// ...` or `/* ... */`.
    ForeignComment,
    /// Letters, digits and `_`.
    Word,
    /// An operator or another sign of ASCII.
    Sign,
    /// `,`
    Comma,
    /// The end of a line.
    Newline,
    /// A character that means nothing here.
    Strange(char),
}

/// A token and the bytes that it covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: TokenKind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A `##` comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DocLine {
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether nothing else stands on its line.
    pub(super) alone: bool,
    /// Without the `##` and the blanks around.
    pub(super) text: String,
}

/// All tokens in order.
pub(super) fn scan(text: &str) -> Vec<Token> {
    let bytes = text.as_bytes();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (kind, end) = match bytes[at] {
            b' ' | b'\t' => {
                at += 1;
                continue;
            }
            b'\r' if bytes.get(at + 1) == Some(&b'\n') => (TokenKind::Newline, at + 2),
            b'\n' | b'\r' => (TokenKind::Newline, at + 1),
            c @ (b'(' | b'[' | b'{') => (TokenKind::Open(c), at + 1),
            c @ (b')' | b']' | b'}') => (TokenKind::Close(c), at + 1),
            b',' => (TokenKind::Comma, at + 1),
            b'"' => text_token(bytes, at),
            b'\'' => single_quoted(bytes, at),
            b'#' => (TokenKind::Comment, line_end(bytes, at)),
            b'/' if bytes.get(at + 1) == Some(&b'/') => {
                (TokenKind::ForeignComment, line_end(bytes, at))
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                let end = text[at + 2..].find("*/").map_or(line_end(bytes, at), |i| at + i + 4);
                (TokenKind::ForeignComment, end)
            }
            c if is_word(c) => {
                let rest = bytes[at..].iter().position(|b| !is_word(*b));
                (TokenKind::Word, rest.map_or(bytes.len(), |n| at + n))
            }
            b'`' | b'$' | b'\\' | 0..=31 | 127 => (TokenKind::Strange(bytes[at] as char), at + 1),
            c if c.is_ascii() => (TokenKind::Sign, at + sign_length(&bytes[at..])),
            _ => {
                let c = text[at..].chars().next().unwrap_or(' ');
                (TokenKind::Strange(c), at + c.len_utf8())
            }
        };
        tokens.push(Token { kind, start: at, end });
        at = end;
    }
    tokens
}

/// The `##` comments among the tokens of `text`.
pub(super) fn doc_lines(text: &str, tokens: &[Token]) -> Vec<DocLine> {
    let mut docs = Vec::new();
    for (i, token) in tokens.iter().enumerate() {
        let source = &text[token.start..token.end];
        let is_doc = token.kind == TokenKind::Comment
            && source.starts_with("##")
            && !source.starts_with("###");
        if is_doc {
            let alone = i == 0 || tokens[i - 1].kind == TokenKind::Newline;
            let words = source.trim_start_matches('#').trim().to_owned();
            docs.push(DocLine { start: token.start, end: token.end, alone, text: words });
        }
    }
    docs
}

fn is_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_'
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|b| matches!(b, b'\n' | b'\r')).map_or(bytes.len(), |n| at + n)
}

fn sign_length(rest: &[u8]) -> usize {
    const PAIRS: [&[u8]; 13] =
        [b"|>", b"->", b"==", b"<=", b">=", b"!=", b"..", b"**", b"&&", b"||", b":=", b"+=", b"=>"];
    if PAIRS.iter().any(|p| rest.starts_with(p)) { 2 } else { 1 }
}

/// A string from its opening quote on, with the same rules as `string` of the grammar.
fn text_token(bytes: &[u8], start: usize) -> (TokenKind, usize) {
    let triple = bytes[start..].starts_with(b"\"\"\"");
    let mut at = start + if triple { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            b'"' if !triple => return (TokenKind::Text { closed: true, triple }, at + 1),
            b'"' if bytes[at..].starts_with(b"\"\"\"") => {
                return (TokenKind::Text { closed: true, triple }, at + 3);
            }
            b'\n' | b'\r' if !triple => return (TokenKind::Text { closed: false, triple }, at),
            // A backslash takes the next character with it, but not the end of the line that ends the text.
            b'\\' => match bytes.get(at + 1) {
                Some(b'\n' | b'\r') if !triple => at += 1,
                Some(_) => at += 2,
                None => at += 1,
            },
            _ => at += 1,
        }
    }
    (TokenKind::Text { closed: false, triple }, bytes.len())
}

fn single_quoted(bytes: &[u8], start: usize) -> (TokenKind, usize) {
    let end = line_end(bytes, start);
    match bytes[start + 1..end].iter().position(|b| *b == b'\'') {
        Some(n) => (TokenKind::SingleQuoted { closed: true }, start + n + 2),
        None => (TokenKind::SingleQuoted { closed: false }, start + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<TokenKind> {
        scan(text).into_iter().map(|t| t.kind).collect()
    }

    #[test]
    fn strings_end_where_the_grammar_ends_them() {
        let open = TokenKind::Text { closed: false, triple: false };
        let closed = TokenKind::Text { closed: true, triple: false };
        let triple = TokenKind::Text { closed: true, triple: true };
        assert_eq!(kinds(r#""a\"b""#), [closed]);
        assert_eq!(kinds("\"a\nb"), [open, TokenKind::Newline, TokenKind::Word]);
        assert_eq!(kinds("\"a\\\nb"), [open, TokenKind::Newline, TokenKind::Word]);
        assert_eq!(kinds("\"\"\"a\n\"b\"\n\"\"\""), [triple]);
        assert_eq!(kinds("\"\""), [closed]);
    }

    #[test]
    fn comments_hide_what_is_in_them() {
        assert_eq!(kinds("a # it's (b"), [TokenKind::Word, TokenKind::Comment]);
        assert_eq!(
            kinds("a // b\n"),
            [TokenKind::Word, TokenKind::ForeignComment, TokenKind::Newline]
        );
    }
}
