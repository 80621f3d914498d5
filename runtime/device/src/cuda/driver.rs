//! CUDA's driver behind owned values: a context with its stream, memory, loaded code, recorded work.

use std::ffi::{CString, c_void};
use std::sync::Arc;

use cudarc::driver::{result, sys};

use super::find::{self, Library};
use crate::error::DeviceError;

/// The first GPU, and one stream on which everything happens in order.
#[derive(Debug)]
pub(crate) struct Context {
    context: sys::CUcontext,
    device: sys::CUdevice,
    pub(crate) stream: sys::CUstream,
    /// Compute capability, times ten: 90 for an H100.
    pub(crate) capability: i32,
    pub(crate) name: String,
}

// SAFETY: the driver's handles may be used from any thread that makes the context current, which `enter` does.
unsafe impl Send for Context {}
// SAFETY: as above; calls on one stream are ordered by the driver.
unsafe impl Sync for Context {}

/// The oldest architecture that the texts are written for.
const OLDEST: i32 = 80;
/// CUDA 13.0, as `cuDriverGetVersion` counts.
const DRIVER: i32 = 13_000;

impl Context {
    pub(crate) fn new() -> Result<Arc<Self>, DeviceError> {
        find::open(Library::Driver)?;
        result::init().map_err(|e| failed("starting the driver", e))?;
        let mut version = 0;
        // SAFETY: a number to write to.
        let status = unsafe { sys::cuDriverGetVersion(&raw mut version) };
        status.result().map_err(|e| failed("asking the driver's version", e))?;
        if version < DRIVER {
            return Err(DeviceError::OldCuda {
                what: format!("the driver is for CUDA {}.{}", version / 1000, version % 1000 / 10),
                needed: "CUDA 13.0 (driver 580) or later".to_owned(),
            });
        }
        if result::device::get_count().map_err(|e| failed("counting GPUs", e))? == 0 {
            return Err(DeviceError::NoCuda {
                what: "a GPU".to_owned(),
                looked: "the driver's list, which is empty".to_owned(),
                source_of_it: "CUDA_VISIBLE_DEVICES, which may hide it".to_owned(),
            });
        }
        let device = result::device::get(0).map_err(|e| failed("opening the first GPU", e))?;
        let name = result::device::get_name(device).map_err(|e| failed("asking its name", e))?;
        let attribute = |which| {
            // SAFETY: a device that the driver gave.
            unsafe { result::device::get_attribute(device, which) }
                .map_err(|e| failed("asking its architecture", e))
        };
        let major =
            attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor =
            attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let capability = 10 * major + minor;
        if capability < OLDEST {
            return Err(DeviceError::OldCuda {
                what: format!("{name} has compute capability {major}.{minor}"),
                needed: "8.0 (A100) or later".to_owned(),
            });
        }
        // SAFETY: as above; released when this is dropped.
        let context = unsafe { result::primary_ctx::retain(device) }
            .map_err(|e| failed("making a context", e))?;
        // SAFETY: the context was just made.
        unsafe { result::ctx::set_current(context) }
            .map_err(|e| failed("making a context current", e))?;
        let stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(|e| failed("making a stream", e))?;
        Ok(Arc::new(Self { context, device, stream, capability, name }))
    }

    /// The name of its architecture for the compiler; from Hopper on with what only that generation has.
    pub(crate) fn arch(&self) -> String {
        match self.capability {
            90 => "sm_90a".to_owned(),
            other => format!("sm_{other}"),
        }
    }

    /// Makes it current on this thread.
    pub(crate) fn enter(&self) -> Result<(), DeviceError> {
        // SAFETY: it lives as long as this.
        unsafe { result::ctx::set_current(self.context) }
            .map_err(|e| failed("entering the context", e))
    }

    pub(crate) fn sync(&self) -> Result<(), DeviceError> {
        // SAFETY: its own stream.
        unsafe { result::stream::synchronize(self.stream) }
            .map_err(|e| failed("the work on the GPU", e))
    }

    /// Free and all memory, in bytes.
    pub(crate) fn memory(&self) -> Result<(usize, usize), DeviceError> {
        self.enter()?;
        result::mem_get_info().map_err(|e| failed("asking for memory", e))
    }

