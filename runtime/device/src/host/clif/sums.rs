//! A [`Program`] over f64 columns as a Cranelift function that adds the sums of its results over points.
//!
//! # The function
//! Of the shared signature: the table of operands has the address of the uniforms, of each column, of each scratch strip, and of the results;
//! `first` points are done, an even number. Two sums per result (even and odd points) are read from the results and written back.
//!
//! # Phases
//! Arithmetic runs in vectors of two f64, all of it for a pair of points in registers. Exponentials, logarithms and their like are
//! computed for all points at once by [`Strip`](super::Extern::Strip), whose vectors are as wide as the machine's (Cranelift has none of more than 128 bits).
//! So the body falls into loops, with calls between them: a value belongs to the loop after the last call that it waits for. What a
//! later loop reads is stored in a strip of scratch memory; what does not depend on the point is computed once, before the loops.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{FuncRef, InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;
use cs336_compiler::law::program::Program;
use cs336_compiler::law::{classes, reads};
use cs336_compiler::scalar::{BinOp, Inst, UnOp};

use super::function::Function;

/// The function that an instruction is, if it is computed on strips.
fn function(inst: &Inst) -> Option<Function> {
    match inst {
        Inst::Unary(UnOp::Round, _) => Some(Function::Round),
        Inst::Unary(op, _) => Function::of_unary(*op),
        Inst::Binary(op, ..) => Function::of_binary(*op),
        Inst::Arg(_) | Inst::Const(_) | Inst::Select(..) => None,
        Inst::Pos(_) | Inst::Runtime(_) | Inst::Random(..) | Inst::Cast(..) => None,
    }
}

/// Where the parts of a program are.
struct Layout {
    /// Of each instruction: does it depend on the point?
    varies: Vec<bool>,
    /// Of each instruction: the loop in which its value is there.
    phase: Vec<usize>,
    /// Of each instruction: its strip of scratch memory.
    strip: Vec<Option<usize>>,
    strips: usize,
    phases: usize,
}

impl Layout {
    fn of(p: &Program) -> Self {
        let uniforms = p.uniforms as u32;
        let varies: Vec<bool> =
            classes(&p.insts, &|i| u8::from(i >= uniforms)).into_iter().map(|c| c != 0).collect();
        let mut phase = vec![0; p.insts.len()];
        let is_strip = |i: usize| varies[i] && function(&p.insts[i]).is_some();
        for (i, inst) in p.insts.iter().enumerate() {
            let inputs = reads(inst).into_iter().map(|r| phase[r as usize]).max().unwrap_or(0);
            phase[i] = if is_strip(i) { inputs + 1 } else { inputs };
        }
        let mut stored = vec![false; p.insts.len()];
        for (i, inst) in p.insts.iter().enumerate() {
            for r in reads(inst) {
                let r = r as usize;
                let is_column = matches!(p.insts[r], Inst::Arg(_));
                if varies[r] && !is_column && (is_strip(i) || phase[r] < phase[i]) {
                    stored[r] = true;
                }
            }
            stored[i] |= is_strip(i);
        }
        let mut strips = 0;
        let strip = stored
            .iter()
            .map(|s| {
                strips += usize::from(*s);
                s.then(|| strips - 1)
            })
            .collect();
        let phases = phase.iter().max().map_or(1, |p| p + 1);
        Self { varies, phase, strip, strips, phases }
    }
}

