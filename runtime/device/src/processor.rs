//! Either processor, chosen while the program runs.

use std::sync::Arc;

use cs336_compiler::kernel::Kernel;
use cs336_compiler::plan::Target;

use crate::cuda::{Cuda, Loaded, Recorded};
use crate::error::DeviceError;
use crate::host::{Compiled, Cpu};
use crate::memory::Memory;
use crate::{Device, Params, Span};

/// What runs a plan.
#[derive(Debug, Clone)]
pub enum Processor {
    /// This machine's cores.
    Cpu(Cpu),
    /// Its first GPU.
    Cuda(Cuda),
}

/// A kernel loaded by one of them.
#[derive(Debug)]
pub enum AnyKernel {
    /// For the cores.
    Cpu(Arc<Compiled>),
    /// For the GPU.
    Cuda(Arc<Loaded>),
}

impl Processor {
    /// What plans for it are made for.
    pub fn target(&self) -> Target {
        match self {
            Self::Cpu(_) => Target::cpu(),
            Self::Cuda(_) => Target::cuda(),
        }
    }

    /// How many threads it uses; a GPU is one place for one run at a time.
    pub fn threads(&self) -> usize {
        match self {
            Self::Cpu(device) => device.threads(),
            Self::Cuda(_) => 1,
        }
    }

    /// The same with so many threads of its own.
    pub fn with_threads(&self, threads: usize) -> Result<Self, DeviceError> {
        match self {
            Self::Cpu(_) => Cpu::new(Some(threads)).map(Self::Cpu),
            Self::Cuda(device) => Ok(Self::Cuda(device.clone())),
        }
    }
}

impl Device for Processor {
    type Kernel = AnyKernel;
    type Recorded = Recorded;

    fn is_host(&self) -> bool {
        match self {
            Self::Cpu(device) => device.is_host(),
            Self::Cuda(device) => device.is_host(),
        }
    }

    fn alloc(&self, bytes: usize, what: &str) -> Result<Memory, DeviceError> {
        match self {
            Self::Cpu(device) => device.alloc(bytes, what),
            Self::Cuda(device) => device.alloc(bytes, what),
        }
    }

    fn load(&self, kernel: &Kernel, aligned: &[usize]) -> Result<AnyKernel, DeviceError> {
        match self {
            Self::Cpu(device) => device.load(kernel, aligned).map(AnyKernel::Cpu),
            Self::Cuda(device) => device.load(kernel, aligned).map(AnyKernel::Cuda),
        }
    }

    fn launch(
        &self,
        kernel: &AnyKernel,
        operands: &[Span],
        params: &Params<'_>,
        origin: &str,
    ) -> Result<(), DeviceError> {
        match (self, kernel) {
            (Self::Cpu(device), AnyKernel::Cpu(k)) => device.launch(k, operands, params, origin),
            (Self::Cuda(device), AnyKernel::Cuda(k)) => device.launch(k, operands, params, origin),
            (Self::Cpu(_), AnyKernel::Cuda(_)) | (Self::Cuda(_), AnyKernel::Cpu(_)) => {
                Err(DeviceError::Malformed("a kernel was loaded for another device".into()))
            }
        }
    }

    fn copy(&self, to: Span, from: Span, bytes: usize) -> Result<(), DeviceError> {
        match self {
            Self::Cpu(device) => device.copy(to, from, bytes),
            Self::Cuda(device) => device.copy(to, from, bytes),
        }
    }

    fn zero(&self, to: Span, bytes: usize) -> Result<(), DeviceError> {
        match self {
            Self::Cpu(device) => device.zero(to, bytes),
            Self::Cuda(device) => device.zero(to, bytes),
        }
    }

    fn read(&self, from: Span, to: &mut [u8]) -> Result<(), DeviceError> {
        match self {
            Self::Cpu(device) => device.read(from, to),
            Self::Cuda(device) => device.read(from, to),
        }
    }

    fn sync(&self) -> Result<(), DeviceError> {
        match self {
            Self::Cpu(device) => device.sync(),
            Self::Cuda(device) => device.sync(),
        }
    }

    fn record(
        &self,
        work: &mut dyn FnMut() -> Result<(), DeviceError>,
    ) -> Result<Option<Recorded>, DeviceError> {
        match self {
            Self::Cpu(_) => Ok(None),
            Self::Cuda(device) => device.record(work),
        }
    }

    fn replay(&self, recorded: &Recorded) -> Result<(), DeviceError> {
        match self {
            Self::Cpu(_) => Ok(()),
            Self::Cuda(device) => device.replay(recorded),
        }
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
        match self {
            Self::Cpu(device) => device.time(work),
            Self::Cuda(device) => device.time(work),
        }
    }

    fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        match self {
            Self::Cpu(device) => device.enter(f),
            Self::Cuda(device) => device.enter(f),
        }
    }
}
