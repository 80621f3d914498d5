//! Loops shrink: what does not change leaves the body, what is not needed leaves the loop.
//!
//! Takes a pruned graph whose bodies are simple, gives one of equal meaning. For each loop, in this order:
//!
//! - *one-iteration*: a loop of one iteration is its body;
//! - *unchanged-carry*: a carry that the body hands on as it is was never a carry, but a captured value;
//! - *known-capture*: a captured number is a number of the body, a slice of a value that is the same in all iterations is captured;
//! - *dead-in-loop*: carries and stacked values that nobody reads go, then inputs that nobody reads;
//! - *same-input*: a value that enters twice enters once;
//! - *hoist*: what depends on no iteration is computed once, before the loop, if that is worth a tensor: it must hold
//!   something dearer than arithmetic (a product, a sum, an exponential, a rounding of weights), and be no larger than
//!   the largest value that the loop has anyway, so that a mask of positions stays an expression.

use std::collections::BTreeMap;

use super::super::build::Builder;
use super::super::verify::{has_parts, part};
use super::super::{
    Affine, BinOp, Graph, InputDecl, Literal, Name, Node, NodeId, Op, OutputDecl, Role, Scan, Type,
    UnOp,
};
use crate::graph::rewrite::prune;

type Fired = BTreeMap<&'static str, usize>;

/// Shrinks every loop of a graph; not those inside of bodies, which are graphs of their own.
pub fn shrink(graph: Graph, fired: &mut Fired) -> Graph {
    let graph = prune(graph);
    let used = used_parts(&graph);
    let mut b = Builder::new();
    b.graph.inputs = graph.inputs.clone();
    let mut place: Vec<NodeId> = Vec::new();
    // What each old part of a loop is now.
    let mut parts: BTreeMap<NodeId, Vec<Option<NodeId>>> = BTreeMap::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let inputs: Vec<NodeId> = node.inputs.iter().map(|x| place[x.0 as usize]).collect();
        b.span = node.span;
        b.path = Some(node.path.clone());
        let now = match (&node.op, used.get(&id)) {
            (Op::Scan(scan), Some(used)) => {
                let looped = Loop::new((**scan).clone(), inputs, used);
                parts.insert(id, looped.shrink(&mut b, fired));
                // Never read: all readers are parts.
                NodeId(u32::MAX)
            }
            (Op::Part(i), _) if parts.contains_key(&node.inputs[0]) => {
                parts[&node.inputs[0]][*i as usize].expect("a part that is read was kept")
            }
            (op, _) => b.raw(op.clone(), inputs, node.ty.clone()),
        };
        place.push(now);
    }
    let outputs = graph.outputs.into_iter();
    b.graph.outputs = outputs.map(|o| OutputDecl { node: place[o.node.0 as usize], ..o }).collect();
    b.graph
}

// Per loop, which parts are read. A loop one of whose parts is stored in another order is left alone.
fn used_parts(graph: &Graph) -> BTreeMap<NodeId, Vec<bool>> {
    let mut used = BTreeMap::new();
    for id in graph.ids() {
        if let Op::Scan(scan) = &graph.node(id).op {
            used.insert(id, vec![false; scan.body.outputs.len()]);
        }
    }
    for node in &graph.nodes {
        let Op::Part(i) = node.op else { continue };
        let multi = node.inputs[0];
        if part(graph, graph.node(multi), i as usize).as_ref() != Some(&node.ty) {
            used.remove(&multi);
        }
        if let Some(parts) = used.get_mut(&multi) {
            parts[i as usize] = true;
        }
    }
    used
}

// A loop while it shrinks.
struct Loop {
    scan: Scan,
    // In the new outer graph.
    inputs: Vec<NodeId>,
    // Per result of the body: which old part it is, and whether that is read.
    results: Vec<(usize, bool)>,
    // Old parts that are known without the loop.
    known: Vec<Option<NodeId>>,
}

impl Loop {
    fn new(scan: Scan, inputs: Vec<NodeId>, used: &[bool]) -> Self {
        let results = used.iter().copied().enumerate().collect();
        Self { scan, inputs, results, known: vec![None; used.len()] }
    }

