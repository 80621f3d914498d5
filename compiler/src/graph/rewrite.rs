//! Simplification: a graph of equal meaning that has less to do.
//!
//! Takes a verified graph, gives a verified graph with the same inputs and outputs. The rules stand in tables
//! ([`rules`](super::rules)), each an equation, a match and a result; this file only applies them.
//!
//! *How.* Nodes are rebuilt in order. A node whose inputs are new is offered to the rules; the first that fits replaces it, and
//! what it builds is offered again. Equal nodes become one as they are built. Then loops shrink and what no output
//! needs goes ([`prune`]). This repeats until nothing changes.
//!
//! *Promises.* Values agree with the interpreter's up to the last bits of f64: no rule moves a rounding, drops a NaN that
//! the program could see, or looks at data. Types stay, storage order included, so that any rule may fire under any reader. A
//! rule never makes work: it removes a node, shortens one, or brings it into the order that other rules expect. Each
//! rule moves its node strictly down in (elements computed, nodes, operands out of order, depth of a view), so
//! rewriting ends; a limit on rounds guards against our mistakes in that argument.

use std::collections::BTreeMap;

use super::build::Builder;
use super::rules::{RULES, scans};
use super::verify::{binary_dtype, unary_dtype};
use super::{Axis, BinOp, DType, Graph, Literal, Name, NodeId, Op, OutputDecl, Type, UnOp};

/// A simpler graph of the same meaning.
pub fn simplify(graph: Graph) -> Graph {
    simplify_counted(graph).0
}

/// As [`simplify`], with how often each rule fired.
pub fn simplify_counted(graph: Graph) -> (Graph, BTreeMap<&'static str, usize>) {
    let mut fired = BTreeMap::new();
    let graph = rounds(graph, &mut fired);
    (graph, fired)
}

/// The nodes that the outputs need, in the same order. Inputs stay declared.
pub fn prune(graph: Graph) -> Graph {
    let mut needed = vec![false; graph.nodes.len()];
    for output in &graph.outputs {
        needed[output.node.0 as usize] = true;
    }
    for i in (0..graph.nodes.len()).rev() {
        if needed[i] {
            graph.nodes[i].inputs.iter().for_each(|x| needed[x.0 as usize] = true);
        }
    }
    let mut place = Vec::with_capacity(needed.len());
    let mut nodes = Vec::new();
    for (mut node, needed) in graph.nodes.into_iter().zip(needed) {
        place.push(NodeId(nodes.len() as u32));
        if needed {
            node.inputs.iter_mut().for_each(|x| *x = place[x.0 as usize]);
            nodes.push(node);
        }
    }
    let outputs = graph.outputs.into_iter();
    let outputs = outputs.map(|o| OutputDecl { node: place[o.node.0 as usize], ..o }).collect();
    Graph { nodes, inputs: graph.inputs, outputs }
}

/// A rule: what it says, and how to apply it.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Its name in counts and tests.
    pub name: &'static str,
    /// What equals what.
    pub equation: &'static str,
    /// The simpler node, if the rule fits.
    pub apply: fn(&mut Rewriter, &Seen<'_>) -> Option<NodeId>,
}

/// A node that is about to be built, with inputs that are simple already.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// What it would compute.
    pub op: &'a Op,
    /// From what.
    pub inputs: &'a [NodeId],
    /// What it has to be.
    pub ty: &'a Type,
}

/// Builds the simpler graph.
#[derive(Debug)]
pub struct Rewriter {
    /// What has been built.
    pub b: Builder,
    uses: BTreeMap<NodeId, usize>,
    fired: BTreeMap<&'static str, usize>,
}

const MOST_ROUNDS: usize = 16;

fn rounds(mut graph: Graph, fired: &mut BTreeMap<&'static str, usize>) -> Graph {
    for _ in 0..MOST_ROUNDS {
        let before = graph.clone();
        let bodies = bodies(graph, fired);
        graph = round(prune(scans::shrink(bodies, fired)), fired);
        if graph == before {
            break;
        }
    }
    graph
}

// Simplifies what is inside of loops.
fn bodies(mut graph: Graph, fired: &mut BTreeMap<&'static str, usize>) -> Graph {
    for node in &mut graph.nodes {
        if let Op::Scan(scan) = &mut node.op {
            let body = std::mem::take(&mut scan.body);
            scan.body = rounds(body, fired);
        }
    }
    graph
}

fn round(graph: Graph, fired: &mut BTreeMap<&'static str, usize>) -> Graph {
    let mut uses = vec![0; graph.nodes.len()];
    let read = graph.nodes.iter().flat_map(|n| &n.inputs);
    let read = read.chain(graph.outputs.iter().map(|o| &o.node));
    read.for_each(|x| uses[x.0 as usize] += 1);
    let mut b = Builder::new();
    b.graph.inputs = graph.inputs;
    let mut r = Rewriter { b, uses: BTreeMap::new(), fired: std::mem::take(fired) };
    let mut place: Vec<NodeId> = Vec::with_capacity(graph.nodes.len());
    for (i, node) in graph.nodes.into_iter().enumerate() {
        let inputs: Vec<NodeId> = node.inputs.iter().map(|x| place[x.0 as usize]).collect();
        r.b.span = node.span;
        r.b.path = Some(node.path);
        let new = r.make(node.op, inputs, node.ty);
        *r.uses.entry(new).or_insert(0) += uses[i];
        place.push(new);
    }
    let outputs = graph.outputs.into_iter();
    r.b.graph.outputs =
        outputs.map(|o| OutputDecl { node: place[o.node.0 as usize], ..o }).collect();
    *fired = r.fired;
    prune(r.b.graph)
}

