//! Reports: charts, tables, HTML, Markdown.
//!
//! In reading order: [`page`] is a report as a value and [`chart`] a chart; [`svg()`], [`html()`] and [`markdown()`] write them, [`png()`] draws pixels, and
//! [`files()`] gives all files of a report. [`curve`] finds trends, [`number`] spells numbers, [`color`] chooses colours. [`make`](mod@make) makes a report from what a program says and
//! what its runs gave. Nothing here reads or writes a file, and the
//! same report is the same bytes.

pub mod chart;
pub mod color;
mod contour;
pub mod curve;
mod files;
mod html;
pub mod make;
mod markdown;
pub mod number;
pub mod page;
mod png;
mod scale;
mod svg;
mod text;

pub use files::{Form, csv, files, flat, tables};
pub use html::html;
pub use markdown::markdown;
pub use png::png;
pub use scale::{ScaleKind, Spelling};
pub use svg::{Links, WIDTH, svg};
pub use text::{escape, slug};
