//! The operations of the language on tensors: operators, and the calls of the prelude that are written in Rust.
//!
//! Rounding points (semantics 4) are put in here, before any fusion: operands and results of `dot` and `attend` have the compute
//! dtype; maps, reductions and norms are f32.

use std::rc::Rc;

use super::super::call::Args;
use super::super::eval::{Eval, describe};
use super::super::units::Unit;
use super::super::value::{Bracket, Quantity, Record, Scope, Tensor, Value};
use super::{EmitKind, Mode};
use crate::graph::build::Misfit;
use crate::graph::{
    Affine, Axis, BinOp, DType, Dist, Literal, Name, NodeId, Op, ReduceOp, Role, Runtime, Type,
    UnOp,
};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::{BinaryOp, CompareOp, UnaryOp};

/// One argument, elementwise: name, operation.
const UNARY: &[(&str, UnOp)] = &[
    ("abs", UnOp::Abs),
    ("exp", UnOp::Exp),
    ("log", UnOp::Log),
    ("sqrt", UnOp::Sqrt),
    ("rsqrt", UnOp::Rsqrt),
    ("sin", UnOp::Sin),
    ("cos", UnOp::Cos),
    ("tanh", UnOp::Tanh),
    ("erf", UnOp::Erf),
    ("sigmoid", UnOp::Sigmoid),
    ("floor", UnOp::Floor),
    ("ceil", UnOp::Ceil),
    ("round", UnOp::Round),
    ("sign", UnOp::Sign),
    ("is_finite", UnOp::IsFinite),
];

/// The operations with rules of their own.
const OTHERS: &[&str] = &[
    "dot",
    "attend",
    "sum",
    "mean",
    "max",
    "min",
    "prod",
    "logsumexp",
    "norm",
    "pick",
    "concat",
    "split",
    "topk",
    "argsort",
    "cumsum",
    "pos",
    "uniform",
    "normal",
    "stop",
    "live",
    "last",
    "mod",
    "f32",
    "bf16",
    "stack",
    "each",
];

/// True for names handled by [`Eval::op`].
pub fn is_op(name: &str) -> bool {
    OTHERS.contains(&name) || UNARY.iter().any(|(n, _)| *n == name)
}

/// All names, for the prelude.
pub fn op_names() -> impl Iterator<Item = &'static str> {
    OTHERS.iter().copied().chain(UNARY.iter().map(|(n, _)| *n))
}

