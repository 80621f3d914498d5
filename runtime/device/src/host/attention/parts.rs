//! The fused loops of attention, written from its expressions.
//!
//! All run over rows `batch.., queries..` (or `batch.., key`) and are called for the rows of one block. Scratch operands have
//! stride 0 along the batch: the caller shifts their address so that the block's first row is where it should be.

use cs336_compiler::kernel::{
    Access, AttentionKernel, DType, Effect, Expr, Inst, Literal, Loop, Operand, Ref, Stage,
};
use cs336_compiler::scalar::{self, BinOp, ReduceOp, UnOp};

use super::{Sizes, cannot};
use crate::error::DeviceError;
use crate::host::loops::LoopCode;

/// Makes the loops of one kernel.
pub(super) struct Parts<'k> {
    pub(super) k: &'k AttentionKernel,
    pub(super) sizes: Sizes,
}

/// A stage being written.
#[derive(Default)]
struct Writer {
    insts: Vec<Inst>,
}

impl Writer {
    fn push(&mut self, inst: Inst) -> Ref {
        self.insts.push(inst);
        self.insts.len() as Ref - 1
    }

    fn load(&mut self, operand: usize) -> Ref {
        let outside = Literal::new(0.0);
        let operand = operand as u32;
        self.push(Inst::Load { operand, indirect: vec![], guards: vec![], outside })
    }

    fn number(&mut self, x: f64) -> Ref {
        self.push(Inst::Const(Literal::new(x), DType::F32))
    }

    fn binary(&mut self, op: BinOp, a: Ref, b: Ref) -> Ref {
        self.push(Inst::Binary(op, a, b))
    }

    fn unary(&mut self, op: UnOp, a: Ref) -> Ref {
        self.push(Inst::Unary(op, a))
    }

    fn select(&mut self, c: Ref, a: Ref, b: Ref) -> Ref {
        self.push(Inst::Select(c, a, b))
    }

    fn stage(self, per_row: bool, effects: Vec<Effect>) -> Stage {
        Stage { per_row, insts: self.insts, effects }
    }
}

fn store(operand: usize, value: Ref) -> Effect {
    Effect::Store { operand: operand as u32, value }
}

