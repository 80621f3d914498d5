//! Large values that are soon reduced again are computed in blocks, so that they are never stored whole.
//!
//! Takes a simple graph, gives one of equal meaning. A product of rows with a table (logits: `[batch, seq, vocab]`) whose values are only
//! reduced, picked from or multiplied away again, forward and backward, becomes a loop over one axis of the rows (`batch`): each turn has
//! the logits of its rows alone, gives their loss and their gradient, and adds its share to the gradient of the table. Nothing is computed twice (as
//! in the chunked cross-entropy of Hsu et al. 2024, "Liger Kernel", section 3.2).
//!
//! *What is blocked.* Let R be an axis of the rows and V that of the table. All nodes with both axes, those on paths between them, and the readers of
//! nodes with both axes go into the body of the loop. Each must either have R and treat its coordinates apart from each other, or sum over R and
//! be read outside alone; and no node with both axes may be read outside. Else the graph stays as it is.
//!
//! *When.* Only where the product takes more than a limit: what fits into a cache is quicker whole.

use super::build::Builder;
use super::{
    Axis, BinOp, DType, Graph, Name, Node, NodeId, Op, OutputDecl, ReduceOp, Role, Scan, ScanKind,
    Type,
};

/// The graph with products of more than `limit` bytes of f32 in blocks; see [`Target`](crate::plan::Target).
pub fn in_blocks(graph: Graph, limit: usize) -> Graph {
    let mut graph = graph;
    for node in &mut graph.nodes {
        if let Op::Scan(scan) = &mut node.op
            && scan.kind == ScanKind::Micro
        {
            let body = std::mem::take(&mut scan.body);
            scan.body = in_blocks(body, limit);
        }
    }
    // A graph that was changed has one large product less.
    while let Some(changed) = candidates(&graph, limit)
        .into_iter()
        .find_map(|(row, col)| Region::find(&graph, &row, &col).map(|r| r.looped()))
    {
        graph = changed;
    }
    graph
}

/// Pairs of a row axis and a table axis of products that are too large.
fn candidates(graph: &Graph, limit: usize) -> Vec<(Axis, Name)> {
    let mut found: Vec<(Axis, Name)> = Vec::new();
    for node in &graph.nodes {
        if !matches!(node.op, Op::Contract { .. }) || node.ty.len() * 4 <= limit {
            continue;
        }
        let [a, b] = [0, 1].map(|i| graph.ty(node.inputs[i]));
        for (rows, table) in [(a, b), (b, a)] {
            let only = |x: &&Axis, not: &Type| not.find(&x.name).is_none();
            let cols: Vec<&Axis> = node.ty.axes.iter().filter(|x| only(x, rows)).collect();
            let Some(col) = cols.into_iter().max_by_key(|x| x.size) else { continue };
            let mut rows: Vec<&Axis> =
                node.ty.axes.iter().filter(|x| only(x, table) && x.size > 1).collect();
            // The fewest blocks that fit; else the most.
            let fits = |x: &Axis| node.ty.len() / x.size * 4 <= limit;
            rows.sort_by_key(|x| if fits(x) { (0, x.size) } else { (1, usize::MAX - x.size) });
            for row in rows {
                let pair = (row.clone(), col.name.clone());
                if !found.contains(&pair) {
                    found.push(pair);
                }
            }
        }
    }
    found
}

/// How a node stands to the loop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Not in it.
    Outside,
    /// Its value has the axis; each turn makes its slice.
    Slice,
    /// It sums over the axis; each turn adds its share.
    Sum,
}

/// What goes into a loop over an axis.
struct Region<'a> {
    graph: &'a Graph,
    row: Axis,
    parts: Vec<Part>,
}

