//! What a node compiles to: the plans that the laboratory executes, and what their storages are.
//!
//! *Storage names.* A weight has the path of its declaration (`blocks.attn.wq`, layers of a stack share one weight with the
//! stack's axis in front). An optimizer's state is `m:blocks.attn.wq`. A layer's state is its path. A batch column is its name
//! (`ids`, `target`, `learn`, `doc`, `doc_pos`). A cache is `cache:` and its path. Outputs: `loss`, `grad_norm`, `lr`, and `measure:PATH`.

use serde::{Deserialize, Serialize};

use crate::graph::{Graph, Name, Type};
use crate::plan::Plan;

/// A trained parameter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WeightInfo {
    /// Storage name.
    pub name: Name,
    /// Its type; f32.
    pub ty: Type,
    /// `matrix`, `vector` or `table`.
    pub role: String,
    /// Whether the stdlib's optimizers decay it.
    pub decays: bool,
}

/// A kept value that is not trained: optimizer moments, layer state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateInfo {
    /// Storage name.
    pub name: Name,
    /// Its type.
    pub ty: Type,
    /// What it is before the first step.
    pub start: StateStart,
}

/// What a state is before the first step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum StateStart {
    /// What its own layer says, or nothing: the initialisation fills it.
    Own,
    /// This number everywhere.
    Number(f64),
    /// A copy of the weight of this name, whatever that weight starts from.
    Weight(Name),
}

/// A graph with its plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Compiled {
    /// Simplified, as lowered: what `cs336c graph` shows.
    pub graph: Graph,
    /// What runs.
    pub plan: Plan,
}

/// Everything that a training run executes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainPrograms {
    /// In a stable order.
    pub weights: Vec<WeightInfo>,
    /// In a stable order.
    pub states: Vec<StateInfo>,
    /// Fills weights and states (outputs of those names). Runtime: `Seed`.
    pub init: Compiled,
    /// One optimizer step: donates weights and states; columns have axes `[micro, batch, seq]`. Outputs: `loss` (mean over counted targets,
    /// nats), `grad_norm`, `lr`, measures. Runtime: `Step` (from 1), `Share`, `Seed`.
    pub step: Compiled,
    /// Held-out loss of `eval_rows` rows: outputs `loss_sum` (nats) and `loss_count`. Columns `[batch, seq]`.
    pub eval: Compiled,
    /// Rows per micro-batch.
    pub micro_rows: usize,
    /// Micro-batches per step.
    pub micro_count: usize,
    /// Rows per evaluation batch.
    pub eval_rows: usize,
    /// Positions per row.
    pub seq: usize,
}

/// What generation executes, for one sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecodePrograms {
    /// Reads `ids` `[batch = 1, seq = prompt]`, fills the caches; output `logits` `[vocab]`, f32, of the last position. Runtime: `Position` = 0.
    pub prefill: Compiled,
    /// Reads `ids` `[1, 1]`, updates the caches; output `logits`. Runtime: `Position` = tokens so far.
    pub decode: Compiled,
    /// Caches, zeroed before the first use.
    pub caches: Vec<StateInfo>,
    /// Positions that the caches hold.
    pub capacity: usize,
}
