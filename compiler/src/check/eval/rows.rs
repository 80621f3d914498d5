//! Which expressions are about the row at hand: they are kept as they are and mean something for each row.

use crate::syntax::ast::{Expr, ExprKind};

/// True if an expression reads the row at hand outside nested blocks that bring their own.
pub(super) fn is_row(e: &Expr) -> bool {
    match &*e.kind {
        ExprKind::Dot(_) => true,
        ExprKind::Unary { value, .. } => is_row(value),
        ExprKind::Binary { left, right, .. } => is_row(left) || is_row(right),
        ExprKind::Compare { first, rest } => {
            is_row(first) || rest.iter().any(|(_, _, e)| is_row(e))
        }
        ExprKind::Member { base, .. } => is_row(base),
        ExprKind::If { condition, then, otherwise } => {
            is_row(condition) || is_row(then) || is_row(otherwise)
        }
        // A call takes rows as its own business: `keep(.x > 3)`; but `.f(a)` is a row function, and `log(.x)` an expression over rows.
        ExprKind::Call { callee, args } => {
            is_row(callee)
                || (matches!(&*callee.kind, ExprKind::Name(n) if ROW_FUNCTIONS.contains(&n.as_str()))
                    && args.iter().any(|a| is_row(&a.value)))
        }
        ExprKind::Range { from, to } => is_row(from) || is_row(to),
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Name(_)
        | ExprKind::Bool(_)
        | ExprKind::None
        | ExprKind::List { .. }
        | ExprKind::Comprehension { .. }
        | ExprKind::Block(_)
        | ExprKind::Index { .. }
        | ExprKind::Pipe { .. }
        | ExprKind::With { .. }
        | ExprKind::Match { .. }
        | ExprKind::Scan { .. }
        | ExprKind::Law { .. }
        | ExprKind::Error => false,
    }
}

/// Plain functions that lift to row expressions when an argument is one.
const ROW_FUNCTIONS: &[&str] = &[
    "log",
    "exp",
    "sqrt",
    "abs",
    "floor",
    "ceil",
    "round",
    "min",
    "max",
    "number",
    "after",
    "last_number",
    "count",
    "sum",
    "mean",
    "median",
    "std",
    "percentile",
];
