//! Static facts: parameters and FLOPs, counted on the graph; fields of nodes that are known before a run, and those known after.

use std::rc::Rc;

use super::super::assemble::TrainParts;
use super::super::eval::Eval;
use super::super::hir::{Budget, Node, Nodes, Spec, TrainSpec};
use super::super::units::{self, Unit};
use super::super::value::{Bracket, Later, LayerForm, LayerValue, NodeValue, Quantity, Value};
use super::{causal, likelihood, meaning, outside, plain, points, schema, train};
use crate::graph::DType;
use crate::graph::causal::Ahead;
use crate::graph::cost;
use crate::graph::grad::Remat;
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast;

/// What is counted on a model's graph for one row.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Trained weights, each once.
    pub params: u64,
    /// Those that act on one token.
    pub params_active: u64,
    /// Without tables that are only looked up.
    pub params_non_embedding: u64,
    /// Of one row, forward.
    pub forward_flops: f64,
    /// What lets a position see a later one, if anything does.
    pub ahead: Option<Ahead>,
}

/// Positions at which a model alone (without a training run) is costed.
const DEFAULT_SEQ: usize = 512;

pub(super) fn of_model(eval: &mut Eval<'_>, parts: &TrainParts) -> Option<Facts> {
    let key = meaning::identity(&parts.model).map(|text| (text, parts.seq));
    if let Some(known) = key.as_ref().and_then(|k| eval.counts.get(k)) {
        return Some(known.clone());
    }
    let graph = eval.forward_graph(parts, 1)?;
    let table = cost::cost(&graph);
    let facts = Facts {
        params: table.params.total as u64,
        params_active: table.params.active as u64,
        params_non_embedding: table.params.non_embedding as u64,
        forward_flops: table.forward_flops(),
        ahead: causal::ahead(&graph),
    };
    if let Some(key) = key {
        eval.counts.insert(key, facts.clone());
    }
    Some(facts)
}

/// A model alone, as parts.
fn alone(model: &Rc<LayerValue>, span: Span) -> TrainParts {
    TrainParts {
        model: model.clone(),
        optimizer: Value::None,
        objective: Value::None,
        compute: DType::F32,
        seq: DEFAULT_SEQ,
        remat: Remat::Auto,
        average: None,
        held: None,
        span,
    }
}

/// Checks a model node by tracing it.
pub(super) fn check_model(
    eval: &mut Eval<'_>,
    name: &str,
    model: &Rc<LayerValue>,
    span: Span,
    nodes: &mut Nodes,
    lines: &mut Vec<String>,
) {
    let v = Value::Layer(model.clone());
    let spec = match super::later_of(&v) {
        Some(node) => {
            lines.push(format!("{name}   known after `{node}`"));
            Spec::After { node, asks: false }
        }
        None => {
            if of_model(eval, &alone(model, span)).is_none() {
                return;
            }
            Spec::Model
        }
    };
    let node = Node {
        name: name.to_owned(),
        kind: "model".into(),
        span,
        needs: Vec::new(),
        spec,
        meaning: meaning::of_value(eval, &v),
    };
    nodes.insert(name.to_owned(), node);
}

/// `baseline   30.8M params   1.43B tokens (46/param)   21.8K steps   3.0e17 FLOPs   11 GB   ~15 min on h100`.
pub(super) fn train_line(eval: &Eval<'_>, n: &NodeValue, costed: &train::Costed) -> String {
    let t = &costed.spec;
    let mut line = format!("{}   {} params", n.name, units::short(t.params as f64));
    if let Some(steps) = t.steps {
        let tokens = steps as f64 * t.batch_tokens as f64;
        line += &format!(
            "   {} tokens ({}/param)   {} steps   {:.1e} FLOPs",
            units::short(tokens),
            units::short((tokens / t.params.max(1) as f64 * 10.0).round() / 10.0),
            units::short(steps as f64),
            steps as f64 * t.step_flops
        );
    } else {
        line += &match t.budget {
            Budget::Seconds(s) => format!("   as many steps as {} allow", units::seconds(s)),
            Budget::Flops(_)
            | Budget::Tokens(_)
            | Budget::TokensPerParam(_)
            | Budget::Steps(_)
            | Budget::Epochs(_) => "   steps known after the data is read".to_owned(),
        };
    }
    if let Some(bytes) = costed.peak_bytes() {
        line += &format!("   {}", units::bytes(bytes));
    }
    if let (Some(steps), Some(machine)) = (t.steps, machine(eval, n)) {
        let seconds = steps as f64 * t.step_flops / machine.rate;
        line += &format!("   ~{} on {}", units::seconds(seconds), machine.name);
        if let Some(mfu) = machine.mfu {
            line += &format!(" (predicted {:.0}% MFU)", mfu * 100.0);
        }
    }
    line
}

