//! Attention forward.

use cs336_compiler::kernel::AttentionKernel;

use super::parts::Parts;
use super::{Sizes, Source, before, in_place, live_keys};
use crate::error::DeviceError;
use crate::host::cells::Shared;
use crate::host::gemm::{Matrix, multiply};
use crate::host::jit::Range;
use crate::host::loops::LoopCode;
use crate::host::pool::Pool;

/// The compiled parts.
#[derive(Debug)]
pub(crate) struct Forward {
    sizes: Sizes,
    pack_q: LoopCode,
    keys: Source,
    values: Source,
    softmax: LoopCode,
    normalise: LoopCode,
}

impl Forward {
    /// Compiles.
    pub(crate) fn new(k: &AttentionKernel) -> Result<Self, DeviceError> {
        let sizes = Sizes::new(k);
        let parts = Parts { k, sizes };
        Ok(Self {
            sizes,
            pack_q: parts.pack_rows(0, false, k.scale.get())?,
            keys: keys(&parts)?,
            values: values(&parts)?,
            softmax: parts.softmax(4 + k.captured)?,
            normalise: parts.normalise(3 + k.captured)?,
        })
    }

    /// Runs it on bound operands.
    ///
    /// # Safety
    /// As `jit::Code::run`.
    pub(crate) unsafe fn run(
        &self,
        k: &AttentionKernel,
        pool: &Pool,
        operands: &[*mut u8],
        params: &[u32],
    ) {
        let Sizes { problems, queries, keys, over, values, line, block } = self.sizes;
        let (k_size, v_size) = (self.keys.scratch(), self.values.scratch());
        let table = crate::host::loops::Addresses::new(operands);
        let count = operands.len();
        let work = 2 * problems * queries * keys * (over + values + 20) / 8;
        pool.with_scratch(problems * (k_size + v_size), |packed| {
            let packed = Shared(packed.as_mut_ptr());
            let bind = |problem: usize, done: bool| {
                let operands = &table.all()[..count];
                let (at_k, at_v) = (problem * k_size, problems * k_size + problem * v_size);
                let (at_k, at_v) = (Shared(packed.at(at_k)), Shared(packed.at(at_v)));
                // SAFETY: passed on to the caller; each problem has its own part of scratch.
                let k_matrix = unsafe { self.keys.bind(k, operands, params, problem, at_k, done) };
                // SAFETY: as above.
                let v_matrix =
                    unsafe { self.values.bind(k, operands, params, problem, at_v, done) };
                (k_matrix, v_matrix)
            };
            if k_size + v_size > 0 {
                pool.each(problems, problems * (k_size + v_size), |problem| {
                    bind(problem, false);
                });
            }
            let blocks = self.sizes.blocks();
            let size = block * (over + line + values + 1);
            pool.each(problems * blocks, work, |task| {
                let (problem, number) = (task / blocks, task % blocks);
                let (k_matrix, v_matrix) = bind(problem, true);
                pool.with_scratch(size, |scratch| {
                    let task = Block {
                        rows: self.sizes.rows(number),
                        problem,
                        operands: &table.all()[..count],
                        params,
                        scratch: Shared(scratch.as_mut_ptr()),
                    };
                    // SAFETY: passed on to the caller; blocks write different rows.
                    unsafe { self.block(k, &task, k_matrix, v_matrix) };
                });
            });
        });
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn block(&self, k: &AttentionKernel, t: &Block<'_>, keys: Matrix, values: Matrix) {
        let s = self.sizes;
        let (from, to) = t.rows;
        let rows = to - from;
        let (low, high) = live_keys(k, t.params, t.problem, t.rows);
        let q = t.scratch;
        let scores = Shared(q.at(s.block * s.over));
        let out = Shared(scores.at(s.block * s.line));
        let inverse = Shared(out.at(s.block * s.values));
        let range = |low: usize, high: usize| Range {
            first: t.problem * s.queries + from,
            last: t.problem * s.queries + to,
            low,
            high,
        };
        let q_at = before(q, from, s.over);
        // SAFETY: scratch has room for a block's rows, which is all that these ranges touch of it; the rest is passed on.
        unsafe { self.pack_q.run_range(&[t.operands[0], q_at], t.params, range(0, s.over)) };
        if low < high {
            let q = Matrix::new(q.0, s.over as isize, 1);
            let to = Matrix::new(scores.at(low), s.line as isize, 1);
            let keys = keys.at_row(low).t();
            // SAFETY: scratch, and the keys `low..high` of the problem.
            unsafe { multiply((rows, high - low, s.over), to, false, q, keys, 1) };
        }
        let scores_at = before(scores, from, s.line);
        let inverse_at = before(inverse, from, 1);
        let mut table = vec![scores_at, scores_at, inverse_at, t.operands[4 + k.captured]];
        table.extend(&t.operands[3..3 + k.captured]);
        // SAFETY: as for the packing.
        unsafe { self.softmax.run_range(&table, t.params, range(low, high)) };
        if low < high {
            let to = Matrix::new(out.0, s.values as isize, 1);
            let p = Matrix::new(scores.at(low), s.line as isize, 1);
            let values = values.at_row(low);
            // SAFETY: scratch, and the values `low..high` of the problem.
            unsafe { multiply((rows, s.values, high - low), to, false, p, values, 1) };
        } else {
            // SAFETY: the block's own part of scratch.
            unsafe { out.slice(0, rows * s.values) }.fill(0.0);
        }
        let table = [before(out, from, s.values), inverse_at, t.operands[3 + k.captured]];
        // SAFETY: as for the packing.
        unsafe { self.normalise.run_range(&table, t.params, range(0, self.normalise.first)) };
    }
}

struct Block<'t> {
    rows: (usize, usize),
    problem: usize,
    operands: &'t [*mut u8],
    params: &'t [u32],
    scratch: Shared,
}

/// The keys as a matrix: keys x over.
pub(super) fn keys(parts: &Parts<'_>) -> Result<Source, DeviceError> {
    let pack = if in_place(&parts.k.operands[1]) {
        None
    } else {
        Some(parts.keys_copy(1, false, true, false)?)
    };
    Ok(Source { pack, operand: 1, rows: parts.sizes.keys, cols: parts.sizes.over })
}

/// The values as a matrix: keys x values.
pub(super) fn values(parts: &Parts<'_>) -> Result<Source, DeviceError> {
    let pack = if in_place(&parts.k.operands[2]) && parts.k.values.len() <= 1 {
        None
    } else {
        Some(parts.keys_copy(2, true, true, false)?)
    };
    Ok(Source { pack, operand: 2, rows: parts.sizes.keys, cols: parts.sizes.values })
}
