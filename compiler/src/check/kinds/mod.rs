//! Kinds of nodes: closed schemas, and what a node means as [`Spec`].
//!
//! One table lists for every kind its fields, and the part of the project that runs it. A field that no row names is a problem with
//! a suggestion; a missing required field is one too.

mod facts;
mod plain;
mod train;

use indexmap::IndexMap;

use super::eval::Eval;
use super::hir::{Node, Nodes, Spec};
use super::modules::{MAIN, Module};
use super::stages;
use super::value::{NodeValue, Record, Scope, Stream, Value};
use crate::problem::{Problem, did_you_mean};
use crate::source::Span;
use crate::syntax::ast::{self, ExprKind, ItemKind, NodeBody, NodeName};

pub use train::train_parts;

/// One kind of node.
struct Kind {
    name: &'static str,
    /// Fields that it may have; `value` is what stands behind `kind name = ..`.
    fields: &'static [&'static str],
    /// Fields that it must have.
    required: &'static [&'static str],
    /// The blocks in it (`eval { .. }`) and their fields.
    blocks: &'static [(&'static str, &'static [&'static str])],
    /// Empty: built. Else the part that runs it.
    part: &'static str,
}

const SWEEPS: &str = "part 2, sweeps and laws";
const PARALLEL: &str = "the parallelism part";

const KINDS: &[Kind] = &[
    Kind { name: "data", fields: &["value"], required: &["value"], blocks: &[], part: "" },
    Kind {
        name: "tokenizer",
        fields: &["value", "kind", "corpus", "vocab", "special", "ties", "vocab_file", "merges"],
        required: &[],
        blocks: &[],
        part: "",
    },
    Kind {
        name: "device",
        fields: &["value", "peak", "memory", "bandwidth", "mfu", "price"],
        required: &[],
        blocks: &[],
        part: "",
    },
    Kind { name: "mesh", fields: &["value"], required: &["value"], blocks: &[], part: "" },
    Kind {
        name: "train",
        fields: &[
            "model",
            "data",
            "optimizer",
            "objective",
            "batch",
            "micro",
            "precision",
            "budget",
            "limit",
            "seed",
            "init",
            "mesh",
            "device",
            "remat",
            "start",
            "average",
            "stop",
            "pin",
            "pipeline",
        ],
        required: &["model", "data", "optimizer", "batch", "budget"],
        blocks: &[
            ("eval", &["every", "on", "report", "clock"]),
            ("sample", &["every", "prompt", "length", "temperature", "top_k", "top_p", "min_p"]),
            ("save", &["every", "keep"]),
            ("shard", &["compute", "weights", "moments"]),
            ("pipeline", &["order", "micro"]),
        ],
        part: "",
    },
    Kind {
        name: "sweep",
        fields: &["run", "total", "order", "search", "stop", "best", "device"],
        required: &["run"],
        blocks: &[],
        part: SWEEPS,
    },
    Kind {
        name: "fit",
        fields: &["runs", "law", "free", "error", "bootstrap", "seed"],
        required: &["runs", "law"],
        blocks: &[],
        part: SWEEPS,
    },
    Kind {
        name: "report",
        fields: &["title", "text", "export"],
        required: &[],
        blocks: &[
            ("plot", &["data", "x", "y", "color", "trend", "mark", "line", "extend_to"]),
            ("table", &["rows", "columns"]),
        ],
        part: SWEEPS,
    },
    Kind {
        name: "plot",
        fields: &["data", "x", "y", "color", "trend", "mark", "line", "extend_to"],
        required: &["data"],
        blocks: &[],
        part: SWEEPS,
    },
    Kind {
        name: "table",
        fields: &["rows", "columns"],
        required: &["rows"],
        blocks: &[],
        part: SWEEPS,
    },
    Kind {
        name: "eval",
        fields: &["model", "on", "report", "tasks"],
        required: &["model"],
        blocks: &[],
        part: "the evaluation part",
    },
    Kind {
        name: "generate",
        fields: &[
            "model", "prompts", "length", "batch", "sample", "draft", "cache", "stop", "seed",
        ],
        required: &["model"],
        blocks: &[],
        part: "the inference part",
    },
    Kind {
        name: "classifier",
        fields: &["value", "data", "label", "text", "epochs", "seed"],
        required: &[],
        blocks: &[],
        part: "part 5, data and filters",
    },
    Kind {
        name: "task",
        fields: &["rows", "shots", "prompt", "choices", "generate", "score"],
        required: &[],
        blocks: &[],
        part: "the evaluation part",
    },
];

