//! The innermost products: a few rows of a by a few vectors of columns of b, in registers.
//!
//! With AVX-512 eight rows by two or three vectors of 16, with AVX2 four rows by three of 8: as many sums as there are registers for, so that the two
//! multipliers always have one that does not wait, and so few loads for each that they do not either.

use std::arch::x86_64::{
    __m256, __m512, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _mm512_add_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::sync::OnceLock;

use super::pack::{Strip, pack, pack_tiles};

/// Where a product goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Corner {
    /// The first element.
    pub(super) data: *mut f32,
    /// From row to row; columns lie side by side.
    pub(super) stride: isize,
    /// How many there are, at most as many as the unit has.
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// Whether to add to what is there.
    pub(super) add: bool,
}

/// A way to multiply `rows` x depth by depth x `cols`, with the copies that it needs.
#[derive(Debug)]
pub(super) struct Unit {
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// How many tiles of rows are copied at once: as many as a line of the cache has room for.
    pub(super) together: usize,
    /// Of strips of at most so many times `rows` rows, to one tile after the other.
    pub(super) pack_rows: unsafe fn(Strip, &mut [f32]),
    /// Of strips of at most `cols` columns.
    pub(super) pack_cols: unsafe fn(Strip, &mut [f32]),
    /// Of rows of a where they lie and a copy of columns of b, which says how deep both are.
    pub(super) multiply: unsafe fn(Rows, &[f32], Corner),
    /// Of two copies.
    pub(super) multiply_copied: unsafe fn(Rows, &[f32], Corner),
}

/// The units that this machine has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Units(&'static [Unit]);

impl Units {
    /// The one that wastes least on columns that are not there; of equals the first.
    pub(super) fn for_columns(self, n: usize) -> &'static Unit {
        let waste = |unit: &&Unit| n.next_multiple_of(unit.cols);
        self.0.iter().min_by_key(waste).unwrap_or(&self.0[0])
    }

    /// All that can be run here, those of older machines too.
    #[cfg(test)]
    pub(super) fn all(self) -> impl Iterator<Item = &'static Unit> {
        let more: &[Unit] = if self.0.len() == FOR_512.len() { &FOR_256 } else { &[] };
        self.0.iter().chain(more)
    }
}

/// What this machine has; `None` without FMA.
pub(super) fn found() -> Option<Units> {
    static FOUND: OnceLock<Option<Units>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let fma = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
        if fma && std::is_x86_feature_detected!("avx512f") {
            Some(Units(&FOR_512))
        } else if fma {
            Some(Units(&FOR_256))
        } else {
            None
        }
    })
}

static FOR_512: [Unit; 2] = [
    Unit {
        rows: 8,
        cols: 48,
        together: 2,
        pack_rows: pack_rows_512::<8, 2>,
        pack_cols: pack_512::<48>,
        multiply: multiply_512::<false, 3, 48>,
        multiply_copied: multiply_512::<true, 3, 48>,
    },
    Unit {
        rows: 8,
        cols: 32,
        together: 2,
        pack_rows: pack_rows_512::<8, 2>,
        pack_cols: pack_512::<32>,
        multiply: multiply_512::<false, 2, 32>,
        multiply_copied: multiply_512::<true, 2, 32>,
    },
];

static FOR_256: [Unit; 1] = [Unit {
    rows: 4,
    cols: 24,
    together: 4,
    pack_rows: pack_rows_256::<4, 4>,
    pack_cols: pack_256::<24>,
    multiply: multiply_256::<false, 3, 24>,
    multiply_copied: multiply_256::<true, 3, 24>,
}];

#[target_feature(enable = "avx512f,avx512vl,fma")]
unsafe fn pack_512<const W: usize>(strip: Strip, out: &mut [f32]) {
    // SAFETY: passed on to the caller.
    unsafe { pack::<W>(strip, out) }
}

