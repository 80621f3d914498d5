//! The gradient of a loop: a loop the other way round.
//!
//! Takes a scan and the cotangents of its results; gives what its inputs receive. The forward scan stays where it is
//! and computes what it did; its body gets further outputs, which the backward scan reads.
//!
//! # The backward scan
//! Along the same axis in the opposite order. Its *carries* are the cotangents of the forward carries, then one sum per
//! captured float. It *scans* the cotangents of the stacked results, the values that the forward scan kept, and those of the
//! forward slices that it needs again. It *stacks* the gradients of the slices: a weight per layer gets a gradient
//! per layer. So the k-th iteration undoes the k-th from the end:
//!
//! ```text
//! forward    (h, stacked[t])            = f(h, x[t], c)
//! backward   (dh, dc + its part, dx[t]) = vjp of f at (h before t, x[t], c), applied to (dh, dstacked[t])
//! ```
//!
//! # What is kept, what is computed again
//! The backward pass is first appended to a copy of the body, as anywhere (`grad::walk`): the *joint* body. Every node in
//! it either depends on a cotangent and belongs to the backward body, or does not. Of the latter, the backward body gets
//! those that it reads: as a slice that the forward scan kept, if [`Remat`] says so, else as a copy of the node, whose inputs
//! are then needed in turn. A copy is the same operation on the same values, so the numbers are the same bit for bit.
//! The idea of saving what is dear and recomputing what is cheap: Chen et al. 2016, "Training deep nets with sublinear
//! memory cost"; which operations are which: Korthikanti et al. 2022, section 5.
//!
//! Carries are always kept, since nothing can compute them again. What is the same in every iteration never is. Loops over micro-batches hold whole steps, gradient included,
//! and are never differentiated.

use std::collections::BTreeMap;

use super::build::Builder;
use super::grad::{Activity, Remat, body_inputs, bug, built, expand_as, walk, zeros};
use super::grad_rules::Gift;
use super::{BinOp, DType, Graph, Name, NodeId, Op, OutputDecl, Role, Scan, ScanKind, Type, UnOp};
use crate::bug::Bug;

/// The rule of `Scan`. `parts` are the cotangents of its results, `wanted` says which inputs are active.
pub(super) fn scan(
    b: &mut Builder,
    id: NodeId,
    scan: &Scan,
    inputs: &[NodeId],
    parts: &[(u32, NodeId)],
    wanted: &[bool],
    remat: Remat,
) -> Result<Vec<Gift>, Bug> {
    if scan.kind == ScanKind::Micro {
        return Err(bug(format!("{id:?}: a loop over micro-batches is not differentiated")));
    }
    let parts: BTreeMap<usize, NodeId> = parts.iter().map(|(p, g)| (*p as usize, *g)).collect();
    let flow = Flow::of(scan, &parts, wanted);
    let joint = Joint::of(scan, &flow, remat)?;
    let back = joint.backward(scan, &flow)?;
    let kept = keep(b, id, scan, &joint, &back.kept)?;

    let mut inits: Vec<NodeId> = Vec::new();
    for i in (0..scan.carries).filter(|i| flow.carries[*i]) {
        let dtype = scan.body.inputs[i].ty.dtype;
        let none = zeros(b, &Type::scalar(dtype));
        inits.push(parts.get(&i).copied().unwrap_or(none));
    }
    let zero = b.constant(0.0);
    inits.extend(back.sums.iter().map(|_| zero));
    let mut scanned: Vec<NodeId> = flow.stacked.iter().map(|p| parts[p]).collect();
    scanned.extend(kept);
    scanned.extend(back.slices.iter().map(|i| inputs[*i]));
    let captured: Vec<NodeId> = back.captured.iter().map(|i| inputs[*i]).collect();
    let axis = scan.axis.clone();
    let results = b
        .scan(axis, !scan.reverse, scan.kind, back.body, &inits, &scanned, &captured)
        .map_err(|m| bug(m.message))?;
    let carries = (0..scan.carries).filter(|i| flow.carries[*i]);
    let receivers = carries.chain(back.sums).chain(back.stacked);
    Ok(receivers.zip(results).map(|(i, g)| (i, 0, g)).collect())
}

