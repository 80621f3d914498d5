//! Values of a fused body while it is turned into CLIF: f32, i32 and truth values, each either one number (the same for
//! four neighbouring columns) or four lanes.
//!
//! An operator on single numbers yields a single number, so whatever does not depend on the innermost column is computed
//! once for four columns. Lanes and single numbers use the same operations in the same order: an element's value does not
//! depend on whether it fell into a vector or into the tail.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{FuncRef, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::FunctionBuilder;

use super::Extern;

/// Columns per vector.
pub(super) const LANES: usize = 4;

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// f32.
    F,
    /// i32.
    I,
    /// A truth value: i8 when single, all ones or all zeroes per lane when wide.
    M,
}

/// A CLIF value with what it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Val {
    pub(super) v: Value,
    pub(super) kind: Kind,
    pub(super) wide: bool,
}

/// Emits operations on [`Val`]s.
pub(super) struct Ops<'a, 'f> {
    pub(super) b: &'a mut FunctionBuilder<'f>,
    pub(super) calls: &'a dyn Fn(Extern) -> FuncRef,
}

pub(super) fn plain() -> MemFlagsData {
    MemFlagsData::new().with_notrap()
}

pub(super) fn type_of(kind: Kind, wide: bool) -> Type {
    match (kind, wide) {
        (Kind::F, false) => types::F32,
        (Kind::F, true) => types::F32X4,
        (Kind::I, false) => types::I32,
        (Kind::M, false) => types::I8,
        (Kind::I | Kind::M, true) => types::I32X4,
    }
}

