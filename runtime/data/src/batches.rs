//! Rows of tokens: for training in a seeded order, for evaluation one after the other.
//!
//! A row is a window of `seq + 1` tokens of the shard: `ids` are the first `seq`, `target` the last `seq`. [`Batches::batch`] is a
//! function of the step alone, so a resumed run sees what an undisturbed one would have seen. In an epoch every window occurs
//! once, in a permuted order; the windows of an epoch start at a phase of their own, so that no token keeps its place
//! in a row. The tokens before the phase and behind the last window, at most two windows' worth, wait for an epoch of
//! another phase. [`Windows`] cuts the whole shard into windows in order and predicts every token but the first exactly once.
//!
//! A row may hold several documents. `doc` numbers them, so that a model may keep them apart, and `doc_pos` counts from
//! the start of the document or of the row, whichever is later.

use std::ops::Range;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::order::Permutation;
use crate::random::Stream;
use crate::shards::TokenShard;

/// How rows are found for training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sampling {
    /// Every window once an epoch, in a permuted order.
    #[default]
    Epochs,
    /// Every row starts at any token, drawn anew, as nanoGPT does.
    Random,
}

impl Sampling {
    /// The way by its name in a program.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "sequential" => Some(Self::Epochs),
            "random" => Some(Self::Random),
            _ => None,
        }
    }
}

/// How a shard becomes training batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackOptions {
    /// Tokens in a row.
    pub seq: usize,
    /// Rows in a batch of one step, over all micro-batches.
    pub rows: usize,
    /// Another seed gives another order.
    pub seed: u64,
    /// See [`Sampling`].
    pub sampling: Sampling,
}

/// Rows of a step: each column is `rows` times `seq` values, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Tokens in a row.
    pub seq: usize,
    /// The tokens that are read.
    pub ids: Vec<i32>,
    /// The token that follows each.
    pub target: Vec<i32>,
    /// 1 where the target counts, 0 in padding.
    pub learn: Vec<f32>,
    /// The number of the document that the token is in.
    pub doc: Vec<i32>,
    /// The place of the token in its document, as far as the row shows it.
    pub doc_pos: Vec<i32>,
}

/// What a loss is over: its sum divided by `bytes` is in nats per byte of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Targets that count.
    pub tokens: u64,
    /// Bytes of the text.
    pub bytes: u64,
    /// Documents.
    pub documents: u64,
}

/// The training batches of a shard.
#[derive(Debug, Clone)]
pub struct Batches {
    shard: Arc<TokenShard>,
    options: PackOptions,
    order: Stream,
    phase: Stream,
    /// Windows of an epoch.
    windows: u64,
}

impl Batches {
    /// The batches of `shard`; an error if it does not hold one row.
    pub fn new(shard: Arc<TokenShard>, options: PackOptions) -> Result<Self, DataError> {
        let targets = shard.len().saturating_sub(1);
        let fit = targets.checked_div(options.seq as u64).unwrap_or(0);
        if fit == 0 {
            return Err(DataError::TooShort { tokens: shard.len(), seq: options.seq });
        }
        // One window less than fit, so that the phase has room.
        let windows = fit.saturating_sub(1).max(1);
        let order = Stream::new(options.seed, "pack order");
        let phase = Stream::new(options.seed, "pack phase");
        Ok(Self { shard, options, order, phase, windows })
    }

    /// The batch of `step`, which counts from 0.
    pub fn batch(&self, step: u64) -> Batch {
        self.part(step, 0..self.options.rows)
    }

    /// Some rows of the batch of `step`: a micro-batch, or what one rank reads.
    pub fn part(&self, step: u64, rows: Range<usize>) -> Batch {
        let mut batch = Batch::with_capacity(rows.len(), self.options.seq);
        for row in rows {
            let number = step * self.options.rows as u64 + row as u64;
            batch.push_row(&self.shard, self.start(number), self.shard.len());
        }
        batch
    }

    /// Tokens learned from in a step.
    pub fn tokens_per_step(&self) -> u64 {
        (self.options.rows * self.options.seq) as u64
    }

    /// Tokens learned from in an epoch: the smallest number of steps that shows every window is this by the tokens of a step.
    pub fn tokens_per_epoch(&self) -> u64 {
        self.windows * self.options.seq as u64
    }

    /// How this was made.
    pub fn options(&self) -> &PackOptions {
        &self.options
    }

    /// The shard.
    pub fn shard(&self) -> &Arc<TokenShard> {
        &self.shard
    }

    /// Where the row `number`, counted over all steps, starts.
    fn start(&self, number: u64) -> u64 {
        let seq = self.options.seq as u64;
        let targets = self.shard.len() - 1;
        match self.options.sampling {
            Sampling::Random => self.order.below(number, 0, targets - seq + 1),
            Sampling::Epochs => {
                let (epoch, index) = (number / self.windows, number % self.windows);
                let phase = self.phase.below(epoch, 0, targets - self.windows * seq + 1);
                phase + Permutation::new(self.order, epoch, self.windows).at(index) * seq
            }
        }
    }
}

