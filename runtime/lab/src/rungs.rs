//! A sweep from its points to how each ended: all at once, or rung by rung.
//!
//! With `stop = halving(..)` all points run to the first rung, the worse part of them is stopped there with its checkpoints, the others go on from
//! theirs to the next, and those that are left go to their ends. Who goes on is decided by what the runs measured at the rung,
//! which is in their metrics; so a sweep that was killed decides again as it did, and nothing else need be remembered.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use cs336_compiler::check::hir::{Node, Spec, SweepSpec, TrainSpec};
use cs336_compiler::front::Checked;
use cs336_compiler::row::RowExpr;
use cs336_compiler::row::interp::{Cell, value};
use cs336_compiler::search::{Halving, survivors};
use cs336_table::{Row, read};

use crate::checkpoint;
use crate::error::LabError;
use crate::job::{Bench, place};
use crate::progress::Note;
use crate::rundir::{self, SCHEMA_VERSION, Status, Stopped};
use crate::sweep::{Ended, Turn, pool};
use crate::train::{Around, Outcome};

/// Runs what is missing of some points of the sweep `name`, one round. Gives how they ended, in their order; those that were not begun before a
/// stop are left out.
pub(crate) fn round(
    checked: &mut Checked<'_>,
    name: &str,
    spec: &SweepSpec,
    points: Range<usize>,
    bench: Bench<'_>,
    around: &mut Around<'_>,
) -> Result<Vec<(String, Ended)>, LabError> {
    let nodes: Vec<Node> =
        spec.points[points].iter().filter_map(|p| checked.nodes.get(&p.node).cloned()).collect();
    let ended = match &spec.halving {
        None => {
            let turns = nodes.iter().map(|node| Turn { node: node.clone(), pause: None });
            pool(checked, name, turns.collect(), bench, around)?
        }
        Some(halving) => {
            let bracket = Bracket { name, halving, best: &spec.best, nodes: &nodes, bench };
            bracket.run(checked, around)?
        }
    };
    Ok(ended.into_iter().map(|(at, e)| (nodes[at].name.clone(), e)).collect())
}

/// Points that are compared with each other.
struct Bracket<'a> {
    name: &'a str,
    halving: &'a Halving,
    best: &'a RowExpr,
    nodes: &'a [Node],
    bench: Bench<'a>,
}

