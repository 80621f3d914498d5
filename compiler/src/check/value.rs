//! Values: what expressions evaluate to, in experiment code and inside methods alike.

#![allow(missing_docs, reason = "the sentence of a variant names its fields")]

use std::rc::Rc;

use indexmap::IndexMap;

use super::units::Unit;
use crate::graph::{Axis, NodeId};
use crate::source::Span;
use crate::syntax::ast;

/// A value. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Value {
    /// `none`.
    None,
    /// `true`, `false`.
    Bool(bool),
    /// A number with its unit and where it was written.
    Number(Quantity),
    /// Text; may hold `{expr}`, which means something in fields of type `Template`.
    Text(Rc<str>),
    /// A list.
    List(Rc<Vec<Value>>),
    /// A record: fields in order.
    Record(Rc<Record>),
    /// `a..b`, both ends included.
    Range(Quantity, Quantity),
    /// A tensor of the graph under construction; only inside methods.
    Tensor(Tensor),
    /// A layer or a model: a constructor with its arguments, not yet placed.
    Layer(Rc<LayerValue>),
    /// A layer at its place in a model that is being traced; callable.
    Placed(Rc<super::trace::Placed>),
    /// A definition that takes arguments, not yet called: `fn`, `layer`, `model`, `optimizer`, `loss`, ..
    Def(Rc<Def>),
    /// A program of a library kind with its arguments: `adamw(lr = ..)`, `cosine(peak = ..)`, `cross_entropy`.
    Program(Rc<Program>),
    /// A weight or layer state of a placed layer; reading it makes it exist.
    Weight(Rc<super::trace::Slot>),
    /// An operation or constructor written in Rust, by its name in the prelude.
    Builtin(&'static str),
    /// A definition or an operation with its brackets: `dot[d]`, `RMSNorm[d]`.
    Bracketed(Rc<(Value, Vec<Bracket>)>),
    /// Rows passing through stages: a data pipeline.
    Stream(Rc<Stream>),
    /// A node: a train, a data set, a sweep, .. with its fields evaluated.
    Node(Rc<NodeValue>),
    /// Known only after a node has run.
    Later(Rc<Later>),
    /// An expression over the row at hand (`.loss > 3`), with the scope it was written in.
    Row(Rc<RowExpr>),
    /// Wrong; a problem was reported. Whatever touches it is wrong in silence.
    Error,
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantity {
    /// In base units (bytes, seconds, FLOPs).
    pub value: f64,
    /// Its unit.
    pub unit: Unit,
    /// Where it was written, for the because-chain.
    pub origin: Option<Span>,
    /// Written with `%`.
    pub percent: bool,
}

impl Quantity {
    /// A plain number.
    pub fn plain(value: f64) -> Self {
        Self { value, unit: Unit::none(), origin: None, percent: false }
    }
}

/// Fields in order.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Name to value and place.
    pub fields: IndexMap<String, (Value, Option<Span>)>,
}

/// A tensor inside a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tensor {
    /// How many scans deep the graph is that has the node; 0 is the outermost.
    pub level: u32,
    /// The node.
    pub node: NodeId,
}

/// A node of a file, or what `with` made of one.
#[derive(Debug)]
pub struct NodeValue {
    /// `train`, `data`, ..
    pub kind: String,
    /// Its name; that of the node that it was derived from until it is given its own.
    pub name: Rc<str>,
    /// Its fields. A node written as `data x = e` has one field, `value`.
    pub fields: Record,
    /// Items that are no fields: `for`, `where`, `let`, nested nodes without a value; as written, with their scope.
    pub items: Vec<ast::Item>,
    /// Where its expressions were written.
    pub scope: Scope,
    /// The whole.
    pub span: Span,
    /// `##`.
    pub doc: Option<String>,
}

/// An argument in brackets, evaluated.
#[derive(Debug, Clone)]
pub enum Bracket {
    /// `d`: an axis by name (or, for `xs[0]`, a value).
    Axis(Rc<str>, Span),
    /// `(head, dh)`.
    Tuple(Vec<Rc<str>>, Span),
    /// `a -> b` with optional sizes on the right.
    Arrow { from: Vec<(Rc<str>, Option<usize>)>, to: Vec<(Rc<str>, Option<usize>)>, span: Span },
    /// `ff = moe_ff`: an axis name or a value.
    Named { name: Rc<str>, axis: Option<Rc<str>>, value: Value, span: Span },
    /// Any other value.
    Value(Value, Span),
}

/// Where names are looked up: an immutable chain of frames.
#[derive(Debug, Clone)]
pub struct Scope(pub Rc<Frame>);

/// One frame.
#[derive(Debug)]
pub struct Frame {
    /// Names of this frame.
    pub names: std::cell::RefCell<IndexMap<String, Value>>,
    /// Local names of axes, to axes of the graph under construction.
    pub axes: std::cell::RefCell<IndexMap<String, BoundAxis>>,
    /// The frame around it.
    pub parent: Option<Scope>,
    /// The module (file) whose top level lies at the root of the chain.
    pub module: usize,
}

impl Scope {
    /// The top level of a module.
    pub fn module(module: usize) -> Self {
        Self::frame(None, module)
    }

