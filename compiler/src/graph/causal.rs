//! Does a position see what comes after it?
//!
//! Takes a forward graph, one of its values and the axis of positions; gives the operation that looks ahead, or `None` if the
//! value at each position depends only on data at that position and before. `generate` and training on the next token ask.
//!
//! *How.* For each value we bound the data positions `q` on which it depends, by the coordinates of its axes:
//! `q <= pos(seq) + s` for some `seq` of its axes, or `q <= s` absolutely; a value may have several such bounds, and depends
//! on what any of them admits. Data begins with `q <= pos(seq)`. A rename carries the bound to the new axis (keys); a
//! window shifts it; a sum over an axis loses it, unless a mask says where the terms are zero.
//!
//! *Masks.* A condition on positions, such as `pos(key) <= pos(seq)`, is linear in them. Where it has to hold for a term to
//! count (`attend`, or a sum of something that is 0 elsewhere, or a maximum of something that is -inf elsewhere), a bound
//! by `pos(key)` becomes one by `pos(seq)`. What is not linear is taken to allow everything: the answer errs on the side
//! of "looks ahead".

use std::collections::BTreeMap;

use super::masks::{Fact, expr_facts, expr_outside, linear, outside};
use super::print::show_op;
use super::{Attention, Graph, Name, Node, NodeId, Op, ReduceOp, Role, Scan};
use crate::source::Span;

/// What looks ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ahead {
    /// The operation: `attention[dh, key]`, `reduce.sum[seq]`.
    pub op: String,
    /// The layer that has it.
    pub path: Name,
    /// The expression that asked for it.
    pub span: Option<Span>,
}

/// The operation by which `value` at some position of `axis` depends on data at a later one.
pub fn looks_ahead(graph: &Graph, value: NodeId, axis: &Name) -> Option<Ahead> {
    let inputs: Vec<Reach> = graph
        .inputs
        .iter()
        .map(|decl| {
            let has = decl.role == Role::Data && decl.ty.find(axis).is_some();
            if has { Reach::at(axis.clone()) } else { Reach::default() }
        })
        .collect();
    let reach = &reaches(graph, &inputs)[value.0 as usize];
    let late = |(by, limit): (&By, &Limit)| {
        let allowed = by.is_none() || by.as_ref() == Some(axis);
        if allowed && limit.shift <= 0 {
            return None;
        }
        let blame = limit.blame.clone();
        Some(blame.unwrap_or_else(|| blamed(graph.node(value))))
    };
    reach.0.iter().find_map(late)
}

// By which coordinate a position is bounded; none: by a number.
type By = Option<Name>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Limit {
    shift: i64,
    // What made it positive.
    blame: Option<Ahead>,
}

// The union of the positions that any bound admits. Empty: no data at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Reach(BTreeMap<By, Limit>);

const EVERYTHING: i64 = i64::MAX / 4;
// Loops whose carries look further with each iteration are given up after so many.
const MOST_PASSES: usize = 8;

impl Reach {
    fn at(axis: Name) -> Self {
        Self(BTreeMap::from([(Some(axis), Limit { shift: 0, blame: None })]))
    }

    fn admit(&mut self, by: By, shift: i64, blame: Option<Ahead>) {
        let blame = if shift > 0 { blame } else { None };
        let shift = shift.min(EVERYTHING);
        match self.0.get_mut(&by) {
            Some(known) if known.shift >= shift => {}
            Some(known) => *known = Limit { shift, blame },
            None => {
                self.0.insert(by, Limit { shift, blame });
            }
        }
    }

    fn join(&mut self, other: &Self) {
        for (by, limit) in &other.0 {
            self.admit(by.clone(), limit.shift, limit.blame.clone());
        }
    }

    // The same positions, said of a value that has lost or changed axes: each bound by an axis is what `new` makes of it.
    fn moved(&self, node: &Node, new: impl Fn(&Name, i64) -> Vec<(By, i64)>) -> Self {
        let mut moved = Self::default();
        for (by, limit) in &self.0 {
            let Some(axis) = by else {
                moved.admit(None, limit.shift, limit.blame.clone());
                continue;
            };
            for (by, shift) in new(axis, limit.shift) {
                let blame = limit.blame.clone().unwrap_or_else(|| blamed(node));
                moved.admit(by, shift, Some(blame));
            }
        }
        moved
    }
}

fn blamed(node: &Node) -> Ahead {
    let op = match &node.op {
        Op::Attention(a) => format!("attention[{}, {}]", a.over, a.key),
        op => show_op(op),
    };
    Ahead { op, path: node.path.clone(), span: node.span }
}

