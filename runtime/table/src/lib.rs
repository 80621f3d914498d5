//! Metrics of runs as tables.
//!
//! A run appends one [`Row`] per optimizer step to `metrics.jsonl`, each reaching the file before the next step begins; at its end
//! the same rows become `metrics.parquet`. [`schema`] says what the columns mean and in which unit. Metrics hold nothing
//! volatile: a run that was killed and resumed has the rows of one that was not.

pub mod parquet;
pub mod rows;
pub mod schema;

pub use parquet::{read_parquet, write_parquet};
pub use rows::{Metrics, Row, TableError, keep_steps, read};
pub use schema::{COLUMNS, Column, column};
