//! Files of sections.
//!
//! A file begins with a comment on what it is about. A section is a line `--- name attribute.. ---` and the program below it, up to
//! the next such line.

use std::path::Path;

use crate::places::files_below;

/// What is done with a section, and what is expected of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribute {
    /// It is read; problems are those of syntax. Without problems its printed form is read and printed alike.
    Parse,
    /// It is checked.
    Check,
    /// What `check` prints about its nodes stands in lines `#= ..`.
    Cost,
    /// Every training run in it is checked and compiled: step, start, evaluation.
    Plan,
    /// And every training run's model is compiled for generation.
    Decode,
    /// The last thing that it declares is applied to tensors in lines `#< ..`; results stand in lines `#> ..`.
    Value,
    /// And its gradients are those of finite differences.
    Grad,
    /// The plan is the one in `ref/plans`; with what fuses, and the code of fused kernels, if asked for.
    Kernels,
    /// See `Kernels`.
    Groups,
    /// See `Kernels`.
    Clif,
    /// The CUDA C++ of each kernel is kept.
    Cuda,
    /// It is no test but a file that the other sections of its file may use, as `./NAME.cs336`.
    File,
    /// It runs only with `--include-ignored`.
    Slow,
}

const ATTRIBUTES: &[(&str, Attribute)] = &[
    ("parse", Attribute::Parse),
    ("check", Attribute::Check),
    ("cost", Attribute::Cost),
    ("plan", Attribute::Plan),
    ("decode", Attribute::Decode),
    ("value", Attribute::Value),
    ("grad", Attribute::Grad),
    ("kernels", Attribute::Kernels),
    ("groups", Attribute::Groups),
    ("clif", Attribute::Clif),
    ("cuda", Attribute::Cuda),
    ("file", Attribute::File),
    ("slow", Attribute::Slow),
];

/// A number known from earlier runs: `stories.train.tokens`, 50000.
pub type Fact = (String, f64);

/// Reads `stories.train.tokens=50000`.
pub fn fact(text: &str) -> Option<Fact> {
    let (name, value) = text.trim().split_once('=')?;
    Some((name.to_owned(), value.parse().ok()?))
}

/// A program and what is expected.
#[derive(Debug, Clone)]
pub struct Section {
    /// Unique in its file.
    pub name: String,
    /// What is done.
    pub attributes: Vec<Attribute>,
    /// `--set`s: from the attribute `set:PATH=VALUE`.
    pub sets: Vec<String>,
    /// What is known from earlier runs: from the attribute `fact:NODE.FIELD=NUMBER`.
    pub facts: Vec<Fact>,
    /// The line of the header, from 1.
    pub line: usize,
    /// The header as written.
    pub header: String,
    /// The lines below it.
    pub body: String,
}

impl Section {
    /// True if the attribute is given.
    pub fn has(&self, attribute: Attribute) -> bool {
        self.attributes.contains(&attribute)
    }
}

/// A file of sections.
#[derive(Debug, Clone)]
pub struct SuiteFile {
    /// Below `suite/`, with `/`.
    pub path: String,
    /// The text before the first section.
    pub lead: String,
    /// In order.
    pub sections: Vec<Section>,
}

impl SuiteFile {
    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = self.lead.clone();
        for s in &self.sections {
            text.push_str(&s.header);
            text.push('\n');
            text.push_str(&s.body);
        }
        text
    }

    /// Names and texts of the files that its sections may use.
    pub fn beside(&self) -> Vec<(String, String)> {
        let files = self.sections.iter().filter(|s| s.has(Attribute::File));
        files.map(|s| (format!("{}.cs336", s.name), s.body.clone())).collect()
    }
}

/// Reads all files below a folder; or says what is wrong with their headers.
pub fn collect(folder: &Path) -> Result<Vec<SuiteFile>, Vec<String>> {
    let (mut files, mut complaints) = (Vec::new(), Vec::new());
    for path in files_below(folder) {
        if path.extension().is_none_or(|e| e != "cs336") {
            continue;
        }
        let shown = path.strip_prefix(folder).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        match std::fs::read_to_string(&path) {
            Ok(text) => files.push(sections(&shown, &text, &mut complaints)),
            Err(error) => complaints.push(format!("{shown}: {error}")),
        }
    }
    if complaints.is_empty() { Ok(files) } else { Err(complaints) }
}

fn sections(path: &str, text: &str, complaints: &mut Vec<String>) -> SuiteFile {
    let mut file = SuiteFile { path: path.to_owned(), lead: String::new(), sections: Vec::new() };
    for (i, line) in text.lines().enumerate() {
        if let Some(inner) = line.strip_prefix("--- ").and_then(|l| l.strip_suffix(" ---")) {
            match header(inner, line, i + 1) {
                Ok(s) if file.sections.iter().any(|o| o.name == s.name) => {
                    complaints.push(format!("{path}:{}: `{}` is there twice", i + 1, s.name));
                }
                Ok(s) => file.sections.push(s),
                Err(why) => complaints.push(format!("{path}:{}: {why}", i + 1)),
            }
            continue;
        }
        let into = file.sections.last_mut().map_or(&mut file.lead, |s| &mut s.body);
        into.push_str(line);
        into.push('\n');
    }
    file
}

fn header(inner: &str, whole: &str, line: usize) -> Result<Section, String> {
    let mut words = inner.split_whitespace();
    let name = words.next().ok_or("a section needs a name")?.to_owned();
    let (mut attributes, mut sets, mut facts) = (Vec::new(), Vec::new(), Vec::new());
    for word in words {
        if let Some(set) = word.strip_prefix("set:") {
            sets.push(set.to_owned());
        } else if let Some(text) = word.strip_prefix("fact:") {
            facts.push(fact(text).ok_or_else(|| format!("`{text}` is not NODE.FIELD=NUMBER"))?);
        } else if let Some((_, a)) = ATTRIBUTES.iter().find(|(n, _)| *n == word) {
            attributes.push(*a);
        } else {
            let all: Vec<&str> = ATTRIBUTES.iter().map(|(n, _)| *n).collect();
            return Err(format!("no attribute `{word}`; there are: {}", all.join(", ")));
        }
    }
    if attributes.is_empty() {
        return Err(format!("`{name}` does not say what is done with it, such as `check`"));
    }
    let (header, body) = (whole.to_owned(), String::new());
    Ok(Section { name, attributes, sets, facts, line, header, body })
}
