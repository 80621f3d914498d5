//! A [`Loop`] as a function: rows outermost, then stages, then columns.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, Value, types};
use cranelift_frontend::{FunctionBuilder, Variable};
use cs336_compiler::kernel::{Access, Effect, Loop, Operand, Ref, Stage};
use cs336_compiler::scalar::ReduceOp;

use super::Extern;
use super::body::{Place, combine, identity, reduced, store};
use super::col_reduce::as_reduced;
use super::lanes::{Kind, LANES, Ops, Val, plain, type_of};
use super::phases::Body;

pub(super) fn emit(kernel: &Loop, b: &mut FunctionBuilder<'_>, calls: &dyn Fn(Extern) -> FuncRef) {
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let args: Vec<Value> = b.block_params(entry).to_vec();
    let mut ops = Ops { b, calls };
    let pointers = addresses(&mut ops, args[0], kernel.operands.len());
    let frame = Frame { kernel, params: args[1], low: args[4], high: args[5], pointers };
    range(&mut ops, args[2], args[3], 1, |ops, row| {
        let coords = unflatten(ops, row, &kernel.rows);
        frame.row(ops, &coords);
    });
    ops.b.ins().return_(&[]);
}

/// Loads the operands' addresses and, last, that of harmless bytes.
pub(super) fn addresses(ops: &mut Ops<'_, '_>, table: Value, operands: usize) -> Vec<Value> {
    (0..=operands).map(|i| ops.b.ins().load(types::I64, plain(), table, 8 * i as i32)).collect()
}

/// Coordinates of a flat row-major index.
pub(super) fn unflatten(ops: &mut Ops<'_, '_>, flat: Value, extents: &[usize]) -> Vec<Value> {
    let mut coords = Vec::new();
    let mut rest = flat;
    for (i, extent) in extents.iter().enumerate().rev() {
        if i == 0 {
            coords.push(rest);
            break;
        }
        let extent = (*extent).max(1) as i64;
        let next = ops.b.ins().udiv_imm_s(rest, extent);
        let whole = ops.b.ins().imul_imm_s(next, extent);
        coords.push(ops.b.ins().isub(rest, whole));
        rest = next;
    }
    coords.reverse();
    coords
}

/// `address + Σ coordinate * stride` over the axes `from..from + coords.len()`.
pub(super) fn advance(
    ops: &mut Ops<'_, '_>,
    address: Value,
    operand: &Operand,
    from: usize,
    coords: &[Value],
) -> Value {
    let size = operand.dtype.bytes() as i64;
    coords.iter().enumerate().fold(address, |address, (i, coord)| {
        let stride = operand.strides[from + i] * size;
        if stride == 0 {
            return address;
        }
        let bytes = ops.b.ins().imul_imm_s(*coord, stride);
        ops.b.ins().iadd(address, bytes)
    })
}

/// `for i in (from..to).step_by(step)`.
pub(super) fn range<'f>(
    ops: &mut Ops<'_, 'f>,
    from: Value,
    to: Value,
    step: i64,
    mut each: impl FnMut(&mut Ops<'_, 'f>, Value),
) {
    let counter = ops.b.declare_var(types::I64);
    ops.b.def_var(counter, from);
    let (head, inside, done) = (ops.b.create_block(), ops.b.create_block(), ops.b.create_block());
    ops.b.ins().jump(head, &[]);
    ops.b.switch_to_block(head);
    let i = ops.b.use_var(counter);
    let more = ops.b.ins().icmp(IntCC::SignedLessThan, i, to);
    ops.b.ins().brif(more, inside, &[], done, &[]);
    ops.b.switch_to_block(inside);
    let i = ops.b.use_var(counter);
    each(ops, i);
    let i = ops.b.use_var(counter);
    let next = ops.b.ins().iadd_imm_s(i, step);
    ops.b.def_var(counter, next);
    ops.b.ins().jump(head, &[]);
    ops.b.switch_to_block(done);
}

/// Runs `each(ops, first coordinate, wide, vector number)` over `from..to` of an axis: steps of `unroll` vectors, then
/// single vectors, then single columns.
pub(super) fn strips<'f>(
    ops: &mut Ops<'_, 'f>,
    (from, to): (Value, Value),
    unroll: usize,
    mut each: impl FnMut(&mut Ops<'_, 'f>, Value, bool, usize),
) {
    let mut at = from;
    let mut sizes = vec![unroll];
    if unroll > 1 {
        sizes.push(1);
    }
    for vectors in sizes {
        if vectors == 0 {
            break;
        }
        let step = (vectors * LANES) as i64;
        let count = ops.b.ins().isub(to, at);
        let zero = ops.b.ins().iconst(types::I64, 0);
        let count = ops.b.ins().smax(count, zero);
        let whole = ops.b.ins().band_imm_s(count, -step);
        let end = ops.b.ins().iadd(at, whole);
        range(ops, at, end, step, |ops, i| {
            for vector in 0..vectors {
                let i = ops.b.ins().iadd_imm_s(i, (vector * LANES) as i64);
                each(ops, i, true, vector);
            }
        });
        at = end;
    }
    range(ops, at, to, 1, |ops, i| each(ops, i, false, 0));
}

