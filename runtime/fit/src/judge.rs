//! Whether rows can determine a law: what is refused before a search, and what after it.

use std::collections::BTreeMap;

use cs336_compiler::check::hir::FitSpec;
use cs336_compiler::law::classes;
use cs336_compiler::law::prepare::part;
use cs336_compiler::scalar::{BinOp, Inst};

use crate::fitted::{Fitted, curvature};
use crate::objective::{Objective, of_rows};
use crate::solve::End;
use crate::{Columns, FitProblem};

/// A size must span this factor before an exponent of it can be found.
const DECADE: f64 = 10.0;
/// Constants that matter only together: above this J'J has lost all its digits.
const WORST_CONDITION: f64 = 1e12;

/// Rows that no law should be fitted to.
pub(crate) fn before(spec: &FitSpec, rows: &Columns) -> Result<(), FitProblem> {
    let law = &spec.law;
    for c in &law.columns {
        rows.column(c)?;
    }
    if rows.is_empty() {
        return Err(FitProblem::NoRows);
    }
    let bad = |v: &[f64], holds: &dyn Fn(f64) -> bool| -> Vec<String> {
        v.iter().zip(&rows.names).filter(|(v, _)| !holds(**v)).map(|(_, n)| n.clone()).collect()
    };
    let refuse = |column: &str, what, rows: Vec<String>| {
        if rows.is_empty() {
            return Ok(());
        }
        Err(FitProblem::BadNumbers { column: column.to_owned(), what, rows })
    };
    for c in &law.columns {
        refuse(c, "not a finite number", bad(rows.column(c)?, &|v| v.is_finite()))?;
        // Amounts are never below zero, whatever a formula does with them.
        let amounts = ["params", "tokens", "flops", "unique_tokens", "steps", "batch"];
        if amounts.contains(&c.as_str()) {
            refuse(c, "not positive", bad(rows.column(c)?, &|v| v > 0.0))?;
        }
    }
    let measured = of_rows(law, &law.measured, rows)?;
    refuse("the measured side", "not a finite number", bad(&measured, &|v| v.is_finite()))?;
    if spec.penalty.on_log {
        refuse("the measured side", "not positive", bad(&measured, &|v| v > 0.0))?;
    }
    if let Some(f) = &spec.weight {
        refuse(
            "weight",
            "negative or not finite",
            bad(&rows.eval(f)?, &|v| v >= 0.0 && v.is_finite()),
        )?;
    } else {
        duplicates(spec, rows)?;
    }
    if rows.len() < law.constants.len() {
        let constants = law.constants.len();
        return Err(FitProblem::TooFew { rows: rows.len(), constants });
    }
    powers(spec, rows)
}

fn duplicates(spec: &FitSpec, rows: &Columns) -> Result<(), FitProblem> {
    let mut seen: BTreeMap<Vec<u64>, usize> = BTreeMap::new();
    let mut again = Vec::new();
    for r in 0..rows.len() {
        let mut key = Vec::new();
        for c in &spec.law.columns {
            key.push(rows.column(c)?[r].to_bits());
        }
        if let Some(first) = seen.insert(key, r) {
            again.push(format!("{} (as {})", rows.names[r], rows.names[first]));
        }
    }
    if again.is_empty() { Ok(()) } else { Err(FitProblem::Duplicates { rows: again }) }
}

/// The bases of powers with exponents to be found: positive, and spread over a decade.
fn powers(spec: &FitSpec, rows: &Columns) -> Result<(), FitProblem> {
    let law = &spec.law;
    let insts = &law.formula.insts;
    let k = law.constants.len() as u32;
    let class = classes(insts, &|i| if i < k { 1 } else { 2 });
    let mut reasons = Vec::new();
    for inst in insts {
        let Inst::Binary(BinOp::Pow, base, exponent) = inst else { continue };
        if class[*exponent as usize] & 1 == 0 || class[*base as usize] != 2 {
            continue;
        }
        let base = part(insts, *base);
        let names: Vec<&str> = base
            .insts
            .iter()
            .filter_map(|i| match i {
                Inst::Arg(a) => law.columns.get((*a - k) as usize).map(String::as_str),
                _ => None,
            })
            .collect();
        let name = names.join(", ");
        let v = of_rows(law, &base, rows)?;
        let wrong: Vec<String> = v
            .iter()
            .zip(&rows.names)
            .filter(|(v, _)| !(**v > 0.0))
            .map(|(_, n)| n.clone())
            .collect();
        if !wrong.is_empty() {
            return Err(FitProblem::BadNumbers { column: name, what: "not positive", rows: wrong });
        }
        let least = v.iter().copied().fold(f64::INFINITY, f64::min);
        let most = v.iter().copied().fold(0.0, f64::max);
        let reason = if least == most {
            format!("`{name}` is {least:e} in all rows, so no power of it can be found")
        } else if most / least < DECADE * (1.0 - 1e-9) {
            format!(
                "`{name}` spans only a factor of {:.2}, from {least:.3e} to {most:.3e}; a power of it needs {DECADE}",
                most / least
            )
        } else {
            continue;
        };
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    if reasons.is_empty() { Ok(()) } else { Err(FitProblem::NotIdentified { reasons }) }
}

/// Ends that say nothing.
pub(crate) fn after(
    spec: &FitSpec,
    o: &Objective,
    start: &[f64],
    end: &End,
    fitted: &Fitted,
) -> Result<(), FitProblem> {
    let c = curvature(o, &end.x);
    let mut reasons = Vec::new();
    for i in &c.idle {
        let name = &spec.law.constants[*i].name;
        let untouched = if end.x[*i] == start[*i] { ", and it still equals its start" } else { "" };
        reasons.push(format!("`{name}` changes no row where the search ended{untouched}"));
    }
    if reasons.is_empty() && !(fitted.condition < WORST_CONDITION) {
        let names: Vec<String> = together(o, &c.jtj)
            .into_iter()
            .map(|i| format!("`{}`", spec.law.constants[i].name))
            .collect();
        reasons.push(format!(
            "{} matter only together (condition number {:.1e})",
            names.join(" and "),
            fitted.condition
        ));
    }
    if reasons.is_empty() { Ok(()) } else { Err(FitProblem::NotIdentified { reasons }) }
}

/// The constants that the flattest direction is made of.
fn together(o: &Objective, jtj: &[f64]) -> Vec<usize> {
    let k = o.dim();
    let length: Vec<f64> = (0..k).map(|i| jtj[i * k + i].sqrt()).collect();
    let unit: Vec<f64> = (0..k * k).map(|at| jtj[at] / (length[at / k] * length[at % k])).collect();
    let (values, vectors) = crate::linalg::eigen(&unit, k);
    let flattest = (0..k).min_by(|a, b| values[*a].total_cmp(&values[*b])).unwrap_or(0);
    (0..k).filter(|i| vectors[i * k + flattest].abs() > 0.2).collect()
}
