//! The closed schemas of all kinds of nodes: which fields, of which type, with which default, and what each is for.
//!
//! The table is data: the checker reads it to judge a node, `explain` and editors read it to describe one. It says nothing about how a
//! field acts; that is the business of the kind's own file. A field that no row names is an error, so every word that a user
//! may write in a node stands here.

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A number in one of these units; the empty text is a plain number.
    Number(&'static [&'static str]),
    /// The same, or a schedule over the run.
    Scheduled(&'static [&'static str]),
    /// A whole number from 0, a count; may carry a unit of counted things.
    Count,
    /// A number between 0 and 1, such as `5%`.
    Share,
    /// `true`, `false`, `on`, `off`.
    Switch,
    /// Text.
    Text,
    /// Text in which `{expr}` is filled in.
    Template,
    /// A list of texts.
    Texts,
    /// One of a few words.
    Word(&'static [&'static str]),
    /// One of a few words, or a list of them.
    Words(&'static [&'static str]),
    /// One of a few words, or a record with the named fields.
    WordOr(&'static [&'static str], &'static [&'static str]),
    /// Rows: a data node, a side of one, a sweep, or a pipeline.
    Data,
    /// A tokenizer node.
    Tokenizer,
    /// A model or layer.
    Model,
    /// An optimizer, or an expression over weights that gives one.
    Optimizer,
    /// A loss.
    Loss,
    /// A schedule-free constructor or word whose own schema judges it: `huber(..)`, `tpe(..)`, `greedy`.
    Setting,
    /// An expression over rows, or a list of them.
    Row,
    /// `.y ~ expression`.
    Law,
    /// A record of ranges: `{ E = 0.1..5 }`.
    Ranges,
    /// A map from axes: `{ batch -> data }`.
    Axes,
    /// A node of one of these kinds, or a list of such nodes.
    Nodes(&'static [&'static str]),
    /// Anything: what it must be depends on another field.
    Any,
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub ty: FieldType,
    /// Must be given.
    pub required: bool,
    /// What holds where it is not given, in words; empty: nothing.
    pub default: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

/// A nested block: `eval { .. }`.
#[derive(Debug, Clone, Copy)]
pub struct BlockSchema {
    /// Its word.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// Its fields.
    pub fields: &'static [Field],
}

/// What a node is asked for after its name and a dot.
#[derive(Debug, Clone, Copy)]
pub struct Fact {
    /// Its name.
    pub name: &'static str,
    /// Known at check; else known only after the node has run.
    pub fixed: bool,
    /// What it says, with its unit.
    pub doc: &'static str,
}

/// One kind of node.
#[derive(Debug, Clone, Copy)]
pub struct KindSchema {
    /// The word before the node's name.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// What may stand behind `=` in `kind name = ..`, if that form exists.
    pub value: Option<FieldType>,
    /// Only the form with `=` exists.
    pub value_only: bool,
    /// Fields in the order of the documentation.
    pub fields: &'static [Field],
    /// Blocks within it.
    pub blocks: &'static [BlockSchema],
    /// What it knows.
    pub facts: &'static [Fact],
    /// Empty: built. Else the part of the project that runs it.
    pub part: &'static str,
}

use FieldType::{
    Any, Axes, Count, Data, Law, Loss, Model, Nodes, Number, Optimizer, Ranges, Row, Scheduled,
    Setting, Share, Switch, Template, Text, Texts, Tokenizer, Word, WordOr, Words,
};

const fn must(name: &'static str, ty: FieldType, doc: &'static str) -> Field {
    Field { name, ty, required: true, default: "", doc }
}

const fn may(name: &'static str, ty: FieldType, default: &'static str, doc: &'static str) -> Field {
    Field { name, ty, required: false, default, doc }
}

const fn fixed(name: &'static str, doc: &'static str) -> Fact {
    Fact { name, fixed: true, doc }
}

const fn later(name: &'static str, doc: &'static str) -> Fact {
    Fact { name, fixed: false, doc }
}

/// Sweeps, fits and reports.
pub const SWEEPS: &str = "part 2, sweeps and laws";
/// Meshes and sharding.
pub const PARALLEL: &str = "the parallelism part";
/// Evaluation on tasks.
pub const TASKS: &str = "the evaluation part";
/// Filters, classifiers, web data.
pub const DATA: &str = "part 5, data and filters";
/// Serving and generation.
pub const INFERENCE: &str = "the inference part";
/// Preference and reinforcement learning.
pub const ALIGN: &str = "the alignment part";

