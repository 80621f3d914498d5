//! Adds rows into a table at given indices.
//!
//! Threads own ranges of the table (and of columns), not of rows: every element of the table receives its rows in ascending
//! order, whatever the number of threads.

use cs336_compiler::kernel::{Access, Scatter};

use cs336_compiler::scalar::DType;

use super::cells::{View, offset_of};
use super::pool::{Pool, cut};

/// Runs it on bound operands (y, index, table: addresses of coordinates 0).
///
/// # Safety
/// The operands' extents are inside memory as the launch has checked; the table is used by nobody else.
pub(crate) unsafe fn run(kernel: &Scatter, pool: &Pool, operands: &[*mut u8]) {
    let y = View::new(&kernel.operands[0], operands[0]);
    let index = View::new(&kernel.operands[1], operands[1]);
    let table = View::new(&kernel.operands[2], operands[2]);
    let outers: usize = kernel.outer.iter().product();
    let rows: usize = kernel.rows.iter().product();
    let columns: usize = kernel.cols.iter().product();
    let (o, r) = (kernel.outer.len(), kernel.rows.len());
    let add = kernel.operands[2].access == Access::Accumulate;
    let work = 4 * outers * (rows * columns + kernel.limit * columns);
    let owners = cut(kernel.limit, if outers >= pool.size() { 1 } else { pool.size() }, 1);
    pool.each(outers * owners.len(), work, |task| {
        let (outer, (low, high)) = (task / owners.len(), owners[task % owners.len()]);
        let start = |view: &View<'_>| offset_of(outer, &kernel.outer, &view.strides[..o]);
        let (y0, index0, table0) = (start(&y), start(&index), start(&table));
        let column = |view: &View<'_>, c: usize| offset_of(c, &kernel.cols, &view.strides[o + r..]);
        // Where a row's columns lie side by side as f32, they are added as a slice.
        let dense = |v: &View<'_>| v.dtype == DType::F32 && v.strides[o + r..] == [1];
        let slices = dense(&y) && dense(&table);
        if !add {
            for entry in low..high {
                if slices {
                    let at = table.at(table0 + entry as i64 * kernel.stride).cast::<f32>();
                    // SAFETY: the columns of an entry that this task owns, side by side inside the table.
                    unsafe { std::slice::from_raw_parts_mut(at, columns) }.fill(0.0);
                    continue;
                }
                for c in 0..columns {
                    let at = table0 + entry as i64 * kernel.stride + column(&table, c);
                    // SAFETY: inside the table; this task owns its entries `low..high`.
                    unsafe { table.set(at, 0.0) };
                }
            }
        }
        let straight = kernel.cols.len() <= 1;
        let last = o + r;
        let (y_step, table_step) =
            if kernel.cols.len() == 1 { (y.strides[last], table.strides[last]) } else { (0, 0) };
        for row in 0..rows {
            let row_of = |view: &View<'_>| offset_of(row, &kernel.rows, &view.strides[o..o + r]);
            // SAFETY: inside the index operand, which nobody writes.
            let entry = unsafe { index.get_int(index0 + row_of(&index)) };
            let Ok(entry) = usize::try_from(entry) else { continue };
            if entry < low || entry >= high {
                continue;
            }
            let from = y0 + row_of(&y);
            let to = table0 + entry as i64 * kernel.stride + row_of(&table);
            if slices {
                // SAFETY: the columns of a row, side by side inside y, which nobody writes.
                let from = unsafe { std::slice::from_raw_parts(y.at(from).cast::<f32>(), columns) };
                let at = table.at(to).cast::<f32>();
                // SAFETY: the columns of an entry that this task owns, side by side inside the table.
                let to = unsafe { std::slice::from_raw_parts_mut(at, columns) };
                to.iter_mut().zip(from).for_each(|(a, b)| *a += b);
                continue;
            }
            for c in 0..columns {
                let (a, b) = if straight {
                    (from + c as i64 * y_step, to + c as i64 * table_step)
                } else {
                    (from + column(&y, c), to + column(&table, c))
                };
                // SAFETY: inside y, which nobody writes.
                let value = unsafe { y.get(a) };
                // SAFETY: inside the table's entry that this task owns.
                let before = unsafe { table.get(b) };
                // SAFETY: as above.
                unsafe { table.set(b, before + value) };
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use cs336_compiler::kernel::Kernel;

    use super::*;
    use crate::host::oracle::{distance, launch, noise, operand};

    #[test]
    fn rows_are_added_in_order_and_strays_are_dropped() {
        for (dtype, rows, cols, limit) in [
            (DType::Bf16, 1, 1, 1),
            (DType::Bf16, 40, 17, 6),
            (DType::F32, 40, 17, 6),
            (DType::F32, 300, 64, 50),
        ] {
            for access in [Access::Write, Access::Accumulate] {
                let c = cols as i64;
                let k = Scatter {
                    outer: vec![2],
                    rows: vec![rows],
                    cols: vec![cols],
                    limit,
                    stride: c,
                    operands: [
                        operand(dtype, &[rows as i64 * c, c, 1], Access::Read),
                        operand(DType::I32, &[0, 1, 0], Access::Read),
                        operand(DType::F32, &[limit as i64 * c, 0, 1], access),
                    ],
                };
                let index: Vec<f64> =
                    (0..rows).map(|r| ((r * 7) % (limit + 2)) as f64 - 1.0).collect();
                let y: Vec<f64> =
                    noise(2 * rows * cols, 1).iter().map(|v| (v * 64.0).round() / 64.0).collect();
                let table = noise(2 * limit * cols, 2);
                let mut want: Vec<f64> = match access {
                    Access::Write => vec![0.0; table.len()],
                    Access::Accumulate | Access::Read => table.clone(),
                };
                for o in 0..2 {
                    for r in 0..rows {
                        let entry = index[r] as i64;
                        if (0..limit as i64).contains(&entry) {
                            for c in 0..cols {
                                want[(o * limit + entry as usize) * cols + c] +=
                                    y[(o * rows + r) * cols + c];
                            }
                        }
                    }
                }
                let kernel = Kernel::Scatter(k);
                let got = launch(&kernel, &[y.clone(), index.clone(), table.clone()], &[], 1);
                assert!(distance(&got[2], &want) < 1e-5);
                assert_eq!(got, launch(&kernel, &[y, index, table], &[], 3));
            }
        }
    }
}
