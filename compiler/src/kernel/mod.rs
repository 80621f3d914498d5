//! The Kernel: one fused body, as a device runs it, free of buffers and offsets.
//!
//! # What a kernel means
//! A kernel reads and writes *operands*: views into memory that a launch binds (see [`Plan`](crate::plan)). An operand says
//! its element type and its strides, in elements, along the kernel's own loop axes; it does not say where the memory is.
//! Equal kernels are therefore compiled once, whatever they are applied to. The hash of a kernel, with target and emitter
//! version, is the key of the compile cache.
//!
//! Arithmetic is f32 (integers i32), loads widen from bf16 and fp16, stores round. Sums are taken in an order that depends
//! on the kernel alone, never on the number of threads: that is what makes training bitwise reproducible. The order within a row may be
//! chosen by the backend once per target (lanes), so backends agree to rounding, a backend with itself bitwise.
//!
//! Kinds: [`Loop`] (fused elementwise work and reductions within a row), [`ColReduce`] (sums across rows),
//! [`Gemm`], [`AttentionKernel`] forward and backward, [`Scatter`], [`RowOp`] (order-dependent row work).

#![allow(missing_docs, reason = "the sentence of a variant names its fields")]

pub mod interp;
pub mod print;
pub mod verify;

use serde::{Deserialize, Serialize};

pub use crate::scalar::{BinOp, DType, Dist, Expr, Literal, ReduceOp, Ref, Runtime, UnOp};

/// One fused body.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// Rows of fused elementwise work, with reductions within the row.
    Loop(Loop),
    /// Fused elementwise work summed (or maximised, ..) across rows.
    ColReduce(ColReduce),
    /// A dense contraction.
    Gemm(Gemm),
    /// Attention forward.
    Attention(AttentionKernel),
    /// Attention backward.
    AttentionGrad(AttentionKernel),
    /// Adds rows into a table at given indices.
    Scatter(Scatter),
    /// Running sums, sorts, top-k along a row.
    RowOp(RowOp),
}

/// A view of memory that a kernel reads or writes. Strides are in elements, one per loop axis of the kernel (its order of
/// axes is said by the kind); 0 means: the same element along that axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Operand {
    /// Element type in memory.
    pub dtype: DType,
    /// One stride per loop axis.
    pub strides: Vec<i64>,
    /// A constant, in elements, added to the address (negative for some windows; every guarded access stays inside).
    pub offset: i64,
    /// An integer parameter of the launch times a stride, added to the address: a cache is written at a position known at run time.
    pub dynamic: Option<(u32, i64)>,
    /// Read, written, or both.
    pub access: Access,
}

/// What a kernel does with an operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Only read; may be bound to memory that other operands read too.
    Read,
    /// Only written. May be bound to the very memory of a `Read` operand with equal strides (in place), never to one that
    /// overlaps otherwise.
    Write,
    /// Added to (`+=`); f32.
    Accumulate,
}

/// One instruction of a body; instruction `i` reads only instructions before `i` of its own stage.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inst {
    /// An element of operand `operand`, at its strides times the loop coordinates, plus `index * stride` for each indirect
    /// index. If a guard fails, or an indirect index is outside `0..limit`, nothing is read and the value is `outside`.
    Load { operand: u32, indirect: Vec<Indirect>, guards: Vec<Guard>, outside: Literal },
    /// The coordinate of a loop axis; i32.
    Coord(u32),
    /// A parameter of the launch (a runtime scalar or something that the host computed from them): f32 or i32.
    Param(u32, DType),
    /// The result of a row reduction of an earlier stage.
    Row(u32),
    /// A literal, f32 or i32.
    Const(Literal, DType),
    /// One argument.
    Unary(UnOp, Ref),
    /// Two arguments; both i32 (or bool) or both f32: lowering inserts casts.
    Binary(BinOp, Ref, Ref),
    /// `if a != 0 then b else c`.
    Select(Ref, Ref, Ref),
    /// To the dtype: rounding for bf16 and fp16 (the value stays an f32), truncation to i32, exact to f32.
    Cast(DType, Ref),
    /// A draw: stream, three i32 counters; the params hold the seed (two i32 halves) and the step.
    Random { dist: Dist, stream: u64, counters: [Ref; 3], seed: [u32; 2], step: u32 },
}

/// An index read from memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Indirect {
    /// The i32 value.
    pub index: Ref,
    /// Elements per unit of the index.
    pub stride: i64,
    /// Valid are `0..limit`.
    pub limit: i64,
}

/// `0 <= offset + Σ coefficient * coord(axis) < limit`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Guard {
    /// Loop axis and coefficient.
    pub terms: Vec<(u32, i64)>,
    /// The constant.
    pub offset: i64,
    /// The bound.
    pub limit: i64,
}

