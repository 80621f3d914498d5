//! `metrics.jsonl`: rows appended one by one, read back, cut at a step.
//!
//! A row is one JSON object on one line, written with a single call, so a kill leaves at most one line unfinished. Readers
//! leave an unfinished last line out; a broken line before it is an error, since something else has written there. Numbers come back
//! with the same bits; NaN and infinities, for which JSON has no word, are `null` and come back as NaN.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};

use crate::schema::rank;

/// The metrics of one optimizer step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Steps done, from 1.
    pub step: u64,
    /// Other columns by name.
    values: Vec<(String, f64)>,
}

/// What can go wrong with a table.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Reading failed.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Writing failed; the rows before are in the file.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line that we have not written.
    #[error("`{}` is damaged at line {line}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong there.
        why: String,
    },
    /// Parquet does not take or give the table.
    #[error("`{}` as Parquet: {why}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What polars said.
        why: String,
    },
    /// A question that these tables cannot answer.
    #[error("{message}")]
    Query {
        /// Its code: E0205, E0302, E0303 as in programs, E0620 for SQL and for what polars refuses.
        code: &'static str,
        /// One sentence.
        message: String,
        /// What to ask instead.
        help: String,
    },
    /// A table in a form that is not known, or not in that form.
    #[error("cannot read `{}` as {form}: {why}", path.display())]
    Table {
        /// The file.
        path: PathBuf,
        /// `csv`, `jsonl`, `parquet`.
        form: String,
        /// What is wrong.
        why: String,
    },
}

impl TableError {
    /// What polars does not take although the question was judged before.
    pub(crate) fn polars(error: &polars::error::PolarsError) -> Self {
        let message = error.to_string().lines().next().unwrap_or_default().to_owned();
        Self::Query { code: "E0620", message, help: String::new() }
    }
}

impl Row {
    /// A row without values.
    pub fn new(step: u64) -> Self {
        Self { step, values: Vec::new() }
    }

    /// Sets a column.
    pub fn set(&mut self, name: &str, value: f64) {
        match self.values.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name.to_owned(), value)),
        }
    }

    /// The value of a column; `step` included.
    pub fn get(&self, name: &str) -> Option<f64> {
        if name == "step" {
            return Some(self.step as f64);
        }
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// Columns but `step`, as they were set.
    pub fn values(&self) -> impl Iterator<Item = (&str, f64)> {
        self.values.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// One line of the file, without its end; the order of columns does not depend on the order in which they were set.
    pub fn to_json(&self) -> String {
        let mut sorted: Vec<&(String, f64)> = self.values.iter().collect();
        sorted.sort_by(|a, b| (rank(&a.0), &a.0).cmp(&(rank(&b.0), &b.0)));
        let mut object = Map::new();
        object.insert("step".to_owned(), Value::from(self.step));
        for (name, value) in sorted {
            object
                .insert(name.clone(), Number::from_f64(*value).map_or(Value::Null, Value::Number));
        }
        Value::Object(object).to_string()
    }

    /// `Err` is one sentence.
    fn parse(line: &str) -> Result<Self, String> {
        let object: Map<String, Value> =
            serde_json::from_str(line).map_err(|error| error.to_string())?;
        let step = object.get("step").and_then(Value::as_u64).ok_or("it has no step")?;
        let mut row = Self::new(step);
        for (name, value) in object.iter().filter(|(name, _)| *name != "step") {
            let number = match value {
                Value::Null => f64::NAN,
                other => other.as_f64().ok_or_else(|| format!("`{name}` is no number"))?,
            };
            row.values.push((name.clone(), number));
        }
        Ok(row)
    }
}

/// The open end of a `metrics.jsonl`.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file for appending; makes it where it is not there. A line that a kill left unfinished is taken away.
    pub fn open(path: &Path) -> Result<Self, TableError> {
        let failed = |source| TableError::Write { path: path.to_owned(), source };
        let file =
            OpenOptions::new().create(true).append(true).read(true).open(path).map_err(failed)?;
        let bytes = std::fs::read(path).map_err(failed)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(failed)?;
        }
        Ok(Self { path: path.to_owned(), file })
    }

    /// Appends a row; when this returns, a kill of the process does not lose it. A row that could only partly be written
    /// (the disk is full) is taken back.
    pub fn push(&mut self, row: &Row) -> Result<(), TableError> {
        let line = row.to_json() + "\n";
        let before = self.file.metadata().map(|meta| meta.len());
        self.file.write_all(line.as_bytes()).and_then(|()| self.file.flush()).map_err(|source| {
            if let Ok(before) = before {
                // The error to report is the first one.
                self.file.set_len(before).ok();
            }
            TableError::Write { path: self.path.clone(), source }
        })
    }

    /// Returns when all rows are on the disk: also a power cut does not lose them.
    pub fn sync(&self) -> Result<(), TableError> {
        self.file.sync_all().map_err(|source| TableError::Write { path: self.path.clone(), source })
    }
}

