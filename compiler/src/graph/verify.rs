//! The laws of a graph.
//!
//! Takes a graph, gives `Ok` or the first law that is broken. After `verify`, no pass over graphs may panic.
//!
//! # Laws
//! *Order.* A node reads only nodes before it.
//! *Arity.* Each operation has the number of inputs that its comment names.
//! *Axes.* No type has an axis twice or of size 0. A name has one size in the whole graph and the bodies in it, unless an
//! [`Op::Update`] writes along it (there the written part is shorter than the whole).
//! *Union.* Where an operation unites axes, equal names have equal sizes.
//! *Types.* The type of every node follows from its operation and inputs as in [`build`](super::build). Axes are compared as
//! sets, since storage order has no meaning; `Rename`, `Split`, `Merge`, `Cast`, `Stop`, `Part` and `Input` also
//! keep the order.
//! *Several results.* `Scan`, `Attention` and `AttentionGrad` are read only by `Part`, with a number that they have.
//! *Expressions.* In a score or mask, an instruction reads only earlier ones, arguments that exist and axes that exist.
//! *Scans.* The body obeys all laws; its inputs are the carries, slices and captured values that it is given; each new carry
//! has the type of the old; a stacked value does not have the axis already.
//! *Inputs.* Names are distinct; an input has at most one node, of its declared type.
//! *Outputs.* Names are distinct (not in bodies, where position counts); a donated input has the dtype and axes of the value
//! that replaces it, and is replaced once.
//!
//! Not enforced: that every node is used, that equal nodes are one node, that spans and paths are true.

use std::collections::BTreeMap;

use super::build::show;
use super::print::{print, show_type};
use super::{
    Affine, Attention, Axis, BinOp, Collective, DType, Expr, Graph, Inst, Name, Node, NodeId, Op,
    Runtime, Scan, Type, UnOp,
};
use crate::bug::Bug;
use crate::scalar::round_to;

/// Checks every law.
pub fn verify(graph: &Graph) -> Result<(), Bug> {
    let bug = |message| Bug::new("verify", message, print(graph));
    laws(graph, Place::Top).map_err(bug)?;
    sizes(graph).map_err(bug)
}

/// The type of the n-th result of a node with several results; `None` if it has no such result.
///
/// The order of axes is the canonical one; a `Part` may have another. Gradients of an attention may have any float type.
pub fn part(graph: &Graph, node: &Node, n: usize) -> Option<Type> {
    let ty = |i: usize| node.inputs.get(i).map(|id| graph.ty(*id));
    match &node.op {
        Op::Attention(a) => match n {
            0 => Some(node.ty.clone()),
            1 => Some(Type::new(DType::F32, a.rows(ty(0)?, ty(1)?))),
            2.. => None,
        },
        Op::AttentionGrad { wants, .. } => {
            if n < 3 {
                return ty(n).cloned();
            }
            let (i, _) = wants.iter().enumerate().filter(|(_, want)| **want).nth(n - 3)?;
            ty(3 + i).cloned()
        }
        Op::Scan(scan) => {
            let mut ty = scan.body.ty(scan.body.outputs.get(n)?.node).clone();
            if n >= scan.carries {
                ty.axes.insert(0, scan.axis.clone());
            }
            Some(ty)
        }
        Op::Const(_)
        | Op::Pos
        | Op::Input(_)
        | Op::Runtime(_)
        | Op::Random(..)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Cast
        | Op::Expand
        | Op::Rename(_)
        | Op::Split { .. }
        | Op::Merge { .. }
        | Op::Window { .. }
        | Op::Gather { .. }
        | Op::ScatterAdd { .. }
        | Op::Concat { .. }
        | Op::Update { .. }
        | Op::Reduce { .. }
        | Op::LogSumExp { .. }
        | Op::Contract { .. }
        | Op::CumSum { .. }
        | Op::TopK { .. }
        | Op::ArgSort { .. }
        | Op::Part(_)
        | Op::Stop
        | Op::Collective(_) => None,
    }
}