/// Rows of fused work. Loop axes: `rows`, then `cols` (the last varies fastest). Rows are independent and may run in
/// any order and on any thread; within a row the stages run in order, each visiting all columns.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Loop {
    /// Extents of the row axes; may be empty (one row).
    pub rows: Vec<usize>,
    /// Extents of the column axes; may be empty (one column). If no stage reduces, everything but the innermost contiguous axes
    /// stands in `rows`.
    pub cols: Vec<usize>,
    /// The views.
    pub operands: Vec<Operand>,
    /// The passes over the row.
    pub stages: Vec<Stage>,
    /// How many row results there are.
    pub row_values: u32,
    /// Dtypes of the launch's parameters.
    pub params: Vec<DType>,
}

/// One pass over a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stage {
    /// Once per column, or once per row (then no instruction may use a column axis).
    pub per_row: bool,
    /// The instructions.
    pub insts: Vec<Inst>,
    /// What is done with the values.
    pub effects: Vec<Effect>,
}

/// What a stage does with a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Writes it (rounded to the operand's type); the operand has no indirect index.
    Store { operand: u32, value: Ref },
    /// Reduces it over the columns into row result `into`, in f32 (integers: i32). In a stage that runs once per row: the value itself.
    Reduce { op: ReduceOp, value: Ref, into: u32 },
}

/// Work reduced across rows. Loop axes: `outer` (independent), `reduced`, then `cols` (kept, last fastest).
/// The reduced iteration space, flattened row-major, is cut into `chunks` equal ranges (the last may be shorter); each
/// is reduced in ascending order, and the partial results are then combined in ascending order of chunks. So the sum does not
/// depend on the number of threads.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ColReduce {
    /// Extents of independent axes.
    pub outer: Vec<usize>,
    /// Extents of what is reduced.
    pub reduced: Vec<usize>,
    /// Extents of the kept columns; may be empty.
    pub cols: Vec<usize>,
    /// In how many ranges the reduced space is cut.
    pub chunks: usize,
    /// The views. Written ones have stride 0 along `reduced`.
    pub operands: Vec<Operand>,
    /// The instructions, per element.
    pub insts: Vec<Inst>,
    /// Each result: how it is reduced, what, and into which operand (`Write`, or `Accumulate` for sums).
    pub results: Vec<(ReduceOp, Ref, u32)>,
    /// Dtypes of the launch's parameters.
    pub params: Vec<DType>,
}

/// `c[b, m, n] (+)= Σ_k a[b, m, k] * b[b, k, n]`, accumulated in f32. Operands of the launch: a, b, c. Each operand's
/// strides are along `batch.., m, n, k`; 0 where the operand lacks the axis.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gemm {
    /// Extents of the batch axes.
    pub batch: Vec<usize>,
    /// Rows of c.
    pub m: usize,
    /// Columns of c.
    pub n: usize,
    /// The contracted extent.
    pub k: usize,
    /// `Read`.
    pub a: Operand,
    /// `Read`.
    pub b: Operand,
    /// `Write` or `Accumulate`.
    pub c: Operand,
}

/// Attention over a batch of independent problems; see [`graph::Attention`](crate::graph::Attention) for the formula.
///
/// Loop axes: `batch.., queries.., key`, then `over` (dh), then `value` (dv). Every operand has a stride for each of them, 0 where it
/// lacks the axis. `batch` are the row axes that keys have; `queries` those that only queries have.
///
/// Operands of the launch, forward: q, k, v, captured.., out (`Write`), lse (`Write`, f32).
/// Backward: q, k, v, captured.., out, lse, dout, dq (`Write`), dk (`Write`), dv (`Write`), then the gradients of the captured tensors marked in
/// `wants` (`Write`, f32; summed over the axes that they lack).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AttentionKernel {
    /// Extents.
    pub batch: Vec<usize>,
    /// Extents.
    pub queries: Vec<usize>,
    /// Extent of the key axis.
    pub keys: usize,
    /// Extent of the contracted axis.
    pub over: usize,
    /// Extents of the value axes.
    pub values: Vec<usize>,
    /// Multiplies the dot product.
    pub scale: Literal,
    /// `Arg(0)` the running score, `Arg(1 + i)` captured; `Pos(i)` along loop axis `pos[i]`; `Runtime` by `runtime`.
    pub score: Expr,
    /// Non-zero: seen.
    pub mask: Expr,
    /// d score / d `Arg(0)`, then d score / d `Arg(1 + i)` for each captured tensor (backward only; empty in forward kernels).
    pub score_grads: Vec<Expr>,
    /// Loop axes whose coordinates the expressions use.
    pub pos: Vec<u32>,
    /// The runtime scalars used by the expressions, in the order of the launch's parameters (i32).
    pub runtime: Vec<Runtime>,
    /// No key beyond these bounds is ever live: `coord(key) <= coord(axis) + offset (+ Position if plus_position)`. Proved from the mask.
    pub upper: Vec<KeyBound>,
    /// No key below: `coord(key) >= coord(axis) + offset (+ Position)`.
    pub lower: Vec<KeyBound>,
    /// How many captured operands.
    pub captured: usize,
    /// Backward: which captured operands get gradients.
    pub wants: Vec<bool>,
    /// The views in launch order.
    pub operands: Vec<Operand>,
}

