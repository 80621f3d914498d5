//! Scaling laws: objectives, solvers, intervals, predictions.
//!
//! ```text
//! Columns ─stages─▶ Columns ─fit(FitSpec)─▶ Fitted ─predict, optimum─▶ estimates with intervals
//! ```
//! No files, no clock, no randomness but by seed: the same specification and the same numbers give the same bytes at any number of threads.
//! [`fit`](fit()) finds the constants of a law, [`Fitted`] is what is known of
//! them, [`predict`] and [`optimum`] say what follows at sizes that were not run.

pub mod approaches;
pub mod bootstrap;
mod columns;
mod errors;
mod fitted;
mod judge;
mod kernel;
mod linalg;
mod objective;
pub mod optimum;
pub mod predict;
pub mod profile;
mod random;
mod solve;
mod starts;

pub use columns::Columns;
pub use errors::FitProblem;
pub use fitted::{Coefficient, Estimate, Fitted, HeldOut, Interval, Residual};
pub use random::Random;

use cs336_compiler::check::hir::FitSpec;

/// With more starts than this each is searched less closely; the best is polished either way.
const FEW: usize = 500;

/// Finds the constants of a law. `columns` are those of the rows after the stages of `spec.rows`.
pub fn fit(spec: &FitSpec, columns: &Columns) -> Result<Fitted, FitProblem> {
    let (inside, outside) = columns::split(columns, spec.held_out.as_ref())?;
    judge::before(spec, &inside)?;
    let objective = objective::Objective::new(spec, &inside)?;
    let points = starts::points(spec, &objective, &inside)?;
    let (stop, few) = if points.len() > FEW {
        (solve::Stop::SEARCH, objective.sample(spec.seed))
    } else {
        (solve::Stop::CAREFUL, None)
    };
    let ends = solve::from_all(&objective, few.as_ref(), &points, &stop);
    let best = ends.iter().map(|e| e.value).fold(f64::INFINITY, f64::min);
    let Some(at) = ends.iter().position(|e| e.value == best && best.is_finite()) else {
        return Err(FitProblem::NoStart { starts: points.len() });
    };
    let polished = solve::polish(&objective, &ends[at]);
    let agree = ends.iter().filter(|e| e.value <= polished.value * 1.01 + 1e-12).count();
    let share = agree as f64 / ends.len().max(1) as f64;
    let mut fitted = fitted::describe(
        spec,
        &objective,
        &inside,
        &polished,
        (ends.len(), share, ends.iter().map(|e| e.evaluations).sum()),
    );
    judge::after(spec, &objective, &points[at], &polished, &fitted)?;
    fitted.draws = bootstrap::draws(spec, &objective, &inside, &polished);
    fitted.intervals();
    fitted.held_out = fitted::held_out(spec, &fitted, &outside);
    Ok(fitted)
}