/// Emits the function; gives the number of scratch strips.
pub(super) fn emit(p: &Program, b: &mut FunctionBuilder<'_>, strip: FuncRef) -> usize {
    let layout = Layout::of(p);
    let entry = b.create_block();
    b.append_block_params_for_function_params(entry);
    b.switch_to_block(entry);
    let table = b.block_params(entry)[0];
    let count = b.block_params(entry)[2];
    let address = |b: &mut FunctionBuilder<'_>, i: usize| {
        b.ins().load(types::I64, memory(), table, (8 * i) as i32)
    };
    let uniforms = address(b, 0);
    let columns: Vec<Value> = (0..p.columns).map(|c| address(b, 1 + c)).collect();
    let first = 1 + p.columns;
    let scratch: Vec<Value> = (0..layout.strips + 1).map(|s| address(b, first + s)).collect();
    let results = address(b, first + layout.strips + 1);
    let spare = scratch[layout.strips];

    let mut e = Emit { b, p, values: vec![None; p.insts.len()] };
    // What is the same at all points, twice in a vector.
    for i in 0..p.insts.len() {
        if layout.varies[i] {
            continue;
        }
        let v = match &p.insts[i] {
            Inst::Arg(u) => {
                let v = e.b.ins().load(types::F64, memory(), uniforms, (8 * u) as i32);
                e.b.ins().splat(types::F64X2, v)
            }
            Inst::Const(l) => {
                let v = e.b.ins().f64const(l.get());
                e.b.ins().splat(types::F64X2, v)
            }
            inst => match function(inst) {
                Some(f) => {
                    // The spare strip has room for two vectors.
                    let inputs = reads(inst);
                    let a = e.value(inputs[0] as usize);
                    e.b.ins().store(memory(), a, spare, 0);
                    if let Some(second) = inputs.get(1) {
                        let second = e.value(*second as usize);
                        e.b.ins().store(memory(), second, spare, 16);
                    }
                    let (f, two) =
                        (e.b.ins().iconst(types::I64, f.number()), e.b.ins().iconst(types::I64, 2));
                    let other = e.b.ins().iadd_imm_s(spare, 16);
                    e.b.ins().call(strip, &[f, spare, other, spare, two]);
                    e.b.ins().load(types::F64X2, memory(), spare, 0)
                }
                None => e.arithmetic(i),
            },
        };
        e.values[i] = Some(v);
    }

    for phase in 0..layout.phases {
        let here: Vec<usize> = (0..p.insts.len())
            .filter(|i| {
                layout.varies[*i]
                    && layout.phase[*i] == phase
                    && !matches!(p.insts[*i], Inst::Arg(_))
                    && function(&p.insts[*i]).is_none()
            })
            .collect();
        // A result that does not vary is summed in the first loop.
        let sums: Vec<usize> = (0..p.results.len())
            .filter(|r| layout.phase[p.results[*r] as usize] == phase)
            .collect();
        if !here.is_empty() || !sums.is_empty() {
            one_loop(&mut e, &layout, &here, &sums, (&columns, &scratch), results, count);
        }
        for i in 0..p.insts.len() {
            let Some(f) = function(&p.insts[i]) else { continue };
            if !layout.varies[i] || layout.phase[i] != phase + 1 {
                continue;
            }
            let mut inputs = Vec::new();
            for r in reads(&p.insts[i]) {
                let r = r as usize;
                inputs.push(match (&p.insts[r], layout.strip[r]) {
                    (Inst::Arg(c), _) if layout.varies[r] => columns[*c as usize - p.uniforms],
                    (_, Some(s)) => scratch[s],
                    // The same number at all points: written out as a strip of its own is not worth it; it is filled in here.
                    (_, None) => {
                        let v = e.value(r);
                        fill(&mut e, v, spare, count);
                        spare
                    }
                });
            }
            let out = scratch[layout.strip[i].unwrap_or(layout.strips)];
            let f = e.b.ins().iconst(types::I64, f.number());
            let second = inputs.get(1).copied().unwrap_or(inputs[0]);
            e.b.ins().call(strip, &[f, inputs[0], second, out, count]);
        }
    }
    e.b.ins().return_(&[]);
    layout.strips + 1
}

fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

struct Emit<'a, 'f, 'p> {
    b: &'a mut FunctionBuilder<'f>,
    p: &'p Program,
    values: Vec<Option<Value>>,
}

/// Writes a number to all places of a strip.
fn fill(e: &mut Emit<'_, '_, '_>, v: Value, strip: Value, count: Value) {
    let (body, done) = (e.b.create_block(), e.b.create_block());
    let i = e.b.append_block_param(body, types::I64);
    let zero = e.b.ins().iconst(types::I64, 0);
    e.b.ins().jump(body, &[zero.into()]);
    e.b.switch_to_block(body);
    let offset = e.b.ins().ishl_imm_u(i, 3);
    let at = e.b.ins().iadd(strip, offset);
    e.b.ins().store(memory(), v, at, 0);
    let next = e.b.ins().iadd_imm_s(i, 2);
    let more = e.b.ins().icmp(IntCC::SignedLessThan, next, count);
    e.b.ins().brif(more, body, &[next.into()], done, &[]);
    e.b.switch_to_block(done);
}

