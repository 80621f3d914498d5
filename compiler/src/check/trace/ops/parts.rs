//! Operations that name what they contract, read, join or cut: `dot`, `pick`, `concat`, `split`, `pos`.

use std::rc::Rc;

use crate::check::call::Args;
use crate::check::eval::Eval;
use crate::check::trace::Mode;
use crate::check::value::{Bracket, Record, Scope, Tensor, Value};
use crate::graph::{Affine, BinOp, Graph, Name, NodeId, Op, Runtime, UnOp};
use crate::problem::Problem;
use crate::source::Span;

impl Eval<'_> {
    pub(super) fn dot(
        &mut self,
        scope: &Scope,
        brackets: &[Bracket],
        args: &Args,
        span: Span,
    ) -> Value {
        let [(a, _), (b, _)] = args.positional.as_slice() else {
            return self.arity("dot", "two values: `dot[d](x, w)`", span);
        };
        let Some(axes) = self.axes_of(scope, brackets, span) else { return Value::Error };
        if axes.is_empty() {
            return self.problem(Problem::new(
                "E0401",
                span,
                "`dot` names the axes it contracts: `dot[d](x, w)`",
            ));
        }
        let over: Vec<Name> = axes.into_iter().map(|a| a.name).collect();
        let nodes = [a, b].map(|v| self.tensor_node(v.clone(), span));
        let [Some(a), Some(b)] = nodes else { return Value::Error };
        let compute = self.t().compute;
        let (a, b) = (self.to_compute(a), self.to_compute(b));
        let built = self.t().b().contract(a, b, &over, compute);
        self.built(built, span)
    }

    /// `pick[axis](x, index, outside = 0)`.
    pub(super) fn pick(
        &mut self,
        scope: &Scope,
        brackets: &[Bracket],
        args: &Args,
        span: Span,
    ) -> Value {
        let [(x, _), (index, index_span)] = args.positional.as_slice() else {
            return self.arity("pick", "a value and an index: `pick[vocab](logits, target)`", span);
        };
        let Some(axes) = self.axes_of(scope, brackets, span) else { return Value::Error };
        let [axis] = axes.as_slice() else {
            return self.arity("pick", "one axis", span);
        };
        let outside = match args.named.get("outside") {
            Some((Value::Number(q), _)) => Some(q.value),
            _ => None,
        };
        let Some(x) = self.tensor_node(x.clone(), span) else { return Value::Error };
        let Some(index) = self.operand(index.clone(), true, *index_span) else {
            return Value::Error;
        };
        let affine = self.t().b().graph.node(index).ty.axes.clone();
        let form = affine_of(&self.t().b().graph, index);
        if !self.reaches(x, axis, index, form.as_ref(), outside.is_some(), span) {
            return Value::Error;
        }
        let outside = outside.unwrap_or(0.0);
        let built = match form {
            Some(index) => self.t().b().window(x, &axis.name, index, &affine, outside),
            None => self.t().b().gather(x, &axis.name, index),
        };
        self.built(built, span)
    }

    /// `concat[(a, b) -> c](x, y)`.
    pub(super) fn concat(
        &mut self,
        scope: &Scope,
        brackets: &[Bracket],
        args: &Args,
        span: Span,
    ) -> Value {
        let [Bracket::Arrow { from, to, .. }] = brackets else {
            return self.arity(
                "concat",
                "axes and their name together: `concat[(a, b) -> c]`",
                span,
            );
        };
        let mut parts = Vec::new();
        for (name, _) in from {
            match self.axis_named(scope, name, span) {
                Some(a) => parts.push(a),
                None => return Value::Error,
            }
        }
        if parts.len() != args.positional.len() || to.len() != 1 {
            return self.arity("concat", "one value per axis: `concat[(a, b) -> c](x, y)`", span);
        }
        let mut xs = Vec::new();
        for (v, at) in &args.positional {
            match self.tensor_node(v.clone(), *at) {
                Some(x) => xs.push(x),
                None => return Value::Error,
            }
        }
        let size = parts.iter().map(|a| a.size).sum();
        let into = self.t().local_axis(scope, &to[0].0, size);
        let names: Vec<Name> = parts.into_iter().map(|a| a.name).collect();
        let built = self.t().b().concat(&xs, &names, &into.name);
        self.built(built, span)
    }

    /// `split[qk -> (nope, rot)](x)`: a record of slices.
    pub(super) fn split_record(
        &mut self,
        scope: &Scope,
        brackets: &[Bracket],
        first: Option<Value>,
        span: Span,
    ) -> Value {
        let ([Bracket::Arrow { from, to, .. }], Some(v)) = (brackets, first) else {
            return self.arity(
                "split",
                "an axis and its parts: `split[qk -> (nope, rot)](x)`",
                span,
            );
        };
        let Some(whole) = self.axis_named(scope, &from[0].0, span) else { return Value::Error };
        let Some(x) = self.tensor_node(v, span) else { return Value::Error };
        let mut record = Record::default();
        let mut offset = 0;
        for (name, size) in to {
            let part = match size {
                Some(s) => self.t().local_axis(scope, name, *s),
                None => match self.axis_named(scope, name, span) {
                    Some(a) => a,
                    None => return Value::Error,
                },
            };
            let index = Affine { terms: vec![(part.name.clone(), 1)], offset };
            let inner = std::slice::from_ref(&part);
            let built = self.t().b().window(x, &whole.name, index, inner, 0.0);
            let value = self.built(built, span);
            record.set(name, value, Some(span));
            offset += part.size as i64;
        }
        if offset != whole.size as i64 {
            return self.problem(Problem::new(
                "E0408",
                span,
                format!("`{}` has size {}, its parts have {offset}", from[0].0, whole.size),
            ));
        }
        Value::Record(Rc::new(record))
    }

    /// `pos(axis)`: the coordinate along the axis of a local name, from the start of the sequence also while decoding.
    pub fn pos_of(&mut self, scope: &Scope, name: &str, span: Span) -> Value {
        let Some(axis) = self.axis_named(scope, name, span) else { return Value::Error };
        let trace = self.t();
        // The position inside a scan over the axis is a slice of the positions outside.
        let outside = trace
            .levels
            .iter()
            .position(|l| l.axis.as_ref().is_some_and(|a| a.name == axis.name))
            .map_or(trace.levels.len() - 1, |l| l - 1);
        let decoding = matches!(trace.mode, Mode::Decode(_)) && axis.name == "seq";
        let b = &mut trace.levels[outside].b;
        let mut node = b.pos(&axis);
        if decoding {
            let start = b.runtime(Runtime::Position);
            node = match b.binary(BinOp::Add, node, start) {
                Ok(n) => n,
                Err(m) => return self.misfit(m, span),
            };
        }
        let t = Tensor { level: outside as u32, node };
        let node = self.t().here(t);
        self.wrap(node)
    }
}

