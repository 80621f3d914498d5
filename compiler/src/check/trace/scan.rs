//! `scan[seq] { state h = 0  ..  value }`: the one loop of the language, and its carry.

use super::super::eval::Eval;
use super::super::value::{Bracket, Scope, Value};
use super::conform;
use crate::graph::{Axis, DType, NodeId, Role, ScanKind, Type};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::{self, ItemKind};

/// How often a body is traced to find the axes of its states.
const MAX_ROUNDS: usize = 64;

/// A carry while the body is traced.
struct Carry {
    name: String,
    start: NodeId,
    ty: Type,
}

impl Eval<'_> {
    /// Traces a scan. The carry's axes are those declared, united with those that its updates have (a batch, say): the body is
    /// traced again with the larger carry until they agree.
    pub fn scan_expr(
        &mut self,
        scope: &Scope,
        args: &[ast::IndexArg],
        body: &ast::Block,
        span: Span,
    ) -> Value {
        if self.trace.is_none() {
            return self.problem(Problem::new(
                "E0310",
                span,
                "`scan` works on tensors, inside methods",
            ));
        }
        if !matches!(body.items.last().map(|i| &i.kind), Some(ItemKind::Expr(_))) {
            return self.problem(
                Problem::new("E0411", body.span, "a scan must give a value")
                    .help("its last line is what it gives at each position: a state, or what is read from one"),
            );
        }
        let Some((axis, reverse)) = self.scan_axis(scope, args, span) else { return Value::Error };
        let depth = self.t().levels.len();
        if self.t().levels.iter().any(|l| l.axis.as_ref().is_some_and(|a| a.name == axis.name)) {
            return self.problem(
                Problem::new("E0415", span, format!("a scan over `{}` inside another", axis.name))
                    .help("rename the axis of one of them"),
            );
        }
        let Some(mut carries) = self.carries(scope, body, span) else { return Value::Error };
        // Each round that goes on has found an axis that some state lacks: an axis goes from state to state at most once a round.
        for _ in 0..MAX_ROUNDS {
            self.t().open(Some(axis.clone()));
            let frame = scope.inner();
            let mut inside = Vec::new();
            for (i, c) in carries.iter().enumerate() {
                let node = self.t().b().input(format!("carry{i}"), c.ty.clone(), Role::Local);
                inside.push(node);
                let v = self.wrap(node);
                frame.bind(&format!("state {}", c.name), Value::None);
                frame.bind(&c.name, v);
            }
            let value = self.block(&frame, body);
            let Some(y) = self.tensor_node(value, span) else {
                self.t().levels.truncate(depth);
                return Value::Error;
            };
            let mut next = Vec::new();
            let mut grown = false;
            for c in &mut carries {
                let v = frame.0.names.borrow().get(&c.name).cloned().unwrap_or(Value::Error);
                let Some(n) = self.tensor_node(v, span) else {
                    self.t().levels.truncate(depth);
                    return Value::Error;
                };
                for a in self.t().b().ty(n).axes.clone() {
                    if c.ty.find(&a.name).is_none() {
                        c.ty.axes.insert(0, a);
                        grown = true;
                    }
                }
                next.push(n);
            }
            if grown {
                self.t().levels.truncate(depth);
                continue;
            }
            let y = self.to_compute(y);
            let pairs: Vec<(NodeId, NodeId)> =
                inside.iter().copied().zip(carries.iter().map(|c| c.start)).collect();
            let count = next.len();
            return match self.t().close(ScanKind::Program, reverse, &pairs, &next, &[y]) {
                Ok(parts) => self.wrap(parts[count]),
                Err(m) => self.misfit(m, span),
            };
        }
        self.problem(
            Problem::new("E0508", span, "the states of this scan ask for too much")
                .help("an axis goes from one state to the next through too many of them"),
        )
    }

    fn scan_axis(
        &mut self,
        scope: &Scope,
        args: &[ast::IndexArg],
        span: Span,
    ) -> Option<(Axis, bool)> {
        let mut axis = None;
        let mut reverse = false;
        for b in self.brackets(scope, args) {
            match b {
                Bracket::Axis(name, at) => axis = Some(self.axis_named(scope, &name, at)?),
                Bracket::Named { name, value: Value::Bool(r), .. } if &*name == "reverse" => {
                    reverse = r;
                }
                Bracket::Named { name, value, span, .. } => {
                    let size = self.size_of(&value, span)?;
                    axis = Some(self.t().local_axis(scope, &name, size));
                }
                Bracket::Tuple(..) | Bracket::Arrow { .. } | Bracket::Value(..) => axis = None,
            }
        }
        if axis.is_none() {
            self.problem(
                Problem::new("E0406", span, "`scan` takes one axis")
                    .help("write `scan[seq] { .. }`, or `scan[i = 5] { .. }` for five rounds"),
            );
        }
        axis.map(|a| (a, reverse))
    }

    fn carries(&mut self, scope: &Scope, body: &ast::Block, span: Span) -> Option<Vec<Carry>> {
        let mut carries = Vec::new();
        for item in &body.items {
            let ItemKind::State(decls) = &item.kind else { continue };
            for d in decls {
                let mut axes = Vec::new();
                for a in &d.axes {
                    axes.push(self.axis_named(scope, &a.name.name, a.name.span)?);
                }
                let start = match &d.init {
                    Some(e) => self.expr(scope, e),
                    None => Self::plain(0.0),
                };
                let start = self.tensor_node(start, span)?;
                let b = self.t().b();
                for a in b.ty(start).axes.clone() {
                    if !axes.contains(&a) {
                        axes.push(a);
                    }
                }
                let ty = Type::new(DType::F32, axes);
                let start = conform(b, start, &ty);
                carries.push(Carry { name: d.name.name.clone(), start, ty });
            }
        }
        Some(carries)
    }
}
