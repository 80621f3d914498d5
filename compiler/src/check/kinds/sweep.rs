//! Sweeps: the points that `for`, `where` and `let` describe, what each costs, and whether all of them may.
//!
//! Clauses act in the order in which they are written and see the names of those before them, so that zipped, dependent and
//! conditional spaces need nothing of their own. A point is the node that `run` gives there. Points are named `iso/07`.

use std::rc::Rc;

use super::super::call::clone_node;
use super::super::eval::{Eval, describe, same};
use super::super::hir::{Budget, Outside, TrainSpec};
use super::super::units::{self, Unit};
use super::super::value::{NodeValue, Quantity, Value};
use super::schema::{self, FieldType};
use super::search::{self, Search};
use super::train::Costed;
use super::{facts, fields, outside, points, stop, walk};
use crate::problem::Problem;
use crate::row::RowExpr;
use crate::search::Halving;
use crate::syntax::ast::{self, ItemKind};

/// One point of a sweep.
#[derive(Debug, Clone)]
pub struct Point {
    /// The names of the `for` clauses with their values here.
    pub at: Vec<(String, Value)>,
    /// The node that is run, named `sweep/03`.
    pub node: Rc<NodeValue>,
    /// What it costs; `None` while it waits for a result.
    pub cost: Option<Costed>,
    /// What others ask for it, if they run it.
    pub price: Option<Quantity>,
}

/// A checked sweep.
#[derive(Debug, Clone)]
pub struct Sweep {
    /// In the order of the clauses; `order = cheapest_first` sorts them.
    pub points: Vec<Point>,
    /// Points waiting for the result of this node are not costed yet.
    pub after: Option<String>,
    /// How many of the points are in each round that is known: the points of a round do not depend on each other's results.
    pub rounds: Vec<usize>,
    /// How many points each further round will have, whose points depend on results.
    pub planned: Vec<usize>,
    /// With a `search`, points at the corners of its space, for what further rounds cost at most.
    pub dearest: Vec<Point>,
    /// What the best point has the least of.
    pub best: RowExpr,
    /// How points are stopped early.
    pub halving: Option<Halving>,
    /// Who runs the points, if not this machine.
    pub outside: Option<Outside>,
}

impl Sweep {
    /// How many points are run.
    pub fn count(&self) -> usize {
        self.points.len() + self.planned.iter().sum::<usize>()
    }
}

