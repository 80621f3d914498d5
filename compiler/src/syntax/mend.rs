//! Sets right what the grammar cannot recover from: open brackets, open strings, foreign quotes and characters, and
//! nesting too deep to follow.
//!
//! Gives a text in which brackets are balanced, strings closed, and every remaining character is one the grammar
//! knows, together with the way back to places in the original text. What had to be changed is reported. A file that
//! is right comes back unchanged.

use super::problems as say;
use super::scan::{DocLine, Token, TokenKind, doc_lines, scan};
use crate::problem::{Problem, Problems};
use crate::source::{FileId, Span};

/// How deep values may nest: a bracket or an `if` weighs [`BRACKET`], an operator one. Keeps every later pass, which may
/// recurse over the tree, far from the end of its stack.
const LIMIT: usize = 256;
const BRACKET: usize = 4;

/// The text that the grammar reads.
#[derive(Debug)]
pub(super) struct Mended {
    pub(super) text: String,
    pub(super) docs: Vec<DocLine>,
    pub(super) problems: Problems,
    pieces: Vec<Piece>,
}

/// `length` bytes at `mended` were copied from `original`.
#[derive(Debug)]
struct Piece {
    mended: usize,
    original: usize,
    length: usize,
}

impl Mended {
    /// The place in the original text of a place in the mended text.
    pub(super) fn original(&self, at: usize) -> usize {
        let after = self.pieces.partition_point(|p| p.mended <= at);
        match after.checked_sub(1).and_then(|i| self.pieces.get(i)) {
            Some(piece) => piece.original + (at - piece.mended).min(piece.length),
            None => 0,
        }
    }
}

/// Sets `text` right.
pub(super) fn mend(file: FileId, text: &str) -> Mended {
    let tokens = scan(text);
    let mut changes = Changes { file, text, edits: Vec::new(), problems: Vec::new() };
    for token in &tokens {
        changes.characters(token);
    }
    let mut balance = Balance::run(file, text, &tokens, false);
    if !balance.is_balanced {
        balance = Balance::run(file, text, &tokens, true);
    }
    // Behind an open string all brackets of the line are swallowed; one cause, one problem.
    let open_lines = open_string_lines(&tokens);
    let hidden = |p: &Problem| {
        p.span().is_some_and(|s| open_lines.iter().any(|l| l.contains(&(s.start as usize))))
    };
    balance.problems.retain(|p| !hidden(p));
    changes.edits.extend(balance.edits);
    changes.problems.extend(balance.problems);
    let (mended, pieces) = apply(text, changes.edits);
    let mut problems = Problems::default();
    for problem in changes.problems {
        problems.push(problem);
    }
    Mended { text: mended, docs: doc_lines(text, &tokens), problems, pieces }
}

#[derive(Debug, Clone)]
struct Edit {
    at: usize,
    remove: usize,
    insert: String,
}

fn apply(text: &str, mut edits: Vec<Edit>) -> (String, Vec<Piece>) {
    edits.sort_by_key(|e| e.at);
    let mut out = String::with_capacity(text.len() + 16);
    let mut pieces = Vec::new();
    let mut done = 0;
    for edit in edits {
        if edit.at < done {
            continue;
        }
        pieces.push(Piece { mended: out.len(), original: done, length: edit.at - done });
        out.push_str(&text[done..edit.at]);
        out.push_str(&edit.insert);
        done = edit.at + edit.remove;
    }
    pieces.push(Piece { mended: out.len(), original: done, length: text.len() - done });
    out.push_str(&text[done..]);
    (out, pieces)
}

/// The byte ranges of lines on which a string is left open.
fn open_string_lines(tokens: &[Token]) -> Vec<std::ops::Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for token in tokens {
        match token.kind {
            TokenKind::Newline => start = token.end,
            TokenKind::Text { closed: false, .. } => lines.push(start..token.end + 1),
            _ => {}
        }
    }
    lines
}

/// Changes to single tokens.
struct Changes<'a> {
    file: FileId,
    text: &'a str,
    edits: Vec<Edit>,
    problems: Vec<Problem>,
}

