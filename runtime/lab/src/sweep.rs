//! The pool of a sweep: points run side by side, as many as cores and memory allow.
//!
//! This thread keeps the program: it prepares each run just before there is room for it, compiles what a run asks for on its way, and tells
//! the watcher. Each run has a thread of its own and its share of the cores; numbers do not depend on that. A point that
//! fails is noted and the others go on. Points that mean the same run once. Whatever is on the disk is whole at any moment, so a
//! sweep that was killed is begun again like any other: finished points are there, others go on from their checkpoints.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use cs336_compiler::check::hir::{Node, Spec};
use cs336_compiler::front::Checked;
use cs336_compiler::programs::DecodePrograms;
use cs336_device::Processor;

use crate::error::LabError;
use crate::host::Host;
use crate::job::{Bench, Job, Prepared, prepare};
use crate::progress::{Note, Progress, Total, Watcher};
use crate::train::{Around, Outcome};

/// The part of the free memory that runs may take together.
const MEMORY_SHARE: f64 = 0.8;
/// Seconds between two messages of progress from one run.
const TELL_SECONDS: f64 = 0.1;
/// A run's thread lowers and emits kernels, which recurses.
const STACK: usize = 64 << 20;

/// How a point ended.
#[derive(Debug)]
pub enum Ended {
    /// It ran, or was there.
    Outcome(Outcome),
    /// Its sweep compared it with others and stopped it.
    Stopped {
        /// At which rung, counted from 1.
        rung: usize,
        /// What was compared, if it is a number.
        measure: Option<f64>,
    },
    /// It failed, now or earlier: code and what went wrong.
    Failed(String, String),
    /// It was not begun.
    Refused(LabError),
}

impl Ended {
    /// How another point ended that means the same. `None`: that is not known.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::Outcome(outcome) => Some(Self::Outcome(outcome.clone())),
            Self::Stopped { rung, measure } => {
                Some(Self::Stopped { rung: *rung, measure: *measure })
            }
            Self::Failed(code, why) => Some(Self::Failed(code.clone(), why.clone())),
            Self::Refused(_) => None,
        }
    }
}

/// Something that a run's thread tells.
enum Event {
    Progress(usize, Progress),
    Note(usize, Note),
    Compile { point: usize, prompt: usize, capacity: usize, reply: Sender<Compiled> },
    Ended(usize, Result<Outcome, LabError>),
}

type Compiled = Result<DecodePrograms, LabError>;

/// A run that goes on.
struct Running {
    bytes: u64,
    threads: usize,
    progress: Option<Progress>,
}

/// A point, and how far it goes now.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) node: Node,
    /// After this step it stops for now; `None`: it goes to its end.
    pub(crate) pause: Option<u64>,
}

impl Turn {
    /// Model FLOPs of the run up to there, if known.
    fn flops(&self) -> Option<f64> {
        let Spec::Train(spec) = &self.node.spec else { return None };
        let steps = spec.steps?;
        Some(self.pause.map_or(steps, |pause| pause.min(steps)) as f64 * spec.step_flops)
    }
}

/// Runs what is missing of these points of the sweep `name`. Gives how they ended, by their places in `turns`; those that were not
/// begun before a stop are left out.
pub(crate) fn pool(
    checked: &mut Checked<'_>,
    name: &str,
    turns: Vec<Turn>,
    bench: Bench<'_>,
    around: &mut Around<'_>,
) -> Result<BTreeMap<usize, Ended>, LabError> {
    let (tell, hear) = channel();
    let mut pool = Pool::new(checked, name, turns, bench, around);
    std::thread::scope(|scope| {
        loop {
            while let Some((at, job)) = pool.next() {
                pool.begin(scope, at, job, &tell);
            }
            if pool.running.is_empty() {
                break;
            }
            pool.hear(&hear);
        }
    });
    Ok(pool.finish())
}

