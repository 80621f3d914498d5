//! How a training run begins and ends: `init`, weights to start from; `average`, weights kept beside the last ones; `stop`, a condition that
//! ends it early.

use indexmap::IndexMap;

use super::super::assemble::TrainParts;
use super::super::eval::{Eval, describe};
use super::super::hir::InitSpec;
use super::super::row_lower;
use super::super::value::{NodeValue, Value};
use super::train;
use crate::problem::{Problem, did_you_mean};
use crate::row::RowExpr;
use crate::row::kinds::{Columns, Kind};
use crate::source::Span;

/// Figures that an evaluation gives.
pub(super) const HELD_OUT: &[&str] = &["valid_loss", "perplexity", "bits_per_byte"];

/// What `stop` may ask for at every step; held-out figures come with `eval`.
const EACH_STEP: &[&str] = &["step", "tokens", "flops", "loss", "lr", "grad_norm"];

/// `init = base.final` or `base.average`. The outer `None`: a problem was reported.
pub(super) fn init(
    eval: &mut Eval<'_>,
    n: &NodeValue,
    parts: &TrainParts,
) -> Option<Option<InitSpec>> {
    let Some((v, span)) = n.fields.fields.get("init") else { return Some(None) };
    let span = span.unwrap_or(n.span);
    let from = match v {
        Value::Later(l) if matches!(l.what.as_str(), "final" | "average") => l.clone(),
        other => {
            let text = format!("`init` takes the weights of a run, this is {}", describe(other));
            let help = match other {
                Value::Node(node) if node.kind == "train" => {
                    format!("write `init = {}.final`", node.name)
                }
                Value::Layer(_) | Value::Def(_) => {
                    "a model has no weights before it is trained; without `init` they are fresh"
                        .to_owned()
                }
                _ => "for example `init = base.final`".to_owned(),
            };
            eval.problem(Problem::new("E0320", span, text).help(help));
            return None;
        }
    };
    let averaged = from.what == "average";
    let base = train::train_parts(eval, &from.node)?;
    if averaged && base.average.is_none() {
        let text = format!("`{}` keeps no average of its weights", from.node);
        let p = Problem::new("E0320", span, text).label(base.span, "this run");
        eval.problem(p.help(format!(
            "write `average = ema(0.999)` there, or `init = {}.final` here",
            from.node
        )));
        return None;
    }
    fits(eval, parts, &base, &from.node, span)?;
    Some(Some(InitSpec { node: from.node.to_string(), averaged }))
}

/// Both models have weights of equal paths and shapes.
fn fits(
    eval: &mut Eval<'_>,
    parts: &TrainParts,
    base: &TrainParts,
    name: &str,
    span: Span,
) -> Option<()> {
    let (mine, theirs) = (shapes(eval, parts)?, shapes(eval, base)?);
    let wrong = mine.iter().find_map(|(path, shape)| match theirs.get(path) {
        None => {
            let near = did_you_mean(path, theirs.keys().map(String::as_str));
            let help = near.map(|near| format!("it has `{near}`"));
            Some((format!("`{name}` has no weight `{path}`"), help))
        }
        Some(other) if other == shape => None,
        Some(other) => Some((format!("`{path}` is [{shape}] here, [{other}] in `{name}`"), None)),
    });
    let more = || {
        let path = theirs.keys().find(|path| !mine.contains_key(*path))?;
        Some((format!("`{name}` has a weight `{path}` that this model has not"), None))
    };
    let Some((text, help)) = wrong.or_else(more) else { return Some(()) };
    let p = Problem::new("E0320", span, text).label(base.span, "the run whose weights are taken");
    eval.problem(p.help(help.unwrap_or_else(|| {
        "weights are taken over path by path; both models need the same shapes".to_owned()
    })));
    None
}

fn shapes(eval: &mut Eval<'_>, parts: &TrainParts) -> Option<IndexMap<String, String>> {
    let views = eval.weight_views(parts)?;
    let shape = |slot: &super::super::trace::Slot| {
        let axes = slot.stack.iter().chain(&slot.axes);
        axes.map(|a| format!("{} = {}", a.name, a.size)).collect::<Vec<_>>().join(", ")
    };
    let weights = views.iter().filter(|(_, (slot, _))| slot.role == crate::graph::Role::Weight);
    Some(weights.map(|(path, (slot, _))| (path.clone(), shape(slot))).collect())
}

/// The decay of `average = ema(0.999)`.
pub(super) fn average(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Option<f64>> {
    let Some((v, span)) = n.fields.fields.get("average") else { return Some(None) };
    let span = span.unwrap_or(n.span);
    let decay = match v {
        Value::Record(r) if matches!(r.get("kind"), Some(Value::Text(t)) if &**t == "ema") => {
            match r.get("0").or_else(|| r.get("decay")) {
                Some(Value::Number(q)) if q.unit.is_none() => Some(q.value),
                _ => None,
            }
        }
        _ => None,
    };
    match decay {
        Some(decay) if decay > 0.0 && decay < 1.0 => Some(Some(decay)),
        _ => {
            let text = format!("`average` takes `ema(decay)`, this is {}", describe(v));
            let p = Problem::new("E0321", span, text);
            eval.problem(p.help("the decay lies between 0 and 1: `average = ema(0.999)`"));
            None
        }
    }
}

/// The condition of `stop`.
pub(super) fn stop(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Option<RowExpr>> {
    let Some((v, span)) = n.fields.fields.get("stop").cloned() else { return Some(None) };
    let span = span.unwrap_or(n.span);
    let mut columns: Columns = EACH_STEP.iter().map(|c| ((*c).to_owned(), Kind::Number)).collect();
    if let Some(Value::Record(block)) = n.fields.get("eval") {
        columns.insert("valid_loss".to_owned(), Kind::Number);
        let report = match block.get("report") {
            Some(Value::List(l)) => l.to_vec(),
            Some(v) => vec![v.clone()],
            None => Vec::new(),
        };
        for v in report {
            if let Value::Text(t) = v
                && matches!(&*t, "perplexity" | "bits_per_byte")
            {
                columns.insert(t.to_string(), Kind::Number);
            }
        }
    }
    let Value::Row(row) = &v else {
        let text = format!("`stop` takes a condition over the run, this is {}", describe(&v));
        let p = Problem::new("E0303", span, text);
        eval.problem(p.help("for example `stop = .valid_loss <= 3.6`"));
        return None;
    };
    let condition = row_lower::lower_over(eval, &row.scope, &row.expr, Some(&columns))?;
    match crate::row::kinds::kind(&condition, Some(&columns)) {
        Ok(Kind::Bool | Kind::Any) => Some(Some(condition)),
        Ok(other) => {
            let text = format!("`stop` needs a condition, this is {}", other.name());
            let p = Problem::new("E0303", span, text);
            eval.problem(p.help("write a comparison, for example `.valid_loss <= 3.6`"));
            None
        }
        Err(misfit) => {
            let mut p = Problem::new(misfit.code, span, misfit.message).help(misfit.help);
            if !columns.contains_key("valid_loss") {
                p = p.help("held-out figures need an `eval` block");
            }
            eval.problem(p);
            None
        }
    }
}

/// The node that `init` names, whose weights are known only when it has run; everything else of this run is known before.
pub(super) fn is_init(name: &str, v: &Value) -> bool {
    name == "init" && matches!(v, Value::Later(l) if matches!(l.what.as_str(), "final" | "average"))
}
