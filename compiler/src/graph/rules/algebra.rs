//! Rules of arithmetic on elements. All hold for NaN and infinities too, and bit for bit, but for the sign of a zero and
//! for `scale-of-scale`, which may round once less.

use super::super::rewrite::{Rewriter, Rule, Seen, widens};
use super::super::verify::{binary_dtype, unary_dtype};
use super::super::{BinOp, DType, NodeId, Op, Type, UnOp};

/// The table.
pub const RULES: &[Rule] = &[
    Rule { name: "times-one", equation: "x 1 = x / 1 = x^1 = x", apply: times_one },
    Rule { name: "plus-zero", equation: "x + 0 = x - 0 = x", apply: plus_zero },
    Rule { name: "times-minus-one", equation: "x (-1) = 0 - x = -x", apply: negation },
    Rule { name: "one-over", equation: "1 / x = x^-1 = recip(x)", apply: one_over },
    Rule { name: "square", equation: "x^2 = x x", apply: square },
    Rule { name: "over-power-of-two", equation: "x / 2^n = x 2^-n", apply: over_power_of_two },
    Rule { name: "scale-of-scale", equation: "(x a) b = x (a b)", apply: scale_of_scale },
    Rule { name: "neg-of-neg", equation: "-(-x) = x, -(a - b) = b - a", apply: neg_of },
    Rule { name: "abs-of", equation: "||x|| = |-x| = |x|", apply: abs_of },
    Rule { name: "not-of-not", equation: "not not x = x for booleans", apply: not_of_not },
    Rule { name: "plus-neg", equation: "a + -b = a - b, a - -b = a + b", apply: plus_neg },
    Rule { name: "neg-times-neg", equation: "(-a) (-b) = a b", apply: neg_times_neg },
    Rule { name: "recip-of-sqrt", equation: "1 / sqrt(x) = rsqrt(x)", apply: recip_of_sqrt },
    Rule { name: "idempotent", equation: "max(x, x) = min(x, x) = x", apply: idempotent },
    Rule { name: "minus-itself", equation: "x - x = 0 for integers", apply: minus_itself },
    Rule { name: "cast-of-cast", equation: "narrow(widen(x)) = narrow(x)", apply: cast_of_cast },
    Rule { name: "widened-operand", equation: "f(f32(x)) = f(x)", apply: widened_operand },
    Rule { name: "ordered", equation: "f(b, a) = f(a, b)", apply: ordered },
];

fn binary(n: &Seen<'_>) -> Option<(BinOp, NodeId, NodeId)> {
    let (Op::Binary(op), [a, b]) = (n.op, n.inputs) else { return None };
    Some((*op, *a, *b))
}

fn unary(n: &Seen<'_>) -> Option<(UnOp, NodeId)> {
    let (Op::Unary(op), [x]) = (n.op, n.inputs) else { return None };
    Some((*op, *x))
}

// The argument, if the node is that operator of something.
fn inside(r: &Rewriter, id: NodeId, op: UnOp) -> Option<NodeId> {
    match r.at(id) {
        (Op::Unary(found), [x]) if *found == op => Some(*x),
        _ => None,
    }
}

// x 1 = 1 x = x / 1 = x^1 = x.
fn times_one(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (op, a, b) = binary(n)?;
    match op {
        BinOp::Mul | BinOp::Div | BinOp::Pow if r.as_number(b) == Some(1.0) => r.fit(a, n.ty),
        BinOp::Mul if r.as_number(a) == Some(1.0) => r.fit(b, n.ty),
        _ => None,
    }
}

// x + 0 = 0 + x = x - 0 = x.
fn plus_zero(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (op, a, b) = binary(n)?;
    match op {
        BinOp::Add | BinOp::Sub if r.as_number(b) == Some(0.0) => r.fit(a, n.ty),
        BinOp::Add if r.as_number(a) == Some(0.0) => r.fit(b, n.ty),
        _ => None,
    }
}

// x (-1) = (-1) x = x / -1 = 0 - x = -x.
fn negation(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (op, a, b) = binary(n)?;
    let x = match op {
        BinOp::Mul | BinOp::Div if r.as_number(b) == Some(-1.0) => a,
        BinOp::Mul if r.as_number(a) == Some(-1.0) => b,
        BinOp::Sub if r.as_number(a) == Some(0.0) => b,
        _ => return None,
    };
    // That of an integer is an integer, but -1.0 times it a float; that of a boolean the other way round.
    let dtype = unary_dtype(UnOp::Neg, r.ty(x).dtype);
    let keeps = r.ty(x).axes == n.ty.axes && dtype == n.ty.dtype;
    keeps.then(|| r.make(Op::Unary(UnOp::Neg), vec![x], n.ty.clone()))
}

