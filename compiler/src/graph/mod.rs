//! The Graph: tensor mathematics on named axes, pure.
//!
//! # What a graph means
//! A graph is a list of nodes in which a node reads only nodes before it. A node's value is a tensor: a function
//! from the coordinates of its [`Type::axes`] to numbers. Axes are known by *name*; a name has one size within a graph (a
//! body of a scan is a graph of its own, whose axes of equal name have equal size; only what an [`Op::Update`] writes may be
//! shorter than the whole). The order of `axes` is a storage order and never changes the meaning.
//!
//! *Elementwise* nodes unite the axes of their inputs by name: at each coordinate of the union, an input is read at the
//! coordinates that it has. So broadcasting needs no node. [`Op::Expand`] says it explicitly where an op demands an axis.
//!
//! *Effects.* There are none. What changes from step to step (weights, optimizer moments, caches) enters as an
//! [`InputDecl`] and leaves as an [`OutputDecl`] with `into`: the step *donates* the old storage and returns the new value.
//! What the host supplies per execution are [`Op::Runtime`] scalars.
//!
//! *Precision.* A node's dtype is what its value is rounded to; arithmetic inside a node is at least f32. `Contract`
//! accumulates in f32. The [`interp`] module evaluates in f64, rounding only at [`Op::Cast`].
//!
//! *Several results.* `Scan`, `Attention` and `AttentionGrad` have several; the node itself has the type of the first and may
//! be read only by [`Op::Part`].
//!
//! *Layers and micro-batches are scans*: `stack[depth](Block)` is one `Scan` over `depth` whose weights are scanned in, and a
//! step over micro-batches is one `Scan` over `micro` that carries gradient sums. A body is built and compiled once.

#![allow(missing_docs, reason = "the sentence of a variant names its fields")]

pub mod blocks;
pub mod build;
pub mod causal;
pub mod cost;
pub mod demand;
pub mod finite;
pub mod grad;
mod grad_rules;
mod grad_scan;
pub mod indices;
pub mod interp;
pub mod layout;
pub mod masks;
pub mod print;
pub mod random;
pub mod rewrite;
pub mod rules;
pub mod scalar_grad;
pub mod verify;

use serde::{Deserialize, Serialize};

pub use crate::name::Name;
pub use crate::scalar::{BinOp, DType, Dist, Expr, Inst, Literal, ReduceOp, Runtime, UnOp};
use crate::source::Span;

/// Index of a node in its graph.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u32);

impl std::fmt::Debug for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "%{}", self.0)
    }
}

/// A named axis with its size.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Axis {
    /// Its name, unique within the graph.
    pub name: Name,
    /// Its size, at least 1.
    pub size: usize,
}

/// What a node's value is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Axes in storage order, outermost first; no name twice. Empty: a scalar.
    pub axes: Vec<Axis>,
}

impl Type {
    /// A type.
    pub fn new(dtype: DType, axes: Vec<Axis>) -> Self {
        Self { dtype, axes }
    }

    /// A scalar type.
    pub fn scalar(dtype: DType) -> Self {
        Self { dtype, axes: Vec::new() }
    }

    /// Position of an axis.
    pub fn find(&self, name: &Name) -> Option<usize> {
        self.axes.iter().position(|a| a.name == *name)
    }

    /// Size of an axis.
    pub fn size(&self, name: &Name) -> Option<usize> {
        self.find(name).map(|i| self.axes[i].size)
    }

    /// Number of elements, at most `usize::MAX`.
    pub fn len(&self) -> usize {
        self.axes.iter().fold(1, |n, a| n.saturating_mul(a.size))
    }

    /// True if an axis has size zero (never in a verified graph).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of the stored value.
    pub fn bytes(&self) -> usize {
        self.len().saturating_mul(self.dtype.bytes())
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// What it computes.
    pub op: Op,
    /// From what; the order is the op's.
    pub inputs: Vec<NodeId>,
    /// What it is.
    pub ty: Type,
    /// The expression of the program that made it, for blame and for inlay hints. Not part of the meaning.
    pub span: Option<Span>,
    /// The layer path that made it (`blocks.attn`), for cost tables and for naming where a NaN began.
    pub path: Name,
}

/// `index = offset + Σ coefficient * pos(axis)`, over axes of the result; integers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Affine {
    /// Axis names (of the *result*) and their coefficients; none is zero, none twice.
    pub terms: Vec<(Name, i64)>,
    /// The constant.
    pub offset: i64,
}

