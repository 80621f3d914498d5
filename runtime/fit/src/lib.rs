//! Scaling laws: objectives, solvers, intervals, predictions.
