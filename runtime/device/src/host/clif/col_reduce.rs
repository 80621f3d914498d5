//! A [`ColReduce`] as a function that reduces one range of one outer index into partial results.

use cranelift_codegen::ir::{FuncRef, InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;
use cs336_compiler::kernel::ColReduce;

use super::Extern;
use super::body::{Place, body, combine, identity, kinds, reduced};
use super::lanes::{Kind, Ops, Val, plain, type_of};
use super::rows::{addresses, advance, range, strips, unflatten, unroll};

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
    let all = kinds(&kernel.insts, &kernel.operands, &[]);
    let results: Vec<Kind> =
        kernel.results.iter().map(|(_, value, _)| as_reduced(all[*value as usize])).collect();
    let frame = Frame { kernel, kinds: &results, params: args[1], partials: args[5], pointers };
    frame.reset(&mut ops);
    let outer = unflatten(&mut ops, args[4], &kernel.outer);
    range(&mut ops, args[2], args[3], 1, |ops, index| {
        let mut coords = outer.clone();
        coords.extend(unflatten(ops, index, &kernel.reduced));
        let bases = (kernel.operands.iter())
            .zip(&frame.pointers)
            .map(|(operand, pointer)| advance(ops, *pointer, operand, 0, &coords))
            .collect();
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
    kinds: &'k [Kind],
    params: Value,
    partials: Value,
    pointers: Vec<Value>,
}

impl Frame<'_> {
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
            [] => self.visit(ops, &coords, &bases, None, false, flat),
            [extent] => {
                let axis = coords.len();
                let bounds = (
                    ops.b.ins().iconst(types::I64, 0),
                    ops.b.ins().iconst(types::I64, *extent as i64),
                );
                let unroll = unroll(&self.kernel.insts, *extent);
                strips(ops, bounds, unroll, |ops, at, wide, _| {
                    let column = ops.b.ins().iadd(flat, at);
                    self.visit(ops, &coords, &bases, Some((axis, at)), wide, column);
                });
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

    fn visit(
        &self,
        ops: &mut Ops<'_, '_>,
        coords: &[Value],
        bases: &[Value],
        inner: Option<(usize, Value)>,
        wide: bool,
        column: Value,
    ) {
        let nowhere = self.pointers[self.kernel.operands.len()];
        let operands = &self.kernel.operands;
        let place =
            Place { operands, bases, coords, inner, params: self.params, nowhere, rows: &[], wide };
        let values = body(ops, &place, &self.kernel.insts);
        for (number, (op, value, _)) in self.kernel.results.iter().enumerate() {
            let kind = self.kinds[number];
            let value = reduced(ops, values[*value as usize]);
            let value = if wide { ops.widen(value) } else { value };
            let address = self.slot(ops, number, column);
            let before = ops.b.ins().load(type_of(kind, wide), plain(), address, 0);
            let after = combine(ops, *op, Val { v: before, kind, wide }, value);
            ops.b.ins().store(plain(), after.v, address, 0);
        }
    }
}
