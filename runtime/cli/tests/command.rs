//! The command as scripts see it: exit statuses, output as JSON, a run that is killed without warning.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
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

struct Place(tempfile::TempDir);

impl Place {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("a.cs336"), text).expect("written");
        Self(folder)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cs336c"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("CS336C_CACHE", self.0.path().join("cache"))
            .env_remove("NO_COLOR")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } =
            self.command(arguments).output().expect("the command starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (status.code(), text(stdout), text(stderr))
    }

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
    let (code, out, err) = place.run(&["check", "a.cs336"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("small"), "{out}");
    assert_eq!(place.run(&["check"]).0, Some(2));
    assert_eq!(place.run(&["--version"]).0, Some(0));
    assert_eq!(place.run(&["explain", "E0853"]).0, Some(0));
    assert_eq!(place.run(&["explain", "E0000"]).0, Some(2));
    assert_eq!(place.run(&["run", "a.cs336", "smal"]).0, Some(2));
    assert_eq!(place.run(&["status"]), (Some(0), "no runs in `runs`\n".into(), String::new()));
    let (code, _, err) = place.run(&["check", "b.cs336"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("b.cs336"), "{err}");

    let wrong = Place::new(&PROGRAM.replace("budget", "budgt"));
    for command in ["check", "plan", "run"] {
        let (code, _, err) = wrong.run(&[command, "a.cs336"]);
        assert_eq!(code, Some(1), "{command}: {err}");
        assert!(err.contains("did you mean `budget`?") && err.contains("a.cs336:"), "{err}");
    }
    let (_, out, _) = wrong.run(&["check", "a.cs336", "--json"]);
    let problem = out.lines().find(|line| line.contains("\"problem\"")).expect("a problem");
    let value: serde_json::Value = serde_json::from_str(problem).expect("JSON");
    assert_eq!(value["labels"][0]["file"], "a.cs336");

    let asks = Place::new(&PROGRAM.replace("seed      = 3", "seed      = 3, start = ask"));
    let (code, _, err) = asks.run(&["run", "a.cs336"]);
    assert_eq!(code, Some(3), "{err}");
    assert!(err.contains("E0854") && err.contains("--yes"), "{err}");
}

#[test]
fn killed_without_warning_and_resumed() {
    let place = Place::new(PROGRAM);
    let (code, _, err) = place.run(&["run", "a.cs336", "--runs", "straight"]);
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
    let (code, _, err) = place.run(&["run", "a.cs336", "--runs", "killed"]);
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
    let (code, out, err) = place.run(&[&arguments[..], &["--weights", "w.safetensors"]].concat());
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "out [2, 1]\n");
    let bytes = std::fs::read(place.0.path().join("y.safetensors")).expect("written");
    let tail = &bytes[bytes.len() - 8..];
    assert_eq!(tail, [12.0_f32.to_le_bytes(), 34.0_f32.to_le_bytes()].concat());
    assert_eq!(place.run(&arguments).0, Some(1), "without weights the size of `ff` is not known");
}