// Where cotangents flow in the body.
struct Flow {
    // Per forward carry, whether the backward scan carries its cotangent.
    carries: Vec<bool>,
    // The stacked results that have a cotangent, by part.
    stacked: Vec<usize>,
    // Per input of the body, whether it is active and a cotangent can reach it.
    reached: Vec<bool>,
    // Per output of the body, whether it is active.
    outputs: Vec<bool>,
}

impl Flow {
    fn of(scan: &Scan, parts: &BTreeMap<usize, NodeId>, wanted: &[bool]) -> Self {
        let body = &scan.body;
        let (inputs, active) = Activity::of_body(scan, wanted);
        let outputs: Vec<bool> = body.outputs.iter().map(|o| active.node(o.node)).collect();
        let nodes = body_inputs(body);
        let stacked: Vec<usize> =
            parts.keys().copied().filter(|p| *p >= scan.carries && outputs[*p]).collect();
        let mut carries: Vec<bool> =
            (0..scan.carries).map(|i| parts.contains_key(&i) && inputs[i]).collect();
        // A carry that a cotangent reaches passes it on to the iteration before, until nothing new is reached.
        loop {
            let mut reached = vec![false; body.nodes.len()];
            let carried = (0..scan.carries).filter(|i| carries[*i]);
            for p in carried.chain(stacked.iter().copied()).filter(|p| outputs[*p]) {
                reached[body.outputs[p].node.0 as usize] = true;
            }
            for id in body.ids().rev().filter(|id| active.node(*id)) {
                if reached[id.0 as usize] {
                    for x in body.node(id).inputs.iter().filter(|x| active.node(**x)) {
                        reached[x.0 as usize] = true;
                    }
                }
            }
            let reaches = |i: usize| inputs[i] && nodes[i].is_some_and(|n| reached[n.0 as usize]);
            let more: Vec<bool> = (0..scan.carries).map(|i| carries[i] || reaches(i)).collect();
            if more == carries {
                let reached = (0..body.inputs.len()).map(reaches).collect();
                return Self { carries, stacked, reached, outputs };
            }
            carries = more;
        }
    }
}

// The body with its backward pass behind it.
struct Joint {
    graph: Graph,
    // How many nodes the forward body has.
    forward: usize,
    // Per node, whether it depends on a cotangent.
    backward: Vec<bool>,
    // Per node, whether it may differ from iteration to iteration.
    varies: Vec<bool>,
    // The gradients of the body's inputs, where there is one.
    grads: Vec<Option<NodeId>>,
    remat: Remat,
}

impl Joint {
    fn of(scan: &Scan, flow: &Flow, remat: Remat) -> Result<Self, Bug> {
        let body = &scan.body;
        let mut b = Builder::resume(body.clone());
        let mut seeds: Vec<(NodeId, NodeId)> = Vec::new();
        let carried = (0..scan.carries).filter(|i| flow.carries[*i]);
        for p in carried.chain(flow.stacked.iter().copied()) {
            let node = body.outputs[p].node;
            let is_carry = p < scan.carries;
            let ty = if is_carry { body.inputs[p].ty.clone() } else { body.ty(node).clone() };
            let name = fresh(&b.graph, &format!("d:{}", body.outputs[p].name));
            let g = b.input(name, ty, Role::Local);
            if flow.outputs[p] {
                seeds.push((node, g));
            }
        }
        let nodes = body_inputs(body);
        let targets: Vec<(usize, NodeId)> = nodes
            .iter()
            .enumerate()
            .filter_map(|(i, n)| n.filter(|_| flow.reached[i]).map(|n| (i, n)))
            .collect();
        let wrt: Vec<NodeId> = targets.iter().map(|(_, n)| *n).collect();
        let found = walk(&mut b, &seeds, &wrt, remat)?;
        let mut grads = vec![None; body.inputs.len()];
        for ((i, _), g) in targets.into_iter().zip(found) {
            grads[i] = g;
        }
        let graph = b.graph;
        let backward = depends(&graph, |i| i >= body.inputs.len());
        let varies = depends(&graph, |i| i < scan.carries + scan.scanned);
        Ok(Self { graph, forward: body.nodes.len(), backward, varies, grads, remat })
    }