/// See the module.
struct Pool<'a, 'w, 'e> {
    checked: &'a mut Checked<'w>,
    bench: Bench<'a>,
    around: &'a mut Around<'e>,
    name: &'a str,
    points: Vec<Turn>,
    /// Points that mean the same as an earlier one, which runs for them.
    twins: BTreeMap<usize, usize>,
    waiting: VecDeque<usize>,
    /// A run that is prepared and waits for memory.
    ready: Option<(usize, Box<Job>)>,
    running: BTreeMap<usize, Running>,
    ended: BTreeMap<usize, Ended>,
    flops_budget: Option<f64>,
    began: f64,
    /// FLOPs that were done before this process began, by point.
    before: BTreeMap<usize, f64>,
}

impl<'a, 'w, 'e> Pool<'a, 'w, 'e> {
    fn new(
        checked: &'a mut Checked<'w>,
        name: &'a str,
        points: Vec<Turn>,
        bench: Bench<'a>,
        around: &'a mut Around<'e>,
    ) -> Self {
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        let mut twins = BTreeMap::new();
        let mut waiting = VecDeque::new();
        for (at, turn) in points.iter().enumerate() {
            match first.get(turn.node.meaning.as_str()) {
                Some(one) => {
                    twins.insert(at, *one);
                }
                None => {
                    first.insert(&turn.node.meaning, at);
                    waiting.push_back(at);
                }
            }
        }
        let each = |at: &usize| points[*at].flops();
        let flops_budget = waiting.iter().map(each).sum();
        let began = bench.host.seconds();
        let (ready, running, ended) = (None, BTreeMap::new(), BTreeMap::new());
        let before = BTreeMap::new();
        Self {
            checked,
            bench,
            around,
            name,
            points,
            twins,
            waiting,
            ready,
            running,
            ended,
            flops_budget,
            began,
            before,
        }
    }

    /// The next run, if there is one and room for it.
    fn next(&mut self) -> Option<(usize, Box<Job>)> {
        if self.around.stop.load(Ordering::SeqCst) || self.running.len() >= self.width() {
            return None;
        }
        while self.ready.is_none() {
            let at = self.waiting.pop_front()?;
            match self.prepare(at) {
                Ok(Prepared::Ready(mut job)) => {
                    job.pause = self.points[at].pause;
                    self.ready = Some((at, job));
                }
                Ok(Prepared::Done(result)) => {
                    let node = self.points[at].node.name.clone();
                    self.around.watcher.note(&Note::Cached { node });
                    self.before.insert(at, self.points[at].flops().unwrap_or(0.0));
                    self.ended.insert(at, Ended::Outcome(Outcome::Done(result)));
                }
                Ok(Prepared::Failed { code, why }) => self.failed(at, code, why),
                Err(
                    error @ (LabError::Ask { .. }
                    | LabError::Locked { .. }
                    | LabError::NotBuilt { .. }
                    | LabError::Waits { .. }),
                ) => {
                    self.ended.insert(at, Ended::Refused(error));
                }
                Err(error) => {
                    let (code, why) = (error.code().to_owned(), error.to_string());
                    self.failed(at, code, why);
                }
            }
        }
        let wanted = self.ready.as_ref().map_or(0, |(_, job)| job.peak_bytes());
        if self.running.is_empty() || self.has_room(wanted) { self.ready.take() } else { None }
    }

    fn prepare(&mut self, at: usize) -> Result<Prepared, LabError> {
        let node = &self.points[at].node;
        match &node.spec {
            Spec::Train(spec) => {
                let data = self.bench.room.encoded(&spec.data, None, &self.checked.nodes)?;
                let retry = self.bench.settings.retry_failed;
                prepare(self.checked, node, spec, &data, self.bench, retry)
            }
            Spec::After { node: on, .. } => {
                Err(LabError::Waits { node: node.name.clone(), on: on.clone() })
            }
            Spec::NotBuilt { part } => {
                let what = format!("the {} `{}`", node.kind, node.name);
                Err(LabError::NotBuilt { what, part: part.clone() })
            }
            Spec::Data(_)
            | Spec::Rows(_)
            | Spec::Tokenizer(_)
            | Spec::Model
            | Spec::Fit(_)
            | Spec::Report(_)
            | Spec::Outside(_)
            | Spec::Sweep(_) => {
                let what = format!("a sweep over a node of the kind {}", node.kind);
                Err(LabError::NotBuilt { what, part: "no part".to_owned() })
            }
        }
    }

