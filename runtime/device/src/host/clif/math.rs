//! Transcendental functions as CLIF, on single f32 numbers and on lanes alike.
//!
//! Each is a range reduction and a polynomial; coefficients are minimax fits (Remez) of the function named beside
//! them on the stated interval. Errors measured against f64 are held by the table in `tests.rs`: in units in the last place, at most 2 for
//! exp, log, sin and cos, 2.5 for tanh and erf, 3 for sigmoid, 1.5 for rsqrt. NaN gives NaN; results below the smallest normal number are
//! right to a unit of the smallest denormal. sin and cos beyond |x| > 30000, and pow, are computed in f64 by the host.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, types};

use super::Extern;
use super::lanes::{Kind, Ops, Val, type_of};

/// (e^r - 1 - r) / r^2 on |r| <= ln(2)/2.
const EXP: [f32; 5] = [0.499_999_93, 0.166_665_15, 0.041_668_456, 0.008_369_419, 0.001_381_314_5];
/// (ln((1+s)/(1-s)) - 2s) / s^3 in s^2, on |s| <= 0.1733.
const LOG: [f32; 4] = [0.666_666_7, 0.400_003_57, 0.285_358_6, 0.236_111];
/// (tanh x - x) / x^3 in x^2, on |x| <= 0.66.
const TANH: [f32; 5] = [-0.333_332_5, 0.133_305_44, -0.053_665_055, 0.020_397_98, -0.005_439_453_5];
/// erf(x) / x in x^2, on |x| <= 0.95.
#[allow(
    clippy::approx_constant,
    reason = "fitted; that the first is near 2/sqrt(pi) is no accident"
)]
const ERF_SMALL: [f32; 6] =
    [1.128_379_1, -0.376_124_47, 0.112_813_21, -0.026_748_864, 0.004_967_506_3, -0.000_586_208_1];
/// -ln(1 - erf(x)) / x, on 0.9 <= x <= 4.1.
const ERF_LARGE: [f32; 7] = [
    1.128_637_1,
    0.635_198_06,
    0.106_159_03,
    -0.023_694_552,
    0.003_610_334_6,
    -0.000_314_856_2,
    1.043_291_2e-5,
];
/// (sin x - x) / x^3 in x^2, on |x| <= 1.1 pi/4.
const SIN: [f32; 4] = [-0.166_666_67, 0.008_333_326, -0.000_198_384_02, 2.710_236_3e-6];
/// (cos x - 1 + x^2/2) / x^4 in x^2, on |x| <= 1.1 pi/4.
const COS: [f32; 3] = [0.041_666_63, -0.001_388_657_2, 2.435_487_8e-5];

/// ln 2 in two parts; the first has few enough bits that its products with small integers are exact.
const LN2_HI: f32 = 0.693_145_75;
const LN2_LO: f32 = 1.428_606_8e-6;
/// 1.5 * 2^23: adding it rounds to an integer that then stands in the low bits.
const ROUNDER: f32 = 12_582_912.0;
/// pi/2 as a sum of three floats.
const HALF_PI: [f32; 3] = [1.570_796_4, -4.371_139e-8, -1.715_124_5e-15];

impl Ops<'_, '_> {
    /// The integer nearest to x (|x| < 2^22), as a float and as an integer.
    fn round_small(&mut self, x: Val) -> (Val, Val) {
        let rounder = self.float(ROUNDER);
        let shifted = self.add(x, rounder);
        let float = self.sub(shifted, rounder);
        let (bits, base) = (self.bits(shifted), self.int(ROUNDER.to_bits() as i32));
        (float, self.isub(bits, base))
    }

    /// 2^n for -126 <= n <= 127.
    fn power_of_two(&mut self, n: Val) -> Val {
        let bias = self.int(127);
        let biased = self.iadd(n, bias);
        let bits = self.shl(biased, 23);
        self.from_bits(bits)
    }

