//! The derivative of a scalar expression by one of its arguments, as an expression.
//!
//! Takes an [`Expr`], gives an `Expr` over the same arguments, positions and runtime scalars. The gradient of an attention
//! needs `∂score/∂s` and `∂score/∂c` for each captured tensor `c`; whoever emits it calls this.
//!
//! Forward mode: every instruction has a slope, which is nothing (it does not depend on the argument), one, or another
//! instruction. What does not depend on the argument never enters a product, so a slope of infinity elsewhere does
//! no harm. Conventions at kinks are those of the tensor rules: of two equal numbers `max` and `min` take the first, `abs` has
//! slope 0 at 0, rounding to a float type has slope 1, and what has steps has slope 0.

use crate::scalar::{BinOp, Expr, Inst, Literal, Ref, UnOp};

/// `∂ e / ∂ arg`.
pub fn d(e: &Expr, arg: u32) -> Expr {
    let mut d = Expr { insts: e.insts.clone(), result: 0 };
    let mut slopes: Vec<Slope> = Vec::with_capacity(e.insts.len());
    for (at, inst) in e.insts.iter().enumerate() {
        let of = |r: &Ref| slopes[*r as usize];
        let slope = match inst {
            Inst::Arg(i) if *i == arg => Slope::One,
            Inst::Arg(_) | Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) | Inst::Random(..) => {
                Slope::Zero
            }
            Inst::Unary(op, a) => {
                let inner = of(a);
                chain(&mut d, inner, |d| unary(d, *op, *a, at as Ref))
            }
            Inst::Binary(op, a, b) => {
                let (da, db) = (of(a), of(b));
                let by_a = chain(&mut d, da, |d| binary(d, *op, *a, *b, at as Ref, Side::Left));
                let by_b = chain(&mut d, db, |d| binary(d, *op, *a, *b, at as Ref, Side::Right));
                sum(&mut d, by_a, by_b)
            }
            Inst::Select(c, a, b) => {
                let (da, db) = (of(a), of(b));
                if da == db {
                    da
                } else {
                    let (da, db) = (number(&mut d, da), number(&mut d, db));
                    Slope::At(d.push(Inst::Select(*c, da, db)))
                }
            }
            Inst::Cast(dtype, a) => {
                if dtype.is_float() {
                    of(a)
                } else {
                    Slope::Zero
                }
            }
        };
        slopes.push(slope);
    }
    d.result = number(&mut d, slopes[e.result as usize]);
    pruned(&d)
}

/// True for the constant 0.
pub fn is_zero(e: &Expr) -> bool {
    e.insts.get(e.result as usize) == Some(&Inst::Const(Literal::new(0.0)))
}

/// A slope: nothing, one, or an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slope {
    Zero,
    One,
    At(Ref),
}

/// Which argument of an operator.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Left,
    Right,
}

fn constant(d: &mut Expr, value: f64) -> Ref {
    d.push(Inst::Const(Literal::new(value)))
}

fn number(d: &mut Expr, slope: Slope) -> Ref {
    match slope {
        Slope::Zero => constant(d, 0.0),
        Slope::One => constant(d, 1.0),
        Slope::At(r) => r,
    }
}

fn sum(d: &mut Expr, a: Slope, b: Slope) -> Slope {
    if a == Slope::Zero {
        return b;
    }
    if b == Slope::Zero {
        return a;
    }
    let (a, b) = (number(d, a), number(d, b));
    Slope::At(d.push(Inst::Binary(BinOp::Add, a, b)))
}

// outer * inner; the outer slope is written only if there is an inner one.
fn chain(d: &mut Expr, inner: Slope, outer: impl FnOnce(&mut Expr) -> Slope) -> Slope {
    if inner == Slope::Zero {
        return Slope::Zero;
    }
    match (outer(d), inner) {
        (Slope::Zero, _) | (_, Slope::Zero) => Slope::Zero,
        (Slope::One, inner) => inner,
        (outer, Slope::One) => outer,
        (Slope::At(outer), Slope::At(inner)) => {
            Slope::At(d.push(Inst::Binary(BinOp::Mul, outer, inner)))
        }
    }
}

