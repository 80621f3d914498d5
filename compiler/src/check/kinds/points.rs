//! A checked sweep as nodes: one for each point, and the sweep itself, which needs them.
//!
//! A point is an ordinary node that no item of a file declares; the evaluator keeps it by its name, so that it is compiled like any
//! other. Nodes of other files that a program leans on (`use "./tiny.cs336" { baseline }` needs its data and tokenizer) become
//! nodes of the program too, without a line of their own.

use std::rc::Rc;

use indexmap::IndexMap;

use super::super::eval::{Eval, describe, same};
use super::super::hir::{Budget, Coordinate, Node, Nodes, PointSpec, Spec, SweepSpec};
use super::super::modules::MAIN;
use super::super::units;
use super::super::value::{NodeValue, Quantity, Value};
use super::sweep::{Point, Sweep};
use super::{add_node, later_of, meaning, outside, plain, schema, start, sweep, train};
use crate::problem::Problem;
use crate::source::Span;

/// A point whose work is farther below its budget than this does not lie on the curve that it is drawn on.
const GRANULARITY: f64 = 0.01;

/// Puts the points of a sweep, then the sweep, among the nodes.
pub(super) fn add(eval: &mut Eval<'_>, n: &NodeValue, s: Sweep, nodes: &mut Nodes) {
    coarse(eval, n, &s);
    alike(eval, n, &s);
    repeats(eval, n, &s);
    let mut spec = SweepSpec {
        points: Vec::new(),
        flops: sweep::flops(&s),
        total_flops: sweep::allowed_flops(eval, n),
        best: s.best.clone(),
        halving: s.halving.clone(),
        rounds: s.rounds.clone(),
        planned: s.planned.iter().sum(),
        outside: s.outside.clone(),
    };
    let mut needs: Vec<String> = s.after.iter().cloned().collect();
    for point in &s.points {
        known(eval, point.clone());
        let node = match &point.price {
            Some(price) => request_node(eval, n, &s, point, price),
            None => point_node(eval, n, point),
        };
        let at = point.at.iter().map(|(name, value)| coordinate(name, value)).collect();
        spec.points.push(PointSpec { node: node.name.clone(), at });
        needs.push(node.name.clone());
        nodes.insert(node.name.clone(), node);
    }
    // A sweep means what its points mean, each of which holds the definitions that it reaches.
    let meaning: String = spec
        .points
        .iter()
        .filter_map(|p| nodes.get(&p.node))
        .map(|n| format!("{} {{\n{}}}\n", n.kind, n.meaning))
        .collect();
    let node = Node {
        name: n.name.to_string(),
        kind: n.kind.clone(),
        span: n.span,
        needs,
        spec: Spec::Sweep(Box::new(spec)),
        meaning,
    };
    nodes.insert(n.name.to_string(), node);
}

/// A point as a value: its node, whose `for` names may be asked too.
pub(super) fn known(eval: &mut Eval<'_>, point: Point) -> Value {
    let name = point.node.name.to_string();
    eval.places.insert(name.clone(), point.at);
    eval.points.insert(name, point.node.clone());
    Value::Node(point.node)
}

/// Adds the nodes of other files that the nodes so far need, and those that these need. A fact may have told which point of a sweep is meant:
/// then the sweep is needed, which the fact is about.
pub(super) fn add_imported(eval: &mut Eval<'_>, nodes: &mut Nodes) {
    let mut at = 0;
    while at < nodes.len() {
        let (needed, span) = (nodes[at].needs.clone(), nodes[at].span);
        at += 1;
        for name in needed {
            if nodes.contains_key(&name) {
                continue;
            }
            // A point comes with its sweep.
            let whole = name.split_once('/').map_or(name.as_str(), |(sweep, _)| sweep);
            if let Some(n) = elsewhere(eval, whole, span) {
                add_node(eval, &n, nodes, &mut Vec::new());
            }
        }
    }
}

/// The node that a name means: a point of a sweep, a node of the file, or of another file of the user.
pub(super) fn named(eval: &mut Eval<'_>, name: &str) -> Option<Rc<NodeValue>> {
    if let Some(point) = eval.points.get(name) {
        return Some(point.clone());
    }
    let main = eval.modules.get(MAIN)?;
    let Some(item) = main.names.get(name).map(|i| &main.items[*i]) else {
        let start = Span::new(main.file, 0, 0);
        return elsewhere(eval, name, start);
    };
    let span = item.span;
    match eval.item_value(MAIN, name, span) {
        Value::Node(n) => Some(n),
        _ => None,
    }
}

/// E0208 if a node leans on one of another file whose name this file gives to something else: runs, tokenizers and facts are found by the
/// names of their nodes.
pub(super) fn apart(eval: &mut Eval<'_>, n: &NodeValue) {
    for (name, at) in plain::read(n) {
        let Some(owner) = owner(eval, &name, at).filter(|owner| *owner != MAIN) else { continue };
        let main = &eval.modules[MAIN];
        let (Some(mine), theirs) = (main.names.get(&name), &eval.modules[owner]) else { continue };
        let mine = main.items[*mine].span;
        let theirs = theirs.items[theirs.names[&name]].span;
        let text = format!(
            "`{}` leans on the `{name}` of another file, and this file has a `{name}` too",
            n.name
        );
        eval.problem(
            Problem::new("E0208", n.span, text)
                .label(theirs, "it means this one")
                .label(mine, "and this has the same name")
                .help("give one of them another name"),
        );
    }
}

