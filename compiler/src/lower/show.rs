//! Groups as text, for golden tests and reading.
//!
//! ```text
//! level 1
//! loop rows [batch = 2, seq = 6] cols [d = 8] reduces
//!   %12 (row) f32[batch, seq] = reduce.sum[d](%9)   # blocks.norm
//! dense
//!   %15 f32[batch, seq, ff] = contract[d](%13, %2)   # blocks.mlp
//! ```
//! A line below a group is a node that the group stores, or (row) keeps for as long as it works on a row. What it reads and no line shows
//! is computed in it again.

use std::fmt::Write;

use crate::graph::print::show_node;
use crate::graph::{Axis, Graph};
use crate::lower::fuse::{Grouping, Kind};

/// The groups of one level in order of execution. `path`: the loops around.
pub(crate) fn level(graph: &Graph, groups: &Grouping, path: &[u32]) -> String {
    let mut out = format!("level {}\n", path.len());
    for group in &groups.groups {
        let kind = match &group.kind {
            Kind::Loop { rows, cols, reduces } => {
                let reduces = if *reduces { " reduces" } else { "" };
                format!("loop rows {} cols {}{reduces}", sizes(rows), sizes(cols))
            }
            Kind::ColReduce { kept, reduced } => {
                format!("reduction of {}, kept {}", sizes(reduced), sizes(kept))
            }
            Kind::Update => "update".to_owned(),
            Kind::Dense => "dense".to_owned(),
            Kind::Scan => "scan".to_owned(),
        };
        out.push_str(&kind);
        out.push('\n');
        for id in &group.members {
            let node = graph.node(*id);
            let path = node.path.as_str();
            let path = if path.is_empty() { String::new() } else { format!("   # {path}") };
            let is_row = matches!(group.kind, Kind::Loop { .. }) && !groups.stored[id.0 as usize];
            let row = if is_row { "(row) " } else { "" };
            writeln!(out, "  {id:?} {row}{}{path}", show_node(graph, node))
                .expect("a string grows");
        }
    }
    out
}

fn sizes(axes: &[Axis]) -> String {
    let shown: Vec<String> = axes.iter().map(|a| format!("{} = {}", a.name, a.size)).collect();
    format!("[{}]", shown.join(", "))
}
