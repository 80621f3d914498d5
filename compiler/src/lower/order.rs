//! In which order the axes of a stored value stand.
//!
//! Takes a program; says which axes are those of layers and of the batch's columns, and puts the axes of every node into storage
//! order. The order of axes never changes what a graph means.

use std::collections::BTreeSet;

use crate::graph::{Axis, Graph, Name, Op, Role, ScanKind};

/// Which axes stand in front.
#[derive(Debug, Default)]
pub(crate) struct Order {
    /// Axes of loops over layers and micro-batches.
    stacked: BTreeSet<Name>,
    /// Axes of the batch's columns, and what they are renamed to.
    columns: BTreeSet<Name>,
}

impl Order {
    /// The order for a program.
    pub(crate) fn of(graph: &Graph) -> Self {
        let data = graph.inputs.iter().filter(|i| i.role == Role::Data);
        let columns = data.flat_map(|i| &i.ty.axes).map(|a| a.name.clone()).collect();
        let mut order = Self { stacked: BTreeSet::new(), columns };
        // Each round follows one more renaming.
        loop {
            let known = order.columns.len();
            order.follow(graph);
            if order.columns.len() == known {
                return order;
            }
        }
    }

    fn follow(&mut self, graph: &Graph) {
        for n in &graph.nodes {
            match &n.op {
                Op::Rename(names) => {
                    let new = names.iter().filter(|(old, _)| self.columns.contains(old));
                    let new: Vec<Name> = new.map(|(_, new)| new.clone()).collect();
                    self.columns.extend(new);
                }
                Op::Scan(scan) => {
                    match scan.kind {
                        ScanKind::Layers | ScanKind::Micro => {
                            self.stacked.insert(scan.axis.name.clone());
                        }
                        // A block's axis is that of data outside of its loop.
                        ScanKind::Blocks | ScanKind::Program => {}
                    }
                    self.follow(&scan.body);
                }
                _other => {}
            }
        }
    }

    fn rank(&self, axis: &Axis) -> usize {
        if self.stacked.contains(&axis.name) {
            0
        } else if self.columns.contains(&axis.name) {
            1
        } else {
            2
        }
    }
}

/// Puts axes into storage order.
pub(crate) fn arrange(graph: &mut Graph, order: &Order) {
    let shapes: Vec<Vec<Axis>> = graph.inputs.iter().map(|i| i.ty.axes.clone()).collect();
    for n in graph.nodes.iter_mut().filter(|n| !matches!(n.op, Op::Input(_))) {
        let axes = &mut n.ty.axes;
        if axes.iter().any(|a| order.columns.contains(&a.name)) {
            axes.sort_by_key(|a| order.rank(a));
        } else if !shapes.contains(axes)
            && let Some(shape) =
                shapes.iter().find(|s| s.len() == axes.len() && axes.iter().all(|a| s.contains(a)))
        {
            *axes = shape.clone();
        }
    }
    // Merged axes lie behind each other, so that merging is no copy.
    for id in graph.ids().rev() {
        let n = graph.node(id);
        let Op::Merge { axes: parts, .. } = &n.op else { continue };
        let (x, parts) = (n.inputs[0], parts.clone());
        if matches!(graph.node(x).op, Op::Input(_)) {
            continue;
        }
        let axes = &mut graph.nodes[x.0 as usize].ty.axes;
        let merged: Vec<Axis> =
            parts.iter().filter_map(|p| axes.iter().find(|a| a.name == *p).cloned()).collect();
        let last = axes.iter().rposition(|a| parts.contains(&a.name)).unwrap_or(0);
        let before = axes[..=last].iter().filter(|a| !parts.contains(&a.name)).cloned();
        let after = axes[last + 1..].iter().cloned();
        *axes = before.chain(merged).chain(after).collect();
    }
}