    /// A new frame inside this one.
    #[must_use]
    pub fn inner(&self) -> Self {
        Self::frame(Some(self.clone()), self.0.module)
    }

    fn frame(parent: Option<Self>, module: usize) -> Self {
        let (names, axes) = Default::default();
        Self(Rc::new(Frame { names, axes, parent, module }))
    }

    /// Binds a name in this frame.
    pub fn bind(&self, name: &str, value: Value) {
        self.0.names.borrow_mut().insert(name.to_owned(), value);
    }

    /// Binds a local axis name in this frame.
    pub fn bind_axis(&self, name: &str, axis: BoundAxis) {
        self.0.axes.borrow_mut().insert(name.to_owned(), axis);
    }

    /// The value of a name in this or an outer frame; not the module's items.
    pub fn get(&self, name: &str) -> Option<Value> {
        let found = self.0.names.borrow().get(name).cloned();
        found.or_else(|| self.0.parent.as_ref().and_then(|p| p.get(name)))
    }

    /// The axis bound to a local name in this or an outer frame.
    pub fn axis(&self, name: &str) -> Option<BoundAxis> {
        let found = self.0.axes.borrow().get(name).cloned();
        found.or_else(|| self.0.parent.as_ref().and_then(|p| p.axis(name)))
    }

    /// All names in sight, for suggestions.
    pub fn names(&self) -> Vec<String> {
        let mut all: Vec<String> = self.0.names.borrow().keys().cloned().collect();
        if let Some(p) = &self.0.parent {
            all.extend(p.names());
        }
        all
    }
}

impl Record {
    /// The value of a field.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).map(|(v, _)| v)
    }

    /// Sets a field.
    pub fn set(&mut self, name: &str, value: Value, span: Option<Span>) {
        self.fields.insert(name.to_owned(), (value, span));
    }
}

/// A definition.
#[derive(Debug)]
pub struct Def {
    /// `fn`, `layer`, `model`, `optimizer`, `schedule`, `loss`, `law`, `filter`, `score`.
    pub kind: DefKind,
    /// Its name.
    pub name: String,
    /// Formal axes.
    pub axes: Vec<ast::Axis>,
    /// Formal parameters.
    pub params: Vec<ast::Param>,
    /// Its items (layers, models, programs with methods), or its expression.
    pub body: ast::Body,
    /// Declared result.
    pub result: Option<ast::Type>,
    /// The whole.
    pub span: Span,
    /// Where its free names are looked up.
    pub scope: Scope,
    /// Its `##` comment.
    pub doc: Option<String>,
}

/// The kinds of definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DefKind {
    /// `fn`.
    Fn,
    /// `layer`.
    Layer,
    /// `model`.
    Model,
    /// `optimizer`.
    Optimizer,
    /// `schedule`.
    Schedule,
    /// `loss`.
    Loss,
    /// `law`.
    Law,
    /// `filter`.
    Filter,
    /// `score`.
    Score,
}

/// A program with arguments.
#[derive(Debug)]
pub struct Program {
    /// What it is.
    pub def: Rc<Def>,
    /// All parameters, defaults filled in.
    pub args: Record,
    /// Where it was called.
    pub span: Span,
}

/// A layer not yet placed.
#[derive(Debug)]
pub struct LayerValue {
    /// What it is.
    pub form: LayerForm,
    /// Where it was written.
    pub span: Span,
}

/// The forms of layers.
#[derive(Debug)]
pub enum LayerForm {
    /// A definition with arguments and brackets. `overrides` come from `with` (fields, or axis sizes of models).
    Plain { def: Rc<Def>, args: Record, brackets: Vec<Bracket>, overrides: Record },
    /// `stack[depth](L)`.
    Stack { axis: Rc<str>, inner: Rc<LayerValue> },
    /// `each[expert](L)`.
    Each { axis: Rc<str>, inner: Rc<LayerValue> },
    /// `[L, L, ..]`.
    Sequence(Vec<Rc<LayerValue>>),
}

/// A data pipeline: a source and what happens to its rows.
#[derive(Debug)]
pub struct Stream {
    /// The call that made or changed the rows: `files`, `keep`, `encode`, ..
    pub stage: &'static str,
    /// Its arguments, checked against the stage's schema.
    pub args: Record,
    /// The rows that come in; `None` for sources.
    pub input: Option<Rc<Stream>>,
    /// Set if the input is the split (`valid`, `train`) of a named data node.
    pub node: Option<(Rc<str>, Rc<str>)>,
    /// Where it was written.
    pub span: Span,
}

/// A value that a node will give.
#[derive(Debug)]
pub struct Later {
    /// The node.
    pub node: Rc<str>,
    /// Which field, or what was computed from it.
    pub what: String,
    /// Its unit, where known.
    pub unit: Unit,
    /// Where the node is declared.
    pub declared: Span,
}

/// `.a > b` with its scope.
#[derive(Debug)]
pub struct RowExpr {
    /// As written.
    pub expr: ast::Expr,
    /// Names in it.
    pub scope: Scope,
}

/// Sizes of axes as a method sees them: its own name for an axis, the graph's axis, and why it has that size.
#[derive(Debug, Clone)]
pub struct BoundAxis {
    /// The axis in the graph.
    pub axis: Axis,
    /// "because": where the size was given.
    pub origin: Option<Span>,
}
