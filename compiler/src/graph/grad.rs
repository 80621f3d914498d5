//! Reverse-mode differentiation of graphs.

use super::NodeId;
use super::build::Builder;
use crate::bug::Bug;

/// What the backward pass recomputes instead of keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remat {
    /// Keeps what is expensive; recomputes maps and casts.
    None,
    /// Keeps the input of each block; recomputes the block.
    PerBlock,
    /// Chosen by memory.
    Auto,
}

/// Gradients of a scalar.
pub fn differentiate(
    _b: &mut Builder,
    _loss: NodeId,
    _wrt: &[NodeId],
    _remat: Remat,
) -> Result<Vec<NodeId>, Bug> {
    Err(Bug::new("differentiate", "not built yet", ""))
}
