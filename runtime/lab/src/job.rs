//! One run, from a checked node to its outcome: what it needs is gathered first, then it is carried out, maybe in another thread.
//!
//! [`prepare`] takes the run's lock, reads its data and compiles its plans; a [`Job`] holds all that and can be sent. What goes wrong from the
//! lock on is written into the run's folder, so that a failed run is known as such until it is tried again.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cs336_compiler::check::hir::{Budget, Node, Nodes, TrainSpec};
use cs336_compiler::front::Checked;
use cs336_compiler::lower::risks;
use cs336_compiler::programs::{Compiled, TrainPrograms};
use cs336_data::{Batches, Tokenizer, Windows};
use cs336_device::Processor;
use serde_json::{Value, json};

use crate::data::{Encoded, Room};
use crate::error::LabError;
use crate::experiment::Settings;
use crate::host::Host;
use crate::initial::{self, Initial, Source};
use crate::key::{KeyInputs, NUMERICS_VERSION};
use crate::machine::PlanMachine;
use crate::machine::plans::CompileDecode;
use crate::progress::Note;
use crate::rundir::{self, Known, Manifest, RunDir, SCHEMA_VERSION, Status};
use crate::train::{Around, Outcome, Task, train};

/// What a run is, as far as its key goes: all that its recorded figures depend on.
pub fn key_inputs(
    node: &Node,
    spec: &TrainSpec,
    data: &Encoded,
    room: &Room,
) -> Result<KeyInputs, LabError> {
    let tokenizer = data.tokenizer.hash().to_hex().to_string();
    let mut contents = BTreeMap::from([
        ("data".to_owned(), data.content.clone()),
        (format!("tokenizer {}", data.tokenizer_name), tokenizer),
    ]);
    if let Some(eval) = &spec.execution.eval {
        let held_out = room.documents(&eval.on)?;
        contents.insert("eval.on".to_owned(), held_out.hash().to_hex().to_string());
    }
    let timed = matches!(spec.budget, Budget::Seconds(_));
    Ok(KeyInputs {
        meaning: node.meaning.clone(),
        data: contents,
        numerics: NUMERICS_VERSION,
        // More work fits into the same time on a faster machine.
        device: timed.then(|| std::env::consts::ARCH.to_owned()),
    })
}

/// A run that is ready to begin or to go on.
#[derive(Debug)]
pub(crate) struct Job {
    /// The node.
    pub(crate) node: String,
    /// What the program says.
    pub(crate) spec: TrainSpec,
    key: String,
    dir: RunDir,
    parts: Parts,
    initial: Option<Initial>,
    /// See [`Task::pause`].
    pub(crate) pause: Option<u64>,
}

#[derive(Debug)]
struct Parts {
    batches: Batches,
    valid: Option<Windows>,
    tokenizer: Arc<Tokenizer>,
    programs: TrainPrograms,
}

/// What preparing a run gives.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// It is there already.
    Done(Value),
    /// It failed before and is not to be tried again.
    Failed {
        /// Code of what went wrong.
        code: String,
        /// What went wrong.
        why: String,
    },
    /// It can begin.
    Ready(Box<Job>),
}

/// What preparing needs besides the node.
#[derive(Clone, Copy)]
pub(crate) struct Bench<'a> {
    pub(crate) room: &'a Room,
    pub(crate) settings: &'a Settings,
    pub(crate) known: &'a Known,
    pub(crate) host: &'a dyn Host,
    pub(crate) threads: usize,
    pub(crate) device: &'a Processor,
}

/// Which run a node is, and where it is.
#[derive(Debug)]
pub(crate) struct Place {
    inputs: KeyInputs,
    initial: Option<Source>,
    key: String,
    name: String,
    /// Its folder.
    pub(crate) path: PathBuf,
}

/// Finds the run of `node`; its data are read, nothing is made.
pub(crate) fn place(
    node: &Node,
    spec: &TrainSpec,
    data: &Encoded,
    nodes: &Nodes,
    bench: Bench<'_>,
) -> Result<Place, LabError> {
    let root = &bench.settings.root;
    let start = |init| initial::source(init, nodes, bench.room, bench.known, root);
    let initial = spec.init.as_ref().map(start).transpose()?;
    let mut inputs = key_inputs(node, spec, data, bench.room)?;
    if let (Some(init), Some(initial)) = (&spec.init, &initial) {
        inputs.begin_with(&init.node, &initial.key);
    }
    let key = inputs.key();
    // A run that means the same is the same run, whatever it was called.
    let name = bench.known.name_of(&key).unwrap_or(&node.name).to_owned();
    let path = rundir::path_of(root, &name, &key);
    Ok(Place { inputs, initial, key, name, path })
}

