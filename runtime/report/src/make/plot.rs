//! Plots: rows to layers of a chart.

use cs336_compiler::problem::did_you_mean;
use cs336_compiler::report::{MarkRule, PlotSpec, ReportRows, Trend};
use cs336_compiler::row::RowExpr;
use cs336_compiler::row::interp::{Cell, Row, values};

use super::{Making, name_of, some, words};
use crate::chart::{Axis, Chart, Layer, Mark, Point, Shape, Stroke};
use crate::color::{self, Color};
use crate::curve::{self, Curve};
use crate::scale::{ScaleKind, Spelling};

/// Places of a curve.
const PLACES: usize = 80;
/// Curves of steps have at most this many places; each is then the mean of a stretch.
const STEPS: usize = 400;

/// A row that is drawn.
#[derive(Clone)]
pub(super) struct Drawn {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) row: Row,
    pub(super) run: String,
}

/// Rows of one colour.
pub(super) struct Group {
    pub(super) name: String,
    /// The value of `color`, where it is a number.
    pub(super) value: Option<f64>,
    pub(super) color: Color,
    pub(super) rows: Vec<Drawn>,
}

impl Making<'_> {
    pub(super) fn plot(&self, spec: &PlotSpec) -> Result<Chart, String> {
        let rows = self.rows(&spec.data)?;
        let ((mut x, x_of), (y, y_of)) = (words::axis(&spec.x), words::axis(&spec.y));
        let places = spec.line.into_iter().chain(spec.extend_to).filter(|v| x.shows(*v));
        x.include = places.collect();
        let mut notes = Vec::new();
        let drawn = self.drawn(spec, &rows, (&x, x_of), (&y, y_of), &mut notes);
        let steps = matches!(spec.data, ReportRows::Metrics(_));
        let groups = groups(spec, drawn, steps);
        let mut layers = Vec::new();
        if let Some(at) = spec.line {
            let label = words::spelled(at, x.spelling, 3);
            layers.push(layer("", color::STRONG, Shape::Rule { x: at, label }));
        }
        if matches!(y_of, RowExpr::Column(name) if name == "residual") {
            layers.push(layer("", color::GREY, Shape::Level { y: 0.0, label: String::new() }));
        }
        let places = (x_of, y_of);
        let axes = (&x, &y);
        if spec.trend == Trend::Contour {
            self.contour(spec, axes, places, &groups, &mut layers, &mut notes);
        }
        let (mut ends, mut best) = (Vec::new(), Vec::new());
        for g in &groups {
            if steps {
                layers.push(curve_of_steps(g, &mut notes));
                continue;
            }
            let found = match spec.trend {
                Trend::Law => self.law(spec, axes, places, g, &mut layers, &mut notes),
                Trend::None | Trend::Line | Trend::Parabola | Trend::Power | Trend::Contour => {
                    trend(spec, axes, g, &mut layers, &mut notes)
                }
            };
            let points = g.rows.iter().map(|d| Point {
                x: d.x,
                y: d.y,
                label: String::new(),
                run: d.run.clone(),
            });
            let shape = Shape::Points { points: points.collect(), mark: Mark::Dot };
            layers.push(layer(&g.name, g.color, shape));
            if let Some(point) = marked(spec, axes, g, found.as_ref(), &mut notes) {
                ends.push((point.x, point.y));
                best.extend(g.value.map(|v| (v, point.x)));
                let shape = Shape::Points { points: vec![point], mark: Mark::Diamond };
                layers.push(layer("", g.color, shape));
            }
        }
        // The path of minima through ordered groups shows where more compute leads.
        if ends.len() > 2 && groups.iter().all(|g| g.value.is_some()) {
            let line = Shape::Line { points: ends, stroke: Stroke::Dotted };
            layers.insert(0, layer("", color::GREY, line));
        }
        let legend_title = match &spec.color {
            Some(e) => words::title(e),
            None => String::new(),
        };
        notes.extend(self.growth(spec, (&x, x_of), &groups, &best));
        notes.dedup();
        let note = notes.join(" ");
        Ok(Chart { title: spec.title.clone(), note, x, y, legend_title, layers })
    }

    /// The rows that have a place; the others are named.
    fn drawn(
        &self,
        spec: &PlotSpec,
        rows: &[Row],
        (x, x_of): (&Axis, &RowExpr),
        (y, y_of): (&Axis, &RowExpr),
        notes: &mut Vec<String>,
    ) -> Vec<Drawn> {
        let (xs, ys) = (values(x_of, rows), values(y_of, rows));
        let mut kept = Vec::new();
        let (mut missing, mut unshown) = (Vec::new(), Vec::new());
        for (i, row) in rows.iter().enumerate() {
            let (Some(at_x), Some(at_y)) = (xs[i].number(), ys[i].number()) else {
                missing.push(name_of(row, i));
                continue;
            };
            if !(x.shows(at_x) && y.shows(at_y)) {
                unshown.push(name_of(row, i));
                continue;
            }
            let run = self.listed(row).unwrap_or_default();
            kept.push(Drawn { x: at_x, y: at_y, row: row.clone(), run });
        }
        let (a, b) = (x_of.to_string(), y_of.to_string());
        let title = &spec.title;
        if rows.is_empty() {
            let message = format!("the plot \"{title}\" has no rows");
            self.warn("W0711", message, "run what it draws first, or look at its `keep`");
        } else if kept.is_empty() && unshown.is_empty() {
            let lacks = [(x_of, &xs), (y_of, &ys)];
            let lack = lacks.iter().find(|(_, v)| v.iter().all(|c| c.number().is_none()));
            let lack = lack.map_or(&a, |(e, _)| if **e == *x_of { &a } else { &b });
            let message = format!("in the plot \"{title}\" no row has a number for `{lack}`");
            let names: Vec<&str> = rows.iter().flat_map(|r| r.keys().map(String::as_str)).collect();
            let near = did_you_mean(lack.trim_start_matches('.'), names);
            let help =
                near.map_or_else(|| super::table::has(rows), |n| format!("did you mean `.{n}`?"));
            self.warn("W0711", message, &help);
        } else if !missing.is_empty() {
            let of =
                format!("{} of {} rows have no value and are left out", missing.len(), rows.len());
            notes.push(format!("{of}: {}.", some(&missing)));
        }
        if !unshown.is_empty() {
            let which = some(&unshown);
            notes.push(format!(
                "Left out, because NaN or not above 0 on a logarithmic axis: {which}."
            ));
            let message = format!(
                "the plot \"{title}\" cannot show {} of {} rows, {which}: `{a}` or `{b}` is NaN, infinite, or not above 0 on a logarithmic axis",
                unshown.len(),
                rows.len()
            );
            self.warn(
                "W0710",
                message,
                "leave them out with `data = .. |> keep(..)`, or draw the axis without `log`",
            );
        }
        kept
    }
}

