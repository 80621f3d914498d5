//! `check`, `plan`, `graph`: what a program means and costs, without running it.

use std::collections::{BTreeMap, BTreeSet};

use cs336_compiler::check::hir::{self, Spec, SweepSpec, TrainSpec};
use cs336_compiler::front::Checked;
use cs336_compiler::graph::print as graph_print;
use cs336_compiler::plan;
use cs336_compiler::problem::Severity;
use cs336_compiler::programs::TrainPrograms;
use cs336_device::doctor::Calibration;
use cs336_lab::data::missing;
use cs336_lab::standing::{Standing, standings};
use cs336_lab::{Exit, LabError};
use serde_json::json;

use crate::args::{Nodes, Source, Stage};
use crate::costs::{executed, forward_json, peak, print_costs, print_forward, seconds, traffic};
use crate::host::Real;
use crate::program::{Known, calibration};
use crate::render::{Style, bytes, duration, short};

/// `cs336c check`: one line a node, then the problems.
pub(crate) fn check(host: &Real, style: Style, source: &Source) -> Result<Exit, LabError> {
    let known = Known::new(host, source);
    let disk = known.disk();
    let checked = known.program(&disk, source).checked();
    for line in &checked.lines {
        if style.json {
            crate::print(&json!({ "kind": "node", "line": line }).to_string());
        } else {
            crate::print(line);
        }
    }
    crate::tell(style, &style.problems(checked.problems(), checked.sources()));
    Ok(if checked.problems().has_errors() { Exit::Program } else { Exit::Ok })
}

/// What `plan` prints beyond sizes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    /// FLOPs by operation and by layer.
    pub(crate) costs: bool,
    /// The plan itself.
    pub(crate) kernels: bool,
}

/// `cs336c plan`: how each node stands, and what the runs cost.
pub(crate) fn plan(
    host: &Real,
    style: Style,
    source: &Source,
    nodes: &Nodes,
    show: Shown,
) -> Result<Exit, LabError> {
    let known = Known::new(host, source);
    let disk = known.disk();
    let mut checked = known.program(&disk, source).sound()?;
    crate::run::warn(style, &checked);
    let machine = calibration(&known.cache);
    crate::status::warn(style, &cs336_lab::rundir::list(&nodes.runs)?);
    let all = standings(&checked.nodes, &nodes.nodes, &nodes.runs)?;
    let mut flops = 0.0;
    let stands: BTreeMap<String, Standing> = all.iter().cloned().collect();
    let with_sweep = points_of(&checked.nodes, &stands);
    for (name, standing) in all {
        let node = checked.nodes[&name].clone();
        if with_sweep.contains(&name) && !style.json {
            // It is a line of its sweep.
            continue;
        }
        if let (Spec::Sweep(sweep), false) = (&node.spec, style.json) {
            let sweep = sweep.clone();
            let costs = point_costs(&mut checked, &sweep, machine.as_ref());
            flops += print_sweep(&name, &sweep, &checked.nodes, &stands, &costs);
            continue;
        }
        let costs = match &node.spec {
            Spec::Train(spec) if !with_sweep.contains(&name) => {
                let micro = spec.execution.micro_rows.map(|rows| rows as usize);
                let programs = compiled(&mut checked, |c| c.train_programs(&name, micro))?;
                if !matches!(standing, Standing::Done { .. }) {
                    flops += spec.steps.map_or(0.0, |steps| steps as f64 * spec.step_flops);
                }
                Some((spec.clone(), programs))
            }
            Spec::Data(_)
            | Spec::Rows(_)
            | Spec::Tokenizer(_)
            | Spec::Model
            | Spec::Fit(_)
            | Spec::Train(_)
            | Spec::Sweep(_)
            | Spec::Outside(_)
            | Spec::Report(_)
            | Spec::After { .. }
            | Spec::NotBuilt { .. } => None,
        };
        let missing = match &standing {
            Standing::Done { .. } => None,
            Standing::Ready
            | Standing::Missing
            | Standing::Incomplete { .. }
            | Standing::Failed { .. }
            | Standing::Stopped { .. }
            | Standing::Points { .. }
            | Standing::NotBuilt { .. }
            | Standing::After { .. } => missing(&node.spec),
        };
        if style.json {
            let mut value = json!({ "kind": "node", "name": name, "of": node.kind, "standing": words(&standing) });
            if let Some(error) = &missing {
                value["missing"] = json!(error.to_string());
            }
            if let Some((spec, programs)) = &costs {
                value["params"] = json!(spec.params);
                value["steps"] = json!(spec.steps);
                value["step_flops"] = json!(spec.step_flops);
                value["executed_step_flops"] = json!(executed(&programs.step.plan.steps));
                value["moved_bytes"] = json!(traffic(&programs.step.plan.steps));
                if show.costs {
                    value["flops"] = forward_json(spec, programs);
                }
                value["peak_bytes"] = json!(peak(&programs.step.plan));
                value["seconds"] = json!(machine.as_ref().and_then(|m| seconds(spec, programs, m)));
            }
            if let (Spec::Train(spec), None) = (&node.spec, &costs) {
                value["params"] = json!(spec.params);
                value["steps"] = json!(spec.steps);
                value["step_flops"] = json!(spec.step_flops);
                if !matches!(standing, Standing::Done { .. }) {
                    flops += spec.steps.map_or(0.0, |steps| steps as f64 * spec.step_flops);
                }
            }
            if let Spec::Sweep(sweep) = &node.spec {
                let costs = point_costs(&mut checked, sweep, machine.as_ref());
                let point = |p: &hir::PointSpec| {
                    let cost = costs.get(&p.node);
                    json!({ "node": p.node, "at": p.at, "peak_bytes": cost.map(|c| c.bytes),
                        "seconds": cost.and_then(|c| c.seconds) })
                };
                value["points"] = sweep.points.iter().map(point).collect();
                value["flops"] = json!(sweep.flops);
                value["total_flops"] = json!(sweep.total_flops);
            }
            crate::print(&value.to_string());
            continue;
        }
        let standing = match &missing {
            Some(error) => format!("cannot run: {error}"),
            None => words(&standing),
        };
        crate::print(&format!("{:<10} {:<20} {standing}", node.kind, name));
        if let Some((spec, programs)) = &costs {
            print_costs(spec, programs, machine.as_ref());
            if show.costs {
                print_forward(spec, programs);
            }
            if show.kernels {
                crate::print(&plan::print::print(&programs.step.plan));
            }
        }
    }
    if !style.json {
        crate::print(&format!("to do: {} FLOPs", short(flops)));
    }
    Ok(Exit::Ok)
}

