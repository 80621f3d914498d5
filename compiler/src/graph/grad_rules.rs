//! The gradient of each operation, one arm per operation, with the derivative in the comment.
//!
//! Takes a node and its complete cotangent `g`; gives what each input receives. Contributions may have more axes
//! than the input (the walk sums over them) and any float dtype (the walk adds in f32 and rounds once); see [`grad`](super::grad).
//!
//! Written `dx` for what `x` receives, `y` for the value of the node.

use super::build::Builder;
use super::grad::{bug, built, cotangent_dtype, expand_as};
use super::scalar_grad;
use super::{
    Affine, Attention, Axis, BinOp, Collective, DType, Name, Node, NodeId, Op, ReduceOp, Type, UnOp,
};
use crate::bug::Bug;

/// What input `.0` receives for its part `.1` (0, unless the input has several results): the node `.2`.
pub(super) type Gift = (usize, u32, NodeId);

type Gifts = Result<Vec<Gift>, Bug>;

/// The rule of every operation but `Scan`. `parts` are the cotangents of the results that have one; of an operation with
/// one result, just one. `wanted` says which inputs are active.
pub(super) fn rule(
    b: &mut Builder,
    y: NodeId,
    node: &Node,
    parts: &[(u32, NodeId)],
    wanted: &[bool],
) -> Gifts {
    let Some((_, g)) = parts.first().copied() else { return Ok(vec![]) };
    let x = |i: usize| node.inputs[i];
    let mut out: Vec<Gift> = Vec::new();
    let mut give = |i: usize, g: NodeId| out.push((i, 0, g));
    match &node.op {
        // Leaves have no inputs; the rest has steps, or is a barrier by intent.
        Op::Const(_) | Op::Pos | Op::Input(_) | Op::Runtime(_) | Op::Random(..) => {}
        Op::TopK { .. } | Op::ArgSort { .. } | Op::Stop => {}

        // y = f(x): dx = g f'(x)
        Op::Unary(op) => {
            if let Some(dx) = unary(b, *op, x(0), y, g)? {
                give(0, dx);
            }
        }
        // y = f(a, b): da = g ∂f/∂a, db = g ∂f/∂b
        Op::Binary(op) => {
            for (side, wanted) in wanted.iter().enumerate() {
                if *wanted && let Some(d) = binary(b, *op, x(0), x(1), y, g, side == 0)? {
                    give(side, d);
                }
            }
        }
        // y = c ? p : q: dp = c ? g : 0, dq = c ? 0 : g
        Op::Select => {
            let zero = b.constant(0.0);
            if wanted[1] {
                give(1, built(b.select(x(0), g, zero))?);
            }
            if wanted[2] {
                give(2, built(b.select(x(0), zero, g))?);
            }
        }
        // Rounding is seen as the identity; the walk rounds to the dtype of x.
        Op::Cast => give(0, g),

        // The walk sums over the axes that x lacks.
        Op::Expand => give(0, g),
        // dx = g with the old names
        Op::Rename(names) => {
            let back: Vec<(Name, Name)> =
                names.iter().map(|(old, new)| (new.clone(), old.clone())).collect();
            give(0, built(b.rename(g, &back))?);
        }
        // Split and Merge are each other's inverse.
        Op::Split { axis, into } => {
            let names: Vec<Name> = into.iter().map(|a| a.name.clone()).collect();
            give(0, built(b.merge(g, &names, axis))?);
        }
        Op::Merge { axes, into } => {
            let apart: Vec<Axis> = axes.iter().filter_map(|a| axis_of(b, x(0), a)).collect();
            give(0, built(b.split(g, into, &apart))?);
        }
        Op::Window { axis, index, outside: _ } => {
            give(0, window(b, x(0), axis, index, g)?);
        }
        // y[i..] = x[index[i]..]: dx[j..] = Σ_i [index[i] = j] g[i..]
        Op::Gather { axis } => {
            let ty = Type::new(DType::F32, b.ty(x(0)).axes.clone());
            let op = Op::ScatterAdd { axis: axis.clone() };
            give(0, b.raw(op, vec![g, x(1)], ty));
        }
        // The transpose of a gather's transpose: dy[i..] = g[index[i]..]
        Op::ScatterAdd { axis } => give(0, built(b.gather(g, axis, x(1)))?),
        // Each input is a window into g.
        Op::Concat { parts, into } => {
            let mut offset = 0;
            for (i, part) in parts.iter().enumerate() {
                let axis = need_axis(b, x(i), part)?;
                let size = axis.size as i64;
                if wanted[i] {
                    let index = Affine { terms: vec![(part.clone(), 1)], offset };
                    give(i, built(b.window(g, into, index, &[axis], 0.0))?);
                }
                offset += size;
            }
        }
        // y = dst, but src at start..: ddst = g outside of it, dsrc = g at it
        Op::Update { axis } => {
            let written = need_axis(b, x(1), axis)?;
            let whole = need_axis(b, x(0), axis)?;
            if wanted[0] {
                let at = b.pos(&whole);
                let end = b.integer(written.size as i64);
                let end = built(b.binary(BinOp::Add, x(2), end))?;
                let before = built(b.binary(BinOp::Lt, at, x(2)))?;
                let behind = built(b.binary(BinOp::Le, end, at))?;
                let kept = built(b.binary(BinOp::Or, before, behind))?;
                let zero = b.constant(0.0);
                give(0, built(b.select(kept, g, zero))?);
            }
            if wanted[1] {
                let at = b.pos(&written);
                let at = built(b.binary(BinOp::Add, at, x(2)))?;
                give(1, built(b.gather(g, axis, at))?);
            }
        }

        Op::Reduce { op, axes } => give(0, reduce(b, *op, axes, x(0), y, g)?),
        // y = log Σ e^x: dx = g e^(x - y). Where all x are -inf there is nothing to give.
        Op::LogSumExp { .. } => {
            let axes = b.ty(x(0)).axes.clone();
            let (zero, low) = (b.constant(0.0), b.constant(f64::NEG_INFINITY));
            let empty = built(b.binary(BinOp::Eq, y, low))?;
            let safe = built(b.select(empty, zero, y))?;
            let share = built(b.binary(BinOp::Sub, x(0), safe))?;
            let share = b.unary(UnOp::Exp, share);
            let g = expand_as(b, g, &axes);
            give(0, built(b.binary(BinOp::Mul, share, g))?);
        }
        // y = Σ_over p q, so dp = Σ g q over what q has and p has not; likewise dq.
        Op::Contract { .. } => {
            for (side, wanted) in wanted.iter().enumerate() {
                if *wanted {
                    give(side, contract(b, x(side), x(1 - side), g)?);
                }
            }
        }
        // y_i = Σ_{j <= i} x_j: dx_j = Σ_{i >= j} g_i
        Op::CumSum { axis, reverse } => give(0, built(b.cumsum(g, axis, !reverse))?),

        Op::Attention(of) => {
            for (i, dx) in attention(b, y, node, of, parts, wanted)? {
                give(i, dx);
            }
        }
        Op::AttentionGrad { .. } => {
            return Err(bug(format!(
                "{y:?}: the gradient of a gradient of attention is not known"
            )));
        }
        // What part p of x receives.
        Op::Part(p) => out.push((0, *p, g)),
        Op::Scan(_) => return Err(bug(format!("{y:?}: a scan has a rule of its own"))),

        // What each rank gives to all, all give back to it; the others are pairs of transposes.
        Op::Collective(c) => {
            let back = match c {
                Collective::AllReduce(mesh) => Collective::AllReduce(mesh.clone()),
                Collective::AllGather { mesh, axis } => {
                    Collective::ReduceScatter { mesh: mesh.clone(), axis: axis.clone() }
                }
                Collective::ReduceScatter { mesh, axis } => {
                    Collective::AllGather { mesh: mesh.clone(), axis: axis.clone() }
                }
                Collective::AllToAll { mesh, split, gather } => Collective::AllToAll {
                    mesh: mesh.clone(),
                    split: gather.clone(),
                    gather: split.clone(),
                },
            };
            let ty = Type::new(b.ty(g).dtype, b.ty(x(0)).axes.clone());
            give(0, b.raw(Op::Collective(back), vec![g], ty));
        }
    }
    Ok(out)
}

