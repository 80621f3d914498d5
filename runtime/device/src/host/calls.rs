//! What compiled bodies call: functions that are rare or long, computed in f64 here.

use cs336_compiler::scalar::{Dist, random};

use super::clif::Extern;

/// The address of a function that compiled code calls.
pub(crate) fn address(call: Extern) -> *const u8 {
    match call {
        Extern::Sin => sin as *const u8,
        Extern::Cos => cos as *const u8,
        Extern::Pow => pow as *const u8,
        Extern::Mod => modulo as *const u8,
        Extern::Uniform => uniform as *const u8,
        Extern::Normal => normal as *const u8,
        Extern::Strip => super::strips::strip as *const u8,
    }
}

extern "C" fn sin(x: f32) -> f32 {
    f64::from(x).sin() as f32
}

extern "C" fn cos(x: f32) -> f32 {
    f64::from(x).cos() as f32
}

extern "C" fn pow(a: f32, b: f32) -> f32 {
    f64::from(a).powf(f64::from(b)) as f32
}

extern "C" fn modulo(a: i32, b: i32) -> i32 {
    if b == 0 {
        return 0;
    }
    let (a, b) = (i64::from(a), i64::from(b));
    let r = a.rem_euclid(b.abs());
    (if b < 0 && r != 0 { r + b } else { r }) as i32
}

extern "C" fn uniform(
    low: u32,
    high: u32,
    stream: u64,
    c0: u32,
    c1: u32,
    c2: u32,
    step: u32,
) -> f32 {
    draw(Dist::Uniform, low, high, stream, [c0, c1, c2], step)
}

extern "C" fn normal(
    low: u32,
    high: u32,
    stream: u64,
    c0: u32,
    c1: u32,
    c2: u32,
    step: u32,
) -> f32 {
    draw(Dist::Normal, low, high, stream, [c0, c1, c2], step)
}

fn draw(dist: Dist, low: u32, high: u32, stream: u64, counters: [u32; 3], step: u32) -> f32 {
    let seed = u64::from(high) << 32 | u64::from(low);
    random(dist, seed, stream, counters, step) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modulo_is_that_of_floor() {
        for (a, b, want) in [(7, 3, 1), (-7, 3, 2), (7, -3, -2), (-6, 3, 0), (5, 0, 0)] {
            assert_eq!(modulo(a, b), want, "{a} mod {b}");
        }
        assert_eq!(modulo(i32::MIN, -1), 0);
    }
}
