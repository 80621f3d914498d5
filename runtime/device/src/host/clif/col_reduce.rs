//! A [`ColReduce`] as a function that reduces one range of one outer index into partial results.
//!
//! With columns, these are innermost and partial results lie in memory; without, the innermost reduced axis runs in vectors and results stay in
//! registers.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;
use cs336_compiler::kernel::{ColReduce, Ref};

use super::Extern;
use super::body::{Place, combine, identity, reduced};
use super::lanes::{Kind, Ops, Val, plain, type_of};
use super::phases::Body;
use super::rows::{Reduced, Sums, addresses, advance, range, strips, unflatten};

pub(super) fn emit(
    kernel: &ColReduce,
    b: &mut FunctionBuilder<'_>,
    calls: &dyn Fn(Extern) -> FuncRef,
) -> Vec<Kind> {
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let args: Vec<Value> = b.block_params(entry).to_vec();
    let mut ops = Ops { b, calls };
    let pointers = addresses(&mut ops, args[0], kernel.operands.len());
    let wanted: Vec<(Ref, bool)> = kernel.results.iter().map(|(_, v, _)| (*v, false)).collect();
    let before = kernel.outer.len() + kernel.reduced.len();
    let (axis, extent) = match (kernel.cols.split_last(), kernel.reduced.last()) {
        (Some((last, rest)), _) => (before + rest.len(), Some(*last)),
        (None, Some(last)) => (before - 1, Some(*last)),
        (None, None) => (0, None),
    };
    let inner = extent.map(|extent| (axis, extent));
    let body = Body::new(&kernel.insts, &kernel.operands, &[], &wanted, inner);
    let results: Vec<Kind> =
        (0..kernel.results.len()).map(|number| as_reduced(body.kind(number))).collect();
    let (params, partials) = (args[1], args[5]);
    let frame = Frame { kernel, body, kinds: &results, params, partials, pointers };
    let outer = unflatten(&mut ops, args[4], &kernel.outer);
    if kernel.cols.is_empty() && !kernel.reduced.is_empty() {
        frame.along(&mut ops, &outer, args[2], args[3]);
        ops.b.ins().return_(&[]);
        return results;
    }
    frame.reset(&mut ops);
    range(&mut ops, args[2], args[3], 1, |ops, index| {
        let mut coords = outer.clone();
        coords.extend(unflatten(ops, index, &kernel.reduced));
        let bases = frame.bases(ops, &coords);
        let zero = ops.b.ins().iconst(types::I64, 0);
        frame.columns(ops, &kernel.cols, coords, bases, zero);
    });
    ops.b.ins().return_(&[]);
    results
}

/// What a value of `kind` is reduced as.
pub(super) fn as_reduced(kind: Kind) -> Kind {
    match kind {
        Kind::F => Kind::F,
        Kind::I | Kind::M => Kind::I,
    }
}

struct Frame<'k> {
    kernel: &'k ColReduce,
    body: Body,
    kinds: &'k [Kind],
    params: Value,
    partials: Value,
    pointers: Vec<Value>,
}

