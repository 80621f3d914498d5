//! The Hir: what a program means. Nodes with typed settings, ready to be run, costed and hashed.
//!
//! Numbers are in base units. *Meaning* and *execution* are kept apart: [`TrainSpec::execution`] never enters a run's key.

#![allow(missing_docs, reason = "the sentence of a variant names its fields")]

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::law::{Formula, Law, Penalty, Starts};
use crate::report::ReportSpec;
use crate::row::{RowExpr, Rows};
use crate::search::Halving;
use crate::source::Span;

/// A checked node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its name; points of a sweep are `iso/07`.
    pub name: String,
    /// Its kind as written: `train`.
    pub kind: String,
    /// Where it stands.
    pub span: Span,
    /// Nodes that must have run before it.
    pub needs: Vec<String>,
    /// What it is.
    pub spec: Spec,
    /// The canonical text of everything that its result depends on, itself and reachable (without data contents): hashed to the key.
    pub meaning: String,
}

impl Node {
    /// The nodes of its points, if it is a sweep.
    pub fn points(&self) -> impl Iterator<Item = &str> {
        let points: &[PointSpec] = match &self.spec {
            Spec::Sweep(sweep) => &sweep.points,
            Spec::Data(_)
            | Spec::Rows(_)
            | Spec::Tokenizer(_)
            | Spec::Model
            | Spec::Fit(_)
            | Spec::Report(_)
            | Spec::Train(_)
            | Spec::Outside(_)
            | Spec::After { .. }
            | Spec::NotBuilt { .. } => &[],
        };
        points.iter().map(|p| p.node.as_str())
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spec {
    /// Documents.
    Data(DataSpec),
    /// Rows of runs or of a table, made by stages; read when they are needed.
    Rows(Rows),
    /// A tokenizer.
    Tokenizer(TokenizerSpec),
    /// An architecture.
    Model,
    /// A training run.
    Train(Box<TrainSpec>),
    /// A law through the results of runs.
    Fit(Box<FitSpec>),
    /// The same run at many points.
    Sweep(Box<SweepSpec>),
    /// A report; a plot or table on its own is one of one part.
    Report(Box<ReportSpec>),
    /// A point that others run: what is asked of them.
    Outside(Box<OutsideSpec>),
    /// Waits for a result: which node's. `asks`: it then needs a yes.
    After { node: String, asks: bool },
    /// Checked, but its runtime is not built yet: which part brings it.
    NotBuilt { part: String },
}

/// A source and its stages in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DataSpec {
    /// Where documents come from.
    pub source: Source,
    /// What is done with them.
    pub stages: Vec<Stage>,
}

/// Where documents come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Text files by glob or folder, relative to the program's file; each file, or each piece between `split_on`, is a document.
    Files { pattern: String, split_on: Option<String>, base: String },
    /// The built-in story generator.
    Stories { count: u64, seed: u64 },
    /// A source whose runtime comes with a later part.
    NotBuilt { name: String, part: String },
}

/// What is done with documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Draws documents for validation by a seeded hash.
    HoldoutShare { valid: f64, seed: u64 },
    /// The end of the text is for validation.
    HoldoutTail { tail: f64 },
    /// Keeps one side of a holdout: `train` or `valid`.
    Split { name: String },
    /// Text to ids, with the named tokenizer node.
    Encode { tokenizer: String },
    /// Ids to rows of `seq` positions.
    Pack { seq: u64, sample: String },
    /// A stage whose runtime comes with a later part.
    NotBuilt { name: String, part: String },
}

