//! `cs336c status`: all runs and how they stand.

use std::path::Path;

use cs336_lab::rundir::{self, Listed, Status};
use cs336_lab::{Exit, LabError};
use serde_json::{Value, json};

use crate::render::Style;

pub(crate) fn status(style: Style, root: &Path) -> Result<Exit, LabError> {
    let listed = rundir::list(root)?;
    warn(style, &listed);
    let runs = listed.runs;
    if runs.is_empty() && !style.json {
        crate::print(&format!("no runs in `{}`", root.display()));
    }
    for (path, manifest) in runs {
        let status = rundir::status(&path)?;
        let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        if style.json {
            let (state, step, result) = match &status {
                Status::New => ("new", json!(0), Value::Null),
                Status::Incomplete { step } => ("incomplete", json!(step), Value::Null),
                Status::Failed { step, .. } => ("failed", json!(step), Value::Null),
                Status::Stopped { step, .. } => ("stopped", json!(step), Value::Null),
                Status::Done { result } => ("done", result["step"].clone(), result.clone()),
            };
            crate::print(
                &json!({ "kind": "run", "path": path.display().to_string(),
                "name": manifest.name, "key": manifest.key, "state": state, "step": step,
                "result": result })
                .to_string(),
            );
            continue;
        }
        let text = match &status {
            Status::New => "empty".to_owned(),
            Status::Incomplete { step } => format!("incomplete, checkpoint at step {step}"),
            Status::Failed { step, code, why } => {
                format!("failed [{code}] {why}; checkpoint at step {step}")
            }
            Status::Stopped { step, at } => {
                format!("stopped at rung {}, checkpoint at step {step}", at.rung)
            }
            Status::Done { result } => {
                let figure =
                    |name: &str| Some(format!("  {name} {:.4}", result.get(name)?.as_f64()?));
                let names = ["loss", "valid_loss", "perplexity", "bits_per_byte"];
                let figures: String = names.into_iter().filter_map(figure).collect();
                format!("done, {} steps{figures}", result["step"])
            }
        };
        crate::print(&format!("{shown:<32} {text}"));
    }
    Ok(Exit::Ok)
}

/// Says which runs cannot be read; the others are shown all the same.
pub(crate) fn warn(style: Style, listed: &Listed) {
    for error in &listed.damaged {
        crate::tell(style, &style.error(error));
    }
}
