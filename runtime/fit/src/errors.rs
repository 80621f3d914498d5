//! Why a fit is refused: one variant per reason, with the rows and columns that it is about.

/// A fit that cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FitProblem {
    /// The law reads a column that the rows do not have.
    #[error("the rows have no column `{column}`")]
    NoColumn {
        /// Which.
        column: String,
        /// What they have.
        known: Vec<String>,
    },
    /// The law reads a column of texts.
    #[error("`{column}` is the text \"{text}\" in {row}, where the law reads a number")]
    Text {
        /// Which.
        column: String,
        /// The first cell that is no number.
        text: String,
        /// The row that has it.
        row: String,
    },
    /// Nothing is left to fit.
    #[error("there are no rows to fit")]
    NoRows,
    /// Numbers that are not finite, or not positive where a size or a logarithm needs it.
    #[error("`{column}` is {what} in {}", listed(rows))]
    BadNumbers {
        /// The column, or the measured side of the law.
        column: String,
        /// `not a number`, `not positive`.
        what: &'static str,
        /// Names of the rows.
        rows: Vec<String>,
    },
    /// The same run more than once.
    #[error("the same row stands more than once: {}", listed(rows))]
    Duplicates {
        /// Names of the rows that repeat an earlier one.
        rows: Vec<String>,
    },
    /// Fewer rows than constants.
    #[error("{rows} rows cannot tell {constants} constants apart")]
    TooFew {
        /// How many rows.
        rows: usize,
        /// How many constants.
        constants: usize,
    },
    /// The formula is not finite on some rows wherever the search began.
    #[error("the law is not finite in {} (it reads {})", listed(rows), columns.join(", "))]
    NotFinite {
        /// Names of the rows.
        rows: Vec<String>,
        /// The columns that the formula reads.
        columns: Vec<String>,
    },
    /// No start came to a finite end.
    #[error("none of {starts} starts led to a finite value of the law")]
    NoStart {
        /// How many starts.
        starts: usize,
    },
    /// The rows do not determine the constants.
    #[error("the rows do not determine the constants: {}", reasons.join("; "))]
    NotIdentified {
        /// Each with the constant or column that it is about.
        reasons: Vec<String>,
    },
    /// An optimum that does not exist within what is asked.
    #[error("{why}")]
    NoOptimum {
        /// Why not.
        why: String,
    },
}

impl FitProblem {
    /// Its code, which has a page in `compiler/explain`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoColumn { .. } => "E0870",
            Self::NoRows | Self::TooFew { .. } => "E0871",
            Self::BadNumbers { .. } | Self::Text { .. } => "E0872",
            Self::Duplicates { .. } => "E0873",
            Self::NotFinite { .. } | Self::NoStart { .. } => "E0874",
            Self::NotIdentified { .. } => "E0875",
            Self::NoOptimum { .. } => "E0876",
        }
    }

    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::NoColumn { known, .. } => format!("they have: {}", known.join(", ")),
            Self::NoRows => "look at `keep` and `held_out`: they leave nothing".to_owned(),
            Self::BadNumbers { .. } => {
                "leave such rows out with `|> keep(..)`, or correct the table".to_owned()
            }
            Self::Text { .. } => {
                "correct the cell: numbers have a decimal point; a cell without a number is empty or `NA`"
                    .to_owned()
            }
            Self::Duplicates { .. } => {
                "a row that counts twice narrows the intervals; keep one of them, or give `weight`"
                    .to_owned()
            }
            Self::TooFew { .. } => {
                "add runs, or fix some constants: write their values into the law".to_owned()
            }
            Self::NotFinite { .. } | Self::NoStart { .. } => {
                "narrow the ranges of the constants, or correct the rows".to_owned()
            }
            Self::NotIdentified { .. } => {
                "add runs where the columns differ more, or fix a constant in the law".to_owned()
            }
            Self::NoOptimum { .. } => "change the budget or the condition".to_owned(),
        }
    }
}

/// `a, b, c and 4 more`.
fn listed(rows: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut out = rows.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if rows.len() > SHOWN {
        out += &format!(" and {} more", rows.len() - SHOWN);
    }
    out
}
