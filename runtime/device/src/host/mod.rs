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
use crate::{Device, Span};
use attention::{Backward, Forward};
use bounds::Reach;
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
    reaches: Vec<Reach>,
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

    fn alloc(&self, bytes: usize, what: &str) -> Result<Block, DeviceError> {
        Block::zeroed(bytes, what)
    }

    fn upload(&self, to: &mut Block, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let range = offset..offset.saturating_add(bytes.len());
        match to.bytes_mut().get_mut(range) {
            Some(to) => {
                to.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(DeviceError::Malformed("an upload reaches past its block".into())),
        }
    }

    fn download(&self, from: &Block, offset: usize, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let range = offset..offset.saturating_add(bytes.len());
        match from.bytes().get(range) {
            Some(from) => {
                bytes.copy_from_slice(from);
                Ok(())
            }
            None => Err(DeviceError::Malformed("a download reaches past its block".into())),
        }
    }

    fn load(&self, kernel: &Kernel) -> Result<Arc<Compiled>, DeviceError> {
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
        params: &[u32],
        origin: &str,
    ) -> Result<(), DeviceError> {
        let addresses = kernel.bind(operands, params, origin)?;
        // SAFETY: `bind` has checked every operand's reach against its span (guarded ones are the verifier's), and plans bind
        // written operands to memory that no other operand uses differently.
        unsafe { kernel.run(&self.pool, &addresses, params) };
        Ok(())
    }

    fn sync(&self) -> Result<(), DeviceError> {
        // Launches return when their work is done.
        Ok(())
    }

    fn enter<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        self.pool.enter(f)
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
        Ok(Self { kernel: kernel.clone(), body, reaches: bounds::reaches(kernel) })
    }

    /// Addresses of the operands' coordinates 0, after checking that they stay inside their spans.
    fn bind(
        &self,
        spans: &[Span],
        params: &[u32],
        origin: &str,
    ) -> Result<Vec<*mut u8>, DeviceError> {
        let operands = self.kernel.operands();
        if operands.len() != spans.len() {
            return Err(DeviceError::Malformed(format!(
                "`{origin}` binds {} operands of {}",
                spans.len(),
                operands.len()
            )));
        }
        let mut addresses = Vec::with_capacity(spans.len());
        for (i, ((operand, span), reach)) in
            operands.into_iter().zip(spans).zip(&self.reaches).enumerate()
        {
            let size = operand.dtype.bytes() as i64;
            let moved = match operand.dynamic {
                Some((param, stride)) => {
                    let value = params.get(param as usize).copied().unwrap_or(0) as i32;
                    i64::from(value) * stride * size
                }
                None => 0,
            };
            if let Some((low, high)) = reach {
                let under = -(span.before as i64) - (low + moved);
                let over = high + moved - span.after as i64;
                let by = under.max(over);
                if by > 0 {
                    let origin = origin.to_owned();
                    return Err(DeviceError::OutOfBounds { origin, operand: i, by });
                }
            }
            addresses.push(span.address.wrapping_offset((operand.offset * size + moved) as isize));
        }
        Ok(addresses)
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
