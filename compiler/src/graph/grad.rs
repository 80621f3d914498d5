//! Gradients: the backward pass of a graph under construction, appended to it.
//!
//! Takes a builder, a scalar loss and nodes; gives for each of them the node of its gradient: f32, with its axes. Promises: what
//! the graph computed before it computes still, bit for bit; where nothing flows, zeros.
//!
//! # How
//! Reverse accumulation (Linnainmaa 1970). A *cotangent* of a node is the gradient of the loss by its value. From the
//! loss, whose cotangent is 1, nodes are visited last to first; a node whose cotangent is complete gives each input what
//! its rule says (`grad_rules`, one arm per operation), and contributions to a node are added in f32. Only *active* nodes take
//! part: those that depend on a node asked for through operations that a gradient passes.
//!
//! *Axes.* A cotangent has the axes of its node. An input that lacks axes of the result was read again and again along them,
//! so what it is given is summed over them; this is done here, once, for all rules.
//!
//! *Precision.* A complete cotangent has the dtype of its node: contributions are f32 or 16-bit, their sum is f32, and
//! is rounded once to what the node is stored in. So the backward pass rounds where the forward pass does, and both operands
//! of a backward contraction are of the compute dtype. One exception: the cotangent of a `Cast` of an input (a weight that is used in
//! bf16) stays f32, since rounding it would only lose bits of a weight's gradient on the way back to f32.
//!
//! *Kinks.* Of equal numbers the first is taken: `max(a, b)` gives its gradient to `a` where they are equal, a maximum over
//! axes to the first coordinate that attains it (over several axes, in the order in which they are listed). `abs` and
//! `sign` have slope 0 at 0. What has steps (`floor`, comparisons, `topk`, sorting, casts to integers) gives nothing.
//!
//! *Scans* become two: see `grad_scan`, where also lives what to keep and what to compute again ([`Remat`]).

use std::collections::BTreeMap;

use super::build::{Built, Misfit};
use super::print::print;
use super::{Axis, BinOp, DType, Graph, Node, NodeId, Op, ReduceOp, Scan, Type, UnOp};
use super::{build::Builder, grad_rules, grad_scan, verify::has_parts};
use crate::bug::Bug;

/// What the backward pass of a scan finds stored; the rest it computes again. The numbers are the same under each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Remat {
    /// Everything but copies, casts, masks and draws.
    None,
    /// Only the carries: the body is computed again whole.
    PerBlock,
    /// Carries and what is dear to compute: contractions, attention, reductions, nested scans.
    #[default]
    Auto,
}

/// The gradients of `loss` by the nodes `wrt`.
pub fn differentiate(
    b: &mut Builder,
    loss: NodeId,
    wrt: &[NodeId],
    remat: Remat,
) -> Result<Vec<NodeId>, Bug> {
    let place = (b.span, b.path.clone());
    let result = gradients(b, loss, wrt, remat);
    (b.span, b.path) = place;
    result.map_err(|bug| match bug.dump.is_empty() {
        true => Bug::new(bug.stage, bug.message, print(&b.graph)),
        false => bug,
    })
}

fn gradients(
    b: &mut Builder,
    loss: NodeId,
    wrt: &[NodeId],
    remat: Remat,
) -> Result<Vec<NodeId>, Bug> {
    let ty = b.ty(loss);
    if !ty.axes.is_empty() || !ty.dtype.is_float() {
        return Err(bug(format!("the loss {loss:?} is not a scalar float")));
    }
    let one = b.constant(1.0);
    let found = walk(b, &[(loss, one)], wrt, remat)?;
    let mut out = Vec::new();
    for (x, g) in wrt.iter().zip(found) {
        let axes = b.ty(*x).axes.clone();
        out.push(match g {
            Some(g) => b.cast(g, DType::F32),
            None => zeros(b, &Type::new(DType::F32, axes)),
        });
    }
    Ok(out)
}

