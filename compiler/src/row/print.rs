//! Text of expressions over rows and of pipelines: what is printed reads back as the same expression.
//!
//! An expression becomes the syntax that means it, and the one printer of syntax does the rest. Numbers are in base units, so
//! `.budget == 1e18 FLOPs` is printed without its unit.

use std::fmt;

use super::{
    FUNCTIONS, RowCompare, RowExpr, RowFunction, RowOp, RowSource, RowStage, Rows, SUMMARIES,
    Summary,
};
use crate::source::{FileId, Span};
use crate::syntax::ast::{Arg, BinaryOp, CompareOp, Expr, ExprKind, Ident, UnaryOp};
use crate::syntax::canonical;

impl fmt::Display for RowExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&canonical(&syntax(self)))
    }
}

impl fmt::Display for RowStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keep(e) => write!(f, "keep({e})"),
            Self::Drop(e) => write!(f, "drop({e})"),
            Self::BestBy { value, per, greatest } => {
                write!(f, "best_by({value}")?;
                match per.as_slice() {
                    [] => {}
                    [one] => write!(f, ", per = {one}")?,
                    many => write!(f, ", per = [{}]", list(many))?,
                }
                f.write_str(if *greatest { ", greatest = true)" } else { ")" })
            }
            Self::SortBy { by, descending } => {
                write!(f, "sort_by({}", list(by))?;
                f.write_str(if *descending { ", descending = true)" } else { ")" })
            }
            Self::Take { count } => write!(f, "take({count})"),
            Self::Set { name, value } => write!(f, "set({name} = {value})"),
            Self::Select(columns) => write!(f, "select({})", named(columns)),
            Self::GroupBy { per, set } => {
                let shown = named(per);
                let per = if per.len() == 1 { shown } else { format!("[{shown}]") };
                write!(f, "group_by({per}")?;
                for (name, value) in set {
                    write!(f, ", {name} = {value}")?;
                }
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, source) in self.from.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            match source {
                RowSource::Runs(node) => f.write_str(node)?,
                RowSource::AllRuns => f.write_str("runs")?,
                RowSource::Table { format, pattern, .. } => write!(f, "{format}({pattern:?})")?,
                RowSource::Given(rows) => write!(f, "{} records", rows.len())?,
            }
        }
        self.stages.iter().try_for_each(|stage| write!(f, " |> {stage}"))
    }
}

fn list(all: &[RowExpr]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn named(all: &[(String, RowExpr)]) -> String {
    let one = |(name, value): &(String, RowExpr)| match value {
        RowExpr::Column(column) if column == name => value.to_string(),
        _ => format!("{name} = {value}"),
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The syntax of an expression; its places are nowhere.
fn syntax(e: &RowExpr) -> Expr {
    let pair = |op, left: &RowExpr, right: &RowExpr| ExprKind::Binary {
        op,
        op_span: nowhere(),
        left: syntax(left),
        right: syntax(right),
    };
    let kind = match e {
        RowExpr::Number(x) if x.is_sign_negative() => {
            ExprKind::Unary { op: UnaryOp::Neg, value: at(plain(-x)) }
        }
        RowExpr::Number(x) => plain(*x),
        RowExpr::Text(t) => ExprKind::Text(t.clone()),
        RowExpr::Bool(b) => ExprKind::Bool(*b),
        RowExpr::Null => ExprKind::None,
        RowExpr::Column(path) => return column(path),
        RowExpr::Neg(x) => ExprKind::Unary { op: UnaryOp::Neg, value: syntax(x) },
        RowExpr::Not(x) => ExprKind::Unary { op: UnaryOp::Not, value: syntax(x) },
        RowExpr::Binary { op, left, right } => pair(binary_op(*op), left, right),
        RowExpr::Compare { op, left, right } => compared(compare_op(*op), left, syntax(right)),
        RowExpr::And(all) => return chain(BinaryOp::And, all, true),
        RowExpr::Or(all) => return chain(BinaryOp::Or, all, false),
        RowExpr::If { condition, then, otherwise } => ExprKind::If {
            condition: syntax(condition),
            then: syntax(then),
            otherwise: syntax(otherwise),
        },
        RowExpr::OneOf { value, options } => {
            let values = options.iter().map(syntax).collect();
            compared(CompareOp::In, value, at(ExprKind::List { values, suffix: None }))
        }
        RowExpr::Between { value, low, high } => {
            let range = ExprKind::Range { from: syntax(low), to: syntax(high) };
            compared(CompareOp::In, value, at(range))
        }
        RowExpr::Call { function: RowFunction::Contains, args } => match args.as_slice() {
            [part, whole] => compared(CompareOp::In, part, syntax(whole)),
            _ => ExprKind::Error,
        },
        RowExpr::Call { function, args } => {
            let name = FUNCTIONS.iter().find(|(_, f, ..)| f == function).map_or("?", |row| row.0);
            called(name, args.iter().map(syntax).collect())
        }
        RowExpr::Summary { of: Summary::Percentile(share), value } => {
            called("percentile", vec![syntax(value), at(plain(*share))])
        }
        RowExpr::Summary { of, value } => {
            let name = SUMMARIES.iter().find(|(_, s)| s == of).map_or("?", |row| row.0);
            called(name, vec![syntax(value)])
        }
    };
    at(kind)
}

fn nowhere() -> Span {
    Span::new(FileId(0), 0, 0)
}

fn at(kind: ExprKind) -> Expr {
    Expr { kind: Box::new(kind), span: nowhere() }
}

fn plain(value: f64) -> ExprKind {
    ExprKind::Number { value, suffix: None }
}

fn ident(name: &str) -> Ident {
    Ident { name: name.to_owned(), span: nowhere() }
}

fn column(path: &str) -> Expr {
    let mut names = path.split('.');
    let first = at(ExprKind::Dot(ident(names.next().unwrap_or_default())));
    names.fold(first, |base, name| at(ExprKind::Member { base, name: ident(name) }))
}

fn compared(op: CompareOp, left: &RowExpr, right: Expr) -> ExprKind {
    ExprKind::Compare { first: syntax(left), rest: vec![(op, nowhere(), right)] }
}

fn called(name: &str, args: Vec<Expr>) -> ExprKind {
    let args = args.into_iter().map(|value| Arg { name: None, value }).collect();
    ExprKind::Call { callee: at(ExprKind::Name(name.to_owned())), args }
}

fn chain(op: BinaryOp, all: &[RowExpr], empty: bool) -> Expr {
    let join = |left, right| at(ExprKind::Binary { op, op_span: nowhere(), left, right });
    all.iter().map(syntax).reduce(join).unwrap_or_else(|| at(ExprKind::Bool(empty)))
}

fn binary_op(op: RowOp) -> BinaryOp {
    match op {
        RowOp::Add => BinaryOp::Add,
        RowOp::Sub => BinaryOp::Sub,
        RowOp::Mul => BinaryOp::Mul,
        RowOp::Div => BinaryOp::Div,
        RowOp::Pow => BinaryOp::Pow,
    }
}

fn compare_op(op: RowCompare) -> CompareOp {
    match op {
        RowCompare::Eq => CompareOp::Eq,
        RowCompare::Ne => CompareOp::Ne,
        RowCompare::Lt => CompareOp::Lt,
        RowCompare::Le => CompareOp::Le,
        RowCompare::Gt => CompareOp::Gt,
        RowCompare::Ge => CompareOp::Ge,
    }
}
