//! The last rewriting of a graph before it is cut into kernels.
//!
//! Takes a verified graph; gives one of the same meaning in which
//! - `Stop` and collectives of one device are gone, and so is what no output needs;
//! - `LogSumExp` is written with the largest value taken out: `m + log Σ exp(x - m)`;
//! - a contraction that is no matrix product (no rows and no columns) is a reduction of a product;
//! - an `Update` whose place is not known to the host is a `Select`;
//! - the operands of an attention gradient have all axes of their independent problems;
//! - every output, and every start of a scan's carry, is a node computed for that place alone: where it was not, a *copy*
//!   (a `Cast` to the same dtype) stands before it;
//! - adding a stacked result of a scan to an input happens inside the scan, layer by layer;
//! - axes stand in the order in which values are best stored: those of loops over layers first (a slice per layer), then those of
//!   the batch's columns (a row per token), and a value shaped like a weight as the weight is, so that its gradient and its update
//!   run over memory in one order.

use std::collections::BTreeMap;

use crate::bug::Bug;
use crate::graph::{
    Axis, BinOp, DType, Graph, Literal, Name, Node, NodeId, Op, OutputDecl, ReduceOp, Scan, Type,
    UnOp,
};
use crate::lower::order::{Order, arrange};
use crate::lower::sums::{inputs_first, sink_sums};

/// See the module. `host` says which inputs are host scalars.
pub(crate) fn prepare(graph: &Graph, host: &[bool], order: &Order) -> Result<Graph, Bug> {
    let graph = &sink_sums(inputs_first(graph));
    let live = live(graph);
    let mut p = Prepare {
        from: graph,
        out: Graph { nodes: Vec::new(), inputs: graph.inputs.clone(), outputs: Vec::new() },
        made: BTreeMap::new(),
        to: vec![NodeId(u32::MAX); graph.nodes.len()],
        host: host.to_vec(),
        parts: BTreeMap::new(),
        at: NodeId(0),
        order,
    };
    for id in graph.ids() {
        if live[id.0 as usize] {
            p.at = id;
            let new = p.node(id)?;
            p.to[id.0 as usize] = new;
        }
    }
    p.outputs();
    arrange(&mut p.out, order);
    Ok(p.out)
}

/// True for a node that only copies its input.
pub(crate) fn is_copy(graph: &Graph, id: NodeId) -> bool {
    let n = graph.node(id);
    n.op == Op::Cast && graph.ty(n.inputs[0]).dtype == n.ty.dtype
}

/// Which nodes are numbers that the host computes, given which inputs are.
pub(crate) fn host_nodes(graph: &Graph, inputs: &[bool]) -> Vec<bool> {
    let mut host = vec![false; graph.nodes.len()];
    for id in graph.ids() {
        let n = graph.node(id);
        let all = n.ty.axes.is_empty() && n.inputs.iter().all(|x| host[x.0 as usize]);
        host[id.0 as usize] = match &n.op {
            Op::Input(i) => inputs.get(*i as usize).copied().unwrap_or(false),
            Op::Const(_) | Op::Runtime(_) => true,
            Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Expand => all,
            Op::Cast => all && !is_copy(graph, id),
            Op::Pos
            | Op::Random(..)
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
            | Op::Attention(_)
            | Op::AttentionGrad { .. }
            | Op::Scan(_)
            | Op::Part(_)
            | Op::Stop
            | Op::Collective(_) => false,
        };
    }
    host
}

/// The axes of the independent problems of an attention: the rows that keys or values have.
pub(crate) fn problem_axes(rows: &[Axis], k: &Type, v: &Type) -> Vec<Axis> {
    let has = |a: &&Axis| k.find(&a.name).is_some() || v.find(&a.name).is_some();
    rows.iter().filter(has).cloned().collect()
}

/// Which nodes an output needs.
pub(crate) fn live(graph: &Graph) -> Vec<bool> {
    let mut live = vec![false; graph.nodes.len()];
    for o in &graph.outputs {
        live[o.node.0 as usize] = true;
    }
    for id in graph.ids().rev() {
        if live[id.0 as usize] {
            for x in &graph.node(id).inputs {
                live[x.0 as usize] = true;
            }
        }
    }
    live
}

/// How often a node is read, outputs included.
pub(crate) fn uses(graph: &Graph, live: &[bool]) -> Vec<usize> {
    let mut uses = vec![0; graph.nodes.len()];
    for id in graph.ids().filter(|i| live[i.0 as usize]) {
        for x in &graph.node(id).inputs {
            uses[x.0 as usize] += 1;
        }
    }
    for o in &graph.outputs {
        uses[o.node.0 as usize] += 1;
    }
    uses
}

