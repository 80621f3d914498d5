//! Ast to [`hir::Nodes`]: names resolved, units and axes typed, nodes checked against the schema of their kind.
//!
//! One evaluator serves experiment code and model code: [`eval`] turns expressions into [`value::Value`]s. Inside a method
//! (`forward`, `update`, `of`, ..) a graph is under construction and values may be tensors, that is nodes of that graph: the
//! checker *traces* a body with the sizes of the instance at hand, and every misfit of axes is found by the typed builder.

pub mod apply;
pub mod assemble;
mod average;
pub mod call;
pub mod eval;
mod forms;
pub mod hir;
pub mod kinds;
pub mod modules;
mod names;
pub mod row_lower;
pub mod rows;
pub mod stages;
pub mod trace;
pub mod types;
pub mod units;
mod unused;
pub mod value;
pub mod views;
mod weights;
pub mod words;

pub use average::AVERAGE;

#[cfg(test)]
mod tests;
