//! Operators on plain values: numbers with units, texts, lists, booleans, ranges. With a tensor on either side they are operations of the
//! graph, which `trace` makes; what is known only later stays so.

use std::rc::Rc;

use super::{Eval, describe};
use crate::check::units;
use crate::check::value::{Later, Quantity, Value};
use crate::check::words::operator;
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::{self, BinaryOp, CompareOp, UnaryOp};

impl Eval<'_> {
    pub(super) fn number(&mut self, value: f64, suffix: Option<&ast::Suffix>, span: Span) -> Value {
        let mut q = Quantity { origin: Some(span), ..Quantity::plain(value) };
        match suffix {
            None => {}
            Some(ast::Suffix::Percent) => {
                q.value /= 100.0;
                q.percent = true;
            }
            Some(ast::Suffix::Unit(unit)) => match units::parse_unit(unit) {
                Ok((unit, scale)) => {
                    q.value *= scale;
                    q.unit = unit;
                }
                Err(p) => return self.problem(p),
            },
        }
        Value::Number(q)
    }

    pub(super) fn unary(&mut self, op: UnaryOp, v: Value, span: Span) -> Value {
        match (op, v) {
            (_, Value::Error) => Value::Error,
            (_, Value::Later(l)) => Value::Later(l),
            (UnaryOp::Neg, Value::Number(q)) => {
                Value::Number(Quantity { value: -q.value, origin: Some(span), ..q })
            }
            (UnaryOp::Not, Value::Bool(b)) => Value::Bool(!b),
            (op, v @ (Value::Tensor(_) | Value::Weight(_))) => self.unary_tensor(op, v, span),
            (op, other) => {
                let (sign, found) =
                    (if op == UnaryOp::Neg { "-" } else { "not" }, describe(&other));
                self.problem(Problem::new("E0302", span, format!("`{sign}` of {found}")))
            }
        }
    }

    /// `a op b`.
    pub fn binary(&mut self, op: BinaryOp, a: Value, b: Value, span: Span) -> Value {
        match (a, b) {
            (Value::Error, _) | (_, Value::Error) => Value::Error,
            (Value::Later(l), other) | (other, Value::Later(l)) => later_with(&l, &other),
            (a @ (Value::Tensor(_) | Value::Weight(_)), b)
            | (a, b @ (Value::Tensor(_) | Value::Weight(_))) => self.binary_tensor(op, a, b, span),
            (Value::Bool(a), Value::Bool(b)) if matches!(op, BinaryOp::And | BinaryOp::Or) => {
                Value::Bool(if op == BinaryOp::And { a && b } else { a || b })
            }
            (Value::Bool(a), b) => {
                self.binary(op, Value::Number(Quantity::plain(f64::from(a))), b, span)
            }
            (a, Value::Bool(b)) => {
                self.binary(op, a, Value::Number(Quantity::plain(f64::from(b))), span)
            }
            (Value::Number(a), Value::Number(b)) => match units::arithmetic(op, &a, &b) {
                Ok(mut q) => {
                    q.origin = Some(span);
                    Value::Number(q)
                }
                Err(text) => self.problem(Problem::new("E0305", span, text)),
            },
            (Value::Text(a), Value::Text(b)) if op == BinaryOp::Add => {
                Value::Text(format!("{a}{b}").into())
            }
            (Value::List(a), Value::List(b)) if op == BinaryOp::Add => {
                Value::List(Rc::new(a.iter().chain(b.iter()).cloned().collect()))
            }
            (a, b) => {
                let text = format!("{} of {} and {}", operator(op), describe(&a), describe(&b));
                self.problem(Problem::new("E0302", span, text))
            }
        }
    }

    /// `a op b` for comparisons.
    pub fn compare(&mut self, op: CompareOp, a: Value, b: Value, span: Span) -> Value {
        match (a, b) {
            (Value::Error, _) | (_, Value::Error) => Value::Error,
            (Value::Later(l), other) | (other, Value::Later(l)) => later_with(&l, &other),
            (x, Value::Range(a, b)) if op == CompareOp::In => {
                let low = self.compare(CompareOp::Ge, x.clone(), Value::Number(a), span);
                let high = self.compare(CompareOp::Le, x, Value::Number(b), span);
                self.binary(BinaryOp::And, low, high, span)
            }
            (x @ (Value::Tensor(_) | Value::Weight(_)), l @ Value::List(_))
                if op == CompareOp::In =>
            {
                self.compare_tensor(op, x, l, span)
            }
            (x, Value::List(l)) if op == CompareOp::In => {
                Value::Bool(l.iter().any(|y| same(&x, y)))
            }
            (a @ (Value::Tensor(_) | Value::Weight(_)), b)
            | (a, b @ (Value::Tensor(_) | Value::Weight(_))) => self.compare_tensor(op, a, b, span),
            (Value::Number(a), Value::Number(b)) => match units::compare(op, &a, &b) {
                Ok(holds) => Value::Bool(holds),
                Err(text) => {
                    let help = units::rate_hint(&a, &b);
                    let mut p = Problem::new("E0305", span, text);
                    if let Some(h) = help {
                        p = p.help(h);
                    }
                    self.problem(p)
                }
            },
            (a, b) if op == CompareOp::Eq => Value::Bool(same(&a, &b)),
            (a, b) if op == CompareOp::Ne => Value::Bool(!same(&a, &b)),
            (Value::Text(a), Value::Text(b)) if op == CompareOp::In => Value::Bool(b.contains(&*a)),
            (a, b) => {
                let text = format!("comparison of {} and {}", describe(&a), describe(&b));
                self.problem(Problem::new("E0305", span, text))
            }
        }
    }

    pub(super) fn range(&mut self, a: Value, b: Value, span: Span) -> Value {
        match (a, b) {
            (Value::Number(mut a), Value::Number(b)) => {
                // `4..200 tokens/param`: the unit of the end is the unit of both.
                if a.unit.is_none() && !b.unit.is_none() {
                    if let Some(scale) = units::written_scale(&self.sources, &b) {
                        a.value *= scale;
                    }
                    a.unit = b.unit.clone();
                }
                if b.percent && !a.percent && a.unit.is_none() {
                    a.value /= 100.0;
                    a.percent = true;
                }
                if a.unit != b.unit {
                    return self.problem(Problem::new(
                        "E0305",
                        span,
                        format!("a range from {} to {}", units::show(&a), units::show(&b)),
                    ));
                }
                Value::Range(a, b)
            }
            (Value::Error, _) | (_, Value::Error) => Value::Error,
            (Value::Later(l), _) | (_, Value::Later(l)) => Value::Later(l),
            (a, b) => {
                let text = format!("a range from {} to {}", describe(&a), describe(&b));
                self.problem(Problem::new("E0302", span, text))
            }
        }
    }
}

/// Equal as plain values; programs and layers are equal if they are the same one.
pub fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => a.value == b.value && a.unit == b.unit,
        (Value::Text(a), Value::Text(b)) => a == b,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(x, y)| same(x, y))
        }
        (Value::Def(a), Value::Def(b)) => Rc::ptr_eq(a, b),
        (Value::Layer(a), Value::Layer(b)) => Rc::ptr_eq(a, b),
        (Value::Program(a), Value::Program(b)) => Rc::ptr_eq(a, b),
        (Value::Node(a), Value::Node(b)) => a.name == b.name,
        (Value::Builtin(a), Value::Builtin(b)) => a == b,
        _ => false,
    }
}

fn later_with(l: &Rc<Later>, _other: &Value) -> Value {
    Value::Later(l.clone())
}
