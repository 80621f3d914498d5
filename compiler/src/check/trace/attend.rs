//! `attend[dh, key](q, k, v, scale = .., score = .., mask = ..)`.
//!
//! Score and mask are written as expressions on tensors; here they become scalar expressions over coordinates and captured
//! tensors, so that no tensor with both a query and a key axis is ever stored. The trick: both are traced in a copy of the graph,
//! with the running score `s` as an input; elementwise nodes are taken into the expression, whatever else they read is captured.

use super::super::eval::Eval;
use super::super::value::{Bracket, Scope, Value};
use crate::graph::build::Builder;
use crate::graph::{Attention, DType, Expr, Inst, Literal, Name, NodeId, Op, Role, Type};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast;

impl Eval<'_> {
    /// Calls `attend`.
    pub fn attend(
        &mut self,
        scope: &Scope,
        brackets: &[Bracket],
        piped: Option<(Value, Span)>,
        args: &[ast::Arg],
        span: Span,
    ) -> Value {
        if self.trace.is_none() {
            return self.problem(Problem::new("E0310", span, "`attend` works inside methods"));
        }
        let is_late =
            |a: &&ast::Arg| a.name.as_ref().is_some_and(|n| n.name == "score" || n.name == "mask");
        let early: Vec<ast::Arg> = args.iter().filter(|a| !is_late(a)).cloned().collect();
        let values = self.args(scope, piped, &early, false);
        if values.has_error() {
            return Value::Error;
        }
        if values.positional.len() != 3 {
            return self.problem(Problem::new("E0308", span, "`attend` takes q, k and v"));
        }
        for name in values.named.keys() {
            if name != "scale" {
                let id = ast::Ident { name: name.clone(), span };
                let names = ["scale", "score", "mask"].map(str::to_owned).to_vec();
                return self.no_field(&id, "`attend`", names);
            }
        }
        // After the arguments: `k[seq -> key]` may be what makes the axis.
        let Some(axes) = self.axes_of(scope, brackets, span) else { return Value::Error };
        let [over, key] = axes.as_slice() else {
            return self.problem(
                Problem::new("E0406", span, "`attend` takes the contracted axis and the key axis")
                    .help("write `attend[dh, key](q, k, v, mask = pos(key) <= pos(seq))`"),
            );
        };
        let (over, key) = (over.clone(), key.clone());
        let mut nodes = Vec::new();
        for (v, at) in values.positional {
            let Some(x) = self.tensor_node(v, at) else { return Value::Error };
            nodes.push(self.to_compute(x));
        }
        let scale = match values.named.get("scale") {
            Some((Value::Number(q), _)) => q.value,
            None => 1.0 / (over.size as f64).sqrt(),
            Some((_, at)) => {
                return self.problem(Problem::new("E0301", *at, "`scale` is a plain number"));
            }
        };
        let mut attention = Attention {
            over: over.name,
            key: key.name.clone(),
            scale: Literal::new(scale),
            score: Expr::arg(0),
            mask: Expr::constant(1.0),
            pos: Vec::new(),
        };
        let (q, k, v) = (nodes[0], nodes[1], nodes[2]);
        let mut captured = Vec::new();
        for a in args.iter().filter(is_late) {
            let is_score = a.name.as_ref().is_some_and(|n| n.name == "score");
            let mut score_axes =
                attention.rows(&self.t().b().ty(q).clone(), &self.t().b().ty(k).clone());
            score_axes.push(key.clone());
            let s_ty = Type::new(DType::F32, score_axes);
            let kept = self.t().b().clone();
            let captures = self.t().levels.last().map_or(0, |l| l.captures.len());
            let s = self.t().b().input("attend.s", s_ty, Role::Local);
            let inner = scope.inner();
            if is_score {
                if scope.get("s").is_some() {
                    return self.problem(
                        Problem::new(
                            "E0417",
                            a.value.span,
                            "`s` is the running score here, but a local value is named `s` too",
                        )
                        .help("give the local value another name"),
                    );
                }
                let v = self.wrap(s);
                inner.bind("s", v);
            }
            let value = self.expr(&inner, &a.value);
            let Some(node) = self.tensor_node(value, a.value.span) else { return Value::Error };
            let temporary = std::mem::replace(self.t().b(), kept);
            let mut extract = Extract {
                from: &temporary,
                to: self.t().b(),
                s,
                captured: &mut captured,
                pos: &mut attention.pos,
                expr: Expr { insts: Vec::new(), result: 0 },
                stored: None,
            };
            let result = extract.inst(node);
            let mut expr = extract.expr;
            let stored = extract.stored;
            self.t().mend_captures(captures, &temporary);
            expr.result = result;
            if let Some(ty) = stored {
                let text = format!(
                    "this would store a value with the axes {}",
                    crate::graph::build::show(&ty.axes)
                );
                return self.problem(
                    Problem::new("E0418", a.value.span, text).help(
                        "`score` and `mask` are scalar expressions of `pos(..)`, `s` and tensors without both query and key axes",
                    ),
                );
            }
            if is_score {
                attention.score = expr;
            } else {
                attention.mask = expr;
            }
        }
        let compute = self.t().compute;
        match self.t().b().attention(attention, q, k, v, &captured, compute) {
            Ok((out, _)) => self.wrap(out),
            Err(m) => self.misfit(m, span),
        }
    }
}

