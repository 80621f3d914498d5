//! Notes: what is expected, as comments in the program.
//!
//! `#~ E0203` at the end of a line expects that problem there; words behind the code must occur in its message. A line that begins with
//! `#~^` speaks of the line above the notes. `#~* E0202` expects a problem that lies outside the program, in `--set` for
//! example. `#= text` is a line that `check` prints.

use std::fmt::Write as _;

/// A problem that was found or is expected.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Note {
    /// The line in the program, from 0; `None` if it lies elsewhere.
    pub(crate) line: Option<usize>,
    /// Its code.
    pub(crate) code: String,
    /// Of a found problem its message; of an expected one, words that the message contains.
    pub(crate) words: String,
}

/// The notes of a program.
pub(crate) fn expected(body: &str) -> Vec<Note> {
    let mut found = Vec::new();
    let mut last_line = 0;
    for (i, line) in body.lines().enumerate() {
        let own = line.trim_start();
        let (line, text) = if let Some(text) = own.strip_prefix("#~*") {
            (None, text)
        } else if let Some(text) = own.strip_prefix("#~^") {
            (Some(last_line), text)
        } else {
            last_line = i;
            match line.split_once("#~ ") {
                Some((_, text)) => (Some(i), text),
                None => continue,
            }
        };
        let text = text.trim();
        let (code, words) = text.split_once(' ').unwrap_or((text, ""));
        found.push(Note { line, code: code.to_owned(), words: words.trim().to_owned() });
    }
    found
}

/// What `check` should print.
pub(crate) fn printed(body: &str) -> Vec<String> {
    body.lines().filter_map(|l| l.strip_prefix("#= ")).map(str::to_owned).collect()
}

/// Compares; `first` is the line in the file of the program's line 0.
pub(crate) fn compare(expected: &[Note], found: &[Note], first: usize) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut left: Vec<&Note> = found.iter().collect();
    let place = |n: &Note| n.line.map_or("elsewhere".into(), |l| format!("line {}", l + first));
    for e in expected {
        let fits = |n: &&Note| n.line == e.line && n.code == e.code && n.words.contains(&e.words);
        match left.iter().position(fits) {
            Some(i) => {
                left.remove(i);
            }
            None => complaints.push(format!("{}: {} {} was not found", place(e), e.code, e.words)),
        }
    }
    for n in left {
        complaints.push(format!("{}: {}: {} was not expected", place(n), n.code, n.words));
    }
    complaints
}

/// The program with the notes of what was found. Words of old notes stay where they still hold.
pub(crate) fn noted(body: &str, found: &[Note]) -> String {
    let old = expected(body);
    let words = |n: &Note| {
        let kept = old.iter().find(|o| {
            o.line == n.line
                && o.code == n.code
                && n.words.contains(&o.words)
                && !o.words.is_empty()
        });
        kept.map_or(n.code.clone(), |o| format!("{} {}", n.code, o.words))
    };
    let mut out = String::new();
    for (i, line) in body.lines().enumerate() {
        if line.trim_start().starts_with("#~") {
            continue;
        }
        let here = found.iter().filter(|n| n.line == Some(i));
        let plain = line.split_once("#~ ").map_or(line, |(before, _)| before.trim_end());
        out.push_str(plain);
        // Notes stay below a line where they were, as behind a text that is never closed.
        let below = plain == line && old.iter().any(|o| o.line == Some(i));
        for (k, n) in here.enumerate() {
            let sign = if k == 0 && !below { "  #~" } else { "\n#~^" };
            write!(out, "{sign} {}", words(n)).expect("a string grows");
        }
        out.push('\n');
    }
    let elsewhere: Vec<&Note> = found.iter().filter(|n| n.line.is_none()).collect();
    if !elsewhere.is_empty() {
        let lines: Vec<String> = elsewhere.iter().map(|n| format!("#~* {}", words(n))).collect();
        out = format!("{}\n{}\n\n", out.trim_end(), lines.join("\n"));
    }
    out
}

/// The program with the lines that `check` prints in place of the old ones, at its end.
pub(crate) fn with_printed(body: &str, lines: &[String]) -> String {
    let mut out = String::new();
    for line in body.lines().filter(|l| !l.starts_with("#= ")) {
        writeln!(out, "{line}").expect("a string grows");
    }
    let end = out.trim_end().len();
    out.truncate(end);
    out.push('\n');
    for line in lines {
        writeln!(out, "#= {line}").expect("a string grows");
    }
    out.push('\n');
    out
}
