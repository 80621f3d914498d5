//! Searches as scripts see them: the same points at any number of jobs, after any kill, and what the best one is told to the rest of the program.

mod place;

use std::process::Stdio;
use std::time::Duration;

const PROGRAM: &str = r#"
use std.models { llama }

data tales = stories(count = 60, seed = 7) |> holdout(valid = 10%)
tokenizer bytes { kind = bytes }
model tiny = llama(layers = 1, d = 16, heads = 2, ff = 32, vocab = bytes.vocab, tied = true)

train small {
  model     = tiny
  data      = tales |> encode(bytes) |> pack(seq = 32)
  optimizer = adamw(lr = cosine(peak = 1e-2))
  batch     = 256 tokens
  budget    = 24 steps
  eval { every = 100 steps, on = tales.valid, report = [loss] }
  save { every = 7 steps, keep = 2 }
}

sweep rates {
  for peak in log_uniform(1e-5, 1)
  for warm in [2, 10]%
  run = small with { optimizer.lr.peak = peak, optimizer.lr.warmup = warm }
  search = tpe(minimize = .valid_loss, points = 14, startup = 6, batch = 4, seed = 5)
  total = 14 * small.flops
}

sweep pruned {
  for peak in log_uniform(1e-5, 1)
  run = small with { optimizer.lr.peak = peak }
  search = tpe(minimize = .valid_loss, points = 14, startup = 6, batch = 4, seed = 6)
  stop = halving(keep = 1 / 2, rungs = [small.flops / 3])
}

sweep chance {
  for peak in log_uniform(1e-5, 1), for seed in 0..1
  run = small with { optimizer.lr.peak = peak, seed = seed }
  search = random(5)
}

train longer = small with { budget = 30 steps, optimizer.lr.peak = rates.best.peak, optimizer.lr.warmup = rates.best.warm }
train tuned = small with { budget = 10 steps, init = rates.best.final }
"#;

use place::Place;

impl Place {
    /// The one run that a question gives.
    fn row(&self, question: &str) -> serde_json::Value {
        let (_, text) = self.run(&["query", question, "--file", "a.cs336", "--format", "json"]);
        let rows: serde_json::Value = serde_json::from_str(&text).expect("json");
        assert_eq!(rows.as_array().map(Vec::len), Some(1), "{text}");
        rows[0].clone()
    }

    /// What was learned on the way is forgotten: only the runs are left.
    fn forget(&self) {
        std::fs::remove_dir_all(self.0.path().join("cache/facts")).expect("facts were learned");
    }
}

#[test]
fn a_search_draws_the_same_points_at_any_number_of_jobs_and_after_kills() {
    let place = Place::new(PROGRAM);
    let (exit, text) = place.run(&["plan", "a.cs336", "rates"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("0 of 14 points done") && text.contains("and 8 more points"), "{text}");
    for sweep in ["rates", "pruned"] {
        let (exit, text) =
            place.run(&["run", "a.cs336", sweep, "--runs", "whole", "--threads", "2"]);
        assert_eq!(exit, Some(0), "{text}");
        let whole = place.ledger(&format!("whole/{sweep}"));
        assert_eq!(whole.len(), 14);
        place.forget();
        for pause in [400, 300, 350] {
            let mut child = place
                .command(&["run", "a.cs336", sweep, "--runs", "killed", "--threads", "2"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("started");
            std::thread::sleep(Duration::from_millis(pause));
            child.kill().ok();
            child.wait().expect("ended");
        }
        std::fs::remove_dir_all(place.0.path().join("cache/facts")).ok();
        let (exit, text) =
            place.run(&["run", "a.cs336", sweep, "--runs", "killed", "--threads", "1"]);
        assert_eq!(exit, Some(0), "{text}");
        assert_eq!(place.ledger(&format!("killed/{sweep}")), whole);
        // The runs alone are enough to find the way again.
        place.forget();
        let (exit, text) = place.run(&["run", "a.cs336", sweep, "--runs", "killed"]);
        assert_eq!(exit, Some(0), "{text}");
        assert!(!text.contains("starts") && !text.contains("goes on"), "{text}");
    }
    let (_, text) = place.run(&["plan", "a.cs336", "pruned", "--runs", "whole"]);
    // 3 of 6, 2 of 4 and 2 of 4 go to their ends.
    assert!(text.contains("7 of 14 points done, 7 stopped early"), "{text}");
}

#[test]
fn the_best_point_is_told_to_the_rest_of_the_program() {
    let place = Place::new(PROGRAM);
    let (exit, text) = place.run(&["check", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("longer   known after `rates`"), "{text}");
    let (exit, text) = place.run(&["run", "a.cs336", "longer", "tuned"]);
    assert_eq!(exit, Some(0), "{text}");
    let best = place.row("rates |> sort_by(.valid_loss) |> take(1)");
    let (longer, tuned) = (place.row("longer"), place.row("tuned"));
    assert_eq!(longer["lr"], best["lr"], "{longer} {best}");
    // It began with the best run's weights.
    let loss = |row: &serde_json::Value| row["valid_loss"].as_f64().expect("measured");
    assert!(loss(&tuned) < loss(&best) + 0.2, "{tuned} {best}");
}

#[test]
fn a_search_by_chance_knows_all_its_points_before() {
    let place = Place::new(PROGRAM);
    let (exit, text) = place.run(&["plan", "a.cs336", "chance"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("chance/04") && !text.contains("more points"), "{text}");
    let (_, again) = place.run(&["plan", "a.cs336", "chance"]);
    assert_eq!(text, again);
}