impl Rewriter {
    /// The node, or a simpler one of the same type.
    pub fn make(&mut self, op: Op, inputs: Vec<NodeId>, ty: Type) -> NodeId {
        for rule in RULES.iter().flat_map(|table| table.iter()) {
            let seen = Seen { op: &op, inputs: &inputs, ty: &ty };
            if let Some(new) = (rule.apply)(self, &seen) {
                debug_assert_eq!(*self.ty(new), ty, "{} keeps the type", rule.name);
                *self.fired.entry(rule.name).or_insert(0) += 1;
                return new;
            }
        }
        self.b.raw(op, inputs, ty)
    }

    /// The type of a node.
    pub fn ty(&self, id: NodeId) -> &Type {
        self.b.ty(id)
    }

    /// What a node computes, and from what.
    pub fn at(&self, id: NodeId) -> (&Op, &[NodeId]) {
        let node = self.b.graph.node(id);
        (&node.op, &node.inputs)
    }

    /// `x` as a value of exactly that type: expanded if it lacks axes, widened if that is exact. `None` if its dtype or storage
    /// order cannot be had that way.
    pub fn fit(&mut self, x: NodeId, ty: &Type) -> Option<NodeId> {
        let x = self.widen(x, ty.dtype)?;
        let axes = self.ty(x).axes.clone();
        if axes == ty.axes {
            return Some(x);
        }
        let lacks = axes.len() < ty.axes.len() && axes.iter().all(|a| ty.axes.contains(a));
        lacks.then(|| self.make(Op::Expand, vec![x], ty.clone()))
    }

    /// `x` in a dtype that holds every value of its own.
    pub fn widen(&mut self, x: NodeId, dtype: DType) -> Option<NodeId> {
        let ty = self.ty(x).clone();
        if ty.dtype == dtype {
            return Some(x);
        }
        widens(ty.dtype, dtype).then(|| self.make(Op::Cast, vec![x], Type::new(dtype, ty.axes)))
    }

    /// A number of that dtype, the same at every coordinate.
    pub fn number(&mut self, value: f64, ty: &Type) -> NodeId {
        let scalar = self.b.raw(Op::Const(Literal::new(value)), vec![], Type::scalar(ty.dtype));
        if ty.axes.is_empty() {
            return scalar;
        }
        self.make(Op::Expand, vec![scalar], ty.clone())
    }

    /// The number that a node is everywhere.
    pub fn as_number(&self, id: NodeId) -> Option<f64> {
        match self.at(id) {
            (Op::Const(literal), _) => Some(literal.get()),
            (Op::Expand, inputs) => self.as_number(inputs[0]),
            _ => None,
        }
    }

    /// True if at most one node reads it, as far as is known.
    pub fn is_used_once(&self, id: NodeId) -> bool {
        self.uses.get(&id).is_none_or(|n| *n <= 1)
    }

    /// `op(x)`.
    pub fn unary(&mut self, op: UnOp, x: NodeId) -> NodeId {
        let ty = self.ty(x);
        let ty = Type::new(unary_dtype(op, ty.dtype), ty.axes.clone());
        self.make(Op::Unary(op), vec![x], ty)
    }

    /// `op(a, b)` in the storage order of `order`, which has all axes of both.
    pub fn binary(&mut self, op: BinOp, a: NodeId, b: NodeId, order: &[Axis]) -> NodeId {
        let has = |x: NodeId, axis: &Axis| self.ty(x).find(&axis.name).is_some();
        let axes = order.iter().filter(|axis| has(a, axis) || has(b, axis)).cloned().collect();
        let dtype = binary_dtype(op, self.ty(a).dtype, self.ty(b).dtype);
        self.make(Op::Binary(op), vec![a, b], Type::new(dtype, axes))
    }
}

/// True if every value of the first type is one of the second, and arithmetic sees the same number.
pub fn widens(from: DType, to: DType) -> bool {
    match (from, to) {
        (DType::Bf16 | DType::F16 | DType::Bool, DType::F32) => true,
        (DType::Bool, DType::I32) => true,
        (DType::Bool, DType::Bf16 | DType::F16) => true,
        (DType::F32, _) | (DType::I32, _) => false,
        (DType::Bf16 | DType::F16, _) => false,
        (DType::Bool, DType::Bool) => false,
    }
}

/// Axes of a type without some.
pub fn without(ty: &Type, names: &[Name]) -> Vec<Axis> {
    ty.axes.iter().filter(|a| !names.contains(&a.name)).cloned().collect()
}

#[cfg(test)]
mod tests;
