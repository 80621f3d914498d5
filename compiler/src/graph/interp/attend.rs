//! Attention and its gradient, by their formulas, with all scores stored.
//!
//! ```text
//! s0 = scale * Σ_over q k        s = score(s0)        p = exp(s - lse) where mask, else 0
//! out = Σ_key p v                 lse = log Σ_key exp(s)
//! dv = Σ p dout                   dp = Σ_value dout v          D = Σ_value dout out
//! ds = p (dp - D)                 ds0 = ds * ∂score/∂s0        dc = Σ ds * ∂score/∂c
//! dq = scale Σ ds0 k              dk = scale Σ ds0 q
//! ```
//! where a sum without axes runs over those that the result does not have.

use super::super::{Attention, Axis, BinOp, DType, Expr, Inst, Runtime, Type, UnOp};
use super::tensor::{Tensor, each};

type Scalars<'a> = &'a dyn Fn(Runtime) -> f64;

/// The output and the log-sum-exp.
pub(super) fn forward(
    a: &Attention,
    ty: &Type,
    inputs: &[&Tensor],
    runtime: Scalars<'_>,
) -> Vec<Tensor> {
    let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
    let s = scores(a, inputs, runtime);
    let rows = Type::new(DType::F32, a.rows(&q.ty, &k.ty));
    let mut max = Tensor::filled(&rows, f64::NEG_INFINITY);
    let mut sum = Tensor::filled(&rows, 0.0);
    let place = max.clone();
    let place = place.view(&s.ty.axes);
    let each_score = |f: &mut dyn FnMut(usize, f64)| {
        let view = s.view(&s.ty.axes);
        each(&s.ty.axes, |at| f(place.offset(at), view.get(at)));
    };
    each_score(&mut |row, s| {
        // A NaN must reach the result.
        if s > max.data[row] || s.is_nan() {
            max.data[row] = s;
        }
    });
    each_score(&mut |row, s| {
        if max.data[row] > f64::NEG_INFINITY || max.data[row].is_nan() {
            sum.data[row] += (s - max.data[row]).exp();
        }
    });
    let log = |(max, sum): (&f64, &f64)| {
        if *max == f64::NEG_INFINITY { f64::NEG_INFINITY } else { max + sum.ln() }
    };
    let lse = max.data.iter().zip(&sum.data).map(log).collect();
    let lse = Tensor { ty: rows, data: lse };
    let p = probabilities(&s, &lse);
    let out = product(ty, &p, v);
    vec![out, lse]
}

/// The gradients of q, k, v, then of the captured tensors that are wanted.
pub(super) fn backward(
    a: &Attention,
    wants: &[bool],
    ty: &Type,
    inputs: &[&Tensor],
    runtime: Scalars<'_>,
) -> Vec<Tensor> {
    let captured = 3 + wants.len();
    let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
    let (out, lse, dout) = (inputs[captured], inputs[captured + 1], inputs[captured + 2]);
    let seen = &inputs[..captured];
    let s = scores(a, seen, runtime);
    let p = probabilities(&s, lse);
    let dv = product(&v.ty, &p, dout);
    let dp = product(&s.ty, dout, v);
    let d = product(&lse.ty, dout, out);
    let (p_at, dp_at, d_at) = (p.view(&s.ty.axes), dp.view(&s.ty.axes), d.view(&s.ty.axes));
    let ds = Tensor::of(&s.ty, |at| {
        let p = p_at.get(at);
        if p == 0.0 { 0.0 } else { p * (dp_at.get(at) - d_at.get(at)) }
    });
    let towards = |arg: u32| {
        let slope = slopes(a, seen, arg, runtime);
        let data = ds.data.iter().zip(&slope.data);
        let data = data.map(|(ds, slope)| if *ds == 0.0 { 0.0 } else { ds * slope }).collect();
        Tensor { ty: s.ty.clone(), data }
    };
    let mut ds0 = towards(0);
    ds0.data.iter_mut().for_each(|x| *x *= a.scale.get());
    let dq = product(&Type::new(ty.dtype, q.ty.axes.clone()), &ds0, k);
    let mut results = vec![dq, product(&k.ty, &ds0, q), dv];
    let one = Tensor::filled(&Type::scalar(DType::F32), 1.0);
    for (i, _) in wants.iter().enumerate().filter(|(_, want)| **want) {
        results.push(product(&inputs[3 + i].ty, &towards(1 + i as u32), &one));
    }
    results
}