    pub(crate) fn copy(
        &self,
        to: *mut u8,
        from: *const u8,
        bytes: usize,
    ) -> Result<(), DeviceError> {
        // SAFETY: the caller has checked both places against their buffers.
        unsafe { result::memcpy_dtod_async(to as u64, from as u64, bytes, self.stream) }
            .map_err(|e| failed("a copy on the GPU", e))
    }

    pub(crate) fn zero(&self, to: *mut u8, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: as `copy`.
        unsafe { result::memset_d8_async(to as u64, 0, bytes, self.stream) }
            .map_err(|e| failed("clearing memory of the GPU", e))
    }

    pub(crate) fn read(&self, from: *const u8, to: &mut [u8]) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the caller has checked the place; the bytes are not looked at before `sync`.
        unsafe { result::memcpy_dtoh_async(to, from as u64, self.stream) }
            .map_err(|e| failed("reading from the GPU", e))?;
        self.sync()
    }

    pub(crate) fn write(&self, to: *mut u8, bytes: &[u8]) -> Result<(), DeviceError> {
        self.enter()?;
        // SAFETY: the caller has checked the place; memory that is not pinned has been read when this returns.
        unsafe { result::memcpy_htod_async(to as u64, bytes, self.stream) }
            .map_err(|e| failed("writing to the GPU", e))
    }

    /// Records what `work` launches.
    pub(crate) fn record(
        self: &Arc<Self>,
        work: impl FnOnce() -> Result<(), DeviceError>,
    ) -> Result<Recorded, DeviceError> {
        self.enter()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: its own stream, on which nothing is recorded now.
        unsafe { result::stream::begin_capture(self.stream, mode) }
            .map_err(|e| failed("beginning to record", e))?;
        let done = work();
        // SAFETY: begun above.
        let graph =
            unsafe { result::stream::end_capture(self.stream) }.map_err(|e| failed("recording", e));
        done?;
        let graph = graph?;
        // SAFETY: the graph was just recorded; `CUgraphInstantiate_flags` 0 is the default.
        let made = unsafe { result::graph::instantiate(graph, sys::CUgraphInstantiate_flags(0)) };
        // SAFETY: the instance does not need it.
        unsafe { result::graph::destroy(graph) }.ok();
        let executable = made.map_err(|e| failed("preparing recorded work", e))?;
        Ok(Recorded { context: self.clone(), executable })
    }

    /// Seconds that the GPU needs for what `work` launches.
    pub(crate) fn time(
        &self,
        work: &mut dyn FnMut() -> Result<(), DeviceError>,
    ) -> Result<f64, DeviceError> {
        self.enter()?;
        let (from, to) = (Event::new()?, Event::new()?);
        from.record(self.stream)?;
        work()?;
        to.record(self.stream)?;
        self.sync()?;
        // SAFETY: both are recorded and done.
        let ms =
            unsafe { result::event::elapsed(from.0, to.0) }.map_err(|e| failed("a time", e))?;
        Ok(f64::from(ms) / 1e3)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: nothing else has the stream.
        unsafe { result::stream::destroy(self.stream) }.ok();
        // SAFETY: retained in `new`.
        unsafe { result::primary_ctx::release(self.device) }.ok();
    }
}

struct Event(sys::CUevent);

impl Event {
    fn new() -> Result<Self, DeviceError> {
        let made = result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT);
        made.map(Self).map_err(|e| failed("a clock of the GPU", e))
    }

    fn record(&self, stream: sys::CUstream) -> Result<(), DeviceError> {
        // SAFETY: an event of this context.
        unsafe { result::event::record(self.0, stream) }
            .map_err(|e| failed("a clock of the GPU", e))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { result::event::destroy(self.0) }.ok();
    }
}

/// Memory of the GPU, zeroed when made.
#[derive(Debug)]
pub(crate) struct Memory {
    context: Arc<Context>,
    address: u64,
    bytes: usize,
}

