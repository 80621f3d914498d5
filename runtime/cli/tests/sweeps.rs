//! Sweeps as scripts see them: killed without warning, with points that fail, dearer than they may be.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const PROGRAM: &str = r#"
use std.models { llama }

data tales = stories(count = 80, seed = 7) |> holdout(valid = 10%)
tokenizer bytes { kind = bytes }
model tiny = llama(layers = 1, d = 16, heads = 2, ff = 32, vocab = bytes.vocab, tied = true)

train small {
  model     = tiny
  data      = tales |> encode(bytes) |> pack(seq = 32)
  optimizer = adamw(lr = cosine(peak = 1e-2))
  batch     = 512 tokens
  budget    = 100 steps
  eval { every = 50 steps, on = tales.valid, report = [loss] }
  save { every = 7 steps, keep = 2 }
}

sweep rates {
  for n in [200, 300, 200], for seed in 0..1
  run = small with { budget = n * 1 steps, seed = seed }
  total = 1e12 FLOPs
}

sweep wild {
  for peak in [1e-2, 1e30]
  run = small with { optimizer.lr.peak = peak }
}
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("a.cs336"), PROGRAM).expect("written");
        Self(folder)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cs336c"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("CS336C_CACHE", self.0.path().join("cache"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.command(arguments).output().expect("the command starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).expect("text"))
    }

    /// What the runs of a sweep are and gave, but for times.
    fn ledger(&self, folder: &str) -> BTreeMap<String, String> {
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
                (name, read(&path.join("metrics.jsonl")) + &lasting)
            })
            .collect()
    }
}

#[test]
fn a_sweep_that_is_killed_three_times_leaves_the_ledger_of_an_undisturbed_one() {
    let place = Place::new();
    let (exit, text) = place.run(&["run", "a.cs336", "rates", "--runs", "whole", "--threads", "2"]);
    assert_eq!(exit, Some(0), "{text}");
    for pause in [900, 500, 700] {
        let mut child = place
            .command(&["run", "a.cs336", "rates", "--runs", "killed", "--threads", "2"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        std::thread::sleep(Duration::from_millis(pause));
        child.kill().ok();
        child.wait().expect("ended");
    }
    let (exit, text) =
        place.run(&["run", "a.cs336", "rates", "--runs", "killed", "--threads", "1"]);
    assert_eq!(exit, Some(0), "{text}");
    let whole = place.ledger("whole/rates");
    // Two of the six points mean what others mean: they run once.
    assert_eq!(whole.len(), 4);
    assert_eq!(place.ledger("killed/rates"), whole);
    // Nothing is left to do.
    let (exit, text) = place.run(&["run", "a.cs336", "rates", "--runs", "killed"]);
    assert_eq!(exit, Some(0), "{text}");
    assert_eq!(text.matches("is there already").count(), 4, "{text}");
}

#[test]
fn a_point_that_fails_does_not_stop_the_others_and_is_tried_again_on_request() {
    let place = Place::new();
    let (exit, text) = place.run(&["run", "a.cs336", "wild"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("wild/01: failed [E0853]"), "{text}");
    assert!(text.contains("wild/00: done"), "{text}");
    let (_, text) = place.run(&["status"]);
    assert!(text.contains("failed [E0853]"), "{text}");
    let (exit, text) = place.run(&["run", "a.cs336", "wild"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(!text.contains("wild/01: starts"), "{text}");
    let (exit, text) = place.run(&["run", "a.cs336", "wild", "--retry", "failed"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("wild/01: starts"), "{text}");
    let (_, text) = place.run(&["plan", "a.cs336", "wild"]);
    assert!(text.contains("1 of 2 points done"), "{text}");
}

#[test]
fn a_sweep_that_costs_more_than_it_may_is_refused_before_anything_runs() {
    let place = Place::new();
    let (exit, text) = place.run(&["run", "a.cs336", "rates", "--set", "rates.total=1e9 FLOPs"]);
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("E0501") && text.contains("the dearest points"), "{text}");
    assert!(!place.0.path().join("runs").exists());
}
