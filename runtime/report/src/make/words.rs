//! What columns of runs are called on axes and in tables, and how their numbers are spelled.

use cs336_compiler::row::{RowExpr, RowFunction};

use crate::chart::Axis;
use crate::number;
use crate::scale::{ScaleKind, Spelling};

/// Column, its words on an axis, and how its numbers are spelled.
const WORDS: &[(&str, &str, Spelling)] = &[
    ("batch_tokens", "Batch (tokens)", Spelling::Count),
    ("bits_per_byte", "Bits per byte", Spelling::Count),
    ("budget", "Compute budget (FLOPs)", Spelling::Power),
    ("epochs", "Epochs", Spelling::Count),
    ("flops", "Training compute (FLOPs)", Spelling::Power),
    ("grad_norm", "Gradient norm", Spelling::Count),
    ("loss", "Training loss (nats per token)", Spelling::Count),
    ("lr", "Learning rate", Spelling::Power),
    ("params", "Parameters", Spelling::Count),
    ("perplexity", "Perplexity", Spelling::Count),
    ("predicted", "Predicted loss (nats per token)", Spelling::Count),
    ("residual", "Measured minus predicted", Spelling::Count),
    ("seconds", "Time (s)", Spelling::Count),
    ("step", "Step", Spelling::Count),
    ("steps", "Steps", Spelling::Count),
    ("tokens", "Training tokens", Spelling::Count),
    ("unique_tokens", "Distinct tokens", Spelling::Count),
    ("valid_loss", "Held-out loss (nats per token)", Spelling::Count),
];

/// Figures of a run that the appendix shows, where it has them.
pub(super) const FIGURES: &[&str] =
    &["params", "tokens", "budget", "flops", "loss", "valid_loss", "bits_per_byte"];

/// An axis for an expression, and what is drawn on it: a logarithm around the whole is the axis, not the value.
pub(super) fn axis(e: &RowExpr) -> (Axis, &RowExpr) {
    let (scale, inner) = match e {
        RowExpr::Call { function: RowFunction::Log, args } => match args.as_slice() {
            [inner] => (ScaleKind::Log, inner),
            _ => (ScaleKind::Linear, e),
        },
        _ => (ScaleKind::Linear, e),
    };
    let (title, spelling) = (title(inner), spelling(inner));
    (Axis { title, scale, spelling, include: Vec::new() }, inner)
}

/// An expression in words.
pub(super) fn title(e: &RowExpr) -> String {
    match e {
        RowExpr::Column(name) => match WORDS.iter().find(|(c, _, _)| c == name) {
            Some((_, words, _)) => (*words).to_owned(),
            None => name.replace('_', " "),
        },
        e => e.to_string(),
    }
}

/// A column as the heading of a table: short, as in the program.
pub(super) fn heading(column: &str) -> String {
    column.replace('_', " ")
}

/// How the numbers of an expression are spelled.
pub(super) fn spelling(e: &RowExpr) -> Spelling {
    let known = |name: &str| WORDS.iter().find(|(c, _, _)| *c == name).map(|(_, _, s)| *s);
    match e {
        RowExpr::Column(name) => known(name).unwrap_or(Spelling::Count),
        _ => Spelling::Count,
    }
}

/// A number as its column spells it.
pub(super) fn spelled(x: f64, spelling: Spelling, digits: usize) -> String {
    match spelling {
        Spelling::Count => number::short(x, digits),
        Spelling::Power => number::power(x, digits),
    }
}