impl Changes<'_> {
    fn replace(&mut self, token: &Token, insert: impl Into<String>) {
        let insert = insert.into();
        self.edits.push(Edit { at: token.start, remove: token.end - token.start, insert });
    }

    fn characters(&mut self, token: &Token) {
        let span = Span::new(self.file, token.start, token.end);
        let source = &self.text[token.start..token.end];
        match token.kind {
            TokenKind::Text { closed: false, triple } => {
                let opening =
                    Span::new(self.file, token.start, token.start + if triple { 3 } else { 1 });
                self.problems.push(say::open_string(opening, triple));
                // The last backslash would take the added quote with it.
                let trailing = source.len() - source.trim_end_matches('\\').len();
                let mut insert = if trailing % 2 == 1 { "\\".to_owned() } else { String::new() };
                let quotes =
                    if triple { source.len() - source.trim_end_matches('"').len() } else { 0 };
                if triple && quotes > 0 && source.len() > 3 {
                    insert.push('\n');
                }
                insert.push_str(if triple { "\"\"\"" } else { "\"" });
                self.edits.push(Edit { at: token.end, remove: 0, insert });
            }
            TokenKind::SingleQuoted { closed: true } => {
                let inner = source[1..source.len() - 1].replace('\\', "").replace('"', "\\\"");
                let written = format!("\"{inner}\"");
                self.problems.push(say::single_quotes(span, &written));
                self.replace(token, written);
            }
            TokenKind::SingleQuoted { closed: false } => {
                self.problems.push(say::strange_character(span, '\''));
                self.replace(token, " ");
            }
            TokenKind::ForeignComment => {
                self.problems.push(say::foreign_comment(span, source));
                let newlines = source.matches('\n').count();
                self.replace(
                    token,
                    if newlines == 0 { " ".to_owned() } else { "\n".repeat(newlines) },
                );
            }
            TokenKind::Strange(c) => {
                if c == '\u{feff}' && token.start == 0 {
                    return self.replace(token, "");
                }
                self.problems.push(say::strange_character(span, c));
                self.replace(
                    token,
                    say::meant_by(c).unwrap_or(if c.is_alphanumeric() { "_" } else { " " }),
                );
            }
            TokenKind::Text { closed: true, .. }
            | TokenKind::Open(_)
            | TokenKind::Close(_)
            | TokenKind::Comment
            | TokenKind::Word
            | TokenKind::Sign
            | TokenKind::Comma
            | TokenKind::Newline => {}
        }
    }
}

/// An open bracket.
struct Level {
    open: u8,
    token: usize,
    /// What the value read so far on this level weighs.
    weight: usize,
}

/// Balances brackets and watches the depth.
struct Balance<'a> {
    file: FileId,
    text: &'a str,
    tokens: &'a [Token],
    /// For each token the next one that is neither a newline nor a comment.
    next_code: Vec<usize>,
    levels: Vec<Level>,
    /// Weight outside all brackets.
    ground: usize,
    edits: Vec<Edit>,
    problems: Vec<Problem>,
    is_balanced: bool,
}

impl<'a> Balance<'a> {
    /// With `recover`, a line that begins at the margin with a word ends all open brackets: items begin there.
    fn run(file: FileId, text: &'a str, tokens: &'a [Token], recover: bool) -> Self {
        let mut b = Balance {
            file,
            text,
            tokens,
            next_code: next_code(tokens),
            levels: Vec::new(),
            ground: 0,
            edits: Vec::new(),
            problems: Vec::new(),
            is_balanced: true,
        };
        let mut item_start = 0;
        let mut i = 0;
        while let Some(token) = tokens.get(i) {
            let at_margin = token.kind == TokenKind::Word && b.begins_line(i);
            if at_margin && recover && !b.levels.is_empty() {
                b.close_all(i);
            }
            if at_margin && b.levels.is_empty() {
                item_start = i;
            }
            b.step(i);
            if b.weight() > LIMIT {
                b.problems.push(say::too_deep(b.span(i)));
                i = b.drop_item(item_start, i);
            } else {
                i += 1;
            }
        }
        b.close_all(tokens.len());
        b
    }

    fn span(&self, i: usize) -> Span {
        Span::new(self.file, self.tokens[i].start, self.tokens[i].end)
    }

    fn begins_line(&self, i: usize) -> bool {
        let start = self.tokens[i].start;
        start == 0 || matches!(self.text.as_bytes()[start - 1], b'\n' | b'\r')
    }

