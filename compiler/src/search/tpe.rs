//! Where the next point of a search lies: by chance, or by what earlier points gave.
//!
//! The tree-structured Parzen estimator (Bergstra, Bardenet, Bengio & Kégl, "Algorithms for hyper-parameter optimization", 2011, section 4): the
//! better part of the trials and the rest each give a density along every axis of the space; of some draws from the first the one is
//! taken at which the ratio of both is largest. An axis is looked at alone, and only in the trials that have it, so a space may be conditional.
//!
//! Everything here is a function of the seed, the number of the point, the name of the axis and the trials: the same program draws
//! the same points, however many of them run at a time.

use crate::scalar::{mix_key, philox};

/// Where a trial lies on an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Coordinate {
    /// On a line from 0 to 1, both ends included.
    Line(f64),
    /// One of several values.
    Choice(usize),
}

/// What is known of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Known {
    /// It is drawn and not yet measured.
    Waiting,
    /// It ended without a figure.
    Failed,
    /// How far it came (runs that were stopped early came less far), and what it measured there.
    Measured {
        /// The rung at which it was stopped; more than the last one: it came to its end.
        rung: u64,
        /// The figure.
        measure: f64,
    },
}

/// A point that was drawn before.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// Its axes by name.
    pub at: Vec<(String, Coordinate)>,
    /// What came of it.
    pub known: Known,
}

/// Draws from the better density, of which the most promising is taken.
const CANDIDATES: u32 = 24;
/// The share of the trials that is the better part.
const BETTER: f64 = 0.1;
/// It is never more than this.
const MOST_BETTER: usize = 25;

/// A draw of one point: its axes are asked one after the other.
#[derive(Debug)]
pub struct Draw<'a> {
    /// The trials, the better part first.
    ranked: Vec<&'a Trial>,
    better: usize,
    seed: u64,
    point: u64,
    attempt: u32,
}

impl<'a> Draw<'a> {
    /// The draw of a point. `attempt` counts those that the space did not take. Without trials it is by chance.
    pub fn new(trials: &'a [Trial], seed: u64, point: u64, attempt: u32) -> Self {
        let mut ranked: Vec<&Trial> = trials.iter().collect();
        // Those that came farther say more; what is still running counts as no better than what failed, so that a batch spreads.
        ranked.sort_by(|a, b| match (a.known, b.known) {
            (Known::Measured { rung: r, measure: x }, Known::Measured { rung: s, measure: y }) => {
                s.cmp(&r).then(x.total_cmp(&y))
            }
            (Known::Measured { .. }, Known::Failed | Known::Waiting) => std::cmp::Ordering::Less,
            (Known::Failed | Known::Waiting, Known::Measured { .. }) => std::cmp::Ordering::Greater,
            (Known::Failed | Known::Waiting, Known::Failed | Known::Waiting) => {
                std::cmp::Ordering::Equal
            }
        });
        let measured = ranked.iter().filter(|t| matches!(t.known, Known::Measured { .. })).count();
        let better = ((measured as f64 * BETTER).ceil() as usize).min(MOST_BETTER);
        Self { ranked, better, seed, point, attempt }
    }

    /// Where the point lies on a line from 0 to 1.
    pub fn line(&self, axis: &str) -> f64 {
        let on = |t: &&Trial| match at(t, axis)? {
            Coordinate::Line(x) => Some(x),
            Coordinate::Choice(_) => None,
        };
        let (better, rest) = self.parts(on);
        if better.is_empty() {
            return self.chance(axis, 0);
        }
        let (better, rest) = (Parzen::new(&better), Parzen::new(&rest));
        let candidates = (0..CANDIDATES).map(|i| {
            let which = self.chance(axis, 2 * i);
            let x = better.draw(which, self.chance(axis, 2 * i + 1));
            (x, better.density(x).ln() - rest.density(x).ln())
        });
        best(candidates)
    }

    /// Which of `of` values the point has.
    pub fn choice(&self, axis: &str, of: usize) -> usize {
        let on = |t: &&Trial| match at(t, axis)? {
            Coordinate::Choice(c) if c < of => Some(c),
            Coordinate::Choice(_) | Coordinate::Line(_) => None,
        };
        let (better, rest) = self.parts(on);
        let weights = |seen: &[usize]| {
            // One of each to begin with: what was never tried stays possible.
            let mut weights = vec![1.0; of];
            seen.iter().for_each(|c| weights[*c] += 1.0);
            let total: f64 = weights.iter().sum();
            weights.iter_mut().for_each(|w| *w /= total);
            weights
        };
        let (better, rest) = (weights(&better), weights(&rest));
        let pick = |u: f64| {
            let mut left = u;
            better.iter().position(|w| {
                left -= w;
                left < 0.0
            })
        };
        let candidates = (0..CANDIDATES).map(|i| {
            let c = pick(self.chance(axis, i)).unwrap_or(of.saturating_sub(1));
            (c, better[c].ln() - rest[c].ln())
        });
        best(candidates)
    }

