//! The canonical text of what a node's result depends on: hashed to the key of a run (decisions, "What a run is").
//!
//! First come the node's own fields, sorted, one a line, with the values of everything that they name; then, under `definitions`, the
//! text of each function, layer and program that can be reached from there, once each, in a line of its own. Left out are what
//! never changes a result (how often to evaluate, where to run), places, comments and formatting, and the names of values; a
//! field that says what would hold anyway says nothing.
//!
//! What a definition can reach is found by the names in its text. A name that is local there may also be one of the file: then the text
//! holds more than it must, and a key may change where the result would not. Never the other way round.

use std::fmt::Write as _;
use std::rc::Rc;

use indexmap::IndexMap;

use super::super::eval::Eval;
use super::super::modules::PRELUDE;
use super::super::units;
use super::super::value::{
    Bracket, Def, LayerForm, LayerValue, NodeValue, Record, Scope, Stream, Value,
};
use super::{points, schema, start};
use crate::source::Span;
use crate::syntax::{self, ast};

/// Fields that never change results (decisions: execution). Of `eval` the text counts: see `held_out`.
const EXECUTION: &[&str] = &[
    "device", "mesh", "micro", "remat", "limit", "eval", "sample", "save", "start", "shard",
    "pipeline", "pin",
];

/// Stages that draw; without a seed of their own they draw by the name of their data node.
const DRAWS: &[&str] = &["stories", "holdout", "take", "mix"];

/// The meaning of nodes, one after the other, and the definitions that they reach.
pub(super) fn of_nodes<'n>(
    eval: &mut Eval<'_>,
    nodes: impl Iterator<Item = &'n NodeValue>,
) -> String {
    let mut writer = Writer { eval, definitions: IndexMap::new(), labels: IndexMap::new() };
    let mut out = String::new();
    for n in nodes {
        out += &writer.node(n);
    }
    out + &writer.defined()
}

/// The meaning of a value on its own: a model.
pub(super) fn of_value(eval: &mut Eval<'_>, v: &Value) -> String {
    let mut writer = Writer { eval, definitions: IndexMap::new(), labels: IndexMap::new() };
    let text = writer.value(v);
    format!("{text}\n{}", writer.defined())
}

/// A text that two layers of one check share only if they are the same: definitions count by where they stand. `None`: it holds a
/// function made on the way, whose surroundings no text shows.
pub(super) fn identity(layer: &LayerValue) -> Option<String> {
    let record = |r: &Record| -> Option<String> {
        let mut out = String::new();
        for (name, (v, _)) in &r.fields {
            let text = match v {
                Value::Layer(l) => identity(l)?,
                Value::Def(d) => place(d)?,
                Value::Bracketed(_) | Value::Row(_) | Value::Node(_) | Value::Stream(_) => {
                    return None;
                }
                Value::Program(_) | Value::Later(_) | Value::Error => return None,
                Value::List(l)
                    if l.iter().any(|v| !matches!(v, Value::Number(_) | Value::Text(_))) =>
                {
                    return None;
                }
                v => format!("{v:?}"),
            };
            let _ = write!(out, "{name} = {text}, ");
        }
        Some(out)
    };
    match &layer.form {
        LayerForm::Plain { def, args, brackets, overrides } => Some(format!(
            "{}({})[{brackets:?}] with {}",
            place(def)?,
            record(args)?,
            record(overrides)?
        )),
        LayerForm::Stack { axis, inner } => Some(format!("stack[{axis}]({})", identity(inner)?)),
        LayerForm::Each { axis, inner } => Some(format!("each[{axis}]({})", identity(inner)?)),
        LayerForm::Sequence(layers) => {
            let parts: Option<Vec<String>> = layers.iter().map(|l| identity(l)).collect();
            Some(format!("[{}]", parts?.join(", ")))
        }
    }
}

fn place(def: &Def) -> Option<String> {
    let Span { file, start, .. } = def.span;
    def.scope.0.parent.is_none().then(|| format!("{}@{}:{start}", def.name, file.0))
}

/// What [`Writer::def`] writes of a definition, a function of where it stands: the points of a sweep reach the same ones.
#[derive(Debug)]
pub(in crate::check) struct DefinitionText {
    line: String,
    names: Vec<String>,
}

