//! The instructions of a fused body, with loads and stores, for one column or four neighbouring ones.
//!
//! Functions that are calls are emitted here for single numbers only; [`phases`](super::phases) sees to those that vary along the columns.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cs336_compiler::kernel::{Guard, Indirect, Inst, Operand};
use cs336_compiler::scalar::{BinOp, DType, Dist, Literal, ReduceOp, UnOp};

use super::Extern;
use super::lanes::{Kind, LANES, Ops, Val, plain, type_of};

/// Where a body stands: the operands' addresses and the coordinates.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    /// The views.
    pub(super) operands: &'p [Operand],
    /// Per operand the address without the innermost column.
    pub(super) bases: &'p [Value],
    /// i64 coordinates of all axes before the innermost column; see `inner`.
    pub(super) coords: &'p [Value],
    /// The innermost column axis (its number) and the i64 coordinate of the first lane; none: there is one column.
    pub(super) inner: Option<(usize, Value)>,
    /// Address of the parameters.
    pub(super) params: Value,
    /// Address of harmless bytes.
    pub(super) nowhere: Value,
    /// Row results of earlier stages.
    pub(super) rows: &'p [Option<Val>],
    /// Whether four columns are done at once.
    pub(super) wide: bool,
}

impl Place<'_> {
    fn inner_stride(&self, operand: usize) -> i64 {
        self.inner.map_or(0, |(axis, _)| self.operands[operand].strides[axis])
    }

    fn on_inner(&self, guard: &Guard) -> bool {
        self.inner.is_some_and(|(axis, _)| {
            guard.terms.iter().any(|(a, c)| *a as usize == axis && *c != 0)
        })
    }
}

/// Emits an instruction; `values` has those that it reads.
pub(super) fn emit(
    ops: &mut Ops<'_, '_>,
    place: &Place<'_>,
    inst: &Inst,
    values: &[Option<Val>],
) -> Val {
    let nan = ops.float(f32::NAN);
    let at = |r: &u32| values[*r as usize].unwrap_or(nan);
    match inst {
        Inst::Load { operand, indirect, guards, outside } => {
            let indices: Vec<(Val, &Indirect)> =
                indirect.iter().map(|i| (ops.to_i(at(&i.index)), i)).collect();
            Load { place, operand: *operand as usize, indices, guards, outside: *outside }.emit(ops)
        }
        Inst::Coord(axis) => coordinate(ops, place, *axis as usize),
        Inst::Param(i, dtype) => {
            let kind = if *dtype == DType::F32 { Kind::F } else { Kind::I };
            let offset = 4 * *i as i32;
            let v = ops.b.ins().load(type_of(kind, false), plain(), place.params, offset);
            Val { v, kind, wide: false }
        }
        Inst::Row(i) => match place.rows.get(*i as usize).copied().flatten() {
            Some(value) => value,
            None => ops.float(f32::NAN),
        },
        Inst::Const(l, dtype) => constant(ops, *l, *dtype),
        Inst::Unary(op, a) => unary(ops, *op, at(a)),
        Inst::Binary(op, a, b) => binary(ops, *op, at(a), at(b)),
        Inst::Select(c, a, b) => {
            let c = ops.to_m(at(c));
            let (a, b) = common(ops, at(a), at(b));
            ops.select(c, a, b)
        }
        Inst::Cast(dtype, a) => cast(ops, *dtype, at(a)),
        Inst::Random { dist, stream, counters, seed, step } => {
            let counters = counters.map(|c| ops.to_i(at(&c)));
            let mut param = |i: u32| {
                let v = ops.b.ins().load(types::I32, plain(), place.params, 4 * i as i32);
                ops.b.ins().uextend(types::I64, v)
            };
            let (low, high, step) = (param(seed[0]), param(seed[1]), param(*step));
            let high = ops.b.ins().ishl_imm_u(high, 32);
            let seed = ops.b.ins().bor(low, high);
            let stream = ops.b.ins().iconst(types::I64, *stream as i64);
            let normal = ops.b.ins().iconst(types::I64, i64::from(*dist == Dist::Normal));
            let [a, b, c] = counters.map(|c| c.v);
            ops.call(Extern::Draw, &[normal, seed, stream, step, a, b, c], Kind::F)
        }
    }
}

