//! A law as a solver wants it: coordinates, and sums of positive terms as shifted log-sum-exp.
//!
//! Takes a [`Law`] and whether residuals are differences of logarithms; gives an expression over *coordinates* (one per constant, in order) and
//! columns that are computed from the data once. A constant whose range is positive and that is no exponent is found as its
//! logarithm, so that scales of 1 and of 1e6 are as easy to reach; the others as they are.
//!
//! A product of powers is `exp` of a sum, `A / N^alpha = exp(a - alpha ln N)`, and on logarithms a sum of such products is
//! `ln Σ exp(t_i) = m + ln Σ exp(t_i - m)` with m the largest t_i, which cannot overflow (Hoffmann et al. 2022, section D.2, equation 3).
//! Where the ranges of the constants and the data show that no exp(t_i) can leave the numbers, m is left out: it costs a third of the objective.
//! What is not known to be positive is left as it was written, behind a plain logarithm.

use crate::law::{Law, classes, reads};
use crate::scalar::{BinOp, Expr, Inst, Literal, Ref, UnOp};

/// How a constant is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coordinate {
    /// As it is.
    Plain,
    /// As its logarithm.
    Log,
}

impl Coordinate {
    /// From a constant to its coordinate.
    pub fn of(self, constant: f64) -> f64 {
        match self {
            Self::Plain => constant,
            Self::Log => constant.ln(),
        }
    }

    /// From a coordinate to its constant.
    pub fn constant(self, at: f64) -> f64 {
        match self {
            Self::Plain => at,
            Self::Log => at.exp(),
        }
    }

    /// d constant / d coordinate, for a constant.
    pub fn slope(self, constant: f64) -> f64 {
        match self {
            Self::Plain => 1.0,
            Self::Log => constant,
        }
    }
}

/// A law ready for a solver.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// One for each constant.
    pub coordinates: Vec<Coordinate>,
    /// The value of the formula, or its logarithm, over coordinates and then the columns of `derived`.
    pub value: Expr,
    /// Instructions of `value` that shift a sum: they change nothing, so they have no slope.
    pub shifts: Vec<Ref>,
    /// Columns, as expressions over the law's own arguments, of which they read columns only.
    pub derived: Vec<Expr>,
    /// The measured side, or its logarithm, over the law's own arguments.
    pub measured: Expr,
}

/// Terms between these ends need no shift: a sum of thousands of them, and a quotient of two, is a normal number with all its digits.
const FAR: f64 = 300.0;

/// Prepares a law. `range` says of an expression over columns between which numbers it lies on all rows; NaN where it is not finite.
pub fn prepare(law: &Law, on_log: bool, range: &dyn Fn(&Expr) -> (f64, f64)) -> Prepared {
    let exponents = in_exponents(law);
    let coordinates = law
        .constants
        .iter()
        .enumerate()
        .map(
            |(i, c)| {
                if c.low > 0.0 && !exponents[i] { Coordinate::Log } else { Coordinate::Plain }
            },
        )
        .collect();
    let count = law.constants.len() as u32;
    let mut w = Writer {
        law,
        old: &law.formula.insts,
        class: classes(&law.formula.insts, &|i| if i < count { CONSTANT } else { COLUMN }),
        coordinates,
        new: Expr { insts: Vec::new(), result: 0 },
        shifts: Vec::new(),
        derived: Vec::new(),
        range,
    };
    let root = law.formula.result;
    w.new.result = if on_log { w.log(root) } else { w.plain(root) };
    let mut measured = law.measured.clone();
    if on_log {
        measured.result = measured.push(Inst::Unary(UnOp::Log, measured.result));
    }
    Prepared {
        coordinates: w.coordinates,
        value: w.new,
        shifts: w.shifts,
        derived: w.derived,
        measured,
    }
}