/// True for the operations that have several results.
pub fn has_parts(op: &Op) -> bool {
    matches!(op, Op::Scan(_) | Op::Attention(_) | Op::AttentionGrad { .. })
}

/// The dtype of `op(x)` for an `x` of that dtype.
pub fn unary_dtype(op: UnOp, x: DType) -> DType {
    match op {
        UnOp::Not | UnOp::IsFinite => DType::Bool,
        UnOp::Neg | UnOp::Abs | UnOp::Sign => {
            if x == DType::I32 {
                DType::I32
            } else {
                DType::F32
            }
        }
        UnOp::Recip
        | UnOp::Exp
        | UnOp::Log
        | UnOp::Sqrt
        | UnOp::Rsqrt
        | UnOp::Sin
        | UnOp::Cos
        | UnOp::Tanh
        | UnOp::Erf
        | UnOp::Sigmoid
        | UnOp::Floor
        | UnOp::Ceil
        | UnOp::Round => DType::F32,
    }
}

/// The dtype of `op(a, b)`.
pub fn binary_dtype(op: BinOp, a: DType, b: DType) -> DType {
    let int_op = !matches!(op, BinOp::Div | BinOp::Pow);
    if op.is_bool() {
        DType::Bool
    } else if int_op && !a.is_float() && !b.is_float() {
        DType::I32
    } else {
        DType::F32
    }
}

/// The dtype of a runtime scalar.
pub fn runtime_dtype(what: Runtime) -> DType {
    match what {
        Runtime::Step | Runtime::Position | Runtime::Micro => DType::I32,
        Runtime::Share | Runtime::Seed => DType::F32,
    }
}

type Law = Result<(), String>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Top,
    Body,
}

fn laws(graph: &Graph, place: Place) -> Law {
    let mut seen: Vec<&Name> = Vec::new();
    for input in &graph.inputs {
        axes_distinct(&input.ty).map_err(|e| format!("input `{}`: {e}", input.name))?;
        if seen.contains(&&input.name) {
            return Err(format!("two inputs are called `{}`", input.name));
        }
        seen.push(&input.name);
    }
    let mut has_node = vec![false; graph.inputs.len()];
    for id in graph.ids() {
        let node = graph.node(id);
        for input in &node.inputs {
            if input.0 >= id.0 {
                return Err(format!("{id:?} reads {input:?}, which does not come before it"));
            }
            if has_parts(&graph.node(*input).op) && !matches!(node.op, Op::Part(_)) {
                return Err(format!("{id:?} reads {input:?} whole, which has several results"));
            }
        }
        if let Op::Input(i) = node.op {
            let slot = has_node
                .get_mut(i as usize)
                .ok_or_else(|| format!("{id:?}: the graph has no input {i}"))?;
            if std::mem::replace(slot, true) {
                return Err(format!("{id:?} is a second node for input {i}"));
            }
        }
        axes_distinct(&node.ty).map_err(|e| format!("{id:?}: {e}"))?;
        node_law(graph, node).map_err(|e| format!("{id:?} ({}): {e}", node.path))?;
    }
    outputs(graph, place)
}

fn outputs(graph: &Graph, place: Place) -> Law {
    let mut names: Vec<&Name> = Vec::new();
    let mut replaced = vec![false; graph.inputs.len()];
    for output in &graph.outputs {
        let name = &output.name;
        let Some(node) = graph.nodes.get(output.node.0 as usize) else {
            return Err(format!("output `{name}` is {:?}, which does not exist", output.node));
        };
        if has_parts(&node.op) {
            return Err(format!("output `{name}` has several results; take a part"));
        }
        if place == Place::Top && names.contains(&name) {
            return Err(format!("two outputs are called `{name}`"));
        }
        names.push(name);
        let Some(into) = output.into else { continue };
        if place == Place::Body {
            return Err(format!("output `{name}` of a body donates; only a whole graph may"));
        }
        let Some(input) = graph.inputs.get(into as usize) else {
            return Err(format!("output `{name}` replaces input {into}, which does not exist"));
        };
        same(&input.ty, &node.ty).map_err(|e| format!("output `{name}` into its input: {e}"))?;
        if std::mem::replace(&mut replaced[into as usize], true) {
            return Err(format!("input `{}` is replaced twice", input.name));
        }
    }
    Ok(())
}

