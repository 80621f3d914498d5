//! Contractions by cuBLASLt: descriptors made once per kernel, the best of several algorithms found by timing them once.
//!
//! f32 is f32 here (no TF32): `CUBLAS_COMPUTE_32F`. What a library call cannot say (strides, types, many batch axes) is left to
//! [`text::matmul`](super::text).

use std::ffi::c_void;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cs336_compiler::kernel::{Access, Gemm, Operand};
use cs336_compiler::scalar::DType;
use cudarc::cublaslt::{result, sys};

use super::driver::{Context, Memory};
use super::find::{self, Library};
use crate::error::DeviceError;

/// Bytes that an algorithm may use; NVIDIA's advice for Hopper.
const WORKSPACE: usize = 32 << 20;
/// How many of cuBLASLt's proposals are timed.
const TRIED: usize = 8;

/// The library, opened once per GPU.
#[derive(Debug)]
pub(crate) struct Blas {
    context: Arc<Context>,
    handle: sys::cublasLtHandle_t,
    workspace: Memory,
}

// SAFETY: a handle of cuBLASLt may be used from several threads; the workspace by work on one stream, which is ordered.
unsafe impl Send for Blas {}
// SAFETY: as above.
unsafe impl Sync for Blas {}

impl Blas {
    pub(crate) fn new(context: &Arc<Context>) -> Result<Arc<Self>, DeviceError> {
        find::open(Library::CublasLt)?;
        context.enter()?;
        let handle = result::create_handle().map_err(|e| failed("opening cuBLASLt", e))?;
        let workspace = Memory::zeroed(context, WORKSPACE, "the workspace of contractions")?;
        Ok(Arc::new(Self { context: context.clone(), handle, workspace }))
    }
}

impl Drop for Blas {
    fn drop(&mut self) {
        self.context.enter().ok();
        // SAFETY: nobody else has it.
        unsafe { result::destroy_handle(self.handle) }.ok();
    }
}

/// A matrix as cuBLASLt sees it: columns one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Matrix {
    dtype: DType,
    rows: usize,
    cols: usize,
    /// Elements from one column to the next.
    lead: i64,
    /// Stored the other way round.
    transposed: bool,
}

/// A contraction in the library's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shape {
    /// The first factor of the library is this kernel's `b` if the result is stored by rows.
    swapped: bool,
    first: Matrix,
    second: Matrix,
    out: Matrix,
    batch: usize,
    /// Elements from one product to the next: a, b, c.
    steps: [i64; 3],
    add: bool,
}

impl Shape {
    /// A product of two square matrices of bf16, by rows.
    pub(crate) fn square(n: usize) -> Self {
        let matrix =
            Matrix { dtype: DType::Bf16, rows: n, cols: n, lead: n as i64, transposed: false };
        let (first, second, out) = (matrix, matrix, matrix);
        Self { swapped: true, first, second, out, batch: 1, steps: [0; 3], add: false }
    }

    /// None: the library has no words for it.
    pub(crate) fn of(k: &Gemm) -> Option<Self> {
        let types = (k.a.dtype, k.b.dtype, k.c.dtype);
        let known = matches!(
            types,
            (DType::F32, DType::F32, DType::F32)
                | (DType::Bf16, DType::Bf16, DType::Bf16 | DType::F32)
                | (DType::F16, DType::F16, DType::F16 | DType::F32)
        );
        if !known {
            return None;
        }
        let (batch, steps) = batch(k)?;
        let n = k.batch.len();
        let strides = |o: &Operand, r: usize, c: usize| (o.strides[n + r], o.strides[n + c]);
        let (a, b, c) = (strides(&k.a, 0, 2), strides(&k.b, 2, 1), strides(&k.c, 0, 1));
        let stored = |dtype, rows, cols, (r, c)| stored(dtype, rows, cols, r, c);
        let (a_, b_) = (stored(k.a.dtype, k.m, k.k, a), stored(k.b.dtype, k.k, k.n, b));
        let add = k.c.access == Access::Accumulate;
        // c by columns, or else its transpose, which is bᵀ aᵀ.
        let out = stored(k.c.dtype, k.m, k.n, c)?;
        if !out.transposed {
            return Some(Self { swapped: false, first: a_?, second: b_?, out, batch, steps, add });
        }
        let out = stored(k.c.dtype, k.n, k.m, (c.1, c.0)).filter(|m| !m.transposed)?;
        let first = stored(k.b.dtype, k.n, k.k, (b.1, b.0))?;
        let second = stored(k.a.dtype, k.k, k.m, (a.1, a.0))?;
        Some(Self { swapped: true, first, second, out, batch, steps, add })
    }
}

