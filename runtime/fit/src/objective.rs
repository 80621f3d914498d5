//! The objective of a fit: what is made small, over coordinates, on given rows.

use cs336_compiler::check::hir::FitSpec;
use cs336_compiler::law::prepare::{Prepared, prepare};
use cs336_compiler::law::program;
use cs336_compiler::law::{Law, Penalty, Shape};
use cs336_compiler::scalar::Expr;
use cs336_device::SumKernel;

use crate::kernel::{Kernel, Room};
use crate::{Columns, FitProblem, Random};

/// Rows of a sample, for laws of a handful of constants.
const SAMPLE: usize = 64;

/// A law on its rows.
#[derive(Debug)]
pub(crate) struct Objective {
    pub(crate) law: Law,
    pub(crate) penalty: Penalty,
    pub(crate) prepared: Prepared,
    /// Derived columns, the measured column, weights.
    columns: Vec<Vec<f64>>,
    /// How many rows; columns are longer, with rows of weight 0.
    rows: usize,
    kernel: Kernel,
    /// Value and slopes at a point.
    values: program::Program,
    /// The objective is divided by this, so that its least value is about one: absolute tests of solvers then mean something.
    pub(crate) scale: f64,
    /// Least and most of each coordinate.
    pub(crate) bounds: Vec<(f64, f64)>,
}

impl Objective {
    /// Of a fit on rows that were judged.
    pub(crate) fn new(spec: &FitSpec, rows: &Columns) -> Result<Self, FitProblem> {
        let law = &spec.law;
        let on_rows = |e: &Expr| of_rows(law, e, rows);
        let range = |e: &Expr| match on_rows(e) {
            Ok(v) if v.iter().all(|x| x.is_finite()) => {
                let least = v.iter().fold(f64::INFINITY, |a, b| a.min(*b));
                (least, v.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b)))
            }
            Ok(_) | Err(_) => (f64::NAN, f64::NAN),
        };
        let prepared = prepare(law, spec.penalty.on_log, &range);
        let mut columns = Vec::new();
        for e in &prepared.derived {
            columns.push(on_rows(e)?);
        }
        columns.push(on_rows(&prepared.measured)?);
        columns.push(match &spec.weight {
            Some(f) => rows.eval(f)?,
            None => vec![1.0; rows.len()],
        });
        let bounds = law
            .constants
            .iter()
            .zip(&prepared.coordinates)
            .map(|(c, how)| (how.of(c.low), how.of(c.high)))
            .collect();
        for c in &mut columns {
            padded(c);
        }
        if let Some(w) = columns.last_mut() {
            w[rows.len()..].fill(0.0);
        }
        let kernel = Kernel::new(program::objective(&prepared, spec.penalty.shape));
        let values = program::values(&prepared);
        let count = columns.last().map_or(0.0, |w: &Vec<f64>| w.iter().sum::<f64>());
        let measured = &columns[prepared.derived.len()][..rows.len()];
        let unit = match spec.penalty.shape {
            Shape::Huber { delta } => delta * delta,
            Shape::Squared if spec.penalty.on_log => 1e-4,
            Shape::Absolute if spec.penalty.on_log => 1e-2,
            Shape::Squared => spread(measured).powi(2) * 1e-4,
            Shape::Absolute => spread(measured) * 1e-2,
        };
        let scale = (count * unit).max(f64::MIN_POSITIVE);
        let (law, penalty) = (law.clone(), spec.penalty);
        let rows = rows.len();
        Ok(Self { law, penalty, prepared, columns, rows, kernel, values, scale, bounds })
    }

    /// How many coordinates.
    pub(crate) fn dim(&self) -> usize {
        self.bounds.len()
    }

    /// The scaled objective at a place, and its gradient into `gradient`.
    pub(crate) fn at(&self, x: &[f64], gradient: &mut [f64], w: &mut Work) -> f64 {
        self.weighted(x, gradient, w, None)
    }

    /// The same with other weights in place of the rows' own.
    pub(crate) fn weighted(
        &self,
        x: &[f64],
        gradient: &mut [f64],
        w: &mut Work,
        on: Option<&Resample>,
    ) -> f64 {
        let Work { room, sums } = w;
        sums.resize(x.len() + 1, 0.0);
        let columns: &[Vec<f64>] = on.map_or(&self.columns, |r| &r.columns);
        let columns: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        self.kernel.sums(x, &columns, sums, room);
        gradient.iter_mut().zip(&sums[1..]).for_each(|(g, s)| *g = s / self.scale);
        sums[0] / self.scale
    }

    /// Some of many rows, that stand for all: enough to come near the least place from afar, at a fraction of the cost.
    pub(crate) fn sample(&self, seed: u64) -> Option<Resample> {
        if self.rows < 2 * SAMPLE {
            return None;
        }
        let mut random = Random::new(seed, 0x5a);
        let mut order: Vec<usize> = (0..self.rows).collect();
        for i in 0..SAMPLE {
            order.swap(i, i + random.below(self.rows - i));
        }
        let share = self.rows as f64 / SAMPLE as f64;
        let mut times = vec![0.0; self.rows];
        order[..SAMPLE].iter().for_each(|row| times[*row] = share);
        Some(self.resample(&times))
    }

    /// The rows that a resample has, each with the number of times that it was drawn in its weight.
    pub(crate) fn resample(&self, times: &[f64]) -> Resample {
        let kept: Vec<usize> = (0..times.len()).filter(|r| times[*r] > 0.0).collect();
        let last = self.columns.len() - 1;
        let columns = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, c)| {
                let one = |r: &usize| if i == last { c[*r] * times[*r] } else { c[*r] };
                let mut column: Vec<f64> = kept.iter().map(one).collect();
                padded(&mut column);
                if i == last {
                    column[kept.len()..].fill(0.0);
                }
                column
            })
            .collect();
        Resample { columns }
    }

    /// Value and slopes of the law (or of its logarithm) at each row.
    pub(crate) fn values(&self, x: &[f64]) -> Vec<Vec<f64>> {
        let mut room = Vec::new();
        let derived = self.prepared.derived.len();
        (0..self.measured().len())
            .map(|row| {
                let mut args = x.to_vec();
                args.extend(self.columns[..derived].iter().map(|c| c[row]));
                self.values.eval(&args, &mut room)
            })
            .collect()
    }

    /// The measured side (or its logarithm).
    pub(crate) fn measured(&self) -> &[f64] {
        &self.columns[self.prepared.derived.len()][..self.rows]
    }

    /// How much each row counts.
    pub(crate) fn weights(&self) -> &[f64] {
        &self.columns[self.prepared.derived.len() + 1][..self.rows]
    }

    /// From coordinates to constants.
    pub(crate) fn constants(&self, x: &[f64]) -> Vec<f64> {
        let pairs = self.prepared.coordinates.iter().zip(x).zip(&self.law.constants);
        // exp(ln high) may lie a hair above high.
        pairs.map(|((how, x), c)| how.constant(*x).clamp(c.low, c.high)).collect()
    }

    /// From constants to coordinates, moved into the ranges.
    pub(crate) fn coordinates(&self, constants: &[f64]) -> Vec<f64> {
        let pairs = self.prepared.coordinates.iter().zip(constants).zip(&self.bounds);
        pairs
            .map(|((how, c), (low, high))| {
                let x = how.of(*c);
                if x.is_nan() { *low } else { x.clamp(*low, *high) }
            })
            .collect()
    }
}

