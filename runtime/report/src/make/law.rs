//! Laws of fits in plots: curves at a budget, the optimum over budgets with its intervals, and contours over both axes.

use cs336_compiler::report::PlotSpec;
use cs336_compiler::row::RowExpr;
use cs336_compiler::row::interp::{Cell, Row};

use super::plot::{Group, layer};
use super::{Between, Making, Optimum, words};
use crate::chart::{Axis, Layer, Mark, Point, Shape, Stroke};
use crate::color;
use crate::curve::{self, Curve};
use crate::scale::ScaleKind;

const PLACES: usize = 80;
/// Columns and rows of a surface.
const GRID: (usize, usize) = (90, 70);
/// Lines of a surface.
const LEVELS: usize = 9;

/// Columns that say how much compute a run had.
pub(super) const COMPUTE: &[&str] = &["budget", "flops"];

impl Making<'_> {
    /// The law of the plot's fit for a group. Gives no [`Curve`]: a law is not one of those.
    pub(super) fn law(
        &self,
        spec: &PlotSpec,
        (x, y): (&Axis, &Axis),
        (x_of, y_of): (&RowExpr, &RowExpr),
        g: &Group,
        layers: &mut Vec<Layer>,
        notes: &mut Vec<String>,
    ) -> Option<Curve> {
        let fit = spec.law.as_deref()?;
        let (RowExpr::Column(across), RowExpr::Column(up)) = (x_of, y_of) else {
            notes.push("A law is drawn over plain columns.".to_owned());
            return None;
        };
        let xs = g.rows.iter().map(|d| d.x);
        let (low, high) =
            xs.fold((f64::INFINITY, f64::NEG_INFINITY), |e, v| (e.0.min(v), e.1.max(v)));
        if low > high {
            return None;
        }
        if COMPUTE.contains(&across.as_str()) && part(up).is_some() {
            self.frontier(fit, (x, y), up, (low, high), spec.extend_to, (layers, notes));
            return None;
        }
        let places = curve::steps(x.scale, low, high, PLACES).into_iter();
        let points: Vec<(f64, f64)> = places
            .filter_map(|at| Some((at, self.results.predict(fit, &typical(spec, g, across, at))?)))
            .collect();
        if points.is_empty() {
            notes.push(format!("The law of `{fit}` says nothing about these rows."));
        }
        layers.push(layer(&g.name, g.color, Shape::Line { points, stroke: Stroke::Solid }));
        None
    }

    /// The optimum over compute: bands, the line within and beyond the runs, the value at the end.
    fn frontier(
        &self,
        fit: &str,
        (x, y): (&Axis, &Axis),
        up: &str,
        (low, high): (f64, f64),
        end: Option<f64>,
        (layers, notes): (&mut Vec<Layer>, &mut Vec<String>),
    ) {
        let Some(of) = part(up) else { return };
        let at = |c: f64| self.results.optimum(fit, c).map(|o| (c, of(&o)));
        let end = end.filter(|e| x.shows(*e));
        let (from, to) = (low.min(end.unwrap_or(low)), high.max(end.unwrap_or(high)));
        let all: Vec<(f64, Between)> =
            curve::steps(x.scale, from, to, PLACES).into_iter().filter_map(at).collect();
        // The wider one first: the other lies upon it.
        type Ends = fn(&Between) -> Option<(f64, f64)>;
        let bands: [(&str, _, Ends); 2] = [
            ("95 % of single runs", color::GREY, |b| b.run),
            ("95 % of the law", color::MAIN, |b| b.curve),
        ];
        for (name, color, ends) in bands {
            let points: Vec<(f64, f64, f64)> =
                all.iter().filter_map(|(c, b)| ends(b).map(|(l, h)| (*c, l, h))).collect();
            if points.len() > 1 {
                layers.push(layer(name, color, Shape::Band { points }));
            }
        }
        if all.iter().any(|(_, b)| b.run.is_some()) {
            notes.push(
                "The narrow band is the 95 % confidence interval of the law, the wide one the 95 % prediction interval of a single run there.".to_owned(),
            );
        }
        let line = |range: std::ops::RangeInclusive<f64>| -> Vec<(f64, f64)> {
            let places = curve::steps(x.scale, *range.start(), *range.end(), PLACES).into_iter();
            places.filter_map(at).map(|(c, b)| (c, b.value)).collect()
        };
        let solid = Shape::Line { points: line(low..=high), stroke: Stroke::Solid };
        layers.push(layer(&format!("law `{fit}`").replace('`', ""), color::MAIN, solid));
        let Some(end) = end.filter(|e| *e < low || *e > high) else { return };
        let range = if end > high { high..=end } else { end..=low };
        let dashed = Shape::Line { points: line(range), stroke: Stroke::Dashed };
        layers.push(layer("beyond the runs", color::MAIN, dashed));
        if let Some((_, b)) = at(end) {
            let label = words::spelled(b.value, y.spelling, 3);
            let star = Point { x: end, y: b.value, label, run: String::new() };
            let star = Shape::Points { points: vec![star], mark: Mark::Star };
            layers.push(layer("prediction", color::STRONG, star));
        }
    }

    /// Lines of equal loss over both axes, and the path of the optimum.
    pub(super) fn contour(
        &self,
        spec: &PlotSpec,
        (x, y): (&Axis, &Axis),
        (x_of, y_of): (&RowExpr, &RowExpr),
        groups: &[Group],
        layers: &mut Vec<Layer>,
        notes: &mut Vec<String>,
    ) {
        let Some(fit) = spec.law.as_deref() else { return };
        let (RowExpr::Column(across), RowExpr::Column(up)) = (x_of, y_of) else {
            notes.push("A law is drawn over plain columns.".to_owned());
            return;
        };
        let rows = || groups.iter().flat_map(|g| &g.rows);
        let ends = |axis: &Axis, values: &mut dyn Iterator<Item = f64>| {
            let reach =
                values.fold((f64::INFINITY, f64::NEG_INFINITY), |e, v| (e.0.min(v), e.1.max(v)));
            match axis.scale {
                ScaleKind::Log => (reach.0 / 1.6, reach.1 * 1.6),
                ScaleKind::Linear => {
                    let room = 0.08 * (reach.1 - reach.0);
                    (reach.0 - room, reach.1 + room)
                }
            }
        };
        let wide = ends(x, &mut rows().map(|d| d.x).chain(spec.extend_to));
        let high = ends(y, &mut rows().map(|d| d.y));
        if !(wide.0 < wide.1 && high.0 < high.1) {
            return;
        }
        let columns = curve::steps(x.scale, wide.0, wide.1, GRID.0);
        let mut values = Vec::with_capacity(GRID.0 * GRID.1);
        for v in curve::steps(y.scale, high.0, high.1, GRID.1) {
            for u in &columns {
                let cells = [(across.clone(), Cell::Number(*u)), (up.clone(), Cell::Number(v))];
                let row = Row::from_iter(cells);
                values.push(self.results.predict(fit, &row).unwrap_or(f64::NAN));
            }
        }
        let levels = levels(&values);
        if levels.is_empty() {
            notes.push(format!("The law of `{fit}` says nothing about these rows."));
            return;
        }
        let surface = Shape::Contour { values, columns: columns.len(), x: wide, y: high, levels };
        layers.push(layer("loss of the law", color::MAIN, surface));
        let compute = rows().filter_map(|d| number(&d.row, COMPUTE));
        let (least, most) =
            compute.fold((f64::INFINITY, f64::NEG_INFINITY), |e, c| (e.0.min(c), e.1.max(c)));
        let (Some(a), Some(b), true) = (part(across), part(up), least < most) else { return };
        let best = curve::steps(ScaleKind::Log, least, most, PLACES).into_iter();
        let best =
            best.filter_map(|c| self.results.optimum(fit, c)).map(|o| (a(&o).value, b(&o).value));
        let line = Shape::Line { points: best.collect(), stroke: Stroke::Solid };
        layers.push(layer("optimum", color::STRONG, line));
    }
}