    fn weight(&self) -> usize {
        self.ground + self.levels.iter().map(|l| l.weight + BRACKET).sum::<usize>()
    }

    fn add(&mut self, weight: usize) {
        match self.levels.last_mut() {
            Some(level) => level.weight += weight,
            None => self.ground += weight,
        }
    }

    fn reset(&mut self) {
        match self.levels.last_mut() {
            Some(level) => level.weight = 0,
            None => self.ground = 0,
        }
    }

    fn step(&mut self, i: usize) {
        let token = self.tokens[i];
        match token.kind {
            TokenKind::Open(open) => self.levels.push(Level { open, token: i, weight: 0 }),
            TokenKind::Close(close) => {
                self.close(i, close);
                self.add(1);
            }
            TokenKind::Comma => self.reset(),
            TokenKind::Newline => {
                let in_block = self.levels.last().is_none_or(|l| l.open == b'{');
                // After a blank line or a comment the newline before has already decided.
                let decided = i > 0 && is_trivia(&self.tokens[i - 1]) && self.begins_line(i - 1);
                if in_block && !decided && !self.continues(i) {
                    self.reset();
                }
            }
            TokenKind::Sign => self.add(1),
            TokenKind::Word => match &self.text[token.start..token.end] {
                "if" | "elif" | "match" | "scan" => self.add(BRACKET),
                "and" | "or" | "not" | "with" | "in" | "lambda" => self.add(1),
                _ => {}
            },
            TokenKind::Text { .. }
            | TokenKind::SingleQuoted { .. }
            | TokenKind::Comment
            | TokenKind::ForeignComment
            | TokenKind::Strange(_) => {}
        }
    }

    /// Whether the value before the newline `i` goes on behind it.
    fn continues(&self, i: usize) -> bool {
        let word = |t: &Token| &self.text[t.start..t.end];
        let before = (0..i).rev().map(|j| &self.tokens[j]).find(|t| !is_trivia(t));
        let ends_open = before.is_some_and(|t| {
            t.kind == TokenKind::Sign
                || matches!(word(t), "and" | "or" | "not" | "with" | "in" | "then" | "else" | "if")
        });
        let after = self.tokens.get(self.next_code[i]);
        let begins_open = after.is_some_and(|t| {
            matches!(word(t), "|>" | "||" | "&&" | "and" | "or" | "with" | "then" | "else" | "elif")
        });
        ends_open || begins_open
    }

    fn close(&mut self, i: usize, close: u8) {
        let wanted = opening_of(close);
        let Some(place) = self.levels.iter().rposition(|l| l.open == wanted) else {
            self.is_balanced = false;
            return self.stray(i, close);
        };
        while self.levels.len() > place + 1 {
            self.is_balanced = false;
            self.unclosed(i);
        }
        self.levels.pop();
    }

    /// A closing bracket that nothing of its kind was opened for.
    fn stray(&mut self, i: usize, close: u8) {
        let token = self.tokens[i];
        match self.levels.last() {
            // `f(a, b]`: the wrong kind.
            Some(level) if level.open != b'{' && close != b'}' => {
                let open = level.open;
                let opened = self.span(level.token);
                let right = closing_of(open);
                self.problems.push(say::wrong_bracket(self.span(i), close, opened, right));
                self.edits.push(Edit {
                    at: token.start,
                    remove: 1,
                    insert: (right as char).to_string(),
                });
                self.levels.pop();
            }
            Some(_) | None => {
                self.problems.push(say::stray_bracket(self.span(i), close));
                self.edits.push(Edit { at: token.start, remove: 1, insert: " ".to_owned() });
            }
        }
    }

    /// Closes the innermost bracket before token `i`: a `{` right there, others at the end of the line that opened them.
    fn unclosed(&mut self, i: usize) {
        let Some(level) = self.levels.pop() else { return };
        let opened = self.tokens[level.token];
        self.problems.push(say::open_bracket(self.span(level.token), level.open));
        let line_end = (level.token..i)
            .find(|j| matches!(self.tokens[*j].kind, TokenKind::Newline | TokenKind::Comment))
            .unwrap_or(i);
        let stop = if level.open == b'{' { i } else { line_end };
        // Behind the last code before `stop`, so that comments and blank lines stay outside.
        let at = self.tokens[..stop]
            .iter()
            .rev()
            .find(|t| !matches!(t.kind, TokenKind::Newline | TokenKind::Comment | TokenKind::Comma))
            .map_or(opened.end, |t| t.end)
            .max(opened.end);
        self.edits.push(Edit {
            at,
            remove: 0,
            insert: (closing_of(level.open) as char).to_string(),
        });
    }

