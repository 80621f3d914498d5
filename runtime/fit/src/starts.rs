//! Where searches begin.
//!
//! By default from the data: the constants that the law is not linear in are drawn within their ranges, the others follow by least squares
//! within theirs (variable projection), relative to what was measured if residuals are logarithms. Of 64 such points on the Chinchilla data
//! each leads to the least value; of the published grid about half do.

use cs336_compiler::check::hir::FitSpec;
use cs336_compiler::law::prepare::Coordinate;
use cs336_compiler::law::{Starts, linear};

use crate::objective::{Objective, of_rows};
use crate::random::Random;
use crate::{Columns, FitProblem, linalg};

/// The coordinates where searches begin.
pub(crate) fn points(
    spec: &FitSpec,
    o: &Objective,
    rows: &Columns,
) -> Result<Vec<Vec<f64>>, FitProblem> {
    let points = match &spec.starts {
        Starts::Given(all) => all.iter().map(|c| o.coordinates(c)).collect(),
        Starts::Hoffmann => hoffmann(spec, o),
        Starts::Data { count } => from_data(spec, o, rows, *count as usize)?,
    };
    let finite = |x: &Vec<f64>| o.at(x, &mut vec![0.0; x.len()], &mut Default::default());
    if points.iter().all(|x| !finite(x).is_finite()) {
        let values = points.first().map(|x| o.values(x)).unwrap_or_default();
        let bad: Vec<String> = values
            .iter()
            .zip(&rows.names)
            .filter(|(v, _)| !v[0].is_finite())
            .map(|(_, name)| name.clone())
            .collect();
        if !bad.is_empty() {
            return Err(FitProblem::NotFinite { rows: bad, columns: spec.law.columns.clone() });
        }
    }
    Ok(points)
}

/// alpha, beta in {0, 1/2, 1, 3/2, 2}, ln E in {-1, -1/2, 0, 1/2, 1}, ln A and ln B in {0, 5, .., 25}.
fn hoffmann(spec: &FitSpec, o: &Objective) -> Vec<Vec<f64>> {
    let values = |name: &str| -> Vec<f64> {
        match name {
            "E" => (0..5).map(|i| (-1.0 + 0.5 * f64::from(i)).exp()).collect(),
            "A" | "B" => (0..6).map(|i| (5.0 * f64::from(i)).exp()).collect(),
            _ => (0..5).map(|i| 0.5 * f64::from(i)).collect(),
        }
    };
    let mut points: Vec<Vec<f64>> = vec![vec![]];
    for c in &spec.law.constants {
        let next = values(&c.name);
        points = points
            .iter()
            .flat_map(|p| next.iter().map(move |v| [p.as_slice(), &[*v]].concat()))
            .collect();
    }
    points.iter().map(|c| o.coordinates(c)).collect()
}

fn from_data(
    spec: &FitSpec,
    o: &Objective,
    rows: &Columns,
    count: usize,
) -> Result<Vec<Vec<f64>>, FitProblem> {
    let law = &spec.law;
    let linear = linear::split(law);
    let measured = of_rows(law, &law.measured, rows)?;
    let columns: Result<Vec<&[f64]>, FitProblem> =
        law.columns.iter().map(|c| rows.column(c)).collect();
    let columns = columns?;
    let weights = o.weights();
    let value = |constants: &[f64], row: usize| {
        let k = constants.len();
        let arg = |i: u32| {
            let i = i as usize;
            if i < k { constants[i] } else { columns[i - k][row] }
        };
        law.formula.eval(&arg, &|_| f64::NAN, &|_| f64::NAN)
    };
    let ranges: Vec<(f64, f64)> =
        linear.iter().map(|i| (law.constants[*i].low, law.constants[*i].high)).collect();
    let mut points = Vec::new();
    for stream in 0..count {
        let mut random = Random::new(spec.seed, (1 << 32) + stream as u64);
        let mut constants: Vec<f64> = law
            .constants
            .iter()
            .zip(&o.prepared.coordinates)
            .zip(&o.bounds)
            .map(|((_, how), (low, high))| {
                let x = low + (high - low) * random.unit();
                match how {
                    Coordinate::Plain => x,
                    Coordinate::Log => x.exp(),
                }
            })
            .collect();
        if !linear.is_empty() {
            linear.iter().for_each(|i| constants[*i] = 0.0);
            let base: Vec<f64> = (0..rows.len()).map(|r| value(&constants, r)).collect();
            let mut a = vec![0.0; rows.len() * linear.len()];
            let mut b = vec![0.0; rows.len()];
            // Bases of very different sizes: each is scaled to one.
            let mut sizes = vec![0.0f64; linear.len()];
            for r in 0..rows.len() {
                let unit = if spec.penalty.on_log { measured[r].abs() } else { 1.0 };
                let w = weights[r].max(0.0).sqrt() / unit;
                b[r] = w * (measured[r] - base[r]);
                for (j, i) in linear.iter().enumerate() {
                    constants[*i] = 1.0;
                    a[r * linear.len() + j] = w * (value(&constants, r) - base[r]);
                    constants[*i] = 0.0;
                    sizes[j] = sizes[j].max(a[r * linear.len() + j].abs());
                }
            }
            let scaled: Vec<(f64, f64)> =
                ranges.iter().zip(&sizes).map(|((low, high), s)| (low * s, high * s)).collect();
            for row in a.chunks_exact_mut(linear.len()) {
                row.iter_mut().zip(&sizes).for_each(|(v, s)| *v /= s.max(f64::MIN_POSITIVE));
            }
            if let Some(found) = linalg::least_squares(&a, &b, &scaled) {
                for ((i, v), s) in linear.iter().zip(found).zip(&sizes) {
                    constants[*i] = v / s.max(f64::MIN_POSITIVE);
                }
            } else {
                linear.iter().for_each(|i| constants[*i] = law.constants[*i].low);
            }
        }
        let mut x = o.coordinates(&constants);
        // A scale at the very end of its range has next to no slope: it starts a little inside.
        for i in &linear {
            let (low, high) = o.bounds[*i];
            let room = 0.02 * (high - low);
            x[*i] = x[*i].clamp(low + room, high - room);
        }
        points.push(x);
    }
    Ok(points)
}
