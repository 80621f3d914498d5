//! Train nodes: settings to [`TrainSpec`], and to the parts that are compiled.

use std::rc::Rc;

use super::super::assemble::{COLUMNS, TrainParts};
use super::super::call::method;
use super::super::eval::{Eval, describe};
use super::super::forms;
use super::super::hir::{
    Budget, DataSpec, EvalSpec, Every, Execution, SampleSpec, Spec, Stage, TrainSpec,
};
use super::super::modules::MAIN;
use super::super::stages;
use super::super::trace::Held;
use super::super::units;
use super::super::value::{DefKind, LayerForm, NodeValue, Record, Stream, Value};
use super::{causal, facts, likelihood, meaning, plain, points, prompt, schema, start};
use crate::graph::grad::Remat;
use crate::graph::{DType, Graph};
use crate::pipeline::compile;
use crate::plan::{Class, Target};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::ItemKind;

/// The parts of a training node that are compiled.
pub fn train_parts(eval: &mut Eval<'_>, node: &str) -> Option<TrainParts> {
    let n = points::named(eval, node)?;
    parts(eval, &n)
}

fn at(n: &NodeValue, field: &str) -> Span {
    n.fields.fields.get(field).and_then(|(_, s)| *s).unwrap_or(n.span)
}

pub(super) fn parts(eval: &mut Eval<'_>, n: &NodeValue) -> Option<TrainParts> {
    let model = n.fields.get("model")?.clone();
    let model = eval.as_layer(model, at(n, "model"))?;
    let optimizer = match n.fields.get("optimizer")? {
        Value::Def(d) => {
            // `optimizer = adamw` without arguments.
            let call = Value::Def(d.clone());
            let scope = n.scope.clone();
            eval.call(&scope, call, None, &[], at(n, "optimizer"))
        }
        v => v.clone(),
    };
    let objective = match n.fields.get("objective") {
        // `objective = smoothed` without arguments.
        Some(Value::Def(d)) if d.kind == DefKind::Loss && method(d, "of").is_some() => {
            let (call, scope) = (Value::Def(d.clone()), n.scope.clone());
            eval.call(&scope, call, None, &[], at(n, "objective"))
        }
        Some(v) => v.clone(),
        None => eval.name(&n.scope.clone(), "cross_entropy", n.span),
    };
    if matches!(optimizer, Value::Error) || matches!(objective, Value::Error) {
        return None;
    }
    let compute = compute_dtype(eval, n)?;
    let stream = data_of(eval, n)?;
    let seq = pack_seq(&stream)?;
    let remat = match n.fields.get("remat") {
        Some(Value::Text(t)) if &**t == "per_block" => Remat::PerBlock,
        Some(Value::None) => Remat::None,
        _ => Remat::Auto,
    };
    let average = start::average(eval, n)?;
    let held = stages::tokenizer_of(&stream).map(|t| held(eval, &t));
    let span = n.span;
    Some(TrainParts { model, optimizer, objective, compute, seq, remat, average, held, span })
}

/// The ids that rows of a tokenizer hold.
fn held(eval: &mut Eval<'_>, tokenizer: &NodeValue) -> Held {
    Held {
        tokenizer: tokenizer.name.to_string(),
        span: tokenizer.span,
        tokens: plain::declared_vocab(eval, tokenizer).map(|n| n as usize),
    }
}

fn compute_dtype(eval: &mut Eval<'_>, n: &NodeValue) -> Option<DType> {
    let word = match n.fields.get("precision") {
        None => "f32".to_owned(),
        Some(Value::Text(t)) => t.to_string(),
        Some(Value::Builtin(b)) => (*b).to_owned(),
        Some(Value::Record(r)) => match r.get("compute") {
            Some(Value::Text(t)) => t.to_string(),
            Some(Value::Builtin(b)) => (*b).to_owned(),
            _ => "f32".to_owned(),
        },
        Some(other) => describe(other),
    };
    match word.as_str() {
        "f32" => Some(DType::F32),
        "bf16" => Some(DType::Bf16),
        "fp16" => Some(DType::F16),
        other => {
            let text = format!("`precision` must be f32, bf16 or fp16, this is {other}");
            eval.problem(Problem::new("E0301", at(n, "precision"), text));
            None
        }
    }
}

