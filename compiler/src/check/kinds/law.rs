//! Expressions over rows of numbers, as scalar programs: both sides of a law, weights, conditions, columns that are computed.
//!
//! Takes what was written and the scope it was written in; gives instructions over arguments. `.name` is a column, a declared constant
//! an argument, another name its value (quantities as plain numbers in base units, semantics 7). Functions and laws of the file or the
//! library are written out where they are called: a formula has no calls.

use indexmap::{IndexMap, IndexSet};

use super::super::eval::{Eval, describe};
use super::super::value::{Def, DefKind, Scope, Value};
use crate::law::{Constant, Formula, Law};
use crate::problem::{Problem, did_you_mean};
use crate::scalar::{BinOp, Expr as Scalar, Inst, Literal, Ref, UnOp};
use crate::source::Span;
use crate::syntax::ast::{
    Arg, BinaryOp, Block, Body, CompareOp, Expr, ExprKind, ItemKind, Pattern, TypeKind, UnaryOp,
};

/// Functions of one number.
const UNARY: &[(&str, UnOp)] = &[
    ("abs", UnOp::Abs),
    ("ceil", UnOp::Ceil),
    ("cos", UnOp::Cos),
    ("erf", UnOp::Erf),
    ("exp", UnOp::Exp),
    ("floor", UnOp::Floor),
    ("is_finite", UnOp::IsFinite),
    ("log", UnOp::Log),
    ("round", UnOp::Round),
    ("sigmoid", UnOp::Sigmoid),
    ("sign", UnOp::Sign),
    ("sin", UnOp::Sin),
    ("sqrt", UnOp::Sqrt),
    ("tanh", UnOp::Tanh),
];

/// Functions of several numbers, from left to right.
const FOLDS: &[(&str, BinOp)] = &[("max", BinOp::Max), ("min", BinOp::Min), ("mod", BinOp::Mod)];

/// Columns stand behind the constants, whose number is known only at the end: until then they count from here.
const FIRST_COLUMN: u32 = 1 << 16;

/// `left ~ right` with the constants of `free`, or those that a called law declares. `None`: a problem was reported.
pub(super) fn law(
    eval: &mut Eval<'_>,
    scope: &Scope,
    (left, right): (&Expr, &Expr),
    free: IndexMap<String, (f64, f64)>,
) -> Option<Law> {
    let mut w = Writer::default();
    for (name, (low, high)) in free {
        w.constants.push(Constant { name, low, high });
    }
    let measured = w.expr(eval, scope, left)?;
    let measured = w.take(measured);
    let formula = w.expr(eval, scope, right)?;
    let formula = w.take(formula);
    let first = w.constants.len() as u32;
    Some(Law {
        measured: moved(&measured, first),
        formula: moved(&formula, first),
        constants: w.constants,
        columns: w.columns.into_iter().collect(),
        text: eval.sources.text(right.span).to_owned(),
    })
}

/// An expression over columns alone. `None`: a problem was reported.
pub(super) fn formula(eval: &mut Eval<'_>, scope: &Scope, e: &Expr) -> Option<Formula> {
    let mut w = Writer::default();
    let result = w.expr(eval, scope, e)?;
    let expr = moved(&w.take(result), 0);
    Some(Formula { columns: w.columns.into_iter().collect(), expr })
}

/// A formula being written.
#[derive(Default)]
struct Writer {
    constants: Vec<Constant>,
    columns: IndexSet<String>,
    out: Vec<Inst>,
    /// Names of the definitions that are being written out, each with what its names stand for.
    frames: Vec<(String, IndexMap<String, Ref>)>,
}

impl Writer {
    fn push(&mut self, inst: Inst) -> Ref {
        if let Some(at) = self.out.iter().position(|i| *i == inst) {
            return at as Ref;
        }
        self.out.push(inst);
        self.out.len() as Ref - 1
    }

    fn number(&mut self, value: f64) -> Ref {
        self.push(Inst::Const(Literal::new(value)))
    }