// The law of one size per name, over all bodies.
fn sizes(graph: &Graph) -> Law {
    let mut all: BTreeMap<Name, usize> = BTreeMap::new();
    let mut exempt: Vec<Name> = Vec::new();
    written(graph, &mut exempt);
    one_size(graph, &exempt, &mut all)
}

fn written(graph: &Graph, names: &mut Vec<Name>) {
    for node in &graph.nodes {
        if let Op::Update { axis } = &node.op {
            names.push(axis.clone());
        }
        if let Op::Scan(scan) = &node.op {
            written(&scan.body, names);
        }
    }
}

fn one_size(graph: &Graph, exempt: &[Name], all: &mut BTreeMap<Name, usize>) -> Law {
    for id in graph.ids() {
        let node = graph.node(id);
        for axis in node.ty.axes.iter().filter(|a| !exempt.contains(&a.name)) {
            let size = *all.entry(axis.name.clone()).or_insert(axis.size);
            if size != axis.size {
                return Err(format!(
                    "{id:?} has axis `{}` of size {}, elsewhere it has {size}",
                    axis.name, axis.size
                ));
            }
        }
        if let Op::Scan(scan) = &node.op {
            one_size(&scan.body, exempt, all)?;
        }
    }
    Ok(())
}

fn axes_distinct(ty: &Type) -> Law {
    for (i, a) in ty.axes.iter().enumerate() {
        if a.size == 0 {
            return Err(format!("axis `{}` has size 0", a.name));
        }
        if ty.axes[..i].iter().any(|b| b.name == a.name) {
            return Err(format!("axis `{}` twice", a.name));
        }
    }
    Ok(())
}

