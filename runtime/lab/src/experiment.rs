//! A program's nodes, run in the order in which they need each other.
//!
//! What is there is not done again: tokenizers and shards are found by the hash of what they are made from, runs by their key. An incomplete run
//! goes on. Facts that turn up on the way (a vocabulary, numbers of tokens) may make other nodes known, so the program is
//! checked again with them. A node whose runtime comes with a later part is reported with its code; what does not
//! need it is run all the same.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cs336_compiler::check::hir::{Budget, Node, Nodes, Spec, TrainSpec};
use cs336_compiler::front::{Checked, check};
use cs336_compiler::world::World;
use cs336_data::{Batches, Windows};
use cs336_device::Cpu;
use serde_json::{Value, json};

use crate::data::{Encoded, Room, name_of};
use crate::error::LabError;
use crate::facts::Facts;
use crate::host::Host;
use crate::initial::initial;
use crate::key::{KeyInputs, NUMERICS_VERSION};
use crate::machine::PlanMachine;
use crate::progress::{Note, Watcher};
use crate::rundir::{self, Manifest, RunDir, SCHEMA_VERSION, Status};
use crate::train::{Around, Outcome, Task, train};

/// A program on disk with what is known about its data.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "it holds strangers behind traits")]
pub struct Program<'a> {
    /// Gives texts and facts to the checker.
    pub world: &'a dyn World,
    /// The same facts, to be added to.
    pub facts: &'a Facts,
    /// The file.
    pub path: &'a str,
    /// `--set path=EXPR`.
    pub sets: &'a [String],
}

/// How it is run; nothing here changes results.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where runs are: `runs`.
    pub root: PathBuf,
    /// Where caches are.
    pub cache: PathBuf,
    /// `start = ask` is answered with yes.
    pub yes: bool,
    /// Calibrated FLOPs per second of this machine.
    pub peak_flops: Option<f64>,
}

/// What became of the nodes.
#[derive(Debug, Default)]
pub struct Report {
    /// Runs in order.
    pub runs: Vec<(String, Outcome)>,
    /// Nodes that could not be run, and why; everything else was.
    pub refused: Vec<LabError>,
}

/// How a node stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Nothing to run: a model, data that are read when needed.
    Ready,
    /// A run that is not there.
    Missing,
    /// A run that goes on from a step.
    Incomplete {
        /// Its newest checkpoint.
        step: u64,
    },
    /// A finished run.
    Done {
        /// Its figures.
        result: Value,
    },
    /// Comes with a later part.
    NotBuilt {
        /// Which.
        part: String,
    },
    /// Known after another node.
    After {
        /// Which.
        node: String,
    },
}

impl<'a> Program<'a> {
    /// The checked program. Facts about nodes that mean something else now are forgotten first.
    pub fn checked(&self) -> Checked<'a> {
        let mut checked = check(self.world, self.path, self.sets);
        // Each round forgets at least one fact, and there are finitely many.
        while self.facts.forget_stale(&checked.nodes) {
            checked = check(self.world, self.path, self.sets);
        }
        checked
    }

    /// The checked program, or its problems if there are errors.
    pub fn sound(&self) -> Result<Checked<'a>, LabError> {
        let checked = self.checked();
        if checked.problems().has_errors() {
            let (problems, sources) = (checked.problems().clone(), checked.sources().clone());
            return Err(LabError::Program(Box::new((problems, sources))));
        }
        Ok(checked)
    }
}

/// The nodes that `targets` need, themselves included, each after what it needs. Without targets: all nodes.
pub fn order(nodes: &Nodes, targets: &[String]) -> Result<Vec<String>, LabError> {
    let mut order = Vec::new();
    let all: Vec<String> = nodes.keys().cloned().collect();
    for target in if targets.is_empty() { &all } else { targets } {
        if !nodes.contains_key(target) {
            return Err(LabError::NoNode { name: target.clone(), known: all });
        }
        visit(target, nodes, &mut order, &mut Vec::new());
    }
    Ok(order)
}

