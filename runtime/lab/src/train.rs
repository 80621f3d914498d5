//! One training run, from its first step or its newest checkpoint to the end of its budget.
//!
//! Everything that decides a step is a function of its number: the batch, the seeds, the share of the budget (which a schedule
//! sees). So a run that was killed and resumed has the metrics of an undisturbed one, bit for bit; rows past the checkpoint are dropped and
//! written again. (With a budget in seconds the share is the clock's; the metrics keep it.)

use std::sync::atomic::{AtomicBool, Ordering};

use cs336_compiler::check::hir::{Budget, Every, TrainSpec};
use cs336_compiler::row::interp::{Cell, value};
use cs336_data::{Batches, Tokenizer, Windows};
use cs336_table::{Metrics, Row, keep_steps, read, write_parquet};
use serde_json::{Map, Value, json};

use crate::checkpoint::{self, Counters};
use crate::error::LabError;
use crate::eval::{HeldOut, held_out};
use crate::host::Host;
use crate::initial::Initial;
use crate::machine::{Machine, StepInput, StepOutput};
use crate::progress::{Losses, Note, Progress, Speed, Watcher};
use crate::rundir::{RunDir, SCHEMA_VERSION};
use crate::sample::{Choice, Request, generate};

/// What is to be trained on what.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The node's name.
    pub node: &'a str,
    /// The run's key.
    pub key: &'a str,
    /// What the program says.
    pub spec: &'a TrainSpec,
    /// Training rows.
    pub batches: &'a Batches,
    /// Held-out rows.
    pub valid: Option<&'a Windows>,
    /// Ids to text, for samples.
    pub tokenizer: &'a Tokenizer,
    /// Weights to start from instead of fresh ones.
    pub initial: Option<&'a Initial>,
    /// After this step it is measured on held-out text, saved, and stops for now.
    pub pause: Option<u64>,
    /// FLOPs per second that this machine reached in its calibration.
    pub peak_flops: Option<f64>,
}

/// What is around a run.
#[allow(missing_debug_implementations, reason = "it holds strangers behind traits")]
pub struct Around<'a> {
    /// Clock and environment.
    pub host: &'a dyn Host,
    /// Becomes true when the run shall save and stop.
    pub stop: &'a AtomicBool,
    /// Who is told.
    pub watcher: &'a mut dyn Watcher,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Its budget is spent; `result.json`.
    Done(Value),
    /// Saved and stopped on request; `run` again resumes.
    Interrupted {
        /// Steps done.
        step: u64,
    },
    /// Saved and stopped where its sweep compares it with others.
    Paused {
        /// Steps done.
        step: u64,
    },
    /// Saved and stopped by its `limit`; `run` again resumes.
    Limit {
        /// Steps done.
        step: u64,
    },
}

