//! Fits as nodes: rows from the ledger or from tables, the law through them, and answers to what the program asks of it.
//!
//! Takes the specification and the ledger; gives the fitted law and the facts that follow from it. [`save`] writes both beside the runs: `fits/NAME.json`.

use std::path::{Path, PathBuf};

use cs336_compiler::check::hir::{FitAsk, FitSpec, Nodes};
use cs336_fit::optimum::{Ask, optimum};
use cs336_fit::predict::predict;
use cs336_fit::{Columns, Estimate, Fitted};
use cs336_table::{Frame, Ledger};
use indexmap::IndexMap;

use crate::error::LabError;
use crate::files::write_json;
use crate::ledger;

/// A fitted law with what was asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The law.
    pub fitted: Fitted,
    /// Facts of the fit: its constants, `agree`, and for each question its sizes: `optimum(1e18).params`.
    pub facts: Vec<(String, f64)>,
}

/// Fits the law of the node `name` to its rows.
pub fn fit(
    name: &str,
    spec: &FitSpec,
    ledger: &Ledger,
    nodes: &Nodes,
) -> Result<Answered, LabError> {
    let frame = ledger::rows(ledger, nodes, &spec.rows)?;
    let columns = columns(spec, &frame);
    let refused = |why| LabError::Fit { node: name.to_owned(), why };
    let fitted = cs336_fit::fit(spec, &columns).map_err(refused)?;
    let mut facts: Vec<(String, f64)> =
        fitted.coefficients.iter().map(|c| (c.name.clone(), c.value)).collect();
    facts.push(("agree".to_owned(), fitted.agree));
    for ask in &spec.asks {
        for (field, e) in answer(&fitted, ask).map_err(refused)? {
            let key = format!("{}.{field}", ask.key);
            for (share, interval) in [("ci80", e.ci80), ("ci95", e.ci95)] {
                if let Some(i) = interval {
                    facts.push((format!("{key}.{share}.low"), i.low));
                    facts.push((format!("{key}.{share}.high"), i.high));
                }
            }
            facts.push((key, e.value));
        }
    }
    Ok(Answered { fitted, facts })
}

fn answer(
    fitted: &Fitted,
    ask: &FitAsk,
) -> Result<Vec<(&'static str, Estimate)>, cs336_fit::FitProblem> {
    let Some(goal) = &ask.goal else {
        return Ok(vec![("loss", predict(fitted, &ask.given)?)]);
    };
    let (goal, limits, given) = (goal.clone(), ask.limits.clone(), ask.given.clone());
    let o = optimum(fitted, &Ask { goal, limits, given })?;
    Ok(vec![("params", o.params), ("tokens", o.tokens), ("loss", o.loss), ("goal", o.goal)])
}

/// The columns that the fit reads, of those that the rows have.
fn columns(spec: &FitSpec, frame: &Frame) -> Columns {
    let mut values = IndexMap::new();
    let more = [&spec.weight, &spec.held_out].into_iter().flatten().flat_map(|f| &f.columns);
    for name in spec.law.columns.iter().chain(more) {
        if let Some(v) = frame.numbers(name) {
            values.insert(name.clone(), v);
        }
    }
    let named = frame.texts("name").filter(|names| names.iter().all(|n| !n.is_empty()));
    let names = named.unwrap_or_else(|| (1..=frame.len()).map(|i| format!("row {i}")).collect());
    Columns { names, values }
}

/// Where the fit of a node is kept.
pub fn path(root: &Path, name: &str) -> PathBuf {
    root.join("fits").join(format!("{name}.json"))
}

/// Writes a fitted law.
pub fn save(root: &Path, name: &str, fitted: &Fitted) -> Result<(), LabError> {
    write_json(&path(root, name), fitted)
}