/// The operations. Inputs are written behind each as `(a, b)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Op {
    /// A literal; scalar. `()`
    Const(Literal),
    /// The coordinate along the only axis of the type; i32. `()`
    Pos,
    /// The n-th input of the graph. `()`
    Input(u32),
    /// A number of this execution; scalar f32, or i32 for `Step`, `Position`, `Micro`. `()`
    Runtime(Runtime),
    /// A draw per element of the union of the inputs' axes; f32. `(c0, c1, c2)`: i32 counters, see
    /// [`random`](crate::scalar::random).
    Random(Dist, u64),

    /// Elementwise, one input. Result dtype: f32 from floats; `Neg`, `Abs`, `Sign` keep i32; `Not`, `IsFinite` give bool. `(x)`
    Unary(UnOp),
    /// Elementwise, axes united. Comparisons and logic give bool; two i32 stay i32 except under `Div` and `Pow`;
    /// anything else is f32. `(a, b)`
    Binary(BinOp),
    /// `if c != 0 then a else b`, axes united; dtype of `a` and `b`, which agree. `(c, a, b)`
    Select,
    /// Rounds or converts to the dtype of the type. `(x)`
    Cast,

    /// The same values, with further axes along which they do not change: the type says which. `(x)`
    Expand,
    /// Axes renamed, old to new; the storage order stays. `(x)`
    Rename(Vec<(Name, Name)>),
    /// One axis becomes several, last varies fastest; their sizes multiply to the old one. `(x)`
    Split { axis: Name, into: Vec<Axis> },
    /// Several axes become one, last varies fastest; they take the place of the first of them. `(x)`
    Merge { axes: Vec<Name>, into: Name },
    /// Reads `x` along `axis` at an affine index of the result's coordinates, `outside` where that falls off. The result
    /// has the axes of `x` without `axis`, united with those of the index (sizes in the type). `(x)`
    Window { axis: Name, index: Affine, outside: Literal },
    /// Reads `x` along `axis` at `index` (i32); out of range reads 0. Shared axes go in step. Result: axes of `index`
    /// united with those of `x` without `axis`. `(x, index)`
    Gather { axis: Name },
    /// The transpose of `Gather`: adds `y` into zeros at `index` along the new axis (in the type), summing over the axes of
    /// `index` that the result does not have; out of range is dropped. `(y, index)`
    ScatterAdd { axis: Name },
    /// Puts inputs behind each other: input `i` has axis `parts[i]`, the result has `into`. `(x, ..)`
    Concat { parts: Vec<Name>, into: Name },
    /// `dst` with `src` written along `axis` from coordinate `start` (i32 scalar) on; `src` has the same axes with a size at
    /// most that of `dst`. What a cache is made of; done in place where `dst` is donated. `(dst, src, start)`
    Update { axis: Name },

    /// Reduces over axes. Floats give f32, integers stay. `(x)`
    Reduce { op: ReduceOp, axes: Vec<Name> },
    /// log Σ exp over axes, in f32, safe from overflow. `(x)`
    LogSumExp { axes: Vec<Name> },
    /// Sum of the products over `over`, which both inputs have; other shared axes are a batch. Result: axes of `a` without
    /// `over`, then those of `b` that are new; the type may order them otherwise. Accumulated in f32. `(a, b)`
    Contract { over: Vec<Name> },
    /// Running sum along an axis, inclusive; from the end if `reverse`. `(x)`
    CumSum { axis: Name, reverse: bool },
    /// 1 on the `k` largest along `axis` (ties: the lower coordinate wins), else 0; bool. `(x)`
    TopK { axis: Name, k: usize },
    /// The permutation that sorts along `axis`, ascending, stable: `result[i]` is the coordinate of the i-th smallest; i32. `(x)`
    ArgSort { axis: Name },

    /// Attention, see [`Attention`]. Parts: 0 the output, 1 the log-sum-exp per row (f32). `(q, k, v, captured..)`
    Attention(Box<Attention>),
    /// Its gradient. Parts: dq, dk, dv, then one per captured float tensor that is marked in `wants`.
    /// `(q, k, v, captured.., out, lse, dout)`
    AttentionGrad { of: Box<Attention>, wants: Vec<bool> },
    /// A loop along an axis, see [`Scan`]. Parts: last carries, then stacked values.
    /// `(initial carries.., scanned.., captured..)`
    Scan(Box<Scan>),
    /// The n-th result of the input. `(multi)`
    Part(u32),

    /// The same value; no gradient passes. `(x)`
    Stop,
    /// A collective over mesh axes; on one device the identity. `(x)`
    Collective(Collective),
}

/// `attend[over, key](q, k, v, scale, score, mask)`.
///
/// With `s0 = scale * Σ_over q k` in f32, `s = score(s0)`, and `-inf` where `mask` is 0:
/// `out = Σ_key softmax_key(s) v`. A row with no live key gives 0 and `lse = -inf`. Axes: `q` has `over`, `k` has `over`
/// and `key`, `v` has `key`; the output has the axes of `q` and `k` without `over` and `key`, and those of `v`
/// without `key`. `lse` has the row axes: those of `q` and `k` without `over` and `key`.
/// (Flash form of the gradient: Dao et al. 2022, algorithm 4.)
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attention {
    /// The contracted axis of q and k.
    pub over: Name,
    /// The axis that is normalised over.
    pub key: Name,
    /// Multiplies the dot product.
    pub scale: Literal,
    /// New score. `Arg(0)` is the running score; `Arg(1 + i)` the i-th captured tensor; `Pos(i)` is along `pos[i]`.
    pub score: Expr,
    /// Non-zero: this key is seen. Arguments as in `score` (`Arg(0)` is not used).
    pub mask: Expr,
    /// The axes whose coordinates the two expressions use.
    pub pos: Vec<Name>,
}

