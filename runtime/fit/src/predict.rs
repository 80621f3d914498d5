//! What a law says at sizes that were not run.

use cs336_compiler::law::Law;
use indexmap::IndexMap;

use crate::{Estimate, FitProblem, Fitted};

/// The formula with these constants at these values of the law's columns.
pub fn value(law: &Law, constants: &[f64], columns: &[f64]) -> f64 {
    let k = constants.len();
    let arg = |i: u32| {
        let i = i as usize;
        if i < k { constants[i] } else { columns.get(i - k).copied().unwrap_or(f64::NAN) }
    };
    law.formula.eval(&arg, &|_| f64::NAN, &|_| f64::NAN)
}

/// The measured side at a place: values of the columns by name. With the intervals of the curve and of
/// a single run if the fit has resamplings.
pub fn predict(fitted: &Fitted, at: &IndexMap<String, f64>) -> Result<Estimate, FitProblem> {
    let law = &fitted.law;
    let k = law.constants.len();
    let mut columns = Vec::new();
    // A column that only the measured side reads is what is predicted.
    let read: Vec<bool> = (0..law.columns.len())
        .map(|c| {
            law.formula
                .insts
                .iter()
                .any(|i| *i == cs336_compiler::scalar::Inst::Arg((k + c) as u32))
        })
        .collect();
    for (name, read) in law.columns.iter().zip(read) {
        match at.get(name) {
            Some(v) => columns.push(*v),
            None if !read => columns.push(f64::NAN),
            None => {
                return Err(FitProblem::NoColumn {
                    column: name.clone(),
                    known: at.keys().cloned().collect(),
                });
            }
        }
    }
    let draws: Vec<f64> = fitted.draws.iter().map(|c| value(law, c, &columns)).collect();
    Ok(Estimate::of(value(law, &fitted.constants(), &columns), &draws, fitted).of_a_run(fitted))
}