/// Gathers what the run of `node` needs. `retry`: a run that failed is tried again.
pub(crate) fn prepare(
    checked: &mut Checked<'_>,
    node: &Node,
    spec: &TrainSpec,
    data: &Encoded,
    bench: Bench<'_>,
    retry: bool,
) -> Result<Prepared, LabError> {
    let Bench { settings, host, .. } = bench;
    let Place { inputs, initial, key, name, path } =
        place(node, spec, data, &checked.nodes, bench)?;
    match rundir::status(&path)? {
        Status::Done { result } => return Ok(Prepared::Done(result)),
        Status::Failed { code, why, .. } if !retry => return Ok(Prepared::Failed { code, why }),
        Status::Failed { .. }
        | Status::New
        | Status::Incomplete { .. }
        | Status::Stopped { .. } => {}
    }
    if spec.execution.ask && !settings.yes {
        let cost = spec.steps.map_or(String::new(), |n| {
            format!("{n} steps, {:.2e} FLOPs", n as f64 * spec.step_flops)
        });
        return Err(LabError::Ask { node: node.name.clone(), cost });
    }
    let manifest = Manifest {
        version: SCHEMA_VERSION,
        name,
        key: key.clone(),
        inputs,
        sources: checked
            .sources()
            .iter()
            .filter(|(_, file)| !file.is_std)
            .map(|(_, file)| (file.name.clone(), file.text.clone()))
            .collect(),
        seeds: json!({ "init": spec.seed, "noise": spec.seed, "order": spec.seed, "sample": spec.seed }),
        cs336c: env!("CARGO_PKG_VERSION").to_owned(),
        machine: json!({
            "os": std::env::consts::OS,
            "arch": std::env::consts::ARCH,
            "threads": bench.threads,
        }),
        created: host.unix_time(),
        columns: BTreeMap::from([
            ("params".to_owned(), spec.params as f64),
            ("data_tokens".to_owned(), data.shard.len() as f64),
        ]),
    };
    let tokens = data.tokenizer.vocab_size() as u64;
    if let Some(room) = spec.most_tokens.filter(|room| *room < tokens) {
        let (node, tokenizer) = (node.name.clone(), data.tokenizer_name.clone());
        return Err(LabError::Vocabulary { node, tokenizer, tokens, room });
    }
    // So is a prompt that cannot be written with this tokenizer.
    if let Some(sample) = &spec.execution.sample {
        data.tokenizer.encode(&sample.prompt)?;
    }
    let initial = initial.as_ref().map(Source::weights).transpose()?;
    // Data that are too short are found before anything is made.
    let rows = (spec.batch_tokens / spec.seq.max(1)).max(1);
    let batches = Batches::new(data.shard.clone(), data.pack(spec.seq, rows, spec.seed))?;
    let mut dir = RunDir::open(&settings.root, &manifest)?;
    dir.forgive()?;
    match parts(checked, node, spec, data, batches, bench.room) {
        Ok(parts) => {
            let (node, spec) = (node.name.clone(), spec.clone());
            Ok(Prepared::Ready(Box::new(Job { node, spec, key, dir, parts, initial, pause: None })))
        }
        Err(error) => {
            dir.fail(host, &error)?;
            Err(error)
        }
    }
}

fn parts(
    checked: &mut Checked<'_>,
    node: &Node,
    spec: &TrainSpec,
    data: &Encoded,
    batches: Batches,
    room: &Room,
) -> Result<Parts, LabError> {
    let nodes: &Nodes = &checked.nodes;
    let valid = match &spec.execution.eval {
        Some(eval) => Some(room.encoded(&eval.on, Some(data), nodes)?),
        None => None,
    };
    let micro_rows = spec.execution.micro_rows.map(|n| n as usize);
    let programs = checked
        .train_programs(&node.name, micro_rows)
        .map_err(|problems| LabError::Program(Box::new((problems, checked.sources().clone()))))?;
    let valid = match &valid {
        Some(valid) => Some(Windows::new(valid.shard.clone(), programs.seq, programs.eval_rows)?),
        None => None,
    };
    Ok(Parts { batches, valid, tokenizer: Arc::clone(&data.tokenizer), programs })
}

/// A value that is not finite with the expression that it comes of.
fn written(error: LabError, step: &Compiled) -> LabError {
    match error {
        LabError::Diverged { what, value, step: at, layer: Some(layer), checkpoint, .. } => {
            let places = risks(&step.graph, &layer);
            LabError::Diverged { what, value, step: at, layer: Some(layer), places, checkpoint }
        }
        other => other,
    }
}

impl Job {
    /// Bytes at the peak of a step.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.parts.programs.step.plan.memory.iter().map(|(_, bytes)| *bytes as u64).sum()
    }

    /// Begins or goes on. What goes wrong is written into the run's folder.
    pub(crate) fn carry_out(
        mut self,
        device: &Processor,
        compile: Box<CompileDecode<'_>>,
        peak_flops: Option<f64>,
        around: &mut Around<'_>,
    ) -> Result<Outcome, LabError> {
        if let Some(error) = self.dir.mended() {
            let message = format!(
                "{error}; it is kept in `damaged-1`, and the run goes on from its checkpoints"
            );
            around.watcher.note(&Note::Warning { code: error.code().to_owned(), message });
        }
        let Parts { batches, valid, tokenizer, programs } = self.parts;
        let task = Task {
            node: &self.node,
            key: &self.key,
            spec: &self.spec,
            batches: &batches,
            valid: valid.as_ref(),
            tokenizer: &tokenizer,
            initial: self.initial.as_ref(),
            pause: self.pause,
            peak_flops,
        };
        let result = PlanMachine::new(device, programs, compile).and_then(|mut machine| {
            let result = train(task, &mut machine, &mut self.dir, around);
            result.map_err(|error| written(error, &machine.programs().step))
        });
        if let Err(error) = &result {
            self.dir.fail(around.host, error)?;
        }
        result
    }
}