impl<'a> Region<'a> {
    fn find(graph: &'a Graph, row: &Axis, col: &Name) -> Option<Self> {
        let count = graph.nodes.len();
        let large: Vec<bool> = graph
            .nodes
            .iter()
            .map(|n| n.ty.find(&row.name).is_some() && n.ty.find(col).is_some())
            .collect();
        let (mut after, mut before) = (large.clone(), large.clone());
        for i in 0..count {
            after[i] |= graph.nodes[i].inputs.iter().any(|x| after[x.0 as usize]);
        }
        for i in (0..count).rev() {
            if before[i] {
                graph.nodes[i].inputs.iter().for_each(|x| before[x.0 as usize] = true);
            }
        }
        let mut parts = vec![Part::Outside; count];
        for (i, node) in graph.nodes.iter().enumerate() {
            let reads_large = node.inputs.iter().any(|x| large[x.0 as usize]);
            if (after[i] && before[i]) || reads_large {
                parts[i] = part(graph, node, &row.name)?;
            }
        }
        let inside = |x: &NodeId| parts[x.0 as usize] != Part::Outside;
        for (node, part) in graph.nodes.iter().zip(&parts) {
            let sums = node.inputs.iter().any(|x| parts[x.0 as usize] == Part::Sum);
            let whole = node.inputs.iter().any(|x| large[x.0 as usize] && inside(x));
            match part {
                Part::Outside if whole => return None,
                Part::Slice | Part::Sum if sums => return None,
                Part::Outside | Part::Slice | Part::Sum => {}
            }
        }
        let goes_out = graph.outputs.iter().any(|o| large[o.node.0 as usize]);
        (!goes_out).then(|| Self { graph, row: row.clone(), parts })
    }

    fn is_inside(&self, x: NodeId) -> bool {
        self.parts[x.0 as usize] != Part::Outside
    }

    /// Nodes of the loop that others read.
    fn results(&self) -> Vec<NodeId> {
        let mut read = vec![false; self.parts.len()];
        for id in self.graph.ids().filter(|id| !self.is_inside(*id)) {
            self.graph.node(id).inputs.iter().for_each(|x| read[x.0 as usize] = true);
        }
        self.graph.outputs.iter().for_each(|o| read[o.node.0 as usize] = true);
        self.graph.ids().filter(|id| self.is_inside(*id) && read[id.0 as usize]).collect()
    }

    /// What the loop reads: values with the axis first, then others. Numbers and coordinates are made anew inside.
    fn reads(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let (mut sliced, mut whole) = (Vec::new(), Vec::new());
        for id in self.graph.ids().filter(|id| self.is_inside(*id)) {
            for x in &self.graph.node(id).inputs {
                let outer = self.graph.node(*x);
                let list =
                    if outer.ty.find(&self.row.name).is_some() { &mut sliced } else { &mut whole };
                if !self.is_inside(*x) && !is_made_anew(outer) && !list.contains(x) {
                    list.push(*x);
                }
            }
        }
        (sliced, whole)
    }

    fn without_row(&self, ty: &Type) -> Type {
        let axes = ty.axes.iter().filter(|a| a.name != self.row.name).cloned().collect();
        Type::new(ty.dtype, axes)
    }

    fn body(
        &self,
        sums: &[NodeId],
        stacked: &[NodeId],
        sliced: &[NodeId],
        whole: &[NodeId],
    ) -> Graph {
        let mut b = Builder::new();
        let mut place: Vec<Option<NodeId>> = vec![None; self.parts.len()];
        let mut carries = Vec::new();
        for (i, id) in sums.iter().enumerate() {
            let ty = Type::new(DType::F32, self.graph.ty(*id).axes.clone());
            carries.push(b.input(format!("sum{i}"), ty, Role::Local));
        }
        for (i, id) in sliced.iter().chain(whole).enumerate() {
            let ty = self.without_row(self.graph.ty(*id));
            place[id.0 as usize] = Some(b.input(format!("x{i}"), ty, Role::Local));
        }
        for id in self.graph.ids().filter(|id| self.is_inside(*id)) {
            let node = self.graph.node(id);
            b.span = node.span;
            b.path = Some(node.path.clone());
            let mut inputs = Vec::new();
            for x in &node.inputs {
                let outer = self.graph.node(*x);
                let here = place[x.0 as usize]
                    .unwrap_or_else(|| b.raw(outer.op.clone(), Vec::new(), outer.ty.clone()));
                place[x.0 as usize] = Some(here);
                inputs.push(here);
            }
            let mut ty = self.without_row(&node.ty);
            if self.parts[id.0 as usize] == Part::Sum {
                // Shares are added in f32; the sum is rounded where the node was.
                ty.dtype = DType::F32;
            }
            let made = match op_of_slice(&node.op, &self.row.name) {
                Some(op) => b.raw(op, inputs, ty),
                None => b.cast(inputs[0], ty.dtype),
            };
            place[id.0 as usize] = Some(made);
        }
        let at = |id: &NodeId| place[id.0 as usize].unwrap_or(NodeId(0));
        for (i, (id, carry)) in sums.iter().zip(carries).enumerate() {
            let ty = b.ty(carry).clone();
            let next = b.raw(Op::Binary(BinOp::Add), vec![carry, at(id)], ty);
            b.output(format!("sum{i}"), next, None);
        }
        for (i, id) in stacked.iter().enumerate() {
            b.output(format!("y{i}"), at(id), None);
        }
        b.graph
    }

