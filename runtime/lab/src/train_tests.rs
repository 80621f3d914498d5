//! Runs of a small machine: stopped, killed, damaged, diverged; the metrics are always those of an undisturbed run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cs336_compiler::check::hir::{DataSpec, EvalSpec, Execution, SampleSpec, Source};
use cs336_compiler::row::{RowCompare, RowExpr};
use cs336_data::{Document, Documents, PackOptions, Sampling, TokenShard};

use super::*;
use crate::checkpoint::Tensor;
use crate::host::FakeHost;
use crate::key::KeyInputs;
use crate::machine::fake::FakeMachine;
use crate::progress::Silent;
use crate::rundir::{self, Manifest, Status};

/// What a run is about, alive for a whole test.
struct World {
    root: tempfile::TempDir,
    spec: TrainSpec,
    batches: Batches,
    windows: Windows,
    tokenizer: Tokenizer,
    manifest: Manifest,
    host: FakeHost,
    stop: AtomicBool,
    initial: Option<Initial>,
}

impl World {
    fn new(steps: u64, save_every: Every) -> Self {
        let root = tempfile::tempdir().expect("a temporary folder");
        let tokenizer = Tokenizer::bytes(&[]).expect("no special tokens");
        let text: String = (0..2000).map(|n| char::from(b'a' + (n * n % 23) as u8)).collect();
        let documents = Documents::new(vec![Document { text, path: "x".into() }]);
        let shard = TokenShard::cached(&root.path().join("cache"), &tokenizer, &documents);
        let shard = Arc::new(shard.expect("encoded"));
        let options = PackOptions { seq: 8, rows: 4, seed: 1, sampling: Sampling::Epochs };
        let every = Every::Steps(7);
        let data = DataSpec { source: Source::Stories { count: 1, seed: 1 }, stages: Vec::new() };
        let sample = SampleSpec {
            every: Every::Tokens(160.0),
            prompt: "Once".into(),
            length: 20,
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
        };
        let report = vec!["loss".into(), "bits_per_byte".into()];
        let spec = TrainSpec {
            data: data.clone(),
            seq: 8,
            batch_tokens: 32,
            budget: Budget::Steps(steps as f64),
            seed: 11,
            compute: "f32".into(),
            step_flops: 1e6,
            params: 4,
            most_tokens: None,
            steps: Some(steps),
            init: None,
            stop: None,
            execution: Execution {
                limit_seconds: None,
                micro_rows: None,
                eval: Some(EvalSpec { every, on: data, report }),
                sample: Some(sample),
                save_every,
                keep: 3,
                ask: false,
                remat: "none".into(),
            },
        };
        let inputs =
            KeyInputs { meaning: "m".into(), data: BTreeMap::new(), numerics: 1, device: None };
        let manifest = Manifest {
            version: SCHEMA_VERSION,
            name: "a".into(),
            key: inputs.key(),
            inputs,
            sources: Vec::new(),
            seeds: json!({}),
            cs336c: String::new(),
            machine: json!({}),
            created: 0,
            columns: Default::default(),
        };
        Self {
            windows: Windows::new(Arc::clone(&shard), 8, 4).expect("fits"),
            batches: Batches::new(shard, options).expect("fits"),
            root,
            spec,
            tokenizer,
            manifest,
            host: FakeHost::default(),
            stop: AtomicBool::new(false),
            initial: None,
        }
    }

    fn run(&self, folder: &str, machine: &mut FakeMachine) -> Result<Outcome, LabError> {
        self.run_watched(folder, machine, &mut Silent, None)
    }

    fn run_watched(
        &self,
        folder: &str,
        machine: &mut FakeMachine,
        watcher: &mut dyn Watcher,
        pause: Option<u64>,
    ) -> Result<Outcome, LabError> {
        let mut dir = RunDir::open(&self.root.path().join(folder), &self.manifest)?;
        let task = Task {
            node: "a",
            key: &self.manifest.key,
            spec: &self.spec,
            batches: &self.batches,
            valid: Some(&self.windows),
            tokenizer: &self.tokenizer,
            initial: self.initial.as_ref(),
            peak_flops: Some(1e9),
            pause,
        };
        let mut around = Around { host: &self.host, stop: &self.stop, watcher };
        train(task, machine, &mut dir, &mut around)
    }

    fn file(&self, folder: &str, name: &str) -> String {
        let path = self.dir(folder).join(name);
        std::fs::read_to_string(&path).unwrap_or_default()
    }

    fn dir(&self, folder: &str) -> std::path::PathBuf {
        rundir::path_of(&self.root.path().join(folder), "a", &self.manifest.key)
    }
}

fn machine() -> FakeMachine {
    FakeMachine::new(256, 4)
}

