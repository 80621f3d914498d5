//! Executes plans on this machine.
//!
//! ```text
//! Plan ─load─▶ Executable ─run(store, runtime)─▶ store
//! ```
//! [`Store`] holds the named memories that live between executions, [`Executable`] walks a plan's steps, and a [`Device`]
//! compiles and runs its kernels; [`Cpu`] is this machine's processor. [`map`] reads files without copying and
//! [`doctor`] measures what the machine can do.
//!
//! This is the only crate of the project with unsafe code: it calls machine code, touches memory by address and maps
//! files. Each unsafe block holds one operation and says why it is sound; above this crate there are only safe names.

#![allow(unsafe_code, reason = "memory, machine code and mapped files meet here and nowhere else")]

pub mod doctor;
mod error;
mod execute;
mod host;
pub mod map;
mod memory;
mod store;

pub use error::DeviceError;
pub use execute::{Executable, Options, Profile, ProfileRow, RuntimeValues};
pub use host::clif::clif;
pub use host::sums::SumKernel;
pub use host::{Compiled, Cpu};
pub use memory::Block;
pub use store::Store;

use cs336_compiler::kernel::Kernel;

/// Something that runs kernels.
pub trait Device: Clone + Send + Sync {
    /// A loaded kernel; equal kernels may share one.
    type Kernel: Send + Sync + std::fmt::Debug;

    /// Zeroed memory; `what` names its use in an error.
    fn alloc(&self, bytes: usize, what: &str) -> Result<Block, DeviceError>;
    /// Copies bytes to a block.
    fn upload(&self, to: &mut Block, offset: usize, bytes: &[u8]) -> Result<(), DeviceError>;
    /// Copies bytes from a block.
    fn download(&self, from: &Block, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError>;
    /// Makes a kernel ready to run.
    fn load(&self, kernel: &Kernel) -> Result<Self::Kernel, DeviceError>;
    /// Runs a kernel on memory, with its parameters as 32-bit words; `origin` names it in an error.
    fn launch(
        &self,
        kernel: &Self::Kernel,
        operands: &[Span],
        params: &[u32],
        origin: &str,
    ) -> Result<(), DeviceError>;
    /// Waits until everything launched is done.
    fn sync(&self) -> Result<(), DeviceError>;

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
