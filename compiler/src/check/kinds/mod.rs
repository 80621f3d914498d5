//! Kinds of nodes: closed schemas, and what a node means as [`Spec`].
//!
//! [`schema`] lists for every kind its fields with their types, and the part of the project that runs it; [`fields`](mod@fields) judges a node by
//! it. A field that no row names is a problem with a suggestion; a missing required field is one too.

mod ask;
mod causal;
mod columns;
mod facts;
mod fields;
mod fit;
mod law;
mod likelihood;
pub(super) mod meaning;
mod outside;
mod plain;
mod points;
mod prompt;
mod report;
pub mod schema;
mod search;
mod start;
mod stop;
mod sweep;
mod train;
mod walk;

pub(super) use report::cells as report_cells;

use std::rc::Rc;

use indexmap::IndexMap;

use super::eval::Eval;
use super::hir::{Node, Nodes, Spec};
use super::modules::{MAIN, Module};
use super::stages;
use super::value::{NodeValue, Scope, Stream, Value};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::{self, ExprKind, ItemKind, NodeName};

pub use ask::{answer_fields, ask};
pub use causal::writes_in_order;
pub use facts::Facts;
pub use fields::{changed, changed_block, fields, has_field, home_of};
pub use sweep::{Point, Sweep};
pub use train::{Costed, micro_rows, train_parts};

/// True for kinds of nodes.
pub fn is_kind(name: &str) -> bool {
    schema::kind(name).is_some()
}

/// All kinds, for suggestions.
pub fn names() -> Vec<&'static str> {
    let programs = ["model", "optimizer", "schedule", "loss", "law", "filter", "score"];
    schema::KINDS.iter().map(|k| k.name).chain(programs).collect()
}

/// Checks all nodes of the main file. Gives them, and one line for each.
pub fn check_nodes(eval: &mut Eval<'_>) -> (Nodes, Vec<String>) {
    let mut nodes: Nodes = IndexMap::new();
    let mut lines = Vec::new();
    if eval.problems.has_errors() && eval.modules.get(MAIN).is_none() {
        return (nodes, lines);
    }
    let Some(main) = eval.modules.get(MAIN) else { return (nodes, lines) };
    let names: Vec<(String, Span)> =
        main.names.iter().map(|(n, i)| (n.clone(), main.items[*i].span)).collect();
    let asserts: Vec<ast::Expr> = asserts_of(main);
    let strays: Vec<Span> =
        main.items.iter().filter(|i| is_stray(&i.kind)).map(|i| i.span).collect();
    for span in strays {
        eval.problem(
            Problem::new("E0211", span, "this does not belong at the top level of a file")
                .help("a file has `use`, `let`, `knob`, `fn`, `layer`, nodes such as `train x { .. }`, and `assert`"),
        );
    }
    for (name, span) in &names {
        let value = eval.item_value(MAIN, name, *span);
        // What definitions mean is found when they are used; here they are at least looked through.
        if let Value::Node(n) = &value {
            add_node(eval, n, &mut nodes, &mut lines);
        } else if let Value::Layer(l) = &value {
            let is_model = matches!(&eval.modules[MAIN].items[eval.modules[MAIN].names[name]].kind,
                ItemKind::Node { kind, .. } if kind.name == "model");
            if is_model {
                facts::check_model(eval, name, l, *span, &mut nodes, &mut lines);
            }
        } else if let Value::Def(d) = &value
            && d.kind == super::value::DefKind::Model
            && d.params.is_empty()
            && let Some(l) = eval.as_layer(value.clone(), *span)
        {
            facts::check_model(eval, name, &l, *span, &mut nodes, &mut lines);
        }
    }
    points::add_imported(eval, &mut nodes);
    for e in asserts {
        check_assert(eval, &e);
    }
    super::forms::check(eval);
    super::names::check(eval);
    super::unused::check(eval);
    eval.unused_imports();
    // What is asked of a fit may stand anywhere in the file.
    for (name, asks) in std::mem::take(&mut eval.asks) {
        if let Some(Node { spec: Spec::Fit(spec), .. }) = nodes.get_mut(&name) {
            spec.asks = asks;
        }
    }
    (nodes, lines)
}

