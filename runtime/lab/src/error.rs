//! What can go wrong in the laboratory: one variant per code, each with what a person needs to act.
//!
//! The CLI shows a [`LabError`] as a problem: [`code`](LabError::code) has a page in `compiler/explain/`, `Display` says what
//! was found, [`help`](LabError::help) what to do, [`exit`](LabError::exit) which status the command ends with. Errors of the
//! crates below keep their own codes.

use std::io;
use std::path::{Path, PathBuf};

use cs336_compiler::front::Checked;
use cs336_compiler::problem::{Problem, Problems, did_you_mean};
use cs336_compiler::source::{Sources, Span};
use cs336_data::{DataError, help_to_read, help_to_write};
use cs336_device::DeviceError;
use cs336_table::TableError;

/// Every code of this crate with the title of its page.
pub const CODES: &[(&str, &str)] = &[
    ("E0424", "an index that reaches past its axis"),
    ("E0840", "this part is not built yet"),
    ("E0850", "another process writes this run"),
    ("E0851", "a checkpoint is damaged"),
    ("E0852", "a checkpoint does not fit the model"),
    ("E0853", "the loss is not finite"),
    ("E0854", "this run asks first"),
    ("E0855", "no such node"),
    ("E0856", "a file of a run is damaged"),
    ("E0857", "a tensor does not fit"),
    ("E0859", "the result of another node is not known"),
    ("E0860", "a run broke off"),
    ("E0861", "no such run, or several"),
    ("E0880", "no recorded result"),
    ("E0881", "a run of others cannot be paid"),
    ("E0882", "others gave no answer"),
    ("E0883", "a training API cannot be reached"),
];

/// A problem while running.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// E06xx: files, text, tokenizers, shards.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The compiler refuses the program or a node; its problems have codes, and places in these sources.
    #[error("the program has errors")]
    Program(Box<(Problems, Sources)>),
    /// E0424: a tokenizer that turned out to have more tokens than the model has places.
    #[error(
        "the model of `{node}` has places for {room} tokens, but the tokenizer `{tokenizer}` has {tokens}"
    )]
    Vocabulary {
        /// The run.
        node: String,
        /// The tokenizer's node.
        tokenizer: String,
        /// How many it has.
        tokens: u64,
        /// How many there is room for.
        room: u64,
    },
    /// E0840: checked, but its runtime comes with a later part.
    #[error("{what} is checked, but running it is not built yet: it comes with {part}")]
    NotBuilt {
        /// What was to be run, with its node: ``the sweep `iso` ``.
        what: String,
        /// Which part of the project brings it.
        part: String,
    },
    /// E0850: the lock of a run's folder is taken.
    #[error("another process writes `{}`", dir.display())]
    Locked {
        /// The run's folder.
        dir: PathBuf,
    },
    /// E0851: bytes that are not those that were written.
    #[error("the checkpoint `{}` is damaged: {why}", path.display())]
    Checkpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// What does not agree.
        why: String,
    },
    /// E0851: the last weights of a run, with which another begins, cannot be read.
    #[error("the last weights of `{node}` cannot be taken: {why}")]
    Weights {
        /// The run whose weights are wanted.
        node: String,
        /// Its folder.
        run: PathBuf,
        /// What is wrong.
        why: String,
        /// The step of an earlier checkpoint that is sound.
        sound: Option<u64>,
    },
    /// E0852: a sound checkpoint of another model.
    #[error("the checkpoint `{}` does not fit the model: {why}", path.display())]
    Mismatch {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Which tensor.
        why: String,
    },
    /// E0853: NaN or infinite.
    #[error("the {what} of step {step} is {value}{}", layer.as_ref().map_or(String::new(), |l| format!("; the first value that is not finite appeared in `{l}`")))]
    Diverged {
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// Which step, from 1.
        step: u64,
        /// Layer path and op where it began.
        layer: Option<String>,
        /// The expressions that may have given it, of those that this op comes of.
        places: Vec<Span>,
        /// The newest sound checkpoint, if there is one.
        checkpoint: Option<PathBuf>,
    },
    /// E0854: `start = ask`.
    #[error("`{node}` has `start = ask`: {cost}")]
    Ask {
        /// The run.
        node: String,
        /// What it would spend.
        cost: String,
    },
    /// E0855: a name on the command line that no node has.
    #[error("there is no node `{name}`")]
    NoNode {
        /// As typed.
        name: String,
        /// Names that there are.
        known: Vec<String>,
    },
    /// E0856: a manifest, a metrics file or a list of facts that we have not written so.
    #[error("`{}` is damaged: {why}", path.display())]
    RunFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// E0857: `apply` is given something else than the program says.
    #[error("{0}")]
    Tensor(String),
    /// E080x: the machine cannot run a plan.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// E0859: a node that waits for a result which no run has left.
    #[error("`{node}` needs `{on}`, which has no result")]
    Waits {
        /// The waiting node.
        node: String,
        /// What it waits for.
        on: String,
    },
    /// E0860: a run's thread ended without a word.
    #[error("`{node}` broke off; that is a fault of this program")]
    Crashed {
        /// The run.
        node: String,
    },
    /// E0860: the system gives no further thread.
    #[error("a run cannot have a thread of its own: {source}")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
    /// E0861: a text on the command line that names no run, or more than one.
    #[error("{}", if *several { format!("`{name}` are {} runs", known.len()) } else { format!("there is no run `{name}`") })]
    NoRun {
        /// As typed.
        name: String,
        /// It names more than one.
        several: bool,
        /// Names that there are, or the folders that it may mean.
        known: Vec<String>,
    },
    /// An error of a node, with the place where the program says what went wrong.
    #[error("{error}")]
    Placed {
        /// The error.
        error: Box<LabError>,
        /// The error as a problem of the program.
        program: Box<(Problems, Sources)>,
    },
    /// E0880: a table of results has no row, or several, for a point.
    #[error("`{node}`: {why}")]
    Unrecorded {
        /// The point.
        node: String,
        /// What is missing, with the settings of the point.
        why: String,
    },
    /// E0881: asking would go past a budget, ours or theirs.
    #[error("`{node}` is not asked for: {why}")]
    Unpaid {
        /// The point.
        node: String,
        /// What it costs and what there is.
        why: String,
    },
    /// E0882: the others refuse the settings of a point, its run failed there, or the answer lacks a figure.
    #[error("`{node}`: {why}")]
    Answer {
        /// The point.
        node: String,
        /// What they say.
        why: String,
    },
    /// E0883: no connection, no sense in what comes, or no entry.
    #[error("`{url}` gives nothing: {why}")]
    Unreached {
        /// Where, without the key.
        url: String,
        /// What happened.
        why: String,
    },
    /// E0883: the environment has no key.
    #[error("the environment variable `{name}` with the key of `{url}` is not set")]
    NoKey {
        /// The variable.
        name: String,
        /// Whose key.
        url: String,
    },
    /// Metrics tables.
    #[error(transparent)]
    Table(#[from] TableError),
    /// E087x: a law that its rows do not determine.
    #[error("the fit `{node}`: {why}")]
    Fit {
        /// The fit.
        node: String,
        /// What is wrong, with rows and columns.
        why: cs336_fit::FitProblem,
    },
}

