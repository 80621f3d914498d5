//! What a section asks for, done.

use cs336_compiler::check::hir::Spec;
use cs336_compiler::front::{Checked, check};
use cs336_compiler::problem::Problems;
use cs336_compiler::source::{FileId, Sources};
use cs336_compiler::syntax;
use cs336_compiler::world::World;

use crate::golden;
use crate::notes::{self, Note};
use crate::numbers;
use cs336_tests::collect::{Attribute, Section};
use cs336_tests::outside::{MAIN, Outside};

/// What is wrong with a section; nothing if all is as expected.
pub(crate) fn complaints(
    path: &str,
    section: &Section,
    beside: &[(String, String)],
) -> Vec<String> {
    let world = world(section, beside);
    let first = section.line + 1;
    let mut out = Vec::new();
    let now = look(section, &world);
    out.extend(notes::compare(&notes::expected(&section.body), &now.problems, first));
    if section.has(Attribute::Cost) {
        let wanted = notes::printed(&section.body);
        if wanted != now.lines {
            let (old, new) = (wanted.join("\n"), now.lines.join("\n"));
            let diff = similar::TextDiff::from_lines(&old, &new);
            out.push(format!("what `check` prints has changed:\n{}", diff.unified_diff()));
        }
    }
    out.extend(now.faults);
    if section.has(Attribute::Value) && now.problems.is_empty() {
        out.extend(numbers::complaints(section, &world));
    }
    if now.problems.is_empty() {
        out.extend(golden::complaints(path, section, &world));
    }
    out.iter_mut().for_each(|c| *c = format!("suite/{path}: {c}"));
    out
}

/// The program with notes, lines and values as they are now. Longer texts are written to their files.
pub(crate) fn blessed(path: &str, section: &Section, beside: &[(String, String)]) -> String {
    let world = world(section, beside);
    let now = look(section, &world);
    let mut body = notes::noted(&section.body, &now.problems);
    if section.has(Attribute::Cost) {
        body = notes::with_printed(&body, &now.lines);
    }
    if section.has(Attribute::Value) {
        body = numbers::blessed(section, &body, &world);
    }
    golden::bless(path, section, &world);
    body
}

pub(crate) fn world(section: &Section, beside: &[(String, String)]) -> Outside {
    let mut world = Outside::new(&section.body, &section.facts);
    world.texts.files.extend(beside.iter().cloned());
    world
}

/// What is seen of a section.
struct Seen {
    problems: Vec<Note>,
    lines: Vec<String>,
    /// Faults of ours.
    faults: Vec<String>,
}

fn look(section: &Section, world: &dyn World) -> Seen {
    let mut seen = Seen { problems: Vec::new(), lines: Vec::new(), faults: Vec::new() };
    if section.has(Attribute::Parse) {
        let mut sources = Sources::default();
        let file = sources.add(MAIN, section.body.as_str(), false);
        let (ast, problems) = syntax::parse(file, &section.body);
        seen.problems = notes_of(&problems, &sources);
        if problems.is_empty() {
            seen.faults.extend(unstable(&syntax::print(&ast)));
        }
        return seen;
    }
    let checks = [Attribute::Check, Attribute::Cost, Attribute::Plan, Attribute::Decode];
    if !checks.iter().any(|a| section.has(*a)) {
        // A layer on its own has no data that would give it columns.
        if section.has(Attribute::Value) {
            seen.problems = numbers::refused(section, world);
        }
        return seen;
    }
    let mut checked = check(world, MAIN, &section.sets);
    seen.lines = checked.lines.iter().map(|l| counted(l).to_owned()).collect();
    if section.has(Attribute::Plan) || section.has(Attribute::Decode) {
        seen.faults = compiled(section, &mut checked);
    }
    seen.problems = notes_of(checked.problems(), checked.sources());
    seen
}

/// What of a line is counted on the graph: what follows the FLOPs depends on how plans are made.
fn counted(line: &str) -> &str {
    line.find(" FLOPs").map_or(line, |at| &line[..at + " FLOPs".len()])
}

/// Printing what was printed and read changes nothing.
fn unstable(printed: &str) -> Option<String> {
    let (again, problems) = syntax::parse(FileId(0), printed);
    if let Some(p) = problems.iter().next() {
        return Some(format!("its printed form has {}: {}\n{printed}", p.code, p.message));
    }
    let twice = syntax::print(&again);
    (twice != printed).then(|| {
        let diff = similar::TextDiff::from_lines(printed, &twice);
        format!("its printed form is printed differently:\n{}", diff.unified_diff())
    })
}

/// Every training run is compiled; gives what was refused.
fn compiled(section: &Section, checked: &mut Checked<'_>) -> Vec<String> {
    let trains: Vec<String> = checked
        .nodes
        .iter()
        .filter(|(_, n)| matches!(n.spec, Spec::Train(_)))
        .map(|(name, _)| name.clone())
        .collect();
    let mut faults = Vec::new();
    if trains.is_empty() {
        faults.push("there is no training run to compile".to_owned());
    }
    for name in trains {
        if section.has(Attribute::Plan)
            && let Err(problems) = checked.train_programs(&name, None)
        {
            faults.extend(refused(&format!("training of `{name}`"), &problems));
        }
        if section.has(Attribute::Decode)
            && let Err(problems) = checked.decode_programs(&name, 4, 16)
        {
            faults.extend(refused(&format!("generation by `{name}`"), &problems));
        }
    }
    faults
}

fn refused(what: &str, problems: &Problems) -> Vec<String> {
    problems.iter().map(|p| format!("{what}: {}: {}", p.code, p.message)).collect()
}

/// Problems with the lines of their main places.
pub(crate) fn notes_of(problems: &Problems, sources: &Sources) -> Vec<Note> {
    let note = |p: &cs336_compiler::problem::Problem| {
        let span = p.span().filter(|s| sources.file(s.file).name == MAIN);
        let line = span.map(|s| sources.line_col(s).0 - 1);
        Note { line, code: p.code.clone(), words: p.message.clone() }
    };
    problems.sorted().into_iter().map(note).collect()
}