    fn parts<T>(&self, on: impl Fn(&&'a Trial) -> Option<T>) -> (Vec<T>, Vec<T>) {
        let (better, rest) = self.ranked.split_at(self.better);
        (better.iter().filter_map(&on).collect(), rest.iter().filter_map(&on).collect())
    }

    /// A number from 0 to 1 for this point, axis and use.
    fn chance(&self, axis: &str, count: u32) -> f64 {
        // FNV-1a: which axis it is.
        let name = axis.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| {
            (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
        });
        let counter = [count, self.attempt, self.point as u32, (self.point >> 32) as u32];
        let [a, b, ..] = philox(counter, mix_key(self.seed, name));
        let bits = (u64::from(a) << 21) ^ u64::from(b >> 11);
        (bits as f64 + 0.5) / (1u64 << 53) as f64
    }
}

fn at(trial: &Trial, axis: &str) -> Option<Coordinate> {
    trial.at.iter().find(|(name, _)| name == axis).map(|(_, c)| *c)
}

/// The first of those with the largest score.
fn best<T>(mut candidates: impl Iterator<Item = (T, f64)>) -> T {
    let first = candidates.next().expect("there are candidates");
    let better = |best: (T, f64), next: (T, f64)| if next.1 > best.1 { next } else { best };
    candidates.fold(first, better).0
}

/// A mixture of normal densities on the line from 0 to 1: one for each trial, as wide as the gap to its farther neighbour, and a broad
/// one in the middle for what nobody has tried.
struct Parzen {
    /// Middles and widths.
    parts: Vec<(f64, f64)>,
}

impl Parzen {
    fn new(trials: &[f64]) -> Self {
        let mut middles: Vec<f64> = trials.to_vec();
        middles.push(0.5);
        middles.sort_by(f64::total_cmp);
        let broad = middles.iter().position(|m| *m == 0.5).unwrap_or(0);
        // Many trials close together must not make the density a spike.
        let least = 1.0 / (1.0 + middles.len() as f64).min(100.0);
        let width = |i: usize| {
            let left = if i == 0 { middles[i] } else { middles[i] - middles[i - 1] };
            let right = middles.get(i + 1).map_or(1.0 - middles[i], |next| next - middles[i]);
            if i == broad { 1.0 } else { left.max(right).clamp(least, 1.0) }
        };
        Self { parts: (0..middles.len()).map(|i| (middles[i], width(i))).collect() }
    }

    /// A number from the density: `which` part, and how far into it, both from 0 to 1.
    fn draw(&self, which: f64, far: f64) -> f64 {
        let last = self.parts.len() - 1;
        let (middle, width) = self.parts[((which * self.parts.len() as f64) as usize).min(last)];
        // Inverse of the part's distribution, cut off at 0 and 1, by bisection: exact enough, and the same everywhere.
        let below = |x: f64| normal_below((x - middle) / width);
        let wanted = below(0.0) + far * (below(1.0) - below(0.0));
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..52 {
            let x = 0.5 * (low + high);
            if below(x) < wanted {
                low = x;
            } else {
                high = x;
            }
        }
        0.5 * (low + high)
    }

