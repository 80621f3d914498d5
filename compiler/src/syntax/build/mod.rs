//! The pairs of the grammar to the Ast.
//!
//! Takes what pest matched in the mended text, gives nodes whose places are those of the original text. Mistakes that
//! parse (the `wrong_` rules, and a few that only show in context) are reported here and read as what was meant.

mod item;
mod text;
mod types;
mod value;

use pest::iterators::{Pair, Pairs};

use super::ast::{Block, Expr, File, Ident, Item, ItemKind, Path};
use super::mend::Mended;
use super::parse::{Rule, Setting};
use super::scan::{Token, TokenKind, scan};
use crate::problem::{Problem, Problems};
use crate::source::{FileId, Span};

pub(super) type P<'a> = Pair<'a, Rule>;

/// Where the text that is read stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    /// It is the file.
    File,
    /// It begins at this byte of the file.
    From(usize),
    /// It comes from somewhere in this place, but not byte by byte.
    Whole(Span),
}

impl Place {
    /// The place in the file of a place in the text.
    pub(super) fn span(self, span: Span) -> Span {
        match self {
            Place::File => span,
            Place::From(start) => {
                Span::new(span.file, start + span.start as usize, start + span.end as usize)
            }
            Place::Whole(whole) => whole,
        }
    }
}

/// What building needs to know.
pub(super) struct Builder<'a> {
    file: FileId,
    source: &'a str,
    mended: &'a Mended,
    /// Tokens of the mended text: where code ends and blanks and comments begin.
    tokens: Vec<Token>,
    pub(super) place: Place,
    problems: Problems,
}

impl<'a> Builder<'a> {
    pub(super) fn new(file: FileId, source: &'a str, mended: &'a Mended, place: Place) -> Self {
        let mut problems = Problems::default();
        for mut problem in mended.problems.iter().cloned() {
            for label in &mut problem.labels {
                label.span = place.span(label.span);
            }
            problem.fix = match (problem.fix, place) {
                (fix, Place::File) => fix,
                (Some(mut fix), Place::From(_)) => {
                    fix.span = place.span(fix.span);
                    Some(fix)
                }
                (_, Place::From(_) | Place::Whole(_)) => None,
            };
            problems.push(problem);
        }
        Builder { file, source, mended, tokens: scan(&mended.text), place, problems }
    }

