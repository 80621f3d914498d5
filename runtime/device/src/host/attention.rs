//! Attention.
use super::pool::Pool;
use crate::error::DeviceError;
use cs336_compiler::kernel::AttentionKernel;
#[derive(Debug)]
pub(crate) struct Forward;
#[derive(Debug)]
pub(crate) struct Backward;
impl Forward {
    pub(crate) fn new(_: &AttentionKernel) -> Result<Self, DeviceError> {
        Err(DeviceError::Compile {
            kernel: "attention".into(),
            reason: "the CPU backend lacks it".into(),
        })
    }
    pub(crate) unsafe fn run(&self, _: &AttentionKernel, _: &Pool, _: &[*mut u8], _: &[u32]) {}
}
impl Backward {
    pub(crate) fn new(_: &AttentionKernel) -> Result<Self, DeviceError> {
        Err(DeviceError::Compile {
            kernel: "attention".into(),
            reason: "the CPU backend lacks it".into(),
        })
    }
    pub(crate) unsafe fn run(&self, _: &AttentionKernel, _: &Pool, _: &[*mut u8], _: &[u32]) {}
}
