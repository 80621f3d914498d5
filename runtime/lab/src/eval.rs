//! The loss on held-out text, and what it is in other units.
//!
//! All of the text is predicted, every token but the first exactly once. Sums over batches are of sums and counts, never of
//! means, so the number does not depend on how the text falls into batches.

use cs336_data::{Counts, Windows};

use crate::error::LabError;
use crate::machine::Machine;

/// How well a model predicts a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HeldOut {
    /// Mean nats per token.
    pub loss: f64,
    /// Tokens that were predicted.
    pub tokens: u64,
    /// Bytes of the text.
    pub bytes: u64,
}

/// Measures the model on all windows.
pub fn held_out(machine: &mut dyn Machine, windows: &Windows) -> Result<HeldOut, LabError> {
    let (mut sum, mut count) = (0.0, 0.0);
    for batch in windows.iter() {
        let (batch_sum, batch_count) = machine.held_out(&batch)?;
        sum += batch_sum;
        count += batch_count;
    }
    let Counts { tokens, bytes, .. } = windows.counts();
    Ok(HeldOut { loss: sum / count, tokens, bytes })
}

impl HeldOut {
    /// e^loss: as unsure as among so many equally likely tokens.
    pub fn perplexity(&self) -> f64 {
        self.loss.exp()
    }

    /// Bits per byte of text: does not depend on the tokenizer, so models with different ones compare.
    pub fn bits_per_byte(&self) -> f64 {
        self.loss / std::f64::consts::LN_2 * self.tokens as f64 / self.bytes as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let uniform = HeldOut { loss: 256f64.ln(), tokens: 1000, bytes: 1000 };
        assert!((uniform.perplexity() - 256.0).abs() < 1e-9);
        assert!((uniform.bits_per_byte() - 8.0).abs() < 1e-12);
        let tokens_of_four = HeldOut { loss: 2.0, tokens: 250, bytes: 1000 };
        assert!((tokens_of_four.bits_per_byte() - 0.5 / std::f64::consts::LN_2).abs() < 1e-12);
    }
}