fn reaches(graph: &Graph, inputs: &[Reach]) -> Vec<Reach> {
    let mut all: Vec<Reach> = Vec::with_capacity(graph.nodes.len());
    // The results of loops.
    let mut parts: BTreeMap<NodeId, Vec<Reach>> = BTreeMap::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let x = |i: usize| &all[node.inputs[i].0 as usize];
        let united = || {
            let mut reach = Reach::default();
            node.inputs.iter().for_each(|x| reach.join(&all[x.0 as usize]));
            reach
        };
        let reach = match &node.op {
            Op::Input(i) => inputs[*i as usize].clone(),
            Op::Const(_) | Op::Pos | Op::Runtime(_) => Reach::default(),
            Op::Random(..)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Select
            | Op::Cast
            | Op::Expand
            | Op::Stop
            | Op::Collective(_) => united(),
            Op::Rename(pairs) => x(0).moved(node, |axis, shift| {
                let new = pairs.iter().find(|(old, _)| old == axis);
                vec![(Some(new.map_or_else(|| axis.clone(), |(_, new)| new.clone())), shift)]
            }),
            Op::Split { axis, into } => x(0).moved(node, |by, shift| {
                if by != axis {
                    return vec![(Some(by.clone()), shift)];
                }
                // Of several real axes none alone bounds the position.
                let mut wide = into.iter().filter(|a| a.size > 1);
                match (wide.next(), wide.next()) {
                    (Some(only), None) => vec![(Some(only.name.clone()), shift)],
                    (None, _) => vec![(None, shift)],
                    (Some(_), Some(_)) => vec![(None, EVERYTHING)],
                }
            }),
            Op::Merge { axes, into } => {
                let ty = graph.ty(node.inputs[0]);
                let is_long = |a: &Name| ty.size(a).is_some_and(|s| s > 1);
                x(0).moved(node, |by, shift| {
                    if !axes.contains(by) {
                        return vec![(Some(by.clone()), shift)];
                    }
                    if axes.iter().all(|a| a == by || !is_long(a)) {
                        return vec![(Some(into.clone()), shift)];
                    }
                    vec![(None, EVERYTHING)]
                })
            }
            Op::Window { axis, index, .. } => x(0).moved(node, |by, shift| {
                if by != axis {
                    return vec![(Some(by.clone()), shift)];
                }
                vec![affine(node, &index.terms, index.offset, shift)]
            }),
            Op::Gather { axis } => {
                let index = linear(graph, node.inputs[1]);
                let mut reach = x(0).moved(node, |by, shift| {
                    if by != axis {
                        return vec![(Some(by.clone()), shift)];
                    }
                    match &index {
                        Some(l) => {
                            let terms: Vec<(Name, i64)> =
                                l.terms.iter().map(|(n, c)| (n.clone(), *c)).collect();
                            vec![affine(node, &terms, l.high, shift)]
                        }
                        None => vec![(None, EVERYTHING)],
                    }
                });
                reach.join(x(1));
                reach
            }
            Op::ScatterAdd { axis } => united().moved(node, |by, shift| {
                let summed = |x: &NodeId| graph.ty(*x).find(by).is_some();
                let summed = node.inputs.iter().any(summed) && node.ty.find(by).is_none();
                let stays = by != axis && !summed;
                vec![if stays { (Some(by.clone()), shift) } else { (None, EVERYTHING) }]
            }),
            Op::Concat { parts, into } => {
                let mut reach = Reach::default();
                let mut start = 0;
                for (i, part) in parts.iter().enumerate() {
                    reach.join(&x(i).moved(node, |by, shift| {
                        let at = (Some(into.clone()), shift - start);
                        vec![if by == part { at } else { (Some(by.clone()), shift) }]
                    }));
                    let size = graph.ty(node.inputs[i]).size(part).unwrap_or(0);
                    start += size as i64;
                }
                reach
            }
            Op::Update { axis } => {
                let start = linear(graph, node.inputs[2]).filter(|l| l.terms.is_empty());
                let mut reach = x(1).moved(node, |by, shift| {
                    if by != axis {
                        return vec![(Some(by.clone()), shift)];
                    }
                    match &start {
                        Some(l) => vec![(Some(by.clone()), shift - l.low)],
                        None => vec![(None, EVERYTHING)],
                    }
                });
                reach.join(x(0));
                reach
            }
            Op::Reduce { op, axes } => {
                let facts = match op {
                    ReduceOp::Sum => outside(graph, node.inputs[0], 0.0),
                    ReduceOp::Max => outside(graph, node.inputs[0], f64::NEG_INFINITY),
                    ReduceOp::Min | ReduceOp::Prod => Vec::new(),
                };
                x(0).moved(node, |by, shift| lost(node, axes.contains(by), by, shift, &facts))
            }
            Op::LogSumExp { axes } => {
                let facts = outside(graph, node.inputs[0], f64::NEG_INFINITY);
                x(0).moved(node, |by, shift| lost(node, axes.contains(by), by, shift, &facts))
            }
            Op::Contract { over } => {
                let mut facts = outside(graph, node.inputs[0], 0.0);
                facts.extend(outside(graph, node.inputs[1], 0.0));
                united().moved(node, |by, shift| lost(node, over.contains(by), by, shift, &facts))
            }
            Op::CumSum { axis, reverse } => x(0).moved(node, |by, shift| {
                let all = by == axis && *reverse;
                vec![if all { (None, EVERYTHING) } else { (Some(by.clone()), shift) }]
            }),
            Op::TopK { axis, .. } | Op::ArgSort { axis } => x(0).moved(node, |by, shift| {
                vec![if by == axis { (None, EVERYTHING) } else { (Some(by.clone()), shift) }]
            }),
            Op::Attention(a) => attention(a, node, &united()),
            // Gradients run against the order of positions.
            Op::AttentionGrad { .. } => united().moved(node, |_, _| vec![(None, EVERYTHING)]),
            Op::Scan(scan) => {
                let given: Vec<Reach> = (0..node.inputs.len()).map(|i| x(i).clone()).collect();
                parts.insert(id, looped(scan, node, given));
                Reach::default()
            }
            Op::Part(i) => match parts.get(&node.inputs[0]) {
                Some(parts) => parts.get(*i as usize).cloned().unwrap_or_default(),
                None => x(0).clone(),
            },
        };
        all.push(reach);
    }
    all
}