/// True for kinds of nodes.
pub fn is_kind(name: &str) -> bool {
    KINDS.iter().any(|k| k.name == name)
}

/// All kinds, for suggestions.
pub fn names() -> Vec<&'static str> {
    let programs = ["model", "optimizer", "schedule", "loss", "law", "filter", "score"];
    KINDS.iter().map(|k| k.name).chain(programs).collect()
}

/// Evaluates the fields of a node's block into the node, checking them against its kind.
pub fn fields(eval: &mut Eval<'_>, scope: &Scope, node: &mut NodeValue, block: &ast::Block) {
    let Some(kind) = KINDS.iter().find(|k| k.name == node.kind) else { return };
    let inner = scope.inner();
    node.scope = inner.clone();
    for item in &block.items {
        match &item.kind {
            ItemKind::Field { path, value } => {
                let id = &path[0];
                if !kind.fields.contains(&id.name.as_str()) || id.name == "value" {
                    unknown_field(eval, kind, id);
                    continue;
                }
                if node.fields.get(&id.name).is_some() {
                    let text = format!("`{}` is set twice", id.name);
                    eval.problem(Problem::new("E0204", id.span, text));
                }
                // Inside a sweep fields are evaluated per point, laws per row.
                let v = if node.kind == "sweep" {
                    node.items.push(item.clone());
                    Value::None
                } else {
                    words(eval, &inner, value)
                };
                node.fields.set(&id.name, v, Some(value.span));
            }
            ItemKind::Node { kind: block_kind, name, body } => {
                let name = match name {
                    Some(NodeName::Text(t, _)) => Some(t.clone()),
                    Some(NodeName::Ident(i)) => Some(i.name.clone()),
                    None => None,
                };
                sub_block(eval, &inner, node, kind, block_kind, name, body, item.span);
            }
            ItemKind::Let { pattern, value, .. } if node.kind != "sweep" => {
                let v = eval.expr(&inner, value);
                eval.bind_pattern(&inner, pattern, v);
            }
            ItemKind::For { .. } | ItemKind::Where(_) | ItemKind::Let { .. }
                if node.kind == "sweep" =>
            {
                node.items.push(item.clone());
            }
            ItemKind::Emit { .. } if node.kind == "train" => node.items.push(item.clone()),
            ItemKind::Map { .. } => node.items.push(item.clone()),
            ItemKind::Error => {}
            _ => {
                eval.problem(
                    Problem::new(
                        "E0211",
                        item.span,
                        format!("this does not belong in a `{}`", kind.name),
                    )
                    .help(format!("its fields are: {}", kind.fields.join(", "))),
                );
            }
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "the parts of one nested block")]
fn sub_block(
    eval: &mut Eval<'_>,
    scope: &Scope,
    node: &mut NodeValue,
    kind: &Kind,
    block_kind: &ast::Ident,
    name: Option<String>,
    body: &NodeBody,
    span: Span,
) {
    if kind.fields.contains(&block_kind.name.as_str())
        && let NodeBody::None = body
    {
        // `text """..."""`: the name is the value.
        node.fields.set(&block_kind.name, Value::Text(name.unwrap_or_default().into()), Some(span));
        return;
    }
    let Some((_, known)) = kind.blocks.iter().find(|(n, _)| *n == block_kind.name) else {
        unknown_field(eval, kind, block_kind);
        return;
    };
    let NodeBody::Block(block) = body else {
        let text = format!("`{}` is a block: `{} {{ .. }}`", block_kind.name, block_kind.name);
        eval.problem(Problem::new("E0301", span, text));
        return;
    };
    let mut record = Record::default();
    for item in &block.items {
        match &item.kind {
            ItemKind::Field { path, value } => {
                let id = &path[0];
                if known.contains(&id.name.as_str()) {
                    let v = words(eval, scope, value);
                    record.set(&id.name, v, Some(value.span));
                } else {
                    suggest(eval, id, &format!("`{}`", block_kind.name), known);
                }
            }
            // `compute { batch -> data }`.
            ItemKind::Node { kind: inner, body: NodeBody::Block(b), .. }
                if known.contains(&inner.name.as_str()) =>
            {
                let mut map = Record::default();
                for i in &b.items {
                    if let ItemKind::Map { key, value } = &i.kind {
                        let v = words(eval, scope, value);
                        map.set(&super::eval::map_key_text(key), v, Some(value.span));
                    }
                }
                record.set(&inner.name, Value::Record(map.into()), Some(i_span(item)));
            }
            ItemKind::Node { kind: inner, .. } => {
                suggest(eval, inner, &format!("`{}`", block_kind.name), known)
            }
            ItemKind::Error => {}
            _ => {
                let text = format!("`{}` has only fields", block_kind.name);
                eval.problem(Problem::new("E0211", item.span, text));
            }
        }
    }
    let key = match name {
        Some(n) => format!("{} {n}", block_kind.name),
        None => block_kind.name.clone(),
    };
    node.fields.set(&key, Value::Record(record.into()), Some(block_kind.span));
}

fn i_span(item: &ast::Item) -> Span {
    item.span
}

/// An expression in which unknown bare names are words, also within a list.
fn words(eval: &mut Eval<'_>, scope: &Scope, e: &ast::Expr) -> Value {
    if let ExprKind::List { values, suffix: None } = &*e.kind {
        let items = values.iter().map(|v| words(eval, scope, v)).collect::<Vec<_>>();
        return Value::List(items.into());
    }
    eval.word_or(scope, e)
}

fn unknown_field(eval: &mut Eval<'_>, kind: &Kind, id: &ast::Ident) {
    let mut known: Vec<&str> = kind.fields.iter().copied().filter(|f| *f != "value").collect();
    known.extend(kind.blocks.iter().map(|(n, _)| *n));
    suggest(eval, id, &format!("`{}`", kind.name), &known);
}

fn suggest(eval: &mut Eval<'_>, id: &ast::Ident, what: &str, known: &[&str]) {
    let mut p = Problem::new("E0203", id.span, format!("no field `{}` in {what}", id.name));
    if let Some(near) = did_you_mean(&id.name, known.iter().copied()) {
        p = p.at(format!("did you mean `{near}`?")).fix(id.span, near);
    } else {
        p = p.help(format!("it has: {}", known.join(", ")));
    }
    eval.problem(p);
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
    for e in asserts {
        check_assert(eval, &e);
    }
    eval.unused_imports();
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

fn add_node(eval: &mut Eval<'_>, n: &NodeValue, nodes: &mut Nodes, lines: &mut Vec<String>) {
    let Some(kind) = KINDS.iter().find(|k| k.name == n.kind) else { return };
    let mut fine = true;
    for field in kind.required {
        if n.fields.get(field).is_none() {
            let what = if *field == "value" {
                "a value: `= ..`".to_owned()
            } else {
                format!("the field `{field}`")
            };
            eval.problem(Problem::new(
                "E0215",
                n.span,
                format!("the {} `{}` needs {what}", n.kind, n.name),
            ));
            fine = false;
        }
    }
    let wrong = n.fields.fields.values().any(|(v, _)| matches!(v, Value::Error));
    if !fine || wrong {
        return;
    }
    let later = n.fields.fields.values().find_map(|(v, _)| later_of(v));
    let spec = if let Some(node) = later {
        lines.push(format!("{}   known after `{node}`", n.name));
        Some(Spec::After { node })
    } else {
        match n.kind.as_str() {
            "data" => plain::data(eval, n),
            "tokenizer" => plain::tokenizer(eval, n),
            "train" => train::train(eval, n, lines),
            "device" | "mesh" => None,
            _ => Some(Spec::NotBuilt { part: kind.part.to_owned() }),
        }
    };
    let Some(spec) = spec else { return };
    let needs = plain::needs(n);
    let meaning = plain::meaning(n);
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
    pub fn node_member(&mut self, n: &std::rc::Rc<NodeValue>, name: &ast::Ident) -> Value {
        if n.kind == "data" && matches!(name.name.as_str(), "train" | "valid") {
            return stages::split_of(self, n, &name.name, name.span);
        }
        if let Some(v) = n.fields.get(&name.name) {
            return v.clone();
        }
        facts::member(self, n, name)
    }
}