/// `offset + Σ coefficient * pos(axis)`, if a node is that.
fn affine_of(graph: &Graph, id: NodeId) -> Option<Affine> {
    let node = graph.node(id);
    let at = |i: usize| affine_of(graph, node.inputs[i]);
    let scaled = |a: Affine, k: i64| Affine {
        terms: a.terms.into_iter().map(|(n, c)| (n, c * k)).filter(|(_, c)| *c != 0).collect(),
        offset: a.offset * k,
    };
    match &node.op {
        Op::Const(l) if l.get().fract() == 0.0 => {
            Some(Affine { terms: vec![], offset: l.get() as i64 })
        }
        Op::Pos => Some(Affine { terms: vec![(node.ty.axes[0].name.clone(), 1)], offset: 0 }),
        Op::Unary(UnOp::Neg) => at(0).map(|a| scaled(a, -1)),
        Op::Binary(op @ (BinOp::Add | BinOp::Sub)) => {
            let (mut a, b) = (at(0)?, at(1)?);
            let b = scaled(b, if *op == BinOp::Add { 1 } else { -1 });
            for (name, c) in b.terms {
                match a.terms.iter_mut().find(|(n, _)| *n == name) {
                    Some((_, have)) => *have += c,
                    None => a.terms.push((name, c)),
                }
            }
            a.terms.retain(|(_, c)| *c != 0);
            a.offset += b.offset;
            Some(a)
        }
        Op::Binary(BinOp::Mul) => {
            let (a, b) = (at(0)?, at(1)?);
            match (a.terms.is_empty(), b.terms.is_empty()) {
                (true, _) => Some(scaled(b, a.offset)),
                (_, true) => Some(scaled(a, b.offset)),
                _ => None,
            }
        }
        _ => None,
    }
}
