//! The rules of the house that can be tested.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cs336_compiler::check::trace;
use cs336_compiler::front::check;
use cs336_compiler::stdlib;
use cs336_compiler::world::Texts;
use libtest_mimic::{Failed, Trial};

use crate::notes;
use crate::pages::pages;
use cs336_tests::collect::SuiteFile;
use cs336_tests::places::{files_below, root};

/// A file of more lines must be split. (Most have 150 to 400; from 600 on they answer for themselves.)
const LONGEST: usize = 800;

/// No program of the suite brings it about: it says that the compiler broke a rule of its own.
const NOT_IN_SECTIONS: &[&str] = &["E0899"];

/// A rule; gives what breaks it.
type Rule = fn() -> Vec<String>;

const RULES: &[(&str, Rule)] = &[
    ("no_file_is_too_long", no_file_is_too_long),
    ("every_file_says_what_it_is", every_file_says_what_it_is),
    ("every_code_has_a_page_and_every_page_a_code", every_code_has_a_page_and_every_page_a_code),
    ("modules_of_the_compiler_look_one_way", modules_of_the_compiler_look_one_way),
    ("every_experiment_checks", every_experiment_checks),
    ("every_stdlib_module_checks", every_stdlib_module_checks),
    ("no_place_of_one_machine_is_named", no_place_of_one_machine_is_named),
    ("nothing_is_left_to_do", nothing_is_left_to_do),
];

/// A test for each rule.
pub(crate) fn trials(files: &[SuiteFile]) -> Vec<Trial> {
    let mut trials: Vec<Trial> = RULES.iter().map(|(name, rule)| trial(name, *rule)).collect();
    let own = files.to_vec();
    trials.push(trial("every_code_has_a_section", move || every_code_has_a_section(&own)));
    let own = files.to_vec();
    trials.push(trial("every_operation_has_a_value", move || every_operation_has_a_value(&own)));
    trials
}

fn trial(name: &str, rule: impl FnOnce() -> Vec<String> + Send + 'static) -> Trial {
    Trial::test(format!("tidy::{name}"), move || {
        let complaints = rule();
        if complaints.is_empty() { Ok(()) } else { Err(Failed::from(complaints.join("\n"))) }
    })
}

/// Files of these kinds are the project's own text.
const TEXTS: &[&str] = &["rs", "cs336", "pest", "md", "toml", "txt", "lock", "run", ""];

/// All texts of the project, with their shown path.
fn texts() -> Vec<(String, PathBuf, String)> {
    let root = root();
    let mut found = Vec::new();
    for path in files_below(&root) {
        let kind = path.extension().unwrap_or_default().to_string_lossy().into_owned();
        let shown = path.strip_prefix(&root).unwrap_or(&path).to_string_lossy().into_owned();
        // A worktree has a file `.git` that names its place.
        if !TEXTS.contains(&kind.as_str()) || shown == ".git" {
            continue;
        }
        if let Ok(text) = std::fs::read_to_string(&path) {
            found.push((shown, path, text));
        }
    }
    found
}

fn rust_files() -> impl Iterator<Item = (String, String)> {
    texts().into_iter().filter(|(shown, ..)| shown.ends_with(".rs")).map(|(s, _, t)| (s, t))
}

fn no_file_is_too_long() -> Vec<String> {
    rust_files()
        .filter(|(_, text)| text.lines().count() > LONGEST)
        .map(|(shown, text)| format!("{shown} has {} lines", text.lines().count()))
        .collect()
}

fn every_file_says_what_it_is() -> Vec<String> {
    rust_files()
        .filter(|(_, text)| !text.starts_with("//!") && !text.contains("libfuzzer_sys"))
        .map(|(shown, _)| format!("{shown} does not open with `//!`"))
        .collect()
}

/// Every code in quotation marks, with the file that has it; tests may speak of codes that nobody raises.
fn raised() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (shown, text) in rust_files() {
        let ours = shown.starts_with("compiler") || shown.starts_with("runtime");
        if !ours || shown.contains("tests") {
            continue;
        }
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for word in text.split('"') {
            let digits = word.strip_prefix(['E', 'W']).unwrap_or_default();
            if digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()) {
                found.insert(word.to_owned(), shown.clone());
            }
        }
    }
    found
}

fn every_code_has_a_page_and_every_page_a_code() -> Vec<String> {
    let (raised, pages) = (raised(), pages());
    let mut out = Vec::new();
    for (code, file) in &raised {
        if !pages.iter().any(|p| p.code == *code) {
            out.push(format!("{code} of {file} has no page in compiler/explain"));
        }
    }
    for page in pages.iter().filter(|p| !raised.contains_key(&p.code)) {
        out.push(format!("nothing raises {}, which has a page", page.code));
    }
    out
}

