//! `cs336c profile`: where the time of an optimizer step goes, beside what the machine could do.

use std::collections::BTreeMap;

use cs336_compiler::check::hir::Spec;
use cs336_device::doctor::{Calibration, calibrate};
use cs336_lab::profile::{Profiled, profile as measure};
use cs336_lab::{Exit, Host, LabError};
use serde_json::json;

use crate::args::{Machine, Source};
use crate::costs::executed;
use crate::host::Real;
use crate::program::Known;
use crate::render::{Style, bytes, short};
use crate::show::compiled;

pub(crate) fn profile(
    host: &Real,
    style: Style,
    source: &Source,
    node: Option<&str>,
    steps: usize,
    machine: &Machine,
) -> Result<Exit, LabError> {
    let began = host.seconds();
    let mut known = Known::new(host, source);
    let device = known.device(machine)?;
    let disk = known.disk();
    let mut checked = known.program(&disk, source).sound()?;
    let trains: Vec<String> = (checked.nodes.values())
        .filter(|n| matches!(n.spec, Spec::Train(_)))
        .map(|n| n.name.clone())
        .collect();
    let name = match (node, trains.as_slice()) {
        (Some(name), known) if known.iter().any(|k| k == name) => name.to_owned(),
        (None, [only]) => only.clone(),
        (name, _) => {
            let name = name.unwrap_or_default().to_owned();
            return Err(LabError::NoNode { name, known: trains });
        }
    };
    let Some(Spec::Train(spec)) = checked.nodes.get(&name).map(|n| n.spec.clone()) else {
        return Err(LabError::NoNode { name, known: trains });
    };
    let micro = spec.execution.micro_rows.map(|rows| rows as usize);
    let programs = compiled(&mut checked, |c| c.train_programs(&name, micro))?;
    let compile = host.seconds() - began;
    let ceilings = calibrate(&device)?;
    let flops = executed(&programs.step.plan.steps);
    let found = measure(programs, &device, &ceilings, host, steps.max(1))?;
    let tokens = spec.batch_tokens as f64;
    if style.json {
        let value = json!({
            "kind": "profile",
            "name": name,
            "params": spec.params,
            "batch_tokens": spec.batch_tokens,
            "model_flops": spec.step_flops,
            "executed_flops": flops,
            "compile": compile,
            "machine": ceilings,
            "median": found.median(),
            "measured": found,
        });
        crate::print(&value.to_string());
        return Ok(Exit::Ok);
    }
    let median = found.median();
    crate::print(&format!(
        "{name}: {} params, {} tokens a step, {} threads",
        short(spec.params as f64),
        short(tokens),
        ceilings.threads
    ));
    crate::print(&format!(
        "ready in    {} checked and planned, {} kernels, {} weights, {} first step",
        ms(compile),
        ms(found.load),
        ms(found.init),
        ms(found.first)
    ));
    crate::print(&format!(
        "step        {} (median of {}), {} tokens/s",
        ms(median),
        found.steps.len(),
        short(tokens / median)
    ));
    print_floor(&found, &ceilings, flops);
    crate::print(&format!("memory      {}", bytes(found.memory as f64)));
    print_kinds(&found);
    print_rows(&found);
    Ok(Exit::Ok)
}

fn print_floor(found: &Profiled, ceilings: &Calibration, flops: f64) {
    let median = found.median();
    let rate = flops / median / 1e9;
    crate::print(&format!(
        "floor       {} at {:.0} GFLOP/s and {:.1} GB/s: the step takes {:.2} times that, at {:.0} GFLOP/s ({:.0}% of a contraction's)",
        ms(found.floor),
        ceilings.gemm_gflops,
        ceilings.copy_gb_per_s,
        median / found.floor.max(1e-12),
        rate,
        100.0 * rate / ceilings.gemm_gflops.max(1e-9),
    ));
}

/// Time by kind of kernel.
fn print_kinds(found: &Profiled) {
    let mut kinds: BTreeMap<&str, f64> = BTreeMap::new();
    for row in &found.rows {
        *kinds.entry(row.kind).or_default() += row.seconds;
    }
    let whole: f64 = kinds.values().sum();
    let mut kinds: Vec<(&str, f64)> = kinds.into_iter().collect();
    kinds.sort_by(|a, b| b.1.total_cmp(&a.1));
    let kinds: Vec<String> = (kinds.iter())
        .map(|(kind, s)| format!("{kind} {:.0}%", 100.0 * s / whole.max(1e-12)))
        .collect();
    crate::print(&format!("kinds       {}", kinds.join(", ")));
}

fn print_rows(found: &Profiled) {
    const SHOWN: usize = 40;
    crate::print(&format!(
        "{:>10} {:>6} {:>8} {:>9} {:>9}  what",
        "time", "share", "launches", "GFLOP/s", "GB/s"
    ));
    let whole: f64 = found.rows.iter().map(|r| r.seconds).sum();
    for row in found.rows.iter().take(SHOWN) {
        let rate = |amount: u64| {
            if amount == 0 {
                return String::new();
            }
            format!("{:.1}", amount as f64 / row.seconds.max(1e-12) / 1e9)
        };
        crate::print(&format!(
            "{:>10} {:>5.1}% {:>8} {:>9} {:>9}  {} {}",
            ms(row.seconds),
            100.0 * row.seconds / whole.max(1e-12),
            row.launches,
            rate(row.flops),
            rate(row.bytes),
            row.origin,
            row.kind
        ));
    }
    if found.rows.len() > SHOWN {
        let rest: f64 = found.rows.iter().skip(SHOWN).map(|r| r.seconds).sum();
        crate::print(&format!("{:>10}  and {} more", ms(rest), found.rows.len() - SHOWN));
    }
}

fn ms(seconds: f64) -> String {
    match seconds {
        s if s >= 10.0 => format!("{s:.1} s"),
        s if s >= 1.0 => format!("{s:.2} s"),
        s if s >= 0.1 => format!("{:.0} ms", s * 1e3),
        s if s >= 0.001 => format!("{:.2} ms", s * 1e3),
        s => format!("{:.1} us", s * 1e6),
    }
}
