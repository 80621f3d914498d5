//! What is kept between commands: runs of other files, weights that others begin with, figures of a text, and files that were damaged.

mod place;

use std::path::{Path, PathBuf};

use place::Place;

const PROGRAM: &str = r#"
use std.models { llama }

data tales = stories(count = 80, seed = 7) |> holdout(valid = 10%)
data fables = stories(count = 40, seed = 8) |> holdout(valid = 50%)
tokenizer bytes { kind = bytes }
model tiny = llama(layers = 1, d = 16, heads = 2, ff = 32, vocab = bytes.vocab, tied = true)

train small {
  model     = tiny
  data      = tales |> encode(bytes) |> pack(seq = 32)
  optimizer = adamw(lr = cosine(peak = 1e-2))
  batch     = 512 tokens
  budget    = 20 steps
  eval { every = 10 steps, on = tales.valid, report = [loss] }
  save { every = 5 steps, keep = 2 }
}
train more = small with { init = small.final, seed = 2 }
sweep rates { for peak in [1e-3, 1e-2], run = small with { optimizer.lr.peak = peak } }
sweep seeds { for seed in [5, 6], run = small with { init = small.final, seed = seed } }
"#;

/// The folder of the run of a node.
fn folder(place: &Place, node: &str) -> PathBuf {
    let runs = std::fs::read_dir(place.0.path().join("runs")).expect("there are runs");
    let named = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.rsplit_once('-').is_some_and(|(name, _)| name == node)
    };
    runs.map(|entry| entry.expect("listed").path()).find(named).expect("the run is there")
}

fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("read");
    let middle = bytes.len() / 2;
    bytes.truncate(middle);
    std::fs::write(file, bytes).expect("written");
}

