//! What is trained and on what: data, tokenizers, machines, training runs.

use super::FieldType::{
    Any, Axes, Count, Data, Loss, Model, Nodes, Number, Optimizer, Row, Scheduled, Setting, Share,
    Switch, Template, Text, Texts, Tokenizer, Word, WordOr, Words,
};
use super::{BlockSchema, Field, KindSchema, PARALLEL, Range, fixed, later, may, must};

/// `data`.
pub(super) const DATA: KindSchema = KindSchema {
    name: "data",
    doc: "Rows: where they come from and what is done with them, stage by stage.",
    value: Some(Data),
    value_only: true,
    fields: &[],
    blocks: &[],
    facts: &[
        fixed("train", "the rows for training, where the pipeline has a `holdout`"),
        fixed("valid", "the rows held out"),
        later("tokens", "tokens, for a pipeline that encodes"),
        later("docs", "documents"),
        later("bytes", "bytes of text"),
    ],
    part: "",
};

/// `tokenizer`.
pub(super) const TOKENIZER: KindSchema = KindSchema {
    name: "tokenizer",
    doc: "Text to ids and back.",
    value: Some(Tokenizer),
    value_only: false,
    fields: &[
        may(
            "kind",
            Word(&["bpe", "bytes", "characters", "gpt2", "tiktoken"]),
            "bpe",
            "byte pairs, single bytes, single characters, files of GPT-2 or Hugging Face, or ranks of tiktoken",
        ),
        may("corpus", Data, "", "the text that byte pairs or characters are learnt from"),
        may("vocab", Count, "", "how many tokens, special ones and bytes included")
            .within(Range::Whole),
        may("special", Texts, "[]", "texts that are always one token"),
        may(
            "ties",
            Word(&["greater", "first"]),
            "greater",
            "which of two equally frequent pairs is merged",
        ),
        may(
            "pattern",
            Word(&["gpt2", "cl100k", "o200k"]),
            "gpt2",
            "how text is parted before pairs are merged; must be told for ranks of tiktoken",
        ),
        may(
            "vocab_file",
            Text,
            "",
            "`vocab.json`, a `tokenizer.json` alone, or tiktoken's `cl100k_base.tiktoken`",
        ),
        may("merges", Text, "", "`merges.txt`"),
    ],
    blocks: &[],
    facts: &[fixed("vocab", "how many tokens; known after the corpus is read for `characters`")],
    part: "",
};

/// `device`.
pub(super) const DEVICE: KindSchema = KindSchema {
    name: "device",
    doc: "A machine, as far as predictions of time and memory need it.",
    value: None,
    value_only: false,
    fields: &[
        must("peak", Number(&["FLOP/s"]), "dense matrix rate in the run's precision")
            .within(Range::Positive),
        must("memory", Number(&["bytes"]), "of one device").within(Range::Positive),
        may("bandwidth", Number(&["bytes/s"]), "", "of its memory").within(Range::Positive),
        may("mfu", Share, "35%", "share of the peak that a good run reaches")
            .within(Range::Positive),
        may("price", Number(&["USD/s"]), "", "of one device").within(Range::NotNegative),
    ],
    blocks: &[],
    facts: &[],
    part: "",
};

/// `mesh`.
pub(super) const MESH: KindSchema = KindSchema {
    name: "mesh",
    doc: "Several devices with named axes: `h100[data = 2, tensor = 4]`.",
    value: Some(Any),
    value_only: true,
    fields: &[],
    blocks: &[],
    facts: &[],
    part: PARALLEL,
};

