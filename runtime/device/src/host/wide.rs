//! Functions of many f32 at once, as wide as this machine's vectors: what the fused loops call for exponentials and their like.
//!
//! Each is a range reduction and a polynomial without branches, written once for a single number and compiled three times: for AVX-512, for AVX2
//! with FMA, and for the machine that the program was built for. All three do the same operations in the same order (products and sums are
//! fused only where [`f32::mul_add`] says so), so they give the same bits. Coefficients are minimax fits (Remez) of the function named beside them on
//! the stated interval. Errors measured against f64 are held by the table in `clif/tests.rs`: in units in the last place, at most 2 for exp, log, sin
//! and cos, 2.5 for tanh and erf, 3 for sigmoid. NaN gives NaN; results below the smallest normal number are right to a unit of the smallest
//! denormal. sin and cos beyond |x| > 30000, and powers, are computed in f64.

use std::sync::OnceLock;

use cs336_compiler::scalar::{Dist, mix_key, philox};

use super::clif::Function;

/// A strip has room for a multiple of this many numbers.
pub(crate) const GRAIN: usize = 16;

/// Called by compiled code: `out[i] = f(a[i], b[i])`, `count` numbers, of which there is room for a multiple of [`GRAIN`]; `out` may be `a`.
///
/// # Safety
/// The addresses are those of so many numbers each.
pub(crate) unsafe extern "C" fn wide(
    function: i64,
    a: *const f32,
    b: *const f32,
    out: *mut f32,
    count: i64,
) {
    let count = (count.max(0) as usize).next_multiple_of(GRAIN);
    let Some(f) = Function::ALL.get(function as usize) else { return };
    if a != out.cast_const() {
        // SAFETY: both have room for `count` numbers, as the caller says.
        unsafe { std::ptr::copy(a, out, count) };
    }
    // SAFETY: `out` has room for `count` numbers, which now are those of `a`; nobody else uses them meanwhile.
    let x = unsafe { std::slice::from_raw_parts_mut(out, count) };
    if *f == Function::Pow {
        for (i, x) in x.iter_mut().enumerate() {
            // SAFETY: as above; `b` is no strip that is written.
            *x = pow(*x, unsafe { b.wrapping_add(i).read() });
        }
    } else {
        apply(*f, x);
    }
}

/// a^b, in f64.
pub(crate) fn pow(a: f32, b: f32) -> f32 {
    f64::from(a).powf(f64::from(b)) as f32
}

/// A function of each number, in place.
pub(crate) fn apply(f: Function, x: &mut [f32]) {
    (versions().apply)(f, x);
}

/// What a strip of draws is about; see [`cs336_compiler::scalar::random`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draws {
    pub(crate) dist: Dist,
    pub(crate) key: [u32; 2],
    pub(crate) step: u32,
}

/// Called by compiled code: `out[i]` is the draw at counters `c0[i], c1[i], c2[i]`; `out` may be one of them. Room as for [`wide`].
///
/// # Safety
/// The addresses are those of so many numbers each.
#[allow(clippy::too_many_arguments, reason = "called by compiled code")]
pub(crate) unsafe extern "C" fn draws(
    normal: i64,
    seed: i64,
    stream: i64,
    step: i64,
    c0: *const u32,
    c1: *const u32,
    c2: *const u32,
    out: *mut f32,
    count: i64,
) {
    let count = (count.max(0) as usize).next_multiple_of(GRAIN);
    let dist = if normal == 0 { Dist::Uniform } else { Dist::Normal };
    let what = Draws { dist, key: mix_key(seed as u64, stream as u64), step: step as u32 };
    for from in (0..count).step_by(GRAIN) {
        let read = |c: *const u32| {
            // SAFETY: the caller has `count` numbers there.
            unsafe { c.wrapping_add(from).cast::<[u32; GRAIN]>().read() }
        };
        let drawn = (versions().draws)(what, [read(c0), read(c1), read(c2)]);
        // SAFETY: as above; the counters of these places have been read.
        unsafe { out.wrapping_add(from).cast::<[f32; GRAIN]>().write(drawn) };
    }
}

#[derive(Clone, Copy)]
struct Versions {
    apply: fn(Function, &mut [f32]),
    draws: fn(Draws, [[u32; GRAIN]; 3]) -> [f32; GRAIN],
}

