//! The matrix view of weights: which of their axes are contracted.
//!
//! In-axes are those that a weight's `dot`s contract, out-axes the rest; axes of stacks are a batch. A weight that is read
//! by an index is a table; uses that disagree leave no view (semantics 5).

use std::collections::BTreeMap;

use crate::graph::{Graph, Name, NodeId, Op, Role};

/// How a weight is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The contracted axes, in the weight's own names; `None`: never contracted.
    pub contracted: Option<Vec<Name>>,
    /// Read by an index along some axis.
    pub gathered: bool,
    /// Two contractions over different axes.
    pub disagrees: bool,
}

/// The uses of every weight of a graph.
pub fn views(graph: &Graph) -> BTreeMap<Name, View> {
    let mut found = BTreeMap::new();
    let mut seen = BTreeMap::new();
    for id in graph.ids() {
        if let Op::Input(i) = graph.node(id).op {
            let decl = &graph.inputs[i as usize];
            if decl.role == Role::Weight {
                let axes = decl.ty.axes.iter().map(|a| (a.name.clone(), a.name.clone())).collect();
                seen.insert(id, (decl.name.clone(), axes));
                found.insert(decl.name.clone(), View::default());
            }
        }
    }
    walk(graph, seen, &mut found);
    found
}

/// A node that still is a weight: its name, and its present axes with their names in the weight.
type Seen = BTreeMap<NodeId, (Name, Vec<(Name, Name)>)>;

fn walk(graph: &Graph, mut seen: Seen, found: &mut BTreeMap<Name, View>) {
    for id in graph.ids() {
        let node = graph.node(id);
        for (position, input) in node.inputs.iter().enumerate() {
            let Some((weight, axes)) = seen.get(input).cloned() else { continue };
            let view = found.entry(weight.clone()).or_default();
            match &node.op {
                Op::Cast | Op::Stop | Op::Expand => {
                    seen.insert(id, (weight, axes));
                }
                Op::Rename(names) => {
                    let renamed = axes
                        .into_iter()
                        .map(|(now, own)| {
                            let new = names.iter().find(|(old, _)| *old == now);
                            (new.map_or(now, |(_, n)| n.clone()), own)
                        })
                        .collect();
                    seen.insert(id, (weight, renamed));
                }
                Op::Contract { over } => {
                    let mut own: Vec<Name> = axes
                        .iter()
                        .filter(|(now, _)| over.contains(now))
                        .map(|(_, own)| own.clone())
                        .collect();
                    own.sort();
                    match &view.contracted {
                        Some(known) if *known != own => view.disagrees = true,
                        _ => view.contracted = Some(own),
                    }
                }
                Op::Gather { .. } if position == 0 => view.gathered = true,
                // An index that the compiler knows: `pick[ctx](table, pos(seq))`.
                Op::Window { .. } => view.gathered = true,
                Op::Scan(scan) => {
                    let body = &scan.body;
                    let sliced = position >= scan.carries && position < scan.carries + scan.scanned;
                    let inner = body.ids().find(
                        |i| matches!(body.node(*i).op, Op::Input(n) if n as usize == position),
                    );
                    if let Some(inner) = inner {
                        let axes = axes
                            .into_iter()
                            .filter(|(now, _)| !sliced || *now != scan.axis.name)
                            .collect();
                        walk(body, Seen::from([(inner, (weight, axes))]), found);
                    }
                }
                _ => {}
            }
        }
    }
}