/// Trains.
pub fn train(
    task: Task<'_>,
    machine: &mut dyn Machine,
    dir: &mut RunDir,
    around: &mut Around<'_>,
) -> Result<Outcome, LabError> {
    let spec = task.spec;
    let steps = total_steps(spec, task.batches.tokens_per_epoch());
    let mut at = resume_or_init(task, machine, dir, around)?;
    let rows = keep_steps(&dir.metrics(), at.step)?;
    dir.keep_samples(at.step)?;
    let mut metrics = Metrics::open(&dir.metrics())?;

    let (mut losses, mut speed) = (Losses::new(), Speed::default());
    rows.iter().filter_map(|row| row.get("loss")).for_each(|loss| losses.push(loss));
    let mut valid_loss = rows.iter().rev().find_map(|row| row.get("valid_loss"));
    let started = around.host.seconds();
    let mut saved = at.step;
    let mut due = Due { save: started, eval: started, sample: started };

    // A run that stopped early and was killed before it was finished has stopped all the same.
    let mut stopped = rows.last().is_some_and(|row| stops(spec, row));
    while !stopped && !spent(spec, steps, at) {
        if task.pause.is_some_and(|pause| at.step >= pause) {
            return Ok(Outcome::Paused { step: at.step });
        }
        // The share that is spent once this step is done: the first step has some learning rate, the last sees 1.
        let share = share(spec, steps, Counters { step: at.step + 1, ..at });
        let batch = task.batches.batch(at.step);
        let input = StepInput { step: at.step + 1, share, seed: spec.seed };
        let clock = around.host.seconds();
        let output = machine.step(&batch, input)?;
        let seconds = around.host.seconds() - clock;
        if let Some((what, value)) = not_finite(&output) {
            return Err(diverged(task, machine, dir, around, input, what, value)?);
        }
        at.step += 1;
        at.tokens += spec.batch_tokens;
        at.flops = at.step as f64 * spec.step_flops;
        at.seconds += seconds;
        losses.push(output.loss);
        speed.push(seconds);
        let mut row = row_of(at, share, &output);
        // What stops on the step's own figures is the last step, so it is measured on held-out text like any last step.
        stopped = stops(spec, &row);
        let last = stopped || spent(spec, steps, at);
        let paused = task.pause == Some(at.step);
        if let (Some(eval), Some(windows)) = (&spec.execution.eval, task.valid)
            && (last || paused || due_now(eval.every, at, spec, around.host, &mut due.eval))
        {
            let figures = figures_of(held_out(machine, windows)?);
            valid_loss = Some(figures[0].1);
            figures.iter().for_each(|(name, value)| row.set(name, *value));
            let figures = reported(&figures, &eval.report);
            dir.event(around.host, "eval", json!({ "step": at.step }));
            around.watcher.note(&Note::Eval { step: at.step, figures });
        }
        metrics.push(&row)?;
        stopped = stopped || stops(spec, &row);
        let last = last || stopped;
        if let Some(sample) = &spec.execution.sample
            && (last || due_now(sample.every, at, spec, around.host, &mut due.sample))
        {
            let request = Request {
                prompt: &sample.prompt,
                length: sample.length,
                choice: Choice::of(sample),
                seed: spec.seed,
                step: at.step,
                context: spec.seq as usize,
            };
            let text = generate(machine, task.tokenizer, request, &mut |_| {})?;
            dir.sample(at.step, &sample.prompt, &text)?;
            let prompt = sample.prompt.clone();
            around.watcher.note(&Note::Sample { step: at.step, prompt, text });
        }
        let stop = around.stop.load(Ordering::SeqCst);
        let over =
            spec.execution.limit_seconds.is_some_and(|s| around.host.seconds() - started >= s);
        if last
            || paused
            || stop
            || over
            || due_now(spec.execution.save_every, at, spec, around.host, &mut due.save)
        {
            metrics.sync()?;
            let (weights, states) = machine.tensors()?;
            let keep = spec.execution.keep;
            checkpoint::save(&dir.checkpoints(), task.key, at, &weights, &states, keep)?;
            saved = at.step;
            let speed = speed.steps_per_second() * spec.batch_tokens as f64;
            dir.event(around.host, "save", json!({ "step": at.step, "tokens_per_second": speed }));
            around.watcher.note(&Note::Saved { step: at.step });
        }
        around.watcher.progress(&progress(task, steps, at, &losses, &speed, &row, valid_loss));
        if !last && stop {
            dir.event(around.host, "interrupted", json!({ "step": at.step }));
            return Ok(Outcome::Interrupted { step: saved });
        }
        if !last && over {
            dir.event(around.host, "limit", json!({ "step": at.step }));
            return Ok(Outcome::Limit { step: saved });
        }
    }
    finish(task, dir, around, at)
}

/// Steps that the budget buys; `None` if the clock decides.
pub fn total_steps(spec: &TrainSpec, tokens_per_epoch: u64) -> Option<u64> {
    let whole = |steps: f64| Some(steps.ceil().max(0.0) as u64);
    let batch = spec.batch_tokens as f64;
    match spec.budget {
        Budget::Seconds(_) => None,
        Budget::Epochs(epochs) => whole(epochs * tokens_per_epoch as f64 / batch),
        Budget::Steps(n) => spec.steps.or_else(|| whole(n)),
        Budget::Tokens(n) => spec.steps.or_else(|| whole(n / batch)),
        Budget::TokensPerParam(n) => spec.steps.or_else(|| whole(n * spec.params as f64 / batch)),
        Budget::Flops(n) => spec.steps.or_else(|| whole(n / spec.step_flops)),
    }
}