impl Memory {
    pub(crate) fn zeroed(
        context: &Arc<Context>,
        bytes: usize,
        what: &str,
    ) -> Result<Self, DeviceError> {
        context.enter()?;
        // SAFETY: freed when this is dropped.
        let address = unsafe { result::malloc_sync(bytes.max(1)) }.map_err(|e| {
            let full = DeviceError::OutOfMemory { what: format!("{what} on the GPU"), bytes };
            if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY { full } else { failed(what, e) }
        })?;
        let made = Self { context: context.clone(), address, bytes };
        context.zero(made.address(), bytes.max(1))?;
        Ok(made)
    }

    pub(crate) fn address(&self) -> *mut u8 {
        self.address as *mut u8
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.context.enter().ok();
        self.context.sync().ok();
        // SAFETY: made in `zeroed`, and all work that used it is done.
        unsafe { result::free_sync(self.address) }.ok();
    }
}

/// Loaded machine code.
#[derive(Debug)]
pub(crate) struct Module {
    context: Arc<Context>,
    module: sys::CUmodule,
}

// SAFETY: as `Context`.
unsafe impl Send for Module {}
// SAFETY: as `Context`.
unsafe impl Sync for Module {}

/// A function of a module; valid as long as the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Function(sys::CUfunction);

// SAFETY: as `Context`.
unsafe impl Send for Function {}
// SAFETY: as `Context`.
unsafe impl Sync for Function {}

impl Module {
    pub(crate) fn new(context: &Arc<Context>, cubin: &[u8]) -> Result<Self, DeviceError> {
        context.enter()?;
        // SAFETY: an image that NVRTC made.
        let module = unsafe { result::module::load_data(cubin.as_ptr().cast()) }
            .map_err(|e| failed("loading code onto the GPU", e))?;
        Ok(Self { context: context.clone(), module })
    }

    /// A function, allowed so much dynamic shared memory.
    pub(crate) fn function(&self, name: &str, shared: u32) -> Result<Function, DeviceError> {
        let text =
            CString::new(name).map_err(|_| DeviceError::Malformed("a name with a zero".into()))?;
        // SAFETY: a module that is loaded.
        let function = unsafe { result::module::get_function(self.module, text) }
            .map_err(|e| failed("finding a function", e))?;
        if shared > 48 << 10 {
            let which = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            // SAFETY: a function that was just found.
            unsafe { result::function::set_function_attribute(function, which, shared as i32) }
                .map_err(|e| failed("asking for shared memory", e))?;
        }
        Ok(Function(function))
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        self.context.enter().ok();
        self.context.sync().ok();
        // SAFETY: loaded in `new`; its work is done.
        unsafe { result::module::unload(self.module) }.ok();
    }
}

impl Function {
    /// Launches with arguments of 8 bytes (addresses) and 4 bytes (numbers).
    ///
    /// # Safety
    /// The function takes these arguments, and what it does with them stays inside the memory that they name.
    pub(crate) unsafe fn launch(
        self,
        context: &Context,
        (grid, block, shared): ([u32; 3], u32, u32),
        arguments: &mut [*mut c_void],
    ) -> Result<(), DeviceError> {
        // SAFETY: passed on to the caller.
        unsafe {
            result::launch_kernel(
                self.0,
                (grid[0], grid[1], grid[2]),
                (block, 1, 1),
                shared,
                context.stream,
                arguments,
            )
        }
        .map_err(|e| failed("a launch", e))
    }
}

/// Recorded work.
#[derive(Debug)]
pub struct Recorded {
    context: Arc<Context>,
    executable: sys::CUgraphExec,
}

// SAFETY: as `Context`; it is launched from one thread at a time, since that needs the executable that owns it.
unsafe impl Send for Recorded {}
// SAFETY: as above.
unsafe impl Sync for Recorded {}

impl Recorded {
    pub(crate) fn replay(&self) -> Result<(), DeviceError> {
        self.context.enter()?;
        // SAFETY: recorded on this context; the caller keeps all memory that it names.
        unsafe { result::graph::launch(self.executable, self.context.stream) }
            .map_err(|e| failed("recorded work", e))
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        self.context.enter().ok();
        self.context.sync().ok();
        // SAFETY: nobody else has it.
        unsafe { result::graph::exec_destroy(self.executable) }.ok();
    }
}

pub(crate) fn failed(what: &str, error: result::DriverError) -> DeviceError {
    DeviceError::Cuda { what: what.to_owned(), reason: format!("{error:?}") }
}
