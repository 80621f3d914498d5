//! A run as it goes on: a line that changes on a terminal, plain lines elsewhere, JSON on request.
//!
//! Texts that the model writes and figures go to standard output, the progress line to standard error, so that output can be
//! kept in a file while the line is seen.

use std::io::{IsTerminal, Write};

use cs336_lab::progress::{Note, Progress, Total, Watcher};
use serde_json::{Value, json};

use crate::host::Real;
use crate::render::{duration, short, sparkline};
use cs336_lab::Host;

/// Seconds between progress lines without a terminal.
const PLAIN_SECONDS: f64 = 10.0;
/// Seconds between redraws on a terminal.
const REDRAW_SECONDS: f64 = 0.1;

/// Shows a run.
#[derive(Debug)]
pub(crate) struct Show<'a> {
    host: &'a Real,
    json: bool,
    terminal: bool,
    /// When the progress was last shown.
    last: f64,
    /// Lines on the terminal that the next output replaces.
    open: usize,
    /// It was said that the machine is faster than its calibration.
    outdone: bool,
}

impl<'a> Show<'a> {
    pub(crate) fn new(host: &'a Real, json: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self { host, json, terminal, last: f64::NEG_INFINITY, open: 0, outdone: false }
    }

    /// Ends the lines that change, so that other output begins on its own.
    pub(crate) fn close(&mut self) {
        if self.open > 0 {
            writeln!(std::io::stderr()).ok();
            self.open = 0;
        }
    }

    fn say(&mut self, text: &str) {
        self.wipe();
        crate::print(text);
    }

    /// Says once that a run is faster than the calibration holds possible: then its share of the machine means nothing.
    fn compare(&mut self, p: &Progress) {
        if !self.outdone && p.mfu.is_some_and(|mfu| mfu > 1.0) {
            self.outdone = true;
            self.say("this machine is faster than when it was calibrated: `cs336c doctor` measures it again");
        }
    }

    /// Takes the lines that change away.
    fn wipe(&mut self) {
        for at in 0..self.open {
            let up = if at == 0 { "\r\x1b[2K" } else { "\x1b[1A\r\x1b[2K" };
            write!(std::io::stderr(), "{up}").ok();
        }
        self.open = 0;
    }

    /// True if it is time to show progress again.
    fn due(&mut self, over: bool) -> bool {
        let now = self.host.seconds();
        let wait = if self.terminal { REDRAW_SECONDS } else { PLAIN_SECONDS };
        if !over && now - self.last < wait {
            return false;
        }
        self.last = now;
        true
    }

    /// Shows lines in place of those before them.
    fn draw(&mut self, lines: &[String]) {
        let mut out = std::io::stderr();
        if self.terminal {
            self.wipe();
            write!(out, "{}", lines.join("\n")).ok();
            out.flush().ok();
            self.open = lines.len();
        } else {
            writeln!(out, "{}", lines.join("\n")).ok();
        }
    }
}

impl Watcher for Show<'_> {
    fn progress(&mut self, progress: &Progress) {
        if self.json {
            crate::print(&progress_json(progress).to_string());
            return;
        }
        if self.due(progress.steps.is_some_and(|steps| progress.step >= steps)) {
            self.compare(progress);
            self.draw(&[line(progress)]);
        }
    }

    fn total(&mut self, total: &Total) {
        if !self.due(total.running.is_empty() && total.done + total.failed == total.points) {
            return;
        }
        if self.json {
            crate::print(&total_json(total).to_string());
            return;
        }
        total.running.iter().for_each(|p| self.compare(p));
        let mut lines: Vec<String> = total.running.iter().map(line).collect();
        lines.push(total_line(total));
        self.draw(&lines);
    }

    fn note(&mut self, note: &Note) {
        if self.json {
            crate::print(&note_json(note).to_string());
            return;
        }
        // Saving is routine; `events.jsonl` has it.
        let inner = if let Note::Of { note, .. } = note { note } else { note };
        if !matches!(inner, Note::Saved { .. }) {
            let text = note_text(note);
            self.say(&text);
        }
    }
}

/// One line of progress.
fn line(p: &Progress) -> String {
    let steps = p.steps.map_or(String::new(), |steps| format!("/{steps}"));
    let mut parts = vec![
        format!("{} {}{steps}", p.node, p.step),
        format!("loss {:.4}", p.loss),
        sparkline(&p.losses),
    ];
    if let Some(valid) = p.valid_loss {
        parts.push(format!("held-out {valid:.4}"));
    }
    parts.push(format!("{} tokens/s", short(p.tokens_per_second)));
    if let Some(mfu) = p.mfu.filter(|mfu| *mfu <= 1.0) {
        parts.push(format!("MFU {:.0}% (model FLOPs)", 100.0 * mfu));
    }
    let of = p.flops_budget.map_or(String::new(), |budget| format!(" of {}", short(budget)));
    parts.push(format!("{}{of} FLOPs", short(p.flops)));
    if let Some(eta) = p.eta_seconds.filter(|eta| *eta > 0.0) {
        parts.push(format!("{} left", duration(eta)));
    }
    parts.join("  ")
}