    fn close_all(&mut self, i: usize) {
        while !self.levels.is_empty() {
            self.is_balanced = false;
            self.unclosed(i);
        }
        self.ground = 0;
    }

    /// Takes the item from token `first` on out of the text; gives the token where the next item begins.
    fn drop_item(&mut self, first: usize, i: usize) -> usize {
        let next = (i + 1..self.tokens.len())
            .find(|j| self.tokens[*j].kind == TokenKind::Word && self.begins_line(*j))
            .unwrap_or(self.tokens.len());
        let start = self.tokens[first].start;
        let end = self.tokens.get(next).map_or(self.text.len(), |t| t.start);
        self.edits.retain(|e| e.at < start);
        self.edits.push(Edit { at: start, remove: end - start, insert: "\n".to_owned() });
        self.levels.clear();
        self.ground = 0;
        next
    }
}

fn is_trivia(t: &Token) -> bool {
    matches!(t.kind, TokenKind::Newline | TokenKind::Comment | TokenKind::ForeignComment)
}

fn next_code(tokens: &[Token]) -> Vec<usize> {
    let mut next = vec![tokens.len(); tokens.len()];
    for i in (0..tokens.len().saturating_sub(1)).rev() {
        next[i] = if is_trivia(&tokens[i + 1]) { next[i + 1] } else { i + 1 };
    }
    next
}

fn closing_of(open: u8) -> u8 {
    match open {
        b'(' => b')',
        b'[' => b']',
        _ => b'}',
    }
}

fn opening_of(close: u8) -> u8 {
    match close {
        b')' => b'(',
        b']' => b'[',
        _ => b'{',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(text: &str) -> (String, Vec<String>) {
        let m = mend(FileId(0), text);
        let problems = m.problems.iter().map(|p| p.code.clone()).collect();
        (m.text, problems)
    }

    #[test]
    fn a_right_file_is_not_touched() {
        let text = "a { b = [1, (2)] } # (\n";
        assert_eq!(mended(text), (text.to_owned(), vec![]));
    }

    #[test]
    fn open_brackets_are_closed_where_the_next_item_begins() {
        let (text, problems) = mended("a {\n  b = 1\n\nc { d = 2 }\n");
        assert_eq!(text, "a {\n  b = 1}\n\nc { d = 2 }\n");
        assert_eq!(problems, ["E0102"]);
        let (text, problems) = mended("a {\n  b = f(1, 2\n  c = 3\n}\n");
        assert_eq!(text, "a {\n  b = f(1, 2)\n  c = 3\n}\n");
        assert_eq!(problems, ["E0102"]);
    }

    #[test]
    fn stray_brackets_vanish_and_wrong_ones_turn() {
        assert_eq!(mended("a = 1 }").0, "a = 1  ");
        assert_eq!(mended("a = f(1]"), ("a = f(1)".to_owned(), vec!["E0103".to_owned()]));
    }

    #[test]
    fn places_lead_back() {
        let m = mend(FileId(0), "a = 'x' ≤ b");
        assert_eq!(m.text, "a = \"x\" <= b");
        let b = m.text.find('b').expect("kept");
        assert_eq!(m.original(b), "a = 'x' ≤ ".len());
    }

    #[test]
    fn too_deep_drops_only_its_item() {
        let deep = format!("a = {}1{}\nb = 2\n", "(".repeat(500), ")".repeat(500));
        assert_eq!(mended(&deep), ("\nb = 2\n".to_owned(), vec!["E0108".to_owned()]));
        let chain = format!("a = {}1\nb = 2\n", "1 + ".repeat(500));
        assert_eq!(mended(&chain).1, ["E0108"]);
        let many = "a = 1 + 2\n".repeat(1000);
        assert_eq!(mended(&many).1, Vec::<String>::new());
    }
}
