//! Units of numbers: a product of base units with integer powers, as a type.
//!
//! Base units: FLOPs, tokens, params, bytes, s, steps, USD, rows, docs, epochs, nats, bits, and `words`-like counts of later
//! parts. Prefixed spellings (KB, GiB, min, h, ms, TFLOPs) are scales of a base unit; `FLOP/s` is a rate. `%` is no unit: 10% is 0.1 shown as per cent.

use std::collections::BTreeMap;

/// A unit: base unit to power. Empty: a plain number.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Unit {
    /// Base unit (plural spelling) to its power; no zero powers.
    pub powers: BTreeMap<&'static str, i32>,
}

impl Unit {
    /// A plain number.
    pub fn none() -> Self {
        Self::default()
    }

    /// One base unit.
    pub fn base(name: &'static str) -> Self {
        Self { powers: BTreeMap::from([(name, 1)]) }
    }

    /// True for a plain number.
    pub fn is_none(&self) -> bool {
        self.powers.is_empty()
    }

    /// The unit of a product (`sign` 1) or quotient (`sign` -1).
    #[must_use]
    pub fn times(&self, other: &Self, sign: i32) -> Self {
        let mut powers = self.powers.clone();
        for (name, power) in &other.powers {
            *powers.entry(name).or_insert(0) += sign * power;
        }
        powers.retain(|_, p| *p != 0);
        Self { powers }
    }
}
