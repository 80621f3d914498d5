//! Scalar expressions: the one small language inside every fused loop.
//!
//! An [`Expr`] is a list of instructions in SSA form over f32 (or, in the interpreter, f64) scalars; instruction `i` may
//! read only instructions before `i`. The same type is the score and mask of an attention, the body of a fused
//! loop, and the host-side arithmetic on runtime scalars, so there is one simplifier, one differentiator
//! ([`Graph`](crate::graph) uses the same operators one per node) and one printer per target.
//!
//! *Values.* Booleans are 0 and 1. Integers (token ids, positions, counters) are exact: on the host they are f64, in
//! kernels i32 until an operator makes them a float. `Select` takes any non-zero condition as true.

use serde::{Deserialize, Serialize};

/// The element types that are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit float.
    F32,
    /// bfloat16; arithmetic is f32.
    Bf16,
    /// IEEE half; arithmetic is f32.
    F16,
    /// Token ids, positions, counters.
    I32,
    /// 0 or 1, stored as one byte.
    Bool,
}

impl DType {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::Bf16 | Self::F16 => 2,
            Self::Bool => 1,
        }
    }

    /// True for the types that carry gradients.
    pub fn is_float(self) -> bool {
        match self {
            Self::F32 | Self::Bf16 | Self::F16 => true,
            Self::I32 | Self::Bool => false,
        }
    }

    /// The spelling in `.cs336` and in dumps.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "fp16",
            Self::I32 => "i32",
            Self::Bool => "bool",
        }
    }
}

/// A literal with total equality (by bits), so that expressions can be hashed and compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Literal(u64);

impl Literal {
    /// From a number.
    pub fn new(value: f64) -> Self {
        Self(if value == 0.0 { 0.0f64.to_bits() } else { value.to_bits() })
    }

    /// The number.
    pub fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl std::fmt::Debug for Literal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.get())
    }
}

// As text, since JSON has no infinities.
impl Serialize for Literal {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format!("{:?}", self.get()))
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map(Self::new).map_err(serde::de::Error::custom)
    }
}

/// One argument, float in and float out unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnOp {
    /// -x (also on integers).
    Neg,
    /// |x| (also on integers).
    Abs,
    /// 1 / x.
    Recip,
    /// e^x.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// 1 / sqrt(x).
    Rsqrt,
    /// Sine, in radians.
    Sin,
    /// Cosine, in radians.
    Cos,
    /// Hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// 1 / (1 + e^-x).
    Sigmoid,
    /// Largest integer not above x.
    Floor,
    /// Smallest integer not below x.
    Ceil,
    /// Nearest integer, ties to even.
    Round,
    /// -1, 0 or 1.
    Sign,
    /// 1 if x is zero, else 0.
    Not,
    /// 1 if x is neither infinite nor NaN, else 0.
    IsFinite,
}

/// Two arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BinOp {
    /// a + b
    Add,
    /// a - b
    Sub,
    /// a * b
    Mul,
    /// a / b (always a float)
    Div,
    /// a^b (floats)
    Pow,
    /// The smaller one; NaN if either is.
    Min,
    /// The larger one; NaN if either is.
    Max,
    /// a - b * floor(a / b)
    Mod,
    /// a < b: 0 or 1, as all comparisons.
    Lt,
    /// a <= b
    Le,
    /// a == b
    Eq,
    /// a != b
    Ne,
    /// Both non-zero.
    And,
    /// Either non-zero.
    Or,
}

/// How many values become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReduceOp {
    /// Sum; of nothing 0.
    Sum,
    /// Largest; of nothing -inf.
    Max,
    /// Smallest; of nothing +inf.
    Min,
    /// Product; of nothing 1.
    Prod,
}

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dist {
    /// Uniform in [0, 1).
    Uniform,
    /// Standard normal (Box-Muller on two Philox words).
    Normal,
}

/// A number that the host gives anew for every execution of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// Optimizer steps done plus one: `t`, counts from 1.
    Step,
    /// Share of the budget that is spent once this step is done, in (0, 1]: what a schedule sees as `x`.
    Share,
    /// Coordinate of the first position (decoding): added to `pos(seq)`.
    Position,
    /// The run's seed for `noise`, low and high halves are the device's business; an integer below 2^53.
    Seed,
    /// Index within the step of the micro-batch, for plans that run one micro-batch at a time.
    Micro,
}

/// An index of an earlier instruction.
pub type Ref = u32;

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inst {
    /// The i-th argument of the expression. What arguments are is said by the owner (attention: 0 is the score `s`).
    Arg(u32),
    /// A literal.
    Const(Literal),
    /// The coordinate along the n-th axis of the owner's axis list.
    Pos(u32),
    /// A runtime scalar.
    Runtime(Runtime),
    /// One argument.
    Unary(UnOp, Ref),
    /// Two arguments.
    Binary(BinOp, Ref, Ref),
    /// `if a != 0 then b else c`.
    Select(Ref, Ref, Ref),
    /// Rounds to a storage type (bf16, fp16), or truncates to an integer, or makes a float of an integer.
    Cast(DType, Ref),
    /// A random number: stream, and three integer counters. See [`philox`].
    Random(Dist, u64, [Ref; 3]),
}