impl Bracket<'_> {
    fn run(
        &self,
        checked: &mut Checked<'_>,
        around: &mut Around<'_>,
    ) -> Result<BTreeMap<usize, Ended>, LabError> {
        let mut ended = BTreeMap::new();
        // Points that mean the same are one run, which is compared once.
        let mut first: BTreeMap<&str, usize> = BTreeMap::new();
        let mut live = Vec::new();
        let mut twins = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            match first.get(node.meaning.as_str()) {
                Some(one) => twins.push((at, *one)),
                None => {
                    first.insert(&node.meaning, at);
                    live.push(at);
                }
            }
        }
        self.halve(live, checked, around, &mut ended)?;
        for (at, one) in twins {
            if let Some(same) = ended.get(&one).and_then(Ended::again) {
                ended.insert(at, same);
            }
        }
        Ok(ended)
    }

    fn halve(
        &self,
        mut live: Vec<usize>,
        checked: &mut Checked<'_>,
        around: &mut Around<'_>,
        ended: &mut BTreeMap<usize, Ended>,
    ) -> Result<(), LabError> {
        let mut places = live.len();
        for rung in 0..self.halving.rungs.len() {
            let reached = self.to(rung, &live, checked, around, ended)?;
            if !reached {
                // Without all of them nobody can be compared.
                return Ok(());
            }
            live.retain(|at| !ended.contains_key(at));
            places = self.halving.kept(places);
            live = self.cut(rung, live, places, checked, around, ended)?;
        }
        self.onward(self.halving.rungs.len(), &live, checked, around, ended)
    }

    /// Runs the points to a rung. True if each has reached it or has failed; what has failed, or could not go on, has then ended.
    fn to(
        &self,
        rung: usize,
        live: &[usize],
        checked: &mut Checked<'_>,
        around: &mut Around<'_>,
        ended: &mut BTreeMap<usize, Ended>,
    ) -> Result<bool, LabError> {
        let mut short = Vec::new();
        for at in live {
            if !self.is_at(rung, *at, checked)? {
                short.push(*at);
            }
        }
        let mut found = BTreeMap::new();
        self.onward(rung, &short, checked, around, &mut found)?;
        let mut all = true;
        for at in short {
            match found.remove(&at) {
                Some(Ended::Outcome(Outcome::Done(_) | Outcome::Paused { .. })) => {}
                Some(failed @ Ended::Failed(..)) => {
                    ended.insert(at, failed);
                }
                Some(
                    other @ (Ended::Outcome(Outcome::Interrupted { .. } | Outcome::Limit { .. })
                    | Ended::Stopped { .. }
                    | Ended::Refused(_)),
                ) => {
                    all = false;
                    ended.insert(at, other);
                }
                None => all = false,
            }
        }
        Ok(all)
    }

    /// Hands points to the pool: to a rung, or to their ends.
    fn onward(
        &self,
        rung: usize,
        points: &[usize],
        checked: &mut Checked<'_>,
        around: &mut Around<'_>,
        ended: &mut BTreeMap<usize, Ended>,
    ) -> Result<(), LabError> {
        let turn = |at: &usize| {
            let node = self.nodes[*at].clone();
            let pause = train(&node).and_then(|spec| self.halving.step(rung, spec));
            Turn { node, pause }
        };
        let turns = points.iter().map(turn).collect();
        let found = pool(checked, self.name, turns, self.bench, around)?;
        ended.extend(found.into_iter().map(|(i, e)| (points[i], e)));
        Ok(())
    }

    /// Keeps the best, marks the others as stopped.
    fn cut(
        &self,
        rung: usize,
        live: Vec<usize>,
        places: usize,
        checked: &Checked<'_>,
        around: &mut Around<'_>,
        ended: &mut BTreeMap<usize, Ended>,
    ) -> Result<Vec<usize>, LabError> {
        let mut measures = Vec::new();
        for at in live {
            measures.push((at, self.measured(rung, at, checked)?));
        }
        let go_on = survivors(&measures, places);
        for (at, measure) in measures.iter().filter(|(at, _)| !go_on.contains(at)) {
            let path = self.path(*at, checked)?;
            let step = match rundir::status(&path)? {
                // It has run to its end already: it is not better for that, but nothing of it is taken away.
                Status::Done { result } => {
                    ended.insert(*at, Ended::Outcome(Outcome::Done(result)));
                    continue;
                }
                Status::Incomplete { step }
                | Status::Stopped { step, .. }
                | Status::Failed { step, .. } => step,
                Status::New => 0,
            };
            let compared = self.step(rung, *at).unwrap_or(step);
            let measure = measure.filter(|m| m.is_finite());
            let mark = Stopped { version: SCHEMA_VERSION, rung: rung + 1, step: compared, measure };
            let known = match rundir::status(&path)? {
                Status::Stopped { at, .. } => at == mark,
                Status::New
                | Status::Incomplete { .. }
                | Status::Failed { .. }
                | Status::Done { .. } => false,
            };
            if !known {
                rundir::stop(&path, &mark)?;
                let node = self.nodes[*at].name.clone();
                around.watcher.note(&Note::Stopped { node, rung: rung + 1, measure });
            }
            ended.insert(*at, Ended::Stopped { rung: rung + 1, measure });
        }
        Ok(go_on)
    }

    fn step(&self, rung: usize, at: usize) -> Option<u64> {
        self.halving.step(rung, train(&self.nodes[at])?)
    }

    /// True if nothing is to be done to compare the point at a rung: it has been there.
    fn is_at(&self, rung: usize, at: usize, checked: &Checked<'_>) -> Result<bool, LabError> {
        let Some(wanted) = self.step(rung, at) else { return Ok(false) };
        let path = match self.path(at, checked) {
            Ok(path) => path,
            // The pool meets it again and says so.
            Err(LabError::Waits { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let there = match rundir::status(&path)? {
            Status::Incomplete { .. } | Status::Stopped { .. } => true,
            Status::Done { .. } => return Ok(true),
            Status::New | Status::Failed { .. } => false,
        };
        let steps = checkpoint::steps(&path.join("checkpoints"))?;
        Ok(there && steps.last().is_some_and(|step| *step >= wanted))
    }

    /// What is compared: the newest figure up to the rung, else (the run was not made for this sweep) the first after it.
    fn measured(
        &self,
        rung: usize,
        at: usize,
        checked: &Checked<'_>,
    ) -> Result<Option<f64>, LabError> {
        let rows = read(&self.path(at, checked)?.join("metrics.jsonl"))?;
        let until = self.step(rung, at).unwrap_or(u64::MAX);
        let figure = |row: &Row| measure(self.best, row);
        let before = rows.iter().rev().filter(|row| row.step <= until).find_map(figure);
        Ok(before.or_else(|| rows.iter().filter(|row| row.step > until).find_map(figure)))
    }

    /// The folder of a point's run.
    fn path(&self, at: usize, checked: &Checked<'_>) -> Result<PathBuf, LabError> {
        let node = &self.nodes[at];
        let waits = || LabError::Waits { node: node.name.clone(), on: self.name.to_owned() };
        let spec = train(node).ok_or_else(waits)?;
        let data = self.bench.room.encoded(&spec.data, None, &checked.nodes)?;
        Ok(place(node, spec, &data, &checked.nodes, self.bench)?.path)
    }
}

/// What a step's row gives for the expression that is made small.
fn measure(best: &RowExpr, row: &Row) -> Option<f64> {
    let cell = |name: &str| match name {
        "step" => Cell::Number(row.step as f64),
        name => row.get(name).map_or(Cell::Null, Cell::Number),
    };
    value(best, &cell).number()
}

fn train(node: &Node) -> Option<&TrainSpec> {
    match &node.spec {
        Spec::Train(spec) => Some(spec),
        Spec::Data(_)
        | Spec::Rows(_)
        | Spec::Tokenizer(_)
        | Spec::Model
        | Spec::Fit(_)
        | Spec::Report(_)
        | Spec::Sweep(_)
        | Spec::Outside(_)
        | Spec::After { .. }
        | Spec::NotBuilt { .. } => None,
    }
}