/// A matrix with such strides, if one of them is one.
fn stored(dtype: DType, rows: usize, cols: usize, r: i64, c: i64) -> Option<Matrix> {
    let made = |transposed, lead| Some(Matrix { dtype, rows, cols, lead, transposed });
    // An axis of one element has any stride.
    let lead = |extent: usize, step: i64, across: usize| {
        if across == 1 { Some(extent as i64) } else { (step >= extent as i64).then_some(step) }
    };
    if (r == 1 || rows == 1)
        && let Some(lead) = lead(rows, c, cols)
    {
        return made(false, lead);
    }
    if (c == 1 || cols == 1)
        && let Some(lead) = lead(cols, r, rows)
    {
        return made(true, lead);
    }
    None
}

/// The batch axes as one, if they can be.
fn batch(k: &Gemm) -> Option<(usize, [i64; 3])> {
    let (mut count, mut steps) = (1usize, [0i64; 3]);
    for (axis, extent) in k.batch.iter().enumerate().rev() {
        if *extent == 1 {
            continue;
        }
        let here = [&k.a, &k.b, &k.c].map(|o| o.strides[axis]);
        if count == 1 {
            steps = here;
        } else if here.iter().zip(&steps).any(|(h, s)| *h != s * count as i64) {
            return None;
        }
        count *= extent;
    }
    // All products into one place are not a batch.
    (count == 1 || steps[2] != 0).then_some((count, steps))
}

/// A contraction that is ready; the algorithm is chosen at its first launch, when there is memory to try it on.
#[derive(Debug)]
pub(crate) struct Product {
    blas: Arc<Blas>,
    shape: Shape,
    descriptor: sys::cublasLtMatmulDesc_t,
    layouts: [sys::cublasLtMatrixLayout_t; 3],
    proposals: Vec<sys::cublasLtMatmulHeuristicResult_t>,
    chosen: OnceLock<usize>,
    choosing: Mutex<()>,
}

// SAFETY: descriptors are only read after they have been made.
unsafe impl Send for Product {}
// SAFETY: as above.
unsafe impl Sync for Product {}

