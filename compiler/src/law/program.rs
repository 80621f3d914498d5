//! What a solver computes of a prepared law at each point: the penalty with its slopes, or the value with its slopes.
//!
//! A [`Program`] has several results over the same instructions. Its arguments are the coordinates, the derived columns, the measured column and
//! the weights, in this order. Slopes come from one backward sweep, seeded with the slope of the penalty, so that a result costs a few
//! instructions more than the value itself.

use super::prepare::Prepared;
use super::{Shape, classes, reads};
use crate::graph::scalar_grad::{self, Side, Slope};
use crate::scalar::{BinOp, Expr, Inst, Literal, Ref, UnOp};

/// Several results over the same instructions.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// Numbers that are the same at all points: arguments `0..uniforms`.
    pub uniforms: usize,
    /// Numbers of a point: arguments from `uniforms` on.
    pub columns: usize,
    /// The instructions.
    pub insts: Vec<Inst>,
    /// Which of them are results.
    pub results: Vec<Ref>,
}

impl Program {
    /// The results at one point. `args` has the uniforms and then the point's columns.
    pub fn eval(&self, args: &[f64], values: &mut Vec<f64>) -> Vec<f64> {
        values.clear();
        for inst in &self.insts {
            let at = |r: &Ref| values[*r as usize];
            let v = match inst {
                Inst::Arg(i) => args[*i as usize],
                Inst::Const(l) => l.get(),
                Inst::Unary(op, a) => op.eval(at(a)),
                Inst::Binary(op, a, b) => op.eval(at(a), at(b)),
                Inst::Select(c, a, b) => {
                    if at(c) != 0.0 {
                        at(a)
                    } else {
                        at(b)
                    }
                }
                Inst::Cast(dtype, a) => crate::scalar::round_to(*dtype, at(a)),
                Inst::Pos(_) | Inst::Runtime(_) | Inst::Random(..) => f64::NAN,
            };
            values.push(v);
        }
        self.results.iter().map(|r| values[*r as usize]).collect()
    }
}

/// The weighted penalty of a point, then its slope by each coordinate. Summed over points: the objective and its gradient.
pub fn objective(p: &Prepared, shape: Shape) -> Program {
    let k = p.coordinates.len();
    let mut e = p.value.clone();
    let measured = e.push(Inst::Arg((k + p.derived.len()) as u32));
    let weight = e.push(Inst::Arg((k + p.derived.len() + 1) as u32));
    let r = e.push(Inst::Binary(BinOp::Sub, p.value.result, measured));
    let (penalty, slope) = match shape {
        // With c = r cut to [-delta, delta]: c (r - c / 2), slope c.
        Shape::Huber { delta } => {
            let (low, high) = (literal(&mut e, -delta), literal(&mut e, delta));
            let c = e.push(Inst::Binary(BinOp::Max, low, r));
            let c = e.push(Inst::Binary(BinOp::Min, high, c));
            let half = literal(&mut e, 0.5);
            let half = e.push(Inst::Binary(BinOp::Mul, half, c));
            let rest = e.push(Inst::Binary(BinOp::Sub, r, half));
            (e.push(Inst::Binary(BinOp::Mul, c, rest)), c)
        }
        Shape::Squared => {
            let half = literal(&mut e, 0.5);
            let half = e.push(Inst::Binary(BinOp::Mul, half, r));
            (e.push(Inst::Binary(BinOp::Mul, half, r)), r)
        }
        Shape::Absolute => (e.push(Inst::Unary(UnOp::Abs, r)), e.push(Inst::Unary(UnOp::Sign, r))),
    };
    let value = e.push(Inst::Binary(BinOp::Mul, weight, penalty));
    let seed = e.push(Inst::Binary(BinOp::Mul, weight, slope));
    let mut results = vec![value];
    results.extend(backward(&mut e, p, seed));
    pruned(&e.insts, &results, k, p.derived.len() + 2)
}

/// The value at a point, then its slope by each coordinate.
pub fn values(p: &Prepared) -> Program {
    let k = p.coordinates.len();
    let mut e = p.value.clone();
    let one = literal(&mut e, 1.0);
    let mut results = vec![p.value.result];
    results.extend(backward(&mut e, p, one));
    pruned(&e.insts, &results, k, p.derived.len())
}

