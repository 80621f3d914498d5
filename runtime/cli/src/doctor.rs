//! `cs336c doctor`: what this machine can do, measured and kept for estimates of time.

use cs336_device::Cpu;
use cs336_device::doctor::calibrate;
use cs336_lab::{Exit, LabError, cache_folder};

use crate::args::Machine;
use crate::host::Real;
use crate::program::calibration_path;
use crate::render::{Style, bytes};

pub(crate) fn doctor(host: &Real, style: Style, machine: &Machine) -> Result<Exit, LabError> {
    let found = calibrate(&Cpu::new(machine.threads)?)?;
    let path = calibration_path(&cache_folder(host));
    cs336_lab::write_json(&path, &found)?;
    if style.json {
        let text = serde_json::to_string(&found).unwrap_or_default();
        crate::print(&text);
        return Ok(Exit::Ok);
    }
    crate::print(&format!("processor   {}", found.processor));
    crate::print(&format!("features    {}", found.features.join(" ")));
    crate::print(&format!("threads     {}", found.threads));
    if let Some(memory) = found.memory_bytes {
        crate::print(&format!("memory      {}", bytes(memory as f64)));
    }
    crate::print(&format!("contraction {:.1} GFLOP/s (f32, 1024 x 1024)", found.gemm_gflops));
    crate::print(&format!("copying     {:.1} GB/s", found.copy_gb_per_s));
    crate::print(&format!("kept in     {}", path.display()));
    Ok(Exit::Ok)
}
