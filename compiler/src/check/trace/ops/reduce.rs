//! Reductions over axes, and over lists of numbers; the largest few along an axis.

use crate::check::call::Args;
use crate::check::eval::{Eval, describe};
use crate::check::units::Unit;
use crate::check::value::{Bracket, Quantity, Scope, Value};
use crate::graph::build::show;
use crate::graph::{BinOp, Name, ReduceOp, UnOp};
use crate::problem::Problem;
use crate::source::Span;

impl Eval<'_> {
    pub(super) fn reduction(
        &mut self,
        scope: &Scope,
        name: &str,
        brackets: &[Bracket],
        first: Option<Value>,
        span: Span,
    ) -> Value {
        if let (Some(Value::List(l)), true) = (&first, brackets.is_empty()) {
            return self.reduce_list(name, l, span);
        }
        let Some(v) = first else { return self.arity(name, "a value", span) };
        if matches!(v, Value::Later(_) | Value::Row(_)) {
            return v;
        }
        let Some(x) = self.tensor_node(v, span) else { return Value::Error };
        if brackets.is_empty() {
            let ty = self.t().b().ty(x).clone();
            return self.problem(
                Problem::new("E0401", span, format!("a reduction names its axes: `{name}[d](x)`"))
                    .help(format!("the value has {}", show(&ty.axes))),
            );
        }
        let rest = matches!(brackets, [Bracket::Axis(n, _)] if &**n == "rest" && scope.axis("rest").is_none());
        let over: Vec<Name> = if rest {
            let ty = self.t().b().ty(x).clone();
            let own = self.own_axes(scope);
            ty.axes
                .iter()
                .map(|a| a.name.clone())
                .filter(|n| *n != "batch" && !own.contains(n))
                .collect()
        } else {
            match self.axes_of(scope, brackets, span) {
                Some(axes) => axes.into_iter().map(|a| a.name).collect(),
                None => return Value::Error,
            }
        };
        let b = self.t().b();
        let count: usize = over.iter().filter_map(|n| b.ty(x).size(n)).product();
        let built = match name {
            "sum" => b.reduce(ReduceOp::Sum, x, &over),
            "max" => b.reduce(ReduceOp::Max, x, &over),
            "min" => b.reduce(ReduceOp::Min, x, &over),
            "prod" => b.reduce(ReduceOp::Prod, x, &over),
            "logsumexp" => b.logsumexp(x, &over),
            "norm" => b
                .binary(BinOp::Mul, x, x)
                .and_then(|x| b.reduce(ReduceOp::Sum, x, &over))
                .map(|x| b.unary(UnOp::Sqrt, x)),
            _ => b.reduce(ReduceOp::Sum, x, &over).and_then(|s| {
                let n = b.constant(1.0 / count.max(1) as f64);
                b.binary(BinOp::Mul, s, n)
            }),
        };
        self.built(built, span)
    }

    fn reduce_list(&mut self, name: &str, list: &[Value], span: Span) -> Value {
        let mut numbers = Vec::new();
        let mut unit: Option<Unit> = None;
        for v in list {
            match v {
                Value::Number(q) if unit.as_ref().is_none_or(|u| *u == q.unit) => {
                    unit = Some(q.unit.clone());
                    numbers.push(q.value);
                }
                Value::Later(l) => return Value::Later(l.clone()),
                Value::Error => return Value::Error,
                other => {
                    let text = format!("`{name}` of a list with {}", describe(other));
                    return self.problem(Problem::new("E0302", span, text));
                }
            }
        }
        let total: f64 = numbers.iter().sum();
        let value = match name {
            "sum" => total,
            "mean" => total / numbers.len().max(1) as f64,
            "max" => numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            "min" => numbers.iter().copied().fold(f64::INFINITY, f64::min),
            "prod" => numbers.iter().product(),
            "norm" => numbers.iter().map(|x| x * x).sum::<f64>().sqrt(),
            _ => numbers.iter().map(|x| x.exp()).sum::<f64>().ln(),
        };
        Value::Number(Quantity { unit: unit.unwrap_or_default(), ..Quantity::plain(value) })
    }

    /// Axes that the layer at hand names in its header, as axes of the graph.
    fn own_axes(&self, scope: &Scope) -> Vec<Name> {
        let mut own = Vec::new();
        let mut at = Some(scope.clone());
        while let Some(s) = at {
            own.extend(s.0.axes.borrow().values().map(|a| a.axis.name.clone()));
            at = s.0.parent.clone();
        }
        own
    }

    /// `topk[expert](p, k, by = p + bias)`: the values of `p` on the k largest of `by`, zero elsewhere.
    pub(super) fn topk(
        &mut self,
        scope: &Scope,
        brackets: &[Bracket],
        args: &Args,
        span: Span,
    ) -> Value {
        let [(x, _), (k, k_span)] = args.positional.as_slice() else {
            return self.arity("topk", "a value and a number: `topk[expert](p, 2)`", span);
        };
        let Some(axes) = self.axes_of(scope, brackets, span) else { return Value::Error };
        let [axis] = axes.as_slice() else { return self.arity("topk", "one axis", span) };
        let Some(k) = self.size_of(k, *k_span) else { return Value::Error };
        let by = args.named.get("by").map_or(x, |(v, _)| v).clone();
        let nodes = [x.clone(), by].map(|v| self.tensor_node(v, span));
        let [Some(x), Some(by)] = nodes else { return Value::Error };
        let b = self.t().b();
        let built = b.topk(by, &axis.name, k).and_then(|live| b.binary(BinOp::Mul, x, live));
        self.built(built, span)
    }
}
