//! Tables: rows of runs, constants of a fit, records of the program.

use cs336_compiler::report::TableSpec;
use cs336_compiler::row::RowExpr;
use cs336_compiler::row::interp::{Cell as RowCell, Row, values};

use super::{Making, cell_of, words};
use crate::page::{Cell, Table};

/// Columns that a table without `columns` does not show: they are for machines.
const HIDDEN: &[&str] = &["key", "folder", "machine", "status"];

impl Making<'_> {
    pub(super) fn table(&self, spec: &TableSpec) -> Result<Table, String> {
        let rows = self.rows(&spec.rows)?;
        let columns = match spec.columns.as_slice() {
            [] => every_column(&rows),
            given => given.to_vec(),
        };
        let names: Vec<Option<String>> = rows.iter().map(|r| self.listed(r)).collect();
        let mut cells: Vec<Vec<Cell>> = vec![Vec::new(); rows.len()];
        for e in &columns {
            let made = column(e, &rows);
            if !rows.is_empty() && made.iter().all(|c| *c == Cell::Empty) {
                let message = format!("in the table \"{}\" no row has `{e}`", spec.title);
                self.warn("W0711", message, &has(&rows));
            }
            for ((cell, row), name) in made.into_iter().zip(&mut cells).zip(&names) {
                let is_run = matches!((&cell, name), (Cell::Text(t), Some(n)) if t == n);
                row.push(match cell {
                    Cell::Text(name) if is_run => Cell::Run(name),
                    other => other,
                });
            }
        }
        if rows.is_empty() {
            let message = format!("the table \"{}\" has no rows", spec.title);
            self.warn("W0711", message, "run what it lists first, or look at its `keep`");
        }
        let heads = columns.iter().map(|e| match e {
            RowExpr::Column(name) => words::heading(name),
            e => e.to_string(),
        });
        Ok(Table { title: spec.title.clone(), columns: heads.collect(), rows: cells })
    }
}

/// What rows have, as the help of a warning.
pub(super) fn has(rows: &[Row]) -> String {
    let names: Vec<String> = every_column(rows).iter().map(ToString::to_string).collect();
    format!("the rows have {}", super::some(&names))
}

/// The cells of a column; `.x` of rows that have `x.low` and `x.high` and nothing else by that name is an interval.
fn column(e: &RowExpr, rows: &[Row]) -> Vec<Cell> {
    let plain = values(e, rows);
    let RowExpr::Column(name) = e else { return plain.iter().map(cell_of).collect() };
    let end = |row: &Row, which: &str| match row.get(&format!("{name}.{which}")) {
        Some(RowCell::Number(x)) => Some(*x),
        Some(RowCell::Null | RowCell::Bool(_) | RowCell::Text(_)) | None => None,
    };
    plain
        .iter()
        .zip(rows)
        .map(|(cell, row)| match (cell, end(row, "low"), end(row, "high")) {
            (RowCell::Null, Some(low), Some(high)) => Cell::Interval(low, high),
            (cell, _, _) => cell_of(cell),
        })
        .collect()
}

/// Every column that some row has a value in; the two ends of an interval are one.
fn every_column(rows: &[Row]) -> Vec<RowExpr> {
    let mut names: Vec<String> = Vec::new();
    for (name, cell) in rows.iter().flatten() {
        let name = name.strip_suffix(".low").or(name.strip_suffix(".high")).unwrap_or(name);
        let shown = *cell != RowCell::Null && !HIDDEN.contains(&name);
        if shown && !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    names.into_iter().map(RowExpr::Column).collect()
}
