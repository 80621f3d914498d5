//! Each page of `explain/` about names, types, axes and costs: its wrong example has exactly that problem, its right example none.
//!
//! An example that needs `--set` says so behind its mark: ```` ```cs336 wrong --set lr=1 ````.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::checked;

/// Codes without an example: guards of the graph builder and the compiler itself, and what only facts of data bring about.
const FAULTS: &[&str] = &["E0404", "E0416", "E0899", "W0510"];

/// Every code that the checker or the graph builder raises, with the file that does.
fn codes() -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![source.join("check"), source.join("graph")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the sources are here") {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                if path.file_name().is_none_or(|n| n != "tests") {
                    folders.push(path);
                }
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source is text");
            for word in text.split('"') {
                let digits = word.strip_prefix(['E', 'W']).unwrap_or("");
                if digits.len() == 4 && digits.bytes().all(|b| b.is_ascii_digit()) {
                    found.insert(word.to_owned(), path.clone());
                }
            }
        }
    }
    found
}

fn page(code: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("explain").join(format!("{code}.md"));
    std::fs::read_to_string(path).ok()
}

/// The text of the block that opens with `mark`, and the `--set`s behind the mark.
fn example<'a>(page: &'a str, mark: &str) -> Option<(String, Vec<&'a str>)> {
    let (_, after) = page.split_once(&format!("```{mark}"))?;
    let (options, after) = after.split_once('\n')?;
    let (block, _) = after.split_once("\n```")?;
    Some((format!("{block}\n"), options.split("--set").skip(1).map(str::trim).collect()))
}

fn found_in(example: &(String, Vec<&str>)) -> BTreeSet<String> {
    checked(&example.0, &example.1, |eval, _, _| {
        eval.problems.iter().map(|p| format!("{}: {}", p.code, p.message)).collect()
    })
}

#[test]
fn every_code_has_a_page_whose_examples_hold() {
    let mut complaints = Vec::new();
    for (code, path) in codes() {
        let Some(page) = page(&code) else {
            complaints.push(format!("{code} ({}) has no page", path.display()));
            continue;
        };
        if !page.starts_with(&format!("# {code}: ")) {
            complaints.push(format!("{code} has no title"));
        }
        if FAULTS.contains(&code.as_str()) {
            continue;
        }
        let (Some(wrong), Some(right)) =
            (example(&page, "cs336 wrong"), example(&page, "cs336 right"))
        else {
            complaints.push(format!("{code} lacks an example"));
            continue;
        };
        let found = found_in(&wrong);
        if found.is_empty() || !found.iter().all(|f| f.starts_with(&code)) {
            complaints.push(format!("the wrong example of {code} has {found:#?}"));
        }
        let found = found_in(&right);
        if !found.is_empty() {
            complaints.push(format!("the right example of {code} has {found:#?}"));
        }
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn fixes_of_wrong_examples_parse_and_leave_no_fix() {
    for code in codes().into_keys() {
        let Some((mut text, sets)) = page(&code).and_then(|p| {
            example(&p, "cs336 wrong")
                .map(|(t, s)| (t, s.into_iter().map(str::to_owned).collect::<Vec<_>>()))
        }) else {
            continue;
        };
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        for _ in 0..10 {
            let fix = checked(&text, &sets, |eval, _, _| {
                let fix = eval.problems.iter().find_map(|p| p.fix.clone())?;
                (eval.sources.file(fix.span.file).name == "main.cs336").then_some(fix)
            });
            let Some(fix) = fix else { break };
            text.replace_range(fix.span.start as usize..fix.span.end as usize, &fix.text);
        }
        let left = checked(&text, &sets, |eval, _, _| {
            eval.problems.iter().filter_map(|p| p.fix.clone()).count()
        });
        assert_eq!(left, 0, "{code}: {text}");
    }
}
