//! Running sums, the largest k, and sorting along a row. Rows are independent.
//!
//! NaN sorts after every number and counts as the largest.

use std::cmp::Ordering;

use cs336_compiler::kernel::{RowOp, RowOpKind};
use cs336_compiler::scalar::DType;

use super::cells::{View, offset_of};
use super::pool::{Pool, cut};

/// Runs it on bound operands (x, result: addresses of coordinates 0).
///
/// # Safety
/// The operands' extents are inside memory as the launch has checked; the result is used by nobody else (or is x itself).
pub(crate) unsafe fn run(kernel: &RowOp, pool: &Pool, operands: &[*mut u8]) {
    let x = View::new(&kernel.operands[0], operands[0]);
    let result = View::new(&kernel.operands[1], operands[1]);
    let rows: usize = kernel.rows.iter().product();
    let axes = kernel.rows.len();
    let depth = kernel.n.max(2).ilog2() as usize;
    let work = rows * kernel.n * (4 + 4 * depth);
    let ranges = cut(rows, 4 * pool.size(), 1);
    pool.each(ranges.len(), work, |task| {
        let mut row = Row::default();
        for i in ranges[task].0..ranges[task].1 {
            let from = offset_of(i, &kernel.rows, &x.strides[..axes]);
            let to = offset_of(i, &kernel.rows, &result.strides[..axes]);
            let (x_step, step) = (x.strides[axes], result.strides[axes]);
            // SAFETY: inside x; if the result is the same memory, this row is read before it is written.
            row.read(kernel.n, |j| unsafe { x.get(from + j as i64 * x_step) });
            let at = |j: usize| to + j as i64 * step;
            match kernel.op {
                RowOpKind::CumSum { reverse } if x.dtype == DType::I32 => {
                    // SAFETY: as above.
                    let get = |j: usize| unsafe { x.get_int(from + j as i64 * x_step) };
                    let all: Vec<i32> = (0..kernel.n).map(get).collect();
                    let mut sum = 0i32;
                    for k in 0..kernel.n {
                        let j = if reverse { kernel.n - 1 - k } else { k };
                        sum = sum.wrapping_add(all[j]);
                        // SAFETY: inside the result, whose rows are distinct.
                        unsafe { result.set_int(at(j), sum) };
                    }
                }
                RowOpKind::CumSum { reverse } => {
                    row.running_sum(reverse);
                    // SAFETY: inside the result, whose rows are distinct.
                    row.values
                        .iter()
                        .enumerate()
                        .for_each(|(j, v)| unsafe { result.set(at(j), *v) });
                }
                RowOpKind::TopK { k } => {
                    row.largest(k);
                    // SAFETY: as above.
                    row.values
                        .iter()
                        .enumerate()
                        .for_each(|(j, v)| unsafe { result.set(at(j), *v) });
                }
                RowOpKind::ArgSort => {
                    row.sort();
                    for (j, from) in row.order.iter().enumerate() {
                        // SAFETY: as above.
                        unsafe { result.set_int(at(j), *from as i32) };
                    }
                }
            }
        }
    });
}

#[derive(Default)]
struct Row {
    values: Vec<f32>,
    order: Vec<u32>,
}

impl Row {
    fn read(&mut self, n: usize, get: impl Fn(usize) -> f32) {
        self.values.clear();
        self.values.extend((0..n).map(get));
    }

    fn running_sum(&mut self, reverse: bool) {
        let mut sum = 0.0;
        let mut step = |v: &mut f32| {
            sum += *v;
            *v = sum;
        };
        if reverse {
            self.values.iter_mut().rev().for_each(&mut step);
        } else {
            self.values.iter_mut().for_each(&mut step);
        }
    }

    /// `order` becomes the coordinates, ascending by value, ties by coordinate.
    fn sort(&mut self) {
        self.order.clear();
        self.order.extend(0..self.values.len() as u32);
        let values = &self.values;
        self.order.sort_by(|a, b| ascending(values[*a as usize], values[*b as usize]));
    }

    /// 1 on the k largest, ties: the lower coordinate.
    fn largest(&mut self, k: usize) {
        self.order.clear();
        self.order.extend(0..self.values.len() as u32);
        let values = &self.values;
        self.order.sort_by(|a, b| ascending(values[*b as usize], values[*a as usize]));
        let mut marks = vec![0.0; self.values.len()];
        for at in self.order.iter().take(k) {
            marks[*at as usize] = 1.0;
        }
        self.values = marks;
    }
}

fn ascending(a: f32, b: f32) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[cfg(test)]
mod tests {
    use cs336_compiler::kernel::{Access, Kernel};

    use super::*;
    use crate::host::oracle::{distance, launch, operand};

    fn run(op: RowOpKind, x: &[f64], from: DType, to: DType) -> Vec<f64> {
        let k = RowOp {
            op,
            rows: vec![],
            n: x.len(),
            operands: [operand(from, &[1], Access::Read), operand(to, &[1], Access::Write)],
        };
        let memories = [x.to_vec(), vec![0.0; x.len()]];
        launch(&Kernel::RowOp(k), &memories, &[], 1).swap_remove(1)
    }

    #[test]
    fn running_sums_both_ways() {
        let x = [1.0, 2.0, -4.0];
        let sum = |reverse, dtype| run(RowOpKind::CumSum { reverse }, &x, dtype, dtype);
        for dtype in [DType::F32, DType::I32] {
            assert_eq!(sum(false, dtype), [1.0, 3.0, -1.0]);
            assert_eq!(sum(true, dtype), [-1.0, -2.0, -4.0]);
        }
    }

    #[test]
    fn ties_go_to_the_lower_coordinate() {
        let x = [2.0, 3.0, 3.0, -1.0, 2.0];
        let top = run(RowOpKind::TopK { k: 3 }, &x, DType::F32, DType::Bool);
        assert_eq!(top, [1.0, 1.0, 1.0, 0.0, 0.0]);
        let sorted = run(RowOpKind::ArgSort, &x, DType::Bf16, DType::I32);
        assert!(distance(&sorted, &[3.0, 0.0, 4.0, 1.0, 2.0]) == 0.0);
    }
}
