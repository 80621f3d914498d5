//! `cs336c diff A B`: what makes two runs two, and what it did to their figures.

use std::path::{Path, PathBuf};

use cs336_compiler::row::interp::{Cell, Row};
use cs336_lab::key::differences;
use cs336_lab::ledger::find;
use cs336_lab::rundir::Manifest;
use cs336_lab::{Exit, LabError};
use cs336_table::Ledger;
use serde_json::json;

use crate::query::shown;
use crate::render::Style;

/// Figures that are compared, in this order.
const FIGURES: &[&str] = &[
    "status",
    "params",
    "tokens",
    "flops",
    "step",
    "loss",
    "valid_loss",
    "perplexity",
    "bits_per_byte",
    "epochs",
    "seconds",
    "machine",
];

/// Characters of a value that are shown.
const WIDTH: usize = 48;

pub(crate) fn diff(style: Style, root: &Path, a: &str, b: &str) -> Result<Exit, LabError> {
    let (one, other) = (find(root, a)?, find(root, b)?);
    let found = differences(&one.1.inputs, &other.1.inputs);
    let ledger = Ledger::open(root)?;
    let rows = ledger.runs().rows();
    let row = |run: &(PathBuf, Manifest)| {
        let folder = Cell::Text(shown(root, &run.0));
        rows.iter().find(|r| r.get("folder") == Some(&folder)).cloned().unwrap_or_default()
    };
    let (left, right) = (row(&one), row(&other));
    let measures = left.keys().filter(|k| k.starts_with("measure:")).map(String::as_str);
    let figures: Vec<&str> = FIGURES.iter().copied().chain(measures).collect();
    if style.json {
        let figures: Vec<_> = figures
            .iter()
            .filter(|name| has(&left, name) || has(&right, name))
            .map(|name| json!({ "name": name, "left": left.get(*name), "right": right.get(*name) }))
            .collect();
        let value = json!({ "kind": "diff", "left": shown(root, &one.0), "right": shown(root, &other.0),
            "same_run": found.is_empty(), "differences": found, "figures": figures });
        crate::print(&value.to_string());
        return Ok(Exit::Ok);
    }
    let mut lines =
        vec![["".to_owned(), shown(root, &one.0), shown(root, &other.0), String::new()]];
    for d in &found {
        let (left, right) = around(d.left.as_deref(), d.right.as_deref());
        lines.push([d.field.clone(), left, right, ratio_of(d.left.as_deref(), d.right.as_deref())]);
    }
    let settings = lines.len();
    for name in figures.into_iter().filter(|n| has(&left, n) || has(&right, n)) {
        let (a, b) = (left.get(name), right.get(name));
        lines.push([name.to_owned(), text(a), text(b), change(a, b)]);
    }
    if found.is_empty() {
        crate::print("both mean the same: they are one run");
    }
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    let (names, lefts, rights) = (width(0), width(1), width(2));
    for (i, [name, left, right, change]) in lines.iter().enumerate() {
        if i == settings {
            crate::print("");
        }
        let line = format!("{name:<names$}  {left:<lefts$}  {right:<rights$}  {change}");
        crate::print(line.trim_end());
    }
    Ok(Exit::Ok)
}

fn has(row: &Row, name: &str) -> bool {
    row.get(name).is_some_and(|c| *c != Cell::Null)
}

fn text(cell: Option<&Cell>) -> String {
    match cell {
        None | Some(Cell::Null) => "-".to_owned(),
        Some(Cell::Bool(b)) => b.to_string(),
        Some(Cell::Text(t)) => t.clone(),
        Some(Cell::Number(x)) if x.fract() == 0.0 && x.abs() < 1e9 => x.to_string(),
        Some(Cell::Number(x)) if (1e-3..1e5).contains(&x.abs()) => format!("{x:.4}"),
        Some(Cell::Number(x)) => format!("{x:.4e}"),
    }
}

fn change(a: Option<&Cell>, b: Option<&Cell>) -> String {
    match (a, b) {
        (Some(Cell::Number(a)), Some(Cell::Number(b))) if a != b => by(*a, *b),
        _ => String::new(),
    }
}

fn by(a: f64, b: f64) -> String {
    let size = |x: f64| if x.abs() < 1e5 { format!("{x:+.4}") } else { format!("{x:+.2e}") };
    match b / a {
        ratio if ratio.is_finite() && ratio > 0.0 => {
            format!("{} ({:+.2}%)", size(b - a), (ratio - 1.0) * 100.0)
        }
        _ => size(b - a),
    }
}

/// Settings that are numbers also say by which factor they differ.
fn ratio_of(a: Option<&str>, b: Option<&str>) -> String {
    let number = |t: Option<&str>| t?.split(' ').next()?.parse::<f64>().ok();
    match (number(a), number(b)) {
        (Some(a), Some(b)) if a > 0.0 && b > 0.0 => format!("x {:.4}", b / a),
        _ => String::new(),
    }
}

/// Two values, long ones cut to where they begin to differ.
fn around(a: Option<&str>, b: Option<&str>) -> (String, String) {
    let (Some(left), Some(right)) = (a, b) else {
        let cut = |t: Option<&str>| t.map_or("-".to_owned(), |t| window(t, 0));
        return (cut(a), cut(b));
    };
    let same = left.chars().zip(right.chars()).take_while(|(x, y)| x == y).count();
    let long = left.chars().count().max(right.chars().count()) > WIDTH;
    let from = if long { same.saturating_sub(WIDTH / 2) } else { 0 };
    (window(left, from), window(right, from))
}

fn window(text: &str, from: usize) -> String {
    let count = text.chars().count();
    let inner: String = text.chars().skip(from).take(WIDTH).collect();
    let before = if from > 0 { ".." } else { "" };
    let after = if from + WIDTH < count { ".." } else { "" };
    format!("{before}{inner}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_to_the_difference() {
        let long = "x".repeat(100);
        let (left, right) = around(Some(&format!("{long}a")), Some(&format!("{long}b")));
        assert!(left.starts_with("..x") && left.ends_with('a') && right.ends_with('b'), "{left}");
        assert_eq!(around(Some("1.0"), None), ("1.0".to_owned(), "-".to_owned()));
        assert_eq!(ratio_of(Some("100.0 tokens"), Some("150.0 tokens")), "x 1.5000");
        assert_eq!(by(2.0, 1.9), "-0.1000 (-5.00%)");
    }
}
