//! Tables of numbers in memory.

use cs336_compiler::law::Formula;
use indexmap::IndexMap;

use crate::FitProblem;

/// A table: named columns of numbers, and a name for each row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Columns {
    /// Names of the rows: the run, or `row 17` of a file. Rows of the same name are resampled together.
    pub names: Vec<String>,
    /// Columns in order; each as long as `names`. Truth is 1, falsehood 0, what is missing NaN.
    pub values: IndexMap<String, Vec<f64>>,
}

impl Columns {
    /// A column.
    pub fn column(&self, name: &str) -> Result<&[f64], FitProblem> {
        self.values.get(name).map(Vec::as_slice).ok_or_else(|| FitProblem::NoColumn {
            column: name.to_owned(),
            known: self.values.keys().cloned().collect(),
        })
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True without rows.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// An expression on each row.
    pub fn eval(&self, f: &Formula) -> Result<Vec<f64>, FitProblem> {
        let columns: Result<Vec<&[f64]>, FitProblem> =
            f.columns.iter().map(|c| self.column(c)).collect();
        let columns = columns?;
        let at =
            |row: usize| f.expr.eval(&|i| columns[i as usize][row], &|_| f64::NAN, &|_| f64::NAN);
        Ok((0..self.len()).map(at).collect())
    }

    /// The rows for which `keep` holds.
    pub fn filtered(&self, keep: &dyn Fn(usize) -> bool) -> Self {
        let rows: Vec<usize> = (0..self.len()).filter(|r| keep(*r)).collect();
        let values = self
            .values
            .iter()
            .map(|(name, v)| (name.clone(), rows.iter().map(|r| v[*r]).collect()))
            .collect();
        Self { names: rows.iter().map(|r| self.names[*r].clone()).collect(), values }
    }
}

/// Rows to fit, and rows that are only predicted.
pub(crate) fn split(
    table: &Columns,
    held_out: Option<&Formula>,
) -> Result<(Columns, Columns), FitProblem> {
    let Some(f) = held_out else {
        return Ok((table.clone(), table.filtered(&|_| false)));
    };
    let holds = table.eval(f)?;
    Ok((table.filtered(&|r| holds[r] == 0.0), table.filtered(&|r| holds[r] != 0.0)))
}
