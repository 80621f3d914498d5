//! One fused body over the columns of the innermost axis, in *phases*.
//!
//! Arithmetic runs in vectors of four, in registers. What Cranelift has no instructions for (exponentials, draws: [`Function`]) is computed for up to
//! [`CHUNK`] columns at once by a call. So a body falls into loops over a chunk, with calls between them: a value belongs to the loop after the last
//! call that it waits for. What a later loop reads is loaded again if it is plainly in memory, else kept in a strip of the function's frame. What is the same in all
//! columns is computed once, before the loops. A body without such functions is one loop over all columns.

use cranelift_codegen::ir::{InstBuilder, StackSlotData, StackSlotKind, Value, types};
use cs336_compiler::kernel::{Inst, Operand, Ref};
use cs336_compiler::scalar::{DType, Dist};

use super::body::{Place, emit, kinds};
use super::function::Function;
use super::lanes::{Kind, LANES, Ops, Val, plain, type_of};
use super::rows::{range, strips};
use super::{Extern, weight};
use crate::host::wide::GRAIN;

/// Columns that are done at a time where there are calls: a kilobyte a strip.
const CHUNK: usize = 256;

/// A body that is ready to be emitted.
pub(super) struct Body {
    /// With casts before calls, so that these find what they expect.
    insts: Vec<Inst>,
    /// The values that something is done with.
    wanted: Vec<Ref>,
    kinds: Vec<Kind>,
    /// Of each instruction: does it depend on the column?
    varies: Vec<bool>,
    /// Of each instruction: the loop in which its value is there.
    phase: Vec<usize>,
    /// Of each instruction: its strip.
    strip: Vec<Option<usize>>,
    strips: usize,
    phases: usize,
    /// Vectors that are done per step.
    pub(super) unroll: usize,
}

impl Body {
    /// `axis` is the innermost column axis, if there is one, of `extent` columns; `wanted` are values, each with whether it is stored; `rows` the row
    /// results so far.
    pub(super) fn new(
        insts: &[Inst],
        operands: &[Operand],
        rows: &[Option<Val>],
        wanted: &[(Ref, bool)],
        inner: Option<(usize, usize)>,
    ) -> Self {
        let (insts, moved) = with_casts(insts, &kinds(insts, operands, rows));
        let wanted: Vec<(Ref, bool)> =
            wanted.iter().map(|(value, stored)| (moved[*value as usize], *stored)).collect();
        let varies = varying(&insts, operands, inner.map(|(axis, _)| axis));
        let is_call = |i: usize| varies[i] && called(&insts[i]);
        let mut phase = vec![0; insts.len()];
        for (i, inst) in insts.iter().enumerate() {
            let inputs = inst.reads().into_iter().map(|r| phase[r as usize]).max().unwrap_or(0);
            phase[i] = if is_call(i) { inputs + 1 } else { inputs };
        }
        let phases = phase.iter().max().map_or(1, |p| p + 1);
        let stores = wanted.iter().filter(|(_, stored)| *stored);
        let first_store =
            stores.map(|(value, _)| phase[*value as usize]).min().unwrap_or(usize::MAX);
        let mut kept = vec![false; insts.len()];
        for (i, inst) in insts.iter().enumerate() {
            for r in inst.reads() {
                let r = r as usize;
                // A store may be in place, so nothing is loaded again after the first.
                let again = is_plain_load(&insts[r]) && phase[i] <= first_store;
                kept[r] |= is_call(i) || varies[r] && phase[r] < phase[i] && !again;
            }
            kept[i] |= is_call(i);
        }
        let mut count = 0;
        let mut numbered = |kept: bool| {
            count += usize::from(kept);
            kept.then(|| count - 1)
        };
        let strip = kept.into_iter().map(&mut numbered).collect();
        let heaviest = (0..phases)
            .map(|p| {
                let here =
                    (0..insts.len()).filter(|i| varies[*i] && phase[*i] == p && !is_call(*i));
                here.map(|i| weight(&insts[i..=i])).sum::<usize>()
            })
            .max();
        let unroll = inner.map_or(0, |(_, extent)| unroll(heaviest.unwrap_or(0), extent));
        let kinds = kinds(&insts, operands, rows);
        let wanted = wanted.into_iter().map(|(value, _)| value).collect();
        Self { insts, wanted, kinds, varies, phase, strip, strips: count, phases, unroll }
    }