impl<'f> Ops<'_, 'f> {
    fn val(v: Value, kind: Kind, wide: bool) -> Val {
        Val { v, kind, wide }
    }

    /// An f32 literal.
    pub(super) fn float(&mut self, x: f32) -> Val {
        Self::val(self.b.ins().f32const(x), Kind::F, false)
    }

    /// An i32 literal.
    pub(super) fn int(&mut self, x: i32) -> Val {
        Self::val(self.b.ins().iconst(types::I32, i64::from(x as u32)), Kind::I, false)
    }

    /// As four lanes.
    pub(super) fn widen(&mut self, x: Val) -> Val {
        if x.wide {
            return x;
        }
        let x = if x.kind == Kind::M {
            // A single truth value is a byte; a lane is a full mask.
            Self::val(self.b.ins().bmask(types::I32, x.v), Kind::M, false)
        } else {
            x
        };
        let v = self.b.ins().splat(type_of(x.kind, true), x.v);
        Self::val(v, x.kind, true)
    }

    fn both(&mut self, a: Val, b: Val) -> (Val, Val) {
        if a.wide || b.wide { (self.widen(a), self.widen(b)) } else { (a, b) }
    }

    /// One lane as a single number.
    pub(super) fn lane(&mut self, x: Val, lane: usize) -> Val {
        if !x.wide {
            return x;
        }
        let v = self.b.ins().extractlane(x.v, lane as u8);
        let kind = x.kind;
        let v = if kind == Kind::M { self.b.ins().icmp_imm_s(IntCC::NotEqual, v, 0) } else { v };
        Self::val(v, kind, false)
    }

    /// Four single numbers as lanes.
    pub(super) fn gather(&mut self, lanes: [Val; LANES]) -> Val {
        let mut out = self.widen(lanes[0]);
        for (i, lane) in lanes.iter().enumerate().skip(1) {
            out.v = self.b.ins().insertlane(out.v, lane.v, i as u8);
        }
        out
    }

    // --- conversions ---

    /// As f32.
    pub(super) fn to_f(&mut self, x: Val) -> Val {
        match x.kind {
            Kind::F => x,
            Kind::I => {
                let v = self.b.ins().fcvt_from_sint(type_of(Kind::F, x.wide), x.v);
                Self::val(v, Kind::F, x.wide)
            }
            Kind::M => {
                let (one, zero) = (self.float(1.0), self.float(0.0));
                self.select(x, one, zero)
            }
        }
    }

    /// As i32; floats are truncated (NaN becomes 0, out of range the nearest end).
    pub(super) fn to_i(&mut self, x: Val) -> Val {
        match x.kind {
            Kind::I => x,
            Kind::F => {
                let v = self.b.ins().fcvt_to_sint_sat(type_of(Kind::I, x.wide), x.v);
                Self::val(v, Kind::I, x.wide)
            }
            Kind::M if x.wide => {
                let one = self.int(1);
                let one = self.widen(one);
                let v = self.b.ins().band(x.v, one.v);
                Self::val(v, Kind::I, true)
            }
            Kind::M => {
                let v = self.b.ins().uextend(types::I32, x.v);
                Self::val(v, Kind::I, false)
            }
        }
    }

    /// As a truth value: not zero (NaN is true).
    pub(super) fn to_m(&mut self, x: Val) -> Val {
        match x.kind {
            Kind::M => x,
            Kind::I => {
                let zero = self.int(0);
                self.icmp(IntCC::NotEqual, x, zero)
            }
            Kind::F => {
                let zero = self.float(0.0);
                self.fcmp(FloatCC::NotEqual, x, zero)
            }
        }
    }

    /// As `kind`.
    pub(super) fn to(&mut self, kind: Kind, x: Val) -> Val {
        match kind {
            Kind::F => self.to_f(x),
            Kind::I => self.to_i(x),
            Kind::M => self.to_m(x),
        }
    }

    /// The bits of an f32 as i32.
    pub(super) fn bits(&mut self, x: Val) -> Val {
        let v = self.b.ins().bitcast(type_of(Kind::I, x.wide), MemFlagsData::new(), x.v);
        Self::val(v, Kind::I, x.wide)
    }

    /// The f32 with these bits.
    pub(super) fn from_bits(&mut self, x: Val) -> Val {
        let v = self.b.ins().bitcast(type_of(Kind::F, x.wide), MemFlagsData::new(), x.v);
        Self::val(v, Kind::F, x.wide)
    }

    // --- f32 ---

    fn float2(
        &mut self,
        a: Val,
        b: Val,
        f: impl Fn(&mut FunctionBuilder<'f>, Value, Value) -> Value,
    ) -> Val {
        let (a, b) = self.both(a, b);
        Self::val(f(self.b, a.v, b.v), Kind::F, a.wide)
    }

    /// The one of two that is less, or greater; NaN if either is. A comparison and a choice (in vectors one instruction of x86, which takes `a`
    /// unless `b` is better), and NaN of `b` is put in: a running extreme `a` waits for two instructions, not for the eight that
    /// Cranelift makes of its own. Of two zeroes it is `a`.
    fn extreme(&mut self, a: Val, b: Val, less: bool) -> Val {
        let wide = a.wide || b.wide;
        self.float2(a, b, |f, a, b| {
            let choose = |f: &mut FunctionBuilder<'f>, mask: Value, yes: Value, no: Value| {
                if !wide {
                    return f.ins().select(mask, yes, no);
                }
                let mask = f.ins().bitcast(types::F32X4, MemFlagsData::new(), mask);
                f.ins().bitselect(mask, yes, no)
            };
            let (low, high) = if less { (b, a) } else { (a, b) };
            let better = f.ins().fcmp(FloatCC::LessThan, low, high);
            let chosen = choose(f, better, b, a);
            let nan = f.ins().fcmp(FloatCC::Unordered, b, b);
            choose(f, nan, b, chosen)
        })
    }

    fn float1(&mut self, a: Val, f: impl Fn(&mut FunctionBuilder<'f>, Value) -> Value) -> Val {
        Self::val(f(self.b, a.v), Kind::F, a.wide)
    }

    pub(super) fn add(&mut self, a: Val, b: Val) -> Val {
        self.float2(a, b, |f, a, b| f.ins().fadd(a, b))
    }
    pub(super) fn sub(&mut self, a: Val, b: Val) -> Val {
        self.float2(a, b, |f, a, b| f.ins().fsub(a, b))
    }
    pub(super) fn mul(&mut self, a: Val, b: Val) -> Val {
        self.float2(a, b, |f, a, b| f.ins().fmul(a, b))
    }
    pub(super) fn div(&mut self, a: Val, b: Val) -> Val {
        self.float2(a, b, |f, a, b| f.ins().fdiv(a, b))
    }
    /// The smaller; NaN if either is.
    pub(super) fn min(&mut self, a: Val, b: Val) -> Val {
        self.extreme(a, b, true)
    }
    /// The larger; NaN if either is.
    pub(super) fn max(&mut self, a: Val, b: Val) -> Val {
        self.extreme(a, b, false)
    }
    /// a * b + c with one rounding.
    pub(super) fn fma(&mut self, a: Val, b: Val, c: Val) -> Val {
        let wide = a.wide || b.wide || c.wide;
        let [a, b, c] = [a, b, c].map(|x| if wide { self.widen(x) } else { x });
        Self::val(self.b.ins().fma(a.v, b.v, c.v), Kind::F, wide)
    }
    pub(super) fn neg(&mut self, a: Val) -> Val {
        self.float1(a, |f, a| f.ins().fneg(a))
    }
    pub(super) fn abs(&mut self, a: Val) -> Val {
        self.float1(a, |f, a| f.ins().fabs(a))
    }
    pub(super) fn sqrt(&mut self, a: Val) -> Val {
        self.float1(a, |f, a| f.ins().sqrt(a))
    }
    pub(super) fn floor(&mut self, a: Val) -> Val {
        self.float1(a, |f, a| f.ins().floor(a))
    }
    pub(super) fn ceil(&mut self, a: Val) -> Val {
        self.float1(a, |f, a| f.ins().ceil(a))
    }
    pub(super) fn nearest(&mut self, a: Val) -> Val {
        self.float1(a, |f, a| f.ins().nearest(a))
    }
    pub(super) fn fcmp(&mut self, cc: FloatCC, a: Val, b: Val) -> Val {
        let (a, b) = self.both(a, b);
        Self::val(self.b.ins().fcmp(cc, a.v, b.v), Kind::M, a.wide)
    }
    // --- i32 and truth values ---

    fn int2(
        &mut self,
        a: Val,
        b: Val,
        f: impl Fn(&mut FunctionBuilder<'f>, Value, Value) -> Value,
    ) -> Val {
        let (a, b) = self.both(a, b);
        Self::val(f(self.b, a.v, b.v), a.kind, a.wide)
    }
    pub(super) fn iadd(&mut self, a: Val, b: Val) -> Val {
        self.int2(a, b, |f, a, b| f.ins().iadd(a, b))
    }
    pub(super) fn isub(&mut self, a: Val, b: Val) -> Val {
        self.int2(a, b, |f, a, b| f.ins().isub(a, b))
    }
    pub(super) fn imul(&mut self, a: Val, b: Val) -> Val {
        self.int2(a, b, |f, a, b| f.ins().imul(a, b))
    }
    pub(super) fn imin(&mut self, a: Val, b: Val) -> Val {
        self.int2(a, b, |f, a, b| f.ins().smin(a, b))
    }
    pub(super) fn imax(&mut self, a: Val, b: Val) -> Val {
        self.int2(a, b, |f, a, b| f.ins().smax(a, b))
    }
    /// Bitwise and; on truth values: both.
    pub(super) fn band(&mut self, a: Val, b: Val) -> Val {
        self.int2(a, b, |f, a, b| f.ins().band(a, b))
    }
    /// Bitwise or; on truth values: either.
    pub(super) fn bor(&mut self, a: Val, b: Val) -> Val {
        self.int2(a, b, |f, a, b| f.ins().bor(a, b))
    }
    pub(super) fn shl(&mut self, a: Val, by: i64) -> Val {
        let by = self.b.ins().iconst(types::I32, by);
        Self::val(self.b.ins().ishl(a.v, by), a.kind, a.wide)
    }
    /// Shift to the right, zeroes in.
    pub(super) fn shr(&mut self, a: Val, by: i64) -> Val {
        let by = self.b.ins().iconst(types::I32, by);
        Self::val(self.b.ins().ushr(a.v, by), a.kind, a.wide)
    }
    pub(super) fn icmp(&mut self, cc: IntCC, a: Val, b: Val) -> Val {
        let (a, b) = self.both(a, b);
        Self::val(self.b.ins().icmp(cc, a.v, b.v), Kind::M, a.wide)
    }
    /// The opposite truth value.
    pub(super) fn not(&mut self, m: Val) -> Val {
        if m.wide {
            Self::val(self.b.ins().bnot(m.v), Kind::M, true)
        } else {
            Self::val(self.b.ins().bxor_imm_u(m.v, 1), Kind::M, false)
        }
    }

    /// `if c then a else b`; a and b of one kind, c a truth value.
    pub(super) fn select(&mut self, c: Val, a: Val, b: Val) -> Val {
        let (a, b) = self.both(a, b);
        if !c.wide && !a.wide {
            return Self::val(self.b.ins().select(c.v, a.v, b.v), a.kind, false);
        }
        let (c, a, b) = (self.widen(c), self.widen(a), self.widen(b));
        let ty = type_of(a.kind, true);
        let mask = if ty == types::I32X4 {
            c.v
        } else {
            self.b.ins().bitcast(ty, MemFlagsData::new(), c.v)
        };
        Self::val(self.b.ins().bitselect(mask, a.v, b.v), a.kind, true)
    }

    // --- calls ---

    /// Calls out for two numbers or for each pair of lanes.
    pub(super) fn call2(&mut self, call: Extern, a: Val, b: Val, kind: Kind) -> Val {
        let (a, b) = self.both(a, b);
        self.each(a.wide, |ops, lane| {
            let (a, b) = (ops.lane(a, lane), ops.lane(b, lane));
            ops.call(call, &[a.v, b.v], kind)
        })
    }

    /// Once, or per lane.
    pub(super) fn each(&mut self, wide: bool, mut f: impl FnMut(&mut Self, usize) -> Val) -> Val {
        if wide {
            let lanes = [f(self, 0), f(self, 1), f(self, 2), f(self, 3)];
            self.gather(lanes)
        } else {
            f(self, 0)
        }
    }

    pub(super) fn call(&mut self, call: Extern, args: &[Value], kind: Kind) -> Val {
        let callee = (self.calls)(call);
        let inst = self.b.ins().call(callee, args);
        let v = self.b.inst_results(inst)[0];
        Self::val(v, kind, false)
    }
}
