//! Problems and figures for people: the only place with colours and boxes.
//!
//! A [`Problem`] is drawn with the text around its places; places in other files than the main one follow with
//! their own text. Without a terminal there are no colours.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use cs336_compiler::problem::{Problem, Problems, Severity};
use cs336_compiler::source::{FileId, Sources};
use cs336_lab::LabError;
use miette::{
    Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode,
};
use serde_json::{Value, json};

/// How many problems are drawn; the rest is counted.
const SHOWN: usize = 20;

/// How things are drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Style {
    /// Colours and line drawing.
    pub(crate) fancy: bool,
    /// JSON instead.
    pub(crate) json: bool,
}

impl Style {
    /// As standard error wants it.
    pub(crate) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { fancy: std::io::stderr().is_terminal() && !plain, json }
    }

    /// All problems, drawn or as JSON lines.
    pub(crate) fn problems(self, problems: &Problems, sources: &Sources) -> String {
        let sorted = problems.sorted();
        let mut text = String::new();
        for problem in sorted.iter().take(if self.json { usize::MAX } else { SHOWN }) {
            if self.json {
                writeln!(text, "{}", problem_json(problem, sources)).ok();
            } else {
                text += &self.draw(&Drawn::new(problem, sources));
            }
        }
        if !self.json && sorted.len() > SHOWN {
            writeln!(text, "and {} more", sorted.len() - SHOWN).ok();
        }
        text
    }

    /// An error of a run.
    pub(crate) fn error(self, error: &LabError) -> String {
        if let LabError::Program(program) | LabError::Placed { program, .. } = error {
            return self.problems(&program.0, &program.1);
        }
        let (code, message, help) = (error.code(), error.to_string(), error.help());
        if self.json {
            return json!({ "kind": "problem", "code": code, "severity": "error",
                "message": message, "labels": [], "help": [help] })
            .to_string()
                + "\n";
        }
        self.draw(&Plain { code: code.to_owned(), message, help })
    }

    fn draw(self, diagnostic: &dyn Diagnostic) -> String {
        let theme =
            if self.fancy { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let mut text = String::new();
        GraphicalReportHandler::new_themed(theme)
            .with_width(100)
            .with_links(false)
            .render_report(&mut text, diagnostic)
            .ok();
        text
    }
}

/// A problem as data.
pub(crate) fn problem_json(problem: &Problem, sources: &Sources) -> Value {
    let labels: Vec<Value> = problem
        .labels
        .iter()
        .map(|label| {
            let (line, column) = sources.line_col(label.span);
            json!({
                "file": sources.file(label.span.file).name, "line": line, "column": column,
                "start": label.span.start, "end": label.span.end, "text": label.text,
            })
        })
        .collect();
    let fix = problem.fix.as_ref().map(|fix| {
        json!({
            "file": sources.file(fix.span.file).name,
            "start": fix.span.start, "end": fix.span.end, "text": fix.text,
        })
    });
    json!({
        "kind": "problem", "code": problem.code, "severity": problem.severity,
        "message": problem.message, "labels": labels, "help": problem.help, "fix": fix,
    })
}

/// A problem, with its texts.
#[derive(Debug)]
struct Drawn {
    code: Option<String>,
    message: String,
    severity: miette::Severity,
    help: Option<String>,
    labels: Vec<LabeledSpan>,
    source: Option<NamedSource<String>>,
    /// Places in other files.
    elsewhere: Vec<Drawn>,
}

impl Drawn {
    fn new(problem: &Problem, sources: &Sources) -> Self {
        let mut files: Vec<FileId> = Vec::new();
        for label in &problem.labels {
            if !files.contains(&label.span.file) {
                files.push(label.span.file);
            }
        }
        let mut parts = files.into_iter().map(|id| {
            let file = sources.file(id);
            let ours = problem.labels.iter().filter(|label| label.span.file == id);
            let labels: Vec<LabeledSpan> = ours
                .enumerate()
                .map(|(at, label)| {
                    let text = (!label.text.is_empty()).then(|| label.text.clone());
                    let start = (label.span.start as usize).min(file.text.len());
                    let end = (label.span.end as usize).clamp(start, file.text.len());
                    if at == 0 {
                        LabeledSpan::new_primary_with_span(text, start..end)
                    } else {
                        LabeledSpan::new_with_span(text, start..end)
                    }
                })
                .collect();
            (labels, NamedSource::new(&file.name, file.text.clone()))
        });
        let (labels, source) = match parts.next() {
            Some((labels, source)) => (labels, Some(source)),
            None => (Vec::new(), None),
        };
        let elsewhere = parts
            .map(|(labels, source)| Drawn {
                code: None,
                message: "this is about".to_owned(),
                severity: miette::Severity::Advice,
                help: None,
                labels,
                source: Some(source),
                elsewhere: Vec::new(),
            })
            .collect();
        let mut help = problem.help.clone();
        if let Some(fix) = &problem.fix {
            let old = sources.text(fix.span);
            help.push(match (old.is_empty(), fix.text.is_empty()) {
                (true, _) => format!("add `{}`", fix.text),
                (false, true) => format!("delete `{old}`"),
                (false, false) => format!("write `{}` instead of `{old}`", fix.text),
            });
        }
        Self {
            code: Some(problem.code.clone()),
            message: problem.message.clone(),
            severity: match problem.severity {
                Severity::Error => miette::Severity::Error,
                Severity::Warning => miette::Severity::Warning,
            },
            help: (!help.is_empty()).then(|| help.join("\n")),
            labels,
            source,
            elsewhere,
        }
    }
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Drawn {}

impl Diagnostic for Drawn {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.code.as_ref().map(|code| Box::new(code) as Box<dyn fmt::Display>)
    }

