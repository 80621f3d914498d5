//! Whole programs on this machine: checked, compiled, trained, stopped, resumed.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cs336_compiler::world::World;
use cs336_device::{Cpu, Processor};
use cs336_lab::experiment::{Program, Report, Settings, run};
use cs336_lab::facts::Facts;
use cs336_lab::progress::{Note, Progress, Watcher};
use cs336_lab::standing::{Standing, standings};
use cs336_lab::train::Outcome;
use cs336_lab::{FakeHost, LabError};

const PROGRAM: &str = r#"
use std.models { llama }

data tales = stories(count = 60, seed = 7) |> holdout(valid = 10%)

tokenizer chars { kind = characters, corpus = tales }

model tiny = llama(layers = 2, d = 16, heads = 2, ff = 32, vocab = chars.vocab, tied = true)

train small {
  model     = tiny
  data      = tales |> encode(chars) |> pack(seq = 16)
  optimizer = adamw(lr = cosine(peak = 1e-2, warmup = 10%), decay = 0.1, clip = 1.0)
  batch     = 128 tokens
  budget    = 12 steps
  seed      = 3
  eval   { every = 6 steps, on = tales.valid, report = [loss, perplexity, bits_per_byte] }
  sample { every = 6 steps, prompt = "The ", length = 20 tokens, temperature = 0.8 }
  save   { every = 4 steps, keep = 2 }
}
"#;

/// A program in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
    text: String,
    stop: AtomicBool,
}

struct Files<'a> {
    text: &'a str,
    facts: &'a Facts,
}

impl World for Files<'_> {
    fn read(&self, path: &str, _from: Option<&str>) -> Result<(String, String), String> {
        Ok((path.to_owned(), self.text.to_owned()))
    }

    fn fact(&self, node: &str, field: &str) -> Option<f64> {
        self.facts.get(node, field)
    }
}

/// Asks a run to stop after so many steps; remembers what it heard.
struct Watch<'a> {
    stop: &'a AtomicBool,
    after: Option<u64>,
    steps: Cell<u64>,
    notes: Vec<Note>,
}

impl Watcher for Watch<'_> {
    fn progress(&mut self, progress: &Progress) {
        assert!(progress.loss.is_finite());
        self.steps.set(progress.step);
        if self.after.is_some_and(|after| progress.step + 1 >= after) {
            self.stop.store(true, Ordering::SeqCst);
        }
    }

    fn note(&mut self, note: &Note) {
        self.notes.push(note.clone());
    }
}

impl Place {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self { folder, text: text.to_owned(), stop: AtomicBool::new(false) }
    }

    /// Runs; with `stop_after` as if Ctrl-C came during that step.
    fn run(&self, runs: &str, stop_after: Option<u64>) -> Result<(Report, Vec<Note>), LabError> {
        self.run_with(runs, stop_after, 2)
    }

    fn run_with(
        &self,
        runs: &str,
        stop_after: Option<u64>,
        threads: usize,
    ) -> Result<(Report, Vec<Note>), LabError> {
        let cache = self.folder.path().join("cache");
        let path = self.folder.path().join("a.cs336").to_string_lossy().into_owned();
        let facts = Facts::open(&cache, Path::new(&path));
        let world = Files { text: &self.text, facts: &facts };
        let program = Program { world: &world, facts: &facts, path: &path, sets: &[] };
        let root = self.folder.path().join(runs);
        let settings =
            Settings { root, cache, yes: false, peak_flops: None, retry_failed: false, jobs: None };
        let device = Processor::Cpu(Cpu::new(Some(threads)).expect("threads"));
        self.stop.store(false, Ordering::SeqCst);
        let mut watch =
            Watch { stop: &self.stop, after: stop_after, steps: Cell::new(0), notes: Vec::new() };
        let host = FakeHost::default();
        let report = run(program, &[], &settings, &device, &host, &self.stop, &mut watch)?;
        Ok((report, watch.notes))
    }

    fn only_run(&self, runs: &str) -> PathBuf {
        let found = cs336_lab::rundir::list(&self.folder.path().join(runs)).expect("listed").runs;
        assert_eq!(found.len(), 1, "one run");
        found[0].0.clone()
    }

    fn file(&self, runs: &str, name: &str) -> String {
        std::fs::read_to_string(self.only_run(runs).join(name)).expect("read")
    }
}

fn explained(result: Result<(Report, Vec<Note>), LabError>) -> (Report, Vec<Note>) {
    result.unwrap_or_else(|error| match &error {
        LabError::Program(program) => panic!("{:#?}", program.0),
        other => panic!("{other}"),
    })
}

