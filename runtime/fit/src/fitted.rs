//! What is known of a law once it is fitted.

use cs336_compiler::check::hir::FitSpec;
use cs336_compiler::law::{Law, Penalty, Shape};
use serde::{Deserialize, Serialize};

use crate::objective::Objective;
use crate::solve::End;
use crate::{Columns, linalg, predict};

/// A fitted law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fitted {
    /// The law.
    pub law: Law,
    /// What was made small.
    pub penalty: Penalty,
    /// Its constants, in the law's order.
    pub coefficients: Vec<Coefficient>,
    /// The least value: the weighted sum over rows.
    pub objective: f64,
    /// The largest entry of the gradient of the objective when that is scaled to about one, at constants inside their ranges.
    pub gradient: f64,
    /// How many rows were fitted.
    pub rows: usize,
    /// How many starts.
    pub starts: usize,
    /// The share of them that ended at the least value (within 1 %; the best is polished).
    pub agree: f64,
    /// How often the objective was computed, over all starts.
    pub evaluations: usize,
    /// Correlations of the constants' coordinates, row after row; empty where the curvature has no inverse.
    pub correlation: Vec<Vec<f64>>,
    /// The condition number of J'J with columns of length one: how near the constants are to mattering only together.
    pub condition: f64,
    /// One for each row, in order.
    pub residuals: Vec<Residual>,
    /// Constants of each resampling.
    pub draws: Vec<Vec<f64>>,
    /// How well rows that were not fitted are predicted.
    pub held_out: Option<HeldOut>,
}

/// A constant that was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coefficient {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// The standard error from the curvature (J'J), to first order.
    pub error: Option<f64>,
    /// The standard deviation over resamplings.
    pub spread: Option<f64>,
    /// Middle 80 % of the resamplings.
    pub ci80: Option<Interval>,
    /// Middle 95 % of the resamplings.
    pub ci95: Option<Interval>,
    /// It stands at this end of its range: `low`, `high`.
    pub at_end: Option<String>,
}

/// From, to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// From.
    pub low: f64,
    /// To.
    pub high: f64,
}

/// A row beside what the law says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Residual {
    /// The row.
    pub name: String,
    /// What was measured.
    pub measured: f64,
    /// What the law says.
    pub predicted: f64,
}

/// Rows that were not fitted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOut {
    /// Each.
    pub residuals: Vec<Residual>,
    /// Mean of |predicted / measured - 1|.
    pub relative_error: f64,
    /// 1 - squared errors / squared distances from the mean.
    pub r2: f64,
}

/// A number that follows from a law. Its confidence intervals (`ci`) come from the resamplings and say how well the law is known; its prediction
/// intervals (`pi`) say where a single run will lie.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// With the constants that fit best.
    pub value: f64,
    /// Middle 80 % of the resamplings.
    pub ci80: Option<Interval>,
    /// Middle 95 % of the resamplings.
    pub ci95: Option<Interval>,
    /// The 80 % prediction interval of one run there; of what was measured alone.
    pub pi80: Option<Interval>,
    /// The 95 % prediction interval of one run there.
    pub pi95: Option<Interval>,
}

/// The normal quantiles of 80 % and 95 %, both sides together.
const NORMAL: [f64; 2] = [1.281_551_565_544_6, 1.959_963_984_540_054];

impl Estimate {
    /// From the best value and those of the resamplings; what is not finite does not count.
    ///
    /// Resamplings of few rows vary too little: the fitted law follows its own noise. The shares that are cut off at both ends are made
    /// smaller accordingly (the expanded percentile interval of Hesterberg 2015, section 5.3, with as many constants as there are).
    pub fn of(value: f64, draws: &[f64], fitted: &Fitted) -> Self {
        let mut sorted: Vec<f64> = draws.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let middle = |normal: f64| {
            let tail = expanded(normal, fitted.rows as f64, fitted.coefficients.len() as f64);
            (sorted.len() >= 2).then(|| Interval {
                low: quantile(&sorted, tail),
                high: quantile(&sorted, 1.0 - tail),
            })
        };
        let [ci80, ci95] = NORMAL.map(middle);
        Self { value, ci80, ci95, pi80: None, pi95: None }
    }

