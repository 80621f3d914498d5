//! How a sweep finds its best point without running everything to the end.
//!
//! Pure functions from what is known to what is done next; the checker gives them the program's settings, the laboratory the results.

mod halving;

pub use halving::{Halving, Stretch, survivors};
