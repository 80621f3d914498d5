//! The CUDA backend: kernels as CUDA C++ through NVRTC, contractions by cuBLASLt, a plan's launches recorded and replayed as one graph.
//!
//! ```text
//! Kernel ─text─▶ CUDA C++ ─nvrtc─▶ cubin ─driver─▶ launches
//! ```
//! Nothing of CUDA is needed to build; its libraries are found when a GPU is asked for ([`find`]), and what is missing is said.

mod driver;
mod find;
mod nvrtc;
mod product;
pub(crate) mod text;

#[allow(clippy::disallowed_types, reason = "looked up only; its order is never seen")]
use std::collections::HashMap;
use std::ffi::c_void;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cs336_compiler::kernel::Kernel;

use crate::error::DeviceError;
use crate::host::bounds::Bounds;
use crate::memory::Remote;
use crate::{Device, Memory, Params, Span};
pub(crate) use driver::Recorded;
use driver::{Context, Function, Module};
use nvrtc::Compiler;
use product::{Blas, Product, Shape};

/// The first GPU that the driver lists.
#[derive(Debug, Clone)]
pub struct Cuda {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    context: Arc<Context>,
    compiler: Compiler,
    blas: Arc<Blas>,
    #[allow(clippy::disallowed_types, reason = "see the import")]
    loaded: Mutex<HashMap<(Kernel, Vec<usize>), Weak<Loaded>>>,
    /// Launches are being recorded.
    recording: AtomicBool,
}

/// What the GPU is, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct GpuInfo {
    /// As the driver says.
    pub name: String,
    /// Compute capability, times ten.
    pub capability: i32,
    /// Bytes of memory, and of that what is free.
    pub memory: (usize, usize),
}

impl Cuda {
    /// Finds the libraries and the GPU. `folder` keeps compiled kernels.
    pub fn new(folder: Option<&Path>) -> Result<Self, DeviceError> {
        let context = Context::new()?;
        let compiler = Compiler::new(&context.arch(), folder)?;
        let blas = Blas::new(&context)?;
        let (loaded, recording) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { inner: Arc::new(Inner { context, compiler, blas, loaded, recording }) })
    }

    /// What it is.
    pub fn info(&self) -> Result<GpuInfo, DeviceError> {
        let context = &self.inner.context;
        let (free, all) = context.memory()?;
        Ok(GpuInfo {
            name: context.name.clone(),
            capability: context.capability,
            memory: (all, free),
        })
    }
}

/// Sizes of the products and copies that say what a GPU can do.
const SIDE: usize = 8192;
const COPIED: usize = 1 << 30;

impl Cuda {
    /// FLOPs per second of bf16 contractions, and bytes per second (read and written) of copies: the best of a few.
    pub fn speed(&self) -> Result<(f64, f64), DeviceError> {
        let context = &self.inner.context;
        let memory = |what| driver::Memory::zeroed(context, COPIED, what);
        let (a, b, c) = (memory("a factor")?, memory("a factor")?, memory("a product")?);
        // Random bits of small numbers: zeroes would take less power and be faster.
        let mut bits = 1u32;
        let values: Vec<u8> = (0..SIDE * SIDE)
            .flat_map(|_| {
                bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                half::bf16::from_f32((bits >> 8) as f32 / 8_388_608.0 - 1.0).to_le_bytes()
            })
            .collect();
        for factor in [&a, &b] {
            context.write(factor.address(), &values)?;
        }
        let product = Product::new(&self.inner.blas, Shape::square(SIDE), [256; 3])?;
        let at = [a.address(), b.address(), c.address()];
        let (mut least, mut copy) = (f64::INFINITY, f64::INFINITY);
        for _ in 0..12 {
            // SAFETY: three matrices of that size.
            least = least.min(context.time(&mut || unsafe { product.run(at, false) })?);
            copy = copy.min(context.time(&mut || context.copy(c.address(), a.address(), COPIED))?);
        }
        let flops = 2.0 * (SIDE as f64).powi(3);
        Ok((flops / least, 2.0 * COPIED as f64 / copy))
    }
}