/// A loop along `axis`, in ascending order of coordinates, or descending if `reverse`.
///
/// The body is a graph whose inputs are, in order: `carries` carries, then `scanned` slices (the outer tensor without `axis`),
/// then captured tensors unchanged. Its outputs are: the new carries, then the values that are stacked along
/// `axis` (placed at the coordinate of their iteration, also when reversed). The type of the Scan node is that of part 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scan {
    /// The axis and its size.
    pub axis: Axis,
    /// From the end to the start.
    pub reverse: bool,
    /// How many carries.
    pub carries: usize,
    /// How many inputs are sliced along the axis.
    pub scanned: usize,
    /// The body.
    pub body: Graph,
    /// What the loop is, for costs, plans and rematerialisation.
    pub kind: ScanKind,
}

/// Why there is a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ScanKind {
    /// `stack[depth](..)`: equal layers.
    Layers,
    /// Micro-batches of one step.
    Micro,
    /// Parts of a value that would be too large to be stored, see [`blocks`].
    Blocks,
    /// `scan[..]` of the program.
    Program,
}

/// Collectives, for part 8 of the line; named here so that passes know them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Collective {
    /// Sum over the ranks of mesh axes.
    AllReduce(Vec<Name>),
    /// Concatenates the axis over the ranks.
    AllGather { mesh: Vec<Name>, axis: Name },
    /// Sums and keeps this rank's part of the axis.
    ReduceScatter { mesh: Vec<Name>, axis: Name },
    /// Splits one axis and gathers another.
    AllToAll { mesh: Vec<Name>, split: Name, gather: Name },
}

/// What an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Trained.
    Weight,
    /// Optimizer moments, layer state, caches: kept between executions, never differentiated.
    State,
    /// A column of the batch.
    Data,
    /// A carry, slice or captured value of a scan's body.
    Local,
}

/// A value that enters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InputDecl {
    /// Its storage name, unique in the graph: `blocks.attn.wq`, `ids`.
    pub name: Name,
    /// What it is.
    pub ty: Type,
    /// Its role.
    pub role: Role,
}

/// A value that leaves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OutputDecl {
    /// Its name: `loss`, `grad_norm`.
    pub name: Name,
    /// Which node.
    pub node: NodeId,
    /// The input whose storage it replaces.
    pub into: Option<u32>,
}

/// A graph.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Graph {
    /// In an order in which each reads only earlier ones.
    pub nodes: Vec<Node>,
    /// What enters. Each has at most one `Op::Input` node.
    pub inputs: Vec<InputDecl>,
    /// What leaves.
    pub outputs: Vec<OutputDecl>,
}

// Bodies of scans sit inside `Op`, which is hash-consed: spans and paths are not part of a graph's identity.
impl Eq for Graph {}

impl PartialEq for Graph {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl PartialOrd for Graph {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Graph {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let node = |a: &Node, b: &Node| (&a.op, &a.inputs, &a.ty).cmp(&(&b.op, &b.inputs, &b.ty));
        let pairs = self.nodes.iter().zip(&other.nodes);
        let first = pairs.map(|(a, b)| node(a, b)).find(|order| order.is_ne());
        self.nodes
            .len()
            .cmp(&other.nodes.len())
            .then(first.unwrap_or(std::cmp::Ordering::Equal))
            .then_with(|| self.inputs.cmp(&other.inputs))
            .then_with(|| self.outputs.cmp(&other.outputs))
    }
}

impl std::hash::Hash for Graph {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for n in &self.nodes {
            n.op.hash(state);
            n.inputs.hash(state);
            n.ty.hash(state);
        }
        self.inputs.hash(state);
        self.outputs.hash(state);
    }
}

impl Graph {
    /// The node behind an id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The type of a node.
    pub fn ty(&self, id: NodeId) -> &Type {
        &self.node(id).ty
    }

    /// Appends a node.
    pub fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() as u32 - 1)
    }

    /// All ids in order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The output of that name.
    pub fn output(&self, name: &str) -> Option<NodeId> {
        self.outputs.iter().find(|o| o.name == name).map(|o| o.node)
    }
}

impl Attention {
    /// The row axes: those of `q` and `k` without `over` and `key`, `q`'s first.
    pub fn rows(&self, q: &Type, k: &Type) -> Vec<Axis> {
        let mut rows: Vec<Axis> = Vec::new();
        for axis in q.axes.iter().chain(&k.axes) {
            let known = rows.iter().any(|r| r.name == axis.name);
            if axis.name != self.over && axis.name != self.key && !known {
                rows.push(axis.clone());
            }
        }
        rows
    }

    /// The output axes: the rows, then what `v` adds.
    pub fn output(&self, q: &Type, k: &Type, v: &Type) -> Vec<Axis> {
        let mut axes = self.rows(q, k);
        for axis in &v.axes {
            if axis.name != self.key && !axes.iter().any(|r| r.name == axis.name) {
                axes.push(axis.clone());
            }
        }
        axes
    }
}