impl Product {
    /// Asks the library for algorithms. `aligned`: of a, b, c.
    pub(crate) fn new(
        blas: &Arc<Blas>,
        shape: Shape,
        aligned: [usize; 3],
    ) -> Result<Self, DeviceError> {
        use sys::cublasLtMatmulDescAttributes_t as D;
        use sys::cublasLtMatmulPreferenceAttributes_t as P;
        use sys::cublasLtMatrixLayoutAttribute_t as L;
        blas.context.enter()?;
        let why = |e| failed("describing a contraction", e);
        let f32_type = data_type(DType::F32);
        let compute = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let descriptor = result::create_matmul_desc(compute, f32_type).map_err(why)?;
        let matrices = [shape.first, shape.second, shape.out];
        let order = if shape.swapped { [1, 0, 2] } else { [0, 1, 2] };
        for (which, matrix) in
            [(D::CUBLASLT_MATMUL_DESC_TRANSA, 0), (D::CUBLASLT_MATMUL_DESC_TRANSB, 1)]
        {
            let op: u32 = u32::from(matrices[matrix].transposed);
            // SAFETY: a descriptor made above, and a 32-bit number as the attribute wants it.
            unsafe {
                result::set_matmul_desc_attribute(descriptor, which, (&raw const op).cast(), 4)
            }
            .map_err(why)?;
        }
        let mut layouts = [std::ptr::null_mut(); 3];
        for (i, m) in matrices.iter().enumerate() {
            let (rows, cols) = if m.transposed { (m.cols, m.rows) } else { (m.rows, m.cols) };
            layouts[i] =
                result::create_matrix_layout(data_type(m.dtype), rows as u64, cols as u64, m.lead)
                    .map_err(why)?;
            if shape.batch > 1 {
                let count = shape.batch as i32;
                let what = (&raw const count).cast();
                // SAFETY: a layout made above, and a 32-bit number as the attribute wants it.
                unsafe {
                    result::set_matrix_layout_attribute(
                        layouts[i],
                        L::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                        what,
                        4,
                    )
                }
                .map_err(why)?;
                let step = shape.steps[order[i]];
                let what = (&raw const step).cast();
                // SAFETY: as above, of 64 bits.
                unsafe {
                    result::set_matrix_layout_attribute(
                        layouts[i],
                        L::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                        what,
                        8,
                    )
                }
                .map_err(why)?;
            }
        }
        let preference = result::create_matmul_pref().map_err(why)?;
        let set = |which, what: *const c_void, bytes| {
            // SAFETY: a preference made above, and a number of so many bytes.
            unsafe { result::set_matmul_pref_attribute(preference, which, what, bytes) }
                .map_err(why)
        };
        let space = WORKSPACE as u64;
        set(P::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (&raw const space).cast(), 8)?;
        let aligned = [aligned[order[0]], aligned[order[1]], aligned[2], aligned[2]]
            .map(|a| a.min(256) as u32);
        for (i, which) in [
            P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ]
        .into_iter()
        .enumerate()
        {
            set(which, (&raw const aligned[i]).cast(), 4)?;
        }
        let mut found: Vec<sys::cublasLtMatmulHeuristicResult_t> = Vec::with_capacity(TRIED);
        let mut count = 0;
        // SAFETY: descriptors made above, and room for as many results.
        let status = unsafe {
            sys::cublasLtMatmulAlgoGetHeuristic(
                blas.handle,
                descriptor,
                layouts[0],
                layouts[1],
                layouts[2],
                layouts[2],
                preference,
                TRIED as i32,
                found.as_mut_ptr(),
                &raw mut count,
            )
        };
        // SAFETY: nobody else has it.
        unsafe { result::destroy_matmul_pref(preference) }.ok();
        status.result().map_err(|e| failed("asking cuBLASLt for an algorithm", e))?;
        // SAFETY: the library has written so many.
        unsafe { found.set_len(count.clamp(0, TRIED as i32) as usize) };
        found.retain(|f| f.state == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS);
        if found.is_empty() {
            let e = result::CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED);
            return Err(failed("asking cuBLASLt for an algorithm", e));
        }
        let (blas, chosen, choosing) = (blas.clone(), OnceLock::new(), Mutex::new(()));
        Ok(Self { blas, shape, descriptor, layouts, proposals: found, chosen, choosing })
    }

    /// Multiplies. `quiet`: nothing may be timed now, since launches are being recorded.
    ///
    /// # Safety
    /// The addresses are those of the kernel's operands.
    pub(crate) unsafe fn run(&self, at: [*mut u8; 3], quiet: bool) -> Result<(), DeviceError> {
        let best = match self.chosen.get() {
            Some(best) => *best,
            // What is added to would be added to several times, so the first proposal serves there.
            None if quiet || self.shape.add || self.proposals.len() == 1 => 0,
            None => {
                let _one = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
                let mut times = Vec::new();
                for i in 0..self.proposals.len() {
                    // SAFETY: passed on to the caller; the result is written anew each time.
                    let once = || unsafe { self.multiply(at, i) };
                    once()?;
                    times.push(self.blas.context.time(&mut || {
                        once()?;
                        once()
                    })?);
                }
                let best =
                    (0..times.len()).min_by(|a, b| times[*a].total_cmp(&times[*b])).unwrap_or(0);
                *self.chosen.get_or_init(|| best)
            }
        };
        // SAFETY: passed on to the caller.
        unsafe { self.multiply(at, best) }
    }

    /// # Safety
    /// As `run`.
    unsafe fn multiply(&self, at: [*mut u8; 3], which: usize) -> Result<(), DeviceError> {
        let (first, second) = if self.shape.swapped { (at[1], at[0]) } else { (at[0], at[1]) };
        let one = 1.0f32;
        let add = if self.shape.add { 1.0f32 } else { 0.0 };
        let algorithm = &self.proposals[which].algo;
        // SAFETY: passed on to the caller; the scalars and the algorithm are read during the call.
        unsafe {
            result::matmul(
                self.blas.handle,
                self.descriptor,
                (&raw const one).cast(),
                (&raw const add).cast(),
                first.cast(),
                self.layouts[0],
                second.cast(),
                self.layouts[1],
                at[2].cast(),
                self.layouts[2],
                at[2].cast(),
                self.layouts[2],
                algorithm,
                self.blas.workspace.address().cast(),
                self.blas.workspace.len(),
                self.blas.context.stream.cast(),
            )
        }
        .map_err(|e| failed("a contraction", e))
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        for layout in self.layouts {
            // SAFETY: nobody else has it.
            unsafe { result::destroy_matrix_layout(layout) }.ok();
        }
        // SAFETY: as above.
        unsafe { result::destroy_matmul_desc(self.descriptor) }.ok();
    }
}

