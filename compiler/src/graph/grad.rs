//! Reverse-mode differentiation of graphs.
//!
//! The backward pass is appended to the graph: nodes are visited from the loss to the inputs, and each hands its gradient (its *cotangent*) to
//! what it read by the rule of its op (`grad_rules`, one arm per op). A cotangent has exactly the axes of its node; where a
//! node's value was repeated along axes (elementwise nodes unite axes by name), the cotangent is summed over them.
//!
//! *Dtypes.* Cotangents are f32, except that a contraction or attention in bf16 sees its incoming cotangent rounded to bf16, as its
//! operands are; what it gives back has the dtype of the operand, or f32 where the operand is a rounded f32 weight.
//!
//! *Scans.* The forward scan keeps its place but its body also stacks *residuals*: the values that the backward body reads and that are
//! dear to compute again (results of contractions, attention, reductions, and the carries). The backward scan runs the other way; its
//! carries are the cotangents of the carries and the sums of cotangents of captured values, its slices are residuals, the forward
//! scan's own slices, and cotangents of stacked values. Everything cheap (maps, casts, masks, rotations) is computed again in its body. Under
//! [`Remat::PerBlock`] only carries are kept.

use std::collections::{BTreeMap, BTreeSet};

use super::build::{Builder, Misfit};
use super::grad_rules::pull;
use super::print::print;
use super::{Axis, DType, Graph, Name, NodeId, Op, Role, Scan, ScanKind, Type};
use crate::bug::Bug;
use crate::scalar::BinOp;

/// What the backward pass recomputes instead of keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remat {
    /// Keeps what is dear to compute again; recomputes maps, casts, masks.
    None,
    /// Keeps the carry of each layer; recomputes the layer.
    PerBlock,
    /// Chosen by memory; until a limit is given, as `None`.
    Auto,
}

/// Gradients of the scalar `loss` with respect to each node of `wrt`: f32, with the axes of the node in its order; zeros where
/// the loss does not depend on it.
pub fn differentiate(
    b: &mut Builder,
    loss: NodeId,
    wrt: &[NodeId],
    remat: Remat,
) -> Result<Vec<NodeId>, Bug> {
    let (span, path) = (b.span, b.path.clone());
    let one = b.constant(1.0);
    let found = reverse(b, &[(loss, one)], wrt, remat).map_err(|m| bug(b, m.message));
    let mut grads = Vec::new();
    for (node, grad) in wrt.iter().zip(found?) {
        let ty = Type::new(DType::F32, b.ty(*node).axes.clone());
        let grad = match grad {
            Some(g) => g,
            None => b.constant(0.0),
        };
        grads.push(conform(b, grad, &ty));
    }
    (b.span, b.path) = (span, path);
    Ok(grads)
}

fn bug(b: &Builder, message: String) -> Bug {
    Bug::new("differentiate", message, print(&b.graph))
}

/// Cotangents of `wrt` from those of `seeds`; `None` where there is no path.
pub(super) fn reverse(
    b: &mut Builder,
    seeds: &[(NodeId, NodeId)],
    wrt: &[NodeId],
    remat: Remat,
) -> Result<Vec<Option<NodeId>>, Misfit> {
    let active = active(&b.graph, wrt);
    let mut sums = Sums { of: BTreeMap::new(), parts: BTreeMap::new() };
    for (node, cotangent) in seeds {
        sums.add(b, *node, *cotangent)?;
    }
    let last = seeds.iter().map(|(n, _)| n.0).max().unwrap_or(0);
    for id in (0..=last).rev().map(NodeId) {
        if !active.contains(&id) {
            continue;
        }
        let node = b.graph.node(id).clone();
        b.span = node.span;
        b.path = Some(node.path.clone());
        if let Op::Part(n) = node.op {
            if let Some(g) = sums.of.get(&id) {
                sums.parts.insert((node.inputs[0], n), *g);
            }
            continue;
        }
        if let Op::Scan(scan) = &node.op {
            let count = scan.body.outputs.len() as u32;
            let parts: Vec<Option<NodeId>> =
                (0..count).map(|n| sums.parts.get(&(id, n)).copied()).collect();
            if parts.iter().any(Option::is_some) {
                for (input, g) in scan_backward(b, id, &parts, &active, remat)? {
                    sums.add(b, input, g)?;
                }
            }
            continue;
        }
        let first = match node.op {
            Op::Attention(_) => sums.parts.get(&(id, 0)),
            _ => sums.of.get(&id),
        };
        let Some(g) = first.copied() else { continue };
        for (input, g) in pull(b, id, g, &|n| active.contains(&n))? {
            if active.contains(&input) {
                sums.add(b, input, g)?;
            }
        }
    }
    Ok(wrt.iter().map(|w| sums.of.get(w).copied()).collect())
}

