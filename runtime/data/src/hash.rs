//! A fast map for byte strings and ids, for tables that are looked up and never listed in their own order.
//!
//! One 64 x 64 -> 128 bit multiplication per eight bytes, folded. No protection against chosen keys: the keys are our own
//! texts, and a table that meets many collisions is slow, not wrong.

#[allow(
    clippy::disallowed_types,
    reason = "for tables that are looked up; who lists one must sort"
)]
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A `HashMap` with the hasher of this file. Never iterate it without sorting what comes out.
#[allow(clippy::disallowed_types, reason = "see above")]
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<Folded>>;

/// The state: the product so far.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Folded(u64);

/// Two odd constants from the digits of pi.
const A: u64 = 0x2437_6a88_85a3_08d3;
const B: u64 = 0x1319_8a2e_0370_7345;

impl Folded {
    fn mix(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ A) * u128::from(word.rotate_left(32) ^ B);
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut last = [0; 8];
            last[..rest.len()].copy_from_slice(rest);
            self.mix(u64::from_le_bytes(last) ^ ((rest.len() as u64) << 56));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }
}
