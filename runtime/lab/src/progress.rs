//! What a person sees of a run: figures for a progress line. Drawing is the CLI's.

use std::collections::VecDeque;

/// How a run stands after a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// The node.
    pub node: String,
    /// Steps done.
    pub step: u64,
    /// Steps of the whole run; `None` if the clock decides.
    pub steps: Option<u64>,
    /// Tokens learned from.
    pub tokens: u64,
    /// Model FLOPs spent.
    pub flops: f64,
    /// Model FLOPs of the whole run, if known.
    pub flops_budget: Option<f64>,
    /// Share of the budget spent.
    pub share: f64,
    /// Loss of the step.
    pub loss: f64,
    /// Newest held-out loss.
    pub valid_loss: Option<f64>,
    /// Learning rate.
    pub lr: f64,
    /// Losses so far, thinned to at most [`Losses::WIDTH`] means of equal stretches.
    pub losses: Vec<f64>,
    /// Tokens per second on the train clock, over the last steps.
    pub tokens_per_second: f64,
    /// Model FLOPs per second as a share of what this machine reached in its calibration.
    pub mfu: Option<f64>,
    /// Seconds to the end, at this speed.
    pub eta_seconds: Option<f64>,
}

/// How a sweep stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Total {
    /// The sweep.
    pub node: String,
    /// Its points.
    pub points: usize,
    /// Points that are finished, earlier or now.
    pub done: usize,
    /// Points that failed.
    pub failed: usize,
    /// Points that run, with how each stands; as they were begun.
    pub running: Vec<Progress>,
    /// Model FLOPs spent on points that are finished or run.
    pub flops: f64,
    /// Model FLOPs of all points, if known.
    pub flops_budget: Option<f64>,
    /// Model FLOPs per second of all runs together, since it was begun.
    pub flops_per_second: f64,
    /// Seconds to the end, at this speed.
    pub eta_seconds: Option<f64>,
}

/// Something to tell besides progress.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// Documents are read and encoded.
    Preparing {
        /// What: ``tokenizer `bpe` ``.
        what: String,
    },
    /// A report was written.
    Wrote {
        /// Its first file: the page, if it has one.
        path: String,
        /// How many files.
        files: usize,
    },
    /// What is known about the data now makes a part of the program doubtful.
    Warning {
        /// Its code.
        code: String,
        /// What was found.
        message: String,
    },
    /// A run begins.
    Start {
        /// The node.
        node: String,
        /// Its folder.
        path: String,
    },
    /// A run goes on from a checkpoint.
    Resume {
        /// The node.
        node: String,
        /// Its step.
        step: u64,
    },
    /// A checkpoint was refused; the one before it is used.
    Refused {
        /// Its code.
        code: &'static str,
        /// Why.
        why: String,
    },
    /// Held-out figures.
    Eval {
        /// After which step.
        step: u64,
        /// Name and value, as `report` asks.
        figures: Vec<(String, f64)>,
    },
    /// A text that the model wrote.
    Sample {
        /// After which step.
        step: u64,
        /// The start.
        prompt: String,
        /// What follows.
        text: String,
    },
    /// A checkpoint was saved.
    Saved {
        /// After which step.
        step: u64,
    },
    /// The loss is not finite; steps are done again to find the layer.
    Searching {
        /// The first step that is done again.
        from: u64,
        /// The step that failed.
        to: u64,
    },
    /// A run is finished.
    Done {
        /// The node.
        node: String,
        /// Name and value.
        figures: Vec<(String, f64)>,
    },
    /// A sweep compared the run with others and stops it.
    Stopped {
        /// The node.
        node: String,
        /// At which rung, counted from 1.
        rung: usize,
        /// What was compared, if it is a number.
        measure: Option<f64>,
    },
    /// Nothing to do: the run is there.
    Cached {
        /// The node.
        node: String,
    },
    /// A point of a sweep failed; the others go on.
    Failed {
        /// The node.
        node: String,
        /// Code of what went wrong.
        code: String,
        /// What went wrong.
        why: String,
    },
    /// A note about one of several runs.
    Of {
        /// The node.
        node: String,
        /// What is told of it.
        note: Box<Note>,
    },
}

