//! Reports: charts, tables, HTML, Markdown.

pub mod chart;
pub mod color;
mod contour;
pub mod curve;
pub mod number;
pub mod page;
mod png;
mod scale;
mod svg;
mod text;

pub use png::png;
pub use scale::{ScaleKind, Spelling};
pub use svg::{Links, WIDTH, svg};
pub use text::{escape, slug};
