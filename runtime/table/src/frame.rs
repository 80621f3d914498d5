//! A table in memory: named columns of numbers, texts and truths, each cell of which may be nothing.
//!
//! This is what the other crates see of polars: rows in, rows and columns out. Whole numbers become f64 on the way in, so that
//! a column means the same wherever it comes from; lists and records have no place here and are left out.

use cs336_compiler::row::interp::{Cell, Row};
use cs336_compiler::row::kinds::{Columns, Kind};
use indexmap::IndexMap;
use polars::prelude::{
    BooleanChunked, Column, DataFrame, DataType, IntoLazy, LazyFrame, NewChunkedArray,
};

use crate::rows::TableError;

/// A table.
#[derive(Debug, Clone)]
pub struct Frame {
    frame: DataFrame,
}

impl Frame {
    /// A table of rows. Columns stand in the order in which rows bring them up; one with texts and numbers holds texts.
    pub fn from_rows(rows: &[Row]) -> Result<Self, TableError> {
        Self::with_columns(rows, &[])
    }

    /// The same, with these columns first, whether a row has them or not; those of a kind are of it even where no row has a value.
    pub fn with_columns(rows: &[Row], first: &[(&str, Kind)]) -> Result<Self, TableError> {
        let mut kinds: IndexMap<&str, Kind> = first.iter().copied().collect();
        for (name, cell) in rows.iter().flatten() {
            let kind = kinds.entry(name).or_insert(Kind::Any);
            *kind = both(*kind, kind_of(cell));
        }
        let columns = kinds.iter().map(|(name, kind)| match kind {
            Kind::Any | Kind::Number => {
                let values: Vec<Option<f64>> = cells(rows, name).map(Cell::number).collect();
                Column::new((*name).into(), values)
            }
            Kind::Bool => {
                let values: Vec<Option<bool>> = cells(rows, name)
                    .map(|c| match c {
                        Cell::Bool(b) => Some(*b),
                        Cell::Null | Cell::Number(_) | Cell::Text(_) => None,
                    })
                    .collect();
                Column::new((*name).into(), values)
            }
            Kind::Text => {
                let values: Vec<Option<String>> = cells(rows, name).map(text_of).collect();
                Column::new((*name).into(), values)
            }
        });
        let frame = DataFrame::new(rows.len(), columns.collect());
        Ok(Self { frame: frame.map_err(|e| TableError::polars(&e))? })
    }

    /// What polars made, with numbers as f64 and without lists and records.
    pub(crate) fn from_polars(frame: DataFrame) -> Result<Self, TableError> {
        let height = frame.height();
        let mut columns = Vec::new();
        for column in frame.columns() {
            let wanted = match column.dtype() {
                DataType::Float64 | DataType::String | DataType::Boolean => None,
                DataType::List(_) | DataType::Struct(_) => continue,
                other if other.is_numeric() || *other == DataType::Null => Some(DataType::Float64),
                _ => Some(DataType::String),
            };
            columns.push(match wanted {
                None => column.clone(),
                Some(to) => column.cast(&to).map_err(|e| TableError::polars(&e))?,
            });
        }
        let frame = DataFrame::new(height, columns).map_err(|e| TableError::polars(&e))?;
        Ok(Self { frame })
    }

    pub(crate) fn lazy(&self) -> LazyFrame {
        self.frame.clone().lazy()
    }

