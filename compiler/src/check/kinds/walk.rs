//! The way through the clauses of a sweep, `for`, `where` and `let`, to its points.
//!
//! A plain sweep goes every way. A search goes one way at a time: at each `for` somebody chooses, on the line between the ends of a
//! distribution or among the values of a list. Which `for` comes next may depend on what was chosen before.

use super::super::eval::{Eval, describe};
use super::super::value::{NodeValue, Quantity, Scope, Value};
use super::sweep::{self, Point};
use super::{fields, later_of, outside, schema, start, train};
use crate::problem::Problem;
use crate::search::Coordinate;
use crate::source::Span;
use crate::syntax::ast::{self, ExprKind, ItemKind};

/// More points than this are a mistake, not a plan.
pub(super) const MOST_POINTS: usize = 10_000;

/// What a `for` leaves open.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Axis {
    /// A line between two ends.
    Line,
    /// So many values.
    Choice(usize),
}

/// Says where a point lies on the axis of that name.
pub(super) type Choose<'c> = &'c mut dyn FnMut(&str, Axis) -> Coordinate;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) points: Vec<Point>,
    /// Points waiting for the result of this node are not costed yet.
    pub(super) after: Option<String>,
}

/// The points of a sweep: all of them, or with somebody who chooses the one on that way, unless a `where` leaves it out. `None`: a
/// problem was reported.
pub(super) fn walk(
    eval: &mut Eval<'_>,
    n: &NodeValue,
    choose: Option<Choose<'_>>,
) -> Option<Found> {
    let run = sweep::field(n, "run")?;
    let clauses = n
        .items
        .iter()
        .filter(|i| {
            matches!(i.kind, ItemKind::For { .. } | ItemKind::Where(_) | ItemKind::Let { .. })
        })
        .collect();
    let asks = sweep::field(n, "runner").is_some();
    let mut walk = Walk { n, asks, clauses, run, choose, found: Found::default(), wrong: false };
    step(eval, &mut walk, 0, &n.scope, &mut Vec::new());
    (!walk.wrong).then_some(walk.found)
}

/// A place in the walk.
struct Walk<'a, 'c> {
    n: &'a NodeValue,
    /// Others run the points.
    asks: bool,
    clauses: Vec<&'a ast::Item>,
    run: &'a ast::Expr,
    choose: Option<Choose<'c>>,
    found: Found,
    wrong: bool,
}

fn step(
    eval: &mut Eval<'_>,
    walk: &mut Walk<'_, '_>,
    depth: usize,
    scope: &Scope,
    at: &mut Vec<(String, Value)>,
) {
    if walk.wrong {
        return;
    }
    let Some(clause) = walk.clauses.get(depth).copied() else {
        point(eval, walk, scope, at);
        return;
    };
    match &clause.kind {
        ItemKind::For { pattern, iter } => {
            let before = eval.problems.iter().count();
            let values = values(eval, walk, scope, pattern, iter);
            if eval.problems.iter().count() > before {
                walk.wrong = true;
                return;
            }
            for value in values {
                let inner = scope.inner();
                let kept = at.len();
                if let ast::Pattern::Name(id) = pattern {
                    at.push((id.name.clone(), value.clone()));
                }
                eval.bind_pattern(&inner, pattern, value);
                if let ast::Pattern::Tuple(ids, _) = pattern {
                    at.extend(
                        ids.iter().filter_map(|i| Some((i.name.clone(), inner.get(&i.name)?))),
                    );
                }
                step(eval, walk, depth + 1, &inner, at);
                at.truncate(kept);
            }
        }
        ItemKind::Let { pattern, value, .. } => {
            let inner = scope.inner();
            let v = eval.expr(&inner, value);
            walk.wrong |= matches!(v, Value::Error);
            eval.bind_pattern(&inner, pattern, v);
            step(eval, walk, depth + 1, &inner, at);
        }
        ItemKind::Where(condition) => match eval.expr(scope, condition) {
            Value::Bool(true) => step(eval, walk, depth + 1, scope, at),
            Value::Bool(false) => {}
            Value::Later(l) => {
                walk.found.after.get_or_insert_with(|| l.node.to_string());
                step(eval, walk, depth + 1, scope, at);
            }
            Value::Error => walk.wrong = true,
            other => {
                let text = format!("`where` needs true or false, this is {}", describe(&other));
                eval.problem(Problem::new("E0303", condition.span, text));
                walk.wrong = true;
            }
        },
        _ => step(eval, walk, depth + 1, scope, at),
    }
}