/// How each of the nodes stands, in the order in which they would run. A run counts if it means the same; its data are not read.
pub fn standings(
    nodes: &Nodes,
    targets: &[String],
    root: &Path,
) -> Result<Vec<(String, Standing)>, LabError> {
    let runs = rundir::list(root)?;
    let standing = |node: &Node| -> Result<Standing, LabError> {
        Ok(match &node.spec {
            Spec::Data(_) | Spec::Rows(_) | Spec::Tokenizer(_) | Spec::Model => Standing::Ready,
            Spec::After { node } => Standing::After { node: node.clone() },
            Spec::NotBuilt { part } => Standing::NotBuilt { part: part.clone() },
            Spec::Train(_) => {
                let mut best = Standing::Missing;
                for (path, manifest) in &runs {
                    let inputs = &manifest.inputs;
                    if inputs.meaning != node.meaning || inputs.numerics != NUMERICS_VERSION {
                        continue;
                    }
                    match rundir::status(path)? {
                        Status::Done { result } => return Ok(Standing::Done { result }),
                        Status::Incomplete { step } => best = Standing::Incomplete { step },
                        Status::New => {}
                    }
                }
                best
            }
        })
    };
    let names = order(nodes, targets)?;
    names.into_iter().map(|name| Ok((name.clone(), standing(&nodes[&name])?))).collect()
}

/// Runs the nodes that `targets` need. An error ends it; what was saved before stays.
pub fn run(
    program: Program<'_>,
    targets: &[String],
    settings: &Settings,
    device: &Cpu,
    host: &dyn Host,
    stop: &AtomicBool,
    watcher: &mut dyn Watcher,
) -> Result<Report, LabError> {
    let mut checked = program.sound()?;
    let room = Room::new(&settings.cache);
    let mut report = Report::default();
    let mut without: Vec<String> = Vec::new();
    for name in order(&checked.nodes, targets)? {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let mut node = checked.nodes[&name].clone();
        if let Some(missing) = needs(&node).find(|need| without.contains(need)) {
            let part = format!("`{missing}`, which it needs");
            let what = format!("the {} `{name}`", node.kind);
            report.refused.push(LabError::NotBuilt { what, part });
            without.push(name);
            continue;
        }
        if let Spec::After { node: on } = &node.spec {
            let on = on.clone();
            checked = program.sound()?;
            node = checked.nodes.get(&name).cloned().unwrap_or(node);
            if let Spec::After { .. } = node.spec {
                report.refused.push(LabError::Waits { node: name.clone(), on });
                without.push(name);
                continue;
            }
        }
        let mut learned = false;
        let mut learn = |part: &str, field: &str, value: f64, on: &[&str], nodes: &Nodes| {
            learned |= program.facts.set(part, field, value, on, nodes);
        };
        match &node.spec {
            Spec::Model | Spec::Rows(_) => {}
            Spec::After { .. } => {}
            Spec::NotBuilt { part } => {
                let what = format!("the {} `{name}`", node.kind);
                report.refused.push(LabError::NotBuilt { what, part: part.clone() });
                without.push(name.clone());
            }
            Spec::Data(spec) => {
                watcher.note(&Note::Preparing { what: format!("data `{name}`") });
                let documents = room.documents(spec)?;
                learn(&name, "documents", documents.len() as f64, &[&name], &checked.nodes);
                learn(&name, "bytes", documents.bytes() as f64, &[&name], &checked.nodes);
            }
            Spec::Tokenizer(_) => {
                watcher.note(&Note::Preparing { what: format!("tokenizer `{name}`") });
                let tokenizer = room.tokenizer(&name, &checked.nodes)?;
                learn(&name, "vocab", tokenizer.vocab_size() as f64, &[&name], &checked.nodes);
            }
            Spec::Train(spec) => {
                let data = room.encoded(&spec.data, None, &checked.nodes)?;
                if let Some((owner, part)) = name_of(&spec.data, &checked.nodes) {
                    let on = [owner.as_str(), data.tokenizer_name.as_str()];
                    learn(&part, "tokens", data.shard.len() as f64, &on, &checked.nodes);
                }
                program.facts.save()?;
                if learned {
                    // Whether the data are enough is told before the run, not after it.
                    learned = false;
                    let known = checked.problems().clone();
                    checked = program.sound()?;
                    for problem in checked.problems().iter() {
                        if !known.iter().any(|old| old == problem) {
                            let (code, message) = (problem.code.clone(), problem.message.clone());
                            watcher.note(&Note::Warning { code, message });
                        }
                    }
                }
                let around = &mut Around { host, stop, watcher };
                match run_train(&mut checked, &node, spec, &data, &room, settings, device, around) {
                    Ok(outcome) => report.runs.push((name.clone(), outcome)),
                    Err(error @ LabError::Ask { .. }) => {
                        report.refused.push(error);
                        without.push(name.clone());
                    }
                    Err(error) => return Err(error),
                }
                if let Some((_, Outcome::Limit { .. } | Outcome::Interrupted { .. })) =
                    report.runs.last()
                {
                    without.push(name.clone());
                }
            }
        }
        if learned {
            program.facts.save()?;
            checked = program.sound()?;
        }
    }
    Ok(report)
}

