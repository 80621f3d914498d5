//! Derivatives of scalar expressions: what the score of an attention needs.
//!
//! Forward mode: each instruction gets the instruction that is its derivative with respect to one argument. The rules are those of
//! `grad_rules`, said for scalars.

use super::{BinOp, Expr, Inst, Literal, UnOp};
use crate::scalar::Ref;

/// d expr / d Arg(arg), as an expression of the same arguments.
pub fn d(expr: &Expr, arg: u32) -> Expr {
    let mut out = Expr { insts: expr.insts.clone(), result: 0 };
    let mut ds: Vec<Option<Ref>> = Vec::with_capacity(expr.insts.len());
    for (i, inst) in expr.insts.iter().enumerate() {
        let derivative = derive(&mut out, i as Ref, inst, arg, &ds);
        ds.push(derivative);
    }
    out.result = match ds[expr.result as usize] {
        Some(r) => r,
        None => number(&mut out, 0.0),
    };
    prune(&out)
}

/// True for the constant 0.
pub fn is_zero(expr: &Expr) -> bool {
    matches!(&expr.insts[expr.result as usize], Inst::Const(l) if l.get() == 0.0)
}

/// The derivative of one instruction; `None` is zero.
fn derive(out: &mut Expr, this: Ref, inst: &Inst, arg: u32, ds: &[Option<Ref>]) -> Option<Ref> {
    let of = |r: Ref| ds[r as usize];
    match inst {
        Inst::Arg(a) => (*a == arg).then(|| number(out, 1.0)),
        Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) | Inst::Random(..) => None,
        Inst::Cast(dtype, a) => {
            if dtype.is_float() {
                of(*a)
            } else {
                None
            }
        }
        Inst::Select(c, a, b) => {
            let (da, db) = (of(*a), of(*b));
            if da.is_none() && db.is_none() {
                return None;
            }
            let da = da.unwrap_or_else(|| number(out, 0.0));
            let db = db.unwrap_or_else(|| number(out, 0.0));
            Some(out.push(Inst::Select(*c, da, db)))
        }
        Inst::Unary(op, a) => {
            let da = of(*a)?;
            let factor = unary(out, *op, *a, this)?;
            Some(times(out, factor, da))
        }
        Inst::Binary(op, a, b) => binary(out, *op, [*a, *b], this, [of(*a), of(*b)]),
    }
}

/// dy / dx of `y = op(x)`.
fn unary(out: &mut Expr, op: UnOp, x: Ref, y: Ref) -> Option<Ref> {
    Some(match op {
        UnOp::Neg => number(out, -1.0),
        UnOp::Abs => out.push(Inst::Unary(UnOp::Sign, x)),
        UnOp::Recip => {
            let s = times(out, y, y);
            out.push(Inst::Unary(UnOp::Neg, s))
        }
        UnOp::Exp => y,
        UnOp::Log => out.push(Inst::Unary(UnOp::Recip, x)),
        UnOp::Sqrt => {
            let half = number(out, 0.5);
            out.push(Inst::Binary(BinOp::Div, half, y))
        }
        UnOp::Rsqrt => {
            let c = number(out, -0.5);
            let s = times(out, y, y);
            let s = times(out, s, y);
            times(out, s, c)
        }
        UnOp::Sin => out.push(Inst::Unary(UnOp::Cos, x)),
        UnOp::Cos => {
            let s = out.push(Inst::Unary(UnOp::Sin, x));
            out.push(Inst::Unary(UnOp::Neg, s))
        }
        UnOp::Tanh => {
            let one = number(out, 1.0);
            let s = times(out, y, y);
            out.push(Inst::Binary(BinOp::Sub, one, s))
        }
        UnOp::Erf => {
            let c = number(out, std::f64::consts::FRAC_2_SQRT_PI);
            let s = times(out, x, x);
            let s = out.push(Inst::Unary(UnOp::Neg, s));
            let e = out.push(Inst::Unary(UnOp::Exp, s));
            times(out, e, c)
        }
        UnOp::Sigmoid => {
            let one = number(out, 1.0);
            let r = out.push(Inst::Binary(BinOp::Sub, one, y));
            times(out, y, r)
        }
        UnOp::Floor | UnOp::Ceil | UnOp::Round | UnOp::Sign | UnOp::Not | UnOp::IsFinite => {
            return None;
        }
    })
}

