//! Executes plans on this machine.
//!
//! ```text
//! Plan ─load─▶ Executable ─run(store, runtime)─▶ store
//! ```
//! [`Store`] holds the named memories that live between executions, [`Executable`] walks a plan's steps, and a [`Device`]
//! compiles and runs its kernels: [`Cpu`] is this machine's processor, [`Cuda`] its first GPU, [`Processor`] either. [`map`] reads files without copying and
//! [`doctor`] measures what the machine can do.
//!
//! This is the only crate of the project with unsafe code: it calls machine code, touches memory by address and maps
//! files. Each unsafe block holds one operation and says why it is sound; above this crate there are only safe names.

#![allow(unsafe_code, reason = "memory, machine code and mapped files meet here and nowhere else")]

mod cuda;
pub mod doctor;
mod error;
mod execute;
mod host;
pub mod map;
mod memory;
mod processor;
mod store;

pub use cuda::{Cuda, GpuInfo, compile_only, cuda_text};
pub use error::DeviceError;
pub use execute::{Executable, Options, Profile, ProfileRow, RuntimeValues};
pub use host::clif::clif;
pub use host::sums::SumKernel;
pub use host::{Compiled, Cpu};
pub use memory::{Block, Memory};
pub use processor::Processor;
pub use store::Store;

use cs336_compiler::kernel::Kernel;

/// The parameters of a launch: as words, and where the device finds them if it runs again with others.
#[derive(Debug, Clone, Copy)]
pub struct Params<'p> {
    /// 32-bit words, one per parameter.
    pub words: &'p [u32],
    /// Their places in the table.
    pub slots: &'p [u32],
    /// The address, for the device, of the table of all host scalars of this execution.
    table: *const u8,
}

/// Something that runs kernels.
pub trait Device: Clone + Send + Sync {
    /// A loaded kernel; equal kernels may share one.
    type Kernel: Send + Sync + std::fmt::Debug;
    /// Recorded launches.
    type Recorded: Send + Sync + std::fmt::Debug;

    /// True if it works on this machine's own memory.
    fn is_host(&self) -> bool;
    /// Zeroed memory; `what` names its use in an error.
    fn alloc(&self, bytes: usize, what: &str) -> Result<Memory, DeviceError>;
    /// Makes a kernel ready to run on operands whose addresses are divisible by `aligned` bytes each.
    fn load(&self, kernel: &Kernel, aligned: &[usize]) -> Result<Self::Kernel, DeviceError>;
    /// Runs a kernel on memory; `origin` names it in an error.
    fn launch(
        &self,
        kernel: &Self::Kernel,
        operands: &[Span],
        params: &Params<'_>,
        origin: &str,
    ) -> Result<(), DeviceError>;
    /// Copies bytes of its memory; the places are checked by the caller.
    fn copy(&self, to: Span, from: Span, bytes: usize) -> Result<(), DeviceError>;
    /// Zeroes bytes of its memory; the place is checked by the caller.
    fn zero(&self, to: Span, bytes: usize) -> Result<(), DeviceError>;
    /// Reads bytes of its memory, after all work before; the place is checked by the caller.
    fn read(&self, from: Span, to: &mut [u8]) -> Result<(), DeviceError>;
    /// Waits until everything launched is done.
    fn sync(&self) -> Result<(), DeviceError>;
    /// Records the launches, copies and clearings of `work` instead of doing them; `None`: this device gains nothing from that.
    fn record(
        &self,
        work: &mut dyn FnMut() -> Result<(), DeviceError>,
    ) -> Result<Option<Self::Recorded>, DeviceError>;
    /// Does recorded work; the memory that it names is still there.
    fn replay(&self, recorded: &Self::Recorded) -> Result<(), DeviceError>;
    /// Seconds that the device needs for `work`.
    fn time(&self, work: &mut dyn FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError>;

    /// Runs `f` where launches are cheapest (on the device's own threads).
    fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        f()
    }
}

/// A place inside a block: only [`Executable`] makes these, from a plan's views.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// Where coordinates 0 are, before the operand's offset.
    address: *mut u8,
    /// Bytes of the block before it.
    before: usize,
    /// Bytes of the block from it on.
    after: usize,
}
