//! Lines of equal value through a grid of values (marching squares), joined into paths.
//!
//! The surface between four neighbouring values is taken as bilinear: a line crosses a side of the cell where linear interpolation says so, and in the one
//! ambiguous case (high values at opposite corners) the mean of the four decides which corners belong together. Cells with a value that is not finite have no
//! line. Paths come out in a fixed order, each point once.

use std::collections::BTreeMap;

/// A place in the grid: column and row, with fractions.
pub(crate) type Place = (f64, f64);

/// A side of a cell: its lower left corner, and whether it runs upwards.
type Side = (usize, usize, bool);

/// The lines of `level` through `values`, row by row from the bottom, `columns` in each.
pub(crate) fn lines(values: &[f64], columns: usize, level: f64) -> Vec<Vec<Place>> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    let at = |c: usize, r: usize| values[r * columns + c];
    let mut next: BTreeMap<Side, Vec<Side>> = BTreeMap::new();
    for r in 0..rows.saturating_sub(1) {
        for c in 0..columns.saturating_sub(1) {
            // Corners counter-clockwise from the lower left, and the sides between them.
            let corners = [at(c, r), at(c + 1, r), at(c + 1, r + 1), at(c, r + 1)];
            if corners.iter().any(|v| !v.is_finite()) {
                continue;
            }
            let sides = [(c, r, false), (c + 1, r, true), (c, r + 1, false), (c, r, true)];
            let above = corners.map(|v| v >= level);
            let crossed: Vec<usize> = (0..4).filter(|i| above[*i] != above[(i + 1) % 4]).collect();
            let pairs: Vec<(usize, usize)> = match crossed.as_slice() {
                [a, b] => vec![(*a, *b)],
                [_, _, _, _] => {
                    let middle = corners.iter().sum::<f64>() / 4.0 >= level;
                    // Corners like the middle are joined through it, so the others are cut off.
                    if middle == above[0] { vec![(0, 1), (2, 3)] } else { vec![(3, 0), (1, 2)] }
                }
                _ => Vec::new(),
            };
            for (a, b) in pairs {
                next.entry(sides[a]).or_default().push(sides[b]);
                next.entry(sides[b]).or_default().push(sides[a]);
            }
        }
    }
    let place = |(c, r, up): Side| -> Place {
        let (from, to) = (at(c, r), if up { at(c, r + 1) } else { at(c + 1, r) });
        let t = if to == from { 0.5 } else { (level - from) / (to - from) };
        if up { (c as f64, r as f64 + t) } else { (c as f64 + t, r as f64) }
    };
    let mut paths = Vec::new();
    // Open lines begin at sides with one neighbour; what is left then are rings.
    for open in [true, false] {
        let starts: Vec<Side> =
            next.iter().filter(|(_, n)| !open || n.len() == 1).map(|(s, _)| *s).collect();
        for start in starts {
            let mut path = vec![start];
            let mut side = start;
            while let Some(to) = next.get_mut(&side).and_then(Vec::pop) {
                if let Some(back) = next.get_mut(&to)
                    && let Some(i) = back.iter().position(|s| *s == side)
                {
                    back.remove(i);
                }
                path.push(to);
                side = to;
            }
            if path.len() > 1 {
                paths.push(path.into_iter().map(place).collect());
            }
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(n: usize, f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
        (0..n * n).map(|i| f((i % n) as f64, (i / n) as f64)).collect()
    }

    #[test]
    fn a_slope_has_one_straight_line() {
        let lines = lines(&grid(5, |x, _| x), 5, 1.5);
        assert_eq!(lines, [(0..5).map(|r| (1.5, f64::from(r))).collect::<Vec<_>>()]);
    }

    #[test]
    fn a_hill_has_a_ring_at_equal_distance() {
        let rings =
            lines(&grid(41, |x, y| ((x - 20.0).powi(2) + (y - 20.0).powi(2)).sqrt()), 41, 12.0);
        assert_eq!(rings.len(), 1);
        assert_eq!(rings[0].first(), rings[0].last());
        for (x, y) in &rings[0] {
            let r = ((x - 20.0).powi(2) + (y - 20.0).powi(2)).sqrt();
            assert!((r - 12.0).abs() < 0.02, "{r}");
        }
    }

    #[test]
    fn saddles_nan_and_nothing() {
        let saddle = lines(&[1.0, 0.0, 0.0, 1.0], 2, 0.4);
        assert_eq!(saddle.len(), 2);
        assert!(lines(&[1.0, f64::NAN, 0.0, 1.0], 2, 0.4).is_empty());
        assert!(lines(&[], 0, 0.0).is_empty());
        assert!(lines(&[1.0, 2.0], 2, 1.5).is_empty());
    }
}