/// The counters and the model, from the newest sound checkpoint or from the seed.
fn resume_or_init(
    task: Task<'_>,
    machine: &mut dyn Machine,
    dir: &mut RunDir,
    around: &mut Around<'_>,
) -> Result<Counters, LabError> {
    let found = checkpoint::newest(&dir.checkpoints(), task.key)?;
    for error in &found.refused {
        let (code, why) = (error.code(), error.to_string());
        dir.event(around.host, "refused", json!({ "code": code, "why": why }));
        around.watcher.note(&Note::Refused { code, why });
    }
    let node = task.node.to_owned();
    if let Some(loaded) = found.newest {
        machine
            .restore(&loaded.weights, &loaded.states)?
            .map_err(|why| LabError::Mismatch { path: loaded.path.clone(), why })?;
        let step = loaded.counters.step;
        dir.event(around.host, "resume", json!({ "step": step }));
        around.watcher.note(&Note::Resume { node, step });
        return Ok(loaded.counters);
    }
    begin(task, machine)?;
    dir.event(around.host, "start", json!({ "seed": task.spec.seed }));
    around.watcher.note(&Note::Start { node, path: dir.path().display().to_string() });
    Ok(Counters { step: 0, tokens: 0, flops: 0.0, seconds: 0.0 })
}

/// The model before its first step.
fn begin(task: Task<'_>, machine: &mut dyn Machine) -> Result<(), LabError> {
    machine.init(task.spec.seed)?;
    if let Some(initial) = task.initial {
        machine.begin_with(&initial.weights)?.map_err(LabError::Tensor)?;
    }
    Ok(())
}

fn spent(spec: &TrainSpec, steps: Option<u64>, at: Counters) -> bool {
    match (steps, spec.budget) {
        (Some(steps), _) => at.step >= steps,
        (None, Budget::Seconds(seconds)) => at.seconds >= seconds,
        // `total_steps` knows the steps of all other budgets.
        (None, _) => true,
    }
}

fn share(spec: &TrainSpec, steps: Option<u64>, at: Counters) -> f64 {
    match (steps, spec.budget) {
        (Some(steps), _) => at.step as f64 / steps.max(1) as f64,
        (None, Budget::Seconds(seconds)) => (at.seconds / seconds).min(1.0),
        (None, _) => 1.0,
    }
}

/// When something last happened, for cadences in seconds.
struct Due {
    save: f64,
    eval: f64,
    sample: f64,
}

/// Whether something that happens `every` so often happens after the step that led to `at`.
fn due_now(every: Every, at: Counters, spec: &TrainSpec, host: &dyn Host, last: &mut f64) -> bool {
    match every {
        Every::Never => false,
        Every::Steps(n) => n > 0 && at.step.is_multiple_of(n),
        Every::Tokens(n) => {
            let count = |tokens: u64| (tokens as f64 / n).floor();
            n > 0.0 && count(at.tokens) > count(at.tokens - spec.batch_tokens)
        }
        Every::Seconds(seconds) => {
            let now = host.seconds();
            let due = now - *last >= seconds;
            if due {
                *last = now;
            }
            due
        }
    }
}

fn not_finite(output: &StepOutput) -> Option<(&'static str, f64)> {
    let norm = output.grad_norm.unwrap_or(0.0);
    if !output.loss.is_finite() {
        Some(("loss", output.loss))
    } else if !norm.is_finite() {
        Some(("gradient norm", norm))
    } else {
        None
    }
}

/// Finds the layer: the steps since the newest checkpoint are done again, the last one with every value looked at.
fn diverged(
    task: Task<'_>,
    machine: &mut dyn Machine,
    dir: &mut RunDir,
    around: &mut Around<'_>,
    input: StepInput,
    what: &'static str,
    value: f64,
) -> Result<LabError, LabError> {
    let found = checkpoint::newest(&dir.checkpoints(), task.key)?.newest;
    let from = found.as_ref().map_or(0, |loaded| loaded.counters.step);
    around.watcher.note(&Note::Searching { from: from + 1, to: input.step });
    let restored = match &found {
        Some(loaded) => machine.restore(&loaded.weights, &loaded.states)?.is_ok(),
        None => begin(task, machine).is_ok(),
    };
    let mut layer = None;
    if restored {
        let rows = read(&dir.metrics())?;
        for row in rows.iter().filter(|row| row.step > from && row.step < input.step) {
            let share = row.get("share").unwrap_or(0.0);
            let again = StepInput { step: row.step, share, seed: input.seed };
            machine.step(&task.batches.batch(row.step - 1), again)?;
        }
        layer = machine.blame(&task.batches.batch(input.step - 1), input)?;
    }
    let checkpoint = found.map(|loaded| loaded.path);
    let place = json!({ "step": input.step, "what": what, "layer": layer });
    dir.event(around.host, "diverged", place);
    let (step, places) = (input.step, Vec::new());
    Ok(LabError::Diverged { what, value, step, layer, places, checkpoint })
}

