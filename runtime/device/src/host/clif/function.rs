//! Functions that fused code does not compute itself: it calls them for many numbers at a time.
//!
//! Cranelift has vectors of 128 bits and no transcendental functions. So exponentials and their like are computed on *strips*, pieces of memory that
//! stay in the first cache, by functions as wide as the machine's vectors: f32 in [`wide`](crate::host::wide), f64 in
//! [`strips`](crate::host::strips).

use cs336_compiler::scalar::{BinOp, UnOp};

/// A function that is computed on strips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    /// e^a
    Exp,
    /// ln a
    Log,
    /// sin a
    Sin,
    /// cos a
    Cos,
    /// tanh a
    Tanh,
    /// erf a
    Erf,
    /// 1 / (1 + e^-a)
    Sigmoid,
    /// a^b
    Pow,
    /// a - b floor(a / b)
    Mod,
    /// Nearest integer, ties to even.
    Round,
}

impl Function {
    /// In the order of the numbers by which compiled code names them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Exp,
        Self::Log,
        Self::Sin,
        Self::Cos,
        Self::Tanh,
        Self::Erf,
        Self::Sigmoid,
        Self::Pow,
        Self::Mod,
        Self::Round,
    ];

    /// The number by which compiled code names it.
    pub(super) fn number(self) -> i64 {
        Self::ALL.iter().position(|f| *f == self).unwrap_or(0) as i64
    }

    /// That of an operator, if it is one that Cranelift has no instruction for.
    pub(super) fn of_unary(op: UnOp) -> Option<Self> {
        match op {
            UnOp::Exp => Some(Self::Exp),
            UnOp::Log => Some(Self::Log),
            UnOp::Sin => Some(Self::Sin),
            UnOp::Cos => Some(Self::Cos),
            UnOp::Tanh => Some(Self::Tanh),
            UnOp::Erf => Some(Self::Erf),
            UnOp::Sigmoid => Some(Self::Sigmoid),
            UnOp::Neg | UnOp::Abs | UnOp::Sign | UnOp::Floor | UnOp::Ceil | UnOp::Round => None,
            UnOp::Recip | UnOp::Sqrt | UnOp::Rsqrt | UnOp::Not | UnOp::IsFinite => None,
        }
    }

    /// See [`of_unary`](Self::of_unary).
    pub(super) fn of_binary(op: BinOp) -> Option<Self> {
        match op {
            BinOp::Pow => Some(Self::Pow),
            BinOp::Mod => Some(Self::Mod),
            BinOp::Add | BinOp::Sub | BinOp::Mul | BinOp::Div | BinOp::Min | BinOp::Max => None,
            BinOp::Lt | BinOp::Le | BinOp::Eq | BinOp::Ne | BinOp::And | BinOp::Or => None,
        }
    }
}