impl Frame<'_> {
    fn bases(&self, ops: &mut Ops<'_, '_>, coords: &[Value]) -> Vec<Value> {
        (self.kernel.operands.iter())
            .zip(&self.pointers)
            .map(|(operand, pointer)| advance(ops, *pointer, operand, 0, coords))
            .collect()
    }

    fn place<'p>(&'p self, coords: &'p [Value], bases: &'p [Value]) -> Place<'p> {
        let nowhere = self.pointers[self.kernel.operands.len()];
        let (operands, params) = (&self.kernel.operands[..], self.params);
        Place { operands, bases, coords, inner: None, params, nowhere, rows: &[], wide: false }
    }

    /// Without columns: `first..last` of the flattened reduced space, a stretch of the innermost reduced axis at a time.
    fn along(&self, ops: &mut Ops<'_, '_>, outer: &[Value], first: Value, last: Value) {
        let Some((extent, around)) = self.kernel.reduced.split_last() else { return };
        let extent = (*extent).max(1) as i64;
        let axis = outer.len() + around.len();
        let all = (self.kernel.results.iter().zip(self.kinds).enumerate())
            .map(|(number, ((op, _, _), kind))| Reduced {
                number,
                op: *op,
                into: number,
                kind: *kind,
            })
            .collect();
        let mut sums = Sums::new(ops, all, self.body.unroll);
        let counter = ops.b.declare_var(types::I64);
        ops.b.def_var(counter, first);
        let (head, inside, done) =
            (ops.b.create_block(), ops.b.create_block(), ops.b.create_block());
        ops.b.ins().jump(head, &[]);
        ops.b.switch_to_block(head);
        let at = ops.b.use_var(counter);
        let more = ops.b.ins().icmp(IntCC::SignedLessThan, at, last);
        ops.b.ins().brif(more, inside, &[], done, &[]);
        ops.b.switch_to_block(inside);
        let at = ops.b.use_var(counter);
        let row = ops.b.ins().udiv_imm_s(at, extent);
        let before = ops.b.ins().imul_imm_s(row, extent);
        let from = ops.b.ins().isub(at, before);
        let to = ops.b.ins().isub(last, before);
        let end = ops.b.ins().iconst(types::I64, extent);
        let to = ops.b.ins().smin(to, end);
        let mut coords = outer.to_vec();
        coords.extend(unflatten(ops, row, around));
        let bases = self.bases(ops, &coords);
        let place = self.place(&coords, &bases);
        let mut each =
            |ops: &mut Ops<'_, '_>, place: &Place<'_>, number: usize, value: Val, vector: usize| {
                sums.step(ops, number, value, place.wide, vector);
            };
        self.body.columns(ops, &place, axis, (from, to), &mut each);
        let at = ops.b.use_var(counter);
        let done_here = ops.b.ins().isub(to, from);
        let next = ops.b.ins().iadd(at, done_here);
        ops.b.def_var(counter, next);
        ops.b.ins().jump(head, &[]);
        ops.b.switch_to_block(done);
        for (number, value) in sums.finish(ops) {
            ops.b.ins().store(plain(), value.v, self.partials, 4 * number as i32);
        }
    }

    fn columns_in_all(&self) -> usize {
        self.kernel.cols.iter().product()
    }

    /// Address of result `number` at flat column `column`.
    fn slot(&self, ops: &mut Ops<'_, '_>, number: usize, column: Value) -> Value {
        let from = (number * self.columns_in_all() * 4) as i64;
        let bytes = ops.b.ins().imul_imm_s(column, 4);
        let address = ops.b.ins().iadd(self.partials, bytes);
        ops.b.ins().iadd_imm_s(address, from)
    }

    /// Every partial result begins as the value of an empty reduction.
    fn reset(&self, ops: &mut Ops<'_, '_>) {
        let (zero, count) = (0, self.columns_in_all() as i64);
        let bounds = (ops.b.ins().iconst(types::I64, zero), ops.b.ins().iconst(types::I64, count));
        for (number, (op, _, _)) in self.kernel.results.iter().enumerate() {
            let start = identity(ops, *op, self.kinds[number]);
            strips(ops, bounds, 1, |ops, column, wide, _| {
                let value = if wide { ops.widen(start) } else { start };
                let address = self.slot(ops, number, column);
                ops.b.ins().store(plain(), value.v, address, 0);
            });
        }
    }

    /// Nested loops over the columns; `flat` is the flat column before the rest.
    fn columns(
        &self,
        ops: &mut Ops<'_, '_>,
        rest: &[usize],
        coords: Vec<Value>,
        bases: Vec<Value>,
        flat: Value,
    ) {
        match rest {
            [] => {
                let place = self.place(&coords, &bases);
                for (number, value) in self.body.single(ops, &place).into_iter().enumerate() {
                    self.add(ops, number, value, false, flat);
                }
            }
            [extent] => {
                let axis = coords.len();
                let bounds = (
                    ops.b.ins().iconst(types::I64, 0),
                    ops.b.ins().iconst(types::I64, *extent as i64),
                );
                let place = self.place(&coords, &bases);
                let mut each = |ops: &mut Ops<'_, '_>,
                                place: &Place<'_>,
                                number: usize,
                                value: Val,
                                _: usize| {
                    let at = place.inner.map_or(flat, |(_, at)| ops.b.ins().iadd(flat, at));
                    self.add(ops, number, value, place.wide, at);
                };
                self.body.columns(ops, &place, axis, bounds, &mut each);
            }
            [extent, rest @ ..] => {
                let axis = coords.len();
                let below: usize = rest.iter().product();
                let zero = ops.b.ins().iconst(types::I64, 0);
                let end = ops.b.ins().iconst(types::I64, *extent as i64);
                range(ops, zero, end, 1, |ops, i| {
                    let mut coords = coords.clone();
                    coords.push(i);
                    let bases = (self.kernel.operands.iter())
                        .zip(&bases)
                        .map(|(operand, base)| advance(ops, *base, operand, axis, &[i]))
                        .collect();
                    let skipped = ops.b.ins().imul_imm_s(i, below as i64);
                    let flat = ops.b.ins().iadd(flat, skipped);
                    self.columns(ops, rest, coords, bases, flat);
                });
            }
        }
    }

    /// Adds a value to (or whatever the reduction does with) the partial result of a column.
    fn add(&self, ops: &mut Ops<'_, '_>, number: usize, value: Val, wide: bool, column: Value) {
        let (op, kind) = (self.kernel.results[number].0, self.kinds[number]);
        let value = reduced(ops, value);
        let value = if wide { ops.widen(value) } else { value };
        let address = self.slot(ops, number, column);
        let before = ops.b.ins().load(type_of(kind, wide), plain(), address, 0);
        let after = combine(ops, op, Val { v: before, kind, wide }, value);
        ops.b.ins().store(plain(), after.v, address, 0);
    }
}