#[test]
fn killed_at_any_step_and_resumed_it_is_the_same_run() {
    let world = World::new(20, Every::Steps(6));
    let straight = world.run("straight", &mut machine()).expect("done");
    let (metrics, samples) =
        (world.file("straight", "metrics.jsonl"), world.file("straight", "samples.jsonl"));
    assert_eq!(metrics.lines().count(), 20);
    assert_eq!(samples.lines().count(), 4);
    // What is not shown is recorded all the same.
    assert!(metrics.contains("bits_per_byte") && metrics.contains("perplexity"), "{metrics}");
    for dies_at in 1..=20 {
        let folder = format!("killed-{dies_at}");
        let mut first = machine();
        first.dies_at = Some(dies_at);
        assert!(world.run(&folder, &mut first).is_err());
        let saved = (dies_at - 1) / 6 * 6;
        let status = rundir::status(&world.dir(&folder)).expect("read");
        assert_eq!(status, Status::Incomplete { step: saved });
        let mut second = machine();
        let resumed = world.run(&folder, &mut second).expect("done");
        assert_eq!(second.done, 20 - saved);
        assert_eq!(resumed, straight);
        assert_eq!(world.file(&folder, "metrics.jsonl"), metrics, "killed at {dies_at}");
        assert_eq!(world.file(&folder, "samples.jsonl"), samples, "killed at {dies_at}");
    }
}

#[test]
fn it_pauses_measured_and_saved_and_goes_on_as_the_same_run() {
    let world = World::new(20, Every::Steps(6));
    let to = |pause, machine: &mut FakeMachine| {
        world.run_watched("paused", machine, &mut Silent, pause).expect("no failure")
    };
    assert_eq!(to(Some(7), &mut machine()), Outcome::Paused { step: 7 });
    let status = rundir::status(&world.dir("paused")).expect("read");
    assert_eq!(status, Status::Incomplete { step: 7 });
    let metrics = world.file("paused", "metrics.jsonl");
    assert!(metrics.lines().last().expect("7 rows").contains("valid_loss"), "{metrics}");
    // It is there already.
    let mut again = machine();
    assert_eq!(to(Some(7), &mut again), Outcome::Paused { step: 7 });
    assert_eq!(again.done, 0);
    let mut rest = machine();
    let Outcome::Done(result) = to(None, &mut rest) else { panic!("its budget is spent") };
    assert_eq!(rest.done, 13);
    let Outcome::Done(straight) = world.run("straight", &mut machine()).expect("done") else {
        panic!("its budget is spent")
    };
    assert_eq!(result["valid_loss"], straight["valid_loss"]);
    let lines = |folder: &str| world.file(folder, "metrics.jsonl");
    assert!(lines("paused").starts_with(&metrics));
    let last = |folder: &str| lines(folder).lines().last().map(str::to_owned);
    assert_eq!(last("paused"), last("straight"));
}

#[test]
fn a_condition_ends_it_for_good() {
    let mut world = World::new(20, Every::Steps(6));
    let loss = RowExpr::column("step");
    let at = RowExpr::Number(9.0);
    world.spec.stop =
        Some(RowExpr::Compare { op: RowCompare::Ge, left: Box::new(loss), right: Box::new(at) });
    let Outcome::Done(result) = world.run("stopped", &mut machine()).expect("done") else {
        panic!("it stops, and is done");
    };
    assert_eq!(result["step"], 9);
    assert_eq!(world.file("stopped", "metrics.jsonl").lines().count(), 9);
    assert!(result["valid_loss"].is_number(), "the last step is measured: {result}");
    // Killed between its last checkpoint and its end: it does not go on.
    std::fs::remove_file(world.dir("stopped").join("result.json")).expect("it was done");
    let mut again = machine();
    assert_eq!(world.run("stopped", &mut again).expect("done"), Outcome::Done(result));
    assert_eq!(again.done, 0);
}

#[test]
fn it_begins_with_the_weights_that_it_is_given() {
    let mut world = World::new(6, Every::Steps(6));
    let fresh = world.run("fresh", &mut machine()).expect("done");
    let mut trained = machine();
    trained.init(3).expect("made");
    let (weights, _) = trained.tensors().expect("copied");
    world.initial = Some(Initial { key: "k".into(), weights });
    let given = world.run("given", &mut machine()).expect("done");
    assert_ne!(given, fresh);
    // A resumed run goes on from its checkpoint, not from the weights that it was given at first.
    let mut first = machine();
    first.dies_at = Some(4);
    world.spec.execution.save_every = Every::Steps(2);
    assert!(world.run("killed", &mut first).is_err());
    assert_eq!(world.run("killed", &mut machine()).expect("done"), given);
    let other =
        vec![Tensor { shape: vec![1], ..world.initial.as_ref().expect("set").weights[0].clone() }];
    world.initial = Some(Initial { key: "k".into(), weights: other });
    assert!(world.run("misfit", &mut machine()).is_err());
}

