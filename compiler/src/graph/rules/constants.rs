//! Rules about numbers that are known: they are computed once, here.
//!
//! A NaN is never folded, so that a broken number keeps the place in the program that made it.

use super::super::rewrite::{Rewriter, Rule, Seen};
use super::super::{BinOp, DType, NodeId, Op};
use crate::scalar::round_to;

/// The table.
pub const RULES: &[Rule] = &[
    Rule { name: "fold", equation: "f(2, 3) = the number", apply: fold },
    Rule { name: "select-known", equation: "select(1, a, b) = a", apply: select_known },
    Rule { name: "select-same", equation: "select(c, a, a) = a", apply: select_same },
    Rule { name: "and-known", equation: "and(x, 1) = x, and(x, 0) = 0", apply: and_known },
    Rule { name: "or-known", equation: "or(x, 0) = x, or(x, 1) = 1", apply: or_known },
    Rule { name: "zero-times-integer", equation: "0 x = 0 for integers", apply: zero_times },
    Rule { name: "topk-all", equation: "topk[n of n](x) = 1", apply: topk_all },
    Rule { name: "pos-of-one", equation: "pos(axis of size 1) = 0", apply: pos_of_one },
];

// f(2, 3) = the number, for elementwise f, also where the numbers are expanded.
fn fold(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let x: Vec<f64> = n.inputs.iter().map(|x| r.as_number(*x)).collect::<Option<_>>()?;
    let value = match n.op {
        Op::Unary(op) => op.eval(x[0]),
        Op::Binary(op) => op.eval(x[0], x[1]),
        Op::Select if x[0] != 0.0 => x[1],
        Op::Select => x[2],
        // As in the interpreter: only a cast to a narrower type rounds.
        Op::Cast if n.ty.dtype == DType::F32 => x[0],
        Op::Cast => round_to(n.ty.dtype, x[0]),
        _ => return None,
    };
    let is_index = n.ty.dtype == DType::I32;
    let fits = !is_index || (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&value);
    (fits && !value.is_nan()).then(|| r.number(value, n.ty))
}

// select(1, a, b) = a; select(0, a, b) = b.
fn select_known(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Select, [c, a, b]) = (n.op, n.inputs) else { return None };
    let chosen = if r.as_number(*c)? != 0.0 { *a } else { *b };
    r.fit(chosen, n.ty)
}

// select(c, a, a) = a.
fn select_same(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Select, [_, a, b]) = (n.op, n.inputs) else { return None };
    if a == b { r.fit(*a, n.ty) } else { None }
}

// and(x, 1) = x, and(x, 0) = 0, for booleans x.
fn and_known(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    known(r, n, BinOp::And, 0.0)
}

// or(x, 0) = x, or(x, 1) = 1, for booleans x.
fn or_known(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    known(r, n, BinOp::Or, 1.0)
}

fn known(r: &mut Rewriter, n: &Seen<'_>, op: BinOp, wins: f64) -> Option<NodeId> {
    let (Op::Binary(found), [a, b]) = (n.op, n.inputs) else { return None };
    if *found != op {
        return None;
    }
    let (number, other) = match (r.as_number(*a), r.as_number(*b)) {
        (Some(number), _) => (number, *b),
        (None, Some(number)) => (number, *a),
        (None, None) => return None,
    };
    if (number != 0.0) == (wins != 0.0) {
        return Some(r.number(wins, n.ty));
    }
    if r.ty(other).dtype == DType::Bool { r.fit(other, n.ty) } else { None }
}

// 0 x = 0 for integers. Not for floats: 0 NaN is NaN.
fn zero_times(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Binary(BinOp::Mul), [a, b]) = (n.op, n.inputs) else { return None };
    let zero = [a, b].into_iter().any(|x| r.as_number(*x) == Some(0.0));
    (zero && n.ty.dtype == DType::I32).then(|| r.number(0.0, n.ty))
}

// topk[n of n](x) = 1.
fn topk_all(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let Op::TopK { axis, k } = n.op else { return None };
    (n.ty.size(axis) == Some(*k)).then(|| r.number(1.0, n.ty))
}

// pos(axis of size 1) = 0.
fn pos_of_one(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    (*n.op == Op::Pos && n.ty.len() == 1).then(|| r.number(0.0, n.ty))
}
