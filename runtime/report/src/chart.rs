//! A chart as a value: axes and layers in the order in which they are painted.
//!
//! A chart says what is to be seen, in the units of the data; [`svg`](crate::svg()) decides where. Laws that every drawn chart keeps: all coordinates are finite, and
//! above 0 where their axis is logarithmic. [`Chart::problems`] finds the places that break them, by layer and point, so that whoever made the
//! chart can say which run it was; the drawing passes such points over.

use serde::{Deserialize, Serialize};

use crate::color::Color;
use crate::scale::{ScaleKind, Spelling};

/// A picture with two axes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// What it shows; also its accessible name.
    pub title: String,
    /// A line under the title: what was left out, how curves were made. May be empty.
    pub note: String,
    /// Left to right.
    pub x: Axis,
    /// Bottom to top.
    pub y: Axis,
    /// What the colours mean; empty: no heading over the legend.
    pub legend_title: String,
    /// Bottom to top.
    pub layers: Vec<Layer>,
}

/// One axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Axis {
    /// What is measured, with its unit.
    pub title: String,
    /// Linear or logarithmic.
    pub scale: ScaleKind,
    /// How its numbers are spelled.
    pub spelling: Spelling,
    /// Values that must be on it whether or not data are there.
    pub include: Vec<f64>,
}

/// Things of one colour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layer {
    /// Its entry in the legend; layers of one name share an entry. Empty: none.
    pub name: String,
    /// Its colour.
    pub color: Color,
    /// What is drawn.
    pub shape: Shape,
}

/// What a layer draws.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Runs.
    Points {
        /// Where, and whose.
        points: Vec<Point>,
        /// Which mark.
        mark: Mark,
    },
    /// A curve through places, from the first to the last.
    Line {
        /// Its places.
        points: Vec<(f64, f64)>,
        /// Its look.
        stroke: Stroke,
    },
    /// An interval around a curve.
    Band {
        /// `x`, low and high end.
        points: Vec<(f64, f64, f64)>,
    },
    /// A vertical line.
    Rule {
        /// Where.
        x: f64,
        /// Beside its upper end.
        label: String,
    },
    /// A horizontal line.
    Level {
        /// Where.
        y: f64,
        /// Beside its right end.
        label: String,
    },
    /// Lines of equal value of a surface over both axes.
    Contour {
        /// Its values, row by row from the bottom: `columns * rows` of them, at equal steps along the axes as they are drawn.
        values: Vec<f64>,
        /// How many along `x`.
        columns: usize,
        /// From and to along `x`.
        x: (f64, f64),
        /// From and to along `y`.
        y: (f64, f64),
        /// Which values have a line.
        levels: Vec<f64>,
    },
}

/// A place with a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// In the units of the axis.
    pub x: f64,
    /// In the units of the axis.
    pub y: f64,
    /// Shown beside the mark; may be empty.
    pub label: String,
    /// The run that it is, as a name of the appendix; shown when a reader points at it. May be empty.
    pub run: String,
}

/// Marks of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// A run.
    Dot,
    /// A dot of another kind: a run that was left out of a fit.
    Ring,
    /// The least or greatest place of a curve.
    Diamond,
    /// A prediction.
    Star,
    /// A run at a prediction.
    Cross,
}

/// Looks of lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stroke {
    /// A trend or law.
    Solid,
    /// What lies beyond the data.
    Dashed,
    /// A guide.
    Dotted,
    /// Many measured values, such as losses of steps.
    Thin,
}

/// A place that the axes cannot show.
#[derive(Debug, Clone, PartialEq)]
pub struct Unshown {
    /// Which layer.
    pub layer: usize,
    /// The run of the point, if it has one.
    pub run: String,
    /// `x` or `y`.
    pub axis: &'static str,
    /// What stands there.
    pub value: f64,
}

impl Axis {
    /// A linear axis that spells counts.
    pub fn linear(title: &str) -> Self {
        let (scale, spelling) = (ScaleKind::Linear, Spelling::Count);
        Self { title: title.to_owned(), scale, spelling, include: Vec::new() }
    }

    /// A logarithmic axis.
    pub fn log(title: &str, spelling: Spelling) -> Self {
        Self { title: title.to_owned(), scale: ScaleKind::Log, spelling, include: Vec::new() }
    }

    /// True if a value has a place on the axis.
    pub fn shows(&self, x: f64) -> bool {
        x.is_finite() && (self.scale == ScaleKind::Linear || x > 0.0)
    }
}

impl Chart {
    /// Places of data that the axes cannot show, in order.
    pub fn problems(&self) -> Vec<Unshown> {
        let mut found = Vec::new();
        for (layer, l) in self.layers.iter().enumerate() {
            let mut judge = |x: f64, y: f64, run: &str| {
                for (axis, value, shown) in [("x", x, self.x.shows(x)), ("y", y, self.y.shows(y))] {
                    if !shown {
                        found.push(Unshown { layer, run: run.to_owned(), axis, value });
                    }
                }
            };
            match &l.shape {
                Shape::Points { points, .. } => {
                    points.iter().for_each(|p| judge(p.x, p.y, &p.run));
                }
                Shape::Line { points, .. } => points.iter().for_each(|p| judge(p.0, p.1, "")),
                Shape::Band { points } => points.iter().for_each(|p| {
                    judge(p.0, p.1, "");
                    judge(p.0, p.2, "");
                }),
                Shape::Rule { .. } | Shape::Level { .. } | Shape::Contour { .. } => {}
            }
        }
        found
    }

    /// The values that an axis must hold, with those that it is told to include.
    pub(crate) fn values(&self, of_x: bool) -> Vec<f64> {
        let (axis, other) = if of_x { (&self.x, &self.y) } else { (&self.y, &self.x) };
        let mut all = axis.include.clone();
        // A point that the other axis cannot show asks for no room on this one.
        let add = |all: &mut Vec<f64>, x: f64, y: f64| {
            let (here, there) = if of_x { (x, y) } else { (y, x) };
            if axis.shows(here) && other.shows(there) {
                all.push(here);
            }
        };
        for l in &self.layers {
            match &l.shape {
                Shape::Points { points, .. } => points.iter().for_each(|p| add(&mut all, p.x, p.y)),
                Shape::Line { points, .. } => points.iter().for_each(|p| add(&mut all, p.0, p.1)),
                Shape::Band { points } => points.iter().for_each(|p| {
                    add(&mut all, p.0, p.1);
                    add(&mut all, p.0, p.2);
                }),
                Shape::Contour { x, y, .. } => {
                    add(&mut all, x.0, y.0);
                    add(&mut all, x.1, y.1);
                }
                Shape::Rule { x, .. } if of_x && axis.shows(*x) => all.push(*x),
                Shape::Level { y, .. } if !of_x && axis.shows(*y) => all.push(*y),
                Shape::Rule { .. } | Shape::Level { .. } => {}
            }
        }
        all
    }
}