    /// The graph with the loop in place of the region.
    fn looped(&self) -> Graph {
        let results = self.results();
        let of = |part: Part| -> Vec<NodeId> {
            results.iter().copied().filter(|x| self.parts[x.0 as usize] == part).collect()
        };
        let (sums, stacked) = (of(Part::Sum), of(Part::Slice));
        let (sliced, whole) = self.reads();
        let body = self.body(&sums, &stacked, &sliced, &whole);

        let mut b = Builder::new();
        b.graph.inputs = self.graph.inputs.clone();
        let mut place: Vec<Option<NodeId>> = vec![None; self.parts.len()];
        let mut done = false;
        let known = |place: &[Option<NodeId>], xs: &[NodeId]| -> Option<Vec<NodeId>> {
            xs.iter().map(|x| place[x.0 as usize]).collect()
        };
        // What waits for the loop comes after it, so nodes are gone through until all have their place: twice, as a rule.
        loop {
            let mut moved = false;
            for id in self.graph.ids() {
                if self.is_inside(id) || place[id.0 as usize].is_some() {
                    continue;
                }
                let node = self.graph.node(id);
                if let Some(inputs) = known(&place, &node.inputs) {
                    b.span = node.span;
                    b.path = Some(node.path.clone());
                    place[id.0 as usize] = Some(b.raw(node.op.clone(), inputs, node.ty.clone()));
                    moved = true;
                }
            }
            if !done
                && let Some(x) = known(&place, &sliced)
                && let Some(captured) = known(&place, &whole)
            {
                self.close(&mut b, &mut place, &body, (&sums, &stacked), (x, captured));
                done = true;
                moved = true;
            }
            if !moved {
                break;
            }
        }
        let outputs = self.graph.outputs.iter();
        b.graph.outputs = outputs
            .map(|o| OutputDecl { node: place[o.node.0 as usize].unwrap_or(o.node), ..o.clone() })
            .collect();
        b.graph
    }

    /// Puts the loop into the graph.
    fn close(
        &self,
        b: &mut Builder,
        place: &mut [Option<NodeId>],
        body: &Graph,
        (sums, stacked): (&[NodeId], &[NodeId]),
        (sliced, whole): (Vec<NodeId>, Vec<NodeId>),
    ) {
        let first = sums.first().or(stacked.first()).copied().unwrap_or(NodeId(0));
        b.span = self.graph.node(first).span;
        b.path = Some(self.graph.node(first).path.clone());
        let mut inputs = Vec::new();
        for id in sums {
            let zero = b.constant(0.0);
            let ty = Type::new(DType::F32, self.graph.ty(*id).axes.clone());
            inputs.push(if ty.axes.is_empty() { zero } else { b.raw(Op::Expand, vec![zero], ty) });
        }
        inputs.extend(sliced.iter().chain(&whole));
        let types: Vec<Type> = body
            .outputs
            .iter()
            .enumerate()
            .map(|(i, o)| {
                let mut ty = body.ty(o.node).clone();
                if i >= sums.len() {
                    ty.axes.insert(0, self.row.clone());
                }
                ty
            })
            .collect();
        let scan = Scan {
            axis: self.row.clone(),
            reverse: false,
            carries: sums.len(),
            scanned: sliced.len(),
            body: body.clone(),
            kind: ScanKind::Blocks,
        };
        let node = b.raw(Op::Scan(Box::new(scan)), inputs, types[0].clone());
        for (i, (id, ty)) in sums.iter().chain(stacked).zip(types).enumerate() {
            let part = b.raw(Op::Part(i as u32), vec![node], ty);
            let want = self.graph.ty(*id);
            let part = b.cast(part, want.dtype);
            let same = b.ty(part).axes == want.axes;
            // An expand that adds nothing says the storage order.
            let part = if same { part } else { b.raw(Op::Expand, vec![part], want.clone()) };
            place[id.0 as usize] = Some(part);
        }
    }
}

