//! Rules about reductions and contractions: along an axis where nothing changes, nothing has to be added up.

use super::super::rewrite::{Rewriter, Rule, Seen, without};
use super::super::{Axis, BinOp, DType, Name, NodeId, Op, ReduceOp, Type};

/// The table.
pub const RULES: &[Rule] = &[
    Rule {
        name: "reduce-of-expand",
        equation: "sum[a](expand[a](x)) = n x, max of it = x",
        apply: reduce_expand,
    },
    Rule {
        name: "logsumexp-of-expand",
        equation: "logsumexp[a](expand[a](x)) = x + log n",
        apply: lse_expand,
    },
    Rule {
        name: "reduce-of-reduce",
        equation: "sum[a](sum[b](x)) = sum[a, b](x)",
        apply: reduce_reduce,
    },
    Rule { name: "sum-of-scaled", equation: "sum(x 3) = sum(x) 3", apply: sum_scaled },
    Rule {
        name: "contract-of-expand",
        equation: "dot[d](expand[b](x), y) = expand[b](dot[d](x, y))",
        apply: contract_expand,
    },
    Rule {
        name: "contract-over-expanded",
        equation: "dot[a](expand[a](x), y) = x sum[a](y)",
        apply: contract_over,
    },
    Rule { name: "contract-of-nothing", equation: "dot[](x, y) = x y", apply: contract_nothing },
    Rule {
        name: "scatter-of-distinct",
        equation: "scatter_add[a](y, i) = select(pos(a) == i, y, 0) where nothing is summed",
        apply: scatter_distinct,
    },
    Rule { name: "cumsum-of-one", equation: "cumsum[a of size 1](x) = x", apply: cumsum_one },
    Rule { name: "argsort-of-one", equation: "argsort[a of size 1](x) = 0", apply: argsort_one },
];

// What is expanded, if the node is that.
fn expanded(r: &Rewriter, id: NodeId) -> Option<NodeId> {
    match r.at(id) {
        (Op::Expand, [x]) => Some(*x),
        _ => None,
    }
}

// The axes in which `ty` does and does not have a part.
fn parted(axes: &[Name], ty: &Type) -> (Vec<Name>, Vec<Name>) {
    axes.iter().cloned().partition(|a| ty.find(a).is_some())
}

fn sizes(ty: &Type, axes: &[Name]) -> f64 {
    axes.iter().filter_map(|a| ty.size(a)).map(|s| s as f64).product()
}

// sum[a](expand[a](x)) = n x; max[a](expand[a](x)) = min of it = x.
fn reduce_expand(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Reduce { op, axes }, [y]) = (n.op, n.inputs) else { return None };
    let x = expanded(r, *y)?;
    let (rest, gone) = parted(axes, r.ty(x));
    if gone.is_empty() || *op == ReduceOp::Prod {
        return None;
    }
    let times = sizes(r.ty(*y), &gone);
    let inner = without(r.ty(x), &rest);
    // Of a product with the number the result has to be the same type.
    if *op == ReduceOp::Sum && !r.ty(x).dtype.is_float() && n.ty.dtype != DType::I32 {
        return None;
    }
    let dtype = n.ty.dtype;
    let x = if rest.is_empty() {
        r.widen(x, dtype)?
    } else {
        let ty = Type::new(dtype, in_order(&inner, n.ty));
        r.make(Op::Reduce { op: *op, axes: rest }, vec![x], ty)
    };
    let x = match op {
        ReduceOp::Max | ReduceOp::Min => x,
        ReduceOp::Sum | ReduceOp::Prod => {
            let times = r.number(times, &Type::scalar(dtype));
            let order = r.ty(x).axes.clone();
            r.binary(BinOp::Mul, x, times, &order)
        }
    };
    r.fit(x, n.ty)
}

// The axes in the storage order that the result has.
fn in_order(axes: &[Axis], ty: &Type) -> Vec<Axis> {
    ty.axes.iter().filter(|a| axes.contains(a)).cloned().collect()
}

// logsumexp[a](expand[a](x)) = x + log n, if nothing else is reduced.
fn lse_expand(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::LogSumExp { axes }, [y]) = (n.op, n.inputs) else { return None };
    let x = expanded(r, *y)?;
    let (rest, gone) = parted(axes, r.ty(x));
    if !rest.is_empty() || !r.ty(x).dtype.is_float() {
        return None;
    }
    let log = sizes(r.ty(*y), &gone).ln();
    let log = r.number(log, &Type::scalar(DType::F32));
    let order = r.ty(x).axes.clone();
    let sum = r.binary(BinOp::Add, x, log, &order);
    r.fit(sum, n.ty)
}

// sum[a](sum[b](x)) = sum[a, b](x), and so on; only if nobody else needs the inner one.
fn reduce_reduce(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let [y] = n.inputs else { return None };
    if !r.is_used_once(*y) {
        return None;
    }
    let (op, x) = match (n.op, r.at(*y)) {
        (Op::Reduce { op, axes }, (Op::Reduce { op: inner, axes: first }, [x])) if op == inner => {
            let axes = first.iter().chain(axes).cloned().collect();
            (Op::Reduce { op: *op, axes }, *x)
        }
        (Op::LogSumExp { axes }, (Op::LogSumExp { axes: first }, [x])) => {
            (Op::LogSumExp { axes: first.iter().chain(axes).cloned().collect() }, *x)
        }
        _ => return None,
    };
    Some(r.make(op, vec![x], n.ty.clone()))
}

