//! The ledger: every run under a folder `runs/` as one row.
//!
//! A run's folder is the truth, one process writes it, and the ledger only reads. So that ten thousand runs can be asked at once,
//! the rows are kept in an index, and a folder is read again only if its manifest, result or metrics have another time or
//! length than then. Columns: [`COLUMNS`], then the settings of the runs (`batch`, `lr`, `model.d`, ..), the values of `for` names of
//! sweeps, and measures, by name. What a run does not have is nothing; a figure that is not finite is NaN.

mod folder;
mod index;
mod settings;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cs336_compiler::row::interp::Row;
use cs336_compiler::row::kinds::Kind;

use crate::frame::Frame;
use crate::rows::TableError;
use crate::schema::Column;

/// Columns of runs that have a place of their own, in order.
pub const COLUMNS: &[Column] = &[
    Column { name: "name", unit: "", about: "The node's name; points of a sweep are `iso/07`." },
    Column { name: "sweep", unit: "", about: "The sweep that it is a point of." },
    Column {
        name: "status",
        unit: "",
        about: "`done`, `incomplete`, `failed`, or `stopped` by its sweep.",
    },
    Column { name: "params", unit: "params", about: "Trained parameters." },
    Column { name: "tokens", unit: "tokens", about: "Tokens learned from." },
    Column { name: "flops", unit: "FLOPs", about: "Model FLOPs spent, counted on the graph." },
    Column { name: "budget", unit: "", about: "How much work it was given, in `budget_unit`." },
    Column {
        name: "budget_unit",
        unit: "",
        about: "`FLOPs`, `tokens`, `tokens/param`, `steps`, ..",
    },
    Column { name: "step", unit: "steps", about: "Optimizer steps done." },
    Column { name: "loss", unit: "nats/token", about: "Training loss of the last step." },
    Column { name: "valid_loss", unit: "nats/token", about: "Last loss on held-out text." },
    Column { name: "perplexity", unit: "", about: "e to the held-out loss." },
    Column { name: "bits_per_byte", unit: "bits/bytes", about: "Held-out loss per byte of text." },
    Column { name: "data_tokens", unit: "tokens", about: "Tokens of its training data." },
    Column {
        name: "unique_tokens",
        unit: "tokens",
        about: "Tokens learned from, repeated ones counted once: the lesser of `tokens` and `data_tokens`.",
    },
    Column { name: "epochs", unit: "epochs", about: "`tokens` by `data_tokens`." },
    Column { name: "batch", unit: "", about: "Tokens or rows of an optimizer step." },
    Column { name: "lr", unit: "", about: "Learning rate, or the peak of its schedule." },
    Column { name: "seed", unit: "", about: "Of initial weights, noise, order and samples." },
    Column { name: "seconds", unit: "s", about: "Wall time of training." },
    Column { name: "rung", unit: "", about: "At which comparison its sweep stopped it, from 1." },
    Column { name: "failure", unit: "", about: "The code of what went wrong." },
    Column { name: "created", unit: "s", about: "When it was begun, in seconds since 1970." },
    Column { name: "machine", unit: "", about: "System, processor, threads." },
    Column { name: "key", unit: "", about: "The hash of what it means: equal keys are one run." },
    Column { name: "meaning", unit: "", about: "The hash of its settings without its data." },
    Column { name: "folder", unit: "", about: "Where it is, under the folder of runs." },
];

/// Those of [`COLUMNS`] that hold texts: also where no run has one, so that `.failure == "E0853"` can always be asked.
const TEXTS: &[&str] =
    &["name", "sweep", "status", "budget_unit", "failure", "machine", "key", "meaning", "folder"];

/// All runs under a folder.
#[derive(Debug)]
pub struct Ledger {
    root: PathBuf,
    runs: Frame,
    damaged: Vec<(PathBuf, String)>,
    read_anew: usize,
}

