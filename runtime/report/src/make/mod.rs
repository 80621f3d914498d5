//! From what a program says ([`ReportSpec`]) and what its runs gave ([`Results`]) to a [`Document`].
//!
//! Nothing stops a report but results that cannot be read: rows that a plot cannot show are left out, named in a note under its title and in a
//! [`Warning`]. Runs that are drawn or named are listed in the appendix in the order in which the report speaks of them.

mod growth;
mod law;
mod plot;
mod table;
mod words;

use std::cell::RefCell;

use cs336_compiler::report::{Piece, ReportPart, ReportRows, ReportSpec};
use cs336_compiler::row::interp::{Cell as RowCell, Row};
use cs336_compiler::row::{RowSource, Rows};

use crate::page::{Block, Cell, Document, Inline, Run, paragraphs};

/// What a report asks of the runs. Every row of a run has the cells `name` and `key`.
pub trait Results {
    /// Rows of runs or of a table, after their stages. `Err`: a sentence.
    fn rows(&self, rows: &Rows) -> Result<Vec<Row>, String>;

    /// One row for each step of the runs of a node: `name`, `step`, `loss`, ..
    fn metrics(&self, node: &str) -> Result<Vec<Row>, String>;

    /// The constants of a fit: `name`, `value`, and where they are known `se`, `ci95.low`, `ci95.high`.
    fn coefficients(&self, fit: &str) -> Result<Vec<Row>, String>;

    /// The rows of a fit with `predicted` and `residual`.
    fn residuals(&self, fit: &str) -> Result<Vec<Row>, String>;

    /// What the law of a fit says for a row. `None`: a column is missing, or the law is not finite there.
    fn predict(&self, fit: &str, row: &Row) -> Option<f64>;

    /// The best use of an amount of compute under the law of a fit.
    fn optimum(&self, fit: &str, flops: f64) -> Option<Optimum>;
}

/// A value with its intervals, where they are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Between {
    /// The value.
    pub value: f64,
    /// The ends of the 95 % confidence interval: how well the law is known.
    pub curve: Option<(f64, f64)>,
    /// The ends of the 95 % prediction interval: where a single run will lie.
    pub run: Option<(f64, f64)>,
}

/// The best use of an amount of compute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimum {
    /// How large the model is.
    pub params: Between,
    /// How many tokens it sees.
    pub tokens: Between,
    /// Its loss.
    pub loss: Between,
}

/// Something that a reader should know and that does not stop a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// `W0710`, `W0711`.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// Makes a report.
pub fn make(spec: &ReportSpec, results: &dyn Results) -> Result<(Document, Vec<Warning>), String> {
    let making = Making { results, warnings: RefCell::default(), runs: RefCell::default() };
    let mut blocks = Vec::new();
    for part in &spec.parts {
        match part {
            ReportPart::Text(pieces) => {
                let mut inlines = Vec::new();
                for piece in pieces {
                    inlines.push(making.inline(piece)?);
                }
                blocks.extend(paragraphs(&inlines).into_iter().map(Block::Text));
            }
            ReportPart::Plot(plot) => blocks.push(Block::Chart(making.plot(plot)?)),
            ReportPart::Table(table) => blocks.push(Block::Table(making.table(table)?)),
        }
    }
    let document = Document { title: spec.title.clone(), blocks, runs: making.runs.into_inner() };
    Ok((document, making.warnings.into_inner()))
}

struct Making<'a> {
    results: &'a dyn Results,
    warnings: RefCell<Vec<Warning>>,
    runs: RefCell<Vec<Run>>,
}

impl Making<'_> {
    fn warn(&self, code: &'static str, message: String, help: &str) {
        self.warnings.borrow_mut().push(Warning { code, message, help: help.to_owned() });
    }

    fn rows(&self, rows: &ReportRows) -> Result<Vec<Row>, String> {
        match rows {
            ReportRows::Rows(rows) => self.results.rows(rows),
            ReportRows::Metrics(node) => {
                // A row of metrics is a step: what the appendix says of the run is said by the run's own row.
                let from = vec![RowSource::Runs(node.clone())];
                for row in self.results.rows(&Rows { from, stages: Vec::new() })? {
                    self.listed(&row);
                }
                self.results.metrics(node)
            }
            ReportRows::Coefficients(fit) => self.results.coefficients(fit),
            ReportRows::Residuals(fit) => self.results.residuals(fit),
            ReportRows::Given(rows) => Ok(rows.clone()),
        }
    }

    fn inline(&self, piece: &Piece) -> Result<Inline, String> {
        Ok(match piece {
            Piece::Text(t) => Inline::Text(t.clone()),
            Piece::Value { text, node } => {
                let mut run = None;
                if let Some(node) = node {
                    let from = vec![RowSource::Runs(node.clone())];
                    // A sweep, a fit or data are no single run to lead to.
                    if let Ok(rows) = self.results.rows(&Rows { from, stages: Vec::new() })
                        && let [row] = rows.as_slice()
                    {
                        run = self.listed(row);
                    }
                }
                Inline::Value { text: text.clone(), run }
            }
        })
    }

    /// The name of a row's run, which is put into the appendix. `None`: the row is no run.
    fn listed(&self, row: &Row) -> Option<String> {
        let Some(RowCell::Text(name)) = row.get("name") else { return None };
        let Some(RowCell::Text(key)) = row.get("key") else { return None };
        let mut runs = self.runs.borrow_mut();
        if !runs.iter().any(|r| r.name == *name) {
            let figures = words::FIGURES.iter().filter_map(|column| {
                let cell = cell_of(row.get(*column)?);
                (cell != Cell::Empty).then(|| (words::heading(column), cell))
            });
            let short: String = key.chars().take(8).collect();
            runs.push(Run { name: name.clone(), key: short, figures: figures.collect() });
        }
        Some(name.clone())
    }
}

/// A cell of a row as a cell of a table.
fn cell_of(cell: &RowCell) -> Cell {
    match cell {
        RowCell::Null => Cell::Empty,
        RowCell::Bool(b) => Cell::Text(b.to_string()),
        RowCell::Number(x) => Cell::Number(*x),
        RowCell::Text(t) => Cell::Text(t.clone()),
    }
}

/// The name that a reader knows a row by.
fn name_of(row: &Row, at: usize) -> String {
    match row.get("name") {
        Some(RowCell::Text(name)) => name.clone(),
        Some(RowCell::Null | RowCell::Bool(_) | RowCell::Number(_)) | None => format!("row {at}"),
    }
}

/// A few names for a sentence: all of three, else two and how many more.
fn some(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [init @ .., last] if names.len() <= 3 => format!("{} and {last}", init.join(", ")),
        _ => format!("{} and {} more", names[..2].join(", "), names.len() - 2),
    }
}

#[cfg(test)]
mod tests;