    /// e^x = 2^n e^r with n = round(x / ln 2).
    pub(super) fn exp(&mut self, x: Val) -> Val {
        // Below the first end the result is zero, and nothing is computed with the tiny numbers that slow processors
        // down (masked scores are all there); above the second it is infinity anyway. NaN passes both.
        let (low, high, zero) = (self.float(-103.98), self.float(89.0), self.float(0.0));
        let vanishes = self.fcmp(FloatCC::LessThan, x, low);
        let x = self.select(vanishes, zero, x);
        let large = self.fcmp(FloatCC::GreaterThan, x, high);
        let x = self.select(large, high, x);
        let log2e = self.float(std::f32::consts::LOG2_E);
        let scaled = self.mul(x, log2e);
        let (n_float, n) = self.round_small(scaled);
        let (hi, lo) = (self.float(-LN2_HI), self.float(-LN2_LO));
        let r = self.fma(n_float, hi, x);
        let r = self.fma(n_float, lo, r);
        let p = self.poly(r, &EXP);
        let square = self.mul(r, r);
        let p = self.fma(p, square, r);
        // 2^n in two factors: n may be below -126, where the result is denormal and must be rounded once.
        let half = self.sar(n, 1);
        let rest = self.isub(n, half);
        let (half, rest) = (self.power_of_two(half), self.power_of_two(rest));
        let y = self.fma(p, half, half);
        let y = self.mul(y, rest);
        self.select(vanishes, zero, y)
    }

    /// ln x = k ln 2 + ln m with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s), s = (m-1)/(m+1).
    pub(super) fn log(&mut self, x: Val) -> Val {
        let (tiny, scale) = (self.float(f32::MIN_POSITIVE), self.float(8_388_608.0));
        let denormal = self.fcmp(FloatCC::LessThan, x, tiny);
        let scaled = self.mul(x, scale);
        let m = self.select(denormal, scaled, x);
        let bits = self.bits(m);
        // Subtracting the bits of sqrt(1/2) makes the exponent field count from there.
        let root = self.int(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32);
        let moved = self.isub(bits, root);
        let k = self.sar(moved, 23);
        let fraction_mask = self.int(0x007f_ffff);
        let fraction = self.band(moved, fraction_mask);
        let m = self.iadd(fraction, root);
        let m = self.from_bits(m);
        let (zero, shift) = (self.int(0), self.int(-23));
        let shift = self.select(denormal, shift, zero);
        let k = self.iadd(k, shift);
        let k = self.to_f(k);

        let (one, two, half) = (self.float(1.0), self.float(2.0), self.float(0.5));
        let f = self.sub(m, one);
        let below = self.add(f, two);
        let s = self.div(f, below);
        let z = self.mul(s, s);
        // 2 atanh(s) = f - f²/2 + s (f²/2 + z P(z)): f is exact, so little is lost.
        let p = self.poly(z, &LOG);
        let p = self.mul(p, z);
        let square = self.mul(f, f);
        let square = self.mul(square, half);
        let inner = self.add(square, p);
        let low = self.float(LN2_LO);
        let tail = self.mul(s, inner);
        let tail = self.fma(k, low, tail);
        let tail = self.sub(tail, square);
        let y = self.add(tail, f);
        let high = self.float(LN2_HI);
        let y = self.fma(k, high, y);

        let (zero, infinity) = (self.float(0.0), self.float(f32::INFINITY));
        let (minus, nan) = (self.float(f32::NEG_INFINITY), self.float(f32::NAN));
        let is_zero = self.fcmp(FloatCC::Equal, x, zero);
        let y = self.select(is_zero, minus, y);
        let is_large = self.fcmp(FloatCC::Equal, x, infinity);
        let y = self.select(is_large, infinity, y);
        // Not (x >= 0): negative numbers and NaN.
        let bad = self.fcmp(FloatCC::UnorderedOrLessThan, x, zero);
        self.select(bad, nan, y)
    }

    /// 1 / sqrt(x).
    pub(super) fn rsqrt(&mut self, x: Val) -> Val {
        let (one, root) = (self.float(1.0), self.sqrt(x));
        self.div(one, root)
    }

    /// 1 / (1 + e^-x), by e^-|x| on both sides so that small results keep their digits.
    pub(super) fn sigmoid(&mut self, x: Val) -> Val {
        let a = self.abs(x);
        let a = self.neg(a);
        let e = self.exp(a);
        let (one, zero) = (self.float(1.0), self.float(0.0));
        let below = self.add(one, e);
        let negative = self.fcmp(FloatCC::LessThan, x, zero);
        let above = self.select(negative, e, one);
        self.div(above, below)
    }