/// Visits nodes last to first from `seeds` (nodes and their cotangents); gives the cotangents of `wrt`, if any reached them.
pub(super) fn walk(
    b: &mut Builder,
    seeds: &[(NodeId, NodeId)],
    wrt: &[NodeId],
    remat: Remat,
) -> Result<Vec<Option<NodeId>>, Bug> {
    let last = b.graph.nodes.len();
    let active = Activity::of(&b.graph, wrt);
    let mut cots = Cotangents::default();
    for (node, g) in seeds.iter().filter(|(node, _)| active.node(*node)) {
        cots.add(b, *node, 0, *g)?;
    }
    let mut done: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    for id in (0..last as u32).rev().map(NodeId) {
        let parts = cots.take(b, id)?;
        let Some((_, first)) = parts.first() else { continue };
        done.insert(id, *first);
        let node = b.graph.node(id).clone();
        let wanted: Vec<bool> = node.inputs.iter().map(|x| active.node(*x)).collect();
        if !wanted.contains(&true) {
            continue;
        }
        (b.span, b.path) = (node.span, Some(node.path.clone()));
        let gifts = if let Op::Scan(scan) = &node.op {
            grad_scan::scan(b, id, scan, &node.inputs, &parts, &wanted, remat)?
        } else {
            grad_rules::rule(b, id, &node, &parts, &wanted)?
        };
        for (input, part, g) in gifts.into_iter().filter(|(input, ..)| wanted[*input]) {
            cots.add(b, node.inputs[input], part, g)?;
        }
    }
    Ok(wrt.iter().map(|x| done.get(x).copied()).collect())
}

/// Which nodes depend on the nodes asked for, through operations that a gradient passes.
#[derive(Debug)]
pub(super) struct Activity {
    nodes: Vec<bool>,
}

impl Activity {
    /// Seen from `seeds`.
    pub(super) fn of(graph: &Graph, seeds: &[NodeId]) -> Self {
        let mut nodes: Vec<bool> = Vec::with_capacity(graph.nodes.len());
        // Per scan, which of its results are active.
        let mut results: BTreeMap<NodeId, Vec<bool>> = BTreeMap::new();
        for id in graph.ids() {
            let node = graph.node(id);
            let input = |i: usize| nodes[node.inputs[i].0 as usize];
            let any = |from: usize| (from..node.inputs.len()).any(input);
            let float = node.ty.dtype.is_float();
            let active = if seeds.contains(&id) {
                float
            } else if let Op::Scan(scan) = &node.op {
                let given: Vec<bool> = (0..node.inputs.len()).map(input).collect();
                let (_, body) = Self::of_body(scan, &given);
                let outputs: Vec<bool> =
                    scan.body.outputs.iter().map(|o| body.node(o.node)).collect();
                let some = outputs.contains(&true);
                results.insert(id, outputs);
                some
            } else if let (Op::Part(p), Some(results)) =
                (&node.op, node.inputs.first().and_then(|x| results.get(x)))
            {
                results.get(*p as usize) == Some(&true)
            } else if node.op == Op::Select {
                float && any(1)
            } else {
                float && passes(&node.op) && any(0)
            };
            nodes.push(active);
        }
        Self { nodes }
    }

    /// Of the body of a scan, of whose inputs `given` are active. A carry is active if its start is, or if an iteration
    /// makes it so. Also tells which inputs of the body are active.
    pub(super) fn of_body(scan: &Scan, given: &[bool]) -> (Vec<bool>, Self) {
        let mut inputs = given.to_vec();
        loop {
            let seeds: Vec<NodeId> = body_inputs(&scan.body)
                .into_iter()
                .enumerate()
                .filter_map(|(i, node)| node.filter(|_| inputs[i]))
                .collect();
            let body = Self::of(&scan.body, &seeds);
            let mut grew = false;
            for (i, output) in scan.body.outputs.iter().take(scan.carries).enumerate() {
                if body.node(output.node) && !inputs[i] {
                    inputs[i] = true;
                    grew = true;
                }
            }
            if !grew {
                return (inputs, body);
            }
        }
    }

    /// Of one node.
    pub(super) fn node(&self, id: NodeId) -> bool {
        self.nodes[id.0 as usize]
    }
}

/// The node of each input of a graph, where it has one.
pub(super) fn body_inputs(graph: &Graph) -> Vec<Option<NodeId>> {
    let mut nodes = vec![None; graph.inputs.len()];
    for id in graph.ids() {
        if let Op::Input(i) = graph.node(id).op {
            nodes[i as usize] = Some(id);
        }
    }
    nodes
}

