//! Programs that nobody meant, for as long as is wanted: `cargo run --release --bin fuzz -- check --seconds 600`.
//!
//! `fuzz parse|check [--seconds N] [--seed N] [--runs N]`. Begins with the sections of the suite, the examples of the codes' pages, the experiments and the
//! standard library. A changed program that has no problem, or one or two in a combination not seen before, is kept and changed again. The same seed and number of runs
//! make the same programs. What must hold is in [`holds`]; a panic is caught, shown with its program, and the run goes on; exit code 1
//! says that something was found. The program at hand stands in a file, for the case that the process ends with it.

#![allow(clippy::print_stdout, reason = "a program for people to look at")]
#![allow(clippy::disallowed_methods, reason = "it runs for a time, and reports times")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use cs336_compiler::stdlib;
use cs336_tests::change::{Dice, characters, crossed, words};
use cs336_tests::collect::{Attribute, collect};
use cs336_tests::outside::Outside;
use cs336_tests::{holds, places};

/// No more programs are kept than this.
const KEPT: usize = 20_000;
/// And none with more codes.
const FEW: usize = 2;
/// A program must be done with in this time.
const SLOW: Duration = Duration::from_secs(20);
/// As many findings are shown.
const SHOWN: usize = 10;

/// What the last panic said, with its place.
static LAST: Mutex<String> = Mutex::new(String::new());

/// What is asked for.
struct Asked {
    check: bool,
    time: Duration,
    seed: u64,
    runs: u64,
}

