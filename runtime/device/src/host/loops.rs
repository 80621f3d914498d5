//! Runs compiled [`Loop`]s and [`ColReduce`]s: cuts them into tasks, and finishes what was reduced in ranges.

use std::sync::Arc;

use cs336_compiler::kernel::{Access, ColReduce, Effect, Loop};
use cs336_compiler::scalar::ReduceOp;

use super::cells::{Shared, View, offset_of};
use super::clif::{self, Kind};
use super::jit::{Code, Range};
use super::pool::{Pool, cut};
use crate::error::DeviceError;

/// Read where a guard fails.
#[repr(align(64))]
struct Nowhere([u8; 64]);
static NOWHERE: Nowhere = Nowhere([0; 64]);

/// A table of addresses that tasks share.
pub(crate) struct Addresses(Vec<*mut u8>);

// SAFETY: a list of addresses; using them is the business of `Code::run`.
unsafe impl Sync for Addresses {}
// SAFETY: as above.
unsafe impl Send for Addresses {}

impl Addresses {
    /// The operands, and the harmless bytes that fused functions expect last.
    pub(crate) fn new(operands: &[*mut u8]) -> Self {
        let mut all = operands.to_vec();
        all.push((&raw const NOWHERE.0).cast_mut().cast());
        Self(all)
    }

    pub(crate) fn all(&self) -> &[*mut u8] {
        &self.0
    }
}

/// A compiled Loop.
#[derive(Debug)]
pub(crate) struct LoopCode {
    code: Arc<Code>,
    /// Rows in all.
    pub(crate) rows: usize,
    /// Extent of the first column axis, 1 without columns.
    pub(crate) first: usize,
    /// Simple instructions per row.
    row_work: usize,
    /// Whether the first column axis may be cut: nothing is reduced or done once per row.
    splits: bool,
}

impl LoopCode {
    /// Compiles.
    pub(crate) fn new(kernel: &Loop, label: &str) -> Result<Self, DeviceError> {
        let (code, ()) = Code::compile(label, |f, target| clif::emit_loop(kernel, f, target))?;
        let splits = kernel.stages.iter().all(|stage| {
            !stage.per_row
                && stage.effects.iter().all(|e| match e {
                    Effect::Store { .. } => true,
                    Effect::Reduce { .. } => false,
                })
        });
        let columns: usize = kernel.cols.iter().product();
        Ok(Self {
            code,
            rows: kernel.rows.iter().product(),
            first: kernel.cols.first().copied().unwrap_or(1),
            row_work: columns * clif::stages_weight(&kernel.stages) + 20,
            splits: splits && !kernel.cols.is_empty(),
        })
    }

    /// All rows.
    ///
    /// # Safety
    /// As [`Code::run`].
    pub(crate) unsafe fn run(&self, pool: &Pool, operands: &[*mut u8], params: &[u32]) {
        let table = Addresses::new(operands);
        let work = self.rows * self.row_work;
        let parts = if work < super::pool::SMALL { 1 } else { 4 * pool.size() };
        let rows = cut(self.rows, parts, 1);
        let columns = if self.splits && rows.len() < parts {
            cut(self.first, parts.div_ceil(rows.len().max(1)), 64)
        } else {
            vec![(0, self.first)]
        };
        pool.each(rows.len() * columns.len(), work, |task| {
            let (first, last) = rows[task / columns.len()];
            let (low, high) = columns[task % columns.len()];
            let range = Range { first, last, low, high };
            // SAFETY: passed on to the caller; tasks do different rows or columns, which are independent.
            unsafe { self.code.run(table.all(), params, range) };
        });
    }

    /// Some rows and columns, on this thread.
    ///
    /// # Safety
    /// As [`Code::run`].
    pub(crate) unsafe fn run_range(&self, operands: &[*mut u8], params: &[u32], range: Range) {
        let table = Addresses::new(operands);
        // SAFETY: passed on to the caller.
        unsafe { self.code.run(table.all(), params, range) };
    }
}

/// A compiled ColReduce.
#[derive(Debug)]
pub(crate) struct ColReduceCode {
    code: Arc<Code>,
    kinds: Vec<Kind>,
    work: usize,
}

impl ColReduceCode {
    /// Compiles.
    pub(crate) fn new(kernel: &ColReduce, label: &str) -> Result<Self, DeviceError> {
        let (code, kinds) =
            Code::compile(label, |f, target| clif::emit_col_reduce(kernel, f, target))?;
        let elements: usize =
            [&kernel.outer, &kernel.reduced, &kernel.cols].into_iter().flatten().product();
        let per_element = clif::weight(&kernel.insts) + 3 * kernel.results.len();
        Ok(Self { code, kinds, work: elements * per_element })
    }