    /// Runs at a time.
    fn width(&self) -> usize {
        let most = self.bench.settings.jobs.unwrap_or(usize::MAX);
        self.bench.threads.min(most).max(1)
    }

    /// True if a run of `bytes` fits beside those that run. What they have not taken yet counts as taken.
    fn has_room(&self, bytes: u64) -> bool {
        let Some(free) = self.bench.host.free_memory() else { return true };
        let coming: u64 =
            self.running.values().filter(|r| r.progress.is_none()).map(|r| r.bytes).sum();
        (bytes + coming) as f64 <= MEMORY_SHARE * free as f64
    }

    /// The cores are shared by what runs and what will run beside it.
    fn begin<'s>(
        &mut self,
        scope: &'s std::thread::Scope<'s, 'a>,
        at: usize,
        job: Box<Job>,
        tell: &Sender<Event>,
    ) where
        'a: 's,
    {
        let taken: usize = self.running.values().map(|r| r.threads).sum();
        let places = (self.width() - self.running.len()).min(1 + self.waiting.len()).max(1);
        let threads = (self.bench.threads.saturating_sub(taken) / places).max(1);
        let running = Running { bytes: job.peak_bytes(), threads, progress: None };
        self.running.insert(at, running);
        let device = self.bench.device;
        let (host, stop, tell) = (self.bench.host, self.around.stop, tell.clone());
        let share = threads as f64 / self.bench.threads.max(1) as f64;
        let peak = self.bench.settings.peak_flops.map(|peak| peak * share);
        let failed = tell.clone();
        let spawned =
            std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, move || {
                let node = job.node.clone();
                let run = || carry_out(*job, at, (device, threads), peak, host, stop, &tell);
                let result =
                    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(LabError::Crashed { node }));
                tell.send(Event::Ended(at, result)).ok();
            });
        if let Err(source) = spawned {
            failed.send(Event::Ended(at, Err(LabError::Thread { source }))).ok();
        }
    }

    /// Waits for something to happen and acts on it.
    fn hear(&mut self, hear: &Receiver<Event>) {
        let event = match hear.recv_timeout(Duration::from_secs(1)) {
            Ok(event) => event,
            // A run that takes long for a step says nothing meanwhile; the clock goes on.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return self.tell(),
        };
        match event {
            Event::Progress(at, progress) => {
                // What was done before this process began is not its speed.
                let step = progress.step.max(1) as f64;
                self.before.entry(at).or_insert(progress.flops - progress.flops / step);
                if let Some(running) = self.running.get_mut(&at) {
                    running.progress = Some(progress);
                }
                self.tell();
            }
            Event::Note(at, note) => {
                let named = match note {
                    Note::Start { .. }
                    | Note::Resume { .. }
                    | Note::Done { .. }
                    | Note::Cached { .. }
                    | Note::Failed { .. }
                    | Note::Stopped { .. }
                    | Note::Preparing { .. }
                    | Note::Warning { .. }
                    | Note::Wrote { .. }
                    | Note::Of { .. } => note,
                    Note::Refused { .. }
                    | Note::Eval { .. }
                    | Note::Sample { .. }
                    | Note::Saved { .. }
                    | Note::Searching { .. } => {
                        let node = self.points[at].node.name.clone();
                        Note::Of { node, note: Box::new(note) }
                    }
                };
                self.around.watcher.note(&named);
            }
            Event::Compile { point, prompt, capacity, reply } => {
                let name = &self.points[point].node.name;
                let made = self.checked.decode_programs(name, prompt, capacity);
                let sources = self.checked.sources();
                let made = made.map_err(|p| LabError::Program(Box::new((p, sources.clone()))));
                reply.send(made).ok();
            }
            Event::Ended(at, result) => {
                self.running.remove(&at);
                match result {
                    Ok(outcome) => {
                        self.ended.insert(at, Ended::Outcome(outcome));
                    }
                    Err(error) => self.failed(at, error.code().to_owned(), error.to_string()),
                }
                self.tell();
            }
        }
    }

    fn failed(&mut self, at: usize, code: String, why: String) {
        let node = self.points[at].node.name.clone();
        self.around.watcher.note(&Note::Failed { node, code: code.clone(), why: why.clone() });
        self.ended.insert(at, Ended::Failed(code, why));
    }

    fn tell(&mut self) {
        let done =
            |e: &&Ended| matches!(e, Ended::Outcome(Outcome::Done(_) | Outcome::Paused { .. }));
        let is_failed = |e: &&Ended| matches!(e, Ended::Failed(..));
        let finished: f64 = self
            .ended
            .iter()
            .filter(|(_, e)| done(e))
            .filter_map(|(at, _)| self.points[*at].flops())
            .sum();
        let running: Vec<Progress> =
            self.running.values().filter_map(|r| r.progress.clone()).collect();
        let flops = finished + running.iter().map(|p| p.flops).sum::<f64>();
        let before: f64 = self.before.values().sum();
        let seconds = self.bench.host.seconds() - self.began;
        let speed = if seconds > 0.0 { (flops - before).max(0.0) / seconds } else { 0.0 };
        let lost: f64 = self
            .ended
            .iter()
            .filter(|(_, e)| !done(e))
            .filter_map(|(at, _)| self.points[*at].flops())
            .sum();
        let left = self.flops_budget.map(|all| (all - flops - lost).max(0.0));
        let total = Total {
            node: self.name.to_owned(),
            points: self.points.len() - self.twins.len(),
            done: self.ended.values().filter(done).count(),
            failed: self.ended.values().filter(is_failed).count(),
            running,
            flops,
            flops_budget: self.flops_budget,
            flops_per_second: speed,
            eta_seconds: left.filter(|_| speed > 0.0).map(|left| left / speed),
        };
        self.around.watcher.total(&total);
    }

    fn finish(mut self) -> BTreeMap<usize, Ended> {
        for (at, one) in &self.twins {
            if let Some(same) = self.ended.get(one).and_then(Ended::again) {
                self.ended.insert(*at, same);
            }
        }
        self.ended
    }
}

