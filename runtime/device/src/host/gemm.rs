//! Dense contractions in f32: by [`product`] on x86, and by the crate `gemm` elsewhere and where there is little to multiply.
//!
//! 16-bit operands are widened whole into scratch first, by fused loops like any other, and a 16-bit result is rounded once at the end. How `gemm` cuts the
//! contracted axis depends on the shapes alone, so results do not depend on the number of threads (tested below).

use cs336_compiler::kernel::{Access, Effect, Gemm, Inst, Literal, Loop, Operand, Stage};
use cs336_compiler::scalar::DType;
use gemm::Parallelism;

use super::cells::{Shared, offset_of};
use super::loops::LoopCode;
use super::pool::Pool;
#[cfg(target_arch = "x86_64")]
use super::product;
use crate::error::DeviceError;

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
    #[cfg(target_arch = "x86_64")]
    if product::takes((m, n, k), c) {
        // SAFETY: passed on to the caller.
        return unsafe { product::multiply((m, n, k), c, add, a, b, threads) };
    }
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

/// A Gemm with what its 16-bit operands need.
#[derive(Debug)]
pub(crate) struct GemmCode {
    /// a, b, c.
    sides: [Side; 3],
}

impl GemmCode {
    /// Compiles the conversions.
    pub(crate) fn new(kernel: &Gemm) -> Result<Self, DeviceError> {
        let axes = kernel.batch.len();
        let (m, n, k) = ((axes, kernel.m), (axes + 1, kernel.n), (axes + 2, kernel.k));
        let add = kernel.c.access == Access::Accumulate;
        let side = |operand, row, col| Side::new(operand, &kernel.batch, row, col);
        let mut c = side(&kernel.c, m, n)?;
        if !add {
            c.widen = None;
        }
        Ok(Self { sides: [side(&kernel.a, m, k)?, side(&kernel.b, k, n)?, c] })
    }

    /// Runs it on bound operands (a, b, c: addresses of coordinates 0).
    ///
    /// # Safety
    /// The operands' extents are inside memory as the launch has checked; c is used by nobody else.
    pub(crate) unsafe fn run(&self, kernel: &Gemm, pool: &Pool, operands: &[*mut u8]) {
        let batches: usize = kernel.batch.iter().product();
        let (m, n, k) = (kernel.m, kernel.n, kernel.k);
        if batches * m * n == 0 {
            return;
        }
        let scratch: usize = self.sides.iter().map(|s| s.scratch).sum();
        let add = kernel.c.access == Access::Accumulate;
        pool.with_scratch(scratch, |memory| {
            let mut free = Shared(memory.as_mut_ptr());
            let bound = [0, 1, 2].map(|i| {
                let side = &self.sides[i];
                let at = free;
                free = Shared(free.at(side.scratch));
                if let Some(widen) = &side.widen {
                    // SAFETY: passed on to the caller; scratch has room for the matrices of this side.
                    unsafe { widen.run(pool, &[operands[i], at.0.cast()], &[]) };
                }
                if side.scratch > 0 { at } else { Shared(operands[i].cast()) }
            });
            let matrix = |i: usize, batch: usize| {
                let side = &self.sides[i];
                let start = offset_of(batch, &kernel.batch, &side.batch);
                Matrix { data: bound[i], row: side.row, col: side.col }.offset(start)
            };
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
            if let Some(narrow) = &self.sides[2].narrow {
                // SAFETY: as for widening; elements of c are distinct.
                unsafe { narrow.run(pool, &[bound[2].0.cast(), operands[2]], &[]) };
            }
        });
    }
}

/// One operand: where its matrices are, or how its f32 copies are made.
#[derive(Debug)]
struct Side {
    /// Strides of the matrices that are multiplied: the operand's, or those of its copy.
    batch: Vec<i64>,
    row: isize,
    col: isize,
    /// f32 numbers of scratch; 0: used in place.
    scratch: usize,
    /// Operand to scratch.
    widen: Option<LoopCode>,
    /// Scratch to operand.
    narrow: Option<LoopCode>,
}

impl Side {
    /// `row` and `col`: the operand's axes with their extents.
    fn new(
        operand: &Operand,
        batch: &[usize],
        row: (usize, usize),
        col: (usize, usize),
    ) -> Result<Self, DeviceError> {
        let strides = &operand.strides;
        let axes = batch.len();
        if operand.dtype == DType::F32 {
            return Ok(Self {
                batch: strides[..axes].to_vec(),
                row: strides[row.0] as isize,
                col: strides[col.0] as isize,
                scratch: 0,
                widen: None,
                narrow: None,
            });
        }
        // A copy keeps the order of the operand, so that both are walked along memory; batches that share a matrix
        // share its copy.
        let rows_inside = strides[row.0].abs() < strides[col.0].abs();
        let (outer, inner) = if rows_inside { (col, row) } else { (row, col) };
        let extents: Vec<usize> = (batch.iter().zip(strides))
            .map(|(extent, stride)| if *stride == 0 { 1 } else { *extent })
            .chain([outer.1, inner.1])
            .collect();
        let mut dense = vec![0i64; axes + 2];
        let mut step = 1;
        for (i, extent) in extents.iter().enumerate().rev() {
            dense[i] = if *extent == 1 && i < axes { 0 } else { step };
            step *= *extent as i64;
        }
        let mut own = strides[..axes].to_vec();
        own.extend([strides[outer.0], strides[inner.0]]);
        let convert = |reading: bool| {
            let view = |dtype, strides: &[i64], access| {
                let strides = strides.to_vec();
                Operand { dtype, strides, offset: 0, dynamic: None, access }
            };
            let outside = |access| view(operand.dtype, &own, access);
            let inside = |access| view(DType::F32, &dense, access);
            let operands = if reading {
                vec![outside(Access::Read), inside(Access::Write)]
            } else {
                vec![inside(Access::Read), outside(Access::Write)]
            };
            let outside = Literal::new(0.0);
            let load = Inst::Load { operand: 0, indirect: vec![], guards: vec![], outside };
            let effects = vec![Effect::Store { operand: 1, value: 0 }];
            let kernel = Loop {
                rows: extents[..axes + 1].to_vec(),
                cols: vec![inner.1],
                operands,
                stages: vec![Stage { per_row: false, insts: vec![load], effects }],
                row_values: 0,
                params: vec![],
            };
            LoopCode::new(&kernel, "a contraction")
        };
        let (outer_step, inner_step) = (dense[axes] as isize, dense[axes + 1] as isize);
        let written = operand.access != Access::Read;
        Ok(Self {
            batch: dense[..axes].to_vec(),
            row: if rows_inside { inner_step } else { outer_step },
            col: if rows_inside { outer_step } else { inner_step },
            scratch: extents.iter().product(),
            widen: Some(convert(true)?),
            narrow: if written { Some(convert(false)?) } else { None },
        })
    }
}

#[cfg(test)]
mod tests {
    use cs336_compiler::kernel::Kernel;

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
