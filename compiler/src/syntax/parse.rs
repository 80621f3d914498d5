//! Takes text, gives the Ast and the problems. Never fails, never panics, never runs out of stack.

use pest::Parser as _;

use super::ast::{Expr, ExprKind, File, Path};
use super::build::{Builder, Place};
use super::mend::mend;
use crate::problem::Problems;
use crate::source::{FileId, Span};

/// The parser that pest makes from the grammar.
#[derive(pest_derive::Parser)]
#[grammar = "../grammar/cs336.pest"]
pub(super) struct Grammar;

/// Reads a whole file.
pub fn parse(file: FileId, text: &str) -> (File, Problems) {
    let mended = mend(file, text);
    let mut builder = Builder::new(file, text, &mended, Place::File);
    let parsed = match Grammar::parse(Rule::file, &mended.text) {
        Ok(mut pairs) => builder.file(pairs.next()),
        // Junk takes any text in balanced brackets, so this is only reached if `mend` and the grammar disagree on what is a
        // string or a comment.
        Err(error) => {
            builder.failed(&error, 0, &mended.text);
            File { items: Vec::new(), doc: None }
        }
    };
    (parsed, builder.finish())
}

/// Reads one value, as in `--set path=EXPR`.
pub fn parse_expr(file: FileId, text: &str) -> (Expr, Problems) {
    value_at(file, text, Place::File)
}

/// Reads one value that stands at `place` of a file.
pub(super) fn value_at(file: FileId, text: &str, place: Place) -> (Expr, Problems) {
    let mended = mend(file, text);
    let mut builder = Builder::new(file, text, &mended, place);
    let value = match Grammar::parse(Rule::lone_value, &mended.text) {
        Ok(mut pairs) => builder.lone_value(pairs.next()),
        Err(error) => {
            builder.failed(&error, 0, &mended.text);
            None
        }
    };
    let value = value.unwrap_or_else(|| Expr {
        kind: Box::new(ExprKind::Error),
        span: builder.place.span(Span::new(file, 0, text.len())),
    });
    (value, builder.finish())
}

/// What `--set path=EXPR` says.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The field or knob; empty if the text could not be read.
    pub path: Path,
    /// Its new value.
    pub value: Expr,
}

/// Reads the text behind `--set`.
pub fn parse_set(file: FileId, text: &str) -> (Setting, Problems) {
    let mended = mend(file, text);
    let mut builder = Builder::new(file, text, &mended, Place::File);
    let setting = match Grammar::parse(Rule::lone_setting, &mended.text) {
        Ok(mut pairs) => builder.setting(pairs.next()),
        Err(error) => {
            builder.failed(&error, 0, &mended.text);
            None
        }
    };
    let setting = setting.unwrap_or_else(|| Setting {
        path: Vec::new(),
        value: Expr { kind: Box::new(ExprKind::Error), span: Span::new(file, 0, text.len()) },
    });
    (setting, builder.finish())
}
