//! A model on a device, as the trainer sees it.
//!
//! The trainer knows nothing of plans, stores and kernels: it hands over batches and gets losses back. The real machine is
//! [`plans::PlanMachine`]; the tests of this crate bring one of a few numbers, so that stopping and resuming are tested
//! without a compiler.

#[cfg(test)]
pub(crate) mod fake;
pub mod plans;

use cs336_data::Batch;

use crate::checkpoint::Tensor;
use crate::error::LabError;

pub use plans::PlanMachine;

/// What a step is told besides its batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepInput {
    /// From 1.
    pub step: u64,
    /// Share of the budget that is spent once the step is done: what a schedule sees.
    pub share: f64,
    /// The run's seed.
    pub seed: u64,
}

/// What a step gives back.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct StepOutput {
    /// Mean nats over counted targets.
    pub loss: f64,
    /// Global norm of the gradients, before clipping.
    pub grad_norm: Option<f64>,
    /// Learning rate.
    pub lr: Option<f64>,
    /// Measures of the program by path.
    pub measures: Vec<(String, f64)>,
}

/// A model with its optimizer.
pub trait Machine {
    /// Fills weights and states from the seed.
    fn init(&mut self, seed: u64) -> Result<(), LabError>;

    /// Puts other weights in the place of those that [`Machine::init`] has just made; states that begin as copies of weights begin as copies of
    /// these. `Err` is one sentence if they are not those of this model.
    fn begin_with(&mut self, weights: &[Tensor]) -> Result<Result<(), String>, LabError>;

    /// One optimizer step.
    fn step(&mut self, batch: &Batch, input: StepInput) -> Result<StepOutput, LabError>;

    /// Does a step again and gives the layer path and op whose result was the first that is not finite, if there is one. The model is of no use
    /// afterwards.
    fn blame(&mut self, batch: &Batch, input: StepInput) -> Result<Option<String>, LabError>;

    /// Sum of losses in nats and number of counted targets of held-out rows.
    fn held_out(&mut self, batch: &Batch) -> Result<(f64, f64), LabError>;

    /// Reads the first tokens of a text; logits behind the last one. Later tokens may come up to `capacity` in all.
    fn prefill(&mut self, ids: &[i32], capacity: usize) -> Result<Vec<f32>, LabError>;

    /// Reads the token at `position` after a prefill; logits behind it.
    fn decode(&mut self, id: i32, position: usize) -> Result<Vec<f32>, LabError>;

    /// Copies of weights and states.
    fn tensors(&self) -> Result<(Vec<Tensor>, Vec<Tensor>), LabError>;

    /// Puts weights and states back. `Err` is one sentence if they are not those of this model.
    fn restore(
        &mut self,
        weights: &[Tensor],
        states: &[Tensor],
    ) -> Result<Result<(), String>, LabError>;
}
