//! Functions of many f64 at once, as wide as this machine's vectors.
//!
//! Exponential and logarithm are written without branches and compiled three times: for AVX-512, for AVX2 with FMA, and (there in the plain form
//! of the standard library) for anything else. Which one runs is found out once. Errors are at most 2 units in the last place (`tests`);
//! results below the smallest normal number are 0.

use std::sync::OnceLock;

use cs336_compiler::scalar::{BinOp, UnOp};

use super::clif::Function;

/// Called by compiled code: `out[i] = f(a[i], b[i])` for `count` numbers; `out` may be `a` or `b`.
///
/// # Safety
/// The addresses are those of `count` numbers each.
pub(crate) unsafe extern "C" fn strip(
    function: i64,
    a: *const f64,
    b: *const f64,
    out: *mut f64,
    count: i64,
) {
    let count = count.max(0) as usize;
    let Some(f) = Function::ALL.get(function as usize) else { return };
    if a != out.cast_const() {
        // SAFETY: both have `count` numbers, as the caller says; they may overlap only if they are the same, which is excluded.
        unsafe { std::ptr::copy(a, out, count) };
    }
    match f {
        Function::Pow | Function::Mod => {
            let op = if *f == Function::Pow { BinOp::Pow } else { BinOp::Mod };
            for i in 0..count {
                // SAFETY: `i` is below `count`.
                let from = unsafe { b.add(i) };
                // SAFETY: as above.
                let y = unsafe { from.read() };
                // SAFETY: as above.
                let at = unsafe { out.add(i) };
                // SAFETY: as above.
                let x = unsafe { at.read() };
                // SAFETY: as above.
                unsafe { at.write(op.eval(x, y)) };
            }
        }
        one => {
            // SAFETY: `out` has `count` numbers, which now are those of `a`; nobody else uses them meanwhile.
            let x = unsafe { std::slice::from_raw_parts_mut(out, count) };
            unary(*one, x);
        }
    }
}

/// A function of each number, in place.
pub(crate) fn unary(f: Function, x: &mut [f64]) {
    let plain = |op: UnOp, x: &mut [f64]| x.iter_mut().for_each(|v| *v = op.eval(*v));
    match f {
        Function::Exp => (functions().exp)(x),
        Function::Log => (functions().log)(x),
        Function::Sin => plain(UnOp::Sin, x),
        Function::Cos => plain(UnOp::Cos, x),
        Function::Tanh => plain(UnOp::Tanh, x),
        Function::Erf => plain(UnOp::Erf, x),
        Function::Sigmoid => plain(UnOp::Sigmoid, x),
        Function::Round => plain(UnOp::Round, x),
        Function::Pow | Function::Mod => {}
    }
}

struct Functions {
    exp: fn(&mut [f64]),
    log: fn(&mut [f64]),
}

