//! The CPU backend: kernels as machine code, dense contractions and attention by `gemm`, the rest as plain loops.

pub(crate) mod attention;
pub(crate) mod bounds;
pub(crate) mod calls;
pub(crate) mod cells;
pub(crate) mod clif;
pub(crate) mod gemm;
pub(crate) mod jit;
pub(crate) mod loops;
#[cfg(test)]
pub(crate) mod oracle;
pub(crate) mod pool;
#[cfg(target_arch = "x86_64")]
pub(crate) mod product;
pub(crate) mod rowop;
pub(crate) mod scatter;
pub(crate) mod strips;
pub(crate) mod sums;
pub(crate) mod wide;

#[allow(
    clippy::disallowed_types,
    reason = "kernels have no order; this map is looked up only"
)]
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use cs336_compiler::kernel::Kernel;

use crate::error::DeviceError;
use crate::memory::Block;
use crate::{Device, Memory, Params, Span};
use attention::{Backward, Forward};
use bounds::Bounds;
use gemm::GemmCode;
use loops::{ColReduceCode, LoopCode};
use pool::Pool;

/// This machine's processor cores.
#[derive(Debug, Clone)]
pub struct Cpu {
    pub(crate) pool: Pool,
}

impl Cpu {
    /// With so many threads; `None`: one per core.
    pub fn new(threads: Option<usize>) -> Result<Self, DeviceError> {
        Ok(Self { pool: Pool::new(threads)? })
    }

    /// How many threads it uses.
    pub fn threads(&self) -> usize {
        self.pool.size()
    }
}

/// A kernel that this machine can run. Equal kernels share one while anybody holds it.
#[derive(Debug)]
pub struct Compiled {
    kernel: Kernel,
    body: Body,
    bounds: Bounds,
}

#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a plan has a few hundred of them")]
enum Body {
    Loop(LoopCode),
    ColReduce(ColReduceCode),
    Attention(Box<Forward>),
    AttentionGrad(Box<Backward>),
    Gemm(GemmCode),
    /// Nothing is compiled: Scatter, RowOp.
    Fixed,
}

impl Device for Cpu {
    type Kernel = Arc<Compiled>;
    type Recorded = ();

    fn is_host(&self) -> bool {
        true
    }

    fn alloc(&self, bytes: usize, what: &str) -> Result<Memory, DeviceError> {
        Block::zeroed(bytes, what).map(Memory::Host)
    }

    fn load(&self, kernel: &Kernel, _aligned: &[usize]) -> Result<Arc<Compiled>, DeviceError> {
        // Looked up by value; the order of the map is never seen.
        #[allow(clippy::disallowed_types, reason = "see above")]
        static CACHE: OnceLock<Mutex<HashMap<Kernel, Weak<Compiled>>>> = OnceLock::new();
        let cache = CACHE.get_or_init(Mutex::default);
        let lock = || cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lock().get(kernel).and_then(Weak::upgrade) {
            return Ok(known);
        }
        let made = Arc::new(Compiled::new(kernel)?);
        let mut cache = lock();
        cache.retain(|_, held| held.strong_count() > 0);
        cache.insert(kernel.clone(), Arc::downgrade(&made));
        Ok(made)
    }

    fn launch(
        &self,
        kernel: &Arc<Compiled>,
        operands: &[Span],
        params: &Params<'_>,
        origin: &str,
    ) -> Result<(), DeviceError> {
        let addresses = kernel.bounds.bind(&kernel.kernel, operands, params.words, origin)?;
        // SAFETY: `bind` has checked every operand's reach against its span (guarded ones are the verifier's), and plans bind
        // written operands to memory that no other operand uses differently.
        unsafe { kernel.run(&self.pool, &addresses, params.words) };
        Ok(())
    }

    fn copy(&self, to: Span, from: Span, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: the caller has checked both; a plan copies between views that do not overlap, and `copy` would even allow it.
        unsafe { std::ptr::copy(from.address, to.address, bytes) };
        Ok(())
    }

    fn zero(&self, to: Span, bytes: usize) -> Result<(), DeviceError> {
        // SAFETY: the caller has checked that the bytes are inside their buffer.
        unsafe { std::ptr::write_bytes(to.address, 0, bytes) };
        Ok(())
    }

    fn read(&self, from: Span, to: &mut [u8]) -> Result<(), DeviceError> {
        // SAFETY: as `zero`.
        unsafe { std::ptr::copy(from.address, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn sync(&self) -> Result<(), DeviceError> {
        // Launches return when their work is done.
        Ok(())
    }

    fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.pool.enter(f)
    }

    fn record(
        &self,
        _work: &mut dyn FnMut() -> Result<(), DeviceError>,
    ) -> Result<Option<()>, DeviceError> {
        // A launch is a call.
        Ok(None)
    }

    fn replay(&self, (): &()) -> Result<(), DeviceError> {
        Ok(())
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
        #[allow(clippy::disallowed_methods, reason = "a profile is made of times; nothing else is")]
        let started = std::time::Instant::now();
        work()?;
        Ok(started.elapsed().as_secs_f64())
    }
}

impl Compiled {
    fn new(kernel: &Kernel) -> Result<Self, DeviceError> {
        let body = match kernel {
            Kernel::Loop(k) => Body::Loop(LoopCode::new(k, "a fused loop")?),
            Kernel::ColReduce(k) => Body::ColReduce(ColReduceCode::new(k, "a column reduction")?),
            Kernel::Attention(k) => Body::Attention(Box::new(Forward::new(k)?)),
            Kernel::AttentionGrad(k) => Body::AttentionGrad(Box::new(Backward::new(k)?)),
            Kernel::Gemm(k) => Body::Gemm(GemmCode::new(k)?),
            Kernel::Scatter(_) | Kernel::RowOp(_) => Body::Fixed,
        };
        Ok(Self { kernel: kernel.clone(), body, bounds: Bounds::new(kernel) })
    }

    /// # Safety
    /// As `jit::Code::run`.
    unsafe fn run(&self, pool: &Pool, operands: &[*mut u8], params: &[u32]) {
        match (&self.kernel, &self.body) {
            (_, Body::Loop(code)) => {
                // SAFETY: passed on to the caller.
                unsafe { code.run(pool, operands, params) }
            }
            (Kernel::ColReduce(k), Body::ColReduce(code)) => {
                // SAFETY: passed on to the caller.
                unsafe { code.run(k, pool, operands, params) }
            }
            (Kernel::Attention(k), Body::Attention(code)) => {
                // SAFETY: passed on to the caller.
                unsafe { code.run(k, pool, operands, params) }
            }
            (Kernel::AttentionGrad(k), Body::AttentionGrad(code)) => {
                // SAFETY: passed on to the caller.
                unsafe { code.run(k, pool, operands, params) }
            }
            (Kernel::Gemm(k), Body::Gemm(code)) => {
                // SAFETY: passed on to the caller.
                unsafe { code.run(k, pool, operands) }
            }
            (Kernel::Scatter(k), _) => {
                // SAFETY: passed on to the caller.
                unsafe { scatter::run(k, pool, operands) }
            }
            (Kernel::RowOp(k), _) => {
                // SAFETY: passed on to the caller.
                unsafe { rowop::run(k, pool, operands) }
            }
            (Kernel::Loop(_) | Kernel::ColReduce(_) | Kernel::Gemm(_), _)
            | (Kernel::Attention(_) | Kernel::AttentionGrad(_), _) => {
                debug_assert!(false, "`new` pairs kernels with their bodies");
            }
        }
    }
}