/// What a prediction of time is made for.
struct Machine {
    name: String,
    /// Model FLOPs per second that a run is expected to reach.
    rate: f64,
    /// The share of the peak that this is; unknown for a machine that was measured.
    mfu: Option<f64>,
    /// Dollars per second of all devices, where the program says it.
    price: Option<f64>,
}

/// What a run costs in dollars: its predicted time on its machine. `None`: the time or the price is not known.
pub(super) fn dollars(eval: &Eval<'_>, n: &NodeValue, spec: &TrainSpec) -> Option<f64> {
    let machine = machine(eval, n)?;
    let seconds = match spec.budget {
        Budget::Seconds(seconds) => seconds,
        Budget::Flops(_)
        | Budget::Tokens(_)
        | Budget::TokensPerParam(_)
        | Budget::Steps(_)
        | Budget::Epochs(_) => spec.steps? as f64 * spec.step_flops / machine.rate,
    };
    Some(seconds * machine.price?)
}

/// The machine of a training node: its mesh or device, else this one, if it was measured.
fn machine(eval: &Eval<'_>, n: &NodeValue) -> Option<Machine> {
    let of_device = |device: &NodeValue, count: f64| {
        let number = |name: &str| match device.fields.get(name) {
            Some(Value::Number(q)) => Some(q.value),
            _ => None,
        };
        let mfu = number("mfu").unwrap_or(0.35);
        let rate = number("peak")? * mfu * count;
        let price = number("price").map(|p| p * count);
        Some(Machine { name: format!("{count}x {}", device.name), rate, mfu: Some(mfu), price })
    };
    let mesh = n.fields.get("mesh").map(|v| match v {
        Value::Node(m) => m.fields.get("value").cloned().unwrap_or(Value::None),
        other => other.clone(),
    });
    if let Some(Value::Bracketed(b)) = &mesh
        && let Value::Node(device) = &b.0
    {
        let sizes = b.1.iter().filter_map(|b| match b {
            Bracket::Named { value: Value::Number(q), .. } => Some(q.value),
            _ => None,
        });
        return of_device(device, sizes.product());
    }
    if mesh.is_some() {
        return None;
    }
    if let Some(Value::Node(device)) = n.fields.get("device") {
        return of_device(device, 1.0);
    }
    let rate = eval.world.fact("machine", "flops_per_second")?;
    Some(Machine { name: "this machine".into(), rate, mfu: None, price: None })
}

fn quantity(value: f64, unit: Unit) -> Value {
    Value::Number(Quantity { unit, ..Quantity::plain(value) })
}

/// A field that is counted, or known later.
pub(super) fn member(eval: &mut Eval<'_>, n: &Rc<NodeValue>, name: &ast::Ident) -> Value {
    let later = |what: &str| {
        let (node, declared) = (n.name.clone(), n.span);
        Value::Later(Rc::new(Later { node, what: what.into(), unit: Unit::none(), declared }))
    };
    match (n.kind.as_str(), name.name.as_str()) {
        ("tokenizer", "vocab") => match plain::vocab(eval, n) {
            Some(v) => quantity(v, Unit::none()),
            None => later("vocab"),
        },
        (
            "train",
            field @ ("tokens" | "steps" | "flops" | "params" | "memory" | "time" | "predicted_mfu"
            | "bubble" | "bytes_sent"),
        ) => train_fact(eval, n, field, later(field)),
        ("train", field @ ("valid_loss" | "perplexity" | "bits_per_byte"))
            if likelihood::measured(eval, n, field, name.span).is_none() =>
        {
            Value::Error
        }
        ("train", field @ ("loss" | "valid_loss" | "perplexity" | "bits_per_byte")) => eval
            .world
            .fact(&n.name, field)
            .map_or_else(|| later(field), |value| quantity(value, Unit::none())),
        ("train", field @ "time_used") => eval
            .world
            .fact(&n.name, field)
            .map_or_else(|| later(field), |value| quantity(value, Unit::base("s"))),
        ("sweep", field @ ("points" | "flops")) => match super::sweep::sweep(eval, n) {
            Some(s) if field == "points" => quantity(s.count() as f64, Unit::none()),
            Some(s) => match super::sweep::flops(&s) {
                Some(flops) => quantity(flops, Unit::base("FLOPs")),
                None => later(field),
            },
            None => Value::Error,
        },
        ("sweep", "best") => match eval.world.fact(&n.name, "best") {
            Some(at) => match super::sweep::sweep(eval, n) {
                Some(s) => match s.points.into_iter().nth(at as usize) {
                    Some(point) => points::known(eval, point),
                    None => later("best"),
                },
                None => Value::Error,
            },
            None => later("best"),
        },
        (outside::REQUEST, field) => {
            let mut known = outside::figures(eval, n);
            if known.iter().any(|k| k == field) {
                return match eval.world.fact(&n.name, field) {
                    Some(value) => quantity(value, Unit::none()),
                    None => later(field),
                };
            }
            known.extend(n.fields.fields.keys().cloned());
            eval.no_field(name, &format!("the request `{}`", n.name), known)
        }
        (kind, field) => {
            let mut known: Vec<String> = schema::kind(kind)
                .map(|k| k.facts.iter().map(|f| f.name.to_owned()).collect())
                .unwrap_or_default();
            if kind == "fit" {
                known.extend(super::fit::constants(eval, n));
            }
            if known.iter().any(|k| k == field) {
                if kind == "fit"
                    && let Some(value) = eval.world.fact(&n.name, field)
                {
                    return quantity(value, Unit::none());
                }
                return later(field);
            }
            let mut names: Vec<String> = n.fields.fields.keys().cloned().collect();
            names.extend(known);
            eval.no_field(name, &format!("the {} `{}`", n.kind, n.name), names)
        }
    }
}