const EVERY: Field =
    must("every", Number(&["steps", "tokens", "s"]), "how often: steps, tokens or wall time");

const PLOT: &[Field] = &[
    must("data", Data, "the rows that are drawn: a sweep, or rows made of one"),
    must("x", Row, "the horizontal value of a row"),
    must("y", Row, "the vertical value of a row"),
    may("color", Row, "", "rows with one value of it share a colour"),
    may(
        "trend",
        Word(&["none", "line", "parabola", "power", "law", "contour"]),
        "none",
        "a curve through the rows of a colour; `contour` draws a law over both axes",
    ),
    may(
        "mark",
        Word(&["none", "minimum", "maximum", "last"]),
        "none",
        "which row of a curve is marked",
    ),
    may("law", Nodes(&["fit"]), "", "the fit whose law is drawn"),
    may("line", Any, "", "a vertical line at a value"),
    may("extend_to", Any, "", "how far the horizontal axis goes on"),
];

const TABLE: &[Field] = &[
    must("rows", Any, "a list of nodes or records, or the coefficients of a fit"),
    may("columns", Row, "every field", "which fields are shown"),
];

const GENERATE: &[Field] = &[
    may("length", Number(&["tokens"]), "256 tokens", "new tokens at most"),
    may("sample", Setting, "greedy", "how a token is drawn: `greedy`, `top_p(0.95)`, .."),
    may("stop", Texts, "", "texts that end a completion"),
    may("seed", Count, "0", "of the draws"),
];