/// Compiles the text of a kernel for an architecture such as `sm_80`, without a GPU: NVRTC alone is needed. Gives the size of the machine code.
pub fn compile_only(
    kernel: &Kernel,
    arch: &str,
    folder: Option<PathBuf>,
) -> Result<usize, DeviceError> {
    let compiler = Compiler::new(arch, folder.as_deref())?;
    let aligned = vec![256; kernel.operands().len()];
    let text = text::text(kernel, &aligned).map_err(|reason| cannot(kernel, reason))?;
    compiler.cubin(kind(kernel), &source(&text)).map(|code| code.len())
}

/// The text of a kernel whose operands are bound to well-aligned memory, as tests and `plan --kernels` show it.
pub fn cuda_text(kernel: &Kernel) -> Result<String, DeviceError> {
    let aligned = vec![256; kernel.operands().len()];
    text::text(kernel, &aligned).map(|t| t.source).map_err(|reason| cannot(kernel, reason))
}

fn source(text: &text::Text) -> String {
    format!("{}\n{}", text::PRELUDE, text.source)
}

fn kind(kernel: &Kernel) -> &'static str {
    match kernel {
        Kernel::Loop(_) => "a fused loop",
        Kernel::ColReduce(_) => "a column reduction",
        Kernel::Gemm(_) => "a contraction",
        Kernel::Attention(_) => "attention",
        Kernel::AttentionGrad(_) => "the gradient of attention",
        Kernel::Scatter(_) => "a scatter",
        Kernel::RowOp(_) => "row work",
    }
}

fn cannot(kernel: &Kernel, reason: String) -> DeviceError {
    DeviceError::Compile { kernel: kind(kernel).to_owned(), reason }
}

/// A kernel that the GPU can run.
#[derive(Debug)]
pub struct Loaded {
    kernel: Kernel,
    bounds: Bounds,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Product(Product),
    Passes { passes: Vec<(Function, text::Pass)>, scratch: Option<driver::Memory>, _module: Module },
}

impl Loaded {
    fn new(inner: &Inner, kernel: &Kernel, aligned: &[usize]) -> Result<Self, DeviceError> {
        let bounds = Bounds::new(kernel);
        let body = Self::body(inner, kernel, aligned)?;
        Ok(Self { kernel: kernel.clone(), bounds, body })
    }

    fn body(inner: &Inner, kernel: &Kernel, aligned: &[usize]) -> Result<Body, DeviceError> {
        if let Kernel::Gemm(k) = kernel
            && let Some(shape) = Shape::of(k)
        {
            let all = [&k.a, &k.b, &k.c];
            let aligned = std::array::from_fn(|i| text::with_offsets(all[i], aligned[i]));
            // What the library refuses is done by our own text.
            if let Ok(product) = Product::new(&inner.blas, shape, aligned) {
                return Ok(Body::Product(product));
            }
        }
        let text = text::text(kernel, aligned).map_err(|reason| cannot(kernel, reason))?;
        let code = inner.compiler.cubin(kind(kernel), &source(&text))?;
        let module = Module::new(&inner.context, &code)?;
        let mut passes = Vec::new();
        for pass in text.passes {
            passes.push((module.function(&pass.entry, pass.shared)?, pass));
        }
        let scratch = (text.scratch > 0)
            .then(|| driver::Memory::zeroed(&inner.context, text.scratch, "scratch of a kernel"))
            .transpose()?;
        Ok(Body::Passes { passes, scratch, _module: module })
    }
}

impl Device for Cuda {
    type Kernel = Arc<Loaded>;
    type Recorded = Recorded;

    fn is_host(&self) -> bool {
        false
    }

    fn alloc(&self, bytes: usize, what: &str) -> Result<Memory, DeviceError> {
        let memory = driver::Memory::zeroed(&self.inner.context, bytes, what)?;
        Ok(Memory::Remote(Box::new(memory)))
    }