    /// tanh x: a polynomial near zero, 1 - 2 / (e^2|x| + 1) elsewhere.
    pub(super) fn tanh(&mut self, x: Val) -> Val {
        let a = self.abs(x);
        let square = self.mul(x, x);
        let p = self.poly(square, &TANH);
        let cube = self.mul(square, x);
        let near = self.fma(p, cube, x);
        let (one, two) = (self.float(1.0), self.float(2.0));
        let twice = self.add(a, a);
        let e = self.exp(twice);
        let below = self.add(e, one);
        let part = self.div(two, below);
        let far = self.sub(one, part);
        let far = self.copysign(far, x);
        let limit = self.float(0.65);
        let is_near = self.fcmp(FloatCC::LessThan, a, limit);
        self.select(is_near, near, far)
    }

    /// erf x: an odd polynomial near zero, 1 - e^(-x P(x)) elsewhere.
    pub(super) fn erf(&mut self, x: Val) -> Val {
        let a = self.abs(x);
        let square = self.mul(x, x);
        let p = self.poly(square, &ERF_SMALL);
        let near = self.mul(p, x);
        let end = self.float(4.1);
        let t = self.min(a, end);
        let q = self.poly(t, &ERF_LARGE);
        let q = self.mul(q, t);
        let q = self.neg(q);
        let e = self.exp(q);
        let one = self.float(1.0);
        let far = self.sub(one, e);
        let far = self.copysign(far, x);
        let limit = self.float(0.925);
        let is_near = self.fcmp(FloatCC::LessThan, a, limit);
        let y = self.select(is_near, near, far);
        // copysign clears nothing of a NaN, but `min` may have changed its sign bits.
        let nan = self.fcmp(FloatCC::Unordered, x, x);
        self.select(nan, x, y)
    }

    /// sin (or cos) x: x = k pi/2 + r, then by the quadrant of k.
    pub(super) fn sin_cos(&mut self, x: Val, cosine: bool) -> Val {
        let per = self.float(std::f32::consts::FRAC_2_PI);
        let turns = self.mul(x, per);
        let (k_float, k) = self.round_small(turns);
        let mut r = x;
        for part in HALF_PI {
            let part = self.float(-part);
            r = self.fma(k_float, part, r);
        }
        let z = self.mul(r, r);
        let s = self.poly(z, &SIN);
        let cube = self.mul(z, r);
        let s = self.fma(s, cube, r);
        let c = self.poly(z, &COS);
        let fourth = self.mul(z, z);
        let (one, half) = (self.float(1.0), self.float(-0.5));
        let flat = self.fma(z, half, one);
        let c = self.fma(c, fourth, flat);
        let (i1, i2) = (self.int(1), self.int(2));
        let quadrant = if cosine { self.iadd(k, i1) } else { k };
        let odd = self.band(quadrant, i1);
        let odd = self.to_m(odd);
        let y = self.select(odd, c, s);
        let upper = self.band(quadrant, i2);
        let flip = self.shl(upper, 30);
        let y_bits = self.bits(y);
        let y_bits = {
            let (a, b) =
                if y_bits.wide && !flip.wide { (y_bits, self.widen(flip)) } else { (y_bits, flip) };
            Val { v: self.b.ins().bxor(a.v, b.v), kind: Kind::I, wide: a.wide }
        };
        let y = self.from_bits(y_bits);

        // Far away (or not finite) the host computes in f64.
        let a = self.abs(x);
        let limit = self.float(30_000.0);
        let far = self.fcmp(FloatCC::UnorderedOrGreaterThan, a, limit);
        let condition = if far.wide { self.b.ins().vany_true(far.v) } else { far.v };
        let (slow, done) = (self.b.create_block(), self.b.create_block());
        let result = self.b.append_block_param(done, type_of(Kind::F, x.wide));
        self.b.set_cold_block(slow);
        self.b.ins().brif(condition, slow, &[], done, &[y.v.into()]);
        self.b.switch_to_block(slow);
        let call = if cosine { Extern::Cos } else { Extern::Sin };
        let exact = self.call1(call, x);
        // Lanes that are near keep their value: an element does not depend on its neighbours.
        let mixed = self.select(far, exact, y);
        self.b.ins().jump(done, &[mixed.v.into()]);
        self.b.switch_to_block(done);
        Val { v: result, kind: Kind::F, wide: x.wide }
    }

