//! Products of matrices of f32 on x86 with FMA: c = a b, or c += a b, whatever way the three lie.
//!
//! The scheme is Goto's (Goto and van de Geijn 2008) with the parts exchanged, for products with few rows, where the other operand is large and is
//! used a few hundred times only: a block of a, some hundred rows by [`DEPTH`], is copied into panels once and stays in the second cache; then
//! panel after panel of b, as wide as the unit, is copied into the first cache and multiplied by all of the block at once. So of the large
//! operand nothing is written back to memory, and while one panel is multiplied, the lines of the next one are asked for. Copying a
//! panel costs about the same whichever way b lies: along its rows or, in blocks of four by four, along its columns. Of a single numbers are read,
//! so it is not copied where its rows lie along the contracted axis.
//!
//! Every element of c is the sum over blocks of [`block_depth`] in order, each the fused sum in order of what is in the block. Which unit
//! computes it, and how the work is cut into tasks, change no bit.

mod pack;
mod units;

use std::cell::RefCell;

use rayon::prelude::*;

use super::cells::Shared;
use super::gemm::Matrix;
use super::pool::cut;
use units::{Corner, Rows, Unit};

/// The most of the contracted axis that is multiplied at once: a panel of so many rows fits into the first cache beside what passes through.
const DEPTH: usize = 256;
/// The most rows of a that are multiplied by one copy of a panel.
const MOST_ROWS: usize = 1024;
/// Fewer multiplications than this are not worth copying for.
const LEAST: usize = 1 << 16;
/// Nor is a product with fewer rows or columns.
const NARROW: usize = 8;

/// Whether [`multiply`] takes these sizes and this c, on this machine.
pub(super) fn takes((m, n, k): (usize, usize, usize), c: Matrix) -> bool {
    let large = m >= NARROW && n >= NARROW && k >= NARROW && m * n * k >= LEAST;
    large && (c.col == 1 || c.row == 1) && units::found().is_some()
}

/// c = a b, or c += a b, where [`takes`] says so.
///
/// # Safety
/// The matrices (a: m x k, b: k x n, c: m x n) lie in memory that may be read, c in memory that only this call uses.
pub(super) unsafe fn multiply(
    (m, n, k): (usize, usize, usize),
    c: Matrix,
    add: bool,
    a: Matrix,
    b: Matrix,
    threads: usize,
) {
    if c.col != 1 {
        // SAFETY: the same product transposed: both sides of c = a b.
        return unsafe { multiply((n, m, k), c.t(), add, b.t(), a.t(), threads) };
    }
    let Some(unit) = units::found().map(|units| units.for_columns(n)) else { return };
    let whole = Part { rows: (0, m), cols: (0, n) };
    // Each task copies the whole of what is not cut, so the longer side is.
    let by_columns = |&(from, to): &(usize, usize)| Part { cols: (from, to), ..whole };
    let by_rows = |&(from, to): &(usize, usize)| Part { rows: (from, to), ..whole };
    let parts: Vec<Part> = if threads <= 1 {
        vec![whole]
    } else if n >= m {
        cut(n, threads, unit.cols).iter().map(by_columns).collect()
    } else {
        cut(m, threads, unit.rows).iter().map(by_rows).collect()
    };
    let product = Product { k, c, add, a, b, unit };
    match parts.as_slice() {
        // SAFETY: passed on to the caller.
        [one] => unsafe { product.part(*one) },
        parts => parts.par_iter().with_max_len(1).for_each(|part| {
            // SAFETY: passed on to the caller; parts of c are disjoint.
            unsafe { product.part(*part) }
        }),
    }
}

/// How much of the contracted axis one block has; a function of its extent alone, and as even as can be.
fn block_depth(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH)).next_multiple_of(4)
}

struct Product {
    k: usize,
    c: Matrix,
    add: bool,
    a: Matrix,
    b: Matrix,
    unit: &'static Unit,
}

/// Rows and columns of c, from and to.
#[derive(Debug, Clone, Copy)]
struct Part {
    rows: (usize, usize),
    cols: (usize, usize),
}

