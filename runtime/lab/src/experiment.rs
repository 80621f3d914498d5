//! A program's nodes, run in the order in which they need each other.
//!
//! What is there is not done again: tokenizers and shards are found by the hash of what they are made from, runs by their key. An incomplete run
//! goes on. Facts that turn up on the way (a vocabulary, numbers of tokens) may make other nodes known, so the program is
//! checked again with them. A node whose runtime comes with a later part is reported with its code; what does not
//! need it is run all the same.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use cs336_compiler::check::hir::{Node, Nodes, Spec, TrainSpec};
use cs336_compiler::front::{Checked, check};
use cs336_compiler::world::World;
use cs336_device::Processor;
use cs336_table::Ledger;
use indexmap::IndexSet;

use crate::data::{Encoded, Room, name_of};
use crate::error::LabError;
use crate::facts::Facts;
use crate::fits;
use crate::host::Host;
use crate::job::{Bench, Prepared, prepare};
use crate::progress::{Note, Watcher};
use crate::report;
use crate::rounds;
use crate::rundir::Known;
use crate::train::{Around, Outcome};

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
    /// Points of sweeps that failed are tried again.
    pub retry_failed: bool,
    /// Points of a sweep that run at a time, at most; `None`: as many as there are cores and memory for.
    pub jobs: Option<usize>,
}

/// What became of the nodes.
#[derive(Debug, Default)]
pub struct Report {
    /// Runs in order.
    pub runs: Vec<(String, Outcome)>,
    /// Nodes that could not be run, and why; everything else was.
    pub refused: Vec<LabError>,
    /// Points of sweeps that failed, with the code and what went wrong.
    pub failed: Vec<(String, String, String)>,
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
    let mut order = IndexSet::new();
    let all: Vec<String> = nodes.keys().cloned().collect();
    for target in if targets.is_empty() { &all } else { targets } {
        if !nodes.contains_key(target) {
            return Err(LabError::NoNode { name: target.clone(), known: all });
        }
        visit(target, nodes, &mut order, &mut Vec::new());
    }
    Ok(order.into_iter().collect())
}

/// The next node to run. What is found out on the way may change what the others need, so it is asked anew each time.
/// Points run with their sweep, unless they alone are asked for.
fn next(
    nodes: &Nodes,
    targets: &[String],
    done: &BTreeSet<String>,
) -> Result<Option<String>, LabError> {
    let names = order(nodes, targets)?;
    let with_sweep: BTreeSet<&str> = names.iter().flat_map(|n| nodes[n].points()).collect();
    let left = |name: &&String| !done.contains(*name) && !with_sweep.contains(name.as_str());
    Ok(names.iter().find(left).cloned())
}

/// Runs the nodes that `targets` need. An error ends it; what was saved before stays.
pub fn run(
    program: Program<'_>,
    targets: &[String],
    settings: &Settings,
    device: &Processor,
    host: &dyn Host,
    stop: &AtomicBool,
    watcher: &mut dyn Watcher,
) -> Result<Report, LabError> {
    let mut at = String::new();
    let around = &mut Around { host, stop, watcher };
    let ended = run_all(program, targets, settings, device, around, &mut at);
    let checked = program.checked();
    let mut report = ended.map_err(|error| error.placed(&checked, &at))?;
    report.refused = report.refused.into_iter().map(|error| error.placed(&checked, "")).collect();
    Ok(report)
}

