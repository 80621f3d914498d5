//! Mistakes and what is said about them, as data: `mistakes.txt` holds sources (`=== `, `\n` for a line break) and below
//! each one the expected problems. After a change of messages, `CS336C_BLESS=1 cargo test` writes the file anew.

use std::fmt::Write as _;
use std::path::Path;

use super::super::parse;
use crate::source::FileId;

fn rendered(text: &str) -> String {
    let mut out = String::new();
    let (_, problems) = parse(FileId(0), text);
    for p in problems.sorted() {
        let place = p.span().map(|s| &text[s.start as usize..s.end as usize]).unwrap_or("");
        let mut line =
            |text: &str| writeln!(out, "{}", text.replace('\n', "\\n")).expect("a string grows");
        line(&format!("{} at `{place}`: {}", p.code, p.message));
        for label in p.labels.iter().filter(|l| !l.text.is_empty()) {
            line(&format!("  {}", label.text));
        }
        p.help.iter().for_each(|h| line(&format!("  help: {h}")));
        if let Some(fix) = &p.fix {
            let mut fixed = text.to_owned();
            fixed.replace_range(fix.span.start as usize..fix.span.end as usize, &fix.text);
            line(&format!("  fixed: {fixed}"));
        }
    }
    out
}

#[test]
fn mistakes_are_explained() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/syntax/tests/mistakes.txt");
    let golden = std::fs::read_to_string(&path).expect("part of the repository");
    let mut now = String::new();
    for source in golden.lines().filter_map(|l| l.strip_prefix("=== ")) {
        write!(now, "=== {source}\n{}\n", rendered(&source.replace("\\n", "\n")))
            .expect("a string grows");
    }
    if std::env::var_os("CS336C_BLESS").is_some() {
        std::fs::write(&path, now).expect("the sources can be written");
    } else {
        assert_eq!(now, golden);
    }
}
