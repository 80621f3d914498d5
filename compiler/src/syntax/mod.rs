//! Text to [`ast::File`]. `parse` never fails: what it does not understand becomes an error item and a problem.

pub mod ast;