fn mul(b: &mut Builder, x: NodeId, y: NodeId) -> Result<NodeId, Bug> {
    built(b.binary(BinOp::Mul, x, y))
}

fn axis_of(b: &Builder, x: NodeId, name: &Name) -> Option<Axis> {
    b.ty(x).axes.iter().find(|a| a.name == *name).cloned()
}

fn need_axis(b: &Builder, x: NodeId, name: &Name) -> Result<Axis, Bug> {
    axis_of(b, x, name).ok_or_else(|| bug(format!("{x:?} has no axis `{name}`")))
}

// g f'(x), with y = f(x).
fn unary(
    b: &mut Builder,
    op: UnOp,
    x: NodeId,
    y: NodeId,
    g: NodeId,
) -> Result<Option<NodeId>, Bug> {
    let slope = match op {
        // -g
        UnOp::Neg => return Ok(Some(b.unary(UnOp::Neg, g))),
        // sign x
        UnOp::Abs => b.unary(UnOp::Sign, x),
        // -1 / x² = -y²
        UnOp::Recip => {
            let square = mul(b, y, y)?;
            b.unary(UnOp::Neg, square)
        }
        // y
        UnOp::Exp => y,
        // g / x
        UnOp::Log => return built(b.binary(BinOp::Div, g, x)).map(Some),
        // 1 / 2y
        UnOp::Sqrt => {
            let half = b.constant(0.5);
            built(b.binary(BinOp::Div, half, y))?
        }
        // -y³ / 2
        UnOp::Rsqrt => {
            let square = mul(b, y, y)?;
            let cube = mul(b, square, y)?;
            let half = b.constant(-0.5);
            mul(b, half, cube)?
        }
        // cos x
        UnOp::Sin => b.unary(UnOp::Cos, x),
        // -sin x
        UnOp::Cos => {
            let sin = b.unary(UnOp::Sin, x);
            b.unary(UnOp::Neg, sin)
        }
        // 1 - y²
        UnOp::Tanh => {
            let square = mul(b, y, y)?;
            let one = b.constant(1.0);
            built(b.binary(BinOp::Sub, one, square))?
        }
        // 2/√π e^(-x²)
        UnOp::Erf => {
            let square = mul(b, x, x)?;
            let minus = b.unary(UnOp::Neg, square);
            let exp = b.unary(UnOp::Exp, minus);
            let scale = b.constant(std::f64::consts::FRAC_2_SQRT_PI);
            mul(b, scale, exp)?
        }
        // y (1 - y)
        UnOp::Sigmoid => {
            let one = b.constant(1.0);
            let rest = built(b.binary(BinOp::Sub, one, y))?;
            mul(b, y, rest)?
        }
        // Steps.
        UnOp::Floor | UnOp::Ceil | UnOp::Round => return Ok(None),
        UnOp::Sign | UnOp::Not | UnOp::IsFinite => return Ok(None),
    };
    mul(b, g, slope).map(Some)
}