fn node_law(graph: &Graph, node: &Node) -> Law {
    let n = node.inputs.len();
    let arity = |want: usize| {
        if n == want { Ok(()) } else { Err(format!("has {n} inputs, needs {want}")) }
    };
    let ty = |i: usize| graph.ty(node.inputs[i]);
    let out = &node.ty;
    match &node.op {
        Op::Const(_) => {
            arity(0)?;
            same(&Type::scalar(out.dtype), out)
        }
        Op::Pos => {
            arity(0)?;
            need(out.axes.len() == 1, "a position has one axis")?;
            dtype(DType::I32, out)
        }
        Op::Input(i) => {
            arity(0)?;
            // In range: `laws` has looked.
            exactly(&graph.inputs[*i as usize].ty, out)
        }
        Op::Runtime(what) => {
            arity(0)?;
            same(&Type::scalar(runtime_dtype(*what)), out)
        }
        Op::Random(..) => {
            arity(3)?;
            for i in 0..3 {
                need(!ty(i).dtype.is_float(), "counters are integers")?;
            }
            same(&Type::new(DType::F32, unite(&[ty(0), ty(1), ty(2)])?), out)
        }
        Op::Unary(op) => {
            arity(1)?;
            same(&Type::new(unary_dtype(*op, ty(0).dtype), ty(0).axes.clone()), out)
        }
        Op::Binary(op) => {
            arity(2)?;
            let dtype = binary_dtype(*op, ty(0).dtype, ty(1).dtype);
            same(&Type::new(dtype, unite(&[ty(0), ty(1)])?), out)
        }
        Op::Select => {
            arity(3)?;
            need(ty(1).dtype == ty(2).dtype, "the branches have different dtypes")?;
            same(&Type::new(ty(1).dtype, unite(&[ty(0), ty(1), ty(2)])?), out)
        }
        Op::Cast => {
            arity(1)?;
            exactly(&Type::new(out.dtype, ty(0).axes.clone()), out)
        }
        Op::Expand => {
            arity(1)?;
            dtype(ty(0).dtype, out)?;
            contains(out, &ty(0).axes)
        }
        Op::Rename(names) => {
            arity(1)?;
            for (i, (old, _)) in names.iter().enumerate() {
                has(ty(0), old)?;
                need(names[..i].iter().all(|(o, _)| o != old), "an axis is renamed twice")?;
            }
            let new = |a: &Axis| {
                let to = names.iter().find(|(old, _)| *old == a.name).map(|(_, new)| new);
                Axis { name: to.unwrap_or(&a.name).clone(), size: a.size }
            };
            exactly(&Type::new(ty(0).dtype, ty(0).axes.iter().map(new).collect()), out)
        }
        Op::Split { axis, into } => {
            arity(1)?;
            has(ty(0), axis)?;
            let mut axes = ty(0).axes.clone();
            let at = ty(0).find(axis).unwrap_or(0);
            let product: usize = into.iter().map(|a| a.size).product();
            need(product == axes[at].size, "the sizes do not multiply to the old one")?;
            axes.splice(at..=at, into.iter().cloned());
            exactly(&Type::new(ty(0).dtype, axes), out)
        }
        Op::Merge { axes, into } => {
            arity(1)?;
            need(!axes.is_empty(), "merges nothing")?;
            for (i, a) in axes.iter().enumerate() {
                has(ty(0), a)?;
                need(!axes[..i].contains(a), "an axis is merged twice")?;
            }
            let size = axes.iter().filter_map(|a| ty(0).size(a)).product();
            let first = ty(0).axes.iter().position(|a| axes.contains(&a.name));
            let mut want = ty(0).axes.clone();
            want[first.unwrap_or(0)] = Axis { name: into.clone(), size };
            let merged = |i: usize| axes.contains(&ty(0).axes[i].name) && Some(i) != first;
            let kept = (0..want.len()).filter(|i| !merged(*i)).map(|i| want[i].clone());
            exactly(&Type::new(ty(0).dtype, kept.collect()), out)
        }
        Op::Window { axis, index, outside } => {
            arity(1)?;
            has(ty(0), axis)?;
            let exact = out.dtype.is_float() || round_to(out.dtype, outside.get()) == outside.get();
            need(exact, "`outside` is not a value of the dtype")?;
            window(ty(0), axis, index, out)
        }
        Op::Gather { axis } => {
            arity(2)?;
            has(ty(0), axis)?;
            need(ty(1).dtype == DType::I32, "the index is not i32")?;
            let rest = Type::new(ty(0).dtype, without(ty(0), std::slice::from_ref(axis)));
            same(&Type::new(ty(0).dtype, unite(&[ty(1), &rest])?), out)
        }
        Op::ScatterAdd { axis } => {
            arity(2)?;
            need(ty(1).dtype == DType::I32, "the index is not i32")?;
            has(out, axis)?;
            dtype(sum_dtype(ty(0).dtype), out)?;
            let source = Type::new(ty(0).dtype, unite(&[ty(0), ty(1)])?);
            contains(&source, &without(out, std::slice::from_ref(axis)))?;
            let lost = |a: &&Axis| {
                ty(1).find(&a.name).is_none() && (a.name == *axis || out.find(&a.name).is_none())
            };
            match ty(0).axes.iter().find(lost) {
                Some(a) => Err(format!("`{}` is in neither the index nor the result", a.name)),
                None => Ok(()),
            }
        }
        Op::Concat { parts, into } => {
            arity(parts.len())?;
            need(n > 0, "concatenates nothing")?;
            let mut size = 0;
            for (i, part) in parts.iter().enumerate() {
                has(ty(i), part)?;
                size += ty(i).size(part).unwrap_or(0);
            }
            for (i, part) in parts.iter().enumerate() {
                let mut axes = without(ty(i), std::slice::from_ref(part));
                axes.push(Axis { name: into.clone(), size });
                same(&Type::new(ty(i).dtype, axes), out).map_err(|e| format!("part {i}: {e}"))?;
            }
            Ok(())
        }
        Op::Update { axis } => {
            arity(3)?;
            same(ty(0), out)?;
            has(ty(0), axis)?;
            same(&Type::scalar(DType::I32), ty(2)).map_err(|e| format!("start: {e}"))?;
            has(ty(1), axis)?;
            need(ty(1).size(axis) <= ty(0).size(axis), "writes more than there is room for")?;
            let rest = |x: &Type| Type::new(x.dtype, without(x, std::slice::from_ref(axis)));
            same(&rest(ty(0)), &rest(ty(1)))
        }
        Op::Reduce { op: _, axes } => {
            arity(1)?;
            reduced(ty(0), axes, sum_dtype(ty(0).dtype), out)
        }
        Op::LogSumExp { axes } => {
            arity(1)?;
            reduced(ty(0), axes, DType::F32, out)
        }
        Op::Contract { over } => {
            arity(2)?;
            let ints = !ty(0).dtype.is_float() && !ty(1).dtype.is_float();
            need(out.dtype.is_float() || (ints && out.dtype == DType::I32), "not a float")?;
            for (i, name) in over.iter().enumerate() {
                has(ty(0), name)?;
                has(ty(1), name)?;
                need(!over[..i].contains(name), "contracts an axis twice")?;
            }
            let all = Type::new(out.dtype, unite(&[ty(0), ty(1)])?);
            same(&Type::new(out.dtype, without(&all, over)), out)
        }
        Op::CumSum { axis, reverse: _ } => {
            arity(1)?;
            has(ty(0), axis)?;
            same(&Type::new(sum_dtype(ty(0).dtype), ty(0).axes.clone()), out)
        }
        Op::TopK { axis, k } => {
            arity(1)?;
            has(ty(0), axis)?;
            need(*k >= 1 && Some(*k) <= ty(0).size(axis), "k is not within the axis")?;
            same(&Type::new(DType::Bool, ty(0).axes.clone()), out)
        }
        Op::ArgSort { axis } => {
            arity(1)?;
            has(ty(0), axis)?;
            same(&Type::new(DType::I32, ty(0).axes.clone()), out)
        }
        Op::Attention(a) => {
            need(n >= 3, "attention needs q, k, v")?;
            attention(graph, a, &node.inputs)?;
            need(out.dtype.is_float(), "not a float")?;
            same(&Type::new(out.dtype, a.output(ty(0), ty(1), ty(2))), out)
        }
        Op::AttentionGrad { of, wants } => {
            arity(6 + wants.len())?;
            let captured = 3 + wants.len();
            attention(graph, of, &node.inputs[..captured])?;
            let axes = of.output(ty(0), ty(1), ty(2));
            for i in [captured, captured + 2] {
                need(ty(i).dtype.is_float(), "the output's gradient is not a float")?;
                same(&Type::new(ty(i).dtype, axes.clone()), ty(i))?;
            }
            same(&Type::new(DType::F32, of.rows(ty(0), ty(1))), ty(captured + 1))?;
            for (i, want) in wants.iter().enumerate() {
                need(!want || ty(3 + i).dtype.is_float(), "wants the gradient of an integer")?;
            }
            need(out.dtype.is_float(), "not a float")?;
            same(&Type::new(out.dtype, ty(0).axes.clone()), out)
        }
        Op::Scan(scan) => {
            scan_law(graph, scan, node)?;
            match part(graph, node, 0) {
                Some(first) => same(&first, out),
                None => Err("a scan gives nothing".into()),
            }
        }
        Op::Part(i) => {
            arity(1)?;
            let multi = graph.node(node.inputs[0]);
            let Some(want) = part(graph, multi, *i as usize) else {
                return Err(format!("there is no part {i}"));
            };
            if matches!(multi.op, Op::AttentionGrad { .. }) {
                need(out.dtype.is_float(), "not a float")?;
                return same(&Type::new(out.dtype, want.axes), out);
            }
            same(&want, out)
        }
        Op::Stop => {
            arity(1)?;
            exactly(ty(0), out)
        }
        Op::Collective(collective) => {
            arity(1)?;
            match collective {
                Collective::AllReduce(_) => same(ty(0), out),
                // These change the size of an axis by that of the mesh, which the graph does not know.
                Collective::AllGather { .. }
                | Collective::ReduceScatter { .. }
                | Collective::AllToAll { .. } => {
                    dtype(ty(0).dtype, out)?;
                    need(
                        ty(0).axes.len() == out.axes.len()
                            && out.axes.iter().all(|a| ty(0).find(&a.name).is_some()),
                        "a collective keeps the axes",
                    )
                }
            }
        }
    }
}

