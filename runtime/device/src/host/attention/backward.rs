//! Attention backward: probabilities again from the log-sum-exp (Dao et al. 2022, algorithm 4).
//!
//! A problem is done by one thread, its blocks in ascending order, so dk and dv are summed in a fixed order. Where problems
//! share a gradient (a captured tensor's, or of keys that several heads share) they run one after the other.

use cs336_compiler::kernel::AttentionKernel;

use super::parts::Parts;
use super::{Sizes, Source, before, forward, live_keys, shared};
use crate::error::DeviceError;
use crate::host::cells::{Shared, View, offset_of};
use crate::host::gemm::{Matrix, multiply};
use crate::host::jit::Range;
use crate::host::loops::{Addresses, LoopCode};
use crate::host::pool::Pool;

/// The compiled parts.
#[derive(Debug)]
pub(crate) struct Backward {
    sizes: Sizes,
    pack_q: LoopCode,
    pack_dout: LoopCode,
    keys: Source,
    values: Source,
    row_dots: LoopCode,
    slopes: LoopCode,
    put_dq: LoopCode,
    put_dk: LoopCode,
    put_dv: LoopCode,
    captured: Vec<LoopCode>,
    /// Operands that several problems add to; cleared first.
    cleared: Vec<usize>,
}

impl Backward {
    /// Compiles.
    pub(crate) fn new(k: &AttentionKernel) -> Result<Self, DeviceError> {
        let sizes = Sizes::new(k);
        let parts = Parts { k, sizes };
        let first = 3 + k.captured;
        let (out, lse, dout) = (first, first + 1, first + 2);
        let (dq, dk, dv) = (first + 3, first + 4, first + 5);
        let wanted: Vec<usize> =
            (0..k.captured).filter(|c| k.wants.get(*c).copied().unwrap_or(false)).collect();
        let together = |operand: usize| shared(k, &k.operands[operand]);
        let mut cleared: Vec<usize> = [dq, dk, dv].into_iter().filter(|o| together(*o)).collect();
        cleared.extend((0..wanted.len()).map(|n| dv + 1 + n));
        let captured = (0..wanted.len())
            .map(|n| parts.add_captured(dv + 1 + n))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            sizes,
            pack_q: parts.pack_rows(0, false, k.scale.get())?,
            pack_dout: parts.pack_rows(dout, true, 1.0)?,
            keys: forward::keys(&parts)?,
            values: forward::values(&parts)?,
            row_dots: parts.row_dots(out, dout)?,
            slopes: parts.slopes(lse, &wanted)?,
            put_dq: parts.unpack_rows(dq, k.scale.get(), together(dq))?,
            put_dk: parts.keys_copy(dk, false, false, together(dk))?,
            put_dv: parts.keys_copy(dv, true, false, together(dv))?,
            captured,
            cleared,
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
        for operand in &self.cleared {
            let axes: Vec<usize> = (extents(k).iter())
                .zip(&k.operands[*operand].strides)
                .map(|(extent, stride)| if *stride == 0 { 1 } else { *extent })
                .collect();
            let view = View::new(&k.operands[*operand], operands[*operand]);
            for flat in 0..axes.iter().product() {
                // SAFETY: passed on to the caller: an element of a written operand.
                unsafe { view.set(offset_of(flat, &axes, view.strides), 0.0) };
            }
        }
        let s = self.sizes;
        let table = Addresses::new(operands);
        let count = operands.len();
        let per_block = s.over * 2 + s.values + 1 + s.line * (2 + self.captured.len());
        let (k_size, v_size) = (self.keys.scratch(), self.values.scratch());
        let size = s.keys * (s.over + s.values) + k_size + v_size + s.block * per_block;
        let one = |problem: usize| {
            pool.with_scratch(size, |scratch| {
                let task = Problem {
                    problem,
                    operands: &table.all()[..count],
                    params,
                    scratch: Shared(scratch.as_mut_ptr()),
                };
                // SAFETY: passed on to the caller; problems write different gradients, or run one after the other.
                unsafe { self.problem(k, &task) };
            });
        };
        if self.cleared.is_empty() {
            let work = s.queries * s.keys * (3 * s.over + 2 * s.values + 40) / 4;
            pool.each(s.problems, s.problems * work, one);
        } else {
            (0..s.problems).for_each(one);
        }
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn problem(&self, k: &AttentionKernel, t: &Problem<'_>) {
        let s = self.sizes;
        let dk = t.scratch;
        let dv = Shared(dk.at(s.keys * s.over));
        let k_at = Shared(dv.at(s.keys * s.values));
        let v_at = Shared(k_at.at(self.keys.scratch()));
        let rest = Shared(v_at.at(self.values.scratch()));
        // SAFETY: the first numbers of this problem's scratch.
        unsafe { dk.slice(0, s.keys * (s.over + s.values)) }.fill(0.0);
        // SAFETY: passed on to the caller; scratch has room for both.
        let keys = unsafe { self.keys.bind(k, t.operands, t.params, t.problem, k_at, false) };
        // SAFETY: as above.
        let values = unsafe { self.values.bind(k, t.operands, t.params, t.problem, v_at, false) };
        let sums = Sums {
            dk: Matrix::new(dk.0, s.over as isize, 1),
            dv: Matrix::new(dv.0, s.values as isize, 1),
        };
        for number in 0..s.blocks() {
            // SAFETY: passed on to the caller.
            unsafe { self.block(k, t, s.rows(number), rest, (keys, values), &sums) };
        }
        let all = Range {
            first: t.problem * s.keys,
            last: (t.problem + 1) * s.keys,
            low: 0,
            high: self.put_dk.first,
        };
        let to = 3 + k.captured + 4;
        // SAFETY: passed on to the caller.
        unsafe { self.put_dk.run_range(&[dk.0.cast(), t.operands[to]], t.params, all) };
        let all = Range { high: self.put_dv.first, ..all };
        // SAFETY: passed on to the caller.
        unsafe { self.put_dv.run_range(&[dv.0.cast(), t.operands[to + 1]], t.params, all) };
    }

    /// # Safety
    /// As [`run`](Self::run).
    unsafe fn block(
        &self,
        k: &AttentionKernel,
        t: &Problem<'_>,
        (from, to): (usize, usize),
        scratch: Shared,
        (keys, values): (Matrix, Matrix),
        sums: &Sums,
    ) {
        let s = self.sizes;
        let first = 3 + k.captured;
        let (out, lse, dout, dq) = (first, first + 1, first + 2, first + 3);
        let (low, high) = live_keys(k, t.params, t.problem, (from, to));
        let (rows, span) = (to - from, high - low);
        let q = scratch;
        let dq_rows = Shared(q.at(s.block * s.over));
        let dout_rows = Shared(dq_rows.at(s.block * s.over));
        let dots = Shared(dout_rows.at(s.block * s.values));
        let p = Shared(dots.at(s.block));
        let ds = Shared(p.at(s.block * s.line));
        let range = |low: usize, high: usize| Range {
            first: t.problem * s.queries + from,
            last: t.problem * s.queries + to,
            low,
            high,
        };
        let table = [t.operands[0], before(q, from, s.over)];
        // SAFETY: scratch has room for a block's rows, which is all that these ranges touch of it; the rest is passed on.
        unsafe { self.pack_q.run_range(&table, t.params, range(0, s.over)) };
        let table = [t.operands[dout], before(dout_rows, from, s.values)];
        // SAFETY: as above.
        unsafe { self.pack_dout.run_range(&table, t.params, range(0, self.pack_dout.first)) };
        let table = [t.operands[out], t.operands[dout], before(dots, from, 1)];
        // SAFETY: as above.
        unsafe { self.row_dots.run_range(&table, t.params, range(0, self.row_dots.first)) };

        let q = Matrix::new(q.0, s.over as isize, 1);
        let g = Matrix::new(dout_rows.0, s.values as isize, 1);
        let p_part = Matrix::new(p.at(low), s.line as isize, 1);
        let ds_part = Matrix::new(ds.at(low), s.line as isize, 1);
        let (k_part, v_part) = (keys.at_row(low), values.at_row(low));
        if span > 0 {
            // SAFETY: scratch, and the keys `low..high` of the problem.
            unsafe { multiply((rows, span, s.over), p_part, false, q, k_part.t(), 1) };
            // SAFETY: scratch, and the values `low..high` of the problem.
            unsafe { multiply((rows, span, s.values), ds_part, false, g, v_part.t(), 1) };
        }
        let (p_at, ds_at) = (before(p, from, s.line), before(ds, from, s.line));
        let mut table = vec![p_at, ds_at, t.operands[lse], before(dots, from, 1), p_at, ds_at];
        let extra = |n: usize| before(Shared(ds.at((1 + n) * s.block * s.line)), from, s.line);
        table.extend((0..self.captured.len()).map(extra));
        table.extend(&t.operands[3..first]);
        // SAFETY: as for the packing.
        unsafe { self.slopes.run_range(&table, t.params, range(low, high)) };
        for (n, add) in self.captured.iter().enumerate() {
            let table = [extra(n), t.operands[dq + 3 + n]];
            // SAFETY: as for the packing; problems that share it run one after the other.
            unsafe { add.run_range(&table, t.params, range(low, high)) };
        }
        let dq_matrix = Matrix::new(dq_rows.0, s.over as isize, 1);
        if span > 0 {
            let (dk, dv) = (sums.dk.at_row(low), sums.dv.at_row(low));
            // SAFETY: scratch of this problem only.
            unsafe { multiply((span, s.values, rows), dv, true, p_part.t(), g, 1) };
            // SAFETY: as above; the rows of q carry the scale.
            unsafe { multiply((span, s.over, rows), dk, true, ds_part.t(), q, 1) };
            // SAFETY: scratch, and the keys `low..high` of the problem.
            unsafe { multiply((rows, s.over, span), dq_matrix, false, ds_part, k_part, 1) };
        } else {
            // SAFETY: the block's own part of scratch.
            unsafe { dq_rows.slice(0, rows * s.over) }.fill(0.0);
        }
        let table = [before(dq_rows, from, s.over), t.operands[dq]];
        // SAFETY: as for the packing.
        unsafe { self.put_dq.run_range(&table, t.params, range(0, s.over)) };
    }
}

struct Problem<'t> {
    problem: usize,
    operands: &'t [*mut u8],
    params: &'t [u32],
    scratch: Shared,
}

struct Sums {
    dk: Matrix,
    dv: Matrix,
}

/// The extents of the kernel's axes, in the order of its operands' strides.
fn extents(k: &AttentionKernel) -> Vec<usize> {
    [&k.batch[..], &k.queries, &[k.keys, k.over], &k.values].concat()
}