/// The same. `at` is the node that is being run.
fn run_all(
    program: Program<'_>,
    targets: &[String],
    settings: &Settings,
    device: &Processor,
    around: &mut Around<'_>,
    at: &mut String,
) -> Result<Report, LabError> {
    let Around { host, stop, watcher } = around;
    let (host, stop, watcher) = (*host, *stop, &mut **watcher);
    let mut checked = program.sound()?;
    let room = Room::new(&settings.cache);
    let known = Known::read(&settings.root)?;
    let bench =
        Bench { room: &room, settings, known: &known, host, threads: device.threads(), device };
    let mut summary = Report::default();
    let mut fitted = fits::Fits::new();
    let mut without: Vec<String> = Vec::new();
    let mut done = BTreeSet::new();
    while let Some(name) = next(&checked.nodes, targets, &done)? {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        done.insert(name.clone());
        at.clone_from(&name);
        let mut node = checked.nodes[&name].clone();
        if let Some(missing) = needs(&node).find(|need| without.contains(need)) {
            let built = !matches!(checked.nodes[missing].spec, Spec::NotBuilt { .. });
            let refused = if built {
                LabError::Waits { node: name.clone(), on: missing.clone() }
            } else {
                let part = format!("`{missing}`, which it needs");
                LabError::NotBuilt { what: format!("the {} `{name}`", node.kind), part }
            };
            summary.refused.push(refused);
            without.push(name);
            continue;
        }
        if let Spec::After { node: on, .. } = &node.spec {
            let on = on.clone();
            checked = program.sound()?;
            node = checked.nodes.get(&name).cloned().unwrap_or(node);
            if let Spec::After { .. } = node.spec {
                summary.refused.push(LabError::Waits { node: name.clone(), on });
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
            Spec::Outside(_) => {
                // Others are asked for a whole sweep, whose budget it is.
                let on = name.rsplit_once('/').map_or("", |(sweep, _)| sweep).to_owned();
                summary.refused.push(LabError::Waits { node: name.clone(), on });
                without.push(name.clone());
            }
            Spec::Fit(spec) => {
                watcher.note(&Note::Preparing { what: format!("fit `{name}`") });
                let ledger = Ledger::open(&settings.root)?;
                match fits::fit(&name, spec, &ledger, &checked.nodes) {
                    Ok(answered) => {
                        fits::save(&settings.root, &name, &answered.fitted)?;
                        if let Some(message) = fits::at_ends(&name, spec, &answered.fitted) {
                            watcher.note(&Note::Warning { code: "W0712".to_owned(), message });
                        }
                        for (field, value) in &answered.facts {
                            learn(&name, field, *value, &[&name], &checked.nodes);
                        }
                        fitted.insert(name.clone(), answered);
                    }
                    Err(error) => {
                        summary.refused.push(error);
                        without.push(name.clone());
                    }
                }
            }
            Spec::Report(spec) => {
                match report::report(&name, spec, &checked.nodes, &settings.root, &fitted) {
                    Ok(made) => tell(&made, watcher),
                    Err(error @ LabError::Waits { .. }) => {
                        summary.refused.push(error);
                        without.push(name.clone());
                    }
                    Err(error) => return Err(error),
                }
            }
            Spec::NotBuilt { part } => {
                let what = format!("the {} `{name}`", node.kind);
                summary.refused.push(LabError::NotBuilt { what, part: part.clone() });
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
                learned |= tokens_of(program, spec, &data, &checked.nodes)?;
                if learned {
                    learned = false;
                    checked = again(program, &checked, watcher)?;
                }
                let around = &mut Around { host, stop, watcher };
                match run_train(&mut checked, &node, spec, &data, bench, device, around) {
                    Ok(outcome) => {
                        for (field, value) in found(&outcome) {
                            learned |=
                                program.facts.set(&name, field, value, &[&name], &checked.nodes);
                        }
                        summary.runs.push((name.clone(), outcome));
                    }
                    Err(error @ LabError::Ask { .. }) => {
                        summary.refused.push(error);
                        without.push(name.clone());
                    }
                    Err(error) => return Err(error),
                }
                if let Some((_, Outcome::Limit { .. } | Outcome::Interrupted { .. })) =
                    summary.runs.last()
                {
                    without.push(name.clone());
                }
            }
            Spec::Sweep(_) => {
                let around = &mut Around { host, stop, watcher };
                if !rounds::sweep(program, &mut checked, &name, bench, around, &mut summary)? {
                    without.push(name.clone());
                }
            }
        }
        if learned {
            program.facts.save()?;
            checked = program.sound()?;
        }
        loop {
            match answered_more(program, &checked.nodes, &mut fitted) {
                Ok(false) => break,
                Ok(true) => {
                    program.facts.save()?;
                    checked = program.sound()?;
                }
                Err(error) => {
                    summary.refused.push(error);
                    break;
                }
            }
        }
    }
    Ok(summary)
}

/// Answers what a program asks of a fitted law only once it knows the first answers: what the law says of the sizes of a run that it
/// asked for. True if there is a new fact. It ends: each round answers a question, and a program is checked in a bounded number of steps.
fn answered_more(
    program: Program<'_>,
    nodes: &Nodes,
    fitted: &mut fits::Fits,
) -> Result<bool, LabError> {
    let mut learned = false;
    for (name, known) in fitted {
        let Some(Spec::Fit(spec)) = nodes.get(name).map(|n| &n.spec) else { continue };
        for (field, value) in known.answer_more(name, spec)? {
            learned |= program.facts.set(name, &field, value, &[name], nodes);
        }
    }
    Ok(learned)
}

/// One run that nothing runs beside.
fn run_train(
    checked: &mut Checked<'_>,
    node: &Node,
    spec: &TrainSpec,
    data: &Encoded,
    bench: Bench<'_>,
    device: &Processor,
    around: &mut Around<'_>,
) -> Result<Outcome, LabError> {
    // Who names a run that failed wants it tried again.
    let job = match prepare(checked, node, spec, data, bench, true)? {
        Prepared::Done(result) => {
            around.watcher.note(&Note::Cached { node: node.name.clone() });
            return Ok(Outcome::Done(result));
        }
        Prepared::Failed { why, .. } => return Err(LabError::Tensor(why)),
        Prepared::Ready(job) => job,
    };
    let compile = |prompt: usize, capacity: usize| {
        let made = checked.decode_programs(&node.name, prompt, capacity);
        made.map_err(|p| LabError::Program(Box::new((p, checked.sources().clone()))))
    };
    job.carry_out(device, Box::new(compile), bench.settings.peak_flops, around)
}

/// What the rest of a program may ask of a run that is done.
pub(crate) fn found(outcome: &Outcome) -> Vec<(&'static str, f64)> {
    let Outcome::Done(result) = outcome else { return Vec::new() };
    let number = |key: &str| result.get(key).and_then(serde_json::Value::as_f64);
    let fields = [
        ("loss", number("loss")),
        ("valid_loss", number("valid_loss")),
        ("perplexity", number("valid_loss").map(f64::exp)),
        ("bits_per_byte", number("bits_per_byte")),
        ("time_used", number("seconds")),
    ];
    fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Remembers how many tokens the data of a run have. True if that was not known.
pub(crate) fn tokens_of(
    program: Program<'_>,
    spec: &TrainSpec,
    data: &Encoded,
    nodes: &Nodes,
) -> Result<bool, LabError> {
    let Some((owner, part)) = name_of(&spec.data, nodes) else { return Ok(false) };
    let on = [owner.as_str(), data.tokenizer_name.as_str()];
    let is_new = program.facts.set(&part, "tokens", data.shard.len() as f64, &on, nodes);
    if is_new {
        program.facts.save()?;
    }
    Ok(is_new)
}

/// Checks the program with what was learned. Whether the data are enough is told before the run, not after it.
pub(crate) fn again<'a>(
    program: Program<'a>,
    checked: &Checked<'_>,
    watcher: &mut dyn Watcher,
) -> Result<Checked<'a>, LabError> {
    let known = checked.problems().clone();
    let checked = program.sound()?;
    for problem in checked.problems().iter() {
        if !known.iter().any(|old| old == problem) {
            let (code, message) = (problem.code.clone(), problem.message.clone());
            watcher.note(&Note::Warning { code, message });
        }
    }
    Ok(checked)
}