fn versions() -> &'static Versions {
    static FOUND: OnceLock<Versions> = OnceLock::new();
    FOUND.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            if std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512dq")
            {
                return Versions {
                    // SAFETY: the features were just found.
                    apply: |f, x| unsafe { x86::apply_512(f, x) },
                    // SAFETY: as above.
                    draws: |what, c| unsafe { x86::draws_512(what, c) },
                };
            }
            if std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma") {
                return Versions {
                    // SAFETY: the features were just found.
                    apply: |f, x| unsafe { x86::apply_256(f, x) },
                    // SAFETY: as above.
                    draws: |what, c| unsafe { x86::draws_256(what, c) },
                };
            }
        }
        Versions { apply: on_each, draws: draw }
    })
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Draws, Function, GRAIN, draw, on_each};

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,fma")]
    pub(super) fn apply_512(f: Function, x: &mut [f32]) {
        on_each(f, x);
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn apply_256(f: Function, x: &mut [f32]) {
        on_each(f, x);
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,fma")]
    pub(super) fn draws_512(what: Draws, counters: [[u32; GRAIN]; 3]) -> [f32; GRAIN] {
        draw(what, counters)
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) fn draws_256(what: Draws, counters: [[u32; GRAIN]; 3]) -> [f32; GRAIN] {
        draw(what, counters)
    }
}

#[inline(always)]
fn on_each(f: Function, x: &mut [f32]) {
    match f {
        Function::Exp => in_chunks(x, exp),
        Function::Log => in_chunks(x, log),
        Function::Tanh => in_chunks(x, tanh),
        Function::Erf => in_chunks(x, erf),
        Function::Sigmoid => in_chunks(x, sigmoid),
        Function::Sin => in_chunks_or(x, sin, |x| f64::from(x).sin() as f32),
        Function::Cos => in_chunks_or(x, cos, |x| f64::from(x).cos() as f32),
        Function::Round => in_chunks(x, f32::round_ties_even),
        // Of two arguments.
        Function::Pow | Function::Mod => {}
    }
}

#[inline(always)]
fn in_chunks(x: &mut [f32], f: impl Fn(f32) -> f32) {
    let (chunks, rest) = x.as_chunks_mut::<GRAIN>();
    for c in chunks {
        for v in c.iter_mut() {
            *v = f(*v);
        }
    }
    for v in rest {
        *v = f(*v);
    }
}

/// Far from zero `exact` is taken.
#[inline(always)]
fn in_chunks_or(x: &mut [f32], f: impl Fn(f32) -> f32, exact: impl Fn(f32) -> f32) {
    let is_far = |x: f32| !(x.abs() <= 30_000.0);
    for c in x.chunks_mut(GRAIN) {
        let far = c.iter().any(|v| is_far(*v));
        let mut before = [0.0; GRAIN];
        before[..c.len()].copy_from_slice(c);
        in_chunks(c, &f);
        if far {
            let both = c.iter_mut().zip(before);
            both.filter(|(_, x)| is_far(*x)).for_each(|(y, x)| *y = exact(x));
        }
    }
}

/// c0 + x * (c1 + x * (..)), by Horner with fused steps.
#[inline(always)]
fn poly<const N: usize>(x: f32, coefficients: &[f32; N]) -> f32 {
    let mut acc = coefficients[N - 1];
    for c in coefficients[..N - 1].iter().rev() {
        acc = acc.mul_add(x, *c);
    }
    acc
}

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

/// The integer nearest to x (|x| < 2^22), as a float and as an integer.
#[inline(always)]
fn round_small(x: f32) -> (f32, i32) {
    let shifted = x + ROUNDER;
    (shifted - ROUNDER, (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32))
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// e^x = 2^n e^r with n = round(x / ln 2).
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Below the first end the result is zero, and nothing is computed with the tiny numbers that slow processors
    // down (masked scores are all there); above the second it is infinity anyway. NaN passes both.
    let vanishes = x < -103.98;
    let x = if vanishes { 0.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let (n_float, n) = round_small(x * std::f32::consts::LOG2_E);
    let r = n_float.mul_add(-LN2_HI, x);
    let r = n_float.mul_add(-LN2_LO, r);
    let p = poly(r, &EXP).mul_add(r * r, r);
    // 2^n in two factors: n may be below -126, where the result is denormal and must be rounded once.
    let half = n >> 1;
    let (half, rest) = (power_of_two(half), power_of_two(n.wrapping_sub(half)));
    let y = p.mul_add(half, half) * rest;
    if vanishes { 0.0 } else { y }
}

/// ln x = k ln 2 + ln m with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s), s = (m-1)/(m+1).
#[inline(always)]
fn log(x: f32) -> f32 {
    let denormal = x < f32::MIN_POSITIVE;
    let m = if denormal { x * 8_388_608.0 } else { x };
    // Subtracting the bits of sqrt(1/2) makes the exponent field count from there.
    let root = std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32;
    let moved = (m.to_bits() as i32).wrapping_sub(root);
    let k = (moved >> 23) + if denormal { -23 } else { 0 };
    let k = k as f32;
    let m = f32::from_bits(((moved & 0x007f_ffff) + root) as u32);
    let f = m - 1.0;
    let s = f / (f + 2.0);
    let z = s * s;
    // 2 atanh(s) = f - f²/2 + s (f²/2 + z P(z)): f is exact, so little is lost.
    let square = (f * f) * 0.5;
    let inner = square + poly(z, &LOG) * z;
    let tail = k.mul_add(LN2_LO, s * inner) - square;
    let y = k.mul_add(LN2_HI, tail + f);
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { f32::INFINITY } else { y };
    // Negative numbers and NaN.
    if x >= 0.0 { y } else { f32::NAN }
}

/// 1 / (1 + e^-x), by e^-|x| on both sides so that small results keep their digits.
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let above = if x < 0.0 { e } else { 1.0 };
    above / (1.0 + e)
}

/// tanh x: a polynomial near zero, 1 - 2 / (e^2|x| + 1) elsewhere.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let square = x * x;
    let near = poly(square, &TANH).mul_add(square * x, x);
    let far = (1.0 - 2.0 / (exp(a + a) + 1.0)).copysign(x);
    if a < 0.65 { near } else { far }
}

