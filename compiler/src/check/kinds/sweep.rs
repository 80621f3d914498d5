//! Sweeps: the points that `for`, `where` and `let` describe, what each costs, and whether all of them may.
//!
//! Clauses act in the order in which they are written and see the names of those before them, so that zipped, dependent and
//! conditional spaces need nothing of their own. A point is the node that `run` gives there. Points are named `iso/07`.

use std::rc::Rc;

use super::super::call::clone_node;
use super::super::eval::{Eval, describe, same};
use super::super::hir::{Budget, TrainSpec};
use super::super::units::{self, Unit};
use super::super::value::{NodeValue, Quantity, Scope, Value};
use super::schema::{self, FieldType};
use super::train::{self, Costed};
use super::{fields, later_of, points, start, stop};
use crate::problem::Problem;
use crate::row::RowExpr;
use crate::search::Halving;
use crate::syntax::ast::{self, ExprKind, ItemKind};

/// More points than this are a mistake, not a plan.
const MOST_POINTS: usize = 10_000;

/// One point of a sweep.
#[derive(Debug, Clone)]
pub struct Point {
    /// The names of the `for` clauses with their values here.
    pub at: Vec<(String, Value)>,
    /// The node that is run, named `sweep/03`.
    pub node: Rc<NodeValue>,
    /// What it costs; `None` while it waits for a result.
    pub cost: Option<Costed>,
}

/// A checked sweep.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// In the order of the clauses; `order = cheapest_first` sorts them.
    pub points: Vec<Point>,
    /// Points waiting for the result of this node are not costed yet.
    pub after: Option<String>,
    /// With a `search`: how many points it draws around the one that is costed here.
    pub drawn: Option<u64>,
    /// What the best point has the least of.
    pub best: RowExpr,
    /// How points are stopped early.
    pub halving: Option<Halving>,
}

impl Sweep {
    /// How many points are run.
    pub fn count(&self) -> usize {
        self.drawn.map_or(self.points.len(), |d| d as usize)
    }
}

/// A place in the walk through the clauses.
struct Walk<'a> {
    clauses: Vec<&'a ast::Item>,
    run: &'a ast::Expr,
    /// With a `search`, a `for` may name a distribution; the cost is that of its middle.
    search: bool,
    found: Sweep,
    wrong: bool,
}

/// Finds and costs all points of a sweep. `None`: a problem was reported.
pub(super) fn sweep(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Sweep> {
    let run = field(n, "run")?;
    let best = stop::best(eval, n)?;
    let clauses = n
        .items
        .iter()
        .filter(|i| {
            matches!(i.kind, ItemKind::For { .. } | ItemKind::Where(_) | ItemKind::Let { .. })
        })
        .collect();
    let mut walk = Walk {
        clauses,
        run,
        search: field(n, "search").is_some(),
        found: Sweep {
            points: Vec::new(),
            after: None,
            drawn: None,
            best: best.0.clone(),
            halving: stop::stop(eval, n)?,
        },
        wrong: false,
    };
    step(eval, &mut walk, 0, &n.scope, &mut Vec::new());
    if walk.wrong {
        return None;
    }
    let mut found = walk.found;
    if found.points.is_empty() {
        let wheres = n.items.iter().find(|i| matches!(i.kind, ItemKind::Where(_)));
        let span = wheres.map_or(n.span, |i| i.span);
        let p = Problem::new("E0503", span, format!("the sweep `{}` has no points", n.name));
        eval.problem(p.help("every combination was left out, or a list is empty"));
        return None;
    }
    let cheapest = match setting(eval, n, "order") {
        Some(e) => {
            let v = own(eval, n, "order", &e)?;
            matches!(v, Value::Text(t) if &*t == "cheapest_first")
        }
        None => false,
    };
    if cheapest {
        // Points with the same budget stay in their order, although whole steps make their costs differ a little.
        let cost = |p: &Point| {
            let Some(c) = &p.cost else { return f64::INFINITY };
            match c.spec.budget {
                Budget::Flops(budget) => budget,
                Budget::Tokens(_)
                | Budget::TokensPerParam(_)
                | Budget::Steps(_)
                | Budget::Epochs(_)
                | Budget::Seconds(_) => flops_of(c).unwrap_or(f64::INFINITY),
            }
        };
        found.points.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    }
    let width = (found.points.len().saturating_sub(1)).to_string().len().max(2);
    for (i, p) in found.points.iter_mut().enumerate() {
        let name = format!("{}/{i:0width$}", n.name);
        p.node = Rc::new(NodeValue { name: name.as_str().into(), ..clone_node(&p.node) });
    }
    if let Some(e) = setting(eval, n, "search")
        && let Value::Record(r) = own(eval, n, "search", &e)?
        && let Some(Value::Number(q)) = r.get("points")
    {
        found.drawn = Some(q.value.max(1.0) as u64);
    }
    if let Some(halving) = &found.halving {
        let span = field(n, "stop").map_or(n.span, |e| e.span);
        stop::comparable(eval, &best, halving, &found.points, span)?;
    }
    within_total(eval, n, &found)?;
    Some(found)
}

/// One line of `check`: `iso   33 points   3.5e18 FLOPs`.
pub(super) fn line(name: &str, s: &Sweep) -> String {
    let count = s.count();
    let points = if count == 1 { "1 point".to_owned() } else { format!("{count} points") };
    let cost = match (&s.after, total_of(s, &flops_of)) {
        (Some(after), _) => format!("cost known after `{after}`"),
        (None, Some(flops)) => format!("{flops:.1e} FLOPs"),
        (None, None) => "cost known after the data is read".to_owned(),
    };
    format!("{name}   {points}   {cost}")
}

/// Model FLOPs of all points, where all are known.
pub(super) fn flops(s: &Sweep) -> Option<f64> {
    total_of(s, &flops_of)
}

/// Model FLOPs that all points may cost, where `total` is in FLOPs.
pub(super) fn allowed_flops(eval: &mut Eval<'_>, n: &NodeValue) -> Option<f64> {
    let e = setting(eval, n, "total")?;
    match own(eval, n, "total", &e)? {
        Value::Number(q) if units::name(&q.unit) == "FLOPs" => Some(q.value),
        _ => None,
    }
}

/// A field that holds for all points: as `--set` says, else as written.
pub(super) fn setting(eval: &Eval<'_>, n: &NodeValue, name: &str) -> Option<ast::Expr> {
    let set = eval.sets.iter().rev().find(|(path, _)| match path.as_slice() {
        [node, field] => **node == *n.name && field == name,
        _ => false,
    });
    set.map(|(_, e)| e.clone()).or_else(|| field(n, name).cloned())
}

fn field<'a>(n: &'a NodeValue, name: &str) -> Option<&'a ast::Expr> {
    n.items.iter().find_map(|i| match &i.kind {
        ItemKind::Field { path, value } if path[0].name == name => Some(value),
        _ => None,
    })
}