thread_local! {
    /// Panels of a block of a, then one of b.
    static PANELS: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

impl Product {
    /// One task.
    ///
    /// # Safety
    /// As for [`multiply`]; nobody else uses these elements of c.
    unsafe fn part(&self, part: Part) {
        PANELS.with_borrow_mut(|(block, panel)| {
            for from in (part.rows.0..part.rows.1).step_by(MOST_ROWS) {
                let to = (from + MOST_ROWS).min(part.rows.1);
                for first in (0..self.k).step_by(block_depth(self.k)) {
                    let last = (first + block_depth(self.k)).min(self.k);
                    // SAFETY: passed on to the caller.
                    unsafe { self.block((from, to), (first, last), part.cols, block, panel) };
                }
            }
        });
    }

    /// Adds to the rows `from..to` of c what the depths `first..last` give, at all columns of the task.
    ///
    /// # Safety
    /// As for [`Product::part`].
    unsafe fn block(
        &self,
        (from, to): (usize, usize),
        (first, last): (usize, usize),
        cols: (usize, usize),
        block: &mut Vec<f32>,
        panel: &mut Vec<f32>,
    ) {
        let (unit, depth) = (self.unit, last - first);
        let tiles = (to - from).div_ceil(unit.rows);
        let room = |memory: &mut Vec<f32>, len: usize| {
            if memory.len() < len {
                memory.resize(len, 0.0);
            }
        };
        // Where depths lie side by side, the unit reads a as it is.
        let in_place = self.a.col == 1;
        room(block, if in_place { 0 } else { tiles * unit.rows * depth });
        room(panel, unit.cols * depth);
        let place = |matrix: Matrix, row: usize, col: usize| {
            let offset = row as isize * matrix.row + col as isize * matrix.col;
            Shared(matrix.data.0.wrapping_offset(offset))
        };
        let size = unit.rows * depth;
        let copies = if in_place { 0 } else { tiles };
        // Some tiles at once, so that a line of the cache is read once.
        for (tile, out) in block[..copies * size].chunks_mut(unit.together * size).enumerate() {
            let row = from + tile * unit.together * unit.rows;
            let source = pack::Strip {
                data: place(self.a, row, first).0,
                across: self.a.row,
                along: self.a.col,
                width: (unit.together * unit.rows).min(to - row),
                depth,
            };
            // SAFETY: rows and depths of a.
            unsafe { (unit.pack_rows)(source, out) };
        }
        let add = self.add || first > 0;
        for col in (cols.0..cols.1).step_by(unit.cols) {
            let strip = |col: usize| pack::Strip {
                data: place(self.b, first, col).0,
                across: self.b.col,
                along: self.b.row,
                width: unit.cols.min(cols.1 - col),
                depth,
            };
            // SAFETY: columns and depths of b.
            unsafe { (unit.pack_cols)(strip(col), panel) };
            let next = (col + unit.cols < cols.1).then(|| strip(col + unit.cols));
            let panel = &panel[..unit.cols * depth];
            for tile in 0..tiles {
                if let Some(next) = next {
                    next.ask_for(tile, tiles);
                }
                let row = from + tile * unit.rows;
                let corner = Corner {
                    data: place(self.c, row, col).0,
                    stride: self.c.row,
                    rows: unit.rows.min(to - row),
                    cols: unit.cols.min(cols.1 - col),
                    add,
                };
                if in_place {
                    let rows = Rows { data: place(self.a, row, first).0, stride: self.a.row };
                    // SAFETY: the corner's rows and columns are those of c that this task has, and the rows those of a.
                    unsafe { (unit.multiply)(rows, panel, corner) };
                } else {
                    let rows = block[tile * unit.rows * depth..].as_ptr();
                    // SAFETY: as above, with a copy of the rows.
                    unsafe {
                        (unit.multiply_copied)(Rows { data: rows, stride: 1 }, panel, corner)
                    };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed.wrapping_mul(2_654_435_761) | 1;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count).map(|_| draw()).collect()
    }

    /// A matrix that lies by rows or by columns, with a gap after each.
    fn lying(data: &mut [f32], (rows, cols): (usize, usize), by_rows: bool) -> Matrix {
        let (row, col) = if by_rows { (cols + 3, 1) } else { (1, rows + 3) };
        assert!(data.len() >= (rows + 3) * (cols + 3));
        Matrix::new(data.as_mut_ptr(), row as isize, col as isize)
    }

    #[test]
    fn every_way_of_lying_on_every_unit() {
        let shapes =
            [(8, 8, 8), (9, 33, 40), (50, 100, 300), (17, 49, 257), (130, 8, 600), (1100, 50, 20)];
        for (case, &(m, n, k)) in shapes.iter().enumerate() {
            let size = |r: usize, c: usize| (r + 3) * (c + 3);
            let mut first: Option<Vec<u32>> = None;
            for ways in 0..8 {
                let by_rows = |bit: u32| ways >> bit & 1 == 0;
                // The same numbers at the same rows and columns, however they lie.
                let fill = |to: &mut Vec<f32>, (r, c): (usize, usize), by_rows: bool, seed: u32| {
                    let values = numbers(r * c, seed);
                    let at = lying(to, (r, c), by_rows);
                    for i in 0..r {
                        for j in 0..c {
                            let place = i as isize * at.row + j as isize * at.col;
                            to[place as usize] = values[i * c + j];
                        }
                    }
                };
                for add in [false, true] {
                    let mut a = vec![f32::NAN; size(m, k)];
                    let mut b = vec![f32::NAN; size(k, n)];
                    let mut c = vec![7.0; size(m, n)];
                    fill(&mut a, (m, k), by_rows(0), 2 * case as u32);
                    fill(&mut b, (k, n), by_rows(1), 2 * case as u32 + 1);
                    let at = lying(&mut c, (m, n), by_rows(2));
                    if !takes((m, n, k), at) {
                        continue;
                    }
                    let (x, y) =
                        (lying(&mut a, (m, k), by_rows(0)), lying(&mut b, (k, n), by_rows(1)));
                    for threads in [1, 3] {
                        let mut out = c.clone();
                        let to = lying(&mut out, (m, n), by_rows(2));
                        // SAFETY: all three lie in their vectors.
                        unsafe { multiply((m, n, k), to, add, x, y, threads) };
                        let read = |data: &[f32], at: Matrix, i: usize, j: usize| {
                            data[(i as isize * at.row + j as isize * at.col) as usize]
                        };
                        let mut bits = Vec::new();
                        for i in 0..m {
                            for j in 0..n {
                                let mut sum = if add { 7.0 } else { 0.0 };
                                for d in 0..k {
                                    sum +=
                                        f64::from(read(&a, x, i, d)) * f64::from(read(&b, y, d, j));
                                }
                                let found = read(&out, to, i, j);
                                assert!(
                                    (f64::from(found) - sum).abs() < 1e-4,
                                    "{m} {n} {k} at {i} {j}"
                                );
                                bits.push(found.to_bits());
                            }
                        }
                        // Nothing beside c is written.
                        let written = out
                            .iter()
                            .zip(&c)
                            .filter(|(new, old)| new.to_bits() != old.to_bits())
                            .count();
                        assert!(written <= m * n);
                        if !add {
                            assert_eq!(
                                *first.get_or_insert_with(|| bits.clone()),
                                bits,
                                "{m} {n} {k} {ways}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn all_units_give_the_same_bits() {
        let Some(units) = units::found() else { return };
        let (m, n, k) = (61, 131, 519);
        let (mut a, mut b) = (numbers(m * k, 1), numbers(k * n, 2));
        let mut first: Option<Vec<f32>> = None;
        for unit in units.all() {
            let mut c = vec![0.0; m * n];
            let product = Product {
                k,
                c: Matrix::new(c.as_mut_ptr(), n as isize, 1),
                add: false,
                a: Matrix::new(a.as_mut_ptr(), k as isize, 1),
                b: Matrix::new(b.as_mut_ptr(), n as isize, 1),
                unit,
            };
            // SAFETY: all three lie in their vectors.
            unsafe { product.part(Part { rows: (0, m), cols: (0, n) }) };
            assert_eq!(*first.get_or_insert_with(|| c.clone()), c, "{} x {}", unit.rows, unit.cols);
        }
    }
}