// g ∂f/∂p or g ∂f/∂q, with y = f(p, q).
fn binary(
    b: &mut Builder,
    op: BinOp,
    p: NodeId,
    q: NodeId,
    y: NodeId,
    g: NodeId,
    left: bool,
) -> Result<Option<NodeId>, Bug> {
    let d = match op {
        // g, g
        BinOp::Add => g,
        // g, -g
        BinOp::Sub if left => g,
        BinOp::Sub => b.unary(UnOp::Neg, g),
        // g q, g p
        BinOp::Mul if left => mul(b, g, q)?,
        BinOp::Mul => mul(b, g, p)?,
        // g / q, -g y / q
        BinOp::Div if left => built(b.binary(BinOp::Div, g, q))?,
        BinOp::Div => {
            let ratio = built(b.binary(BinOp::Div, y, q))?;
            let product = mul(b, g, ratio)?;
            b.unary(UnOp::Neg, product)
        }
        // g q p^(q-1)
        BinOp::Pow if left => {
            let fixed = if let Op::Const(q) = b.graph.node(q).op { Some(q.get()) } else { None };
            let power = if fixed == Some(2.0) {
                p
            } else {
                let one = b.constant(1.0);
                let less = match fixed {
                    Some(q) => b.constant(q - 1.0),
                    None => built(b.binary(BinOp::Sub, q, one))?,
                };
                built(b.binary(BinOp::Pow, p, less))?
            };
            let slope = mul(b, q, power)?;
            mul(b, g, slope)?
        }
        // g y log p; 0 where p = 0, the limit for q > 0
        BinOp::Pow => {
            let zero = b.constant(0.0);
            let log = b.unary(UnOp::Log, p);
            let slope = mul(b, y, log)?;
            let at_zero = built(b.binary(BinOp::Eq, p, zero))?;
            let slope = built(b.select(at_zero, zero, slope))?;
            mul(b, g, slope)?
        }
        // g where p is taken, g where q is; of equals p is taken
        BinOp::Min | BinOp::Max => {
            let (low, high) = if op == BinOp::Min { (p, q) } else { (q, p) };
            let first = built(b.binary(BinOp::Le, low, high))?;
            let zero = b.constant(0.0);
            if left { built(b.select(first, g, zero))? } else { built(b.select(first, zero, g))? }
        }
        // y = p - q floor(p / q): g, -g floor(p / q)
        BinOp::Mod if left => g,
        BinOp::Mod => {
            let ratio = built(b.binary(BinOp::Div, p, q))?;
            let floor = b.unary(UnOp::Floor, ratio);
            let product = mul(b, g, floor)?;
            b.unary(UnOp::Neg, product)
        }
        BinOp::Lt | BinOp::Le | BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => return Ok(None),
    };
    Ok(Some(d))
}

