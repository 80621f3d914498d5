//! Layers: placed in a model, then called.
//!
//! *Placing* a layer gives it a path, binds its axes (brackets bind at the boundary, other axes by name), places the layers in its
//! fields, and declares its weights; a weight comes into being when a method reads it. *Calling* a placed layer runs its
//! `forward` in a frame of its own.

mod call;
mod place;

use std::cell::RefCell;
use std::rc::Rc;

use crate::check::eval::{Eval, def_of, describe};
use crate::check::trace::{Emit, EmitKind};
use crate::check::value::{
    Bracket, Def, DefKind, LayerForm, LayerValue, Quantity, Record, Scope, Value,
};
use crate::graph::Axis;
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast;

/// A layer at its place.
#[derive(Debug)]
pub struct Placed {
    /// Its path: `blocks.attn`.
    pub path: String,
    /// What it is.
    pub form: PlacedForm,
    /// Where it was written.
    pub span: Span,
}

/// The forms of placed layers.
#[derive(Debug)]
pub enum PlacedForm {
    /// A definition; its scope has arguments, axes, weights, inner layers.
    Plain {
        /// What it is.
        def: Rc<Def>,
        /// Its settings, weights and inner layers.
        scope: Scope,
        /// What happens to axes at its boundary.
        entry: RefCell<Vec<Entry>>,
    },
    /// Copies in a chain: one scan.
    Stack {
        /// Counts the copies.
        axis: Axis,
        /// One of them.
        inner: Rc<Placed>,
    },
    /// Copies side by side: their weights have the axis.
    Each {
        /// All of them, as one layer with wider weights.
        inner: Rc<Placed>,
    },
    /// One after the other.
    Sequence(Vec<Rc<Placed>>),
}

/// What happens to axes at the boundary of a layer.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A second formal axis bound to the same outer axis: the result is renamed on exit.
    Rename { outer: Axis, inner: Axis },
    /// `RMSNorm[(head, dh)]`: merged on entry, split on exit.
    Merge { outer: Vec<Axis>, inner: Axis },
}

