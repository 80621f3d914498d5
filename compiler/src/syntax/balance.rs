//! Brackets: which belong together, which are missing, and whether they nest too deep.
//!
//! Takes the tokens of a text, gives the edits after which every bracket has its partner, and a problem for each. A missing
//! closing bracket is put where the author most likely forgot it: see [`Balance::run`] and `unclosed`.

use super::mend::Edit;
use super::problems as say;
use super::scan::{Token, TokenKind};
use crate::problem::Problem;
use crate::source::{FileId, Span};

/// How deep values may nest: a bracket or an `if` weighs [`BRACKET`], an operator one. Keeps every later pass, which may
/// recurse over the tree, far from the end of its stack.
const LIMIT: usize = 256;
const BRACKET: usize = 4;

/// An open bracket.
struct Level {
    open: u8,
    token: usize,
    /// What the value read so far on this level weighs.
    weight: usize,
}

/// How an opening bracket is closed.
#[derive(Clone, Copy)]
enum Partner {
    /// It is no bracket, or still open.
    Unknown,
    /// By this token.
    Token(usize),
    /// By an added bracket.
    Added,
}

/// Balances brackets and watches the depth.
pub(super) struct Balance<'a> {
    file: FileId,
    text: &'a str,
    tokens: &'a [Token],
    /// For each token the next one that is neither a newline nor a comment.
    next_code: Vec<usize>,
    /// For each opening bracket how it was closed.
    partners: Vec<Partner>,
    levels: Vec<Level>,
    /// Weight outside all brackets.
    ground: usize,
    pub(super) edits: Vec<Edit>,
    pub(super) problems: Vec<Problem>,
    pub(super) is_balanced: bool,
}

impl<'a> Balance<'a> {
    /// With `recover`, a line that begins at the margin with a word ends all open brackets: items begin there.
    pub(super) fn run(file: FileId, text: &'a str, tokens: &'a [Token], recover: bool) -> Self {
        let mut b = Balance {
            file,
            text,
            tokens,
            next_code: next_code(tokens),
            partners: vec![Partner::Unknown; tokens.len()],
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
        if let Some(level) = self.levels.pop() {
            self.partners[level.token] = Partner::Token(i);
        }
    }

    /// A closing bracket that nothing of its kind was opened for.
    fn stray(&mut self, i: usize, close: u8) {
        let token = self.tokens[i];
        match self.levels.last() {
            // `f(a, b]`: the wrong kind.
            Some(level) if level.open != b'{' && close != b'}' => {
                let open = level.open;
                let opened = self.span(level.token);
                self.partners[level.token] = Partner::Token(i);
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
        self.problems.push(say::open_bracket(self.span(level.token), level.open));
        self.partners[level.token] = Partner::Added;
        let stop = if level.open == b'{' { i } else { self.line_stop(level.token, i) };
        // Behind the last code before `stop`, so that comments and blank lines stay outside.
        let outside = |t: &&Token| !is_trivia(t) && t.kind != TokenKind::Comma;
        let last = self.tokens[level.token + 1..stop].iter().rev().find(outside);
        let at = last.map_or(self.tokens[level.token].end, |t| t.end);
        let insert = (closing_of(level.open) as char).to_string();
        self.edits.push(Edit { at, remove: 0, insert });
    }

    /// The end of the line of `open`, or the first bracket on it that is closed on a later line, but at most `limit`.
    fn line_stop(&self, open: usize, limit: usize) -> usize {
        let mut j = open + 1;
        while j < limit {
            match (self.tokens[j].kind, self.partners[j]) {
                (TokenKind::Newline | TokenKind::Comment | TokenKind::ForeignComment, _) => break,
                (TokenKind::Open(b'{'), Partner::Added) => break,
                (TokenKind::Open(_), Partner::Token(close)) => {
                    let newline = |t: &Token| t.kind == TokenKind::Newline;
                    if self.tokens[j..close].iter().any(newline) {
                        break;
                    }
                    j = close;
                }
                _ => {}
            }
            j += 1;
        }
        j.min(limit)
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
