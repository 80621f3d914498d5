//! Random numbers by seed and place, so that draws do not depend on who makes them or in which order.

use cs336_compiler::scalar::{mix_key, philox};

/// A stream of numbers: that of a seed and a number.
#[derive(Debug, Clone)]
pub struct Random {
    key: [u32; 2],
    next: u64,
    left: [u32; 4],
    used: usize,
}

impl Random {
    /// The stream `stream` of a seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        Self { key: mix_key(seed, stream), next: 0, left: [0; 4], used: 4 }
    }

    fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.left = philox([self.next as u32, (self.next >> 32) as u32, 0, 0], self.key);
            self.next += 1;
            self.used = 0;
        }
        self.used += 1;
        self.left[self.used - 1]
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        let (a, b) = (u64::from(self.word()), u64::from(self.word()));
        ((a << 21) ^ (b >> 11)) as f64 / (1u64 << 53) as f64
    }

    /// A whole number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n.saturating_sub(1))
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}