fn constant(ops: &mut Ops<'_, '_>, literal: Literal, dtype: DType) -> Val {
    match dtype {
        DType::F32 | DType::Bf16 | DType::F16 => ops.float(literal.get() as f32),
        DType::I32 => ops.int(literal.get() as i32),
        DType::Bool => ops.int(i32::from(literal.get() != 0.0)),
    }
}

fn coordinate(ops: &mut Ops<'_, '_>, place: &Place<'_>, axis: usize) -> Val {
    let narrow = |ops: &mut Ops<'_, '_>, v| {
        let v = ops.b.ins().ireduce(types::I32, v);
        Val { v, kind: Kind::I, wide: false }
    };
    match place.inner {
        Some((inner, v)) if inner == axis => {
            let first = narrow(ops, v);
            if !place.wide {
                return first;
            }
            let steps = [ops.int(0), ops.int(1), ops.int(2), ops.int(3)];
            let steps = ops.gather(steps);
            ops.iadd(first, steps)
        }
        _ => narrow(ops, place.coords[axis]),
    }
}

/// Both as the wider kind: f32, else i32, else truth values.
fn common(ops: &mut Ops<'_, '_>, a: Val, b: Val) -> (Val, Val) {
    let kind = match (a.kind, b.kind) {
        (Kind::F, _) | (_, Kind::F) => Kind::F,
        (Kind::I, _) | (_, Kind::I) => Kind::I,
        (Kind::M, Kind::M) => Kind::M,
    };
    (ops.to(kind, a), ops.to(kind, b))
}

fn unary(ops: &mut Ops<'_, '_>, op: UnOp, a: Val) -> Val {
    let number = if a.kind == Kind::M { ops.to_i(a) } else { a };
    let integer = number.kind == Kind::I;
    match op {
        UnOp::Neg if integer => {
            let zero = ops.int(0);
            ops.isub(zero, number)
        }
        UnOp::Abs if integer => {
            let zero = ops.int(0);
            let negative = ops.isub(zero, number);
            ops.imax(number, negative)
        }
        UnOp::Sign if integer => {
            let (low, high) = (ops.int(-1), ops.int(1));
            let x = ops.imax(number, low);
            ops.imin(x, high)
        }
        UnOp::Floor | UnOp::Ceil | UnOp::Round if integer => number,
        UnOp::Not => {
            let m = ops.to_m(a);
            ops.not(m)
        }
        UnOp::Neg
        | UnOp::Abs
        | UnOp::Sign
        | UnOp::Floor
        | UnOp::Ceil
        | UnOp::Round
        | UnOp::Recip
        | UnOp::Exp
        | UnOp::Log
        | UnOp::Sqrt
        | UnOp::Rsqrt
        | UnOp::Sin
        | UnOp::Cos
        | UnOp::Tanh
        | UnOp::Erf
        | UnOp::Sigmoid
        | UnOp::IsFinite => {
            let x = ops.to_f(number);
            unary_float(ops, op, x)
        }
    }
}