    // Where the backward body has a node from that does not depend on a cotangent.
    fn source(&self, scan: &Scan, id: NodeId) -> Source {
        let node = self.graph.node(id);
        let is_forward = |id: NodeId| (id.0 as usize) < self.forward;
        if let Op::Input(i) = node.op {
            let i = i as usize;
            if i < scan.carries {
                Source::Kept
            } else if i < scan.carries + scan.scanned {
                Source::Slice(i)
            } else {
                Source::Captured(i)
            }
        } else if !self.varies[id.0 as usize] {
            // The same in every iteration: simplification moves it out of both loops, and has it once.
            Source::Again
        } else if matches!(node.op, Op::Part(_)) && is_forward(node.inputs[0]) {
            self.kept_if(price(&self.graph.node(node.inputs[0]).op))
        } else if is_forward(id) {
            self.kept_if(if self.is_stored(id) { Price::Cheap } else { price(&node.op) })
        } else {
            // Added by a rule, from what the rule reads.
            Source::Again
        }
    }

    // A 16-bit copy of an intermediate value: if the value is kept, then as this.
    fn is_stored(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        node.op == Op::Cast
            && node.ty.dtype.bytes() == 2
            && !matches!(self.graph.node(node.inputs[0]).op, Op::Input(_))
    }

    fn kept_if(&self, price: Price) -> Source {
        let keep = match self.remat {
            Remat::PerBlock => false,
            Remat::Auto => price == Price::Dear,
            Remat::None => price != Price::Free,
        };
        if keep { Source::Kept } else { Source::Again }
    }