    fn take(&mut self, result: Ref) -> Scalar {
        Scalar { insts: std::mem::take(&mut self.out), result }
    }

    fn column(&mut self, name: &str) -> Ref {
        let (at, _) = self.columns.insert_full(name.to_owned());
        self.push(Inst::Arg(FIRST_COLUMN + at as u32))
    }

    fn expr(&mut self, eval: &mut Eval<'_>, scope: &Scope, e: &Expr) -> Option<Ref> {
        match &*e.kind {
            ExprKind::Dot(id) => Some(self.column(&id.name)),
            ExprKind::Name(name) => self.name(eval, scope, name, e),
            ExprKind::Unary { op, value } => {
                let a = self.expr(eval, scope, value)?;
                let op = match op {
                    UnaryOp::Neg => UnOp::Neg,
                    UnaryOp::Not => UnOp::Not,
                };
                Some(self.push(Inst::Unary(op, a)))
            }
            ExprKind::Binary { op, left, right, .. } => {
                let (a, b) = (self.expr(eval, scope, left)?, self.expr(eval, scope, right)?);
                let op = match op {
                    BinaryOp::Add => BinOp::Add,
                    BinaryOp::Sub => BinOp::Sub,
                    BinaryOp::Mul => BinOp::Mul,
                    BinaryOp::Div => BinOp::Div,
                    BinaryOp::Pow => BinOp::Pow,
                    BinaryOp::And => BinOp::And,
                    BinaryOp::Or => BinOp::Or,
                };
                Some(self.push(Inst::Binary(op, a, b)))
            }
            ExprKind::Compare { first, rest } => self.compare(eval, scope, first, rest),
            ExprKind::If { condition, then, otherwise } => {
                let c = self.expr(eval, scope, condition)?;
                let (a, b) = (self.expr(eval, scope, then)?, self.expr(eval, scope, otherwise)?);
                Some(self.push(Inst::Select(c, a, b)))
            }
            ExprKind::Block(block) => {
                self.frames.push((String::new(), IndexMap::new()));
                let r = self.block(eval, scope, block);
                self.frames.pop();
                r
            }
            ExprKind::Call { callee, args } => self.call(eval, scope, callee, args, e.span),
            ExprKind::Number { .. } | ExprKind::Bool(_) | ExprKind::Member { .. } => {
                let v = eval.expr(scope, e);
                self.value(eval, v, e.span)
            }
            ExprKind::Text(_)
            | ExprKind::None
            | ExprKind::List { .. }
            | ExprKind::Comprehension { .. }
            | ExprKind::Index { .. }
            | ExprKind::Range { .. }
            | ExprKind::Pipe { .. }
            | ExprKind::With { .. }
            | ExprKind::Match { .. }
            | ExprKind::Scan { .. }
            | ExprKind::Law { .. } => {
                let p = Problem::new("E0703", e.span, "a formula over rows has no such expression");
                eval.problem(p.help("it is made of numbers, columns, arithmetic, comparisons, `if`, `let` and calls of functions of numbers"));
                None
            }
            ExprKind::Error => None,
        }
    }

    fn name(&mut self, eval: &mut Eval<'_>, scope: &Scope, name: &str, e: &Expr) -> Option<Ref> {
        for (definition, names) in self.frames.iter().rev() {
            if let Some(r) = names.get(name) {
                return Some(*r);
            }
            // The names of whoever calls are not in sight of a definition.
            if !definition.is_empty() {
                let v = eval.expr(scope, e);
                return self.value(eval, v, e.span);
            }
        }
        if let Some(at) = self.constants.iter().position(|c| c.name == name) {
            return Some(self.push(Inst::Arg(at as u32)));
        }
        let v = eval.expr(scope, e);
        self.value(eval, v, e.span)
    }

