//! The closed schemas of all kinds of nodes: which fields, of which type, with which default, and what each is for.
//!
//! The table is data: the checker reads it to judge a node, `explain` and editors read it to describe one. It says nothing about how a
//! field acts; that is the business of the kind's own file. A field that no row names is an error, so every word that a user
//! may write in a node stands here.

mod answers;
mod runs;
mod studies;

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

/// Which numbers a field takes, in whatever unit it is written. No field takes what is not finite, and steps and rows are always whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Range {
    /// All.
    Any,
    /// Zero and more.
    NotNegative,
    /// More than zero.
    Positive,
    /// 1, 2, ..
    Whole,
}

/// Whole numbers are exact below this: numbers of the language have 53 bits.
pub const EXACT: f64 = 9_007_199_254_740_992.0;

impl Range {
    /// True if a number is in it.
    pub fn has(self, x: f64) -> bool {
        match self {
            Self::Any => true,
            Self::NotNegative => x >= 0.0,
            Self::Positive => x > 0.0,
            Self::Whole => x >= 1.0 && is_whole(x),
        }
    }

    /// "at least 0".
    pub fn words(self) -> &'static str {
        match self {
            Self::Any => "a number",
            Self::NotNegative => "at least 0",
            Self::Positive => "more than 0",
            Self::Whole => "a whole number of at least 1",
        }
    }
}

/// True for whole numbers, and for those that are whole but for rounding.
pub fn is_whole(x: f64) -> bool {
    (x - x.round()).abs() <= 1e-9 * x.abs()
}

/// One field.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub ty: FieldType,
    /// Which numbers, where it takes numbers.
    pub range: Range,
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
    Field { name, ty, range: Range::Any, required: true, default: "", doc }
}

const fn may(name: &'static str, ty: FieldType, default: &'static str, doc: &'static str) -> Field {
    Field { name, ty, range: Range::Any, required: false, default, doc }
}

impl Field {
    /// The same field for numbers of a range only.
    const fn within(self, range: Range) -> Self {
        Self { range, ..self }
    }
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

/// Every kind of node that is not a program.
pub const KINDS: &[KindSchema] = &[
    runs::DATA,
    runs::TOKENIZER,
    runs::DEVICE,
    runs::MESH,
    runs::TRAIN,
    studies::SWEEP,
    studies::FIT,
    studies::REPORT,
    studies::PLOT,
    studies::TABLE,
    answers::EVAL,
    answers::GENERATE,
    answers::CLASSIFIER,
    answers::TASK,
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