/// What a run is, as far as its key goes.
pub fn key_inputs(node: &Node, spec: &TrainSpec, data: &Encoded) -> KeyInputs {
    let tokenizer = data.tokenizer.hash().to_hex().to_string();
    let contents = BTreeMap::from([
        ("data".to_owned(), data.content.clone()),
        (format!("tokenizer {}", data.tokenizer_name), tokenizer),
    ]);
    let timed = matches!(spec.budget, Budget::Seconds(_));
    KeyInputs {
        meaning: node.meaning.clone(),
        data: contents,
        numerics: NUMERICS_VERSION,
        // More work fits into the same time on a faster machine.
        device: timed.then(|| std::env::consts::ARCH.to_owned()),
    }
}

#[allow(clippy::too_many_arguments, reason = "everything that a run is made of meets here, once")]
fn run_train(
    checked: &mut Checked<'_>,
    node: &Node,
    spec: &TrainSpec,
    data: &Encoded,
    room: &Room,
    settings: &Settings,
    device: &Cpu,
    around: &mut Around<'_>,
) -> Result<Outcome, LabError> {
    let start = |init| initial(init, &checked.nodes, room, &settings.root);
    let initial = spec.init.as_ref().map(start).transpose()?;
    let mut inputs = key_inputs(node, spec, data);
    if let (Some(init), Some(initial)) = (&spec.init, &initial) {
        inputs.begin_with(&init.node, &initial.key);
    }
    let key = inputs.key();
    let path = rundir::path_of(&settings.root, &node.name, &key);
    if let Status::Done { result } = rundir::status(&path)? {
        around.watcher.note(&Note::Cached { node: node.name.clone() });
        return Ok(Outcome::Done(result));
    }
    if spec.execution.ask && !settings.yes {
        let steps = spec.steps.map_or(String::new(), |n| {
            format!("{n} steps, {:.2e} FLOPs", n as f64 * spec.step_flops)
        });
        return Err(LabError::Ask { node: node.name.clone(), cost: steps });
    }
    // Data that are too short are found before anything is made.
    let rows = (spec.batch_tokens / spec.seq.max(1)).max(1);
    let batches = Batches::new(data.shard.clone(), data.pack(spec.seq, rows, spec.seed))?;
    let valid = match &spec.execution.eval {
        Some(eval) => Some(room.encoded(&eval.on, Some(data), &checked.nodes)?),
        None => None,
    };
    let manifest = Manifest {
        version: SCHEMA_VERSION,
        name: node.name.clone(),
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
            "threads": device.threads(),
        }),
        created: around.host.unix_time(),
    };
    let micro_rows = spec.execution.micro_rows.map(|n| n as usize);
    let sources = checked.sources().clone();
    let refused = |problems| LabError::Program(Box::new((problems, sources.clone())));
    let programs = checked.train_programs(&node.name, micro_rows).map_err(&refused)?;
    let windows = match &valid {
        Some(valid) => Some(Windows::new(valid.shard.clone(), programs.seq, programs.eval_rows)?),
        None => None,
    };
    let mut compile = |prompt: usize, capacity: usize| {
        checked.decode_programs(&node.name, prompt, capacity).map_err(&refused)
    };
    let mut machine = PlanMachine::new(device, programs, Box::new(&mut compile))?;
    let mut dir = RunDir::open(&settings.root, &manifest)?;
    let task = Task {
        node: &node.name,
        key: &key,
        spec,
        batches: &batches,
        valid: windows.as_ref(),
        tokenizer: &data.tokenizer,
        initial: initial.as_ref(),
        peak_flops: settings.peak_flops,
    };
    train(task, &mut machine, &mut dir, around)
}