fn every_code_has_a_section(files: &[SuiteFile]) -> Vec<String> {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for section in files.iter().flat_map(|f| &f.sections) {
        seen.extend(notes::expected(&section.body).into_iter().map(|n| n.code));
    }
    raised()
        .into_iter()
        .filter(|(_, file)| file.starts_with("compiler"))
        .filter(|(code, _)| !NOT_IN_SECTIONS.contains(&code.as_str()) && !seen.contains(code))
        .map(|(code, file)| format!("no section of the suite has {code}, which {file} raises"))
        .collect()
}

fn every_operation_has_a_value(files: &[SuiteFile]) -> Vec<String> {
    let ops: String = files
        .iter()
        .filter(|f| f.path.starts_with("ops/"))
        .flat_map(|f| &f.sections)
        .flat_map(|s| s.body.lines())
        .filter(|l| !l.starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n");
    let used = |name: &str| {
        ops.match_indices(name).any(|(at, _)| {
            let word = |c: char| c.is_alphanumeric() || c == '_';
            !ops[..at].ends_with(word) && ops[at + name.len()..].starts_with(['(', '[', ',', ')'])
        })
    };
    trace::op_names()
        .filter(|name| !used(name))
        .map(|name| format!("no section of suite/ops uses `{name}`"))
        .collect()
}

/// Modules of the compiler, and which of the later ones each may name none of.
const ORDER: &[&str] = &["syntax", "graph", "kernel", "plan", "lower"];

fn modules_of_the_compiler_look_one_way() -> Vec<String> {
    let mut out = Vec::new();
    for (shown, text) in rust_files() {
        let Some(inside) = shown.strip_prefix("compiler/src/") else { continue };
        if inside.contains("tests") {
            continue;
        }
        let module = inside.split(['/', '.']).next().unwrap_or_default();
        let Some(at) = ORDER.iter().position(|m| *m == module) else { continue };
        let later = ORDER[at + 1..].iter().chain(&["check", "front", "pipeline", "programs"]);
        for other in later {
            let code = text.lines().filter(|l| !l.trim_start().starts_with("//"));
            if code.clone().any(|l| l.contains(&format!("crate::{other}::"))) {
                out.push(format!("{shown} names `{other}`, which comes after `{module}`"));
            }
        }
    }
    out
}

fn every_experiment_checks() -> Vec<String> {
    let folder = root().join("experiments");
    let files = files_below(&folder);
    let programs = files.iter().filter(|path| path.extension().is_some_and(|e| e == "cs336"));
    programs.flat_map(|path| problems_of(path)).collect()
}

fn problems_of(path: &Path) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(path) else { return Vec::new() };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    checked(&name, &text)
}

fn every_stdlib_module_checks() -> Vec<String> {
    stdlib::MODULES
        .iter()
        .flat_map(|(name, text)| checked(&format!("{name}.cs336"), text))
        .collect()
}

fn checked(name: &str, text: &str) -> Vec<String> {
    let world = Texts { files: vec![(name.to_owned(), text.to_owned())] };
    let checked = check(&world, name, &[]);
    let show = |p: &cs336_compiler::problem::Problem| {
        let row = p.span().map_or(0, |s| checked.sources().line_col(s).0);
        format!("{name}:{row}: {}: {}", p.code, p.message)
    };
    checked.problems().iter().map(show).collect()
}

fn no_place_of_one_machine_is_named() -> Vec<String> {
    // In two parts, so that this file does not name them.
    let places = [("/wo", "rk/"), ("/ro", "ot/"), ("/t", "mp/"), ("C:", "\\Users")];
    let mut out = Vec::new();
    for (shown, _, text) in texts() {
        for (i, line) in text.lines().enumerate() {
            let at = format!("{shown}:{}", i + 1);
            if let Some((a, b)) = places.iter().find(|(a, b)| line.contains(&format!("{a}{b}"))) {
                out.push(format!("{at} names {a}{b}"));
            }
            // Every dependency comes from the one public registry.
            let source = line.strip_prefix("source = ").unwrap_or_default();
            let public = "\"registry+https://github.com/rust-lang/crates.io-index\"";
            if shown.ends_with("Cargo.lock") && !source.is_empty() && source != public {
                out.push(format!("{at} is {source}"));
            }
            if shown.starts_with(".cargo") && line.contains("registry") {
                out.push(format!("{at} names a registry"));
            }
        }
    }
    out
}

fn nothing_is_left_to_do() -> Vec<String> {
    let words = [("TO", "DO"), ("FIX", "ME"), ("XX", "X:"), ("HA", "CK")];
    let mut out = Vec::new();
    for (shown, _, text) in texts() {
        for (i, line) in text.lines().enumerate() {
            if let Some((a, b)) = words.iter().find(|(a, b)| line.contains(&format!("{a}{b}"))) {
                out.push(format!("{shown}:{} has {a}{b}", i + 1));
            }
        }
    }
    out
}
