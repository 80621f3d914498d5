//! How near is near enough: the one rule for comparing numbers, which all tests use.
//!
//! Takes numbers, a reference and a tolerance; gives `Ok` or the worst place. The rule is that of llm.c: an absolute part plus a
//! part relative to the reference. The absolute part is in units of the largest number of the reference, so that gradients
//! of size 1e-6 are looked at as strictly as losses of size 10.

use crate::scalar::DType;

/// What may differ: `absolute * max |reference| + relative * |reference|`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tolerance {
    /// In units of the largest number of the reference.
    pub absolute: f64,
    /// In units of the number itself.
    pub relative: f64,
}

/// The tolerance of central differences in f64 with the step of [`finite`](crate::graph::finite).
pub const FINITE: Tolerance = Tolerance { absolute: 1e-7, relative: 1e-6 };

/// The tolerance for values stored as `dtype` of which each sums `reduction_len` products in f32.
///
/// Storage rounds a few times by the unit roundoff of the dtype. A sum of n terms in f32 errs by about √n of its unit roundoff
/// if roundings are independent; 8 covers other summation orders and a chain of a few such sums.
pub fn tolerance(dtype: DType, reduction_len: usize) -> Tolerance {
    let f32_unit = 2f64.powi(-24);
    let sums = 8.0 * f32_unit * (reduction_len.max(1) as f64).sqrt();
    let stored = match dtype {
        DType::F32 => 8.0 * f32_unit,
        DType::Bf16 => 4.0 * 2f64.powi(-8),
        DType::F16 => 4.0 * 2f64.powi(-11),
        // Exact, or wrong.
        DType::I32 | DType::Bool => return Tolerance { absolute: 0.0, relative: 0.0 },
    };
    Tolerance { absolute: stored + sums, relative: stored + sums }
}

/// The worst of the places that differ too much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Worst {
    /// Where, in storage order.
    pub index: usize,
    /// What was there.
    pub found: f64,
    /// What should be.
    pub reference: f64,
    /// How far apart they may be there.
    pub allowed: f64,
    /// How many places differ too much.
    pub count: usize,
}

impl std::fmt::Display for Worst {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} places differ, worst at {}: found {:e}, reference {:e}, allowed {:e} apart, are {:e}",
            self.count,
            self.index,
            self.found,
            self.reference,
            self.allowed,
            (self.found - self.reference).abs()
        )
    }
}

/// Compares element by element. Infinities and NaN must be the same. Of different lengths, the lengths are reported.
pub fn compare(found: &[f64], reference: &[f64], tolerance: Tolerance) -> Result<(), Worst> {
    let largest =
        reference.iter().filter(|x| x.is_finite()).fold(0.0, |max: f64, x| max.max(x.abs()));
    // Against a reference of zeros the absolute part is in units of one.
    let scale = if largest == 0.0 { 1.0 } else { largest };
    let mut worst: Option<(f64, Worst)> = None;
    let mut count = 0;
    if found.len() != reference.len() {
        let (found, reference) = (found.len() as f64, reference.len() as f64);
        return Err(Worst { index: 0, found, reference, allowed: 0.0, count: 1 });
    }
    for (index, (found, reference)) in
        found.iter().copied().zip(reference.iter().copied()).enumerate()
    {
        if found == reference || (found.is_nan() && reference.is_nan()) {
            continue;
        }
        let allowed = tolerance.absolute * scale + tolerance.relative * reference.abs();
        let apart = (found - reference).abs();
        // Also false for NaN.
        if reference.is_finite() && apart <= allowed {
            continue;
        }
        count += 1;
        let excess = if apart.is_finite() { apart - allowed } else { f64::INFINITY };
        if worst.as_ref().is_none_or(|(e, _)| excess > *e) {
            worst = Some((excess, Worst { index, found, reference, allowed, count }));
        }
    }
    match worst {
        Some((_, w)) => Err(Worst { count, ..w }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_place_is_named() {
        let t = Tolerance { absolute: 0.0, relative: 0.01 };
        assert_eq!(compare(&[1.0, 2.0], &[1.005, 2.0], t), Ok(()));
        let worst = compare(&[1.0, 2.0, 3.0], &[1.1, 2.0, 4.0], t).unwrap_err();
        assert_eq!((worst.index, worst.count), (2, 2));
    }

    #[test]
    fn small_numbers_are_looked_at_as_strictly() {
        let t = tolerance(DType::F32, 100);
        assert!(compare(&[1e-6], &[1.1e-6], t).is_err());
        assert!(compare(&[1e-9, 1.0], &[2e-9, 1.0], t).is_ok());
    }

    #[test]
    fn what_is_not_finite_must_agree() {
        let t = Tolerance { absolute: 1.0, relative: 1.0 };
        let inf = f64::INFINITY;
        assert!(compare(&[inf, f64::NAN], &[inf, f64::NAN], t).is_ok());
        assert!(compare(&[inf], &[-inf], t).is_err());
        assert!(compare(&[1.0], &[inf], t).is_err());
        assert!(compare(&[f64::NAN], &[1.0], t).is_err());
        assert!(compare(&[1.0], &[1.0, 2.0], t).is_err());
    }

    #[test]
    fn integers_are_exact() {
        assert!(compare(&[3.0], &[4.0], tolerance(DType::I32, 10)).is_err());
    }
}