// sum(x 3) = sum(x) 3, if nobody else needs the product.
fn sum_scaled(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Reduce { op: ReduceOp::Sum, axes }, [y]) = (n.op, n.inputs) else { return None };
    let (Op::Binary(BinOp::Mul), [a, b]) = r.at(*y) else { return None };
    let (x, factor) = match (r.as_number(*a), r.as_number(*b)) {
        (None, Some(factor)) => (*a, factor),
        (Some(factor), None) => (*b, factor),
        (None, None) | (Some(_), Some(_)) => return None,
    };
    let fits = r.is_used_once(*y)
        && r.ty(x).dtype.is_float()
        && r.ty(x).axes == r.ty(*y).axes
        && (1e-9..1e9).contains(&factor.abs());
    if !fits {
        return None;
    }
    let sum = r.make(Op::Reduce { op: ReduceOp::Sum, axes: axes.clone() }, vec![x], n.ty.clone());
    let factor = r.number(factor, &Type::scalar(DType::F32));
    Some(r.binary(BinOp::Mul, sum, factor, &n.ty.axes))
}

// dot[d](expand[b](x), y) = expand[b](dot[d](x, y)); the expand goes away if y has b.
fn contract_expand(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Contract { over }, [a, b]) = (n.op, n.inputs) else { return None };
    for (i, side) in [*a, *b].into_iter().enumerate() {
        let Some(x) = expanded(r, side) else { continue };
        if over.iter().any(|o| r.ty(x).find(o).is_none()) {
            continue;
        }
        let mut inputs = vec![*a, *b];
        inputs[i] = x;
        let has = |axis: &Axis| inputs.iter().any(|input| r.ty(*input).find(&axis.name).is_some());
        let axes = n.ty.axes.iter().filter(|axis| has(axis)).cloned().collect();
        let ty = Type::new(n.ty.dtype, axes);
        let product = r.make(Op::Contract { over: over.clone() }, inputs, ty);
        return r.fit(product, n.ty);
    }
    None
}

// dot[a](expand[a](x), y) = x sum[a](y), if a is all that is summed over.
fn contract_over(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Contract { over }, [a, b]) = (n.op, n.inputs) else { return None };
    // The result of a product is f32.
    if n.ty.dtype != DType::F32 {
        return None;
    }
    for (side, y) in [(*a, *b), (*b, *a)] {
        let Some(x) = expanded(r, side) else { continue };
        let (rest, _) = parted(over, r.ty(x));
        if !rest.is_empty() || !r.ty(y).dtype.is_float() {
            continue;
        }
        let ty = Type::new(DType::F32, without(r.ty(y), over));
        let sum = r.make(Op::Reduce { op: ReduceOp::Sum, axes: over.clone() }, vec![y], ty);
        let product = r.binary(BinOp::Mul, x, sum, &n.ty.axes);
        return r.fit(product, n.ty);
    }
    None
}

// dot[](x, y) = x y.
fn contract_nothing(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Contract { over }, [a, b]) = (n.op, n.inputs) else { return None };
    let float =
        n.ty.dtype == DType::F32 && (r.ty(*a).dtype.is_float() || r.ty(*b).dtype.is_float());
    (over.is_empty() && float).then(|| r.make(Op::Binary(BinOp::Mul), vec![*a, *b], n.ty.clone()))
}

// scatter_add[a](y, i) = select(pos(a) == i, y, 0), where the result has all axes of y and i: each of its elements gets at
// most one. A map needs no zeros first and joins its readers, such as the softmax whose gradient this is.
fn scatter_distinct(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::ScatterAdd { axis }, [y, index]) = (n.op, n.inputs) else { return None };
    let stays = |a: &Axis| a.name != *axis && n.ty.find(&a.name).is_some();
    let one_each = r.ty(*y).axes.iter().chain(&r.ty(*index).axes).all(stays);
    if !one_each || !r.ty(*y).dtype.is_float() {
        return None;
    }
    let along = n.ty.axes.iter().find(|a| a.name == *axis)?.clone();
    let y = r.widen(*y, n.ty.dtype)?;
    let at = r.make(Op::Pos, vec![], Type::new(DType::I32, vec![along]));
    let here = r.binary(BinOp::Eq, at, *index, &n.ty.axes);
    let zero = r.number(0.0, &Type::scalar(n.ty.dtype));
    Some(r.make(Op::Select, vec![here, y, zero], n.ty.clone()))
}

// cumsum[a of size 1](x) = x.
fn cumsum_one(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::CumSum { axis, .. }, [x]) = (n.op, n.inputs) else { return None };
    if n.ty.size(axis) == Some(1) { r.fit(*x, n.ty) } else { None }
}

// argsort[a of size 1](x) = 0.
fn argsort_one(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let Op::ArgSort { axis } = n.op else { return None };
    (n.ty.size(axis) == Some(1)).then(|| r.number(0.0, n.ty))
}
