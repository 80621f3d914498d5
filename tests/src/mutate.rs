//! Sections with pieces cut out, doubled, exchanged. Whatever is written, the checker ends and says what is wrong; it never panics. The same
//! changes are made at every run; `cargo run --release --bin fuzz` makes others for as long as is wanted.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cs336_tests::change::{Dice, words};
use cs336_tests::collect::{Attribute, SuiteFile};
use cs336_tests::holds;
use cs336_tests::outside::Outside;
use libtest_mimic::{Failed, Trial};

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
            let text = words(&section.body, &mut Dice(round * 1009 + k as u64));
            let mut world = Outside::new(&text, &section.facts);
            world.texts.files.extend(beside.iter().cloned());
            match catch_unwind(AssertUnwindSafe(|| holds::check(&world, &section.sets))) {
                Err(_) => return Err(Failed::from(format!("the checker panicked at:\n{text}"))),
                Ok(Err(why)) => return Err(Failed::from(format!("{why}\nat:\n{text}"))),
                Ok(Ok(_)) => {}
            }
        }
    }
    Ok(())
}
