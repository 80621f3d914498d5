//! Data: sources and stages, their arguments, and what a pipeline means as a [`DataSpec`].
//!
//! A source gives rows with columns; a stage takes rows to rows. One table says for each its arguments with their types, and which
//! part of the project runs it.

use std::rc::Rc;

use super::call::Args;
use super::eval::{Eval, describe};
use super::hir::{DataSpec, Source, Stage};
use super::kinds::schema::EXACT;
use super::trace::stream;
use super::value::{DefKind, NodeValue, Record, Scope, Stream, Value};
use super::{rows, units};
use crate::problem::{Problem, did_you_mean};
use crate::source::Span;
use crate::syntax::ast;

/// The type of an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Text.
    Text,
    /// A whole number of things; may carry a unit.
    Count,
    /// The same, at least one.
    Some,
    /// A share such as 5%.
    Share,
    /// One of some words.
    Word(&'static [&'static str]),
    /// A condition or value over the row at hand.
    Row,
    /// A value over the row at hand, or a list of them.
    Rows,
    /// `true`, `false`.
    Switch,
    /// A tokenizer node.
    Tokenizer,
    /// Anything; its part checks it.
    Any,
}

/// An argument: name, type, whether it must be given.
type Param = (&'static str, Kind, bool);

/// One source or stage.
struct Entry {
    name: &'static str,
    source: bool,
    /// In positional order.
    params: &'static [Param],
    /// More positional values are allowed.
    many: bool,
    /// Empty: built.
    part: &'static str,
}

const DATA: &str = "part 5, data and filters";
const TABLES: &str = "rows of runs and of tables";
const ALIGN: &str = "the alignment part";

const fn entry(
    name: &'static str,
    source: bool,
    params: &'static [Param],
    part: &'static str,
) -> Entry {
    Entry { name, source, params, many: false, part }
}

const fn many(name: &'static str, params: &'static [Param], part: &'static str) -> Entry {
    Entry { name, source: false, params, many: true, part }
}

const TABLE: &[Entry] = &[
    entry("files", true, &[("pattern", Kind::Text, true), ("split_on", Kind::Text, false)], ""),
    entry("stories", true, &[("count", Kind::Some, false), ("seed", Kind::Count, false)], ""),
    entry("warc", true, &[("pattern", Kind::Text, true)], DATA),
    entry("jsonl", true, &[("pattern", Kind::Text, true), ("columns", Kind::Any, false)], DATA),
    entry("csv", true, &[("pattern", Kind::Text, true), ("columns", Kind::Any, false)], DATA),
    entry("parquet", true, &[("pattern", Kind::Text, true), ("columns", Kind::Any, false)], DATA),
    entry(
        "mix",
        true,
        &[("shares", Kind::Any, true), ("epochs", Kind::Any, false), ("seed", Kind::Count, false)],
        DATA,
    ),
    many("keep", &[("condition", Kind::Row, true)], DATA),
    many("drop", &[("condition", Kind::Row, true)], DATA),
    many("mask", &[("pattern", Kind::Any, true)], DATA),
    entry(
        "dedup",
        false,
        &[("by", Kind::Any, false), ("keep", Kind::Word(&["first", "longest", "latest"]), false)],
        DATA,
    ),
    entry(
        "decontaminate",
        false,
        &[("against", Kind::Any, true), ("ngram", Kind::Some, false)],
        DATA,
    ),
    entry("set", false, &[], DATA),
    entry("take", false, &[("count", Kind::Some, true), ("seed", Kind::Count, false)], DATA),
    entry(
        "best_by",
        false,
        &[
            ("value", Kind::Row, true),
            ("per", Kind::Rows, false),
            ("greatest", Kind::Switch, false),
        ],
        TABLES,
    ),
    entry(
        "sort_by",
        false,
        &[("by", Kind::Rows, true), ("descending", Kind::Switch, false)],
        TABLES,
    ),
    many("select", &[], TABLES),
    many("group_by", &[("per", Kind::Rows, true)], TABLES),
    entry(
        "holdout",
        false,
        &[
            ("valid", Kind::Share, false),
            ("seed", Kind::Count, false),
            ("tail", Kind::Share, false),
        ],
        "",
    ),
    entry("encode", false, &[("tokenizer", Kind::Tokenizer, true)], ""),
    entry(
        "pack",
        false,
        &[
            ("seq", Kind::Some, true),
            ("sample", Kind::Word(&["sequential", "random"]), false),
            ("within", Kind::Word(&["corpus", "document"]), false),
        ],
        "",
    ),
    entry("pad", false, &[("seq", Kind::Some, true), ("bucket", Kind::Any, false)], ALIGN),
    entry(
        "chat",
        false,
        &[
            ("tokenizer", Kind::Tokenizer, true),
            ("template", Kind::Text, false),
            ("learn", Kind::Word(&["assistant", "all"]), false),
        ],
        ALIGN,
    ),
    entry(
        "prompt",
        false,
        &[("template", Kind::Text, true), ("tokenizer", Kind::Tokenizer, true)],
        ALIGN,
    ),
    entry(
        "rollout",
        false,
        &[("each", Kind::Some, true), ("length", Kind::Some, true), ("sample", Kind::Any, false)],
        ALIGN,
    ),
    entry("reward", false, &[("score", Kind::Any, true)], ALIGN),
];

/// Constructors that are no stages: settings of fields of nodes. Their arguments are kept as a record.
const CONSTRUCTORS: &[&str] = &[
    "minhash",
    "huber",
    "squared",
    "absolute",
    "log_range",
    "ema",
    "ramp",
    "tpe",
    "halving",
    "recorded",
    "http",
    "interleaved",
    "log_uniform",
    "speculate",
    "top_p",
    "top_k",
    "min_p",
    "word_ngrams",
    "exact_match",
];

/// All names, for the prelude.
pub fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|e| e.name).chain(CONSTRUCTORS.iter().copied())
}