/// Cotangents so far: of nodes, and of parts of nodes with several results.
struct Sums {
    of: BTreeMap<NodeId, NodeId>,
    parts: BTreeMap<(NodeId, u32), NodeId>,
}

impl Sums {
    /// Adds a cotangent, brought to the axes of its node.
    fn add(&mut self, b: &mut Builder, node: NodeId, g: NodeId) -> Result<(), Misfit> {
        let want = b.ty(node).axes.clone();
        let extra: Vec<Name> = b
            .ty(g)
            .axes
            .iter()
            .filter(|a| !want.iter().any(|w| w.name == a.name))
            .map(|a| a.name.clone())
            .collect();
        let g = b.reduce(super::ReduceOp::Sum, g, &extra)?;
        let g = b.expand(g, &want);
        let g = match self.of.get(&node) {
            None => g,
            Some(old) => b.binary(BinOp::Add, *old, g)?,
        };
        self.of.insert(node, g);
        Ok(())
    }
}

/// Nodes that depend on `wrt` through floats.
fn active(graph: &Graph, wrt: &[NodeId]) -> BTreeSet<NodeId> {
    let mut active: BTreeSet<NodeId> = wrt.iter().copied().collect();
    for id in graph.ids() {
        let node = graph.node(id);
        let float = node.ty.dtype.is_float() || super::verify::has_parts(&node.op);
        if float
            && !matches!(node.op, Op::Stop | Op::Random(..))
            && node.inputs.iter().any(|i| active.contains(i))
        {
            active.insert(id);
        }
    }
    active
}

