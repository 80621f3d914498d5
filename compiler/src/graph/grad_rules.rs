//! The rule of each op: from the cotangent `g` of its value to cotangents of its inputs. `y` is the op's value.
//!
//! A returned cotangent may have more axes than its input (they are summed by the caller) but never fewer along which it
//! should have been repeated.

use super::build::{Builder, Misfit};
use super::scalar_grad;
use super::{Affine, Axis, BinOp, DType, Name, NodeId, Op, ReduceOp, Type, UnOp};

type Pulled = Result<Vec<(NodeId, NodeId)>, Misfit>;

/// Applies the rule of the node at `id`. `wanted` tells which inputs need a cotangent at all.
pub(super) fn pull(
    b: &mut Builder,
    id: NodeId,
    g: NodeId,
    wanted: &dyn Fn(NodeId) -> bool,
) -> Pulled {
    let node = b.graph.node(id).clone();
    let x = |i: usize| node.inputs[i];
    match &node.op {
        // Nothing behind these depends on a weight smoothly.
        Op::Const(_)
        | Op::Pos
        | Op::Input(_)
        | Op::Runtime(_)
        | Op::Random(..)
        | Op::TopK { .. }
        | Op::ArgSort { .. }
        | Op::Stop => Ok(vec![]),

        Op::Unary(op) => Ok(unary(b, *op, x(0), id, g)?.map(|d| (x(0), d)).into_iter().collect()),
        Op::Binary(op) => binary(b, *op, [x(0), x(1)], id, g),
        // d a = if c then g else 0, d b = if c then 0 else g
        Op::Select => {
            let zero = b.constant(0.0);
            let g = b.cast(g, DType::F32);
            Ok(vec![(x(1), b.select(x(0), g, zero)?), (x(2), b.select(x(0), zero, g)?)])
        }
        // Rounding is the identity to first order.
        Op::Cast => Ok(vec![(x(0), b.cast(g, DType::F32))]),

        // The sum over the new axes: the caller's business.
        Op::Expand => Ok(vec![(x(0), g)]),
        Op::Rename(names) => {
            let back: Vec<(Name, Name)> =
                names.iter().map(|(a, c)| (c.clone(), a.clone())).collect();
            Ok(vec![(x(0), b.rename(g, &back)?)])
        }
        Op::Split { axis, into } => {
            let names: Vec<Name> = into.iter().map(|a| a.name.clone()).collect();
            Ok(vec![(x(0), b.merge(g, &names, axis)?)])
        }
        Op::Merge { axes, into } => {
            let ty = b.ty(x(0)).clone();
            let parts: Vec<Axis> =
                axes.iter().filter_map(|n| ty.find(n).map(|i| ty.axes[i].clone())).collect();
            Ok(vec![(x(0), b.split(g, into, &parts)?)])
        }
        Op::Window { axis, index, outside: _ } => {
            let size = b.ty(x(0)).size(axis).unwrap_or(1);
            let axis = Axis { name: axis.clone(), size };
            Ok(vec![(x(0), window(b, &axis, index, &node.ty, g)?)])
        }
        // d x[i] = Σ g where index = i
        Op::Gather { axis } => {
            let ty = Type::new(DType::F32, b.ty(x(0)).axes.clone());
            let g = b.cast(g, DType::F32);
            Ok(vec![(x(0), b.raw(Op::ScatterAdd { axis: axis.clone() }, vec![g, x(1)], ty))])
        }
        Op::ScatterAdd { axis } => Ok(vec![(x(0), b.gather(g, axis, x(1))?)]),
        Op::Concat { parts, into } => {
            let mut out = Vec::new();
            let mut offset = 0;
            for (i, part) in parts.iter().enumerate() {
                let size = b.ty(x(i)).size(part).unwrap_or(1);
                let axis = Axis { name: part.clone(), size };
                let index = Affine { terms: vec![(part.clone(), 1)], offset };
                out.push((x(i), b.window(g, into, index, &[axis], 0.0)?));
                offset += size as i64;
            }
            Ok(out)
        }
        // Caches are not trained through.
        Op::Update { .. } => Err(no_rule("an update in place")),

        Op::Reduce { op, axes } => reduce(b, *op, axes, x(0), id, g),
        // d x = g * softmax(x)
        Op::LogSumExp { .. } => {
            let axes = b.ty(x(0)).axes.clone();
            let d = b.binary(BinOp::Sub, x(0), id)?;
            let p = b.unary(UnOp::Exp, d);
            let g = b.expand(g, &axes);
            Ok(vec![(x(0), b.binary(BinOp::Mul, g, p)?)])
        }
        Op::Contract { .. } => {
            let mut out = Vec::new();
            for (this, other) in [(x(0), x(1)), (x(1), x(0))] {
                if wanted(this) {
                    out.push((this, contract(b, this, other, g)?));
                }
            }
            Ok(out)
        }
        Op::CumSum { axis, reverse } => Ok(vec![(x(0), b.cumsum(g, axis, !reverse)?)]),
        Op::Attention(a) => attention(b, a, &node.inputs, id, g, wanted),
        Op::AttentionGrad { .. } => Err(no_rule("the gradient of attention")),
        // Their parts carry the cotangents; the walk handles both.
        Op::Scan(_) | Op::Part(_) => Ok(vec![]),
        Op::Collective(_) => Err(no_rule("a collective")),
    }
}