    fn value(&mut self, eval: &mut Eval<'_>, v: Value, span: Span) -> Option<Ref> {
        match v {
            Value::Number(q) => Some(self.number(q.value)),
            Value::Bool(b) => Some(self.number(f64::from(b))),
            Value::Error => None,
            other => {
                let text = format!("a formula is made of numbers, this is {}", describe(&other));
                eval.problem(Problem::new("E0703", span, text));
                None
            }
        }
    }

    fn compare(
        &mut self,
        eval: &mut Eval<'_>,
        scope: &Scope,
        first: &Expr,
        rest: &[(CompareOp, Span, Expr)],
    ) -> Option<Ref> {
        let mut left = self.expr(eval, scope, first)?;
        let mut all = None;
        for (op, _, right) in rest {
            let r = if let (CompareOp::In, ExprKind::Range { from, to }) = (op, &*right.kind) {
                let (low, high) = match eval.expr(scope, right) {
                    Value::Range(a, b) => (self.number(a.value), self.number(b.value)),
                    _ => (self.expr(eval, scope, from)?, self.expr(eval, scope, to)?),
                };
                let above = self.push(Inst::Binary(BinOp::Le, low, left));
                let below = self.push(Inst::Binary(BinOp::Le, left, high));
                self.push(Inst::Binary(BinOp::And, above, below))
            } else {
                let right = self.expr(eval, scope, right)?;
                let (op, a, b) = match op {
                    CompareOp::Eq => (BinOp::Eq, left, right),
                    CompareOp::Ne => (BinOp::Ne, left, right),
                    CompareOp::Lt => (BinOp::Lt, left, right),
                    CompareOp::Le | CompareOp::In => (BinOp::Le, left, right),
                    CompareOp::Gt => (BinOp::Lt, right, left),
                    CompareOp::Ge => (BinOp::Le, right, left),
                };
                left = right;
                self.push(Inst::Binary(op, a, b))
            };
            all = Some(match all {
                None => r,
                Some(all) => self.push(Inst::Binary(BinOp::And, all, r)),
            });
        }
        all
    }

    /// The value of a block of `let`s.
    fn block(&mut self, eval: &mut Eval<'_>, scope: &Scope, block: &Block) -> Option<Ref> {
        let mut last = None;
        for item in &block.items {
            match &item.kind {
                ItemKind::Let { pattern: Pattern::Name(id), value, .. } => {
                    let r = self.expr(eval, scope, value)?;
                    if let Some((_, names)) = self.frames.last_mut() {
                        names.insert(id.name.clone(), r);
                    }
                }
                ItemKind::Expr(e) => last = Some(self.expr(eval, scope, e)?),
                _ => {
                    let text = "a formula has only `let`s and, at the end, its value";
                    eval.problem(Problem::new("E0703", item.span, text));
                    return None;
                }
            }
        }
        if last.is_none() {
            let p = Problem::new("E0703", block.span, "this formula has no value");
            eval.problem(p.help("the last line is the value"));
        }
        last
    }

    fn call(
        &mut self,
        eval: &mut Eval<'_>,
        scope: &Scope,
        callee: &Expr,
        args: &[Arg],
        span: Span,
    ) -> Option<Ref> {
        match eval.expr(scope, callee) {
            Value::Builtin(name) => {
                let mut values = Vec::new();
                for a in args {
                    values.push(self.expr(eval, scope, &a.value)?);
                }
                if let (Some((_, op)), [a]) = (UNARY.iter().find(|(n, _)| *n == name), &values[..])
                {
                    return Some(self.push(Inst::Unary(*op, *a)));
                }
                if let Some((_, op)) = FOLDS.iter().find(|(n, _)| *n == name)
                    && let [first, rest @ ..] = &values[..]
                    && !rest.is_empty()
                {
                    let fold =
                        rest.iter().fold(*first, |all, r| self.push(Inst::Binary(*op, all, *r)));
                    return Some(fold);
                }
                let known = UNARY.iter().map(|(n, _)| *n).chain(FOLDS.iter().map(|(n, _)| *n));
                let names: Vec<&str> = known.collect();
                let text = format!("`{name}` is no function of {} numbers", args.len());
                let p = Problem::new("E0703", span, text);
                eval.problem(p.help(format!("formulas know {}", names.join(", "))));
                None
            }
            Value::Def(d) if matches!(d.kind, DefKind::Fn | DefKind::Law) => {
                self.written_out(eval, scope, &d, args, span)
            }
            Value::Error => None,
            other => {
                let text = format!("a formula calls functions, this is {}", describe(&other));
                eval.problem(Problem::new("E0703", span, text));
                None
            }
        }
    }

