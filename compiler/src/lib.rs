//! The compiler of `.cs336`: text to checked programs, tensor graphs and kernel plans.
//!
//! ```text
//! text ─parse─▶ Ast ─check─▶ Hir ─build─▶ Graph ─differentiate─▶ Graph ─simplify─▶ Graph ─lower─▶ Kernels + Plan
//! ```
//! Every arrow is a function from one language to the next. None reads a file, a clock, an environment variable or a
//! device; see `world` for the one window to the outside.

pub mod bug;
pub mod check;
pub mod close;
pub mod explain;
pub mod front;
pub mod graph;
pub mod kernel;
pub mod law;
pub mod lower;
pub mod name;
pub mod pipeline;
pub mod plan;
pub mod problem;
pub mod programs;
pub mod report;
pub mod row;
pub mod scalar;
pub mod search;
pub mod source;
pub mod stdlib;
pub mod syntax;
pub mod vocabulary;
pub mod world;
