//! A seeded permutation of `0..n` that is computed, not stored.
//!
//! A Feistel network over the smallest even number of bits that holds `n`, with a Philox word as the round function. What
//! falls outside `0..n` is sent through again until it falls inside ("cycle walking", Black and Rogaway 2002), which
//! keeps it a permutation. The domain is less than four times `n`, so four rounds of walking are expected at most.

use crate::random::Stream;

/// The permutation of one epoch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permutation {
    stream: Stream,
    epoch: u64,
    len: u64,
    half_bits: u32,
}

/// Enough that no pattern is left to see; four would already be a pseudorandom permutation (Luby and Rackoff 1988).
const ROUNDS: u64 = 6;

impl Permutation {
    /// The permutation of `0..len` for `epoch`.
    pub(crate) fn new(stream: Stream, epoch: u64, len: u64) -> Self {
        let bits = u64::BITS - len.saturating_sub(1).leading_zeros();
        Self { stream, epoch, len, half_bits: bits.div_ceil(2).max(1) }
    }

    /// Where `index` goes; `index` is below the length.
    pub(crate) fn at(&self, index: u64) -> u64 {
        debug_assert!(index < self.len, "index {index} of a permutation of {}", self.len);
        let mut value = index;
        loop {
            value = self.shuffle(value);
            if value < self.len {
                return value;
            }
        }
    }

    fn shuffle(&self, value: u64) -> u64 {
        let mask = (1_u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for round in 0..ROUNDS {
            let noise = self.stream.bits(self.epoch * ROUNDS + round, right) & mask;
            (left, right) = (right, left ^ noise);
        }
        left << self.half_bits | right
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_index_once() {
        for len in (1..70).chain([1000, 4096, 4097]) {
            for epoch in 0..3 {
                let order = Permutation::new(Stream::new(7, "test"), epoch, len);
                let mut seen: Vec<u64> = (0..len).map(|i| order.at(i)).collect();
                seen.sort_unstable();
                assert!(seen.iter().copied().eq(0..len), "{len} windows, epoch {epoch}");
            }
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let list = |seed, epoch| {
            let order = Permutation::new(Stream::new(seed, "test"), epoch, 100);
            (0..100).map(|i| order.at(i)).collect::<Vec<_>>()
        };
        assert_ne!(list(1, 0), list(1, 1));
        assert_ne!(list(1, 0), list(2, 0));
        assert_eq!(list(1, 5), list(1, 5));
    }
}