impl Eval<'_> {
    /// Calls an operation.
    pub fn op(
        &mut self,
        scope: &Scope,
        name: &'static str,
        brackets: &[Bracket],
        args: Args,
        span: Span,
    ) -> Value {
        let first = args.positional.first().map(|(v, _)| v.clone());
        if let Some((_, op)) = UNARY.iter().find(|(n, _)| *n == name) {
            return match first {
                Some(Value::Number(q)) if args.positional.len() == 1 => {
                    Value::Number(Quantity { value: op.eval(q.value), ..q })
                }
                Some(Value::Later(l)) => Value::Later(l),
                Some(v) if args.positional.len() == 1 => match self.tensor_node(v, span) {
                    Some(x) => {
                        let node = self.t().b().unary(*op, x);
                        self.wrap(node)
                    }
                    None => Value::Error,
                },
                _ => self.arity(name, "one value", span),
            };
        }
        match name {
            "stack" | "each" => self.stack_or_each(name, brackets, first, span),
            "uniform" | "normal" => self.draw(name, args, span),
            "max" | "min" if brackets.is_empty() => {
                let [(a, _), (b, _)] = args.positional.as_slice() else {
                    return self.arity(
                        name,
                        "two values, or axes to reduce over, as in `max[d](x)`",
                        span,
                    );
                };
                let op = if name == "max" { BinOp::Max } else { BinOp::Min };
                self.elementwise(op, a.clone(), b.clone(), span)
            }
            "mod" => match args.positional.as_slice() {
                [(a, _), (b, _)] => self.elementwise(BinOp::Mod, a.clone(), b.clone(), span),
                _ => self.arity(name, "two values", span),
            },
            "sum" | "mean" | "prod" | "max" | "min" | "logsumexp" | "norm" => {
                self.reduction(scope, name, brackets, first, span)
            }
            _ if self.trace.is_none() => self.problem(
                Problem::new("E0310", span, format!("`{name}` works on tensors, inside methods"))
                    .help("tensors exist in `forward`, `update`, `of` and the functions they call"),
            ),
            "dot" => self.dot(scope, brackets, &args, span),
            "pick" => self.pick(scope, brackets, &args, span),
            "concat" => self.concat(scope, brackets, &args, span),
            "split" => self.split_record(scope, brackets, first, span),
            "topk" => self.topk(scope, brackets, &args, span),
            "argsort" | "cumsum" | "last" => {
                let Some(axes) = self.axes_of(scope, brackets, span) else { return Value::Error };
                let ([axis], Some(v)) = (axes.as_slice(), first) else {
                    return self.arity(name, "one axis and one value", span);
                };
                let Some(x) = self.tensor_node(v, span) else { return Value::Error };
                let b = self.t().b();
                let built = match name {
                    "argsort" => b.argsort(x, &axis.name),
                    "cumsum" => b.cumsum(x, &axis.name, false),
                    _ => {
                        let index = Affine { terms: vec![], offset: axis.size as i64 - 1 };
                        b.window(x, &axis.name, index, &[], 0.0)
                    }
                };
                self.built(built, span)
            }
            "stop" | "live" | "f32" | "bf16" => {
                let Some(x) = first.and_then(|v| self.tensor_node(v, span)) else {
                    return Value::Error;
                };
                let b = self.t().b();
                let node = match name {
                    "stop" => b.stop(x),
                    "f32" => b.cast(x, DType::F32),
                    "bf16" => b.cast(x, DType::Bf16),
                    _ => {
                        let zero = b.constant(0.0);
                        match b.binary(BinOp::Ne, x, zero) {
                            Ok(n) => n,
                            Err(m) => return self.misfit(m, span),
                        }
                    }
                };
                self.wrap(node)
            }
            _ => self.problem(Problem::new("E0201", span, format!("`{name}` is not known here"))),
        }
    }

    /// `a op b` with a tensor on at least one side.
    pub fn binary_tensor(&mut self, op: BinaryOp, a: Value, b: Value, span: Span) -> Value {
        let op = match op {
            BinaryOp::Add => BinOp::Add,
            BinaryOp::Sub => BinOp::Sub,
            BinaryOp::Mul => BinOp::Mul,
            BinaryOp::Div => BinOp::Div,
            BinaryOp::Pow => {
                if let Value::Number(q) = &b
                    && q.value == 2.0
                {
                    // x^2 is x * x: exact, and cheap everywhere.
                    return self.elementwise(BinOp::Mul, a.clone(), a, span);
                }
                BinOp::Pow
            }
            BinaryOp::And => BinOp::And,
            BinaryOp::Or => BinOp::Or,
        };
        self.elementwise(op, a, b, span)
    }

    /// `a op b` for comparisons of tensors.
    pub fn compare_tensor(&mut self, op: CompareOp, a: Value, b: Value, span: Span) -> Value {
        match op {
            CompareOp::Lt => self.elementwise(BinOp::Lt, a, b, span),
            CompareOp::Le => self.elementwise(BinOp::Le, a, b, span),
            CompareOp::Gt => self.elementwise(BinOp::Lt, b, a, span),
            CompareOp::Ge => self.elementwise(BinOp::Le, b, a, span),
            CompareOp::Eq => self.elementwise(BinOp::Eq, a, b, span),
            CompareOp::Ne => self.elementwise(BinOp::Ne, a, b, span),
            CompareOp::In => self.problem(
                Problem::new("E0302", span, "`in` does not work on tensors")
                    .help("write `a <= x and x <= b`"),
            ),
        }
    }

    /// `-x`, `not x`.
    pub fn unary_tensor(&mut self, op: UnaryOp, v: Value, span: Span) -> Value {
        let Some(x) = self.tensor_node(v, span) else { return Value::Error };
        let op = if op == UnaryOp::Neg { UnOp::Neg } else { UnOp::Not };
        let node = self.t().b().unary(op, x);
        self.wrap(node)
    }

    /// `if c then a else b` on tensors.
    pub fn select_tensor(&mut self, c: Value, a: Value, b: Value, span: Span) -> Value {
        let nodes = [c, a, b].map(|v| self.tensor_node(v, span));
        let [Some(c), Some(a), Some(b)] = nodes else { return Value::Error };
        let built = self.t().b().select(c, a, b);
        self.built(built, span)
    }

    fn elementwise(&mut self, op: BinOp, a: Value, b: Value, span: Span) -> Value {
        if let (Value::Number(x), Value::Number(y)) = (&a, &b) {
            let q = Quantity { value: op.eval(x.value, y.value), ..x.clone() };
            return Value::Number(q);
        }
        if let (Value::Later(l), _) | (_, Value::Later(l)) = (&a, &b) {
            return Value::Later(l.clone());
        }
        // A whole number beside integers stays an integer.
        let int = |this: &Self, v: &Value| match v {
            Value::Tensor(t) => this.trace.as_ref().is_some_and(|x| !x.ty(*t).dtype.is_float()),
            _ => true,
        };
        let ints = int(self, &a) && int(self, &b);
        let nodes = [a, b].map(|v| self.operand(v, ints, span));
        let [Some(a), Some(b)] = nodes else { return Value::Error };
        let built = self.t().b().binary(op, a, b);
        self.built(built, span)
    }

    fn operand(&mut self, v: Value, ints: bool, span: Span) -> Option<NodeId> {
        if let Value::Number(q) = &v
            && ints
            && q.value.fract() == 0.0
            && q.value.abs() < 1e9
        {
            self.trace.as_ref()?;
            return Some(self.t().b().integer(q.value as i64));
        }
        self.tensor_node(v, span)
    }

    /// The trace; callers have seen that there is one.
    pub(crate) fn t(&mut self) -> &mut super::Trace {
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

    fn arity(&mut self, name: &str, takes: &str, span: Span) -> Value {
        self.problem(Problem::new("E0308", span, format!("`{name}` takes {takes}")))
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

    fn reduction(
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
                    .help(format!("the value has {}", crate::graph::build::show(&ty.axes))),
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

    fn dot(&mut self, scope: &Scope, brackets: &[Bracket], args: &Args, span: Span) -> Value {
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

    /// Rounds a float to the compute dtype.
    pub fn to_compute(&mut self, x: NodeId) -> NodeId {
        let compute = self.t().compute;
        let b = self.t().b();
        b.cast(x, compute)
    }

    /// `pick[axis](x, index, outside = 0)`.
    fn pick(&mut self, scope: &Scope, brackets: &[Bracket], args: &Args, span: Span) -> Value {
        let [(x, _), (index, index_span)] = args.positional.as_slice() else {
            return self.arity("pick", "a value and an index: `pick[vocab](logits, target)`", span);
        };
        let Some(axes) = self.axes_of(scope, brackets, span) else { return Value::Error };
        let [axis] = axes.as_slice() else {
            return self.arity("pick", "one axis", span);
        };
        let outside = match args.named.get("outside") {
            Some((Value::Number(q), _)) => q.value,
            _ => 0.0,
        };
        let Some(x) = self.tensor_node(x.clone(), span) else { return Value::Error };
        let Some(index) = self.operand(index.clone(), true, *index_span) else {
            return Value::Error;
        };
        let affine = self.t().b().graph.node(index).ty.axes.clone();
        let form = affine_of(&self.t().b().graph, index);
        let built = match form {
            Some(index) => self.t().b().window(x, &axis.name, index, &affine, outside),
            None => self.t().b().gather(x, &axis.name, index),
        };
        self.built(built, span)
    }

    /// `concat[(a, b) -> c](x, y)`.
    fn concat(&mut self, scope: &Scope, brackets: &[Bracket], args: &Args, span: Span) -> Value {
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
    fn split_record(
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

    /// `topk[expert](p, k, by = p + bias)`: the values of `p` on the k largest of `by`, zero elsewhere.
    fn topk(&mut self, scope: &Scope, brackets: &[Bracket], args: &Args, span: Span) -> Value {
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

    /// `uniform(like = x)`, `normal(like = x)`; in an initialiser `normal(mean, std)`, `uniform(a, b)` over the weight's axes.
    fn draw(&mut self, name: &'static str, args: Args, span: Span) -> Value {
        if self.trace.is_none() {
            return self.problem(Problem::new("E0310", span, format!("`{name}` draws tensors")));
        }
        let dist = if name == "uniform" { Dist::Uniform } else { Dist::Normal };
        if let Some((like, _)) = args.named.get("like") {
            let Some(x) = self.tensor_node(like.clone(), span) else { return Value::Error };
            let axes = self.t().b().ty(x).axes.clone();
            let path = self.t().path();
            let ordinal = self.t().draws.entry(path.clone()).or_insert(0);
            *ordinal += 1;
            let stream = stream("noise", &path, *ordinal);
            return self.draw_over(dist, stream, &axes, span);
        }
        // An initialiser: its target axes are bound by the caller.
        let Some(Value::List(target)) = self.init_target() else {
            return self.problem(Problem::new(
                "E0310",
                span,
                format!("`{name}` needs a shape: `{name}(like = x)`"),
            ));
        };
        let Value::Text(path) = &target[0] else { return Value::Error };
        let stream = stream("init", path, 1);
        let axes = self.init_axes.clone();
        let draw = self.draw_over(dist, stream, &axes, span);
        let value = |i: usize, or: f64| {
            args.positional.get(i).map_or(Value::Number(Quantity::plain(or)), |(v, _)| v.clone())
        };
        let (a, b) = (value(0, 0.0), value(1, 1.0));
        let scale = match dist {
            Dist::Normal => b,
            Dist::Uniform => self.binary(BinaryOp::Sub, b, a.clone(), span),
        };
        let scaled = self.binary(BinaryOp::Mul, draw, scale, span);
        self.binary(BinaryOp::Add, scaled, a, span)
    }

    /// A draw for every element of the axes: counters are the row-major index over the layer's own axes (`batch` and `seq` by
    /// global coordinate), the index over the axes of the scans around, and 0.
    fn draw_over(&mut self, dist: Dist, stream: u64, axes: &[Axis], span: Span) -> Value {
        let mut index: Option<NodeId> = None;
        let outer: Vec<Axis> = self.t().levels.iter().filter_map(|l| l.axis.clone()).collect();
        let linear = |this: &mut Self, axes: &[Axis]| -> Result<Option<NodeId>, Misfit> {
            let mut index: Option<NodeId> = None;
            for a in axes {
                let level = this
                    .t()
                    .levels
                    .iter()
                    .position(|l| l.axis.as_ref().is_some_and(|x| x.name == a.name));
                let at = level.map_or(this.t().levels.len() - 1, |l| l - 1);
                let pos = this.t().levels[at].b.pos(a);
                let pos = this.t().here(Tensor { level: at as u32, node: pos });
                let b = this.t().b();
                index = Some(match index {
                    None => pos,
                    Some(i) => {
                        let n = b.integer(a.size as i64);
                        let i = b.binary(BinOp::Mul, i, n)?;
                        b.binary(BinOp::Add, i, pos)?
                    }
                });
            }
            Ok(index)
        };
        let mut sorted: Vec<Axis> = axes.to_vec();
        sorted.sort_by_key(|a| usize::from(a.name != "batch"));
        let mut layer = None;
        for (slot, list) in [(&mut index, &sorted), (&mut layer, &outer)] {
            match linear(self, list) {
                Ok(i) => *slot = i,
                Err(m) => return self.misfit(m, span),
            }
        }
        let zero = self.t().b().integer(0);
        let counters = [index.unwrap_or(zero), layer.unwrap_or(zero), zero];
        let built = self.t().b().random(dist, stream, counters);
        self.built(built, span)
    }

    fn init_target(&self) -> Option<Value> {
        let path = self.init_path.clone()?;
        Some(Value::List(Rc::new(vec![Value::Text(path.as_str().into())])))
    }

    /// Brackets on a tensor: renames, splits and merges of axes.
    pub fn rename_tensor(
        &mut self,
        scope: &Scope,
        v: Value,
        brackets: Vec<Bracket>,
        span: Span,
    ) -> Value {
        let Some(mut x) = self.tensor_node(v, span) else { return Value::Error };
        let mut renames: Vec<(Name, Name)> = Vec::new();
        for bracket in brackets {
            let Bracket::Arrow { from, to, span: at } = bracket else {
                return self.problem(
                    Problem::new(
                        "E0406",
                        span,
                        "brackets on a tensor rename its axes: `x[seq -> key]`",
                    )
                    .help("to read at an index write `pick[seq](x, index)`"),
                );
            };
            match (from.as_slice(), to.as_slice()) {
                ([(old, _)], [(new, _)]) => {
                    let Some(old) = self.axis_named(scope, old, at) else { return Value::Error };
                    let mode = self.t().mode;
                    if old.name == "seq"
                        && let Mode::Decode(capacity) = mode
                    {
                        match self.through_cache(scope, x, &old, new, capacity, at) {
                            Some(node) => x = node,
                            None => return Value::Error,
                        }
                        continue;
                    }
                    let new = self.t().local_axis(scope, new, old.size);
                    renames.push((old.name, new.name));
                }
                ([(old, _)], parts) => {
                    let Some(old) = self.axis_named(scope, old, at) else { return Value::Error };
                    let Some(into) = self.split_sizes(scope, &old, parts, at) else {
                        return Value::Error;
                    };
                    match self.t().b().split(x, &old.name, &into) {
                        Ok(n) => x = n,
                        Err(m) => return self.misfit(m, at),
                    }
                }
                (parts, [(new, _)]) => {
                    let mut names = Vec::new();
                    let mut size = 1;
                    for (p, _) in parts {
                        let Some(a) = self.axis_named(scope, p, at) else { return Value::Error };
                        size *= a.size;
                        names.push(a.name);
                    }
                    let into = self.t().local_axis(scope, new, size);
                    match self.t().b().merge(x, &names, &into.name) {
                        Ok(n) => x = n,
                        Err(m) => return self.misfit(m, at),
                    }
                }
                _ => {
                    return self.problem(Problem::new(
                        "E0406",
                        at,
                        "several axes become one, or one becomes several",
                    ));
                }
            }
        }
        if renames.is_empty() {
            return self.wrap(x);
        }
        let built = self.t().b().rename(x, &renames);
        self.built(built, span)
    }

    fn split_sizes(
        &mut self,
        scope: &Scope,
        old: &Axis,
        parts: &[(Rc<str>, Option<usize>)],
        span: Span,
    ) -> Option<Vec<Axis>> {
        let mut sizes: Vec<Option<usize>> = parts
            .iter()
            .map(|(name, size)| {
                size.or_else(|| {
                    let t = self.trace.as_ref()?;
                    // A model's axis gives the size; a leftover local name does not.
                    t.axes
                        .get(&**name)
                        .map(|a| a.axis.size)
                        .or_else(|| scope.axis(name).map(|a| a.axis.size))
                })
            })
            .collect();
        let known: usize = sizes.iter().flatten().product();
        let missing = sizes.iter().filter(|s| s.is_none()).count();
        if missing > 1 || known == 0 || !old.size.is_multiple_of(known) {
            let names: Vec<&str> = parts.iter().map(|(n, _)| &**n).collect();
            self.problem(
                Problem::new(
                    "E0408",
                    span,
                    format!("`{}` = {} cannot become ({})", old.name, old.size, names.join(", ")),
                )
                .help("write sizes: `x[dh -> (two = 2, half)]`; one may be left out"),
            );
            return None;
        }
        for s in &mut sizes {
            if s.is_none() {
                *s = Some(old.size / known);
            }
        }
        let axes = parts
            .iter()
            .zip(sizes)
            .map(|((name, _), s)| self.t().local_axis(scope, name, s.unwrap_or(1)))
            .collect();
        Some(axes)
    }

    /// `x[seq -> key]` while decoding: the new rows are written into a cache, and the value is the whole cache.
    fn through_cache(
        &mut self,
        scope: &Scope,
        x: NodeId,
        seq: &Axis,
        new: &str,
        capacity: usize,
        span: Span,
    ) -> Option<NodeId> {
        let key = self.t().local_axis(scope, new, capacity);
        let path = self.t().path();
        let trace = self.t();
        let n = trace.caches.keys().filter(|k| k.starts_with(&format!("cache:{path}#"))).count();
        let name = format!("cache:{path}#{n}");
        let ty = trace.b().ty(x).clone();
        let mut axes: Vec<Axis> = trace.levels.iter().filter_map(|l| l.axis.clone()).collect();
        axes.extend(
            ty.axes.iter().map(|a| if a.name == seq.name { key.clone() } else { a.clone() }),
        );
        // Length 1 axes of a lone sequence stay: the cache has the axes of what it holds.
        let cache_ty = Type::new(ty.dtype, axes);
        trace.caches.insert(name.clone(), cache_ty.clone());
        let cache = trace.levels[0].b.input(name.as_str(), cache_ty, Role::State);
        let cache = trace.here(Tensor { level: 0, node: cache });
        let b = trace.b();
        let renamed = rename_size(b, x, seq, &key);
        let start = b.runtime(Runtime::Position);
        let updated = match b.update(cache, &key.name, renamed, start) {
            Ok(n) => n,
            Err(m) => {
                self.misfit(m, span);
                return None;
            }
        };
        let level = self.t().levels.last_mut().expect("a trace has a level");
        level.emits.push(super::Emit { name, kind: EmitKind::Cache, node: updated });
        Some(updated)
    }
}

/// `x` with axis `seq` under the name of `key`, keeping its own size: what is written into a cache is shorter than the cache.
fn rename_size(b: &mut crate::graph::build::Builder, x: NodeId, seq: &Axis, key: &Axis) -> NodeId {
    let ty = b.ty(x).clone();
    let axes = ty
        .axes
        .iter()
        .map(|a| {
            if a.name == seq.name {
                Axis { name: key.name.clone(), size: a.size }
            } else {
                a.clone()
            }
        })
        .collect();
    let op = Op::Rename(vec![(seq.name.clone(), key.name.clone())]);
    b.raw(op, vec![x], Type::new(ty.dtype, axes))
}

/// `offset + Σ coefficient * pos(axis)`, if a node is that.
fn affine_of(graph: &crate::graph::Graph, id: NodeId) -> Option<Affine> {
    let node = graph.node(id);
    let at = |i: usize| affine_of(graph, node.inputs[i]);
    let scaled = |a: Affine, k: i64| Affine {
        terms: a.terms.into_iter().map(|(n, c)| (n, c * k)).filter(|(_, c)| *c != 0).collect(),
        offset: a.offset * k,
    };
    match &node.op {
        Op::Const(l) if l.get().fract() == 0.0 => {
            Some(Affine { terms: vec![], offset: Literal::get(*l) as i64 })
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

/// The stream of a draw: purpose, layer path, ordinal (FNV-1a, stable across platforms).
pub fn stream(purpose: &str, path: &str, ordinal: u32) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in format!("{purpose}\0{path}\0{ordinal}").bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
