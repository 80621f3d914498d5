//! A user's file laid out in the house's way: what `cs336c fmt` writes.
//!
//! Only blanks change. Where lines end, how numbers are written, in which columns things stand and every comment are the writer's
//! business and stay. What is set right: two blanks of indentation for each bracket that a line leaves open and for a line
//! that goes on the one before; blanks around `=`, `->`, `|>`, `~` and comparisons, and behind commas; one empty line at most; no blanks
//! at the ends of lines, and one where several line nothing up; a last line that ends. So a formatted file reads as the same program (a test holds this for all of
//! ours), and formatting it again changes nothing.

use super::scan::{Token, TokenKind, scan};

/// The text with its blanks set right.
pub fn format(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let tokens = scan(text);
    let mut out = String::new();
    let mut open = Brackets::default();
    let mut goes_on = false;
    let mut empty = 0;
    for line in tokens.split(|t| t.kind == TokenKind::Newline) {
        if line.is_empty() {
            empty += 1;
            continue;
        }
        if empty > 0 && !out.is_empty() {
            out.push('\n');
        }
        empty = 0;
        let comment_only = matches!(line[0].kind, TokenKind::Comment);
        let depth =
            open.indent(line) + usize::from(!comment_only && (goes_on || leads_on(text, line[0])));
        out.push_str(&"  ".repeat(depth));
        write_line(text, line, &mut out);
        out.truncate(out.trim_end_matches([' ', '\t']).len());
        out.push('\n');
        open.pass(line, depth);
        if let Some(last) = line.iter().rev().find(|t| t.kind != TokenKind::Comment) {
            goes_on = wants_more(text, *last);
        }
    }
    out
}

/// Brackets that are open, each with the depth of the line that opened it: those of one line indent once.
#[derive(Default)]
struct Brackets {
    open: Vec<usize>,
}

impl Brackets {
    /// How deep a line stands: one deeper than the line that it is in brackets of; a bracket that closes at its start stands as deep
    /// as the line that opened it.
    fn indent(&self, line: &[Token]) -> usize {
        let closed = line.iter().take_while(|t| matches!(t.kind, TokenKind::Close(_))).count();
        if closed > 0 {
            let at = self.open.len().saturating_sub(closed);
            return self.open.get(at).copied().unwrap_or(0);
        }
        self.open.last().map_or(0, |depth| depth + 1)
    }

    fn pass(&mut self, line: &[Token], depth: usize) {
        for token in line {
            match token.kind {
                TokenKind::Open(_) => self.open.push(depth),
                TokenKind::Close(_) => {
                    self.open.pop();
                }
                TokenKind::Text { .. }
                | TokenKind::SingleQuoted { .. }
                | TokenKind::Comment
                | TokenKind::ForeignComment
                | TokenKind::Word
                | TokenKind::Sign
                | TokenKind::Comma
                | TokenKind::Newline
                | TokenKind::Strange(_) => {}
            }
        }
    }
}

/// What may begin a line that belongs to the one before.
fn leads_on(text: &str, first: Token) -> bool {
    matches!(source(text, first), "|>" | "and" | "or" | "then" | "else" | "with")
}

/// What cannot end an item.
fn wants_more(text: &str, last: Token) -> bool {
    last.kind == TokenKind::Sign && !matches!(source(text, last), "%" | "?")
        || matches!(source(text, last), "and" | "or" | "then" | "else" | "with" | "not" | "in")
}

fn source(text: &str, token: Token) -> &str {
    &text[token.start..token.end]
}

fn write_line(text: &str, line: &[Token], out: &mut String) {
    for (i, token) in line.iter().enumerate() {
        if let Some(before) = i.checked_sub(1).map(|i| line[i]) {
            let gap = &text[before.end..token.start];
            out.push_str(between(text, before, *token, gap));
        }
        out.push_str(source(text, *token));
    }
}

/// The blanks between two tokens of a line, of which the text has `gap`.
fn between<'t>(text: &str, before: Token, after: Token, gap: &'t str) -> &'t str {
    let (a, b) = (source(text, before), source(text, after));
    let tight = gap.is_empty();
    if after.kind == TokenKind::Comma {
        return "";
    }
    let apart = before.kind == TokenKind::Comma
        || is_spaced(a)
        || is_spaced(b)
        || (a == "{" && b != "}")
        || (b == "}" && a != "{")
        || (b == "{" && matches!(before.kind, TokenKind::Word | TokenKind::Close(_)))
        || after.kind == TokenKind::Comment;
    match (before.kind, after.kind) {
        (TokenKind::Open(b'(' | b'['), _) => "",
        (_, TokenKind::Close(b')' | b']')) => "",
        _ if tight && apart => " ",
        // Tabs would stand in other columns for everybody.
        _ if gap.contains('\t') => " ",
        // Columns are lined up before `=`, `->`, blocks and comments, and behind commas.
        _ if matches!(b, "=" | "->" | "{")
            || matches!(after.kind, TokenKind::Comment | TokenKind::ForeignComment)
            || before.kind == TokenKind::Comma =>
        {
            gap
        }
        _ if gap.len() > 1 => " ",
        _ => gap,
    }
}

/// Signs that always have blanks around them.
fn is_spaced(sign: &str) -> bool {
    matches!(sign, "=" | "->" | "|>" | "~" | "==" | "!=" | "<=" | ">=" | "<" | ">")
}