/// What must have run before a node: what it says, and what it waits for.
fn needs(node: &Node) -> impl Iterator<Item = &String> {
    let waits = match &node.spec {
        Spec::After { node } => Some(node),
        Spec::Data(_)
        | Spec::Rows(_)
        | Spec::Tokenizer(_)
        | Spec::Model
        | Spec::Train(_)
        | Spec::NotBuilt { .. } => None,
    };
    node.needs.iter().chain(waits)
}

/// Depth first; names that are no nodes (parts of sweeps) and circles, which the checker reports, are passed over.
fn visit(name: &str, nodes: &Nodes, order: &mut Vec<String>, above: &mut Vec<String>) {
    if order.iter().any(|done| done == name) || above.iter().any(|open| open == name) {
        return;
    }
    let Some(node) = nodes.get(name) else { return };
    above.push(name.to_owned());
    for need in needs(node) {
        visit(need, nodes, order, above);
    }
    above.pop();
    order.push(name.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;
    use cs336_compiler::source::{FileId, Span};

    fn node(name: &str, needs: &[&str], spec: Spec) -> (String, Node) {
        let span = Span::new(FileId(0), 0, 0);
        let needs = needs.iter().map(|n| (*n).to_owned()).collect();
        let node =
            Node { name: name.into(), kind: "x".into(), span, needs, spec, meaning: name.into() };
        (name.to_owned(), node)
    }

    fn nodes() -> Nodes {
        Nodes::from([
            node("report", &["big", "small"], Spec::NotBuilt { part: "part 2".into() }),
            node("big", &["model", "text"], Spec::Model),
            node("small", &["text"], Spec::Model),
            node("model", &[], Spec::After { node: "bpe".into() }),
            node("bpe", &["text"], Spec::Model),
            node("text", &[], Spec::Model),
            node("unused", &[], Spec::Model),
        ])
    }

    #[test]
    fn needs_come_first() {
        let names = order(&nodes(), &["report".to_owned()]).expect("known");
        assert_eq!(names, ["text", "bpe", "model", "big", "small", "report"]);
        assert_eq!(order(&nodes(), &[]).expect("known").len(), 7);
        let error = order(&nodes(), &["smal".to_owned()]).expect_err("unknown");
        assert_eq!((error.code(), error.help()), ("E0855", "did you mean `small`?".to_owned()));
    }

    #[test]
    fn standings_without_runs() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let all = standings(&nodes(), &["report".to_owned()], root.path()).expect("listed");
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["text", "bpe", "model", "big", "small", "report"]);
        assert_eq!(all[5].1, Standing::NotBuilt { part: "part 2".into() });
        assert_eq!(all[2].1, Standing::After { node: "bpe".into() });
    }
}