    // Builds what is left; gives each old part's node.
    fn shrink(mut self, b: &mut Builder, fired: &mut Fired) -> Vec<Option<NodeId>> {
        let mut count = |name, times: usize| {
            if times > 0 {
                *fired.entry(name).or_insert(0) += times;
            }
        };
        if let Some(parts) = self.inline(b) {
            count("one-iteration", 1);
            return parts;
        }
        count("unchanged-carry", self.unchanged(b));
        count("known-capture", self.known_captures(b));
        count("dead-in-loop", self.dead());
        count("same-input", self.same_inputs());
        count("hoist", self.hoist(b));
        self.build(b)
    }

    fn build(self, b: &mut Builder) -> Vec<Option<NodeId>> {
        let mut parts = self.known;
        if self.results.is_empty() {
            return parts;
        }
        let types: Vec<Type> = (0..self.results.len())
            .map(|i| {
                let mut ty = self.scan.body.ty(self.scan.body.outputs[i].node).clone();
                if i >= self.scan.carries {
                    ty.axes.insert(0, self.scan.axis.clone());
                }
                ty
            })
            .collect();
        let node = b.raw(Op::Scan(Box::new(self.scan)), self.inputs, types[0].clone());
        for (i, ((old, _), ty)) in self.results.iter().zip(types).enumerate() {
            parts[*old] = Some(b.raw(Op::Part(i as u32), vec![node], ty));
        }
        parts
    }

    fn is_captured(&self, input: usize) -> bool {
        input >= self.scan.carries + self.scan.scanned
    }

    fn is_slice(&self, input: usize) -> bool {
        input >= self.scan.carries && !self.is_captured(input)
    }

    // one-iteration.
    fn inline(&self, b: &mut Builder) -> Option<Vec<Option<NodeId>>> {
        let axis = &self.scan.axis;
        if axis.size != 1 {
            return None;
        }
        let body = &self.scan.body;
        for (i, decl) in body.inputs.iter().enumerate() {
            let mut ty = b.ty(self.inputs[i]).clone();
            if self.is_slice(i) {
                ty.axes.retain(|a| a.name != axis.name);
            }
            if ty != decl.ty {
                return None;
            }
        }
        let given: Vec<NodeId> = (0..body.inputs.len())
            .map(|i| {
                let x = self.inputs[i];
                if !self.is_slice(i) {
                    return x;
                }
                let index = Affine { terms: vec![], offset: 0 };
                let outside = Literal::new(0.0);
                let op = Op::Window { axis: axis.name.clone(), index, outside };
                b.raw(op, vec![x], body.inputs[i].ty.clone())
            })
            .collect();
        let mut copy = Copy::new(body, given);
        let result = |(i, output): (usize, &OutputDecl)| {
            let value = copy.node(b, output.node);
            if i < self.scan.carries {
                return Some(value);
            }
            let mut ty = b.ty(value).clone();
            ty.axes.insert(0, axis.clone());
            Some(b.raw(Op::Expand, vec![value], ty))
        };
        Some(body.outputs.iter().enumerate().map(result).collect())
    }

    // unchanged-carry.
    fn unchanged(&mut self, b: &Builder) -> usize {
        let mut count = 0;
        for i in (0..self.scan.carries).rev() {
            let body = &mut self.scan.body;
            let node = body.outputs[i].node;
            let same = body.node(node).op == Op::Input(i as u32)
                && *b.ty(self.inputs[i]) == *body.ty(node);
            if !same {
                continue;
            }
            count += 1;
            let (old, _) = self.results.remove(i);
            self.known[old] = Some(self.inputs[i]);
            body.outputs.remove(i);
            self.scan.carries -= 1;
            // It becomes the last captured value.
            let input = self.inputs.remove(i);
            self.inputs.push(input);
            let decl = body.inputs.remove(i);
            body.inputs.push(decl);
            let last = body.inputs.len() as u32 - 1;
            renumber(body, |n| match n {
                n if n == i as u32 => last,
                n if n > i as u32 => n - 1,
                n => n,
            });
        }
        count
    }

