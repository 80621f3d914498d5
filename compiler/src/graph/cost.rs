//! What a graph costs: model FLOPs, bytes, parameters.
//!
//! Takes a verified *forward* graph, gives a [`CostTable`]. The rules, which every law and budget leans on:
//!
//! - A contraction costs `2 m n k`: two per product, whatever the dtype. Attention is two contractions, counted densely
//!   whatever the mask hides. Nothing else counts.
//! - Of routed experts only the `k` that are live count ([`demand`](super::demand)). What no output needs costs nothing.
//! - A loop costs its body times its iterations.
//! - The backward pass costs twice the forward pass, so training costs three times ([`CostTable::training_flops`]);
//!   recomputation and the optimizer do not count.
//!
//! Bytes are those of running each node alone, reading its inputs and writing its result: what fusion starts from, not what
//! a plan moves. Views move nothing.
//!
//! A weight is a parameter once, however often it is used. It is a *table* if rows are gathered from it.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use super::demand::{Demand, demand};
use super::print::show_op;
use super::{Attention, Graph, Name, Node, NodeId, Op, Role, Type};
use crate::source::Span;

/// One line of the account: equal operations of one layer, together.
#[derive(Debug, Clone, PartialEq)]
pub struct CostRow {
    /// The layer path.
    pub path: Name,
    /// The operation with its settings: `contract[d]`.
    pub op: String,
    /// The expression that asked for it.
    pub span: Option<Span>,
    /// How often it runs in one execution.
    pub runs: f64,
    /// Model FLOPs, forward.
    pub flops: f64,
    /// Bytes read by it alone.
    pub bytes_read: f64,
    /// Bytes written by it alone.
    pub bytes_written: f64,
}

/// How many trained numbers there are.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Params {
    /// All.
    pub total: f64,
    /// Those that one token uses: of routed experts only the live ones.
    pub active: f64,
    /// Those outside of tables.
    pub non_embedding: f64,
}

/// The account of one execution of a forward graph.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CostTable {
    /// By layer, in the order of the graph.
    pub rows: Vec<CostRow>,
    /// The weights.
    pub params: Params,
}

/// Counts.
pub fn cost(graph: &Graph) -> CostTable {
    let mut rows: IndexMap<(Name, String, Option<Span>), CostRow> = IndexMap::new();
    count(graph, 1.0, &mut rows);
    CostTable { rows: rows.into_values().collect(), params: params(graph) }
}

/// Model FLOPs of one node, of which all iterations matter; of a loop those of its body, times the iterations.
pub fn node_flops(graph: &Graph, id: NodeId) -> f64 {
    let node = graph.node(id);
    if let Op::Scan(scan) = &node.op {
        let inner: f64 = scan.body.ids().map(|id| node_flops(&scan.body, id)).sum();
        return inner * scan.axis.size as f64;
    }
    flops(graph, node, &BTreeMap::new())
}

impl CostTable {
    /// Model FLOPs of one forward pass.
    pub fn forward_flops(&self) -> f64 {
        self.rows.iter().map(|r| r.flops).sum()
    }

    /// Model FLOPs of forward and backward.
    pub fn training_flops(&self) -> f64 {
        3.0 * self.forward_flops()
    }

    /// Forward FLOPs by layer path, dearest first.
    pub fn by_path(&self) -> Vec<(Name, f64)> {
        self.grouped(|r| r.path.clone())
    }

    /// Forward FLOPs by operation, dearest first.
    pub fn by_op(&self) -> Vec<(String, f64)> {
        self.grouped(|r| r.op.clone())
    }

    /// Forward FLOPs by the expression that asked for them: inlay hints.
    pub fn by_span(&self) -> Vec<(Span, f64)> {
        let spans = self.grouped(|r| r.span).into_iter();
        spans.filter_map(|(span, flops)| span.map(|s| (s, flops))).collect()
    }

    /// Bytes read and written if every node runs alone.
    pub fn unfused_bytes(&self) -> f64 {
        self.rows.iter().map(|r| r.bytes_read + r.bytes_written).sum()
    }

    fn grouped<K: std::hash::Hash + Eq>(&self, key: impl Fn(&CostRow) -> K) -> Vec<(K, f64)> {
        let mut sums: IndexMap<K, f64> = IndexMap::new();
        for row in self.rows.iter().filter(|r| r.flops > 0.0) {
            *sums.entry(key(row)).or_insert(0.0) += row.flops;
        }
        let mut sums: Vec<(K, f64)> = sums.into_iter().collect();
        sums.sort_by(|a, b| b.1.total_cmp(&a.1));
        sums
    }
}

fn count(graph: &Graph, runs: f64, rows: &mut IndexMap<(Name, String, Option<Span>), CostRow>) {
    let needed = demand(graph);
    for id in graph.ids() {
        let node = graph.node(id);
        let Some(work) = &needed.work[id.0 as usize] else { continue };
        if let Op::Scan(scan) = &node.op {
            count(&scan.body, runs * scan.axis.size as f64, rows);
            continue;
        }
        let flops = flops(graph, node, work);
        let (read, written) = bytes(graph, node);
        if flops == 0.0 && read == 0.0 && written == 0.0 {
            continue;
        }
        let op = match &node.op {
            // Its expressions would fill the line.
            Op::Attention(a) => format!("attention[{}, {}]", a.over, a.key),
            Op::AttentionGrad { of, .. } => format!("attention_grad[{}, {}]", of.over, of.key),
            op => show_op(op),
        };
        let key = (node.path.clone(), op.clone(), node.span);
        let row = rows.entry(key).or_insert_with(|| CostRow {
            path: node.path.clone(),
            op,
            span: node.span,
            runs: 0.0,
            flops: 0.0,
            bytes_read: 0.0,
            bytes_written: 0.0,
        });
        row.runs += runs;
        row.flops += runs * flops;
        row.bytes_read += runs * read;
        row.bytes_written += runs * written;
    }
}