fn unary_float(ops: &mut Ops<'_, '_>, op: UnOp, x: Val) -> Val {
    match op {
        UnOp::Neg => ops.neg(x),
        UnOp::Abs => ops.abs(x),
        UnOp::Recip => {
            let one = ops.float(1.0);
            ops.div(one, x)
        }
        UnOp::Exp => ops.call(Extern::Exp, &[x.v], Kind::F),
        UnOp::Log => ops.call(Extern::Log, &[x.v], Kind::F),
        UnOp::Sqrt => ops.sqrt(x),
        UnOp::Rsqrt => ops.rsqrt(x),
        UnOp::Sin => ops.call(Extern::Sin, &[x.v], Kind::F),
        UnOp::Cos => ops.call(Extern::Cos, &[x.v], Kind::F),
        UnOp::Tanh => ops.call(Extern::Tanh, &[x.v], Kind::F),
        UnOp::Erf => ops.call(Extern::Erf, &[x.v], Kind::F),
        UnOp::Sigmoid => ops.call(Extern::Sigmoid, &[x.v], Kind::F),
        UnOp::Floor => ops.floor(x),
        UnOp::Ceil => ops.ceil(x),
        UnOp::Round => ops.nearest(x),
        UnOp::Sign => {
            let (zero, one, minus) = (ops.float(0.0), ops.float(1.0), ops.float(-1.0));
            let above = ops.fcmp(FloatCC::GreaterThan, x, zero);
            let below = ops.fcmp(FloatCC::LessThan, x, zero);
            // x itself where it is zero or NaN.
            let y = ops.select(below, minus, x);
            ops.select(above, one, y)
        }
        UnOp::Not => {
            let m = ops.to_m(x);
            ops.not(m)
        }
        UnOp::IsFinite => {
            let (a, end) = (ops.abs(x), ops.float(f32::INFINITY));
            ops.fcmp(FloatCC::LessThan, a, end)
        }
    }
}

fn binary(ops: &mut Ops<'_, '_>, op: BinOp, a: Val, b: Val) -> Val {
    match op {
        BinOp::And | BinOp::Or => {
            let (a, b) = (ops.to_m(a), ops.to_m(b));
            return if op == BinOp::And { ops.band(a, b) } else { ops.bor(a, b) };
        }
        BinOp::Div | BinOp::Pow => {
            let (a, b) = (ops.to_f(a), ops.to_f(b));
            return if op == BinOp::Div {
                ops.div(a, b)
            } else {
                ops.call(Extern::Pow, &[a.v, b.v], Kind::F)
            };
        }
        BinOp::Add | BinOp::Sub | BinOp::Mul | BinOp::Min | BinOp::Max | BinOp::Mod => {}
        BinOp::Lt | BinOp::Le | BinOp::Eq | BinOp::Ne => {}
    }
    let (a, b) = common(ops, a, b);
    if a.kind == Kind::F {
        return binary_float(ops, op, a, b);
    }
    let (a, b) = (ops.to_i(a), ops.to_i(b));
    match op {
        BinOp::Add => ops.iadd(a, b),
        BinOp::Sub => ops.isub(a, b),
        BinOp::Mul => ops.imul(a, b),
        BinOp::Min => ops.imin(a, b),
        BinOp::Max => ops.imax(a, b),
        BinOp::Lt => ops.icmp(IntCC::SignedLessThan, a, b),
        BinOp::Le => ops.icmp(IntCC::SignedLessThanOrEqual, a, b),
        BinOp::Eq => ops.icmp(IntCC::Equal, a, b),
        BinOp::Ne => ops.icmp(IntCC::NotEqual, a, b),
        BinOp::Mod | BinOp::Div | BinOp::Pow | BinOp::And | BinOp::Or => ops.int_mod(a, b),
    }
}

fn binary_float(ops: &mut Ops<'_, '_>, op: BinOp, a: Val, b: Val) -> Val {
    match op {
        BinOp::Add => ops.add(a, b),
        BinOp::Sub => ops.sub(a, b),
        BinOp::Mul => ops.mul(a, b),
        BinOp::Min => ops.min(a, b),
        BinOp::Max => ops.max(a, b),
        BinOp::Lt => ops.fcmp(FloatCC::LessThan, a, b),
        BinOp::Le => ops.fcmp(FloatCC::LessThanOrEqual, a, b),
        BinOp::Eq => ops.fcmp(FloatCC::Equal, a, b),
        BinOp::Ne => ops.fcmp(FloatCC::NotEqual, a, b),
        BinOp::Mod | BinOp::Div | BinOp::Pow | BinOp::And | BinOp::Or => {
            let q = ops.div(a, b);
            let q = ops.floor(q);
            let q = ops.neg(q);
            ops.fma(q, b, a)
        }
    }
}