    /// What wanted value `number` is.
    pub(super) fn kind(&self, number: usize) -> Kind {
        self.kinds[self.wanted[number] as usize]
    }

    /// All columns `bounds` of the innermost axis, number `axis`; `place` is without it. `each(place, number, value, vector)` is told of wanted value
    /// `number` in its phase.
    pub(super) fn columns<'f>(
        &self,
        ops: &mut Ops<'_, 'f>,
        place: &Place<'_>,
        axis: usize,
        bounds: (Value, Value),
        each: &mut dyn FnMut(&mut Ops<'_, 'f>, &Place<'_>, usize, Val, usize),
    ) {
        let fixed = self.fixed(ops, place);
        if self.phases == 1 {
            strips(ops, bounds, self.unroll, |ops, at, wide, vector| {
                let place = Place { inner: Some((axis, at)), wide, ..*place };
                self.visit(ops, &place, 0, &fixed, None, vector, each);
            });
            return;
        }
        let bytes = (self.strips * CHUNK * 4) as u32;
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, bytes, 4);
        let slot = ops.b.create_sized_stack_slot(slot);
        let memory = ops.b.ins().stack_addr(types::I64, slot, 0);
        range(ops, bounds.0, bounds.1, CHUNK as i64, |ops, from| {
            let end = ops.b.ins().iadd_imm_s(from, CHUNK as i64);
            let end = ops.b.ins().smin(end, bounds.1);
            let count = ops.b.ins().isub(end, from);
            for phase in 0..self.phases {
                if self.has_work(phase) {
                    strips(ops, (from, end), self.unroll, |ops, at, wide, vector| {
                        let place = Place { inner: Some((axis, at)), wide, ..*place };
                        let offset = ops.b.ins().isub(at, from);
                        let offset = ops.b.ins().ishl_imm_u(offset, 2);
                        let kept = ops.b.ins().iadd(memory, offset);
                        self.visit(ops, &place, phase, &fixed, Some(kept), vector, each);
                    });
                }
                for i in (0..self.insts.len()).filter(|i| self.phase[*i] == phase + 1) {
                    if self.varies[i] && called(&self.insts[i]) {
                        self.call(ops, place, i, memory, count);
                    }
                }
            }
        });
    }

    /// The one column of a body without column axes.
    pub(super) fn single(&self, ops: &mut Ops<'_, '_>, place: &Place<'_>) -> Vec<Val> {
        let fixed = self.fixed(ops, place);
        let value = |r: &Ref, ops: &mut Ops<'_, '_>| match fixed[*r as usize] {
            Some(value) => value,
            None => ops.float(f32::NAN),
        };
        self.wanted.iter().map(|r| value(r, ops)).collect()
    }

    /// What is the same in all columns.
    fn fixed(&self, ops: &mut Ops<'_, '_>, place: &Place<'_>) -> Vec<Option<Val>> {
        let place = Place { inner: None, wide: false, ..*place };
        let mut values = vec![None; self.insts.len()];
        for (i, inst) in self.insts.iter().enumerate() {
            if !self.varies[i] {
                values[i] = Some(emit(ops, &place, inst, &values));
            }
        }
        values
    }

    /// Whether there is anything to do in the loop of a phase.
    fn has_work(&self, phase: usize) -> bool {
        let wanted = self.wanted.iter().any(|r| self.phase[*r as usize] == phase);
        let kept = (0..self.insts.len()).any(|i| self.is_kept_in(i, phase));
        wanted || kept
    }

    /// Whether the loop of a phase writes the strip of an instruction.
    fn is_kept_in(&self, i: usize, phase: usize) -> bool {
        let by_call = self.varies[i] && called(&self.insts[i]);
        self.strip[i].is_some() && self.phase[i] == phase && !by_call
    }

    /// A column (or four) in the loop of a phase. `kept` is the address of its place in the first strip.
    #[allow(clippy::too_many_arguments, reason = "the state of a loop")]
    fn visit<'f>(
        &self,
        ops: &mut Ops<'_, 'f>,
        place: &Place<'_>,
        phase: usize,
        fixed: &[Option<Val>],
        kept: Option<Value>,
        vector: usize,
        each: &mut dyn FnMut(&mut Ops<'_, 'f>, &Place<'_>, usize, Val, usize),
    ) {
        let mut values = fixed.to_vec();
        let here = |r: Ref| self.phase[r as usize] == phase;
        let kept_here: Vec<Ref> =
            (0..self.insts.len() as Ref).filter(|i| self.is_kept_in(*i as usize, phase)).collect();
        let wanted: Vec<usize> = (0..self.wanted.len()).filter(|n| here(self.wanted[*n])).collect();
        // All is there before the first effect, which may be in place.
        for r in kept_here.iter().copied().chain(wanted.iter().map(|n| self.wanted[*n])) {
            self.value(ops, place, phase, kept, &mut values, r);
        }
        let at = |values: &[Option<Val>], ops: &mut Ops<'_, '_>, r: Ref| match values[r as usize] {
            Some(value) => value,
            None => ops.float(f32::NAN),
        };
        for r in kept_here {
            let value = at(&values, ops, r);
            self.keep(ops, r as usize, value, place.wide, kept);
        }
        for number in wanted {
            let value = at(&values, ops, self.wanted[number]);
            each(ops, place, number, value, vector);
        }
    }

    /// Sees to it that a value is there, and all that it needs.
    fn value(
        &self,
        ops: &mut Ops<'_, '_>,
        place: &Place<'_>,
        phase: usize,
        kept: Option<Value>,
        values: &mut Vec<Option<Val>>,
        r: Ref,
    ) {
        let i = r as usize;
        if values[i].is_some() {
            return;
        }
        let by_call = called(&self.insts[i]);
        let earlier = self.phase[i] < phase || by_call;
        values[i] = Some(match (earlier, self.strip[i], kept) {
            (true, Some(strip), Some(kept)) => self.fetch(ops, i, strip, place.wide, kept),
            _ => {
                for input in self.insts[i].reads() {
                    self.value(ops, place, phase, kept, values, input);
                }
                emit(ops, place, &self.insts[i], values)
            }
        });
    }

    /// Writes a value into its strip; a truth value as a number.
    fn keep(&self, ops: &mut Ops<'_, '_>, i: usize, value: Val, wide: bool, kept: Option<Value>) {
        let (Some(strip), Some(kept)) = (self.strip[i], kept) else { return };
        let value = if value.kind == Kind::M { ops.to_i(value) } else { value };
        let value = if wide { ops.widen(value) } else { value };
        ops.b.ins().store(plain(), value.v, kept, (strip * CHUNK * 4) as i32);
    }

    /// Reads it again.
    fn fetch(&self, ops: &mut Ops<'_, '_>, i: usize, strip: usize, wide: bool, kept: Value) -> Val {
        let kind = match self.kinds[i] {
            Kind::F => Kind::F,
            Kind::I | Kind::M => Kind::I,
        };
        let v = ops.b.ins().load(type_of(kind, wide), plain(), kept, (strip * CHUNK * 4) as i32);
        ops.to(self.kinds[i], Val { v, kind, wide })
    }

    fn call(
        &self,
        ops: &mut Ops<'_, '_>,
        place: &Place<'_>,
        i: usize,
        memory: Value,
        count: Value,
    ) {
        let strip = |ops: &mut Ops<'_, '_>, i: usize| {
            let number = self.strip[i].unwrap_or(0);
            ops.b.ins().iadd_imm_s(memory, (number * CHUNK * 4) as i64)
        };
        let inputs: Vec<Value> =
            self.insts[i].reads().iter().map(|r| strip(ops, *r as usize)).collect();
        let out = strip(ops, i);
        match &self.insts[i] {
            Inst::Random { dist, stream, seed, step, .. } => {
                let mut param = |i: u32| {
                    let v = ops.b.ins().load(types::I32, plain(), place.params, 4 * i as i32);
                    ops.b.ins().uextend(types::I64, v)
                };
                let (low, high, step) = (param(seed[0]), param(seed[1]), param(*step));
                let high = ops.b.ins().ishl_imm_u(high, 32);
                let seed = ops.b.ins().bor(low, high);
                let stream = ops.b.ins().iconst(types::I64, *stream as i64);
                let normal = ops.b.ins().iconst(types::I64, i64::from(*dist == Dist::Normal));
                let callee = (ops.calls)(Extern::Draws);
                let counters = [inputs[0], inputs[1], inputs[2]];
                let args = [&[normal, seed, stream, step], &counters[..], &[out, count]].concat();
                ops.b.ins().call(callee, &args);
            }
            inst => {
                let Some(function) = function(inst) else { return };
                let function = ops.b.ins().iconst(types::I64, function.number());
                let second = inputs.get(1).copied().unwrap_or(inputs[0]);
                let callee = (ops.calls)(Extern::Wide);
                ops.b.ins().call(callee, &[function, inputs[0], second, out, count]);
            }
        }
    }
}