fn functions() -> &'static Functions {
    static FOUND: OnceLock<Functions> = OnceLock::new();
    FOUND.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512dq")
            {
                return Functions {
                    // SAFETY: the features were just found.
                    exp: |x| unsafe { exp_512(x) },
                    // SAFETY: as above.
                    log: |x| unsafe { log_512(x) },
                };
            }
            if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
                return Functions {
                    // SAFETY: the features were just found.
                    exp: |x| unsafe { exp_256(x) },
                    // SAFETY: as above.
                    log: |x| unsafe { log_256(x) },
                };
            }
        }
        Functions {
            exp: |x| x.iter_mut().for_each(|v| *v = v.exp()),
            log: |x| x.iter_mut().for_each(|v| *v = v.ln()),
        }
    })
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,fma")]
fn exp_512(x: &mut [f64]) {
    in_chunks::<16>(x, exp);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,fma")]
fn log_512(x: &mut [f64]) {
    in_chunks::<16>(x, log);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn exp_256(x: &mut [f64]) {
    in_chunks::<8>(x, exp);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn log_256(x: &mut [f64]) {
    in_chunks::<8>(x, log);
}

#[inline(always)]
fn in_chunks<const N: usize>(x: &mut [f64], f: impl Fn(f64) -> f64) {
    let mut chunks = x.chunks_exact_mut(N);
    for c in &mut chunks {
        for v in c.iter_mut() {
            *v = f(*v);
        }
    }
    for v in chunks.into_remainder() {
        *v = f(*v);
    }
}

/// 1 / k! from k = 2.
const INVERSE_FACTORIALS: [f64; 12] = [
    0.5,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5040.0,
    1.0 / 40320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
];
/// ln 2 in two parts; products of the first with small integers are exact.
const LN2_HI: f64 = 6.931_471_803_691_238e-1;
const LN2_LO: f64 = 1.908_214_929_270_587_7e-10;
/// 1.5 * 2^52: adding it rounds to an integer that then stands in the low bits.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// e^x = 2^n e^r, n = round(x / ln 2), e^r by its series up to r^13 (|r| <= 0.35: the rest is below 1e-17).
#[inline(always)]
fn exp(x: f64) -> f64 {
    let y = if x < -708.0 { -708.0 } else { x };
    // Above 709 the power of two would be infinite before the result is: there e^(x-1) e is taken; x - 1 is exact.
    let y = if x > 709.0 { y - 1.0 } else { y };
    let y = if y > 709.0 { 709.0 } else { y };
    let shifted = y.mul_add(std::f64::consts::LOG2_E, ROUNDER);
    let n = shifted - ROUNDER;
    let r = n.mul_add(-LN2_HI, y);
    let r = n.mul_add(-LN2_LO, r);
    let mut p = INVERSE_FACTORIALS[11];
    for c in INVERSE_FACTORIALS[..11].iter().rev() {
        p = p.mul_add(r, *c);
    }
    let p = (p * r).mul_add(r, r) + 1.0;
    let scale = f64::from_bits((shifted.to_bits() << 52).wrapping_add(1023 << 52));
    let e = p * scale;
    let e = if x < -708.0 { 0.0 } else { e };
    if x > 709.0 { e * std::f64::consts::E } else { e }
}

/// The coefficients of (ln((1+s)/(1-s)) - 2s) / s in s^2, on |s| <= 0.1716 (FreeBSD's msun, e_log.c).
const LOG: [f64; 7] = [
    6.666_666_666_666_735e-1,
    3.999_999_999_940_942e-1,
    2.857_142_874_366_239e-1,
    2.222_219_843_214_978_4e-1,
    1.818_357_216_161_805e-1,
    1.531_383_769_920_937_3e-1,
    1.479_819_860_511_658_6e-1,
];

/// ln x = k ln 2 + ln m with m in [sqrt(1/2), sqrt(2)); ln m = f - (f²/2 - s (f²/2 + R)), f = m - 1, s = f / (2 + f).
#[inline(always)]
fn log(x: f64) -> f64 {
    let tiny = x < f64::MIN_POSITIVE;
    let y = if tiny { x * 18_014_398_509_481_984.0 } else { x };
    let moved = y.to_bits().wrapping_sub(std::f64::consts::FRAC_1_SQRT_2.to_bits());
    let k = (moved as i64 >> 52) as f64;
    let k = if tiny { k - 54.0 } else { k };
    let bits =
        (moved & 0x000f_ffff_ffff_ffff).wrapping_add(std::f64::consts::FRAC_1_SQRT_2.to_bits());
    let f = f64::from_bits(bits) - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let mut r = LOG[6];
    for c in LOG[..6].iter().rev() {
        r = r.mul_add(z, *c);
    }
    let r = r * z;
    let half = 0.5 * f * f;
    let m = k.mul_add(LN2_HI, f - (half - s.mul_add(half + r, k * LN2_LO)));
    let v = if x < f64::INFINITY { m } else { x };
    let v = if x > 0.0 { v } else { f64::NAN };
    if x == 0.0 { f64::NEG_INFINITY } else { v }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(a: f64, b: f64) -> f64 {
        (a - b).abs() / (b.abs() * f64::EPSILON).max(f64::MIN_POSITIVE)
    }

    #[test]
    fn exponentials_and_logarithms_are_right_to_two_units() {
        let x: Vec<f64> = (0..200_003).map(|i| -707.0 + f64::from(i) * 0.00708).collect();
        let mut y = x.clone();
        unary(Function::Exp, &mut y);
        for (x, y) in x.iter().zip(&y) {
            assert!(units(*y, x.exp()) <= 2.0, "exp({x}) = {y}, not {}", x.exp());
        }
        let mut z = y.clone();
        unary(Function::Log, &mut z);
        for (y, z) in y.iter().zip(&z) {
            let want = y.ln();
            assert!((z - want).abs() <= 2.0 * f64::EPSILON * want.abs(), "ln({y}) = {z}");
        }
    }

    #[test]
    fn ends_of_the_range() {
        let mut x = [f64::NEG_INFINITY, -800.0, 710.0, f64::INFINITY, f64::NAN, 0.0];
        unary(Function::Exp, &mut x);
        assert_eq!(x[..4], [0.0, 0.0, f64::INFINITY, f64::INFINITY]);
        assert!(x[4].is_nan() && x[5] == 1.0);
        let mut x = [0.0, -1.0, f64::INFINITY, f64::NAN, 1.0, 5e-324];
        unary(Function::Log, &mut x);
        assert_eq!((x[0], x[2], x[4]), (f64::NEG_INFINITY, f64::INFINITY, 0.0));
        assert!(x[1].is_nan() && x[3].is_nan());
        assert!((x[5] - 5e-324f64.ln()).abs() < 1e-12);
    }
}