    // known-capture.
    fn known_captures(&mut self, b: &mut Builder) -> usize {
        let mut count = 0;
        for i in (self.scan.carries..self.inputs.len()).rev() {
            let node = b.graph.node(self.inputs[i]).clone();
            let decl = self.scan.body.inputs[i].ty.clone();
            if self.is_slice(i) && node.op == Op::Expand {
                let inner = node.inputs[0];
                if *b.ty(inner) == decl {
                    // The slices are all the same: a captured value, put behind the others.
                    self.inputs.remove(i);
                    self.inputs.push(inner);
                    self.scan.scanned -= 1;
                    let body = &mut self.scan.body;
                    let moved = body.inputs.remove(i);
                    body.inputs.push(moved);
                    let last = body.inputs.len() as u32 - 1;
                    renumber(body, |n| match n {
                        n if n == i as u32 => last,
                        n if n > i as u32 => n - 1,
                        n => n,
                    });
                    count += 1;
                }
                continue;
            }
            let inner = match node.op {
                Op::Expand => node.inputs[0],
                _ => self.inputs[i],
            };
            let literal = b.graph.node(inner).clone();
            if self.is_captured(i) && matches!(literal.op, Op::Const(_)) {
                count += usize::from(self.becomes_number(i, &literal, &decl));
            }
        }
        count
    }

    // Puts a number where the body reads a captured input.
    fn becomes_number(&mut self, input: usize, literal: &Node, ty: &Type) -> bool {
        let body = &mut self.scan.body;
        let op = Op::Input(input as u32);
        let Some(at) = body.nodes.iter().position(|n| n.op == op) else { return false };
        // The number comes first, and everything moves up by one.
        body.nodes[at].op = Op::Expand;
        if ty.axes.is_empty() {
            body.nodes[at].op = literal.op.clone();
            return true;
        }
        for node in &mut body.nodes {
            node.inputs.iter_mut().for_each(|x| x.0 += 1);
        }
        body.outputs.iter_mut().for_each(|o| o.node.0 += 1);
        body.nodes[at].inputs = vec![NodeId(0)];
        body.nodes.insert(0, literal.clone());
        true
    }

    // dead-in-loop.
    fn dead(&mut self) -> usize {
        let body = &self.scan.body;
        let carries = self.scan.carries;
        let mut wanted: Vec<bool> = self.results.iter().map(|(_, used)| *used).collect();
        let entered = loop {
            let entered = entered(body, &wanted);
            let before = wanted.clone();
            (0..carries).for_each(|i| wanted[i] |= entered[i]);
            if wanted == before {
                break entered;
            }
        };
        let keeps: Vec<bool> = (0..body.inputs.len())
            .map(|i| if i < carries { wanted[i] } else { entered[i] })
            .collect();
        let gone = [&wanted, &keeps].map(|k| k.iter().filter(|k| !**k).count());
        if gone == [0, 0] {
            return 0;
        }
        let mut new = Vec::new();
        let mut next = 0;
        for keep in &keeps {
            new.push(next);
            next += u32::from(*keep);
        }
        let slices = carries..carries + self.scan.scanned;
        self.scan.scanned = slices.filter(|i| keeps[*i]).count();
        self.scan.carries = (0..carries).filter(|i| wanted[*i]).count();
        retain(&mut self.results, &wanted);
        retain(&mut self.inputs, &keeps);
        let body = &mut self.scan.body;
        retain(&mut body.outputs, &wanted);
        let mut pruned = prune(std::mem::take(body));
        retain(&mut pruned.inputs, &keeps);
        renumber(&mut pruned, |n| new[n as usize]);
        *body = pruned;
        gone[0] + gone[1]
    }

    // same-input: the second is renumbered to the first; the next round finds it dead.
    fn same_inputs(&mut self) -> usize {
        let body = &self.scan.body;
        let mut first: Vec<u32> = (0..self.inputs.len() as u32).collect();
        let mut count = 0;
        for i in self.scan.carries..self.inputs.len() {
            let same = |j: &usize| {
                self.inputs[*j] == self.inputs[i]
                    && self.is_slice(*j) == self.is_slice(i)
                    && body.inputs[*j].ty == body.inputs[i].ty
            };
            let Some(j) = (self.scan.carries..i).find(same) else { continue };
            let read = |n: usize| body.nodes.iter().any(|node| node.op == Op::Input(n as u32));
            if read(i) {
                first[i] = j as u32;
                count += 1;
            }
        }
        if count > 0 {
            let mut body = std::mem::take(&mut self.scan.body);
            renumber(&mut body, |n| first[n as usize]);
            // An input has one node: building it anew makes the equal ones one.
            let mut b = Builder::new();
            b.graph.inputs = body.inputs.clone();
            let mut copy = Copy::new(&body, Vec::new());
            let nodes: Vec<NodeId> =
                body.outputs.iter().map(|o| copy.node(&mut b, o.node)).collect();
            b.graph.outputs = body.outputs.clone();
            b.graph.outputs.iter_mut().zip(nodes).for_each(|(o, node)| o.node = node);
            self.scan.body = b.graph;
            self.dead();
        }
        count
    }

