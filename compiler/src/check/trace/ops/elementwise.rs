//! Operators with a tensor on at least one side: one element of the result for each element of the operands.

use crate::check::eval::Eval;
use crate::check::value::{Quantity, Value};
use crate::graph::{BinOp, NodeId, UnOp};
use crate::problem::Problem;
use crate::source::Span;
use crate::syntax::ast::{BinaryOp, CompareOp, UnaryOp};

impl Eval<'_> {
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

    pub(super) fn elementwise(&mut self, op: BinOp, a: Value, b: Value, span: Span) -> Value {
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

    pub(super) fn operand(&mut self, v: Value, ints: bool, span: Span) -> Option<NodeId> {
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
}
