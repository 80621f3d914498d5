//! A model of a few numbers: its loss depends on every step that was done, in order, and on nothing else.

use cs336_compiler::scalar::DType;
use cs336_data::Batch;

use super::{Machine, StepInput, StepOutput};
use crate::checkpoint::Tensor;
use crate::error::LabError;

#[derive(Debug, Clone)]
pub(crate) struct FakeMachine {
    vocab: usize,
    weights: Vec<f32>,
    moments: Vec<f32>,
    /// This step's loss is NaN.
    pub(crate) diverges_at: Option<u64>,
    /// This step fails as if the process were killed.
    pub(crate) dies_at: Option<u64>,
    /// Positions read at most in one go.
    pub(crate) longest: usize,
    /// Steps done, replayed ones included.
    pub(crate) done: u64,
}

impl FakeMachine {
    pub(crate) fn new(vocab: usize, width: usize) -> Self {
        Self {
            vocab,
            weights: vec![0.0; width],
            moments: vec![0.0; width],
            diverges_at: None,
            dies_at: None,
            longest: 0,
            done: 0,
        }
    }

    fn logits(&self, id: i32, position: usize) -> Vec<f32> {
        let weight = self.weights.first().copied().unwrap_or(0.0);
        (0..self.vocab)
            .map(|v| ((v as f32 * 0.7 + id as f32 * 1.3 + position as f32) + weight).sin())
            .collect()
    }
}

fn tensor(name: &str, values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    Tensor { name: name.to_owned(), dtype: DType::F32, shape: vec![values.len()], bytes }
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

impl Machine for FakeMachine {
    fn init(&mut self, seed: u64) -> Result<(), LabError> {
        for (at, weight) in self.weights.iter_mut().enumerate() {
            *weight = ((seed + at as u64) as f32 * 0.37).sin();
        }
        self.moments.fill(0.0);
        Ok(())
    }

    fn begin_with(&mut self, weights: &[Tensor]) -> Result<Result<(), String>, LabError> {
        let moments = tensor("m:w", &self.moments);
        self.restore(weights, &[moments])
    }

    fn step(&mut self, batch: &Batch, input: StepInput) -> Result<StepOutput, LabError> {
        if self.dies_at == Some(input.step) {
            return Err(LabError::Tensor("killed".to_owned()));
        }
        self.done += 1;
        let mut loss = 0.0;
        for (at, (weight, moment)) in self.weights.iter_mut().zip(&mut self.moments).enumerate() {
            let seen: f32 = batch.ids.iter().map(|id| (*id as f32 + at as f32).sin()).sum();
            *moment = 0.9 * *moment + 0.1 * (*weight - seen);
            *weight -= 0.1 * (1.0 - input.share as f32) * *moment;
            loss += f64::from(*weight * *weight);
        }
        if self.diverges_at == Some(input.step) {
            loss = f64::NAN;
        }
        Ok(StepOutput {
            loss,
            grad_norm: Some(f64::from(self.moments[0].abs())),
            lr: Some(0.1 * (1.0 - input.share)),
            measures: vec![("load".to_owned(), f64::from(self.weights[0]))],
        })
    }

    fn blame(&mut self, batch: &Batch, input: StepInput) -> Result<Option<String>, LabError> {
        let loss = self.step(batch, input)?.loss;
        Ok(if loss.is_finite() { None } else { Some("blocks.mlp exp".to_owned()) })
    }

    fn held_out(&mut self, batch: &Batch) -> Result<(f64, f64), LabError> {
        let count: f32 = batch.learn.iter().sum();
        Ok((f64::from(count) * f64::from(self.weights[0].abs() + 1.0), f64::from(count)))
    }

    fn prefill(&mut self, ids: &[i32], capacity: usize) -> Result<Vec<f32>, LabError> {
        self.longest = self.longest.max(ids.len()).max(capacity);
        Ok(self.logits(ids.last().copied().unwrap_or(0), ids.len() - 1))
    }

    fn decode(&mut self, id: i32, position: usize) -> Result<Vec<f32>, LabError> {
        self.longest = self.longest.max(position + 1);
        Ok(self.logits(id, position))
    }

    fn tensors(&self) -> Result<(Vec<Tensor>, Vec<Tensor>), LabError> {
        Ok((vec![tensor("w", &self.weights)], vec![tensor("m:w", &self.moments)]))
    }

    fn restore(
        &mut self,
        weights: &[Tensor],
        states: &[Tensor],
    ) -> Result<Result<(), String>, LabError> {
        let (Some(w), Some(m)) = (weights.first(), states.first()) else {
            return Ok(Err("`w` is missing".to_owned()));
        };
        if w.shape != [self.weights.len()] {
            return Ok(Err(format!("`w` has the shape {:?}", w.shape)));
        }
        (self.weights, self.moments) = (numbers(w), numbers(m));
        Ok(Ok(()))
    }
}