#[test]
fn what_a_program_needs_of_another_file_is_run() {
    let place = Place::new(PROGRAM);
    let put = |text: &str| std::fs::write(place.0.path().join("b.cs336"), text).expect("written");
    put(
        "use \"./a.cs336\" { small }\nreport r { title = \"R\", text \"It is {small.valid_loss}.\", export = markdown }\n",
    );
    let (exit, text) = place.run(&["plan", "b.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("small") && text.contains("20 steps"), "{text}");
    assert!(!text.contains("to do: 0 FLOPs"), "{text}");
    let (exit, text) = place.run(&["run", "b.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("small: done"), "{text}");
    let page = std::fs::read_to_string(place.0.path().join("runs/r/report.md")).expect("written");
    assert!(!page.contains("known after") && page.contains("It is "), "{page}");

    put("use \"./a.cs336\" { small }\ntrain last = small with { init = small.final, seed = 2 }\n");
    let (exit, text) = place.run(&["run", "b.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    // It is the run that the other file has too.
    assert!(text.contains("last: done") && !text.contains("small: starts"), "{text}");
    let (exit, text) = place.run(&["run", "a.cs336", "more"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(!text.contains("starts"), "{text}");

    put(
        "use \"./a.cs336\" { small, rates }\ntrain last = small with { init = rates.best.final, seed = 3 }\n",
    );
    let (exit, text) = place.run(&["run", "b.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("rates/00: done") && text.contains("last: done"), "{text}");
}

#[test]
fn the_points_of_a_sweep_may_begin_with_weights() {
    let place = Place::new(PROGRAM);
    let (exit, text) = place.run(&["run", "a.cs336", "seeds"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("seeds/00: done") && text.contains("seeds/01: done"), "{text}");
    let (exit, text) = place.run(&["plan", "a.cs336", "seeds"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("2 of 2 points done"), "{text}");
}

#[test]
fn an_earlier_checkpoint_is_not_taken_for_the_last_one() {
    let place = Place::new(PROGRAM);
    let (exit, text) = place.run(&["run", "a.cs336", "small"]);
    assert_eq!(exit, Some(0), "{text}");
    let small = folder(&place, "small");
    damage(&small.join("checkpoints/00000020/weights.safetensors"));
    let (exit, text) = place.run(&["run", "a.cs336", "more"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("E0851") && text.contains("goes on from step 15"), "{text}");
    // What the help says leads out.
    std::fs::remove_file(small.join("result.json")).expect("removed");
    let (exit, text) = place.run(&["run", "a.cs336", "more"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("small: goes on from step 15") && text.contains("more: done"), "{text}");

    // A run that is done needs the weights no more.
    for step in ["00000015", "00000020"] {
        damage(&small.join("checkpoints").join(step).join("weights.safetensors"));
    }
    let (exit, text) = place.run(&["run", "a.cs336", "more"]);
    assert_eq!(exit, Some(0), "{text}");
    let (exit, text) = place.run(&["run", "a.cs336", "more", "--set", "more.seed=3"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("begins anew"), "{text}");
}

#[test]
fn figures_are_of_the_text_that_the_program_names() {
    let place = Place::new(PROGRAM);
    let first = place.run(&["run", "a.cs336", "small"]).1;
    let (exit, text) =
        place.run(&["run", "a.cs336", "small", "--set", "small.eval.on=fables.valid"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(text.contains("small: done"), "{text}");
    let figure = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("small: done")).map(str::to_owned);
        line.and_then(|line| Some(line.split_once("valid_loss ")?.1.to_owned()))
    };
    assert!(figure(&first).is_some() && figure(&first) != figure(&text), "{first}{text}");
    // Both are kept, and what is shown or how often is no other run.
    for set in ["small.eval.report=[loss, perplexity]", "small.eval.every=7 steps"] {
        let (_, text) = place.run(&["run", "a.cs336", "small", "--set", set]);
        assert!(!text.contains("starts"), "{text}");
    }
    let (_, text) = place.run(&["run", "a.cs336", "small", "--set", "small.eval.on=fables.valid"]);
    assert!(!text.contains("starts"), "{text}");
}

#[test]
fn a_damaged_manifest_is_named_and_stops_nothing() {
    let place = Place::new(PROGRAM);
    let (exit, text) = place.run(&["run", "a.cs336", "small", "more"]);
    assert_eq!(exit, Some(0), "{text}");
    let small = folder(&place, "small");
    damage(&small.join("manifest.json"));
    for command in [&["status"][..], &["export", "tensorboard", "--out", "events"]] {
        let (exit, text) = place.run(command);
        assert_eq!(exit, Some(0), "{text}");
        assert!(text.contains("E0856") && text.contains("small-"), "{text}");
        assert!(text.contains("more-"), "{text}");
    }
    let (exit, text) = place.run(&["plan", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    // Metrics that cannot be read are missed by the export, which goes on with the next run.
    let metrics = folder(&place, "more").join("metrics.jsonl");
    let sound = std::fs::read(&metrics).expect("read");
    std::fs::write(&metrics, b"{\"step\": 1}\nwhat\n").expect("written");
    let (exit, text) = place.run(&["export", "tensorboard", "--out", "events"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("damaged at line 2"), "{text}");
    std::fs::write(&metrics, sound).expect("written");
    let (exit, text) = place.run(&["run", "a.cs336", "more"]);
    assert_eq!(exit, Some(0), "{text}");
    // Its checkpoints say themselves of which run they are.
    assert!(text.contains("E0856") && text.contains("small: goes on from step 20"), "{text}");
    assert!(
        small.join("damaged-1/manifest.json").exists()
            && small.join("damaged-1/result.json").exists()
    );
    let (exit, text) = place.run(&["status"]);
    assert_eq!(exit, Some(0), "{text}");
    assert!(!text.contains("E0856") && text.matches("done, 20 steps").count() == 2, "{text}");
}

#[test]
fn questions_know_the_names_of_a_sweep() {
    let place = Place::new(PROGRAM);
    let question = "rates |> keep(.peak > 5e-3) |> select(.name, .peak, .params)";
    // Also where no run is there yet.
    assert!(place.rows(question).is_empty());
    let (exit, text) = place.run(&["run", "a.cs336", "rates"]);
    assert_eq!(exit, Some(0), "{text}");
    let rows = place.rows(question);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["peak"], 0.01);
    let sorted = place.rows("rates |> sort_by(.peak, descending = true) |> select(.peak)");
    assert_eq!(sorted[0]["peak"], 0.01);
    let (exit, text) = place.run(&["query", "rates |> select(.peek)", "--file", "a.cs336"]);
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("E0205") && text.contains("peak"), "{text}");
}

#[test]
fn the_best_of_what_others_have_run_is_the_least_loss() {
    let place = Place::new(
        r#"
sweep known {
  for C in [6e18, 1e19] FLOPs
  runner = recorded("results.csv", gives = { loss = .final_loss, size = .budget / 1e18 })
  run = { budget = C }
}
report r { title = "R", text "The least is {known.best.loss} at {known.best.size}, {known.best.C}.", export = markdown }
"#,
    );
    let table = "budget; final_loss\n6e18; 2.5\n1e19; 2.25\n\n";
    std::fs::write(place.0.path().join("results.csv"), table).expect("written");
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    let page = std::fs::read_to_string(place.0.path().join("runs/r/report.md")).expect("written");
    assert!(page.contains("The least is **2.25** at **10**, **1.0e19 FLOPs**."), "{page}");
}

#[test]
fn a_cell_that_is_no_number_is_named() {
    let place = Place::new(
        r#"
data course = csv("t.csv")
fit f { runs = course, law = .loss ~ E + A / .params^alpha, free = { E = 0.1..5, A = 1..1e6, alpha = 0.05..1 } }
"#,
    );
    let put = |text: &str| std::fs::write(place.0.path().join("t.csv"), text).expect("written");
    put("params;loss\n1e6;3,5\n2e6;3,1\n");
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(4), "{text}");
    assert!(text.contains("E0872") && text.contains("\"3,5\" in row 1"), "{text}");
    // The first line of a table that is there is looked at before anything runs.
    put("param,loss\n1e6,3.5\n");
    let (exit, text) = place.run(&["check", "a.cs336"]);
    assert_eq!(exit, Some(1), "{text}");
    assert!(text.contains("E0205") && text.contains("did you mean `.param`?"), "{text}");
    std::fs::remove_file(place.0.path().join("t.csv")).expect("removed");
    assert_eq!(place.run(&["check", "a.cs336"]).0, Some(0));
}

#[test]
fn a_fit_that_has_run_answers_queries() {
    let place = Place::new(
        r#"
data course = csv("t.csv")
fit f {
  runs = course
  law = .loss ~ E + A / .params^alpha
  free = { E = 0.1..5, A = 1..1e6, alpha = 0.05..1 }
  error = squared(on = log)
  bootstrap = 50
  held_out = .params > 1e8
}
fit line { runs = course, law = .loss ~ a + b * log(.params), free = { a = 0..100, b = -10..0 }, held_out = .params > 1e8 }
let there = f.predict(params = 1e8)
let more = f.predict(params = 1e6 * there.loss / there.loss)
"#,
    );
    let mut table = "params,loss\n".to_owned();
    for i in 0..20 {
        let n = 1e5 * 1.5f64.powi(i);
        let noise = 1.0 + 0.01 * (f64::from(i) * 2.4).sin();
        table += &format!("{n},{}\n", (1.7 + 400.0 / n.powf(0.4)) * noise);
    }
    std::fs::write(place.0.path().join("t.csv"), table).expect("written");
    let (exit, text) = place.run(&["query", "there", "--file", "a.cs336"]);
    assert_ne!(exit, Some(0), "{text}");
    assert!(text.contains("E0859") && text.contains("run FILE f"), "{text}");
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    // What the file asks, what only the query asks, and what is asked with the answer to another question.
    for (question, params) in
        [("there", 1e8), ("f.predict(params = 3e6)", 3e6), ("more", 1e6), ("[there, more]", 1e8)]
    {
        let rows = place.rows(question);
        let cell = |name: &str| rows[0][name].as_f64().expect("a number");
        let truth = 1.7 + 400.0 / f64::powf(params, 0.4);
        assert!((cell("loss") / truth - 1.0).abs() < 0.02, "{question}: {rows:?}");
        let (run, curve) = (cell("loss_pi95.low"), cell("loss_ci95.low"));
        assert!(run < curve && curve < cell("loss"), "{question}: {rows:?}");
    }
    // Laws are compared by rows that neither was fitted to.
    let rows = place.rows("[{ power = f.held_out_error, line = line.held_out_error }]");
    let (power, line) = (rows[0]["power"].as_f64(), rows[0]["line"].as_f64());
    assert!(power < Some(0.02) && line > Some(0.05), "{rows:?}");
}

#[test]
fn laws_that_anyone_can_copy_find_what_their_tables_were_made_with() {
    let experiments = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
    let text = std::fs::read_to_string(experiments.join("laws.cs336")).expect("read");
    let place = Place::new(&text);
    std::fs::create_dir(place.0.path().join("laws")).expect("made");
    for table in ["experts.csv", "precision.csv", "repeated.csv"] {
        let (from, to) = (experiments.join("laws").join(table), place.0.path().join("laws"));
        std::fs::copy(from, to.join(table)).expect("copied");
    }
    let question = "moe.coefficients |> keep(.name == \"gamma\")";
    let (exit, text) = place.run(&["query", question, "--file", "a.cs336"]);
    assert_ne!(exit, Some(0), "{text}");
    assert!(text.contains("E0859") && text.contains("run FILE moe"), "{text}");
    let (exit, text) = place.run(&["run", "a.cs336"]);
    assert_eq!(exit, Some(0), "{text}");
    for (constant, value) in [
        ("moe gamma", 0.58),
        ("moe alpha", 0.115),
        ("bits gamma", 2.6745),
        ("bits alpha", 0.4965),
        ("bits beta", 0.4965),
        ("wall rd", 15.4),
        ("wall rn", 5.3),
    ] {
        let (fit, name) = constant.split_once(' ').expect("two words");
        let question = format!("{fit}.coefficients |> keep(.name == \"{name}\")");
        let rows = place.rows(&question);
        let found = rows[0]["value"].as_f64().expect("a number");
        assert!((found / value - 1.0).abs() < 2e-3, "{constant}: {found}");
    }
    assert_eq!(place.rows("moe.residuals").len(), 60);
    assert_eq!(place.rows("wall.coefficients").len(), 7);
}
