//! The steps of runs as one table, column by column: there may be millions of them.

use std::path::Path;

use cs336_compiler::row::kinds::Kind;
use indexmap::IndexSet;
use polars::prelude::{
    Column, DataFrame, DataType, ParquetReader, PolarsResult, Scalar, SerReader,
};

use crate::frame::Frame;
use crate::rows::{TableError, read};

/// The steps of one run with what the run is called: from Parquet if it is finished, else from the lines written so far.
pub(super) fn steps(
    folder: &Path,
    names: &[(&str, &str)],
    wanted: &dyn Fn(&str) -> bool,
) -> Result<DataFrame, TableError> {
    let path = folder.join("metrics.parquet");
    let bad = |why: String| TableError::Parquet { path: path.clone(), why };
    let frame = match std::fs::File::open(&path) {
        Ok(file) => {
            let mut reader = ParquetReader::new(file);
            let schema = reader.schema().map_err(|e| bad(e.to_string()))?;
            let columns: Vec<String> = schema
                .iter_names()
                .map(|n| n.to_string())
                .filter(|n| n == "step" || wanted(n))
                .collect();
            reader.with_columns(Some(columns)).finish().map_err(|e| bad(e.to_string()))?
        }
        Err(_) => written_so_far(&folder.join("metrics.jsonl"), wanted)?,
    };
    let polars = |e: polars::error::PolarsError| TableError::polars(&e);
    let height = frame.height();
    let mut columns: Vec<Column> = names
        .iter()
        .map(|(name, value)| {
            let value = Scalar::from(polars::prelude::PlSmallStr::from(*value));
            Column::new_scalar((*name).into(), value, height)
        })
        .collect();
    for column in frame.columns() {
        columns.push(column.cast(&DataType::Float64).map_err(polars)?);
    }
    DataFrame::new(height, columns).map_err(polars)
}

fn written_so_far(path: &Path, wanted: &dyn Fn(&str) -> bool) -> Result<DataFrame, TableError> {
    let rows = read(path)?;
    let names: IndexSet<&str> = rows.iter().flat_map(|r| r.values().map(|(n, _)| n)).collect();
    let mut columns =
        vec![Column::new("step".into(), rows.iter().map(|r| r.step as f64).collect::<Vec<f64>>())];
    for name in names.into_iter().filter(|n| wanted(n)) {
        let values: Vec<Option<f64>> = rows.iter().map(|r| r.get(name)).collect();
        columns.push(Column::new(name.into(), values));
    }
    DataFrame::new(rows.len(), columns).map_err(|e| TableError::polars(&e))
}

/// Tables one below the other; a column that one of them does not have is nothing there.
pub(super) fn below(parts: Vec<DataFrame>) -> Result<Frame, TableError> {
    let names: IndexSet<String> =
        parts.iter().flat_map(|p| p.columns()).map(|c| c.name().to_string()).collect();
    let filled = |part: DataFrame| -> PolarsResult<DataFrame> {
        let columns = names.iter().map(|name| match part.column(name) {
            Ok(column) => column.clone(),
            Err(_) => Column::full_null(name.as_str().into(), part.height(), &DataType::Float64),
        });
        DataFrame::new(part.height(), columns.collect())
    };
    let stacked = || -> PolarsResult<Option<DataFrame>> {
        let mut all: Option<DataFrame> = None;
        for part in parts.iter().cloned() {
            let part = filled(part)?;
            match &mut all {
                Some(all) => {
                    all.vstack_mut(&part)?;
                }
                None => all = Some(part),
            }
        }
        Ok(all)
    };
    match stacked().map_err(|e| TableError::polars(&e))? {
        Some(frame) => Frame::from_polars(frame),
        None => {
            let texts = ["name", "key", "folder"].map(|name| (name, Kind::Text));
            let numbers = ["step", "loss"].map(|name| (name, Kind::Number));
            Frame::with_columns(&[], &[&texts[..], &numbers[..]].concat())
        }
    }
}
