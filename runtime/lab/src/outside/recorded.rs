//! Results that are there already: a row of a table answers for the point whose settings it has.

use std::collections::BTreeMap;

use cs336_compiler::check::hir::{OutsideSpec, Setting};
use cs336_compiler::row::interp::{Cell, Row};
use cs336_table::sources::table;
use serde_json::{Map, Value, json};

use super::{Answers, Found};
use crate::error::LabError;

/// A table of results.
pub(super) struct Recorded {
    pattern: String,
    rows: Vec<Row>,
    columns: Vec<String>,
}

impl Recorded {
    pub(super) fn read(format: &str, pattern: &str, base: &str) -> Result<Self, LabError> {
        let frame = table(format, pattern, base)?;
        let columns = frame.columns().into_iter().map(|(name, _)| name).collect();
        Ok(Self { pattern: pattern.to_owned(), rows: frame.rows(), columns })
    }

    /// The one row with these settings. Rows that say the same are one.
    fn row(&self, asked: &OutsideSpec) -> Result<&Row, LabError> {
        let refuse = |why: String| LabError::Unrecorded { node: String::new(), why };
        let settings: Vec<String> =
            asked.settings.iter().map(|(n, s)| format!("{n} = {}", shown(s))).collect();
        let settings = settings.join(", ");
        if let Some((missing, _)) =
            asked.settings.iter().find(|(name, _)| !self.columns.contains(name))
        {
            return Err(refuse(format!(
                "`{}` has no column `{missing}`; it has {}",
                self.pattern,
                self.columns.join(", ")
            )));
        }
        let fits = |row: &&Row| {
            let is = |(name, s): &(String, Setting)| row.get(name).is_some_and(|c| equal(s, c));
            asked.settings.iter().all(is)
        };
        let mut found = self.rows.iter().filter(fits);
        let Some(first) = found.next() else {
            return Err(refuse(format!("`{}` has no row with {settings}", self.pattern)));
        };
        let others = found.filter(|row| *row != first).count();
        if others > 0 {
            let count = others + 1;
            return Err(refuse(format!(
                "`{}` has {count} rows with {settings}, and they differ",
                self.pattern
            )));
        }
        Ok(first)
    }
}

impl Answers for Recorded {
    fn data(&mut self, asked: &OutsideSpec) -> Result<BTreeMap<String, String>, LabError> {
        let text = serde_json::to_string(&object(self.row(asked)?)).unwrap_or_default();
        let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
        Ok(BTreeMap::from([("row".to_owned(), hash)]))
    }

    fn find(&mut self, asked: &OutsideSpec) -> Result<Option<Found>, LabError> {
        self.row(asked).map(|row| Some(Found::Answer(object(row))))
    }

    fn ask(&mut self, asked: &OutsideSpec) -> Result<Found, LabError> {
        self.row(asked).map(|row| Found::Answer(object(row)))
    }

    fn look(&mut self, ticket: &str) -> Result<Found, LabError> {
        Ok(Found::Failed(format!("a table knows nothing of `{ticket}`")))
    }

    fn left(&mut self) -> Result<Option<f64>, LabError> {
        Ok(None)
    }
}

/// Tables of others are rounded: six digits are the same.
fn equal(s: &Setting, cell: &Cell) -> bool {
    match (s, cell) {
        (Setting::Number(x), Cell::Number(y)) => (x - y).abs() <= 1e-6 * x.abs().max(y.abs()),
        (Setting::Text(t), Cell::Text(u)) => t == u,
        (Setting::Bool(b), Cell::Bool(c)) => b == c,
        (Setting::Bool(b), Cell::Number(x)) => f64::from(u8::from(*b)) == *x,
        (
            Setting::Number(_)
            | Setting::Text(_)
            | Setting::Bool(_)
            | Setting::List(_)
            | Setting::Record(_),
            _,
        ) => false,
    }
}

fn shown(s: &Setting) -> String {
    match s {
        Setting::Number(x) if x.abs() >= 1e6 || (*x != 0.0 && x.abs() < 1e-3) => format!("{x:e}"),
        Setting::Number(x) => format!("{x}"),
        Setting::Text(t) => format!("{t:?}"),
        Setting::Bool(b) => format!("{b}"),
        Setting::List(_) => "a list".to_owned(),
        Setting::Record(_) => "a record".to_owned(),
    }
}

fn object(row: &Row) -> Map<String, Value> {
    let json = |cell: &Cell| match cell {
        Cell::Null => Value::Null,
        Cell::Bool(b) => json!(b),
        Cell::Number(x) => json!(x),
        Cell::Text(t) => json!(t),
    };
    row.iter().map(|(name, cell)| (name.clone(), json(cell))).collect()
}