fn cast(ops: &mut Ops<'_, '_>, dtype: DType, a: Val) -> Val {
    match dtype {
        DType::F32 => ops.to_f(a),
        DType::Bf16 => {
            let x = ops.to_f(a);
            let x = ops.to_bf16(x);
            ops.from_bf16(x)
        }
        DType::F16 => {
            let x = ops.to_f(a);
            let x = ops.to_f16(x);
            ops.from_f16(x)
        }
        DType::I32 => ops.to_i(a),
        DType::Bool => ops.to_m(a),
    }
}

/// The kinds of the values of instructions; `rows` are those of the row results so far.
pub(super) fn kinds(insts: &[Inst], operands: &[Operand], rows: &[Option<Val>]) -> Vec<Kind> {
    let mut kinds: Vec<Kind> = Vec::with_capacity(insts.len());
    for inst in insts {
        let at = |r: &u32| kinds[*r as usize];
        let joined = |a: Kind, b: Kind| match (a, b) {
            (Kind::F, _) | (_, Kind::F) => Kind::F,
            (Kind::I, _) | (_, Kind::I) => Kind::I,
            (Kind::M, Kind::M) => Kind::M,
        };
        let number = |kind: Kind| if kind == Kind::M { Kind::I } else { kind };
        kinds.push(match inst {
            Inst::Load { operand, .. } => kind_of(operands[*operand as usize].dtype),
            Inst::Coord(_) => Kind::I,
            Inst::Param(_, DType::F32) => Kind::F,
            Inst::Param(..) => Kind::I,
            Inst::Row(i) => rows.get(*i as usize).copied().flatten().map_or(Kind::F, |v| v.kind),
            Inst::Const(_, dtype) => kind_of(*dtype),
            Inst::Unary(op, a) => match op {
                UnOp::Not | UnOp::IsFinite => Kind::M,
                UnOp::Neg | UnOp::Abs | UnOp::Sign => number(at(a)),
                UnOp::Floor | UnOp::Ceil | UnOp::Round => number(at(a)),
                UnOp::Recip | UnOp::Exp | UnOp::Log | UnOp::Sqrt | UnOp::Rsqrt => Kind::F,
                UnOp::Sin | UnOp::Cos | UnOp::Tanh | UnOp::Erf | UnOp::Sigmoid => Kind::F,
            },
            Inst::Binary(op, a, b) => match op {
                BinOp::Div | BinOp::Pow => Kind::F,
                op if op.is_bool() => Kind::M,
                BinOp::Add | BinOp::Sub | BinOp::Mul | BinOp::Min | BinOp::Max | BinOp::Mod => {
                    number(joined(at(a), at(b)))
                }
                BinOp::Lt | BinOp::Le | BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => Kind::M,
            },
            Inst::Select(_, a, b) => joined(at(a), at(b)),
            Inst::Cast(dtype, _) => match dtype {
                DType::F32 | DType::Bf16 | DType::F16 => Kind::F,
                DType::I32 => Kind::I,
                DType::Bool => Kind::M,
            },
            Inst::Random { .. } => Kind::F,
        });
    }
    kinds
}

/// The identity of a reduction of values of `kind`.
pub(super) fn identity(ops: &mut Ops<'_, '_>, op: ReduceOp, kind: Kind) -> Val {
    match (op, kind) {
        (_, Kind::F) => ops.float(op.identity() as f32),
        (ReduceOp::Sum, Kind::I | Kind::M) => ops.int(0),
        (ReduceOp::Prod, Kind::I | Kind::M) => ops.int(1),
        (ReduceOp::Max, Kind::I | Kind::M) => ops.int(i32::MIN),
        (ReduceOp::Min, Kind::I | Kind::M) => ops.int(i32::MAX),
    }
}

