//! Rules about values that only move: fewer views, and none where broadcasting says the same.

use super::super::rewrite::{Rewriter, Rule, Seen, without};
use super::super::{Affine, Axis, Literal, Name, NodeId, Op, Type};

/// The table.
pub const RULES: &[Rule] = &[
    Rule { name: "rename-nothing", equation: "x[a -> a] = x", apply: rename_nothing },
    Rule { name: "rename-of-rename", equation: "x[a -> b][b -> c] = x[a -> c]", apply: rename2 },
    Rule { name: "rename-of-pos", equation: "pos(a)[a -> b] = pos(b)", apply: rename_pos },
    Rule {
        name: "rename-of-expand",
        equation: "expand(x)[..] = expand(x[..])",
        apply: rename_expand,
    },
    Rule {
        name: "rename-of-split",
        equation: "split[a -> (b, c)](x)[b -> e] = split[a -> (e, c)](x)",
        apply: rename_split,
    },
    Rule {
        name: "rename-of-merge",
        equation: "merge[(a, b) -> c](x)[c -> e] = merge[(a, b) -> e](x)",
        apply: rename_merge,
    },
    Rule { name: "expand-nothing", equation: "expand[](x) = x", apply: expand_nothing },
    Rule { name: "expand-of-expand", equation: "expand(expand(x)) = expand(x)", apply: expand2 },
    Rule {
        name: "operand-expand",
        equation: "f(expand(x), y) = f(x, y) where y has the axes",
        apply: operand_expand,
    },
    Rule { name: "split-into-one", equation: "split[a -> (b)](x) = x[a -> b]", apply: split_one },
    Rule { name: "merge-of-one", equation: "merge[(a) -> b](x) = x[a -> b]", apply: merge_one },
    Rule {
        name: "split-of-merge",
        equation: "split[c -> (a, b)](merge[(a, b) -> c](x)) = x",
        apply: split_merge,
    },
    Rule {
        name: "merge-of-split",
        equation: "merge[(a, b) -> c](split[c -> (a, b)](x)) = x",
        apply: merge_split,
    },
    Rule { name: "concat-of-one", equation: "concat[(a) -> b](x) = x[a -> b]", apply: concat_one },
    Rule { name: "window-of-all", equation: "pick[a](x, pos(b)) = x[a -> b]", apply: window_all },
    Rule {
        name: "gather-at-number",
        equation: "pick[a](x, 3) = window[a = 3](x)",
        apply: gather_number,
    },
    Rule { name: "stop-of-stop", equation: "stop(stop(x)) = stop(x), stop(3) = 3", apply: stop2 },
];

// The input, if the node is that kind of view.
fn inner(r: &Rewriter, id: NodeId) -> (&Op, NodeId) {
    let (op, inputs) = r.at(id);
    (op, inputs.first().copied().unwrap_or(id))
}

fn rename(r: &mut Rewriter, x: NodeId, pairs: &[(Name, Name)], ty: &Type) -> Option<NodeId> {
    let pairs: Vec<(Name, Name)> = pairs.iter().filter(|(a, b)| a != b).cloned().collect();
    let new = |a: &Axis| Axis { name: to(&pairs, &a.name), size: a.size };
    let axes: Vec<Axis> = r.ty(x).axes.iter().map(new).collect();
    if axes != ty.axes || r.ty(x).dtype != ty.dtype {
        return None;
    }
    if pairs.is_empty() {
        return Some(x);
    }
    Some(r.make(Op::Rename(pairs), vec![x], ty.clone()))
}

fn to(pairs: &[(Name, Name)], name: &Name) -> Name {
    pairs.iter().find(|(a, _)| a == name).map_or_else(|| name.clone(), |(_, b)| b.clone())
}

// x[a -> a] = x.
fn rename_nothing(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Rename(_), [x]) = (n.op, n.inputs) else { return None };
    (r.ty(*x) == n.ty).then_some(*x)
}

// x[a -> b][b -> c] = x[a -> c].
fn rename2(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Rename(second), [y]) = (n.op, n.inputs) else { return None };
    let (Op::Rename(first), x) = inner(r, *y) else { return None };
    let names: Vec<Name> = r.ty(x).axes.iter().map(|a| a.name.clone()).collect();
    let both = names.iter().map(|a| (a.clone(), to(second, &to(first, a))));
    let both: Vec<(Name, Name)> = both.collect();
    rename(r, x, &both, n.ty)
}

// pos(a)[a -> b] = pos(b).
fn rename_pos(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Rename(_), [x]) = (n.op, n.inputs) else { return None };
    let is_pos = *inner(r, *x).0 == Op::Pos;
    is_pos.then(|| r.make(Op::Pos, vec![], n.ty.clone()))
}

// expand(x)[..] = expand(x[..]).
fn rename_expand(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Rename(pairs), [y]) = (n.op, n.inputs) else { return None };
    let (Op::Expand, x) = inner(r, *y) else { return None };
    let mut ty = r.ty(x).clone();
    let kept: Vec<(Name, Name)> =
        pairs.iter().filter(|(a, _)| ty.find(a).is_some()).cloned().collect();
    ty.axes.iter_mut().for_each(|a| a.name = to(&kept, &a.name));
    let x = rename(r, x, &kept, &ty)?;
    Some(r.make(Op::Expand, vec![x], n.ty.clone()))
}

// split[a -> (b, c)](x)[b -> e] = split[a -> (e, c)](x), if nothing else is renamed.
fn rename_split(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Rename(pairs), [y]) = (n.op, n.inputs) else { return None };
    let (Op::Split { axis, into }, x) = inner(r, *y) else { return None };
    if !pairs.iter().all(|(a, _)| into.iter().any(|i| i.name == *a)) {
        return None;
    }
    let new = |a: &Axis| Axis { name: to(pairs, &a.name), size: a.size };
    let op = Op::Split { axis: axis.clone(), into: into.iter().map(new).collect() };
    Some(r.make(op, vec![x], n.ty.clone()))
}

