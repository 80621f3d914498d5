//! What compiled bodies call: functions that are rare or long.

use super::clif::{Extern, Function};
use super::wide;

/// The address of a function that compiled code calls.
pub(crate) fn address(call: Extern) -> *const u8 {
    match call {
        Extern::Exp => exp as *const u8,
        Extern::Log => log as *const u8,
        Extern::Sin => sin as *const u8,
        Extern::Cos => cos as *const u8,
        Extern::Tanh => tanh as *const u8,
        Extern::Erf => erf as *const u8,
        Extern::Sigmoid => sigmoid as *const u8,
        Extern::Pow => pow as *const u8,
        Extern::Mod => modulo as *const u8,
        Extern::Draw => draw as *const u8,
        Extern::Strip => super::strips::strip as *const u8,
        Extern::Wide => wide::wide as *const u8,
        Extern::Draws => wide::draws as *const u8,
    }
}

/// As on a strip: a number's value does not depend on how many are computed with it.
fn one(f: Function, x: f32) -> f32 {
    let mut x = [x];
    wide::apply(f, &mut x);
    x[0]
}

extern "C" fn exp(x: f32) -> f32 {
    one(Function::Exp, x)
}

extern "C" fn log(x: f32) -> f32 {
    one(Function::Log, x)
}

extern "C" fn sin(x: f32) -> f32 {
    one(Function::Sin, x)
}

extern "C" fn cos(x: f32) -> f32 {
    one(Function::Cos, x)
}

extern "C" fn tanh(x: f32) -> f32 {
    one(Function::Tanh, x)
}

extern "C" fn erf(x: f32) -> f32 {
    one(Function::Erf, x)
}

extern "C" fn sigmoid(x: f32) -> f32 {
    one(Function::Sigmoid, x)
}

extern "C" fn pow(a: f32, b: f32) -> f32 {
    wide::pow(a, b)
}

extern "C" fn modulo(a: i32, b: i32) -> i32 {
    if b == 0 {
        return 0;
    }
    let (a, b) = (i64::from(a), i64::from(b));
    let r = a.rem_euclid(b.abs());
    (if b < 0 && r != 0 { r + b } else { r }) as i32
}

#[allow(clippy::too_many_arguments, reason = "called by compiled code")]
extern "C" fn draw(
    normal: i64,
    seed: i64,
    stream: i64,
    step: i64,
    c0: i32,
    c1: i32,
    c2: i32,
) -> f32 {
    let counters = [c0, c1, c2].map(|c| [c as u32; wide::GRAIN]);
    let mut out = [0.0f32; wide::GRAIN];
    let [a, b, c] = counters.each_ref().map(|c| c.as_ptr());
    // SAFETY: arrays of as many numbers.
    unsafe { wide::draws(normal, seed, stream, step, a, b, c, out.as_mut_ptr(), 1) };
    out[0]
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
