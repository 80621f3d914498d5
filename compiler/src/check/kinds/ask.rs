//! Questions to a fitted law: `chinchilla.optimum(C)`, `chinchilla.predict(params = N, tokens = D)`.
//!
//! Takes the call; gives a record of what is known, or a value that is known after the fit. What is asked is written down as a
//! [`FitAsk`]: whoever runs the fit answers it with facts, and the next check finds them here. So an optimum can decide the size of
//! a model that is trained later.

use indexmap::IndexMap;
use std::rc::Rc;

use super::super::eval::{Eval, describe};
use super::super::hir::FitAsk;
use super::super::units::{self, Unit};
use super::super::value::{Later, NodeValue, Quantity, Record, RowExpr, Scope, Value};
use super::{later_of, law};
use crate::law::Formula;
use crate::problem::{Problem, did_you_mean};
use crate::scalar::{BinOp, Expr, Inst, Literal, UnOp};
use crate::source::Span;
use crate::syntax;
use crate::syntax::ast::{self, CompareOp, ExprKind};

/// Fields of an answer, with their units.
const FIELDS: &[(&str, &[&str])] =
    &[("params", &["params"]), ("tokens", &["tokens"]), ("loss", &[]), ("goal", &[])];

/// Intervals of each: of the curve, and of a single run (which only a loss has).
const INTERVALS: &[&str] = &["ci80", "ci95", "pi80", "pi95"];

/// The fields that the answer to a question may have, by the question's name. Whether it has intervals depends on the fit.
pub fn answer_fields(asked: &str) -> Vec<String> {
    let optimum = asked.starts_with("optimum");
    let has = |name: &str| optimum || name == "loss";
    let mut all = Vec::new();
    for (name, _) in FIELDS.iter().filter(|(name, _)| has(name)) {
        all.push((*name).to_owned());
        let has = |i: &&&str| *name == "loss" || i.starts_with("ci");
        all.extend(INTERVALS.iter().filter(has).map(|i| format!("{name}_{i}")));
    }
    all
}

/// A call of `optimum` or `predict`.
pub fn ask(
    eval: &mut Eval<'_>,
    scope: &Scope,
    n: &NodeValue,
    method: &ast::Ident,
    args: &[ast::Arg],
    span: Span,
) -> Value {
    let Some(ask) = question(eval, n, scope, method, args, span) else { return Value::Error };
    let ask = match ask {
        Ok(ask) => ask,
        // An argument is itself known later.
        Err(later) => return later,
    };
    let answer = answer(eval, n, &ask);
    let all = eval.asks.entry(n.name.to_string()).or_default();
    if !all.iter().any(|a| a.key == ask.key) {
        all.push(ask.clone());
    }
    answer.unwrap_or_else(|| {
        let (node, declared) = (n.name.clone(), n.span);
        Value::Later(Rc::new(Later { node, what: ask.key, unit: Unit::none(), declared }))
    })
}

/// The facts of an answer, as a record.
fn answer(eval: &Eval<'_>, n: &NodeValue, ask: &FitAsk) -> Option<Value> {
    let fact = |field: &str| eval.world.fact(&n.name, &format!("{}.{field}", ask.key));
    let mut record = Record::default();
    for (name, unit) in FIELDS {
        let unit = unit.iter().fold(Unit::none(), |u, b| u.times(&Unit::base(b), 1));
        let number = |value: f64| Quantity { unit: unit.clone(), ..Quantity::plain(value) };
        let Some(value) = fact(name) else { continue };
        record.set(name, Value::Number(number(value)), None);
        for share in INTERVALS {
            let ends =
                (fact(&format!("{name}.{share}.low")), fact(&format!("{name}.{share}.high")));
            if let (Some(low), Some(high)) = ends {
                let range = Value::Range(number(low), number(high));
                record.set(&format!("{name}_{share}"), range, None);
            }
        }
    }
    record.get("loss").is_some().then(|| Value::Record(Rc::new(record)))
}