fn window(x: &Type, axis: &Name, index: &Affine, out: &Type) -> Law {
    dtype(x.dtype, out)?;
    let rest = without(x, std::slice::from_ref(axis));
    contains(out, &rest)?;
    for (i, (name, coefficient)) in index.terms.iter().enumerate() {
        has(out, name)?;
        need(*coefficient != 0, "a coefficient is zero")?;
        need(index.terms[..i].iter().all(|(n, _)| n != name), "an index axis twice")?;
    }
    let known = |a: &&Axis| {
        rest.iter().any(|r| r.name == a.name) || index.terms.iter().any(|(n, _)| *n == a.name)
    };
    match out.axes.iter().find(|a| !known(a)) {
        Some(a) => Err(format!("`{}` is neither in the input nor in the index", a.name)),
        None => Ok(()),
    }
}

fn attention(graph: &Graph, a: &Attention, inputs: &[NodeId]) -> Law {
    let ty = |i: usize| graph.ty(inputs[i]);
    for i in 0..3 {
        need(ty(i).dtype.is_float(), "q, k and v are floats")?;
    }
    has(ty(0), &a.over)?;
    has(ty(1), &a.over)?;
    has(ty(1), &a.key)?;
    has(ty(2), &a.key)?;
    need(ty(0).find(&a.key).is_none(), "the queries have the key axis")?;
    need(a.over != a.key, "`over` and `key` are one axis")?;
    unite(&[ty(0), ty(1)])?;
    // Values may have an axis called `over` of another size: it is not contracted.
    let others = Type::new(DType::F32, without(ty(2), std::slice::from_ref(&a.over)));
    unite(&[ty(0), ty(1), &others])?;
    let mut space = a.rows(ty(0), ty(1));
    let keys = ty(1).size(&a.key).unwrap_or(1);
    space.push(Axis { name: a.key.clone(), size: keys });
    let space = Type::new(DType::F32, space);
    for i in 3..inputs.len() {
        contains(&space, &ty(i).axes).map_err(|e| format!("captured {}: {e}", i - 3))?;
    }
    for name in &a.pos {
        has(&space, name)?;
    }
    expression(&a.score, inputs.len() - 2, a.pos.len()).map_err(|e| format!("score: {e}"))?;
    expression(&a.mask, inputs.len() - 2, a.pos.len()).map_err(|e| format!("mask: {e}"))
}