/// A layer.
pub(super) fn layer(name: &str, color: Color, shape: Shape) -> Layer {
    Layer { name: name.to_owned(), color, shape }
}

/// Rows by the value of `color`: numbers from the least to the greatest, texts as they turn up.
fn groups(spec: &PlotSpec, drawn: Vec<Drawn>, steps: bool) -> Vec<Group> {
    let rows: Vec<Row> = drawn.iter().map(|d| d.row.clone()).collect();
    // Curves of steps without `color` are one for each run.
    let own = RowExpr::column("name");
    let by = spec.color.as_ref().or(if steps { Some(&own) } else { None });
    let Some(by) = by else {
        if drawn.is_empty() {
            return Vec::new();
        }
        return vec![Group { name: String::new(), value: None, color: color::MAIN, rows: drawn }];
    };
    let spelling = words::spelling(by);
    let mut found: Vec<(Cell, Vec<Drawn>)> = Vec::new();
    for (cell, d) in values(by, &rows).into_iter().zip(drawn) {
        match found.iter_mut().find(|(c, _)| same(c, &cell)) {
            Some((_, rows)) => rows.push(d),
            None => found.push((cell, vec![d])),
        }
    }
    let numbers = found.iter().all(|(c, _)| matches!(c, Cell::Number(x) if x.is_finite()));
    let number = |c: &Cell| c.number().unwrap_or(0.0);
    if numbers {
        found.sort_by(|a, b| number(&a.0).total_cmp(&number(&b.0)));
    }
    let last = found.len().saturating_sub(1).max(1) as f64;
    let name = |cell: &Cell| match cell {
        Cell::Null => "none".to_owned(),
        Cell::Bool(b) => b.to_string(),
        Cell::Number(x) => words::spelled(*x, spelling, 3),
        Cell::Text(t) => t.clone(),
    };
    found
        .into_iter()
        .enumerate()
        .map(|(i, (cell, rows))| Group {
            name: name(&cell),
            value: if numbers { cell.number() } else { None },
            color: if numbers { color::amount(i as f64 / last) } else { color::kind(i) },
            rows,
        })
        .collect()
}

/// Budgets that runs met to a hair are one.
fn same(a: &Cell, b: &Cell) -> bool {
    match (a, b) {
        (Cell::Number(a), Cell::Number(b)) => (a - b).abs() <= 1e-9 * a.abs().max(b.abs()),
        (a, b) => a == b,
    }
}

/// Least and greatest place.
fn reach(g: &Group) -> Option<(f64, f64)> {
    let xs = g.rows.iter().map(|d| d.x);
    let (low, high) = xs.fold((f64::INFINITY, f64::NEG_INFINITY), |e, x| (e.0.min(x), e.1.max(x)));
    (low <= high).then_some((low, high))
}

