//! The test suite: programs and what should happen.
//!
//! What the suite and the fuzzer share: sections of programs, where things are, changes of programs, and what must hold of any text.

pub mod change;
pub mod collect;
pub mod holds;
pub mod outside;
pub mod places;
