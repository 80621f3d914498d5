//! What a report says, as the checker understood it: texts with their values filled in, plots and tables over rows.
//!
//! A plot or table on its own is a report of one part. Everything that the program knows is a number or a text here; what only the runs know stands as
//! [`ReportRows`] and is asked for when the report is made. A plot keeps `log(.params)` as it was written: a logarithm around the whole expression is the axis.

use serde::{Deserialize, Serialize};

use crate::row::interp::Row;
use crate::row::{RowExpr, Rows};

/// A report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReportSpec {
    /// Its heading.
    pub title: String,
    /// In the order of the program.
    pub parts: Vec<ReportPart>,
    /// `html`, `markdown`, `svg`, `png`, `csv`, `parquet`; not empty.
    pub export: Vec<String>,
}

/// A part of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportPart {
    /// Paragraphs.
    Text(Vec<Piece>),
    /// A plot.
    Plot(Box<PlotSpec>),
    /// A table.
    Table(TableSpec),
}

/// A piece of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Piece {
    /// Words of the program.
    Text(String),
    /// A value as it is read, and the node that it comes from, if it is one node's.
    Value {
        /// With its unit.
        text: String,
        /// `final` of `{final.valid_loss}`.
        node: Option<String>,
    },
}

impl Piece {
    /// As it is read.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Value { text, .. } => text,
        }
    }
}

/// Rows of a plot or table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportRows {
    /// Runs, or a table in a file.
    Rows(Rows),
    /// One row for each step of the runs of a node.
    Metrics(String),
    /// The constants of a fit: `name`, `value`, `ci95.low`, `ci95.high`.
    Coefficients(String),
    /// The rows that a fit was made on, with `predicted` and `residual`.
    Residuals(String),
    /// Rows that the program itself says.
    Given(Vec<Row>),
}

/// A plot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlotSpec {
    /// Its heading.
    pub title: String,
    /// What is drawn.
    pub data: ReportRows,
    /// Across.
    pub x: RowExpr,
    /// Upwards.
    pub y: RowExpr,
    /// Rows with one value of it are one group.
    pub color: Option<RowExpr>,
    /// A curve through each group.
    pub trend: Trend,
    /// Which place of a group is marked.
    pub mark: MarkRule,
    /// A vertical line.
    pub line: Option<f64>,
    /// How far the horizontal axis and straight trends go on.
    pub extend_to: Option<f64>,
    /// The fit whose law is drawn.
    pub law: Option<String>,
}

/// Curves through rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    /// None; straight where the plot has `extend_to`.
    None,
    /// Straight, as the axes are drawn.
    Line,
    /// A parabola in `x` as its axis is drawn.
    Parabola,
    /// `y = a x^b`.
    Power,
    /// What the law of a fit says for the rows of the group; over a budget, its optimum with an interval.
    Law,
    /// Lines of equal loss of a law over both axes.
    Contour,
}

/// Which place is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MarkRule {
    /// None.
    None,
    /// The lowest of the curve, or of the rows where there is no curve.
    Minimum,
    /// The highest.
    Maximum,
    /// The row furthest to the right.
    Last,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableSpec {
    /// Its heading.
    pub title: String,
    /// What is listed.
    pub rows: ReportRows,
    /// What is shown of each; empty: everything.
    pub columns: Vec<RowExpr>,
}

impl Trend {
    /// By its word in a program.
    pub fn named(word: &str) -> Option<Self> {
        let table = [
            ("none", Self::None),
            ("line", Self::Line),
            ("parabola", Self::Parabola),
            ("power", Self::Power),
            ("law", Self::Law),
            ("contour", Self::Contour),
        ];
        table.into_iter().find(|(w, _)| *w == word).map(|(_, t)| t)
    }

    /// True if it draws the law of a fit.
    pub fn needs_law(self) -> bool {
        match self {
            Self::Law | Self::Contour => true,
            Self::None | Self::Line | Self::Parabola | Self::Power => false,
        }
    }
}

impl MarkRule {
    /// By its word in a program.
    pub fn named(word: &str) -> Option<Self> {
        let table = [
            ("none", Self::None),
            ("minimum", Self::Minimum),
            ("maximum", Self::Maximum),
            ("last", Self::Last),
        ];
        table.into_iter().find(|(w, _)| *w == word).map(|(_, t)| t)
    }
}

impl ReportRows {
    /// The nodes that must have run before.
    pub fn nodes(&self) -> Vec<String> {
        match self {
            Self::Rows(rows) => rows.nodes().map(str::to_owned).collect(),
            Self::Metrics(node) | Self::Coefficients(node) | Self::Residuals(node) => {
                vec![node.clone()]
            }
            Self::Given(_) => Vec::new(),
        }
    }
}

impl ReportSpec {
    /// The nodes that must have run before, each once.
    pub fn nodes(&self) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut add = |names: Vec<String>| {
            for name in names {
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        };
        for part in &self.parts {
            match part {
                ReportPart::Text(pieces) => pieces.iter().for_each(|p| match p {
                    Piece::Value { node: Some(node), .. } => add(vec![node.clone()]),
                    Piece::Value { node: None, .. } | Piece::Text(_) => {}
                }),
                ReportPart::Plot(plot) => {
                    add(plot.data.nodes());
                    add(plot.law.iter().cloned().collect());
                }
                ReportPart::Table(table) => add(table.rows.nodes()),
            }
        }
        found
    }
}
