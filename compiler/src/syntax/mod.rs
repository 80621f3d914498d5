//! Text to [`ast::File`]. `parse` never fails: what it does not understand becomes an error item and a problem.
//!
//! `scan` sees brackets, quotes and comments; `mend` closes what was left open; `grammar/cs336.pest` reads the mended
//! text; `build` turns its pairs into the Ast and reports mistakes that parse; `failure` says why an item did not.

pub mod ast;
mod balance;
mod build;
mod failure;
mod format;
mod mend;
mod parse;
mod print;
mod problems;
mod scan;
mod template;
mod words;

#[cfg(test)]
mod tests;

pub use format::format;
pub use parse::{Setting, parse, parse_expr, parse_set};
pub use print::{Canonical, canonical, print};
pub use template::{TextOrExpr, template};
pub use words::UNIT_NAMES;
