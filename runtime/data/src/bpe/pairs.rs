//! What a pair of tokens becomes, found in one probe or two.
//!
//! A table with open addressing, at most half full, of 16 bytes for each merge.

use super::{Merge, packed};

/// No merge: its rank is behind all others.
pub(super) const NEVER: Merge = Merge { rank: u32::MAX, token: u32::MAX };

/// Merges by their pairs.
#[derive(Debug, Clone)]
pub(super) struct Pairs {
    /// By the hash of the pair, or the next free place; the length is a power of two.
    slots: Box<[(u64, Merge)]>,
    /// How far a hash is shifted to become a place.
    shift: u32,
}

/// No pair: ids are smaller.
const FREE: u64 = u64::MAX;

impl Pairs {
    /// An empty table with room for `most` merges.
    pub(super) fn new(most: usize) -> Self {
        let bits = (2 * most.max(1)).next_power_of_two().ilog2();
        Self { slots: vec![(FREE, NEVER); 1 << bits].into_boxed_slice(), shift: 64 - bits }
    }

    /// Adds what the pair becomes, if that is not known.
    pub(super) fn insert(&mut self, left: u32, right: u32, merge: Merge) {
        let place = self.place(packed(left, right));
        if self.slots[place].0 == FREE {
            self.slots[place] = (packed(left, right), merge);
        }
    }

    /// What the pair becomes.
    #[inline]
    pub(super) fn get(&self, left: u32, right: u32) -> Merge {
        self.slots[self.place(packed(left, right))].1
    }

    /// Where the pair is, or where there is room for it.
    #[inline]
    fn place(&self, pair: u64) -> usize {
        let most = self.slots.len() - 1;
        let product = u128::from(pair ^ 0x2437_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15;
        let mut place = ((product >> 64) as u64 ^ product as u64).wrapping_shr(self.shift) as usize;
        loop {
            let found = self.slots[place & most].0;
            if found == pair || found == FREE {
                return place & most;
            }
            place += 1;
        }
    }
}
