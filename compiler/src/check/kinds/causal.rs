//! A model that learns or makes the next token must not have seen it.
//!
//! Takes a training node and what is known of its model's graph; reports the operation that lets a position see a later one, if
//! the targets are the next tokens or if text is generated. Whether an operation looks ahead is found in [`crate::graph::causal`].

use super::super::assemble::TrainParts;
use super::super::call::method;
use super::super::eval::Eval;
use super::super::value::Value;
use crate::graph::causal::{Ahead, looks_ahead};
use crate::graph::{Graph, Name};
use crate::problem::Problem;
use crate::source::Span;

/// The first operation by which an output of a forward graph depends on a later position of `seq`.
pub(super) fn ahead(graph: &Graph) -> Option<Ahead> {
    let seq = Name::from("seq");
    let mut along = graph.outputs.iter().filter(|o| graph.ty(o.node).find(&seq).is_some());
    along.find_map(|o| looks_ahead(graph, o.node, &seq))
}

/// True if the loss reads the packed column `target`, which is the next token.
pub(super) fn learns_next(parts: &TrainParts) -> bool {
    let def = match &parts.objective {
        Value::Def(def) => def,
        Value::Program(program) => &program.def,
        _ => return false,
    };
    let params = method(def, "of").map_or(&def.params, |of| &of.params);
    params.iter().any(|p| p.name.name == "target")
}

/// Whether text can be generated from a model: if an operation looks ahead, that is reported.
pub fn writes_in_order(eval: &mut Eval<'_>, parts: &TrainParts) -> Option<()> {
    match super::facts::of_model(eval, parts)?.ahead {
        None => Some(()),
        Some(op) => {
            report(eval, parts.span, "is to write the next token", &op);
            None
        }
    }
}

/// Reports that `op` looks ahead; `what` is what the model was to do: "is trained on the next token".
pub(super) fn report(eval: &mut Eval<'_>, span: Span, what: &str, op: &Ahead) {
    let place =
        if op.path.as_str().is_empty() { String::new() } else { format!(" in `{}`", op.path) };
    let text = format!("the model {what} but sees it: `{}`{place} looks ahead", op.op);
    let mut problem = Problem::new("E0422", span, text);
    if let Some(at) = op.span {
        problem = problem.label(at, "here a position depends on later ones");
    }
    let help = if op.op.starts_with("attention") {
        "let a position attend to itself and what is before it: `mask = pos(key) <= pos(seq)`"
    } else {
        "use what runs along the text: `cumsum`, `scan[seq]`, windows that end at the position"
    };
    eval.problem(problem.help(help));
}