/// In the run's own thread.
fn carry_out(
    job: Job,
    at: usize,
    (device, threads): (&Processor, usize),
    peak_flops: Option<f64>,
    host: &dyn Host,
    stop: &std::sync::atomic::AtomicBool,
    tell: &Sender<Event>,
) -> Result<Outcome, LabError> {
    let device = device.with_threads(threads)?;
    let gone = || LabError::Crashed { node: "the sweep's own thread".to_owned() };
    let compile = |prompt: usize, capacity: usize| {
        let (reply, answer) = channel();
        let event = Event::Compile { point: at, prompt, capacity, reply };
        tell.send(event).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    };
    let mut watcher = Messenger { at, host, tell, last: f64::NEG_INFINITY };
    let mut around = Around { host, stop, watcher: &mut watcher };
    job.carry_out(&device, Box::new(compile), peak_flops, &mut around)
}

/// Hands on what a run tells.
struct Messenger<'a> {
    at: usize,
    host: &'a dyn Host,
    tell: &'a Sender<Event>,
    last: f64,
}

impl Watcher for Messenger<'_> {
    fn progress(&mut self, progress: &Progress) {
        let now = self.host.seconds();
        if now - self.last >= TELL_SECONDS || progress.steps == Some(progress.step) {
            self.last = now;
            self.tell.send(Event::Progress(self.at, progress.clone())).ok();
        }
    }

    fn note(&mut self, note: &Note) {
        self.tell.send(Event::Note(self.at, note.clone())).ok();
    }
}
