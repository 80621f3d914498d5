//! Curves through points by least squares: lines, parabolas, powers.
//!
//! All are polynomials after a change of coordinates: a logarithmic axis is fitted in its logarithm, a power in both. The polynomial is found with Householder
//! reflections on centred and scaled abscissas, so that neither 1e6 nor 1e18 on the axis costs digits. What cannot be told from the points (a parabola
//! through two places, anything through none) has no curve.

use crate::scale::ScaleKind;

/// A polynomial in a coordinate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Curve {
    /// Of the abscissa.
    x: ScaleKind,
    /// Of the ordinate.
    y: ScaleKind,
    /// Of powers 0, 1, 2 of the scaled abscissa.
    coefficients: [f64; 3],
    middle: f64,
    half: f64,
}

/// A straight line (`y` against `x` as each axis is drawn).
pub fn line(points: &[(f64, f64)], x: ScaleKind, y: ScaleKind) -> Option<Curve> {
    through(points, x, y, 1)
}

/// A parabola in `x` as its axis is drawn.
pub fn parabola(points: &[(f64, f64)], x: ScaleKind, y: ScaleKind) -> Option<Curve> {
    through(points, x, y, 2)
}

/// `y = a x^b`, by least squares in the logarithms.
pub fn power(points: &[(f64, f64)]) -> Option<Curve> {
    through(points, ScaleKind::Log, ScaleKind::Log, 1)
}

impl Curve {
    /// Its value.
    pub fn at(&self, x: f64) -> f64 {
        let t = (to(self.x, x) - self.middle) / self.half;
        let [a, b, c] = self.coefficients;
        from(self.y, a + t * (b + t * c))
    }

    /// Where a parabola that opens upwards (`least`) or downwards is at its end, and its value there.
    pub fn extreme(&self, least: bool) -> Option<(f64, f64)> {
        let [_, b, c] = self.coefficients;
        if !(if least { c > 0.0 } else { c < 0.0 }) {
            return None;
        }
        let x = from(self.x, self.middle - self.half * b / (2.0 * c));
        x.is_finite().then(|| (x, self.at(x)))
    }

    /// Change of the ordinate per unit of the abscissa, both as drawn: the exponent of a power.
    pub fn slope(&self) -> f64 {
        self.coefficients[1] / self.half
    }

    /// Places on the curve at equal steps of the axis.
    pub fn places(&self, from_x: f64, to_x: f64, count: usize) -> Vec<(f64, f64)> {
        steps(self.x, from_x, to_x, count).into_iter().map(|x| (x, self.at(x))).collect()
    }
}

/// Values at equal steps of an axis, both ends among them.
pub fn steps(kind: ScaleKind, low: f64, high: f64, count: usize) -> Vec<f64> {
    let (a, b) = (to(kind, low), to(kind, high));
    let last = count.saturating_sub(1).max(1);
    (0..count)
        .map(|i| match i {
            0 => low,
            i if i == last => high,
            i => from(kind, a + (b - a) * i as f64 / last as f64),
        })
        .collect()
}

fn to(kind: ScaleKind, x: f64) -> f64 {
    match kind {
        ScaleKind::Linear => x,
        ScaleKind::Log => x.ln(),
    }
}

fn from(kind: ScaleKind, u: f64) -> f64 {
    match kind {
        ScaleKind::Linear => u,
        ScaleKind::Log => u.exp(),
    }
}

fn through(points: &[(f64, f64)], x: ScaleKind, y: ScaleKind, degree: usize) -> Option<Curve> {
    let moved: Vec<(f64, f64)> = points
        .iter()
        .map(|p| (to(x, p.0), to(y, p.1)))
        .filter(|p| p.0.is_finite() && p.1.is_finite())
        .collect();
    let mut places: Vec<f64> = moved.iter().map(|p| p.0).collect();
    places.sort_by(f64::total_cmp);
    let (low, high) = (*places.first()?, *places.last()?);
    // Values that differ by rounding alone are one place.
    let least = 1e-9 * low.abs().max(high.abs()).max(1e-300);
    places.dedup_by(|a, b| (*a - *b).abs() <= least);
    if places.len() <= degree {
        return None;
    }
    let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0);
    let rows: Vec<[f64; 3]> = moved
        .iter()
        .map(|(u, _)| {
            let t = (u - middle) / half;
            [1.0, t, if degree > 1 { t * t } else { 0.0 }]
        })
        .collect();
    let right: Vec<f64> = moved.iter().map(|p| p.1).collect();
    let coefficients = least_squares(rows, right, degree + 1)?;
    Some(Curve { x, y, coefficients, middle, half })
}