/// One step of a reduction; both f32 or both i32.
pub(super) fn combine(ops: &mut Ops<'_, '_>, op: ReduceOp, a: Val, b: Val) -> Val {
    match (op, a.kind) {
        (ReduceOp::Sum, Kind::F) => ops.add(a, b),
        (ReduceOp::Max, Kind::F) => ops.max(a, b),
        (ReduceOp::Min, Kind::F) => ops.min(a, b),
        (ReduceOp::Prod, Kind::F) => ops.mul(a, b),
        (ReduceOp::Sum, Kind::I | Kind::M) => ops.iadd(a, b),
        (ReduceOp::Max, Kind::I | Kind::M) => ops.imax(a, b),
        (ReduceOp::Min, Kind::I | Kind::M) => ops.imin(a, b),
        (ReduceOp::Prod, Kind::I | Kind::M) => ops.imul(a, b),
    }
}

/// A number as it is reduced: truth values are counted.
pub(super) fn reduced(ops: &mut Ops<'_, '_>, value: Val) -> Val {
    if value.kind == Kind::M { ops.to_i(value) } else { value }
}

// --- memory ---

struct Load<'l, 'p> {
    place: &'l Place<'p>,
    operand: usize,
    indices: Vec<(Val, &'l Indirect)>,
    guards: &'l [Guard],
    outside: Literal,
}

impl Load<'_, '_> {
    fn emit(&self, ops: &mut Ops<'_, '_>) -> Val {
        let place = self.place;
        let operand = &place.operands[self.operand];
        let stride = place.inner_stride(self.operand);
        let wide_index = self.indices.iter().any(|(i, _)| i.wide);
        let inner_guard = self.guards.iter().any(|g| place.on_inner(g));
        if !place.wide || stride == 0 && !wide_index && !inner_guard {
            return self.one(ops, 0);
        }
        if stride != 1 || wide_index {
            return ops.each(true, |ops, lane| self.one(ops, lane));
        }
        if !inner_guard {
            let ok = self.valid(ops, 0);
            return self.four(ops, operand.dtype, ok);
        }
        // A guard is linear, so what holds for the first and the last lane holds between them.
        let first = self.valid(ops, 0);
        let last = self.valid(ops, LANES - 1);
        let ok = match (first, last) {
            (Some(a), Some(b)) => ops.b.ins().band(a, b),
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => return self.four(ops, operand.dtype, None),
        };
        let kind = kind_of(operand.dtype);
        let (fast, slow, done) = (ops.b.create_block(), ops.b.create_block(), ops.b.create_block());
        let result = ops.b.append_block_param(done, type_of(kind, true));
        ops.b.ins().brif(ok, fast, &[], slow, &[]);
        ops.b.switch_to_block(fast);
        let v = self.four(ops, operand.dtype, None);
        ops.b.ins().jump(done, &[v.v.into()]);
        ops.b.switch_to_block(slow);
        let v = ops.each(true, |ops, lane| self.one(ops, lane));
        ops.b.ins().jump(done, &[v.v.into()]);
        ops.b.switch_to_block(done);
        Val { v: result, kind, wide: true }
    }

    /// One element, of the given lane.
    fn one(&self, ops: &mut Ops<'_, '_>, lane: usize) -> Val {
        let dtype = self.place.operands[self.operand].dtype;
        let ok = self.valid(ops, lane);
        let address = self.address(ops, lane, ok);
        let value = load_one(ops, dtype, address);
        self.or_outside(ops, value, ok, dtype)
    }

    /// Four neighbours in memory.
    fn four(&self, ops: &mut Ops<'_, '_>, dtype: DType, ok: Option<Value>) -> Val {
        let address = self.address(ops, 0, ok);
        let value = load_four(ops, dtype, address);
        self.or_outside(ops, value, ok, dtype)
    }

