//! What most commands begin with: the program, its facts, the folders.

use std::path::{Path, PathBuf};

use cs336_device::doctor::Calibration;
use cs336_lab::cache_folder;
use cs336_lab::experiment::Program;
use cs336_lab::facts::Facts;

use crate::args::Source;
use crate::host::{Disk, Real};

/// The facts about a program, and the folder that they are in.
pub(crate) struct Known {
    pub(crate) cache: PathBuf,
    pub(crate) facts: Facts,
}

impl Known {
    pub(crate) fn new(host: &Real, source: &Source) -> Self {
        let cache = cache_folder(host);
        let facts = Facts::open(&cache, Path::new(&source.file));
        Self { cache, facts }
    }

    pub(crate) fn disk(&self) -> Disk<'_> {
        let flops_per_second = self.peak_flops();
        Disk { facts: &self.facts, flops_per_second }
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
