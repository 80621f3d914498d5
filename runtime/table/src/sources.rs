//! Where rows come from, and what a pipeline makes of them: the one door for queries, fits, reports and searches.

use std::path::{Path, PathBuf};

use cs336_compiler::row::{RowSource, Rows};

use crate::files::{column_names, read_table};
use crate::frame::Frame;
use crate::ledger::Ledger;
use crate::query::pipeline;
use crate::rows::TableError;

/// The rows that a program or a query asks for. `runs_of` says which runs belong to a node; [`Ledger::of_node`] goes by names,
/// a driver that knows the keys of the present program goes by those.
pub fn rows(
    asked: &Rows,
    ledger: &Ledger,
    runs_of: &dyn Fn(&str) -> Result<Frame, TableError>,
) -> Result<Frame, TableError> {
    let parts: Result<Vec<Frame>, TableError> = asked
        .from
        .iter()
        .map(|source| match source {
            RowSource::AllRuns => Ok(ledger.runs().clone()),
            RowSource::Runs(node) => runs_of(node),
            RowSource::Table { format, pattern, base } => table(format, pattern, base),
            RowSource::Given(rows) => Frame::from_rows(rows),
        })
        .collect();
    pipeline(&Frame::below(&parts?)?, &asked.stages)
}

/// A table that is named in the program's file `base`.
pub fn table(format: &str, pattern: &str, base: &str) -> Result<Frame, TableError> {
    read_table(format, &place(pattern, base))
}

/// The names of the columns of such a table, where they can be told without reading it.
pub fn columns(format: &str, pattern: &str, base: &str) -> Option<Vec<String>> {
    column_names(format, &place(pattern, base))
}

/// A path that is written in the file `base` is relative to it.
fn place(pattern: &str, base: &str) -> PathBuf {
    let folder = Path::new(base).parent().unwrap_or(Path::new(""));
    folder.join(pattern.strip_prefix("./").unwrap_or(pattern))
}