/// The slope of `y = op(x)`.
pub(crate) fn unary(d: &mut Expr, op: UnOp, x: Ref, y: Ref) -> Slope {
    let mul = |d: &mut Expr, a, b| d.push(Inst::Binary(BinOp::Mul, a, b));
    let slope = match op {
        // -1
        UnOp::Neg => constant(d, -1.0),
        // sign x
        UnOp::Abs => d.push(Inst::Unary(UnOp::Sign, x)),
        // -1 / x² = -y²
        UnOp::Recip => {
            let square = mul(d, y, y);
            d.push(Inst::Unary(UnOp::Neg, square))
        }
        // y
        UnOp::Exp => y,
        // 1 / x
        UnOp::Log => d.push(Inst::Unary(UnOp::Recip, x)),
        // 1 / 2y
        UnOp::Sqrt => {
            let half = constant(d, 0.5);
            d.push(Inst::Binary(BinOp::Div, half, y))
        }
        // -y³ / 2
        UnOp::Rsqrt => {
            let square = mul(d, y, y);
            let cube = mul(d, square, y);
            let half = constant(d, -0.5);
            d.push(Inst::Binary(BinOp::Mul, half, cube))
        }
        // cos x
        UnOp::Sin => d.push(Inst::Unary(UnOp::Cos, x)),
        // -sin x
        UnOp::Cos => {
            let sin = d.push(Inst::Unary(UnOp::Sin, x));
            d.push(Inst::Unary(UnOp::Neg, sin))
        }
        // 1 - y²
        UnOp::Tanh => {
            let square = mul(d, y, y);
            let one = constant(d, 1.0);
            d.push(Inst::Binary(BinOp::Sub, one, square))
        }
        // 2/√π e^(-x²)
        UnOp::Erf => {
            let square = mul(d, x, x);
            let minus = d.push(Inst::Unary(UnOp::Neg, square));
            let exp = d.push(Inst::Unary(UnOp::Exp, minus));
            let scale = constant(d, std::f64::consts::FRAC_2_SQRT_PI);
            d.push(Inst::Binary(BinOp::Mul, scale, exp))
        }
        // y (1 - y)
        UnOp::Sigmoid => {
            let one = constant(d, 1.0);
            let rest = d.push(Inst::Binary(BinOp::Sub, one, y));
            d.push(Inst::Binary(BinOp::Mul, y, rest))
        }
        // Steps.
        UnOp::Floor | UnOp::Ceil | UnOp::Round | UnOp::Sign | UnOp::Not | UnOp::IsFinite => {
            return Slope::Zero;
        }
    };
    Slope::At(slope)
}

/// The slope of `y = op(a, b)` by one side.
pub(crate) fn binary(d: &mut Expr, op: BinOp, a: Ref, b: Ref, y: Ref, side: Side) -> Slope {
    let left = side == Side::Left;
    let slope = match op {
        // 1, 1
        BinOp::Add => return Slope::One,
        // 1, -1
        BinOp::Sub if left => return Slope::One,
        BinOp::Sub => constant(d, -1.0),
        // b, a
        BinOp::Mul => {
            if left {
                b
            } else {
                a
            }
        }
        // 1 / b, -y / b
        BinOp::Div if left => d.push(Inst::Unary(UnOp::Recip, b)),
        BinOp::Div => {
            let ratio = d.push(Inst::Binary(BinOp::Div, y, b));
            d.push(Inst::Unary(UnOp::Neg, ratio))
        }
        // b a^(b-1), y log a
        BinOp::Pow if left => {
            let one = constant(d, 1.0);
            let less = d.push(Inst::Binary(BinOp::Sub, b, one));
            let power = d.push(Inst::Binary(BinOp::Pow, a, less));
            d.push(Inst::Binary(BinOp::Mul, b, power))
        }
        BinOp::Pow => {
            let log = d.push(Inst::Unary(UnOp::Log, a));
            d.push(Inst::Binary(BinOp::Mul, y, log))
        }
        // Whether a is taken, whether b is.
        BinOp::Min if left => d.push(Inst::Binary(BinOp::Le, a, b)),
        BinOp::Min => d.push(Inst::Binary(BinOp::Lt, b, a)),
        BinOp::Max if left => d.push(Inst::Binary(BinOp::Le, b, a)),
        BinOp::Max => d.push(Inst::Binary(BinOp::Lt, a, b)),
        // 1, -floor(a / b)
        BinOp::Mod if left => return Slope::One,
        BinOp::Mod => {
            let ratio = d.push(Inst::Binary(BinOp::Div, a, b));
            let floor = d.push(Inst::Unary(UnOp::Floor, ratio));
            d.push(Inst::Unary(UnOp::Neg, floor))
        }
        BinOp::Lt | BinOp::Le | BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => {
            return Slope::Zero;
        }
    };
    Slope::At(slope)
}

