//! The `cs336c` command: one file per command, errors as problems with codes, exit statuses that scripts can use.
//!
//! | status | when |
//! | --- | --- |
//! | 0 | everything that was asked is done |
//! | 1 | the program has errors |
//! | 2 | the command line cannot be understood |
//! | 3 | refused at run time: a limit, a run in use, a yes that was not given |
//! | 4 | a run failed |
//! | 130 | interrupted; `run` again resumes |

mod apply;
mod args;
mod costs;
mod data;
mod diff;
mod doctor;
mod explain;
mod export;
mod fmt;
mod host;
mod profile;
mod program;
mod query;
mod render;
mod run;
mod show;
mod status;
mod watch;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use cs336_lab::{Exit, LabError};

use crate::args::{Cli, Command, Tool};
use crate::host::Real;
use crate::render::Style;

fn main() -> ExitCode {
    // The checker walks programs recursively; deep ones need more stack than the main thread has.
    const STACK: usize = 256 << 20;
    let worker = std::thread::Builder::new().stack_size(STACK).spawn(command);
    let exit = match worker.map(std::thread::JoinHandle::join) {
        Ok(Ok(exit)) => exit,
        // A panic has told about itself.
        Ok(Err(_)) | Err(_) => Exit::Failed,
    };
    ExitCode::from(exit as u8)
}

fn command() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            error.print().ok();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    let host = Real::new();
    let style = Style::new(cli.json);
    let result = match cli.command {
        Command::Check(source) => show::check(&host, style, &source),
        Command::Plan { source, nodes, costs, kernels } => {
            show::plan(&host, style, &source, &nodes, show::Shown { costs, kernels })
        }
        Command::Profile { source, node, steps, machine } => {
            profile::profile(&host, style, &source, node.as_deref(), steps, &machine)
        }
        Command::Graph { source, node, stage } => show::graph(&host, &source, &node, stage),
        Command::Run { source, nodes, yes, retry, jobs, machine } => {
            let asked = run::Asked { yes, retry_failed: retry.is_some(), jobs };
            run::run(&host, style, &source, &nodes, asked, &machine)
        }
        Command::Apply { source, name, input, weights, out, grad, sizes, machine } => {
            let files = apply::Files { input, weights, out, grad };
            apply::apply(&host, &source, &name, &files, &sizes, &machine)
        }
        Command::Data { source, nodes } => data::data(&host, style, &source, &nodes),
        Command::Status { runs } => status::status(style, &runs),
        Command::Query(asked) => query::query(&host, style, &asked),
        Command::Diff { left, right, runs } => diff::diff(style, &runs, &left, &right),
        Command::Export { tool: Tool::Tensorboard, chosen, runs, out } => {
            export::tensorboard(style, &runs, &chosen, &out)
        }
        Command::Fmt { files, check } => fmt::fmt(style, &files, check),
        Command::Doctor { machine } => doctor::doctor(&host, style, &machine),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "cs336c", &mut script);
            print(String::from_utf8_lossy(&script).trim_end());
            Ok(Exit::Ok)
        }
        Command::Explain { code } => explain::explain(code.as_deref()),
    };
    result.unwrap_or_else(|error| fail(style, &error))
}

/// Tells about an error.
fn fail(style: Style, error: &LabError) -> Exit {
    tell(style, &style.error(error));
    error.exit()
}

/// A line for standard output. A reader that went away (`| head`) is no error.
fn print(text: &str) {
    writeln!(std::io::stdout(), "{text}").ok();
}

/// Something to know that is no answer: to standard error.
fn remark(text: &str) {
    writeln!(std::io::stderr(), "{text}").ok();
}

/// Problems: to standard output as JSON, else to standard error.
fn tell(style: Style, text: &str) {
    if style.json {
        write!(std::io::stdout(), "{text}").ok();
    } else {
        write!(std::io::stderr(), "{text}").ok();
    }
}