fn no_rule(what: &str) -> Misfit {
    Misfit { code: "E0899", message: format!("{what} has no derivative"), help: None }
}

fn unary(
    b: &mut Builder,
    op: UnOp,
    x: NodeId,
    y: NodeId,
    g: NodeId,
) -> Result<Option<NodeId>, Misfit> {
    let mul = |b: &mut Builder, p, q| b.binary(BinOp::Mul, p, q);
    Ok(Some(match op {
        UnOp::Neg => b.unary(UnOp::Neg, g),
        // sign(x)
        UnOp::Abs => {
            let s = b.unary(UnOp::Sign, x);
            mul(b, g, s)?
        }
        // -y^2
        UnOp::Recip => {
            let s = mul(b, y, y)?;
            let d = mul(b, g, s)?;
            b.unary(UnOp::Neg, d)
        }
        // y
        UnOp::Exp => mul(b, g, y)?,
        // 1 / x
        UnOp::Log => b.binary(BinOp::Div, g, x)?,
        // 1 / (2 y)
        UnOp::Sqrt => {
            let half = b.constant(0.5);
            let d = b.binary(BinOp::Div, half, y)?;
            mul(b, g, d)?
        }
        // -y^3 / 2
        UnOp::Rsqrt => {
            let c = b.constant(-0.5);
            let s = mul(b, y, y)?;
            let s = mul(b, s, y)?;
            let s = mul(b, s, c)?;
            mul(b, g, s)?
        }
        // cos x
        UnOp::Sin => {
            let d = b.unary(UnOp::Cos, x);
            mul(b, g, d)?
        }
        // -sin x
        UnOp::Cos => {
            let d = b.unary(UnOp::Sin, x);
            let d = b.unary(UnOp::Neg, d);
            mul(b, g, d)?
        }
        // 1 - y^2
        UnOp::Tanh => {
            let one = b.constant(1.0);
            let s = mul(b, y, y)?;
            let d = b.binary(BinOp::Sub, one, s)?;
            mul(b, g, d)?
        }
        // 2 / sqrt(pi) e^(-x^2)
        UnOp::Erf => {
            let c = b.constant(std::f64::consts::FRAC_2_SQRT_PI);
            let s = mul(b, x, x)?;
            let s = b.unary(UnOp::Neg, s);
            let e = b.unary(UnOp::Exp, s);
            let d = mul(b, e, c)?;
            mul(b, g, d)?
        }
        // y (1 - y)
        UnOp::Sigmoid => {
            let one = b.constant(1.0);
            let r = b.binary(BinOp::Sub, one, y)?;
            let d = mul(b, y, r)?;
            mul(b, g, d)?
        }
        // Steps: zero wherever there is a derivative.
        UnOp::Floor | UnOp::Ceil | UnOp::Round | UnOp::Sign | UnOp::Not | UnOp::IsFinite => {
            return Ok(None);
        }
    }))
}

