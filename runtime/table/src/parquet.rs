//! `metrics.parquet`: the rows of a finished run as columns, for other tools and for later queries.
//!
//! `step` is an unsigned integer, every other column a nullable 64-bit float: null where a row has no value (held-out losses are
//! measured only now and then). Columns stand in the order of the schema, measures behind them by name.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use polars::prelude::{Column as Series, DataFrame, ParquetReader, ParquetWriter, SerReader};

use crate::rows::{Row, TableError, temporary};
use crate::schema::rank;

/// Writes the rows whole or not at all.
pub fn write_parquet(rows: &[Row], path: &Path) -> Result<(), TableError> {
    let bad = |error: polars::error::PolarsError| TableError::Parquet {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let failed = |source| TableError::Write { path: path.to_owned(), source };
    let names: BTreeSet<(usize, &str)> =
        rows.iter().flat_map(|row| row.values().map(|(name, _)| (rank(name), name))).collect();
    let steps: Vec<u64> = rows.iter().map(|row| row.step).collect();
    let mut columns = vec![Series::new("step".into(), steps)];
    for (_, name) in names {
        let values: Vec<Option<f64>> = rows.iter().map(|row| row.get(name)).collect();
        columns.push(Series::new(name.into(), values));
    }
    let mut frame = DataFrame::new(rows.len(), columns).map_err(bad)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary().tempfile_in(folder).map_err(failed)?;
    ParquetWriter::new(file.as_file_mut()).finish(&mut frame).map_err(bad)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

/// Reads what [`write_parquet`] wrote.
pub fn read_parquet(path: &Path) -> Result<Vec<Row>, TableError> {
    let bad = |error: polars::error::PolarsError| TableError::Parquet {
        path: path.to_owned(),
        why: error.to_string(),
    };
    let file =
        File::open(path).map_err(|source| TableError::Read { path: path.to_owned(), source })?;
    let frame = ParquetReader::new(file).finish().map_err(bad)?;
    let steps = frame.column("step").and_then(|column| column.u64().cloned()).map_err(bad)?;
    let mut rows: Vec<Row> = steps.iter().map(|step| Row::new(step.unwrap_or(0))).collect();
    for column in frame.columns().iter().filter(|column| column.name() != "step") {
        for (row, value) in rows.iter_mut().zip(column.f64().map_err(bad)?.iter()) {
            if let Some(value) = value {
                row.set(column.name(), value);
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_survive_parquet() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.parquet");
        let rows: Vec<Row> = (1..=50)
            .map(|step| {
                let mut row = Row::new(step);
                row.set("loss", 5.0 / step as f64);
                if step % 10 == 0 {
                    row.set("valid_loss", 6.0 / step as f64);
                }
                row
            })
            .collect();
        write_parquet(&rows, &path).expect("written");
        assert_eq!(read_parquet(&path).expect("read"), rows);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = write_parquet(&[Row::new(1)], Path::new("/nowhere/at/all/m.parquet"));
        assert!(error.expect_err("no folder").to_string().contains("/nowhere/at/all"));
    }
}
