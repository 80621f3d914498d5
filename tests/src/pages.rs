//! The pages of `compiler/explain`: what they call wrong is wrong in that way only, what they call right is right, and the
//! picture of the wrong example is the one in `ref/problems`. Fixes that are offered for the wrong example can be made, and then none is left.
//!
//! ```` ```cs336 wrong --set lr=1 --fact tales.train.tokens=50000 ````: an example may need `--set`s, and facts of earlier runs.

use std::path::PathBuf;

use cs336_compiler::front::{Checked, check};
use libtest_mimic::{Failed, Trial};

use cs336_tests::collect::{Fact, fact};
use cs336_tests::outside::{MAIN, Outside};
use cs336_tests::places;

use crate::{picture, write_if_new};

/// A page.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Its code.
    pub(crate) code: String,
    /// Its text.
    pub(crate) text: String,
}

/// An example: its text, and what stands behind its mark.
#[derive(Debug, Clone)]
struct Example {
    text: String,
    sets: Vec<String>,
    facts: Vec<Fact>,
}

/// Codes of the checker that no program alone brings about.
const WITHOUT_EXAMPLE: &[(&str, &str)] = &[
    ("E0100", "what a command says where others follow"),
    ("E0404", "axes of tensors that `apply` is given"),
    ("E0899", "a fault of the compiler"),
];

/// Codes of the other parts of the project need a machine, not a program.
const OF_THE_CHECKER: &[&str] = &["E01", "E02", "E03", "E04", "E05", "W05"];

/// All pages.
pub(crate) fn pages() -> Vec<Page> {
    let folder = places::root().join("compiler").join("explain");
    let files = places::files_below(&folder);
    files
        .into_iter()
        .filter_map(|path| {
            let code = path.file_stem()?.to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).ok()?;
            Some(Page { code, text })
        })
        .collect()
}

/// A test for each page.
pub(crate) fn trials() -> Vec<Trial> {
    let trial = |page: Page| {
        Trial::test(format!("explain::{}", page.code), move || {
            let complaints = complaints(&page);
            if complaints.is_empty() { Ok(()) } else { Err(Failed::from(complaints.join("\n"))) }
        })
    };
    pages().into_iter().map(trial).collect()
}

/// Draws the pictures anew.
pub(crate) fn bless(wanted: &str) {
    for page in pages() {
        if !format!("explain::{}", page.code).contains(wanted) {
            continue;
        }
        if let Some(example) = example(&page.text, "wrong") {
            write_if_new(&picture_path(&page), &drawn(&page.code, &example));
        }
    }
}

fn picture_path(page: &Page) -> PathBuf {
    places::reference().join("problems").join(format!("{}.txt", page.code))
}

/// Whether a page answers for a code: an example of a mistake in syntax may name what it does not declare.
fn answers_for(page: &Page, code: &str) -> bool {
    !page.code.starts_with("E01") || code.starts_with("E01")
}

fn complaints(page: &Page) -> Vec<String> {
    let mut out = Vec::new();
    if !page.text.starts_with(&format!("# {}: ", page.code)) {
        out.push(format!("its first line is not `# {}: title`", page.code));
    }
    let (wrong, right) = (example(&page.text, "wrong"), example(&page.text, "right"));
    if let Some(wrong) = &wrong {
        let codes = with(wrong, |c| {
            let codes = c.problems().iter().map(|p| p.code.clone());
            codes.filter(|code| answers_for(page, code)).collect::<Vec<_>>()
        });
        if codes.is_empty() || codes.iter().any(|c| *c != page.code) {
            out.push(format!("the wrong example has the problems {codes:?}"));
        }
        let picture = drawn(&page.code, wrong);
        let kept = std::fs::read_to_string(picture_path(page)).unwrap_or_default();
        if picture != kept {
            let diff = similar::TextDiff::from_lines(&kept, &picture);
            out.push(format!(
                "the picture of the wrong example has changed (`cargo bless explain::{}`):\n{}",
                page.code,
                diff.unified_diff()
            ));
        }
    }
    if let Some(right) = &right {
        let found = with(right, |c| {
            let answered = c.problems().iter().filter(|p| answers_for(page, &p.code));
            answered.map(|p| format!("{}: {}", p.code, p.message)).collect::<Vec<_>>()
        });
        if !found.is_empty() {
            out.push(format!("the right example has the problems {found:?}"));
        }
    }
    if wrong.is_some() != right.is_some() {
        out.push("it has a wrong example or a right one, not both".to_owned());
    }
    let excused = WITHOUT_EXAMPLE.iter().any(|(code, _)| *code == page.code);
    let needed = OF_THE_CHECKER.iter().any(|part| page.code.starts_with(part)) && !excused;
    if needed && wrong.is_none() {
        out.push("it has no examples".to_owned());
    }
    out.extend(wrong.and_then(|wrong| fix_left(&wrong)));
    out
}

/// Makes the fixes that are offered, one after the other; gives the first that is still offered after many.
fn fix_left(example: &Example) -> Option<String> {
    let mut example = example.clone();
    for _ in 0..10 {
        let fix = with(&example, |c| {
            let fix = c.problems().iter().find_map(|p| p.fix.clone())?;
            (c.sources().file(fix.span.file).name == MAIN).then_some(fix)
        })?;
        example.text.replace_range(fix.span.start as usize..fix.span.end as usize, &fix.text);
    }
    Some(format!("fixes of the wrong example come to no end:\n{}", example.text))
}

fn drawn(code: &str, example: &Example) -> String {
    with(example, |c| {
        let first = c.problems().sorted().into_iter().find(|p| p.code == code);
        first.map_or(String::new(), |p| picture::draw(p, c.sources()))
    })
}

fn with<T>(example: &Example, look: impl FnOnce(&Checked<'_>) -> T) -> T {
    let world = Outside::new(&example.text, &example.facts);
    look(&check(&world, MAIN, &example.sets))
}

/// The block that opens with the mark `cs336 WORD`.
fn example(page: &str, word: &str) -> Option<Example> {
    let (_, after) = page.split_once(&format!("```cs336 {word}"))?;
    let (options, after) = after.split_once('\n')?;
    let (block, _) = after.split_once("\n```")?;
    let (mut sets, mut facts) = (Vec::new(), Vec::new());
    for option in options.split(" --").skip(1) {
        if let Some(set) = option.strip_prefix("set ") {
            sets.push(set.trim().to_owned());
        } else if let Some(text) = option.strip_prefix("fact ") {
            facts.extend(fact(text));
        }
    }
    Some(Example { text: format!("{block}\n"), sets, facts })
}
