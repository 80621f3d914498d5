//! `cs336c doctor`: what this machine can do, measured and kept for estimates of time.

use cs336_device::doctor::{Calibration, calibrate};
use cs336_device::{Cpu, Cuda, Processor};
use cs336_lab::{Exit, LabError, cache_folder};

use crate::args::{Machine, Wanted};
use crate::host::Real;
use crate::program::calibration_path;
use crate::render::{Style, bytes};

pub(crate) fn doctor(host: &Real, style: Style, machine: &Machine) -> Result<Exit, LabError> {
    let cache = cache_folder(host);
    let mut json = Vec::new();
    if machine.device != Wanted::Cuda {
        let found = calibrate(&Processor::Cpu(Cpu::new(machine.threads)?))?;
        let path = calibration_path(&cache);
        cs336_lab::write_json(&path, &found)?;
        if style.json {
            json.push(serde_json::to_string(&found).unwrap_or_default());
        } else {
            show(&found, "f32, 1024 x 1024");
            crate::print(&format!("kept in     {}", path.display()));
        }
    }
    if machine.device != Wanted::Cpu {
        match Cuda::new(None).and_then(|gpu| calibrate(&Processor::Cuda(gpu))) {
            Ok(found) if style.json => json.push(serde_json::to_string(&found).unwrap_or_default()),
            Ok(found) => show(&found, "bf16, 8192 x 8192"),
            Err(why) if machine.device == Wanted::Cuda => return Err(why.into()),
            Err(_) if style.json => {}
            Err(why) => crate::print(&format!("GPU         none that can be used: {why}")),
        }
    }
    json.iter().for_each(|line| crate::print(line));
    Ok(Exit::Ok)
}

fn show(found: &Calibration, product: &str) {
    crate::print(&format!("processor   {}", found.processor));
    crate::print(&format!("features    {}", found.features.join(" ")));
    crate::print(&format!("threads     {}", found.threads));
    if let Some(memory) = found.memory_bytes {
        crate::print(&format!("memory      {}", bytes(memory as f64)));
    }
    crate::print(&format!("contraction {:.1} GFLOP/s ({product})", found.gemm_gflops));
    crate::print(&format!("copying     {:.1} GB/s", found.copy_gb_per_s));
}
