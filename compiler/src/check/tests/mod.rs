//! Tests of the checker on whole programs.

mod facts;
mod row_lower;
mod sweeps;

use super::eval::Eval;
use super::hir::Nodes;
use super::kinds;
use crate::world::Texts;

/// Checks a text as the file `main.cs336`, and hands what was found to a closure.
fn checked<T>(
    text: &str,
    sets: &[&str],
    look: impl FnOnce(&Eval<'_>, &Nodes, &[String]) -> T,
) -> T {
    let world = Texts { files: vec![("main.cs336".to_owned(), text.to_owned())] };
    let mut eval = Eval::new(&world);
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    eval.load_main("main.cs336", &sets);
    let (nodes, lines) = kinds::check_nodes(&mut eval);
    look(&eval, &nodes, &lines)
}
