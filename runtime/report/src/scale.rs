//! Axes: from values to places, and the ticks that a reader can count with.
//!
//! Linear ticks are 1, 2 or 5 times a power of ten (2.5 is left out: its labels need a digit more). Logarithmic ticks are whole decades, or 1 and 3,
//! or 1, 2 and 5 in each, whatever gives about as many labels as fit; an axis of less than a third of a decade has linear ticks at logarithmic places.

use serde::{Deserialize, Serialize};

use crate::number;

/// How values become places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScaleKind {
    /// Equal differences are equally far.
    Linear,
    /// Equal ratios are equally far; values are above 0.
    Log,
}

/// How numbers are spelled on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spelling {
    /// `3M`, `10B`, `0.25`.
    Count,
    /// `1e17`.
    Power,
}

/// An axis with its ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    kind: ScaleKind,
    low: f64,
    high: f64,
}

/// A tick. Minor ones have no label.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub(crate) value: f64,
    pub(crate) label: Option<String>,
}

impl Scale {
    /// An axis for all of `values` with some room at its ends. Values that the axis cannot show are passed over; without any it is 0 to 1, or 1 to 10.
    pub(crate) fn around(kind: ScaleKind, values: impl Iterator<Item = f64>, room: f64) -> Self {
        let fits = |x: &f64| x.is_finite() && (kind == ScaleKind::Linear || *x > 0.0);
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for x in values.filter(fits) {
            (low, high) = (low.min(x), high.max(x));
        }
        if low > high {
            (low, high) = if kind == ScaleKind::Log { (1.0, 10.0) } else { (0.0, 1.0) };
        }
        match kind {
            ScaleKind::Linear => {
                // One value, or values that differ by rounding only, get room of their own size.
                let span = high - low;
                let least = 1e-9 * low.abs().max(high.abs());
                let pad = if span > least {
                    span * room
                } else if low == 0.0 {
                    1.0
                } else {
                    low.abs() * 0.1
                };
                Self { kind, low: low - pad, high: high + pad }
            }
            ScaleKind::Log => {
                let ratio = high / low;
                let pad = if ratio > 1.0 + 1e-9 { ratio.powf(room) } else { 2.0 };
                let (low, high) = (low / pad, high * pad);
                // At the ends of what a float holds there is no room left.
                Self { kind, low: low.max(f64::MIN_POSITIVE), high: high.min(f64::MAX) }
            }
        }
    }

    /// The ends.
    #[cfg(test)]
    fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// 0 at the low end, 1 at the high end.
    pub(crate) fn share(&self, x: f64) -> f64 {
        match self.kind {
            ScaleKind::Linear => (x - self.low) / (self.high - self.low),
            ScaleKind::Log => (x / self.low).ln() / (self.high / self.low).ln(),
        }
    }

    /// The value at a share of the axis.
    #[cfg(test)]
    fn value(&self, share: f64) -> f64 {
        match self.kind {
            ScaleKind::Linear => self.low + (self.high - self.low) * share,
            ScaleKind::Log => self.low * (self.high / self.low).powf(share),
        }
    }

    /// Ticks from low to high, about `wanted` of them with labels.
    pub(crate) fn ticks(&self, wanted: usize, spelling: Spelling) -> Vec<Tick> {
        let wanted = wanted.max(2);
        match self.kind {
            ScaleKind::Linear => linear(self.low, self.high, wanted, spelling),
            ScaleKind::Log if (self.high / self.low).log10() < 0.35 => {
                linear(self.low, self.high, wanted, spelling)
            }
            ScaleKind::Log => log(self.low, self.high, wanted, spelling),
        }
    }
}

fn linear(low: f64, high: f64, wanted: usize, spelling: Spelling) -> Vec<Tick> {
    let rough = (high - low) / wanted as f64;
    let base = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * base).into_iter().find(|s| *s >= rough * 0.999);
    let step = step.unwrap_or(base * 10.0);
    if !(step.is_finite() && step > 0.0) {
        return Vec::new();
    }
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    let values: Vec<f64> = (first..=last).take(50).map(|i| i as f64 * step).collect();
    let labels = labels(&values, step, spelling);
    values.into_iter().zip(labels).map(|(value, l)| Tick { value, label: Some(l) }).collect()
}

/// Labels of one axis look alike: as many decimals as the step needs, one letter for all.
fn labels(values: &[f64], step: f64, spelling: Spelling) -> Vec<String> {
    let largest = values.iter().fold(0f64, |m, v| m.max(v.abs()));
    if spelling == Spelling::Power || largest >= 1e15 || (largest > 0.0 && largest < 1e-3) {
        return values.iter().map(|v| number::power(*v, 4)).collect();
    }
    let table = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "K")];
    let (scale, letter) = table.into_iter().find(|(s, _)| largest >= *s).unwrap_or((1.0, ""));
    let scale = if letter == "K" { 1e3 } else { scale };
    let decimals = (-(step / scale).log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
    values
        .iter()
        .map(|v| match *v {
            0.0 => "0".to_owned(),
            v => number::signed(&format!("{:.decimals$}", v / scale)) + letter,
        })
        .collect()
}

