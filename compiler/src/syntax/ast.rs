//! The Ast: what was written.
//!
//! A file is a list of items. The grammar is permissive (any item may stand in any block); the checker says where an
//! item belongs. Nothing is resolved here: a name is text with a place. Every node has a [`Span`].
//! [`fingerprint`](File) of meaning never uses spans, docs or comments.

#![allow(missing_docs, reason = "the sentence of a variant names its fields")]

use serde::{Deserialize, Serialize};

use crate::source::Span;

/// A name as written, with its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ident {
    /// The name.
    pub name: String,
    /// Its place.
    pub span: Span,
}

/// A dotted path: `optimizer.lr.peak`.
pub type Path = Vec<Ident>;

/// A whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct File {
    /// The file's items in order.
    pub items: Vec<Item>,
    /// The `##` comment at the head of the file.
    pub doc: Option<String>,
}

/// One item of a file or a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// What it is.
    pub kind: ItemKind,
    /// From its first to its last byte.
    pub span: Span,
    /// The `##` comment before it or at the end of its line.
    pub doc: Option<String>,
}

/// The kinds of items.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ItemKind {
    /// `use std.models { llama }`, `use "./tiny.cs336" { stories, bpe }`; no braces: every name.
    Use { source: UseSource, names: Vec<Ident> },
    /// `let x: T = e`; `let (a, b)` is only legal after `for`, the checker says so.
    Let { pattern: Pattern, ty: Option<Type>, value: Expr },
    /// `knob lr: 1e-5..1e-1 = 2e-3`.
    Knob { name: Ident, ty: Option<Type>, value: Expr },
    /// `fn f[a](x: [a]) -> [a] = e`.
    Fn(Callable),
    /// `layer GQA[d, kv](theta: Float = 10_000) { .. }`; `params` is `None` where no parentheses were written.
    Layer { name: Ident, axes: Vec<Axis>, params: Option<Vec<Param>>, body: Block },
    /// `weight wq[d, kv], wk[d]`.
    Weight(Vec<WeightDecl>),
    /// `state m, v` or `state bias[expert] = 0`.
    State(Vec<WeightDecl>),
    /// `measure x = e`, `penalty x = e`.
    Emit { kind: EmitKind, name: Ident, value: Expr },
    /// `assert e`.
    Assert(Expr),
    /// `for x in e`.
    For { pattern: Pattern, iter: Expr },
    /// `where e`.
    Where(Expr),
    /// `a.b = e`.
    Field { path: Path, value: Expr },
    /// `web.train -> 70%`, `"a" -> 1`, `(a, b) -> c`.
    Map { key: MapKey, value: Expr },
    /// `optimizer adamw(lr: Schedule) { .. }`, `loss f[a](x) = e`: a library kind that takes arguments.
    Def { kind: Ident, callable: Callable },
    /// `forward(x: [d]) -> [d] = e`, `at(x) = e`: a method, or a `rule`-like member with parameters.
    Method(Callable),
    /// `train baseline { .. }`, `data d = e`, `plot "A title" { .. }`, `text """..."""`, `eval { .. }`.
    Node { kind: Ident, name: Option<NodeName>, body: NodeBody },
    /// A bare value.
    Expr(Expr),
    /// Text that is not an item; a problem was reported.
    Error,
}

/// Where names come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum UseSource {
    /// `"./tiny.cs336"`.
    File { path: String, span: Span },
    /// `std.models`.
    Module(Path),
}

/// `measure` or `penalty`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EmitKind {
    /// Recorded only.
    Measure,
    /// Added to the training objective.
    Penalty,
}

/// A name, or the tuple of names after `for`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Pattern {
    /// One name.
    Name(Ident),
    /// `(a, b)`.
    Tuple(Vec<Ident>, Span),
}

/// The name of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NodeName {
    /// `train baseline`.
    Ident(Ident),
    /// `plot "A title"`.
    Text(String, Span),
}

/// What follows a node's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum NodeBody {
    /// `= e`.
    Expr(Expr),
    /// `{ .. }`.
    Block(Block),
    /// Nothing more (`text "..."`: the name is the text).
    None,
}

/// The key of a map item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum MapKey {
    /// `web.train`.
    Path(Path),
    /// `(a, b)`.
    Tuple(Vec<Axis>),
    /// `"a"`, `3`, `none`, `true` and other plain values.
    Value(Expr),
}

/// A function, a method or a program of a library kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Callable {
    /// Its name.
    pub name: Ident,
    /// `[out, inp]`.
    pub axes: Vec<Axis>,
    /// `(w: [out, inp], g, t)`.
    pub params: Vec<Param>,
    /// `-> [d]`.
    pub result: Option<Type>,
    /// `= e` or `{ .. }`.
    pub body: Body,
    /// The whole.
    pub span: Span,
}

/// A body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Body {
    /// `= e`.
    Expr(Expr),
    /// `{ .. }`.
    Block(Block),
}

/// `name: type = default`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Param {
    /// Its name.
    pub name: Ident,
    /// Its type.
    pub ty: Option<Type>,
    /// Its default.
    pub default: Option<Expr>,
}

/// `name` or `name = size` in a bracket of a declaration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// Its name.
    pub name: Ident,
    /// Its size or default.
    pub size: Option<Expr>,
}