fn literal(e: &mut Expr, value: f64) -> Ref {
    e.push(Inst::Const(Literal::new(value)))
}

/// The slopes of `seed * value` by the coordinates.
fn backward(e: &mut Expr, p: &Prepared, seed: Ref) -> Vec<Ref> {
    let k = p.coordinates.len();
    let count = p.value.insts.len();
    let class = classes(&e.insts[..count], &|i| u8::from((i as usize) < k));
    let mut slopes: Vec<Option<Ref>> = vec![None; count];
    slopes[p.value.result as usize] = Some(seed);
    let mut out: Vec<Option<Ref>> = vec![None; k];
    for at in (0..count).rev() {
        let Some(own) = slopes[at] else { continue };
        if class[at] == 0 || p.shifts.contains(&(at as Ref)) {
            continue;
        }
        let mut give = |e: &mut Expr, to: Ref, local: Slope| {
            let more = match local {
                Slope::Zero => return,
                Slope::One => own,
                Slope::At(s) => e.push(Inst::Binary(BinOp::Mul, own, s)),
            };
            let slot = &mut slopes[to as usize];
            *slot = Some(match *slot {
                None => more,
                Some(had) => e.push(Inst::Binary(BinOp::Add, had, more)),
            });
        };
        match e.insts[at].clone() {
            Inst::Arg(i) => out[i as usize] = Some(own),
            Inst::Unary(op, a) => {
                let local = scalar_grad::unary(e, op, a, at as Ref);
                give(e, a, local);
            }
            Inst::Binary(op, a, b) => {
                for (to, side) in [(a, Side::Left), (b, Side::Right)] {
                    if class[to as usize] != 0 && !p.shifts.contains(&to) {
                        let local = scalar_grad::binary(e, op, a, b, at as Ref, side);
                        give(e, to, local);
                    }
                }
            }
            Inst::Select(c, a, b) => {
                let zero = literal(e, 0.0);
                let to_a = e.push(Inst::Select(c, own, zero));
                let to_b = e.push(Inst::Select(c, zero, own));
                for (to, more) in [(a, to_a), (b, to_b)] {
                    let slot = &mut slopes[to as usize];
                    *slot = Some(match *slot {
                        None => more,
                        Some(had) => e.push(Inst::Binary(BinOp::Add, had, more)),
                    });
                }
            }
            Inst::Cast(dtype, a) => {
                if dtype.is_float() {
                    give(e, a, Slope::One);
                }
            }
            Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) | Inst::Random(..) => {}
        }
    }
    let zero = literal(e, 0.0);
    out.into_iter().map(|s| s.unwrap_or(zero)).collect()
}

/// Only what the results read.
fn pruned(insts: &[Inst], results: &[Ref], uniforms: usize, columns: usize) -> Program {
    let mut used = vec![false; insts.len()];
    results.iter().for_each(|r| used[*r as usize] = true);
    for i in (0..insts.len()).rev() {
        if used[i] {
            reads(&insts[i]).into_iter().for_each(|r| used[r as usize] = true);
        }
    }
    let mut out = Expr { insts: Vec::new(), result: 0 };
    let mut moved: Vec<Ref> = vec![0; insts.len()];
    for i in (0..insts.len()).filter(|i| used[*i]) {
        let at = |r: &Ref| moved[*r as usize];
        let inst = match &insts[i] {
            Inst::Arg(_) | Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) => insts[i].clone(),
            Inst::Unary(op, a) => Inst::Unary(*op, at(a)),
            Inst::Binary(op, a, b) => Inst::Binary(*op, at(a), at(b)),
            Inst::Select(a, b, c) => Inst::Select(at(a), at(b), at(c)),
            Inst::Cast(dtype, a) => Inst::Cast(*dtype, at(a)),
            Inst::Random(dist, s, c) => Inst::Random(*dist, *s, [at(&c[0]), at(&c[1]), at(&c[2])]),
        };
        moved[i] = out.push(inst);
    }
    let results = results.iter().map(|r| moved[*r as usize]).collect();
    Program { uniforms, columns, insts: out.insts, results }
}
