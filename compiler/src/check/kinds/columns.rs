//! Which columns the rows of a report have, as far as that is known before anything has run, and whether an expression asks only for those.
//!
//! Takes rows as a report names them; gives their columns: all of them, where the rows are those of a table that is there, constants of a fit or
//! records of the program; else the usual ones, and only what looks like a misspelling of one is refused: models have measures of their own.

use super::fit;
use crate::check::eval::Eval;
use crate::check::hir::{Nodes, Spec};
use crate::check::row_lower;
use crate::problem::{Problem, did_you_mean};
use crate::report::ReportRows;
use crate::row::kinds::{Columns, Kind, unknown};
use crate::row::{RowExpr, RowStage, Rows};
use crate::source::Span;

/// The columns of rows.
pub(super) enum Known {
    /// These and no others.
    All(Columns),
    /// These and perhaps others.
    Usual(Vec<String>),
}

/// What a fit says of each constant.
const OF_CONSTANTS: &[&str] = &["name", "value", "se", "ci95", "ci95.low", "ci95.high"];
/// What a fit adds to each of its rows.
const OF_RESIDUALS: &[&str] = &["predicted", "residual"];
/// What each step of a run has beside its figures.
const OF_STEPS: &[&str] = &["step", "share"];

/// The columns of rows that a report names. `nodes`: those that stand before it.
pub(super) fn of(eval: &Eval<'_>, nodes: &Nodes, rows: &ReportRows) -> Known {
    match rows {
        ReportRows::Rows(rows) => of_rows(eval, nodes, rows),
        ReportRows::Metrics(_) => {
            let mut usual = fit::usual_columns();
            usual.extend(OF_STEPS.iter().map(|c| (*c).to_owned()));
            Known::Usual(usual)
        }
        ReportRows::Coefficients(_) => {
            Known::All(OF_CONSTANTS.iter().map(|c| ((*c).to_owned(), Kind::Any)).collect())
        }
        ReportRows::Residuals(name) => {
            let more = OF_RESIDUALS.iter().map(|c| (*c).to_owned());
            let known = match nodes.get(name).map(|n| &n.spec) {
                Some(Spec::Fit(spec)) => of_rows(eval, nodes, &spec.rows),
                _ => Known::Usual(fit::usual_columns()),
            };
            match known {
                Known::All(mut all) => {
                    all.extend(more.map(|c| (c, Kind::Number)));
                    Known::All(all)
                }
                Known::Usual(mut usual) => {
                    usual.extend(more);
                    Known::Usual(usual)
                }
            }
        }
        ReportRows::Given(rows) => {
            let mut all = Columns::new();
            for name in rows.iter().flat_map(|r| r.keys()) {
                all.insert(name.clone(), Kind::Any);
                // Both ends together are an interval.
                if let Some(whole) = name.strip_suffix(".low") {
                    all.insert(whole.to_owned(), Kind::Any);
                }
            }
            Known::All(all)
        }
    }
}

fn of_rows(eval: &Eval<'_>, nodes: &Nodes, rows: &Rows) -> Known {
    if let Some(all) = row_lower::columns_of(eval, rows) {
        return Known::All(all);
    }
    let mut usual = fit::usual_columns();
    for node in nodes.values() {
        let Spec::Sweep(spec) = &node.spec else { continue };
        usual.extend(spec.points.iter().flat_map(|p| &p.at).map(|c| c.name.clone()));
    }
    for stage in &rows.stages {
        if let RowStage::Set { name, .. } = stage {
            usual.push(name.clone());
        }
    }
    Known::Usual(usual)
}

/// Reports columns that the rows do not have. `None`: there was one.
pub(super) fn check(eval: &mut Eval<'_>, known: &Known, e: &RowExpr, at: Span) -> Option<()> {
    for name in e.columns() {
        match known {
            Known::All(all) => {
                if !all.contains_key(name) {
                    let misfit = unknown(name, all);
                    eval.problem(Problem::new(misfit.code, at, misfit.message).help(misfit.help));
                    return None;
                }
            }
            Known::Usual(usual) => {
                if let Some(near) = misspelt(name, usual) {
                    let text = format!("these rows have no `.{name}`");
                    let help = format!("did you mean `.{near}`?");
                    eval.problem(Problem::new("E0205", at, text).help(help));
                    return None;
                }
            }
        }
    }
    Some(())
}

/// The column that a name is a misspelling of. Settings within a setting, such as `.model.d`, are many: they are not judged.
pub(super) fn misspelt<'k>(name: &str, usual: &'k [String]) -> Option<&'k str> {
    if name.contains('.') || usual.iter().any(|u| u == name) {
        return None;
    }
    let near = did_you_mean(name, usual.iter().map(String::as_str))?;
    // Where one name merely contains the other, both may be meant: `noise_scale` is no misspelling of `scale`.
    (name.chars().count().abs_diff(near.chars().count()) <= 2)
        .then(|| usual.iter().find(|u| *u == near).map(String::as_str))?
}