/// A scalar expression; its value is that of `result`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Expr {
    /// The instructions.
    pub insts: Vec<Inst>,
    /// Which one is the value.
    pub result: Ref,
}

impl Expr {
    /// The expression that is its i-th argument.
    pub fn arg(i: u32) -> Self {
        Self { insts: vec![Inst::Arg(i)], result: 0 }
    }

    /// A literal.
    pub fn constant(value: f64) -> Self {
        Self { insts: vec![Inst::Const(Literal::new(value))], result: 0 }
    }

    /// Appends an instruction, reusing an equal earlier one.
    pub fn push(&mut self, inst: Inst) -> Ref {
        if let Some(at) = self.insts.iter().position(|i| *i == inst) {
            return at as Ref;
        }
        self.insts.push(inst);
        self.insts.len() as Ref - 1
    }

    /// Its value in f64. `args`, `pos` and `runtime` answer for the leaves.
    pub fn eval(
        &self,
        args: &dyn Fn(u32) -> f64,
        pos: &dyn Fn(u32) -> f64,
        runtime: &dyn Fn(Runtime) -> f64,
    ) -> f64 {
        let mut values: Vec<f64> = Vec::with_capacity(self.insts.len());
        for inst in &self.insts {
            let at = |r: Ref| values[r as usize];
            values.push(match inst {
                Inst::Arg(i) => args(*i),
                Inst::Const(l) => l.get(),
                Inst::Pos(i) => pos(*i),
                Inst::Runtime(r) => runtime(*r),
                Inst::Unary(op, a) => op.eval(at(*a)),
                Inst::Binary(op, a, b) => op.eval(at(*a), at(*b)),
                Inst::Select(c, a, b) => {
                    if at(*c) != 0.0 {
                        at(*a)
                    } else {
                        at(*b)
                    }
                }
                Inst::Cast(dtype, a) => round_to(*dtype, at(*a)),
                Inst::Random(dist, stream, c) => random(
                    *dist,
                    runtime(Runtime::Seed) as u64,
                    *stream,
                    [at(c[0]) as u32, at(c[1]) as u32, at(c[2]) as u32],
                    runtime(Runtime::Step) as u32,
                ),
            });
        }
        values[self.result as usize]
    }
}

impl UnOp {
    /// The meaning, in f64.
    pub fn eval(self, x: f64) -> f64 {
        match self {
            Self::Neg => -x,
            Self::Abs => x.abs(),
            Self::Recip => 1.0 / x,
            Self::Exp => x.exp(),
            Self::Log => x.ln(),
            Self::Sqrt => x.sqrt(),
            Self::Rsqrt => 1.0 / x.sqrt(),
            Self::Sin => x.sin(),
            Self::Cos => x.cos(),
            Self::Tanh => x.tanh(),
            Self::Erf => erf(x),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Floor => x.floor(),
            Self::Ceil => x.ceil(),
            Self::Round => x.round_ties_even(),
            Self::Sign => {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x * 0.0
                }
            }
            Self::Not => f64::from(x == 0.0),
            Self::IsFinite => f64::from(x.is_finite()),
        }
    }
}

impl BinOp {
    /// The meaning, in f64.
    pub fn eval(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Add => a + b,
            Self::Sub => a - b,
            Self::Mul => a * b,
            Self::Div => a / b,
            Self::Pow => a.powf(b),
            Self::Min => ReduceOp::Min.combine(a, b),
            Self::Max => ReduceOp::Max.combine(a, b),
            Self::Mod => a - b * (a / b).floor(),
            Self::Lt => f64::from(a < b),
            Self::Le => f64::from(a <= b),
            Self::Eq => f64::from(a == b),
            Self::Ne => f64::from(a != b),
            Self::And => f64::from(a != 0.0 && b != 0.0),
            Self::Or => f64::from(a != 0.0 || b != 0.0),
        }
    }

    /// True where the result is 0 or 1.
    pub fn is_bool(self) -> bool {
        match self {
            Self::Lt | Self::Le | Self::Eq | Self::Ne | Self::And | Self::Or => true,
            Self::Add | Self::Sub | Self::Mul | Self::Div | Self::Pow => false,
            Self::Min | Self::Max | Self::Mod => false,
        }
    }
}

impl ReduceOp {
    /// The value of an empty reduction.
    pub fn identity(self) -> f64 {
        match self {
            Self::Sum => 0.0,
            Self::Max => f64::NEG_INFINITY,
            Self::Min => f64::INFINITY,
            Self::Prod => 1.0,
        }
    }