/// What is asked. `None`: a problem was reported; `Some(Err(..))`: an argument is known later.
fn question(
    eval: &mut Eval<'_>,
    n: &NodeValue,
    scope: &Scope,
    method: &ast::Ident,
    args: &[ast::Arg],
    span: Span,
) -> Option<Result<FitAsk, Value>> {
    let mut ask =
        FitAsk { key: String::new(), goal: None, limits: Vec::new(), given: IndexMap::new() };
    let optimum = method.name == "optimum";
    let mut words = Vec::new();
    for a in args {
        let name = a.name.as_ref().map(|n| n.name.as_str());
        let v = eval.expr(scope, &a.value);
        if later_of(&v).is_some() {
            return Some(Err(v));
        }
        match (name, v) {
            (_, Value::Error) => return None,
            (None | Some("flops"), Value::Number(q)) if optimum && ask.limits.is_empty() => {
                if units::name(&q.unit) != "FLOPs" {
                    let text = format!("`optimum` takes FLOPs, this is {}", units::show(&q));
                    eval.problem(Problem::new("E0704", a.value.span, text));
                    return None;
                }
                words.push(format!("{:e}", q.value));
                ask.goal = Some(loss());
                ask.limits.push(within_compute(q.value));
            }
            (Some("minimize"), Value::Row(r)) if optimum => {
                words.push(format!("minimize = {}", syntax::canonical(&r.expr).trim()));
                ask.goal = Some(law::formula(eval, &r.scope, &r.expr)?);
            }
            (Some("such_that"), Value::Row(r)) if optimum => {
                words.push(format!("such_that = {}", syntax::canonical(&r.expr).trim()));
                limits(eval, &r, &r.expr, &mut ask.limits)?;
            }
            (Some(name), Value::Number(q)) => {
                let name = column_of(n, name);
                words.push(format!("{name} = {:e}", q.value));
                ask.given.insert(name.to_owned(), q.value);
            }
            (name, other) => {
                let known = ["minimize", "such_that"];
                let mut p = Problem::new(
                    "E0704",
                    a.value.span,
                    format!("`{}` cannot use {}", method.name, describe(&other)),
                );
                if let Some(near) = name.and_then(|n| did_you_mean(n, known)) {
                    p = p.help(format!("did you mean `{near}`?"));
                }
                p = p.help("write `optimum(1e18 FLOPs)`, `optimum(minimize = .., such_that = .loss <= 2.8)` or `predict(params = 1e9, tokens = 2e10)`");
                eval.problem(p);
                return None;
            }
        }
    }
    if optimum && ask.goal.is_none() {
        let p = Problem::new("E0704", span, "`optimum` needs compute, or what is to be smallest");
        eval.problem(
            p.help("write `optimum(1e18 FLOPs)` or `optimum(minimize = .., such_that = ..)`"),
        );
        return None;
    }
    ask.key = format!("{}({})", method.name, words.join(", "));
    Some(Ok(ask))
}

/// The column that a parameter of the fit's law stands for: `U` is `unique_tokens` in `law(U = .unique_tokens)`. Columns are named as they are.
fn column_of<'n>(n: &'n NodeValue, name: &'n str) -> &'n str {
    let Some(Value::Row(row)) = n.fields.get("law") else { return name };
    let ExprKind::Law { right, .. } = &*row.expr.kind else { return name };
    let ExprKind::Call { args, .. } = &*right.kind else { return name };
    let arg = args.iter().find(|a| a.name.as_ref().is_some_and(|id| id.name == name));
    match arg.map(|a| &*a.value.kind) {
        Some(ExprKind::Dot(column)) => &column.name,
        _ => name,
    }
}

/// `a <= b`, joined by `and`, as expressions that are at most zero.
fn limits(eval: &mut Eval<'_>, row: &RowExpr, e: &ast::Expr, out: &mut Vec<Formula>) -> Option<()> {
    match &*e.kind {
        ExprKind::Binary { op: ast::BinaryOp::And, left, right, .. } => {
            limits(eval, row, left, out)?;
            limits(eval, row, right, out)
        }
        ExprKind::Compare { first, rest } => {
            let mut left = first;
            for (op, span, right) in rest {
                let (small, large) = match op {
                    CompareOp::Le | CompareOp::Lt => (left, right),
                    CompareOp::Ge | CompareOp::Gt => (right, left),
                    CompareOp::Eq | CompareOp::Ne | CompareOp::In => {
                        let p = Problem::new("E0704", *span, "a limit is `<=` or `>=`");
                        eval.problem(p.help("for example `such_that = .loss <= 2.8`"));
                        return None;
                    }
                };
                let difference = ast::Expr {
                    kind: Box::new(ExprKind::Binary {
                        op: ast::BinaryOp::Sub,
                        op_span: *span,
                        left: small.clone(),
                        right: large.clone(),
                    }),
                    span: e.span,
                };
                out.push(law::formula(eval, &row.scope, &difference)?);
                left = right;
            }
            Some(())
        }
        _ => {
            let p = Problem::new("E0704", e.span, "a limit is a comparison");
            eval.problem(p.help("for example `such_that = .loss <= 2.8`"));
            None
        }
    }
}

fn loss() -> Formula {
    Formula { columns: vec!["loss".into()], expr: Expr::arg(0) }
}

/// ln(6 params tokens / C) <= 0 (6 FLOPs for each parameter and token; Kaplan et al. 2020).
fn within_compute(flops: f64) -> Formula {
    let mut expr = Expr { insts: vec![Inst::Arg(0), Inst::Arg(1)], result: 0 };
    let product = expr.push(Inst::Binary(BinOp::Mul, 0, 1));
    let six = expr.push(Inst::Const(Literal::new(6.0 / flops)));
    let share = expr.push(Inst::Binary(BinOp::Mul, six, product));
    expr.result = expr.push(Inst::Unary(UnOp::Log, share));
    Formula { columns: vec!["params".into(), "tokens".into()], expr }
}