    // hoist.
    fn hoist(&mut self, b: &mut Builder) -> usize {
        let chosen = self.invariants(b);
        if chosen.is_empty() {
            return 0;
        }
        let mut body = std::mem::take(&mut self.scan.body);
        let mut given: Vec<NodeId> = self.inputs.clone();
        given.resize(body.inputs.len(), NodeId(u32::MAX));
        let mut copy = Copy::new(&body, given);
        let outer: Vec<NodeId> = chosen.iter().map(|id| copy.node(b, *id)).collect();
        for (id, outer) in chosen.iter().zip(outer) {
            let ty = body.ty(*id).clone();
            let name = unused(&body);
            body.inputs.push(InputDecl { name, ty, role: Role::Local });
            self.inputs.push(outer);
            let node = &mut body.nodes[id.0 as usize];
            node.op = Op::Input(body.inputs.len() as u32 - 1);
            node.inputs.clear();
        }
        self.scan.body = body;
        self.dead();
        chosen.len()
    }

    // The largest nodes of the body that are worth computing before the loop.
    fn invariants(&self, b: &Builder) -> Vec<NodeId> {
        let body = &self.scan.body;
        let room = body.inputs.iter().map(|i| i.ty.len()).max().unwrap_or(0);
        let n = body.nodes.len();
        let (mut fixed, mut dear) = (vec![false; n], vec![false; n]);
        for id in body.ids() {
            let node = body.node(id);
            let i = id.0 as usize;
            let inputs = || node.inputs.iter().map(|x| x.0 as usize);
            fixed[i] = match node.op {
                // What is stored in another order inside would not fit outside.
                Op::Input(n) => {
                    let n = n as usize;
                    self.is_captured(n) && *b.ty(self.inputs[n]) == body.inputs[n].ty
                }
                _ => inputs().all(|x| fixed[x]),
            };
            dear[i] = is_dear(body, node) || inputs().any(|x| dear[x]);
        }
        // `needed`: read by something that stays in the body. `read`: read by something that leaves it.
        let (mut needed, mut read) = (vec![false; n], vec![false; n]);
        body.outputs.iter().for_each(|o| needed[o.node.0 as usize] = true);
        let mut chosen = Vec::new();
        for id in body.ids().rev() {
            let (node, i) = (body.node(id), id.0 as usize);
            if !needed[i] && !read[i] {
                continue;
            }
            let worth = fixed[i] && dear[i] && node.ty.len() <= room;
            let result = worth && !is_view(&node.op) && !has_parts(&node.op);
            if needed[i] && result {
                chosen.push(id);
            }
            let flags = if result || !needed[i] { &mut read } else { &mut needed };
            node.inputs.iter().for_each(|x| flags[x.0 as usize] = true);
        }
        chosen.reverse();
        chosen
    }
}

// Copies nodes of a body, where they are needed, into another graph.
struct Copy<'a> {
    from: &'a Graph,
    // What the inputs are there; none: they are inputs of the same number.
    given: Vec<NodeId>,
    made: BTreeMap<NodeId, NodeId>,
}

impl<'a> Copy<'a> {
    fn new(from: &'a Graph, given: Vec<NodeId>) -> Self {
        Self { from, given, made: BTreeMap::new() }
    }

