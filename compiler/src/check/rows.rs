//! Row types: which columns the rows of a pipeline have, and whether an expression over rows asks only for those.
//!
//! A source gives columns, a stage takes columns to columns. `.name` is the column `name`; if there is none and rows have `text`, it is
//! the text function `name` of that column (semantics 7). Where a source does not say its columns, every name passes.

use super::eval::Eval;
use super::value::{Stream, Value};
use crate::problem::{Problem, did_you_mean};
use crate::syntax::ast::{self, Expr, ExprKind, ItemKind};

/// Functions of the column `text`, with the arguments that each takes.
pub const TEXT_FUNCTIONS: &[(&str, &[&str])] = &[
    ("alphabetic", &[]),
    ("bullet_lines", &[]),
    ("bytes", &[]),
    ("chars", &[]),
    ("digits", &[]),
    ("duplicate_lines", &[]),
    ("ellipsis_lines", &[]),
    ("language", &[]),
    ("last_number", &[]),
    ("lines", &[]),
    ("max_line", &[]),
    ("mean_line", &[]),
    ("mean_word", &[]),
    ("repetition", &["ngram"]),
    ("stop_words", &[]),
    ("symbols", &[]),
    ("uppercase", &[]),
    ("words", &[]),
];

/// The columns of a pipeline's rows. `None`: its source does not say.
pub fn columns(s: &Stream) -> Option<Vec<String>> {
    let input = || s.input.as_ref().and_then(|i| columns(i));
    let with = |more: &[&str]| {
        input().map(|mut all| {
            for m in more {
                if !all.iter().any(|a| a == m) {
                    all.push((*m).to_owned());
                }
            }
            all
        })
    };
    let just = |names: &[&str]| Some(names.iter().map(|n| (*n).to_owned()).collect());
    match s.stage {
        "files" => just(&["text", "path"]),
        "stories" => just(&["text"]),
        "warc" => just(&["url", "status", "mime", "html", "date"]),
        "jsonl" | "csv" | "parquet" => match s.args.get("columns") {
            Some(Value::Record(r)) => {
                let mut all: Vec<String> = r.fields.keys().cloned().collect();
                all.push("path".to_owned());
                Some(all)
            }
            _ => None,
        },
        "set" => {
            let added: Vec<&str> = s.args.fields.keys().map(String::as_str).collect();
            with(&added)
        }
        "encode" => with(&["ids"]),
        "pack" => just(&["ids", "target", "learn", "doc", "doc_pos"]),
        "pad" => just(&["ids", "target", "learn", "doc", "doc_pos", "live"]),
        "prompt" => with(&["ids", "live"]),
        "rollout" => with(&["target", "learn", "log_prob", "completion"]),
        "reward" => with(&["reward"]),
        "keep" | "drop" | "mask" | "dedup" | "decontaminate" | "take" | "holdout" | "split"
        | "best_by" | "sort_by" => input(),
        // Tables of runs, mixtures and chats: their own parts say which columns they have.
        _ => None,
    }
}

/// Judges an expression over the rows of `input`. `condition`: it must be true or false.
pub fn check(
    eval: &mut Eval<'_>,
    stage: &str,
    input: Option<&Stream>,
    e: &Expr,
    condition: bool,
) -> bool {
    let Some(have) = input.and_then(columns) else { return true };
    let has_text = have.iter().any(|c| c == "text");
    let mut asked = Vec::new();
    dots(e, None, &mut asked);
    let mut fine = true;
    for (id, args) in asked {
        if have.contains(&id.name) {
            continue;
        }
        let function = TEXT_FUNCTIONS.iter().find(|(n, _)| has_text && *n == id.name);
        if let Some((name, params)) = function {
            fine &= arguments(eval, name, params, args.unwrap_or(&[]));
            continue;
        }
        let functions = TEXT_FUNCTIONS.iter().filter(|_| has_text).map(|(n, _)| *n);
        let near = did_you_mean(&id.name, have.iter().map(String::as_str).chain(functions));
        let mut p = Problem::new("E0205", id.span, format!("these rows have no `.{}`", id.name))
            .help(format!("they have: {}", have.join(", ")));
        if let Some(near) = near {
            p = p.at(format!("did you mean `.{near}`?"));
            // The place of `.name` may or may not hold the dot.
            let dotted = eval.sources.text(id.span).starts_with('.');
            p = p.fix(id.span, if dotted { format!(".{near}") } else { near.to_owned() });
        } else if has_text {
            p = p.help(
                "or a function of `text`, such as `.chars`, `.language`, `.repetition(ngram = 10)`",
            );
        }
        eval.problem(p);
        fine = false;
    }
    if fine && condition && is_measure(e, &have) {
        let p = Problem::new(
            "E0303",
            e.span,
            format!("`{stage}` needs a condition, this is a number or text"),
        );
        eval.problem(p.help("write a comparison, for example `.chars > 200`"));
        return false;
    }
    fine
}

