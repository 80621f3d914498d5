//! The line from a traced graph to a plan, drawn once. Every result is verified.

use crate::bug::Bug;
use crate::graph::{Graph, blocks, layout, rewrite, verify};
use crate::lower::lower;
use crate::plan::{self, Target};
use crate::programs::Compiled;

/// Compiles a graph for a target.
pub fn compile(graph: Graph, target: &Target) -> Result<Compiled, Bug> {
    verify::verify(&graph)?;
    let graph = rewrite::simplify(graph);
    verify::verify(&graph)?;
    let graph = blocks::in_blocks(graph, target.block);
    verify::verify(&graph)?;
    let graph = layout::arrange(&graph);
    verify::verify(&graph)?;
    let plan = lower(&graph, target)?;
    plan::verify::verify(&plan)?;
    Ok(Compiled { graph, plan })
}
