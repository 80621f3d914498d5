//! The pages of `compiler/explain`: what they call wrong is wrong in that way only, what they call right is right, and the
//! picture of the wrong example is the one in `ref/problems`.

use std::path::PathBuf;

use cs336_compiler::front::{Checked, check};
use cs336_compiler::world::Texts;
use libtest_mimic::{Failed, Trial};

use crate::follow::MAIN;
use crate::{picture, places, write_if_new};

/// A page.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// Its code.
    pub(crate) code: String,
    /// Its text.
    pub(crate) text: String,
}

/// An example: its text and the `--set`s that stand behind its mark.
type Example = (String, Vec<String>);

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
    out
}

fn drawn(code: &str, example: &Example) -> String {
    with(example, |c| {
        let first = c.problems().sorted().into_iter().find(|p| p.code == code);
        first.map_or(String::new(), |p| picture::draw(p, c.sources()))
    })
}

fn with<T>(example: &Example, look: impl FnOnce(&Checked<'_>) -> T) -> T {
    let world = Texts { files: vec![(MAIN.to_owned(), example.0.clone())] };
    look(&check(&world, MAIN, &example.1))
}

/// The block that opens with the mark `cs336 WORD`.
fn example(page: &str, word: &str) -> Option<Example> {
    let (_, after) = page.split_once(&format!("```cs336 {word}"))?;
    let (options, after) = after.split_once('\n')?;
    let (block, _) = after.split_once("\n```")?;
    let sets = options.split("--set").skip(1).map(|s| s.trim().to_owned()).collect();
    Some((format!("{block}\n"), sets))
}