/// A tokenizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerSpec {
    /// Byte-pair encoding trained on a corpus.
    Bpe {
        /// The text.
        corpus: DataSpec,
        /// Tokens in all.
        vocab: u64,
        /// Texts that are always one token.
        special: Vec<String>,
        /// Which of two equally frequent pairs is merged.
        ties: String,
        /// How text is parted first. GPT-2's way is not written, since it was the only one once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pattern: Option<String>,
    },
    /// One id per byte, then specials.
    Bytes { special: Vec<String> },
    /// One id per character of the corpus, in code point order.
    Chars { corpus: DataSpec },
    /// GPT-2 `vocab.json` and `merges.txt`, or a Hugging Face `tokenizer.json`.
    File { vocab: String, merges: Option<String>, special: Vec<String>, base: String },
    /// tiktoken's ranks, parted by the named pattern.
    Ranks { vocab: String, pattern: String, special: Vec<String>, base: String },
}

/// How much work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// Model FLOPs.
    Flops(f64),
    /// Tokens.
    Tokens(f64),
    /// Tokens per parameter.
    TokensPerParam(f64),
    /// Optimizer steps.
    Steps(f64),
    /// Passes over the data.
    Epochs(f64),
    /// Seconds on the train clock.
    Seconds(f64),
}

/// How often.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Optimizer steps.
    Steps(u64),
    /// Wall seconds.
    Seconds(f64),
    /// Tokens.
    Tokens(f64),
    /// Only at the end.
    Never,
}

/// A training run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainSpec {
    /// Training rows.
    pub data: DataSpec,
    /// Positions per row.
    pub seq: u64,
    /// Tokens per optimizer step; a multiple of `seq`.
    pub batch_tokens: u64,
    /// When it ends.
    pub budget: Budget,
    /// Seeds `init`, `noise`, `order`, `sample`.
    pub seed: u64,
    /// `f32`, `bf16`, `fp16`.
    pub compute: String,
    /// Model FLOPs of one optimizer step (forward and backward).
    pub step_flops: f64,
    /// Trained parameters.
    pub params: u64,
    /// How many different ids it can take at most; `None` where that was held against the tokenizer already.
    #[serde(default)]
    pub most_tokens: Option<u64>,
    /// Steps that the budget buys; `None` if it needs a fact of the data or the clock.
    pub steps: Option<u64>,
    /// Weights to start from; `None`: fresh ones.
    pub init: Option<InitSpec>,
    /// A condition on the metrics of a step that ends the run: the budget is then an upper bound.
    pub stop: Option<RowExpr>,
    /// What does not change results.
    pub execution: Execution,
}

/// The weights of another run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InitSpec {
    /// Its node.
    pub node: String,
    /// Its average instead of its last weights.
    pub averaged: bool,
}

/// How a run is carried out: never part of its key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Execution {
    /// Wall-clock limit in seconds.
    pub limit_seconds: Option<f64>,
    /// Rows per micro-batch; `None`: chosen to fit memory.
    pub micro_rows: Option<u64>,
    /// Held-out evaluation.
    pub eval: Option<EvalSpec>,
    /// Samples during training.
    pub sample: Option<SampleSpec>,
    /// Checkpoints.
    pub save_every: Every,
    /// How many checkpoints are kept.
    pub keep: u64,
    /// `start = ask`: needs a yes.
    pub ask: bool,
    /// `none`, `per_block`, `auto`.
    pub remat: String,
}

/// Held-out evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalSpec {
    /// How often.
    pub every: Every,
    /// Held-out documents (encode and pack as the training data's).
    pub on: DataSpec,
    /// `loss`, `perplexity`, `bits_per_byte`.
    pub report: Vec<String>,
}

/// Sampling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleSpec {
    /// How often.
    pub every: Every,
    /// The start.
    pub prompt: String,
    /// New tokens.
    pub length: u64,
    /// Divides the logits; 0 is greedy.
    pub temperature: f64,
    /// Keep the k likeliest.
    pub top_k: Option<u64>,
    /// Keep the likeliest with this total probability.
    pub top_p: Option<f64>,
    /// Keep those at least this share of the likeliest.
    pub min_p: Option<f64>,
}