// 1 / x = x^-1 = recip(x).
fn one_over(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (op, a, b) = binary(n)?;
    let x = match op {
        BinOp::Div if r.as_number(a) == Some(1.0) => b,
        BinOp::Pow if r.as_number(b) == Some(-1.0) => a,
        _ => return None,
    };
    let keeps = r.ty(x).axes == n.ty.axes;
    keeps.then(|| r.make(Op::Unary(UnOp::Recip), vec![x], n.ty.clone()))
}

// x^2 = x x.
fn square(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (BinOp::Pow, x, two) = binary(n)? else { return None };
    let fits =
        r.as_number(two) == Some(2.0) && r.ty(x).axes == n.ty.axes && r.ty(x).dtype.is_float();
    fits.then(|| r.make(Op::Binary(BinOp::Mul), vec![x, x], n.ty.clone()))
}

// x / 2^n = x 2^-n, since both are exact.
fn over_power_of_two(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (BinOp::Div, x, by) = binary(n)? else { return None };
    let by = r.as_number(by)?;
    let exact = by.is_normal() && by.abs().log2().fract() == 0.0 && by.abs().log2().abs() < 100.0;
    let exact = exact && by.abs() == by.abs().log2().exp2();
    if !exact || r.ty(x).axes != n.ty.axes || !r.ty(x).dtype.is_float() {
        return None;
    }
    let factor = r.number(1.0 / by, &Type::scalar(DType::F32));
    Some(r.make(Op::Binary(BinOp::Mul), vec![x, factor], n.ty.clone()))
}

// (x a) b = x (a b), for numbers of a size that cannot overflow on the way.
fn scale_of_scale(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let split = |r: &Rewriter, a: NodeId, b: NodeId| match (r.as_number(a), r.as_number(b)) {
        (None, Some(c)) => Some((a, c)),
        (Some(c), None) => Some((b, c)),
        (None, None) | (Some(_), Some(_)) => None,
    };
    let (BinOp::Mul, a, b) = binary(n)? else { return None };
    let (inner, second) = split(r, a, b)?;
    let (Op::Binary(BinOp::Mul), [c, d]) = r.at(inner) else { return None };
    let (x, first) = split(r, *c, *d)?;
    let tame = |x: f64| (1e-9..1e9).contains(&x.abs());
    let fits = r.ty(x).axes == n.ty.axes && r.ty(x).dtype.is_float();
    if !fits || !tame(first) || !tame(second) {
        return None;
    }
    let factor = r.number(first * second, &Type::scalar(DType::F32));
    Some(r.make(Op::Binary(BinOp::Mul), vec![x, factor], n.ty.clone()))
}

// -(-x) = x; -(a - b) = b - a.
fn neg_of(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (UnOp::Neg, x) = unary(n)? else { return None };
    if let Some(x) = inside(r, x, UnOp::Neg) {
        return r.fit(x, n.ty);
    }
    let (Op::Binary(BinOp::Sub), [a, b]) = r.at(x) else { return None };
    let (a, b) = (*a, *b);
    // If the difference is needed as well, its negation is cheaper than a second one.
    r.is_used_once(x).then(|| r.make(Op::Binary(BinOp::Sub), vec![b, a], n.ty.clone()))
}

// ||x|| = |-x| = |x|.
fn abs_of(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (UnOp::Abs, x) = unary(n)? else { return None };
    if inside(r, x, UnOp::Abs).is_some() {
        return r.fit(x, n.ty);
    }
    let x = inside(r, x, UnOp::Neg)?;
    Some(r.make(Op::Unary(UnOp::Abs), vec![x], n.ty.clone()))
}

// not not x = x for booleans.
fn not_of_not(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (UnOp::Not, x) = unary(n)? else { return None };
    let x = inside(r, x, UnOp::Not)?;
    if r.ty(x).dtype == DType::Bool { r.fit(x, n.ty) } else { None }
}

// a + -b = a - b; -a + b = b - a; a - -b = a + b.
fn plus_neg(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (op, a, b) = binary(n)?;
    let neg = |x| inside(r, x, UnOp::Neg);
    let (op, a, b) = match (op, neg(a), neg(b)) {
        (BinOp::Add, _, Some(b)) => (BinOp::Sub, a, b),
        (BinOp::Add, Some(a), None) => (BinOp::Sub, b, a),
        (BinOp::Sub, _, Some(b)) => (BinOp::Add, a, b),
        _ => return None,
    };
    fits(r, op, a, b, n.ty).then(|| r.make(Op::Binary(op), vec![a, b], n.ty.clone()))
}

