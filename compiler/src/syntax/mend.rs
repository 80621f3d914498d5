//! Sets right what the grammar cannot recover from: open brackets, open strings, foreign quotes and characters, and
//! nesting too deep to follow.
//!
//! Gives a text in which brackets are balanced, strings closed, and every remaining character is one the grammar
//! knows, together with the way back to places in the original text. What had to be changed is reported. A file that
//! is right comes back unchanged.

use super::balance::Balance;
use super::problems as say;
use super::scan::{DocLine, Token, TokenKind, doc_lines, scan};
use crate::problem::{Problem, Problems};
use crate::source::{FileId, Span};

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

/// Takes `remove` bytes away at `at` and puts `insert` there.
#[derive(Debug, Clone)]
pub(super) struct Edit {
    pub(super) at: usize,
    pub(super) remove: usize,
    pub(super) insert: String,
}

fn apply(text: &str, mut edits: Vec<Edit>) -> (String, Vec<Piece>) {
    // What is added at a place goes before what is taken away there.
    edits.sort_by_key(|e| (e.at, e.remove > 0));
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