/// A fit: which rows, which law, and how its constants are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitSpec {
    /// The results that the law is to explain.
    pub rows: Rows,
    /// The law.
    pub law: Law,
    /// What is made small.
    pub penalty: Penalty,
    /// How much a row counts; `None`: all the same.
    pub weight: Option<Formula>,
    /// Where the search begins.
    pub starts: Starts,
    /// Resamplings of whole runs for intervals.
    pub bootstrap: u64,
    /// Seeds `starts` and `bootstrap`.
    pub seed: u64,
    /// Rows for which this is true are left out of the fit and predicted: held-out compute.
    pub held_out: Option<Formula>,
    /// What the program asks of the fitted law: its values are facts of the fit.
    pub asks: Vec<FitAsk>,
}

/// `chinchilla.optimum(..)`, `chinchilla.predict(..)`: what a program asks of a fitted law.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitAsk {
    /// Its name among the facts: `optimum(1e18)`. The sizes are `optimum(1e18).params` and so on.
    pub key: String,
    /// Made smallest, over `params`, `tokens`, `loss`; `None`: the law's value at the sizes that are given.
    pub goal: Option<Formula>,
    /// Each must be at most zero.
    pub limits: Vec<Formula>,
    /// Values of columns.
    pub given: IndexMap<String, f64>,
}

/// A sweep: training runs that differ in what their `for` clauses say. Each point is a node of its own, `iso/07`, which the sweep needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SweepSpec {
    /// In the order in which they are begun.
    pub points: Vec<PointSpec>,
    /// Model FLOPs that all points together cost, at most if some are stopped early; `None` while a point waits for a result.
    pub flops: Option<f64>,
    /// Model FLOPs that they may cost, where `total` says so.
    pub total_flops: Option<f64>,
    /// What the best point has the least of.
    pub best: RowExpr,
    /// Points are compared on the way and the worse are stopped.
    pub halving: Option<Halving>,
    /// How many of the points are in each round: a search draws those of a round at once.
    pub rounds: Vec<usize>,
    /// How many more points a search draws once the results of those here are known: facts of the points, `measure`, `rung`, `failed`.
    pub planned: usize,
    /// Who runs the points, if not this machine.
    pub outside: Option<Outside>,
}

/// Others that run the points of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outside {
    /// Who.
    pub runner: Runner,
    /// Figures of a run by name, from what was asked and what was answered.
    pub gives: Vec<(String, RowExpr)>,
    /// What all answers together may cost, in the unit of their costs.
    pub total: Option<f64>,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runner {
    /// A table of results, named relative to the program's file `base`; `format` is `csv`, `jsonl` or `parquet`.
    Recorded { format: String, pattern: String, base: String },
    /// A training API at `url`; `key` names the environment variable with its key.
    Http { url: String, api: Api, key: String },
}

/// The shape of a training API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// `GET /loss`, `/total_flops_used`, `/previous_runs`.
    Loss,
    /// `POST /submit`, `GET /budget`, `/experiments`, `/experiment/ID`.
    Submit,
}

/// What is asked of others at a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutsideSpec {
    /// By name, numbers in base units.
    pub settings: Vec<(String, Setting)>,
    /// What the answer costs.
    pub cost: f64,
    /// In what: `FLOPs`, `s`; empty: it costs nothing.
    pub unit: String,
}

/// A value that can be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// In base units.
    Number(f64),
    /// A text.
    Text(String),
    /// A truth.
    Bool(bool),
    /// Several.
    List(Vec<Setting>),
    /// By name.
    Record(Vec<(String, Setting)>),
}

/// A point of a sweep.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PointSpec {
    /// The node that is run there.
    pub node: String,
    /// What the `for` clauses say there, in their order.
    pub at: Vec<Coordinate>,
}

/// The value of one `for` name at a point.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Coordinate {
    /// The name in the `for`.
    pub name: String,
    /// As a person reads it: `3e16 FLOPs`.
    pub shown: String,
    /// In base units, if it is a number.
    pub number: Option<f64>,
}

/// All checked nodes by name, in the order of the file.
pub type Nodes = IndexMap<String, Node>;