    fn severity(&self) -> Option<miette::Severity> {
        Some(self.severity)
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.source.as_ref().map(|source| source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        Some(Box::new(self.labels.iter().cloned()))
    }

    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        if self.elsewhere.is_empty() {
            return None;
        }
        Some(Box::new(self.elsewhere.iter().map(|part| part as &dyn Diagnostic)))
    }
}

/// An error without a place in a program.
#[derive(Debug)]
struct Plain {
    code: String,
    message: String,
    help: String,
}

impl fmt::Display for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Plain {}

impl Diagnostic for Plain {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(&self.help))
    }
}

/// `1.23M`: three figures and a letter.
pub(crate) fn short(value: f64) -> String {
    let scales = [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")];
    if value.abs() >= 1e15 {
        return format!("{value:.1e}");
    }
    for (scale, letter) in scales {
        if value.abs() >= scale {
            return figures(value / scale) + letter;
        }
    }
    figures(value)
}

/// `1.23 GB`.
pub(crate) fn bytes(value: f64) -> String {
    for (scale, unit) in [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")] {
        if value >= scale {
            return format!("{} {unit}", figures(value / scale));
        }
    }
    format!("{value} bytes")
}

/// `2h 05m`, `3m 20s`, `45s`, `0.4s`.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 9.95 {
        return format!("{:.1}s", seconds.max(0.0));
    }
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s:02}s"),
        (h, m, _) => format!("{h}h {m:02}m"),
    }
}

/// Three figures.
fn figures(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 || (value - value.round()).abs() < 1e-9 {
        format!("{value:.0}")
    } else if size >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// `▇▆▅▃▂`: higher is more.
pub(crate) fn sparkline(values: &[f64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::MIN, f64::max));
    let span = if high > low { high - low } else { 1.0 };
    values
        .iter()
        .map(|value| {
            let at = ((value - low) / span * 7.0).round().clamp(0.0, 7.0);
            // A value that is no number is drawn like the lowest.
            BARS[at as usize]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cs336_compiler::source::Span;

    #[test]
    fn a_problem_with_places_in_two_files() {
        let mut sources = Sources::default();
        let main = sources.add("a.cs336", "train x { lr = 3 }\n", false);
        let other = sources.add("std.models", "model m {}\n", true);
        let problem = Problem::new("E0203", Span::new(main, 10, 12), "no field `lr` in `train`")
            .at("here")
            .label(Span::new(other, 6, 7), "declared here")
            .help("did you mean `lrs`?")
            .fix(Span::new(main, 10, 12), "lrs");
        let mut problems = Problems::default();
        problems.push(problem);
        let text = Style { fancy: false, json: false }.problems(&problems, &sources);
        for part in [
            "E0203",
            "a.cs336:1:11",
            "std.models:1:7",
            "declared here",
            "did you mean",
            "write `lrs`",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        let json = Style { fancy: false, json: true }.problems(&problems, &sources);
        let value: Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["labels"][0]["line"], 1);
        assert_eq!(value["fix"]["text"], "lrs");
    }

    #[test]
    fn figures_are_short() {
        let shown: Vec<String> =
            [0.5, 999.0, 1234.0, 30_800_000.0, 1.4e9, 3e17].into_iter().map(short).collect();
        assert_eq!(shown, ["0.50", "999", "1.23K", "30.8M", "1.40B", "3.0e17"]);
        assert_eq!(duration(7321.0), "2h 02m");
        assert_eq!(bytes(1.5e9), "1.50 GB");
        assert_eq!(sparkline(&[4.0, 2.0, 0.0]), "█▅▁");
    }
}
