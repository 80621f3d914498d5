//! Fits: a law over runs, and its constants.
//!
//! A constant is named where it may be found: in `free`, or as a parameter of a `law` that has a range for its type. A name that is
//! neither is a misspelling; it would otherwise become one more constant in silence (semantics 7).

use super::super::eval::Eval;
use super::super::rows;
use super::super::value::{DefKind, NodeValue, RowExpr, Value};
use super::schema;
use crate::problem::{Problem, did_you_mean};
use crate::source::Span;
use crate::syntax::ast::{Arg, Expr, ExprKind, Ident, ItemKind, TypeKind};

/// Columns of a table of runs beside the settings of `train` and what the nodes know.
const COLUMNS: &[&str] = &[
    "name",
    "params_active",
    "params_non_embedding",
    "epochs",
    "unique_tokens",
    "grad_norm",
    "micro_grad_norm",
    "lr",
    "executed_flops",
    "forward_flops",
];

/// The names of the constants of a fit, in order.
pub(super) fn constants(eval: &mut Eval<'_>, n: &NodeValue) -> Vec<String> {
    if let Some(Value::Record(free)) = n.fields.get("free") {
        return free.fields.keys().cloned().collect();
    }
    let Some((_, right, law)) = law_of(n) else { return Vec::new() };
    let ExprKind::Call { callee, .. } = &*right.kind else { return Vec::new() };
    match eval.expr(&law.scope, callee) {
        Value::Def(d) if d.kind == DefKind::Law => d
            .params
            .iter()
            .filter(|p| p.ty.as_ref().is_some_and(|t| matches!(t.kind, TypeKind::Range { .. })))
            .map(|p| p.name.name.clone())
            .collect(),
        _ => Vec::new(),
    }
}

fn law_of(n: &NodeValue) -> Option<(&Expr, &Expr, &RowExpr)> {
    let Some(Value::Row(law)) = n.fields.get("law") else { return None };
    match &*law.expr.kind {
        ExprKind::Law { left, right } => Some((left, right, law)),
        _ => None,
    }
}

/// Judges the law of a fit. False: it means nothing.
pub(super) fn check(eval: &mut Eval<'_>, n: &NodeValue) -> bool {
    let Some((left, right, law)) = law_of(n) else {
        let span = n.fields.fields.get("law").and_then(|(_, s)| *s).unwrap_or(n.span);
        let p = Problem::new("E0701", span, "a law says what it explains: `.valid_loss ~ ..`");
        eval.problem(p.help("left of `~` stands a result of the runs, right of it the formula"));
        return false;
    };
    let mut names = Vec::new();
    rows::names(right, &mut names);
    let mut fine = true;
    let mut asked = Vec::new();
    rows::fields(left, &mut asked);
    if asked.is_empty() {
        let p = Problem::new("E0701", left.span, "the left side of `~` is a result of the runs");
        eval.problem(p.help("for example `.valid_loss ~ ..` or `log(.valid_loss) ~ ..`"));
        fine = false;
    }
    rows::fields(right, &mut asked);
    for id in asked {
        fine &= column(eval, n, id);
    }
    let free = match n.fields.get("free") {
        Some(Value::Record(r)) => Some(r.clone()),
        _ => None,
    };
    if let ExprKind::Call { callee, args } = &*right.kind
        && let ExprKind::Name(_) = &*callee.kind
        && let Value::Def(d) = eval.expr(&law.scope, callee)
        && d.kind == DefKind::Law
    {
        return call_of_law(eval, &d.name, &d.params, args, right.span) && fine;
    }
    let known: Vec<&str> = free.iter().flat_map(|r| r.fields.keys()).map(String::as_str).collect();
    for id in &names {
        let in_sight =
            law.scope.get(&id.name).is_some() || eval.knows(law.scope.0.module, &id.name);
        if known.contains(&id.name.as_str()) || in_sight {
            continue;
        }
        let text = format!("`{}` is no constant of this law", id.name);
        let mut p = Problem::new("E0702", id.span, text);
        match did_you_mean(&id.name, known.iter().copied()) {
            Some(near) => p = p.at(format!("did you mean `{near}`?")).fix(id.span, near),
            None => {
                p = p.help(format!(
                    "constants to be found stand in `free`: `free = {{ {} = 0.1..5 }}`",
                    id.name
                ));
            }
        }
        eval.problem(p);
        fine = false;
    }
    for (name, (_, span)) in free.iter().flat_map(|r| r.fields.iter()) {
        if !names.iter().any(|id| id.name == *name) {
            let text = format!("the law does not use `{name}`");
            eval.problem(Problem::new("E0702", span.unwrap_or(n.span), text));
            fine = false;
        }
    }
    fine
}

fn call_of_law(
    eval: &mut Eval<'_>,
    name: &str,
    params: &[crate::syntax::ast::Param],
    args: &[Arg],
    span: Span,
) -> bool {
    let mut fine = true;
    for a in args {
        if let Some(id) = &a.name
            && !params.iter().any(|p| p.name.name == id.name)
        {
            let names = params.iter().map(|p| p.name.name.clone()).collect();
            eval.no_field(id, &format!("the law `{name}`"), names);
            fine = false;
        }
    }
    let positional = args.iter().filter(|a| a.name.is_none()).count();
    for (i, p) in params.iter().enumerate() {
        let is_constant = p.ty.as_ref().is_some_and(|t| matches!(t.kind, TypeKind::Range { .. }));
        let given = i < positional
            || args.iter().any(|a| a.name.as_ref().is_some_and(|n| n.name == p.name.name));
        if !given && !is_constant && p.default.is_none() {
            let text = format!("`{name}` needs a value for `{}`", p.name.name);
            eval.problem(Problem::new("E0309", span, text).label(p.name.span, "declared here"));
            fine = false;
        }
    }
    fine
}

/// A column of the runs. Measures of models are columns too, so only what looks like a misspelling is one.
fn column(eval: &mut Eval<'_>, n: &NodeValue, id: &Ident) -> bool {
    let mut known: Vec<String> = COLUMNS.iter().map(|c| (*c).to_owned()).collect();
    if let Some(train) = schema::kind("train") {
        known.extend(train.fields.iter().map(|f| f.name.to_owned()));
        known.extend(train.facts.iter().map(|f| f.name.to_owned()));
    }
    if let Some(Value::Node(sweep)) = n.fields.get("runs") {
        for item in &sweep.items {
            if let ItemKind::For { pattern: crate::syntax::ast::Pattern::Name(id), .. } = &item.kind
            {
                known.push(id.name.clone());
            }
        }
    }
    if known.contains(&id.name) {
        return true;
    }
    let Some(near) = did_you_mean(&id.name, known.iter().map(String::as_str)) else { return true };
    if is_other(&id.name, near) {
        return true;
    }
    let p = Problem::new("E0205", id.span, format!("runs have no `.{}`", id.name))
        .at(format!("did you mean `.{near}`?"));
    eval.problem(p);
    false
}

/// True if one name merely contains the other: `noise_scale` is no misspelling of `scale`.
fn is_other(a: &str, b: &str) -> bool {
    a.chars().count().abs_diff(b.chars().count()) > 2
}