struct Frame<'k> {
    kernel: &'k Loop,
    params: Value,
    low: Value,
    high: Value,
    /// Operands, then harmless bytes.
    pointers: Vec<Value>,
}

impl Frame<'_> {
    fn row(&self, ops: &mut Ops<'_, '_>, coords: &[Value]) {
        let bases: Vec<Value> = (self.kernel.operands.iter())
            .zip(&self.pointers)
            .map(|(operand, pointer)| advance(ops, *pointer, operand, 0, coords))
            .collect();
        let mut rows: Vec<Option<Val>> = vec![None; self.kernel.row_values as usize];
        for stage in &self.kernel.stages {
            if stage.per_row {
                self.once(ops, stage, coords, &bases, &mut rows);
            } else {
                self.columns(ops, stage, coords, &bases, &mut rows);
            }
        }
    }

    fn place<'p>(
        &'p self,
        coords: &'p [Value],
        bases: &'p [Value],
        rows: &'p [Option<Val>],
    ) -> Place<'p> {
        let nowhere = self.pointers[self.kernel.operands.len()];
        let (operands, params) = (&self.kernel.operands[..], self.params);
        Place { operands, bases, coords, inner: None, params, nowhere, rows, wide: false }
    }

    /// What a stage computes, as far as its effects go.
    fn body(&self, stage: &Stage, rows: &[Option<Val>], inner: Option<(usize, usize)>) -> Body {
        let wanted: Vec<(Ref, bool)> = (stage.effects.iter())
            .map(|effect| match effect {
                Effect::Store { value, .. } => (*value, true),
                Effect::Reduce { value, .. } => (*value, false),
            })
            .collect();
        Body::new(&stage.insts, &self.kernel.operands, rows, &wanted, inner)
    }

    fn once(
        &self,
        ops: &mut Ops<'_, '_>,
        stage: &Stage,
        coords: &[Value],
        bases: &[Value],
        rows: &mut [Option<Val>],
    ) {
        let place = self.place(coords, bases, rows);
        let values = self.body(stage, rows, None).single(ops, &place);
        let mut results = Vec::new();
        for (effect, value) in stage.effects.iter().zip(values) {
            match effect {
                Effect::Store { operand, .. } => self.store(ops, &place, *operand, value),
                Effect::Reduce { into, .. } => {
                    results.push((*into as usize, reduced(ops, value)));
                }
            }
        }
        for (into, value) in results {
            rows[into] = Some(value);
        }
    }

    fn store(&self, ops: &mut Ops<'_, '_>, place: &Place<'_>, operand: u32, value: Val) {
        let operand = operand as usize;
        let add = match self.kernel.operands[operand].access {
            Access::Accumulate => true,
            Access::Read | Access::Write => false,
        };
        store(ops, place, operand, value, add);
    }

    /// All columns of a row, with the accumulators of the stage.
    fn columns(
        &self,
        ops: &mut Ops<'_, '_>,
        stage: &Stage,
        coords: &[Value],
        bases: &[Value],
        rows: &mut [Option<Val>],
    ) {
        let cols = &self.kernel.cols;
        let last = cols.last().map(|extent| (self.kernel.rows.len() + cols.len() - 1, *extent));
        let body = self.body(stage, rows, last);
        let mut sums = Sums::of(ops, stage, &body);
        let fixed: &[Option<Val>] = rows;
        let visit = |ops: &mut Ops<'_, '_>,
                     sums: &mut Sums,
                     place: &Place<'_>,
                     number: usize,
                     value: Val,
                     vector: usize| match &stage.effects[number] {
            Effect::Store { operand, .. } => self.store(ops, place, *operand, value),
            Effect::Reduce { .. } => sums.step(ops, number, value, place.wide, vector),
        };
        match cols.split_last() {
            None => {
                let place = self.place(coords, bases, fixed);
                for (number, value) in body.single(ops, &place).into_iter().enumerate() {
                    visit(ops, &mut sums, &place, number, value, 0);
                }
            }
            Some((last, outer)) => {
                let axis = self.kernel.rows.len() + outer.len();
                let zero = ops.b.ins().iconst(types::I64, 0);
                let end = ops.b.ins().iconst(types::I64, *last as i64);
                let bounds = if outer.is_empty() { (self.low, self.high) } else { (zero, end) };
                let (coords, bases) = (coords.to_vec(), bases.to_vec());
                self.outer(ops, outer, coords, bases, &mut |ops, coords, bases| {
                    let place = self.place(coords, bases, fixed);
                    let mut each = |ops: &mut Ops<'_, '_>,
                                    place: &Place<'_>,
                                    number: usize,
                                    value: Val,
                                    vector: usize| {
                        visit(ops, &mut sums, place, number, value, vector);
                    };
                    body.columns(ops, &place, axis, bounds, &mut each);
                });
            }
        }
        let results = sums.finish(ops);
        for (into, value) in results {
            rows[into] = Some(value);
        }
    }

    /// Nested loops over the column axes but the last; the first of all column axes runs `low..high`.
    fn outer<'f>(
        &self,
        ops: &mut Ops<'_, 'f>,
        rest: &[usize],
        coords: Vec<Value>,
        bases: Vec<Value>,
        each: &mut dyn FnMut(&mut Ops<'_, 'f>, &[Value], &[Value]),
    ) {
        let Some((extent, rest)) = rest.split_first() else {
            return each(ops, &coords, &bases);
        };
        let axis = coords.len();
        let (from, to) = if axis == self.kernel.rows.len() {
            (self.low, self.high)
        } else {
            let zero = ops.b.ins().iconst(types::I64, 0);
            (zero, ops.b.ins().iconst(types::I64, *extent as i64))
        };
        range(ops, from, to, 1, |ops, i| {
            let mut coords = coords.clone();
            coords.push(i);
            let bases = (self.kernel.operands.iter())
                .zip(&bases)
                .map(|(operand, base)| advance(ops, *base, operand, axis, &[i]))
                .collect();
            self.outer(ops, rest, coords, bases, each);
        });
    }
}