    pub(super) fn mended_text(&self) -> &'a str {
        &self.mended.text
    }

    pub(super) fn finish(self) -> Problems {
        self.problems
    }

    pub(super) fn file(&mut self, pair: Option<P<'_>>) -> File {
        let items = pair.map_or_else(Vec::new, |p| self.items(p.into_inner(), None));
        File { items, doc: self.file_doc() }
    }

    pub(super) fn lone_value(&mut self, pair: Option<P<'_>>) -> Option<Expr> {
        let value = pair?.into_inner().find(|p| p.as_rule() == Rule::value)?;
        Some(self.value(value))
    }

    pub(super) fn setting(&mut self, pair: Option<P<'_>>) -> Option<Setting> {
        let mut inner = pair?.into_inner();
        let path = self.path(inner.next()?);
        let value = inner.find(|p| p.as_rule() == Rule::value)?;
        Some(Setting { path, value: self.value(value) })
    }

    pub(super) fn report(&mut self, problem: Problem) {
        let problem = match self.place {
            Place::File | Place::From(_) => problem,
            Place::Whole(_) => Problem { fix: None, ..problem },
        };
        self.problems.push(problem);
    }

    /// The place of bytes of the mended text.
    pub(super) fn place_of(&self, start: usize, end: usize) -> Span {
        let start = self.mended.original(start);
        let end = self.mended.original(end).max(start);
        self.place.span(Span::new(self.file, start, end))
    }

    /// The place of a pair, without the blanks and comments that pest may count to it.
    fn span(&self, pair: &P<'_>) -> Span {
        let span = pair.as_span();
        self.place_of(span.start(), self.code_end(span.start(), span.end()))
    }

    fn code_end(&self, start: usize, end: usize) -> usize {
        let before = self.tokens.partition_point(|t| t.start < end);
        for token in self.tokens[..before].iter().rev() {
            let is_code = !matches!(token.kind, TokenKind::Comment | TokenKind::Newline);
            if is_code {
                return token.end.min(end).max(start);
            }
        }
        end
    }

    fn ident(&self, pair: &P<'_>) -> Ident {
        Ident { name: pair.as_str().to_owned(), span: self.span(pair) }
    }

    fn path(&self, pair: P<'_>) -> Path {
        pair.into_inner().map(|p| self.ident(&p)).collect()
    }

    fn block(&mut self, pair: P<'_>) -> Block {
        let span = self.span(&pair);
        let start = pair.as_span().start();
        Block { items: self.items(pair.into_inner(), Some(start)), span }
    }

    /// The items of a file or of the block that begins at `block`.
    fn items(&mut self, pairs: Pairs<'_, Rule>, block: Option<usize>) -> Vec<Item> {
        let mut items: Vec<Item> = Vec::new();
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for pair in pairs {
            match pair.as_rule() {
                Rule::EOI => {}
                Rule::wrong_semicolon => self.semicolon(&pair),
                _ => {
                    let span = pair.as_span();
                    let range = (span.start(), self.code_end(span.start(), span.end()));
                    let item =
                        self.item(pair, items.last().map(|i| &i.kind), ranges.last().copied());
                    ranges.push(range);
                    items.push(item);
                }
            }
        }
        self.mistakes_in_context(&items, &ranges, block.is_some());
        items
    }

    fn item(
        &mut self,
        pair: P<'_>,
        last: Option<&ItemKind>,
        last_range: Option<(usize, usize)>,
    ) -> Item {
        let span = self.span(&pair);
        let doc = self.item_doc(span);
        let kind = if pair.as_rule() == Rule::junk {
            let follows = matches!(last, Some(ItemKind::Error))
                && last_range
                    .is_some_and(|r| self.indent(pair.as_span().start()) > self.indent(r.0));
            // A bracket or string left open explains the item well enough.
            let explained = self.mended.problems.iter().any(|p| {
                matches!(p.code.as_str(), "E0102" | "E0103" | "E0104")
                    && p.span().is_some_and(|s| {
                        let s = self.place.span(s);
                        span.start <= s.start && s.end <= span.end
                    })
            });
            if !follows && !explained {
                self.explain_junk(&pair);
            }
            ItemKind::Error
        } else {
            self.item_kind(pair)
        };
        Item { kind, span, doc }
    }

    /// How many bytes of blanks the line of a place begins with.
    fn indent(&self, at: usize) -> usize {
        let before = &self.mended.text[..at];
        let start = before.rfind(['\n', '\r']).map_or(0, |i| i + 1);
        let line = &self.mended.text[start..];
        line.len() - line.trim_start_matches([' ', '\t']).len()
    }

    /// The `##` comment before an item, or behind it on its last or (after `{`) its first line.
    fn item_doc(&self, span: Span) -> Option<String> {
        let (Place::File, docs) = (self.place, &self.mended.docs) else { return None };
        let (start, end) = (span.start as usize, span.end as usize);
        let mut lines: Vec<&str> = Vec::new();
        let mut at = start;
        let first_after = docs.partition_point(|d| d.start < start);
        for doc in docs[..first_after].iter().rev() {
            let between = &self.source[doc.end..at];
            let adjacent = between.trim().is_empty() && between.matches('\n').count() == 1;
            if !doc.alone || !adjacent {
                break;
            }
            lines.push(&doc.text);
            at = doc.start;
        }
        lines.reverse();
        let blank = |from: usize, to: usize| {
            self.source[from..to].chars().all(|c| matches!(c, ' ' | '\t' | ','))
        };
        let behind = docs.iter().skip(docs.partition_point(|d| d.start < end)).take(1);
        let first_line_end = self.source[start..end].find('\n').map(|n| start + n);
        let inside = docs[first_after..].iter().take(1).filter(|d| {
            first_line_end == Some(d.end) && self.source[start..d.start].trim_end().ends_with('{')
        });
        lines.extend(inside.map(|d| d.text.as_str()));
        lines.extend(behind.filter(|d| !d.alone && blank(end, d.start)).map(|d| d.text.as_str()));
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// The `##` comment at the head of the file.
    fn file_doc(&self) -> Option<String> {
        let mut lines: Vec<&str> = Vec::new();
        let mut at = 0;
        for doc in &self.mended.docs {
            let between = &self.source[at..doc.start];
            if !doc.alone || !between.trim_start_matches('\u{feff}').trim().is_empty() {
                break;
            }
            if !lines.is_empty() && between.matches('\n').count() != 1 {
                break;
            }
            lines.push(&doc.text);
            at = doc.end;
        }
        (!lines.is_empty()).then(|| lines.join("\n"))
    }
}