/// A program to be changed.
#[derive(Clone)]
struct Start {
    text: String,
    sets: Vec<String>,
    world: Outside,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(asked) = asked(&args) else {
        println!("fuzz parse|check [--seconds N] [--seed N] [--runs N]");
        return ExitCode::from(2);
    };
    let starts = starts(asked.check);
    println!("{} programs to begin with", starts.len());
    panic::set_hook(Box::new(|info| {
        *LAST.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
    }));
    let found = run(&asked, starts);
    drop(panic::take_hook());
    if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn asked(args: &[String]) -> Option<Asked> {
    let (target, rest) = args.split_first()?;
    let check = match target.as_str() {
        "check" => true,
        "parse" => false,
        _ => return None,
    };
    let mut asked = Asked { check, time: Duration::from_secs(60), seed: 1, runs: u64::MAX };
    for pair in rest.chunks(2) {
        let n: u64 = pair.get(1)?.parse().ok()?;
        match pair[0].as_str() {
            "--seconds" => asked.time = Duration::from_secs(n),
            "--seed" => asked.seed = n,
            "--runs" => asked.runs = n,
            _ => return None,
        }
    }
    Some(asked)
}

/// All programs of the project.
fn starts(check: bool) -> Vec<Start> {
    let mut out = Vec::new();
    for file in collect(&places::suite()).unwrap_or_default() {
        // The sections at the bounds of the checker take long by design.
        if check && file.path.ends_with("limits.cs336") {
            continue;
        }
        for section in file.sections.iter().filter(|s| !check || !s.has(Attribute::Parse)) {
            let mut world = Outside::new("", &section.facts);
            world.texts.files.extend(file.beside());
            let (text, sets) = (section.body.clone(), section.sets.clone());
            out.push(Start { text, sets, world });
        }
    }
    let mut add = |text: &str| {
        let world = Outside::new("", &[]);
        out.push(Start { text: text.to_owned(), sets: Vec::new(), world });
    };
    let root = places::root();
    for folder in ["experiments", "tests/programs"] {
        for path in places::files_below(&root.join(folder)) {
            fs::read_to_string(path).iter().for_each(|text| add(text));
        }
    }
    for path in places::files_below(&root.join("compiler").join("explain")) {
        let page = fs::read_to_string(path).unwrap_or_default();
        for block in page.split("```cs336").skip(1) {
            let block = block.split_once('\n').map_or("", |(_, rest)| rest);
            add(block.split("\n```").next().unwrap_or_default());
        }
    }
    stdlib::MODULES.iter().for_each(|(_, text)| add(text));
    out
}

/// Runs; gives how much was found.
fn run(asked: &Asked, mut corpus: Vec<Start>) -> usize {
    let begun = Instant::now();
    let mut dice = Dice(asked.seed);
    let mut seen: BTreeSet<Vec<String>> = BTreeSet::new();
    let mut codes: BTreeMap<String, u64> = BTreeMap::new();
    let (mut runs, mut clean, mut found, mut slowest) = (0u64, 0u64, 0usize, Duration::ZERO);
    let mut slowest_text = String::new();
    let mut next_report = 10;
    let at_hand = file_at_hand(asked.check);
    let first = corpus.len();
    while runs < asked.runs && begun.elapsed() < asked.time {
        // First everything as it is.
        let start = if runs < first as u64 {
            corpus[runs as usize].clone()
        } else {
            changed(&corpus, first, &mut dice)
        };
        fs::write(&at_hand, &start.text).ok();
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| held(asked.check, &start)));
        let took = started.elapsed();
        runs += 1;
        if took > slowest {
            (slowest, slowest_text) = (took, start.text.clone());
        }
        let complaint = match &result {
            Err(_) => Some(LAST.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Ok(Err(why)) => Some(why.clone()),
            Ok(Ok(_)) if took > SLOW => Some(format!("it took {:.1} s", took.as_secs_f64())),
            Ok(Ok(_)) => None,
        };
        if let Some(complaint) = complaint {
            found += 1;
            if found <= SHOWN {
                println!("=== run {runs}: {complaint}\n{}\n===", start.text);
            }
        }
        if let Ok(Ok(mut now)) = result {
            clean += u64::from(now.is_empty());
            now.iter().for_each(|c| *codes.entry(c.clone()).or_default() += 1);
            now.sort();
            now.dedup();
            // What is wrong in many ways stays shallow: it is not changed again. What is not wrong at all may lead far.
            let leads = now.len() <= FEW && (seen.insert(now.clone()) || now.is_empty());
            if leads && runs > first as u64 && corpus.len() < KEPT && start.text.len() < 20_000 {
                corpus.push(start);
            }
        }
        let seconds = begun.elapsed().as_secs();
        if seconds >= next_report {
            next_report = seconds + 30;
            println!("{seconds} s: {runs} runs, {} programs kept, {found} found", corpus.len());
        }
    }
    fs::remove_file(&at_hand).ok();
    if slowest > SLOW / 10 {
        println!("=== the slowest, {:.1} s\n{slowest_text}\n===", slowest.as_secs_f64());
    }
    println!(
        "{runs} runs in {:.0} s; {clean} without a problem; {} codes, {} combinations; slowest {:.2} s; found: {found}",
        begun.elapsed().as_secs_f64(),
        codes.len(),
        seen.len(),
        slowest.as_secs_f64(),
    );
    found
}

fn file_at_hand(check: bool) -> PathBuf {
    let name = if check { "check" } else { "parse" };
    std::env::temp_dir().join(format!("cs336-fuzz-{name}-{}.cs336", std::process::id()))
}

fn changed(corpus: &[Start], first: usize, dice: &mut Dice) -> Start {
    // Half of the time one of the project's own.
    let from = if dice.below(2) == 0 { first } else { corpus.len() };
    let mut start = corpus[dice.below(from)].clone();
    start.text = match dice.below(8) {
        0 | 1 => {
            let other = corpus[dice.below(corpus.len())].text.clone();
            crossed(&start.text, &other, dice)
        }
        2 => characters(&start.text, dice),
        _ => words(&start.text, dice),
    };
    start
}

fn held(check: bool, start: &Start) -> Result<Vec<String>, String> {
    if !check {
        return holds::parse(&start.text);
    }
    let mut world = start.world.clone();
    world.texts.files[0].1.clone_from(&start.text);
    holds::check(&world, &start.sets)
}
