//! Small dense linear algebra: at most some ten unknowns.

/// The eigenvalues and eigenvectors (columns) of a symmetric matrix by Jacobi rotations, row after row in `a`.
pub(crate) fn eigen(a: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut a = a.to_vec();
    let mut v = vec![0.0; n * n];
    (0..n).for_each(|i| v[i * n + i] = 1.0);
    for _ in 0..100 {
        let off: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].abs()).sum();
        let diagonal: f64 = (0..n).map(|i| a[i * n + i].abs()).sum();
        if off <= 1e-18 * diagonal || !off.is_finite() {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q] == 0.0 {
                    continue;
                }
                let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for k in 0..n {
                    let (x, y) = (a[k * n + p], a[k * n + q]);
                    a[k * n + p] = c * x - s * y;
                    a[k * n + q] = s * x + c * y;
                }
                for k in 0..n {
                    let (x, y) = (a[p * n + k], a[q * n + k]);
                    a[p * n + k] = c * x - s * y;
                    a[q * n + k] = s * x + c * y;
                    let (x, y) = (v[k * n + p], v[k * n + q]);
                    v[k * n + p] = c * x - s * y;
                    v[k * n + q] = s * x + c * y;
                }
            }
        }
    }
    ((0..n).map(|i| a[i * n + i]).collect(), v)
}

/// Solves a x = b by elimination with row exchanges. `None`: singular.
pub(crate) fn solve(a: &[f64], b: &[f64]) -> Option<Vec<f64>> {
    let n = b.len();
    let (mut a, mut x) = (a.to_vec(), b.to_vec());
    for i in 0..n {
        let p = (i..n).max_by(|p, q| a[p * n + i].abs().total_cmp(&a[q * n + i].abs()))?;
        if a[p * n + i] == 0.0 || !a[p * n + i].is_finite() {
            return None;
        }
        (0..n).for_each(|k| a.swap(i * n + k, p * n + k));
        x.swap(i, p);
        for r in i + 1..n {
            let f = a[r * n + i] / a[i * n + i];
            (i..n).for_each(|k| a[r * n + k] -= f * a[i * n + k]);
            x[r] -= f * x[i];
        }
    }
    for i in (0..n).rev() {
        let tail: f64 = (i + 1..n).map(|k| a[i * n + k] * x[k]).sum();
        x[i] = (x[i] - tail) / a[i * n + i];
    }
    x.iter().all(|v| v.is_finite()).then_some(x)
}

/// The inverse. `None`: singular.
pub(crate) fn inverse(a: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut out = vec![0.0; n * n];
    for j in 0..n {
        let mut unit = vec![0.0; n];
        unit[j] = 1.0;
        let column = solve(a, &unit)?;
        (0..n).for_each(|i| out[i * n + j] = column[i]);
    }
    Some(out)
}

/// The least squares solution of rows of `a` (each `n` long) and `b` with every unknown in its range: coordinate descent on the normal
/// equations, which for some five unknowns is as good as an active set.
pub(crate) fn least_squares(a: &[f64], b: &[f64], ranges: &[(f64, f64)]) -> Option<Vec<f64>> {
    let n = ranges.len();
    let mut normal = vec![0.0; n * n];
    let mut right = vec![0.0; n];
    for (row, y) in a.chunks_exact(n).zip(b) {
        for i in 0..n {
            right[i] += row[i] * y;
            (0..n).for_each(|j| normal[i * n + j] += row[i] * row[j]);
        }
    }
    let fits = |x: &[f64]| x.iter().zip(ranges).all(|(v, (low, high))| v >= low && v <= high);
    if let Some(x) = solve(&normal, &right)
        && fits(&x)
    {
        return Some(x);
    }
    // Every subset of unknowns at one of their ends is tried: with few unknowns that is exact.
    let mut best: Option<(f64, Vec<f64>)> = None;
    let kinds = 3usize.pow(n as u32);
    for code in 1..kinds.min(3usize.pow(8)) {
        let at: Vec<usize> = (0..n).map(|i| code / 3usize.pow(i as u32) % 3).collect();
        let free: Vec<usize> = (0..n).filter(|i| at[*i] == 0).collect();
        let mut x: Vec<f64> = (0..n)
            .map(|i| match at[i] {
                1 => ranges[i].0,
                2 => ranges[i].1,
                _ => 0.0,
            })
            .collect();
        if !free.is_empty() {
            let sub: Vec<f64> = pairs(&free).map(|(i, j)| normal[i * n + j]).collect();
            let rest: Vec<f64> = free
                .iter()
                .map(|i| {
                    right[*i]
                        - (0..n)
                            .filter(|j| at[*j] != 0)
                            .map(|j| normal[i * n + j] * x[j])
                            .sum::<f64>()
                })
                .collect();
            let Some(found) = solve(&sub, &rest) else { continue };
            free.iter().zip(found).for_each(|(i, v)| x[*i] = v);
        }
        if !fits(&x) {
            continue;
        }
        let cost: f64 = a
            .chunks_exact(n)
            .zip(b)
            .map(|(row, y)| {
                let r: f64 = row.iter().zip(&x).map(|(a, x)| a * x).sum::<f64>() - y;
                r * r
            })
            .sum();
        if cost.is_finite() && best.as_ref().is_none_or(|(c, _)| cost < *c) {
            best = Some((cost, x));
        }
    }
    best.map(|(_, x)| x)
}

/// All pairs, row after row.
fn pairs(of: &[usize]) -> impl Iterator<Item = (usize, usize)> + '_ {
    of.iter().flat_map(|i| of.iter().map(|j| (*i, *j)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eigenvalues_of_a_known_matrix() {
        let (mut values, _) = eigen(&[2.0, 1.0, 1.0, 2.0], 2);
        values.sort_by(f64::total_cmp);
        assert!((values[0] - 1.0).abs() < 1e-14 && (values[1] - 3.0).abs() < 1e-14);
    }

    #[test]
    fn least_squares_stays_in_its_ranges() {
        // y = 2 - x: the slope may not be negative, so the best level is the mean.
        let a = [1.0, 0.0, 1.0, 1.0, 1.0, 2.0];
        let b = [2.0, 1.0, 0.0];
        let x = least_squares(&a, &b, &[(0.0, 10.0), (0.0, 10.0)]).expect("solvable");
        assert!((x[0] - 1.0).abs() < 1e-12 && x[1] == 0.0, "{x:?}");
        let x = least_squares(&a, &b, &[(0.0, 10.0), (-10.0, 10.0)]).expect("solvable");
        assert!((x[0] - 2.0).abs() < 1e-12 && (x[1] + 1.0).abs() < 1e-12, "{x:?}");
    }
}
