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
        /// Print the plan of one optimizer step
        #[arg(long)]
        kernels: bool,
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
        #[command(flatten)]
        machine: Machine,
    },
    /// Run any layer, model, loss or optimizer step of a file on given tensors
    ///
    /// Tensors are .npz or .safetensors. Inputs have the names of parameters, weights their paths. Leading axes beyond the declared
    /// ones are batch axes. Outputs are `out` or the fields of a record; gradients are `grad:NAME`.
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
    /// Measure this machine; estimates of time use the result
    Doctor {
        #[command(flatten)]
        machine: Machine,
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
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
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