/// The backward scan of the scan at `id`: cotangents of its inputs.
fn scan_backward(
    b: &mut Builder,
    id: NodeId,
    parts: &[Option<NodeId>],
    outer_active: &BTreeSet<NodeId>,
    remat: Remat,
) -> Result<Vec<(NodeId, NodeId)>, Misfit> {
    let node = b.graph.node(id).clone();
    let Op::Scan(scan) = &node.op else { return Ok(Vec::new()) };
    if scan.kind == ScanKind::Micro {
        return Err(Misfit {
            code: "E0899",
            message: "a loop over micro-batches holds its own gradients and is not differentiated"
                .into(),
            help: None,
        });
    }
    let scan = (**scan).clone();
    let inputs_of_body = input_nodes(&scan.body);
    let wants = active_inputs(&scan, &node.inputs, outer_active, &inputs_of_body);

    // The combined body: a copy of the forward body, then its backward pass.
    let mut nb = Builder::resume(scan.body.clone());
    let forward_nodes = nb.graph.nodes.len() as u32;
    nb.graph.outputs.clear();
    let mut seeds = Vec::new();
    for (i, out) in scan.body.outputs.iter().enumerate() {
        let is_carry = i < scan.carries;
        let live = if is_carry { wants[i] } else { parts[i].is_some() };
        if live && nb.ty(out.node).dtype.is_float() {
            let ty = Type::new(DType::F32, nb.ty(out.node).axes.clone());
            let seed = nb.input(format!("d{i}"), ty, Role::Local);
            seeds.push((out.node, seed, i));
        }
    }
    let wrt: Vec<NodeId> =
        inputs_of_body.iter().zip(&wants).filter_map(|(n, w)| if *w { *n } else { None }).collect();
    let pairs: Vec<(NodeId, NodeId)> = seeds.iter().map(|(n, s, _)| (*n, *s)).collect();
    let found = reverse(&mut nb, &pairs, &wrt, remat)?;
    let mut found = found.into_iter();
    let grads: Vec<Option<NodeId>> = inputs_of_body
        .iter()
        .zip(&wants)
        .map(|(n, w)| if *w && n.is_some() { found.next().flatten() } else { None })
        .collect();

    // What the backward body reads of the forward one, and is dear: it becomes a residual.
    let roots: Vec<NodeId> = grads.iter().flatten().copied().collect();
    let kept = residuals(&nb.graph, forward_nodes, &roots, &scan, &inputs_of_body, remat);

    // The forward scan stacks the residuals: same node, more results.
    let mut body = scan.body.clone();
    let base = body.outputs.len();
    for (i, k) in kept.iter().enumerate() {
        body.outputs.push(super::OutputDecl {
            name: Name::from(format!("residual{}", base + i)),
            node: *k,
            into: None,
        });
    }
    let stacked_types: Vec<Type> = kept
        .iter()
        .map(|k| {
            let mut ty = body.ty(*k).clone();
            ty.axes.insert(0, scan.axis.clone());
            ty
        })
        .collect();
    let wide = Scan { body, ..scan.clone() };
    b.graph.nodes[id.0 as usize].op = Op::Scan(Box::new(wide));
    let stacks: Vec<NodeId> = stacked_types
        .into_iter()
        .enumerate()
        .map(|(i, ty)| b.raw(Op::Part((base + i) as u32), vec![id], ty))
        .collect();

    let plan = Backward {
        scan: &scan,
        node_inputs: &node.inputs,
        wants: &wants,
        parts,
        seeds: &seeds,
        grads: &grads,
    };
    plan.emit(b, &nb, &kept, &stacks, &inputs_of_body)
}

/// The pieces of a backward scan.
struct Backward<'a> {
    scan: &'a Scan,
    node_inputs: &'a [NodeId],
    wants: &'a [bool],
    parts: &'a [Option<NodeId>],
    /// Output of the body, its seed, its number.
    seeds: &'a [(NodeId, NodeId, usize)],
    grads: &'a [Option<NodeId>],
}