/// `cs336c graph`.
pub(crate) fn graph(
    host: &Real,
    source: &Source,
    node: &str,
    stage: Stage,
) -> Result<Exit, LabError> {
    let known = Known::new(host, source);
    let disk = known.disk();
    let mut checked = known.program(&disk, source).sound()?;
    let seq = match checked.nodes.get(node).map(|node| &node.spec) {
        Some(Spec::Train(spec)) => spec.seq as usize,
        Some(
            Spec::Data(_)
            | Spec::Rows(_)
            | Spec::Tokenizer(_)
            | Spec::Model
            | Spec::Fit(_)
            | Spec::Sweep(_)
            | Spec::Outside(_)
            | Spec::Report(_)
            | Spec::After { .. }
            | Spec::NotBuilt { .. },
        )
        | None => {
            let trains = checked.nodes.values().filter(|n| matches!(n.spec, Spec::Train(_)));
            let known = trains.map(|n| n.name.clone()).collect();
            return Err(LabError::NoNode { name: node.to_owned(), known });
        }
    };
    let compiled = match stage {
        Stage::Step => compiled(&mut checked, |c| c.train_programs(node, None))?.step,
        Stage::Eval => compiled(&mut checked, |c| c.train_programs(node, None))?.eval,
        Stage::Init => compiled(&mut checked, |c| c.train_programs(node, None))?.init,
        Stage::Prefill => {
            compiled(&mut checked, |c| c.decode_programs(node, seq.div_ceil(2), seq))?.prefill
        }
        Stage::Decode => {
            compiled(&mut checked, |c| c.decode_programs(node, seq.div_ceil(2), seq))?.decode
        }
    };
    crate::print(&graph_print::print(&compiled.graph));
    Ok(Exit::Ok)
}