impl DefinitionText {
    fn of(d: &Def) -> Self {
        let item = ast::Item {
            kind: ast::ItemKind::Fn(ast::Callable {
                name: ast::Ident { name: d.name.clone(), span: d.span },
                axes: d.axes.clone(),
                params: d.params.clone(),
                result: d.result.clone(),
                body: d.body.clone(),
                span: d.span,
            }),
            span: d.span,
            doc: None,
        };
        let text = syntax::canonical(&item);
        let names = names_in(&text).into_iter().map(str::to_owned).collect();
        Self { line: one_line(&text), names }
    }
}

struct Writer<'e, 'w> {
    eval: &'e mut Eval<'w>,
    /// Label to text.
    definitions: IndexMap<String, String>,
    /// Where a definition or value stands, to its label.
    labels: IndexMap<String, String>,
}

impl Writer<'_, '_> {
    /// The fields of a node, a line each.
    fn node(&mut self, n: &NodeValue) -> String {
        let kind = schema::kind(&n.kind);
        // With a budget of time the machine decides how much work is done.
        let by_clock =
            matches!(n.fields.get("budget"), Some(Value::Number(q)) if units::name(&q.unit) == "s");
        if n.kind == "train" {
            // The default objective is text of the library like any other.
            self.named(PRELUDE, "cross_entropy");
        }
        let mut out = String::new();
        let mut fields: Vec<_> = n.fields.fields.iter().collect();
        fields.sort_by(|a, b| a.0.cmp(b.0));
        for (name, (v, _)) in fields {
            let name = name.as_str();
            let machine = by_clock && matches!(name, "device" | "mesh");
            if EXECUTION.contains(&name) && n.kind == "train" && !machine {
                continue;
            }
            let default = kind.and_then(|k| k.field(name)).map_or("", |f| f.default);
            if !default.is_empty() && says_default(v, default) {
                continue;
            }
            let text = self.value(v);
            let _ = writeln!(out, "{name} = {text}");
        }
        if n.kind == "train" {
            out += &self.held_out(n);
        }
        if let Some(Value::Stream(s)) = n.fields.get("value")
            && draws_by_name(s)
        {
            let _ = writeln!(out, "drawn by = {:?}", &*n.name);
        }
        out
    }

    /// Of the `eval` of a run what its figures depend on: the held-out text; and how often, where a figure of it ends the run.
    fn held_out(&mut self, n: &NodeValue) -> String {
        let Some(Value::Record(eval)) = n.fields.get("eval") else { return String::new() };
        let mut out = String::new();
        if let Some(on) = eval.get("on") {
            // A node stands for its side, as it does where the run is made ready.
            let _ = writeln!(out, "eval.on = {}", self.value(on));
        }
        if let (Some(Value::Row(stop)), Some(every)) = (n.fields.get("stop"), eval.get("every")) {
            let stop = syntax::canonical(&stop.expr);
            if start::HELD_OUT.iter().any(|figure| stop.contains(figure)) {
                let _ = writeln!(out, "eval.every = {}", self.value(every));
            }
        }
        out
    }

    fn value(&mut self, v: &Value) -> String {
        match v {
            Value::None => "none".into(),
            Value::Bool(b) => b.to_string(),
            Value::Number(q) if q.unit.is_none() => format!("{:?}", q.value),
            Value::Number(q) => format!("{:?} {}", q.value, units::name(&q.unit)),
            Value::Text(t) => format!("{:?}", &**t),
            Value::List(l) => {
                let items: Vec<String> = l.iter().map(|v| self.value(v)).collect();
                format!("[{}]", items.join(", "))
            }
            Value::Record(r) => self.record(r),
            Value::Range(a, b) => format!("{:?}..{:?} {}", a.value, b.value, units::name(&b.unit)),
            Value::Layer(l) => self.layer(l),
            Value::Def(d) => self.def(d),
            Value::Program(p) => format!("{}({})", self.def(&p.def), self.record(&p.args)),
            Value::Builtin(n) => (*n).into(),
            Value::Bracketed(b) => format!("{}{}", self.value(&b.0), self.brackets(&b.1)),
            Value::Stream(s) => self.stream(s),
            Value::Node(n) => format!("{} {{\n{}}}", n.kind, self.node(n)),
            Value::Later(l) if matches!(l.what.as_str(), "final" | "average") => {
                // Weights mean what the run that gives them means.
                let run = points::named(self.eval, &l.node);
                let text = run.map_or_else(|| l.node.to_string(), |n| self.node(&n));
                format!("{} of {{\n{text}}}", l.what)
            }
            Value::Later(l) => format!("after({}.{})", l.node, l.what),
            Value::Row(r) => {
                let text = syntax::canonical(&r.expr);
                self.reach(&text, &r.scope);
                text
            }
            Value::Tensor(_) | Value::Placed(_) | Value::Weight(_) | Value::Error => String::new(),
        }
    }