/// All whole rows; none if there is no file.
pub fn read(path: &Path) -> Result<Vec<Row>, TableError> {
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(TableError::Read { path: path.to_owned(), source }),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let lines = whole.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(at, line)| {
            Row::parse(line).map_err(|why| TableError::Damaged {
                path: path.to_owned(),
                line: at + 1,
                why,
            })
        })
        .collect()
}

/// Drops the rows past `step`, so that a resumed run writes them anew. The file changes at once or not at all.
pub fn keep_steps(path: &Path, step: u64) -> Result<Vec<Row>, TableError> {
    let mut rows = read(path)?;
    rows.retain(|row| row.step <= step);
    let failed = |source| TableError::Write { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary().tempfile_in(folder).map_err(failed)?;
    let text: String = rows.iter().map(|row| row.to_json() + "\n").collect();
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(rows)
}

/// Makes temporary files as readable as other files: their names change, their permissions stay.
pub(crate) fn temporary<'a, 'b>() -> tempfile::Builder<'a, 'b> {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "only Unix has such permissions"))]
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(step: u64, loss: f64) -> Row {
        let mut row = Row::new(step);
        row.set("measure:blocks.load", 0.1 + 0.2);
        row.set("loss", loss);
        row
    }

    #[test]
    fn rows_come_back_with_the_same_bits() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.jsonl");
        let mut metrics = Metrics::open(&path).expect("opened");
        for (step, loss) in [(1, 1.0 / 3.0), (2, f64::from(2.345_678_f32)), (3, f64::NAN)] {
            metrics.push(&row(step, loss)).expect("written");
        }
        let rows = read(&path).expect("read");
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].get("loss"), Some(1.0 / 3.0));
        assert_eq!(rows[1].get("measure:blocks.load"), Some(0.1 + 0.2));
        assert!(rows[2].get("loss").is_some_and(f64::is_nan));
        let text = std::fs::read_to_string(&path).expect("read");
        assert!(text.starts_with(r#"{"step":1,"loss":0.333"#), "{text}");
    }

    #[test]
    fn a_killed_writer_leaves_whole_rows() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.jsonl");
        let whole: String = (1..=4).map(|step| row(step, 2.0).to_json() + "\n").collect();
        for cut in 0..whole.len() {
            std::fs::write(&path, &whole[..cut]).expect("written");
            let n = whole[..cut].matches('\n').count();
            assert_eq!(read(&path).expect("read").len(), n);
            let mut metrics = Metrics::open(&path).expect("opened");
            metrics.push(&row(9, 1.0)).expect("written");
            assert_eq!(read(&path).expect("read").len(), n + 1, "cut at {cut}");
        }
    }

    #[test]
    fn rows_past_a_step_are_dropped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.jsonl");
        assert_eq!(keep_steps(&path, 5).expect("nothing"), []);
        let whole: String = (1..=9).map(|step| row(step, 2.0).to_json() + "\n").collect();
        std::fs::write(&path, &whole).expect("written");
        assert_eq!(keep_steps(&path, 4).expect("cut").len(), 4);
        assert_eq!(read(&path).expect("read").last().map(|row| row.step), Some(4));
    }

    #[test]
    fn a_strange_line_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("metrics.jsonl");
        std::fs::write(&path, "{\"step\":1}\nhello\n{\"step\":2}\n").expect("written");
        let error = read(&path).expect_err("damaged").to_string();
        assert!(error.contains("line 2"), "{error}");
    }
}