fn asserts_of(m: &Module) -> Vec<ast::Expr> {
    m.items
        .iter()
        .filter_map(|i| match &i.kind {
            ItemKind::Assert(e) => Some(e.clone()),
            _ => None,
        })
        .collect()
}

fn is_stray(kind: &ItemKind) -> bool {
    match kind {
        ItemKind::Weight(_)
        | ItemKind::State(_)
        | ItemKind::Emit { .. }
        | ItemKind::For { .. }
        | ItemKind::Where(_)
        | ItemKind::Field { .. }
        | ItemKind::Map { .. }
        | ItemKind::Method(_)
        | ItemKind::Expr(_) => true,
        ItemKind::Node { name, .. } => {
            !matches!(name, Some(NodeName::Ident(_) | NodeName::Text(..)))
        }
        ItemKind::Use { .. }
        | ItemKind::Let { .. }
        | ItemKind::Knob { .. }
        | ItemKind::Fn(_)
        | ItemKind::Layer { .. }
        | ItemKind::Assert(_)
        | ItemKind::Def { .. }
        | ItemKind::Error => false,
    }
}

/// An assertion of the file: each side of a failed comparison is shown.
fn check_assert(eval: &mut Eval<'_>, e: &ast::Expr) {
    let scope = Scope::module(MAIN);
    if let ExprKind::Binary { op: ast::BinaryOp::And, left, right, .. } = &*e.kind {
        check_assert(eval, left);
        check_assert(eval, right);
        return;
    }
    match eval.expr(&scope, e) {
        Value::Bool(true) | Value::Later(_) | Value::Error => {}
        Value::Bool(false) => {
            let text = eval.sources.text(e.span).to_owned();
            let mut p = Problem::new("E0506", e.span, format!("this does not hold: `{text}`"));
            if let ExprKind::Compare { first, rest } = &*e.kind {
                for side in std::iter::once(first).chain(rest.iter().map(|(_, _, r)| r)) {
                    let v = eval.expr(&scope, side);
                    if !matches!(&*side.kind, ExprKind::Number { .. }) {
                        let source = eval.sources.text(side.span).to_owned();
                        p = p.help(format!("`{source}` is {}", super::eval::describe(&v)));
                    }
                }
            }
            eval.problem(p);
        }
        other => {
            let text =
                format!("`assert` needs true or false, this is {}", super::eval::describe(&other));
            eval.problem(Problem::new("E0303", e.span, text));
        }
    }
}

fn add_node(eval: &mut Eval<'_>, n: &Rc<NodeValue>, nodes: &mut Nodes, lines: &mut Vec<String>) {
    let Some(kind) = schema::kind(&n.kind) else { return };
    let mut fine = fields::check(eval, kind, n);
    if fine && n.kind == "fit" {
        fine = fit::check(eval, n);
    }
    let wrong = n.fields.fields.values().any(|(v, _)| matches!(v, Value::Error));
    if !fine || wrong {
        return;
    }
    points::apart(eval, n);
    if matches!(n.kind.as_str(), "report" | "plot" | "table") {
        add_report(eval, n, nodes, lines);
        return;
    }
    let waiting = n.fields.fields.iter().filter(|(name, (v, _))| !start::is_init(name, v));
    let later = waiting.map(|(_, (v, _))| v).find_map(later_of);
    let spec = if let Some(node) = later {
        let asks = train::asks(n);
        let ask = if asks { ", asks first" } else { "" };
        lines.push(format!("{}   known after `{node}`{ask}", n.name));
        Some(Spec::After { node, asks })
    } else {
        match n.kind.as_str() {
            "data" => plain::data(eval, n),
            "tokenizer" => plain::tokenizer(eval, n),
            "train" => {
                let costed = train::train(eval, n);
                if let Some(c) = &costed {
                    lines.push(facts::train_line(eval, n, c));
                }
                costed.map(Costed::into_spec)
            }
            "sweep" => {
                if let Some(s) = sweep::sweep(eval, n) {
                    lines.push(sweep::line(&n.name, &s));
                    points::add(eval, n, s, nodes);
                }
                None
            }
            "fit" => {
                let spec = fit::spec(eval, n);
                if let Some(s) = &spec {
                    lines.push(fit::line(&n.name, s));
                }
                spec.map(|s| Spec::Fit(Box::new(s)))
            }
            "device" | "mesh" => None,
            _ => Some(Spec::NotBuilt { part: kind.part.to_owned() }),
        }
    };
    let Some(spec) = spec else { return };
    let needs = plain::needs(n);
    let meaning = meaning::of_nodes(eval, std::iter::once(&**n));
    let node =
        Node { name: n.name.to_string(), kind: n.kind.clone(), span: n.span, needs, spec, meaning };
    nodes.insert(n.name.to_string(), node);
}