/// Calls a source, a stage or a constructor.
pub fn call(
    eval: &mut Eval<'_>,
    scope: &Scope,
    name: &'static str,
    args: Args,
    span: Span,
) -> Value {
    let _ = scope;
    if name == "log_range" {
        return log_range(eval, &args, span);
    }
    let Some(entry) = TABLE.iter().find(|e| e.name == name) else {
        let mut record = Record::default();
        record.set("kind", Value::Text(name.into()), Some(span));
        for (i, (v, at)) in args.positional.into_iter().enumerate() {
            record.set(&format!("{i}"), v, Some(at));
        }
        for (n, (v, at)) in args.named {
            record.set(&n, v, Some(at));
        }
        return Value::Record(Rc::new(record));
    };
    let mut positional = args.positional.into_iter();
    let input = if entry.source {
        None
    } else {
        let first = positional.next();
        let is_data = |v: &Value| {
            matches!(v, Value::Stream(_) | Value::Error | Value::Later(_) | Value::Node(_))
        };
        let Some((first, at)) = first.filter(|(v, _)| is_data(v)) else {
            return eval.problem(
                Problem::new("E0313", span, format!("`{name}` needs data to work on"))
                    .help(format!("write `data |> {name}(..)`")),
            );
        };
        match as_stream(eval, first, at) {
            Some(s) => Some(s),
            None => return Value::Error,
        }
    };
    let mut record = Record::default();
    let mut fine = true;
    for (i, (v, at)) in positional.enumerate() {
        match entry.params.get(i) {
            Some((param, kind, _)) => {
                fine &= fits(eval, name, param, *kind, &v, at);
                record.set(param, v, Some(at));
            }
            None if entry.many => {
                record.set(&format!("{i}"), v, Some(at));
            }
            None => {
                eval.problem(Problem::new("E0308", at, format!("`{name}` takes no more values")));
                fine = false;
            }
        }
    }
    for (n, (v, at)) in args.named {
        match entry.params.iter().find(|(p, _, _)| *p == n) {
            Some((param, kind, _)) => {
                fine &= fits(eval, name, param, *kind, &v, at);
                record.set(param, v, Some(at));
            }
            // Columns of `encode(bpe, source = .de)`, `set(text = ..)`.
            None if entry.many || matches!(name, "set" | "encode" | "pad") => {
                record.set(&n, v, Some(at))
            }
            None => {
                let names: Vec<&str> = entry.params.iter().map(|(p, _, _)| *p).collect();
                let mut p = Problem::new("E0203", at, format!("no argument `{n}` in `{name}`"));
                if let Some(near) = did_you_mean(&n, names.iter().copied()) {
                    p = p.help(format!("did you mean `{near}`?"));
                } else {
                    p = p.help(format!("it takes: {}", names.join(", ")));
                }
                eval.problem(p);
                fine = false;
            }
        }
    }
    for (param, _, required) in entry.params {
        if *required && record.get(param).is_none() {
            eval.problem(Problem::new(
                "E0309",
                span,
                format!("`{name}` needs a value for `{param}`"),
            ));
            fine = false;
        }
    }
    if name == "holdout" && record.get("valid").is_some() == record.get("tail").is_some() {
        eval.problem(
            Problem::new("E0309", span, "`holdout` needs one of `valid` and `tail`")
                .help("`valid = 5%` draws documents, `tail = 10%` takes the end of the text"),
        );
        fine = false;
    }
    if let Some(input) = &input {
        fine &= in_order(eval, name, input, span);
    }
    if matches!(name, "keep" | "drop" | "set") {
        for (v, _) in record.fields.values() {
            if let Value::Row(row) = v {
                fine &= rows::check(eval, name, input.as_deref(), &row.expr, name != "set");
            }
        }
    }
    if !fine {
        return Value::Error;
    }
    Value::Stream(Rc::new(Stream { stage: entry.name, args: record, input, node: None, span }))
}

