//! Dense contractions by the crate `gemm`, in f32.
//!
//! 16-bit operands are widened whole into scratch first, and a 16-bit result is rounded once at the end. How `gemm` cuts the
//! contracted axis depends on the shapes alone, so results do not depend on the number of threads (tested below).

use cs336_compiler::kernel::{Access, Gemm};
use cs336_compiler::scalar::DType;
use gemm::Parallelism;

use super::cells::{Shared, View, offset_of};
use super::pool::Pool;

/// A matrix of f32 in memory: address and strides in elements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix {
    pub(crate) data: Shared,
    pub(crate) row: isize,
    pub(crate) col: isize,
}

impl Matrix {
    pub(crate) fn new(data: *mut f32, row: isize, col: isize) -> Self {
        Self { data: Shared(data), row, col }
    }

    /// Rows and columns exchanged.
    pub(crate) fn t(self) -> Self {
        Self { data: self.data, row: self.col, col: self.row }
    }

    /// The rows from `row` on.
    pub(crate) fn at_row(self, row: usize) -> Self {
        self.offset(row as i64 * self.row as i64)
    }

    fn offset(self, elements: i64) -> Self {
        Self { data: Shared(self.data.0.wrapping_offset(elements as isize)), ..self }
    }
}

/// c = a b, or c += a b.
///
/// # Safety
/// The matrices (a: m x k, b: k x n, c: m x n) lie in memory that may be read, c in memory that only this call uses.
pub(crate) unsafe fn multiply(
    (m, n, k): (usize, usize, usize),
    c: Matrix,
    add: bool,
    a: Matrix,
    b: Matrix,
    threads: usize,
) {
    let parallelism = if threads <= 1 { Parallelism::None } else { Parallelism::Rayon(threads) };
    let alpha = if add { 1.0 } else { 0.0 };
    // SAFETY: passed on to the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.data.0,
            c.col,
            c.row,
            add,
            a.data.0.cast_const(),
            a.col,
            a.row,
            b.data.0.cast_const(),
            b.col,
            b.row,
            alpha,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Runs a Gemm on bound operands (a, b, c: addresses of coordinates 0).
///
/// # Safety
/// The operands' extents are inside memory as the launch has checked; c is used by nobody else.
pub(crate) unsafe fn run(kernel: &Gemm, pool: &Pool, operands: &[*mut u8]) {
    let batches: usize = kernel.batch.iter().product();
    let (m, n, k) = (kernel.m, kernel.n, kernel.k);
    if batches * m * n == 0 {
        return;
    }
    let views = [
        View::new(&kernel.a, operands[0]),
        View::new(&kernel.b, operands[1]),
        View::new(&kernel.c, operands[2]),
    ];
    let axes = kernel.batch.len();
    // The axes of each operand's rows and columns.
    let sides = [(axes, axes + 2, m, k), (axes + 2, axes + 1, k, n), (axes, axes + 1, m, n)];
    let plans: Vec<Side<'_>> = (views.into_iter().zip(sides))
        .map(|(view, (row, col, rows, cols))| Side::new(view, &kernel.batch, row, col, rows, cols))
        .collect();
    let scratch: usize = plans.iter().map(|p| p.scratch).sum();
    let add = kernel.c.access == Access::Accumulate;
    pool.with_scratch(scratch, |memory| {
        let base = Shared(memory.as_mut_ptr());
        let mut from = 0;
        let mut bound = Vec::new();
        for (i, side) in plans.iter().enumerate() {
            let at = Shared(base.at(from));
            from += side.scratch;
            if side.scratch > 0 && (i < 2 || add) {
                side.widen(pool, at);
            }
            bound.push(at);
        }
        let matrix = |i: usize, batch: usize| plans[i].matrix(bound[i], batch);
        let threads = pool.size();
        let one = |batch: usize, threads: usize| {
            let (a, b, c) = (matrix(0, batch), matrix(1, batch), matrix(2, batch));
            // SAFETY: passed on to the caller: all three are inside their operands (or inside scratch of their
            // size), and batches write disjoint parts of c.
            unsafe { multiply((m, n, k), c, add, a, b, threads) }
        };
        let work = 2 * m * n * k.max(1);
        if batches >= threads || work < 1 << 20 {
            pool.each(batches, batches * work / 8, |batch| one(batch, 1));
        } else {
            for batch in 0..batches {
                one(batch, threads);
            }
        }
        if plans[2].scratch > 0 {
            plans[2].narrow(pool, bound[2]);
        }
    });
}

/// One operand: where its matrices are, or how large their f32 copies are.
struct Side<'k> {
    view: View<'k>,
    batch: &'k [usize],
    /// Numbers of axes.
    row: usize,
    col: usize,
    rows: usize,
    cols: usize,
    /// f32 numbers of scratch; 0: used in place.
    scratch: usize,
    /// Whether all batches share one matrix.
    shared: bool,
}

impl<'k> Side<'k> {
    fn new(
        view: View<'k>,
        batch: &'k [usize],
        row: usize,
        col: usize,
        rows: usize,
        cols: usize,
    ) -> Self {
        let shared = (batch.iter().zip(view.strides)).all(|(e, s)| *e == 1 || *s == 0);
        let matrices = if shared { 1 } else { batch.iter().product() };
        let scratch = if view.dtype == DType::F32 { 0 } else { matrices * rows * cols };
        Self { view, batch, row, col, rows, cols, scratch, shared }
    }

