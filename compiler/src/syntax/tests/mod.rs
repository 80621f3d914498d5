//! Tests of the whole way from text to Ast.

mod formatting;
mod mistakes;
mod mutations;
mod pages;
mod printing;
mod programs;
mod recovery;
mod reference;
mod values;

use super::ast::{Expr, ExprKind, File};
use super::{parse, parse_expr};
use crate::problem::Problems;
use crate::source::{FileId, Sources, Span};

/// `line:column code message` of each problem, in source order.
fn described(text: &str, problems: &Problems) -> Vec<String> {
    let mut sources = Sources::default();
    sources.add("test", text, false);
    let place = |span: Option<Span>| span.map_or((0, 0), |s| sources.line_col(s));
    let sorted = problems.sorted();
    let line = |p: &&crate::problem::Problem| {
        let (line, column) = place(p.span());
        format!("{line}:{column} {} {}", p.code, p.message)
    };
    sorted.iter().map(line).collect()
}

fn read(text: &str) -> (File, Vec<String>) {
    let (file, problems) = parse(FileId(0), text);
    (file, described(text, &problems))
}

/// A value that must have no problem.
fn value(text: &str) -> Expr {
    let (value, problems) = parse_expr(FileId(0), text);
    assert_eq!(described(text, &problems), Vec::<String>::new(), "in {text}");
    value
}

fn kind(text: &str) -> ExprKind {
    *value(text).kind
}