/// What the rows of a pipeline are by now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Form {
    Texts,
    Tokens,
    Rows,
}

impl Form {
    fn of(s: &Stream) -> Self {
        match s.stage {
            "pack" | "pad" => Self::Rows,
            "encode" | "chat" | "prompt" => Self::Tokens,
            _ => s.input.as_ref().map_or(Self::Texts, |i| Self::of(i)),
        }
    }
}

/// What a stage works on at most: what is encoded is no text any more, what is packed no documents.
const WORKS_ON: &[(&str, Form)] =
    &[("holdout", Form::Texts), ("encode", Form::Texts), ("pack", Form::Tokens)];

/// E0317 if a stage comes too late.
fn in_order(eval: &mut Eval<'_>, name: &str, input: &Stream, span: Span) -> bool {
    let Some((_, most)) = WORKS_ON.iter().find(|(n, _)| *n == name) else { return true };
    let have = Form::of(input);
    if have <= *most {
        return true;
    }
    let (is, needs) = match (have, most) {
        (Form::Rows, Form::Tokens) => ("packed", "tokens that are not"),
        (Form::Rows, _) => ("packed", "texts"),
        (_, _) => ("encoded", "texts"),
    };
    let text = format!("the data are {is} already, `{name}` works on {needs}");
    let mut at = input;
    while Form::of(at) == have
        && let Some(before) = at.input.as_deref()
        && Form::of(before) == have
    {
        at = before;
    }
    let p = Problem::new("E0317", span, text).label(at.span, format!("{is} here"));
    eval.problem(p.help("the order is `files(..) |> holdout(..) |> encode(..) |> pack(..)`"));
    false
}