fn reduce(
    b: &mut Builder,
    op: ReduceOp,
    over: &[Name],
    x: NodeId,
    y: NodeId,
    g: NodeId,
) -> Result<NodeId, Bug> {
    let axes = b.ty(x).axes.clone();
    match op {
        // y = Σ x: dx = g everywhere
        ReduceOp::Sum => Ok(expand_as(b, g, &axes)),
        // g at the first coordinate that attains the maximum (minimum), else 0
        ReduceOp::Max | ReduceOp::Min => {
            let key = if op == ReduceOp::Max { x } else { b.unary(UnOp::Neg, x) };
            let first = first_largest(b, key, over)?;
            let zero = b.constant(0.0);
            built(b.select(first, g, zero))
        }
        // dx = g Π of the others. With p the product of what is not zero: p / x if nothing is zero, p at
        // the only zero, else 0.
        ReduceOp::Prod => {
            let (zero, one) = (b.constant(0.0), b.constant(1.0));
            let is_zero = built(b.binary(BinOp::Eq, x, zero))?;
            let nonzero = built(b.select(is_zero, one, x))?;
            let zeros = built(b.reduce(ReduceOp::Sum, is_zero, over))?;
            let p = built(b.reduce(ReduceOp::Prod, nonzero, over))?;
            let none = built(b.binary(BinOp::Eq, zeros, zero))?;
            let single = built(b.binary(BinOp::Eq, zeros, one))?;
            let at_zero = built(b.select(single, p, zero))?;
            let rest = built(b.binary(BinOp::Div, y, nonzero))?;
            let elsewhere = built(b.select(none, rest, zero))?;
            let others = built(b.select(is_zero, at_zero, elsewhere))?;
            mul(b, g, others)
        }
    }
}

// 1 at the first coordinate along `over` where `x` is largest.
fn first_largest(b: &mut Builder, x: NodeId, over: &[Name]) -> Result<NodeId, Bug> {
    if let [axis] = over {
        return built(b.topk(x, axis, 1));
    }
    let apart: Vec<Axis> = over.iter().filter_map(|a| axis_of(b, x, a)).collect();
    let names: Vec<&str> = over.iter().map(Name::as_str).collect();
    let line = Name::from(names.join("*"));
    let merged = built(b.merge(x, over, &line))?;
    let first = built(b.topk(merged, &line, 1))?;
    built(b.split(first, &line, &apart))
}