    /// With prediction intervals: how far the measurement of a single run may lie, where the other intervals say how well the curve is known.
    /// The uncertainty of the curve and the scatter of runs around it are independent, so that half widths add as squares: `t² (se² + s²)`
    /// (Draper and Smith 1998, section 3.1), on the scale on which residuals are taken.
    pub(crate) fn of_a_run(mut self, fitted: &Fitted) -> Self {
        let Some(scatter) = fitted.scatter() else { return self };
        let free = fitted.free();
        let on_log = fitted.penalty.on_log;
        let on = |v: f64| if on_log { v.ln() } else { v };
        let back = |v: f64| if on_log { v.exp() } else { v };
        let wider = |normal: f64, curve: Option<Interval>| {
            let curve = curve?;
            let run = student(normal, free) * scatter;
            let far = |end: f64| (on(end) - on(self.value)).hypot(run);
            let ends = Interval {
                low: back(on(self.value) - far(curve.low)),
                high: back(on(self.value) + far(curve.high)),
            };
            (ends.low.is_finite() && ends.high.is_finite()).then_some(ends)
        };
        self.pi80 = wider(NORMAL[0], self.ci80);
        self.pi95 = wider(NORMAL[1], self.ci95);
        self
    }
}

impl Fitted {
    /// The constants, in the law's order.
    pub fn constants(&self) -> Vec<f64> {
        self.coefficients.iter().map(|c| c.value).collect()
    }

    /// A constant by its name.
    pub fn coefficient(&self, name: &str) -> Option<&Coefficient> {
        self.coefficients.iter().find(|c| c.name == name)
    }

    /// Rows that are left once each constant has taken one.
    fn free(&self) -> f64 {
        (self.rows as f64 - self.coefficients.len() as f64).max(1.0)
    }

    /// The standard deviation of a single run around the law, on the scale on which residuals are taken: `sqrt(Σ r² / (n - k))`. Outliers count in
    /// full, whatever the penalty: a run to come may be one. `None`: there are no more rows than constants, so nothing is left over.
    pub fn scatter(&self) -> Option<f64> {
        if self.rows <= self.coefficients.len() {
            return None;
        }
        let on = |v: f64| if self.penalty.on_log { v.ln() } else { v };
        let squares = self.residuals.iter().map(|r| (on(r.measured) - on(r.predicted)).powi(2));
        let scatter = (squares.sum::<f64>() / self.free()).sqrt();
        scatter.is_finite().then_some(scatter)
    }

    /// Fills in what resamplings say of the constants.
    pub(crate) fn intervals(&mut self) {
        for i in 0..self.coefficients.len() {
            let values: Vec<f64> = self.draws.iter().map(|d| d[i]).collect();
            let e = Estimate::of(self.coefficients[i].value, &values, self);
            let c = &mut self.coefficients[i];
            (c.ci80, c.ci95, c.spread) = (e.ci80, e.ci95, deviation(&values));
        }
    }
}