/// The file of the user that declares what `name` means at a place.
fn owner(eval: &Eval<'_>, name: &str, at: Span) -> Option<usize> {
    let from = eval.modules.iter().position(|m| m.file == at.file)?;
    let module = &eval.modules[from];
    let owner = if module.names.contains_key(name) { from } else { module.imports.get(name)?.0 };
    let found = &eval.modules[owner];
    let is_user = !eval.sources.file(found.file).is_std;
    (is_user && found.names.contains_key(name)).then_some(owner)
}

/// The node `name` of another file of the user.
fn elsewhere(eval: &mut Eval<'_>, name: &str, needed_at: Span) -> Option<Rc<NodeValue>> {
    let found: Vec<(usize, Span)> = (MAIN + 1..eval.modules.len())
        .filter(|m| !eval.sources.file(eval.modules[*m].file).is_std)
        .filter_map(|m| {
            let module = &eval.modules[m];
            Some((m, module.items[*module.names.get(name)?].span))
        })
        .collect();
    let (module, span) = *found.first()?;
    if let Some((_, other)) = found.get(1) {
        let text = format!("two files have a node `{name}`, and a node of this file leans on it");
        eval.problem(
            Problem::new("E0208", needed_at, text)
                .label(span, "here")
                .label(*other, "and here")
                .help("give one of them another name"),
        );
        return None;
    }
    match eval.item_value(module, name, span) {
        Value::Node(n) => Some(n),
        _ => None,
    }
}

fn point_node(eval: &mut Eval<'_>, n: &NodeValue, point: &Point) -> Node {
    let node = &point.node;
    apart(eval, node);
    // Weights to begin with are taken when the run begins; nothing else of the run waits for them.
    let waiting = node.fields.fields.iter().filter(|(name, (v, _))| !start::is_init(name, v));
    let later = waiting.map(|(_, (v, _))| v).find_map(later_of);
    let spec = match (&point.cost, later) {
        (_, Some(later)) => Spec::After { node: later, asks: train::asks(node) },
        (Some(costed), None) => costed.clone().into_spec(),
        (None, None) => {
            let part = schema::kind(&node.kind).map_or(schema::SWEEPS, |k| k.part);
            Spec::NotBuilt { part: part.to_owned() }
        }
    };
    let needs = plain::needs(node);
    let meaning = meaning::of_nodes(eval, std::iter::once(&**node));
    Node {
        name: node.name.to_string(),
        kind: node.kind.clone(),
        span: n.span,
        needs,
        spec,
        meaning,
    }
}

/// A point that others run.
fn request_node(
    eval: &mut Eval<'_>,
    n: &NodeValue,
    s: &Sweep,
    point: &Point,
    price: &Quantity,
) -> Node {
    let node = &point.node;
    let asked = meaning::of_nodes(eval, std::iter::once(&**node));
    Node {
        name: node.name.to_string(),
        kind: node.kind.clone(),
        span: n.span,
        needs: Vec::new(),
        spec: Spec::Outside(Box::new(outside::spec(node, price))),
        meaning: outside::meaning(s) + &asked,
    }
}

fn coordinate(name: &str, value: &Value) -> Coordinate {
    let number = match value {
        Value::Number(q) => Some(q.value),
        _ => None,
    };
    let shown = match value {
        Value::Text(t) => t.to_string(),
        Value::Node(n) => n.name.to_string(),
        other => describe(other),
    };
    Coordinate { name: name.to_owned(), shown, number }
}

/// W0511 if whole steps leave too much of a budget unspent: equal budgets are then not equal.
fn coarse(eval: &mut Eval<'_>, n: &NodeValue, s: &Sweep) {
    let unspent = |p: &Point| -> Option<f64> {
        let t = &p.cost.as_ref()?.spec;
        match t.budget {
            Budget::Flops(budget) => Some(1.0 - t.steps? as f64 * t.step_flops / budget),
            Budget::Tokens(_)
            | Budget::TokensPerParam(_)
            | Budget::Steps(_)
            | Budget::Epochs(_)
            | Budget::Seconds(_) => None,
        }
    };
    let off: Vec<(&Point, f64)> = s
        .points
        .iter()
        .filter_map(|p| Some((p, unspent(p)?)))
        .filter(|(_, left)| *left > GRANULARITY)
        .collect();
    let Some((worst, left)) = off.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)) else {
        return;
    };
    let Some(cost) = &worst.cost else { return };
    let (steps, batch) = (cost.spec.steps.unwrap_or(0), cost.spec.batch_tokens);
    let text = format!(
        "{} of {} points miss their budgets by more than {:.0}%: a step is too large a piece of them",
        off.len(),
        s.points.len(),
        100.0 * GRANULARITY
    );
    // So many steps that even one that is missing is less than the granularity.
    let rows = (batch as f64 * steps as f64 * GRANULARITY / cost.spec.seq as f64).floor().max(1.0);
    let budget_at = worst.node.fields.fields.get("budget").and_then(|(_, span)| *span);
    eval.problem(
        Problem::new("W0511", budget_at.unwrap_or(n.span), text)
            .help(format!(
                "`{}` ({}) has {steps} steps of {batch} tokens and leaves {:.1}% unspent",
                worst.node.name,
                place(worst),
                100.0 * left
            ))
            .help(format!(
                "a batch of {} tokens or less always comes within {:.0}%",
                rows * cost.spec.seq as f64,
                100.0 * GRANULARITY
            )),
    );
}

