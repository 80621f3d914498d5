//! `search = tpe(..)` or `random(..)`: which points a sweep draws.
//!
//! A search goes in rounds. The points of a round are known at once; those of the next are drawn when the checker knows, as facts, what all
//! of the rounds before gave. So a program with its facts says which points there are, and a search that is begun again draws the same.

use super::super::eval::{Eval, describe};
use super::super::hir::Outside;
use super::super::value::{NodeValue, Record, Value};
use super::stop;
use super::sweep::{self, Point, Sweep};
use super::walk::{self, Axis};
use crate::problem::Problem;
use crate::row::RowExpr;
use crate::search::{Coordinate, Draw, Halving, Known, Trial};
use crate::source::Span;
use crate::syntax::ast::{self, ExprKind};

/// Draws of a point that its `where` may leave out before the space counts as empty.
const MOST_ATTEMPTS: u32 = 1000;

/// Corners of a space that are costed one after the other; of a space with more, as many again are drawn.
const CORNERS: usize = 256;

/// What a search says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Search {
    /// Draws by what earlier points gave; else by chance.
    guided: bool,
    /// How many points it draws.
    points: usize,
    /// How many of them by chance, before what they gave counts.
    startup: usize,
    /// How many at a time after that.
    batch: usize,
    seed: u64,
    /// What is made small, if it says so itself.
    pub(super) minimize: Option<RowExpr>,
}

/// The names that each kind of search takes.
const TPE: &[&str] = &["points", "seed", "startup", "batch", "minimize"];
const RANDOM: &[&str] = &["points", "seed", "minimize"];

/// The field `search`. The outer `None`: a problem was reported.
pub(super) fn settings(eval: &mut Eval<'_>, n: &NodeValue) -> Option<Option<Search>> {
    let Some(e) = sweep::setting(eval, n, "search") else { return Some(None) };
    let (e, by_chance) = by_chance(e);
    let v = sweep::own(eval, n, "search", &e)?;
    let guided = match &v {
        Value::Record(r) if stop::is(r, "tpe") => Some(!by_chance),
        _ => None,
    };
    let (Value::Record(r), Some(guided)) = (&v, guided) else {
        let text =
            format!("a sweep searches by `tpe(..)` or `random(..)`, this is {}", describe(&v));
        let help = "for example `search = tpe(points = 40)`";
        eval.problem(Problem::new("E0510", e.span, text).help(help));
        return None;
    };
    let (name, known) = if guided { ("tpe", TPE) } else { ("random", RANDOM) };
    let span = |field: &str| r.fields.get(field).and_then(|(_, s)| *s).unwrap_or(e.span);
    // `random(40)`: the one value without a name is the number of points.
    let other = r.fields.keys().find(|k| !known.contains(&k.as_str()) && *k != "kind" && *k != "0");
    if let Some(other) = other {
        let text = format!("`{name}` takes {}, not `{other}`", known.join(", "));
        eval.problem(Problem::new("E0510", span(other), text));
        return None;
    }
    let field = if r.get("points").is_some() { "points" } else { "0" };
    let Some(points) = count(eval, r, field, span(field), 1, walk::MOST_POINTS)? else {
        let text = format!("`{name}` needs `points`, how many it draws");
        eval.problem(Problem::new("E0510", e.span, text).help(format!("`{name}(points = 40)`")));
        return None;
    };
    let startup = count(eval, r, "startup", span("startup"), 1, points)?.unwrap_or(10.min(points));
    let batch = count(eval, r, "batch", span("batch"), 1, points)?.unwrap_or(4.min(points));
    let seed = count(eval, r, "seed", span("seed"), 0, u32::MAX as usize)?.unwrap_or(0) as u64;
    let minimize = match r.get("minimize") {
        Some(m) => {
            if let Some(best) = sweep::field(n, "best") {
                let text = "`best` says already what is made small";
                let p = Problem::new("E0510", span("minimize"), text).label(best.span, "here");
                eval.problem(p.help("leave out one of them"));
                return None;
            }
            Some(stop::measure(eval, m, span("minimize"))?)
        }
        None => None,
    };
    let startup = if guided { startup } else { points };
    Some(Some(Search { guided, points, startup, batch, seed, minimize }))
}

/// `random` is a word of other fields too and no name of its own: here it is a `tpe` that learns nothing.
fn by_chance(mut e: ast::Expr) -> (ast::Expr, bool) {
    if let ExprKind::Call { callee, .. } = &mut *e.kind
        && let ExprKind::Name(name) = &mut *callee.kind
        && name == "random"
    {
        *name = "tpe".into();
        return (e, true);
    }
    (e, false)
}

/// A whole number within bounds. The outer `None`: a problem was reported.
fn count(
    eval: &mut Eval<'_>,
    r: &Record,
    name: &str,
    span: Span,
    least: usize,
    most: usize,
) -> Option<Option<usize>> {
    match r.get(name) {
        None => Some(None),
        Some(Value::Number(q))
            if q.unit.is_none()
                && q.value.fract() == 0.0
                && q.value >= least as f64
                && q.value <= most as f64 =>
        {
            Some(Some(q.value as usize))
        }
        Some(other) => {
            let name = if name == "0" { "points" } else { name };
            let text = format!(
                "`{name}` is a whole number from {least} to {most}, this is {}",
                describe(other)
            );
            eval.problem(Problem::new("E0510", span, text));
            None
        }
    }
}