fn fits(eval: &mut Eval<'_>, stage: &str, param: &str, kind: Kind, v: &Value, at: Span) -> bool {
    let want = match (kind, v) {
        (_, Value::Error | Value::Later(_)) | (Kind::Any, _) => return true,
        (Kind::Text, Value::Text(t)) if t.is_empty() => "text with something in it".to_owned(),
        (Kind::Text, Value::Text(_)) | (Kind::Row, Value::Row(_) | Value::Bool(_)) => return true,
        (Kind::Switch, Value::Bool(_)) => return true,
        (Kind::Rows, Value::Row(_)) => return true,
        (Kind::Rows, Value::List(l)) if l.iter().all(|v| matches!(v, Value::Row(_))) => {
            return true;
        }
        // A filter or score of one row.
        (Kind::Row, Value::Def(d)) if is_judge(d.kind) => return true,
        (Kind::Row, Value::Program(p)) if is_judge(p.def.kind) => return true,
        (Kind::Count, Value::Number(q)) if whole(q.value, 0.0) => return true,
        (Kind::Some, Value::Number(q)) if whole(q.value, 1.0) => return true,
        (Kind::Share, Value::Number(q)) if q.unit.is_none() && q.value > 0.0 && q.value < 1.0 => {
            return true;
        }
        (Kind::Word(words), Value::Text(t)) if words.contains(&&**t) => return true,
        (Kind::Tokenizer, Value::Node(n)) if n.kind == "tokenizer" => return true,
        (Kind::Text, _) => "text".to_owned(),
        (Kind::Switch, _) => "`true` or `false`".to_owned(),
        (Kind::Rows, _) => "a value of rows, such as `.loss`, or a list of them".to_owned(),
        (Kind::Row, _) => "a condition over rows, such as `.chars > 200`".to_owned(),
        (Kind::Count, Value::Number(q)) if q.value >= EXACT => {
            format!("at most {}, where numbers are exact", EXACT - 1.0)
        }
        (Kind::Count, _) => "a whole number".to_owned(),
        (Kind::Some, _) => "a whole number of at least 1".to_owned(),
        (Kind::Share, _) => "a share between 0% and 100%".to_owned(),
        (Kind::Word(words), _) => format!("one of {}", words.join(", ")),
        (Kind::Tokenizer, _) => "a tokenizer".to_owned(),
    };
    let text = format!("`{param}` of `{stage}` must be {want}, this is {}", describe(v));
    let is_range = matches!(
        (kind, v),
        (Kind::Count | Kind::Some | Kind::Share, Value::Number(_)) | (Kind::Text, Value::Text(_))
    );
    eval.problem(Problem::new(if is_range { "E0316" } else { "E0301" }, at, text));
    false
}

fn whole(x: f64, least: f64) -> bool {
    x >= least && x < EXACT && x.fract() == 0.0
}

fn is_judge(kind: DefKind) -> bool {
    matches!(kind, DefKind::Filter | DefKind::Score)
}

/// Points of a `log_range`, at most.
const LONGEST_RANGE: f64 = 100_000.0;

/// `log_range(a, b, n)`: n numbers from a to b, equal in ratio.
fn log_range(eval: &mut Eval<'_>, args: &Args, span: Span) -> Value {
    let [(Value::Number(a), _), (Value::Number(b), _), (Value::Number(n), _)] =
        args.positional.as_slice()
    else {
        return eval.problem(Problem::new(
            "E0308",
            span,
            "`log_range` takes a start, an end and a count",
        ));
    };
    let mut unit_a = a.clone();
    if a.unit.is_none() && !b.unit.is_none() {
        unit_a.unit = b.unit.clone();
    }
    // A sweep of more points is a slip of the pen, and its list would not fit into memory.
    if n.value > LONGEST_RANGE {
        let text = format!("`log_range` of {} points", units::show(n));
        let p = Problem::new("E0301", span, text).help(format!(
            "at most {LONGEST_RANGE}; the third argument is how many points there are"
        ));
        return eval.problem(p);
    }
    let count = n.value as usize;
    if unit_a.unit != b.unit || a.value <= 0.0 || b.value <= 0.0 || count < 2 {
        let text = format!("`log_range` from {} to {}", units::show(a), units::show(b));
        return eval.problem(
            Problem::new("E0301", span, text)
                .help("both ends are positive, in one unit, and there are at least 2 points"),
        );
    }
    let items = (0..count)
        .map(|i| {
            let x = i as f64 / (count - 1) as f64;
            // The ends are themselves, whatever rounding would make of them.
            let value = match i {
                0 => unit_a.value,
                i if i + 1 == count => b.value,
                _ => (unit_a.value.ln() * (1.0 - x) + b.value.ln() * x).exp(),
            };
            Value::Number(super::value::Quantity { value, ..unit_a.clone() })
        })
        .collect();
    Value::List(Rc::new(items))
}

