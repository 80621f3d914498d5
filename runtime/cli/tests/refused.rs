//! What is only seen once a run is begun, and slips of the pen on the command line: each is said with its place, before anything is made.

mod place;

use place::Place;

const PROGRAM: &str = r#"
use std.layers { Embedding, Linear }
use std.models { llama }

data tales = stories(count = 80, seed = 7) |> holdout(valid = 10%)
tokenizer letters { kind = characters, corpus = tales.train }
model tiny = llama(layers = 1, d = 16, heads = 2, ff = 32, vocab = letters.vocab, tied = true)

train small {
  model     = tiny
  data      = tales |> encode(letters) |> pack(seq = 32)
  optimizer = adamw(lr = cosine(peak = 1e-2))
  batch     = 512 tokens
  budget    = 4 steps
}
train short = small with { model.vocab = 20 }
train gone = small with { model.vocab = 64, data = files("nowhere/*.txt") |> encode(letters) |> pack(seq = 32) }
train asked = small with {
  sample { every = 2 steps, prompt = "One ☃" }
}

model rooted(vocab: Int) {
  axes = { d = 16, vocab = vocab }
  embed = Embedding[vocab, d]
  head = Linear[d, vocab]
  forward(ids: [seq]) -> [seq, vocab] {
    let h = embed(ids)
    head(h + sqrt(h))
  }
}
train hollow = small with { model = rooted(letters.vocab) }
"#;

#[test]
fn a_vocabulary_that_turns_out_too_small_is_refused_before_the_first_step() {
    let place = Place::new(PROGRAM);
    // How many letters there are is known once the corpus is read.
    assert_eq!(place.run(&["check", "a.cs336"]).0, Some(0));
    let (exit, text) = place.run(&["run", "a.cs336", "short"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("E0424") && text.contains("places for 20 tokens"), "{text}");
    assert!(text.contains("train short = small") && text.contains("letters.vocab"), "{text}");
    assert!(!text.contains("starts"), "{text}");
}

#[test]
fn a_prompt_that_the_tokenizer_cannot_write_is_refused_before_the_first_step() {
    let place = Place::new(PROGRAM);
    let (exit, text) = place.run(&["run", "a.cs336", "asked"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("E0611") && text.contains('\u{2603}'), "{text}");
    assert!(text.contains("train asked = small"), "{text}");
    assert!(!text.contains("starts"), "{text}");
}

#[test]
fn a_plan_names_files_that_are_missing() {
    let place = Place::new(PROGRAM);
    let (_, text) = place.run(&["plan", "a.cs336", "gone"]);
    assert!(text.contains("cannot run: no file matches `nowhere/*.txt`"), "{text}");
    let (exit, text) = place.run(&["run", "a.cs336", "gone"]);
    assert_ne!(exit, Some(0), "{text}");
    assert!(text.contains("E0602") && text.contains("nowhere/*.txt"), "{text}");
}

#[test]
fn a_value_that_is_not_finite_is_shown_at_its_formula() {
    let place = Place::new(PROGRAM);
    let (exit, text) = place.run(&["run", "a.cs336", "hollow"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("E0853") && text.contains("most likely this"), "{text}");
    // Both places are shown: the run, and the root of a number below zero.
    assert!(text.contains("train hollow") && text.contains("head(h + sqrt(h))"), "{text}");
}

#[test]
fn a_constant_at_the_end_of_its_range_is_a_warning() {
    let place = Place::new(
        r#"
data course = csv("t.csv")
fit f { runs = course, law = .loss ~ E + A / .params^alpha, free = { E = 0.1..1, A = 1..1e6, alpha = 0.05..1 } }
"#,
    );
    let loss = |n: f64| 2.0 + 400.0 / n.powf(0.4);
    let rows = (0..12).map(|i| 1e5 * 2f64.powi(i)).map(|n| format!("{n},{}\n", loss(n)));
    let table = format!("params,loss\n{}", rows.collect::<String>());
    std::fs::write(place.0.path().join("t.csv"), table).expect("written");
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("W0712") && text.contains("`E` = 1.0000 at the high end"), "{text}");
}

#[test]
fn numbers_of_threads_and_runs_are_sensible() {
    let place = Place::new(PROGRAM);
    for (option, number) in
        [("--threads", "0"), ("--threads", "100000"), ("--threads", "two"), ("--jobs", "0")]
    {
        let (exit, text) = place.run(&["run", "a.cs336", "small", option, number]);
        assert_eq!(exit, Some(2), "{option} {number}: {text}");
        assert!(text.contains(option), "{text}");
    }
    assert_eq!(place.run(&["run", "a.cs336", "small", "--threads", "1"]).0, Some(0));
}