// merge[(a, b) -> c](x)[c -> e] = merge[(a, b) -> e](x), if nothing else is renamed.
fn rename_merge(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Rename(pairs), [y]) = (n.op, n.inputs) else { return None };
    let (Op::Merge { axes, into }, x) = inner(r, *y) else { return None };
    let [(old, new)] = pairs.as_slice() else { return None };
    if old != into {
        return None;
    }
    let op = Op::Merge { axes: axes.clone(), into: new.clone() };
    Some(r.make(op, vec![x], n.ty.clone()))
}

// expand[](x) = x.
fn expand_nothing(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Expand, [x]) = (n.op, n.inputs) else { return None };
    (r.ty(*x) == n.ty).then_some(*x)
}

// expand(expand(x)) = expand(x).
fn expand2(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Expand, [y]) = (n.op, n.inputs) else { return None };
    let (Op::Expand, x) = inner(r, *y) else { return None };
    Some(r.make(Op::Expand, vec![x], n.ty.clone()))
}

// f(expand(x), y) = f(x, y) for elementwise f, where y has the axes that x lacks.
fn operand_expand(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let unites = matches!(n.op, Op::Binary(_) | Op::Select | Op::Random(..));
    if !unites {
        return None;
    }
    let mut inputs = n.inputs.to_vec();
    for i in 0..inputs.len() {
        let (Op::Expand, x) = inner(r, inputs[i]) else { continue };
        let others = (0..inputs.len()).filter(|j| *j != i).map(|j| inputs[j]);
        let all: Vec<NodeId> = others.chain([x]).collect();
        let covers = |a: &Axis| all.iter().any(|input| r.ty(*input).find(&a.name).is_some());
        if n.ty.axes.iter().all(covers) {
            inputs[i] = x;
        }
    }
    (inputs != n.inputs).then(|| r.make(n.op.clone(), inputs, n.ty.clone()))
}

// split[a -> (b)](x) = x[a -> b].
fn split_one(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Split { axis, into }, [x]) = (n.op, n.inputs) else { return None };
    let [one] = into.as_slice() else { return None };
    rename(r, *x, &[(axis.clone(), one.name.clone())], n.ty)
}

// merge[(a) -> b](x) = x[a -> b].
fn merge_one(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Merge { axes, into }, [x]) = (n.op, n.inputs) else { return None };
    let [one] = axes.as_slice() else { return None };
    rename(r, *x, &[(one.clone(), into.clone())], n.ty)
}

// split[c -> (a, b)](merge[(a, b) -> c](x)) = x, up to names, if the order of storage is that of x.
fn split_merge(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Split { axis, into }, [y]) = (n.op, n.inputs) else { return None };
    let (Op::Merge { axes, into: merged }, x) = inner(r, *y) else { return None };
    let sizes = |a: (&Name, &Axis)| r.ty(x).size(a.0) == Some(a.1.size);
    let same = merged == axis && axes.len() == into.len() && axes.iter().zip(into).all(sizes);
    if !same {
        return None;
    }
    let pairs: Vec<(Name, Name)> =
        axes.iter().cloned().zip(into.iter().map(|a| a.name.clone())).collect();
    rename(r, x, &pairs, n.ty)
}

// merge[(a, b) -> c](split[c -> (a, b)](x)) = x, up to names.
fn merge_split(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Merge { axes, into }, [y]) = (n.op, n.inputs) else { return None };
    let (Op::Split { axis, into: parts }, x) = inner(r, *y) else { return None };
    let same = axes.len() == parts.len() && axes.iter().zip(parts).all(|(a, b)| *a == b.name);
    if !same {
        return None;
    }
    let pair = (axis.clone(), into.clone());
    rename(r, x, &[pair], n.ty)
}

// concat[(a) -> b](x) = x[a -> b].
fn concat_one(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Concat { parts, into }, [x]) = (n.op, n.inputs) else { return None };
    rename(r, *x, &[(parts[0].clone(), into.clone())], n.ty)
}

// pick[a](x, pos(b)) = x[a -> b], if b is as long as a.
fn window_all(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Window { axis, index, outside: _ }, [x]) = (n.op, n.inputs) else { return None };
    let ([(name, 1)], 0) = (index.terms.as_slice(), index.offset) else { return None };
    if r.ty(*x).size(axis) != n.ty.size(name) {
        return None;
    }
    rename(r, *x, &[(axis.clone(), name.clone())], n.ty)
}

// pick[a](x, 3) = window[a = 3](x): a view.
fn gather_number(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Gather { axis }, [x, index]) = (n.op, n.inputs) else { return None };
    let offset = r.as_number(*index)? as i64;
    // An index with axes would have to come back by an expand.
    if !r.ty(*index).axes.is_empty() || n.ty.axes.len() + 1 != r.ty(*x).axes.len() {
        return None;
    }
    let kept = without(r.ty(*x), std::slice::from_ref(axis));
    let index = Affine { terms: vec![], offset };
    let op = Op::Window { axis: axis.clone(), index, outside: Literal::new(0.0) };
    (kept.len() == n.ty.axes.len()).then(|| r.make(op, vec![*x], n.ty.clone()))
}

// stop(stop(x)) = stop(x); a number needs no stop.
fn stop2(r: &mut Rewriter, n: &Seen<'_>) -> Option<NodeId> {
    let (Op::Stop, [x]) = (n.op, n.inputs) else { return None };
    let known = matches!(inner(r, *x).0, Op::Stop) || r.as_number(*x).is_some();
    known.then_some(*x)
}
