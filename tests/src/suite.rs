//! The suite: programs as data, and what should happen to them.
//!
//! Takes the sections of `suite/**.cs336`, the pages of `compiler/explain` and the rules of the house; gives one test for each to the
//! runner, which understands the usual arguments (a filter, `--list`, `--include-ignored`). With `--bless` it writes what
//! happened into the files instead; the difference is then read as code is. See `README.md` for how a section is written.

mod devices;
mod follow;
mod golden;
mod mutate;
mod notes;
mod numbers;
mod pages;
mod picture;
mod tidy;

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use cs336_tests::collect::{self, Attribute, Section, SuiteFile};
use cs336_tests::places;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().collect();
    let before = args.len();
    // The runner must not see it.
    args.retain(|a| a != "--bless");
    let bless = args.len() < before;
    let args = Arguments::from_iter(args);
    if bless {
        let wanted = args.filter.clone().unwrap_or_default();
        for file in collect::collect(&places::suite()).iter().flatten() {
            bless_file(file, &wanted);
        }
        pages::bless(&wanted);
    }
    let files = match collect::collect(&places::suite()) {
        Ok(files) => files,
        Err(complaints) => {
            return libtest_mimic::run(&args, vec![unreadable(complaints)]).exit_code();
        }
    };
    let mut trials: Vec<Trial> = files.iter().flat_map(trials_of).collect();
    trials.extend(devices::trials(&files));
    trials.extend(devices::steps());
    trials.extend(mutate::trials(&files));
    trials.extend(pages::trials());
    trials.extend(tidy::trials(&files));
    trials.push(golden::no_stray(&files));
    libtest_mimic::run(&args, trials).exit_code()
}

fn unreadable(complaints: Vec<String>) -> Trial {
    Trial::test("suite::sections", move || Err(Failed::from(complaints.join("\n"))))
}

fn name_of(file: &SuiteFile, section: &Section) -> String {
    format!("{}::{}", file.path.trim_end_matches(".cs336").replace('/', "::"), section.name)
}

fn trials_of(file: &SuiteFile) -> impl Iterator<Item = Trial> {
    let beside = file.beside();
    file.sections.iter().filter(|s| !s.has(Attribute::File)).map(move |section| {
        let (path, section, beside) = (file.path.clone(), section.clone(), beside.clone());
        let name = name_of(file, &section);
        let slow = section.has(Attribute::Slow);
        let run = move || {
            let complaints = follow::complaints(&path, &section, &beside);
            if complaints.is_empty() { Ok(()) } else { Err(Failed::from(complaints.join("\n"))) }
        };
        Trial::test(name, run).with_ignored_flag(slow)
    })
}

/// Writes a file anew with what its sections give now.
fn bless_file(file: &SuiteFile, wanted: &str) {
    let mut file = file.clone();
    let (beside, path) = (file.beside(), file.path.clone());
    for i in 0..file.sections.len() {
        let name = name_of(&file, &file.sections[i]);
        let section = &mut file.sections[i];
        if !section.has(Attribute::File) && name.contains(wanted) {
            section.body = follow::blessed(&path, section, &beside);
        }
    }
    write_if_new(&places::suite().join(&file.path), &file.text());
}

/// Leaves files alone that would not change, so that their times do not either.
fn write_if_new(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
        return;
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).expect("the suite's folders can be made");
    }
    std::fs::write(path, text).expect("the suite's files can be written");
}