/// The least-squares solution by Householder reflections (Golub and Van Loan, Matrix Computations, 5.3).
fn least_squares(mut a: Vec<[f64; 3]>, mut b: Vec<f64>, columns: usize) -> Option<[f64; 3]> {
    let rows = a.len();
    for k in 0..columns {
        let norm = (k..rows).map(|i| a[i][k] * a[i][k]).sum::<f64>().sqrt();
        let alpha = if a[k][k] > 0.0 { -norm } else { norm };
        let mut v: Vec<f64> = (k..rows).map(|i| a[i][k]).collect();
        v[0] -= alpha;
        let square: f64 = v.iter().map(|x| x * x).sum();
        if square == 0.0 {
            return None;
        }
        (k..columns).for_each(|j| {
            let f = 2.0 * v.iter().zip(k..).map(|(v, i)| v * a[i][j]).sum::<f64>() / square;
            v.iter().zip(k..).for_each(|(v, i)| a[i][j] -= f * v);
        });
        let f = 2.0 * v.iter().zip(k..).map(|(v, i)| v * b[i]).sum::<f64>() / square;
        v.iter().zip(k..).for_each(|(v, i)| b[i] -= f * v);
    }
    let mut solution = [0.0; 3];
    for k in (0..columns).rev() {
        let known: f64 = a[k].iter().zip(&solution).skip(k + 1).map(|(a, x)| a * x).sum();
        if a[k][k].abs() < 1e-12 {
            return None;
        }
        solution[k] = (b[k] - known) / a[k][k];
    }
    Some(solution)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parabola_in_the_logarithm_has_its_minimum() {
        let at = |x: f64| (x, 2.5 + 0.3 * (x / 3e7).ln().powi(2));
        let points: Vec<_> = [1e6, 5e6, 2e7, 1e8, 9e8].map(at).to_vec();
        let curve = parabola(&points, ScaleKind::Log, ScaleKind::Linear).expect("five points");
        let (x, y) = curve.extreme(true).expect("it opens upwards");
        assert!((x / 3e7 - 1.0).abs() < 1e-9 && (y - 2.5).abs() < 1e-9, "{x} {y}");
        assert_eq!(curve.extreme(false), None);
    }

    #[test]
    fn a_power_is_a_line_in_both_logarithms() {
        let points: Vec<_> =
            [1e17, 1e18, 1e19, 1e21].map(|c: f64| (c, 0.09 * c.powf(0.49))).to_vec();
        let curve = power(&points).expect("four points");
        assert!((curve.slope() - 0.49).abs() < 1e-12);
        assert!((curve.at(5.76e23) / (0.09 * 5.76e23f64.powf(0.49)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn too_few_places_have_no_curve() {
        let twice = [(1.0, 2.0), (1.0, 3.0), (2.0, 4.0)];
        assert!(line(&twice, ScaleKind::Linear, ScaleKind::Linear).is_some());
        assert!(parabola(&twice, ScaleKind::Linear, ScaleKind::Linear).is_none());
        assert!(line(&twice[..2], ScaleKind::Linear, ScaleKind::Linear).is_none());
        assert!(power(&[(-1.0, 2.0), (1.0, f64::NAN)]).is_none());
        assert!(line(&[], ScaleKind::Linear, ScaleKind::Linear).is_none());
    }

    #[test]
    fn steps_have_both_ends() {
        assert_eq!(steps(ScaleKind::Log, 1.0, 100.0, 3), [1.0, 10.000_000_000_000_002, 100.0]);
        assert_eq!(steps(ScaleKind::Linear, 5.0, 9.0, 1), [5.0]);
    }
}
