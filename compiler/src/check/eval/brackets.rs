//! Brackets: axes by name, sizes, renames; and an index into a list.

use std::rc::Rc;

use super::{Eval, describe};
use crate::check::units;
use crate::check::value::{Bracket, Scope, Value};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::{self, Expr, ExprKind};

impl Eval<'_> {
    /// Evaluates brackets: axis names stay names.
    pub fn brackets(&mut self, scope: &Scope, args: &[ast::IndexArg]) -> Vec<Bracket> {
        let mut out = Vec::new();
        for a in args {
            out.push(match a {
                ast::IndexArg::Value(e) => match &*e.kind {
                    ExprKind::Name(n) => Bracket::Axis(n.as_str().into(), e.span),
                    _ => Bracket::Value(self.expr(scope, e), e.span),
                },
                ast::IndexArg::Tuple(axes, span) => {
                    let names = axes.iter().map(|x| x.name.name.as_str().into()).collect();
                    Bracket::Tuple(names, *span)
                }
                ast::IndexArg::Named { name, value } => {
                    let axis = match &*value.kind {
                        ExprKind::Name(n) => Some(n.as_str().into()),
                        _ => None,
                    };
                    let value_of = if axis.is_some() && self.quiet_name(scope, value).is_none() {
                        Value::None
                    } else {
                        self.expr(scope, value)
                    };
                    Bracket::Named {
                        name: name.name.as_str().into(),
                        axis,
                        value: value_of,
                        span: value.span,
                    }
                }
                ast::IndexArg::Arrow { from, to, span } => {
                    let from = self.sized(scope, from);
                    let to = self.sized(scope, to);
                    Bracket::Arrow { from, to, span: *span }
                }
            });
        }
        out
    }

    fn quiet_name(&mut self, scope: &Scope, e: &Expr) -> Option<()> {
        let ExprKind::Name(n) = &*e.kind else { return Some(()) };
        let known = scope.get(n).is_some()
            || self.trace.as_ref().is_some_and(|t| t.axis(scope, n).is_some())
            || self.knows(scope.0.module, n);
        known.then_some(())
    }

    fn sized(&mut self, scope: &Scope, axes: &[ast::Axis]) -> Vec<(Rc<str>, Option<usize>)> {
        axes.iter()
            .map(|a| {
                let size = a.size.as_ref().and_then(|e| {
                    let v = self.expr(scope, e);
                    self.size_of(&v, e.span)
                });
                (a.name.name.as_str().into(), size)
            })
            .collect()
    }

    /// A positive whole number.
    pub fn size_of(&mut self, v: &Value, span: Span) -> Option<usize> {
        match v {
            Value::Number(q) if q.value >= 1.0 && q.value.fract() == 0.0 && q.value < 1e12 => {
                Some(q.value as usize)
            }
            Value::Error | Value::Later(_) => None,
            other => {
                let found = match other {
                    Value::Number(q) => units::show(q),
                    v => describe(v),
                };
                self.problem(Problem::new(
                    "E0405",
                    span,
                    format!("a size is a whole number of at least 1, this is {found}"),
                ));
                None
            }
        }
    }

    pub(super) fn index(
        &mut self,
        scope: &Scope,
        base: Value,
        args: &[ast::IndexArg],
        span: Span,
    ) -> Value {
        match base {
            Value::Error => Value::Error,
            Value::Later(l) => Value::Later(l),
            Value::List(l) => {
                let [ast::IndexArg::Value(e)] = args else {
                    return self.problem(Problem::new("E0306", span, "a list takes one index"));
                };
                match self.expr(scope, e) {
                    Value::Number(q) if q.value >= 0.0 && (q.value as usize) < l.len() => {
                        l[q.value as usize].clone()
                    }
                    Value::Error => Value::Error,
                    _ => self.problem(Problem::new(
                        "E0306",
                        e.span,
                        format!("the list has {} values: 0..{}", l.len(), l.len() as i64 - 1),
                    )),
                }
            }
            v @ (Value::Tensor(_) | Value::Weight(_)) => {
                let brackets = self.brackets(scope, args);
                self.rename_tensor(scope, v, brackets, span)
            }
            v @ (Value::Def(_)
            | Value::Builtin(_)
            | Value::Layer(_)
            | Value::Placed(_)
            | Value::Node(_)) => {
                let brackets = self.brackets(scope, args);
                Value::Bracketed(Rc::new((v, brackets)))
            }
            other => {
                let text = format!("{} takes no brackets", describe(&other));
                self.problem(Problem::new("E0306", span, text))
            }
        }
    }
}