/// W0513 if a name of a `for` changes nothing: points that differ in it alone are one and the same run.
fn alike(eval: &mut Eval<'_>, n: &NodeValue, s: &Sweep) {
    // What a search draws may come twice.
    if !s.planned.is_empty() || s.rounds.len() > 1 {
        return;
    }
    let meanings: Vec<String> =
        s.points.iter().map(|p| meaning::of_nodes(eval, std::iter::once(&*p.node))).collect();
    let twins = idle(s, &meanings);
    let Some((name, a, b)) = twins else { return };
    let mut runs: Vec<&String> = meanings.iter().collect();
    runs.sort_unstable();
    runs.dedup();
    let text = format!(
        "`{name}` changes nothing in `run`: {} points are {} run{}",
        s.points.len(),
        runs.len(),
        if runs.len() == 1 { "" } else { "s" }
    );
    let (a, b) = (&s.points[a], &s.points[b]);
    let span = sweep::field(n, "run").map_or(n.span, |e| e.span);
    let same =
        format!("the same: `{}` ({}) and `{}` ({})", a.node.name, place(a), b.node.name, place(b));
    eval.problem(Problem::new("W0513", span, text).help(same).help(format!(
        "use it, as in `run = base with {{ FIELD = {name} }}`; repetitions need seeds of their own"
    )));
}

/// A name that never makes a difference, with two points that differ in it alone.
fn idle(s: &Sweep, meanings: &[String]) -> Option<(String, usize, usize)> {
    let names = s.points.first().map(|p| p.at.iter().map(|(n, _)| n.clone()).collect::<Vec<_>>());
    for name in names.unwrap_or_default() {
        // By what the other names are there: the first point, and whether it was met again.
        let mut groups: IndexMap<String, usize> = IndexMap::new();
        let mut twins = None;
        let mut matters = false;
        for (i, p) in s.points.iter().enumerate() {
            let others: Vec<String> =
                p.at.iter()
                    .filter(|(other, _)| *other != name)
                    .map(|(other, v)| format!("{other} = {}", describe(v)))
                    .collect();
            match groups.get(&others.join(", ")) {
                Some(first) if meanings[*first] == meanings[i] => {
                    let is_twin =
                        p.at.iter().zip(&s.points[*first].at).any(|((_, x), (_, y))| !same(x, y));
                    twins = twins.or(is_twin.then_some((*first, i)));
                }
                Some(_) => matters = true,
                None => {
                    groups.insert(others.join(", "), i);
                }
            }
        }
        if let (Some((a, b)), false) = (twins, matters) {
            return Some((name, a, b));
        }
    }
    None
}

/// W0510 once for a sweep, with the point that reads its data most often.
fn repeats(eval: &mut Eval<'_>, n: &NodeValue, s: &Sweep) {
    let mut most: Option<(&Point, f64, String)> = None;
    let mut count = 0;
    for p in &s.points {
        let Some(cost) = &p.cost else { continue };
        let (Some(steps), false) = (cost.spec.steps, matches!(cost.spec.budget, Budget::Epochs(_)))
        else {
            continue;
        };
        let Some((part, have)) = train::known_tokens_of(eval, &p.node) else { continue };
        let epochs = steps as f64 * cost.spec.batch_tokens as f64 / have;
        if epochs < 1.05 {
            continue;
        }
        count += 1;
        if most.as_ref().is_none_or(|(_, known, _)| epochs > *known) {
            most = Some((p, epochs, format!("`{part}`, {} tokens", units::short(have))));
        }
    }
    let Some((p, epochs, part)) = most else { return };
    let text = format!(
        "{count} of {} points read their data ({part}) more than once, at most {epochs:.1} times",
        s.points.len()
    );
    eval.problem(Problem::new("W0510", n.span, text).help(format!(
        "most: `{}` ({})",
        p.node.name,
        place(p)
    )));
}

/// `C = 3.0e16 FLOPs, N = 1.20M params`.
pub(super) fn place(p: &Point) -> String {
    let all: Vec<String> = p.at.iter().map(|(n, v)| format!("{n} = {}", describe(v))).collect();
    all.join(", ")
}
