//! Programs that nobody meant: sections with pieces cut out, doubled, exchanged. Whatever is written, the checker ends and says
//! what is wrong; it never panics. The same changes are made at every run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cs336_compiler::check::hir::Spec;
use cs336_compiler::front::check;
use cs336_compiler::problem::Problems;
use cs336_compiler::world::World;
use libtest_mimic::{Failed, Trial};

use crate::collect::{Attribute, SuiteFile};
use crate::follow::MAIN;
use crate::outside::Outside;

/// A test for each file with programs that are checked: a few changes of each section, and many if asked for.
pub(crate) fn trials(files: &[SuiteFile]) -> Vec<Trial> {
    let mut trials = Vec::new();
    // The sections at the bounds of the checker take long by design.
    let wanted = |f: &&SuiteFile| {
        f.sections.iter().any(|s| s.has(Attribute::Check)) && !f.path.ends_with("limits.cs336")
    };
    for file in files.iter().filter(wanted) {
        for (rounds, how) in [(4, "some"), (200, "many")] {
            let own = file.clone();
            let name = format!("mutate::{}::{how}", file.path.trim_end_matches(".cs336"));
            let trial = Trial::test(name.replace('/', "::"), move || run(&own, rounds));
            trials.push(trial.with_ignored_flag(how == "many"));
        }
    }
    trials
}

fn run(file: &SuiteFile, rounds: u64) -> Result<(), Failed> {
    let beside = file.beside();
    for (k, section) in file.sections.iter().enumerate() {
        for round in 0..rounds {
            let text = changed(&section.body, Dice(round * 1009 + k as u64));
            let mut world = Outside::new(&text, &section.facts);
            world.texts.files.extend(beside.iter().cloned());
            let sets = section.sets.clone();
            let ended = catch_unwind(AssertUnwindSafe(|| judged(&world, &sets)));
            match ended {
                Err(_) => return Err(Failed::from(format!("the checker panicked at:\n{text}"))),
                Ok(true) => {
                    return Err(Failed::from(format!("a fault of the compiler at:\n{text}")));
                }
                Ok(false) => {}
            }
        }
    }
    Ok(())
}

/// Checks, and compiles what has no problem. Refusing is fine; true if something was refused as a fault of the compiler.
fn judged(world: &dyn World, sets: &[String]) -> bool {
    let faulty = |problems: &Problems| problems.iter().any(|p| p.code == "E0899");
    let mut checked = check(world, MAIN, sets);
    if checked.problems().has_errors() {
        return faulty(checked.problems());
    }
    let trains = checked.nodes.iter().filter(|(_, n)| matches!(n.spec, Spec::Train(_)));
    let names: Vec<String> = trains.map(|(name, _)| name.clone()).collect();
    names.iter().any(|name| {
        let step = checked.train_programs(name, None).err();
        let decode = checked.decode_programs(name, 4, 16).err();
        step.iter().chain(&decode).any(faulty)
    })
}

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// What is put in: signs and words that mean something somewhere.
const PIECES: &[&str] = &[
    "(", ")", "[", "]", "{", "}", "=", "->", "|>", "..", ".", ",", "\"", "none", "0", "-1", "1e30",
    "with", "if", "scan", "batch", "seq", "d", "50%", "tokens", "[d -> e]", "\n",
];

fn changed(text: &str, mut dice: Dice) -> String {
    let mut pieces = pieces(text);
    for _ in 0..=dice.below(3) {
        if pieces.is_empty() {
            break;
        }
        let (i, j) = (dice.below(pieces.len()), dice.below(pieces.len()));
        match dice.below(5) {
            0 => drop(pieces.remove(i)),
            1 => pieces.swap(i, j),
            2 => pieces.insert(i, pieces[j].clone()),
            3 => pieces[i] = pieces[j].clone(),
            _ => pieces.insert(i, PIECES[dice.below(PIECES.len())].to_owned()),
        }
    }
    pieces.concat()
}

/// Words, blanks and signs.
fn pieces(text: &str) -> Vec<String> {
    let kind = |c: char| if c.is_alphanumeric() || c == '_' { 0 } else { 1 + u32::from(c) };
    let mut out: Vec<String> = Vec::new();
    let mut last = None;
    for c in text.chars() {
        match out.last_mut() {
            Some(piece) if last == Some(kind(c)) => piece.push(c),
            _ => out.push(c.to_string()),
        }
        last = Some(kind(c));
    }
    out
}
