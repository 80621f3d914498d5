//! Experiments: training, evaluation, sampling, checkpoints, runs.
//!
//! In reading order: [`experiment`] finds out what a program's nodes need and runs what is missing, [`standing`] only says what that is;
//! [`sweep`] runs the points of a sweep side by side (`rungs` and `rounds` say which, how far and when), [`job`] is one run made ready; [`data`] brings text to batches; [`train`] is one run; [`eval`] and [`sample`] measure a model and let it write; [`checkpoint`], [`rundir`], [`key`] and [`facts`] are what stays on
//! disk; [`machine`] is the device as the trainer sees it, [`profile`] times it; [`progress`] is what a person sees meanwhile. The clock and the environment are
//! behind [`host::Host`].

pub mod apply;
pub mod arrays;
pub mod checkpoint;
pub mod data;
mod error;
pub mod eval;
pub mod experiment;
pub mod facts;
mod files;
pub mod fits;
pub mod host;
pub mod initial;
pub mod job;
pub mod key;
pub mod ledger;
pub mod machine;
mod outside;
pub mod profile;
pub mod progress;
pub mod report;
mod rounds;
pub mod rundir;
mod rungs;
pub mod sample;
pub mod standing;
pub mod sweep;
pub mod train;

pub use error::{CODES, Exit, LabError};
pub use files::write_json;
pub use host::{FakeHost, Host, cache_folder};
