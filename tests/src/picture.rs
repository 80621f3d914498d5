//! A problem drawn in plain text: message, places with their lines, help and fix.
//!
//! The command line draws with colours and more lines; this drawing changes only when a problem says something else.

use std::fmt::Write as _;

use cs336_compiler::problem::Problem;
use cs336_compiler::source::Sources;

/// Draws one problem.
pub(crate) fn draw(problem: &Problem, sources: &Sources) -> String {
    let mut out = String::new();
    let mut line = |text: &str| writeln!(out, "{}", text.trim_end()).expect("a string grows");
    line(&format!("{}: {}", problem.code, problem.message));
    for label in &problem.labels {
        let file = sources.file(label.span.file);
        let (row, column) = sources.line_col(label.span);
        let shown = file.text.lines().nth(row - 1).unwrap_or("");
        let inside = sources.text(label.span).lines().next().unwrap_or("").chars().count();
        let number = row.to_string();
        let margin = " ".repeat(number.len());
        line(&format!("{margin} ╭─ {}:{row}:{column}", file.name));
        line(&format!("{number} │ {shown}"));
        let under = "─".repeat(inside.max(1));
        line(&format!("{margin} ╰ {}{under} {}", " ".repeat(column - 1), label.text));
    }
    for help in &problem.help {
        line(&format!("help: {help}"));
    }
    if let Some(fix) = &problem.fix {
        line(&format!("fix: `{}` becomes `{}`", sources.text(fix.span), fix.text));
    }
    out
}
