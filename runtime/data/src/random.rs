//! Random numbers by address: a seed, a purpose and a counter give a number, always the same.
//!
//! Philox 4x32-10 keyed by the hash of (seed, purpose), so that streams of different purposes never share numbers and
//! any number can be had without those before it.

use cs336_compiler::scalar::philox;

/// The numbers of one purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    key: [u32; 2],
}

impl Stream {
    /// The stream of `purpose` under `seed`.
    pub(crate) fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
        let hash = *hasher.finalize().as_bytes();
        let word =
            |at: usize| u32::from_le_bytes([hash[at], hash[at + 1], hash[at + 2], hash[at + 3]]);
        Self { key: [word(0), word(4)] }
    }

    /// 64 random bits at the address `(a, b)`.
    pub(crate) fn bits(&self, a: u64, b: u64) -> u64 {
        let words = philox([a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32], self.key);
        u64::from(words[0]) | u64::from(words[1]) << 32
    }

    /// A number below `n` at the address `(a, b)`; `n` is not 0. The bias is below n / 2^64.
    pub(crate) fn below(&self, a: u64, b: u64, n: u64) -> u64 {
        ((u128::from(self.bits(a, b)) * u128::from(n)) >> 64) as u64
    }

    /// A number in [0, 1) at the address `(a, b)`.
    pub(crate) fn unit(&self, a: u64, b: u64) -> f64 {
        (self.bits(a, b) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The numbers at `(a, 0)`, `(a, 1)`, ... one after the other.
    pub(crate) fn draws(self, a: u64) -> Draws {
        Draws { stream: self, a, next: 0 }
    }
}

/// Consecutive numbers of a stream.
#[derive(Debug, Clone)]
pub(crate) struct Draws {
    stream: Stream,
    a: u64,
    next: u64,
}

impl Draws {
    /// The next number below `n`, which is not 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.next += 1;
        self.stream.below(self.a, self.next - 1, n as u64) as usize
    }

    /// True with `percent` in 100.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of `items`, which is not empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}