#[test]
fn a_model_learns_and_a_stopped_run_is_the_same_run() {
    let place = Place::new(PROGRAM);
    let (report, notes) = explained(place.run("straight", None));
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    let Some((name, Outcome::Done(result))) = report.runs.last() else { panic!("done") };
    assert_eq!((name.as_str(), &result["step"]), ("small", &12.into()));
    assert!(notes.iter().any(|note| matches!(note, Note::Sample { step: 12, .. })), "{notes:?}");
    let metrics = place.file("straight", "metrics.jsonl");
    let rows = cs336_table::read(&place.only_run("straight").join("metrics.jsonl")).expect("read");
    let loss = |at: usize| rows[at].get("loss").expect("every row has it");
    assert!(loss(11) < loss(0) - 0.3, "{} to {}", loss(0), loss(11));
    assert!(rows[11].get("bits_per_byte").is_some_and(|bits| bits > 0.0 && bits < 8.0));
    assert!(place.only_run("straight").join("metrics.parquet").exists());

    // Stopped twice on the way, and on another number of threads.
    for after in [3, 7] {
        let (report, _) = explained(place.run_with("stopped", Some(after), 1));
        assert!(matches!(report.runs.last(), Some((_, Outcome::Interrupted { .. }))), "{report:?}");
    }
    explained(place.run_with("stopped", None, 1));
    assert_eq!(place.file("stopped", "metrics.jsonl"), metrics);
    assert_eq!(place.file("stopped", "samples.jsonl"), place.file("straight", "samples.jsonl"));

    // A second time there is nothing to do.
    let (_, notes) = explained(place.run("straight", None));
    assert!(notes.contains(&Note::Cached { node: "small".into() }), "{notes:?}");
}

#[test]
fn a_damaged_checkpoint_costs_steps_and_no_result() {
    let place = Place::new(PROGRAM);
    explained(place.run("straight", None));
    explained(place.run("damaged", Some(10)));
    let checkpoints = place.only_run("damaged").join("checkpoints");
    let newest = cs336_lab::checkpoint::steps(&checkpoints).expect("listed");
    let last = *newest.last().expect("there are two");
    let path = cs336_lab::checkpoint::path_of(&checkpoints, last).join("weights.safetensors");
    let mut bytes = std::fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&path, bytes).expect("written");
    let (_, notes) = explained(place.run("damaged", None));
    assert!(notes.iter().any(|n| matches!(n, Note::Refused { code: "E0851", .. })), "{notes:?}");
    assert_eq!(place.file("damaged", "metrics.jsonl"), place.file("straight", "metrics.jsonl"));
}

#[test]
fn what_cannot_be_run_is_said_before_anything_is_made() {
    for (from, to, code) in [
        ("seq = 16", "seq = 160000", "E0605"),
        ("stories(count = 60, seed = 7)", "files(\"nothing-here.txt\")", "E0601"),
        ("seed      = 3", "seed      = 3, start = ask", "E0854"),
    ] {
        let mut text = PROGRAM.replace(from, to);
        if code == "E0605" {
            // A batch holds at least a row.
            text = text.replace("batch     = 128", "batch     = 160000");
        }
        let place = Place::new(&text);
        let found = match place.run("runs", None) {
            Ok((report, _)) => report.refused.first().map(LabError::code),
            Err(LabError::Program(program)) => panic!("{code}: {:#?}", program.0),
            Err(error) => Some(error.code()),
        };
        assert_eq!(found, Some(code));
        assert!(!place.folder.path().join("runs").exists(), "{code} left a run");
    }
}

#[test]
fn a_program_stands_as_its_runs_do() {
    let place = Place::new(PROGRAM);
    explained(place.run("runs", Some(5)));
    let facts =
        Facts::open(&place.folder.path().join("cache"), &place.folder.path().join("a.cs336"));
    let world = Files { text: &place.text, facts: &facts };
    let path = place.folder.path().join("a.cs336").to_string_lossy().into_owned();
    let program = Program { world: &world, facts: &facts, path: &path, sets: &[] };
    let checked = program.sound().expect("sound");
    let all = standings(&checked.nodes, &["small".to_owned()], &place.folder.path().join("runs"));
    let all = all.expect("listed");
    assert!(
        matches!(all.last(), Some((_, Standing::Incomplete { step })) if *step >= 4),
        "{all:?}"
    );
    // What a node means changes with its program, so this run is not that one.
    let other = PROGRAM.replace("seed      = 3", "seed      = 4");
    let world = Files { text: &other, facts: &facts };
    let program = Program { world: &world, facts: &facts, path: &path, sets: &[] };
    let checked = program.sound().expect("sound");
    let all = standings(&checked.nodes, &["small".to_owned()], &place.folder.path().join("runs"));
    assert_eq!(all.expect("listed").last().map(|(_, s)| s.clone()), Some(Standing::Missing));
}

/// Recorded results with a planted law; its fit and what a report says of it.
const STUDY: &str = r#"
data old = csv("FOLDER/old.csv", columns = { params = Float, tokens = Float, flops = Float, loss = Float })
fit chinchilla {
  runs = old
  law  = .loss ~ E + A / .params^alpha + B / .tokens^beta
  free = { E = 0.1..5, A = 1..1e6, B = 1..1e6, alpha = 0.05..1, beta = 0.05..1 }
  error = huber(1e-3, on = log)
}
report study {
  title = "Old results"
  plot "Curves" { data = old, x = log(.params), y = .loss, color = .flops, trend = law, law = chinchilla }
  plot "Residuals" { data = chinchilla.residuals, x = log(.params), y = .residual }
  table "Constants" { rows = chinchilla.coefficients, columns = [.name, .value] }
  export = [html, svg, csv]
}
"#;