// Σ a b over all axes that `ty` lacks.
fn product(ty: &Type, a: &Tensor, b: &Tensor) -> Tensor {
    let mut space = ty.axes.clone();
    for axis in a.ty.axes.iter().chain(&b.ty.axes) {
        if !space.iter().any(|s| s.name == axis.name) {
            space.push(axis.clone());
        }
    }
    let mut out = Tensor::filled(ty, 0.0);
    let place = out.clone();
    let place = place.view(&space);
    let (a, b) = (a.view(&space), b.view(&space));
    each(&space, |at| out.data[place.offset(at)] += a.get(at) * b.get(at));
    out
}

fn space(a: &Attention, inputs: &[&Tensor]) -> Vec<Axis> {
    let (q, k) = (&inputs[0].ty, &inputs[1].ty);
    let mut space = a.rows(q, k);
    let size = k.size(&a.key).expect("k has the key axis");
    space.push(Axis { name: a.key.clone(), size });
    space
}

// Every score, -inf where masked.
fn scores(a: &Attention, inputs: &[&Tensor], runtime: Scalars<'_>) -> Tensor {
    scored(a, inputs, &|args, pos| {
        if a.mask.eval(args, pos, runtime) == 0.0 {
            f64::NEG_INFINITY
        } else {
            a.score.eval(args, pos, runtime)
        }
    })
}

fn slopes(a: &Attention, inputs: &[&Tensor], arg: u32, runtime: Scalars<'_>) -> Tensor {
    scored(a, inputs, &|args, pos| slope(&a.score, arg, args, pos, runtime))
}

type Leaves<'a> = &'a dyn Fn(u32) -> f64;

// A value per score from what the arguments and positions of an expression are there.
fn scored(a: &Attention, inputs: &[&Tensor], f: &dyn Fn(Leaves<'_>, Leaves<'_>) -> f64) -> Tensor {
    let space = space(a, inputs);
    let ty = Type::new(DType::F32, space.clone());
    let dots = product(&ty, inputs[0], inputs[1]);
    let dots = dots.view(&space);
    let views: Vec<_> = inputs[3..].iter().map(|x| x.view(&space)).collect();
    let pos_at: Vec<usize> = a
        .pos
        .iter()
        .map(|name| space.iter().position(|s| s.name == *name).expect("a position is a score axis"))
        .collect();
    Tensor::of(&ty, |at| {
        let args = |i: u32| match i {
            0 => a.scale.get() * dots.get(at),
            i => views[i as usize - 1].get(at),
        };
        let pos = |i: u32| at[pos_at[i as usize]] as f64;
        f(&args, &pos)
    })
}

// exp(s - lse); 0 in a row without a live key.
fn probabilities(s: &Tensor, lse: &Tensor) -> Tensor {
    let (s_at, lse_at) = (s.view(&s.ty.axes), lse.view(&s.ty.axes));
    Tensor::of(&s.ty, |at| {
        let s = s_at.get(at);
        if s == f64::NEG_INFINITY { 0.0 } else { (s - lse_at.get(at)).exp() }
    })
}