/// Which part of an optimum a column is.
pub(super) fn part(column: &str) -> Option<fn(&Optimum) -> Between> {
    let table: [(&str, fn(&Optimum) -> Between); 4] = [
        ("params", |o| o.params),
        ("tokens", |o| o.tokens),
        ("loss", |o| o.loss),
        ("valid_loss", |o| o.loss),
    ];
    table.into_iter().find(|(c, _)| *c == column).map(|(_, f)| f)
}

/// A row of the group at another place: its other numbers are the (geometric) means of the group's. Where the group is one of equal compute, more parameters mean
/// fewer tokens: tokens follow from the compute that the group's runs had for each parameter and token.
fn typical(spec: &PlotSpec, g: &Group, across: &str, at: f64) -> Row {
    let mut row = Row::new();
    let names = g.rows.iter().flat_map(|d| d.row.keys());
    for name in names {
        if row.contains_key(name) {
            continue;
        }
        let values: Vec<f64> = g.rows.iter().filter_map(|d| number(&d.row, &[name])).collect();
        if let Some(mean) = mean(&values) {
            row.insert(name.clone(), Cell::Number(mean));
        }
    }
    row.insert(across.to_owned(), Cell::Number(at));
    let by_compute =
        matches!(&spec.color, Some(RowExpr::Column(c)) if COMPUTE.contains(&c.as_str()));
    let other = match across {
        "params" => "tokens",
        "tokens" => "params",
        _ => return row,
    };
    if by_compute {
        // Both are held by the same product, whatever the compute for a parameter and a token is.
        let products: Vec<f64> = g
            .rows
            .iter()
            .filter_map(|d| Some(number(&d.row, &["params"])? * number(&d.row, &["tokens"])?))
            .collect();
        if let Some(product) = mean(&products) {
            row.insert(other.to_owned(), Cell::Number(product / at));
        }
    }
    row
}

fn number(row: &Row, columns: &[&str]) -> Option<f64> {
    columns.iter().find_map(|c| row.get(*c).and_then(Cell::number)).filter(|x| x.is_finite())
}

/// The geometric mean of positive numbers, else the mean.
fn mean(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    if values.is_empty() {
        return None;
    }
    if values.iter().all(|v| *v > 0.0) {
        return Some((values.iter().map(|v| v.ln()).sum::<f64>() / n).exp());
    }
    Some(values.iter().sum::<f64>() / n)
}

/// Round values that cut the surface into parts of about equal area: steep parts get lines further apart.
fn levels(values: &[f64]) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let (Some(low), Some(high)) = (sorted.first(), sorted.last()) else { return Vec::new() };
    let step = 10f64.powf(((high - low) / 40.0).log10().floor());
    let mut levels: Vec<f64> = Vec::new();
    for i in 1..=LEVELS {
        let at = sorted[(sorted.len() - 1) * i / (LEVELS + 1)];
        let round = (at / step).round() * step;
        if round > *low && round < *high && !levels.iter().any(|l| (l - round).abs() < step / 2.0) {
            levels.push(round);
        }
    }
    levels
}
