//! `cs336c fmt`: programs laid out in the house's way.

use std::path::{Path, PathBuf};

use cs336_compiler::source::{FileId, Sources};
use cs336_compiler::syntax::{format, parse};
use cs336_lab::{Exit, LabError};
use serde_json::json;

use crate::render::Style;

pub(crate) fn fmt(style: Style, files: &[PathBuf], check: bool) -> Result<Exit, LabError> {
    let mut exit = Exit::Ok;
    for path in files {
        let text = std::fs::read_to_string(path).map_err(|source| LabError::read(path, source))?;
        sound(path, &text)?;
        let formatted = format(&text);
        let changes = formatted != text;
        if changes && check {
            exit = Exit::Program;
        } else if changes {
            std::fs::write(path, &formatted).map_err(|source| LabError::write(path, source))?;
        }
        if style.json {
            let value =
                json!({ "kind": "fmt", "file": path.display().to_string(), "changed": changes });
            crate::print(&value.to_string());
        } else if changes {
            let word = if check { "is not formatted" } else { "formatted" };
            crate::print(&format!("{}: {word}", path.display()));
        }
    }
    Ok(exit)
}

/// A file that cannot be read is left alone: what its lines belong to is not certain.
fn sound(path: &Path, text: &str) -> Result<(), LabError> {
    let (_, problems) = parse(FileId(0), text);
    if !problems.has_errors() {
        return Ok(());
    }
    let mut sources = Sources::default();
    sources.add(path.display().to_string(), text, false);
    Err(LabError::Program(Box::new((problems, sources))))
}