/// Nodes without inputs that cost nothing.
fn is_made_anew(node: &Node) -> bool {
    matches!(node.op, Op::Const(_) | Op::Pos)
}

/// What a node that reads values with the axis is to a loop over it; `None`: it cannot be in one.
fn part(graph: &Graph, node: &Node, row: &Name) -> Option<Part> {
    let slice = node.ty.find(row).is_some().then_some(Part::Slice);
    let has = |i: usize| node.inputs.get(i).is_some_and(|x| graph.ty(*x).find(row).is_some());
    match &node.op {
        Op::Unary(_) | Op::Binary(_) | Op::Select | Op::Cast | Op::Expand | Op::Stop => slice,
        Op::Rename(names) => slice.filter(|_| names.iter().all(|(a, b)| a != row && b != row)),
        Op::Split { axis, .. } | Op::CumSum { axis, .. } => slice.filter(|_| axis != row),
        Op::TopK { axis, .. } | Op::ArgSort { axis } => slice.filter(|_| axis != row),
        Op::Merge { axes, .. } | Op::LogSumExp { axes } => slice.filter(|_| !axes.contains(row)),
        Op::Window { axis, index, .. } => {
            slice.filter(|_| axis != row && index.terms.iter().all(|(name, _)| name != row))
        }
        Op::Gather { axis } => slice.filter(|_| axis != row),
        Op::ScatterAdd { axis } if axis != row => {
            Some(if node.ty.find(row).is_some() { Part::Slice } else { Part::Sum })
        }
        Op::Reduce { op: ReduceOp::Sum, axes } if axes.contains(row) => {
            node.ty.dtype.is_float().then_some(Part::Sum)
        }
        Op::Reduce { axes, .. } => slice.filter(|_| !axes.contains(row)),
        Op::Contract { over } if over.contains(row) => {
            (over.len() > 1 && has(0) && has(1)).then_some(Part::Sum)
        }
        Op::Contract { .. } => slice,
        Op::ScatterAdd { .. }
        | Op::Const(_)
        | Op::Pos
        | Op::Input(_)
        | Op::Runtime(_)
        | Op::Random(..)
        | Op::Concat { .. }
        | Op::Update { .. }
        | Op::Attention(_)
        | Op::AttentionGrad { .. }
        | Op::Scan(_)
        | Op::Part(_)
        | Op::Collective(_) => None,
    }
}