struct Prepare<'a> {
    from: &'a Graph,
    out: Graph,
    made: BTreeMap<(Op, Vec<NodeId>, Type), NodeId>,
    // Old node to new node.
    to: Vec<NodeId>,
    host: Vec<bool>,
    // Replacements of results of multi-result nodes, by the new node and the result.
    parts: BTreeMap<(NodeId, u32), NodeId>,
    at: NodeId,
    order: &'a Order,
}

impl Prepare<'_> {
    fn raw(&mut self, op: Op, inputs: Vec<NodeId>, ty: Type) -> NodeId {
        let key = (op, inputs, ty);
        if let Some(id) = self.made.get(&key) {
            return *id;
        }
        let id = self.fresh(key.0.clone(), key.1.clone(), key.2.clone());
        self.made.insert(key, id);
        id
    }

    // A node that is never shared.
    fn fresh(&mut self, op: Op, inputs: Vec<NodeId>, ty: Type) -> NodeId {
        let blame = self.from.node(self.at);
        let (span, path) = (blame.span, blame.path.clone());
        self.out.push(Node { op, inputs, ty, span, path })
    }

    fn copy(&mut self, x: NodeId) -> NodeId {
        let ty = self.out.ty(x).clone();
        self.fresh(Op::Cast, vec![x], ty)
    }

    fn cast(&mut self, x: NodeId, dtype: DType) -> NodeId {
        let ty = self.out.ty(x).clone();
        if ty.dtype == dtype {
            return x;
        }
        self.raw(Op::Cast, vec![x], Type::new(dtype, ty.axes))
    }

    fn constant(&mut self, value: f64, dtype: DType) -> NodeId {
        self.raw(Op::Const(Literal::new(value)), vec![], Type::scalar(dtype))
    }

    fn node(&mut self, id: NodeId) -> Result<NodeId, Bug> {
        let n = self.from.node(id).clone();
        let inputs: Vec<NodeId> = n.inputs.iter().map(|x| self.to[x.0 as usize]).collect();
        Ok(match &n.op {
            Op::Stop | Op::Collective(_) => inputs[0],
            Op::Part(i) => match self.parts.get(&(inputs[0], *i)) {
                Some(x) => *x,
                None => self.raw(n.op, inputs, n.ty),
            },
            Op::LogSumExp { axes } => self.log_sum_exp(inputs[0], axes, &n.ty),
            Op::Contract { over } => self.contract(&inputs, over, n.ty),
            Op::Update { axis } if !self.is_host(inputs[2]) => self.update(&inputs, axis, n.ty),
            Op::AttentionGrad { of, wants } => {
                let (of, wants) = (of.clone(), wants.clone());
                let lacking = {
                    let ty = |i: usize| self.out.ty(inputs[i]);
                    let problems = problem_axes(&of.rows(ty(0), ty(1)), ty(1), ty(2));
                    let lack = |i: usize| -> Vec<Axis> {
                        let has = |a: &&Axis| a.size > 1 && ty(i).find(&a.name).is_none();
                        problems.iter().filter(has).cloned().collect()
                    };
                    [lack(0), lack(1), lack(2)]
                };
                self.attention_grad(Op::AttentionGrad { of, wants }, inputs, &lacking, n.ty)
            }
            Op::Scan(scan) => self.scan(scan, &inputs, n.ty)?,
            Op::ScatterAdd { axis } if self.is_one_hot(inputs[1], axis, &n.ty) => {
                self.one_hot(&inputs, axis, n.ty)
            }
            // Only another order of axes, which is the better one to store them in: somebody asked for it.
            Op::Expand if self.out.ty(inputs[0]).axes.len() == n.ty.axes.len() => {
                if !matches!(self.out.node(inputs[0]).op, Op::Input(_)) {
                    self.out.nodes[inputs[0].0 as usize].ty.axes = n.ty.axes;
                }
                inputs[0]
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
            | Op::CumSum { .. }
            | Op::TopK { .. }
            | Op::ArgSort { .. }
            | Op::Attention(_) => self.raw(n.op, inputs, n.ty),
        })
    }

    fn is_host(&self, x: NodeId) -> bool {
        host_nodes(&self.out, &self.host)[x.0 as usize]
    }

    // log Σ exp(x) = z + log Σ exp(x - z), z = max x where that is finite, else 0.
    fn log_sum_exp(&mut self, x: NodeId, axes: &[Name], ty: &Type) -> NodeId {
        let x = self.cast(x, DType::F32);
        let full = self.out.ty(x).clone();
        let reduce = |op| Op::Reduce { op, axes: axes.to_vec() };
        let m = self.raw(reduce(ReduceOp::Max), vec![x], ty.clone());
        let bool_ty = Type::new(DType::Bool, ty.axes.clone());
        let finite = self.raw(Op::Unary(UnOp::IsFinite), vec![m], bool_ty);
        let zero = self.constant(0.0, DType::F32);
        let z = self.raw(Op::Select, vec![finite, m, zero], ty.clone());
        let shifted = self.raw(Op::Binary(BinOp::Sub), vec![x, z], full.clone());
        let e = self.raw(Op::Unary(UnOp::Exp), vec![shifted], full);
        let sum = self.raw(reduce(ReduceOp::Sum), vec![e], ty.clone());
        let log = self.raw(Op::Unary(UnOp::Log), vec![sum], ty.clone());
        self.raw(Op::Binary(BinOp::Add), vec![log, z], ty.clone())
    }

    // Without rows and columns of its own, a contraction is Σ (a * b).
    fn contract(&mut self, inputs: &[NodeId], over: &[Name], ty: Type) -> NodeId {
        let (a, b) = (self.out.ty(inputs[0]).clone(), self.out.ty(inputs[1]).clone());
        let only = |x: &Type, y: &Type| -> usize {
            x.axes.iter().filter(|i| y.find(&i.name).is_none()).map(|i| i.size).product()
        };
        let k: usize = over.iter().filter_map(|n| a.size(n)).product();
        if k > 1 && (only(&a, &b) > 1 || only(&b, &a) > 1) {
            return self.raw(Op::Contract { over: over.to_vec() }, inputs.to_vec(), ty);
        }
        let (big, small) = if b.axes.len() > a.axes.len() { (&b, &a) } else { (&a, &b) };
        let mut axes = big.axes.clone();
        axes.extend(small.axes.iter().filter(|x| big.find(&x.name).is_none()).cloned());
        let product =
            self.raw(Op::Binary(BinOp::Mul), inputs.to_vec(), Type::new(DType::F32, axes));
        let mut sum = product;
        if !over.is_empty() {
            let f32_ty = Type::new(DType::F32, ty.axes.clone());
            let op = Op::Reduce { op: ReduceOp::Sum, axes: over.to_vec() };
            sum = self.raw(op, vec![product], f32_ty);
        }
        self.cast(sum, ty.dtype)
    }

    // dst where pos - start is outside of src, else src there.
    fn update(&mut self, inputs: &[NodeId], axis: &Name, ty: Type) -> NodeId {
        let (dst, src, start) = (inputs[0], inputs[1], inputs[2]);
        let at = ty
            .find(axis)
            .map(|i| ty.axes[i].clone())
            .unwrap_or(Axis { name: axis.clone(), size: 1 });
        let n = self.out.ty(src).size(axis).unwrap_or(1);
        let line = |dtype| Type::new(dtype, vec![at.clone()]);
        let pos = self.raw(Op::Pos, vec![], line(DType::I32));
        let index = self.raw(Op::Binary(BinOp::Sub), vec![pos, start], line(DType::I32));
        let (zero, end) = (self.constant(0.0, DType::I32), self.constant(n as f64, DType::I32));
        let above = self.raw(Op::Binary(BinOp::Le), vec![zero, index], line(DType::Bool));
        let below = self.raw(Op::Binary(BinOp::Lt), vec![index, end], line(DType::Bool));
        let inside = self.raw(Op::Binary(BinOp::And), vec![above, below], line(DType::Bool));
        let mut axes = vec![at.clone()];
        axes.extend(self.out.ty(src).axes.iter().filter(|a| a.name != *axis).cloned());
        let op = Op::Gather { axis: axis.clone() };
        let read = self.raw(op, vec![src, index], Type::new(ty.dtype, axes));
        self.raw(Op::Select, vec![inside, read, dst], ty)
    }

    // Whether a scatter sums nothing: every axis of the index is an axis of the result.
    fn is_one_hot(&self, index: NodeId, axis: &Name, ty: &Type) -> bool {
        let index = self.out.ty(index);
        index.axes.iter().all(|a| a.name != *axis && ty.find(&a.name).is_some())
    }

    // y where the coordinate is the index, else 0.
    fn one_hot(&mut self, inputs: &[NodeId], axis: &Name, ty: Type) -> NodeId {
        let (y, index) = (inputs[0], inputs[1]);
        let at = Axis { name: axis.clone(), size: ty.size(axis).unwrap_or(1) };
        let pos = self.raw(Op::Pos, vec![], Type::new(DType::I32, vec![at.clone()]));
        let mut axes = self.out.ty(index).axes.clone();
        axes.push(at);
        let equal = Op::Binary(BinOp::Eq);
        let here = self.raw(equal, vec![index, pos], Type::new(DType::Bool, axes));
        let zero = self.constant(0.0, ty.dtype);
        self.raw(Op::Select, vec![here, y, zero], ty)
    }

    // Operands are given the axes that they lack; the gradients are summed over them.
    fn attention_grad(
        &mut self,
        op: Op,
        mut inputs: Vec<NodeId>,
        lacking: &[Vec<Axis>; 3],
        ty: Type,
    ) -> NodeId {
        let old: Vec<Type> = (0..3).map(|i| self.out.ty(inputs[i]).clone()).collect();
        for (i, axes) in lacking.iter().enumerate().filter(|(_, axes)| !axes.is_empty()) {
            let mut all = axes.clone();
            all.extend(old[i].axes.iter().cloned());
            inputs[i] = self.raw(Op::Expand, vec![inputs[i]], Type::new(old[i].dtype, all));
        }
        let ty = if lacking[0].is_empty() { ty } else { self.out.ty(inputs[0]).clone() };
        let node = self.raw(op, inputs.clone(), ty);
        for (i, axes) in lacking.iter().enumerate().filter(|(_, axes)| !axes.is_empty()) {
            let full = self.out.ty(inputs[i]).clone();
            let part = self.raw(Op::Part(i as u32), vec![node], full);
            let names = axes.iter().map(|a| a.name.clone()).collect();
            let sum = Op::Reduce { op: ReduceOp::Sum, axes: names };
            let sum = self.raw(sum, vec![part], Type::new(DType::F32, old[i].axes.clone()));
            let sum = self.cast(sum, old[i].dtype);
            self.parts.insert((node, i as u32), sum);
        }
        node
    }

    fn scan(&mut self, scan: &Scan, inputs: &[NodeId], ty: Type) -> Result<NodeId, Bug> {
        let host = host_nodes(&self.out, &self.host);
        let first_captured = scan.carries + scan.scanned;
        let inner: Vec<bool> = inputs
            .iter()
            .enumerate()
            .map(|(i, x)| i >= first_captured && host[x.0 as usize])
            .collect();
        let body = prepare(&scan.body, &inner, self.order)?;
        let mut inputs = inputs.to_vec();
        for start in &mut inputs[..scan.carries] {
            *start = self.copy(*start);
        }
        let scan = Scan { body, ..scan.clone() };
        Ok(self.raw(Op::Scan(Box::new(scan)), inputs, ty))
    }

    fn outputs(&mut self) {
        let host = host_nodes(&self.out, &self.host);
        let mut taken: Vec<NodeId> = Vec::new();
        for o in self.from.outputs.clone() {
            self.at = o.node;
            let mut node = self.to[o.node.0 as usize];
            if taken.contains(&node) || !owns_its_place(&self.out, node, &host) {
                node = self.copy(node);
            }
            taken.push(node);
            self.out.outputs.push(OutputDecl { node, ..o });
        }
    }
}

// Whether the node's value can be computed straight into a given memory.
fn owns_its_place(graph: &Graph, id: NodeId, host: &[bool]) -> bool {
    // Nodes made after `host` was computed are never host scalars.
    if host.get(id.0 as usize).copied().unwrap_or(false) {
        return false;
    }
    let n = graph.node(id);
    match &n.op {
        Op::Const(_) | Op::Pos | Op::Input(_) | Op::Runtime(_) => false,
        Op::Expand | Op::Rename(_) | Op::Split { .. } | Op::Merge { .. } => false,
        Op::Attention(_) | Op::AttentionGrad { .. } | Op::Scan(_) => false,
        Op::Stop | Op::Collective(_) => false,
        Op::Part(i) => match &graph.node(n.inputs[0]).op {
            Op::Scan(s) => *i as usize >= s.carries,
            _attention => true,
        },
        Op::Random(..)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Cast
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
        | Op::ArgSort { .. } => true,
    }
}