/// Columns of a resample.
#[derive(Debug)]
pub(crate) struct Resample {
    columns: Vec<Vec<f64>>,
}

/// Memory of one search.
#[derive(Debug, Default)]
pub(crate) struct Work {
    room: Room,
    sums: Vec<f64>,
}

/// An expression of the law that reads columns only, on each row.
pub(crate) fn of_rows(law: &Law, e: &Expr, rows: &Columns) -> Result<Vec<f64>, FitProblem> {
    let first = law.constants.len();
    let columns: Result<Vec<&[f64]>, FitProblem> =
        law.columns.iter().map(|c| rows.column(c)).collect();
    let columns = columns?;
    let arg = |row: usize, i: u32| {
        columns.get((i as usize).wrapping_sub(first)).map_or(f64::NAN, |c| c[row])
    };
    Ok((0..rows.len()).map(|row| e.eval(&|i| arg(row, i), &|_| f64::NAN, &|_| f64::NAN)).collect())
}

/// Copies of the first row, up to a length that kernels take.
fn padded(column: &mut Vec<f64>) {
    let length = column.len().next_multiple_of(SumKernel::GRAIN);
    let first = column.first().copied().unwrap_or(0.0);
    column.resize(length, first);
}

/// Half the width of the middle of some numbers, or their size, where they do not differ.
fn spread(v: &[f64]) -> f64 {
    let mean = v.iter().sum::<f64>() / v.len().max(1) as f64;
    let sd = (v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len().max(1) as f64).sqrt();
    if sd > 0.0 { sd } else { mean.abs().max(1.0) }
}