    // The backward body, and what it must be given.
    fn backward(&self, scan: &Scan, flow: &Flow) -> Result<Backward, Bug> {
        let mut sources: BTreeMap<NodeId, Source> = BTreeMap::new();
        let mut needed = vec![false; self.graph.nodes.len()];
        self.grads.iter().flatten().for_each(|g| needed[g.0 as usize] = true);
        for id in self.graph.ids().rev() {
            if !needed[id.0 as usize] {
                continue;
            }
            let is_backward = self.backward[id.0 as usize];
            let source = if is_backward { Source::Again } else { self.source(scan, id) };
            if source == Source::Again {
                self.graph.node(id).inputs.iter().for_each(|x| needed[x.0 as usize] = true);
            }
            sources.insert(id, source);
        }
        let listed = |f: &dyn Fn(&NodeId, &Source) -> Option<usize>| -> Vec<usize> {
            let mut found: Vec<usize> = sources.iter().filter_map(|(id, s)| f(id, s)).collect();
            found.sort_unstable();
            found
        };
        let kept = listed(&|id, s| (*s == Source::Kept).then_some(id.0 as usize));
        let kept: Vec<NodeId> = kept.into_iter().map(|i| NodeId(i as u32)).collect();
        let slices = listed(&|_, s| if let Source::Slice(i) = s { Some(*i) } else { None });
        let captured = listed(&|_, s| if let Source::Captured(i) = s { Some(*i) } else { None });
        let given = |i: &usize| self.grads[*i].is_some();
        let ends = scan.carries + scan.scanned;
        let stacked: Vec<usize> = (scan.carries..ends).filter(given).collect();
        let sums: Vec<usize> = (ends..self.grads.len()).filter(given).collect();

        // Inputs in the order of the laws: carries, slices, captured.
        let decls = &self.graph.inputs;
        let mut b = Builder::new();
        let mut moved: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        let nodes = body_inputs(&self.graph);
        let mut input = |b: &mut Builder, name: &str, ty: Type, of: Option<NodeId>| {
            let name = fresh(&b.graph, name);
            let made = b.input(name, ty, Role::Local);
            if let Some(of) = of {
                moved.insert(of, made);
            }
            made
        };
        let first = scan.body.inputs.len();
        let carries = flow.carries.iter().filter(|c| **c).count();
        let cotangents: Vec<usize> = (first..decls.len()).collect();
        let (of_carries, of_stacked) = cotangents.split_at(carries);
        for i in of_carries {
            input(&mut b, decls[*i].name.as_str(), decls[*i].ty.clone(), nodes[*i]);
        }
        let mut totals = Vec::new();
        for i in &sums {
            let ty = Type::new(DType::F32, decls[*i].ty.axes.clone());
            totals.push(input(&mut b, &format!("sum:{}", decls[*i].name), ty, None));
        }
        for i in of_stacked {
            input(&mut b, decls[*i].name.as_str(), decls[*i].ty.clone(), nodes[*i]);
        }
        for (n, id) in kept.iter().enumerate() {
            input(&mut b, &format!("kept{n}"), self.graph.ty(*id).clone(), Some(*id));
        }
        for i in slices.iter().chain(&captured) {
            input(&mut b, decls[*i].name.as_str(), decls[*i].ty.clone(), nodes[*i]);
        }

        for (id, _) in sources.iter().filter(|(_, s)| **s == Source::Again) {
            if moved.contains_key(id) {
                continue;
            }
            let node = self.graph.node(*id);
            let inputs: Vec<NodeId> = node.inputs.iter().map(|x| moved[x]).collect();
            (b.span, b.path) = (node.span, Some(node.path.clone()));
            let made = b.raw(node.op.clone(), inputs, node.ty.clone());
            moved.insert(*id, made);
        }

        for i in (0..scan.carries).filter(|i| flow.carries[*i]) {
            let ty = &scan.body.inputs[i].ty;
            let g = match self.grads[i] {
                Some(g) => b.cast(moved[&g], ty.dtype),
                None => zeros(&mut b, ty),
            };
            let g = expand_as(&mut b, g, &ty.axes);
            b.output(format!("d:{}", decls[i].name), g, None);
        }
        for (i, total) in sums.iter().zip(totals) {
            if let Some(g) = self.grads[*i] {
                let sum = built(b.binary(BinOp::Add, total, moved[&g]))?;
                b.output(format!("sum:{}", decls[*i].name), sum, None);
            }
        }
        for i in &stacked {
            if let Some(g) = self.grads[*i] {
                b.output(format!("d:{}", decls[*i].name), moved[&g], None);
            }
        }
        Ok(Backward { body: b.graph, kept, slices, captured, sums, stacked })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    // A slice of what the forward scan kept.
    Kept,
    // The forward scan's slice of that input.
    Slice(usize),
    // The forward scan's captured input.
    Captured(usize),
    // Computed in the backward body.
    Again,
}

struct Backward {
    body: Graph,
    // Nodes of the joint body that the forward scan must stack.
    kept: Vec<NodeId>,
    // Inputs of the forward scan that are sliced again, and that are captured again.
    slices: Vec<usize>,
    captured: Vec<usize>,
    // Captured inputs whose gradient is summed; sliced inputs whose gradient is stacked.
    sums: Vec<usize>,
    stacked: Vec<usize>,
}

// Makes the forward scan stack `kept`; gives the stacked tensors.
//
// The node is changed where it stands: its results so far keep their numbers and values, so all that reads it stays true.
fn keep(
    b: &mut Builder,
    id: NodeId,
    scan: &Scan,
    joint: &Joint,
    kept: &[NodeId],
) -> Result<Vec<NodeId>, Bug> {
    let mut forward = Builder::resume(scan.body.clone());
    let mut parts = Vec::new();
    for node in kept {
        let mut node = *node;
        let at = joint.graph.node(node).clone();
        if node.0 as usize >= joint.forward {
            // A result of a node of the body: perhaps of an inner scan that has to keep more, too.
            let multi = at.inputs[0];
            forward.graph.nodes[multi.0 as usize].op = joint.graph.node(multi).op.clone();
            node = forward.raw(at.op, at.inputs, at.ty.clone());
        }
        let stacked = &forward.graph.outputs[scan.carries..];
        let part = match stacked.iter().position(|o| o.node == node) {
            Some(known) => scan.carries + known,
            None => {
                let n = forward.graph.outputs.len();
                let name = Name::from(format!("kept{n}"));
                forward.graph.outputs.push(OutputDecl { name, node, into: None });
                n
            }
        };
        let mut ty = at.ty;
        ty.axes.insert(0, scan.axis.clone());
        parts.push((part as u32, ty));
    }
    let longer = Scan { body: forward.graph, ..scan.clone() };
    b.graph.nodes[id.0 as usize].op = Op::Scan(Box::new(longer));
    Ok(parts.into_iter().map(|(p, ty)| b.raw(Op::Part(p), vec![id], ty)).collect())
}

// Per node, whether it depends on an input that is `chosen`.
fn depends(graph: &Graph, chosen: impl Fn(usize) -> bool) -> Vec<bool> {
    let mut found: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let is_chosen = matches!(node.op, Op::Input(i) if chosen(i as usize));
        found.push(is_chosen || node.inputs.iter().any(|x| found[x.0 as usize]));
    }
    found
}