fn log(low: f64, high: f64, wanted: usize, spelling: Spelling) -> Vec<Tick> {
    let inside = |x: f64| x >= low * (1.0 - 1e-9) && x <= high * (1.0 + 1e-9);
    let first = low.log10().floor() as i32;
    let last = high.log10().ceil() as i32;
    let of = |mantissas: &[u32], every: i32| -> Vec<f64> {
        (first..=last)
            .filter(|e| every == 1 || e.rem_euclid(every) == 0)
            // Through text: 10^k by `powi` is off by an ulp for some k, and then labels read 9.999e22.
            .flat_map(|e| mantissas.iter().map(move |m| format!("{m}e{e}").parse().unwrap_or(0.0)))
            .filter(|x| inside(*x))
            .collect()
    };
    let all: [(&[u32], i32); 7] = [
        (&[1, 2, 3, 4, 5, 6, 7, 8, 9], 1),
        (&[1, 2, 5], 1),
        (&[1, 3], 1),
        (&[1], 1),
        (&[1], 2),
        (&[1], 5),
        (&[1], 20),
    ];
    // The densest set that still fits; more than nothing where even the sparsest has too many.
    let major = all.iter().map(|(m, every)| of(m, *every)).find(|v| v.len() <= wanted);
    let major = major.unwrap_or_default();
    let decades = last - first;
    let minor = if decades <= 6 { of(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 1) } else { of(&[1], 1) };
    let mut ticks: Vec<Tick> = minor
        .into_iter()
        .filter(|x| !major.contains(x))
        .map(|value| Tick { value, label: None })
        .collect();
    ticks.extend(major.into_iter().map(|value| {
        let label = match spelling {
            Spelling::Power => number::power(value, 3),
            Spelling::Count => number::short(value, 3),
        };
        Tick { value, label: Some(label) }
    }));
    ticks.sort_by(|a, b| a.value.total_cmp(&b.value));
    ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(kind: ScaleKind, low: f64, high: f64, wanted: usize, spelling: Spelling) -> String {
        let ticks = Scale { kind, low, high }.ticks(wanted, spelling);
        ticks.into_iter().filter_map(|t| t.label).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_of_linear_axes() {
        let linear = |low, high, n| shown(ScaleKind::Linear, low, high, n, Spelling::Count);
        assert_eq!(linear(2.31, 3.72, 6), "2.5 3.0 3.5");
        assert_eq!(linear(2.31, 3.72, 8), "2.4 2.6 2.8 3.0 3.2 3.4 3.6");
        assert_eq!(linear(0.0, 40_000.0, 5), "0 10K 20K 30K 40K");
        assert_eq!(linear(-0.02, 0.021, 5), "−0.02 −0.01 0 0.01 0.02");
        assert_eq!(linear(0.0, 2.5e6, 6), "0 0.5M 1.0M 1.5M 2.0M 2.5M");
    }

    #[test]
    fn ticks_of_log_axes() {
        let counts = |low, high, n| shown(ScaleKind::Log, low, high, n, Spelling::Count);
        assert_eq!(counts(8e5, 1.5e8, 6), "1M 3M 10M 30M 100M");
        assert_eq!(counts(1e6, 9.9e6, 9), "1M 2M 3M 4M 5M 6M 7M 8M 9M");
        assert_eq!(counts(1e6, 9.9e6, 4), "1M 2M 5M");
        assert_eq!(counts(2.1, 2.6, 5), "2.1 2.2 2.3 2.4 2.5 2.6");
        let powers = |low, high, n| shown(ScaleKind::Log, low, high, n, Spelling::Power);
        assert_eq!(powers(6e17, 4e21, 6), "1e18 1e19 1e20 1e21");
        assert_eq!(powers(1e10, 1e24, 6), "1e10 1e15 1e20");
    }

    #[test]
    fn no_value_one_value_and_values_that_cannot_be_shown() {
        let log = |v: &[f64]| Scale::around(ScaleKind::Log, v.iter().copied(), 0.05).ends();
        assert_eq!(log(&[]), (0.5f64.max(1.0 / 10f64.powf(0.05)), 10.0 * 10f64.powf(0.05)));
        assert_eq!(log(&[8.0]), (4.0, 16.0));
        assert_eq!(log(&[-1.0, 0.0, f64::NAN, 8.0]), (4.0, 16.0));
        let linear = |v: &[f64]| Scale::around(ScaleKind::Linear, v.iter().copied(), 0.05).ends();
        assert_eq!(linear(&[0.0]), (-1.0, 1.0));
        assert_eq!(linear(&[2.0, 2.0]), (1.8, 2.2));
        let (low, high) = linear(&[0.0, 1.0, f64::INFINITY]);
        assert!((low + 0.05).abs() < 1e-12 && (high - 1.05).abs() < 1e-12);
    }

    #[test]
    fn shares_and_values_are_inverse() {
        for kind in [ScaleKind::Linear, ScaleKind::Log] {
            let s = Scale { kind, low: 2.0, high: 700.0 };
            for t in [0.0, 0.3, 1.0] {
                assert!((s.share(s.value(t)) - t).abs() < 1e-12);
            }
        }
    }
}