/// Finds and costs all points of a sweep. `None`: a problem was reported.
pub(super) fn sweep(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Sweep> {
    let search = search::settings(eval, n)?;
    let best = match &search {
        Some(Search { minimize: Some(m), .. }) => (m.clone(), n.span),
        Some(_) | None => stop::best(eval, n)?,
    };
    let outside = outside::runner(eval, n)?;
    let halving = stop::stop(eval, n)?;
    let mut found = match &search {
        None => {
            let all = walk::walk(eval, n, None)?;
            let rounds = vec![all.points.len()];
            Sweep {
                points: all.points,
                after: all.after,
                rounds,
                planned: Vec::new(),
                dearest: Vec::new(),
                best: best.0.clone(),
                halving,
                outside,
            }
        }
        Some(search) => search::drawn(eval, n, search, best.0.clone(), halving, outside)?,
    };
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
    if cheapest && search.is_none() {
        // Points with the same budget stay in their order, although whole steps make their costs differ a little.
        let cost = |p: &Point| {
            let Some(c) = &p.cost else { return flops_of(p).unwrap_or(f64::INFINITY) };
            match c.spec.budget {
                Budget::Flops(budget) => budget,
                Budget::Tokens(_)
                | Budget::TokensPerParam(_)
                | Budget::Steps(_)
                | Budget::Epochs(_)
                | Budget::Seconds(_) => flops_of(p).unwrap_or(f64::INFINITY),
            }
        };
        found.points.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
    }
    if search.is_none() {
        name_points(n, &mut found.points, 0, found.rounds.iter().sum());
    }
    if let Some(halving) = &found.halving {
        let span = field(n, "stop").map_or(n.span, |e| e.span);
        stop::comparable(eval, &best, halving, &found.points, span)?;
    }
    let total = within_total(eval, n, &found)?;
    if let Some(outside) = &mut found.outside {
        outside.total = total;
    }
    Some(found)
}

/// One line of `check`: `iso   33 points   3.5e18 FLOPs`.
pub(super) fn line(name: &str, s: &Sweep) -> String {
    let count = s.count();
    let points = if count == 1 { "1 point".to_owned() } else { format!("{count} points") };
    let cost = match (&s.after, total_of(s, &flops_of)) {
        (Some(after), _) => format!("cost known after `{after}`"),
        (None, Some(flops)) => format!("{flops:.1e} FLOPs"),
        // Others may ask for time instead.
        (None, None) if s.outside.is_some() => {
            let price = |p: &Point| p.price.as_ref().map(|q| q.value);
            units::seconds(total_of(s, &price).unwrap_or(0.0))
        }
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

pub(super) fn field<'a>(n: &'a NodeValue, name: &str) -> Option<&'a ast::Expr> {
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

fn flops_of(p: &Point) -> Option<f64> {
    if let Some(price) = &p.price {
        // A price in seconds says nothing of FLOPs; what is recorded costs nothing.
        return (units::name(&price.unit) == "FLOPs" || price.value == 0.0).then_some(price.value);
    }
    let c = p.cost.as_ref()?;
    Some(c.spec.steps? as f64 * c.spec.step_flops)
}

/// The most that a sweep costs; `None`: some of it is not known. Rounds whose points are not known yet are taken to be at the dearest corner
/// of the space.
fn total_of(s: &Sweep, cost: &dyn Fn(&Point) -> Option<f64>) -> Option<f64> {
    if !s.planned.is_empty() && s.dearest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    let mut rest = s.points.as_slice();
    for size in &s.rounds {
        let (round, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        let points = round.iter().map(|p| Some((p, cost(p)?))).collect::<Option<Vec<_>>>()?;
        total += bracket(s, &points).iter().sum::<f64>();
    }
    for size in &s.planned {
        let mut worst: Vec<f64> = Vec::new();
        for corner in &s.dearest {
            let stretches = bracket(s, &vec![(corner, cost(corner)?); *size]);
            worst.resize(stretches.len(), 0.0);
            worst.iter_mut().zip(stretches).for_each(|(w, s)| *w = w.max(s));
        }
        total += worst.iter().sum::<f64>();
    }
    Some(total)
}

/// What a round costs at most, stretch by stretch.
fn bracket(s: &Sweep, points: &[(&Point, f64)]) -> Vec<f64> {
    match &s.halving {
        Some(halving) => {
            let runs: Vec<(&TrainSpec, f64)> = points
                .iter()
                .filter_map(|(p, cost)| Some((&p.cost.as_ref()?.spec, *cost)))
                .collect();
            halving.stretches(&runs).iter().map(|s| s.cost).collect()
        }
        None => vec![points.iter().map(|(_, cost)| cost).sum()],
    }
}

/// Gives points from the `first` on their names, `iso/07`, of a sweep that has `of` of them.
pub(super) fn name_points(n: &NodeValue, points: &mut [Point], first: usize, of: usize) {
    for (i, p) in points.iter_mut().enumerate() {
        let name = point_name(n, first + i, of);
        p.node = Rc::new(NodeValue { name: name.as_str().into(), ..clone_node(&p.node) });
    }
}

/// `iso/07`.
pub(super) fn point_name(n: &NodeValue, i: usize, of: usize) -> String {
    let width = of.saturating_sub(1).to_string().len().max(2);
    format!("{}/{i:0width$}", n.name)
}

/// E0501 if all points together cost more than `total`, with what to leave out; else what is allowed. The outer `None`: a problem was reported.
fn within_total(eval: &mut Eval<'_>, n: &NodeValue, s: &Sweep) -> Option<Option<f64>> {
    let Some(e) = setting(eval, n, "total") else { return Some(None) };
    let allowed = match own(eval, n, "total", &e)? {
        Value::Number(q) => q,
        _ => return Some(None),
    };
    if let Some(price) = s.points.iter().find_map(|p| p.price.as_ref())
        && price.value > 0.0
        && price.unit != allowed.unit
    {
        let (of, unit) = (units::name(&allowed.unit), units::name(&price.unit));
        let text = format!("`total` is in {of}, but what an answer costs in {unit}");
        eval.problem(Problem::new("E0520", e.span, text).help("both are FLOPs, or both a time"));
        return None;
    }
    let in_dollars = units::name(&allowed.unit) == "USD";
    let unpriced = |p: &&Point| {
        let known = p.cost.as_ref().filter(|c| c.spec.steps.is_some());
        known.is_some_and(|c| facts::dollars(eval, &p.node, &c.spec).is_none())
    };
    if in_dollars && let Some(point) = s.points.iter().find(unpriced) {
        let text = format!("what `{}` costs in USD is not known", point.node.name);
        let p = Problem::new("E0215", e.span, text);
        eval.problem(p.help("say on which machine it runs and what that costs: `device gpu { peak = 989e12 FLOP/s, memory = 80 GB, price = 2.5 USD/h }`, then `device = gpu` in the run"));
        return None;
    }
    let cost = |p: &Point| -> Option<f64> {
        if let Some(price) = &p.price {
            return Some(price.value);
        }
        let c = p.cost.as_ref()?;
        match units::name(&allowed.unit).as_str() {
            "USD" => facts::dollars(eval, &p.node, &c.spec),
            "FLOPs" => flops_of(p),
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
    let Some(total) = total_of(s, &cost) else { return Some(Some(allowed.value)) };
    if total <= allowed.value * (1.0 + 1e-9) {
        return Some(Some(allowed.value));
    }
    let show = |value: f64, unit: &Unit| {
        units::show(&Quantity { unit: unit.clone(), ..Quantity::plain(value) })
    };
    let text = format!(
        "{} point{} cost {}{} but `{}.total` allows {}",
        s.count(),
        if s.count() == 1 { "" } else { "s" },
        if s.halving.is_some() || !s.planned.is_empty() { "up to " } else { "" },
        show(total, &allowed.unit),
        n.name,
        show(allowed.value, &allowed.unit)
    );
    let mut p = Problem::new("E0501", e.span, text);
    if s.halving.is_none()
        && s.dearest.is_empty()
        && let Some((name, value, left)) = best_cut(s, &cost, allowed.value)
    {
        p = p.help(format!(
            "dropping `{name} = {}` leaves {}",
            describe(&value),
            show(left, &allowed.unit)
        ));
    }
    p = p.help(dearest(s, &|p| cost(p).map(|value| (value, show(value, &allowed.unit)))));
    eval.problem(p);
    None
}

/// The dearest points as a table, the dearest first.
fn dearest(s: &Sweep, cost: &dyn Fn(&Point) -> Option<(f64, String)>) -> String {
    const SHOWN: usize = 5;
    let mut all: Vec<(&Point, f64, String)> = s
        .points
        .iter()
        .filter_map(|p| {
            let (value, shown) = cost(p)?;
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
    cost: &dyn Fn(&Point) -> Option<f64>,
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
        let left: f64 = s.points.iter().filter(kept).filter_map(cost).sum();
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
