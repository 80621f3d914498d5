//! How a sweep finds its best point without running everything to the end.
//!
//! Pure functions from what is known to what is done next; the checker gives them the program's settings, the laboratory the results.

mod halving;
mod tpe;

pub use halving::{Halving, Stretch, survivors};
pub use tpe::{Coordinate, Draw, Known, Trial};