/// Whether the program's `stop` holds after the step with these metrics.
fn stops(spec: &TrainSpec, row: &Row) -> bool {
    let cell = |name: &str| match name {
        "step" => Cell::Number(row.step as f64),
        name => row.get(name).map_or(Cell::Null, Cell::Number),
    };
    spec.stop.as_ref().is_some_and(|condition| value(condition, &cell).holds())
}

fn row_of(at: Counters, share: f64, output: &StepOutput) -> Row {
    let mut row = Row::new(at.step);
    row.set("tokens", at.tokens as f64);
    row.set("flops", at.flops);
    row.set("share", share);
    row.set("loss", output.loss);
    for (name, value) in [("lr", output.lr), ("grad_norm", output.grad_norm)] {
        if let Some(value) = value {
            row.set(name, value);
        }
    }
    for (path, value) in &output.measures {
        row.set(&format!("measure:{path}"), *value);
    }
    row
}

/// The held-out loss and what follows from it: all of it is recorded, whatever the program has shown.
fn figures_of(figures: HeldOut) -> [(&'static str, f64); 3] {
    [
        ("valid_loss", figures.loss),
        ("perplexity", figures.perplexity()),
        ("bits_per_byte", figures.bits_per_byte()),
    ]
}

/// The held-out loss, and what else the program asks to report.
fn reported(figures: &[(&'static str, f64)], report: &[String]) -> Vec<(String, f64)> {
    let shown = |name: &str| name == "valid_loss" || report.iter().any(|wanted| wanted == name);
    let all = figures.iter().filter(|(name, _)| shown(name));
    all.map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

fn progress(
    task: Task<'_>,
    steps: Option<u64>,
    at: Counters,
    losses: &Losses,
    speed: &Speed,
    row: &Row,
    valid_loss: Option<f64>,
) -> Progress {
    let spec = task.spec;
    let pace = speed.steps_per_second();
    let left = match (steps, spec.budget) {
        (Some(steps), _) => (pace > 0.0).then(|| (steps - at.step) as f64 / pace),
        (None, Budget::Seconds(seconds)) => Some((seconds - at.seconds).max(0.0)),
        (None, _) => None,
    };
    Progress {
        node: task.node.to_owned(),
        step: at.step,
        steps,
        tokens: at.tokens,
        flops: at.flops,
        flops_budget: steps.map(|steps| steps as f64 * spec.step_flops),
        share: share(spec, steps, at),
        loss: row.get("loss").unwrap_or(f64::NAN),
        valid_loss,
        lr: row.get("lr").unwrap_or(0.0),
        losses: losses.points(),
        tokens_per_second: pace * spec.batch_tokens as f64,
        mfu: task.peak_flops.map(|peak| pace * spec.step_flops / peak),
        eta_seconds: left,
    }
}

/// The figures of the whole run, as Parquet and as `result.json`.
fn finish(
    task: Task<'_>,
    dir: &mut RunDir,
    around: &mut Around<'_>,
    at: Counters,
) -> Result<Outcome, LabError> {
    let rows = read(&dir.metrics())?;
    write_parquet(&rows, &dir.path().join("metrics.parquet"))?;
    let last = rows.last();
    let names = ["loss", "valid_loss", "perplexity", "bits_per_byte"];
    let figures: Vec<(String, f64)> =
        names.iter().filter_map(|name| Some(((*name).to_owned(), last?.get(name)?))).collect();
    let mut result = Map::new();
    result.insert("version".to_owned(), json!(SCHEMA_VERSION));
    result.insert("step".to_owned(), json!(at.step));
    result.insert("tokens".to_owned(), json!(at.tokens));
    result.insert("flops".to_owned(), json!(at.flops));
    result.insert("params".to_owned(), json!(task.spec.params));
    // How often the data were seen: what is repeated teaches less (Muennighoff et al., 2023).
    result.insert("data_tokens".to_owned(), json!(task.batches.shard().len()));
    result.insert("seconds".to_owned(), json!(at.seconds));
    for (name, value) in &figures {
        result.insert(name.clone(), json!(value));
    }
    let result = Value::Object(result);
    dir.finish(&result)?;
    dir.event(around.host, "done", json!({ "step": at.step, "seconds": at.seconds }));
    around.watcher.note(&Note::Done { node: task.node.to_owned(), figures });
    Ok(Outcome::Done(result))
}

#[cfg(test)]
#[path = "train_tests.rs"]
mod tests;