fn expression(e: &Expr, args: usize, pos: usize) -> Law {
    for (i, inst) in e.insts.iter().enumerate() {
        let reads: Vec<u32> = match inst {
            Inst::Arg(a) => {
                need((*a as usize) < args, "an argument that does not exist")?;
                vec![]
            }
            Inst::Pos(p) => {
                need((*p as usize) < pos, "an axis that does not exist")?;
                vec![]
            }
            Inst::Const(_) | Inst::Runtime(_) => vec![],
            Inst::Unary(_, a) | Inst::Cast(_, a) => vec![*a],
            Inst::Binary(_, a, b) => vec![*a, *b],
            Inst::Select(a, b, c) => vec![*a, *b, *c],
            Inst::Random(_, _, c) => c.to_vec(),
        };
        need(reads.iter().all(|r| (*r as usize) < i), "reads what comes later")?;
    }
    need((e.result as usize) < e.insts.len(), "has no result")
}

fn scan_law(graph: &Graph, scan: &Scan, node: &Node) -> Law {
    let body = &scan.body;
    laws(body, Place::Body).map_err(|e| format!("in the body: {e}"))?;
    need(node.inputs.len() == body.inputs.len(), "the body has another number of inputs")?;
    need(scan.carries + scan.scanned <= body.inputs.len(), "carries and slices are too many")?;
    need(scan.carries <= body.outputs.len(), "a carry is not renewed")?;
    need(scan.axis.size > 0, "no iterations")?;
    for (i, id) in node.inputs.iter().enumerate() {
        let decl = &body.inputs[i];
        let mut want = decl.ty.clone();
        if (scan.carries..scan.carries + scan.scanned).contains(&i) {
            need(want.find(&scan.axis.name).is_none(), "a slice still has the axis")?;
            want.axes.insert(0, scan.axis.clone());
        }
        same(&want, graph.ty(*id)).map_err(|e| format!("`{}`: {e}", decl.name))?;
    }
    for (i, output) in body.outputs.iter().enumerate() {
        let ty = body.ty(output.node);
        if i < scan.carries {
            same(&body.inputs[i].ty, ty).map_err(|e| format!("carry {i}: {e}"))?;
        } else {
            need(ty.find(&scan.axis.name).is_none(), "a stacked value has the axis already")?;
        }
    }
    Ok(())
}

