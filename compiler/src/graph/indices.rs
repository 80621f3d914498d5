//! Which inputs of a graph are positions along an axis: token ids.
//!
//! Takes a graph, gives the inputs that a [`Op::Gather`] uses as they are, with the size that each must stay below. Inside a graph a position out
//! of range reads 0, so whoever fills inputs from outside looks first.

use std::collections::BTreeMap;

use super::{Graph, Op};

/// Inputs by their place, with the least size that they index.
pub fn indices(graph: &Graph) -> BTreeMap<u32, usize> {
    let mut found = BTreeMap::new();
    let inputs: Vec<Option<u32>> = (0..graph.inputs.len() as u32).map(Some).collect();
    look(graph, &inputs, &mut found);
    found
}

/// `inputs`: which input of the outermost graph each input of this one is, unchanged.
fn look(graph: &Graph, inputs: &[Option<u32>], found: &mut BTreeMap<u32, usize>) {
    let mut same: Vec<Option<u32>> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let of = |place: usize| node.inputs.get(place).and_then(|id| same[id.0 as usize]);
        let one = match &node.op {
            Op::Input(i) => inputs.get(*i as usize).copied().flatten(),
            Op::Cast
            | Op::Expand
            | Op::Rename(_)
            | Op::Split { .. }
            | Op::Merge { .. }
            | Op::Stop => of(0),
            Op::Gather { axis } => {
                let table = graph.ty(node.inputs[0]);
                let size = table.axes.iter().find(|a| a.name == *axis).map(|a| a.size);
                if let (Some(input), Some(size)) = (of(1), size) {
                    let known = found.entry(input).or_insert(size);
                    *known = size.min(*known);
                }
                None
            }
            Op::Scan(scan) => {
                // Carries change on the way; slices and captured values are what they are.
                let inner: Vec<Option<u32>> = (0..node.inputs.len())
                    .map(|place| if place < scan.carries { None } else { of(place) })
                    .collect();
                look(&scan.body, &inner, found);
                None
            }
            Op::Const(_)
            | Op::Pos
            | Op::Runtime(_)
            | Op::Random(..)
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Select
            | Op::Window { .. }
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
            | Op::Part(_)
            | Op::Collective(_) => None,
        };
        same.push(one);
    }
}
