//! The command as scripts see it: exit statuses, output as JSON, a run that is killed without warning.

mod place;

use std::path::{Path, PathBuf};
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
  budget    = 400 steps
  seed      = 3
  eval   { every = 100 steps, on = tales.valid, report = [loss] }
  sample { every = 200 steps, prompt = "The", length = 10 tokens }
  save   { every = 7 steps, keep = 2 }
}
"#;

use place::Place;

impl Place {
    fn metrics(&self, runs: &str) -> String {
        let found: Vec<PathBuf> = std::fs::read_dir(self.0.path().join(runs))
            .expect("there are runs")
            .map(|entry| entry.expect("listed").path())
            .collect();
        let run: &Path = found.first().expect("one run");
        std::fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default()
    }
}

#[test]
fn statuses() {
    let place = Place::new(PROGRAM);
    let (code, out, err) = place.apart(&["check", "a.cs336"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("small"), "{out}");
    assert_eq!(place.apart(&["check"]).0, Some(2));
    let (code, out, err) = place.apart(&["plan", "a.cs336", "--costs"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("by operation") && out.contains("attention["), "{out}");
    assert_eq!(place.apart(&["--version"]).0, Some(0));
    assert_eq!(place.apart(&["explain", "E0853"]).0, Some(0));
    assert_eq!(place.apart(&["explain", "E0000"]).0, Some(2));
    assert_eq!(place.apart(&["run", "a.cs336", "smal"]).0, Some(2));
    assert_eq!(place.apart(&["status"]), (Some(0), "no runs in `runs`\n".into(), String::new()));
    let (code, _, err) = place.apart(&["check", "b.cs336"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("b.cs336"), "{err}");

    let wrong = Place::new(&PROGRAM.replace("budget", "budgt"));
    for command in ["check", "plan", "run"] {
        let (code, _, err) = wrong.apart(&[command, "a.cs336"]);
        assert_eq!(code, Some(1), "{command}: {err}");
        assert!(err.contains("did you mean `budget`?") && err.contains("a.cs336:"), "{err}");
    }
    let (_, out, _) = wrong.apart(&["check", "a.cs336", "--json"]);
    let problem = out.lines().find(|line| line.contains("\"problem\"")).expect("a problem");
    let value: serde_json::Value = serde_json::from_str(problem).expect("JSON");
    assert_eq!(value["labels"][0]["file"], "a.cs336");

    // What is wrong with data is shown where the program names them.
    let text = PROGRAM.replace("stories(count = 80, seed = 7)", "files(\"nothing/*.txt\")");
    let nothing = Place::new(&text);
    for command in ["run", "data"] {
        let (code, _, err) = nothing.apart(&[command, "a.cs336"]);
        assert_eq!(code, Some(4), "{err}");
        assert!(err.contains("E0602") && err.contains("a.cs336:"), "{err}");
    }

    let asks = Place::new(&PROGRAM.replace("seed      = 3", "seed      = 3, start = ask"));
    let (code, _, err) = asks.apart(&["run", "a.cs336"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("E0854") && err.contains("--yes"), "{err}");
}

#[test]
fn killed_without_warning_and_resumed() {
    let place = Place::new(PROGRAM);
    let (code, _, err) = place.apart(&["run", "a.cs336", "--runs", "straight"]);
    assert_eq!(code, Some(0), "{err}");
    let mut kills = 0;
    for wait in [150, 250, 350, 300, 400] {
        let mut command = place.command(&["run", "a.cs336", "--runs", "killed"]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the command starts");
        std::thread::sleep(Duration::from_millis(wait));
        if child.try_wait().expect("a child").is_none() {
            kills += 1;
        }
        child.kill().ok();
        child.wait().expect("it ends");
    }
    let (code, _, err) = place.apart(&["run", "a.cs336", "--runs", "killed"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(kills > 0, "the machine is too fast for this test: give it more steps");
    assert_eq!(place.metrics("killed"), place.metrics("straight"));
}

#[test]
fn apply_runs_a_layer() {
    let place = Place::new(
        "layer Gate[d, ff] {\n  weight w[d, ff]\n  forward(x: [d]) -> [ff] = dot[d](x, w)\n}\n",
    );
    // The format by hand: the length of a header, the header, the numbers.
    let write = |name: &str, tensor: &str, shape: &str, values: &[f32]| {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let header = format!(
            r#"{{"{tensor}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{}]}}}}"#,
            data.len()
        );
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        std::fs::write(place.0.path().join(name), bytes).expect("written");
    };
    write("x.safetensors", "x", "[2,2]", &[1.0, 2.0, 3.0, 4.0]);
    write("w.safetensors", "w", "[2,1]", &[10.0, 1.0]);
    let arguments = ["apply", "a.cs336", "Gate", "--in", "x.safetensors", "--out", "y.safetensors"];
    let (code, out, err) = place.apart(&[&arguments[..], &["--weights", "w.safetensors"]].concat());
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "out [2, 1]\n");
    let bytes = std::fs::read(place.0.path().join("y.safetensors")).expect("written");
    let tail = &bytes[bytes.len() - 8..];
    assert_eq!(tail, [12.0_f32.to_le_bytes(), 34.0_f32.to_le_bytes()].concat());
    assert_eq!(place.run(&arguments).0, Some(1), "without weights the size of `ff` is not known");
}

#[test]
fn the_ledger_answers_questions_about_runs() {
    let place = Place::new(PROGRAM);
    let short = "small.budget=20 steps";
    for seed in ["small.seed=3", "small.seed=4"] {
        let (status, _, problems) = place.apart(&["run", "a.cs336", "--set", short, "--set", seed]);
        assert_eq!(status, Some(0), "{problems}");
    }
    let (status, out, problems) = place.apart(&[
        "query",
        "runs |> sort_by(.seed, descending = true) |> select(.name, .seed, .status, twice = 2 * .step)",
        "--format",
        "csv",
    ]);
    assert_eq!((status, problems.as_str()), (Some(0), ""));
    assert_eq!(out, "name,seed,status,twice\nsmall,4.0,done,40.0\nsmall,3.0,done,40.0\n");
    // A node of a program stands for the runs that mean what it means now.
    let asked = "small |> best_by(.loss, per = .budget) |> select(.seed, .lr, .epochs)";
    let (status, out, problems) =
        place.apart(&["query", asked, "--file", "a.cs336", "--set", short, "--json"]);
    assert_eq!(status, Some(0), "{problems}");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&out).expect("JSON");
    assert_eq!(rows.len(), 1);
    assert_eq!((&rows[0]["seed"], &rows[0]["lr"]), (&3.into(), &0.01.into()));
    let sql = "select name, count(*) as n, max(step) as last from metrics group by name";
    let (status, out, problems) = place.apart(&["query", "--sql", sql, "--format", "csv"]);
    assert_eq!((status, out.as_str()), (Some(0), "name,n,last\nsmall,40.0,20.0\n"), "{problems}");

    for (words, code, help, exit) in [
        (vec!["query", "runs |> keep(.los < 3)"], "E0205", "`.loss`", 1),
        (vec!["query", "runs |> keep(.name < 3)"], "E0302", "", 1),
        (vec!["query", "smal |> take(1)"], "E0201", "`small`", 1),
        (vec!["query", "--sql", "select los from runs"], "E0620", "`loss`", 2),
        (vec!["query", "csv(\"none.csv\")"], "E0621", "", 4),
        (vec!["diff", "small", "small"], "E0861", "small-", 2),
    ] {
        let (status, _, problems) = place.apart(&words);
        assert_eq!(status, Some(exit), "{words:?}: {problems}");
        assert!(problems.contains(code) && problems.contains(help), "{words:?}: {problems}");
    }

    let (_, folders, _) =
        place.apart(&["query", "runs |> sort_by(.seed) |> select(.folder)", "--json"]);
    let rows: Vec<serde_json::Value> = serde_json::from_str(&folders).expect("JSON");
    let folder = |i: usize| rows[i]["folder"].as_str().expect("a folder").to_owned();
    let (status, out, problems) = place.apart(&["diff", &folder(0), &folder(1)]);
    assert_eq!(status, Some(0), "{problems}");
    let seed = out.lines().find(|line| line.starts_with("seed")).expect("the seed differs");
    assert!(seed.contains("3.0") && seed.contains("4.0"), "{out}");
    assert!(out.lines().any(|line| line.starts_with("loss") && line.contains('%')), "{out}");

    let (status, out, problems) = place.apart(&["export", "tensorboard", "--out", "events"]);
    assert_eq!((status, out.lines().count()), (Some(0), 2), "{problems}");
    let file = place.0.path().join(out.split(':').next().expect("a file"));
    assert!(std::fs::metadata(file).expect("written").len() > 1000);
}

#[test]
fn files_are_formatted_once() {
    let place = Place::new("train small{\n seed=3 # why\n}\n");
    let (status, out, _) = place.apart(&["fmt", "a.cs336", "--check"]);
    assert_eq!((status, out.as_str()), (Some(1), "a.cs336: is not formatted\n"));
    assert_eq!(place.apart(&["fmt", "a.cs336"]).0, Some(0));
    let text = std::fs::read_to_string(place.0.path().join("a.cs336")).expect("read");
    assert_eq!(text, "train small {\n  seed = 3 # why\n}\n");
    assert_eq!(place.apart(&["fmt", "a.cs336", "--check"]).0, Some(0));
}
