//! Successive halving as scripts see it: the worse points are stopped, their way is kept, and a kill changes nothing.

mod place;

use std::process::Stdio;
use std::time::Duration;

/// A step is about 1.2e7 FLOPs; the rungs lie after 25 and 50 of 100 steps.
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
  eval { every = 40 steps, on = tales.valid, report = [loss] }
  save { every = 7 steps, keep = 2 }
}

sweep rates {
  for peak in [1e-5, 1e-2, 1e-4, 1e-3, 1e30, 3e-3, 1e-6, 3e-2]
  run = small with { optimizer.lr.peak = peak }
  stop = halving(keep = 1 / 2, rungs = [small.flops / 4, small.flops / 2])
  total = 5 * small.flops
}
"#;

use place::Place;

fn steps(row: &str) -> usize {
    row.lines().filter(|line| line.starts_with("{\"step\"")).count()
}

#[test]
fn the_worse_half_stops_at_each_rung_and_a_kill_changes_nothing() {
    let place = Place::new(PROGRAM);
    let (exit, text) = place.run(&["plan", "a.cs336", "rates"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(
        text.contains("rung 1: 8 points to ") && text.contains("then 2 points to the end"),
        "{text}"
    );
    let (exit, text) = place.run(&["run", "a.cs336", "rates", "--runs", "whole", "--threads", "2"]);
    // One point is not finite; the others do not mind.
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("rates/04: failed [E0853]"), "{text}");
    let whole = place.ledger("whole/rates");
    let went: Vec<usize> = whole.values().map(|row| steps(row)).collect();
    assert_eq!(whole.len(), 8);
    // 8 begin, one of them fails; 4 go on from the first rung, 2 from the second.
    assert_eq!(went.iter().filter(|n| **n == 100).count(), 2, "{went:?}");
    assert_eq!(went.iter().filter(|n| **n == 50).count(), 2, "{went:?}");
    assert_eq!(went.iter().filter(|n| **n == 25).count(), 3, "{went:?}");
    assert_eq!(text.matches("stopped at rung 1").count(), 3, "{text}");
    assert_eq!(text.matches("stopped at rung 2").count(), 2, "{text}");

    // Those that were stopped have their sizes in the ledger too.
    let question = "rates |> keep(.status == \"stopped\" and .params > 0 and .peak > 0)";
    let asked = ["query", question, "--file", "a.cs336", "--runs", "whole", "--format", "csv"];
    let (exit, text) = place.run(&asked);
    assert_eq!((exit, text.lines().count()), (Some(0), 6), "{text}");

    for pause in [700, 500, 400, 600] {
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
    assert_eq!(exit, Some(4), "{text}");
    assert_eq!(place.ledger("killed/rates"), whole);

    // Nothing is left to do, and nobody is stopped again.
    let (_, text) = place.run(&["run", "a.cs336", "rates", "--runs", "killed"]);
    assert!(!text.contains("stopped at") && !text.contains("starts"), "{text}");
    assert_eq!(place.ledger("killed/rates"), whole);
    let (_, text) = place.run(&["plan", "a.cs336", "rates", "--runs", "whole"]);
    assert!(text.contains("2 of 8 points done, 5 stopped early"), "{text}");
    let (_, text) = place.run(&["status", "--runs", "whole"]);
    assert!(text.contains("stopped at rung 2, checkpoint at step 50"), "{text}");
}

#[test]
fn the_stretches_between_rungs_may_cost_no_more_than_the_total() {
    let place = Place::new(PROGRAM);
    // 8 x 25 + 4 x 25 + 2 x 50 steps are those of four runs.
    let (exit, text) = place.run(&["check", "a.cs336", "--set", "rates.total=3.9 * small.flops"]);
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("E0501"), "{text}");
    let (exit, text) = place.run(&["check", "a.cs336", "--set", "rates.total=4 * small.flops"]);
    assert_eq!(exit, Some(0), "{text}");
}
