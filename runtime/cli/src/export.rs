//! `cs336c export tensorboard`: metrics of runs as event files.

use std::path::{Path, PathBuf};

use cs336_lab::ledger::find;
use cs336_lab::rundir::{self, Manifest, Status};
use cs336_lab::{Exit, LabError};
use cs336_table::tensorboard::{events, file_name};
use serde_json::json;

use crate::query::shown;
use crate::render::Style;

pub(crate) fn tensorboard(
    style: Style,
    root: &Path,
    runs: &[String],
    out: &Path,
) -> Result<Exit, LabError> {
    let chosen: Vec<(PathBuf, Manifest)> = if runs.is_empty() {
        let listed = rundir::list(root)?;
        crate::status::warn(style, &listed);
        listed.runs
    } else {
        runs.iter().map(|text| find(root, text)).collect::<Result<_, _>>()?
    };
    let mut exit = Exit::Ok;
    for (path, manifest) in chosen {
        // A run that cannot be read is named; the others are exported all the same.
        let rows = match cs336_table::read(&path.join("metrics.jsonl")) {
            Ok(rows) => rows,
            Err(error) => {
                crate::tell(style, &style.error(&LabError::from(error)));
                exit = Exit::Failed;
                continue;
            }
        };
        // Metrics hold no times. A finished run says how long it took; its steps took about equally long.
        let seconds = match rundir::status(&path)? {
            Status::Done { result } => result["seconds"].as_f64().unwrap_or(0.0),
            _ => 0.0,
        };
        let last = rows.last().map_or(1, |row| row.step.max(1)) as f64;
        let begun = manifest.created as f64;
        let bytes = events(&rows, &|step| begun + seconds * step as f64 / last);
        let folder = out.join(shown(root, &path));
        let file = folder.join(file_name(manifest.created));
        let failed = |source| LabError::write(&file, source);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        std::fs::write(&file, bytes).map_err(failed)?;
        if style.json {
            let value = json!({ "kind": "export", "run": manifest.name, "steps": rows.len(),
                "file": file.display().to_string() });
            crate::print(&value.to_string());
        } else {
            crate::print(&format!("{}: {} steps", file.display(), rows.len()));
        }
    }
    Ok(exit)
}
