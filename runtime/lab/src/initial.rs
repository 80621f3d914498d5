//! The weights of a finished run, for a run whose `init` names it.
//!
//! What is taken are the weights of the run's last checkpoint, or their average under the names of the weights. The key of that run
//! belongs to the key of the run that begins with it: other data under the same program give other weights. An earlier checkpoint is never
//! taken for the last one, since the key would not tell.

use std::path::{Path, PathBuf};

use cs336_compiler::check::hir::{Budget, InitSpec, Nodes, Spec};

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

/// A finished run whose weights another run begins with.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// What the key of the run that begins with it holds of it.
    pub key: String,
    node: String,
    averaged: bool,
    path: PathBuf,
    run_key: String,
    /// Its last step.
    step: Option<u64>,
}

/// The run that `init` names. It must be there and finished; its weights are not read yet.
pub fn source(
    init: &InitSpec,
    nodes: &Nodes,
    room: &Room,
    known: &Known,
    root: &Path,
) -> Result<Source, LabError> {
    let waits = || LabError::Waits { node: "init".to_owned(), on: init.node.clone() };
    let node = nodes.get(&init.node).ok_or_else(waits)?;
    let Spec::Train(spec) = &node.spec else { return Err(waits()) };
    let data = room.encoded(&spec.data, None, nodes)?;
    let mut inputs = key_inputs(node, spec, &data, room)?;
    if let Some(before) = &spec.init {
        inputs.begin_with(&before.node, &source(before, nodes, room, known, root)?.key);
    }
    let run_key = inputs.key();
    // A run that means the same is the same run, whatever it was called.
    let name = known.name_of(&run_key).unwrap_or(&node.name);
    let path = rundir::path_of(root, name, &run_key);
    let Status::Done { result } = rundir::status(&path)? else { return Err(waits()) };
    // With a budget of time the same key may stand for other weights: which, its result tells.
    let key = match spec.budget {
        Budget::Seconds(_) => {
            blake3::hash(format!("{run_key} {result}").as_bytes()).to_hex().to_string()
        }
        Budget::Flops(_)
        | Budget::Tokens(_)
        | Budget::TokensPerParam(_)
        | Budget::Steps(_)
        | Budget::Epochs(_) => run_key.clone(),
    };
    let step = result.get("step").and_then(serde_json::Value::as_u64);
    let (node, averaged) = (init.node.clone(), init.averaged);
    Ok(Source { key, node, averaged, path, run_key, step })
}

impl Source {
    /// Its last weights, or their average.
    pub fn weights(&self) -> Result<Initial, LabError> {
        let all = self.path.join("checkpoints");
        let found = checkpoint::newest(&all, &self.run_key)?;
        let is_last = |step: u64| self.step.is_none_or(|last| step == last);
        let loaded = match found.newest {
            Some(loaded) if found.refused.is_empty() && is_last(loaded.counters.step) => loaded,
            older => {
                let why = match found.refused.into_iter().next() {
                    Some(error) => error.to_string(),
                    None => format!("`{}` has no checkpoint of its last step", self.path.display()),
                };
                let (node, run) = (self.node.clone(), self.path.clone());
                let sound = older.map(|loaded| loaded.counters.step);
                return Err(LabError::Weights { node, run, why, sound });
            }
        };
        let weights = if self.averaged { averages(loaded.states) } else { loaded.weights };
        Ok(Initial { key: self.key.clone(), weights })
    }
}

/// The averages among the states, under the names of their weights.
fn averages(states: Vec<Tensor>) -> Vec<Tensor> {
    let named = |t: Tensor| {
        let name = t.name.strip_prefix(cs336_compiler::check::AVERAGE)?.to_owned();
        Some(Tensor { name, ..t })
    };
    states.into_iter().filter_map(named).collect()
}
