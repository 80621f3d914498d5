//! Optimal sizes without a law of the loss: approaches 1 and 2 of Hoffmann et al. 2022, and the rule of the lowest run.
//!
//! Each takes runs and gives one optimum per budget; [`power`] draws the line `N = k C^a` through them. They differ where the grid of sizes is coarse:
//! the lowest run lies on the grid, the minimum of the parabola between its points; a law through all runs ([`fit`](crate::fit())) does not
//! depend on where the minimum lies in the grid.

use std::collections::BTreeMap;

use crate::linalg;

/// A run, or a point of a training curve.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Parameters.
    pub params: f64,
    /// FLOPs: of the budget for [`parabola`] and [`lowest`], spent so far for [`envelope`].
    pub flops: f64,
    /// The loss.
    pub loss: f64,
}

/// The best size at a budget.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Best {
    /// FLOPs.
    pub flops: f64,
    /// Parameters.
    pub params: f64,
    /// The loss there.
    pub loss: f64,
}

/// `y = k x^a` with the standard error of `a` (none of two points).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Power {
    /// The factor.
    pub k: f64,
    /// The exponent.
    pub a: f64,
    /// Its standard error.
    pub error: Option<f64>,
}

fn budgets(runs: &[Run]) -> BTreeMap<u64, Vec<Run>> {
    let mut all: BTreeMap<u64, Vec<Run>> = BTreeMap::new();
    // Positive numbers sort as their bits do.
    let sound = |r: &&Run| r.flops > 0.0 && r.params > 0.0 && r.loss.is_finite();
    runs.iter().filter(sound).for_each(|r| all.entry(r.flops.to_bits()).or_default().push(*r));
    all
}

/// Of each budget the run with the least loss.
pub fn lowest(runs: &[Run]) -> Vec<Best> {
    budgets(runs)
        .into_values()
        .filter_map(|runs| {
            let r = runs.into_iter().min_by(|a, b| a.loss.total_cmp(&b.loss))?;
            Some(Best { flops: r.flops, params: r.params, loss: r.loss })
        })
        .collect()
}

/// Approach 2: of each budget the minimum of the parabola of loss in ln N, through the `nearest` runs around the lowest (all, if none is said). A budget
/// whose parabola opens downwards, or whose minimum lies outside of its sizes, is left out: it would be a guess.
pub fn parabola(runs: &[Run], nearest: Option<usize>) -> Vec<Best> {
    budgets(runs)
        .into_values()
        .filter_map(|mut runs| {
            let flops = runs.first()?.flops;
            let low = runs.iter().min_by(|a, b| a.loss.total_cmp(&b.loss))?.params.ln();
            if let Some(count) = nearest {
                runs.sort_by(|a, b| {
                    (a.params.ln() - low).abs().total_cmp(&(b.params.ln() - low).abs())
                });
                runs.truncate(count);
            }
            // Around their middle, so that the squares keep their digits.
            let mid = runs.iter().map(|r| r.params.ln()).sum::<f64>() / runs.len() as f64;
            let rows: Vec<f64> = runs
                .iter()
                .flat_map(|r| {
                    let x = r.params.ln() - mid;
                    [1.0, x, x * x]
                })
                .collect();
            let losses: Vec<f64> = runs.iter().map(|r| r.loss).collect();
            if runs.len() < 3 {
                return None;
            }
            let free = [(f64::NEG_INFINITY, f64::INFINITY); 3];
            let c = linalg::least_squares(&rows, &losses, &free)?;
            let x = -c[1] / (2.0 * c[2]);
            let least = runs.iter().map(|r| r.params.ln() - mid).fold(f64::INFINITY, f64::min);
            let most = runs.iter().map(|r| r.params.ln() - mid).fold(f64::NEG_INFINITY, f64::max);
            let found = c[2] > 0.0 && (least..=most).contains(&x);
            found.then(|| Best { flops, params: (x + mid).exp(), loss: c[0] + 0.5 * c[1] * x })
        })
        .collect()
}

/// Approach 1: at `count` amounts of compute, evenly spaced in their logarithm, the curve that is lowest there. `curves` are those of single runs, each
/// ordered by FLOPs; between points the logarithm of FLOPs is interpolated in straight lines.
pub fn envelope(curves: &[Vec<Run>], count: usize) -> Vec<Best> {
    let ends = |f: fn(f64, f64) -> f64, start: f64| {
        curves.iter().flatten().map(|r| r.flops.ln()).fold(start, f)
    };
    let (low, high) = (ends(f64::min, f64::INFINITY), ends(f64::max, f64::NEG_INFINITY));
    if !(low < high) || count < 2 {
        return Vec::new();
    }
    let at = |curve: &[Run], x: f64| -> Option<f64> {
        curve.windows(2).find_map(|w| {
            let (a, b) = (w[0].flops.ln(), w[1].flops.ln());
            let inside = a <= x && x <= b && a < b;
            inside.then(|| w[0].loss + (w[1].loss - w[0].loss) * (x - a) / (b - a))
        })
    };
    (0..count)
        .filter_map(|i| {
            let x = low + (high - low) * i as f64 / (count - 1) as f64;
            let best = curves
                .iter()
                .filter_map(|c| Some((at(c, x)?, c.first()?.params)))
                .min_by(|a, b| a.0.total_cmp(&b.0))?;
            Some(Best { flops: x.exp(), params: best.1, loss: best.0 })
        })
        .collect()
}

/// The power of compute through optima, by least squares of logarithms.
pub fn power(best: &[Best]) -> Option<Power> {
    let n = best.len() as f64;
    if best.len() < 2 {
        return None;
    }
    let x: Vec<f64> = best.iter().map(|b| b.flops.ln()).collect();
    let y: Vec<f64> = best.iter().map(|b| b.params.ln()).collect();
    let (mx, my) = (x.iter().sum::<f64>() / n, y.iter().sum::<f64>() / n);
    let sxx: f64 = x.iter().map(|x| (x - mx).powi(2)).sum();
    let a = x.iter().zip(&y).map(|(x, y)| (x - mx) * (y - my)).sum::<f64>() / sxx;
    let left: f64 = x.iter().zip(&y).map(|(x, y)| (y - my - a * (x - mx)).powi(2)).sum();
    let error = (best.len() > 2).then(|| (left / (n - 2.0) / sxx).sqrt());
    a.is_finite().then(|| Power { k: (my - a * mx).exp(), a, error })
}