    fn or_outside(
        &self,
        ops: &mut Ops<'_, '_>,
        value: Val,
        ok: Option<Value>,
        dtype: DType,
    ) -> Val {
        let Some(ok) = ok else { return value };
        let outside = constant(ops, self.outside, dtype);
        ops.select(Val { v: ok, kind: Kind::M, wide: false }, value, outside)
    }

    /// Whether the element of a lane may be read; none: always.
    fn valid(&self, ops: &mut Ops<'_, '_>, lane: usize) -> Option<Value> {
        let mut all: Option<Value> = None;
        let mut also = |ops: &mut Ops<'_, '_>, ok: Value| {
            all = Some(match all {
                Some(before) => ops.b.ins().band(before, ok),
                None => ok,
            });
        };
        for (index, indirect) in &self.indices {
            let index = ops.lane(*index, lane).v;
            let index = ops.b.ins().sextend(types::I64, index);
            // As unsigned numbers the negative ones are too large.
            let ok = ops.b.ins().icmp_imm_s(IntCC::UnsignedLessThan, index, indirect.limit);
            also(ops, ok);
        }
        for guard in self.guards {
            let mut sum = ops.b.ins().iconst(types::I64, guard.offset);
            for (axis, coefficient) in &guard.terms {
                let axis = *axis as usize;
                let coordinate = match self.place.inner {
                    Some((inner, v)) if inner == axis => ops.b.ins().iadd_imm_s(v, lane as i64),
                    _ => self.place.coords[axis],
                };
                let term = ops.b.ins().imul_imm_s(coordinate, *coefficient);
                sum = ops.b.ins().iadd(sum, term);
            }
            let ok = ops.b.ins().icmp_imm_s(IntCC::UnsignedLessThan, sum, guard.limit);
            also(ops, ok);
        }
        all
    }