/// `train`.
pub(super) const TRAIN: KindSchema = KindSchema {
    name: "train",
    doc: "A training run to a budget.",
    value: None,
    value_only: false,
    fields: &[
        must("model", Model, "what is trained"),
        must("data", Data, "rows of tokens: ends in `encode(..) |> pack(seq = ..)`"),
        must(
            "optimizer",
            Optimizer,
            "how weights change; or an expression over weights that chooses",
        ),
        may("objective", Loss, "cross_entropy", "what is made small"),
        must(
            "batch",
            Scheduled(&["tokens", "rows"]),
            "per optimizer step, over all devices and micro-batches",
        )
        .within(Range::Positive),
        may(
            "micro",
            Number(&["rows", "tokens", ""]),
            "what fits",
            "per micro-batch; never changes results",
        )
        .within(Range::Whole),
        may(
            "precision",
            WordOr(&["f32", "bf16", "fp16"], &["compute", "weights", "moments"]),
            "f32",
            "of operands; masters, moments, norms, logits and losses are f32",
        ),
        must(
            "budget",
            Number(&["FLOPs", "tokens", "tokens/param", "steps", "epochs", "s"]),
            "how much work: model FLOPs, tokens, tokens/param, steps, epochs or time",
        )
        .within(Range::Positive),
        may(
            "limit",
            Number(&["s"]),
            "",
            "wall time at most; the run is then incomplete and can go on",
        )
        .within(Range::Positive),
        may("seed", Count, "0", "of initial weights, noise, order and samples"),
        may("init", Any, "fresh weights", "weights to start from: `base.final`"),
        may("mesh", Any, "one device", "the devices"),
        may(
            "device",
            Nodes(&["device"]),
            "this machine",
            "the device that predictions are made for",
        ),
        may(
            "remat",
            Word(&["none", "per_block", "auto"]),
            "auto",
            "what is computed again instead of stored: `none`, `per_block`, `auto`",
        ),
        may("start", Word(&["now", "ask"]), "now", "`ask` never spends the budget without a yes"),
        may("average", Setting, "", "an average of weights beside the last ones: `ema(0.999)`"),
        may("stop", Row, "", "ends the run early: `.valid_loss <= 3.6`"),
        may("pin", Text, "", "serves the result of this version, with a warning where it drifted"),
    ],
    blocks: &[
        BlockSchema {
            name: "eval",
            doc: "Losses on held-out rows while training.",
            fields: &[
                EVERY,
                must("on", Data, "held-out documents"),
                may(
                    "report",
                    Words(&["loss", "perplexity", "bits_per_byte", "reward", "completion_length"]),
                    "[loss]",
                    "which numbers",
                ),
                may("clock", Switch, "on", "whether its time counts for a budget of time"),
            ],
        },
        BlockSchema {
            name: "sample",
            doc: "Texts written while training.",
            fields: &[
                EVERY,
                may("prompt", Template, "\"\"", "how they begin"),
                may("length", Number(&["tokens", ""]), "64 tokens", "new tokens")
                    .within(Range::Whole),
                may("temperature", Number(&[""]), "1", "divides the logits; 0 takes the likeliest")
                    .within(Range::NotNegative),
                may("top_k", Count, "", "only the k likeliest").within(Range::Whole),
                may("top_p", Share, "", "only the likeliest that together have this probability")
                    .within(Range::Positive),
                may("min_p", Share, "", "only those at least this share of the likeliest"),
            ],
        },
        BlockSchema {
            name: "save",
            doc: "Checkpoints.",
            fields: &[EVERY, may("keep", Count, "2", "how many are kept").within(Range::Whole)],
        },
        BlockSchema {
            name: "shard",
            doc: "Which axes of tensors lie on which axes of the mesh.",
            fields: &[
                may("compute", Axes, "", "during a step"),
                may("weights", Axes, "", "at rest"),
                may("moments", Axes, "", "of the optimizer"),
            ],
        },
        BlockSchema {
            name: "pipeline",
            doc: "How micro-batches pass through stages of the mesh.",
            fields: &[
                may("order", Setting, "", "`interleaved(2)`"),
                may("micro", Count, "", "micro-batches per step"),
            ],
        },
    ],
    facts: &[
        fixed("params", "trained weights, each once"),
        fixed("tokens", "tokens that the budget buys"),
        fixed("steps", "optimizer steps"),
        fixed("flops", "model FLOPs, forward and backward"),
        fixed("memory", "bytes at the peak, on one device"),
        fixed("time", "predicted seconds"),
        fixed("predicted_mfu", "share of the peak rate that is predicted"),
        fixed("bubble", "share of time that pipeline stages wait"),
        fixed("bytes_sent", "bytes between devices per step"),
        later("final", "the model with its last weights"),
        later("average", "the model with averaged weights"),
        later("loss", "the last training loss, nats per target"),
        later("valid_loss", "the last held-out loss, nats per target"),
        later("perplexity", "e to the held-out loss"),
        later("bits_per_byte", "the held-out loss in bits per byte of text"),
        later("stopped", "whether `stop` ended it"),
        later("time_used", "seconds on the train clock"),
        later("metrics", "rows: one for each step"),
    ],
    part: "",
};

const EVERY: Field =
    must("every", Number(&["steps", "tokens", "s"]), "how often: steps, tokens or wall time")
        .within(Range::Positive);