fn binary(b: &mut Builder, op: BinOp, [p, q]: [NodeId; 2], y: NodeId, g: NodeId) -> Pulled {
    Ok(match op {
        BinOp::Add => vec![(p, g), (q, g)],
        BinOp::Sub => vec![(p, g), (q, b.unary(UnOp::Neg, g))],
        BinOp::Mul => vec![(p, b.binary(BinOp::Mul, g, q)?), (q, b.binary(BinOp::Mul, g, p)?)],
        // d p = g / q, d q = -g y / q
        BinOp::Div => {
            let d = b.binary(BinOp::Div, g, q)?;
            let e = b.binary(BinOp::Mul, d, y)?;
            vec![(p, d), (q, b.unary(UnOp::Neg, e))]
        }
        // d p = g q p^(q-1), d q = g y log p (0 where p <= 0)
        BinOp::Pow => {
            let (one, zero) = (b.constant(1.0), b.constant(0.0));
            let less = b.binary(BinOp::Sub, q, one)?;
            let power = b.binary(BinOp::Pow, p, less)?;
            let d = b.binary(BinOp::Mul, q, power)?;
            let d = b.binary(BinOp::Mul, g, d)?;
            let log = b.unary(UnOp::Log, p);
            let positive = b.binary(BinOp::Lt, zero, p)?;
            let log = b.select(positive, log, zero)?;
            let e = b.binary(BinOp::Mul, y, log)?;
            vec![(p, d), (q, b.binary(BinOp::Mul, g, e)?)]
        }
        // The winner takes all; of equals the first.
        BinOp::Min | BinOp::Max => {
            let zero = b.constant(0.0);
            let first = match op {
                BinOp::Min => b.binary(BinOp::Le, p, q)?,
                _ => b.binary(BinOp::Le, q, p)?,
            };
            vec![(p, b.select(first, g, zero)?), (q, b.select(first, zero, g)?)]
        }
        // p - q floor(p / q)
        BinOp::Mod => {
            let d = b.binary(BinOp::Div, p, q)?;
            let d = b.unary(UnOp::Floor, d);
            let e = b.binary(BinOp::Mul, g, d)?;
            vec![(p, g), (q, b.unary(UnOp::Neg, e))]
        }
        BinOp::Lt | BinOp::Le | BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => vec![],
    })
}

fn reduce(b: &mut Builder, op: ReduceOp, axes: &[Name], x: NodeId, y: NodeId, g: NodeId) -> Pulled {
    let all = b.ty(x).axes.clone();
    let wide = b.expand(g, &all);
    Ok(match op {
        ReduceOp::Sum => vec![(x, wide)],
        // The first winner in storage order takes all.
        ReduceOp::Max | ReduceOp::Min => {
            let zero = b.constant(0.0);
            let one = b.integer(1);
            let wins = b.binary(BinOp::Eq, x, y)?;
            let mut first = wins;
            // Along each axis keep the first winner among rows that have one.
            for axis in axes.iter().rev() {
                let ints = b.cast(first, DType::I32);
                let count = b.cumsum(ints, axis, false)?;
                let is_first = b.binary(BinOp::Eq, count, one)?;
                first = b.binary(BinOp::And, first, is_first)?;
                let _ = axis;
            }
            vec![(x, b.select(first, wide, zero)?)]
        }
        // g y / x
        ReduceOp::Prod => {
            let r = b.binary(BinOp::Div, y, x)?;
            vec![(x, b.binary(BinOp::Mul, wide, r)?)]
        }
    })
}

/// d this = Σ over the axes that g and the other operand share and this lacks, of g * other.
fn contract(b: &mut Builder, this: NodeId, other: NodeId, g: NodeId) -> Result<NodeId, Misfit> {
    let ty = b.ty(this).clone();
    let compute = b.ty(other).dtype;
    let g = b.cast(g, compute);
    let over: Vec<Name> = b
        .ty(other)
        .axes
        .iter()
        .filter(|a| ty.find(&a.name).is_none())
        .map(|a| a.name.clone())
        .collect();
    // A rounded weight gets its gradient unrounded.
    let rounded = matches!(b.graph.node(this).op, Op::Cast)
        && b.ty(b.graph.node(this).inputs[0]).dtype == DType::F32;
    let dtype = if rounded { DType::F32 } else { ty.dtype };
    if over.is_empty() {
        let d = b.binary(BinOp::Mul, g, other)?;
        return Ok(b.cast(d, dtype));
    }
    b.contract(g, other, &over, dtype)
}