    fn load(&self, kernel: &Kernel, aligned: &[usize]) -> Result<Arc<Loaded>, DeviceError> {
        let lock = || self.inner.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (kernel.clone(), aligned.to_vec());
        if let Some(known) = lock().get(&key).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(Loaded::new(&self.inner, kernel, aligned)?);
        let mut loaded = lock();
        loaded.retain(|_, held| held.strong_count() > 0);
        loaded.insert(key, Arc::downgrade(&made));
        Ok(made)
    }

    fn launch(
        &self,
        kernel: &Arc<Loaded>,
        operands: &[Span],
        params: &Params<'_>,
        origin: &str,
    ) -> Result<(), DeviceError> {
        let addresses = kernel.bounds.bind(&kernel.kernel, operands, params.words, origin)?;
        let context = &self.inner.context;
        match &kernel.body {
            Body::Product(product) => {
                let quiet = self.inner.recording.load(Ordering::Relaxed);
                let [a, b, c] = addresses.as_slice() else {
                    return Err(DeviceError::Malformed("a contraction of three".into()));
                };
                // SAFETY: `bind` has checked the operands' reach.
                unsafe { product.run([*a, *b, *c], quiet) }
            }
            Body::Passes { passes, scratch, .. } => {
                let mut addresses: Vec<u64> = addresses.iter().map(|a| *a as u64).collect();
                let (mut table, mut slots) = (params.table as u64, params.slots.to_vec());
                let mut scratch = scratch.as_ref().map_or(0, |s| s.address() as u64);
                let of = |x: &mut u64| (&raw mut *x).cast::<c_void>();
                let mut arguments: Vec<*mut c_void> = addresses.iter_mut().map(of).collect();
                arguments.push(of(&mut table));
                let declared = kernel.kernel.params().len();
                arguments.extend(
                    slots.iter_mut().take(declared).map(|s| (&raw mut *s).cast::<c_void>()),
                );
                arguments.push(of(&mut scratch));
                for (function, pass) in passes {
                    let shape = (pass.grid, pass.block, pass.shared);
                    // SAFETY: the text takes these arguments (`text::head`), and `bind` has checked the operands' reach
                    // (guarded ones are the verifier's).
                    unsafe { function.launch(context, shape, &mut arguments) }?;
                }
                Ok(())
            }
        }
    }

    fn copy(&self, to: Span, from: Span, bytes: usize) -> Result<(), DeviceError> {
        self.inner.context.copy(to.address, from.address, bytes)
    }

    fn zero(&self, to: Span, bytes: usize) -> Result<(), DeviceError> {
        self.inner.context.zero(to.address, bytes)
    }

    fn read(&self, from: Span, to: &mut [u8]) -> Result<(), DeviceError> {
        self.inner.context.read(from.address, to)
    }

    fn sync(&self) -> Result<(), DeviceError> {
        self.inner.context.sync()
    }

    fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        // What cannot be entered fails at the first call inside.
        self.inner.context.enter().ok();
        f()
    }

    fn record(
        &self,
        work: &mut dyn FnMut() -> Result<(), DeviceError>,
    ) -> Result<Option<Recorded>, DeviceError> {
        self.inner.recording.store(true, Ordering::Relaxed);
        let recorded = self.inner.context.record(work);
        self.inner.recording.store(false, Ordering::Relaxed);
        recorded.map(Some)
    }

    fn replay(&self, recorded: &Recorded) -> Result<(), DeviceError> {
        recorded.replay()
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
        self.inner.context.time(work)
    }
}

impl Remote for driver::Memory {
    fn address(&self) -> *mut u8 {
        self.address()
    }

    fn len(&self) -> usize {
        self.len()
    }

    fn write(&self, bytes: &[u8]) -> Result<(), DeviceError> {
        self.context().write(self.address(), bytes)
    }

    fn read(&self, to: &mut [u8]) -> Result<(), DeviceError> {
        self.context().read(self.address(), to)
    }
}