/// The value of a field that does not depend on the point.
pub(super) fn own(eval: &mut Eval<'_>, n: &NodeValue, name: &str, e: &ast::Expr) -> Option<Value> {
    let ty = schema::kind("sweep").and_then(|k| k.field(name)).map_or(FieldType::Any, |f| f.ty);
    let v = fields::value(eval, &n.scope, &n.name, ty, e);
    if matches!(v, Value::Error) || !fields::judge(eval, &format!("`{name}`"), ty, &v, e.span) {
        return None;
    }
    Some(v)
}

fn step(
    eval: &mut Eval<'_>,
    walk: &mut Walk<'_>,
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
            let values = match middle(eval, scope, iter) {
                Some(v) if walk.search => vec![v],
                Some(_) => {
                    let p = Problem::new("E0504", iter.span, "a distribution needs a `search`");
                    eval.problem(
                        p.help("`search = tpe(minimize = .valid_loss, points = 40)` draws points from it")
                            .help("without a search write the values: `[1e-3, 3e-3]` or `log_range(1e-3, 1e-2, 5)`"),
                    );
                    Vec::new()
                }
                None => {
                    let list = eval.expr(scope, iter);
                    if let Some(node) = later_of(&list) {
                        let p = Problem::new(
                            "E0505",
                            iter.span,
                            format!("the points of a sweep cannot wait for `{node}`"),
                        );
                        eval.problem(
                            p.help("how many points there are must be known before anything runs"),
                        );
                    }
                    eval.items_of(list, iter.span)
                }
            };
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

fn point(eval: &mut Eval<'_>, walk: &mut Walk<'_>, scope: &Scope, at: &[(String, Value)]) {
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
        Value::Node(n) => n,
        Value::Later(l) => {
            let text = format!("the points of a sweep cannot wait for `{}`", l.node);
            eval.problem(Problem::new("E0505", walk.run.span, text));
            walk.wrong = true;
            return;
        }
        v => {
            if !matches!(v, Value::Error) {
                let text = format!("`run` must be a node, this is {}", describe(&v));
                let p = Problem::new("E0301", walk.run.span, text);
                eval.problem(p.help("for example `run = baseline with { budget = C }`"));
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
    walk.found.points.push(Point { at: at.to_vec(), node, cost });
}

/// The middle of a distribution: `log_uniform(a, b)`, `uniform(a, b)`.
fn middle(eval: &mut Eval<'_>, scope: &Scope, e: &ast::Expr) -> Option<Value> {
    let ExprKind::Call { callee, args } = &*e.kind else { return None };
    let ExprKind::Name(name) = &*callee.kind else { return None };
    let [a, b] = args.as_slice() else { return None };
    if !matches!(name.as_str(), "uniform" | "log_uniform") {
        return None;
    }
    let (a, b) = (eval.expr(scope, &a.value), eval.expr(scope, &b.value));
    let (Value::Number(a), Value::Number(b)) = (a, b) else { return Some(Value::Error) };
    let value =
        if name == "uniform" { (a.value + b.value) / 2.0 } else { (a.value * b.value).sqrt() };
    Some(Value::Number(Quantity { value, ..b }))
}

fn flops_of(c: &Costed) -> Option<f64> {
    Some(c.spec.steps? as f64 * c.spec.step_flops)
}

fn total_of(s: &Sweep, cost: &dyn Fn(&Costed) -> Option<f64>) -> Option<f64> {
    if let Some(halving) = &s.halving {
        let points = s.points.iter().map(|p| {
            let costed = p.cost.as_ref()?;
            Some((&costed.spec, cost(costed)?))
        });
        let points: Vec<(&TrainSpec, f64)> = points.collect::<Option<_>>()?;
        return Some(halving.stretches(&points).iter().map(|s| s.cost).sum());
    }
    let total: Option<f64> = s.points.iter().map(|p| p.cost.as_ref().and_then(cost)).sum();
    // A search draws its points around those that are costed.
    total.map(|t| t * s.count() as f64 / s.points.len().max(1) as f64)
}

/// E0501 if all points together cost more than `total`, with what to leave out.
fn within_total(eval: &mut Eval<'_>, n: &NodeValue, s: &Sweep) -> Option<()> {
    let Some(e) = setting(eval, n, "total") else { return Some(()) };
    let allowed = match own(eval, n, "total", &e)? {
        Value::Number(q) => q,
        _ => return Some(()),
    };
    let cost = |c: &Costed| -> Option<f64> {
        match units::name(&allowed.unit).as_str() {
            "FLOPs" => flops_of(c),
            "tokens" => Some(c.spec.steps? as f64 * c.spec.batch_tokens as f64),
            "s" => match c.spec.budget {
                Budget::Seconds(s) => Some(s),
                Budget::Flops(_)
                | Budget::Tokens(_)
                | Budget::TokensPerParam(_)
                | Budget::Steps(_)
                | Budget::Epochs(_) => None,
            },
            _ => None,
        }
    };
    let Some(total) = total_of(s, &cost) else { return Some(()) };
    if total <= allowed.value * (1.0 + 1e-9) {
        return Some(());
    }
    let show = |value: f64, unit: &Unit| {
        units::show(&Quantity { unit: unit.clone(), ..Quantity::plain(value) })
    };
    let text = format!(
        "{} point{} cost {} but `{}.total` allows {}",
        s.count(),
        if s.count() == 1 { "" } else { "s" },
        show(total, &allowed.unit),
        n.name,
        show(allowed.value, &allowed.unit)
    );
    let mut p = Problem::new("E0501", e.span, text);
    if s.halving.is_none()
        && let Some((name, value, left)) = best_cut(s, &cost, allowed.value)
    {
        p = p.help(format!(
            "dropping `{name} = {}` leaves {}",
            describe(&value),
            show(left, &allowed.unit)
        ));
    }
    p = p.help(dearest(s, &|c| cost(c).map(|value| (value, show(value, &allowed.unit)))));
    eval.problem(p);
    None
}

/// The dearest points as a table, the dearest first.
fn dearest(s: &Sweep, cost: &dyn Fn(&Costed) -> Option<(f64, String)>) -> String {
    const SHOWN: usize = 5;
    let mut all: Vec<(&Point, f64, String)> = s
        .points
        .iter()
        .filter_map(|p| {
            let (value, shown) = cost(p.cost.as_ref()?)?;
            Some((p, value, shown))
        })
        .collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    let width = all.iter().take(SHOWN).map(|(p, ..)| p.node.name.len()).max().unwrap_or(0);
    let mut text = "the dearest points:".to_owned();
    for (p, _, shown) in all.iter().take(SHOWN) {
        text += &format!("\n{:<width$}  {shown}  {}", p.node.name, points::place(p));
    }
    text
}

/// The value of one `for` whose points are best left out: the fewest FLOPs lost that bring the rest under the limit, else the most.
fn best_cut(
    s: &Sweep,
    cost: &dyn Fn(&Costed) -> Option<f64>,
    allowed: f64,
) -> Option<(String, Value, f64)> {
    let mut best: Option<(String, Value, f64)> = None;
    let mut seen: Vec<(String, Value)> = Vec::new();
    for (name, value) in s.points.iter().flat_map(|p| p.at.iter()) {
        if seen.iter().any(|(n, v)| n == name && same(v, value)) {
            continue;
        }
        seen.push((name.clone(), value.clone()));
        let kept = |p: &&Point| !p.at.iter().any(|(n, v)| n == name && same(v, value));
        let left: f64 =
            s.points.iter().filter(kept).filter_map(|p| p.cost.as_ref().and_then(cost)).sum();
        if left == 0.0 {
            continue;
        }
        let better = match &best {
            None => true,
            Some((_, _, b)) => match (left <= allowed, *b <= allowed) {
                (true, true) => left > *b,
                (true, false) => true,
                (false, true) => false,
                (false, false) => left < *b,
            },
        };
        if better {
            best = Some((name.clone(), value.clone(), left));
        }
    }
    best
}