impl Ledger {
    /// Reads what changed since the last time. A folder that cannot be read is left out and listed as damaged.
    pub fn open(root: &Path) -> Result<Self, TableError> {
        let found = folder::folders(root)
            .map_err(|source| TableError::Read { path: root.to_owned(), source })?;
        let known = index::load(root);
        let shown = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
        if let Some(index) = &known
            && let Some(folders) = index.frame.texts("folder")
            && folders.len() == found.len()
            && found
                .iter()
                .zip(folders.iter().zip(&index.stamps))
                .all(|((path, stamp), (folder, old))| stamp == old && shown(path) == *folder)
        {
            let runs = index.frame.clone();
            return Ok(Self { root: root.to_owned(), runs, damaged: Vec::new(), read_anew: 0 });
        }
        let old: BTreeMap<(String, String), Row> = known.map_or_else(BTreeMap::new, |index| {
            let folders = index.frame.texts("folder").unwrap_or_default();
            folders.into_iter().zip(index.stamps).zip(index.frame.rows()).collect()
        });
        let stale: Vec<&(PathBuf, String)> = found
            .iter()
            .filter(|(path, stamp)| !old.contains_key(&(shown(path), stamp.clone())))
            .collect();
        let read_anew = stale.len();
        let mut fresh: BTreeMap<&PathBuf, Result<Row, String>> = read_all(root, &stale);
        let (mut rows, mut stamps, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
        for (path, stamp) in &found {
            let row = match fresh.remove(path) {
                Some(Ok(row)) => row,
                Some(Err(why)) => {
                    damaged.push((path.clone(), why));
                    continue;
                }
                None => old[&(shown(path), stamp.clone())].clone(),
            };
            rows.push(row);
            stamps.push(stamp.clone());
        }
        let runs = framed(&rows)?;
        let index = index::Index { frame: runs, stamps };
        if root.is_dir() {
            index::store(root, &index);
        }
        Ok(Self { root: root.to_owned(), runs: index.frame, damaged, read_anew })
    }

    /// The folder of all runs.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// One row per run, by folder.
    pub fn runs(&self) -> &Frame {
        &self.runs
    }

    /// Folders that hold a run that cannot be read, and why.
    pub fn damaged(&self) -> &[(PathBuf, String)] {
        &self.damaged
    }

    /// How many folders had changed since the last reading.
    pub fn read_anew(&self) -> usize {
        self.read_anew
    }

    /// The runs with one of these values in a column of texts, such as `key` or `meaning`.
    pub fn having(&self, column: &str, values: &BTreeSet<String>) -> Result<Frame, TableError> {
        let texts = self.runs.texts(column).unwrap_or_else(|| vec![String::new(); self.runs.len()]);
        let marks: Vec<bool> = texts.iter().map(|t| values.contains(t)).collect();
        self.runs.marked(&marks)
    }

    /// The runs of a node: by its name, or as points of the sweep of that name.
    pub fn of_node(&self, node: &str) -> Result<Frame, TableError> {
        let mut marks = vec![false; self.runs.len()];
        for column in ["name", "sweep"] {
            let texts = self.runs.texts(column).unwrap_or_default();
            for (mark, text) in marks.iter_mut().zip(texts) {
                *mark |= text == node;
            }
        }
        self.runs.marked(&marks)
    }

    /// One row per step of every run: `name`, `key`, `folder`, `step`, then those columns of the metrics that are `wanted`.
    pub fn metrics(&self, wanted: &dyn Fn(&str) -> bool) -> Result<Frame, TableError> {
        let texts = |column: &str| self.runs.texts(column).unwrap_or_default();
        let mut parts = Vec::new();
        for ((name, key), folder) in texts("name").iter().zip(texts("key")).zip(texts("folder")) {
            let names =
                [("name", name.as_str()), ("key", key.as_str()), ("folder", folder.as_str())];
            parts.push(steps::steps(&self.root.join(&folder), &names, wanted)?);
        }
        steps::below(parts)
    }
}

/// What the column `meaning` has for the canonical text of a node.
pub fn meaning_hash(meaning: &str) -> String {
    blake3::hash(meaning.as_bytes()).to_hex()[..16].to_owned()
}

/// Rows as a table with the columns in their order. The columns that every run has are there even if no run is.
fn framed(rows: &[Row]) -> Result<Frame, TableError> {
    let kind = |name: &str| if TEXTS.contains(&name) { Kind::Text } else { Kind::Any };
    let mut names: Vec<&str> = COLUMNS.iter().map(|c| c.name).collect();
    let mut others: Vec<&str> = rows.iter().flat_map(Row::keys).map(String::as_str).collect();
    others.sort_unstable();
    others.dedup();
    names.extend(others.into_iter().filter(|n| !COLUMNS.iter().any(|c| c.name == *n)));
    let first: Vec<(&str, Kind)> = names.into_iter().map(|name| (name, kind(name))).collect();
    Frame::with_columns(rows, &first)
}

/// Reads folders on all cores.
fn read_all<'a>(
    root: &Path,
    stale: &[&'a (PathBuf, String)],
) -> BTreeMap<&'a PathBuf, Result<Row, String>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let chunk = stale.len().div_ceil(threads).max(16);
    std::thread::scope(|scope| {
        let parts: Vec<_> = stale
            .chunks(chunk)
            .map(|part| {
                scope.spawn(move || {
                    part.iter().map(|(path, _)| (path, folder::row(root, path))).collect::<Vec<_>>()
                })
            })
            .collect();
        let read = parts.into_iter().flat_map(|part| part.join().unwrap_or_default());
        read.collect()
    })
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