fn flops(graph: &Graph, node: &Node, work: &BTreeMap<Name, f64>) -> f64 {
    let ty = |i: usize| graph.ty(node.inputs[i]);
    match &node.op {
        Op::Contract { over } => {
            let summed: f64 = over.iter().filter_map(|n| ty(0).size(n)).product::<usize>() as f64;
            let shares: f64 = work.values().product();
            2.0 * node.ty.len() as f64 * summed * shares
        }
        Op::Attention(a) => attention(a, ty(0), ty(1), ty(2)) * work.values().product::<f64>(),
        Op::AttentionGrad { of, .. } => 2.0 * attention(of, ty(0), ty(1), ty(2)),
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
        | Op::CumSum { .. }
        | Op::TopK { .. }
        | Op::ArgSort { .. }
        | Op::Scan(_)
        | Op::Part(_)
        | Op::Stop
        | Op::Collective(_) => 0.0,
    }
}

// Scores: rows x keys x over. Values: outputs x keys.
fn attention(a: &Attention, q: &Type, k: &Type, v: &Type) -> f64 {
    let product = |axes: Vec<super::Axis>| axes.iter().map(|a| a.size as f64).product::<f64>();
    let keys = k.size(&a.key).unwrap_or(1) as f64;
    let width = q.size(&a.over).unwrap_or(1) as f64;
    2.0 * keys * (product(a.rows(q, k)) * width + product(a.output(q, k, v)))
}

fn bytes(graph: &Graph, node: &Node) -> (f64, f64) {
    let ty = |i: usize| graph.ty(node.inputs[i]);
    let size = |ty: &Type| ty.bytes() as f64;
    let all = || node.inputs.iter().map(|x| size(graph.ty(*x))).sum::<f64>();
    match &node.op {
        Op::Const(_)
        | Op::Pos
        | Op::Input(_)
        | Op::Runtime(_)
        | Op::Expand
        | Op::Rename(_)
        | Op::Split { .. }
        | Op::Merge { .. }
        | Op::Window { .. }
        | Op::Part(_)
        | Op::Stop
        | Op::Scan(_) => (0.0, 0.0),
        Op::Random(..)
        | Op::Unary(_)
        | Op::Binary(_)
        | Op::Select
        | Op::Cast
        | Op::ScatterAdd { .. }
        | Op::Concat { .. }
        | Op::Reduce { .. }
        | Op::LogSumExp { .. }
        | Op::Contract { .. }
        | Op::CumSum { .. }
        | Op::TopK { .. }
        | Op::ArgSort { .. }
        | Op::Collective(_) => (all(), size(&node.ty)),
        Op::Gather { .. } => (size(&node.ty) + size(ty(1)), size(&node.ty)),
        // In place: only the new part moves.
        Op::Update { .. } => (size(ty(1)), size(ty(1))),
        Op::Attention(a) => {
            let rows: f64 = a.rows(ty(0), ty(1)).iter().map(|a| a.size as f64).product();
            (all(), size(&node.ty) + 4.0 * rows)
        }
        Op::AttentionGrad { wants, .. } => {
            let wanted = wants.iter().enumerate().filter(|(_, want)| **want);
            let captured: f64 = wanted.map(|(i, _)| size(ty(3 + i))).sum();
            (all(), size(ty(0)) + size(ty(1)) + size(ty(2)) + captured)
        }
    }
}

fn params(graph: &Graph) -> Params {
    let Demand { input_share, .. } = demand(graph);
    let mut tables = vec![false; graph.inputs.len()];
    gathered(graph, &mut tables);
    let mut params = Params::default();
    for (i, decl) in graph.inputs.iter().enumerate() {
        if decl.role != Role::Weight {
            continue;
        }
        let size = decl.ty.len() as f64;
        params.total += size;
        params.active += size * input_share[i].values().product::<f64>();
        if !tables[i] {
            params.non_embedding += size;
        }
    }
    params
}

// Marks the inputs from which rows are gathered, also inside loops.
fn gathered(graph: &Graph, tables: &mut [bool]) {
    let mut mark = |id: NodeId| {
        if let Some(input) = source(graph, id) {
            tables[input] = true;
        }
    };
    for node in &graph.nodes {
        if let Op::Gather { .. } = node.op {
            mark(node.inputs[0]);
        }
        if let Op::Scan(scan) = &node.op {
            let mut inner = vec![false; scan.body.inputs.len()];
            gathered(&scan.body, &mut inner);
            let used = node.inputs.iter().zip(&inner).filter(|(_, used)| **used);
            used.for_each(|(id, _)| mark(*id));
        }
    }
}

// The input that a value is, up to rounding and naming.
fn source(graph: &Graph, id: NodeId) -> Option<usize> {
    let node = graph.node(id);
    if let Op::Input(i) = node.op {
        return Some(i as usize);
    }
    let same = matches!(
        node.op,
        Op::Cast | Op::Rename(_) | Op::Stop | Op::Split { .. } | Op::Merge { .. } | Op::Expand
    );
    same.then(|| source(graph, node.inputs[0]))?
}

#[cfg(test)]
mod tests;