fn data_type(dtype: DType) -> sys::cudaDataType {
    match dtype {
        DType::F32 | DType::I32 | DType::Bool => sys::cudaDataType::CUDA_R_32F,
        DType::Bf16 => sys::cudaDataType::CUDA_R_16BF,
        DType::F16 => sys::cudaDataType::CUDA_R_16F,
    }
}

fn failed(what: &str, error: result::CublasError) -> DeviceError {
    DeviceError::Cuda { what: what.to_owned(), reason: format!("cuBLASLt: {error}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gemm(a: [i64; 3], b: [i64; 3], c: [i64; 3]) -> Gemm {
        let operand = |strides: [i64; 3], access| Operand {
            dtype: DType::F32,
            strides: strides.to_vec(),
            offset: 0,
            dynamic: None,
            access,
        };
        let (a, b) = (operand(a, Access::Read), operand(b, Access::Read));
        Gemm { batch: vec![], m: 4, n: 6, k: 8, a, b, c: operand(c, Access::Write) }
    }

    #[test]
    fn rows_and_columns_are_told_apart() {
        // All by rows: the library computes the transpose.
        let shape = Shape::of(&gemm([8, 0, 1], [0, 1, 6], [6, 1, 0])).expect("plain");
        assert!(shape.swapped);
        assert_eq!((shape.first.rows, shape.first.cols, shape.first.lead), (6, 8, 6));
        assert!(!shape.first.transposed && !shape.second.transposed);
        // a by columns.
        let shape = Shape::of(&gemm([1, 0, 4], [0, 1, 6], [6, 1, 0])).expect("plain");
        assert!(shape.second.transposed);
        // c by columns.
        assert!(!Shape::of(&gemm([8, 0, 1], [0, 1, 6], [1, 4, 0])).expect("plain").swapped);
        // Neither.
        assert_eq!(Shape::of(&gemm([16, 0, 2], [0, 1, 6], [6, 1, 0])), None);
    }
}
