//! Runs and their metrics as tables.
//!
//! [`ledger`] has a row for every run and every step, [`frame`] is a table in memory, [`files`] are tables on disk, [`query`] answers
//! pipelines of the language and SQL, [`sources`] puts them
//! together, [`tensorboard`] writes event files.
//!
//! A run appends one [`Row`] per optimizer step to `metrics.jsonl`, each reaching the file before the next step begins; at its end
//! the same rows become `metrics.parquet`. [`schema`] says what the columns mean and in which unit. Metrics hold nothing
//! volatile: a run that was killed and resumed has the rows of one that was not.

pub mod files;
pub mod frame;
pub mod ledger;
pub mod parquet;
pub mod query;
pub mod rows;
pub mod schema;
pub mod sources;
pub mod tensorboard;

pub use files::{Form, read_table, write_table, written};
pub use frame::Frame;
pub use ledger::Ledger;
pub use parquet::{read_parquet, write_parquet};
pub use rows::{Metrics, Row, TableError, keep_steps, read};
pub use schema::{COLUMNS, Column, column};