    /// Reduces in ranges, then combines these in order.
    ///
    /// # Safety
    /// As [`Code::run`].
    pub(crate) unsafe fn run(
        &self,
        kernel: &ColReduce,
        pool: &Pool,
        operands: &[*mut u8],
        params: &[u32],
    ) {
        let table = Addresses::new(operands);
        let outer: usize = kernel.outer.iter().product();
        let reduced: usize = kernel.reduced.iter().product();
        let columns: usize = kernel.cols.iter().product();
        let ranges = match cut(reduced, kernel.chunks, 1) {
            none if none.is_empty() => vec![(0, 0)],
            some => some,
        };
        let part = kernel.results.len() * columns;
        pool.with_scratch(outer * ranges.len() * part, |memory| {
            let base = Shared(memory.as_mut_ptr());
            pool.each(outer * ranges.len(), self.work, |task| {
                let (index, (first, last)) = (task / ranges.len(), ranges[task % ranges.len()]);
                let partials = base.at(task * part);
                let range = Range { first, last, low: index, high: partials as usize };
                // SAFETY: passed on to the caller; each task has its own part of scratch, and only reads operands.
                unsafe { self.code.run(table.all(), params, range) };
            });
            let finishes: Vec<Finish<'_>> = (kernel.results.iter().zip(&self.kinds))
                .map(|((op, _, at), kind)| {
                    let operand = &kernel.operands[*at as usize];
                    let view = View::new(operand, operands[*at as usize]);
                    let add = operand.access == Access::Accumulate;
                    Finish { op: *op, kind: *kind, add, view, kernel }
                })
                .collect();
            let blocks = cut(columns, 4 * pool.size(), 64);
            let work = 4 * outer * ranges.len() * part;
            pool.each(outer * blocks.len(), work, |task| {
                let (index, (from, to)) = (task / blocks.len(), blocks[task % blocks.len()]);
                for (number, finish) in finishes.iter().enumerate() {
                    for column in from..to {
                        let at = |range: usize| {
                            base.at((index * ranges.len() + range) * part
                                + number * columns
                                + column)
                        };
                        // SAFETY: passed on to the caller; tasks write different columns or outer indices.
                        unsafe { finish.one(index, column, ranges.len(), at) };
                    }
                }
            });
        });
    }
}

struct Finish<'k> {
    op: ReduceOp,
    kind: Kind,
    add: bool,
    view: View<'k>,
    kernel: &'k ColReduce,
}

impl Finish<'_> {
    /// # Safety
    /// `at` gives addresses of the column's partial results, and the result's element is inside its operand.
    unsafe fn one(
        &self,
        outer: usize,
        column: usize,
        ranges: usize,
        at: impl Fn(usize) -> *mut f32,
    ) {
        let (outers, skipped) = (&self.kernel.outer, self.kernel.reduced.len());
        let strides = self.view.strides;
        let element = offset_of(outer, outers, &strides[..outers.len()])
            + offset_of(column, &self.kernel.cols, &strides[outers.len() + skipped..]);
        match self.kind {
            Kind::F => {
                // SAFETY: passed on to the caller.
                let mut value = unsafe { at(0).read() };
                for range in 1..ranges {
                    // SAFETY: passed on to the caller.
                    value = combine(self.op, value, unsafe { at(range).read() });
                }
                if self.add {
                    // SAFETY: passed on to the caller.
                    value += unsafe { self.view.get(element) };
                }
                // SAFETY: passed on to the caller.
                unsafe { self.view.set(element, value) };
            }
            Kind::I | Kind::M => {
                // SAFETY: passed on to the caller.
                let mut value = unsafe { at(0).cast::<i32>().read() };
                for range in 1..ranges {
                    // SAFETY: passed on to the caller.
                    value = combine_int(self.op, value, unsafe { at(range).cast::<i32>().read() });
                }
                if self.add {
                    // SAFETY: passed on to the caller.
                    value = value.wrapping_add(unsafe { self.view.get_int(element) });
                }
                // SAFETY: passed on to the caller.
                unsafe { self.view.set_int(element, value) };
            }
        }
    }
}

fn combine(op: ReduceOp, a: f32, b: f32) -> f32 {
    match op {
        ReduceOp::Sum => a + b,
        ReduceOp::Prod => a * b,
        // A NaN must survive.
        ReduceOp::Max if a.is_nan() || a > b => a,
        ReduceOp::Min if a.is_nan() || a < b => a,
        ReduceOp::Max | ReduceOp::Min => b,
    }
}

fn combine_int(op: ReduceOp, a: i32, b: i32) -> i32 {
    match op {
        ReduceOp::Sum => a.wrapping_add(b),
        ReduceOp::Prod => a.wrapping_mul(b),
        ReduceOp::Max => a.max(b),
        ReduceOp::Min => a.min(b),
    }
}
