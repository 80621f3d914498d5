//! Where the time of an optimizer step goes.
//!
//! A training run's programs are made ready as for a run, but the batch is random tokens, nothing is read and nothing is recorded. Steps are
//! timed whole first, then again launch by launch (which adds a little to each). [`Profiled::floor`] is what the step would take if each launch
//! did its arithmetic at the rate of the machine's contractions or moved its bytes at the rate of its memory, whichever takes longer: the
//! roofline of Williams et al. (2009), launch by launch.

use cs336_compiler::graph::Name;
use cs336_compiler::plan::Step;
use cs336_compiler::programs::TrainPrograms;
use cs336_data::Batch;
use cs336_device::doctor::Calibration;
use cs336_device::{Processor, ProfileRow};
use serde::Serialize;

use crate::error::LabError;
use crate::host::Host;
use crate::machine::{Machine, PlanMachine, StepInput};

/// What was measured; times in seconds.
#[derive(Debug, Clone, Serialize)]
pub struct Profiled {
    /// Loading the kernels of all plans.
    pub load: f64,
    /// Filling the weights.
    pub init: f64,
    /// The first step.
    pub first: f64,
    /// The steps after it.
    pub steps: Vec<f64>,
    /// The loss of each step from the first on: the same on every machine of one kind, so it shows that the work was done.
    pub losses: Vec<f64>,
    /// Time by layer and kind of kernel, of one step; dearest first.
    pub rows: Vec<Part>,
    /// Bytes of the arena and of everything that lives between steps.
    pub memory: u64,
    /// See the module.
    pub floor: f64,
}

/// One layer's kernels of one kind.
#[derive(Debug, Clone, Serialize)]
pub struct Part {
    /// Layer path and op.
    pub origin: Name,
    /// The kind of kernel.
    pub kind: &'static str,
    /// Launches in a step.
    pub launches: u64,
    /// Seconds in a step.
    pub seconds: f64,
    /// FLOPs of contractions in a step.
    pub flops: u64,
    /// Bytes in a step, each operand once.
    pub bytes: u64,
}

impl Profiled {
    /// The step that half of the steps are faster than.
    pub fn median(&self) -> f64 {
        let mut sorted = self.steps.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or(self.first)
    }
}

/// Times `count` steps after the first.
pub fn profile(
    programs: TrainPrograms,
    device: &Processor,
    machine: &Calibration,
    host: &dyn Host,
    count: usize,
) -> Result<Profiled, LabError> {
    const DETAILED: u64 = 3;
    let batch = batch(&programs);
    let floor = floor(&programs.step.plan.steps, machine);
    let memory = programs.step.plan.memory.iter().map(|(_, bytes)| *bytes as u64).sum();
    let never = |_, _| Err(LabError::Tensor("a profile writes no text".into()));
    let clock = |from: f64| host.seconds() - from;

    let from = host.seconds();
    let mut model = PlanMachine::new(device, programs, Box::new(never))?;
    let load = clock(from);
    let from = host.seconds();
    model.init(1)?;
    let init = clock(from);
    let mut losses = Vec::new();
    let mut timed = |model: &mut PlanMachine<'_>, step: u64| -> Result<f64, LabError> {
        let from = host.seconds();
        let output = model.step(&batch, StepInput { step, share: 0.5, seed: 1 })?;
        losses.push(output.loss);
        Ok(clock(from))
    };
    let first = timed(&mut model, 1)?;
    let steps = (0..count as u64).map(|i| timed(&mut model, 2 + i)).collect::<Result<_, _>>()?;
    model.watch_time(true);
    for i in 0..DETAILED {
        timed(&mut model, 2 + count as u64 + i)?;
    }
    let mut rows: Vec<Part> =
        model.take_profile().rows.into_iter().map(|row| part(row, DETAILED)).collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(Profiled { load, init, first, steps, losses, rows, memory, floor })
}

fn part(row: ProfileRow, steps: u64) -> Part {
    Part {
        origin: row.origin,
        kind: row.kind,
        launches: row.launches / steps,
        seconds: row.seconds / steps as f64,
        flops: row.flops / steps,
        bytes: row.bytes / steps,
    }
}

/// What no launch is faster than, however little it does: the smallest contractions of a model with 16 columns take 0.8 µs, loops 1.5 µs.
const LAUNCH: f64 = 0.8e-6;

/// Seconds that one execution takes at least on a machine with these rates; see the module. Exponentials are in neither count, so attention with few
/// columns for each head takes several times as long.
pub fn floor(steps: &[Step], machine: &Calibration) -> f64 {
    steps
        .iter()
        .map(|step| match step {
            Step::Launch(launch) => {
                let compute = launch.flops as f64 / (machine.gemm_gflops * 1e9);
                compute.max(launch.bytes as f64 / (machine.copy_gb_per_s * 1e9)).max(LAUNCH)
            }
            Step::Loop { count, body, .. } => *count as f64 * floor(body, machine),
            Step::Copy { bytes, .. } => 2.0 * *bytes as f64 / (machine.copy_gb_per_s * 1e9),
            Step::Zero { bytes, .. } => *bytes as f64 / (machine.copy_gb_per_s * 1e9),
        })
        .sum()
}

/// Tokens in no order: one document, every target counts.
fn batch(programs: &TrainPrograms) -> Batch {
    let rows = programs.micro_rows * programs.micro_count;
    let axes = programs.weights.iter().flat_map(|w| &w.ty.axes);
    let vocab = axes.filter(|a| a.name.as_str() == "vocab").map(|a| a.size).max().unwrap_or(1);
    // Knuth's multiplicative hash (TAOCP 6.4): any spread of ids will do, it must only be the same each time.
    let id = |at: usize| (((at as u64 * 2_654_435_761) >> 8) % vocab as u64) as i32;
    let len = rows * programs.seq;
    Batch {
        rows,
        seq: programs.seq,
        ids: (0..len).map(id).collect(),
        target: (1..=len).map(id).collect(),
        learn: vec![1.0; len],
        doc: vec![0; len],
        doc_pos: (0..len).map(|at| (at % programs.seq) as i32).collect(),
    }
}