    fn address(&self, ops: &mut Ops<'_, '_>, lane: usize, ok: Option<Value>) -> Value {
        let size = self.place.operands[self.operand].dtype.bytes() as i64;
        let mut address = element(ops, self.place, self.operand, lane);
        for (index, indirect) in &self.indices {
            let index = ops.lane(*index, lane).v;
            let index = ops.b.ins().sextend(types::I64, index);
            let bytes = ops.b.ins().imul_imm_s(index, indirect.stride * size);
            address = ops.b.ins().iadd(address, bytes);
        }
        match ok {
            Some(ok) => ops.b.ins().select(ok, address, self.place.nowhere),
            None => address,
        }
    }
}

/// The address of a lane's element.
fn element(ops: &mut Ops<'_, '_>, place: &Place<'_>, operand: usize, lane: usize) -> Value {
    let base = place.bases[operand];
    let bytes = place.inner_stride(operand) * place.operands[operand].dtype.bytes() as i64;
    match place.inner {
        Some((_, at)) if bytes != 0 => {
            let at = if lane == 0 { at } else { ops.b.ins().iadd_imm_s(at, lane as i64) };
            let offset = ops.b.ins().imul_imm_s(at, bytes);
            ops.b.ins().iadd(base, offset)
        }
        _ => base,
    }
}

/// What loads of a stored type yield.
pub(super) fn kind_of(dtype: DType) -> Kind {
    match dtype {
        DType::F32 | DType::Bf16 | DType::F16 => Kind::F,
        DType::I32 | DType::Bool => Kind::I,
    }
}

fn load_one(ops: &mut Ops<'_, '_>, dtype: DType, address: Value) -> Val {
    let ints = |v| Val { v, kind: Kind::I, wide: false };
    match dtype {
        DType::F32 | DType::I32 => {
            let kind = kind_of(dtype);
            let v = ops.b.ins().load(type_of(kind, false), plain(), address, 0);
            Val { v, kind, wide: false }
        }
        DType::Bf16 => {
            let v = ops.b.ins().uload16(types::I32, plain(), address, 0);
            ops.from_bf16(ints(v))
        }
        DType::F16 => {
            let v = ops.b.ins().uload16(types::I32, plain(), address, 0);
            ops.from_f16(ints(v))
        }
        DType::Bool => ints(ops.b.ins().uload8(types::I32, plain(), address, 0)),
    }
}

fn load_four(ops: &mut Ops<'_, '_>, dtype: DType, address: Value) -> Val {
    let ints = |v| Val { v, kind: Kind::I, wide: true };
    match dtype {
        DType::F32 | DType::I32 => {
            let kind = kind_of(dtype);
            let v = ops.b.ins().load(type_of(kind, true), plain(), address, 0);
            Val { v, kind, wide: true }
        }
        DType::Bf16 => {
            let v = ops.b.ins().uload16x4(plain(), address, 0);
            ops.from_bf16(ints(v))
        }
        DType::F16 => {
            let v = ops.b.ins().uload16x4(plain(), address, 0);
            ops.from_f16(ints(v))
        }
        DType::Bool => {
            let four = ops.b.ins().load(types::I32, plain(), address, 0);
            let lanes = [0, 8, 16, 24].map(|by| {
                let v = ops.b.ins().ushr_imm_u(four, by);
                Val { v: ops.b.ins().band_imm_u(v, 0xff), kind: Kind::I, wide: false }
            });
            ops.gather(lanes)
        }
    }
}

/// Stores a value, or adds it to what is there.
pub(super) fn store(
    ops: &mut Ops<'_, '_>,
    place: &Place<'_>,
    operand: usize,
    value: Val,
    add: bool,
) {
    let dtype = place.operands[operand].dtype;
    let stride = place.inner_stride(operand);
    let kind = if dtype == DType::Bool { Kind::M } else { kind_of(dtype) };
    let value = ops.to(kind, value);
    if place.wide && stride == 1 {
        let mut value = ops.widen(value);
        let address = element(ops, place, operand, 0);
        if add {
            let before = load_four(ops, dtype, address);
            value = combine(ops, ReduceOp::Sum, before, value);
        }
        return store_four(ops, dtype, value, address);
    }
    for lane in 0..if place.wide { LANES } else { 1 } {
        let mut one = ops.lane(value, lane);
        let address = element(ops, place, operand, lane);
        if add {
            let before = load_one(ops, dtype, address);
            one = combine(ops, ReduceOp::Sum, before, one);
        }
        store_one(ops, dtype, one, address);
    }
}

fn store_one(ops: &mut Ops<'_, '_>, dtype: DType, value: Val, address: Value) {
    match dtype {
        DType::F32 | DType::I32 => {
            ops.b.ins().store(plain(), value.v, address, 0);
        }
        DType::Bf16 => {
            let x = ops.to_bf16(value);
            ops.b.ins().istore16(plain(), x.v, address, 0);
        }
        DType::F16 => {
            let x = ops.to_f16(value);
            ops.b.ins().istore16(plain(), x.v, address, 0);
        }
        DType::Bool => {
            let x = ops.to_m(value);
            let x = ops.to_i(x);
            ops.b.ins().istore8(plain(), x.v, address, 0);
        }
    }
}

fn store_four(ops: &mut Ops<'_, '_>, dtype: DType, value: Val, address: Value) {
    match dtype {
        DType::F32 | DType::I32 => {
            ops.b.ins().store(plain(), value.v, address, 0);
        }
        DType::Bf16 | DType::F16 => {
            let x = if dtype == DType::Bf16 { ops.to_bf16(value) } else { ops.to_f16(value) };
            let packed = ops.pack16(x);
            ops.b.ins().store(plain(), packed, address, 0);
        }
        DType::Bool => {
            let m = ops.to_m(value);
            for lane in 0..LANES {
                let one = ops.lane(m, lane);
                ops.b.ins().store(plain(), one.v, address, lane as i32);
            }
        }
    }
}