/// Says what a report's rows lack, and where it is.
fn tell(made: &report::Report, watcher: &mut dyn Watcher) {
    for w in &made.warnings {
        let message = format!("{}; {}", w.message, w.help);
        watcher.note(&Note::Warning { code: w.code.to_owned(), message });
    }
    if let Some(path) = made.files.first() {
        let (path, files) = (path.display().to_string(), made.files.len());
        watcher.note(&Note::Wrote { path, files });
    }
}

/// What must have run before a node: what it says, and what it waits for.
fn needs(node: &Node) -> impl Iterator<Item = &String> {
    let waits = match &node.spec {
        Spec::After { node, .. } => Some(node),
        Spec::Data(_)
        | Spec::Rows(_)
        | Spec::Tokenizer(_)
        | Spec::Model
        | Spec::Fit(_)
        | Spec::Train(_)
        | Spec::Sweep(_)
        | Spec::Outside(_)
        | Spec::Report(_)
        | Spec::NotBuilt { .. } => None,
    };
    node.needs.iter().chain(waits)
}

/// Depth first; names that are no nodes (parts of sweeps) and circles, which the checker reports, are passed over.
fn visit(name: &str, nodes: &Nodes, order: &mut IndexSet<String>, above: &mut Vec<String>) {
    if order.contains(name) || above.iter().any(|open| open == name) {
        return;
    }
    let Some(node) = nodes.get(name) else { return };
    above.push(name.to_owned());
    for need in needs(node) {
        visit(need, nodes, order, above);
    }
    above.pop();
    order.insert(name.to_owned());
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use cs336_compiler::source::{FileId, Span};

    fn node(name: &str, needs: &[&str], spec: Spec) -> (String, Node) {
        let span = Span::new(FileId(0), 0, 0);
        let needs = needs.iter().map(|n| (*n).to_owned()).collect();
        let node =
            Node { name: name.into(), kind: "x".into(), span, needs, spec, meaning: name.into() };
        (name.to_owned(), node)
    }

    pub(crate) fn nodes() -> Nodes {
        Nodes::from([
            node("report", &["big", "small"], Spec::NotBuilt { part: "part 2".into() }),
            node("big", &["model", "text"], Spec::Model),
            node("small", &["text"], Spec::Model),
            node("model", &[], Spec::After { node: "bpe".into(), asks: false }),
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
}
