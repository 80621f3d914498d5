//! Machine code for fused loops, kept as long as somebody holds it.
//!
//! [`Code::compile`] takes what the emitter wrote and gives something that can be called. The code's memory is freed when
//! the last holder drops it.

use std::sync::{Arc, OnceLock};

use cranelift_codegen::ir::Function;
use cranelift_codegen::isa::{OwnedTargetIsa, TargetFrontendConfig};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};

use super::calls;
use super::clif::{self, Extern, Target};
use crate::error::DeviceError;

/// One fused function as machine code.
pub(crate) struct Code {
    /// Taken out only on drop.
    module: Option<JITModule>,
    entry: Entry,
}

type Entry = unsafe extern "C" fn(*const *mut u8, *const u32, i64, i64, i64, i64);

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code")
    }
}

// SAFETY: after `compile` the module is not touched until drop; the code itself has no state.
unsafe impl Send for Code {}
// SAFETY: as above: shared use only calls the code.
unsafe impl Sync for Code {}

/// The arguments of a fused function; see [`clif`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) low: usize,
    pub(crate) high: usize,
}

impl Code {
    /// Compiles what `emit` writes; `label` names the kernel in an error.
    pub(crate) fn compile<T>(
        label: &str,
        emit: impl FnOnce(&mut Function, &mut Target<'_>) -> T,
    ) -> Result<(Arc<Self>, T), DeviceError> {
        let fail = |reason: String| DeviceError::Compile { kernel: label.to_owned(), reason };
        let isa = isa().map_err(fail)?;
        let convention = isa.default_call_conv();
        let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
        for call in Extern::ALL {
            builder.symbol(call.name(), calls::address(call));
        }
        let mut owner = Freed(Some(JITModule::new(builder)));
        let Some(module) = owner.0.as_mut() else {
            return Err(fail("no module".to_owned()));
        };
        let mut ids = Vec::new();
        for call in Extern::ALL {
            let signature = call.signature(convention);
            let id = module
                .declare_function(call.name(), Linkage::Import, &signature)
                .map_err(|e| fail(e.to_string()))?;
            ids.push(id);
        }
        let id = module
            .declare_function("body", Linkage::Local, &clif::signature(convention))
            .map_err(|e| fail(e.to_string()))?;
        let mut context = module.make_context();
        let config = module.target_config();
        let result = {
            let mut import = |function: &mut Function, call: Extern| {
                let at = Extern::ALL.iter().position(|c| *c == call).unwrap_or(0);
                module.declare_func_in_func(ids[at], function)
            };
            emit(&mut context.func, &mut Target { config, import: &mut import })
        };
        module.define_function(id, &mut context).map_err(|e| fail(format!("{e:?}")))?;
        module.clear_context(&mut context);
        module.finalize_definitions().map_err(|e| fail(e.to_string()))?;
        let address = module.get_finalized_function(id);
        // SAFETY: `body` was defined with `clif::signature`, which is `Entry` in the C convention of this machine.
        let entry = unsafe { std::mem::transmute::<*const u8, Entry>(address) };
        Ok((Arc::new(Self { module: owner.0.take(), entry }), result))
    }

    /// Runs it.
    ///
    /// # Safety
    /// Every element that the kernel touches for `range` must be inside memory that may be read, or written where the
    /// operand is written, and nobody else may use what is written meanwhile. Plans promise this (see the module
    /// `plan`), and launches check the extents.
    pub(crate) unsafe fn run(&self, operands: &[*mut u8], params: &[u32], range: Range) {
        let Range { first, last, low, high } = range;
        // SAFETY: passed on to the caller; the two tables are as long as the kernel's lists.
        unsafe {
            (self.entry)(
                operands.as_ptr(),
                params.as_ptr(),
                first as i64,
                last as i64,
                low as i64,
                high as i64,
            );
        }
    }
}

impl Drop for Code {
    fn drop(&mut self) {
        drop(Freed(self.module.take()));
    }
}

/// Frees a module's memory, which its own drop does not do.
struct Freed(Option<JITModule>);

impl Drop for Freed {
    fn drop(&mut self) {
        if let Some(module) = self.0.take() {
            // SAFETY: the only pointer into the module's memory is `entry` of the `Code` that is being dropped (or was
            // never made), so nothing can run it any more.
            unsafe { module.free_memory() };
        }
    }
}

/// What the emitter must know of this machine.
pub(crate) fn frontend() -> Result<TargetFrontendConfig, DeviceError> {
    let found = isa().map(|isa| isa.frontend_config());
    found.map_err(|reason| DeviceError::Compile { kernel: "any kernel".to_owned(), reason })
}

/// This machine, found out once.
fn isa() -> Result<OwnedTargetIsa, String> {
    static ISA: OnceLock<Result<OwnedTargetIsa, String>> = OnceLock::new();
    ISA.get_or_init(|| {
        let mut flags = settings::builder();
        for (name, value) in [
            ("use_colocated_libcalls", "false"),
            ("is_pic", "false"),
            ("opt_level", "speed"),
            ("enable_verifier", if cfg!(any(test, debug_assertions)) { "true" } else { "false" }),
        ] {
            flags.set(name, value).map_err(|e| e.to_string())?;
        }
        let builder = cranelift_native::builder().map_err(str::to_owned)?;
        builder.finish(settings::Flags::new(flags)).map_err(|e| e.to_string())
    })
    .clone()
}