#[test]
fn a_report_tells_what_a_fit_found() {
    let planted = [("E", 1.8), ("A", 400.0), ("B", 1600.0), ("alpha", 0.34), ("beta", 0.37)];
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut table = "params,tokens,flops,loss\n".to_owned();
    for flops in [1e17, 1e18, 1e19, 1e20] {
        for share in [0.2, 0.5, 1.0, 2.0, 5.0] {
            let n = f64::sqrt(flops / 120.0) * share;
            let d = flops / 6.0 / n;
            let loss = 1.8 + 400.0 / n.powf(0.34) + 1600.0 / d.powf(0.37);
            table += &format!("{n},{d},{flops},{loss}\n");
        }
    }
    std::fs::write(folder.path().join("old.csv"), table).expect("written");
    let place = Place::new(&STUDY.replace("FOLDER", &folder.path().display().to_string()));
    let (report, _) = explained(place.run("runs", None));
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    let made = place.folder.path().join("runs/study");
    let read = |name: &str| std::fs::read_to_string(made.join(name)).expect(name);
    let constants = read("constants.csv");
    for (name, value) in planted {
        let line = constants.lines().find_map(|l| l.strip_prefix(&format!("{name},")));
        let found: f64 = line.expect(&constants).parse().expect("a number");
        assert!((found / value - 1.0).abs() < 1e-3, "{name} = {found}, planted {value}");
    }
    // The law is drawn: a line for each of the four budgets. Residuals have a point for each row.
    assert!(read("curves.svg").matches("<path").count() >= 4, "{}", read("curves.svg"));
    assert!(read("residuals.svg").matches("<circle").count() >= 20, "{}", read("residuals.svg"));
}

/// From a sweep by way of a fit to a run at the optimum, and a report that puts the prediction beside the measurement.
const WHOLE_STUDY: &str = r#"
sweep sizes {
  for C in [2e7, 1e8, 4e8] FLOPs
  for width in [8, 16]
  run = small with { model = llama(layers = 1, d = width, heads = 2, ff = 32, vocab = chars.vocab), budget = C }
}
fit tale {
  runs  = sizes
  law   = .valid_loss ~ E + B / .tokens^beta
  free  = { E = 0.01..5, B = 0.1..1e6, beta = 0.05..1 }
}
let near = tale.predict(tokens = 5000 tokens)
train final = small with { budget = 10 steps * (near.loss / near.loss) }
let there = tale.predict(tokens = final.tokens)
report study {
  title = "Study"
  text "Said {there.loss}, measured {final.valid_loss}."
  table "Points" { rows = sizes, columns = [.name, .C, .width, .valid_loss] }
  export = [markdown, csv]
}
"#;

#[test]
fn a_run_that_a_fit_asked_for_stands_beside_what_the_fit_says_of_it() {
    let place = Place::new(&format!("{PROGRAM}{WHOLE_STUDY}"));
    let (report, _) = explained(place.run("runs", None));
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    let made = place.folder.path().join("runs/study");
    let read = |name: &str| std::fs::read_to_string(made.join(name)).expect(name);
    let measured = report.runs.iter().find_map(|(name, outcome)| match outcome {
        Outcome::Done(result) if name == "final" => result["valid_loss"].as_f64(),
        _ => None,
    });
    let text = read("report.md");
    let shown = format!("{:.3}", measured.expect("measured"));
    assert!(text.contains(&shown), "{shown} in {text}");
    // The `for` names are columns.
    let runs = read("points.csv");
    assert!(runs.starts_with("name,C,width,valid loss"), "{runs}");
    assert!(runs.lines().any(|l| l.contains(",20000000,8,")), "{runs}");
    // Again: nothing is run, and the report has the same bytes.
    let (_, notes) = explained(place.run("runs", None));
    assert!(notes.iter().any(|n| matches!(n, Note::Cached { node } if node == "final")));
    assert_eq!(read("report.md"), text);
}

/// The table of CS336's third assignment, read in the three ways of Hoffmann et al.
#[test]
#[allow(clippy::print_stderr, reason = "names the input that is skipped")]
fn three_readings_of_one_sweep() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = root.join("../shared/data/scaling/cs336_isoflops_curves.json");
    if !table.exists() {
        eprintln!("skipped: ../shared/data/scaling/cs336_isoflops_curves.json is not there");
        return;
    }
    let text = std::fs::read_to_string(root.join("experiments/approaches.cs336")).expect("there");
    let text = text.replace("isoflops_curves.json\"\n", &format!("{}\"\n", table.display()));
    let place = Place::new(&text);
    let (report, _) = explained(place.run("runs", None));
    assert!(report.refused.is_empty(), "{:?}", report.refused);
    let told = std::fs::read_to_string(place.folder.path().join("runs/approaches/report.md"));
    let told = told.expect("written");
    for exponent in ["0.515", "0.469", "0.514"] {
        assert!(told.contains(exponent), "{exponent} in {told}");
    }
}