/// The op on slices; `None`: the slice of the first input is the result.
fn op_of_slice(op: &Op, row: &Name) -> Option<Op> {
    let left =
        |axes: &[Name]| -> Vec<Name> { axes.iter().filter(|a| *a != row).cloned().collect() };
    match op {
        Op::Reduce { axes, .. } if left(axes).is_empty() => None,
        Op::Reduce { op, axes } => Some(Op::Reduce { op: *op, axes: left(axes) }),
        Op::Contract { over } => Some(Op::Contract { over: left(over) }),
        other => Some(other.clone()),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use indexmap::IndexMap;

    use super::super::grad::{Remat, differentiate};
    use super::super::interp::{Tensor, first_step, interpret};
    use super::super::print::print;
    use super::super::random::random_graph;
    use super::super::rewrite::simplify;
    use super::super::verify::verify;
    use super::*;

    fn axis(name: &str, size: usize) -> Axis {
        Axis { name: name.into(), size }
    }

    fn compared(graph: &Graph, blocked: &Graph, given: &IndexMap<Name, Tensor>) {
        let shown = || format!("{}\nbecame\n{}", print(graph), print(blocked));
        verify(blocked).unwrap_or_else(|bug| panic!("{}\n{}", bug.message, shown()));
        let before = interpret(graph, given, &first_step).expect("it runs");
        let after = interpret(blocked, given, &first_step).expect("it runs");
        for (name, x) in &before {
            let y = &after[name.as_str()];
            assert_eq!(x.ty, y.ty, "{}", shown());
            for (x, y) in x.data.iter().zip(&y.data) {
                let wild = |x: f64| !x.is_finite() || x.abs() > 1e60;
                let close = (x - y).abs() <= 1e-9 * (1.0 + x.abs().max(y.abs()));
                assert!(close || wild(*x) && wild(*y), "{name}: {x} {y}\n{}", shown());
            }
        }
    }

    /// Cross-entropy with a squared normaliser over a tied table, with its gradients.
    pub(crate) fn head(compute: DType) -> (Graph, IndexMap<Name, Tensor>) {
        let (batch, seq, d, v) = (axis("batch", 3), axis("seq", 2), axis("d", 4), axis("v", 5));
        let mut b = Builder::new();
        let mut given = IndexMap::new();
        let mut input = |b: &mut Builder, name: &str, dtype, axes: &[&Axis], role| {
            let ty = Type::new(dtype, axes.iter().map(|a| (*a).clone()).collect());
            let data = (0..ty.len()).map(|i| match dtype {
                DType::I32 => ((7 * i + 3) % 5) as f64,
                _ => ((i * i + 5 * i) % 11) as f64 / 7.0 - 0.6,
            });
            given.insert(name.into(), Tensor::new(ty.clone(), data.collect()).expect("as long"));
            b.input(name, ty, role)
        };
        let x = input(&mut b, "x", DType::F32, &[&batch, &seq, &d], Role::Weight);
        let table = input(&mut b, "table", DType::F32, &[&v, &d], Role::Weight);
        let target = input(&mut b, "target", DType::I32, &[&batch, &seq], Role::Data);
        let (left, right) = (b.cast(x, compute), b.cast(table, compute));
        let logits = b.contract(left, right, &["d".into()], compute).expect("fits");
        let logits = b.cast(logits, DType::F32);
        let total = b.logsumexp(logits, &["v".into()]).expect("fits");
        let right = b.gather(logits, &"v".into(), target).expect("fits");
        let loss = b.binary(BinOp::Sub, total, right).expect("fits");
        let square = b.binary(BinOp::Mul, total, total).expect("fits");
        let share = b.constant(0.01);
        let z = b.binary(BinOp::Mul, square, share).expect("fits");
        let loss = b.binary(BinOp::Add, loss, z).expect("fits");
        let sum = b.reduce(ReduceOp::Sum, loss, &["batch".into(), "seq".into()]).expect("fits");
        let grads = differentiate(&mut b, sum, &[x, table], Remat::Auto).expect("it has slopes");
        b.output("loss", sum, None);
        b.output("dx", grads[0], None);
        b.output("dtable", grads[1], None);
        (simplify(b.graph), given)
    }

    #[test]
    fn a_loss_and_its_gradient_store_no_logits() {
        for compute in [DType::F32, DType::Bf16] {
            let (graph, given) = head(compute);
            let blocked = in_blocks(graph.clone(), 4 * 3 * 2 * 5 - 1);
            compared(&graph, &blocked, &given);
            let scans = blocked.nodes.iter().filter_map(|n| match &n.op {
                Op::Scan(s) => Some(s),
                _ => None,
            });
            let scans: Vec<_> = scans.collect();
            assert_eq!(scans.len(), 1, "{}", print(&blocked));
            assert_eq!((scans[0].kind, scans[0].carries), (ScanKind::Blocks, 1));
            let whole =
                |n: &Node| n.ty.find(&"batch".into()).is_some() && n.ty.find(&"v".into()).is_some();
            assert!(!blocked.nodes.iter().any(whole), "{}", print(&blocked));
            // What fits is left whole.
            assert!(in_blocks(graph.clone(), 4 * 3 * 2 * 5) == graph);
        }
    }

    #[test]
    fn logits_that_go_out_stay_whole() {
        let (mut graph, _) = head(DType::F32);
        let wide = graph.ids().find(|id| matches!(graph.node(*id).op, Op::Contract { .. }));
        graph.outputs.push(OutputDecl {
            name: "logits".into(),
            node: wide.expect("there"),
            into: None,
        });
        assert!(in_blocks(graph.clone(), 0) == graph);
    }

    #[test]
    fn random_graphs_keep_their_meaning() {
        let mut changed = 0;
        for seed in 0..20_000 {
            let (graph, given) = random_graph(seed, 40);
            let graph = simplify(graph);
            let blocked = in_blocks(graph.clone(), 0);
            if blocked != graph {
                changed += 1;
                compared(&graph, &blocked, &given);
            }
        }
        assert!(changed > 20, "{changed} graphs have a product in blocks");
    }
}