// Only what the result reads.
fn pruned(e: &Expr) -> Expr {
    let mut used = vec![false; e.insts.len()];
    used[e.result as usize] = true;
    for i in (0..e.insts.len()).rev() {
        if used[i] {
            reads(&e.insts[i]).into_iter().for_each(|r| used[r as usize] = true);
        }
    }
    let mut out = Expr { insts: Vec::new(), result: 0 };
    let mut moved: Vec<Ref> = vec![0; e.insts.len()];
    for i in (0..e.insts.len()).filter(|i| used[*i]) {
        let at = |r: &Ref| moved[*r as usize];
        let inst = match &e.insts[i] {
            Inst::Arg(_) | Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) => e.insts[i].clone(),
            Inst::Unary(op, a) => Inst::Unary(*op, at(a)),
            Inst::Binary(op, a, b) => Inst::Binary(*op, at(a), at(b)),
            Inst::Select(a, b, c) => Inst::Select(at(a), at(b), at(c)),
            Inst::Cast(dtype, a) => Inst::Cast(*dtype, at(a)),
            Inst::Random(dist, stream, c) => {
                Inst::Random(*dist, *stream, [at(&c[0]), at(&c[1]), at(&c[2])])
            }
        };
        moved[i] = out.push(inst);
    }
    out.result = moved[e.result as usize];
    out
}

fn reads(inst: &Inst) -> Vec<Ref> {
    match inst {
        Inst::Arg(_) | Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) => vec![],
        Inst::Unary(_, a) | Inst::Cast(_, a) => vec![*a],
        Inst::Binary(_, a, b) => vec![*a, *b],
        Inst::Select(a, b, c) => vec![*a, *b, *c],
        Inst::Random(_, _, c) => c.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(e: &Expr, args: &[f64]) -> f64 {
        e.eval(&|i| args[i as usize], &|_| 2.0, &|_| 0.0)
    }

    fn check(e: &Expr, args: &[f64]) {
        for arg in 0..args.len() {
            let h = 1e-6;
            let near = |by: f64| {
                let mut moved = args.to_vec();
                moved[arg] += by;
                value(e, &moved)
            };
            let want = (near(h) - near(-h)) / (2.0 * h);
            let found = value(&d(e, arg as u32), args);
            assert!(
                (want - found).abs() < 1e-7 * (1.0 + want.abs()),
                "{e:?} {arg}: {found} {want}"
            );
        }
    }

    #[test]
    fn one_argument() {
        let smooth = [
            UnOp::Neg,
            UnOp::Abs,
            UnOp::Recip,
            UnOp::Exp,
            UnOp::Log,
            UnOp::Sqrt,
            UnOp::Rsqrt,
            UnOp::Sin,
            UnOp::Cos,
            UnOp::Tanh,
            UnOp::Erf,
            UnOp::Sigmoid,
            UnOp::Floor,
        ];
        for op in smooth {
            let mut e = Expr::arg(0);
            e.result = e.push(Inst::Unary(op, 0));
            check(&e, &[0.7]);
            check(&e, &[1.9]);
        }
    }

    #[test]
    fn two_arguments() {
        let ops = [
            BinOp::Add,
            BinOp::Sub,
            BinOp::Mul,
            BinOp::Div,
            BinOp::Pow,
            BinOp::Min,
            BinOp::Max,
            BinOp::Mod,
            BinOp::Lt,
        ];
        for op in ops {
            let mut e = Expr::arg(0);
            let b = e.push(Inst::Arg(1));
            e.result = e.push(Inst::Binary(op, 0, b));
            check(&e, &[0.7, 1.3]);
            check(&e, &[2.7, 1.3]);
        }
    }

    // 50 tanh(s / 50) + pos * c: a soft cap and a slope per head.
    #[test]
    fn soft_cap_with_bias() {
        let mut e = Expr::arg(0);
        let c = e.push(Inst::Arg(1));
        let cap = e.push(Inst::Const(Literal::new(50.0)));
        let ratio = e.push(Inst::Binary(BinOp::Div, 0, cap));
        let tanh = e.push(Inst::Unary(UnOp::Tanh, ratio));
        let capped = e.push(Inst::Binary(BinOp::Mul, cap, tanh));
        let pos = e.push(Inst::Pos(0));
        let bias = e.push(Inst::Binary(BinOp::Mul, pos, c));
        e.result = e.push(Inst::Binary(BinOp::Add, capped, bias));
        check(&e, &[20.0, 0.3]);
        assert_eq!(d(&e, 1), Expr { insts: vec![Inst::Pos(0)], result: 0 });
        assert!(!is_zero(&d(&e, 0)) && is_zero(&d(&e, 2)));
    }

    #[test]
    fn branches_keep_their_own_slope() {
        // if s < 0 then 0 else sqrt(s)
        let mut e = Expr::arg(0);
        let zero = e.push(Inst::Const(Literal::new(0.0)));
        let negative = e.push(Inst::Binary(BinOp::Lt, 0, zero));
        let root = e.push(Inst::Unary(UnOp::Sqrt, 0));
        e.result = e.push(Inst::Select(negative, zero, root));
        check(&e, &[4.0]);
        assert_eq!(value(&d(&e, 0), &[-1.0]), 0.0);
    }
}
