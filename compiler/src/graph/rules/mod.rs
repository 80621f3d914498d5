//! The rules of [`rewrite`](super::rewrite), by subject.
//!
//! A rule is a function that says with patterns what it fits and gives `None` for everything else; so, unlike anywhere else,
//! a wildcard over operations is right here: a new operation simply has no rules yet.

use super::rewrite::Rule;

pub mod algebra;
pub mod constants;
pub mod movement;
pub mod reduce;
pub mod scans;

/// All tables, in the order in which they are tried.
pub const RULES: &[&[Rule]] = &[constants::RULES, algebra::RULES, movement::RULES, reduce::RULES];