    fn record(&mut self, r: &Record) -> String {
        let fields: Vec<String> =
            r.fields.iter().map(|(n, (v, _))| format!("{n} = {}", self.value(v))).collect();
        format!("{{{}}}", fields.join(", "))
    }

    fn brackets(&mut self, brackets: &[Bracket]) -> String {
        let sized = |axes: &[(Rc<str>, Option<usize>)]| {
            let axes: Vec<String> = axes
                .iter()
                .map(|(n, s)| s.map_or(n.to_string(), |s| format!("{n} = {s}")))
                .collect();
            format!("({})", axes.join(", "))
        };
        let parts: Vec<String> = brackets
            .iter()
            .map(|b| match b {
                Bracket::Axis(name, _) => name.to_string(),
                Bracket::Tuple(names, _) => format!("({})", names.join(", ")),
                Bracket::Arrow { from, to, .. } => format!("{} -> {}", sized(from), sized(to)),
                Bracket::Named { name, axis: Some(axis), .. } => format!("{name} = {axis}"),
                Bracket::Named { name, value, .. } => format!("{name} = {}", self.value(value)),
                Bracket::Value(v, _) => self.value(v),
            })
            .collect();
        if parts.is_empty() { String::new() } else { format!("[{}]", parts.join(", ")) }
    }

    fn layer(&mut self, l: &LayerValue) -> String {
        match &l.form {
            LayerForm::Plain { def, args, brackets, overrides } => {
                let with = if overrides.fields.is_empty() {
                    String::new()
                } else {
                    format!(" with {}", self.record(overrides))
                };
                let brackets = self.brackets(brackets);
                format!("{}{brackets}({}){with}", self.def(def), self.record(args))
            }
            LayerForm::Stack { axis, inner } => format!("stack[{axis}]({})", self.layer(inner)),
            LayerForm::Each { axis, inner } => format!("each[{axis}]({})", self.layer(inner)),
            LayerForm::Sequence(layers) => {
                let items: Vec<String> = layers.iter().map(|l| self.layer(l)).collect();
                format!("[{}]", items.join(", "))
            }
        }
    }

    fn stream(&mut self, s: &Stream) -> String {
        let input = s.input.as_ref().map(|i| self.stream(i) + " |> ").unwrap_or_default();
        let own = format!("{}({})", s.stage, self.record(&s.args));
        match &s.node {
            Some((node, _)) if draws_by_name(s) => format!("{input}{own} drawn by {node:?}"),
            Some(_) | None => format!("{input}{own}"),
        }
    }

    /// The label of a definition; its text is written down once.
    fn def(&mut self, d: &Def) -> String {
        let key = format!("{}:{}", d.span.file.0, d.span.start);
        if let Some(label) = self.labels.get(&key) {
            return label.clone();
        }
        let known = self.eval.definition_texts.get(&d.span).map(Rc::clone);
        let text = known.unwrap_or_else(|| {
            let text = Rc::new(DefinitionText::of(d));
            self.eval.definition_texts.insert(d.span, Rc::clone(&text));
            text
        });
        let label = self.label(key, &d.name);
        self.definitions.insert(label.clone(), format!("{:?} {}", d.kind, text.line));
        for name in &text.names {
            self.reach_name(name, &d.scope);
        }
        label
    }

    fn label(&mut self, key: String, name: &str) -> String {
        let same = self.labels.values().filter(|l| l.split('\'').next() == Some(name)).count();
        let label = if same == 0 { name.to_owned() } else { format!("{name}'{}", same + 1) };
        self.labels.insert(key, label.clone());
        label
    }

    /// Writes down what the names in a text stand for.
    fn reach(&mut self, text: &str, scope: &Scope) {
        for name in names_in(text) {
            self.reach_name(name, scope);
        }
    }