/// The whole of a shard in rows, in order: for the held-out loss.
#[derive(Debug, Clone)]
pub struct Windows {
    shard: Arc<TokenShard>,
    seq: usize,
    rows: usize,
}

impl Windows {
    /// Rows of `seq` tokens, `rows` at a time; an error if there is nothing to predict.
    pub fn new(shard: Arc<TokenShard>, seq: usize, rows: usize) -> Result<Self, DataError> {
        if shard.len() < 2 || seq == 0 || rows == 0 {
            return Err(DataError::TooShort { tokens: shard.len(), seq: 1 });
        }
        Ok(Self { shard, seq, rows })
    }

    /// Number of batches.
    pub fn len(&self) -> u64 {
        (self.shard.len() - 1).div_ceil(self.seq as u64).div_ceil(self.rows as u64)
    }

    /// Never: there is something to predict.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Batch `number`. All batches have the same size: what is behind the end has `learn` 0.
    pub fn batch(&self, number: u64) -> Batch {
        let mut batch = Batch::with_capacity(self.rows, self.seq);
        for row in 0..self.rows as u64 {
            let window = number * self.rows as u64 + row;
            batch.push_row(&self.shard, window * self.seq as u64, self.shard.len());
        }
        batch
    }

    /// All batches in order.
    pub fn iter(&self) -> impl Iterator<Item = Batch> + '_ {
        (0..self.len()).map(|number| self.batch(number))
    }

    /// What the loss over all batches is over. The first token is not predicted; its bytes are counted all the same.
    pub fn counts(&self) -> Counts {
        Counts {
            tokens: self.shard.len() - 1,
            bytes: self.shard.text_bytes(),
            documents: self.shard.documents(),
        }
    }
}

impl Batch {
    fn with_capacity(rows: usize, seq: usize) -> Self {
        let size = rows * seq;
        Self {
            rows: 0,
            seq,
            ids: Vec::with_capacity(size),
            target: Vec::with_capacity(size),
            learn: Vec::with_capacity(size),
            doc: Vec::with_capacity(size),
            doc_pos: Vec::with_capacity(size),
        }
    }

    /// The row that starts at `start`, padded from the last token before `end` on.
    fn push_row(&mut self, shard: &TokenShard, start: u64, end: u64) {
        let stop = (start + self.seq as u64 + 1).min(end);
        let window = shard.tokens(start..stop);
        let real = window.len().saturating_sub(1);
        let padding = self.seq - real;
        let id = |&token: &u32| token as i32;
        self.ids.extend(window[..real].iter().map(id).chain(std::iter::repeat_n(0, padding)));
        let targets = window.iter().skip(1).map(id);
        self.target.extend(targets.chain(std::iter::repeat_n(0, padding)));
        self.learn.extend(std::iter::repeat_n(1.0, real));
        self.learn.extend(std::iter::repeat_n(0.0, padding));
        let mut doc = shard.document_at(start);
        let mut next = shard.document_start(doc + 1);
        let mut from = start;
        for position in start..start + real as u64 {
            while position >= next {
                from = next;
                doc += 1;
                next = shard.document_start(doc + 1);
            }
            self.doc.push(doc as i32);
            self.doc_pos.push((position - from) as i32);
        }
        // Padding is a document of its own, which no real one has the number of.
        self.doc.extend(std::iter::repeat_n(shard.documents() as i32, padding));
        self.doc_pos.extend(0..padding as i32);
        self.rows += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::{Document, Documents};
    use crate::tokenizer::Tokenizer;

    fn shard(texts: &[&str], special: bool) -> Arc<TokenShard> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let special = if special { vec!["<|endoftext|>".to_owned()] } else { Vec::new() };
        let documents = texts.iter().map(|t| Document { text: (*t).to_owned(), path: "x".into() });
        let documents = Documents::new(documents.collect());
        let tokenizer = Tokenizer::bytes(&special).expect("good names");
        Arc::new(TokenShard::cached(folder.path(), &tokenizer, &documents).expect("written"))
    }

    fn letters(n: usize) -> String {
        (0..n).map(|at| char::from(b'a' + (at % 26) as u8)).collect()
    }

    fn options(seq: usize, rows: usize, sampling: Sampling) -> PackOptions {
        PackOptions { seq, rows, seed: 9, sampling }
    }