/// The dtype in which the cotangent of a node is wanted.
pub(super) fn cotangent_dtype(graph: &Graph, node: &Node) -> DType {
    let of_input = |x: &NodeId| matches!(graph.node(*x).op, Op::Input(_));
    if node.op == Op::Cast && node.inputs.first().is_some_and(of_input) {
        return DType::F32;
    }
    node.ty.dtype
}

/// Zeros of a type.
pub(super) fn zeros(b: &mut Builder, ty: &Type) -> NodeId {
    let zero = b.constant(0.0);
    let zero = b.cast(zero, ty.dtype);
    b.expand(zero, &ty.axes)
}

/// `x` with all axes of `ty`, in its order; `x` has no others.
pub(super) fn expand_as(b: &mut Builder, x: NodeId, axes: &[Axis]) -> NodeId {
    let ty = b.ty(x);
    if ty.axes.len() == axes.len() {
        return x;
    }
    let ty = Type::new(ty.dtype, axes.to_vec());
    b.raw(Op::Expand, vec![x], ty)
}

/// What was built, or our bug.
pub(super) fn built(result: Built) -> Result<NodeId, Bug> {
    result.map_err(|m: Misfit| bug(m.message))
}

/// A bug of this pass; the dump is added at the door.
pub(super) fn bug(message: impl Into<String>) -> Bug {
    Bug::new("differentiate", message, "")
}

// Contributions per node and part, not yet complete. Of most nodes there is only part 0.
#[derive(Debug, Default)]
struct Cotangents {
    sums: BTreeMap<(NodeId, u32), NodeId>,
}

impl Cotangents {
    fn add(&mut self, b: &mut Builder, node: NodeId, part: u32, g: NodeId) -> Result<(), Bug> {
        let multi = has_parts(&b.graph.node(node).op);
        // The parts of a node get theirs complete, from the `Part`.
        let g = if multi { g } else { fitted(b, g, node)? };
        let sum = match self.sums.get(&(node, part)) {
            Some(other) => built(b.binary(BinOp::Add, *other, g))?,
            None => g,
        };
        self.sums.insert((node, part), sum);
        Ok(())
    }

    // The complete cotangents of a node, by part.
    fn take(&mut self, b: &mut Builder, id: NodeId) -> Result<Vec<(u32, NodeId)>, Bug> {
        let mut parts = Vec::new();
        while let Some((key, g)) = self.sums.range((id, 0)..=(id, u32::MAX)).next() {
            let (key, g) = (*key, *g);
            self.sums.remove(&key);
            let node = b.graph.node(id);
            let multi = has_parts(&node.op);
            let dtype = cotangent_dtype(&b.graph, node);
            parts.push((key.1, if multi { g } else { b.cast(g, dtype) }));
        }
        Ok(parts)
    }
}

// `g` summed over the axes that `node` lacks, and with all that it has.
fn fitted(b: &mut Builder, g: NodeId, node: NodeId) -> Result<NodeId, Bug> {
    let axes = b.ty(node).axes.clone();
    let extra: Vec<_> =
        b.ty(g).axes.iter().filter(|a| !axes.contains(a)).map(|a| a.name.clone()).collect();
    let g = built(b.reduce(ReduceOp::Sum, g, &extra))?;
    Ok(expand_as(b, g, &axes))
}

// Operations that pass a gradient to some input.
fn passes(op: &Op) -> bool {
    match op {
        Op::Const(_) | Op::Pos | Op::Input(_) | Op::Runtime(_) | Op::Random(..) => false,
        Op::Unary(op) => match op {
            UnOp::Floor | UnOp::Ceil | UnOp::Round => false,
            UnOp::Sign | UnOp::Not | UnOp::IsFinite => false,
            UnOp::Neg
            | UnOp::Abs
            | UnOp::Recip
            | UnOp::Exp
            | UnOp::Log
            | UnOp::Sqrt
            | UnOp::Rsqrt
            | UnOp::Sin
            | UnOp::Cos
            | UnOp::Tanh
            | UnOp::Erf
            | UnOp::Sigmoid => true,
        },
        Op::Binary(op) => !op.is_bool(),
        Op::TopK { .. } | Op::ArgSort { .. } | Op::Stop => false,
        Op::Select
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
        | Op::Attention(_)
        | Op::AttentionGrad { .. }
        | Op::Scan(_)
        | Op::Part(_)
        | Op::Collective(_) => true,
    }
}

#[cfg(test)]
#[path = "grad_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "grad_model_tests.rs"]
mod model_tests;
