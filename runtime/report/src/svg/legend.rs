//! What colours and marks mean, in a column right of the framed part.

use super::mark::mark_shape;
use super::{Drawing, LABEL, SMALL, n, wrapped};
use crate::chart::{Chart, Layer, Shape, Stroke};
use crate::color::{GREY, INK};
use crate::text::width;

/// From one entry to the next.
const ENTRY: f64 = 19.0;
/// More entries than this are left out with a count.
const MOST_ENTRIES: usize = 18;
/// Its heading is broken into lines of this width.
const HEADING: f64 = 150.0;

impl Drawing<'_> {
    pub(super) fn legend(&mut self) {
        let entries = entries(self.chart);
        if entries.is_empty() {
            return;
        }
        let left = self.right + 20.0;
        let mut y = self.top + 4.0;
        if !self.chart.legend_title.is_empty() {
            for line in wrapped(&self.chart.legend_title, HEADING) {
                self.text(left, y, &line, "start", SMALL, GREY, "");
                y += 15.0;
            }
            y += 4.0;
        }
        let more = entries.len().saturating_sub(MOST_ENTRIES);
        for (name, layers) in entries.into_iter().take(MOST_ENTRIES) {
            let mid = y - 4.0;
            for l in &layers {
                self.swatch(l, left, mid);
            }
            self.text(left + 28.0, y, &clipped(name), "start", LABEL, INK, "");
            y += ENTRY;
        }
        if more > 0 {
            self.text(left + 28.0, y, &format!("and {more} more"), "start", LABEL, GREY, "");
        }
    }

    fn swatch(&mut self, l: &Layer, left: f64, y: f64) {
        let color = l.color.hex();
        let (a, b) = (n(left), n(left + 20.0));
        let line = |look: &str| {
            format!(
                "<line x1=\"{a}\" x2=\"{b}\" y1=\"{0}\" y2=\"{0}\" stroke=\"{color}\" {look}/>",
                n(y)
            )
        };
        let drawn = match &l.shape {
            Shape::Points { mark, .. } => mark_shape(*mark, left + 10.0, y, l.color, ""),
            Shape::Line { stroke: Stroke::Solid, .. }
            | Shape::Contour { .. }
            | Shape::Level { .. } => line("stroke-width=\"2\""),
            Shape::Line { stroke: Stroke::Thin, .. } => line("stroke-width=\"2\""),
            Shape::Line { stroke: Stroke::Dashed, .. } | Shape::Rule { .. } => {
                line("stroke-width=\"2\" stroke-dasharray=\"6 4\"")
            }
            Shape::Line { stroke: Stroke::Dotted, .. } => {
                line("stroke-width=\"1.5\" stroke-dasharray=\"1.5 4\" stroke-linecap=\"round\"")
            }
            Shape::Band { .. } => format!(
                "<rect x=\"{a}\" y=\"{}\" width=\"20\" height=\"12\" fill=\"{color}\" fill-opacity=\"0.16\"/>",
                n(y - 6.0)
            ),
        };
        self.put(format_args!("{drawn}\n"));
    }
}

/// Entries of the legend in the order of their first layer.
fn entries(chart: &Chart) -> Vec<(&str, Vec<&Layer>)> {
    let mut found: Vec<(&str, Vec<&Layer>)> = Vec::new();
    for l in chart.layers.iter().filter(|l| !l.name.is_empty()) {
        match found.iter_mut().find(|(name, _)| *name == l.name) {
            Some((_, layers)) => layers.push(l),
            None => found.push((&l.name, vec![l])),
        }
    }
    found
}

/// How much room the legend needs; 0 without entries.
pub(super) fn legend_width(chart: &Chart) -> f64 {
    let names =
        entries(chart).into_iter().map(|(name, _)| width(&clipped(name), LABEL, false) + 28.0);
    let widest = names.fold(0.0, f64::max);
    if widest == 0.0 {
        return 0.0;
    }
    let title = wrapped(&chart.legend_title, HEADING)
        .iter()
        .map(|l| width(l, SMALL, false))
        .fold(0.0, f64::max);
    widest.max(title)
}

/// At most 24 characters of a name.
fn clipped(name: &str) -> String {
    match name.char_indices().nth(24) {
        Some((at, _)) => format!("{}…", name[..at].trim_end()),
        None => name.to_owned(),
    }
}