// y[.. p ..] = x[o + Σ c p ..], so dx[j ..] = Σ over the p with o + Σ c p = j of g[.. p ..].
//
// If one p, of an axis that x does not share, has a coefficient of ±1, it is solved for: p = ±(j - o - Σ other c p),
// which is a window again, and falls off where no p exists. Otherwise each p is compared.
fn window(
    b: &mut Builder,
    x: NodeId,
    axis: &Name,
    index: &Affine,
    g: NodeId,
) -> Result<NodeId, Bug> {
    let own = need_axis(b, x, axis)?;
    let shared: Vec<Axis> = b.ty(x).axes.iter().filter(|a| a.name != *axis).cloned().collect();
    let is_shared = |name: &Name| shared.iter().any(|a| a.name == *name);
    let solvable = |name: &Name, c: i64| c.abs() == 1 && !is_shared(name);
    // The axis itself first (a shift): then no other name is in the way.
    let solved = index
        .terms
        .iter()
        .filter(|(name, c)| solvable(name, *c))
        .min_by_key(|(name, _)| name != axis)
        .cloned();
    let is_solved = |name: &Name| solved.as_ref().is_some_and(|(s, _)| s == name);
    // An index axis called like x's axis, which comes back, steps aside.
    let aside = Name::from(format!("{axis}'"));
    let mut terms = index.terms.clone();
    let mut g = g;
    if !is_solved(axis) && terms.iter().any(|(name, _)| name == axis) {
        g = built(b.rename(g, &[(axis.clone(), aside.clone())]))?;
        terms.iter_mut().filter(|(n, _)| n == axis).for_each(|(n, _)| *n = aside.clone());
    }
    let others: Vec<(Name, i64)> = terms.iter().filter(|(n, _)| !is_solved(n)).cloned().collect();
    let summed: Vec<Name> =
        others.iter().map(|(n, _)| n.clone()).filter(|n| !is_shared(n)).collect();
    if let Some((name, c)) = solved {
        let mut back = Affine { terms: vec![(axis.clone(), c)], offset: -c * index.offset };
        back.terms.extend(others.iter().map(|(n, other)| (n.clone(), -c * other)));
        let mut axes = vec![own];
        axes.extend(others.iter().filter_map(|(n, _)| axis_of(b, g, n)));
        let seen = built(b.window(g, &name, back, &axes, 0.0))?;
        return built(b.reduce(ReduceOp::Sum, seen, &summed));
    }
    let mut at = b.integer(index.offset);
    for (name, c) in &others {
        let p = need_axis(b, g, name)?;
        let (p, c) = (b.pos(&p), b.integer(*c));
        let step = mul(b, p, c)?;
        at = built(b.binary(BinOp::Add, at, step))?;
    }
    let j = b.pos(&own);
    let hit = built(b.binary(BinOp::Eq, j, at))?;
    let zero = b.constant(0.0);
    let placed = built(b.select(hit, g, zero))?;
    built(b.reduce(ReduceOp::Sum, placed, &summed))
}

// What `x` receives from a contraction with `other`.
fn contract(b: &mut Builder, x: NodeId, other: NodeId, g: NodeId) -> Result<NodeId, Bug> {
    let (tx, to) = (b.ty(x).clone(), b.ty(other).clone());
    let over: Vec<Name> =
        to.axes.iter().map(|a| a.name.clone()).filter(|n| tx.find(n).is_none()).collect();
    if over.is_empty() {
        return mul(b, g, other);
    }
    // Operands of one dtype, that of the forward operand.
    let g = if to.dtype.is_float() { b.cast(g, to.dtype) } else { g };
    let dtype = cotangent_dtype(&b.graph, b.graph.node(x));
    Ok(b.raw(Op::Contract { over }, vec![g, other], Type::new(dtype, tx.axes)))
}

// By its gradient operation (Dao et al. 2022, algorithm 4). Captured tensors receive something if they are floats on which
// the score depends smoothly; a mask has steps.
fn attention(
    b: &mut Builder,
    y: NodeId,
    node: &Node,
    of: &Attention,
    parts: &[(u32, NodeId)],
    wanted: &[bool],
) -> Result<Vec<(usize, NodeId)>, Bug> {
    let [(0, dout)] = parts else {
        return Err(bug(format!("{y:?}: no gradient passes the log-sum-exp of an attention")));
    };
    let wants: Vec<bool> = (3..node.inputs.len())
        .map(|i| wanted[i] && !scalar_grad::is_zero(&scalar_grad::d(&of.score, i as u32 - 2)))
        .collect();
    let (q, k) = (b.ty(node.inputs[0]).clone(), b.ty(node.inputs[1]).clone());
    let rows = Type::new(DType::F32, of.rows(&q, &k));
    let out = b.raw(Op::Part(0), vec![y], node.ty.clone());
    let lse = b.raw(Op::Part(1), vec![y], rows);
    let dout = b.cast(*dout, node.ty.dtype);
    let mut inputs = node.inputs.clone();
    inputs.extend([out, lse, dout]);
    let mut targets: Vec<usize> = vec![0, 1, 2];
    targets.extend(wants.iter().enumerate().filter(|(_, w)| **w).map(|(i, _)| 3 + i));
    let types: Vec<Type> = targets
        .iter()
        .map(|i| {
            let input = b.graph.node(node.inputs[*i]);
            let dtype = cotangent_dtype(&b.graph, input);
            let dtype = if dtype.is_float() { dtype } else { DType::F32 };
            Type::new(dtype, input.ty.axes.clone())
        })
        .collect();
    let op = Op::AttentionGrad { of: Box::new(of.clone()), wants };
    let both = b.raw(op, inputs, types[0].clone());
    let part =
        |(p, (i, ty)): (usize, (&usize, Type))| (*i, b.raw(Op::Part(p as u32), vec![both], ty));
    Ok(targets.iter().zip(types).enumerate().map(part).collect())
}