/// Turns nodes of a temporary graph into a scalar expression, and copies what it captures into the real one.
struct Extract<'a> {
    from: &'a Builder,
    to: &'a mut Builder,
    s: NodeId,
    captured: &'a mut Vec<NodeId>,
    pos: &'a mut Vec<Name>,
    expr: Expr,
    /// A captured value that has several axes of the score beyond what may be stored.
    stored: Option<Type>,
}

impl Extract<'_> {
    fn inst(&mut self, id: NodeId) -> u32 {
        let node = self.from.graph.node(id).clone();
        if id == self.s {
            return self.expr.push(Inst::Arg(0));
        }
        match &node.op {
            Op::Const(l) => self.expr.push(Inst::Const(*l)),
            Op::Runtime(r) => self.expr.push(Inst::Runtime(*r)),
            Op::Pos => {
                let name = node.ty.axes[0].name.clone();
                let at = match self.pos.iter().position(|p| *p == name) {
                    Some(at) => at,
                    None => {
                        self.pos.push(name);
                        self.pos.len() - 1
                    }
                };
                self.expr.push(Inst::Pos(at as u32))
            }
            Op::Unary(op) => {
                let a = self.inst(node.inputs[0]);
                self.expr.push(Inst::Unary(*op, a))
            }
            Op::Binary(op) => {
                let a = self.inst(node.inputs[0]);
                let b = self.inst(node.inputs[1]);
                self.expr.push(Inst::Binary(*op, a, b))
            }
            Op::Select => {
                let c = self.inst(node.inputs[0]);
                let a = self.inst(node.inputs[1]);
                let b = self.inst(node.inputs[2]);
                self.expr.push(Inst::Select(c, a, b))
            }
            Op::Cast => {
                let a = self.inst(node.inputs[0]);
                self.expr.push(Inst::Cast(node.ty.dtype, a))
            }
            Op::Expand => self.inst(node.inputs[0]),
            _ => {
                if self.depends_on_s(id) {
                    self.stored = Some(node.ty.clone());
                }
                let copied = self.copy(id);
                let at = match self.captured.iter().position(|c| *c == copied) {
                    Some(at) => at,
                    None => {
                        self.captured.push(copied);
                        self.captured.len() - 1
                    }
                };
                self.expr.push(Inst::Arg(1 + at as u32))
            }
        }
    }

    fn depends_on_s(&self, id: NodeId) -> bool {
        id == self.s || self.from.graph.node(id).inputs.iter().any(|i| self.depends_on_s(*i))
    }

    /// The same node in the real graph. Nodes made before the copy was taken have the same id there.
    fn copy(&mut self, id: NodeId) -> NodeId {
        let node = self.from.graph.node(id).clone();
        if (id.0 as usize) < self.to.graph.nodes.len()
            && self.to.graph.node(id).op == node.op
            && self.to.graph.node(id).inputs == node.inputs
        {
            return id;
        }
        if let Op::Input(i) = node.op {
            let decl = self.from.graph.inputs[i as usize].clone();
            return self.to.input(decl.name, decl.ty, decl.role);
        }
        let inputs = node.inputs.iter().map(|i| self.copy(*i)).collect();
        self.to.raw(node.op, inputs, node.ty)
    }
}