/// How a command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked is done.
    Ok = 0,
    /// The program has errors.
    Program = 1,
    /// The command line cannot be understood.
    Usage = 2,
    /// Refused at run time: a budget, a limit, memory, or a yes that was not given.
    Refused = 3,
    /// A run failed.
    Failed = 4,
    /// Interrupted; `run` again resumes.
    Interrupted = 130,
}

impl LabError {
    /// The stable code, with a page of the same name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Data(error) => error.code(),
            Self::Placed { error, .. } => error.code(),
            Self::Program(_) => "E0100",
            Self::Vocabulary { .. } => "E0424",
            Self::NotBuilt { .. } => "E0840",
            Self::Locked { .. } => "E0850",
            Self::Checkpoint { .. } | Self::Weights { .. } => "E0851",
            Self::Mismatch { .. } => "E0852",
            Self::Diverged { .. } => "E0853",
            Self::Ask { .. } => "E0854",
            Self::NoNode { .. } => "E0855",
            Self::RunFile { .. } => "E0856",
            Self::Tensor(_) => "E0857",
            Self::Device(error) => error.code(),
            Self::Waits { .. } => "E0859",
            Self::NoRun { .. } => "E0861",
            Self::Fit { why, .. } => why.code(),
            Self::Unrecorded { .. } => "E0880",
            Self::Unpaid { .. } => "E0881",
            Self::Answer { .. } => "E0882",
            Self::Unreached { .. } | Self::NoKey { .. } => "E0883",
            Self::Crashed { .. } | Self::Thread { .. } => "E0860",
            Self::Table(error) => match error {
                TableError::Read { .. } => "E0610",
                TableError::Write { .. } => "E0607",
                TableError::Damaged { .. } | TableError::Parquet { .. } => "E0856",
                TableError::Query { code, .. } => code,
                TableError::Table { .. } => "E0621",
            },
        }
    }

    /// What to do about it, one sentence.
    pub fn help(&self) -> String {
        match self {
            Self::Data(error) => error.help(),
            Self::Placed { error, .. } => error.help(),
            Self::Fit { why, .. } => why.help(),
            Self::Program(_) => "mend the program first".to_owned(),
            Self::Vocabulary { tokenizer, .. } => format!("write `vocab = {tokenizer}.vocab`"),
            Self::NotBuilt { .. } => {
                "`check` and `plan` work; other nodes of the file can be run by name".to_owned()
            }
            Self::Locked { .. } => "wait for it, or stop it with Ctrl-C: it saves first".to_owned(),
            Self::Checkpoint { .. } => {
                "`run` goes on from the newest sound checkpoint before it".to_owned()
            }
            Self::Weights { run, sound, .. } => {
                let result = run.join("result.json");
                let from = match sound {
                    Some(step) => format!("goes on from step {step}"),
                    None => "begins anew".to_owned(),
                };
                format!(
                    "delete `{}` and run again: it {from} and makes its last weights again",
                    result.display()
                )
            }
            Self::Mismatch { .. } => {
                "use the weights of a model with the same paths and shapes".to_owned()
            }
            Self::Diverged { checkpoint, .. } => {
                let saved = match checkpoint {
                    Some(path) => format!("the last good checkpoint is `{}`; ", path.display()),
                    None => "there is no checkpoint yet; ".to_owned(),
                };
                saved + "a lower peak learning rate, a longer warm-up or `clip = 1.0` usually help"
            }
            Self::Ask { .. } => "say yes with `--yes`".to_owned(),
            Self::NoNode { name, known } => {
                let names = known.iter().map(String::as_str);
                match did_you_mean(name, names) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the file has {}", listed(known)),
                }
            }
            Self::RunFile { path, .. } if path.ends_with("manifest.json") => {
                "`run` of its node keeps it aside and goes on from the run's checkpoints".to_owned()
            }
            Self::RunFile { .. } => {
                "move the run's folder away and run again; nothing else depends on it".to_owned()
            }
            Self::Tensor(_) => "`cs336c apply --help` says how tensors are named".to_owned(),
            Self::Device(
                DeviceError::NoCuda { .. } | DeviceError::OldCuda { .. } | DeviceError::Cuda { .. },
            ) => "`--device cpu` runs the same program on the processor".to_owned(),
            Self::Device(_) => {
                "a smaller `micro` batch needs less memory; `cs336c doctor` shows the machine"
                    .to_owned()
            }
            Self::Waits { on, .. } => {
                format!("bring `{on}` to its end first: `cs336c run FILE {on}`")
            }
            Self::NoRun { several: true, known, .. } => {
                format!("name its folder: {}", known.join(", "))
            }
            Self::NoRun { name, known, .. } => {
                match did_you_mean(name, known.iter().map(String::as_str)) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "`cs336c status` lists the runs".to_owned(),
                }
            }
            Self::Crashed { .. } => {
                "please report it with the program and what was printed".to_owned()
            }
            Self::Unrecorded { .. } => {
                "leave the point out with a `where`, or add the row to the table".to_owned()
            }
            Self::Unpaid { .. } => {
                "what was answered stays; raise `total`, or leave points out".to_owned()
            }
            Self::Answer { .. } => {
                "mend the settings, or `run --retry failed` asks again".to_owned()
            }
            Self::Unreached { .. } => {
                "what was answered stays; `run` again goes on from there".to_owned()
            }
            Self::NoKey { name, .. } => {
                format!("`export {name}=..`; the key is never written anywhere")
            }
            Self::Thread { .. } => "fewer runs at a time need fewer threads: `--jobs 1`".to_owned(),
            Self::Table(error) => match error {
                TableError::Write { source, .. } => help_to_write(source.kind()).to_owned(),
                TableError::Read { source, .. } => help_to_read(source.kind()).to_owned(),
                TableError::Damaged { .. } | TableError::Parquet { .. } => {
                    "move the file away and run again".to_owned()
                }
                TableError::Query { help, .. } => help.clone(),
                TableError::Table { .. } => {
                    "a table is CSV with a line of names, JSON with one object a line, or Parquet"
                        .to_owned()
                }
            },
        }
    }

    /// Which status the command ends with.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Placed { error, .. } => error.exit(),
            Self::Program(_) => Exit::Program,
            Self::Ask { .. } | Self::Locked { .. } | Self::Unpaid { .. } | Self::NoKey { .. } => {
                Exit::Refused
            }
            Self::NoNode { .. } | Self::NoRun { .. } | Self::Table(TableError::Query { .. }) => {
                Exit::Usage
            }
            Self::Data(_)
            | Self::Vocabulary { .. }
            | Self::NotBuilt { .. }
            | Self::Checkpoint { .. }
            | Self::Weights { .. }
            | Self::Mismatch { .. }
            | Self::Diverged { .. }
            | Self::RunFile { .. }
            | Self::Tensor(_)
            | Self::Device(_)
            | Self::Waits { .. }
            | Self::Fit { .. }
            | Self::Crashed { .. }
            | Self::Thread { .. }
            | Self::Unrecorded { .. }
            | Self::Answer { .. }
            | Self::Unreached { .. }
            | Self::Table(_) => Exit::Failed,
        }
    }

    /// The same error with its place: the line that begins the node `name`.
    pub fn placed(self, checked: &Checked<'_>, name: &str) -> Self {
        let named = match &self {
            Self::Fit { node, .. }
            | Self::Waits { node, .. }
            | Self::Ask { node, .. }
            | Self::Vocabulary { node, .. }
            | Self::Unrecorded { node, .. }
            | Self::Unpaid { node, .. }
            | Self::Answer { node, .. } => node.as_str(),
            Self::Unreached { .. } | Self::NoKey { .. } => name,
            Self::Data(_)
            | Self::Table(_)
            | Self::NotBuilt { .. }
            | Self::Weights { .. }
            | Self::Diverged { .. } => name,
            // These have a place, or are about files of ours and the machine.
            Self::Placed { .. }
            | Self::Program(_)
            | Self::Locked { .. }
            | Self::Checkpoint { .. }
            | Self::Mismatch { .. }
            | Self::NoNode { .. }
            | Self::RunFile { .. }
            | Self::Tensor(_)
            | Self::Device(_)
            | Self::Crashed { .. }
            | Self::Thread { .. }
            | Self::NoRun { .. } => return self,
        };
        let Some(node) = checked.nodes.get(named) else { return self };
        let sources = checked.sources();
        let text = &sources.file(node.span.file).text;
        let whole = text.get(node.span.start as usize..node.span.end as usize).unwrap_or("");
        let line = whole.lines().next().unwrap_or("").trim_end().len();
        let start = node.span.start as usize;
        let span = Span::new(node.span.file, start, start + line);
        let mut problem = Problem::new(self.code(), span, self.to_string()).help(self.help());
        // Values of the user's own formulas are shown there.
        if let Self::Diverged { places, .. } = &self {
            let mut own = places.iter().filter(|place| !sources.file(place.file).is_std);
            if let (Some(only), None) = (own.next(), own.next()) {
                problem = problem.label(*only, "most likely this");
            }
        }
        let mut problems = Problems::default();
        problems.push(problem);
        let program = Box::new((problems, sources.clone()));
        Self::Placed { error: Box::new(self), program }
    }

    /// Writing `path` failed.
    pub fn write(path: &Path, source: io::Error) -> Self {
        Self::Data(DataError::Write { path: path.to_owned(), source })
    }

    /// Reading `path` failed.
    pub fn read(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            return Self::Data(DataError::NoFile { path: path.to_owned() });
        }
        Self::Data(DataError::Read { path: path.to_owned(), source })
    }
}

/// Some names for a sentence.
fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "no nodes".to_owned(),
        n if n > 8 => format!("{} and {} more", shown.join(", "), n - 8),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_pages() {
        let pages = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compiler/explain");
        for (code, title) in CODES {
            let path = pages.join(format!("{code}.md"));
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(text.starts_with(&format!("# {code}: {title}\n")), "{}", path.display());
        }
    }

    #[test]
    fn a_diverged_run_says_where_and_what_is_left() {
        let error = LabError::Diverged {
            what: "loss",
            value: f64::NAN,
            step: 412,
            layer: Some("blocks.mlp silu".to_owned()),
            places: Vec::new(),
            checkpoint: Some("runs/a/checkpoints/00000400".into()),
        };
        assert_eq!(
            error.to_string(),
            "the loss of step 412 is NaN; the first value that is not finite appeared in `blocks.mlp silu`"
        );
        assert!(error.help().contains("00000400"), "{}", error.help());
        assert_eq!(error.exit(), Exit::Failed);
    }
}