impl Backward<'_> {
    fn emit(
        &self,
        b: &mut Builder,
        nb: &Builder,
        kept: &[NodeId],
        stacks: &[NodeId],
        body_inputs: &[Option<NodeId>],
    ) -> Result<Vec<(NodeId, NodeId)>, Misfit> {
        let scan = self.scan;
        let (first_scanned, first_captured) = (scan.carries, scan.carries + scan.scanned);
        let mut out = Builder::new();
        let mut map: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        let (mut inits, mut scanned, mut captured) = (Vec::new(), Vec::new(), Vec::new());

        // Carries: cotangents of carries, then sums for captured values.
        let carry_ids: Vec<usize> = (0..scan.carries).filter(|i| self.wants[*i]).collect();
        let sum_ids: Vec<usize> = (first_captured..self.wants.len())
            .filter(|i| self.wants[*i] && self.grads[*i].is_some())
            .collect();
        let mut carry_nodes = Vec::new();
        for i in &carry_ids {
            let ty = Type::new(DType::F32, scan.body.inputs[*i].ty.axes.clone());
            let inner = out.input(format!("carry{i}"), ty.clone(), Role::Local);
            if let Some((_, seed, _)) = self.seeds.iter().find(|(_, _, n)| n == i) {
                map.insert(*seed, inner);
            }
            carry_nodes.push(inner);
            let start = match self.parts[*i] {
                Some(g) => g,
                None => b.constant(0.0),
            };
            inits.push(conform(b, start, &ty));
        }
        let mut sums = Vec::new();
        for i in &sum_ids {
            let ty = Type::new(DType::F32, scan.body.inputs[*i].ty.axes.clone());
            sums.push(out.input(format!("sum{i}"), ty.clone(), Role::Local));
            let zero = b.constant(0.0);
            inits.push(conform(b, zero, &ty));
        }
        // Slices: residuals, the forward scan's own, cotangents of stacked values.
        for (i, (k, stack)) in kept.iter().zip(stacks).enumerate() {
            map.insert(*k, out.input(format!("residual{i}"), nb.ty(*k).clone(), Role::Local));
            scanned.push(*stack);
        }
        let needed =
            needed(&nb.graph, &self.grads.iter().flatten().copied().collect::<Vec<_>>(), &map);
        for i in first_scanned..first_captured {
            if let Some(n) = body_inputs[i]
                && needed.contains(&n)
                && !map.contains_key(&n)
            {
                map.insert(n, out.input(format!("slice{i}"), nb.ty(n).clone(), Role::Local));
                scanned.push(self.node_inputs[i]);
            }
        }
        for (_, seed, i) in self.seeds.iter().filter(|(_, _, i)| *i >= scan.carries) {
            map.insert(*seed, out.input(format!("d{i}"), nb.ty(*seed).clone(), Role::Local));
            scanned.push(self.parts[*i].expect("stacked seeds have cotangents"));
        }
        for i in first_captured..self.wants.len() {
            if let Some(n) = body_inputs[i]
                && needed.contains(&n)
            {
                map.insert(n, out.input(format!("outer{i}"), nb.ty(n).clone(), Role::Local));
                captured.push(self.node_inputs[i]);
            }
        }
        copy(&nb.graph, &needed, &mut map, &mut out);

        let zero_like = |out: &mut Builder, ty: &Type| {
            let zero = out.constant(0.0);
            conform(out, zero, ty)
        };
        for (n, i) in carry_ids.iter().enumerate() {
            let ty = out.ty(carry_nodes[n]).clone();
            let g = match self.grads[*i] {
                Some(g) => conform(&mut out, map[&g], &ty),
                None => zero_like(&mut out, &ty),
            };
            out.output(format!("carry{i}"), g, None);
        }
        for (n, i) in sum_ids.iter().enumerate() {
            let ty = out.ty(sums[n]).clone();
            let g = map[&self.grads[*i].expect("sums have gradients")];
            let g = out.binary(BinOp::Add, sums[n], g)?;
            let g = conform(&mut out, g, &ty);
            out.output(format!("sum{i}"), g, None);
        }
        let slice_ids: Vec<usize> = (first_scanned..first_captured)
            .filter(|i| self.wants[*i] && self.grads[*i].is_some())
            .collect();
        for i in &slice_ids {
            let ty = Type::new(DType::F32, scan.body.inputs[*i].ty.axes.clone());
            let g = conform(&mut out, map[&self.grads[*i].expect("filtered")], &ty);
            out.output(format!("slice{i}"), g, None);
        }
        let axis: Axis = scan.axis.clone();
        let results =
            b.scan(axis, !scan.reverse, scan.kind, out.graph, &inits, &scanned, &captured)?;
        let order = carry_ids.iter().chain(&sum_ids).chain(&slice_ids);
        Ok(order.zip(results).map(|(i, r)| (self.node_inputs[*i], r)).collect())
    }
}

/// For each input of a body its node, if it has one.
fn input_nodes(body: &Graph) -> Vec<Option<NodeId>> {
    let mut nodes = vec![None; body.inputs.len()];
    for id in body.ids() {
        if let Op::Input(i) = body.node(id).op {
            nodes[i as usize] = Some(id);
        }
    }
    nodes
}