/// The derivative of an expression by one of its arguments: each instruction carries its value and its slope.
pub(super) fn slope(
    e: &Expr,
    arg: u32,
    args: Leaves<'_>,
    pos: Leaves<'_>,
    runtime: Scalars<'_>,
) -> f64 {
    let mut slopes: Vec<f64> = Vec::with_capacity(e.insts.len());
    let mut part = Expr { insts: Vec::new(), result: 0 };
    let mut values: Vec<f64> = Vec::with_capacity(e.insts.len());
    for inst in &e.insts {
        part.insts.push(inst.clone());
        part.result = part.insts.len() as u32 - 1;
        values.push(part.eval(args, pos, runtime));
        let (x, dx) = (|r: &u32| values[*r as usize], |r: &u32| slopes[*r as usize]);
        slopes.push(match inst {
            Inst::Arg(i) => f64::from(*i == arg),
            Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) | Inst::Random(..) => 0.0,
            Inst::Unary(op, a) => chain(unary_slope(*op, x(a)), dx(a)),
            Inst::Binary(op, a, b) => {
                let (by_a, by_b) = binary_slopes(*op, x(a), x(b));
                chain(by_a, dx(a)) + chain(by_b, dx(b))
            }
            Inst::Select(c, a, b) => {
                if x(c) != 0.0 {
                    dx(a)
                } else {
                    dx(b)
                }
            }
            Inst::Cast(dtype, a) => {
                if dtype.is_float() {
                    dx(a)
                } else {
                    0.0
                }
            }
        });
    }
    slopes[e.result as usize]
}

// What does not depend on the argument stays out, even where the outer slope is infinite.
fn chain(outer: f64, inner: f64) -> f64 {
    if inner == 0.0 { 0.0 } else { outer * inner }
}

fn unary_slope(op: UnOp, x: f64) -> f64 {
    match op {
        UnOp::Neg => -1.0,
        UnOp::Abs => UnOp::Sign.eval(x),
        UnOp::Recip => -1.0 / (x * x),
        UnOp::Exp => x.exp(),
        UnOp::Log => 1.0 / x,
        UnOp::Sqrt => 0.5 / x.sqrt(),
        UnOp::Rsqrt => -0.5 / (x * x.sqrt()),
        UnOp::Sin => x.cos(),
        UnOp::Cos => -x.sin(),
        UnOp::Tanh => 1.0 - x.tanh() * x.tanh(),
        UnOp::Erf => 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp(),
        UnOp::Sigmoid => op.eval(x) * (1.0 - op.eval(x)),
        UnOp::Floor | UnOp::Ceil | UnOp::Round => 0.0,
        UnOp::Sign | UnOp::Not | UnOp::IsFinite => 0.0,
    }
}

fn binary_slopes(op: BinOp, a: f64, b: f64) -> (f64, f64) {
    match op {
        BinOp::Add => (1.0, 1.0),
        BinOp::Sub => (1.0, -1.0),
        BinOp::Mul => (b, a),
        BinOp::Div => (1.0 / b, -a / (b * b)),
        BinOp::Pow => (b * a.powf(b - 1.0), a.powf(b) * a.ln()),
        // Of two equal numbers the first is taken.
        BinOp::Min => (f64::from(a <= b), f64::from(a > b)),
        BinOp::Max => (f64::from(a >= b), f64::from(a < b)),
        BinOp::Mod => (1.0, -(a / b).floor()),
        BinOp::Lt | BinOp::Le | BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => (0.0, 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_agree_with_finite_differences() {
        let runtime = |_: Runtime| 0.0;
        // tanh(s / 3) * c + max(s, c)
        let mut e = Expr::arg(0);
        let c = e.push(Inst::Arg(1));
        let three = e.push(Inst::Const(super::super::super::Literal::new(3.0)));
        let ratio = e.push(Inst::Binary(BinOp::Div, 0, three));
        let tanh = e.push(Inst::Unary(UnOp::Tanh, ratio));
        let times = e.push(Inst::Binary(BinOp::Mul, tanh, c));
        let max = e.push(Inst::Binary(BinOp::Max, 0, c));
        e.result = e.push(Inst::Binary(BinOp::Add, times, max));
        let value = |s: f64, c: f64| e.eval(&|i| if i == 0 { s } else { c }, &|_| 0.0, &runtime);
        for (s, c) in [(0.3, -0.7), (2.0, 5.0), (-1.0, 0.5)] {
            let h = 1e-6;
            for (arg, by) in [(0, (h, 0.0)), (1, (0.0, h))] {
                let near = (value(s + by.0, c + by.1) - value(s - by.0, c - by.1)) / (2.0 * h);
                let found = slope(&e, arg, &|i| if i == 0 { s } else { c }, &|_| 0.0, &runtime);
                assert!((near - found).abs() < 1e-8, "{near} {found}");
            }
        }
    }
}