impl Eval<'_> {
    /// `stack[depth](L)`, `each[expert](L)`.
    pub fn stack_or_each(
        &mut self,
        name: &str,
        brackets: &[Bracket],
        inner: Option<Value>,
        span: Span,
    ) -> Value {
        let [Bracket::Axis(axis, _)] = brackets else {
            return self.problem(Problem::new(
                "E0406",
                span,
                format!("`{name}` takes one axis: `{name}[depth](Block)`"),
            ));
        };
        let Some(inner) = inner.and_then(|v| self.as_layer(v, span)) else { return Value::Error };
        let axis = axis.clone();
        let form = if name == "stack" {
            LayerForm::Stack { axis, inner }
        } else {
            LayerForm::Each { axis, inner }
        };
        Value::Layer(Rc::new(LayerValue { form, span }))
    }

    /// A value as a layer: a definition without arguments is a layer with its defaults; a list is a sequence.
    pub fn as_layer(&mut self, v: Value, span: Span) -> Option<Rc<LayerValue>> {
        let (v, brackets) = match v {
            Value::Bracketed(b) => (b.0.clone(), b.1.clone()),
            other => (other, Vec::new()),
        };
        match v {
            Value::Layer(l) if brackets.is_empty() => Some(l),
            Value::Layer(l) => match &l.form {
                LayerForm::Plain { def, args, overrides, .. } => {
                    let form = LayerForm::Plain {
                        def: def.clone(),
                        args: args.clone(),
                        brackets,
                        overrides: overrides.clone(),
                    };
                    Some(Rc::new(LayerValue { form, span: l.span }))
                }
                LayerForm::Stack { .. } | LayerForm::Each { .. } | LayerForm::Sequence(_) => {
                    Some(l)
                }
            },
            Value::Def(def) if matches!(def.kind, DefKind::Layer | DefKind::Model) => {
                let frame = def.scope.inner();
                let args = self.bind(&def, crate::check::call::Args::default(), span, &frame)?;
                let form = LayerForm::Plain { def, args, brackets, overrides: Record::default() };
                Some(Rc::new(LayerValue { form, span }))
            }
            Value::List(items) => {
                let layers: Option<Vec<_>> =
                    items.iter().map(|v| self.as_layer(v.clone(), span)).collect();
                Some(Rc::new(LayerValue { form: LayerForm::Sequence(layers?), span }))
            }
            Value::Error | Value::Later(_) => None,
            other => {
                let text = format!("a layer is needed, this is {}", describe(&other));
                self.problem(Problem::new("E0301", span, text));
                None
            }
        }
    }

    /// A member of a placed layer: `embed.table`.
    pub fn placed_member(&mut self, p: &Rc<Placed>, name: &ast::Ident) -> Value {
        match &p.form {
            PlacedForm::Plain { scope, def, .. } => {
                let found = scope.0.names.borrow().get(&name.name).cloned();
                match found {
                    Some(Value::Weight(slot)) => Value::Tensor(self.t().slot(&slot)),
                    Some(v) => v,
                    None => {
                        let names = scope.0.names.borrow().keys().cloned().collect();
                        self.no_field(name, &format!("`{}`", def.name), names)
                    }
                }
            }
            PlacedForm::Stack { inner, .. } | PlacedForm::Each { inner } => {
                let inner = inner.clone();
                self.placed_member(&inner, name)
            }
            PlacedForm::Sequence(_) => {
                self.problem(Problem::new("E0203", name.span, "a list of layers has no fields"))
            }
        }
    }

    /// `measure x = e`, `penalty x = e`.
    pub fn emit(
        &mut self,
        scope: &Scope,
        kind: ast::EmitKind,
        name: &ast::Ident,
        value: &ast::Expr,
    ) {
        let v = self.expr(scope, value);
        scope.bind(&name.name, v.clone());
        if self.trace.is_none() || matches!(v, Value::Error) {
            return;
        }
        let Some(node) = self.tensor_node(v, value.span) else { return };
        let path = self.t().path();
        let full =
            if path.is_empty() { name.name.clone() } else { format!("{path}.{}", name.name) };
        let kind = match kind {
            ast::EmitKind::Measure => EmitKind::Measure,
            ast::EmitKind::Penalty => EmitKind::Penalty,
        };
        let level = self.t().levels.last_mut().expect("a trace has a level");
        level.emits.push(Emit { name: full, kind, node });
    }

    /// A number of an axis or a value for initialisers: `fan_in` and the like are bound by the caller.
    pub fn plain(value: f64) -> Value {
        Value::Number(Quantity::plain(value))
    }

    /// The definition of a model node without parameters, as a layer.
    pub fn model_def(
        name: &ast::Ident,
        block: &ast::Block,
        scope: &Scope,
        doc: Option<String>,
    ) -> Def {
        let c = ast::Callable {
            name: name.clone(),
            axes: Vec::new(),
            params: Vec::new(),
            result: None,
            body: ast::Body::Block(block.clone()),
            span: block.span,
        };
        def_of(DefKind::Model, &c, scope, doc)
    }
}

fn is_layer(v: &Value) -> bool {
    match v {
        Value::Layer(_) => true,
        Value::Def(d) => matches!(d.kind, DefKind::Layer | DefKind::Model),
        Value::Bracketed(b) => is_layer(&b.0),
        Value::List(items) => !items.is_empty() && items.iter().all(is_layer),
        Value::None
        | Value::Bool(_)
        | Value::Number(_)
        | Value::Text(_)
        | Value::Record(_)
        | Value::Range(..)
        | Value::Tensor(_)
        | Value::Placed(_)
        | Value::Program(_)
        | Value::Weight(_)
        | Value::Builtin(_)
        | Value::Stream(_)
        | Value::Node(_)
        | Value::Later(_)
        | Value::Row(_)
        | Value::Error => false,
    }
}