    fn reach_name(&mut self, name: &str, scope: &Scope) {
        match scope.get(name) {
            Some(Value::Tensor(_) | Value::Placed(_) | Value::Weight(_) | Value::Error) => {}
            Some(v) => {
                let value = one_line(&self.value(&v));
                if !matches!(v, Value::Def(_)) {
                    self.local(name, value);
                }
            }
            None => self.named(scope.0.module, name),
        }
    }

    /// A value made on the way: `lr` of a sweep's point. Equal names may have different values at different points.
    fn local(&mut self, name: &str, text: String) {
        let mut label = name.to_owned();
        while self.definitions.get(&label).is_some_and(|known| *known != text) {
            label.push('\'');
        }
        self.definitions.insert(label, text);
    }

    /// A name of a module, its imports or the prelude.
    fn named(&mut self, module: usize, name: &str) {
        let Some(m) = self.eval.modules.get(module) else { return };
        let from = if m.names.contains_key(name) {
            module
        } else if let Some((from, ..)) = m.imports.get(name) {
            *from
        } else {
            PRELUDE
        };
        let Some(m) = self.eval.modules.get(from) else { return };
        let Some(item) = m.names.get(name).map(|i| &m.items[*i]) else { return };
        let key = format!("{}:{}", item.span.file.0, item.span.start);
        if self.labels.contains_key(&key) {
            return;
        }
        let is_plain = matches!(item.kind, ast::ItemKind::Let { .. } | ast::ItemKind::Knob { .. });
        // What is used here was computed before; computing the rest must not complain here.
        let span = item.span;
        let before = self.eval.problems.clone();
        let v = self.eval.item_value(from, name, span);
        self.eval.problems = before;
        if is_plain {
            let label = self.label(key, name);
            let text = self.value(&v);
            self.definitions.insert(label, one_line(&text));
        } else if let Value::Def(d) = &v {
            self.def(d);
        } else if let Value::Layer(_) | Value::Node(_) = &v {
            let label = self.label(key, name);
            let text = self.value(&v);
            self.definitions.insert(label, one_line(&text));
        }
    }

    fn defined(mut self) -> String {
        if self.definitions.is_empty() {
            return String::new();
        }
        self.definitions.sort_keys();
        let lines: String =
            self.definitions.iter().map(|(label, text)| format!("{label} = {text}\n")).collect();
        format!("definitions {{\n{lines}}}\n")
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Names in a canonical text, without those after a dot and those in quotes.
fn names_in(text: &str) -> Vec<&str> {
    let bytes = text.as_bytes();
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b >= 128;
    let mut found: Vec<&str> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'"' {
            at += 1;
            while at < bytes.len() && bytes[at] != b'"' {
                at += if bytes[at] == b'\\' { 2 } else { 1 };
            }
            at += 1;
        } else if is_word(bytes[at]) {
            let start = at;
            while at < bytes.len() && is_word(bytes[at]) {
                at += 1;
            }
            // `a.b` names only `a`; `0..depth` names `depth`.
            let field =
                start > 0 && bytes[start - 1] == b'.' && (start < 2 || bytes[start - 2] != b'.');
            let word = &text[start..at];
            if !field && !bytes[start].is_ascii_digit() && !found.contains(&word) {
                found.push(word);
            }
        } else {
            at += 1;
        }
    }
    found
}

/// True if a pipeline draws and does not say by which seed.
fn draws_by_name(s: &Stream) -> bool {
    let here =
        DRAWS.contains(&s.stage) && s.args.get("seed").is_none() && s.args.get("tail").is_none();
    here || s.input.as_ref().is_some_and(|i| draws_by_name(i))
}

/// True if a value is what its field's default says.
fn says_default(v: &Value, default: &str) -> bool {
    match v {
        Value::Number(q) => default.parse::<f64>().is_ok_and(|d| q.unit.is_none() && q.value == d),
        Value::Text(t) => &**t == default,
        Value::Def(d) => d.name == default,
        Value::List(l) => l.is_empty() && default == "[]",
        Value::None => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::names_in;

    #[test]
    fn names_are_found_outside_quotes_and_behind_no_dot() {
        assert_eq!(
            names_in("f(a.b, \"c \\\" d\") + [i for i in 0..depth] 3e4"),
            ["f", "a", "i", "for", "in", "depth"]
        );
    }
}