// A name that no input has.
fn fresh(graph: &Graph, name: &str) -> Name {
    let mut name = name.to_owned();
    while graph.inputs.iter().any(|i| i.name.as_str() == name) {
        name.push('\'');
    }
    Name::from(name)
}

// What computing a node again would cost, next to reading it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Price {
    // Fuses into whoever reads it, for nothing.
    Free,
    // A pass over the data.
    Cheap,
    // More arithmetic than data, or a result much smaller than what it is made from.
    Dear,
}

fn price(op: &Op) -> Price {
    match op {
        Op::Const(_) | Op::Pos | Op::Input(_) | Op::Runtime(_) | Op::Random(..) => Price::Free,
        Op::Unary(op) => match op {
            UnOp::Neg | UnOp::Abs | UnOp::Sign | UnOp::Not | UnOp::IsFinite => Price::Free,
            UnOp::Floor | UnOp::Ceil | UnOp::Round => Price::Free,
            UnOp::Recip | UnOp::Exp | UnOp::Log | UnOp::Sqrt | UnOp::Rsqrt => Price::Cheap,
            UnOp::Sin | UnOp::Cos | UnOp::Tanh | UnOp::Erf | UnOp::Sigmoid => Price::Cheap,
        },
        Op::Binary(op) => {
            if op.is_bool() {
                Price::Free
            } else {
                Price::Cheap
            }
        }
        Op::Select | Op::Cast | Op::Expand | Op::Rename(_) | Op::Split { .. } => Price::Free,
        Op::Merge { .. } | Op::Window { .. } | Op::Stop => Price::Free,
        Op::Gather { .. } | Op::Concat { .. } => Price::Cheap,
        Op::ScatterAdd { .. } | Op::Update { .. } => Price::Dear,
        Op::Reduce { .. } | Op::LogSumExp { .. } | Op::Contract { .. } => Price::Dear,
        Op::CumSum { .. } | Op::TopK { .. } | Op::ArgSort { .. } => Price::Dear,
        Op::Attention(_) | Op::AttentionGrad { .. } | Op::Scan(_) => Price::Dear,
        // Asked about the node that it is a part of.
        Op::Part(_) => Price::Free,
        Op::Collective(_) => Price::Dear,
    }
}