/// The points that are known, and what is planned. `None`: a problem was reported.
pub(super) fn drawn(
    eval: &mut Eval<'_>,
    n: &NodeValue,
    search: &Search,
    best: RowExpr,
    halving: Option<Halving>,
    outside: Option<Outside>,
) -> Option<Sweep> {
    let mut found = Sweep {
        points: Vec::new(),
        after: None,
        rounds: Vec::new(),
        planned: Vec::new(),
        dearest: Vec::new(),
        best,
        halving,
        outside,
    };
    let mut trials: Vec<Trial> = Vec::new();
    let mut left = search.points;
    while left > 0 {
        let size = left.min(if found.rounds.is_empty() { search.startup } else { search.batch });
        left -= size;
        let known = trials.iter().all(|t| t.known != Known::Waiting);
        if !known || !found.planned.is_empty() {
            found.planned.push(size);
            continue;
        }
        let by_chance = found.rounds.is_empty();
        for _ in 0..size {
            let (mut point, at, after) = one(eval, n, search, &trials, by_chance)?;
            let i = found.points.len();
            sweep::name_points(n, std::slice::from_mut(&mut point), i, search.points);
            trials.push(Trial { at, known: Known::Waiting });
            found.points.push(point);
            if found.after.is_none() {
                found.after = after;
            }
        }
        found.rounds.push(size);
        let first = found.points.len() - size;
        for (trial, point) in trials[first..].iter_mut().zip(&found.points[first..]) {
            trial.known = known_of(eval, &point.node.name);
        }
    }
    if !found.planned.is_empty() {
        found.dearest = corners(eval, n, search.seed)?;
    }
    Some(found)
}

/// One drawn point: where it lies, and which node it waits for.
type Drawn = (Point, Vec<(String, Coordinate)>, Option<String>);

/// Draws until the space takes a point.
fn one(
    eval: &mut Eval<'_>,
    n: &NodeValue,
    search: &Search,
    trials: &[Trial],
    by_chance: bool,
) -> Option<Drawn> {
    let history = if by_chance { &[] } else { trials };
    for attempt in 0..MOST_ATTEMPTS {
        let draw = Draw::new(history, search.seed, trials.len() as u64, attempt);
        let mut at = Vec::new();
        let mut choose = |name: &str, axis: Axis| {
            let coordinate = match axis {
                Axis::Line => Coordinate::Line(draw.line(name)),
                Axis::Choice(of) => Coordinate::Choice(draw.choice(name, of)),
            };
            at.push((name.to_owned(), coordinate));
            coordinate
        };
        let mut found = walk::walk(eval, n, Some(&mut choose))?;
        if let Some(point) = found.points.pop() {
            return Some((point, at, found.after));
        }
    }
    let text =
        format!("the sweep `{}` has no points: none of {MOST_ATTEMPTS} draws is left in", n.name);
    eval.problem(
        Problem::new("E0503", n.span, text).help("a `where` leaves out nearly everything"),
    );
    None
}

/// What the facts say of a point.
fn known_of(eval: &Eval<'_>, point: &str) -> Known {
    let fact = |field| eval.world.fact(point, field);
    match (fact("measure"), fact("rung"), fact("failed")) {
        (Some(measure), rung, _) => Known::Measured { rung: rung.unwrap_or(0.0) as u64, measure },
        (None, _, Some(_)) => Known::Failed,
        (None, _, None) => Known::Waiting,
    }
}

/// The costs at the corners of the space: every list at each of its values, every distribution at both of its ends. Of a space with more
/// than [`CORNERS`] of them the first, and as many that are drawn.
fn corners(eval: &mut Eval<'_>, n: &NodeValue, seed: u64) -> Option<Vec<Point>> {
    let mut all: Vec<Point> = Vec::new();
    let end = |c: usize, axis: Axis| match axis {
        Axis::Line => Coordinate::Line(c as f64),
        Axis::Choice(_) => Coordinate::Choice(c),
    };
    let width = |axis: Axis| match axis {
        Axis::Line => 2,
        Axis::Choice(of) => of,
    };
    // Each way through the space as what was chosen and of how many; the next one differs in the last place that it can.
    let mut way: Vec<(usize, usize)> = Vec::new();
    for _ in 0..CORNERS {
        let mut depth = 0;
        let mut choose = |_: &str, axis: Axis| {
            if depth == way.len() {
                way.push((0, width(axis)));
            }
            depth += 1;
            end(way[depth - 1].0, axis)
        };
        let found = walk::walk(eval, n, Some(&mut choose))?;
        all.extend(found.points);
        while way.last().is_some_and(|(c, of)| c + 1 >= *of) {
            way.pop();
        }
        match way.last_mut() {
            Some((c, _)) => *c += 1,
            None => return Some(all),
        }
    }
    for i in 0..CORNERS {
        let draw = Draw::new(&[], seed, i as u64, MOST_ATTEMPTS);
        let mut choose = |name: &str, axis: Axis| end(draw.choice(name, width(axis)), axis);
        let found = walk::walk(eval, n, Some(&mut choose))?;
        all.extend(found.points);
    }
    Some(all)
}