/// A report may name rows that other nodes will give, so it waits only where a number of it does.
fn add_report(eval: &mut Eval<'_>, n: &Rc<NodeValue>, nodes: &mut Nodes, lines: &mut Vec<String>) {
    let Some((made, mut needs)) = report::report(eval, n, nodes) else { return };
    let spec = match made {
        report::Made::Known(spec) => {
            lines.push(report::line(&n.name, &spec));
            Spec::Report(Box::new(spec))
        }
        report::Made::After(node) => {
            lines.push(format!("{}   known after `{node}`", n.name));
            Spec::After { node, asks: false }
        }
    };
    for name in plain::needs(n) {
        if !needs.contains(&name) {
            needs.push(name);
        }
    }
    let meaning = meaning::of_nodes(eval, std::iter::once(&**n));
    let node =
        Node { name: n.name.to_string(), kind: n.kind.clone(), span: n.span, needs, spec, meaning };
    nodes.insert(n.name.to_string(), node);
}

/// The node after which a value is known, if it is not known yet.
pub(super) fn later_of(v: &Value) -> Option<String> {
    match v {
        Value::Later(l) => Some(l.node.to_string()),
        Value::List(l) => l.iter().find_map(later_of),
        Value::Record(r) => r.fields.values().find_map(|(v, _)| later_of(v)),
        Value::Program(p) => p.args.fields.values().find_map(|(v, _)| later_of(v)),
        Value::Layer(l) => match &l.form {
            super::value::LayerForm::Plain { args, overrides, .. } => {
                args.fields.values().chain(overrides.fields.values()).find_map(|(v, _)| later_of(v))
            }
            super::value::LayerForm::Stack { inner, .. }
            | super::value::LayerForm::Each { inner, .. } => later_of(&Value::Layer(inner.clone())),
            super::value::LayerForm::Sequence(ls) => {
                ls.iter().find_map(|l| later_of(&Value::Layer(l.clone())))
            }
        },
        Value::Stream(s) => later_stream(s),
        Value::None
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Text(_)
        | Value::Range(..)
        | Value::Tensor(_)
        | Value::Placed(_)
        | Value::Def(_)
        | Value::Weight(_)
        | Value::Builtin(_)
        | Value::Bracketed(_)
        | Value::Node(_)
        | Value::Row(_)
        | Value::Error => None,
    }
}

fn later_stream(s: &Stream) -> Option<String> {
    s.args
        .fields
        .values()
        .find_map(|(v, _)| later_of(v))
        .or_else(|| s.input.as_ref().and_then(|i| later_stream(i)))
}

/// The side of a data node, or what a field of another node is.
impl Eval<'_> {
    /// A field of a node: its own, or one that is counted, or one that is known after it has run.
    pub fn node_member(&mut self, n: &Rc<NodeValue>, name: &ast::Ident) -> Value {
        if n.kind == "data" && matches!(name.name.as_str(), "train" | "valid") {
            return stages::split_of(self, n, &name.name, name.span);
        }
        // A point of a sweep knows what the `for` clauses say there.
        let place =
            self.places.get(&*n.name).and_then(|at| at.iter().find(|(f, _)| *f == name.name));
        if let Some((_, v)) = place {
            return v.clone();
        }
        // The setting `average` of a run gives a result of the same name, and so does `best` of a sweep.
        let result = matches!(
            (n.kind.as_str(), name.name.as_str()),
            ("train", "average") | ("sweep", "best")
        );
        if !result && let Some(v) = n.fields.get(&name.name) {
            return v.clone();
        }
        facts::member(self, n, name)
    }
}