/// Who is told.
pub trait Watcher {
    /// After every step.
    fn progress(&mut self, progress: &Progress);
    /// Several times a second while a sweep runs.
    fn total(&mut self, _total: &Total) {}
    /// Now and then.
    fn note(&mut self, note: &Note);
}

/// Nobody.
#[derive(Debug, Default)]
pub struct Silent;

impl Watcher for Silent {
    fn progress(&mut self, _progress: &Progress) {}
    fn note(&mut self, _note: &Note) {}
}

/// The losses of a run, thinned: whenever there are too many points, neighbours become their mean.
#[derive(Debug, Clone)]
pub struct Losses {
    points: Vec<f64>,
    /// Steps per point.
    stretch: u64,
    sum: f64,
    count: u64,
}

impl Losses {
    /// Points at most.
    pub const WIDTH: usize = 32;

    /// Without points.
    pub fn new() -> Self {
        Self { points: Vec::new(), stretch: 1, sum: 0.0, count: 0 }
    }

    /// Adds the loss of the next step.
    pub fn push(&mut self, loss: f64) {
        self.sum += loss;
        self.count += 1;
        if self.count < self.stretch {
            return;
        }
        self.points.push(self.sum / self.count as f64);
        (self.sum, self.count) = (0.0, 0);
        if self.points.len() > Self::WIDTH {
            // An odd last point waits as the first half of a stretch.
            let pairs = self.points.chunks_exact(2);
            let rest = pairs.remainder().first().copied();
            let halved: Vec<f64> = pairs.map(|pair| f64::midpoint(pair[0], pair[1])).collect();
            if let Some(rest) = rest {
                self.sum = rest * self.stretch as f64;
                self.count = self.stretch;
            }
            self.points = halved;
            self.stretch *= 2;
        }
    }

    /// The points, the unfinished one last.
    pub fn points(&self) -> Vec<f64> {
        let mut points = self.points.clone();
        if self.count > 0 && points.len() < Self::WIDTH {
            points.push(self.sum / self.count as f64);
        }
        points
    }
}

impl Default for Losses {
    fn default() -> Self {
        Self::new()
    }
}

/// Speed over the last steps.
#[derive(Debug, Clone, Default)]
pub struct Speed {
    /// Seconds of each of the last steps.
    recent: VecDeque<f64>,
}

impl Speed {
    const STEPS: usize = 20;

    /// Adds the duration of a step.
    pub fn push(&mut self, seconds: f64) {
        if self.recent.len() == Self::STEPS {
            self.recent.pop_front();
        }
        self.recent.push_back(seconds);
    }

    /// Steps per second.
    pub fn steps_per_second(&self) -> f64 {
        let seconds: f64 = self.recent.iter().sum();
        if seconds > 0.0 { self.recent.len() as f64 / seconds } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_stay_few_and_keep_their_mean() {
        let mut losses = Losses::new();
        for step in 0..1000 {
            losses.push(f64::from(1000 - step));
            let points = losses.points();
            assert!(points.len() <= Losses::WIDTH);
            assert!(points.is_sorted_by(|a, b| a > b), "{points:?}");
        }
        assert!(losses.points().len() > Losses::WIDTH / 3);
        assert!(losses.points()[0] > 960.0);
    }

    #[test]
    fn speed_is_of_the_last_steps() {
        let mut speed = Speed::default();
        assert_eq!(speed.steps_per_second(), 0.0);
        for seconds in std::iter::repeat_n(100.0, 5).chain(std::iter::repeat_n(0.5, 20)) {
            speed.push(seconds);
        }
        assert!((speed.steps_per_second() - 2.0).abs() < 1e-12);
    }
}