    /// f32 bits to the nearest bfloat16, as the low 16 bits of an i32. NaN stays NaN.
    pub(super) fn to_bf16(&mut self, x: Val) -> Val {
        let bits = self.bits(x);
        let (one, bias) = (self.int(1), self.int(0x7fff));
        let last = self.shr(bits, 16);
        let last = self.band(last, one);
        let rounded = self.iadd(bits, bias);
        let rounded = self.iadd(rounded, last);
        let rounded = self.shr(rounded, 16);
        let nan = self.fcmp(FloatCC::Unordered, x, x);
        let quiet = self.int(0x7fc0);
        self.select(nan, quiet, rounded)
    }

    /// The low 16 bits as a bfloat16.
    pub(super) fn from_bf16(&mut self, x: Val) -> Val {
        let bits = self.shl(x, 16);
        self.from_bits(bits)
    }

    /// f32 to the nearest IEEE half, as the low 16 bits of an i32.
    pub(super) fn to_f16(&mut self, x: Val) -> Val {
        let bits = self.bits(x);
        let magnitude_mask = self.int(i32::MAX);
        let a = self.band(bits, magnitude_mask);
        let sign = self.shr(bits, 16);
        let sign_mask = self.int(0x8000);
        let sign = self.band(sign, sign_mask);
        // Normal: rebias the exponent (127 to 15) and round to even.
        let (one, rebias) = (self.int(1), self.int(0xc800_0fff_u32 as i32));
        let last = self.shr(a, 13);
        let last = self.band(last, one);
        let normal = self.iadd(a, rebias);
        let normal = self.iadd(normal, last);
        let normal = self.shr(normal, 13);
        // Denormal: adding one half makes the unit of the last place 2^-24.
        let half = self.float(0.5);
        let small = self.from_bits(a);
        let small = self.add(small, half);
        let (small, half_bits) = (self.bits(small), self.int(0.5f32.to_bits() as i32));
        let small = self.isub(small, half_bits);
        let least = self.int(0x3880_0000);
        let is_small = self.icmp(IntCC::SignedLessThan, a, least);
        let y = self.select(is_small, small, normal);
        let (most, infinity) = (self.int(0x4780_0000), self.int(0x7c00));
        let large = self.icmp(IntCC::SignedGreaterThanOrEqual, a, most);
        let y = self.select(large, infinity, y);
        let (end, quiet) = (self.int(0x7f80_0000), self.int(0x7e00));
        let nan = self.icmp(IntCC::SignedGreaterThan, a, end);
        let y = self.select(nan, quiet, y);
        self.bor(y, sign)
    }

    /// The low 16 bits as an IEEE half.
    pub(super) fn from_f16(&mut self, x: Val) -> Val {
        let (magnitude_mask, sign_mask) = (self.int(0x7fff), self.int(0x8000));
        let a = self.band(x, magnitude_mask);
        let sign = self.band(x, sign_mask);
        let sign = self.shl(sign, 16);
        let shifted = self.shl(a, 13);
        // The exponent is rebiased by a product, which also normalises denormals.
        let value = self.from_bits(shifted);
        let scale = self.float(f32::from_bits(0x7780_0000));
        let value = self.mul(value, scale);
        let value = self.bits(value);
        let (end, special) = (self.int(0x7c00), self.int(0x7f80_0000));
        let infinite = self.icmp(IntCC::SignedGreaterThanOrEqual, a, end);
        let high = self.bor(shifted, special);
        let value = self.select(infinite, high, value);
        let value = self.bor(value, sign);
        self.from_bits(value)
    }

    /// `a - b * floor(a / b)` on integers; 0 where b is 0.
    pub(super) fn int_mod(&mut self, a: Val, b: Val) -> Val {
        self.call2(Extern::Mod, a, b, Kind::I)
    }

    /// The four lanes' low 16 bits, packed into an i64.
    pub(super) fn pack16(&mut self, x: Val) -> cranelift_codegen::ir::Value {
        let packed = self.b.ins().unarrow(x.v, x.v);
        let flags = cranelift_codegen::ir::MemFlagsData::new()
            .with_endianness(cranelift_codegen::ir::Endianness::Little);
        let quads = self.b.ins().bitcast(types::I64X2, flags, packed);
        self.b.ins().extractlane(quads, 0)
    }
}