/// Accumulators: per reduction one for single columns and one per vector of a step.
pub(super) struct Sums {
    list: Vec<Sum>,
    unroll: usize,
}

/// What is reduced.
pub(super) struct Reduced {
    /// The number of the wanted value.
    pub(super) number: usize,
    /// How.
    pub(super) op: ReduceOp,
    /// Under which number the result is given.
    pub(super) into: usize,
    /// F or I.
    pub(super) kind: Kind,
}

struct Sum {
    what: Reduced,
    single: Variable,
    wide: Vec<Variable>,
}

impl Sums {
    /// Of a stage's effects.
    fn of(ops: &mut Ops<'_, '_>, stage: &Stage, body: &Body) -> Self {
        let all = stage.effects.iter().enumerate().filter_map(|(number, e)| match e {
            Effect::Reduce { op, into, .. } => {
                let kind = as_reduced(body.kind(number));
                Some(Reduced { number, op: *op, into: *into as usize, kind })
            }
            Effect::Store { .. } => None,
        });
        Self::new(ops, all.collect(), body.unroll)
    }

    pub(super) fn new(ops: &mut Ops<'_, '_>, all: Vec<Reduced>, unroll: usize) -> Self {
        let mut list = Vec::new();
        for what in all {
            let start = identity(ops, what.op, what.kind);
            let single = ops.b.declare_var(type_of(what.kind, false));
            ops.b.def_var(single, start.v);
            let wide_start = ops.widen(start);
            let wide = (0..unroll)
                .map(|_| {
                    let variable = ops.b.declare_var(type_of(what.kind, true));
                    ops.b.def_var(variable, wide_start.v);
                    variable
                })
                .collect();
            list.push(Sum { what, single, wide });
        }
        Self { list, unroll }
    }

    pub(super) fn step(
        &mut self,
        ops: &mut Ops<'_, '_>,
        number: usize,
        value: Val,
        wide: bool,
        at: usize,
    ) {
        let Some(sum) = self.list.iter().find(|s| s.what.number == number) else { return };
        let value = ops.to(sum.what.kind, value);
        let value = if wide { ops.widen(value) } else { value };
        let variable = if wide { sum.wide[at] } else { sum.single };
        let before = Val { v: ops.b.use_var(variable), kind: sum.what.kind, wide };
        let after = combine(ops, sum.what.op, before, value);
        ops.b.def_var(variable, after.v);
    }

    /// Vectors pairwise, then lanes pairwise, then the single columns.
    pub(super) fn finish(self, ops: &mut Ops<'_, '_>) -> Vec<(usize, Val)> {
        let mut results = Vec::new();
        for sum in self.list {
            let single = Val { v: ops.b.use_var(sum.single), kind: sum.what.kind, wide: false };
            let mut vectors: Vec<Val> = (sum.wide.iter())
                .map(|v| Val { v: ops.b.use_var(*v), kind: sum.what.kind, wide: true })
                .collect();
            while vectors.len() > 1 {
                vectors = vectors
                    .chunks(2)
                    .map(|pair| match pair {
                        [a, b] => combine(ops, sum.what.op, *a, *b),
                        rest => rest[0],
                    })
                    .collect();
            }
            let value = match vectors.first() {
                Some(v) if self.unroll > 0 => {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|l| ops.lane(*v, l));
                    let (low, high) =
                        (combine(ops, sum.what.op, a, b), combine(ops, sum.what.op, c, d));
                    let all = combine(ops, sum.what.op, low, high);
                    combine(ops, sum.what.op, all, single)
                }
                _ => single,
            };
            results.push((sum.what.into, value));
        }
        results
    }
}