/// erf x: an odd polynomial near zero, 1 - e^(-x P(x)) elsewhere.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let near = poly(x * x, &ERF_SMALL) * x;
    let t = if a > 4.1 { 4.1 } else { a };
    let far = (1.0 - exp(-(poly(t, &ERF_LARGE) * t))).copysign(x);
    if a < 0.925 { near } else { far }
}

#[inline(always)]
fn sin(x: f32) -> f32 {
    sin_cos(x, 0)
}

#[inline(always)]
fn cos(x: f32) -> f32 {
    sin_cos(x, 1)
}

/// sin (or with a `shift` of 1 cos) x: x = k pi/2 + r, then by the quadrant of k.
#[inline(always)]
fn sin_cos(x: f32, shift: i32) -> f32 {
    let (k_float, k) = round_small(x * std::f32::consts::FRAC_2_PI);
    let mut r = x;
    for part in HALF_PI {
        r = k_float.mul_add(-part, r);
    }
    of_quadrant(r, k.wrapping_add(shift))
}

/// sin(r + quadrant pi/2).
#[inline(always)]
fn of_quadrant(r: f32, quadrant: i32) -> f32 {
    let z = r * r;
    let s = poly(z, &SIN).mul_add(z * r, r);
    let c = poly(z, &COS).mul_add(z * z, z.mul_add(-0.5, 1.0));
    let y = if quadrant & 1 == 1 { c } else { s };
    f32::from_bits(y.to_bits() ^ ((quadrant & 2) << 30) as u32)
}

/// Draws, by the rules of [`cs336_compiler::scalar::random`]; normal ones to f32's rounding.
#[inline(always)]
fn draw(what: Draws, [c0, c1, c2]: [[u32; GRAIN]; 3]) -> [f32; GRAIN] {
    let mut out = [0.0; GRAIN];
    for (i, y) in out.iter_mut().enumerate() {
        let words = philox([c0[i], c1[i], c2[i], what.step], what.key);
        // 24 bits: exact.
        let unit = |w: u32| (w >> 8) as i32 as f32 / 16_777_216.0;
        *y = match what.dist {
            Dist::Uniform => unit(words[0]),
            Dist::Normal => {
                let radius = (-2.0 * log(1.0 - unit(words[0]))).sqrt();
                // Quarters of a turn: exact, and so is what is left of the nearest.
                let quarters = 4.0 * unit(words[1]);
                let (k_float, k) = round_small(quarters);
                let r = (quarters - k_float) * std::f32::consts::FRAC_PI_2;
                radius * of_quadrant(r, k.wrapping_add(1))
            }
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use cs336_compiler::scalar::random;

    #[test]
    fn all_versions_give_the_same_bits() {
        let x: Vec<f32> =
            (0..10_000).map(|i| f32::from_bits((i as u32).wrapping_mul(2_654_435_761))).collect();
        for f in Function::ALL {
            let (mut a, mut b) = (x.clone(), x.clone());
            apply(f, &mut a);
            on_each(f, &mut b);
            for ((x, a), b) in x.iter().zip(&a).zip(&b) {
                assert!(
                    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan(),
                    "{f:?}({x:e}): {a:e}, {b:e}"
                );
            }
        }
    }

    #[test]
    fn draws_are_those_of_the_rules() {
        for dist in [Dist::Uniform, Dist::Normal] {
            let what = Draws { dist, key: mix_key(77, 5), step: 3 };
            for block in 0..400u32 {
                let c0: [u32; GRAIN] = std::array::from_fn(|i| block * 16 + i as u32);
                let got = (versions().draws)(what, [c0, [block; GRAIN], [9; GRAIN]]);
                for (c, y) in c0.iter().zip(got) {
                    let want = random(dist, 77, 5, [*c, block, 9], 3);
                    let off = (f64::from(y) - want).abs();
                    assert!(off <= 1e-6 * want.abs().max(1e-3), "{dist:?} {c}: {y} for {want}");
                }
            }
        }
    }
}
