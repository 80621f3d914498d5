//! One run's folder as a row: what its manifest, its result and its metrics say.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use cs336_compiler::row::interp::{Cell, Row};
use serde_json::{Map, Value};

use super::settings::settings;
use crate::rows::read;

/// Files whose change changes the row.
const WATCHED: &[&str] = &["manifest.json", "result.json", "failure.json", "stopped.json"];

/// The folders of runs under `root`, sorted, each with a stamp that changes when the row may. A missing root has none.
pub(super) fn folders(root: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let (mut found, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        if let Some(stamp) = stamp(&folder) {
            found.push((folder, stamp));
            continue;
        }
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// `None`: this is no run.
fn stamp(folder: &Path) -> Option<String> {
    let part = |meta: &Metadata| {
        let since = meta.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        format!("{}:{};", since.map_or(0, |s| s.as_nanos()), meta.len())
    };
    let manifest = std::fs::metadata(folder.join(WATCHED[0])).ok()?;
    let mut stamp = part(&manifest);
    let mut finished = false;
    for name in &WATCHED[1..] {
        let meta = std::fs::metadata(folder.join(name)).ok();
        finished |= meta.is_some() && *name == "result.json";
        stamp += &meta.as_ref().map_or_else(|| ";".to_owned(), part);
    }
    if !finished {
        // Rows are added as long as it runs.
        let meta = std::fs::metadata(folder.join("metrics.jsonl")).ok();
        stamp += &meta.as_ref().map_or_else(|| ";".to_owned(), part);
    }
    Some(stamp)
}

/// The row of a run; `Err` is one sentence that says what is damaged.
pub(super) fn row(root: &Path, folder: &Path) -> Result<Row, String> {
    let manifest = json(&folder.join("manifest.json"))?.ok_or("it has no manifest")?;
    let text = |value: Option<&Value>| {
        value.and_then(Value::as_str).map_or(Cell::Null, |t| Cell::Text(t.to_owned()))
    };
    let mut row = Row::new();
    let shown = folder.strip_prefix(root).unwrap_or(folder).display().to_string();
    row.insert("folder".to_owned(), Cell::Text(shown));
    let name = manifest.get("name").and_then(Value::as_str).ok_or("its manifest has no name")?;
    row.insert("name".to_owned(), Cell::Text(name.to_owned()));
    row.insert("key".to_owned(), text(manifest.get("key")));
    let sweep = name.rsplit_once('/').map_or(Cell::Null, |(s, _)| Cell::Text(s.to_owned()));
    row.insert("sweep".to_owned(), sweep);
    row.insert("status".to_owned(), Cell::Null);
    let inputs = manifest.get("inputs");
    if let Some(meaning) = inputs.and_then(|i| i.get("meaning")).and_then(Value::as_str) {
        row.insert("meaning".to_owned(), Cell::Text(super::meaning_hash(meaning)));
        row.extend(settings(meaning));
    }
    if let Some(seed) = manifest.get("seeds").and_then(|s| s.get("order")).and_then(Value::as_f64) {
        row.insert("seed".to_owned(), Cell::Number(seed));
    }
    row.insert("machine".to_owned(), machine(manifest.get("machine")));
    if let Some(created) = manifest.get("created").and_then(Value::as_f64) {
        row.insert("created".to_owned(), Cell::Number(created));
    }
    // What the laboratory says about the run beside its settings: values of `for` names, facts of its data.
    if let Some(columns) = manifest.get("columns").and_then(Value::as_object) {
        put_all(&mut row, columns);
    }
    let status = match (json(&folder.join("result.json"))?, json(&folder.join("failure.json"))?) {
        (Some(result), _) => {
            put_all(&mut row, &result);
            "done"
        }
        (None, failure) => {
            let metrics = read(&folder.join("metrics.jsonl")).map_err(|e| e.to_string())?;
            if let Some(last) = metrics.last() {
                row.insert("step".to_owned(), Cell::Number(last.step as f64));
                for (column, value) in last.values() {
                    // The rate of a step is not the setting of the run.
                    if column != "lr" && column != "share" {
                        row.insert(column.to_owned(), Cell::Number(value));
                    }
                }
            }
            let stopped = json(&folder.join("stopped.json"))?;
            if let Some(failure) = failure {
                row.insert("failure".to_owned(), text(failure.get("code")));
                "failed"
            } else if let Some(stopped) = stopped {
                if let Some(rung) = stopped.get("rung").and_then(Value::as_f64) {
                    row.insert("rung".to_owned(), Cell::Number(rung));
                }
                "stopped"
            } else {
                "incomplete"
            }
        }
    };
    row.insert("status".to_owned(), Cell::Text(status.to_owned()));
    derived(&mut row);
    Ok(row)
}

/// Columns that follow from others.
fn derived(row: &mut Row) {
    let number = |row: &Row, name: &str| row.get(name).and_then(Cell::number);
    if let (Some(tokens), Some(data)) = (number(row, "tokens"), number(row, "data_tokens")) {
        row.insert("unique_tokens".to_owned(), Cell::Number(tokens.min(data)));
        row.insert("epochs".to_owned(), Cell::Number(tokens / data));
    }
}

fn put_all(row: &mut Row, object: &Map<String, Value>) {
    for (name, value) in object.iter().filter(|(name, _)| *name != "version") {
        let cell = match value {
            // JSON has no NaN: where a figure is null, it was not finite.
            Value::Null => Cell::Number(f64::NAN),
            Value::Bool(b) => Cell::Bool(*b),
            Value::Number(n) => Cell::Number(n.as_f64().unwrap_or(f64::NAN)),
            Value::String(t) => Cell::Text(t.clone()),
            Value::Array(_) | Value::Object(_) => continue,
        };
        row.insert(name.clone(), cell);
    }
}

fn machine(value: Option<&Value>) -> Cell {
    let Some(machine) = value.and_then(Value::as_object) else { return Cell::Null };
    let part = |name: &str| machine.get(name).and_then(Value::as_str).unwrap_or_default();
    let threads = machine.get("threads").and_then(Value::as_u64).unwrap_or(0);
    Cell::Text(format!("{} {}, {threads} threads", part("os"), part("arch")))
}

fn json(path: &Path) -> Result<Option<Map<String, Value>>, String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    serde_json::from_slice(&bytes).map(Some).map_err(|error| format!("`{name}`: {error}"))
}
