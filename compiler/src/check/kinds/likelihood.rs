//! Perplexity and bits per byte come of nats per token, so of a likelihood, which not every objective is.
//!
//! A loss says so itself: held-out text is measured by its method `nats`, where it has one, so that what an objective adds (a penalty,
//! smoothing) is no part of the figure. `cross_entropy` is nats per token as it stands.

use super::super::call::method;
use super::super::eval::Eval;
use super::super::value::{Def, NodeValue, Value};
use crate::problem::Problem;
use crate::source::Span;

/// The figures that only nats per token give.
const FIGURES: &[&str] = &["perplexity", "bits_per_byte"];

/// E0318 if a run with this objective cannot give `figure`.
pub(super) fn gives(eval: &mut Eval<'_>, n: &NodeValue, figure: &str, span: Span) -> Option<()> {
    if !FIGURES.contains(&figure) {
        return Some(());
    }
    let Some((value, place)) = n.fields.fields.get("objective") else { return Some(()) };
    let def = match value {
        Value::Def(def) => def.clone(),
        Value::Program(p) => p.def.clone(),
        _ => return Some(()),
    };
    if is_nats(eval, &def) {
        return Some(());
    }
    let text = format!("`{figure}` comes of nats per token, which `{}` does not give", def.name);
    let p = Problem::new("E0318", place.unwrap_or(n.span), text).label(span, "asked for here");
    eval.problem(p.help(format!(
        "say in the loss what held-out text is measured by: `nats(logits: [vocab], target: Id[vocab]) = cross_entropy(logits, target)` beside `of` in `{}`",
        def.name
    )));
    None
}

/// E0318 if a run does not measure `figure`, so that it will never be known.
pub(super) fn measured(eval: &mut Eval<'_>, n: &NodeValue, figure: &str, span: Span) -> Option<()> {
    gives(eval, n, figure, span)?;
    let Some(Value::Record(block)) = n.fields.get("eval") else {
        let text = format!("`{}` measures no held-out text, so it has no `{figure}`", n.name);
        let p = Problem::new("E0318", span, text).label(n.span, "this run");
        eval.problem(p.help("give it a block: `eval { every = 100 steps, on = tales.valid }`"));
        return None;
    };
    let reports = |name: &str| match block.get("report") {
        Some(Value::List(l)) => l.iter().any(|v| matches!(v, Value::Text(t) if &**t == name)),
        Some(Value::Text(t)) => &**t == name,
        _ => false,
    };
    // The perplexity follows from the loss; bytes are counted where they are asked for.
    if figure == "bits_per_byte" && !reports(figure) {
        let text = format!("`{}` does not report `{figure}`", n.name);
        let p = Problem::new("E0318", span, text).label(n.span, "this run");
        eval.problem(p.help(format!("write `report = [loss, {figure}]` in its `eval`")));
        return None;
    }
    Some(())
}

fn is_nats(eval: &Eval<'_>, def: &Def) -> bool {
    let own = def.name == "cross_entropy" && eval.sources.file(def.span.file).is_std;
    own || method(def, "nats").is_some()
}