    fn node(&mut self, b: &mut Builder, id: NodeId) -> NodeId {
        // In order of the body, without recursion: bodies may be long.
        let mut needed = vec![false; id.0 as usize + 1];
        needed[id.0 as usize] = true;
        for i in (0..needed.len()).rev() {
            if needed[i] && !self.made.contains_key(&NodeId(i as u32)) {
                self.from.nodes[i].inputs.iter().for_each(|x| needed[x.0 as usize] = true);
            }
        }
        for (i, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
            let old = NodeId(i as u32);
            if self.made.contains_key(&old) {
                continue;
            }
            let node = self.from.node(old);
            let new = match node.op {
                Op::Input(n) if !self.given.is_empty() => self.given[n as usize],
                _ => {
                    b.span = node.span;
                    b.path = Some(node.path.clone());
                    let inputs = node.inputs.iter().map(|x| self.made[x]).collect();
                    b.raw(node.op.clone(), inputs, node.ty.clone())
                }
            };
            self.made.insert(old, new);
        }
        self.made[&id]
    }
}

fn renumber(body: &mut Graph, new: impl Fn(u32) -> u32) {
    for node in &mut body.nodes {
        if let Op::Input(n) = &mut node.op {
            *n = new(*n);
        }
    }
}

fn retain<T>(items: &mut Vec<T>, keep: &[bool]) {
    let mut keep = keep.iter();
    items.retain(|_| keep.next().copied().unwrap_or(true));
}

// Which inputs the wanted outputs read.
fn entered(body: &Graph, wanted: &[bool]) -> Vec<bool> {
    let mut needed = vec![false; body.nodes.len()];
    let mut entered = vec![false; body.inputs.len()];
    for (output, _) in body.outputs.iter().zip(wanted).filter(|(_, wanted)| **wanted) {
        needed[output.node.0 as usize] = true;
    }
    for (i, node) in body.nodes.iter().enumerate().rev() {
        if !needed[i] {
            continue;
        }
        if let Op::Input(n) = node.op {
            entered[n as usize] = true;
        }
        node.inputs.iter().for_each(|x| needed[x.0 as usize] = true);
    }
    entered
}

fn unused(body: &Graph) -> Name {
    let mut n = body.inputs.len();
    loop {
        let name = Name::from(format!("hoisted.{n}"));
        if body.inputs.iter().all(|i| i.name != name) {
            return name;
        }
        n += 1;
    }
}

fn is_view(op: &Op) -> bool {
    matches!(
        op,
        Op::Const(_)
            | Op::Pos
            | Op::Input(_)
            | Op::Runtime(_)
            | Op::Expand
            | Op::Rename(_)
            | Op::Split { .. }
            | Op::Merge { .. }
            | Op::Stop
    )
}

// True for what costs more than the arithmetic that a fused loop does on the way.
fn is_dear(body: &Graph, node: &Node) -> bool {
    match &node.op {
        Op::Unary(op) => match op {
            UnOp::Exp | UnOp::Log | UnOp::Sin | UnOp::Cos | UnOp::Tanh | UnOp::Erf => true,
            UnOp::Sigmoid => true,
            UnOp::Neg | UnOp::Abs | UnOp::Recip | UnOp::Sqrt | UnOp::Rsqrt => false,
            UnOp::Floor | UnOp::Ceil | UnOp::Round | UnOp::Sign => false,
            UnOp::Not | UnOp::IsFinite => false,
        },
        Op::Binary(op) => *op == BinOp::Pow,
        // Of weights, once instead of once per iteration.
        Op::Cast => {
            let from = body.ty(node.inputs[0]).dtype;
            node.ty.dtype.is_float() && node.ty.dtype.bytes() < from.bytes()
        }
        Op::Random(..)
        | Op::Gather { .. }
        | Op::ScatterAdd { .. }
        | Op::Reduce { .. }
        | Op::LogSumExp { .. }
        | Op::Contract { .. }
        | Op::CumSum { .. }
        | Op::TopK { .. }
        | Op::ArgSort { .. }
        | Op::Attention(_)
        | Op::AttentionGrad { .. }
        | Op::Scan(_) => true,
        Op::Const(_)
        | Op::Pos
        | Op::Input(_)
        | Op::Runtime(_)
        | Op::Select
        | Op::Expand
        | Op::Rename(_)
        | Op::Split { .. }
        | Op::Merge { .. }
        | Op::Window { .. }
        | Op::Concat { .. }
        | Op::Update { .. }
        | Op::Part(_)
        | Op::Stop
        | Op::Collective(_) => false,
    }
}
