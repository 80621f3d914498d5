//! What a training run costs: on the graph (model FLOPs, by operation and by layer), on the plan (executed FLOPs, traffic, memory, time).

use cs336_compiler::check::hir::{Budget, TrainSpec};
use cs336_compiler::graph::cost::cost;
use cs336_compiler::plan::{self, Plan};
use cs336_compiler::programs::TrainPrograms;
use cs336_device::doctor::Calibration;
use cs336_lab::profile::floor;
use serde_json::{Value, json};

use crate::render::{bytes, duration, short};

pub(crate) fn print_costs(
    spec: &TrainSpec,
    programs: &TrainPrograms,
    machine: Option<&Calibration>,
) {
    let plan = &programs.step.plan;
    let steps = match (spec.steps, spec.budget) {
        (Some(n), _) => format!("{n} steps"),
        (None, Budget::Seconds(s)) => format!("as many steps as {} allow,", duration(s)),
        (None, _) => "steps known after its data".to_owned(),
    };
    let executed = executed(&plan.steps);
    crate::print(&format!(
        "           {} params, {steps} of {} tokens ({} x {} rows of {})",
        short(spec.params as f64),
        short(spec.batch_tokens as f64),
        programs.micro_count,
        programs.micro_rows,
        programs.seq,
    ));
    crate::print(&format!(
        "           a step: {} model FLOPs, {} executed, {} moved, 6ND {}",
        short(spec.step_flops),
        short(executed),
        bytes(traffic(&plan.steps)),
        short(6.0 * spec.params as f64 * spec.batch_tokens as f64),
    ));
    let classes: Vec<String> = plan
        .memory
        .iter()
        .map(|(class, size)| {
            format!("{} {}", format!("{class:?}").to_lowercase(), bytes(*size as f64))
        })
        .collect();
    crate::print(&format!(
        "           memory at its peak: {} ({})",
        bytes(peak(plan) as f64),
        classes.join(", ")
    ));
    let time = match machine.and_then(|machine| seconds(spec, programs, machine)) {
        Some(seconds) => format!("at least {}", duration(seconds)),
        None => "unknown: run `cs336c doctor`".to_owned(),
    };
    crate::print(&format!("           time: {time}"));
}

pub(crate) fn peak(plan: &Plan) -> usize {
    plan.memory.iter().map(|(_, bytes)| bytes).sum()
}

/// Floating-point operations of contractions in one execution.
pub(crate) fn executed(steps: &[plan::Step]) -> f64 {
    sum(steps, &|launch| launch.flops as f64)
}

/// Bytes that the kernels of one execution read and write.
pub(crate) fn traffic(steps: &[plan::Step]) -> f64 {
    sum(steps, &|launch| launch.bytes as f64)
}

/// Model FLOPs of the forward half of a step, by operation and by layer, dearest first. The backward half has twice as many of each.
fn forward(spec: &TrainSpec, programs: &TrainPrograms) -> [(&'static str, Vec<(String, f64)>); 2] {
    let table = cost(&programs.eval.graph);
    // The evaluation has other rows than a step; of each row all cost the same.
    let scale = spec.step_flops / table.training_flops().max(1.0);
    let scaled = |(name, flops): (String, f64)| (name, flops * scale);
    let layers = table.by_path().into_iter().map(|(path, flops)| (path.to_string(), flops));
    [
        ("operation", table.by_op().into_iter().map(scaled).collect()),
        ("layer", layers.map(scaled).collect()),
    ]
}

/// The same as a table.
pub(crate) fn print_forward(spec: &TrainSpec, programs: &TrainPrograms) {
    for (what, rows) in forward(spec, programs) {
        crate::print(&format!(
            "           {:<32} {:>10} {:>10} {:>7}",
            format!("FLOPs of a step by {what}"),
            "forward",
            "backward",
            "share"
        ));
        for (name, flops) in rows {
            crate::print(&format!(
                "           {:<32} {:>10} {:>10} {:>6.1}%",
                if name.is_empty() { "the model itself" } else { &name },
                short(flops),
                short(2.0 * flops),
                300.0 * flops / spec.step_flops.max(1.0)
            ));
        }
    }
}

/// The same as data.
pub(crate) fn forward_json(spec: &TrainSpec, programs: &TrainPrograms) -> Value {
    forward(spec, programs)
        .into_iter()
        .map(|(what, rows)| {
            let row = |(name, flops): (String, f64)| {
                json!({ "name": name, "forward": flops, "backward": 2.0 * flops })
            };
            (what.to_owned(), rows.into_iter().map(row).collect())
        })
        .collect::<serde_json::Map<String, Value>>()
        .into()
}

/// What all steps take at least: the floor of `profile`, which needs no run.
pub(crate) fn seconds(
    spec: &TrainSpec,
    programs: &TrainPrograms,
    machine: &Calibration,
) -> Option<f64> {
    Some(spec.steps? as f64 * floor(&programs.step.plan.steps, machine))
}

fn sum(steps: &[plan::Step], of: &dyn Fn(&plan::Launch) -> f64) -> f64 {
    steps
        .iter()
        .map(|step| match step {
            plan::Step::Launch(launch) => of(launch),
            plan::Step::Loop { count, body, .. } => *count as f64 * sum(body, of),
            plan::Step::Copy { .. } | plan::Step::Zero { .. } => 0.0,
        })
        .sum()
}