/// The transpose of a window: each element of the result hands its cotangent to the element that it read.
fn window(
    b: &mut Builder,
    axis: &Axis,
    index: &Affine,
    out: &Type,
    g: NodeId,
) -> Result<NodeId, Misfit> {
    // Solve `axis = offset + c a + ..` for an axis a with |c| = 1 that the window brought.
    let solved = index.terms.iter().position(|(_, c)| c.abs() == 1);
    if let Some(at) = solved {
        let (a, c) = index.terms[at].clone();
        let mut terms = vec![(axis.name.clone(), c)];
        terms.extend(
            index
                .terms
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != at)
                .map(|(_, (n, k))| (n.clone(), -k * c)),
        );
        // The window may keep the name of its axis (`pick[seq](x, pos(seq) - 1)`): then it is renamed on the way.
        let fresh = Name::from(format!("{a}~"));
        let (g, a) = if a == axis.name {
            (b.rename(g, &[(a.clone(), fresh.clone())])?, fresh)
        } else {
            (g, a)
        };
        let inverse = Affine { terms, offset: -index.offset * c };
        let mut axes = vec![axis.clone()];
        for (i, (n, _)) in index.terms.iter().enumerate() {
            if i != at
                && let Some(k) = out.find(n)
            {
                axes.push(out.axes[k].clone());
            }
        }
        let d = b.window(g, &a, inverse, &axes, 0.0)?;
        let over: Vec<Name> = index
            .terms
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != at)
            .map(|(_, (n, _))| n.clone())
            .collect();
        return b.reduce(ReduceOp::Sum, d, &over);
    }
    // In general: compare the index with every coordinate.
    let mut at = b.integer(index.offset);
    let mut over = Vec::new();
    for (n, c) in &index.terms {
        let Some(k) = out.find(n) else { continue };
        let pos = b.pos(&out.axes[k].clone());
        let c = b.integer(*c);
        let term = b.binary(BinOp::Mul, pos, c)?;
        at = b.binary(BinOp::Add, at, term)?;
        over.push(n.clone());
    }
    let pos = b.pos(axis);
    let hit = b.binary(BinOp::Eq, pos, at)?;
    let zero = b.constant(0.0);
    let g = b.cast(g, DType::F32);
    let d = b.select(hit, g, zero)?;
    b.reduce(ReduceOp::Sum, d, &over)
}

fn attention(
    b: &mut Builder,
    a: &super::Attention,
    inputs: &[NodeId],
    id: NodeId,
    g: NodeId,
    wanted: &dyn Fn(NodeId) -> bool,
) -> Pulled {
    let (q, k, v) = (inputs[0], inputs[1], inputs[2]);
    let out_ty = b.graph.node(id).ty.clone();
    let lse_ty = Type::new(DType::F32, a.rows(b.ty(q), b.ty(k)));
    let out = b.raw(Op::Part(0), vec![id], out_ty.clone());
    let lse = b.raw(Op::Part(1), vec![id], lse_ty);
    let g = b.cast(g, out_ty.dtype);
    let g = if b.ty(g).axes == out_ty.axes { g } else { b.raw(Op::Expand, vec![g], out_ty) };
    let wants: Vec<bool> = inputs[3..]
        .iter()
        .enumerate()
        .map(|(i, c)| {
            wanted(*c)
                && b.ty(*c).dtype.is_float()
                && !scalar_grad::is_zero(&scalar_grad::d(&a.score, 1 + i as u32))
        })
        .collect();
    let mut all = inputs.to_vec();
    all.extend([out, lse, g]);
    let ty = b.ty(q).clone();
    let grad = b.raw(Op::AttentionGrad { of: Box::new(a.clone()), wants: wants.clone() }, all, ty);
    let mut targets = vec![q, k, v];
    targets.extend(inputs[3..].iter().zip(&wants).filter(|(_, w)| **w).map(|(c, _)| *c));
    let mut pulled = Vec::new();
    for (n, t) in targets.into_iter().enumerate() {
        let ty = b.ty(t).clone();
        pulled.push((t, b.raw(Op::Part(n as u32), vec![grad], ty)));
    }
    Ok(pulled)
}
