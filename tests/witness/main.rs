//! Numbers with witnesses from outside: other people's kernels, formulas written by hand, and finite differences.
//!
//! The compiler's own tests ask whether its stages agree with each other. Here its meaning is held against opinions that share no code with
//! it: the `candle` library (forward passes, gradients), optimizers spelled out in f64, differences of the meaning, and figures that the
//! course publishes. What is near enough is said by `cs336_compiler::close` alone; a tighter or looser bound is stated where it is used.

mod accounting;
mod decoding;
mod gradients;
mod logits;
mod optimizers;
mod oracle;
mod snippets;
mod steps;
mod support;
