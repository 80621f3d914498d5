//! Each page of `explain/` about syntax: its wrong example has exactly that problem, its right example none.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::ast::{File, ItemKind};
use super::super::{parse, template};
use crate::problem::Problems;
use crate::source::FileId;

/// The codes of `problems.rs`.
fn codes() -> BTreeSet<String> {
    let source = include_str!("../problems.rs");
    let quoted = source.split('"').filter(|s| s.len() == 5 && s.starts_with("E01"));
    quoted.map(str::to_owned).collect()
}

/// The text of the block that opens with `mark`.
fn example(page: &str, mark: &str) -> String {
    let after = page.split_once(&format!("```{mark}\n")).map_or("", |(_, after)| after);
    after.split_once("\n```").map_or(String::new(), |(block, _)| format!("{block}\n"))
}

/// Problems of the file and, as the checker will find them, of the texts that are filled in.
fn problems_of(text: &str) -> Vec<String> {
    let (file, mut problems) = parse(FileId(0), text);
    titles(&file, text, &mut problems);
    problems.iter().map(|p| p.code.clone()).collect()
}

fn titles(file: &File, text: &str, problems: &mut Problems) {
    let is_report =
        |k: &ItemKind| matches!(k, ItemKind::Node { kind, .. } if kind.name == "report");
    for item in file.items.iter().filter(|i| is_report(&i.kind)) {
        let source = &text[item.span.start as usize..item.span.end as usize];
        let Some(start) = source.find('"') else { continue };
        let Some(end) = source.rfind('"') else { continue };
        let mut span = item.span;
        span.end = span.start + end as u32 + 1;
        span.start += start as u32;
        problems.extend(template(&source[start + 1..end], span).1);
    }
}

#[test]
fn every_code_has_a_page_whose_examples_hold() {
    let codes = codes();
    assert!(codes.len() >= 28, "{codes:?}");
    for code in codes {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("explain").join(format!("{code}.md"));
        let page = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{code} has no page"));
        assert!(page.starts_with(&format!("# {code}: ")), "{code} has no title");
        let wrong = example(&page, "cs336 wrong");
        let right = example(&page, "cs336 right");
        assert!(!wrong.is_empty() && !right.is_empty(), "{code} lacks an example");
        let found: BTreeSet<String> = problems_of(&wrong).into_iter().collect();
        assert_eq!(found, BTreeSet::from([code.clone()]), "the wrong example of {code}");
        assert_eq!(problems_of(&right), Vec::<String>::new(), "the right example of {code}");
    }
}

#[test]
fn fixes_mend_their_examples() {
    for code in codes() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("explain").join(format!("{code}.md"));
        let page = std::fs::read_to_string(&path).expect("tested above");
        let mut text = example(&page, "cs336 wrong");
        // One fix at a time: each shifts the places of the others.
        for _ in 0..10 {
            let (_, problems) = parse(FileId(0), &text);
            let Some(fix) = problems.iter().find_map(|p| p.fix.clone()) else { break };
            text.replace_range(fix.span.start as usize..fix.span.end as usize, &fix.text);
        }
        let (_, problems) = parse(FileId(0), &text);
        assert!(problems.iter().all(|p| p.fix.is_none()), "{code}: {text}");
    }
}
