//! Every sample program reads without a problem.

use std::path::{Path, PathBuf};

use super::read;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/programs")
}

/// Name and text of every sample program.
pub(super) fn all() -> Vec<(String, String)> {
    let mut programs = Vec::new();
    for folder in [folder(), folder().join("reach")] {
        let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
            .expect("the sample programs are part of the repository")
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "cs336"))
            .collect();
        paths.sort();
        for path in paths {
            let text = std::fs::read_to_string(&path).expect("a sample program is text");
            programs.push((path.display().to_string(), text));
        }
    }
    programs
}

#[test]
fn all_sample_programs_read() {
    let programs = all();
    assert!(programs.len() >= 17);
    for (name, text) in programs {
        let (file, problems) = read(&text);
        assert_eq!(problems, Vec::<String>::new(), "in {name}");
        assert!(!file.items.is_empty());
    }
}
