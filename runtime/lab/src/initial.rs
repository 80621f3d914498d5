//! The weights of a finished run, for a run whose `init` names it.
//!
//! What is taken are the weights of the run's last checkpoint, or their average under the names of the weights. The key of that run
//! belongs to the key of the run that begins with it: other data under the same program give other weights.

use std::path::Path;

use cs336_compiler::check::hir::{InitSpec, Nodes, Spec};

use crate::checkpoint::{self, Tensor};
use crate::data::Room;
use crate::error::LabError;
use crate::job::key_inputs;
use crate::rundir::{self, Known, Status};

/// Weights to start from.
#[derive(Debug, Clone, PartialEq)]
pub struct Initial {
    /// The key of the run that they come from.
    pub key: String,
    /// The weights.
    pub weights: Vec<Tensor>,
}

/// The weights that `init` names. The run must be there and finished.
pub fn initial(
    init: &InitSpec,
    nodes: &Nodes,
    room: &Room,
    known: &Known,
    root: &Path,
) -> Result<Initial, LabError> {
    let waits = || LabError::Waits { node: "init".to_owned(), on: init.node.clone() };
    let node = nodes.get(&init.node).ok_or_else(waits)?;
    let Spec::Train(spec) = &node.spec else { return Err(waits()) };
    let data = room.encoded(&spec.data, None, nodes)?;
    let mut inputs = key_inputs(node, spec, &data);
    if let Some(before) = &spec.init {
        inputs.begin_with(&before.node, &initial(before, nodes, room, known, root)?.key);
    }
    let key = inputs.key();
    // A run that means the same is the same run, whatever it was called.
    let name = known.name_of(&key).unwrap_or(&node.name);
    let path = rundir::path_of(root, name, &key);
    let Status::Done { .. } = rundir::status(&path)? else { return Err(waits()) };
    let found = checkpoint::newest(&path.join("checkpoints"), &key)?;
    let Some(loaded) = found.newest else {
        return Err(found.refused.into_iter().next().unwrap_or_else(waits));
    };
    let weights = if init.averaged { averages(loaded.states) } else { loaded.weights };
    Ok(Initial { key, weights })
}

/// The averages among the states, under the names of their weights.
fn averages(states: Vec<Tensor>) -> Vec<Tensor> {
    let named = |t: Tensor| {
        let name = t.name.strip_prefix(cs336_compiler::check::AVERAGE)?.to_owned();
        Some(Tensor { name, ..t })
    };
    states.into_iter().filter_map(named).collect()
}
