//! Fits as nodes: rows from the ledger or from tables, the law through them, and answers to what the program asks of it.
//!
//! Takes the specification and the ledger; gives the fitted law and the facts that follow from it. [`save`] writes both beside the runs: `fits/NAME.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cs336_compiler::check::hir::{FitAsk, FitSpec, Nodes};
use cs336_compiler::front::Asks;
use cs336_compiler::row::interp::{Cell, Row};
use cs336_fit::optimum::{Ask, optimum};
use cs336_fit::predict::predict;
use cs336_fit::{Coefficient, Columns, Estimate, FitProblem, Fitted};
use cs336_report::make as report;
use cs336_table::{Frame, Ledger};
use indexmap::IndexMap;

use crate::error::LabError;
use crate::facts::Facts;
use crate::files::{read_json, write_json};
use crate::ledger;

/// A fitted law with what was asked of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// The law.
    pub fitted: Fitted,
    /// The rows, each under the name by which residuals call it.
    pub rows: Vec<(String, Row)>,
    /// The questions that were answered.
    asked: BTreeSet<String>,
    /// Facts of the fit: its constants, `agree`, and for each question its sizes: `optimum(1e18).params`.
    pub facts: Vec<(String, f64)>,
}

/// The fits of a program that have run, by node: what its reports ask.
pub type Fits = BTreeMap<String, Answered>;

impl Answered {
    /// Facts that answer what was not asked when the law was fitted.
    pub fn answer_more(
        &mut self,
        name: &str,
        spec: &FitSpec,
    ) -> Result<Vec<(String, f64)>, LabError> {
        let mut new = Vec::new();
        for ask in &spec.asks {
            // Asked once, even if there is no answer.
            if self.asked.insert(ask.key.clone()) {
                new.extend(facts_of(name, &self.fitted, ask)?);
            }
        }
        self.facts.extend(new.iter().cloned());
        Ok(new)
    }

    /// The constants: `name`, `value`, and where they are known `se`, `ci95.low`, `ci95.high`.
    pub fn coefficients(&self) -> Vec<Row> {
        coefficients(&self.fitted)
    }

    /// The rows that were fitted, with `predicted` and `residual` (measured - predicted).
    pub fn residuals(&self) -> Vec<Row> {
        // Residuals stand in the order of the rows; rows that were held out have none.
        let mut rows = self.rows.iter();
        let found = self.fitted.residuals.iter().map(|r| {
            let (_, row) = rows.find(|(name, _)| *name == r.name)?;
            let mut row = row.clone();
            row.insert("predicted".to_owned(), Cell::Number(r.predicted));
            row.insert("residual".to_owned(), Cell::Number(r.measured - r.predicted));
            Some(row)
        });
        found.flatten().collect()
    }

    /// What the law says for a row. `None`: a column is missing, or the law is not finite there.
    pub fn predict(&self, row: &Row) -> Option<f64> {
        let numbers = row.iter().filter_map(|(name, cell)| Some((name.clone(), cell.number()?)));
        predict(&self.fitted, &numbers.collect()).ok().map(|e| e.value)
    }

    /// The best use of an amount of compute (6 N D).
    pub fn optimum(&self, flops: f64) -> Option<report::Optimum> {
        let o = optimum(&self.fitted, &Ask::compute(flops)).ok()?;
        let between = |e: Estimate| report::Between {
            value: e.value,
            curve: e.ci95.map(|i| (i.low, i.high)),
            run: e.pi95.map(|i| (i.low, i.high)),
        };
        let (params, tokens, loss) = (between(o.params), between(o.tokens), between(o.loss));
        Some(report::Optimum { params, tokens, loss })
    }
}

fn coefficients(fitted: &Fitted) -> Vec<Row> {
    let row = |c: &Coefficient| {
        let mut row = Row::from([
            ("name".to_owned(), Cell::Text(c.name.clone())),
            ("value".to_owned(), Cell::Number(c.value)),
        ]);
        if let Some(se) = c.spread.or(c.error) {
            row.insert("se".to_owned(), Cell::Number(se));
        }
        if let Some(i) = c.ci95 {
            row.insert("ci95.low".to_owned(), Cell::Number(i.low));
            row.insert("ci95.high".to_owned(), Cell::Number(i.high));
        }
        row
    };
    fitted.coefficients.iter().map(row).collect()
}

/// What the fit `name` has found when it ran last: its `coefficients`, or its `residuals` by the names of the rows. `Err` is one sentence.
pub fn found(root: &Path, name: &str, what: &str) -> Result<Vec<Row>, String> {
    let path = path(root, name);
    if !path.exists() {
        return Err("the fit has not run here".to_owned());
    }
    let fitted: Fitted = read_json(&path).map_err(|error| error.to_string())?;
    if what == "coefficients" {
        return Ok(coefficients(&fitted));
    }
    let row = |r: &cs336_fit::Residual| {
        Row::from([
            ("name".to_owned(), Cell::Text(r.name.clone())),
            ("measured".to_owned(), Cell::Number(r.measured)),
            ("predicted".to_owned(), Cell::Number(r.predicted)),
            ("residual".to_owned(), Cell::Number(r.measured - r.predicted)),
        ])
    };
    Ok(fitted.residuals.iter().map(row).collect())
}

/// Answers questions to fits that ran earlier, as facts that nothing keeps. True if there is something new: then the program that asks
/// must be checked again.
pub fn answer_again(
    root: &Path,
    asks: &Asks,
    facts: &Facts,
    nodes: &Nodes,
) -> Result<bool, LabError> {
    let mut new = false;
    for (name, asks) in asks {
        let path = path(root, name);
        if !path.exists() {
            continue;
        }
        let fitted: Fitted = read_json(&path)?;
        for ask in asks {
            for (field, value) in facts_of(name, &fitted, ask)? {
                new |= facts.set(name, &field, value, &[name], nodes);
            }
        }
    }
    Ok(new)
}