/// A bound of the live keys, linear in one query coordinate.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyBound {
    /// Loop axis; `None`: a constant bound.
    pub axis: Option<u32>,
    /// The constant.
    pub offset: i64,
    /// Whether `Runtime::Position` is added.
    pub plus_position: bool,
}

/// `table[index[r], c] += y[r, c]`, the table zeroed first unless `Accumulate`. Loop axes: `outer` (independent),
/// `rows` (summed, in ascending order), `cols`. Operands: y, index (i32), table. The table's stride along the scattered axis is `stride`;
/// indices outside `0..limit` are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scatter {
    /// Extents that y, index and table share.
    pub outer: Vec<usize>,
    /// Extents that are summed.
    pub rows: Vec<usize>,
    /// Extents that y and table share and the index lacks.
    pub cols: Vec<usize>,
    /// Size of the scattered axis.
    pub limit: usize,
    /// Elements between neighbours along it.
    pub stride: i64,
    /// y, index, table.
    pub operands: [Operand; 3],
}

/// Work along a row that depends on order. Loop axes: `rows`, then the row's own axis of extent `n`. Operands: x, result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RowOp {
    /// What.
    pub op: RowOpKind,
    /// Extents of independent axes.
    pub rows: Vec<usize>,
    /// Extent of the row.
    pub n: usize,
    /// x, result.
    pub operands: [Operand; 2],
}

/// Kinds of row work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOpKind {
    /// Inclusive running sum.
    CumSum { reverse: bool },
    /// 1 on the k largest; ties: the lower coordinate.
    TopK { k: usize },
    /// The stable ascending permutation.
    ArgSort,
}

impl Inst {
    /// The instructions that it reads.
    pub fn reads(&self) -> Vec<Ref> {
        match self {
            Self::Load { indirect, .. } => indirect.iter().map(|i| i.index).collect(),
            Self::Coord(_) | Self::Param(..) | Self::Row(_) | Self::Const(..) => vec![],
            Self::Unary(_, a) | Self::Cast(_, a) => vec![*a],
            Self::Binary(_, a, b) => vec![*a, *b],
            Self::Select(c, a, b) => vec![*c, *a, *b],
            Self::Random { counters, .. } => counters.to_vec(),
        }
    }

    /// Puts others in the place of what it reads.
    pub fn move_reads(&mut self, mut to: impl FnMut(Ref) -> Ref) {
        let mut moved = |r: &mut Ref| *r = to(*r);
        match self {
            Self::Load { indirect, .. } => indirect.iter_mut().for_each(|i| moved(&mut i.index)),
            Self::Coord(_) | Self::Param(..) | Self::Row(_) | Self::Const(..) => {}
            Self::Unary(_, a) | Self::Cast(_, a) => moved(a),
            Self::Binary(_, a, b) => {
                moved(a);
                moved(b);
            }
            Self::Select(c, a, b) => {
                moved(c);
                moved(a);
                moved(b);
            }
            Self::Random { counters, .. } => counters.iter_mut().for_each(moved),
        }
    }
}

impl Kernel {
    /// The operands in launch order.
    pub fn operands(&self) -> Vec<&Operand> {
        match self {
            Self::Loop(k) => k.operands.iter().collect(),
            Self::ColReduce(k) => k.operands.iter().collect(),
            Self::Gemm(k) => vec![&k.a, &k.b, &k.c],
            Self::Attention(k) | Self::AttentionGrad(k) => k.operands.iter().collect(),
            Self::Scatter(k) => k.operands.iter().collect(),
            Self::RowOp(k) => k.operands.iter().collect(),
        }
    }

    /// Dtypes of the parameters that a launch must give.
    pub fn params(&self) -> Vec<DType> {
        match self {
            Self::Loop(k) => k.params.clone(),
            Self::ColReduce(k) => k.params.clone(),
            Self::Attention(k) | Self::AttentionGrad(k) => vec![DType::I32; k.runtime.len()],
            // Only a dynamic operand offset needs one.
            Self::Gemm(_) | Self::Scatter(_) | Self::RowOp(_) => Vec::new(),
        }
    }

    /// The loop extents that the operands' strides refer to.
    pub fn extents(&self) -> Vec<usize> {
        match self {
            Self::Loop(k) => [&k.rows[..], &k.cols].concat(),
            Self::ColReduce(k) => [&k.outer[..], &k.reduced, &k.cols].concat(),
            Self::Gemm(k) => [&k.batch[..], &[k.m, k.n, k.k]].concat(),
            Self::Attention(k) | Self::AttentionGrad(k) => {
                [&k.batch[..], &k.queries, &[k.keys, k.over], &k.values].concat()
            }
            Self::Scatter(k) => [&k.outer[..], &k.rows, &k.cols].concat(),
            Self::RowOp(k) => [&k.rows[..], &[k.n]].concat(),
        }
    }
}