fn data_of(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Rc<Stream>> {
    let v = n.fields.get("data")?.clone();
    stages::as_stream(eval, v, at(n, "data"))
}

fn pack_seq(s: &Stream) -> Option<usize> {
    if matches!(s.stage, "pack" | "pad") {
        return match s.args.get("seq") {
            Some(Value::Number(q)) if q.value >= 1.0 => Some(q.value as usize),
            _ => None,
        };
    }
    s.input.as_ref().and_then(|i| pack_seq(i))
}

/// What a training node means and costs.
#[derive(Debug, Clone)]
pub struct Costed {
    /// As the laboratory would run it.
    pub spec: TrainSpec,
    /// The part of the project that brings what it needs, if that is not built yet.
    pub not_built: Option<String>,
    /// Bytes at the peak of a step by class, on one device; not for points of sweeps, nor for several devices.
    pub memory: Vec<(Class, usize)>,
}

impl Costed {
    /// Bytes at the peak of a step on one device, where the plan is known.
    pub fn peak_bytes(&self) -> Option<f64> {
        let total: usize = self.memory.iter().map(|(_, bytes)| bytes).sum();
        (total > 0).then_some(total as f64)
    }

    /// What is run.
    pub fn into_spec(self) -> Spec {
        match self.not_built {
            Some(part) => Spec::NotBuilt { part },
            None => Spec::Train(Box::new(self.spec)),
        }
    }
}

/// A train node as the laboratory runs it; found once.
pub(super) fn train(eval: &mut Eval<'_>, n: &Rc<NodeValue>) -> Option<Costed> {
    if let Some((_, known)) = eval.specs.iter().find(|(known, _)| Rc::ptr_eq(known, n)) {
        return known.clone();
    }
    let spec = costed(eval, n).and_then(|(mut c, parts)| {
        eval.least_room = None;
        let step = traced(eval, &c.spec, &parts)?;
        c.spec.most_tokens = eval.least_room.take().map(|n| n as u64);
        if n.fields.get("mesh").is_none() {
            c.memory = step_memory(eval, step, parts.span)?;
        }
        Some(c)
    });
    if let Some(c) = &spec {
        repeats(eval, n, &c.spec);
    }
    eval.specs.push((n.clone(), spec.clone()));
    spec
}

/// Rows per micro-batch: as asked, else at most so many positions as keep a machine busy and its memory free; a divisor of the rows of a
/// batch.
pub fn micro_rows(target: &Target, rows: usize, seq: usize, wanted: Option<usize>) -> usize {
    let fitting = (target.positions / seq.max(1)).max(1);
    let wanted = wanted.unwrap_or(fitting).clamp(1, rows.max(1));
    (1..=wanted).rev().find(|n| rows.is_multiple_of(*n)).unwrap_or(1)
}

/// Traces the loss, the initialisers and the optimizer's step: what is wrong in them is found before anything is run. Gives the
/// graph of a step as it would run.
fn traced(eval: &mut Eval<'_>, t: &TrainSpec, parts: &TrainParts) -> Option<Graph> {
    let rows = (t.batch_tokens / t.seq.max(1)).max(1) as usize;
    let micro = micro_rows(
        &eval.world.target(),
        rows,
        parts.seq,
        t.execution.micro_rows.map(|m| m as usize),
    );
    let kinds = eval.weight_views(parts)?;
    eval.eval_graph(parts, 1)?;
    let step = eval.step_graph(parts, micro, rows / micro)?;
    eval.init_graph(parts, &kinds, &step.states)?;
    Some(step.graph)
}

/// The bytes at the peak of a step, by class, of the plan that would run; nothing is emitted for it.
fn step_memory(eval: &mut Eval<'_>, step: Graph, span: Span) -> Option<Vec<(Class, usize)>> {
    match compile(step, &eval.world.target()) {
        Ok(compiled) => Some(compiled.plan.memory),
        Err(bug) => {
            eval.problem(bug.problem(span));
            None
        }
    }
}

/// A train node with its costs, and the parts that are compiled.
pub(super) fn costed(eval: &mut Eval<'_>, n: &NodeValue) -> Option<(Costed, TrainParts)> {
    let stream = data_of(eval, n)?;
    let data = stages::spec(eval, &stream, &n.name);
    let later = stages::not_built(&data);
    let Some(seq) = pack_seq(&stream) else {
        let p = Problem::new(
            "E0314",
            at(n, "data"),
            "training data ends in rows: `|> pack(seq = 512)`",
        )
        .help("`encode(tokenizer)` makes tokens of text, `pack(seq = ..)` makes rows of them");
        eval.problem(p);
        return None;
    };
    if later.is_none() && stages::tokenizer_of(&stream).is_none() {
        let p = Problem::new(
            "E0314",
            at(n, "data"),
            "training data must be encoded before it is packed",
        )
        .help("write `|> encode(bpe) |> pack(seq = ..)`");
        eval.problem(p);
        return None;
    }
    let parts = parts(eval, n)?;
    compares(eval, n, &parts);
    let facts = facts::of_model(eval, &parts)?;
    if let Some(op) = &facts.ahead {
        let what = if causal::learns_next(&parts) {
            "is trained on the next token"
        } else if n.fields.get("sample").is_some() {
            "is to write the next token"
        } else {
            ""
        };
        if !what.is_empty() {
            causal::report(eval, at(n, "model"), what, op);
            return None;
        }
    }
    let batch_tokens = batch(eval, n, seq)?;
    let rows = batch_tokens / seq as u64;
    let step_flops = 3.0 * facts.forward_flops * rows as f64;
    let budget = budget(eval, n)?;
    let known = known_tokens(eval, &stream).map(|(_, tokens)| tokens);
    let steps = steps(eval, n, budget, step_flops, batch_tokens, facts.params, known)?;
    let execution = execution(eval, n, &stream)?;
    let seed = match n.fields.get("seed") {
        None => 0,
        Some(Value::Number(q)) if q.value >= 0.0 && q.value.fract() == 0.0 => q.value as u64,
        Some(other) => {
            let text = format!("`seed` must be a whole number, this is {}", describe(other));
            eval.problem(Problem::new("E0301", at(n, "seed"), text));
            return None;
        }
    };
    let compute = parts.compute.name().to_owned();
    let spec = TrainSpec {
        data,
        seq: seq as u64,
        batch_tokens,
        budget,
        seed,
        compute,
        step_flops,
        params: facts.params,
        most_tokens: None,
        steps,
        init: start::init(eval, n, &parts)?,
        stop: start::stop(eval, n)?,
        execution,
    };
    let unbuilt_data =
        later.or_else(|| spec.execution.eval.as_ref().and_then(|e| stages::not_built(&e.on)));
    let unbuilt_field = PARTS.iter().find(|(field, _)| n.fields.get(field).is_some());
    let not_built = unbuilt_data
        .map(|(_, part)| part)
        .or_else(|| unbuilt_field.map(|(_, part)| (*part).to_owned()));
    Some((Costed { spec, not_built, memory: Vec::new() }, parts))
}

/// W0514 if the objective and the model read nothing but the tokens before the one at hand: there is nothing to learn from.
fn compares(eval: &mut Eval<'_>, n: &NodeValue, parts: &TrainParts) {
    let def = match &parts.objective {
        Value::Def(def) => def.clone(),
        Value::Program(p) => p.def.clone(),
        _ => return,
    };
    // A model that reads more than ids may compare on its own.
    let LayerForm::Plain { def: model, .. } = &parts.model.form else { return };
    let reads = method(model, "forward").map_or(0, |f| f.params.len());
    if reads == 1 {
        let columns: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
        forms::compares(eval, &def, &columns, at(n, "objective"));
    }
}

/// The data node behind training rows and its tokens, where an earlier run has counted them.
fn known_tokens(eval: &Eval<'_>, s: &Stream) -> Option<(String, f64)> {
    let mut at = Some(s);
    while let Some(s) = at {
        if let Some((node, side)) = &s.node {
            let part = if side.is_empty() { node.to_string() } else { format!("{node}.{side}") };
            let tokens =
                eval.world.fact(&part, "tokens").or_else(|| eval.world.fact(node, "tokens"));
            return tokens.filter(|t| *t >= 1.0).map(|t| (part, t));
        }
        at = s.input.as_deref();
    }
    None
}

/// True if a node has `start = ask`.
pub(super) fn asks(n: &NodeValue) -> bool {
    matches!(n.fields.get("start"), Some(Value::Text(t)) if &**t == "ask")
}

/// The data that a training node reads and its tokens, where known.
pub(super) fn known_tokens_of(eval: &mut Eval<'_>, n: &NodeValue) -> Option<(String, f64)> {
    let stream = data_of(eval, n)?;
    known_tokens(eval, &stream)
}

/// W0510 if a budget that is no number of epochs reads the data more than once.
fn repeats(eval: &mut Eval<'_>, n: &NodeValue, t: &TrainSpec) {
    let (Some(steps), false) = (t.steps, matches!(t.budget, Budget::Epochs(_))) else { return };
    let Some(stream) = data_of(eval, n) else { return };
    let Some((part, have)) = known_tokens(eval, &stream) else { return };
    let need = steps as f64 * t.batch_tokens as f64;
    let epochs = need / have;
    if epochs < 1.05 {
        return;
    }
    let span = at(n, "budget");
    let text = format!(
        "the budget needs {} tokens but `{part}` has {}: {epochs:.1} epochs",
        units::short(need),
        units::short(have)
    );
    let once = (have / t.batch_tokens as f64).floor();
    let amount = match t.budget {
        Budget::Flops(_) => Some(format!("{:.1e}FLOPs", once * t.step_flops)),
        Budget::Tokens(_) => Some(format!("{}tokens", once * t.batch_tokens as f64)),
        Budget::Steps(_) => Some(format!("{once}steps")),
        Budget::TokensPerParam(_) | Budget::Epochs(_) | Budget::Seconds(_) => None,
    };
    let written = eval.sources.text(span).to_owned();
    let is_knob = eval.modules.get(MAIN).is_some_and(|m| {
        m.names.get(&written).is_some_and(|i| matches!(m.items[*i].kind, ItemKind::Knob { .. }))
    });
    let mut p = Problem::new("W0510", span, text);
    if let (Some(amount), true) = (amount, is_knob) {
        p = p.help(format!("`--set {written}={amount}` is one epoch"));
    }
    eval.problem(p.help(format!("say `budget = {} epochs` if it is meant", epochs.round())));
}

/// Fields whose runtime comes with a later part.
const PARTS: &[(&str, &str)] =
    &[("mesh", schema::PARALLEL), ("shard", schema::PARALLEL), ("pipeline", schema::PARALLEL)];

fn number(
    eval: &mut Eval<'_>,
    n: &NodeValue,
    field: &str,
    want: &str,
) -> Option<super::super::value::Quantity> {
    match n.fields.get(field)? {
        Value::Number(q) => Some(q.clone()),
        other => {
            let text = format!("`{field}` must be {want}, this is {}", describe(other));
            eval.problem(Problem::new("E0301", at(n, field), text));
            None
        }
    }
}

fn batch(eval: &mut Eval<'_>, n: &NodeValue, seq: usize) -> Option<u64> {
    let q = number(eval, n, "batch", "a number of tokens")?;
    let tokens = match units::name(&q.unit).as_str() {
        "tokens" => q.value,
        "rows" => q.value * seq as f64,
        _ => {
            let text = format!("`batch` must be in tokens, this is {}", units::show(&q));
            let p = Problem::new("E0301", at(n, "batch"), text)
                .help("for example `batch = 64Ki tokens`");
            eval.problem(p);
            return None;
        }
    };
    let rows = tokens / seq as f64;
    if rows < 1.0 || rows.fract() != 0.0 {
        let down = (rows.floor().max(1.0)) * seq as f64;
        let text = format!("a batch of {tokens} tokens is no whole number of rows of {seq}");
        let p = Problem::new("E0312", at(n, "batch"), text)
            .help(format!("write `batch = {down} tokens`"));
        eval.problem(p);
        return None;
    }
    Some(tokens as u64)
}

fn budget(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Budget> {
    let q = number(eval, n, "budget", "an amount of work")?;
    let budget = match units::name(&q.unit).as_str() {
        "FLOPs" => Budget::Flops(q.value),
        "tokens" => Budget::Tokens(q.value),
        "tokens/param" => Budget::TokensPerParam(q.value),
        "steps" => Budget::Steps(q.value),
        "epochs" => Budget::Epochs(q.value),
        "s" => Budget::Seconds(q.value),
        _ => {
            let text = format!(
                "`budget` is in FLOPs, tokens, tokens/param, steps, epochs or time, this is {}",
                units::show(&q)
            );
            eval.problem(Problem::new("E0301", at(n, "budget"), text));
            return None;
        }
    };
    // Work is compared with what the steps need once they are known; a time and epochs over unread data never are.
    if matches!(budget, Budget::Seconds(v) | Budget::Epochs(v) if v >= schema::EXACT) {
        let text = format!("a budget of {} never ends", units::show(&q));
        let help = format!("at most {}, where numbers are exact", schema::EXACT - 1.0);
        eval.problem(Problem::new("E0316", at(n, "budget"), text).help(help));
        return None;
    }
    Some(budget)
}

/// Steps that the budget buys: rounded down, so that the budget is never exceeded.
fn steps(
    eval: &mut Eval<'_>,
    n: &NodeValue,
    budget: Budget,
    step_flops: f64,
    batch_tokens: u64,
    params: u64,
    data_tokens: Option<f64>,
) -> Option<Option<u64>> {
    let batch = batch_tokens as f64;
    let steps = match budget {
        Budget::Flops(c) => c / step_flops,
        Budget::Tokens(t) => t / batch,
        Budget::TokensPerParam(r) => r * params as f64 / batch,
        Budget::Steps(s) => s,
        Budget::Epochs(e) => match data_tokens {
            Some(tokens) => (e * tokens / batch).max(1.0),
            None => return Some(None),
        },
        Budget::Seconds(_) => return Some(None),
    };
    // A quotient that is whole but for rounding is whole.
    let whole =
        if (steps - steps.round()).abs() < 1e-9 * steps { steps.round() } else { steps.floor() };
    if whole < 1.0 {
        let p = Problem::new("E0502", at(n, "budget"), "the budget does not pay for a single step")
            .help(format!("one step costs {:.2e} FLOPs ({} tokens)", step_flops, batch_tokens))
            .help("make `batch` smaller or the budget larger");
        eval.problem(p);
        return None;
    }
    // Tokens are counted in numbers that are exact up to there.
    if whole * batch >= schema::EXACT {
        let text = format!(
            "the budget is {:.1e} tokens, which cannot be counted one by one",
            whole * batch
        );
        let p = Problem::new("E0316", at(n, "budget"), text)
            .help(format!("at most {:.0e} tokens, where numbers are exact", schema::EXACT))
            .help(format!("one step of {batch_tokens} tokens costs {step_flops:.2e} FLOPs"));
        eval.problem(p);
        return None;
    }
    Some(Some(whole as u64))
}

fn every(eval: &mut Eval<'_>, r: &Record, what: &str, span: Span) -> Option<Every> {
    let Some((v, at)) = r.fields.get("every") else { return Some(Every::Never) };
    let at = at.unwrap_or(span);
    if let Value::Number(q) = v
        && q.value > 0.0
    {
        match units::name(&q.unit).as_str() {
            "steps" if q.value >= 1.0 => return Some(Every::Steps(q.value as u64)),
            "s" => return Some(Every::Seconds(q.value)),
            "tokens" => return Some(Every::Tokens(q.value)),
            _ => {}
        }
    }
    let text =
        format!("`every` of `{what}` must be in steps, tokens or time, this is {}", describe(v));
    eval.problem(Problem::new("E0301", at, text).help("for example `every = 250 steps`"));
    None
}

/// E0315 if held-out text that is encoded or packed on its own is not read as the training text is.
fn read_alike(eval: &mut Eval<'_>, train: &Stream, on: &Stream, span: Span) -> Option<()> {
    let (mine, theirs) = (stages::tokenizer_of(train), stages::tokenizer_of(on));
    if let (Some(mine), Some(theirs)) = (mine, theirs)
        && mine.name != theirs.name
        && meaning::of_nodes(eval, std::iter::once(&*mine))
            != meaning::of_nodes(eval, std::iter::once(&*theirs))
    {
        let text = format!(
            "held-out text is encoded by `{}`, but the model learns the tokens of `{}`",
            theirs.name, mine.name
        );
        let p = Problem::new("E0315", span, text)
            .label(mine.span, "the training text is encoded by this")
            .label(theirs.span, "the held-out text by this");
        eval.problem(p.help(
            "name the text alone, as in `on = tales.valid`: it is encoded as the training text is",
        ));
        return None;
    }
    if let (Some(mine), Some(theirs)) = (pack_seq(train), pack_seq(on))
        && mine != theirs
    {
        let text = format!("held-out rows have {theirs} positions, training rows have {mine}");
        eval.problem(Problem::new("E0315", span, text).help(
            "name the text alone, as in `on = tales.valid`: it is packed as the training text is",
        ));
        return None;
    }
    Some(())
}

/// W0512 if all held-out text is among the training text.
fn seen(eval: &mut Eval<'_>, n: &NodeValue, train: &Stream, on: &DataSpec, span: Span) {
    let data = stages::spec(eval, train, &n.name);
    let texts = |s: &DataSpec| -> Vec<Stage> {
        let encoded = |s: &&Stage| !matches!(s, Stage::Encode { .. } | Stage::Pack { .. });
        s.stages.iter().take_while(encoded).cloned().collect()
    };
    let (mine, theirs) = (texts(&data), texts(on));
    if data.source != on.source || !theirs.starts_with(&sided(mine)) {
        return;
    }
    let mut p = Problem::new(
        "W0512",
        span,
        "the model is evaluated on text that it is trained on: its loss there says little",
    );
    p = p.label(at(n, "data"), "trained on this");
    let help = match data
        .stages
        .iter()
        .any(|s| matches!(s, Stage::HoldoutShare { .. } | Stage::HoldoutTail { .. }))
    {
        true => {
            "a data node with a `holdout` is its training side: name the other one, as in `on = tales.valid`"
        }
        false => {
            "hold some of it out: `data tales = .. |> holdout(valid = 5%)`, train on `tales`, and evaluate `on = tales.valid`"
        }
    };
    eval.problem(p.help(help));
}

/// The stages of texts, where a holdout without a side named is its training side.
fn sided(mut stages: Vec<Stage>) -> Vec<Stage> {
    if matches!(stages.last(), Some(Stage::HoldoutShare { .. } | Stage::HoldoutTail { .. })) {
        stages.push(Stage::Split { name: "train".to_owned() });
    }
    stages
}

/// How often a run saves that does not say so: what a crash costs at most.
const SAVE_SECONDS: f64 = 60.0;

/// Rows per micro-batch as asked, at least one.
fn micro(n: &NodeValue, seq: usize) -> Option<u64> {
    match n.fields.get("micro") {
        Some(Value::Number(q)) if units::name(&q.unit) == "tokens" => {
            Some((q.value / seq as f64).max(1.0) as u64)
        }
        Some(Value::Number(q)) => Some(q.value as u64),
        _ => None,
    }
}

fn execution(eval: &mut Eval<'_>, n: &NodeValue, train: &Rc<Stream>) -> Option<Execution> {
    let limit = match n.fields.get("limit") {
        None => None,
        Some(Value::Number(q)) if units::name(&q.unit) == "s" => Some(q.value),
        Some(other) => {
            let text = format!("`limit` must be a time, this is {}", describe(other));
            eval.problem(
                Problem::new("E0301", at(n, "limit"), text).help("for example `limit = 30 min`"),
            );
            return None;
        }
    };
    let block = |name: &str| match n.fields.get(name) {
        Some(Value::Record(r)) => Some(r.clone()),
        _ => None,
    };
    let plain = |r: &Record, f: &str| match r.get(f) {
        Some(Value::Number(q)) => Some(q.value),
        _ => None,
    };
    let eval_spec = match block("eval") {
        None => None,
        Some(r) => {
            let span = at(n, "eval");
            let Some(on) = r.get("on") else {
                eval.problem(Problem::new("E0215", span, "`eval` needs `on`, the held-out data"));
                return None;
            };
            let on = stages::as_stream(eval, on.clone(), span)?;
            let place = r.fields.get("on").and_then(|(_, s)| *s).unwrap_or(span);
            read_alike(eval, train, &on, place)?;
            let spec = stages::spec(eval, &on, &n.name);
            seen(eval, n, train, &spec, place);
            let report = match r.get("report") {
                Some(Value::List(l)) => l.to_vec(),
                Some(v) => vec![v.clone()],
                None => vec![Value::Text("loss".into())],
            };
            let mut names = Vec::new();
            for v in report {
                match v {
                    Value::Text(t) if matches!(&*t, "loss" | "perplexity" | "bits_per_byte") => {
                        let place = r.fields.get("report").and_then(|(_, s)| *s).unwrap_or(span);
                        likelihood::gives(eval, n, &t, place)?;
                        names.push(t.to_string());
                    }
                    other => {
                        let text = format!(
                            "`report` lists loss, perplexity, bits_per_byte, not {}",
                            describe(&other)
                        );
                        eval.problem(Problem::new("E0301", span, text));
                        return None;
                    }
                }
            }
            Some(EvalSpec { every: every(eval, &r, "eval", span)?, on: spec, report: names })
        }
    };
    let sample = match block("sample") {
        None => None,
        Some(r) => {
            let span = at(n, "sample");
            let prompt = match r.get("prompt") {
                Some(Value::Text(t)) => {
                    let place = r.fields.get("prompt").and_then(|(_, s)| *s).unwrap_or(span);
                    prompt::filled(eval, &n.scope.clone(), t, place)?
                }
                None => String::new(),
                Some(other) => {
                    let text = format!("`prompt` must be text, this is {}", describe(other));
                    eval.problem(Problem::new("E0301", span, text));
                    return None;
                }
            };
            Some(SampleSpec {
                every: every(eval, &r, "sample", span)?,
                prompt,
                length: plain(&r, "length").unwrap_or(64.0) as u64,
                temperature: plain(&r, "temperature").unwrap_or(1.0),
                top_k: plain(&r, "top_k").map(|x| x as u64),
                top_p: plain(&r, "top_p"),
                min_p: plain(&r, "min_p"),
            })
        }
    };
    let (save_every, keep) = match block("save") {
        None => (Every::Seconds(SAVE_SECONDS), 1),
        Some(r) => {
            let span = at(n, "save");
            (every(eval, &r, "save", span)?, plain(&r, "keep").unwrap_or(2.0).max(1.0) as u64)
        }
    };
    Some(Execution {
        limit_seconds: limit,
        micro_rows: micro(n, pack_seq(train).unwrap_or(1)),
        eval: eval_spec,
        sample,
        save_every,
        keep,
        ask: asks(n),
        remat: match n.fields.get("remat") {
            Some(Value::Text(t)) => t.to_string(),
            Some(Value::None) => "none".into(),
            _ => "auto".into(),
        },
    })
}