#[target_feature(enable = "avx512f,avx512vl,fma")]
unsafe fn pack_rows_512<const W: usize, const T: usize>(strip: Strip, out: &mut [f32]) {
    // SAFETY: passed on to the caller.
    unsafe { pack_tiles::<W, T>(strip, out) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn pack_rows_256<const W: usize, const T: usize>(strip: Strip, out: &mut [f32]) {
    // SAFETY: passed on to the caller.
    unsafe { pack_tiles::<W, T>(strip, out) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn pack_256<const W: usize>(strip: Strip, out: &mut [f32]) {
    // SAFETY: passed on to the caller.
    unsafe { pack::<W>(strip, out) }
}

/// Rows of a, where they lie or as a copy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    /// The first element.
    pub(super) data: *const f32,
    /// From row to row. Depths lie side by side; in a copy rows do, and depths follow each other.
    pub(super) stride: isize,
}

/// One function for each kind of vectors: `V` vectors of columns.
macro_rules! unit {
    ($name:ident, $features:literal, $vector:ty, $lanes:literal, $rows:literal,
     $zero:ident, $one:ident, $load:ident, $store:ident, $fused:ident, $sum:ident) => {
        #[target_feature(enable = $features)]
        unsafe fn $name<const COPIED: bool, const V: usize, const COLS: usize>(
            a: Rows,
            b: &[f32],
            to: Corner,
        ) {
            let load = |from: *const f32| {
                // SAFETY: a vector's worth of numbers, of a panel or of c.
                unsafe { $load(from) }
            };
            let row_of_c = |row: usize| to.data.wrapping_offset(row as isize * to.stride);
            for row in 0..to.rows {
                for v in 0..V * $lanes / 16 {
                    let place = row_of_c(row).wrapping_add(16 * v).cast_const().cast();
                    _mm_prefetch::<_MM_HINT_T0>(place);
                }
            }
            // Rows that are not there are taken to be the last one.
            let mut rows = [a.data; $rows];
            for row in 0..$rows {
                let there = if COPIED { row } else { row.min(to.rows - 1) };
                rows[row] = a.data.wrapping_offset(there as isize * a.stride);
            }
            let mut sums: [[$vector; V]; $rows] = [[$zero(); V]; $rows];
            let (b, _) = b.as_chunks::<COLS>();
            for (depth, b) in b.iter().enumerate() {
                let mut columns = [$zero(); V];
                for v in 0..V {
                    columns[v] = load(b[v * $lanes..(v + 1) * $lanes].as_ptr());
                }
                for row in 0..$rows {
                    let place = rows[row].wrapping_add(if COPIED { depth * $rows } else { depth });
                    // SAFETY: the row has an element at every depth that the panel has.
                    let x = $one(unsafe { *place });
                    for v in 0..V {
                        sums[row][v] = $fused(x, columns[v], sums[row][v]);
                    }
                }
            }
            if to.rows == $rows && to.cols == COLS {
                for row in 0..$rows {
                    for v in 0..V {
                        let place = row_of_c(row).wrapping_add(v * $lanes);
                        let sum = sums[row][v];
                        let sum = if to.add { $sum(load(place), sum) } else { sum };
                        // SAFETY: columns of c, which nobody else uses.
                        unsafe { $store(place, sum) };
                    }
                }
                return;
            }
            let mut lines = [[[0.0_f32; $lanes]; V]; $rows];
            for row in 0..$rows {
                for v in 0..V {
                    // SAFETY: the line has room for a vector.
                    unsafe { $store(lines[row][v].as_mut_ptr(), sums[row][v]) };
                }
            }
            for (row, line) in lines.iter().enumerate().take(to.rows) {
                // SAFETY: so many columns of c, which nobody else uses.
                let there = unsafe { std::slice::from_raw_parts_mut(row_of_c(row), to.cols) };
                for (there, line) in there.iter_mut().zip(line.as_flattened()) {
                    *there = if to.add { *there + line } else { *line };
                }
            }
        }
    };
}

unit!(
    multiply_512,
    "avx512f,avx512vl,fma",
    __m512,
    16,
    8,
    _mm512_setzero_ps,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_fmadd_ps,
    _mm512_add_ps
);
unit!(
    multiply_256,
    "avx2,fma",
    __m256,
    8,
    4,
    _mm256_setzero_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_fmadd_ps,
    _mm256_add_ps
);
