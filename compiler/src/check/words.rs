//! What messages call things: values, definitions, operators, items.
//!
//! Takes a thing, gives words of the user; never the name of a Rust type.

use super::units;
use super::value::{DefKind, Value};
use crate::syntax::ast::{BinaryOp, ItemKind};

/// A value in words: "a number", "text", "a layer".
pub fn describe(v: &Value) -> String {
    match v {
        Value::None => "none".into(),
        Value::Bool(b) => format!("`{b}`"),
        Value::Number(q) => units::show(q),
        Value::Text(t) => format!("the text \"{t}\""),
        Value::List(_) => "a list".into(),
        Value::Record(_) => "a record".into(),
        Value::Range(a, b) => format!("the range {}..{}", units::show(a), units::show(b)),
        Value::Tensor(_) | Value::Weight(_) => "a tensor".into(),
        Value::Layer(_) | Value::Placed(_) => "a layer".into(),
        Value::Def(d) => format!("`{}` (a {})", d.name, kind_name(d.kind)),
        Value::Program(p) => format!("`{}(..)` (a {})", p.def.name, kind_name(p.def.kind)),
        Value::Builtin(n) => format!("the operation `{n}`"),
        Value::Bracketed(b) => describe(&b.0),
        Value::Stream(s) => format!("data (from `{}`)", s.stage),
        Value::Node(n) => format!("the {} `{}`", n.kind, n.name),
        Value::Later(l) => format!("a value known after `{}`", l.node),
        Value::Row(_) => "an expression over rows".into(),
        Value::Error => "wrong".into(),
    }
}

/// The word for a kind of definition.
pub fn kind_name(kind: DefKind) -> &'static str {
    match kind {
        DefKind::Fn => "fn",
        DefKind::Layer => "layer",
        DefKind::Model => "model",
        DefKind::Optimizer => "optimizer",
        DefKind::Schedule => "schedule",
        DefKind::Loss => "loss",
        DefKind::Law => "law",
        DefKind::Filter => "filter",
        DefKind::Score => "score",
    }
}

/// An operator with its article, as in "the sum of ..".
pub fn operator(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "the sum",
        BinaryOp::Sub => "the difference",
        BinaryOp::Mul => "the product",
        BinaryOp::Div => "the quotient",
        BinaryOp::Pow => "the power",
        BinaryOp::And => "`and`",
        BinaryOp::Or => "`or`",
    }
}

/// An item as messages call it.
pub fn item_name(kind: &ItemKind) -> &'static str {
    match kind {
        ItemKind::Use { .. } => "`use`",
        ItemKind::Let { .. } => "`let`",
        ItemKind::Knob { .. } => "`knob`",
        ItemKind::Fn(_) => "`fn`",
        ItemKind::Layer { .. } => "`layer`",
        ItemKind::Weight(_) => "`weight`",
        ItemKind::State(_) => "`state`",
        ItemKind::Emit { .. } => "`measure` or `penalty`",
        ItemKind::Assert(_) => "`assert`",
        ItemKind::For { .. } => "`for`",
        ItemKind::Where(_) => "`where`",
        ItemKind::Field { .. } => "a field",
        ItemKind::Map { .. } => "`->`",
        ItemKind::Def { .. } => "a definition",
        ItemKind::Method(_) => "a method",
        ItemKind::Node { .. } => "a node",
        ItemKind::Expr(_) => "a value",
        ItemKind::Error => "this",
    }
}

/// Where an item that stands in the wrong place belongs.
pub fn home_of(kind: &ItemKind) -> &'static str {
    match kind {
        ItemKind::Weight(_) | ItemKind::Method(_) => "it belongs in a `layer` or `model`",
        ItemKind::Use { .. } | ItemKind::Knob { .. } | ItemKind::Layer { .. } => {
            "it belongs at the top level of a file"
        }
        ItemKind::For { .. } | ItemKind::Where(_) => "it belongs in a `sweep` or a list",
        ItemKind::Let { .. }
        | ItemKind::Fn(_)
        | ItemKind::State(_)
        | ItemKind::Emit { .. }
        | ItemKind::Assert(_)
        | ItemKind::Field { .. }
        | ItemKind::Map { .. }
        | ItemKind::Def { .. }
        | ItemKind::Node { .. }
        | ItemKind::Expr(_)
        | ItemKind::Error => "it belongs at the top level of a file or in another block",
    }
}