    fn density(&self, x: f64) -> f64 {
        let part = |(middle, width): &(f64, f64)| {
            let z = (x - middle) / width;
            let inside = normal_below((1.0 - middle) / width) - normal_below(-middle / width);
            (-0.5 * z * z).exp() / (width * (2.0 * std::f64::consts::PI).sqrt() * inside)
        };
        self.parts.iter().map(part).sum::<f64>() / self.parts.len() as f64
    }
}

/// The share of the standard normal distribution below `z`.
fn normal_below(z: f64) -> f64 {
    let tail = 0.5 * erfc(z.abs() / std::f64::consts::SQRT_2);
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// The complementary error function of a number that is not negative, to 1.2e-7 of itself (Press et al., "Numerical recipes in C", 2nd
/// edition, section 6.2, a Chebyshev fit).
fn erfc(x: f64) -> f64 {
    const C: [f64; 10] = [
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    ];
    let t = 1.0 / (1.0 + 0.5 * x);
    let sum = C.iter().rev().fold(0.0, |sum, c| sum * t + c);
    t * (-x * x + sum).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }

    /// How many points a search needs to come within `near` of the lowest value, `batch` at a time after ten by chance.
    fn needed(
        seed: u64,
        batch: Option<u64>,
        near: f64,
        value: &dyn Fn(f64, f64, usize) -> f64,
    ) -> f64 {
        let mut trials: Vec<Trial> = Vec::new();
        let mut measures = Vec::new();
        for point in 0..400 {
            let guided = batch.is_some_and(|b| point >= 10 && (point - 10) % b == 0);
            if guided {
                for (trial, measure) in trials.iter_mut().zip(&measures) {
                    trial.known = Known::Measured { rung: 0, measure: *measure };
                }
            }
            let known = if batch.is_some() && point >= 10 { trials.as_slice() } else { &[] };
            let draw = Draw::new(known, seed, point, 0);
            let (x, y, c) = (draw.line("x"), draw.line("y"), draw.choice("c", 3));
            let measure = value(x, y, c);
            if measure < near {
                return point as f64;
            }
            let (x, y, c) = (Coordinate::Line(x), Coordinate::Line(y), Coordinate::Choice(c));
            let at = [("x", x), ("y", y), ("c", c)].map(|(n, c)| (n.to_owned(), c)).to_vec();
            trials.push(Trial { at, known: Known::Waiting });
            measures.push(measure);
        }
        400.0
    }

    #[test]
    fn it_finds_the_lowest_point_of_a_bowl_sooner_than_chance() {
        let bowl = |x: f64, y: f64, c: usize| {
            (x - 0.23).powi(2) + (y - 0.71).powi(2) + if c == 1 { 0.0 } else { 0.3 }
        };
        let of = |batch| median((0..31).map(|seed| needed(seed, batch, 2e-3, &bowl)).collect());
        let (one, four, chance) = (of(Some(1)), of(Some(4)), of(None));
        assert!(one * 2.0 < chance, "{one} against {chance} points in the median");
        assert!(four * 2.0 < chance, "{four} against {chance} points in the median");
    }

    #[test]
    fn an_axis_that_some_trials_lack_is_learned_from_those_that_have_it() {
        let trial = |x: Option<f64>, measure| {
            let x = x.map(|x| ("x".to_owned(), Coordinate::Line(x)));
            Trial { at: x.into_iter().collect(), known: Known::Measured { rung: 0, measure } }
        };
        let mut trials: Vec<Trial> = (0..40).map(|i| trial(None, 5.0 + f64::from(i))).collect();
        trials.extend((0..40).map(|i| {
            let x = f64::from(i) / 39.0;
            trial(Some(x), (x - 0.8).abs())
        }));
        let drawn = median((0..99).map(|p| Draw::new(&trials, 1, p, 0).line("x")).collect());
        assert!((drawn - 0.8).abs() < 0.1, "{drawn}");
    }

    #[test]
    fn what_came_farther_counts_more_and_what_failed_least() {
        let trial = |known| Trial { at: Vec::new(), known };
        let all = [
            trial(Known::Failed),
            trial(Known::Measured { rung: 1, measure: 1.0 }),
            trial(Known::Waiting),
            trial(Known::Measured { rung: 3, measure: 2.0 }),
            trial(Known::Measured { rung: 3, measure: 1.5 }),
        ];
        let draw = Draw::new(&all, 0, 0, 0);
        let order: Vec<usize> = draw
            .ranked
            .iter()
            .map(|t| all.iter().position(|a| std::ptr::eq(a, *t)).expect("one of them"))
            .collect();
        assert_eq!((order, draw.better), (vec![4, 3, 1, 0, 2], 1));
    }

    #[test]
    fn draws_by_chance_are_even_and_axes_do_not_follow_each_other() {
        let draws: Vec<(f64, f64)> = (0..4000)
            .map(|p| {
                let draw = Draw::new(&[], 3, p, 0);
                (draw.line("lr"), draw.line("decay"))
            })
            .collect();
        let mean = |f: &dyn Fn(&(f64, f64)) -> f64| draws.iter().map(f).sum::<f64>() / 4000.0;
        assert!((mean(&|d| d.0) - 0.5).abs() < 0.02);
        assert!((mean(&|d| (d.0 - 0.5).powi(2)) - 1.0 / 12.0).abs() < 5e-3);
        assert!(mean(&|d| (d.0 - 0.5) * (d.1 - 0.5)).abs() < 5e-3);
    }

    #[test]
    fn the_density_is_one() {
        let parzen = Parzen::new(&[0.1, 0.12, 0.9]);
        let sum: f64 = (0..10_000).map(|i| parzen.density((f64::from(i) + 0.5) / 1e4)).sum();
        assert!((sum / 1e4 - 1.0).abs() < 1e-5, "{sum}");
        // Half of what is drawn from a part lies below its middle.
        let below = normal_below(1.0) - normal_below(-1.0);
        assert!((below - 0.682_689_492).abs() < 1e-6);
    }
}