#[test]
fn a_damaged_checkpoint_is_passed_over() {
    #[derive(Default)]
    struct Notes(Vec<Note>);
    impl Watcher for Notes {
        fn progress(&mut self, _progress: &Progress) {}
        fn note(&mut self, note: &Note) {
            self.0.push(note.clone());
        }
    }
    let world = World::new(20, Every::Steps(6));
    world.run("straight", &mut machine()).expect("done");
    let mut first = machine();
    first.dies_at = Some(15);
    world.run("killed", &mut first).expect_err("killed");
    let weights = world.dir("killed").join("checkpoints/00000012/weights.safetensors");
    let mut bytes = std::fs::read(&weights).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&weights, bytes).expect("written");
    let (mut second, mut notes) = (machine(), Notes::default());
    world.run_watched("killed", &mut second, &mut notes, None).expect("done");
    assert_eq!(second.done, 14);
    assert!(matches!(notes.0[0], Note::Refused { code: "E0851", .. }), "{:?}", notes.0[0]);
    assert_eq!(notes.0[1], Note::Resume { node: "a".into(), step: 6 });
    assert_eq!(world.file("killed", "metrics.jsonl"), world.file("straight", "metrics.jsonl"));
}

#[test]
fn a_request_to_stop_saves_first() {
    let world = World::new(9, Every::Never);
    world.stop.store(true, Ordering::SeqCst);
    for step in 1..=8 {
        let outcome = world.run("a", &mut machine()).expect("stopped");
        assert_eq!(outcome, Outcome::Interrupted { step });
    }
    assert!(matches!(world.run("a", &mut machine()), Ok(Outcome::Done(_))));
    world.stop.store(false, Ordering::SeqCst);
    world.run("b", &mut machine()).expect("done");
    assert_eq!(world.file("a", "metrics.jsonl"), world.file("b", "metrics.jsonl"));
    assert!(matches!(rundir::status(&world.dir("a")), Ok(Status::Done { .. })));
}

#[test]
fn a_limit_ends_it_for_now() {
    let mut world = World::new(9, Every::Never);
    world.host.tick.set(1.0);
    world.spec.execution.limit_seconds = Some(12.0);
    let outcome = world.run("a", &mut machine()).expect("stopped");
    assert!(matches!(outcome, Outcome::Limit { step } if step > 0 && step < 9), "{outcome:?}");
    world.spec.execution.limit_seconds = None;
    assert!(matches!(world.run("a", &mut machine()), Ok(Outcome::Done(_))));
}

#[test]
fn a_loss_that_is_not_finite_names_step_layer_and_checkpoint() {
    for (diverges_at, checkpoint, replayed) in
        [(3, None, 3), (6, None, 6), (7, Some(6), 1), (17, Some(12), 5)]
    {
        let world = World::new(20, Every::Steps(6));
        let mut machine = machine();
        machine.diverges_at = Some(diverges_at);
        let error = world.run("a", &mut machine).expect_err("diverged");
        assert_eq!(machine.done, diverges_at + replayed);
        let LabError::Diverged { what, step, layer, checkpoint: path, .. } = error else {
            panic!("{error}")
        };
        assert_eq!((what, step, layer.as_deref()), ("loss", diverges_at, Some("blocks.mlp exp")));
        let name = |path: &Path| path.file_name().map(|n| n.to_string_lossy().into_owned());
        assert_eq!(path.as_deref().and_then(name), checkpoint.map(|s: u64| format!("{s:08}")));
        assert_eq!(world.file("a", "metrics.jsonl").lines().count() as u64, diverges_at - 1);
    }
}

#[test]
fn a_budget_of_time_ends_by_the_clock_and_shares_are_kept() {
    let mut world = World::new(9, Every::Steps(2));
    world.host.tick.set(0.5);
    world.spec.budget = Budget::Seconds(3.0);
    world.spec.steps = None;
    let Ok(Outcome::Done(result)) = world.run("a", &mut machine()) else { panic!("done") };
    // The clock is read twice a step, half a second later each time.
    assert_eq!(result["step"], json!(6));
    assert!(world.file("a", "metrics.jsonl").contains("\"share\":0.5,"));
}

#[test]
fn budgets_in_steps() {
    let mut spec = World::new(9, Every::Never).spec;
    spec.steps = None;
    for (budget, steps) in [
        (Budget::Steps(9.0), Some(9)),
        (Budget::Tokens(33.0), Some(2)),
        (Budget::TokensPerParam(16.0), Some(2)),
        (Budget::Flops(2.5e6), Some(3)),
        (Budget::Epochs(2.0), Some(63)),
        (Budget::Seconds(1.0), None),
    ] {
        spec.budget = budget;
        assert_eq!(total_steps(&spec, 1000), steps, "{budget:?}");
    }
}
