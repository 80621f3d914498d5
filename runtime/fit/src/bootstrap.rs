//! Resamplings: whole runs are drawn with replacement, and the law is fitted anew (Efron 1979; by run, since rows of one run are not
//! independent).
//!
//! Draws depend on the seed and their number alone, so neither the number of threads nor the order matters. A resample is a weight for each
//! row: the search goes on from the constants that fit best.

use std::collections::BTreeMap;

use cs336_compiler::check::hir::FitSpec;
use rayon::prelude::*;

use crate::fitted::curvature;
use crate::objective::{Objective, Work};
use crate::random::Random;
use crate::solve::{End, Stop, minimise_on};
use crate::{Columns, FitProblem, judge, linalg, solve, starts};

/// For the searches of resamplings.
const STOP: Stop = Stop { change: 1e-12, times: 2, gradient: 1e-11, steps: 500 };

/// The constants of each resampling; those whose search came to nothing are left out.
pub(crate) fn draws(spec: &FitSpec, o: &Objective, rows: &Columns, best: &End) -> Vec<Vec<f64>> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (row, name) in rows.names.iter().enumerate() {
        groups.entry(name).or_default().push(row);
    }
    let groups: Vec<Vec<usize>> = groups.into_values().collect();
    let inverse = inverse_curvature(o, &best.x);
    (0..spec.bootstrap)
        .into_par_iter()
        .map_init(Work::default, |work, draw| {
            let mut random = Random::new(spec.seed, draw);
            let mut times = vec![0.0; rows.len()];
            for _ in 0..groups.len() {
                groups[random.below(groups.len())].iter().for_each(|row| times[*row] += 1.0);
            }
            again(o, &times, &best.x, inverse.as_deref(), work)
        })
        .filter_map(|end| end.value.is_finite().then(|| o.constants(&end.x)))
        .collect()
}

/// The inverse of the curvature of the scaled objective, without the accident of which rows lie within a Huber delta: the mean of ψ' times
/// J'J. All resamplings are near, so they begin with it.
fn inverse_curvature(o: &Objective, x: &[f64]) -> Option<Vec<f64>> {
    let c = curvature(o, x);
    let scaled: Vec<f64> = c.jtj.iter().map(|v| v * c.mean_slope.max(1e-3) / o.scale).collect();
    linalg::inverse(&scaled, o.dim())
}

fn again(
    o: &Objective,
    times: &[f64],
    from: &[f64],
    inverse: Option<&[f64]>,
    work: &mut Work,
) -> End {
    let resample = o.resample(times);
    let mut end = minimise_on(o, Some(&resample), from, &STOP, inverse, work);
    // Where the objective is nearly one of absolute values, a search can end in a kink: it begins once more with the curvature it had at first.
    for _ in 0..3 {
        let next = minimise_on(o, Some(&resample), &end.x, &STOP, inverse, work);
        let fell = end.value - next.value;
        if next.value <= end.value {
            end = next;
        }
        if !(fell > 1e-10 * end.value.abs()) {
            break;
        }
    }
    end
}

/// The constants and the objective of resamplings whose rows are given (by place, repeats allowed): to compare with others' draws.
pub fn resampled(
    spec: &FitSpec,
    columns: &Columns,
    samples: &[Vec<usize>],
) -> Result<Vec<(Vec<f64>, f64)>, FitProblem> {
    judge::before(spec, columns)?;
    let o = Objective::new(spec, columns)?;
    let points = starts::points(spec, &o, columns)?;
    let ends: Vec<End> = points.par_iter().map(|x| solve::minimise(&o, x, &Stop::SEARCH)).collect();
    let Some(best) = ends.iter().min_by(|a, b| a.value.total_cmp(&b.value)) else {
        return Err(FitProblem::NoStart { starts: 0 });
    };
    let best = solve::polish(&o, best);
    let inverse = inverse_curvature(&o, &best.x);
    let one = |work: &mut Work, sample: &Vec<usize>| {
        let mut times = vec![0.0; columns.len()];
        sample.iter().for_each(|row| times[*row] += 1.0);
        let end = again(&o, &times, &best.x, inverse.as_deref(), work);
        (o.constants(&end.x), end.value * o.scale)
    };
    Ok(samples.par_iter().map_init(Work::default, one).collect())
}
