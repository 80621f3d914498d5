//! `cs336c run`: what is missing is done; one Ctrl-C saves and stops, a second one kills.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cs336_lab::experiment::{self, Settings};
use cs336_lab::train::Outcome;
use cs336_lab::{Exit, LabError};

use crate::args::{Machine, Nodes, Source};
use crate::host::Real;
use crate::program::Known;
use crate::render::Style;
use crate::watch::Show;

/// What the command line asks for besides nodes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) yes: bool,
    pub(crate) retry_failed: bool,
    pub(crate) jobs: Option<usize>,
}

pub(crate) fn run(
    host: &Real,
    style: Style,
    source: &Source,
    nodes: &Nodes,
    asked: Asked,
    machine: &Machine,
) -> Result<Exit, LabError> {
    let mut known = Known::new(host, source);
    let device = known.device(machine)?;
    let disk = known.disk();
    let program = known.program(&disk, source);
    warn(style, &program.sound()?);
    crate::status::warn(style, &cs336_lab::rundir::list(&nodes.runs)?);
    let settings = Settings {
        root: nodes.runs.clone(),
        cache: known.cache.clone(),
        yes: asked.yes,
        peak_flops: known.peak_flops(),
        retry_failed: asked.retry_failed,
        jobs: asked.jobs,
    };
    let stop = on_interrupt();
    let mut show = Show::new(host, style.json);
    let report = experiment::run(program, &nodes.nodes, &settings, &device, host, &stop, &mut show);
    show.close();
    let report = report?;
    for error in &report.refused {
        crate::tell(style, &style.error(error));
    }
    let mut exit = Exit::Ok;
    for error in &report.refused {
        exit = worse(exit, error.exit());
    }
    if !report.failed.is_empty() {
        exit = worse(exit, Exit::Failed);
        for (name, code, why) in &report.failed {
            say(style, &format!("{name}: failed [{code}]: {why}"));
        }
        say(style, "`run --retry failed` tries them again");
    }
    for (name, outcome) in &report.runs {
        match outcome {
            // A sweep pauses a run, compares it, and goes on with it or stops it.
            Outcome::Done(_) | Outcome::Paused { .. } => {}
            Outcome::Interrupted { step } => {
                say(style, &format!("{name}: stopped after step {step}; `run` again goes on"));
                exit = worse(exit, Exit::Interrupted);
            }
            Outcome::Limit { step } => {
                say(
                    style,
                    &format!("{name}: its limit is over after step {step}; `run` again goes on"),
                );
                exit = worse(exit, Exit::Refused);
            }
        }
    }
    if stop.load(Ordering::SeqCst) {
        exit = Exit::Interrupted;
    }
    Ok(exit)
}

/// Warnings of a program that is sound.
pub(crate) fn warn(style: Style, checked: &cs336_compiler::front::Checked<'_>) {
    let text = style.problems(checked.problems(), checked.sources());
    crate::tell(style, &text);
}

fn say(style: Style, text: &str) {
    if !style.json {
        crate::print(text);
    }
}

/// The one that says more about what went wrong.
fn worse(one: Exit, other: Exit) -> Exit {
    if other as u8 > one as u8 { other } else { one }
}

/// A flag that the first Ctrl-C sets; the second one ends the process at once. What is on the disk is whole either way.
fn on_interrupt() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let set = ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(Exit::Interrupted as i32);
        }
    });
    if set.is_err() {
        // Without a handler Ctrl-C kills; `run` again resumes from the last checkpoint all the same.
        crate::print("warning: Ctrl-C cannot be caught here and will not save first");
    }
    stop
}
