//! Profile intervals: how far a constant can be moved before the objective, made small again over the others, rises by more than chance explains
//! (Bates and Watts 1988, section 6.1). Unlike standard errors they need no straight lines: where a constant is not determined on one side,
//! they say so.

use cs336_compiler::check::hir::FitSpec;

use crate::fitted::{Interval, curvature};
use crate::objective::Objective;
use crate::solve::{Stop, minimise};
use crate::{Columns, FitProblem, Fitted};

/// The 95 % point of chi squared with one degree of freedom.
const CHI2: f64 = 3.841_458_820_694_124;

/// The 95 % profile interval of a constant by its place. An end that is the end of its range means that the rows set no limit there.
pub fn interval(
    spec: &FitSpec,
    columns: &Columns,
    fitted: &Fitted,
    constant: usize,
) -> Result<Option<Interval>, FitProblem> {
    let mut o = Objective::new(spec, columns)?;
    let best = o.coordinates(&fitted.constants());
    let c = curvature(&o, &best);
    let Some(variance) = c.variance else { return Ok(None) };
    if spec.penalty.shape == cs336_compiler::law::Shape::Absolute {
        return Ok(None);
    }
    // The objective of an M-estimator is in units of its mean slope.
    let allowed = 0.5 * CHI2 * variance * c.mean_slope / o.scale;
    let (low, high) = o.bounds[constant];
    let floor = minimise(&o, &best, &Stop::TIGHT).value;
    let mut end = |limit: f64| {
        let mut from = best.clone();
        let mut rise = |o: &mut Objective, x: f64| {
            o.bounds[constant] = (x, x);
            let end =
                minimise(o, &from, &Stop { change: 1e-11, times: 2, gradient: 1e-10, steps: 500 });
            let rise = end.value - floor;
            // The next place lies nearer: it goes on from the last one that was near enough.
            if rise <= allowed {
                from.clone_from(&end.x);
            }
            rise
        };
        let (mut inside, mut outside) = (best[constant], limit);
        if rise(&mut o, limit) <= allowed {
            return limit;
        }
        for _ in 0..50 {
            let half = 0.5 * (inside + outside);
            if rise(&mut o, half) <= allowed {
                inside = half;
            } else {
                outside = half;
            }
        }
        inside
    };
    let ends = (end(low), end(high));
    let how = o.prepared.coordinates[constant];
    Ok(Some(Interval { low: how.constant(ends.0), high: how.constant(ends.1) }))
}
