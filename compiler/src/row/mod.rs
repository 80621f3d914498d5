//! Expressions over rows and pipelines of rows: what `.loss < 3` and `iso |> best_by(.valid_loss, per = .budget)` mean.
//!
//! A *row* has named cells: numbers (in base units), texts, truths, or nothing. A [`RowExpr`] takes a row to a cell. It is closed: every
//! name of the program that stood in it has become its value, so it can be stored, sent to another thread, or translated to
//! another engine. [`RowStage`]s take rows to rows, and [`Rows`] says where rows come from and through which stages they pass.
//!
//! *Nothing.* Arithmetic, comparisons and functions of nothing are nothing. `and`, `or` and `not` are those of three-valued
//! logic: `false and nothing` is false, `true and nothing` is nothing. A condition holds only if it is true, so `keep` drops rows
//! for which it is nothing, and so does `drop`'s opposite: `drop(c)` leaves out only rows where `c` is true. `x == none` asks
//! whether there is something; it is never nothing itself.
//!
//! *Numbers* are f64. NaN is a number that is not less than, greater than or equal to any other; `!=` holds. Truths are 0 and 1 in arithmetic.
//!
//! *Summaries* (`mean(.loss)`, `percentile(.q, 90%)`) are over all rows that come in at that stage, or over the rows of the group in
//! `group_by`. They leave out cells that are nothing and numbers that are NaN.
//!
//! [`interp`] is this meaning in plain Rust; the engine over columns (polars, in `runtime/table`) must agree with it. [`kinds`]
//! finds what kind of cell an expression gives and what does not fit. [`print`](mod@print) writes the program text again.

pub mod interp;
pub mod kinds;
pub mod print;

use serde::{Deserialize, Serialize};

/// An expression over the row at hand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowExpr {
    /// A number in base units (bytes, seconds, FLOPs); finite.
    Number(f64),
    /// A text.
    Text(String),
    /// A truth.
    Bool(bool),
    /// `none`.
    Null,
    /// `.name`, `.url.host`: a cell of the row.
    Column(String),
    /// `-x`.
    Neg(Box<RowExpr>),
    /// `not x`.
    Not(Box<RowExpr>),
    /// Arithmetic of two numbers, or `+` of two texts.
    Binary {
        /// Which.
        op: RowOp,
        /// On its left.
        left: Box<RowExpr>,
        /// On its right.
        right: Box<RowExpr>,
    },
    /// A comparison of two; a chain `a < b < c` is `and` of its neighbours.
    Compare {
        /// Which.
        op: RowCompare,
        /// On its left.
        left: Box<RowExpr>,
        /// On its right.
        right: Box<RowExpr>,
    },
    /// All hold.
    And(Vec<RowExpr>),
    /// One holds.
    Or(Vec<RowExpr>),
    /// `if c then a else b`; a condition that is nothing takes the second.
    If {
        /// The condition.
        condition: Box<RowExpr>,
        /// Where it is true.
        then: Box<RowExpr>,
        /// Where it is not.
        otherwise: Box<RowExpr>,
    },
    /// `x in [a, b]`.
    OneOf {
        /// What is looked for.
        value: Box<RowExpr>,
        /// Where.
        options: Vec<RowExpr>,
    },
    /// `x in low..high`, both ends included.
    Between {
        /// What is looked at.
        value: Box<RowExpr>,
        /// The least that is in.
        low: Box<RowExpr>,
        /// The most that is in.
        high: Box<RowExpr>,
    },
    /// A function of cells of one row.
    Call {
        /// Which.
        function: RowFunction,
        /// As many as it takes.
        args: Vec<RowExpr>,
    },
    /// One value of all rows.
    Summary {
        /// Which.
        of: Summary,
        /// What is summarised.
        value: Box<RowExpr>,
    },
}

/// Arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `^`
    Pow,
}

/// Comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowCompare {
    /// `==`
    Eq,
    /// `!=`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

/// Functions of cells of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowFunction {
    /// Natural logarithm.
    Log,
    /// e to the power.
    Exp,
    /// Square root.
    Sqrt,
    /// Without its sign.
    Abs,
    /// Largest whole number not above.
    Floor,
    /// Smallest whole number not below.
    Ceil,
    /// Nearest whole number; halves away from zero.
    Round,
    /// The least of several; what is nothing does not count.
    Min,
    /// The greatest of several; what is nothing does not count.
    Max,
    /// `"x" in .text`: does the second hold the first.
    Contains,
}

/// One value of many rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Summary {
    /// How many have a value.
    Count,
    /// Their sum; 0 of none.
    Sum,
    /// Their mean.
    Mean,
    /// The middle one, or the mean of the two in the middle.
    Median,
    /// The standard deviation with n - 1; nothing for fewer than two.
    Std,
    /// The least.
    Min,
    /// The greatest.
    Max,
    /// The value below which this share lies, between neighbours in a straight line (numpy's default).
    Percentile(f64),
}