/// The loop of a phase: two points at a time.
fn one_loop(
    e: &mut Emit<'_, '_, '_>,
    layout: &Layout,
    here: &[usize],
    sums: &[usize],
    (columns, scratch): (&[Value], &[Value]),
    results: Value,
    count: Value,
) {
    let p = e.p;
    let (body, done) = (e.b.create_block(), e.b.create_block());
    let i = e.b.append_block_param(body, types::I64);
    let mut start = vec![e.b.ins().iconst(types::I64, 0).into()];
    for s in sums {
        start.push(e.b.ins().load(types::F64X2, memory(), results, (16 * s) as i32).into());
    }
    let totals: Vec<Value> =
        sums.iter().map(|_| e.b.append_block_param(body, types::F64X2)).collect();
    e.b.ins().jump(body, &start);
    e.b.switch_to_block(body);
    let offset = e.b.ins().ishl_imm_u(i, 3);
    // Values of earlier phases are read where they are needed first.
    for v in 0..p.insts.len() {
        if layout.varies[v] {
            e.values[v] = None;
        }
    }
    let fetch = |e: &mut Emit<'_, '_, '_>, r: usize| {
        if e.values[r].is_some() {
            return;
        }
        let base = match (&p.insts[r], layout.strip[r]) {
            (Inst::Arg(c), _) => columns[*c as usize - p.uniforms],
            (_, Some(s)) => scratch[s],
            // Computed in this loop.
            (_, None) => return,
        };
        let at = e.b.ins().iadd(base, offset);
        e.values[r] = Some(e.b.ins().load(types::F64X2, memory(), at, 0));
    };
    for i in here {
        for r in reads(&p.insts[*i]) {
            fetch(e, r as usize);
        }
        let v = e.arithmetic(*i);
        e.values[*i] = Some(v);
        if let Some(s) = layout.strip[*i] {
            let at = e.b.ins().iadd(scratch[s], offset);
            e.b.ins().store(memory(), v, at, 0);
        }
    }
    let mut next_totals = Vec::new();
    for (s, total) in sums.iter().zip(&totals) {
        let r = p.results[*s] as usize;
        fetch(e, r);
        let v = e.value(r);
        next_totals.push(e.b.ins().fadd(*total, v));
    }
    let next = e.b.ins().iadd_imm_s(i, 2);
    let more = e.b.ins().icmp(IntCC::SignedLessThan, next, count);
    let mut again = vec![next.into()];
    again.extend(next_totals.iter().map(|t| cranelift_codegen::ir::BlockArg::from(*t)));
    let ends: Vec<Value> =
        sums.iter().map(|_| e.b.append_block_param(done, types::F64X2)).collect();
    let leave: Vec<_> = next_totals.iter().map(|t| (*t).into()).collect();
    e.b.ins().brif(more, body, &again, done, &leave);
    e.b.switch_to_block(done);
    for (s, end) in sums.iter().zip(ends) {
        e.b.ins().store(memory(), end, results, (16 * s) as i32);
    }
}

