//! What a name means, and what stands behind a dot.

use std::rc::Rc;

use super::{Eval, describe};
use crate::check::value::{DefKind, Later, Quantity, Scope, Value};
use crate::check::{kinds, stages, units};
use crate::problem::{Problem, did_you_mean};
use crate::source::Span;
use crate::syntax::ast;

/// Columns of runs whose dot is easily forgotten.
const COLUMNS_OF_RUNS: &[&str] = &["valid_loss", "perplexity", "bits_per_byte", "grad_norm"];

impl Eval<'_> {
    /// A name: frames of the scope, then axes (their size), then the module and the prelude.
    pub fn name(&mut self, scope: &Scope, name: &str, span: Span) -> Value {
        if let Some(v) = scope.get(name) {
            if let (Value::Weight(slot), Some(t)) = (&v, &mut self.trace) {
                return Value::Tensor(t.slot(slot));
            }
            return v;
        }
        if let Some(t) = &self.trace
            && let Some(a) = t.axis(scope, name)
        {
            let mut q = Quantity::plain(a.axis.size as f64);
            q.origin = a.origin;
            return Value::Number(q);
        }
        if let Some(v) = self.module_name(scope.0.module, name, span) {
            return v;
        }
        let mut names = scope.names();
        names.extend(self.names_in_sight(scope.0.module));
        let mut p = Problem::new("E0201", span, format!("`{name}` is not known here"));
        if name == "self" {
            p = p.help("a layer's methods name its fields as they are: `mlp(x)`");
        } else if COLUMNS_OF_RUNS.contains(&name) {
            p = p.help(format!("a column of rows is written with a dot: `.{name}`"));
        } else if let Some(near) = did_you_mean(name, names.iter().map(String::as_str)) {
            p = p.at(format!("did you mean `{near}`?")).fix(span, near);
        }
        self.problem(p)
    }

    pub(super) fn row_field(&mut self, id: &ast::Ident) -> Value {
        let Some(row) = self.rows.last() else { return Value::Error };
        if let Some(v) = row.get(&id.name) {
            return v.clone();
        }
        let names: Vec<String> = row.fields.keys().cloned().collect();
        let mut p = Problem::new("E0205", id.span, format!("these rows have no `.{}`", id.name))
            .help(format!("they have: {}", names.join(", ")));
        if let Some(near) = did_you_mean(&id.name, names.iter().map(String::as_str)) {
            p = p.at(format!("did you mean `.{near}`?"));
        }
        self.problem(p)
    }

    /// Fields of things.
    pub fn member(&mut self, base: Value, name: &ast::Ident) -> Value {
        match base {
            Value::Error => Value::Error,
            // What a fit will answer is not known, but which fields that has is.
            Value::Later(l)
                if stages::is_answer(&l.what)
                    && l.what.ends_with(')')
                    && !kinds::answer_fields(&l.what).contains(&name.name) =>
            {
                let what = format!("what `{}` answers", l.node);
                self.no_field(name, &what, kinds::answer_fields(&l.what))
            }
            Value::Later(l) => Value::Later(Rc::new(Later {
                node: l.node.clone(),
                what: format!("{}.{}", l.what, name.name),
                unit: units::Unit::none(),
                declared: l.declared,
            })),
            Value::Record(r) => match r.get(&name.name) {
                Some(v) => v.clone(),
                None => self.no_field(name, "this record", r.fields.keys().cloned().collect()),
            },
            Value::Placed(p) => self.placed_member(&p, name),
            Value::Node(n) => self.node_member(&n, name),
            Value::Stream(s) => self.stream_member(&s, name),
            Value::Layer(l) => self.layer_member(&l, name),
            Value::Program(p) => match p.args.get(&name.name) {
                Some(v) => v.clone(),
                None => {
                    let what = format!("`{}`", p.def.name);
                    self.no_field(name, &what, p.args.fields.keys().cloned().collect())
                }
            },
            Value::Def(d) if d.kind == DefKind::Fn => {
                let text = format!("the function `{}` has no fields", d.name);
                self.problem(Problem::new("E0203", name.span, text))
            }
            other => {
                let text = format!("{} has no field `{}`", describe(&other), name.name);
                self.problem(Problem::new("E0203", name.span, text))
            }
        }
    }

    /// "no field `x` in ..".
    pub fn no_field(&mut self, name: &ast::Ident, what: &str, names: Vec<String>) -> Value {
        let names: Vec<String> =
            names.into_iter().collect::<indexmap::IndexSet<_>>().into_iter().collect();
        let mut p = Problem::new("E0203", name.span, format!("no field `{}` in {what}", name.name));
        if let Some(near) = did_you_mean(&name.name, names.iter().map(String::as_str)) {
            p = p.at(format!("did you mean `{near}`?"));
            // The place may be a whole path: `model.width`.
            let text = self.sources.text(name.span);
            let mut at = name.span.start as usize;
            for part in text.split('.') {
                if part.trim() == name.name {
                    p = p.fix(Span::new(name.span.file, at, at + part.len()), near);
                    break;
                }
                at += part.len() + 1;
            }
        } else if !names.is_empty() {
            p = p.help(format!("it has: {}", names.join(", ")));
        }
        self.problem(p)
    }
}