/// Compiles something; problems come with their texts.
pub(crate) fn compiled<T>(
    checked: &mut Checked<'_>,
    make: impl FnOnce(&mut Checked<'_>) -> Result<T, cs336_compiler::problem::Problems>,
) -> Result<T, LabError> {
    make(checked).map_err(|found| {
        // Warnings of the rest of the file are no reason.
        let mut problems = cs336_compiler::problem::Problems::default();
        let errors = found.iter().filter(|p| p.severity == Severity::Error);
        errors.cloned().for_each(|p| problems.push(p));
        LabError::Program(Box::new((problems, checked.sources().clone())))
    })
}

fn words(standing: &Standing) -> String {
    match standing {
        Standing::Ready => "ready".to_owned(),
        Standing::Missing => "to run".to_owned(),
        Standing::Incomplete { step } => format!("goes on from step {step}"),
        Standing::Done { result } => {
            let figure = |name: &str| {
                Some(format!(
                    " {name} {:.4}",
                    result.get(name).and_then(serde_json::Value::as_f64)?
                ))
            };
            let figures: String = ["loss", "valid_loss"].into_iter().filter_map(figure).collect();
            format!("done:{figures}")
        }
        Standing::Failed { code } => {
            format!("failed [{code}]: `run --retry failed` tries it again")
        }
        Standing::Stopped { step, rung } => format!("stopped at rung {rung}, step {step}"),
        Standing::Points { done, stopped: 0, of } => format!("{done} of {of} points done"),
        Standing::Points { done, stopped, of } => {
            format!("{done} of {of} points done, {stopped} stopped early")
        }
        Standing::NotBuilt { part } => format!("cannot run yet: comes with {part}"),
        Standing::After { node, asks: false } => format!("known after `{node}`"),
        Standing::After { node, asks: true } => format!("known after `{node}`, asks first"),
    }
}

/// Points of sweeps that stand in the list themselves.
fn points_of(nodes: &hir::Nodes, stands: &BTreeMap<String, Standing>) -> BTreeSet<String> {
    let sweeps = nodes.values().filter(|n| stands.contains_key(&n.name));
    sweeps.flat_map(hir::Node::points).map(str::to_owned).collect()
}

/// What a point takes on this machine.
#[derive(Debug, Clone, Copy)]
struct PointCost {
    /// At the peak of a step.
    bytes: usize,
    /// Of the whole run; `None`: it is not known how fast this machine is.
    seconds: Option<f64>,
}

/// Models of a sweep that are compiled to be costed, at most: a plan takes a part of a second each.
const MOST_PLANS: usize = 64;

/// What the points of a sweep take. Points that differ in nothing but settings of the optimizer take the same, and are compiled once.
fn point_costs(
    checked: &mut Checked<'_>,
    sweep: &SweepSpec,
    machine: Option<&Calibration>,
) -> BTreeMap<String, PointCost> {
    let mut known: BTreeMap<(u64, u64, u64, u64), Option<TrainPrograms>> = BTreeMap::new();
    let mut costs = BTreeMap::new();
    for point in &sweep.points {
        let Some(Spec::Train(spec)) = checked.nodes.get(&point.node).map(|n| &n.spec) else {
            continue;
        };
        let spec = spec.clone();
        let same = (spec.params, spec.step_flops.to_bits(), spec.batch_tokens, spec.seq);
        if !known.contains_key(&same) && known.len() >= MOST_PLANS {
            continue;
        }
        let micro = spec.execution.micro_rows.map(|rows| rows as usize);
        let programs =
            known.entry(same).or_insert_with(|| checked.train_programs(&point.node, micro).ok());
        if let Some(programs) = programs {
            let seconds = machine.and_then(|m| seconds(&spec, programs, m));
            let cost = PointCost { bytes: peak(&programs.step.plan), seconds };
            costs.insert(point.node.clone(), cost);
        }
    }
    costs
}

/// A sweep as a table, a point a line. Gives the FLOPs that are still to be done.
fn print_sweep(
    name: &str,
    sweep: &SweepSpec,
    nodes: &hir::Nodes,
    stands: &BTreeMap<String, Standing>,
    costs: &BTreeMap<String, PointCost>,
) -> f64 {
    let standing = stands.get(name).map(words).unwrap_or_default();
    let flops = match (sweep.flops, &sweep.outside) {
        (Some(flops), _) => format!("{flops:.2e} FLOPs"),
        (None, Some(_)) => "time of others".to_owned(),
        (None, None) => "cost known later".to_owned(),
    };
    let of = sweep.total_flops.map_or(String::new(), |t| format!(" of {t:.2e}"));
    let whole: Option<f64> = sweep.points.iter().map(|p| costs.get(&p.node)?.seconds).sum();
    let whole = whole.filter(|s| *s > 0.0);
    let time = whole.map_or(String::new(), |s| format!(", at least {} one by one", duration(s)));
    crate::print(&format!("{:<10} {name:<20} {standing}, {flops}{of}{time}", "sweep"));
    print_rungs(sweep, nodes);
    let mut rows: Vec<Vec<String>> = Vec::new();
    let (mut left, mut spent) = (0.0, 0.0f64);
    for point in &sweep.points {
        let mut row = vec![point.node.clone()];
        row.extend(point.at.iter().map(|c| format!("{} = {}", c.name, c.shown)));
        let spec = nodes.get(&point.node).map(|n| &n.spec);
        if let Some(Spec::Train(spec)) = spec {
            let steps = spec.steps.unwrap_or(0) as f64;
            let tokens = steps * spec.batch_tokens as f64;
            row.push(format!("{} params", short(spec.params as f64)));
            row.push(format!("{} tokens", short(tokens)));
            row.push(format!("{:.1}/param", tokens / spec.params.max(1) as f64));
            row.push(format!("{steps} steps"));
            row.push(format!("{:.2e} FLOPs", steps * spec.step_flops));
            if let Some(cost) = costs.get(&point.node) {
                row.push(bytes(cost.bytes as f64));
                row.push(cost.seconds.map_or(String::new(), |s| format!(">{}", duration(s))));
            }
            let whole = steps * spec.step_flops;
            match stands.get(&point.node) {
                Some(Standing::Done { .. }) => spent += whole,
                Some(Standing::Stopped { step, .. }) => spent += *step as f64 * spec.step_flops,
                Some(Standing::Incomplete { step }) => {
                    spent += *step as f64 * spec.step_flops;
                    left += whole;
                }
                Some(_) | None => left += whole,
            }
        }
        if let Some(Spec::Outside(asked)) = spec
            && asked.cost > 0.0
        {
            row.push(format!("{:.2e} {}", asked.cost, asked.unit));
            if asked.unit == "FLOPs"
                && !matches!(stands.get(&point.node), Some(Standing::Done { .. }))
            {
                left += asked.cost;
            }
        }
        row.push(stands.get(&point.node).map(words).unwrap_or_default());
        rows.push(row);
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| rows.iter().filter_map(|r| r.get(at)).map(String::len).max();
    let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        crate::print(format!("           {}", cells.join("  ")).trim_end());
    }
    if sweep.planned > 0 {
        let noun = if sweep.planned == 1 { "point" } else { "points" };
        crate::print(&format!(
            "           and {} more {noun}, drawn from what these give",
            sweep.planned
        ));
    }
    if let (true, Some(most)) = (sweep.planned > 0, sweep.flops) {
        return (most - spent).max(0.0);
    }
    match (&sweep.halving, sweep.flops) {
        // Not all of those that are not finished go to their ends.
        (Some(_), Some(most)) => left.min((most - spent).max(0.0)),
        (Some(_) | None, _) => left,
    }
}

/// A line for each rung at which points are stopped: how many come there, and what their way costs at most.
fn print_rungs(sweep: &SweepSpec, nodes: &hir::Nodes) {
    let Some(halving) = &sweep.halving else { return };
    if sweep.planned > 0 || sweep.rounds.len() > 1 {
        let rungs: Vec<String> = halving.rungs.iter().map(|flops| format!("{flops:.2e}")).collect();
        let (keep, rungs) = (halving.keep, rungs.join(", "));
        crate::print(&format!(
            "           in each round the best {keep:.2} go on from {rungs} FLOPs"
        ));
        return;
    }
    let run = |p: &hir::PointSpec| match nodes.get(&p.node).map(|n| &n.spec) {
        Some(Spec::Train(spec)) => Some(&**spec),
        _ => None,
    };
    let runs: Option<Vec<&TrainSpec>> = sweep.points.iter().map(run).collect();
    let Some(runs) = runs else { return };
    let whole = |r: &TrainSpec| Some(r.steps? as f64 * r.step_flops);
    let costs: Option<Vec<(&TrainSpec, f64)>> =
        runs.into_iter().map(|r| Some((r, whole(r)?))).collect();
    let Some(costs) = costs else { return };
    for (rung, stretch) in halving.stretches(&costs).iter().enumerate() {
        let (points, cost) = (stretch.points, stretch.cost);
        let noun = if points == 1 { "point" } else { "points" };
        let to = match halving.rungs.get(rung) {
            Some(flops) => format!("rung {}: {points} {noun} to {flops:.2e} FLOPs each", rung + 1),
            None => format!("then {points} {noun} to the end"),
        };
        crate::print(&format!("           {to}, at most {cost:.2e}"));
    }
}
