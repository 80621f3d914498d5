//! How the best place of a curve moves from budget to budget, by the ways in which one can read it (Hoffmann et al. 2022, section 3).
//!
//! Takes groups of rows with a number each (budgets) and what was marked; gives a sentence with the exponents and why they differ.

use cs336_compiler::report::{MarkRule, PlotSpec, Trend};
use cs336_compiler::row::RowExpr;

use super::Making;
use super::law::{COMPUTE, part};
use super::plot::Group;
use super::words;
use crate::chart::Axis;
use crate::scale::ScaleKind;

impl Making<'_> {
    /// The sentence. `ends` are the ends of parabolas, with the number of their group. `None`: nothing grows here.
    pub(super) fn growth(
        &self,
        spec: &PlotSpec,
        (x, x_of): (&Axis, &RowExpr),
        groups: &[Group],
        ends: &[(f64, f64)],
    ) -> Option<String> {
        let least = match spec.mark {
            MarkRule::Minimum => true,
            MarkRule::Maximum => false,
            MarkRule::None | MarkRule::Last => return None,
        };
        if spec.trend != Trend::Parabola || x.scale != ScaleKind::Log {
            return None;
        }
        let by = words::title(spec.color.as_ref()?);
        let of = exponent(ends)?;
        let end = |g: &Group| {
            let order = |a: &&super::plot::Drawn, b: &&super::plot::Drawn| a.y.total_cmp(&b.y);
            let rows = g.rows.iter();
            let found = if least { rows.min_by(order) } else { rows.max_by(order) };
            Some((g.value?, found?.x))
        };
        let ends_of_runs: Vec<(f64, f64)> = groups.iter().filter_map(end).collect();
        let kind = if least { "lowest" } else { "highest" };
        let mut text = format!(
            "By the parabolas the best place grows as the {:.3} power of \u{201c}{by}\u{201d}.",
            of
        );
        if let Some(a) = exponent(&ends_of_runs) {
            text += &format!(
                " The {kind} run of each alone gives {a:.3}: it can only be a place that was run, and it has the scatter of a single run."
            );
        }
        if let Some(a) = self.by_law(spec, x_of, groups) {
            text += &format!(
                " The law gives {a:.3}: it leans on all runs, far ones included, and on its own form."
            );
        }
        Some(text)
    }

    fn by_law(&self, spec: &PlotSpec, x_of: &RowExpr, groups: &[Group]) -> Option<f64> {
        let fit = spec.law.as_ref()?;
        let RowExpr::Column(across) = x_of else { return None };
        let Some(RowExpr::Column(budget)) = &spec.color else { return None };
        if !COMPUTE.contains(&budget.as_str()) {
            return None;
        }
        let of = part(across)?;
        let at = |g: &Group| {
            let c = g.value?;
            Some((c, of(&self.results.optimum(fit, c)?).value))
        };
        exponent(&groups.iter().filter_map(at).collect::<Vec<_>>())
    }
}

/// The slope of ln y over ln x, by least squares. `None`: fewer than three places, or one is not above zero.
fn exponent(places: &[(f64, f64)]) -> Option<f64> {
    if places.len() < 3 || places.iter().any(|(x, y)| !(*x > 0.0 && *y > 0.0)) {
        return None;
    }
    let logs: Vec<(f64, f64)> = places.iter().map(|(x, y)| (x.ln(), y.ln())).collect();
    let n = logs.len() as f64;
    let (mx, my) =
        (logs.iter().map(|p| p.0).sum::<f64>() / n, logs.iter().map(|p| p.1).sum::<f64>() / n);
    let over: f64 = logs.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    let under: f64 = logs.iter().map(|(x, _)| (x - mx).powi(2)).sum();
    (under > 0.0).then(|| over / under)
}

#[cfg(test)]
mod tests {
    use super::exponent;

    #[test]
    fn exponents_of_powers() {
        let places: Vec<(f64, f64)> =
            [1e16, 1e17, 3e18].map(|c: f64| (c, 3.0 * c.powf(0.46))).into();
        assert!((exponent(&places).expect("three places") - 0.46).abs() < 1e-12);
        assert_eq!(exponent(&places[..2]), None);
        assert_eq!(exponent(&[(1.0, 1.0), (2.0, 0.0), (3.0, 2.0)]), None);
    }
}
