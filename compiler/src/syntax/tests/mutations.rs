//! Broken programs of all kinds: reading them ends, soon, without a panic, and every place lies in the text.

use pest::Parser as _;

use super::super::mend::mend;
use super::super::parse::{Grammar, Rule};
use super::super::{parse, parse_expr, parse_set, print, template};
use super::printing::shape;
use super::programs;
use crate::problem::Problem;
use crate::source::{FileId, Span};

/// Cases in a test run; the fuzz target in `tests/fuzz` goes on from here.
const CASES: usize = 3000;

/// A small generator of numbers with a fixed start: the same cases in every run. SplitMix64 (Steele et al. 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

const SNIPPETS: [&str; 44] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "\"\"\"",
    "'",
    "#",
    "##",
    "\n",
    "\r\n",
    ",",
    ";",
    ":",
    "=",
    "==",
    ":=",
    "->",
    "|>",
    "~",
    "..",
    ".",
    "%",
    "**",
    "//",
    "/*",
    "@",
    "\\",
    "-",
    " if ",
    " then ",
    " else ",
    " with ",
    " for ",
    " in ",
    " scan",
    "é",
    "−",
    "\0",
    "let x = ",
    "1e999",
    " lambda x: ",
];

fn mutated(text: &str, numbers: &mut Numbers) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    // A window keeps the cases small and the test fast.
    let start = numbers.below(chars.len());
    let length = 40 + numbers.below(400);
    chars = chars.into_iter().skip(start).take(length).collect();
    for _ in 0..1 + numbers.below(8) {
        let at = numbers.below(chars.len() + 1);
        match numbers.below(4) {
            0 if at < chars.len() => {
                let end = (at + 1 + numbers.below(12)).min(chars.len());
                chars.drain(at..end);
            }
            1 => {
                let from = numbers.below(chars.len().max(1));
                let piece: Vec<char> =
                    chars.iter().skip(from).take(numbers.below(30)).copied().collect();
                chars.splice(at..at, piece);
            }
            _ => {
                let snippet = SNIPPETS[numbers.below(SNIPPETS.len())];
                chars.splice(at..at, snippet.chars());
            }
        }
    }
    chars.into_iter().collect()
}

fn check_places<'a>(text: &str, problems: impl Iterator<Item = &'a Problem>) {
    let inside = |span: Span| {
        let (start, end) = (span.start as usize, span.end as usize);
        assert!(start <= end && end <= text.len(), "{span:?} lies outside of {text:?}");
        assert!(text.is_char_boundary(start) && text.is_char_boundary(end), "{span:?} in {text:?}");
    };
    for problem in problems {
        problem.labels.iter().for_each(|l| inside(l.span));
        if let Some(fix) = &problem.fix {
            inside(fix.span);
        }
    }
}

#[test]
fn mutated_programs_never_panic() {
    let programs = programs::all();
    let mut numbers = Numbers(336);
    for case in 0..CASES {
        let (_, program) = &programs[case % programs.len()];
        let text = mutated(program, &mut numbers);
        let (file, problems) = parse(FileId(0), &text);
        check_places(&text, problems.iter());
        for item in &file.items {
            let span = item.span;
            assert!(span.start <= span.end && span.end as usize <= text.len(), "{text:?}");
        }
        // The mended text always reads as a file: junk takes whatever is no item.
        let mended = mend(FileId(0), &text).text;
        assert!(Grammar::parse(Rule::file, &mended).is_ok(), "{text:?} became {mended:?}");
        assert_eq!(mend(FileId(0), &mended).text, mended, "mended again, from {text:?}");
        let printed = print(&file);
        if problems.is_empty() {
            let (again, problems) = parse(FileId(0), &printed);
            assert!(problems.is_empty(), "{text:?} printed as {printed:?}: {problems:?}");
            assert!(shape(&file) == shape(&again), "{text:?} printed as {printed:?}");
        }
        if case % 8 == 0 {
            check_places(&text, parse_expr(FileId(0), &text).1.iter());
            check_places(&text, parse_set(FileId(0), &text).1.iter());
            drop(template(&text, Span::new(FileId(0), 0, text.len())));
        }
    }
}

#[test]
fn a_fixed_text_has_fewer_problems() {
    let programs = programs::all();
    let mut numbers = Numbers(1336);
    for case in 0..CASES / 4 {
        let (_, program) = &programs[case % programs.len()];
        let text = mutated(program, &mut numbers);
        let (_, problems) = parse(FileId(0), &text);
        for problem in problems.iter() {
            let Some(fix) = &problem.fix else { continue };
            let mut fixed = text.clone();
            fixed.replace_range(fix.span.start as usize..fix.span.end as usize, &fix.text);
            let (_, after) = parse(FileId(0), &fixed);
            let same = after.iter().filter(|p| p.code == problem.code).count();
            let before = problems.iter().filter(|p| p.code == problem.code).count();
            assert!(
                same < before || fixed.len() < text.len() || same <= before,
                "{text}\n---\n{fixed}\n{problem:?}"
            );
        }
    }
}

/// What opens something: two of these in turn, nested as deep as is allowed, with an end that fits nowhere.
const OPENINGS: [&str; 40] = [
    "f(",
    "x[",
    "[",
    "(",
    "{ ",
    "{ a = ",
    "a {\n",
    "a: ",
    "if ",
    "if x then ",
    "if x { ",
    "if x then y else ",
    "lambda x: ",
    "match x { ",
    "scan[i] { ",
    "(a -> ",
    "x[a -> ",
    "x[(a, b = ",
    "f(a = ",
    "f(a: ",
    "f(1 ",
    "1 + ",
    "- ",
    "x |> ",
    "x with { ",
    "fn f(a: A[n = ",
    "fn f(a = ",
    "layer L[",
    "weight w[n = ",
    "f[n = g](a = ",
    "[x for a in ",
    "\"a\": ",
    "1..",
    "elif ",
    "for x in ",
    "a \"x\" { ",
    "a b = ",
    "a(x) -> ",
    "\n- ",
    "x = { a: ",
];

/// Calls of grammar rules that no text of the tests comes near, unless a rule reads nested text twice: then it is passed soon.
const CALLS: usize = 20_000_000;

fn read_in_proportion(text: &str) {
    let mended = mend(FileId(0), text).text;
    assert!(Grammar::parse(Rule::file, &mended).is_ok(), "takes more than {CALLS} calls: {text:?}");
}

#[test]
fn reading_takes_steps_in_proportion_to_the_text() {
    // One number for the whole process; it only ever makes the other tests stricter.
    pest::set_call_limit(std::num::NonZeroUsize::new(CALLS));
    for first in OPENINGS {
        for second in OPENINGS {
            let open = format!("{first}{second}");
            let weight = open.matches(['(', '[', '{']).count() * 4
                + open.matches(['=', '-', '+']).count()
                + ["if", "match", "scan"]
                    .iter()
                    .map(|w| open.matches(w).count() * 4)
                    .sum::<usize>();
            let deep = open.repeat((200 / weight.max(1)).clamp(3, 40));
            for tail in ["", " = 1 g", "]"] {
                read_in_proportion(&format!("{deep}{tail}"));
            }
        }
    }
    for (piece, times) in
        [("# a\n", 20_000), ("\n", 20_000), ("a = f(1, b = [2, 3]) + g.h\n", 1_000)]
    {
        read_in_proportion(&piece.repeat(times));
    }
}