/// The instructions that a value is made of, and only those.
pub fn part(insts: &[Inst], root: Ref) -> Expr {
    let mut out = Expr { insts: Vec::new(), result: 0 };
    let mut moved: Vec<Option<Ref>> = vec![None; insts.len()];
    let mut used = vec![false; insts.len()];
    used[root as usize] = true;
    for i in (0..=root as usize).rev() {
        if used[i] {
            reads(&insts[i]).into_iter().for_each(|r| used[r as usize] = true);
        }
    }
    for i in (0..=root as usize).filter(|i| used[*i]) {
        let at = |r: &Ref| moved[*r as usize].unwrap_or(0);
        let inst = match &insts[i] {
            Inst::Arg(_) | Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) => insts[i].clone(),
            Inst::Unary(op, a) => Inst::Unary(*op, at(a)),
            Inst::Binary(op, a, b) => Inst::Binary(*op, at(a), at(b)),
            Inst::Select(a, b, c) => Inst::Select(at(a), at(b), at(c)),
            Inst::Cast(dtype, a) => Inst::Cast(*dtype, at(a)),
            Inst::Random(dist, s, c) => Inst::Random(*dist, *s, [at(&c[0]), at(&c[1]), at(&c[2])]),
        };
        moved[i] = Some(out.push(inst));
    }
    out.result = moved[root as usize].unwrap_or(0);
    out
}

const CONSTANT: u8 = 1;
const COLUMN: u8 = 2;

/// Which constants stand in an exponent.
fn in_exponents(law: &Law) -> Vec<bool> {
    let insts = &law.formula.insts;
    let mut found = vec![false; law.constants.len()];
    for inst in insts {
        if let Inst::Binary(BinOp::Pow, _, e) = inst {
            for inside in &part(insts, *e).insts {
                if let Inst::Arg(i) = inside
                    && let Some(f) = found.get_mut(*i as usize)
                {
                    *f = true;
                }
            }
        }
    }
    found
}

struct Writer<'a> {
    law: &'a Law,
    old: &'a [Inst],
    class: Vec<u8>,
    coordinates: Vec<Coordinate>,
    new: Expr,
    shifts: Vec<Ref>,
    derived: Vec<Expr>,
    range: &'a dyn Fn(&Expr) -> (f64, f64),
}