fn binary(
    out: &mut Expr,
    op: BinOp,
    [a, b]: [Ref; 2],
    y: Ref,
    [da, db]: [Option<Ref>; 2],
) -> Option<Ref> {
    match op {
        BinOp::Add => sum(out, da, db),
        BinOp::Sub => {
            let db = db.map(|d| out.push(Inst::Unary(UnOp::Neg, d)));
            sum(out, da, db)
        }
        BinOp::Mul => {
            let p = da.map(|d| times(out, d, b));
            let q = db.map(|d| times(out, d, a));
            sum(out, p, q)
        }
        BinOp::Div => {
            let p = da.map(|d| out.push(Inst::Binary(BinOp::Div, d, b)));
            let q = db.map(|d| {
                let t = times(out, d, y);
                let t = out.push(Inst::Binary(BinOp::Div, t, b));
                out.push(Inst::Unary(UnOp::Neg, t))
            });
            sum(out, p, q)
        }
        BinOp::Pow => {
            let p = da.map(|d| {
                let one = number(out, 1.0);
                let less = out.push(Inst::Binary(BinOp::Sub, b, one));
                let power = out.push(Inst::Binary(BinOp::Pow, a, less));
                let t = times(out, b, power);
                times(out, d, t)
            });
            let q = db.map(|d| {
                let zero = number(out, 0.0);
                let log = out.push(Inst::Unary(UnOp::Log, a));
                let positive = out.push(Inst::Binary(BinOp::Lt, zero, a));
                let log = out.push(Inst::Select(positive, log, zero));
                let t = times(out, y, log);
                times(out, d, t)
            });
            sum(out, p, q)
        }
        BinOp::Min | BinOp::Max => {
            if da.is_none() && db.is_none() {
                return None;
            }
            let (p, q) = if op == BinOp::Min { (a, b) } else { (b, a) };
            let first = out.push(Inst::Binary(BinOp::Le, p, q));
            let da = da.unwrap_or_else(|| number(out, 0.0));
            let db = db.unwrap_or_else(|| number(out, 0.0));
            Some(out.push(Inst::Select(first, da, db)))
        }
        BinOp::Mod => {
            let q = db.map(|d| {
                let t = out.push(Inst::Binary(BinOp::Div, a, b));
                let t = out.push(Inst::Unary(UnOp::Floor, t));
                let t = times(out, d, t);
                out.push(Inst::Unary(UnOp::Neg, t))
            });
            sum(out, da, q)
        }
        BinOp::Lt | BinOp::Le | BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => None,
    }
}

fn number(out: &mut Expr, value: f64) -> Ref {
    out.push(Inst::Const(Literal::new(value)))
}

fn times(out: &mut Expr, a: Ref, b: Ref) -> Ref {
    let is_one =
        |out: &Expr, r: Ref| matches!(&out.insts[r as usize], Inst::Const(l) if l.get() == 1.0);
    if is_one(out, a) {
        b
    } else if is_one(out, b) {
        a
    } else {
        out.push(Inst::Binary(BinOp::Mul, a, b))
    }
}

fn sum(out: &mut Expr, a: Option<Ref>, b: Option<Ref>) -> Option<Ref> {
    match (a, b) {
        (Some(a), Some(b)) => Some(out.push(Inst::Binary(BinOp::Add, a, b))),
        (one, other) => one.or(other),
    }
}

/// Only what the result needs.
fn prune(expr: &Expr) -> Expr {
    let mut used = vec![false; expr.insts.len()];
    used[expr.result as usize] = true;
    for i in (0..expr.insts.len()).rev() {
        if used[i] {
            for r in operands(&expr.insts[i]) {
                used[r as usize] = true;
            }
        }
    }
    let mut new = vec![0; expr.insts.len()];
    let mut out = Expr { insts: Vec::new(), result: 0 };
    for (i, inst) in expr.insts.iter().enumerate() {
        if used[i] {
            new[i] = out.push(renumbered(inst, &new));
        }
    }
    out.result = new[expr.result as usize];
    out
}

fn operands(inst: &Inst) -> Vec<Ref> {
    match inst {
        Inst::Arg(_) | Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) => vec![],
        Inst::Unary(_, a) | Inst::Cast(_, a) => vec![*a],
        Inst::Binary(_, a, b) => vec![*a, *b],
        Inst::Select(a, b, c) => vec![*a, *b, *c],
        Inst::Random(_, _, c) => c.to_vec(),
    }
}

fn renumbered(inst: &Inst, new: &[Ref]) -> Inst {
    let at = |r: &Ref| new[*r as usize];
    match inst {
        Inst::Arg(_) | Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) => inst.clone(),
        Inst::Unary(op, a) => Inst::Unary(*op, at(a)),
        Inst::Cast(dtype, a) => Inst::Cast(*dtype, at(a)),
        Inst::Binary(op, a, b) => Inst::Binary(*op, at(a), at(b)),
        Inst::Select(a, b, c) => Inst::Select(at(a), at(b), at(c)),
        Inst::Random(dist, stream, c) => {
            Inst::Random(*dist, *stream, [at(&c[0]), at(&c[1]), at(&c[2])])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Soft-cap: 30 tanh(s / 30) + bias.
    fn soft_cap() -> Expr {
        let mut e = Expr::arg(0);
        let c = e.push(Inst::Const(Literal::new(30.0)));
        let x = e.push(Inst::Binary(BinOp::Div, 0, c));
        let t = e.push(Inst::Unary(UnOp::Tanh, x));
        let t = e.push(Inst::Binary(BinOp::Mul, t, c));
        let bias = e.push(Inst::Arg(1));
        e.result = e.push(Inst::Binary(BinOp::Add, t, bias));
        e
    }

    #[test]
    fn derivatives_agree_with_differences() {
        let e = soft_cap();
        let at =
            |e: &Expr, s: f64, b: f64| e.eval(&|i| if i == 0 { s } else { b }, &|_| 0.0, &|_| 0.0);
        for s in [-40.0, -1.0, 0.0, 3.0, 25.0] {
            let h = 1e-5;
            let difference = (at(&e, s + h, 0.2) - at(&e, s - h, 0.2)) / (2.0 * h);
            assert!((at(&d(&e, 0), s, 0.2) - difference).abs() < 1e-8);
            assert!((at(&d(&e, 1), s, 0.2) - 1.0).abs() < 1e-12);
        }
        assert!(is_zero(&d(&e, 2)));
        assert_eq!(d(&Expr::arg(0), 0), Expr::constant(1.0));
    }
}