    fn matrix(&self, scratch: Shared, batch: usize) -> Matrix {
        if self.scratch > 0 {
            let at = if self.shared { 0 } else { batch * self.rows * self.cols };
            return Matrix::new(scratch.at(at), self.cols as isize, 1);
        }
        let (row, col) = (self.view.strides[self.row], self.view.strides[self.col]);
        let whole = Matrix::new(self.view.at(0).cast(), row as isize, col as isize);
        whole.offset(offset_of(batch, self.batch, self.view.strides))
    }

    /// Copies into scratch as f32.
    fn widen(&self, pool: &Pool, scratch: Shared) {
        self.rows_of(pool, |line, stride, at| {
            // SAFETY: rows of scratch are disjoint and inside it.
            let to = unsafe { scratch.slice(at, self.cols) };
            for (j, t) in to.iter_mut().enumerate() {
                // SAFETY: inside the operand, which the launch has checked.
                *t = unsafe { self.view.get(line + j as i64 * stride) };
            }
        });
    }

    /// Copies from scratch, rounding.
    fn narrow(&self, pool: &Pool, scratch: Shared) {
        self.rows_of(pool, |line, stride, at| {
            // SAFETY: rows of scratch are disjoint and inside it.
            let from = unsafe { scratch.slice(at, self.cols) };
            for (j, f) in from.iter().enumerate() {
                // SAFETY: inside the operand, which the launch has checked; elements of c are distinct.
                unsafe { self.view.set(line + j as i64 * stride, *f) };
            }
        });
    }

    /// Calls with (offset of the row in the operand, its stride, offset in scratch) for every row of every matrix.
    fn rows_of(&self, pool: &Pool, each: impl Fn(i64, i64, usize) + Sync + Send) {
        let matrices = if self.shared { 1 } else { self.batch.iter().product() };
        let (row, col) = (self.view.strides[self.row], self.view.strides[self.col]);
        let total = matrices * self.rows;
        let ranges = super::pool::cut(total, 8 * pool.size(), 1);
        pool.each(ranges.len(), 4 * self.scratch, |task| {
            for i in ranges[task].0..ranges[task].1 {
                let (matrix, line) = (i / self.rows, i % self.rows);
                let start = offset_of(matrix, self.batch, self.view.strides) + line as i64 * row;
                each(start, col, i * self.cols);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use cs336_compiler::kernel::{Kernel, Operand};

    use super::*;
    use crate::host::oracle::{Memory, coords, distance, launch, noise, operand};
    use cs336_compiler::scalar::round_to;

    fn kernel(dtype: DType, add: bool, (b, m, n, k): (usize, usize, usize, usize)) -> Gemm {
        let access = if add { Access::Accumulate } else { Access::Write };
        let c_type = if add { DType::F32 } else { dtype };
        Gemm {
            batch: vec![b],
            m,
            n,
            k,
            // a is stored transposed, b is shared by all batches.
            a: operand(dtype, &[(m * k) as i64, 1, 0, m as i64], Access::Read),
            b: operand(dtype, &[0, 0, 1, n as i64], Access::Read),
            c: operand(c_type, &[(m * n) as i64, n as i64, 1, 0], access),
        }
    }

    fn memories(g: &Gemm) -> Vec<Memory> {
        let b = g.batch[0];
        let a = noise(b * g.m * g.k, 1);
        vec![a, noise(g.k * g.n, 2), noise(b * g.m * g.n, 3)]
    }

    fn eval(g: &Gemm, mem: &[Memory]) -> Memory {
        let r = |o: &Operand, v: f64| round_to(o.dtype, v);
        let mut c: Memory = mem[2].iter().map(|v| r(&g.c, *v)).collect();
        for (flat, cell) in c.iter_mut().enumerate() {
            let at = coords(flat, &[g.batch[0], g.m, g.n]);
            let mut sum = if g.c.access == Access::Accumulate { *cell } else { 0.0 };
            for k in 0..g.k {
                let a = at[0] as usize * g.m * g.k + k * g.m + at[1] as usize;
                sum += r(&g.a, mem[0][a]) * r(&g.b, mem[1][k * g.n + at[2] as usize]);
            }
            *cell = r(&g.c, sum);
        }
        c
    }

    #[test]
    fn contractions_of_all_types_and_odd_sizes() {
        let shapes = [(1, 1, 1, 1), (2, 3, 5, 17), (3, 17, 1, 5), (1, 1, 33, 257), (2, 65, 47, 30)];
        for dtype in [DType::F32, DType::Bf16, DType::F16] {
            for shape in shapes {
                for add in [false, true] {
                    let g = kernel(dtype, add, shape);
                    let mem = memories(&g);
                    let want = eval(&g, &mem);
                    let got = launch(&Kernel::Gemm(g), &mem, &[], 1).swap_remove(2);
                    // One rounding of a 16-bit result may fall the other way.
                    let limit = if dtype == DType::F32 || add { 1e-5 } else { 1e-2 };
                    assert!(distance(&got, &want) < limit, "{dtype:?} {shape:?} {add}");
                }
            }
        }
    }

    #[test]
    fn threads_change_no_bit() {
        let shapes = [
            (1, 300, 200, 1100),
            (1, 1, 512, 700),
            (1, 700, 1, 900),
            (2, 130, 96, 64),
            (1, 5, 2000, 300),
            (1, 257, 63, 2050),
        ];
        for shape in shapes {
            let g = Kernel::Gemm(kernel(DType::F32, true, shape));
            let Kernel::Gemm(inner) = &g else { continue };
            let mem = memories(inner);
            let one = launch(&g, &mem, &[], 1);
            for threads in [2, 3, 4] {
                assert_eq!(one, launch(&g, &mem, &[], threads), "{shape:?} on {threads} threads");
            }
        }
    }
}