    pub(crate) fn polars(&self) -> &DataFrame {
        &self.frame
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.frame.height()
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The columns with their kinds, in order.
    pub fn columns(&self) -> Columns {
        let kind = |c: &Column| match c.dtype() {
            DataType::String => Kind::Text,
            DataType::Boolean => Kind::Bool,
            _ => Kind::Number,
        };
        self.frame.columns().iter().map(|c| (c.name().to_string(), kind(c))).collect()
    }

    /// A column of numbers (truths are 0 and 1); NaN where there is nothing. `None`: there is no such column, or it holds texts.
    pub fn numbers(&self, name: &str) -> Option<Vec<f64>> {
        let column = self.frame.column(name).ok()?;
        if *column.dtype() == DataType::String {
            return None;
        }
        let column = column.cast(&DataType::Float64).ok()?;
        Some(column.f64().ok()?.iter().map(|x| x.unwrap_or(f64::NAN)).collect())
    }

    /// A column of texts; empty where there is nothing. `None`: there is no such column, or it holds no texts.
    pub fn texts(&self, name: &str) -> Option<Vec<String>> {
        let column = self.frame.column(name).ok()?;
        Some(column.str().ok()?.iter().map(|t| t.unwrap_or_default().to_owned()).collect())
    }

    /// All rows.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = vec![Row::new(); self.len()];
        for (name, kind) in self.columns() {
            let Ok(column) = self.frame.column(&name) else { continue };
            let cells: Vec<Cell> = match kind {
                Kind::Text => column.str().map_or_else(
                    |_| Vec::new(),
                    |c| c.iter().map(|t| t.map_or(Cell::Null, |t| Cell::Text(t.into()))).collect(),
                ),
                Kind::Bool => column.bool().map_or_else(
                    |_| Vec::new(),
                    |c| c.iter().map(|b| b.map_or(Cell::Null, Cell::Bool)).collect(),
                ),
                Kind::Any | Kind::Number => column.f64().map_or_else(
                    |_| Vec::new(),
                    |c| c.iter().map(|x| x.map_or(Cell::Null, Cell::Number)).collect(),
                ),
            };
            for (row, cell) in rows.iter_mut().zip(cells) {
                row.insert(name.clone(), cell);
            }
        }
        rows
    }

    /// The rows that are marked; as many marks as rows.
    pub fn marked(&self, marks: &[bool]) -> Result<Self, TableError> {
        let marks = BooleanChunked::from_slice("".into(), marks);
        let frame = self.frame.filter(&marks).map_err(|e| TableError::polars(&e))?;
        Ok(Self { frame })
    }

    /// Tables one below the other: a column that one of them does not have is nothing there.
    pub fn below(parts: &[Frame]) -> Result<Self, TableError> {
        match parts {
            [one] => Ok(one.clone()),
            many => {
                let mut kinds = Columns::new();
                for (name, kind) in many.iter().flat_map(Frame::columns) {
                    let known = kinds.entry(name).or_insert(Kind::Any);
                    *known = both(*known, kind);
                }
                let first: Vec<(&str, Kind)> =
                    kinds.iter().map(|(n, k)| (n.as_str(), *k)).collect();
                let rows: Vec<Row> = many.iter().flat_map(Frame::rows).collect();
                Self::with_columns(&rows, &first)
            }
        }
    }
}

fn cells<'a>(rows: &'a [Row], name: &'a str) -> impl Iterator<Item = &'a Cell> {
    rows.iter().map(move |row| row.get(name).unwrap_or(&Cell::Null))
}

fn kind_of(cell: &Cell) -> Kind {
    match cell {
        Cell::Null => Kind::Any,
        Cell::Bool(_) => Kind::Bool,
        Cell::Number(_) => Kind::Number,
        Cell::Text(_) => Kind::Text,
    }
}

fn both(a: Kind, b: Kind) -> Kind {
    match (a, b) {
        (Kind::Any, other) | (other, Kind::Any) => other,
        (Kind::Text, _) | (_, Kind::Text) => Kind::Text,
        (Kind::Bool, Kind::Bool) => Kind::Bool,
        (Kind::Number, _) | (_, Kind::Number) => Kind::Number,
    }
}

fn text_of(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Null => None,
        Cell::Bool(b) => Some(b.to_string()),
        Cell::Number(x) => Some(x.to_string()),
        Cell::Text(t) => Some(t.clone()),
    }
}