// `q <= Σ c pos + offset + shift` as a bound by one coordinate: the one with coefficient 1, the others at their most.
fn affine(node: &Node, terms: &[(Name, i64)], offset: i64, shift: i64) -> (By, i64) {
    let most = |(name, c): &(Name, i64)| {
        let last = node.ty.size(name).map_or(0, |s| s as i64 - 1);
        if *c > 0 { c * last } else { 0 }
    };
    // Of several take the longest: that is the axis of positions.
    let one = terms.iter().filter(|(_, c)| *c == 1);
    let one = one.max_by_key(|(name, _)| node.ty.size(name)).map(|(name, _)| name.clone());
    let rest = terms.iter().filter(|(name, _)| Some(name) != one.as_ref());
    let rest: i64 = rest.map(most).sum();
    (one, rest.saturating_add(offset).saturating_add(shift))
}

// A bound by an axis over which a sum runs, or not.
fn lost(node: &Node, is_lost: bool, by: &Name, shift: i64, facts: &[Fact]) -> Vec<(By, i64)> {
    if !is_lost {
        return vec![(Some(by.clone()), shift)];
    }
    // Each fact is true, so that the best of them may be taken.
    let stays = |f: &&Fact| f.by.as_ref().is_none_or(|by| node.ty.find(by).is_some());
    let known = facts.iter().filter(|f| f.axis == *by).filter(stays);
    let best = known.min_by_key(|f| (f.by.is_none(), f.shift));
    match best {
        Some(fact) => vec![(fact.by.clone(), shift.saturating_add(fact.shift))],
        None => vec![(None, EVERYTHING)],
    }
}

fn attention(a: &Attention, node: &Node, united: &Reach) -> Reach {
    let mut facts = expr_facts(&a.mask, &a.pos);
    facts.extend(expr_outside(&a.score, &a.pos));
    united.moved(node, |by, shift| lost(node, *by == a.key || *by == a.over, by, shift, &facts))
}

// The results of a loop. In the body, a bound by the loop's axis means the current iteration.
fn looped(scan: &Scan, node: &Node, given: Vec<Reach>) -> Vec<Reach> {
    let axis = &scan.axis.name;
    let everything = |reach: &Reach| reach.moved(node, |_, _| vec![(None, EVERYTHING)]);
    let mut inputs = given;
    for (i, reach) in inputs.iter_mut().enumerate() {
        let is_slice = i >= scan.carries && i < scan.carries + scan.scanned;
        if !is_slice && reach.0.contains_key(&Some(axis.clone())) {
            *reach = everything(reach);
        }
    }
    let mut results = Vec::new();
    for pass in 0..=MOST_PASSES {
        let values = reaches(&scan.body, &inputs);
        results = scan.body.outputs.iter().map(|o| values[o.node.0 as usize].clone()).collect();
        let before = inputs.clone();
        for i in 0..scan.carries {
            // What was said of the last iteration, said of this one.
            let last = if scan.reverse { 1 } else { -1 };
            let carried = results[i].moved(node, |by, shift| {
                vec![(Some(by.clone()), if by == axis { shift + last } else { shift })]
            });
            let carried = if pass == MOST_PASSES { everything(&carried) } else { carried };
            inputs[i].join(&carried);
        }
        if inputs == before {
            break;
        }
    }
    let size = scan.axis.size as i64;
    for (i, result) in results.iter_mut().enumerate() {
        if i < scan.carries {
            // The last iteration has seen all.
            result.join(&inputs[i]);
            *result = result.moved(node, |by, shift| {
                let end = if scan.reverse { 0 } else { size - 1 };
                vec![if by == axis { (None, shift + end) } else { (Some(by.clone()), shift) }]
            });
        }
    }
    results
}

#[cfg(test)]
mod tests;