impl Parts<'_> {
    fn rows(&self) -> Vec<usize> {
        [&self.k.batch[..], &self.k.queries].concat()
    }

    fn compile(
        &self,
        rows: Vec<usize>,
        cols: Vec<usize>,
        operands: Vec<Operand>,
        stages: Vec<Stage>,
        row_values: u32,
    ) -> Result<LoopCode, DeviceError> {
        let params = vec![DType::I32; self.k.runtime.len()];
        LoopCode::new(&Loop { rows, cols, operands, stages, row_values, params }, "attention")
    }

    /// A launch operand seen along rows and then the axes `cols` of its own.
    fn outside(&self, index: usize, cols: std::ops::Range<usize>, access: Access) -> Operand {
        let own = &self.k.operands[index];
        let rows = self.k.batch.len() + self.k.queries.len();
        let strides = [&own.strides[..rows], &own.strides[cols]].concat();
        Operand { dtype: own.dtype, strides, offset: 0, dynamic: None, access }
    }

    /// A scratch operand: `line` numbers per query row, then columns.
    fn scratch(&self, line: usize, cols: &[usize], access: Access) -> Operand {
        let mut strides = vec![0; self.k.batch.len()];
        strides.extend(row_major(&self.k.queries, line));
        strides.extend(row_major(cols, 1));
        Operand { dtype: DType::F32, strides, offset: 0, dynamic: None, access }
    }

    fn key_axis(&self) -> usize {
        self.k.batch.len() + self.k.queries.len()
    }

    fn over_axes(&self) -> std::ops::Range<usize> {
        self.key_axis() + 1..self.key_axis() + 2
    }

    fn value_axes(&self) -> std::ops::Range<usize> {
        self.key_axis() + 2..self.key_axis() + 2 + self.k.values.len()
    }

    /// `scratch = factor * operand` for query rows; operands: the operand, scratch.
    pub(super) fn pack_rows(
        &self,
        index: usize,
        values: bool,
        factor: f64,
    ) -> Result<LoopCode, DeviceError> {
        let (cols, axes, line) = self.side(values);
        let operands =
            vec![self.outside(index, axes, Access::Read), self.scratch(line, &cols, Access::Write)];
        self.compile(self.rows(), cols, operands, vec![scaled(factor)], 0)
    }

    /// `operand (+)= factor * scratch` for query rows; operands: scratch, the operand.
    pub(super) fn unpack_rows(
        &self,
        index: usize,
        factor: f64,
        add: bool,
    ) -> Result<LoopCode, DeviceError> {
        let (cols, axes, line) = self.side(false);
        let access = if add { Access::Accumulate } else { Access::Write };
        let operands =
            vec![self.scratch(line, &cols, Access::Read), self.outside(index, axes, access)];
        self.compile(self.rows(), cols, operands, vec![scaled(factor)], 0)
    }

    fn side(&self, values: bool) -> (Vec<usize>, std::ops::Range<usize>, usize) {
        if values {
            (self.k.values.clone(), self.value_axes(), self.sizes.values)
        } else {
            (vec![self.k.over], self.over_axes(), self.sizes.over)
        }
    }

    /// A copy between an operand along `batch.., key` and scratch of one problem, either way; operands: from, to.
    pub(super) fn keys_copy(
        &self,
        index: usize,
        values: bool,
        to_scratch: bool,
        add: bool,
    ) -> Result<LoopCode, DeviceError> {
        let (cols, axes, line) = self.side(values);
        let own = &self.k.operands[index];
        let batch = self.k.batch.len();
        let mut strides = own.strides[..batch].to_vec();
        strides.push(own.strides[self.key_axis()]);
        strides.extend(&own.strides[axes]);
        let access = match (to_scratch, add) {
            (true, _) => Access::Read,
            (false, true) => Access::Accumulate,
            (false, false) => Access::Write,
        };
        let outer = Operand { dtype: own.dtype, strides, offset: 0, dynamic: None, access };
        let mut strides = vec![0; batch];
        strides.push(line as i64);
        strides.extend(row_major(&cols, 1));
        let access = if to_scratch { Access::Write } else { Access::Read };
        let inner = Operand { dtype: DType::F32, strides, offset: 0, dynamic: None, access };
        let operands = if to_scratch { vec![outer, inner] } else { vec![inner, outer] };
        let rows = [&self.k.batch[..], &[self.k.keys]].concat();
        self.compile(rows, cols, operands, vec![scaled(1.0)], 0)
    }

    /// Scores to unnormalised probabilities, the log-sum-exp and the inverse of the sum.
    /// Operands: scores (read), scores (written), inverse sums, lse, captured...
    pub(super) fn softmax(&self, lse: usize) -> Result<LoopCode, DeviceError> {
        let line = self.sizes.line;
        let keys = [self.k.keys];
        let flat = |parts: &Self, access| {
            let mut operand = parts.scratch(1, &[], access);
            operand.strides.push(0);
            operand
        };
        let key = self.key_axis();
        let mut lse = self.outside(lse, key..key + 1, Access::Write);
        lse.strides[key] = 0;
        let mut operands = vec![
            self.scratch(line, &keys, Access::Read),
            self.scratch(line, &keys, Access::Write),
            flat(self, Access::Write),
            lse,
        ];
        operands.extend(self.captured());

        let mut w = Writer::default();
        let arguments = self.arguments(&mut w, 0, 4);
        let mut s = self.expression(&mut w, &self.k.score, &arguments)?;
        if !is_constant(&self.k.mask, |x| x != 0.0) {
            let seen = self.expression(&mut w, &self.k.mask, &arguments)?;
            let never = w.number(f64::NEG_INFINITY);
            s = w.select(seen, s, never);
        }
        let largest = Effect::Reduce { op: ReduceOp::Max, value: s, into: 0 };
        let first = w.stage(false, vec![store(1, s), largest]);

        let mut w = Writer::default();
        let s = w.load(1);
        let most = finite_maximum(&mut w);
        let d = w.binary(BinOp::Sub, s, most);
        let p = w.unary(UnOp::Exp, d);
        let sum = Effect::Reduce { op: ReduceOp::Sum, value: p, into: 1 };
        let second = w.stage(false, vec![store(1, p), sum]);

        let mut w = Writer::default();
        let most = finite_maximum(&mut w);
        let sum = w.push(Inst::Row(1));
        let log = w.unary(UnOp::Log, sum);
        let log = w.binary(BinOp::Add, log, most);
        let zero = w.number(0.0);
        let empty = w.binary(BinOp::Eq, sum, zero);
        let inverse = w.unary(UnOp::Recip, sum);
        let inverse = w.select(empty, zero, inverse);
        let third = w.stage(true, vec![store(2, inverse), store(3, log)]);
        // The written scores are read again by the second stage.
        self.compile(self.rows(), keys.to_vec(), operands, vec![first, second, third], 2)
    }

    /// `out = scratch * inverse sums`; operands: scratch, inverse sums, out.
    pub(super) fn normalise(&self, out: usize) -> Result<LoopCode, DeviceError> {
        let (cols, axes, line) = self.side(true);
        let mut inverse = self.scratch(1, &[], Access::Read);
        inverse.strides.extend(vec![0; cols.len()]);
        let operands = vec![
            self.scratch(line, &cols, Access::Read),
            inverse,
            self.outside(out, axes, Access::Write),
        ];
        let mut w = Writer::default();
        let (o, inverse) = (w.load(0), w.load(1));
        let value = w.binary(BinOp::Mul, o, inverse);
        let stage = w.stage(false, vec![store(2, value)]);
        self.compile(self.rows(), cols, operands, vec![stage], 0)
    }

    /// Per query row `Σ dout * out`; operands: out, dout, scratch.
    pub(super) fn row_dots(&self, out: usize, dout: usize) -> Result<LoopCode, DeviceError> {
        let (cols, axes, _) = self.side(true);
        let mut sums = self.scratch(1, &[], Access::Write);
        sums.strides.extend(vec![0; cols.len()]);
        let operands = vec![
            self.outside(out, axes.clone(), Access::Read),
            self.outside(dout, axes, Access::Read),
            sums,
        ];
        let mut w = Writer::default();
        let (a, b) = (w.load(0), w.load(1));
        let value = w.binary(BinOp::Mul, a, b);
        let sum = w.stage(false, vec![Effect::Reduce { op: ReduceOp::Sum, value, into: 0 }]);
        let mut w = Writer::default();
        let value = w.push(Inst::Row(0));
        let last = w.stage(true, vec![store(2, value)]);
        self.compile(self.rows(), cols, operands, vec![sum, last], 1)
    }

    /// Scores and products with dout to probabilities and score gradients, in place.
    /// Operands: scores, products, lse, row dots, probabilities, gradients, one per wanted captured tensor, captured...
    pub(super) fn slopes(&self, lse: usize, wanted: &[usize]) -> Result<LoopCode, DeviceError> {
        let (line, keys, key) = (self.sizes.line, [self.k.keys], self.key_axis());
        let mut lse = self.outside(lse, key..key + 1, Access::Read);
        lse.strides[key] = 0;
        let mut dots = self.scratch(1, &[], Access::Read);
        dots.strides.push(0);
        let mut operands = vec![
            self.scratch(line, &keys, Access::Read),
            self.scratch(line, &keys, Access::Read),
            lse,
            dots,
            self.scratch(line, &keys, Access::Write),
            self.scratch(line, &keys, Access::Write),
        ];
        operands.extend(wanted.iter().map(|_| self.scratch(line, &keys, Access::Write)));
        let from = operands.len();
        operands.extend(self.captured());

        let mut w = Writer::default();
        let arguments = self.arguments(&mut w, 0, from);
        let (product, log, dot) = (w.load(1), w.load(2), w.load(3));
        let s = self.expression(&mut w, &self.k.score, &arguments)?;
        let never = w.number(f64::NEG_INFINITY);
        let mut live = w.binary(BinOp::Ne, log, never);
        if !is_constant(&self.k.mask, |x| x != 0.0) {
            let seen = self.expression(&mut w, &self.k.mask, &arguments)?;
            live = w.binary(BinOp::And, live, seen);
        }
        let zero = w.number(0.0);
        let d = w.binary(BinOp::Sub, s, log);
        let p = w.unary(UnOp::Exp, d);
        let p = w.select(live, p, zero);
        let centred = w.binary(BinOp::Sub, product, dot);
        let ds = w.binary(BinOp::Mul, p, centred);
        let mut effects = vec![store(4, p)];
        let targets = std::iter::once((0, 5))
            .chain(wanted.iter().enumerate().map(|(n, captured)| (1 + captured, 6 + n)));
        for (argument, operand) in targets {
            let slope = self
                .k
                .score_grads
                .get(argument)
                .ok_or_else(|| cannot("the slopes of the score are missing"))?;
            let mut value = ds;
            if !is_constant(slope, |x| x == 1.0) {
                let slope = self.expression(&mut w, slope, &arguments)?;
                value = w.binary(BinOp::Mul, ds, slope);
            }
            let value = w.select(live, value, zero);
            effects.push(store(operand, value));
        }
        let stage = w.stage(false, effects);
        self.compile(self.rows(), keys.to_vec(), operands, vec![stage], 0)
    }

    /// Adds scratch to the gradient of a captured tensor; operands: scratch, the gradient.
    pub(super) fn add_captured(&self, index: usize) -> Result<LoopCode, DeviceError> {
        let (keys, key) = ([self.k.keys], self.key_axis());
        let operands = vec![
            self.scratch(self.sizes.line, &keys, Access::Read),
            self.outside(index, key..key + 1, Access::Accumulate),
        ];
        self.compile(self.rows(), keys.to_vec(), operands, vec![scaled(1.0)], 0)
    }

    fn captured(&self) -> Vec<Operand> {
        let key = self.key_axis();
        (0..self.k.captured).map(|c| self.outside(3 + c, key..key + 1, Access::Read)).collect()
    }

    /// The score, then the captured tensors.
    fn arguments(&self, w: &mut Writer, score: usize, captured: usize) -> Vec<Ref> {
        let mut all = vec![w.load(score)];
        all.extend((0..self.k.captured).map(|c| w.load(captured + c)));
        all
    }

    /// A scalar expression as instructions of a body.
    fn expression(&self, w: &mut Writer, e: &Expr, arguments: &[Ref]) -> Result<Ref, DeviceError> {
        let mut refs: Vec<Ref> = Vec::with_capacity(e.insts.len());
        for inst in &e.insts {
            let at = |r: &Ref| refs[*r as usize];
            let made = match inst {
                scalar::Inst::Arg(i) => (arguments.get(*i as usize).copied())
                    .ok_or_else(|| cannot("an expression has an argument too many"))?,
                scalar::Inst::Const(l) => w.push(Inst::Const(*l, DType::F32)),
                scalar::Inst::Pos(i) => {
                    let axis = self.k.pos.get(*i as usize).copied();
                    let axis = axis.ok_or_else(|| cannot("a coordinate has no axis"))?;
                    w.push(Inst::Coord(axis))
                }
                scalar::Inst::Runtime(r) => {
                    let at = self.k.runtime.iter().position(|x| x == r);
                    let at = at.ok_or_else(|| cannot("a runtime scalar has no parameter"))?;
                    w.push(Inst::Param(at as u32, DType::I32))
                }
                scalar::Inst::Unary(op, a) => w.unary(*op, at(a)),
                scalar::Inst::Binary(op, a, b) => w.binary(*op, at(a), at(b)),
                scalar::Inst::Select(c, a, b) => w.select(at(c), at(a), at(b)),
                scalar::Inst::Cast(dtype, a) => w.push(Inst::Cast(*dtype, at(a))),
                scalar::Inst::Random(..) => {
                    return Err(cannot("a score or mask draws random numbers"));
                }
            };
            refs.push(made);
        }
        Ok(refs[e.result as usize])
    }
}