impl Emit<'_, '_, '_> {
    fn value(&mut self, i: usize) -> Value {
        match self.values[i] {
            Some(v) => v,
            // Every operand stands before its instruction; a program that breaks this gives NaN, not memory.
            None => self.splat(f64::NAN),
        }
    }

    fn splat(&mut self, value: f64) -> Value {
        let v = self.b.ins().f64const(value);
        self.b.ins().splat(types::F64X2, v)
    }

    /// 1 where the mask is set, else 0.
    fn truth(&mut self, mask: Value) -> Value {
        let one = self.splat(1.0);
        let flags = MemFlagsData::new().with_endianness(cranelift_codegen::ir::Endianness::Little);
        let bits = self.b.ins().bitcast(types::I64X2, flags, one);
        let both = self.b.ins().band(mask, bits);
        self.b.ins().bitcast(types::F64X2, flags, both)
    }

    fn compare(&mut self, cc: FloatCC, a: Value, b: Value) -> Value {
        self.b.ins().fcmp(cc, a, b)
    }

    fn choose(&mut self, mask: Value, a: Value, b: Value) -> Value {
        let flags = MemFlagsData::new().with_endianness(cranelift_codegen::ir::Endianness::Little);
        let mask = self.b.ins().bitcast(types::F64X2, flags, mask);
        self.b.ins().bitselect(mask, a, b)
    }

    fn arithmetic(&mut self, i: usize) -> Value {
        let inst = self.p.insts[i].clone();
        match inst {
            Inst::Const(l) => self.splat(l.get()),
            Inst::Unary(op, a) => {
                let a = self.value(a as usize);
                self.unary(op, a)
            }
            Inst::Binary(op, a, b) => {
                let is_number =
                    matches!(&self.p.insts[a as usize], Inst::Const(l) if !l.get().is_nan());
                let (a, b) = (self.value(a as usize), self.value(b as usize));
                self.binary(op, a, b, is_number)
            }
            Inst::Select(c, a, b) => {
                let zero = self.splat(0.0);
                let c = self.value(c as usize);
                let (a, b) = (self.value(a as usize), self.value(b as usize));
                let mask = self.compare(FloatCC::NotEqual, c, zero);
                self.choose(mask, a, b)
            }
            // `compile` refuses programs with these.
            Inst::Arg(_) | Inst::Pos(_) | Inst::Runtime(_) | Inst::Random(..) | Inst::Cast(..) => {
                self.splat(f64::NAN)
            }
        }
    }

    fn unary(&mut self, op: UnOp, a: Value) -> Value {
        let zero = self.splat(0.0);
        match op {
            UnOp::Neg => self.b.ins().fneg(a),
            UnOp::Abs => self.b.ins().fabs(a),
            UnOp::Recip => {
                let one = self.splat(1.0);
                self.b.ins().fdiv(one, a)
            }
            UnOp::Sqrt => self.b.ins().sqrt(a),
            UnOp::Rsqrt => {
                let (one, root) = (self.splat(1.0), self.b.ins().sqrt(a));
                self.b.ins().fdiv(one, root)
            }
            UnOp::Floor => self.b.ins().floor(a),
            UnOp::Ceil => self.b.ins().ceil(a),
            UnOp::Sign => {
                let (above, below) = (
                    self.compare(FloatCC::GreaterThan, a, zero),
                    self.compare(FloatCC::LessThan, a, zero),
                );
                let (above, below) = (self.truth(above), self.truth(below));
                let sign = self.b.ins().fsub(above, below);
                // NaN stays NaN.
                let nan = self.compare(FloatCC::Unordered, a, a);
                self.choose(nan, a, sign)
            }
            UnOp::Not => {
                let mask = self.compare(FloatCC::Equal, a, zero);
                self.truth(mask)
            }
            UnOp::IsFinite => {
                let (size, most) = (self.b.ins().fabs(a), self.splat(f64::MAX));
                let mask = self.compare(FloatCC::LessThanOrEqual, size, most);
                self.truth(mask)
            }
            // On strips; see `function`.
            UnOp::Exp | UnOp::Log | UnOp::Sin | UnOp::Cos | UnOp::Tanh | UnOp::Erf => a,
            UnOp::Sigmoid | UnOp::Round => a,
        }
    }

    /// `is_number`: the left side is a number that is written in the program.
    fn binary(&mut self, op: BinOp, a: Value, b: Value, is_number: bool) -> Value {
        let compare = |e: &mut Self, cc: FloatCC| {
            let mask = e.compare(cc, a, b);
            e.truth(mask)
        };
        let both = |e: &mut Self, and: bool| {
            let zero = e.splat(0.0);
            let (x, y) =
                (e.compare(FloatCC::NotEqual, a, zero), e.compare(FloatCC::NotEqual, b, zero));
            let mask = if and { e.b.ins().band(x, y) } else { e.b.ins().bor(x, y) };
            e.truth(mask)
        };
        match op {
            BinOp::Add => self.b.ins().fadd(a, b),
            BinOp::Sub => self.b.ins().fsub(a, b),
            BinOp::Mul => self.b.ins().fmul(a, b),
            BinOp::Div => self.b.ins().fdiv(a, b),
            BinOp::Min | BinOp::Max => {
                let cc = if op == BinOp::Min { FloatCC::LessThan } else { FloatCC::GreaterThan };
                // A number on the left is taken only where the comparison holds; NaN on the right stays. One instruction.
                if is_number {
                    let (x, y) = if op == BinOp::Min { (a, b) } else { (b, a) };
                    let mask = self.compare(FloatCC::LessThan, x, y);
                    return self.choose(mask, a, b);
                }
                // Chosen both ways, the second is taken where one is NaN, so that NaN is in one of the two results; the bits of NaN survive `or`,
                // and equal numbers are their own.
                let mask = self.compare(cc, a, b);
                let there = self.choose(mask, a, b);
                let mask = self.compare(cc, b, a);
                let back = self.choose(mask, b, a);
                self.b.ins().bor(there, back)
            }
            BinOp::Lt => compare(self, FloatCC::LessThan),
            BinOp::Le => compare(self, FloatCC::LessThanOrEqual),
            BinOp::Eq => compare(self, FloatCC::Equal),
            BinOp::Ne => compare(self, FloatCC::NotEqual),
            BinOp::And => both(self, true),
            BinOp::Or => both(self, false),
            // On strips; see `function`.
            BinOp::Pow | BinOp::Mod => a,
        }
    }
}
