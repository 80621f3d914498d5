//! `index.parquet`: the rows of the last reading, so that only folders that changed are read again. A cache: it may be deleted.

use std::path::{Path, PathBuf};

use polars::prelude::{Column, ParquetReader, ParquetWriter, SerReader};

use crate::frame::Frame;
use crate::rows::temporary;

/// Raised when rows are made in another way. A file of another version is as good as none.
const VERSION: u64 = 3;

const VERSION_COLUMN: &str = ":version";
const STAMP_COLUMN: &str = ":stamp";

/// The rows of the last reading with the stamps of their folders.
pub(super) struct Index {
    pub(super) frame: Frame,
    pub(super) stamps: Vec<String>,
}

pub(super) fn path(root: &Path) -> PathBuf {
    root.join("index.parquet")
}

/// The index, if there is one that can be used.
pub(super) fn load(root: &Path) -> Option<Index> {
    let file = std::fs::File::open(path(root)).ok()?;
    let mut frame = ParquetReader::new(file).finish().ok()?;
    let version = frame.column(VERSION_COLUMN).ok()?.u64().ok()?.iter().next().flatten();
    if frame.height() > 0 && version != Some(VERSION) {
        return None;
    }
    let stamps = frame.column(STAMP_COLUMN).ok()?.str().ok()?;
    let stamps: Vec<String> = stamps.iter().map(|s| s.unwrap_or_default().to_owned()).collect();
    frame.drop_in_place(VERSION_COLUMN).ok()?;
    frame.drop_in_place(STAMP_COLUMN).ok()?;
    let frame = Frame::from_polars(frame).ok()?;
    // An index is only one with the columns by which its rows are found again.
    frame.texts("folder").is_some().then_some(Index { frame, stamps })
}

/// Writes the index whole. That it cannot be written (the folder may be somebody else's) costs time, not results.
pub(super) fn store(root: &Path, index: &Index) {
    let mut frame = index.frame.polars().clone();
    let versions = vec![VERSION; index.stamps.len()];
    let columns = [
        Column::new(VERSION_COLUMN.into(), versions),
        Column::new(STAMP_COLUMN.into(), index.stamps.clone()),
    ];
    for column in columns {
        if frame.with_column(column).is_err() {
            return;
        }
    }
    let Ok(mut file) = temporary().tempfile_in(root) else { return };
    if ParquetWriter::new(file.as_file_mut()).finish(&mut frame).is_ok() {
        file.persist(path(root)).ok();
    }
}
