//! What is wrong with a program: plain values, collected and never thrown.
//!
//! A [`Problem`] says what was found (`message`), where (`labels`), what to write instead (`help`) and, where that is
//! safe, the edit itself (`fix`). The list of all codes is `explain/CODE.md`, one page each. Nothing here knows how
//! a problem is drawn: the CLI renders it, `--json` prints it as data.

use serde::{Deserialize, Serialize};

use crate::source::Span;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The program does not mean anything; nothing is run.
    Error,
    /// The program has a meaning that is probably not the wanted one.
    Warning,
}

/// A place and what to say about it. The first label of a problem is its main place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// A short remark shown under the place; may be empty.
    pub text: String,
}

/// A safe edit: replace the text under `span` by `text`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fix {
    /// What is replaced.
    pub span: Span,
    /// By what.
    pub text: String,
}

/// One diagnostic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `E0203`, `W0510`: stable, with a page in `explain/`.
    pub code: String,
    /// Error or warning; agrees with the code's first letter.
    pub severity: Severity,
    /// What was found, in the user's words; never the name of a Rust type.
    pub message: String,
    /// Places, the main one first.
    pub labels: Vec<Label>,
    /// What to write instead, or why a number is what it is (the because-chain).
    pub help: Vec<String>,
    /// The edit, where it is certain.
    pub fix: Option<Fix>,
}

impl Problem {
    /// A problem of `code` (its first letter decides the severity) at `span`.
    pub fn new(code: &str, span: Span, message: impl Into<String>) -> Self {
        let severity = if code.starts_with('W') { Severity::Warning } else { Severity::Error };
        Self {
            code: code.to_owned(),
            severity,
            message: message.into(),
            labels: vec![Label { span, text: String::new() }],
            help: Vec::new(),
            fix: None,
        }
    }

    /// Sets the remark under the main place.
    #[must_use]
    pub fn at(mut self, text: impl Into<String>) -> Self {
        if let Some(first) = self.labels.first_mut() {
            first.text = text.into();
        }
        self
    }

    /// Adds a second place.
    #[must_use]
    pub fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds a line of help.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// Adds the edit that mends it.
    #[must_use]
    pub fn fix(mut self, span: Span, text: impl Into<String>) -> Self {
        self.fix = Some(Fix { span, text: text.into() });
        self
    }

    /// The main place.
    pub fn span(&self) -> Option<Span> {
        self.labels.first().map(|l| l.span)
    }
}

/// The collector that every pass writes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Adds a problem; an equal one at the same place is kept once.
    pub fn push(&mut self, problem: Problem) {
        let same = |p: &Problem| p.code == problem.code && p.span() == problem.span();
        if !self.list.iter().any(same) {
            self.list.push(problem);
        }
    }

    /// Adds all of another collector.
    pub fn extend(&mut self, other: Problems) {
        for p in other.list {
            self.push(p);
        }
    }

    /// Keeps only what `earlier` does not have.
    pub fn retain_new(&mut self, earlier: &Problems) {
        self.list.retain(|p| !earlier.list.contains(p));
    }

    /// True if any problem is an error.
    pub fn has_errors(&self) -> bool {
        self.list.iter().any(|p| p.severity == Severity::Error)
    }

    /// True if there is none at all.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// In source order.
    pub fn sorted(&self) -> Vec<&Problem> {
        let mut all: Vec<&Problem> = self.list.iter().collect();
        all.sort_by_key(|p| p.span());
        all
    }

    /// In the order of arrival.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }
}

/// What the same thing is called elsewhere, in lower case without `_`, and here. Where both are no candidates the row says nothing.
const SYNONYMS: &[(&str, &str)] = &[
    ("learningrate", "lr"),
    ("maxlr", "peak"),
    ("lrmax", "peak"),
    ("warmupsteps", "warmup"),
    ("minlr", "floor"),
    ("weightdecay", "decay"),
    ("gradclip", "clip"),
    ("maxgradnorm", "clip"),
    ("ppl", "perplexity"),
    ("bpb", "bits_per_byte"),
    ("nll", "loss"),
    ("maxtokens", "length"),
    ("maxnewtokens", "length"),
    ("numtokens", "length"),
    ("interval", "every"),
    ("frequency", "every"),
    ("evalevery", "every"),
    ("metrics", "report"),
    ("dataset", "data"),
    ("criterion", "objective"),
    ("lossfn", "objective"),
    ("loss", "objective"),
    ("batchsize", "batch"),
    ("microbatch", "micro"),
    ("steps", "budget"),
    ("maxsteps", "budget"),
    ("iters", "budget"),
    ("iterations", "budget"),
    ("epochs", "budget"),
    ("tokens", "budget"),
    ("compute", "budget"),
    ("randomseed", "seed"),
    ("dtype", "precision"),
    ("ctx", "seq"),
    ("context", "seq"),
    ("contextlength", "seq"),
    ("blocksize", "seq"),
    ("seqlen", "seq"),
    ("maxseqlen", "seq"),
    ("context", "ctx"),
    ("contextlength", "ctx"),
    ("blocksize", "ctx"),
    ("maxseqlen", "ctx"),
    ("dmodel", "d"),
    ("dim", "d"),
    ("nembd", "d"),
    ("width", "d"),
    ("hiddensize", "d"),
    ("hidden", "d"),
    ("nlayer", "layers"),
    ("nlayers", "layers"),
    ("numlayers", "layers"),
    ("depth", "layers"),
    ("nhead", "heads"),
    ("nheads", "heads"),
    ("numheads", "heads"),
    ("nkvheads", "kv"),
    ("dff", "ff"),
    ("ffndim", "ff"),
    ("intermediatesize", "ff"),
    ("mlpdim", "ff"),
    ("vocabsize", "vocab"),
    ("dropout", "drop"),
    ("activationfn", "activation"),
    ("tokenize", "encode"),
    ("tokenise", "encode"),
    ("chunk", "pack"),
    ("split", "holdout"),
    ("traintestsplit", "holdout"),
    ("filter", "keep"),
    ("validation", "valid"),
    ("test", "valid"),
    ("val", "valid"),
    ("fp32", "f32"),
    ("float32", "f32"),
    ("bfloat16", "bf16"),
    ("float16", "fp16"),
    ("f16", "fp16"),
    ("half", "fp16"),
    ("matmul", "dot"),
    ("einsum", "dot"),
    ("gather", "pick"),
    ("attention", "attend"),
    ("crossentropy", "cross_entropy"),
    ("layernorm", "LayerNorm"),
    ("rmsnorm", "RMSNorm"),
];

/// What a word of other programs may be called here.
pub fn called_here(name: &str) -> Vec<&'static str> {
    let plain = name.to_lowercase().replace('_', "");
    SYNONYMS.iter().filter(|(other, _)| *other == plain).map(|(_, here)| *here).collect()
}

/// The nearest of `candidates` to `name`: what it is called here, else edit distance at most 3 (less for short words), or one
/// contains the other.
pub fn did_you_mean<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let meant = called_here(name);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if meant.contains(&candidate) {
            return Some(candidate);
        }
        let distance = strsim::osa_distance(&name.to_lowercase(), &candidate.to_lowercase());
        let contains = name.len() >= 3 && candidate.contains(name)
            || candidate.len() >= 3 && name.contains(candidate);
        // Of a short word, one letter is much.
        let limit = match name.chars().count() {
            0..=4 => 1,
            5..=7 => 2,
            _ => 3,
        };
        if (distance <= limit || contains) && best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, c)| c)
}
