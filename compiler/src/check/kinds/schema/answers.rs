//! What a model is asked: evaluations, tasks, classifiers, text that it writes.

use super::FieldType::{
    Any, Count, Data, Nodes, Number, Row, Setting, Share, Template, Texts, Word, Words,
};
use super::{
    BlockSchema, DATA, Field, INFERENCE, KindSchema, Range, TASKS, fixed, later, may, must,
};

/// `eval`.
pub(super) const EVAL: KindSchema = KindSchema {
    name: "eval",
    doc: "A model's scores on tasks.",
    value: Some(Nodes(&["eval"])),
    value_only: false,
    fields: &[
        must("model", Any, "the model with weights: `base.final`"),
        may("on", Data, "", "held-out rows, for losses"),
        may("tasks", Nodes(&["task"]), "", "the tasks"),
        may(
            "report",
            Words(&["loss", "perplexity", "bits_per_byte", "accuracy", "stderr"]),
            "[accuracy]",
            "which numbers",
        ),
    ],
    blocks: &[],
    facts: &[
        later("loss", "nats per target"),
        later("perplexity", "e to the loss"),
        later("bits_per_byte", "bits per byte of text"),
        later("accuracy", "share of rows that are right"),
        later("stderr", "its standard error"),
    ],
    part: TASKS,
};

/// `generate`.
pub(super) const GENERATE: KindSchema = KindSchema {
    name: "generate",
    doc: "Texts of a trained model.",
    value: None,
    value_only: false,
    fields: &[
        must("model", Any, "the model with weights: `base.final`"),
        may("prompts", Any, "\"\"", "texts or rows to begin with"),
        may("length", Number(&["tokens"]), "256 tokens", "new tokens at most").within(Range::Whole),
        may("batch", Number(&["rows", ""]), "1 rows", "completions side by side")
            .within(Range::Whole),
        may("sample", Setting, "greedy", "how a token is drawn"),
        may(
            "draft",
            Setting,
            "",
            "a small model that writes ahead: `speculate(small.final, ahead = 4 tokens)`",
        ),
        may("cache", Word(&["f32", "bf16", "int8"]), "bf16", "the precision of the cache"),
        may("stop", Texts, "", "texts that end a completion"),
        may("seed", Count, "0", "of the draws"),
    ],
    blocks: &[],
    facts: &[
        fixed("memory", "bytes at the peak"),
        fixed("tokens_per_second", "predicted"),
        later("text", "what was written"),
    ],
    part: INFERENCE,
};

/// `classifier`.
pub(super) const CLASSIFIER: KindSchema = KindSchema {
    name: "classifier",
    doc: "A linear classifier of documents.",
    value: None,
    value_only: false,
    fields: &[
        must("positive", Data, "documents of the kind that is looked for"),
        must("negative", Data, "other documents"),
        may("features", Setting, "word_ngrams(2)", "what it sees"),
        may("dim", Count, "100", "numbers per feature"),
        may("epochs", Count, "5", "passes over the documents"),
        may("holdout", Share, "10%", "share of documents that it is tested on"),
        may("seed", Count, "0", "of order and holdout"),
    ],
    blocks: &[],
    facts: &[
        later("precision", "share of its positives that are right"),
        later("recall", "share of positives that it finds"),
        later("accuracy", "share of all that is right"),
    ],
    part: DATA,
};

/// `task`.
pub(super) const TASK: KindSchema = KindSchema {
    name: "task",
    doc: "A question with a way to score answers.",
    value: None,
    value_only: false,
    fields: &[
        must("rows", Data, "one row a question"),
        may("shots", Data, "none", "solved questions shown before"),
        must("prompt", Template, "what the model reads"),
        may("choices", Texts, "", "answers whose likelihoods are compared"),
        must("score", Any, "row to number or truth"),
        may("votes", Count, "1", "completions of which the most frequent answer counts"),
        may("by", Row, "", "scores are also given per value of it"),
    ],
    blocks: &[BlockSchema {
        name: "generate",
        doc: "Answers that are written.",
        fields: GENERATE_FIELDS,
    }],
    facts: &[
        later("accuracy", "share of rows that are right"),
        later("stderr", "its standard error"),
    ],
    part: TASKS,
};

const GENERATE_FIELDS: &[Field] = &[
    may("length", Number(&["tokens"]), "256 tokens", "new tokens at most"),
    may("sample", Setting, "greedy", "how a token is drawn: `greedy`, `top_p(0.95)`, .."),
    may("stop", Texts, "", "texts that end a completion"),
    may("seed", Count, "0", "of the draws"),
];