/// Fields of a fit that are rows: its constants, and its rows with what the law says of them.
pub fn is_found(field: &str) -> bool {
    matches!(field, "coefficients" | "residuals")
}

/// What a question to a fit is called before it is answered.
pub fn is_answer(what: &str) -> bool {
    what.starts_with("predict(") || what.starts_with("optimum(")
}

/// A value as a pipeline: a stream, or a data node (its training side where it has a holdout).
pub fn as_stream(eval: &mut Eval<'_>, v: Value, span: Span) -> Option<Rc<Stream>> {
    match v {
        Value::Stream(s) => Some(s),
        Value::Node(n) if n.kind == "data" => match split_of(eval, &n, "train", span) {
            Value::Stream(s) => Some(s),
            _ => None,
        },
        Value::Node(n) if matches!(n.kind.as_str(), "sweep" | "train") => Some(Rc::new(Stream {
            stage: "runs",
            args: Record::default(),
            input: None,
            node: Some((n.name.clone(), "".into())),
            span,
        })),
        // What a fit found is rows too, under a name that no node has.
        Value::Later(l) if is_found(&l.what) => Some(Rc::new(Stream {
            stage: "runs",
            args: Record::default(),
            input: None,
            node: Some((format!("{}.{}", l.node, l.what).into(), "".into())),
            span,
        })),
        Value::Error | Value::Later(_) => None,
        other => {
            let text = format!("data is needed, this is {}", describe(&other));
            eval.problem(Problem::new("E0301", span, text));
            None
        }
    }
}

/// A side of a data node: everything, if it has no holdout and `train` is asked.
pub fn split_of(eval: &mut Eval<'_>, n: &NodeValue, side: &str, span: Span) -> Value {
    let Some(Value::Stream(s)) = n.fields.get("value") else { return Value::Error };
    let held = has_holdout(s);
    if !held && side == "train" {
        return Value::Stream(Rc::new(Stream {
            stage: s.stage,
            args: s.args.clone(),
            input: s.input.clone(),
            node: Some((n.name.clone(), side.into())),
            span: s.span,
        }));
    }
    if !held {
        return eval.problem(
            Problem::new("E0203", span, format!("`{}` has no `.{side}`", n.name))
                .help("end its pipeline with `|> holdout(valid = 5%)`"),
        );
    }
    let mut args = Record::default();
    args.set("name", Value::Text(side.into()), None);
    let node = Some((n.name.clone(), side.into()));
    Value::Stream(Rc::new(Stream { stage: "split", args, input: Some(s.clone()), node, span }))
}

/// True if there are two sides to choose from: where one was taken already, there is no other.
fn has_holdout(s: &Stream) -> bool {
    s.stage != "split" && (s.stage == "holdout" || s.input.as_ref().is_some_and(|i| has_holdout(i)))
}

impl Eval<'_> {
    /// `data |> holdout(..)` has `.train` and `.valid`.
    pub fn stream_member(&mut self, s: &Rc<Stream>, name: &ast::Ident) -> Value {
        if has_holdout(s) && matches!(name.name.as_str(), "train" | "valid") {
            let mut args = Record::default();
            args.set("name", Value::Text(name.name.as_str().into()), None);
            return Value::Stream(Rc::new(Stream {
                stage: "split",
                args,
                input: Some(s.clone()),
                node: None,
                span: name.span,
            }));
        }
        self.no_field(name, "this data", vec!["train".into(), "valid".into()])
    }
}