// (-a) (-b) = a b.
fn neg_times_neg(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (op @ (BinOp::Mul | BinOp::Div), a, b) = binary(n)? else { return None };
    let (a, b) = (inside(r, a, UnOp::Neg)?, inside(r, b, UnOp::Neg)?);
    fits(r, op, a, b, n.ty).then(|| r.make(Op::Binary(op), vec![a, b], n.ty.clone()))
}

// The negation of a boolean is a float, so that removing it may change the dtype.
fn fits(r: &Rewriter, op: BinOp, a: NodeId, b: NodeId, ty: &Type) -> bool {
    let (a, b) = (r.ty(a).dtype, r.ty(b).dtype);
    binary_dtype(op, a, b) == ty.dtype
}

// 1 / sqrt(x) = rsqrt(x).
fn recip_of_sqrt(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (UnOp::Recip, x) = unary(n)? else { return None };
    let x = inside(r, x, UnOp::Sqrt)?;
    Some(r.make(Op::Unary(UnOp::Rsqrt), vec![x], n.ty.clone()))
}

// max(x, x) = min(x, x) = x; and, or of a boolean with itself.
fn idempotent(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (op, a, b) = binary(n)?;
    let same = match op {
        BinOp::Max | BinOp::Min => true,
        BinOp::And | BinOp::Or => r.ty(a).dtype == DType::Bool,
        _ => false,
    };
    if a == b && same { r.fit(a, n.ty) } else { None }
}

// x - x = 0 for integers. Not for floats: of an infinity it is NaN.
fn minus_itself(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (BinOp::Sub, a, b) = binary(n)? else { return None };
    (a == b && n.ty.dtype == DType::I32).then(|| r.number(0.0, n.ty))
}

// narrow(widen(x)) = narrow(x); a cast to the dtype that is there is nothing.
fn cast_of_cast(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Cast, [x]) = (n.op, n.inputs) else { return None };
    if r.ty(*x).dtype == n.ty.dtype {
        return r.fit(*x, n.ty);
    }
    let (Op::Cast, [inner]) = r.at(*x) else { return None };
    let inner = *inner;
    if !widens(r.ty(inner).dtype, r.ty(*x).dtype) {
        return None;
    }
    Some(r.make(Op::Cast, vec![inner], n.ty.clone()))
}

// f(f32(x)) = f(x) for 16-bit floats x: arithmetic is f32 anyway. Both sides of a contraction go together, since a device
// multiplies equal types.
fn widened_operand(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let under = |x: &NodeId| match r.at(*x) {
        (Op::Cast, [inner]) => {
            let (from, to) = (r.ty(*inner).dtype, r.ty(*x).dtype);
            let widened = to == DType::F32 && from != to && from.is_float();
            widened.then_some(*inner)
        }
        _ => None,
    };
    let found: Vec<Option<NodeId>> = n.inputs.iter().map(under).collect();
    let fits = match n.op {
        Op::Unary(_)
        | Op::Binary(_)
        | Op::Reduce { .. }
        | Op::LogSumExp { .. }
        | Op::CumSum { .. }
        | Op::TopK { .. }
        | Op::ArgSort { .. } => true,
        Op::Contract { .. } => match (found[0], found[1]) {
            (Some(a), Some(b)) => r.ty(a).dtype == r.ty(b).dtype,
            (None, _) | (_, None) => false,
        },
        _ => false,
    };
    if !fits || found.iter().all(Option::is_none) {
        return None;
    }
    let inputs = n.inputs.iter().zip(found).map(|(x, inner)| inner.unwrap_or(*x)).collect();
    Some(r.make(n.op.clone(), inputs, n.ty.clone()))
}

// f(b, a) = f(a, b): one spelling, so that equal values are one node.
fn ordered(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (op, a, b) = binary(n)?;
    let commutes = match op {
        BinOp::Add | BinOp::Mul | BinOp::Min | BinOp::Max => true,
        BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => true,
        BinOp::Sub | BinOp::Div | BinOp::Pow | BinOp::Mod | BinOp::Lt | BinOp::Le => false,
    };
    (commutes && b < a).then(|| r.make(n.op.clone(), vec![b, a], n.ty.clone()))
}