/// Every kind of node that is not a program.
pub const KINDS: &[KindSchema] = &[
    KindSchema {
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
    },
    KindSchema {
        name: "tokenizer",
        doc: "Text to ids and back.",
        value: Some(Tokenizer),
        value_only: false,
        fields: &[
            may(
                "kind",
                Word(&["bpe", "bytes", "characters", "gpt2"]),
                "bpe",
                "byte pairs, single bytes, single characters, or files of GPT-2 or Hugging Face",
            ),
            may("corpus", Data, "", "the text that byte pairs or characters are learnt from"),
            may("vocab", Count, "", "how many tokens, special ones and bytes included"),
            may("special", Texts, "[]", "texts that are always one token"),
            may(
                "ties",
                Word(&["greater", "first"]),
                "greater",
                "which of two equally frequent pairs is merged",
            ),
            may("vocab_file", Text, "", "`vocab.json`, or a `tokenizer.json` alone"),
            may("merges", Text, "", "`merges.txt`"),
        ],
        blocks: &[],
        facts: &[fixed(
            "vocab",
            "how many tokens; known after the corpus is read for `characters`",
        )],
        part: "",
    },
    KindSchema {
        name: "device",
        doc: "A machine, as far as predictions of time and memory need it.",
        value: None,
        value_only: false,
        fields: &[
            must("peak", Number(&["FLOP/s"]), "dense matrix rate in the run's precision"),
            must("memory", Number(&["bytes"]), "of one device"),
            may("bandwidth", Number(&["bytes/s"]), "", "of its memory"),
            may("mfu", Share, "35%", "share of the peak that a good run reaches"),
            may("price", Number(&["USD/s"]), "", "of one device"),
        ],
        blocks: &[],
        facts: &[],
        part: "",
    },
    KindSchema {
        name: "mesh",
        doc: "Several devices with named axes: `h100[data = 2, tensor = 4]`.",
        value: Some(Any),
        value_only: true,
        fields: &[],
        blocks: &[],
        facts: &[],
        part: PARALLEL,
    },
    KindSchema {
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
            ),
            may(
                "micro",
                Scheduled(&["rows", "tokens", ""]),
                "what fits",
                "per micro-batch; never changes results",
            ),
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
            ),
            may(
                "limit",
                Number(&["s"]),
                "",
                "wall time at most; the run is then incomplete and can go on",
            ),
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
                Any,
                "auto",
                "what is computed again instead of stored: `none`, `per_block`, `auto`",
            ),
            may(
                "start",
                Word(&["now", "ask"]),
                "now",
                "`ask` never spends the budget without a yes",
            ),
            may("average", Setting, "", "an average of weights beside the last ones: `ema(0.999)`"),
            may("stop", Row, "", "ends the run early: `.valid_loss <= 3.6`"),
            may(
                "pin",
                Text,
                "",
                "serves the result of this version, with a warning where it drifted",
            ),
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
                        Words(&[
                            "loss",
                            "perplexity",
                            "bits_per_byte",
                            "reward",
                            "completion_length",
                        ]),
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
                    may("length", Number(&["tokens", ""]), "64 tokens", "new tokens"),
                    may(
                        "temperature",
                        Number(&[""]),
                        "1",
                        "divides the logits; 0 takes the likeliest",
                    ),
                    may("top_k", Count, "", "only the k likeliest"),
                    may(
                        "top_p",
                        Share,
                        "",
                        "only the likeliest that together have this probability",
                    ),
                    may("min_p", Share, "", "only those at least this share of the likeliest"),
                ],
            },
            BlockSchema {
                name: "save",
                doc: "Checkpoints.",
                fields: &[EVERY, may("keep", Count, "2", "how many are kept")],
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
    },
    KindSchema {
        name: "sweep",
        doc: "One node at many points: `for`, `where`, `let`, and `run`.",
        value: None,
        value_only: false,
        fields: &[
            must("run", Any, "the node at a point: `baseline with { .. }`"),
            may(
                "total",
                Number(&["FLOPs", "tokens", "s", "USD"]),
                "",
                "what all points together may cost",
            ),
            may(
                "order",
                Word(&["as_written", "cheapest_first"]),
                "as_written",
                "which point is first",
            ),
            may(
                "search",
                Setting,
                "",
                "draws points from distributions: `tpe(minimize = .valid_loss, points = 40)`",
            ),
            may("stop", Any, "", "ends hopeless points early: `halving(..)`"),
            may("best", Row, ".valid_loss", "what the best point has the least of"),
        ],
        blocks: &[],
        facts: &[
            fixed("points", "how many points"),
            fixed("flops", "model FLOPs of all points"),
            later("best", "the settings and results of the best point"),
            later("runs", "the runs"),
            later("metrics", "rows: one for each step of each run"),
        ],
        part: SWEEPS,
    },
    KindSchema {
        name: "fit",
        doc: "A law through the results of runs.",
        value: None,
        value_only: false,
        fields: &[
            must("runs", Data, "a sweep, or rows made of one"),
            must("law", Law, "`.valid_loss ~ E + A / .params^alpha`"),
            may(
                "free",
                Ranges,
                "the law's own parameters",
                "constants to be found, with their ranges",
            ),
            may(
                "error",
                Setting,
                "squared",
                "what is made small: `huber(1e-3, on = log)`, `squared(on = log)`, `absolute`",
            ),
            may(
                "starts",
                Setting,
                "64 points drawn from the ranges and the data",
                "where the search begins: a number of points, `hoffmann`, or a list of records",
            ),
            may("weight", Row, "", "how much a row counts"),
            may("held_out", Row, "", "rows that are predicted and not fitted: `.flops > 1e18`"),
            may("bootstrap", Count, "0", "resamplings of whole runs for intervals"),
            may("seed", Count, "0", "of the starts and the resamplings"),
        ],
        blocks: &[],
        facts: &[
            later("coefficients", "rows: name, value, interval"),
            later(
                "optimum",
                "the best sizes: `optimum(C)`, or `optimum(minimize = .., such_that = ..)`",
            ),
            later("predict", "what the law says at sizes: `predict(params = N, tokens = D)`"),
            later("agree", "the share of starts that came to the same end"),
            later("residuals", "the rows of the fit, each with `predicted` and `residual`"),
        ],
        part: SWEEPS,
    },
    KindSchema {
        name: "report",
        doc: "A page of plots, tables and text.",
        value: None,
        value_only: false,
        fields: &[
            may("title", Template, "its name", "the heading"),
            may("text", Template, "", "a paragraph"),
            may(
                "export",
                Words(&["html", "markdown", "svg", "png", "csv", "parquet"]),
                "html",
                "in which forms it is written",
            ),
        ],
        blocks: &[
            BlockSchema { name: "plot", doc: "A plot.", fields: PLOT },
            BlockSchema { name: "table", doc: "A table.", fields: TABLE },
        ],
        facts: &[],
        part: "",
    },
    KindSchema {
        name: "plot",
        doc: "A plot on its own.",
        value: None,
        value_only: false,
        fields: PLOT,
        blocks: &[],
        facts: &[],
        part: "",
    },
    KindSchema {
        name: "table",
        doc: "A table on its own.",
        value: None,
        value_only: false,
        fields: TABLE,
        blocks: &[],
        facts: &[],
        part: "",
    },
    KindSchema {
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
    },
    KindSchema {
        name: "generate",
        doc: "Texts of a trained model.",
        value: None,
        value_only: false,
        fields: &[
            must("model", Any, "the model with weights: `base.final`"),
            may("prompts", Any, "\"\"", "texts or rows to begin with"),
            may("length", Number(&["tokens"]), "256 tokens", "new tokens at most"),
            may("batch", Number(&["rows", ""]), "1 rows", "completions side by side"),
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
    },
    KindSchema {
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
    },
    KindSchema {
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
            fields: GENERATE,
        }],
        facts: &[
            later("accuracy", "share of rows that are right"),
            later("stderr", "its standard error"),
        ],
        part: TASKS,
    },
];

