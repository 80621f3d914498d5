//! A folder with the program `a.cs336`, where the command is run as a script would: every test of the command has one of its own.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The folder; it goes when this goes.
pub(crate) struct Place(pub(crate) tempfile::TempDir);

impl Place {
    pub(crate) fn new(program: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("a.cs336"), program).expect("written");
        Self(folder)
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cs336c"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("CS336C_CACHE", self.0.path().join("cache"))
            .env("TRAINING_KEY", "open sesame")
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
        command
    }

    /// The status, standard output and standard error.
    pub(crate) fn apart(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } =
            self.command(arguments).output().expect("the command starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (status.code(), text(stdout), text(stderr))
    }

    /// The status, and all that was printed.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let (code, out, err) = self.apart(arguments);
        (code, out + &err)
    }

    /// The rows that a question gives.
    pub(crate) fn rows(&self, question: &str) -> Vec<Value> {
        let (_, text) = self.run(&["query", question, "--file", "a.cs336", "--format", "json"]);
        serde_json::from_str(&text).expect("json")
    }

    /// What the runs of a sweep are and gave, but for times: metrics, results, and where they were stopped.
    pub(crate) fn ledger(&self, folder: &str) -> BTreeMap<String, String> {
        let folder = self.0.path().join(folder);
        let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
        std::fs::read_dir(folder)
            .expect("there are runs")
            .map(|entry| {
                let path = entry.expect("listed").path();
                let result = read(&path.join("result.json"));
                let lasting: String =
                    result.lines().filter(|line| !line.contains("\"seconds\"")).collect();
                let name = path.file_name().expect("named").to_string_lossy().into_owned();
                let stopped = read(&path.join("stopped.json"));
                (name, read(&path.join("metrics.jsonl")) + &lasting + &stopped)
            })
            .collect()
    }
}
