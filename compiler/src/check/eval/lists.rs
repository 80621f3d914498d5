//! Lists: comprehensions, what `for` runs over, and a unit behind a bracket that is meant for each item.

use std::rc::Rc;

use super::{Eval, ITEM_STEPS, describe};
use crate::check::units;
use crate::check::value::{Quantity, Scope, Value};
use crate::problem::Problem;
use crate::source::{FileId, Span};
use crate::syntax::ast::{self, Expr};

impl Eval<'_> {
    pub(super) fn spread(&mut self, items: Vec<Value>, suffix: Option<&ast::Suffix>) -> Value {
        let Some(suffix) = suffix else { return Value::List(Rc::new(items)) };
        let items = items
            .into_iter()
            .map(|v| match v {
                Value::Number(q) if q.unit.is_none() => {
                    let span = q.origin.unwrap_or(suffix_span(suffix).unwrap_or(span0()));
                    self.number(q.value, Some(suffix), span)
                }
                other => other,
            })
            .collect();
        Value::List(Rc::new(items))
    }

    pub(super) fn comprehend(
        &mut self,
        scope: &Scope,
        value: &Expr,
        clauses: &[ast::Clause],
        out: &mut Vec<Value>,
    ) {
        let Some((first, rest)) = clauses.split_first() else {
            let v = self.expr(scope, value);
            if !self.is_spent(ITEM_STEPS, value.span) {
                out.push(v);
            }
            return;
        };
        match first {
            ast::Clause::For { pattern, iter } => {
                let list = self.expr(scope, iter);
                for item in self.items_of(list, iter.span) {
                    let inner = scope.inner();
                    self.bind_pattern(&inner, pattern, item);
                    self.comprehend(&inner, value, rest, out);
                }
            }
            ast::Clause::Where(c) => {
                if matches!(self.expr(scope, c), Value::Bool(true)) {
                    self.comprehend(scope, value, rest, out);
                }
            }
        }
    }

    /// The items of a list or of a range of integers.
    pub fn items_of(&mut self, list: Value, span: Span) -> Vec<Value> {
        match list {
            Value::List(l) => l.to_vec(),
            Value::Range(a, b) if a.value.fract() == 0.0 && b.value - a.value < 100_000.0 => {
                let count = (b.value - a.value).floor() + 1.0;
                let item =
                    |i| Value::Number(Quantity { value: a.value + f64::from(i), ..a.clone() });
                (0..count.max(0.0) as u32).map(item).collect()
            }
            Value::Error | Value::Later(_) => Vec::new(),
            other => {
                let found = describe(&other);
                let text = format!("`for` needs a list, this is {found}");
                let mut p = Problem::new("E0304", span, text)
                    .help("write `[a, b, c]` or a range of integers such as `0..2`");
                if let Value::Range(a, b) = &other
                    && a.value > 0.0
                {
                    let (a, b) = (units::show(a), units::show(b));
                    p = p.help(format!(
                        "`log_range({a}, {b}, 5)` are 5 numbers between, equal in ratio"
                    ));
                }
                self.problem(p);
                Vec::new()
            }
        }
    }

    /// Binds the names of `for`.
    pub fn bind_pattern(&mut self, scope: &Scope, pattern: &ast::Pattern, value: Value) {
        match pattern {
            ast::Pattern::Name(id) => scope.bind(&id.name, value),
            ast::Pattern::Tuple(ids, span) => {
                let parts: Vec<Value> = match &value {
                    Value::List(l) => l.to_vec(),
                    Value::Record(r) => r.fields.values().map(|(v, _)| v.clone()).collect(),
                    _ => Vec::new(),
                };
                if parts.len() != ids.len() && !matches!(value, Value::Error) {
                    self.problem(Problem::new(
                        "E0304",
                        *span,
                        format!("{} names, but the value has {} parts", ids.len(), parts.len()),
                    ));
                }
                for (i, id) in ids.iter().enumerate() {
                    scope.bind(&id.name, parts.get(i).cloned().unwrap_or(Value::Error));
                }
            }
        }
    }
}

fn suffix_span(s: &ast::Suffix) -> Option<Span> {
    match s {
        ast::Suffix::Percent => None,
        ast::Suffix::Unit(u) => Some(u.span),
    }
}

fn span0() -> Span {
    Span::new(FileId(0), 0, 0)
}
