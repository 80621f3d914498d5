//! Texts of a node that are filled in when it is checked: `prompt = "A story of {hero}:"`.
//!
//! Takes the text, its place and the scope of the node; gives the text with each `{value}` replaced, or reports what cannot stand in it.

use super::super::eval::{Eval, describe};
use super::super::units;
use super::super::value::{Scope, Value};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::{self, TextOrExpr};

/// The text filled in; nothing if a problem was reported.
pub(super) fn filled(eval: &mut Eval<'_>, scope: &Scope, text: &str, at: Span) -> Option<String> {
    let (parts, problems) = syntax::template(text, at);
    let mut fine = problems.is_empty();
    eval.problems.extend(problems);
    let mut out = String::new();
    for part in parts {
        match part {
            TextOrExpr::Text(text) => out.push_str(&text),
            TextOrExpr::Expr(e) => match eval.expr(scope, &e) {
                Value::Text(text) => out.push_str(&text),
                Value::Number(q) => out.push_str(&units::show(&q)),
                Value::Bool(b) => out.push_str(if b { "true" } else { "false" }),
                Value::Error => fine = false,
                other => {
                    let text = format!("{} cannot be filled into this text", describe(&other));
                    let problem = Problem::new("E0301", e.span, text)
                        .help("texts, numbers and truths that are known before the run can");
                    eval.problem(problem);
                    fine = false;
                }
            },
        }
    }
    fine.then_some(out)
}