    #[test]
    fn every_window_once_an_epoch() {
        for len in [5, 8, 9, 10, 40, 41, 103] {
            // Every token is another one, so a token tells its place.
            let text: String = (0..len as u8).map(char::from).collect();
            let batches = Batches::new(shard(&[&text], false), options(4, 1, Sampling::Epochs))
                .expect("fits");
            let windows = batches.tokens_per_epoch() / 4;
            let mut phases = std::collections::BTreeSet::new();
            for epoch in 0..20 {
                let mut starts: Vec<i32> = (0..windows)
                    .map(|window| {
                        let batch = batches.batch(epoch * windows + window);
                        let row: Vec<i32> = (batch.ids[0]..batch.ids[0] + 4).collect();
                        assert_eq!(batch.ids, row);
                        assert_eq!(batch.target, row.iter().map(|id| id + 1).collect::<Vec<_>>());
                        batch.ids[0]
                    })
                    .collect();
                starts.sort_unstable();
                assert!(starts.windows(2).all(|pair| pair[1] - pair[0] == 4), "{starts:?}");
                phases.insert(starts[0]);
            }
            assert!(phases.len() > 1 || len == 5, "{len} tokens: {phases:?}");
        }
    }

    #[test]
    fn a_step_does_not_depend_on_those_before() {
        let text = letters(1000);
        let make = |sampling| {
            Batches::new(shard(&[&text], false), options(16, 4, sampling)).expect("fits")
        };
        for sampling in [Sampling::Epochs, Sampling::Random] {
            let (one, other) = (make(sampling), make(sampling));
            let forward: Vec<Batch> = (0..50).map(|step| one.batch(step)).collect();
            for step in (0..50).rev() {
                assert_eq!(other.batch(step), forward[step as usize]);
            }
            let halves = [one.part(7, 0..2), one.part(7, 2..4)];
            assert_eq!([halves[0].ids.clone(), halves[1].ids.clone()].concat(), forward[7].ids);
            assert_ne!(forward[0], forward[1]);
        }
    }

    /// The order is part of what a run is: where this test must change, results of old runs can no longer be repeated.
    #[test]
    fn the_order_of_a_seed_stays() {
        let batches = |sampling| {
            let shard = shard(&[&letters(1000)], false);
            Batches::new(shard, options(10, 6, sampling)).expect("fits")
        };
        let starts = |sampling, step: u64| -> Vec<u64> {
            (0..6).map(|row| batches(sampling).start(step * 6 + row)).collect()
        };
        assert_eq!(starts(Sampling::Epochs, 0), [233, 923, 803, 593, 973, 33]);
        assert_eq!(starts(Sampling::Epochs, 1000), [238, 738, 788, 498, 538, 848]);
        assert_eq!(starts(Sampling::Random, 0), [517, 581, 123, 5, 903, 668]);
    }

    #[test]
    fn documents_are_numbered_and_counted_within_the_row() {
        let windows = Windows::new(shard(&["abc", "", "de"], true), 4, 2).expect("fits");
        // Tokens: a b c end end d e end.
        let batch = windows.batch(0);
        assert_eq!(windows.len(), 1);
        assert_eq!(batch.ids, [97, 98, 99, 256, 256, 100, 101, 0]);
        assert_eq!(batch.target, [98, 99, 256, 256, 100, 101, 256, 0]);
        assert_eq!(batch.learn, [1., 1., 1., 1., 1., 1., 1., 0.]);
        assert_eq!(batch.doc, [0, 0, 0, 0, 1, 2, 2, 3]);
        assert_eq!(batch.doc_pos, [0, 1, 2, 3, 0, 0, 1, 0]);
    }

    #[test]
    fn evaluation_predicts_every_token_once() {
        for (len, seq, rows) in [(2, 4, 3), (9, 4, 2), (10, 4, 2), (100, 7, 4), (101, 100, 1)] {
            let windows = Windows::new(shard(&[&letters(len)], false), seq, rows).expect("fits");
            let mut predicted = Vec::new();
            for batch in windows.iter() {
                assert_eq!((batch.rows, batch.ids.len()), (rows, rows * seq));
                let learned = batch.target.iter().zip(&batch.learn).filter(|(_, l)| **l > 0.0);
                predicted.extend(learned.map(|(target, _)| *target as u8));
            }
            assert_eq!(predicted, &letters(len).as_bytes()[1..]);
            assert_eq!(windows.counts().tokens, len as u64 - 1);
            assert_eq!(windows.counts().bytes, len as u64);
        }
    }

    #[test]
    fn too_short_for_the_context() {
        let pack = |len: usize, seq| {
            Batches::new(shard(&[&letters(len)], false), options(seq, 1, Sampling::Epochs))
        };
        assert!(pack(9, 8).is_ok());
        assert_eq!(pack(8, 8).expect_err("no row").code(), "E0605");
        assert_eq!(pack(8, 0).expect_err("no row").code(), "E0605");
        assert_eq!(
            Windows::new(shard(&["a"], false), 8, 1).expect_err("no target").code(),
            "E0605"
        );
    }
}