fn arguments(eval: &mut Eval<'_>, name: &str, params: &[&str], args: &[ast::Arg]) -> bool {
    let mut fine = true;
    for (i, a) in args.iter().enumerate() {
        match &a.name {
            Some(id) if !params.contains(&id.name.as_str()) => {
                let mut p = Problem::new(
                    "E0203",
                    id.span,
                    format!("no argument `{}` in `.{name}`", id.name),
                );
                match did_you_mean(&id.name, params.iter().copied()) {
                    Some(near) => p = p.at(format!("did you mean `{near}`?")).fix(id.span, near),
                    None => p = p.help(format!("it takes: {}", params.join(", "))),
                }
                eval.problem(p);
                fine = false;
            }
            None if i >= params.len() => {
                eval.problem(Problem::new(
                    "E0308",
                    a.value.span,
                    format!("`.{name}` takes no more values"),
                ));
                fine = false;
            }
            Some(_) | None => {}
        }
    }
    fine
}

/// True for a bare `.chars`, or arithmetic: what is surely neither true nor false.
fn is_measure(e: &Expr, columns: &[String]) -> bool {
    match &*e.kind {
        ExprKind::Dot(id) => !columns.contains(&id.name),
        ExprKind::Call { callee, .. } => matches!(&*callee.kind, ExprKind::Dot(_)),
        ExprKind::Binary { op, .. } => !matches!(op, ast::BinaryOp::And | ast::BinaryOp::Or),
        ExprKind::Number { .. } => true,
        _ => false,
    }
}

/// The fields of the row at hand that an expression reads: `.params`, `.tokens`.
pub fn fields<'a>(e: &'a Expr, out: &mut Vec<&'a ast::Ident>) {
    let mut asked = Vec::new();
    dots(e, None, &mut asked);
    out.extend(asked.into_iter().map(|(id, _)| id));
}

/// The bare names that an expression reads, without those that it calls.
pub fn names(e: &Expr, out: &mut Vec<ast::Ident>) {
    match &*e.kind {
        ExprKind::Name(name) if out.iter().any(|id| id.name == *name) => {}
        ExprKind::Name(name) => out.push(ast::Ident { name: name.clone(), span: e.span }),
        ExprKind::Call { args, .. } => args.iter().for_each(|a| names(&a.value, out)),
        ExprKind::Unary { value, .. } => names(value, out),
        ExprKind::Binary { left, right, .. } => {
            names(left, out);
            names(right, out);
        }
        ExprKind::If { condition, then, otherwise } => {
            [condition, then, otherwise].into_iter().for_each(|e| names(e, out));
        }
        ExprKind::Compare { first, rest } => {
            names(first, out);
            rest.iter().for_each(|(_, _, e)| names(e, out));
        }
        _ => {}
    }
}

/// A field of the row that an expression reads, with the arguments behind it.
type Asked<'a> = (&'a ast::Ident, Option<&'a [ast::Arg]>);

fn dots<'a>(e: &'a Expr, args: Option<&'a [ast::Arg]>, out: &mut Vec<Asked<'a>>) {
    let mut go = |e: &'a Expr| dots(e, None, out);
    match &*e.kind {
        ExprKind::Dot(id) => out.push((id, args)),
        ExprKind::Call { callee, args } => {
            dots(callee, Some(args), out);
            args.iter().for_each(|a| dots(&a.value, None, out));
        }
        ExprKind::Unary { value, .. } => go(value),
        ExprKind::Member { base, .. } | ExprKind::Index { base, .. } => go(base),
        ExprKind::Binary { left, right, .. } | ExprKind::Law { left, right } => {
            go(left);
            go(right);
        }
        ExprKind::Compare { first, rest } => {
            go(first);
            rest.iter().for_each(|(_, _, e)| go(e));
        }
        ExprKind::Range { from, to } => {
            go(from);
            go(to);
        }
        ExprKind::Pipe { value, into } => {
            go(value);
            go(into);
        }
        ExprKind::If { condition, then, otherwise } => {
            go(condition);
            go(then);
            go(otherwise);
        }
        ExprKind::List { values, .. } => values.iter().for_each(go),
        ExprKind::Match { subject, arms } => {
            go(subject);
            for item in &arms.items {
                if let ItemKind::Map { value, .. } = &item.kind {
                    go(value);
                }
            }
        }
        ExprKind::Number { .. }
        | ExprKind::Text(_)
        | ExprKind::Name(_)
        | ExprKind::Bool(_)
        | ExprKind::None
        | ExprKind::Comprehension { .. }
        | ExprKind::Block(_)
        | ExprKind::With { .. }
        | ExprKind::Scan { .. }
        | ExprKind::Error => {}
    }
}
