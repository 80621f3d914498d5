//! What most commands begin with: the program, its facts, the folders.

use std::path::{Path, PathBuf};

use cs336_compiler::plan::Target;
use cs336_device::doctor::Calibration;
use cs336_device::{Cpu, Cuda, DeviceError, Processor};
use cs336_lab::experiment::Program;
use cs336_lab::facts::Facts;
use cs336_lab::{LabError, cache_folder};

use crate::args::{Machine, Source, Wanted};
use crate::host::{Disk, Real};

/// The facts about a program, and the folder that they are in.
pub(crate) struct Known {
    pub(crate) cache: PathBuf,
    pub(crate) facts: Facts,
    /// What plans are made for.
    pub(crate) target: Target,
}

impl Known {
    pub(crate) fn new(host: &Real, source: &Source) -> Self {
        let cache = cache_folder(host);
        let facts = Facts::open(&cache, Path::new(&source.file));
        Self { cache, facts, target: Target::cpu() }
    }

    /// The device of a command, which plans are then made for.
    pub(crate) fn device(&mut self, machine: &Machine) -> Result<Processor, LabError> {
        let found = processor(machine, &self.cache)?;
        self.target = found.target();
        Ok(found)
    }

    pub(crate) fn disk(&self) -> Disk<'_> {
        let flops_per_second = self.peak_flops();
        Disk { facts: &self.facts, flops_per_second, target: self.target.clone() }
    }

    /// FLOPs per second of this machine's contractions, if `doctor` has measured them.
    pub(crate) fn peak_flops(&self) -> Option<f64> {
        calibration(&self.cache).map(|machine| machine.gemm_gflops * 1e9)
    }

    pub(crate) fn program<'a>(&'a self, disk: &'a Disk<'a>, source: &'a Source) -> Program<'a> {
        Program { world: disk, facts: &self.facts, path: &source.file, sets: &source.sets }
    }
}

/// Where the calibration of this machine is kept.
pub(crate) fn calibration_path(cache: &Path) -> PathBuf {
    cache.join("machine.json")
}

/// What `doctor` has measured, if it has.
pub(crate) fn calibration(cache: &Path) -> Option<Calibration> {
    let bytes = std::fs::read(calibration_path(cache)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// What the command line asks for: by default the GPU if there is one.
pub(crate) fn processor(machine: &Machine, cache: &Path) -> Result<Processor, LabError> {
    let kept = cache.join("cubins");
    let gpu = || Cuda::new(Some(&kept));
    match machine.device {
        Wanted::Cpu => {}
        Wanted::Cuda => return Ok(Processor::Cuda(gpu()?)),
        Wanted::Auto => match gpu() {
            Ok(found) => return Ok(Processor::Cuda(found)),
            // Without a driver nobody expects a GPU to be used.
            Err(DeviceError::NoCuda { what, .. }) if what.contains("libcuda.so") => {}
            Err(why) => crate::remark(&format!("the CPU is used, since the GPU cannot be: {why}")),
        },
    }
    Ok(Processor::Cpu(Cpu::new(machine.threads)?))
}
