//! Fits: a law over runs, and its constants.
//!
//! A constant is named where it may be found: in `free`, or as a parameter of a `law` that has a range for its type. A name that is
//! neither is a misspelling; it would otherwise become one more constant in silence (semantics 7).

use indexmap::IndexMap;

use super::super::eval::{Eval, describe};
use super::super::hir::FitSpec;
use super::super::value::{DefKind, NodeValue, RowExpr, Value};
use super::super::{row_lower, rows};
use super::{columns, law, schema};
use crate::law::{Formula, Law, Penalty, Shape, Starts};
use crate::problem::{Problem, did_you_mean};
use crate::row::kinds::{Columns, unknown};
use crate::source::Span;
use crate::syntax::ast::{Arg, Expr, ExprKind, Ident, ItemKind, TypeKind};

/// Columns of a table of runs beside the settings of `train` and what the nodes know.
const COLUMNS: &[&str] = &[
    "name",
    "sweep",
    "status",
    "budget_unit",
    "step",
    "data_tokens",
    "seconds",
    "rung",
    "failure",
    "created",
    "machine",
    "key",
    "meaning",
    "folder",
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
    let table = table(eval, n);
    for id in asked {
        fine &= match &table {
            Some(table) => column_of(eval, table, id),
            None => column(eval, n, id),
        };
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

/// The columns of the rows, where they come from tables that are there.
fn table(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Columns> {
    let v = n.fields.get("runs")?.clone();
    let rows = row_lower::rows_of(eval, &v, n.span)?;
    row_lower::columns_of(eval, &rows)
}

fn column_of(eval: &mut Eval<'_>, table: &Columns, id: &Ident) -> bool {
    if table.contains_key(&id.name) {
        return true;
    }
    let misfit = unknown(&id.name, table);
    eval.problem(Problem::new(misfit.code, id.span, misfit.message).help(misfit.help));
    false
}

/// The columns that runs usually have.
pub(super) fn usual_columns() -> Vec<String> {
    let mut known: Vec<String> = COLUMNS.iter().map(|c| (*c).to_owned()).collect();
    if let Some(train) = schema::kind("train") {
        known.extend(train.fields.iter().map(|f| f.name.to_owned()));
        known.extend(train.facts.iter().map(|f| f.name.to_owned()));
    }
    known
}

/// A column of the runs. Measures of models are columns too, so only what looks like a misspelling is one.
fn column(eval: &mut Eval<'_>, n: &NodeValue, id: &Ident) -> bool {
    let mut known = usual_columns();
    if let Some(Value::Node(sweep)) = n.fields.get("runs") {
        for item in &sweep.items {
            if let ItemKind::For { pattern: crate::syntax::ast::Pattern::Name(id), .. } = &item.kind
            {
                known.push(id.name.clone());
            }
        }
    }
    let Some(near) = columns::misspelt(&id.name, &known) else { return true };
    let p = Problem::new("E0205", id.span, format!("runs have no `.{}`", id.name))
        .at(format!("did you mean `.{near}`?"));
    eval.problem(p);
    false
}

/// What a checked fit means. `None`: a problem was reported.
pub(super) fn spec(eval: &mut Eval<'_>, n: &NodeValue) -> Option<FitSpec> {
    let (left, right, row) = law_of(n)?;
    let mut free = IndexMap::new();
    if let Some(Value::Record(r)) = n.fields.get("free") {
        for (name, (v, _)) in &r.fields {
            if let Value::Range(a, b) = v {
                free.insert(name.clone(), (a.value, b.value));
            }
        }
    }
    let law = law::law(eval, &row.scope, (left, right), free)?;
    let at = |name: &str| n.fields.fields.get(name).and_then(|(_, s)| *s).unwrap_or(n.span);
    for c in &law.constants {
        if !(c.low < c.high && c.low.is_finite() && c.high.is_finite()) {
            let text = format!("the range of `{}` is empty", c.name);
            eval.problem(Problem::new("E0704", at("free"), text).help("a range goes up: `0.1..5`"));
            return None;
        }
    }
    if law.constants.is_empty() {
        let p = Problem::new("E0704", at("law"), "this law has no constants to be found");
        eval.problem(p.help("declare them: `free = { E = 0.1..5 }`"));
        return None;
    }
    let starts = starts(eval, n.fields.get("starts"), &law, at("starts"))?;
    let count = |name: &str| match n.fields.get(name) {
        Some(Value::Number(q)) => q.value as u64,
        _ => 0,
    };
    Some(FitSpec {
        rows: row_lower::rows_of(eval, n.fields.get("runs")?, at("runs"))?,
        penalty: penalty(eval, n.fields.get("error"), at("error"))?,
        weight: over_rows(eval, n.fields.get("weight"))?,
        held_out: over_rows(eval, n.fields.get("held_out"))?,
        starts,
        asks: Vec::new(),
        bootstrap: count("bootstrap"),
        seed: count("seed"),
        law,
    })
}

/// One line of `check`: `chinchilla   5 constants   Huber on logs, delta 0.001   500 resamplings`.
pub(super) fn line(name: &str, s: &FitSpec) -> String {
    let scale = if s.penalty.on_log { " on logs" } else { "" };
    let shape = match s.penalty.shape {
        Shape::Huber { delta } => format!("Huber{scale}, delta {delta}"),
        Shape::Squared => format!("squares{scale}"),
        Shape::Absolute => format!("absolute values{scale}"),
    };
    let mut line = format!("{name}   {} constants   {shape}", s.law.constants.len());
    if s.bootstrap > 0 {
        line += &format!("   {} resamplings", s.bootstrap);
    }
    line
}

/// An optional expression over rows.
fn over_rows(eval: &mut Eval<'_>, v: Option<&Value>) -> Option<Option<Formula>> {
    match v {
        Some(Value::Row(r)) => Some(Some(law::formula(eval, &r.scope, &r.expr)?)),
        _ => Some(None),
    }
}

/// `huber(1e-3, on = log)`, `squared`, `absolute(on = linear)`.
fn penalty(eval: &mut Eval<'_>, v: Option<&Value>, span: Span) -> Option<Penalty> {
    let mut penalty = Penalty { shape: Shape::Squared, on_log: false };
    let (kind, record) = match v {
        None => return Some(penalty),
        Some(Value::Text(t)) => (t.to_string(), None),
        Some(Value::Builtin(name)) => ((*name).to_owned(), None),
        Some(Value::Record(r)) => match r.get("kind") {
            Some(Value::Text(t)) => (t.to_string(), Some(r)),
            _ => (String::new(), Some(r)),
        },
        Some(_) => (String::new(), None),
    };
    let mut delta = None;
    for (name, (v, at)) in record.iter().flat_map(|r| &r.fields) {
        match (name.as_str(), v) {
            ("kind", _) => {}
            ("0" | "delta", Value::Number(q)) if kind == "huber" => delta = Some(q.value),
            ("on", Value::Text(t)) if matches!(&**t, "log" | "linear") => {
                penalty.on_log = &**t == "log";
            }
            ("on", Value::Builtin("log")) => penalty.on_log = true,
            (other, _) => {
                let text = format!("`{kind}` has no `{other}` like this");
                let p = Problem::new("E0704", at.unwrap_or(span), text);
                eval.problem(p.help("write `huber(1e-3, on = log)`, `squared(on = linear)`"));
                return None;
            }
        }
    }
    penalty.shape = match (kind.as_str(), delta) {
        ("huber", Some(delta)) if delta > 0.0 => Shape::Huber { delta },
        ("huber", _) => {
            let p = Problem::new("E0704", span, "`huber` needs a positive delta");
            eval.problem(p.help("residuals above it count in proportion: `huber(1e-3, on = log)`"));
            return None;
        }
        ("squared", _) => Shape::Squared,
        ("absolute", _) => Shape::Absolute,
        _ => {
            let p = Problem::new("E0704", span, "this is no measure of error");
            eval.problem(p.help("write `huber(1e-3, on = log)`, `squared` or `absolute`"));
            return None;
        }
    };
    Some(penalty)
}

/// `hoffmann`, a number of points, or records of constants.
fn starts(eval: &mut Eval<'_>, v: Option<&Value>, law: &Law, span: Span) -> Option<Starts> {
    let refuse = |eval: &mut Eval<'_>, text: String| {
        let p = Problem::new("E0704", span, text);
        eval.problem(p.help("write `starts = 64`, `starts = hoffmann` or `starts = [{ E = 1.7, .. }]` with every constant"));
        None
    };
    match v {
        None => Some(Starts::Data { count: 64 }),
        Some(Value::Number(q)) if q.value >= 1.0 => Some(Starts::Data { count: q.value as u64 }),
        Some(Value::Text(t)) if &**t == "hoffmann" => {
            let names: Vec<&str> = law.constants.iter().map(|c| c.name.as_str()).collect();
            let mut sorted = names.clone();
            sorted.sort_unstable();
            if sorted != ["A", "B", "E", "alpha", "beta"] {
                let text = "the published starts are for the constants E, A, B, alpha and beta";
                return refuse(eval, text.to_owned());
            }
            Some(Starts::Hoffmann)
        }
        Some(Value::List(l)) => {
            let mut all = Vec::new();
            for v in l.iter() {
                let Value::Record(r) = v else {
                    return refuse(eval, format!("a start is a record, this is {}", describe(v)));
                };
                let mut point = Vec::new();
                for c in &law.constants {
                    match r.get(&c.name) {
                        Some(Value::Number(q)) => point.push(q.value),
                        _ => return refuse(eval, format!("a start has no `{}`", c.name)),
                    }
                }
                all.push(point);
            }
            Some(Starts::Given(all))
        }
        Some(other) => refuse(eval, format!("starts cannot be {}", describe(other))),
    }
}