/// A pipeline as the laboratory runs it. `name` seeds what draws and has no seed of its own.
pub fn spec(eval: &Eval<'_>, s: &Stream, name: &str) -> DataSpec {
    let mut chain = vec![s];
    while let Some(input) = &chain[chain.len() - 1].input {
        chain.push(input);
    }
    chain.reverse();
    let text = |s: &Stream, n: &str| match s.args.get(n) {
        Some(Value::Text(t)) => Some(t.to_string()),
        _ => None,
    };
    let number = |s: &Stream, n: &str| match s.args.get(n) {
        Some(Value::Number(q)) => Some(q.value),
        _ => None,
    };
    let base = eval.sources.file(chain[0].span.file).name.clone();
    // A side is taken of the texts, where they are divided, also where it is named behind later stages.
    for at in 1..chain.len() {
        if chain[at].stage == "split"
            && let Some(divided) = (1..at).rev().find(|i| chain[*i].stage == "holdout")
        {
            let side = chain.remove(at);
            chain.insert(divided + 1, side);
        }
    }
    // A stage draws by the data node that it is written in, so that everybody who names the node has the same texts and the same sides.
    let seed = |at: usize| {
        let owner = chain[at..].iter().find_map(|s| s.node.as_ref().map(|(n, _)| n.to_string()));
        stream("order", &owner.unwrap_or_else(|| name.to_owned()), 0) % (1 << 48)
    };
    let source = match chain[0].stage {
        "files" => Source::Files {
            pattern: text(chain[0], "pattern").unwrap_or_default(),
            split_on: text(chain[0], "split_on"),
            base,
        },
        "stories" => Source::Stories {
            count: number(chain[0], "count").unwrap_or(10_000.0) as u64,
            seed: number(chain[0], "seed").map_or_else(|| seed(0), |x| x as u64),
        },
        other => Source::NotBuilt { name: other.into(), part: part_of(other).into() },
    };
    let stages = (1..chain.len())
        .map(|at| (at, chain[at]))
        .map(|(at, s)| match s.stage {
            "holdout" => match number(s, "tail") {
                Some(tail) => Stage::HoldoutTail { tail },
                None => Stage::HoldoutShare {
                    valid: number(s, "valid").unwrap_or(0.05),
                    seed: number(s, "seed").map_or_else(|| seed(at), |x| x as u64),
                },
            },
            "split" => Stage::Split { name: text(s, "name").unwrap_or_default() },
            "encode" => Stage::Encode {
                tokenizer: match s.args.get("tokenizer") {
                    Some(Value::Node(n)) => n.name.to_string(),
                    _ => String::new(),
                },
            },
            "pack" => Stage::Pack {
                seq: number(s, "seq").unwrap_or(0.0) as u64,
                sample: text(s, "sample").unwrap_or_else(|| "sequential".into()),
            },
            other => Stage::NotBuilt { name: other.into(), part: part_of(other).into() },
        })
        .collect();
    DataSpec { source, stages }
}

/// The tokenizer node that a pipeline encodes with.
pub fn tokenizer_of(s: &Stream) -> Option<Rc<NodeValue>> {
    if let (true, Some(Value::Node(n))) = (s.stage == "encode", s.args.get("tokenizer")) {
        return Some(n.clone());
    }
    s.input.as_ref().and_then(|i| tokenizer_of(i))
}

fn part_of(stage: &str) -> &'static str {
    TABLE.iter().find(|e| e.name == stage).map_or("part 2, sweeps and laws", |e| e.part)
}

/// The first stage of a pipeline that is not built yet, with its part.
pub fn not_built(spec: &DataSpec) -> Option<(String, String)> {
    if let Source::NotBuilt { name, part } = &spec.source {
        return Some((name.clone(), part.clone()));
    }
    spec.stages.iter().find_map(|s| match s {
        Stage::NotBuilt { name, part } => Some((name.clone(), part.clone())),
        Stage::HoldoutShare { .. }
        | Stage::HoldoutTail { .. }
        | Stage::Split { .. }
        | Stage::Encode { .. }
        | Stage::Pack { .. } => None,
    })
}
