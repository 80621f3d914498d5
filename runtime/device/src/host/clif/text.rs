//! CLIF as text, to be looked at: what [`emit_loop`] and [`emit_col_reduce`] write for a kernel, before Cranelift sees it.
//!
//! Takes a kernel; gives the same text on every machine: the calling convention is fixed, and nothing that the processor can or cannot
//! do has a say in what is emitted.

use cranelift_codegen::ir::{ExtFuncData, ExternalName, Function};
use cranelift_codegen::isa::{CallConv, TargetFrontendConfig};
use cs336_compiler::kernel::Kernel;

use super::{Extern, Target, emit_col_reduce, emit_loop};
use crate::error::DeviceError;
use crate::host::jit::frontend;

/// The convention that is written down; any would do.
const CONVENTION: CallConv = CallConv::SystemV;

/// The fused function of a kernel, or `None` for kernels that have none.
pub fn clif(kernel: &Kernel) -> Result<Option<String>, DeviceError> {
    let config = TargetFrontendConfig { default_call_conv: CONVENTION, ..frontend()? };
    let mut import = |function: &mut Function, call: Extern| {
        let signature = function.import_signature(call.signature(CONVENTION));
        let name = ExternalName::testcase(call.name());
        function.import_function(ExtFuncData {
            name,
            signature,
            colocated: false,
            patchable: false,
        })
    };
    let mut target = Target { config, import: &mut import };
    let mut function = Function::new();
    match kernel {
        Kernel::Loop(k) => emit_loop(k, &mut function, &mut target),
        Kernel::ColReduce(k) => drop(emit_col_reduce(k, &mut function, &mut target)),
        Kernel::Attention(_)
        | Kernel::AttentionGrad(_)
        | Kernel::Gemm(_)
        | Kernel::Scatter(_)
        | Kernel::RowOp(_) => return Ok(None),
    }
    Ok(Some(function.display().to_string()))
}