const _: () = assert!(CHUNK.is_multiple_of(GRAIN) && GRAIN.is_multiple_of(LANES));

/// How many vectors of a body of so many instructions are done per step.
fn unroll(weight: usize, extent: usize) -> usize {
    let most = extent / LANES;
    let wish = match weight {
        0..=16 => 4,
        17..=48 => 2,
        _ => 1,
    };
    if most >= wish { wish } else { most.min(1) }
}

fn function(inst: &Inst) -> Option<Function> {
    match inst {
        Inst::Unary(op, _) => Function::of_unary(*op),
        // The remainder of a division is arithmetic, if of floats.
        Inst::Binary(op, ..) => Function::of_binary(*op).filter(|f| *f == Function::Pow),
        Inst::Load { .. } | Inst::Coord(_) | Inst::Param(..) | Inst::Row(_) => None,
        Inst::Const(..) | Inst::Select(..) | Inst::Cast(..) | Inst::Random { .. } => None,
    }
}

/// Whether it is computed by a call, where it varies.
fn called(inst: &Inst) -> bool {
    matches!(inst, Inst::Random { .. }) || function(inst).is_some()
}

/// Whether a load may be done twice: it costs no more than keeping its value.
fn is_plain_load(inst: &Inst) -> bool {
    matches!(inst, Inst::Load { indirect, guards, .. } if indirect.is_empty() && guards.is_empty())
}

