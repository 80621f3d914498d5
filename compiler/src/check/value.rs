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
    /// A definition that takes arguments, not yet called: `fn`, `layer`, `model`, `optimizer`, `loss`, ..
    Def(Rc<Def>),
    /// A program of a library kind with its arguments: `adamw(lr = ..)`, `cosine(peak = ..)`, `cross_entropy`.
    Program(Rc<Program>),
    /// An operation or constructor written in Rust: its name in the prelude, and brackets already given.
    Builtin(&'static str, Rc<Vec<Bracket>>),
    /// Rows passing through stages: a data pipeline.
    Stream(Rc<Stream>),
    /// A node of the file, by name; `.field` asks the node.
    Node(Rc<str>),
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
#[derive(Debug, Clone)]
pub struct Tensor {
    /// The node.
    pub node: NodeId,
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
    /// The frame around it.
    pub parent: Option<Scope>,
    /// The module (file) whose top level lies at the root of the chain.
    pub module: usize,
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