/// The line under those of the points.
fn total_line(t: &Total) -> String {
    let failed = if t.failed > 0 { format!(", {} failed", t.failed) } else { String::new() };
    let of = t.flops_budget.map_or(String::new(), |budget| format!(" of {budget:.2e}"));
    let mut parts = vec![
        format!("{} {}/{} points{failed}", t.node, t.done, t.points),
        format!("{:.2e}{of} FLOPs", t.flops),
        format!("{:.2e} FLOP/s", t.flops_per_second),
    ];
    if let Some(eta) = t.eta_seconds.filter(|eta| *eta > 0.0) {
        parts.push(format!("{} left", duration(eta)));
    }
    parts.join("  ")
}

fn total_json(t: &Total) -> Value {
    let running: Vec<Value> = t.running.iter().map(progress_json).collect();
    json!({
        "kind": "total", "node": t.node, "points": t.points, "done": t.done, "failed": t.failed,
        "running": running, "flops": t.flops, "flops_budget": t.flops_budget,
        "flops_per_second": t.flops_per_second, "eta_seconds": t.eta_seconds,
    })
}

fn note_text(note: &Note) -> String {
    let listed = |figures: &[(String, f64)]| {
        let all: Vec<String> =
            figures.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
        all.join("  ")
    };
    match note {
        Note::Preparing { what } => format!("preparing {what}"),
        Note::Wrote { path, files: 1 } => format!("wrote {path}"),
        Note::Wrote { path, files } => format!("wrote {path} and {} more", files - 1),
        Note::Warning { code, message } => format!("warning[{code}]: {message}"),
        Note::Start { node, path } => format!("{node}: starts, in {path}"),
        Note::Resume { node, step } => format!("{node}: goes on from step {step}"),
        Note::Refused { code, why } => format!("warning[{code}]: {why}; the one before it is used"),
        Note::Eval { step, figures } => format!("step {step}: {}", listed(figures)),
        Note::Sample { step, prompt, text } => format!("step {step}, a sample:\n{prompt}{text}\n"),
        Note::Saved { step } => format!("step {step}: saved"),
        Note::Searching { from, to } => {
            format!("step {to} is not finite; doing steps {from} to {to} again to find the layer")
        }
        Note::Done { node, figures } => format!("{node}: done  {}", listed(figures)),
        Note::Stopped { node, rung, measure } => {
            let measure = measure.map_or("no figure".to_owned(), |m| format!("{m:.4}"));
            format!("{node}: stopped at rung {rung}, {measure}")
        }
        Note::Cached { node } => format!("{node}: is there already"),
        Note::Failed { node, code, why } => format!("{node}: failed [{code}]: {why}"),
        Note::Of { node, note } => format!("{node}: {}", note_text(note)),
    }
}

fn progress_json(p: &Progress) -> Value {
    json!({
        "kind": "progress", "node": p.node, "step": p.step, "steps": p.steps, "tokens": p.tokens,
        "flops": p.flops, "flops_budget": p.flops_budget, "share": p.share, "loss": p.loss,
        "valid_loss": p.valid_loss, "lr": p.lr, "tokens_per_second": p.tokens_per_second,
        "mfu": p.mfu, "mfu_counts": "model FLOPs", "eta_seconds": p.eta_seconds,
    })
}

fn note_json(note: &Note) -> Value {
    let object = |figures: &[(String, f64)]| -> Value {
        figures.iter().map(|(name, value)| (name.clone(), json!(value))).collect()
    };
    match note {
        Note::Preparing { what } => json!({ "kind": "preparing", "what": what }),
        Note::Wrote { path, files } => json!({ "kind": "wrote", "path": path, "files": files }),
        Note::Warning { code, message } => {
            json!({ "kind": "warning", "code": code, "message": message })
        }
        Note::Start { node, path } => json!({ "kind": "start", "node": node, "path": path }),
        Note::Resume { node, step } => json!({ "kind": "resume", "node": node, "step": step }),
        Note::Refused { code, why } => json!({ "kind": "refused", "code": code, "why": why }),
        Note::Eval { step, figures } => {
            json!({ "kind": "eval", "step": step, "figures": object(figures) })
        }
        Note::Sample { step, prompt, text } => {
            json!({ "kind": "sample", "step": step, "prompt": prompt, "text": text })
        }
        Note::Saved { step } => json!({ "kind": "saved", "step": step }),
        Note::Searching { from, to } => json!({ "kind": "searching", "from": from, "to": to }),
        Note::Done { node, figures } => {
            json!({ "kind": "done", "node": node, "figures": object(figures) })
        }
        Note::Stopped { node, rung, measure } => {
            json!({ "kind": "stopped", "node": node, "rung": rung, "measure": measure })
        }
        Note::Cached { node } => json!({ "kind": "cached", "node": node }),
        Note::Failed { node, code, why } => {
            json!({ "kind": "failed", "node": node, "code": code, "message": why })
        }
        Note::Of { node, note } => {
            let mut value = note_json(note);
            value["node"] = json!(node);
            value
        }
    }
}
