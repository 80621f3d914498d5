//! Scaling laws: objectives, solvers, intervals, predictions.
//!
//! No files, no clock, no randomness but by seed: the same specification and the same numbers give the same bytes at any number of threads.

mod columns;
mod errors;

pub use columns::{Columns, split};
pub use errors::FitProblem;