/// Fits the law of the node `name` to its rows.
pub fn fit(
    name: &str,
    spec: &FitSpec,
    ledger: &Ledger,
    nodes: &Nodes,
) -> Result<Answered, LabError> {
    let frame = finished(ledger::rows(ledger, nodes, &spec.rows)?)?;
    let refused = |why| LabError::Fit { node: name.to_owned(), why };
    let columns = columns(spec, &frame).map_err(refused)?;
    let fitted = cs336_fit::fit(spec, &columns).map_err(refused)?;
    let mut facts: Vec<(String, f64)> =
        fitted.coefficients.iter().map(|c| (c.name.clone(), told(c.value))).collect();
    facts.push(("agree".to_owned(), told(fitted.agree)));
    if let Some(held_out) = &fitted.held_out {
        facts.push(("held_out_error".to_owned(), told(held_out.relative_error)));
        facts.push(("held_out_r2".to_owned(), told(held_out.r2)));
    }
    let rows = columns.names.into_iter().zip(frame.rows()).collect();
    let mut answered = Answered { fitted, rows, asked: BTreeSet::new(), facts };
    answered.answer_more(name, spec)?;
    Ok(answered)
}

/// Which constants stand at an end of their range: the law would rather have them beyond it.
pub fn at_ends(name: &str, spec: &FitSpec, fitted: &Fitted) -> Option<String> {
    let mut ends = Vec::new();
    for c in &fitted.coefficients {
        let Some(end) = &c.at_end else { continue };
        let range = spec.law.constants.iter().find(|k| k.name == c.name);
        let range = range.map_or(String::new(), |k| format!(" of {}..{}", k.low, k.high));
        ends.push(format!("`{}` = {:.4} at the {end} end{range}", c.name, c.value));
    }
    (!ends.is_empty()).then(|| {
        let found = ends.join(", ");
        format!("the fit `{name}` was stopped by a range: {found}; widen it, or ask whether the rows determine the constant")
    })
}

/// The facts that answer a question, with their intervals.
fn facts_of(name: &str, fitted: &Fitted, ask: &FitAsk) -> Result<Vec<(String, f64)>, LabError> {
    let refused = |why| LabError::Fit { node: name.to_owned(), why };
    let mut facts = Vec::new();
    for (field, e) in answer(fitted, ask).map_err(refused)? {
        let key = format!("{}.{field}", ask.key);
        let intervals = [("ci80", e.ci80), ("ci95", e.ci95), ("pi80", e.pi80), ("pi95", e.pi95)];
        for (share, interval) in intervals {
            if let Some(i) = interval {
                facts.push((format!("{key}.{share}.low"), told(i.low)));
                facts.push((format!("{key}.{share}.high"), told(i.high)));
            }
        }
        facts.push((key, told(e.value)));
    }
    Ok(facts)
}

/// What the program is told of a fitted number: six digits. No fit knows more, and the last digits differ between processors and versions: a
/// run whose sizes follow from a fit would be another run everywhere.
fn told(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// Without the runs that have not come to their ends: a law is about what a budget gives, and theirs is not spent.
fn finished(frame: Frame) -> Result<Frame, LabError> {
    // Tables of other people may have a status too.
    let (Some(texts), Some(_)) = (frame.texts("status"), frame.texts("key")) else {
        return Ok(frame);
    };
    let marks: Vec<bool> = texts.iter().map(|t| t.is_empty() || t == "done").collect();
    Ok(frame.marked(&marks)?)
}

fn answer(fitted: &Fitted, ask: &FitAsk) -> Result<Vec<(&'static str, Estimate)>, FitProblem> {
    let Some(goal) = &ask.goal else {
        return Ok(vec![("loss", predict(fitted, &ask.given)?)]);
    };
    let (goal, limits, given) = (goal.clone(), ask.limits.clone(), ask.given.clone());
    let o = optimum(fitted, &Ask { goal, limits, given })?;
    Ok(vec![("params", o.params), ("tokens", o.tokens), ("loss", o.loss), ("goal", o.goal)])
}

/// The columns that the fit reads, of those that the rows have.
fn columns(spec: &FitSpec, frame: &Frame) -> Result<Columns, FitProblem> {
    let named = frame.texts("name").filter(|names| names.iter().all(|n| !n.is_empty()));
    let names = named.unwrap_or_else(|| (1..=frame.len()).map(|i| format!("row {i}")).collect());
    let mut values = IndexMap::new();
    let more = [&spec.weight, &spec.held_out].into_iter().flatten().flat_map(|f| &f.columns);
    for name in spec.law.columns.iter().chain(more) {
        if let Some(v) = frame.numbers(name) {
            values.insert(name.clone(), v);
        } else if let Some(texts) = frame.texts(name) {
            // What is no number keeps the whole column a text: the first one says which it is.
            let is_text = |t: &String| !t.is_empty() && t.parse::<f64>().is_err();
            let row = texts.iter().position(is_text).unwrap_or(0);
            let (text, row) = (texts[row].clone(), names[row].clone());
            return Err(FitProblem::Text { column: name.clone(), text, row });
        } else {
            let known = frame.columns().into_keys().collect();
            return Err(FitProblem::NoColumn { column: name.clone(), known });
        }
    }
    Ok(Columns { names, values })
}

/// Where the fit of a node is kept.
pub fn path(root: &Path, name: &str) -> PathBuf {
    root.join("fits").join(format!("{name}.json"))
}

/// Writes a fitted law.
pub fn save(root: &Path, name: &str, fitted: &Fitted) -> Result<(), LabError> {
    write_json(&path(root, name), fitted)
}
