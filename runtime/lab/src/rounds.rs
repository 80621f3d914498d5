//! A sweep, round by round: each round runs, what it gave becomes facts, and the program with these facts says what the next one is.
//!
//! A plain sweep is one round. A search draws a round from the results of those before it; since the checker does that from facts alone, and
//! facts come from the runs, a search that was killed draws the same points again and finds their runs in the ledger. Whether a
//! round may cost what it costs is checked before it begins, like everything else in the program.

use cs336_compiler::check::hir::{Spec, SweepSpec};
use cs336_compiler::front::Checked;
use cs336_compiler::row::interp::{Cell, value};
use serde_json::Value;

use crate::error::LabError;
use crate::experiment::{Program, Report, again, found, tokens_of};
use crate::job::Bench;
use crate::outside;
use crate::rungs;
use crate::sweep::Ended;
use crate::train::{Around, Outcome};

/// Runs what is missing of the sweep `name`. True if all of its points came to an end, by themselves or by its `stop`.
pub(crate) fn sweep<'a>(
    program: Program<'a>,
    checked: &mut Checked<'a>,
    name: &str,
    bench: Bench<'_>,
    around: &mut Around<'_>,
    summary: &mut Report,
) -> Result<bool, LabError> {
    let mut best: Option<(usize, f64, Outcome)> = None;
    let (mut round, mut first) = (0, 0);
    loop {
        let Some(spec) = spec_of(checked, name) else { return Ok(false) };
        let Some(size) = spec.rounds.get(round) else { break };
        let points = first..(first + size).min(spec.points.len());
        let mut learned = false;
        for point in &spec.points[points.clone()] {
            if let Some(Spec::Train(train)) = checked.nodes.get(&point.node).map(|n| &n.spec) {
                let data = bench.room.encoded(&train.data, None, &checked.nodes)?;
                learned |= tokens_of(program, train, &data, &checked.nodes)?;
            }
        }
        if learned {
            // How many tokens there are may say how far the runs go.
            *checked = again(program, checked, around.watcher)?;
            continue;
        }
        let ended = match &spec.outside {
            Some(others) => outside::round(checked, &spec, others, points.clone(), bench, around)?,
            None => rungs::round(checked, name, &spec, points.clone(), bench, around)?,
        };
        let mut whole = ended.len() == points.len();
        for (at, (node, ended)) in points.clone().zip(ended) {
            if spec.planned > 0 || spec.rounds.len() > 1 {
                for (field, value) in facts(&spec, &ended) {
                    let is_new = program.facts.set(&node, field, value, &[&node], &checked.nodes);
                    learned |= is_new;
                }
            }
            match ended {
                Ended::Outcome(outcome) => {
                    whole &= matches!(outcome, Outcome::Done(_));
                    let measure = measure(&spec, &outcome);
                    if let Some(m) = measure
                        && best.as_ref().is_none_or(|(_, least, _)| m < *least)
                    {
                        best = Some((at, m, outcome.clone()));
                    }
                    summary.runs.push((node, outcome));
                }
                Ended::Stopped { .. } => {}
                Ended::Failed(code, why) => summary.failed.push((node, code, why)),
                Ended::Refused(error) => {
                    whole = false;
                    summary.refused.push(error);
                }
            }
        }
        if !whole {
            return Ok(false);
        }
        round += 1;
        first = points.end;
        if learned {
            program.facts.save()?;
            *checked = again(program, checked, around.watcher)?;
        }
    }
    let (Some((at, _, outcome)), Some(spec)) = (best, spec_of(checked, name)) else {
        return Ok(true);
    };
    let node = &spec.points[at].node;
    let mut learned = program.facts.set(name, "best", at as f64, &[name], &checked.nodes);
    for (field, value) in found(&outcome) {
        learned |= program.facts.set(node, field, value, &[node], &checked.nodes);
    }
    if let (Some(others), Outcome::Done(result)) = (&spec.outside, &outcome) {
        for (field, _) in &others.gives {
            if let Some(value) = result.get(field).and_then(Value::as_f64) {
                learned |= program.facts.set(node, field, value, &[node], &checked.nodes);
            }
        }
    }
    if learned {
        program.facts.save()?;
        *checked = program.sound()?;
    }
    Ok(true)
}

fn spec_of(checked: &Checked<'_>, name: &str) -> Option<SweepSpec> {
    match checked.nodes.get(name).map(|n| &n.spec) {
        Some(Spec::Sweep(spec)) => Some((**spec).clone()),
        Some(
            Spec::Data(_)
            | Spec::Rows(_)
            | Spec::Tokenizer(_)
            | Spec::Model
            | Spec::Fit(_)
            | Spec::Report(_)
            | Spec::Train(_)
            | Spec::Outside(_)
            | Spec::After { .. }
            | Spec::NotBuilt { .. },
        )
        | None => None,
    }
}

/// What a search learns from a point.
fn facts(spec: &SweepSpec, ended: &Ended) -> Vec<(&'static str, f64)> {
    let rungs = spec.halving.as_ref().map_or(0, |h| h.rungs.len());
    let figure = |rung: usize, measure: Option<f64>| match measure.filter(|m| m.is_finite()) {
        Some(m) => vec![("measure", m), ("rung", rung as f64)],
        None => vec![("failed", 1.0)],
    };
    match ended {
        Ended::Outcome(done @ Outcome::Done(_)) => figure(rungs + 1, measure(spec, done)),
        Ended::Outcome(
            Outcome::Paused { .. } | Outcome::Interrupted { .. } | Outcome::Limit { .. },
        )
        | Ended::Refused(_) => Vec::new(),
        Ended::Stopped { rung, measure } => figure(*rung, *measure),
        Ended::Failed(..) => vec![("failed", 1.0)],
    }
}

/// What is made small, of a run that is done.
fn measure(spec: &SweepSpec, outcome: &Outcome) -> Option<f64> {
    let Outcome::Done(result) = outcome else { return None };
    let cell =
        |name: &str| result.get(name).and_then(Value::as_f64).map_or(Cell::Null, Cell::Number);
    value(&spec.best, &cell).number().filter(|m| m.is_finite())
}