    /// One step.
    pub fn combine(self, a: f64, b: f64) -> f64 {
        match self {
            Self::Sum => a + b,
            // NaN must survive, else a broken step looks healthy.
            Self::Max => {
                if a.is_nan() || b.is_nan() {
                    f64::NAN
                } else {
                    a.max(b)
                }
            }
            Self::Min => {
                if a.is_nan() || b.is_nan() {
                    f64::NAN
                } else {
                    a.min(b)
                }
            }
            Self::Prod => a * b,
        }
    }
}

/// Rounds as storing in `dtype` and loading again does. `Bf16` and `F16` round to nearest even.
pub fn round_to(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F32 => f64::from(x as f32),
        DType::Bf16 => f64::from(bf16_round(x as f32)),
        DType::F16 => f64::from(f16_round(x as f32)),
        DType::I32 => x.trunc(),
        DType::Bool => f64::from(x != 0.0),
    }
}

/// f32 to the nearest bfloat16 (ties to even), as f32.
pub fn bf16_round(x: f32) -> f32 {
    if x.is_nan() {
        return f32::NAN;
    }
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000;
    f32::from_bits(rounded)
}

/// f32 to the nearest IEEE half (ties to even), as f32.
pub fn f16_round(x: f32) -> f32 {
    if !x.is_finite() || x == 0.0 {
        return x;
    }
    let exponent = ((x.to_bits() >> 23) & 0xff) as i32 - 127;
    // A half has 10 fraction bits; below 2^-14 the step is fixed at 2^-24.
    let step = 2f32.powi(exponent.max(-14) - 10);
    let rounded = (x / step).round_ties_even() * step;
    if rounded.abs() > 65504.0 { f32::INFINITY.copysign(x) } else { rounded }
}

/// The error function in f64, to about 1e-15: series for small |x|, continued fraction for large (Abramowitz and
/// Stegun 7.1.6 and 7.1.14).
pub fn erf(x: f64) -> f64 {
    let a = x.abs();
    if x.is_nan() {
        return x;
    }
    let value = if a < 2.5 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term > 1e-17 * sum && n < 200.0 {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        2.0 / std::f64::consts::PI.sqrt() * (-a * a).exp() * sum
    } else if a > 6.0 {
        1.0
    } else {
        let mut tail = 0.0;
        for k in (1..=60).rev() {
            tail = f64::from(k) / 2.0 / (a + tail);
        }
        1.0 - (-a * a).exp() / (a + tail) / std::f64::consts::PI.sqrt()
    };
    value.copysign(x)
}

/// Philox 4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3).
#[inline(always)]
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for round in 0..10 {
        if round > 0 {
            k = [k[0].wrapping_add(0x9E37_79B9), k[1].wrapping_add(0xBB67_AE85)];
        }
        let a = u64::from(c[0]) * 0xD251_1F53;
        let b = u64::from(c[2]) * 0xCD9E_8D57;
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
    }
    c
}

/// One draw. The key is `seed` mixed with `stream` (a hash of purpose, layer path and ordinal); the counter is three
/// logical coordinates and the step, so the number does not depend on mesh, micro-batch or rematerialisation.
pub fn random(dist: Dist, seed: u64, stream: u64, c: [u32; 3], step: u32) -> f64 {
    let key = mix_key(seed, stream);
    let words = philox([c[0], c[1], c[2], step], key);
    // 24 bits, so that f32 and f64 see the same number.
    let unit = |w: u32| f64::from(w >> 8) / 16_777_216.0;
    match dist {
        Dist::Uniform => unit(words[0]),
        Dist::Normal => {
            let (u, v) = (1.0 - unit(words[0]), unit(words[1]));
            (-2.0 * u.ln()).sqrt() * (2.0 * std::f64::consts::PI * v).cos()
        }
    }
}

/// The Philox key of a seed and a stream (splitmix64 finaliser of their sum).
pub fn mix_key(seed: u64, stream: u64) -> [u32; 2] {
    let mut z = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(stream);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    [z as u32, (z >> 32) as u32]
}

#[cfg(test)]
mod tests {
    use super::*;

    // Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
    #[test]
    fn philox_known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn erf_against_published_values() {
        // Abramowitz and Stegun, table 7.1.
        for (x, y) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (3.0, 0.999_977_909_503_001_4),
        ] {
            assert!((erf(x) - y).abs() < 1e-14, "erf({x}) = {}", erf(x));
            assert!((erf(-x) + y).abs() < 1e-14);
        }
    }

    #[test]
    fn rounding_to_storage_types() {
        assert_eq!(round_to(DType::Bf16, 1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(round_to(DType::Bf16, 1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0);
        assert_eq!(round_to(DType::F16, 65520.0), f64::INFINITY);
        assert_eq!(round_to(DType::F16, 2f64.powi(-24)), 2f64.powi(-24));
        assert_eq!(round_to(DType::I32, -2.7), -2.0);
    }
}