/// `wq[d, head]: f32 = init`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightDecl {
    /// Its name.
    pub name: Ident,
    /// Its axes.
    pub axes: Vec<Axis>,
    /// Its pinned type.
    pub ty: Option<Type>,
    /// Its initialiser or start.
    pub init: Option<Expr>,
    /// The whole.
    pub span: Span,
}

/// `{ items }`: a record if all items are fields, a value if the last item is an expression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Block {
    /// Its items.
    pub items: Vec<Item>,
    /// With its braces.
    pub span: Span,
}

/// A type as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Type {
    /// What it is.
    pub kind: TypeKind,
    /// Its place.
    pub span: Span,
}

/// The kinds of types.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum TypeKind {
    /// `Float`, `Id[vocab]`, `Float?`, `tokens/param` (a unit is a path with `per`).
    Named { path: Path, per: Vec<Ident>, axes: Vec<Axis>, optional: bool },
    /// `[seq] Id[vocab]`, `[batch, seq]`; `[Float, Float]` and `[Turn]` parse as axes too, the checker tells them apart
    /// by their capital letter.
    Tensor { axes: Vec<Axis>, element: Option<Box<Type>> },
    /// `1e-5..1e-1`.
    Range { from: Expr, to: Expr },
    /// `{ logits: [vocab], next: [vocab] }`.
    Record(Vec<(Ident, Type)>),
}

/// A value as written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Expr {
    /// What it is.
    pub kind: Box<ExprKind>,
    /// Its place.
    pub span: Span,
}

/// `FLOPs`, `tokens/param`: first name, then the names after each `/`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// The amount.
    pub amount: Ident,
    /// Each divisor.
    pub per: Vec<Ident>,
    /// The whole.
    pub span: Span,
}

/// What may follow a number or a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Suffix {
    /// `%`.
    Percent,
    /// A unit.
    Unit(Unit),
}

/// The kinds of values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ExprKind {
    /// `10_000`, `64Ki tokens`, `10%`: `value` has the multiplier applied, not the suffix.
    Number { value: f64, suffix: Option<Suffix> },
    /// A string with its escapes resolved; `{..}` in it means something only in fields of type `Template`.
    Text(String),
    /// A name.
    Name(String),
    /// `.loss`: the field of the row at hand.
    Dot(Ident),
    /// `true`, `false`.
    Bool(bool),
    /// `none`.
    None,
    /// `[1, 2]%`, `[1e17, 3e17] FLOPs`.
    List { values: Vec<Expr>, suffix: Option<Suffix> },
    /// `[e for x in xs where c]`.
    Comprehension { value: Expr, clauses: Vec<Clause>, suffix: Option<Suffix> },
    /// `{ a = 1 }`, `{ let x = 1  x + 1 }`.
    Block(Block),
    /// `f(a, b = c)`.
    Call { callee: Expr, args: Vec<Arg> },
    /// `x[seq -> key]`, `dot[d]`, `xs[0]`, `Linear[d, ff = moe_ff]`.
    Index { base: Expr, args: Vec<IndexArg> },
    /// `a.b`.
    Member { base: Expr, name: Ident },
    /// `-x`, `not x`.
    Unary { op: UnaryOp, value: Expr },
    /// `a + b`.
    Binary { op: BinaryOp, op_span: Span, left: Expr, right: Expr },
    /// `a <= b < c`: as chained, every neighbour pair must hold.
    Compare { first: Expr, rest: Vec<(CompareOp, Span, Expr)> },
    /// `a .. b`, both ends included; a trailing unit on the last spreads to the first (checker).
    Range { from: Expr, to: Expr },
    /// `a |> b`.
    Pipe { value: Expr, into: Expr },
    /// `base with { .. }`, `base with record`.
    With { base: Expr, update: Expr },
    /// `if c then a else b`.
    If { condition: Expr, then: Expr, otherwise: Expr },
    /// `match x { "a" -> 1 }`.
    Match { subject: Expr, arms: Block },
    /// `scan[seq, reverse = true] { .. }`.
    Scan { args: Vec<IndexArg>, body: Block },
    /// `.loss ~ E + A / .params^alpha`.
    Law { left: Expr, right: Expr },
    /// Could not be read; a problem was reported.
    Error,
}

/// `for x in xs`, `where c` in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Clause {
    /// `for x in e`.
    For { pattern: Pattern, iter: Expr },
    /// `where e`.
    Where(Expr),
}

/// An argument.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Arg {
    /// `name = ..`.
    pub name: Option<Ident>,
    /// The value.
    pub value: Expr,
}

/// What may stand in brackets behind a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum IndexArg {
    /// `seq -> key`, `dh -> (two = 2, half)`, `(a, b) -> c`: a single name is a list of one.
    Arrow { from: Vec<Axis>, to: Vec<Axis>, span: Span },
    /// `(head, dh)`.
    Tuple(Vec<Axis>, Span),
    /// `ff = moe_ff`, `reverse = true`.
    Named { name: Ident, value: Expr },
    /// `d`, `0`, `depth - 1`.
    Value(Expr),
}

/// Prefix operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UnaryOp {
    /// `-x`; binds looser than `^`.
    Neg,
    /// `not x`.
    Not,
}

/// Infix operators that are not comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `^`
    Pow,
    /// `and`
    And,
    /// `or`
    Or,
}

/// Comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CompareOp {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
    /// `in`
    In,
}