/// `to = factor * from`; operands: from, to.
fn scaled(factor: f64) -> Stage {
    let mut w = Writer::default();
    let mut value = w.load(0);
    if factor != 1.0 {
        let factor = w.number(factor);
        value = w.binary(BinOp::Mul, value, factor);
    }
    w.stage(false, vec![store(1, value)])
}

/// The row's maximum, or 0 if no key is seen.
fn finite_maximum(w: &mut Writer) -> Ref {
    let most = w.push(Inst::Row(0));
    let never = w.number(f64::NEG_INFINITY);
    let none = w.binary(BinOp::Eq, most, never);
    let zero = w.number(0.0);
    w.select(none, zero, most)
}

fn is_constant(e: &Expr, test: impl Fn(f64) -> bool) -> bool {
    match e.insts.get(e.result as usize) {
        Some(scalar::Inst::Const(l)) => test(l.get()),
        _ => false,
    }
}

/// Strides of a dense array whose last axis steps by `unit`.
fn row_major(extents: &[usize], unit: usize) -> Vec<i64> {
    let mut strides = vec![0; extents.len()];
    let mut step = unit as i64;
    for (stride, extent) in strides.iter_mut().zip(extents).rev() {
        *stride = step;
        step *= *extent as i64;
    }
    strides
}
