//! Sums over micro-batches of what a loop over layers stacks.
//!
//! Takes a graph in which an output is an input plus a stacked result of a scan; gives one in which the scan reads the input slice by slice
//! and stacks the sum. So the gradient of stacked weights never exists as a whole beside its sum.

use crate::graph::{
    BinOp, DType, Graph, InputDecl, Name, Node, NodeId, Op, OutputDecl, Role, Type,
};
use crate::lower::prepare::{live, uses};

/// See the module: `output = input + stacked(scan)`, the stacked result used nowhere else.
pub(crate) fn sink_sums(graph: Graph) -> Graph {
    let live = live(&graph);
    let uses = uses(&graph, &live);
    let mut out = graph.clone();
    for (place, o) in graph.outputs.iter().enumerate() {
        let n = graph.node(o.node);
        if n.op != Op::Binary(BinOp::Add) || n.ty.dtype != DType::F32 {
            continue;
        }
        for (kept, part) in [(n.inputs[0], n.inputs[1]), (n.inputs[1], n.inputs[0])] {
            let (k, p) = (graph.node(kept), graph.node(part));
            let (Op::Input(_), Op::Part(i)) = (&k.op, &p.op) else { continue };
            let same = |a: &Type, b: &Type| {
                a.dtype == b.dtype
                    && a.axes.len() == b.axes.len()
                    && a.axes.iter().all(|x| b.axes.contains(x))
            };
            let alone = uses[kept.0 as usize] == 1 && uses[part.0 as usize] == 1;
            let at = p.inputs[0];
            if !same(&k.ty, &p.ty) || !alone {
                continue;
            }
            let Op::Scan(scan) = out.node(at).op.clone() else { continue };
            let i = *i as usize;
            if i < scan.carries {
                continue;
            }
            let mut scan = *scan;
            let mut slice = k.ty.clone();
            slice.axes.retain(|a| a.name != scan.axis.name);
            let slot = scan.carries + scan.scanned;
            insert_input(&mut scan.body, slot, slice.clone());
            scan.scanned += 1;
            let new = scan.body.push(Node {
                op: Op::Input(slot as u32),
                inputs: vec![],
                ty: slice.clone(),
                span: None,
                path: n.path.clone(),
            });
            let old = scan.body.outputs[i].node;
            let sum = scan.body.push(Node {
                op: Op::Binary(BinOp::Add),
                inputs: vec![new, old],
                ty: slice,
                span: n.span,
                path: n.path.clone(),
            });
            scan.body.outputs[i].node = sum;
            let node = &mut out.nodes[at.0 as usize];
            node.inputs.insert(slot, kept);
            node.op = Op::Scan(Box::new(scan));
            out.outputs[place].node = part;
            break;
        }
    }
    out
}

/// The same graph with its inputs in front: whatever reads them may then be moved up.
pub(crate) fn inputs_first(graph: &Graph) -> Graph {
    let is_input = |id: &NodeId| matches!(graph.node(*id).op, Op::Input(_));
    let mut order: Vec<NodeId> = graph.ids().collect();
    order.sort_by_key(|id| !is_input(id));
    let mut to = vec![NodeId(0); order.len()];
    for (new, old) in order.iter().enumerate() {
        to[old.0 as usize] = NodeId(new as u32);
    }
    let moved = |id: &NodeId| {
        let n = graph.node(*id);
        Node { inputs: n.inputs.iter().map(|x| to[x.0 as usize]).collect(), ..n.clone() }
    };
    Graph {
        nodes: order.iter().map(moved).collect(),
        inputs: graph.inputs.clone(),
        outputs: graph
            .outputs
            .iter()
            .map(|o| OutputDecl { node: to[o.node.0 as usize], ..o.clone() })
            .collect(),
    }
}

// Makes room for an input at a position; the inputs from there on move up by one.
fn insert_input(body: &mut Graph, place: usize, ty: Type) {
    let name = Name::from(format!("sum{place}.{}", body.inputs.len()));
    body.inputs.insert(place, InputDecl { name, ty, role: Role::Local });
    for n in &mut body.nodes {
        if let Op::Input(i) = &mut n.op
            && *i as usize >= place
        {
            *i += 1;
        }
    }
    for o in &mut body.outputs {
        if let Some(i) = &mut o.into
            && *i as usize >= place
        {
            *i += 1;
        }
    }
}
