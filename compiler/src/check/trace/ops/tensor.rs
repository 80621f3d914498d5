//! Between values and nodes: a value as a node of the innermost graph, a node as a value, and the axes that brackets name.

use crate::check::eval::{Eval, describe};
use crate::check::trace::Trace;
use crate::check::value::{Bracket, Scope, Value};
use crate::graph::build::Misfit;
use crate::graph::{Axis, NodeId};
use crate::problem::Problem;
use crate::source::Span;

impl Eval<'_> {
    /// The trace; callers have seen that there is one.
    pub(crate) fn t(&mut self) -> &mut Trace {
        self.trace.as_mut().expect("operations on tensors run inside a trace")
    }

    /// A value as a node of the innermost graph: numbers and booleans become literals.
    pub fn tensor_node(&mut self, v: Value, span: Span) -> Option<NodeId> {
        if self.trace.is_none() {
            self.problem(Problem::new("E0310", span, "tensors exist only inside methods"));
            return None;
        }
        match v {
            Value::Tensor(t) => Some(self.t().here(t)),
            Value::Weight(slot) => {
                let t = self.t().slot(&slot);
                Some(self.t().here(t))
            }
            Value::Number(q) => Some(self.t().b().constant(q.value)),
            Value::Bool(b) => Some(self.t().b().constant(f64::from(b))),
            Value::Error | Value::Later(_) => None,
            other => {
                let text = format!("a tensor is needed, this is {}", describe(&other));
                self.problem(Problem::new("E0302", span, text));
                None
            }
        }
    }

    /// A node of the innermost graph as a value.
    pub fn wrap(&mut self, node: NodeId) -> Value {
        Value::Tensor(self.t().tensor(node))
    }

    /// What the builder gave.
    pub fn built(&mut self, built: Result<NodeId, Misfit>, span: Span) -> Value {
        match built {
            Ok(node) => self.wrap(node),
            Err(m) => self.misfit(m, span),
        }
    }

    /// The axes that brackets name.
    pub fn axes_of(
        &mut self,
        scope: &Scope,
        brackets: &[Bracket],
        span: Span,
    ) -> Option<Vec<Axis>> {
        let mut axes = Vec::new();
        for b in brackets {
            match b {
                Bracket::Axis(name, at) => match self.axis_named(scope, name, *at) {
                    Some(a) => axes.push(a),
                    None => return None,
                },
                Bracket::Tuple(names, at) => {
                    for name in names {
                        axes.push(self.axis_named(scope, name, *at)?);
                    }
                }
                Bracket::Arrow { .. } | Bracket::Named { .. } | Bracket::Value(..) => {
                    self.problem(Problem::new(
                        "E0406",
                        span,
                        "axes are names here: `dot[d](x, w)`",
                    ));
                    return None;
                }
            }
        }
        Some(axes)
    }

    /// The axis of a local name, or a problem.
    pub fn axis_named(&mut self, scope: &Scope, name: &str, span: Span) -> Option<Axis> {
        if let Some(a) = self.trace.as_ref().and_then(|t| t.axis(scope, name)) {
            return Some(a.axis);
        }
        let path = self.trace.as_ref().map(|t| t.path()).unwrap_or_default();
        let place = if path.is_empty() { String::new() } else { format!(" in `{path}`") };
        self.problem(
            Problem::new("E0402", span, format!("no axis `{name}`{place}")).help(format!(
                "give it a size in the model's `axes = {{ {name} = .. }}`, or rename one to it: `x[old -> {name}]`"
            )),
        );
        None
    }

    /// Rounds a float to the compute dtype.
    pub fn to_compute(&mut self, x: NodeId) -> NodeId {
        let compute = self.t().compute;
        let b = self.t().b();
        b.cast(x, compute)
    }
}