fn point(eval: &mut Eval<'_>, walk: &mut Walk<'_, '_>, scope: &Scope, at: &[(String, Value)]) {
    if walk.found.points.len() >= MOST_POINTS {
        let text = format!("this sweep has more than {MOST_POINTS} points");
        eval.problem(
            Problem::new("E0503", walk.run.span, text).help("add a `where`, or shorten a list"),
        );
        walk.wrong = true;
        return;
    }
    let before = eval.problems.clone();
    let node = match eval.expr(scope, walk.run) {
        Value::Record(r) if walk.asks => {
            match outside::point(eval, walk.n, scope, &r, walk.run.span) {
                Some((node, price)) => {
                    let price = Some(price);
                    walk.found.points.push(Point { at: at.to_vec(), node, cost: None, price });
                }
                None => walk.wrong = true,
            }
            return;
        }
        Value::Node(n) if !walk.asks => n,
        Value::Later(l) => {
            let text = format!("the points of a sweep cannot wait for `{}`", l.node);
            eval.problem(Problem::new("E0505", walk.run.span, text));
            walk.wrong = true;
            return;
        }
        v => {
            if !matches!(v, Value::Error) {
                let (what, help) = if walk.asks {
                    (
                        "a record of what is asked",
                        "for example `run = { d_model = d, train_flops = C }`",
                    )
                } else {
                    ("a node", "for example `run = baseline with { budget = C }`")
                };
                let text = format!("`run` must be {what}, this is {}", describe(&v));
                eval.problem(Problem::new("E0301", walk.run.span, text).help(help));
            }
            walk.wrong = true;
            return;
        }
    };
    let waiting = node.fields.fields.iter().filter(|(name, (v, _))| !start::is_init(name, v));
    let waits = waiting.map(|(_, (v, _))| v).find_map(later_of);
    let mut cost = None;
    if let Some(node) = waits {
        walk.found.after.get_or_insert(node);
    } else if let Some(kind) = schema::kind(&node.kind) {
        walk.wrong |= !fields::check(eval, kind, &node);
        if !walk.wrong && node.kind == "train" {
            cost = train::costed(eval, &node).map(|(c, _)| c);
            walk.wrong |= cost.is_none();
        }
    }
    if walk.wrong {
        // The first point that fails speaks for all; which one it is belongs to the message.
        let place: Vec<String> = at.iter().map(|(n, v)| format!("{n} = {}", describe(v))).collect();
        let mut after = std::mem::replace(&mut eval.problems, before.clone());
        after.retain_new(&before);
        for p in after.iter() {
            eval.problems.push(p.clone().help(format!("at the point {}", place.join(", "))));
        }
    }
    walk.found.points.push(Point { at: at.to_vec(), node, cost, price: None });
}

/// The values that a `for` has on this way.
fn values(
    eval: &mut Eval<'_>,
    walk: &mut Walk<'_, '_>,
    scope: &Scope,
    pattern: &ast::Pattern,
    iter: &ast::Expr,
) -> Vec<Value> {
    let axis = match pattern {
        ast::Pattern::Name(id) => id.name.clone(),
        ast::Pattern::Tuple(ids, _) => {
            ids.iter().map(|i| i.name.as_str()).collect::<Vec<_>>().join(", ")
        }
    };
    if let Some(line) = line(eval, scope, iter) {
        let Some(line) = line else { return Vec::new() };
        let Some(choose) = &mut walk.choose else {
            let p = Problem::new("E0504", iter.span, "a distribution needs a `search`");
            eval.problem(
                p.help("`search = tpe(minimize = .valid_loss, points = 40)` draws points from it")
                    .help("without a search write the values: `[1e-3, 3e-3]` or `log_range(1e-3, 1e-2, 5)`"),
            );
            return Vec::new();
        };
        return match choose(&axis, Axis::Line) {
            Coordinate::Line(x) => vec![line.value(x)],
            Coordinate::Choice(_) => Vec::new(),
        };
    }
    let list = eval.expr(scope, iter);
    if let Some(node) = later_of(&list) {
        let text = format!("the points of a sweep cannot wait for `{node}`");
        let p = Problem::new("E0505", iter.span, text);
        eval.problem(p.help("how many points there are must be known before anything runs"));
    }
    let all = eval.items_of(list, iter.span);
    match &mut walk.choose {
        Some(choose) if !all.is_empty() => match choose(&axis, Axis::Choice(all.len())) {
            Coordinate::Choice(c) => all.get(c).cloned().into_iter().collect(),
            Coordinate::Line(_) => Vec::new(),
        },
        Some(_) | None => all,
    }
}

/// A distribution between two ends.
struct Line {
    low: f64,
    high: Quantity,
    log: bool,
}

impl Line {
    fn value(&self, x: f64) -> Value {
        let (a, b) = (self.low, self.high.value);
        let value = match x {
            // The ends are themselves, whatever rounding would make of them.
            0.0 => a,
            1.0 => b,
            x if self.log => (a.ln() * (1.0 - x) + b.ln() * x).exp(),
            x => a * (1.0 - x) + b * x,
        };
        Value::Number(Quantity { value, ..self.high.clone() })
    }
}

/// `log_uniform(a, b)` or `uniform(a, b)`. The inner `None`: a problem was reported.
fn line(eval: &mut Eval<'_>, scope: &Scope, e: &ast::Expr) -> Option<Option<Line>> {
    let ExprKind::Call { callee, args } = &*e.kind else { return None };
    let ExprKind::Name(name) = &*callee.kind else { return None };
    let log = match name.as_str() {
        "log_uniform" => true,
        "uniform" => false,
        _ => return None,
    };
    let wrong = |eval: &mut Eval<'_>, span: Span, text: String| {
        let help = format!("for example `{name}(1e-4, 1e-2)`");
        eval.problem(Problem::new("E0510", span, text).help(help));
        Some(None)
    };
    let [a, b] = args.as_slice() else {
        return wrong(eval, e.span, format!("`{name}` takes two ends"));
    };
    let (a, b) = (eval.expr(scope, &a.value), eval.expr(scope, &b.value));
    if matches!((&a, &b), (Value::Error, _) | (_, Value::Error)) {
        return Some(None);
    }
    let (Value::Number(a), Value::Number(b)) = (&a, &b) else {
        let text = format!("`{name}` goes from {} to {}", describe(&a), describe(&b));
        return wrong(eval, e.span, text);
    };
    let same_unit = a.unit == b.unit || a.unit.is_none();
    if !same_unit || a.value >= b.value || (log && a.value <= 0.0) {
        let text = format!(
            "`{name}` from {} to {}",
            super::super::units::show(a),
            super::super::units::show(b)
        );
        let ends = if log {
            "both ends are positive and in one unit, the first is less"
        } else {
            "both ends are in one unit, the first is less"
        };
        eval.problem(Problem::new("E0510", e.span, text).help(ends));
        return Some(None);
    }
    Some(Some(Line { low: a.value, high: b.clone(), log }))
}
