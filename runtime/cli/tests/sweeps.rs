//! Sweeps as scripts see them: killed without warning, with points that fail, dearer than they may be.

mod place;

use std::process::Stdio;
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

use place::Place;

#[test]
fn a_sweep_that_is_killed_three_times_leaves_the_ledger_of_an_undisturbed_one() {
    let place = Place::new(PROGRAM);
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
    let place = Place::new(PROGRAM);
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
    let place = Place::new(PROGRAM);
    let (exit, text) = place.run(&["run", "a.cs336", "rates", "--set", "rates.total=1e9 FLOPs"]);
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("E0501") && text.contains("the dearest points"), "{text}");
    assert!(!place.0.path().join("runs").exists());
}
