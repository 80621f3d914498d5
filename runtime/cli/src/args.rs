//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Describe an experiment with a language model, see what it costs, run it.
#[derive(Debug, Parser)]
#[command(name = "cs336c", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Everything as JSON, one object a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a program and count what it costs; reads no data
    Check(Source),
    /// Show what `run` would do: which runs are there, steps, FLOPs, memory
    Plan {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        nodes: Nodes,
        /// Print FLOPs by operation and by layer
        #[arg(long)]
        costs: bool,
        /// Print the plan of one optimizer step
        #[arg(long)]
        kernels: bool,
    },
    /// Time optimizer steps of a training run on random tokens: whole, and by layer; nothing is read or recorded
    Profile {
        #[command(flatten)]
        source: Source,
        /// The training run; none: the only one
        node: Option<String>,
        /// How many steps, besides the first
        #[arg(long, value_name = "N", default_value_t = 10)]
        steps: usize,
        #[command(flatten)]
        machine: Machine,
    },
    /// Print a tensor graph of a training run's model
    Graph {
        #[command(flatten)]
        source: Source,
        /// The training run
        node: String,
        /// Which graph
        #[arg(long, value_enum, default_value_t = Stage::Step)]
        stage: Stage,
    },
    /// Run what is missing: check, plan, execute; an incomplete run goes on
    Run {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        nodes: Nodes,
        /// Start nodes with `start = ask` too
        #[arg(long)]
        yes: bool,
        /// Try points of sweeps again that failed
        #[arg(long, value_enum, value_name = "WHICH")]
        retry: Option<Retry>,
        /// Points of a sweep that run at a time, at most
        #[arg(long, value_name = "N", value_parser = a_few)]
        jobs: Option<usize>,
        #[command(flatten)]
        machine: Machine,
    },
    /// Run any layer, model, loss or optimizer step of a file on given tensors
    ///
    /// Tensors are .npz or .safetensors. Inputs have the names of parameters, weights their paths. Leading axes beyond the declared
    /// ones are batch axes. Outputs are `out` or the fields of a record; gradients are `grad:NAME`. Outputs have their batch axes first
    /// and the axes that `forward` declares last; where it declares none, those of the inputs in their order, then new ones.
    Apply {
        #[command(flatten)]
        source: Source,
        /// The layer, model, loss, optimizer or training run
        name: String,
        /// Input tensors
        #[arg(long = "in", value_name = "FILE")]
        input: PathBuf,
        /// Weights; without them there are none
        #[arg(long, value_name = "FILE")]
        weights: Option<PathBuf>,
        /// Where the outputs go
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Gradients of outputs; asks for the gradients of inputs and weights
        #[arg(long, value_name = "FILE")]
        grad: Option<PathBuf>,
        /// The size of an axis that no tensor tells: `heads=4`
        #[arg(long = "size", value_name = "AXIS=N")]
        sizes: Vec<String>,
        #[command(flatten)]
        machine: Machine,
    },
    /// Read, split and encode the data of a program; show what is there
    Data {
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        nodes: Nodes,
    },
    /// Show all runs and how they stand
    Status {
        /// Where runs are
        #[arg(long, default_value = "runs", value_name = "FOLDER")]
        runs: PathBuf,
    },
    /// Ask the ledger of runs: `iso |> keep(.loss < 3) |> best_by(.valid_loss, per = .budget)`
    ///
    /// Names of runs and sweeps stand for their rows, `runs` for all. Stages: keep, drop, best_by, sort_by, take, set, select, group_by.
    Query(Query),
    /// Show which settings make two runs differ, and what they did to the figures
    Diff {
        /// A run: its folder, its name, or the beginning of its key
        left: String,
        /// The other one
        right: String,
        /// Where runs are
        #[arg(long, default_value = "runs", value_name = "FOLDER")]
        runs: PathBuf,
    },
    /// Write metrics of runs for other tools
    Export {
        /// For which tool
        #[arg(value_enum)]
        tool: Tool,
        /// Runs; none: all
        chosen: Vec<String>,
        /// Where runs are
        #[arg(long, default_value = "runs", value_name = "FOLDER")]
        runs: PathBuf,
        /// Where the files go
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
    /// Lay out programs in the house's way; comments and line ends stay
    Fmt {
        /// The programs
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Change nothing; exit with 1 if something would change
        #[arg(long)]
        check: bool,
    },
    /// Measure this machine; estimates of time use the result
    Doctor {
        #[command(flatten)]
        machine: Machine,
    },
    /// Print completions for a shell: `source <(cs336c completions bash)`
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Explain a code, such as E0412; without one, list all
    Explain {
        /// The code
        code: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The program
    pub(crate) file: String,
    /// Replace a value: `--set baseline.seed=7`; may be repeated
    #[arg(long = "set", value_name = "PATH=EXPR")]
    pub(crate) sets: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// Rows, and what is done with them
    #[arg(default_value = "runs")]
    pub(crate) query: String,
    /// Ask in SQL instead: tables `runs` and `metrics`
    #[arg(long, value_name = "SELECT", conflicts_with_all = ["query", "file"])]
    pub(crate) sql: Option<String>,
    /// A program whose nodes may be named
    #[arg(long)]
    pub(crate) file: Option<String>,
    /// Replace a value of the program
    #[arg(long = "set", value_name = "PATH=EXPR", requires = "file")]
    pub(crate) sets: Vec<String>,
    /// Where runs are
    #[arg(long, default_value = "runs", value_name = "FOLDER")]
    pub(crate) runs: PathBuf,
    /// In which form; without it the ending of `--out` decides
    #[arg(long, value_enum)]
    pub(crate) format: Option<Format>,
    /// A file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// A line of names, then a line for each row
    Csv,
    /// A list of objects
    Json,
    /// Columns, for other tools
    Parquet,
}

impl Format {
    pub(crate) fn form(self) -> cs336_table::Form {
        match self {
            Self::Table => cs336_table::Form::Text,
            Self::Csv => cs336_table::Form::Csv,
            Self::Json => cs336_table::Form::Json,
            Self::Parquet => cs336_table::Form::Parquet,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Tool {
    /// Event files
    Tensorboard,
}

#[derive(Debug, Args)]
pub(crate) struct Nodes {
    /// Nodes, with all that they need; none: all nodes
    pub(crate) nodes: Vec<String>,
    /// Where runs are
    #[arg(long, default_value = "runs", value_name = "FOLDER")]
    pub(crate) runs: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Machine {
    /// Threads; results do not depend on them
    #[arg(long, value_name = "N", value_parser = a_few)]
    pub(crate) threads: Option<usize>,
    /// What runs it
    #[arg(long, value_enum, default_value_t = Wanted::Auto, value_name = "DEVICE")]
    pub(crate) device: Wanted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Wanted {
    /// The first GPU if there is one, else the processor
    Auto,
    /// The processor
    Cpu,
    /// The first GPU
    Cuda,
}

/// Threads or runs at a time, at most: more would be a slip of the pen, and the system would give up before the run does.
const MANY: usize = 1024;

/// A number of threads or runs.
fn a_few(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(n) if (1..=MANY).contains(&n) => Ok(n),
        Ok(_) | Err(_) => Err(format!("a whole number from 1 to {MANY} is needed")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Retry {
    /// Those that failed
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Stage {
    /// One optimizer step
    Step,
    /// The held-out loss
    Eval,
    /// Filling weights and states
    Init,
    /// Reading a prompt of half the context
    Prefill,
    /// Reading one token more
    Decode,
}