/// The schema of a kind.
pub fn kind(name: &str) -> Option<&'static KindSchema> {
    KINDS.iter().find(|k| k.name == name)
}

impl KindSchema {
    /// A field by name.
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|f| f.name == name)
    }

    /// A block by name.
    pub fn block(&self, name: &str) -> Option<&'static BlockSchema> {
        self.blocks.iter().find(|b| b.name == name)
    }

    /// Names of fields and blocks, for suggestions.
    pub fn names(&self) -> Vec<&'static str> {
        let fields = self.fields.iter().map(|f| f.name);
        fields.chain(self.blocks.iter().map(|b| b.name)).collect()
    }
}

impl FieldType {
    /// What is needed, in words: "a number in steps, tokens or s".
    pub fn words(&self) -> String {
        let any_of = |items: &[&str]| match items {
            [] => String::new(),
            [one] => (*one).to_owned(),
            [init @ .., last] => format!("{} or {last}", init.join(", ")),
        };
        let units = |units: &[&str]| match units {
            [""] => "a plain number".to_owned(),
            units => {
                let named: Vec<&str> = units
                    .iter()
                    .filter(|u| !u.is_empty())
                    .map(|u| if *u == "s" { "time" } else { u })
                    .collect();
                format!("in {}", any_of(&named))
            }
        };
        match self {
            Number(u) => units(u),
            Scheduled(u) => format!("{}, or a schedule", units(u)),
            Count => "a whole number".into(),
            Share => "a share such as 10%".into(),
            Switch => "on or off".into(),
            Text => "text".into(),
            Template => "text".into(),
            Texts => "a list of texts".into(),
            Word(w) => any_of(w),
            Words(w) => format!("one or a list of {}", w.join(", ")),
            WordOr(w, fields) => format!("{}, or a record of {}", any_of(w), fields.join(", ")),
            Data => "data".into(),
            Tokenizer => "a tokenizer".into(),
            Model => "a model".into(),
            Optimizer => "an optimizer".into(),
            Loss => "a loss".into(),
            Setting => "a setting".into(),
            Row => "an expression over rows, such as `.loss`".into(),
            Law => "a law such as `.valid_loss ~ E + A / .params^alpha`".into(),
            Ranges => "a record of ranges, such as `{ E = 0.1..5 }`".into(),
            Axes => "a block of axes, such as `{ batch -> data }`".into(),
            Nodes(k) => format!("a {}", any_of(k)),
            Any => "a value".into(),
        }
    }

    /// The words that a bare name may be.
    pub fn cases(&self) -> &'static [&'static str] {
        match self {
            Word(w) | Words(w) | WordOr(w, _) => w,
            Switch => &["on", "off"],
            Number(_) | Scheduled(_) | Count | Share | Text | Template | Texts | Data
            | Tokenizer | Model | Optimizer | Loss | Setting | Row | Law | Ranges | Axes
            | Nodes(_) | Any => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_every_field_has_a_sentence() {
        for k in KINDS {
            let mut seen = Vec::new();
            for name in k.names() {
                // `generate` of a task is a block, `pipeline` too: never both.
                assert!(!seen.contains(&name), "{}.{name}", k.name);
                seen.push(name);
            }
            let blocks = k.blocks.iter().flat_map(|b| b.fields.iter());
            for f in k.fields.iter().chain(blocks) {
                assert!(
                    !f.doc.is_empty() && (!f.required || f.default.is_empty()),
                    "{}.{}",
                    k.name,
                    f.name
                );
            }
            assert!(!k.doc.is_empty());
        }
    }
}