impl Writer<'_> {
    fn number(&mut self, value: f64) -> Ref {
        self.new.push(Inst::Const(Literal::new(value)))
    }

    fn unary(&mut self, op: UnOp, a: Ref) -> Ref {
        if let Inst::Const(l) = &self.new.insts[a as usize] {
            let value = op.eval(l.get());
            return self.number(value);
        }
        match (op, self.new.insts[a as usize].clone()) {
            (UnOp::Exp, Inst::Unary(UnOp::Log, b)) | (UnOp::Log, Inst::Unary(UnOp::Exp, b)) => b,
            _ => self.new.push(Inst::Unary(op, a)),
        }
    }

    fn binary(&mut self, op: BinOp, a: Ref, b: Ref) -> Ref {
        let literal = |r: Ref| match &self.new.insts[r as usize] {
            Inst::Const(l) => Some(l.get()),
            _ => None,
        };
        match (op, literal(a), literal(b)) {
            (_, Some(x), Some(y)) => self.number(op.eval(x, y)),
            (BinOp::Add, Some(0.0), None) | (BinOp::Mul, Some(1.0), None) => b,
            (BinOp::Add | BinOp::Sub, None, Some(0.0)) => a,
            (BinOp::Mul | BinOp::Div | BinOp::Pow, None, Some(1.0)) => a,
            (BinOp::Sub, Some(0.0), None) => self.unary(UnOp::Neg, b),
            _ => self.new.push(Inst::Binary(op, a, b)),
        }
    }

    /// A column that is computed once.
    fn derive(&mut self, e: Expr) -> Ref {
        let at = match self.derived.iter().position(|d| *d == e) {
            Some(at) => at,
            None => {
                self.derived.push(e);
                self.derived.len() - 1
            }
        };
        self.new.push(Inst::Arg((self.law.constants.len() + at) as u32))
    }

    /// What reads no constant: a number or a column.
    fn fixed(&mut self, r: Ref, log: bool) -> Ref {
        let mut e = part(self.old, r);
        if log {
            e.result = e.push(Inst::Unary(UnOp::Log, e.result));
        }
        if self.class[r as usize] == 0 {
            let value = e.eval(&|_| f64::NAN, &|_| f64::NAN, &|_| f64::NAN);
            return self.number(value);
        }
        self.derive(e)
    }

    /// True if the value is above zero wherever the constants are in their ranges.
    fn is_positive(&self, r: Ref) -> bool {
        let at = |r: &Ref| self.is_positive(*r);
        if self.class[r as usize] & CONSTANT == 0 {
            let (low, high) = (self.range)(&part(self.old, r));
            return low > 0.0 && high.is_finite();
        }
        match &self.old[r as usize] {
            Inst::Arg(i) => self.law.constants[*i as usize].low > 0.0,
            Inst::Binary(BinOp::Add | BinOp::Mul | BinOp::Div | BinOp::Min, a, b) => at(a) && at(b),
            Inst::Binary(BinOp::Max, a, b) => at(a) || at(b),
            // The base of a power whose exponent is to be found must be positive anyway.
            Inst::Binary(BinOp::Pow, a, e) => at(a) || self.class[*e as usize] & CONSTANT != 0,
            Inst::Unary(UnOp::Exp | UnOp::Sigmoid, _) => true,
            Inst::Unary(UnOp::Sqrt | UnOp::Rsqrt | UnOp::Recip, a) => at(a),
            Inst::Select(_, a, b) => at(a) && at(b),
            _ => false,
        }
    }

    /// True if something is gained by computing this product as `exp` of a sum.
    fn has_power(&self, r: Ref) -> bool {
        match &self.old[r as usize] {
            Inst::Binary(BinOp::Pow, _, e) => self.class[*e as usize] & CONSTANT != 0,
            Inst::Binary(BinOp::Mul | BinOp::Div, a, b) => self.has_power(*a) || self.has_power(*b),
            _ => false,
        }
    }

    fn plain(&mut self, r: Ref) -> Ref {
        if self.class[r as usize] & CONSTANT == 0 {
            return self.fixed(r, false);
        }
        if self.has_power(r) && self.is_positive(r) {
            let t = self.log(r);
            return self.unary(UnOp::Exp, t);
        }
        match self.old[r as usize].clone() {
            Inst::Arg(i) => {
                let arg = self.new.push(Inst::Arg(i));
                match self.coordinates[i as usize] {
                    Coordinate::Plain => arg,
                    Coordinate::Log => self.unary(UnOp::Exp, arg),
                }
            }
            Inst::Unary(op, a) => {
                let a = self.plain(a);
                self.unary(op, a)
            }
            Inst::Binary(op, a, b) => {
                let (a, b) = (self.plain(a), self.plain(b));
                self.binary(op, a, b)
            }
            Inst::Select(c, a, b) => {
                let (c, a, b) = (self.plain(c), self.plain(a), self.plain(b));
                self.new.push(Inst::Select(c, a, b))
            }
            Inst::Cast(dtype, a) => {
                let a = self.plain(a);
                self.new.push(Inst::Cast(dtype, a))
            }
            // Laws have no coordinates of axes, no runtime scalars and no draws.
            Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) | Inst::Random(..) => {
                self.fixed(r, false)
            }
        }
    }

    /// The logarithm of a value.
    fn log(&mut self, r: Ref) -> Ref {
        let terms = self.terms(r);
        self.together(terms)
    }

    /// Terms t_i with ln value = ln Σ exp(t_i).
    fn terms(&mut self, r: Ref) -> Vec<Ref> {
        if self.class[r as usize] & CONSTANT == 0 {
            return vec![self.fixed(r, true)];
        }
        let both = |w: &Self, a: &Ref, b: &Ref| w.is_positive(*a) && w.is_positive(*b);
        match self.old[r as usize].clone() {
            Inst::Arg(i) if self.coordinates[i as usize] == Coordinate::Log => {
                vec![self.new.push(Inst::Arg(i))]
            }
            Inst::Binary(BinOp::Add, a, b) if both(self, &a, &b) => {
                let mut all = self.terms(a);
                all.extend(self.terms(b));
                all
            }
            Inst::Binary(BinOp::Mul, a, b) if both(self, &a, &b) => {
                let (mut many, mut few) = (self.terms(a), self.terms(b));
                if many.len() < few.len() {
                    std::mem::swap(&mut many, &mut few);
                }
                let factor = self.together(few);
                many.into_iter().map(|t| self.binary(BinOp::Add, t, factor)).collect()
            }
            Inst::Binary(BinOp::Div, a, b) if both(self, &a, &b) => {
                let many = self.terms(a);
                let divisor = self.log(b);
                many.into_iter().map(|t| self.binary(BinOp::Sub, t, divisor)).collect()
            }
            Inst::Binary(BinOp::Pow, a, e) if self.is_positive(r) => {
                let (base, e) = (self.log(a), self.plain(e));
                vec![self.binary(BinOp::Mul, e, base)]
            }
            Inst::Unary(UnOp::Exp, a) => vec![self.plain(a)],
            Inst::Unary(UnOp::Sqrt, a) => {
                let (half, t) = (self.number(0.5), self.log(a));
                vec![self.binary(BinOp::Mul, half, t)]
            }
            Inst::Binary(op @ (BinOp::Max | BinOp::Min), a, b) if both(self, &a, &b) => {
                let (a, b) = (self.log(a), self.log(b));
                vec![self.binary(op, a, b)]
            }
            _ => {
                let v = self.plain_written(r);
                vec![self.unary(UnOp::Log, v)]
            }
        }
    }

    /// As [`plain`](Self::plain), without asking for logarithms of the same value again.
    fn plain_written(&mut self, r: Ref) -> Ref {
        match self.old[r as usize].clone() {
            Inst::Binary(op, a, b) => {
                let (a, b) = (self.plain(a), self.plain(b));
                self.binary(op, a, b)
            }
            _ => self.plain(r),
        }
    }

    /// ln Σ exp(t_i), shifted by the largest term.
    fn together(&mut self, terms: Vec<Ref>) -> Ref {
        let [first, rest @ ..] = terms.as_slice() else { return self.number(f64::NEG_INFINITY) };
        if rest.is_empty() {
            return *first;
        }
        if terms.iter().all(|t| self.interval(*t).is_within(FAR)) {
            let sum = self.sum_of_exponentials(&terms, None);
            return self.unary(UnOp::Log, sum);
        }
        let mut most = *first;
        for t in rest {
            most = self.new.push(Inst::Binary(BinOp::Max, most, *t));
            self.shifts.push(most);
        }
        let sum = self.sum_of_exponentials(&terms, Some(most));
        let log = self.new.push(Inst::Unary(UnOp::Log, sum));
        // The shift is added back as a number: the slope of the whole is that of the shifted sum.
        self.new.push(Inst::Binary(BinOp::Add, log, most))
    }

    fn sum_of_exponentials(&mut self, terms: &[Ref], shift: Option<Ref>) -> Ref {
        let mut sum = None;
        for t in terms {
            let t = shift.map_or(*t, |most| self.new.push(Inst::Binary(BinOp::Sub, *t, most)));
            let e = self.new.push(Inst::Unary(UnOp::Exp, t));
            sum = Some(sum.map_or(e, |s| self.new.push(Inst::Binary(BinOp::Add, s, e))));
        }
        sum.unwrap_or_default()
    }

    /// Between which numbers a new value lies, for constants in their ranges and on all rows.
    fn interval(&self, r: Ref) -> Interval {
        match &self.new.insts[r as usize] {
            Inst::Const(l) => Interval::new(l.get(), l.get()),
            Inst::Arg(i) => {
                let i = *i as usize;
                match (self.law.constants.get(i), self.coordinates.get(i)) {
                    (Some(c), Some(how)) => Interval::new(how.of(c.low), how.of(c.high)),
                    _ => {
                        let (low, high) = (self.range)(&self.derived[i - self.coordinates.len()]);
                        Interval::new(low, high)
                    }
                }
            }
            Inst::Unary(UnOp::Neg, a) => self.interval(*a).times(Interval::new(-1.0, -1.0)),
            Inst::Binary(BinOp::Add, a, b) => self.interval(*a).plus(self.interval(*b)),
            Inst::Binary(BinOp::Sub, a, b) => {
                let b = self.interval(*b).times(Interval::new(-1.0, -1.0));
                self.interval(*a).plus(b)
            }
            Inst::Binary(BinOp::Mul, a, b) => self.interval(*a).times(self.interval(*b)),
            // Others are rare in exponents.
            _ => Interval::new(f64::NEG_INFINITY, f64::INFINITY),
        }
    }
}

/// Two ends; NaN where nothing is known.
#[derive(Clone, Copy)]
struct Interval {
    low: f64,
    high: f64,
}

impl Interval {
    fn new(low: f64, high: f64) -> Self {
        Self { low, high }
    }

    fn plus(self, other: Self) -> Self {
        Self::new(self.low + other.low, self.high + other.high)
    }

    fn times(self, other: Self) -> Self {
        let ends = [
            self.low * other.low,
            self.low * other.high,
            self.high * other.low,
            self.high * other.high,
        ];
        if ends.iter().any(|e| e.is_nan()) {
            return Self::new(f64::NAN, f64::NAN);
        }
        let least = ends.iter().fold(f64::INFINITY, |a, b| a.min(*b));
        Self::new(least, ends.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b)))
    }

    /// False if an end is not known.
    fn is_within(self, far: f64) -> bool {
        self.low >= -far && self.high <= far
    }
}