/// A function by its name, and how many arguments it takes at least and at most.
pub const FUNCTIONS: &[(&str, RowFunction, usize, usize)] = &[
    ("log", RowFunction::Log, 1, 1),
    ("exp", RowFunction::Exp, 1, 1),
    ("sqrt", RowFunction::Sqrt, 1, 1),
    ("abs", RowFunction::Abs, 1, 1),
    ("floor", RowFunction::Floor, 1, 1),
    ("ceil", RowFunction::Ceil, 1, 1),
    ("round", RowFunction::Round, 1, 1),
    // With one argument these are summaries.
    ("min", RowFunction::Min, 2, usize::MAX),
    ("max", RowFunction::Max, 2, usize::MAX),
];

/// A summary by its name; `percentile` takes its share as a second argument.
pub const SUMMARIES: &[(&str, Summary)] = &[
    ("count", Summary::Count),
    ("sum", Summary::Sum),
    ("mean", Summary::Mean),
    ("median", Summary::Median),
    ("std", Summary::Std),
    ("min", Summary::Min),
    ("max", Summary::Max),
    ("percentile", Summary::Percentile(0.5)),
];

/// What happens to rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowStage {
    /// Rows for which it is true stay.
    Keep(RowExpr),
    /// Rows for which it is true go.
    Drop(RowExpr),
    /// Of each group the row with the least (or greatest) value, the first of equals; rows without a value are never best.
    /// Rows keep their order.
    BestBy {
        /// What is compared.
        value: RowExpr,
        /// Rows that are equal in all of these are a group; empty: all rows are one.
        per: Vec<RowExpr>,
        /// The greatest is best.
        greatest: bool,
    },
    /// Rows in the order of these, the first counting most; equal ones keep their order; nothing and NaN come last.
    SortBy {
        /// What is compared.
        by: Vec<RowExpr>,
        /// From the greatest to the least.
        descending: bool,
    },
    /// The first so many rows.
    Take {
        /// How many.
        count: u64,
    },
    /// A new cell in each row, or another value of one.
    Set {
        /// Its name.
        name: String,
        /// Its value.
        value: RowExpr,
    },
    /// Only these cells, in this order.
    Select(Vec<(String, RowExpr)>),
    /// One row for each group, in the order in which groups turn up: first what they are equal in, then summaries of them.
    GroupBy {
        /// What the rows of a group are equal in.
        per: Vec<(String, RowExpr)>,
        /// Summaries, or expressions of summaries and of the names in `per`.
        set: Vec<(String, RowExpr)>,
    },
}

/// Where rows come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowSource {
    /// The runs of the ledger that belong to a node: a train by its name, or the points of a sweep.
    Runs(String),
    /// Every run of the ledger.
    AllRuns,
    /// A table in files, named relative to the program's file `base`.
    Table {
        /// `csv`, `jsonl`, `parquet`.
        format: String,
        /// Path or glob.
        pattern: String,
        /// The program's file.
        base: String,
    },
    /// Rows that the program itself says: records.
    Given(Vec<interp::Row>),
}

/// Rows: their sources, one after another, and what happens to them in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rows {
    /// Where they come from.
    pub from: Vec<RowSource>,
    /// What happens to them.
    pub stages: Vec<RowStage>,
}

impl Rows {
    /// The nodes that must have run before.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.from.iter().filter_map(|s| match s {
            RowSource::Runs(node) => Some(node.as_str()),
            RowSource::AllRuns | RowSource::Table { .. } | RowSource::Given(_) => None,
        })
    }
}

impl RowExpr {
    /// `.name`.
    pub fn column(name: &str) -> Self {
        Self::Column(name.to_owned())
    }

    /// The parts that it is made of.
    pub fn parts(&self) -> Vec<&RowExpr> {
        match self {
            Self::Number(_) | Self::Text(_) | Self::Bool(_) | Self::Null | Self::Column(_) => {
                Vec::new()
            }
            Self::Neg(x) | Self::Not(x) | Self::Summary { value: x, .. } => vec![x],
            Self::Binary { left, right, .. } | Self::Compare { left, right, .. } => {
                vec![left, right]
            }
            Self::And(all) | Self::Or(all) | Self::Call { args: all, .. } => all.iter().collect(),
            Self::If { condition, then, otherwise } => vec![condition, then, otherwise],
            Self::OneOf { value, options } => {
                std::iter::once(&**value).chain(options.iter()).collect()
            }
            Self::Between { value, low, high } => vec![value, low, high],
        }
    }

    /// The columns that it reads, each once, in the order of the text.
    pub fn columns(&self) -> Vec<&str> {
        let mut found = Vec::new();
        self.gather(&mut found);
        found
    }

    fn gather<'a>(&'a self, found: &mut Vec<&'a str>) {
        if let Self::Column(name) = self
            && !found.contains(&name.as_str())
        {
            found.push(name);
        }
        self.parts().into_iter().for_each(|p| p.gather(found));
    }

    /// True if it holds a summary: its value then depends on other rows.
    pub fn summarises(&self) -> bool {
        matches!(self, Self::Summary { .. }) || self.parts().into_iter().any(Self::summarises)
    }
}
