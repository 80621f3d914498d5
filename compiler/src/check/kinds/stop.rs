//! What a sweep makes small and how it stops points early: its fields `best` and `stop`.

use super::super::eval::{Eval, describe};
use super::super::hir::Budget;
use super::super::row_lower;
use super::super::units;
use super::super::value::{NodeValue, Record, Value};
use super::sweep::Point;
use super::{points, sweep};
use crate::problem::Problem;
use crate::row::kinds::{Columns, Kind};
use crate::row::{RowCompare, RowExpr};
use crate::search::Halving;
use crate::source::Span;

/// What every run knows of itself at a step and in the end.
const ALWAYS: &[&str] = &["step", "tokens", "flops", "loss"];

/// What runs know that measure themselves on held-out text.
const HELD_OUT: &[&str] = &["valid_loss", "perplexity", "bits_per_byte"];

/// What the best point has the least of: `best = ..`, else `minimize` of its search, else the held-out loss. `None`: a problem was reported.
pub(super) fn best(eval: &mut Eval<'_>, n: &NodeValue) -> Option<(RowExpr, Span)> {
    let Some(e) = sweep::setting(eval, n, "best") else {
        let valid = RowExpr::Column("valid_loss".to_owned());
        if sweep::field(n, "runner").is_none() {
            return Some((valid, n.span));
        }
        // Others may tell one loss only, which they call `loss`.
        let unknown = RowExpr::Compare {
            op: RowCompare::Eq,
            left: Box::new(valid.clone()),
            right: Box::new(RowExpr::Null),
        };
        let either = RowExpr::If {
            condition: Box::new(unknown),
            then: Box::new(RowExpr::Column("loss".to_owned())),
            otherwise: Box::new(valid),
        };
        return Some((either, n.span));
    };
    let v = sweep::own(eval, n, "best", &e)?;
    measure(eval, &v, e.span).map(|m| (m, e.span))
}

/// An expression over the figures of a run.
pub(super) fn measure(eval: &mut Eval<'_>, v: &Value, span: Span) -> Option<RowExpr> {
    let Value::Row(row) = v else {
        let text = format!("what is made small is a figure of the run, this is {}", describe(v));
        eval.problem(Problem::new("E0303", span, text).help("for example `.valid_loss`"));
        return None;
    };
    let known = ALWAYS.iter().chain(HELD_OUT);
    let columns: Columns = known.map(|c| ((*c).to_owned(), Kind::Number)).collect();
    let (scope, e) = (row.scope.clone(), row.expr.clone());
    row_lower::lower_over(eval, &scope, &e, Some(&columns))
}

/// `stop = halving(..)`. The outer `None`: a problem was reported.
pub(super) fn stop(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Option<Halving>> {
    let Some(e) = sweep::setting(eval, n, "stop") else { return Some(None) };
    let v = sweep::own(eval, n, "stop", &e)?;
    let refuse = |eval: &mut Eval<'_>, span: Span, text: String| {
        let p = Problem::new("E0509", span, text);
        eval.problem(
            p.help("for example `stop = halving(keep = 1 / 3, rungs = [1e15, 3e15] FLOPs)`"),
        );
    };
    let Value::Record(r) = &v else {
        refuse(
            eval,
            e.span,
            format!("a sweep stops points by `halving(..)`, this is {}", describe(&v)),
        );
        return None;
    };
    if !is(r, "halving") {
        refuse(eval, e.span, "a sweep stops points by `halving(..)`".to_owned());
        return None;
    }
    let span_of = |name: &str| r.fields.get(name).and_then(|(_, s)| *s).unwrap_or(e.span);
    if let Some(name) = r.fields.keys().find(|k| !matches!(k.as_str(), "kind" | "keep" | "rungs")) {
        let text = format!("`halving` takes `keep` and `rungs`, not `{name}`");
        refuse(eval, span_of(name), text);
        return None;
    }
    let keep = match r.get("keep") {
        Some(Value::Number(q)) if q.unit.is_none() && q.value > 0.0 && q.value < 1.0 => q.value,
        Some(other) => {
            let text = format!(
                "`keep` is the share that goes on, between 0 and 1; this is {}",
                describe(other)
            );
            refuse(eval, span_of("keep"), text);
            return None;
        }
        None => 1.0 / 3.0,
    };
    let rungs = match r.get("rungs") {
        Some(Value::List(l)) => l.iter().cloned().collect(),
        Some(v) => vec![v.clone()],
        None => Vec::new(),
    };
    let flops: Option<Vec<f64>> = rungs
        .iter()
        .map(|v| match v {
            Value::Number(q) if units::name(&q.unit) == "FLOPs" && q.value > 0.0 => Some(q.value),
            _ => None,
        })
        .collect();
    match flops {
        Some(rungs) if !rungs.is_empty() && rungs.windows(2).all(|w| w[0] < w[1]) => {
            Some(Some(Halving { keep, rungs }))
        }
        Some(_) | None => {
            let text = "`rungs` are FLOPs of a run at which the points are compared, growing";
            refuse(eval, span_of("rungs"), text.to_owned());
            None
        }
    }
}

/// True if a record was made by the constructor `name`.
pub(super) fn is(r: &Record, name: &str) -> bool {
    matches!(r.get("kind"), Some(Value::Text(t)) if &**t == name)
}

/// E0509 if a point cannot be compared at the rungs: it does not measure what is made small, or does not know how far it goes.
pub(super) fn comparable(
    eval: &mut Eval<'_>,
    best: &(RowExpr, Span),
    halving: &Halving,
    all: &[Point],
    span: Span,
) -> Option<()> {
    let held_out = best.0.columns().iter().any(|c| HELD_OUT.contains(c));
    for p in all {
        let Some(cost) = &p.cost else { continue };
        let place = format!("at the point {}", points::place(p));
        if held_out && cost.spec.execution.eval.is_none() {
            let text = format!(
                "the points are compared by a figure of held-out text, which `{}` does not measure",
                p.node.name
            );
            let problem = Problem::new("E0509", span, text).label(p.node.span, "this run");
            eval.problem(
                problem
                    .help("give it an `eval` block, or compare training losses: `best = .loss`")
                    .help(place),
            );
            return None;
        }
        if matches!(cost.spec.budget, Budget::Seconds(_)) {
            let text =
                "rungs are FLOPs of a run, and a budget of time does not say how many it has"
                    .to_owned();
            let problem = Problem::new("E0509", span, text).label(p.node.span, "this run");
            eval.problem(problem.help("give it a budget in FLOPs, tokens or steps").help(place));
            return None;
        }
    }
    let beyond = |p: &Point| {
        let cost = p.cost.as_ref()?;
        let whole = cost.spec.steps? as f64 * cost.spec.step_flops;
        Some(halving.rungs[0] >= whole)
    };
    if !all.is_empty() && all.iter().all(|p| beyond(p) == Some(true)) {
        let text = "every run ends before the first rung: nothing is ever stopped".to_owned();
        eval.problem(
            Problem::new("E0509", span, text).help("the rungs lie below the budget of a run"),
        );
        return None;
    }
    Some(())
}
