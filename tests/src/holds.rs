//! What must hold of any text, whoever wrote it: reading and checking it ends, says what is wrong and where, and never blames the compiler.
//!
//! Gives the codes of the problems; `Err` says what does not hold. A panic is for the caller to catch.

use cs336_compiler::check::hir::Spec;
use cs336_compiler::front;
use cs336_compiler::problem::Problems;
use cs336_compiler::source::{FileId, Span};
use cs336_compiler::syntax::{ast, canonical, parse_expr, parse_set, print, template};
use cs336_compiler::world::World;

use crate::outside::MAIN;

/// Reading: places lie in the text, and what reads without a problem prints back.
pub fn parse(text: &str) -> Result<Vec<String>, String> {
    let (file, problems) = cs336_compiler::syntax::parse(FileId(0), text);
    for label in problems.iter().flat_map(|p| &p.labels) {
        let (start, end) = (label.span.start as usize, label.span.end as usize);
        if start > end || text.get(start..end).is_none() {
            return Err(format!("a place outside the text: {label:?}"));
        }
    }
    let printed = print(&file);
    if problems.is_empty() {
        let (again, problems) = cs336_compiler::syntax::parse(FileId(0), &printed);
        if let Some(p) = problems.iter().next() {
            return Err(format!("its printed form has {}: {}\n{printed}", p.code, p.message));
        }
        let meaning = |f: &ast::File| -> Vec<String> { f.items.iter().map(canonical).collect() };
        if meaning(&file) != meaning(&again) {
            return Err(format!("its printed form means something else:\n{printed}"));
        }
    }
    drop(parse_expr(FileId(0), text));
    drop(parse_set(FileId(0), text));
    drop(template(text, Span::new(FileId(0), 0, text.len())));
    Ok(codes(&problems))
}

/// Checking, and compiling what has no problem: it is compiled, or refused with a code; a fault of the compiler (E0899) does not hold.
pub fn check(world: &dyn World, sets: &[String]) -> Result<Vec<String>, String> {
    let mut checked = front::check(world, MAIN, sets);
    no_fault(checked.problems())?;
    let mut all = codes(checked.problems());
    if checked.problems().has_errors() {
        return Ok(all);
    }
    let trains = checked.nodes.iter().filter(|(_, n)| matches!(n.spec, Spec::Train(_)));
    let names: Vec<String> = trains.map(|(name, _)| name.clone()).collect();
    for name in names {
        let refused = [
            checked.costs(&name).err(),
            checked.train_programs(&name, None).err(),
            checked.decode_programs(&name, 4, 16).err(),
        ];
        for problems in refused.iter().flatten() {
            no_fault(problems)?;
            all.extend(codes(problems));
        }
    }
    Ok(all)
}

fn no_fault(problems: &Problems) -> Result<(), String> {
    match problems.iter().find(|p| p.code == "E0899") {
        Some(p) => Err(format!("{}: {}", p.code, p.message)),
        None => Ok(()),
    }
}

fn codes(problems: &Problems) -> Vec<String> {
    problems.iter().map(|p| p.code.clone()).collect()
}