/// Student's quantile for so many degrees of freedom that belongs to the normal quantile z (its expansion in 1 / free: Abramowitz and Stegun,
/// 26.7.5).
fn student(z: f64, free: f64) -> f64 {
    z + (z.powi(3) + z) / (4.0 * free)
        + (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / (96.0 * free * free)
}

/// The share beyond `sqrt(n / (n - k)) t`, where t is Student's quantile for n - k that belongs to the normal quantile z.
fn expanded(z: f64, n: f64, k: f64) -> f64 {
    let free = (n - k).max(1.0);
    let x = (n / free).sqrt() * student(z, free);
    0.5 * (1.0 - cs336_compiler::scalar::erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

/// Between neighbours in a straight line, as numpy does.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = q * (sorted.len() - 1) as f64;
    let below = at.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (at - below as f64) * (sorted[above] - sorted[below])
}

fn deviation(v: &[f64]) -> Option<f64> {
    if v.len() < 2 {
        return None;
    }
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    Some((v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (v.len() - 1) as f64).sqrt())
}

/// Curvature of the objective around an end.
pub(crate) struct Curvature {
    /// J'J, weighted, over coordinates.
    pub(crate) jtj: Vec<f64>,
    /// J'J with columns of length one has this condition number.
    pub(crate) condition: f64,
    /// Coordinates that move no row.
    pub(crate) idle: Vec<usize>,
    /// The variance that one row has per unit of curvature: s² for squares; for other penalties that of an M-estimator, Σ ψ² / (n - k) over
    /// the square of the mean of ψ' (Huber 1981, section 7.6).
    pub(crate) variance: Option<f64>,
    /// The mean of ψ'.
    pub(crate) mean_slope: f64,
}

pub(crate) fn curvature(o: &Objective, x: &[f64]) -> Curvature {
    let k = o.dim();
    let values = o.values(x);
    let mut jtj = vec![0.0; k * k];
    let (mut psi2, mut slope, mut count) = (0.0, 0.0, 0.0);
    for ((v, y), w) in values.iter().zip(o.measured()).zip(o.weights()) {
        let r = v[0] - y;
        let (psi, d) = match o.penalty.shape {
            Shape::Squared => (r, 1.0),
            Shape::Huber { delta } => (r.clamp(-delta, delta), f64::from(r.abs() <= delta)),
            Shape::Absolute => (r.signum(), 0.0),
        };
        psi2 += w * psi * psi;
        slope += w * d;
        count += w;
        for i in 0..k {
            (0..k).for_each(|j| jtj[i * k + j] += w * v[1 + i] * v[1 + j]);
        }
    }
    let free = count - k as f64;
    let mean = slope / count;
    let variance = (free > 0.0 && mean > 0.0).then(|| psi2 / free / (mean * mean));
    let length: Vec<f64> = (0..k).map(|i| jtj[i * k + i].sqrt()).collect();
    let idle: Vec<usize> = (0..k).filter(|i| !(length[*i] > 0.0)).collect();
    let condition = if idle.is_empty() {
        let unit: Vec<f64> =
            (0..k * k).map(|at| jtj[at] / (length[at / k] * length[at % k])).collect();
        let (values, _) = linalg::eigen(&unit, k);
        let most = values.iter().copied().fold(0.0, f64::max);
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        most / least.max(f64::MIN_POSITIVE)
    } else {
        f64::INFINITY
    };
    Curvature { jtj, condition, idle, variance, mean_slope: mean }
}

/// What an end says.
pub(crate) fn describe(
    spec: &FitSpec,
    o: &Objective,
    rows: &Columns,
    end: &End,
    (starts, agree, evaluations): (usize, f64, usize),
) -> Fitted {
    let k = o.dim();
    let constants = o.constants(&end.x);
    let c = curvature(o, &end.x);
    let covariance = linalg::inverse(&c.jtj, k);
    let correlation = match &covariance {
        Some(v) => (0..k)
            .map(|i| (0..k).map(|j| v[i * k + j] / (v[i * k + i] * v[j * k + j]).sqrt()).collect())
            .collect(),
        None => Vec::new(),
    };
    let coefficients = spec
        .law
        .constants
        .iter()
        .enumerate()
        .map(|(i, constant)| {
            let (low, high) = o.bounds[i];
            let at_end = match end.x[i] {
                x if x <= low => Some("low".to_owned()),
                x if x >= high => Some("high".to_owned()),
                _ => None,
            };
            let unit = o.prepared.coordinates[i].slope(constants[i]);
            let error = match (&covariance, c.variance, &at_end) {
                (Some(v), Some(s2), None) => Some((v[i * k + i] * s2).sqrt() * unit),
                _ => None,
            };
            Coefficient {
                name: constant.name.clone(),
                value: constants[i],
                error: error.filter(|e| e.is_finite()),
                spread: None,
                ci80: None,
                ci95: None,
                at_end,
            }
        })
        .collect();
    let inner = |i: &usize| end.x[*i] > o.bounds[*i].0 && end.x[*i] < o.bounds[*i].1;
    let gradient = (0..k).filter(inner).map(|i| end.gradient[i].abs()).fold(0.0, f64::max);
    let back = |v: f64| if o.penalty.on_log { v.exp() } else { v };
    let residuals = o
        .values(&end.x)
        .iter()
        .zip(o.measured())
        .zip(&rows.names)
        .map(|((v, y), name)| Residual {
            name: name.clone(),
            measured: back(*y),
            predicted: back(v[0]),
        })
        .collect();
    Fitted {
        law: spec.law.clone(),
        penalty: spec.penalty,
        coefficients,
        objective: end.value * o.scale,
        gradient,
        rows: rows.len(),
        starts,
        agree,
        evaluations,
        correlation,
        condition: c.condition,
        residuals,
        draws: Vec::new(),
        held_out: None,
    }
}

/// How rows that were not fitted are predicted.
pub(crate) fn held_out(spec: &FitSpec, fitted: &Fitted, rows: &Columns) -> Option<HeldOut> {
    if rows.is_empty() {
        return None;
    }
    let measured = crate::objective::of_rows(&spec.law, &spec.law.measured, rows).ok()?;
    let constants = fitted.constants();
    let columns: Option<Vec<&Vec<f64>>> =
        spec.law.columns.iter().map(|c| rows.values.get(c)).collect();
    let columns = columns?;
    let residuals: Vec<Residual> = (0..rows.len())
        .map(|row| {
            let at: Vec<f64> = columns.iter().map(|c| c[row]).collect();
            let predicted = predict::value(&spec.law, &constants, &at);
            Residual { name: rows.names[row].clone(), measured: measured[row], predicted }
        })
        .collect();
    let n = residuals.len() as f64;
    let mean = measured.iter().sum::<f64>() / n;
    let total: f64 = measured.iter().map(|m| (m - mean).powi(2)).sum();
    let left: f64 = residuals.iter().map(|r| (r.predicted - r.measured).powi(2)).sum();
    let relative_error =
        residuals.iter().map(|r| (r.predicted / r.measured - 1.0).abs()).sum::<f64>() / n;
    Some(HeldOut { residuals, relative_error, r2: 1.0 - left / total })
}
