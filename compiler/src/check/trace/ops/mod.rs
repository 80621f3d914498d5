//! The operations of the language on tensors: operators, and the calls of the prelude that are written in Rust.
//!
//! Rounding points (semantics 4) are put in here, before any fusion: operands and results of `dot` and `attend` have the compute
//! dtype; maps, reductions and norms are f32.

mod draw;
mod elementwise;
mod parts;
mod reduce;
mod rename;
mod tensor;

use crate::check::call::Args;
use crate::check::eval::Eval;
use crate::check::value::{Bracket, Quantity, Scope, Value};
use crate::graph::{Affine, BinOp, DType, UnOp};
use crate::problem::Problem;
use crate::source::Span;
pub use draw::stream;

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

    fn arity(&mut self, name: &str, takes: &str, span: Span) -> Value {
        self.problem(Problem::new("E0308", span, format!("`{name}` takes {takes}")))
    }
}