    fn written_out(
        &mut self,
        eval: &mut Eval<'_>,
        scope: &Scope,
        d: &Def,
        args: &[Arg],
        span: Span,
    ) -> Option<Ref> {
        if self.frames.iter().any(|(name, _)| *name == d.name) {
            eval.problem(Problem::new("E0206", span, format!("`{}` calls itself", d.name)));
            return None;
        }
        let mut names = IndexMap::new();
        let positional: Vec<&Arg> = args.iter().filter(|a| a.name.is_none()).collect();
        if positional.len() > d.params.len() {
            let text = format!("`{}` takes {} values", d.name, d.params.len());
            eval.problem(Problem::new("E0308", span, text));
            return None;
        }
        for a in args.iter().filter_map(|a| a.name.as_ref()) {
            if !d.params.iter().any(|p| p.name.name == a.name) {
                let known: Vec<&str> = d.params.iter().map(|p| p.name.name.as_str()).collect();
                let text = format!("no argument `{}` in `{}`", a.name, d.name);
                let mut p = Problem::new("E0203", a.span, text);
                if let Some(near) = did_you_mean(&a.name, known.iter().copied()) {
                    p = p.at(format!("did you mean `{near}`?")).fix(a.span, near);
                }
                eval.problem(p);
                return None;
            }
        }
        for (i, p) in d.params.iter().enumerate() {
            let name = &p.name.name;
            let given = positional
                .get(i)
                .copied()
                .or_else(|| args.iter().find(|a| a.name.as_ref().is_some_and(|n| n.name == *name)));
            let r = match (given, p.ty.as_ref().map(|t| &t.kind), &p.default) {
                (Some(a), _, _) => self.expr(eval, scope, &a.value)?,
                (None, Some(TypeKind::Range { from, to }), None) if d.kind == DefKind::Law => {
                    let (low, high) = (eval.expr(&d.scope, from), eval.expr(&d.scope, to));
                    let (Value::Number(low), Value::Number(high)) = (low, high) else {
                        return None;
                    };
                    self.constant(name, low.value, high.value)
                }
                (None, _, Some(default)) => {
                    let v = eval.expr(&d.scope, default);
                    self.value(eval, v, default.span)?
                }
                (None, _, None) => {
                    let text = format!("`{}` needs a value for `{name}`", d.name);
                    let p = Problem::new("E0309", span, text).label(p.name.span, "declared here");
                    eval.problem(p);
                    return None;
                }
            };
            names.insert(name.clone(), r);
        }
        self.frames.push((d.name.clone(), names));
        let r = match &d.body {
            Body::Expr(e) => self.expr(eval, &d.scope, e),
            Body::Block(b) => self.block(eval, &d.scope, b),
        };
        self.frames.pop();
        r
    }

    fn constant(&mut self, name: &str, low: f64, high: f64) -> Ref {
        let at = match self.constants.iter().position(|c| c.name == name) {
            Some(at) => at,
            None => {
                self.constants.push(Constant { name: name.to_owned(), low, high });
                self.constants.len() - 1
            }
        };
        self.push(Inst::Arg(at as u32))
    }
}

/// The columns moved to where the constants end.
fn moved(e: &Scalar, first: u32) -> Scalar {
    let insts = e.insts.iter().map(|inst| match inst {
        Inst::Arg(i) if *i >= FIRST_COLUMN => Inst::Arg(i - FIRST_COLUMN + first),
        other => other.clone(),
    });
    Scalar { insts: insts.collect(), result: e.result }
}
