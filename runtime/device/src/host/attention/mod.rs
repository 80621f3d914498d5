//! Attention in blocks of query rows (after Dao et al. 2022, "FlashAttention"; here a block keeps its whole row of scores).
//!
//! A problem is one coordinate of the batch axes. Its query rows are done in blocks: two matrix products by `gemm` on
//! scratch, and between them fused loops ([`parts`]) made from the score and mask expressions, compiled like any other loop.
//! Key columns outside the kernel's bounds are never computed. Blocks and their order depend on the kernel alone, so results do not
//! depend on the number of threads.

mod backward;
mod forward;
mod parts;
#[cfg(test)]
mod tests;

pub(crate) use backward::Backward;
pub(crate) use forward::Forward;

use cs336_compiler::kernel::{AttentionKernel, KeyBound, Operand};
use cs336_compiler::scalar::{DType, Runtime};

use super::cells::Shared;
use super::gemm::Matrix;
use super::jit::Range;
use super::loops::LoopCode;
use crate::error::DeviceError;

/// The sizes of an attention, flattened.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Independent problems.
    problems: usize,
    /// Query rows of a problem.
    queries: usize,
    keys: usize,
    over: usize,
    values: usize,
    /// Numbers from one row of scores in scratch to the next.
    line: usize,
    /// Query rows per block.
    block: usize,
}

impl Sizes {
    fn new(k: &AttentionKernel) -> Self {
        let queries: usize = k.queries.iter().product();
        // A block's scores should stay in the second level of cache.
        let block = (131_072 / k.keys.max(1)).clamp(8, 64).min(queries.max(1));
        Self {
            problems: k.batch.iter().product(),
            queries,
            keys: k.keys,
            over: k.over,
            values: k.values.iter().product(),
            // Not a power of two, which would put all rows into the same cache sets.
            line: k.keys.next_multiple_of(16) + 16,
            block,
        }
    }

    fn blocks(&self) -> usize {
        self.queries.div_ceil(self.block)
    }

    /// Query rows of a block.
    fn rows(&self, block: usize) -> (usize, usize) {
        let from = block * self.block;
        (from, (from + self.block).min(self.queries))
    }
}

/// A matrix operand that is read as f32: in place, or widened into scratch first.
#[derive(Debug)]
struct Source {
    /// How it is packed; none: it is f32 and used where it is.
    pack: Option<LoopCode>,
    /// Which operand of the launch.
    operand: usize,
    rows: usize,
    cols: usize,
}

impl Source {
    /// Scratch for one problem.
    fn scratch(&self) -> usize {
        if self.pack.is_some() { self.rows * self.cols } else { 0 }
    }

    /// The matrix of a problem, packed into `scratch` if it must be.
    ///
    /// # Safety
    /// As `jit::Code::run`; `scratch` has room.
    unsafe fn bind(
        &self,
        k: &AttentionKernel,
        operands: &[*mut u8],
        params: &[u32],
        problem: usize,
        scratch: Shared,
        packed: bool,
    ) -> Matrix {
        if let Some(pack) = &self.pack {
            if !packed {
                let range = Range {
                    first: problem * self.rows,
                    last: (problem + 1) * self.rows,
                    low: 0,
                    high: pack.first,
                };
                let table = [operands[self.operand], scratch.0.cast()];
                // SAFETY: passed on to the caller.
                unsafe { pack.run_range(&table, params, range) };
            }
            return Matrix::new(scratch.0, self.cols as isize, 1);
        }
        let operand = &k.operands[self.operand];
        let axes = k.batch.len() + k.queries.len();
        let start = super::cells::offset_of(problem, &k.batch, &operand.strides);
        let col = if self.operand == 1 { axes + 1 } else { axes + 2 };
        let col = operand.strides.get(col).copied().unwrap_or(0);
        let data = operands[self.operand].cast::<f32>().wrapping_offset(start as isize);
        Matrix::new(data, operand.strides[axes] as isize, col as isize)
    }
}

/// The first address at which a block's scratch would begin if it held all rows of the problem.
fn before(scratch: Shared, row: usize, line: usize) -> *mut u8 {
    scratch.0.wrapping_sub(row * line).cast()
}

/// The keys `low..high` that any of the rows can see.
fn live_keys(
    k: &AttentionKernel,
    params: &[u32],
    problem: usize,
    (from, to): (usize, usize),
) -> (usize, usize) {
    let position = (k.runtime.iter().position(|r| *r == Runtime::Position))
        .and_then(|i| params.get(i))
        .map_or(0, |word| i64::from(*word as i32));
    let batch = super::cells::coordinates(problem, &k.batch);
    let (mut low, mut high) = (k.keys as i64, 0);
    for row in from..to {
        let query = super::cells::coordinates(row, &k.queries);
        let at = |bound: &KeyBound| {
            let coordinate = bound.axis.map_or(0, |axis| {
                let axis = axis as usize;
                let here = if axis < batch.len() {
                    batch.get(axis)
                } else {
                    query.get(axis - batch.len())
                };
                here.copied().unwrap_or(0) as i64
            });
            coordinate + bound.offset + if bound.plus_position { position } else { 0 }
        };
        let first = k.lower.iter().map(at).max().unwrap_or(0).max(0);
        let last = k.upper.iter().map(at).min().unwrap_or(i64::MAX - 1).min(k.keys as i64 - 1);
        if first <= last {
            low = low.min(first);
            high = high.max(last + 1);
        }
    }
    if low < high { (low as usize, high as usize) } else { (0, 0) }
}

/// Whether problems share elements of an operand.
fn shared(k: &AttentionKernel, operand: &Operand) -> bool {
    k.batch.iter().zip(&operand.strides).any(|(e, s)| *e > 1 && *s == 0)
}

/// An error about an attention that this backend cannot do.
fn cannot(reason: &str) -> DeviceError {
    DeviceError::Compile { kernel: "attention".to_owned(), reason: reason.to_owned() }
}

/// True if the operand can be a matrix of f32 as it is.
fn in_place(operand: &Operand) -> bool {
    operand.dtype == DType::F32
}
