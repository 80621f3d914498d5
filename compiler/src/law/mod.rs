//! Laws as programs: a formula over columns of results and constants to be found.
//!
//! A [`Law`] says `measured ~ formula`. Both sides are [`Expr`]s whose arguments are the constants, in order, and then the columns;
//! the measured side reads columns only. Quantities are plain numbers in base units (semantics 7). What a solver wants of a law
//! is made by functions from value to value:
//!
//! ```text
//! Law ─prepare─▶ Prepared (coordinates, sums of powers as shifted log-sum-exp) ─program─▶ Program (objective and slopes, several results)
//! ```
//!
//! - [`prepare`](prepare::prepare) chooses a coordinate for each constant (a positive scale is found as its logarithm) and writes sums of
//!   positive terms as log-sum-exp.
//! - [`program`](program) builds the sums over points that a solver asks for, with slopes by one backward sweep.
//! - [`linear`](linear::split) finds the constants that the formula is linear in.

pub mod linear;
pub mod prepare;
pub mod program;

use serde::{Deserialize, Serialize};

use crate::scalar::{Expr, Inst, Ref};

/// `measured ~ formula`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Law {
    /// What is to be found, in the order of the arguments.
    pub constants: Vec<Constant>,
    /// Columns of the results, which follow the constants in the order of the arguments.
    pub columns: Vec<String>,
    /// The left side.
    pub measured: Expr,
    /// The right side.
    pub formula: Expr,
    /// The right side as it was written.
    pub text: String,
}

/// A number to be found, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Constant {
    /// Its name.
    pub name: String,
    /// The least that it may be.
    pub low: f64,
    /// The most that it may be.
    pub high: f64,
}

/// An expression over columns of one table alone: a condition, a weight, a column that is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Formula {
    /// Its arguments in order.
    pub columns: Vec<String>,
    /// What is computed of them.
    pub expr: Expr,
}

/// What is made small.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Penalty {
    /// How a residual counts.
    pub shape: Shape,
    /// Residuals are differences of logarithms.
    pub on_log: bool,
}

/// How a residual r counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// r² / 2 up to `delta`, then delta (|r| - delta / 2) (Huber 1964).
    Huber {
        /// Where it turns from squares to absolute values.
        delta: f64,
    },
    /// r² / 2.
    Squared,
    /// |r|.
    Absolute,
}

/// Where a search begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Starts {
    /// So many points drawn within the ranges, with the linear constants from the data.
    Data {
        /// How many.
        count: u64,
    },
    /// The 4,500 points of Hoffmann et al. 2022, section D.3.
    Hoffmann,
    /// These values of the constants.
    Given(Vec<Vec<f64>>),
}

impl Law {
    /// Arguments of the expressions: constants and columns.
    pub fn arguments(&self) -> usize {
        self.constants.len() + self.columns.len()
    }

    /// The place of a column among the arguments.
    pub fn column(&self, name: &str) -> Option<u32> {
        let at = self.columns.iter().position(|c| c == name)?;
        Some((self.constants.len() + at) as u32)
    }
}

/// The instructions that an instruction reads.
pub fn reads(inst: &Inst) -> Vec<Ref> {
    match inst {
        Inst::Arg(_) | Inst::Const(_) | Inst::Pos(_) | Inst::Runtime(_) => vec![],
        Inst::Unary(_, a) | Inst::Cast(_, a) => vec![*a],
        Inst::Binary(_, a, b) => vec![*a, *b],
        Inst::Select(a, b, c) => vec![*a, *b, *c],
        Inst::Random(_, _, c) => c.to_vec(),
    }
}

/// For each instruction, which arguments its value depends on, as a bit set by `class` of the argument.
pub fn classes(insts: &[Inst], class: &dyn Fn(u32) -> u8) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(insts.len());
    for inst in insts {
        let own = match inst {
            Inst::Arg(i) => class(*i),
            _ => 0,
        };
        out.push(reads(inst).iter().fold(own, |all, r| all | out[*r as usize]));
    }
    out
}