/// Which inputs of a body get a cotangent: floats that are active outside; a carry also if its update depends on an active value.
fn active_inputs(
    scan: &Scan,
    inputs: &[NodeId],
    outer: &BTreeSet<NodeId>,
    body_inputs: &[Option<NodeId>],
) -> Vec<bool> {
    let float = |i: usize| scan.body.inputs[i].ty.dtype.is_float();
    let mut wants: Vec<bool> =
        (0..inputs.len()).map(|i| float(i) && outer.contains(&inputs[i])).collect();
    loop {
        let wrt: Vec<NodeId> = body_inputs
            .iter()
            .zip(&wants)
            .filter_map(|(n, w)| if *w { *n } else { None })
            .collect();
        let reached = active(&scan.body, &wrt);
        let mut grown = false;
        for i in 0..scan.carries {
            if !wants[i] && float(i) && reached.contains(&scan.body.outputs[i].node) {
                wants[i] = true;
                grown = true;
            }
        }
        if !grown {
            return wants;
        }
    }
}

/// Nodes that `roots` need, not looking behind nodes that are mapped already.
fn needed(graph: &Graph, roots: &[NodeId], map: &BTreeMap<NodeId, NodeId>) -> BTreeSet<NodeId> {
    let mut found = BTreeSet::new();
    let mut open: Vec<NodeId> = roots.to_vec();
    while let Some(id) = open.pop() {
        if map.contains_key(&id) || !found.insert(id) {
            continue;
        }
        open.extend(&graph.node(id).inputs);
    }
    found
}

/// Copies nodes, in order, into another builder.
fn copy(
    graph: &Graph,
    needed: &BTreeSet<NodeId>,
    map: &mut BTreeMap<NodeId, NodeId>,
    out: &mut Builder,
) {
    for id in needed {
        if map.contains_key(id) {
            continue;
        }
        let node = graph.node(*id);
        let inputs = node.inputs.iter().map(|i| map[i]).collect();
        out.span = node.span;
        out.path = Some(node.path.clone());
        let new = out.raw(node.op.clone(), inputs, node.ty.clone());
        map.insert(*id, new);
    }
}

/// Forward values to keep for the backward body.
fn residuals(
    graph: &Graph,
    forward_nodes: u32,
    roots: &[NodeId],
    scan: &Scan,
    body_inputs: &[Option<NodeId>],
    remat: Remat,
) -> Vec<NodeId> {
    let carries: BTreeSet<NodeId> = body_inputs[..scan.carries].iter().flatten().copied().collect();
    // What depends on slices and captured values alone is the same for weights: cheap casts of them are made again.
    let mut kept = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut open: Vec<NodeId> = roots.to_vec();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let dear = id.0 < forward_nodes && remat != Remat::PerBlock && is_dear(graph, id);
        if carries.contains(&id) || dear {
            kept.insert(id);
            continue;
        }
        open.extend(&graph.node(id).inputs);
    }
    kept.into_iter().collect()
}

/// Worth keeping rather than computing again.
fn is_dear(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    match &node.op {
        Op::Contract { .. }
        | Op::Reduce { .. }
        | Op::LogSumExp { .. }
        | Op::CumSum { .. }
        | Op::TopK { .. }
        | Op::ArgSort { .. }
        | Op::ScatterAdd { .. }
        | Op::Part(_)
        | Op::Collective(_) => true,
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
        | Op::Concat { .. }
        | Op::Update { .. }
        | Op::Attention(_)
        | Op::AttentionGrad { .. }
        | Op::Scan(_)
        | Op::Stop => false,
    }
}

/// The same value with exactly the axes of `want` in its order (axes that it lacks are added), in its dtype.
fn conform(b: &mut Builder, x: NodeId, want: &Type) -> NodeId {
    let x = b.cast(x, want.dtype);
    let x = b.expand(x, &want.axes);
    if b.ty(x).axes == want.axes {
        return x;
    }
    b.raw(Op::Expand, vec![x], want.clone())
}