fn trend(
    spec: &PlotSpec,
    (x, y): (&Axis, &Axis),
    g: &Group,
    layers: &mut Vec<Layer>,
    notes: &mut Vec<String>,
) -> Option<Curve> {
    let (low, high) = reach(g)?;
    let points: Vec<(f64, f64)> = g.rows.iter().map(|d| (d.x, d.y)).collect();
    let curve = match spec.trend {
        Trend::None | Trend::Contour if spec.extend_to.is_none() => return None,
        Trend::None | Trend::Line => curve::line(&points, x.scale, y.scale),
        Trend::Parabola => curve::parabola(&points, x.scale, y.scale),
        Trend::Power => curve::power(&points),
        Trend::Law | Trend::Contour => return None,
    };
    let Some(curve) = curve else {
        let what = if g.name.is_empty() { String::new() } else { format!(" of {}", g.name) };
        notes.push(format!("Too few places{what} for a curve."));
        return None;
    };
    let solid = Shape::Line { points: curve.places(low, high, PLACES), stroke: Stroke::Solid };
    layers.push(layer(&g.name, g.color, solid));
    let straight_in_logs = x.scale == ScaleKind::Log && y.scale == ScaleKind::Log;
    if spec.trend == Trend::Power || (spec.trend != Trend::Parabola && straight_in_logs) {
        let exponent = format!("{:.3}", curve.slope()).replace('-', "\u{2212}");
        let of =
            if g.name.is_empty() { "The line".to_owned() } else { format!("{}: the line", g.name) };
        notes.push(format!("{of} has the exponent {exponent}."));
    }
    if let Some(end) = spec.extend_to.filter(|e| x.shows(*e) && (*e < low || *e > high)) {
        let from = if end > high { high } else { low };
        let dashed =
            Shape::Line { points: curve.places(from, end, PLACES), stroke: Stroke::Dashed };
        layers.push(layer("beyond the runs", g.color, dashed));
        let label = words::spelled(curve.at(end), y.spelling, 3);
        let star = Point { x: end, y: curve.at(end), label, run: String::new() };
        let star = Shape::Points { points: vec![star], mark: Mark::Star };
        layers.push(layer("", color::STRONG, star));
    }
    Some(curve)
}

/// The place of a group that is marked, with its abscissa as label.
fn marked(
    spec: &PlotSpec,
    (x, _): (&Axis, &Axis),
    g: &Group,
    curve: Option<&Curve>,
    notes: &mut Vec<String>,
) -> Option<Point> {
    let least = match spec.mark {
        MarkRule::None => return None,
        MarkRule::Minimum => true,
        MarkRule::Maximum => false,
        MarkRule::Last => {
            let last = g.rows.iter().max_by(|a, b| a.x.total_cmp(&b.x))?;
            return Some(Point {
                x: last.x,
                y: last.y,
                label: String::new(),
                run: last.run.clone(),
            });
        }
    };
    let label = |at: f64| {
        words::spelled(
            at,
            if x.spelling == Spelling::Power { Spelling::Power } else { Spelling::Count },
            3,
        )
    };
    if let Some(curve) = curve.filter(|_| spec.trend == Trend::Parabola) {
        let (low, high) = reach(g)?;
        let of = if g.name.is_empty() { "the rows".to_owned() } else { g.name.clone() };
        let Some((at, y)) = curve.extreme(least) else {
            notes.push(format!("The parabola of {of} opens the other way."));
            return None;
        };
        if at < low || at > high {
            notes.push(format!("The end of the parabola of {of} lies outside its runs."));
            return None;
        }
        return Some(Point { x: at, y, label: label(at), run: String::new() });
    }
    let order = |a: &&Drawn, b: &&Drawn| a.y.total_cmp(&b.y);
    let found = if least { g.rows.iter().min_by(order) } else { g.rows.iter().max_by(order) }?;
    Some(Point { x: found.x, y: found.y, label: label(found.x), run: found.run.clone() })
}

/// One line through the steps of a run.
fn curve_of_steps(g: &Group, notes: &mut Vec<String>) -> Layer {
    let mut places: Vec<(f64, f64)> = g.rows.iter().map(|d| (d.x, d.y)).collect();
    places.sort_by(|a, b| a.0.total_cmp(&b.0));
    let stretch = places.len().div_ceil(STEPS).max(1);
    if stretch > 1 {
        let note = format!("Each place is the mean of {stretch} rows.");
        if !notes.contains(&note) {
            notes.push(note);
        }
        let mean = |part: &[(f64, f64)]| {
            let n = part.len() as f64;
            let sum = part.iter().fold((0.0, 0.0), |s, p| (s.0 + p.0, s.1 + p.1));
            (sum.0 / n, sum.1 / n)
        };
        places = places.chunks(stretch).map(mean).collect();
    }
    layer(&g.name, g.color, Shape::Line { points: places, stroke: Stroke::Thin })
}
