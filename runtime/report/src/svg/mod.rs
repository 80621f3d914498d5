//! A chart as SVG text: the same chart, the same bytes.
//!
//! The picture is laid out with the widths of the built-in typeface and stays readable with another one: every text is anchored at the side that must not
//! move. The title of the vertical axis stands above it and is read without turning the head. Colours, sizes and distances are the tables at the top.

mod legend;
mod mark;

use std::fmt::Write as _;

use self::legend::legend_width;
use self::mark::mark_shape;
use crate::chart::{Chart, Layer, Point, Shape, Stroke};
use crate::color::{Color, FAINT, GREY, INK};
use crate::contour;
use crate::number;
use crate::scale::Scale;
use crate::text::{escape, slug, width};

/// Width of a picture.
pub const WIDTH: f64 = 760.0;
/// Height of the framed part.
const PLOT: f64 = 380.0;
/// Around everything.
const EDGE: f64 = 16.0;
/// Sizes of text.
const TITLE: f64 = 16.0;
const LABEL: f64 = 12.0;
const SMALL: f64 = 11.0;
/// Families in the order of preference.
const FAMILIES: &str = "Inter, 'Helvetica Neue', Arial, sans-serif";

/// Whether runs are links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// A picture on its own.
    None,
    /// To the anchors `run-..` of the page that the picture is in.
    Anchors,
}

/// Draws a chart. `id` is a prefix for names inside the picture, unique in the page that it will be in.
pub fn svg(chart: &Chart, id: &str, links: Links) -> String {
    Drawing::new(chart, id, links).draw()
}

/// A rectangle that is taken by text.
#[derive(Clone, Copy)]
struct Taken {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

struct Drawing<'a> {
    chart: &'a Chart,
    id: String,
    links: Links,
    out: String,
    x: Scale,
    y: Scale,
    /// The framed part.
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    taken: Vec<Taken>,
}

impl<'a> Drawing<'a> {
    fn new(chart: &'a Chart, id: &str, links: Links) -> Self {
        let contour = chart.layers.iter().any(|l| matches!(l.shape, Shape::Contour { .. }));
        // A surface fills its frame; marks keep off the sides.
        let room = if contour { 0.0 } else { 0.06 };
        let x = Scale::around(chart.x.scale, chart.values(true).into_iter(), room);
        let y = Scale::around(chart.y.scale, chart.values(false).into_iter(), room);
        let labels = y.ticks(7, chart.y.spelling);
        let widest = labels.iter().filter_map(|t| t.label.as_ref()).map(|l| width(l, LABEL, false));
        let left = EDGE + widest.fold(18.0, f64::max) + 10.0;
        let legend = legend_width(chart);
        let right = WIDTH - EDGE - if legend > 0.0 { legend + 20.0 } else { 6.0 };
        let head =
            if chart.title.is_empty() { 0.0 } else { 26.0 } + 18.0 * notes(chart).len() as f64;
        let top = EDGE + head + if chart.y.title.is_empty() { 6.0 } else { 30.0 };
        let bottom = top + PLOT;
        let (id, out, taken) = (slug(id), String::new(), Vec::new());
        Self { chart, id, links, out, x, y, left, right, top, bottom, taken }
    }