/// The same instructions, with casts where a call reads something else than it expects; and where each instruction is then.
fn with_casts(insts: &[Inst], kinds: &[Kind]) -> (Vec<Inst>, Vec<Ref>) {
    let mut made: Vec<Inst> = Vec::with_capacity(insts.len());
    let mut moved: Vec<Ref> = Vec::with_capacity(insts.len());
    for inst in insts {
        let expected = match inst {
            Inst::Random { .. } => Some((Kind::I, DType::I32)),
            inst => function(inst).map(|_| (Kind::F, DType::F32)),
        };
        let mut inst = inst.clone();
        inst.move_reads(|r| match expected {
            Some((kind, dtype)) if kinds[r as usize] != kind => {
                made.push(Inst::Cast(dtype, moved[r as usize]));
                made.len() as Ref - 1
            }
            Some(_) | None => moved[r as usize],
        });
        moved.push(made.len() as Ref);
        made.push(inst);
    }
    (made, moved)
}

/// Of each instruction: does it depend on the column?
fn varying(insts: &[Inst], operands: &[Operand], axis: Option<usize>) -> Vec<bool> {
    let mut varies: Vec<bool> = Vec::with_capacity(insts.len());
    for inst in insts {
        let inputs = inst.reads().into_iter().any(|r| varies[r as usize]);
        let own = match (inst, axis) {
            (_, None) => false,
            (Inst::Load { operand, guards, .. }, Some(axis)) => {
                let on_axis = |(a, c): &(u32, i64)| *a as usize == axis && *c != 0;
                operands[*operand as usize].strides[axis] != 0
                    || guards.iter().any(|g| g.terms.iter().any(on_axis))
            }
            (Inst::Coord(a), Some(axis)) => *a as usize == axis,
            (Inst::Param(..) | Inst::Row(_) | Inst::Const(..), _) => false,
            (Inst::Unary(..) | Inst::Binary(..) | Inst::Select(..), _) => false,
            (Inst::Cast(..) | Inst::Random { .. }, _) => false,
        };
        varies.push(inputs || own);
    }
    varies
}
