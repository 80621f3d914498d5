//! The real surroundings: clock, environment, files for the checker.

#![allow(clippy::disallowed_methods, reason = "everybody else asks for them here")]

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cs336_compiler::plan::Target;
use cs336_compiler::world::World;
use cs336_lab::Host;
use cs336_lab::facts::Facts;

/// The clock and environment of this process.
#[derive(Debug)]
pub(crate) struct Real {
    started: Instant,
}

impl Real {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now() }
    }
}

impl Host for Real {
    fn seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    fn unix_time(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn free_memory(&self) -> Option<u64> {
        // Only Linux tells it in a file; elsewhere the runs of a sweep are bounded by cores alone.
        let text = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }
}

/// Files of this machine, facts of earlier runs.
#[derive(Debug)]
pub(crate) struct Disk<'a> {
    pub(crate) facts: &'a Facts,
    /// What this machine reached in its calibration, in model FLOPs per second.
    pub(crate) flops_per_second: Option<f64>,
    /// What plans are made for.
    pub(crate) target: Target,
}

impl World for Disk<'_> {
    fn target(&self) -> Target {
        self.target.clone()
    }

    fn read(&self, path: &str, from: Option<&str>) -> Result<(String, String), String> {
        let path = resolve(path, from);
        let shown = path.to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("there is no file `{shown}`"),
            _ => format!("`{shown}` cannot be read: {error}"),
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            format!("`{shown}` is not text: invalid UTF-8 at byte {at}")
        })?;
        Ok((shown, text))
    }

    fn fact(&self, node: &str, field: &str) -> Option<f64> {
        match (node, field) {
            ("machine", "flops_per_second") => self.flops_per_second,
            _ => self.facts.get(node, field),
        }
    }

    fn columns(&self, form: &str, pattern: &str, base: &str) -> Option<Vec<String>> {
        cs336_table::sources::columns(form, pattern, base)
    }
}

/// A path that is written in the file `from` is relative to it.
fn resolve(path: &str, from: Option<&str>) -> PathBuf {
    let folder = from.and_then(|from| Path::new(from).parent()).unwrap_or(Path::new(""));
    folder.join(path.strip_prefix("./").unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_the_file_that_names_them() {
        let path =
            |path: &str, from: Option<&str>| resolve(path, from).to_string_lossy().into_owned();
        assert_eq!(path("a.cs336", None), "a.cs336");
        assert_eq!(path("./tiny.cs336", Some("dir/a.cs336")), "dir/tiny.cs336");
        assert_eq!(path("../b.cs336", Some("dir/a.cs336")), "dir/../b.cs336");
        assert_eq!(path("/abs/b.cs336", Some("dir/a.cs336")), "/abs/b.cs336");
    }
}