fn reduced(x: &Type, axes: &[Name], dtype: DType, out: &Type) -> Law {
    need(!axes.is_empty(), "reduces nothing")?;
    for (i, name) in axes.iter().enumerate() {
        has(x, name)?;
        need(!axes[..i].contains(name), "reduces an axis twice")?;
    }
    same(&Type::new(dtype, without(x, axes)), out)
}

fn sum_dtype(x: DType) -> DType {
    if x.is_float() { DType::F32 } else { DType::I32 }
}

fn without(ty: &Type, names: &[Name]) -> Vec<Axis> {
    ty.axes.iter().filter(|a| !names.contains(&a.name)).cloned().collect()
}

fn unite(types: &[&Type]) -> Result<Vec<Axis>, String> {
    let mut axes: Vec<Axis> = Vec::new();
    for a in types.iter().flat_map(|t| &t.axes) {
        match axes.iter().find(|b| b.name == a.name) {
            Some(b) if b.size != a.size => {
                return Err(format!("axis `{}` has sizes {} and {}", a.name, b.size, a.size));
            }
            Some(_) => {}
            None => axes.push(a.clone()),
        }
    }
    Ok(axes)
}

fn need(holds: bool, otherwise: &str) -> Law {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

fn has(ty: &Type, name: &Name) -> Law {
    match ty.find(name) {
        Some(_) => Ok(()),
        None => Err(format!("axis `{name}` is not in {}", show(&ty.axes))),
    }
}

fn contains(ty: &Type, axes: &[Axis]) -> Law {
    match axes.iter().find(|a| !ty.axes.contains(a)) {
        Some(a) => Err(format!("axis `{}` = {} is not in {}", a.name, a.size, show_type(ty))),
        None => Ok(()),
    }
}

fn dtype(want: DType, found: &Type) -> Law {
    if want == found.dtype {
        return Ok(());
    }
    Err(format!("should be {}, is {}", want.name(), found.dtype.name()))
}

fn same(want: &Type, found: &Type) -> Law {
    let equal = want.dtype == found.dtype
        && want.axes.len() == found.axes.len()
        && want.axes.iter().all(|a| found.axes.contains(a));
    if equal { Ok(()) } else { differ(want, found) }
}

fn exactly(want: &Type, found: &Type) -> Law {
    if want == found { Ok(()) } else { differ(want, found) }
}

fn differ(want: &Type, found: &Type) -> Law {
    Err(format!("should be {}, is {}", show_type(want), show_type(found)))
}

#[cfg(test)]
mod tests;