fn train_fact(eval: &mut Eval<'_>, n: &Rc<NodeValue>, field: &str, later: Value) -> Value {
    let quiet = eval.problems.clone();
    let spec = train::train(eval, n);
    if eval.problems.has_errors() && !quiet.has_errors() {
        // The train itself reports them.
        eval.problems = quiet;
        return Value::Error;
    }
    let Some(costed) = spec else { return Value::Error };
    let t = &costed.spec;
    let steps = t.steps.map(|s| s as f64);
    match (field, steps) {
        ("memory", _) => match costed.peak_bytes() {
            Some(bytes) => quantity(bytes, Unit::base("bytes")),
            None => later,
        },
        ("time", Some(s)) => match machine(eval, n) {
            Some(m) => quantity(s * t.step_flops / m.rate, Unit::base("s")),
            None => later,
        },
        ("predicted_mfu", _) => match machine(eval, n).and_then(|m| m.mfu) {
            Some(mfu) => Value::Number(Quantity { percent: true, ..Quantity::plain(mfu) }),
            None => later,
        },
        ("params", _) => quantity(t.params as f64, Unit::base("params")),
        ("tokens", Some(s)) => quantity(s * t.batch_tokens as f64, Unit::base("tokens")),
        ("steps", Some(s)) => quantity(s, Unit::base("steps")),
        ("flops", Some(s)) => quantity(s * t.step_flops, Unit::base("FLOPs")),
        _ => later,
    }
}

impl Eval<'_> {
    /// A field of a layer or model that is not placed: a counted fact, a parameter, an axis.
    pub fn layer_member(&mut self, l: &Rc<LayerValue>, name: &ast::Ident) -> Value {
        let v = Value::Layer(l.clone());
        if let Some(node) = super::later_of(&v) {
            return Value::Later(Rc::new(Later {
                node: node.as_str().into(),
                what: name.name.clone(),
                unit: Unit::none(),
                declared: name.span,
            }));
        }
        let field = name.name.as_str();
        if matches!(
            field,
            "params" | "params_active" | "params_non_embedding" | "flops_per_token" | "flops"
        ) {
            // A count needs a graph of its own.
            let trace = self.trace.take();
            let facts = of_model(self, &alone(l, name.span));
            self.trace = trace;
            let Some(f) = facts else { return Value::Error };
            let params = |x: u64| quantity(x as f64, Unit::base("params"));
            let per_token = Unit::base("FLOPs").times(&Unit::base("tokens"), -1);
            return match field {
                "params" => params(f.params),
                "params_active" => params(f.params_active),
                "params_non_embedding" => params(f.params_non_embedding),
                "flops" => quantity(f.forward_flops, Unit::base("FLOPs")),
                _ => quantity(3.0 * f.forward_flops / DEFAULT_SEQ as f64, per_token),
            };
        }
        if matches!(field, "final" | "average" | "weights") {
            let text = "a model has no weights before it is trained";
            let help = "those of a run are `RUN.final`, with the name of a `train`";
            return self.problem(Problem::new("E0203", name.span, text).help(help));
        }
        if let LayerForm::Plain { args, overrides, .. } = &l.form
            && let Some(v) = overrides.get(field).or_else(|| args.get(field))
        {
            return v.clone();
        }
        let trace = self.trace.take();
        let parts = alone(l, name.span);
        let placed =
            self.start(&parts.model, super::super::trace::Mode::Eval, DType::F32, 1, DEFAULT_SEQ);
        let size = self.trace.as_ref().and_then(|t| t.axes.get(field).map(|a| a.axis.size));
        self.trace = trace;
        match (placed, size) {
            (_, Some(s)) => quantity(s as f64, Unit::none()),
            (None, _) => Value::Error,
            (Some(_), None) => {
                let names =
                    ["params", "params_active", "params_non_embedding", "flops", "flops_per_token"];
                let mut names: Vec<String> = names.iter().map(|s| (*s).to_owned()).collect();
                if let LayerForm::Plain { args, .. } = &l.form {
                    names.extend(args.fields.keys().cloned());
                }
                self.no_field(name, "this model", names)
            }
        }
    }
}