    fn draw(mut self) -> String {
        let chart = self.chart;
        let height =
            self.bottom + 22.0 + if self.chart.x.title.is_empty() { 0.0 } else { 22.0 } + EDGE;
        let (w, h) = (n(WIDTH), n(height));
        let name = escape(&self.chart.title);
        self.put(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" \
             aria-label=\"{name}\" font-family=\"{FAMILIES}\" font-size=\"{LABEL}\" fill=\"{}\">\n",
            INK.hex()
        ));
        self.put(format_args!("<rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>\n"));
        self.head();
        let empty = chart.values(true).is_empty() || chart.values(false).is_empty();
        if empty {
            self.frame();
        } else {
            self.grid();
        }
        let clip = format!("{}-clip", self.id);
        self.put(format_args!(
            "<clipPath id=\"{clip}\"><rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/></clipPath>\n",
            n(self.left),
            n(self.top - 1.0),
            n(self.right - self.left + 1.0),
            n(self.bottom - self.top + 2.0)
        ));
        self.put(format_args!("<g clip-path=\"url(#{clip})\">\n"));
        chart.layers.iter().for_each(|l| self.areas_and_lines(l));
        self.put(format_args!("</g>\n"));
        chart.layers.iter().for_each(|l| self.marks(l));
        chart.layers.iter().for_each(|l| self.labels(l));
        if empty {
            let (x, y) = ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0);
            self.text(x, y, "no rows to draw", "middle", LABEL, GREY, "");
        }
        self.legend();
        self.put(format_args!("</svg>\n"));
        self.out
    }

    fn head(&mut self) {
        let mut y = EDGE + 13.0;
        let chart = self.chart;
        if !chart.title.is_empty() {
            let size = fitting(&chart.title, TITLE, WIDTH - 2.0 * EDGE);
            self.text(EDGE, y, &chart.title, "start", size, INK, " font-weight=\"600\"");
            y += 22.0;
        }
        for line in notes(chart) {
            self.text(EDGE, y - 2.0, &line, "start", LABEL, GREY, "");
            y += 18.0;
        }
        if !chart.y.title.is_empty() {
            self.text(EDGE, self.top - 14.0, &chart.y.title, "start", LABEL, GREY, "");
        }
        if !chart.x.title.is_empty() {
            let x = self.right;
            self.text(x, self.bottom + 40.0, &chart.x.title, "end", LABEL, GREY, "");
        }
    }

    fn grid(&mut self) {
        let (left, right, top, bottom) = (self.left, self.right, self.top, self.bottom);
        let faint = FAINT.hex();
        for t in self.y.ticks(7, self.chart.y.spelling) {
            let y = self.at_y(t.value);
            let Some(label) = t.label else { continue };
            self.put(format_args!(
                "<line x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\" stroke=\"{faint}\"/>\n",
                n(left),
                n(right),
                n(y),
                n(y)
            ));
            self.text(left - 8.0, y + 4.0, &label, "end", LABEL, GREY, "");
        }
        let wanted = ((right - left) / 75.0) as usize;
        for t in self.x.ticks(wanted, self.chart.x.spelling) {
            let x = self.at_x(t.value);
            if t.label.is_some() {
                self.put(format_args!(
                    "<line x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\" stroke=\"{faint}\"/>\n",
                    n(x),
                    n(x),
                    n(top),
                    n(bottom)
                ));
            }
            let length = if t.label.is_some() { 5.0 } else { 3.0 };
            self.put(format_args!(
                "<line x1=\"{}\" x2=\"{}\" y1=\"{}\" y2=\"{}\" stroke=\"{}\"/>\n",
                n(x),
                n(x),
                n(bottom),
                n(bottom + length),
                GREY.hex()
            ));
            if let Some(label) = t.label {
                self.text(x, bottom + 19.0, &label, "middle", LABEL, GREY, "");
            }
        }
        self.frame();
    }

    /// The line under the marks.
    fn frame(&mut self) {
        let (left, right, y) = (n(self.left), n(self.right), n(self.bottom));
        let color = GREY.hex();
        self.put(format_args!(
            "<line x1=\"{left}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{color}\"/>\n"
        ));
    }

    fn areas_and_lines(&mut self, l: &Layer) {
        let chart = self.chart;
        let color = l.color.hex();
        match &l.shape {
            Shape::Band { points } => {
                let fits = |p: &&(f64, f64, f64)| {
                    self.chart.x.shows(p.0) && self.chart.y.shows(p.1) && self.chart.y.shows(p.2)
                };
                let kept: Vec<_> = points.iter().filter(fits).collect();
                let upper = kept.iter().map(|p| (self.at_x(p.0), self.at_y(p.2)));
                let lower = kept.iter().rev().map(|p| (self.at_x(p.0), self.at_y(p.1)));
                let d = path(upper.chain(lower));
                if !d.is_empty() {
                    self.put(format_args!(
                        "<path d=\"{d}Z\" fill=\"{color}\" fill-opacity=\"0.16\"/>\n"
                    ));
                }
            }
            Shape::Line { points, stroke } => {
                let look = match stroke {
                    Stroke::Solid => "stroke-width=\"2\"",
                    Stroke::Dashed => "stroke-width=\"2\" stroke-dasharray=\"7 5\"",
                    Stroke::Dotted => {
                        "stroke-width=\"1.5\" stroke-dasharray=\"1.5 4\" stroke-linecap=\"round\""
                    }
                    Stroke::Thin => "stroke-width=\"1.25\"",
                };
                // A place that cannot be shown is a gap, not a bridge.
                for piece in points.split(|p| !shows(chart, p.0, p.1)) {
                    let d = path(piece.iter().map(|p| (self.at_x(p.0), self.at_y(p.1))));
                    if !d.is_empty() {
                        self.put(format_args!(
                            "<path d=\"{d}\" fill=\"none\" stroke=\"{color}\" stroke-linejoin=\"round\" {look}/>\n"
                        ));
                    }
                }
            }
            Shape::Contour { values, columns, x, y, levels } => {
                self.contour(values, *columns, *x, *y, levels, l.color);
            }
            Shape::Rule { x, .. } if self.chart.x.shows(*x) => {
                let x = n(self.at_x(*x));
                let (top, bottom) = (n(self.top), n(self.bottom));
                self.put(format_args!(
                    "<line x1=\"{x}\" x2=\"{x}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"{color}\" stroke-width=\"1.5\" stroke-dasharray=\"4 4\"/>\n"
                ));
            }
            Shape::Level { y, .. } if self.chart.y.shows(*y) => {
                let y = n(self.at_y(*y));
                let (left, right) = (n(self.left), n(self.right));
                self.put(format_args!(
                    "<line x1=\"{left}\" x2=\"{right}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{color}\" stroke-width=\"1.5\"/>\n"
                ));
            }
            Shape::Points { .. } | Shape::Rule { .. } | Shape::Level { .. } => {}
        }
    }

    fn contour(
        &mut self,
        values: &[f64],
        columns: usize,
        x: (f64, f64),
        y: (f64, f64),
        levels: &[f64],
        color: Color,
    ) {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        if columns < 2 || rows < 2 || !shows(self.chart, x.0, y.0) || !shows(self.chart, x.1, y.1) {
            return;
        }
        let (left, right) = (self.at_x(x.0), self.at_x(x.1));
        let (low, high) = (self.at_y(y.0), self.at_y(y.1));
        let mut found = Vec::new();
        for level in levels {
            let mut longest: Vec<(f64, f64)> = Vec::new();
            for line in contour::lines(values, columns, *level) {
                let at: Vec<(f64, f64)> = line
                    .iter()
                    .map(|(c, r)| {
                        let (c, r) = (c / (columns - 1) as f64, r / (rows - 1) as f64);
                        (left + (right - left) * c, low + (high - low) * r)
                    })
                    .collect();
                let d = path(at.iter().copied());
                let color = color.hex();
                self.put(format_args!("<path d=\"{d}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.25\" stroke-opacity=\"0.75\"/>\n"));
                if at.len() > longest.len() {
                    longest = at;
                }
            }
            found.push((*level, longest));
        }
        for (level, line) in found {
            // Labels lie on a diagonal, so that neighbours do not meet.
            let diagonal = |p: &&(f64, f64)| {
                let (u, v) = ((p.0 - left) / (right - left), (p.1 - low) / (high - low));
                (u - v).abs()
            };
            let Some(p) = line.iter().min_by(|a, b| diagonal(a).total_cmp(&diagonal(b))) else {
                continue;
            };
            let text = number::short(level, 3);
            let half = width(&text, SMALL, false) / 2.0;
            let inside = p.0 > self.left + half + 4.0
                && p.0 < self.right - half - 4.0
                && p.1 > self.top + 8.0
                && p.1 < self.bottom - 8.0;
            let spot =
                Taken { left: p.0 - half, right: p.0 + half, top: p.1 - 7.0, bottom: p.1 + 7.0 };
            if inside && self.free(spot) {
                self.taken.push(spot);
                self.text(p.0, p.1 + 4.0, &text, "middle", SMALL, color, HALO);
            }
        }
    }

    fn marks(&mut self, l: &Layer) {
        let Shape::Points { points, mark } = &l.shape else { return };
        let chart = self.chart;
        for p in points.iter().filter(|p| shows(chart, p.x, p.y)) {
            let (x, y) = (self.at_x(p.x), self.at_y(p.y));
            let text = self.hover(p);
            let linked = self.links == Links::Anchors && !p.run.is_empty();
            if linked {
                let target = slug(&p.run);
                self.put(format_args!("<a href=\"#run-{target}\">"));
            }
            let shape = mark_shape(*mark, x, y, l.color, &text);
            self.out.push_str(&shape);
            self.out.push_str(if linked { "</a>\n" } else { "\n" });
            let r = 5.0;
            self.taken.push(Taken { left: x - r, right: x + r, top: y - r, bottom: y + r });
        }
    }

    /// What is told when a reader points at a mark.
    fn hover(&self, p: &Point) -> String {
        let (x, y) = (number::short(p.x, 4), number::short(p.y, 5));
        let at = format!("{}: {x}\n{}: {y}", self.chart.x.title, self.chart.y.title);
        let lines = [p.run.as_str(), p.label.as_str(), at.as_str()];
        let kept: Vec<&str> = lines.into_iter().filter(|l| !l.is_empty()).collect();
        escape(&kept.join("\n"))
    }

    fn labels(&mut self, l: &Layer) {
        let chart = self.chart;
        match &l.shape {
            Shape::Points { points, .. } => {
                for p in points.iter().filter(|p| !p.label.is_empty() && shows(chart, p.x, p.y)) {
                    self.label_beside(self.at_x(p.x), self.at_y(p.y), &p.label, l.color);
                }
            }
            Shape::Rule { x, label } if self.chart.x.shows(*x) && !label.is_empty() => {
                let x = self.at_x(*x);
                let wide = width(label, SMALL, false) + 6.0;
                let (at, anchor) =
                    if x + wide > self.right { (x - 6.0, "end") } else { (x + 6.0, "start") };
                self.text(at, self.top + 12.0, label, anchor, SMALL, l.color, HALO);
            }
            Shape::Level { y, label } if self.chart.y.shows(*y) && !label.is_empty() => {
                let y = self.at_y(*y);
                self.text(self.right - 4.0, y - 5.0, label, "end", SMALL, l.color, HALO);
            }
            Shape::Line { .. }
            | Shape::Band { .. }
            | Shape::Contour { .. }
            | Shape::Rule { .. }
            | Shape::Level { .. } => {}
        }
    }

    /// Below a mark, else above, right or left of it: where nothing is yet. If everything is taken there is no label: the mark still tells it.
    fn label_beside(&mut self, x: f64, y: f64, label: &str, color: Color) {
        let w = width(label, SMALL, true);
        let spots = [
            (x, y + 20.0, "middle", x - w / 2.0),
            (x, y - 11.0, "middle", x - w / 2.0),
            (x + 11.0, y + 4.0, "start", x + 11.0),
            (x - 11.0, y + 4.0, "end", x - 11.0 - w),
        ];
        for (at, base, anchor, from) in spots {
            let spot = Taken {
                left: from - 2.0,
                right: from + w + 2.0,
                top: base - 9.0,
                bottom: base + 3.0,
            };
            let inside = spot.left > self.left
                && spot.right < self.right
                && spot.top > self.top
                && spot.bottom < self.bottom;
            if inside && self.free(spot) {
                self.taken.push(spot);
                let look = format!("{HALO} font-weight=\"600\"");
                self.text(at, base, label, anchor, SMALL, color.for_text(), &look);
                return;
            }
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the attributes of one text")]
    fn text(
        &mut self,
        x: f64,
        y: f64,
        text: &str,
        anchor: &str,
        size: f64,
        color: Color,
        more: &str,
    ) {
        let anchor =
            if anchor == "start" { String::new() } else { format!(" text-anchor=\"{anchor}\"") };
        let size =
            if size == LABEL { String::new() } else { format!(" font-size=\"{}\"", n(size)) };
        let fill = if color == INK { String::new() } else { format!(" fill=\"{}\"", color.hex()) };
        self.put(format_args!(
            "<text x=\"{}\" y=\"{}\"{anchor}{size}{fill}{more}>{}</text>\n",
            n(x),
            n(y),
            escape(text)
        ));
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        self.out.write_fmt(text).expect("a String takes all text");
    }

    fn free(&self, spot: Taken) -> bool {
        self.taken.iter().all(|t| {
            t.right <= spot.left
                || t.left >= spot.right
                || t.bottom <= spot.top
                || t.top >= spot.bottom
        })
    }

    fn at_x(&self, x: f64) -> f64 {
        self.left + (self.right - self.left) * far(self.x.share(x))
    }

    fn at_y(&self, y: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * far(self.y.share(y))
    }
}

/// True if both axes show a place.
fn shows(chart: &Chart, x: f64, y: f64) -> bool {
    chart.x.shows(x) && chart.y.shows(y)
}

/// Text over lines has a white rim.
const HALO: &str =
    " stroke=\"#ffffff\" stroke-width=\"3.5\" stroke-linejoin=\"round\" paint-order=\"stroke\"";

/// Curves may leave the picture, but not so far that numbers stop being readable.
fn far(share: f64) -> f64 {
    share.clamp(-20.0, 20.0)
}

/// A coordinate with two decimals at most.
fn n(x: f64) -> String {
    let text = format!("{x:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

fn path(points: impl Iterator<Item = (f64, f64)>) -> String {
    let mut d = String::new();
    let mut last = String::new();
    for (x, y) in points {
        let at = format!("{} {}", n(x), n(y));
        if at != last {
            d.push_str(if d.is_empty() { "M" } else { "L" });
            d.push_str(&at);
            last = at;
        }
    }
    // One place is no line.
    if d.contains('L') { d } else { String::new() }
}

fn notes(chart: &Chart) -> Vec<String> {
    wrapped(&chart.note, WIDTH - 2.0 * EDGE)
}

/// Lines of words no wider than `most`.
fn wrapped(text: &str, most: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(&format!("{line} {word}"), LABEL, false) <= most => {
                line.push(' ');
                line.push_str(word);
            }
            Some(_) | None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The size at which a title fits, not below two thirds.
fn fitting(text: &str, size: f64, most: f64) -> f64 {
    let w = width(text, size, true);
    if w <= most { size } else { (size * most / w).max(size * 0.66) }
}
