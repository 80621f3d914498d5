//! Text in, batches of token ids out.
//!
//! In the order in which data flows: [`documents`] reads files (or [`stories`] writes them), [`holdout`] parts them into
//! training and held-out text, a [`Tokenizer`] learned from the first turns text into ids, [`shards`] keeps the ids in
//! a content-addressed cache, [`batches`] cuts them into rows. Every step is a function of its inputs and its seed: the
//! same program gives the same bytes, on any number of threads. What can go wrong has a code, see [`DataError`].

pub mod batches;
pub mod bpe;
pub mod documents;
mod error;
mod glob;
mod hash;
pub mod holdout;
mod order;
mod random;
pub mod shards;
pub mod stories;
pub mod tokenizer;
mod whole;
#[cfg(test)]
mod witness;

pub use batches::{Batch, Batches, Counts, PackOptions, Sampling, Windows};
pub use bpe::{Bpe, TieRule, TrainOptions};
pub use documents::{Document, Documents};
pub use error::{CODES, DataError, NotText, help_to_read, help_to_write};
pub use holdout::{Holdout, Split};
pub use shards::TokenShard;
pub use tokenizer::{Decoder, Tokenizer};
