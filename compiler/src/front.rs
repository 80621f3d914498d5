//! The front door: check a file, then compile its nodes.

use indexmap::IndexMap;

use crate::bug::Bug;
use crate::check::apply::Given;
use crate::check::assemble::TrainParts;
use crate::check::eval::Eval;
use crate::check::hir::{FitAsk, Nodes, Spec};
use crate::check::modules::MAIN;
use crate::check::{kinds, row_lower};
use crate::graph::Graph;
use crate::graph::cost::{CostTable, cost};
use crate::pipeline::compile;
use crate::problem::Problems;
use crate::programs::{Compiled, DecodePrograms, TrainPrograms};
use crate::row::Rows;
use crate::row::kinds::Columns;
use crate::source::{FileId, Sources, Span};
use crate::world::World;

/// A checked program.
#[derive(Debug)]
pub struct Checked<'w> {
    /// The evaluator with all that it found.
    eval: Eval<'w>,
    /// All nodes.
    pub nodes: Nodes,
    /// One line per node, as `check` prints.
    pub lines: Vec<String>,
}

/// Questions to fits, by the fit's name.
pub type Asks = IndexMap<String, Vec<FitAsk>>;

/// A question about rows, as `cs336c query` takes it: `iso |> keep(.loss < 3)`. Names are those of `path`'s nodes, if there is a
/// program; `runs` is every run, and the `known` names of runs and sweeps stand for their rows. `columns` are those of runs. With it
/// come the questions to fits in the file and in the text: once they are answered by facts, the same text may have rows.
pub fn rows(
    world: &dyn World,
    path: Option<&str>,
    sets: &[String],
    text: &str,
    known: &[String],
    columns: &Columns,
) -> (Result<Rows, Box<(Problems, Sources)>>, Asks) {
    let mut eval = Eval::new(world);
    match path {
        Some(path) => eval.load_main(path, sets),
        None => eval.load_text(""),
    }
    let found = row_lower::rows_of_text(&mut eval, text, known, columns);
    let asks = std::mem::take(&mut eval.asks);
    let made = match found {
        Some(rows) if !eval.problems.has_errors() => Ok(rows),
        _ => Err(Box::new((eval.problems, eval.sources))),
    };
    (made, asks)
}

/// Reads and checks a file. `sets` are the `path=EXPR` of `--set`.
pub fn check<'w>(world: &'w dyn World, path: &str, sets: &[String]) -> Checked<'w> {
    let mut eval = Eval::new(world);
    eval.load_main(path, sets);
    let (nodes, lines) = kinds::check_nodes(&mut eval);
    Checked { eval, nodes, lines }
}

impl Checked<'_> {
    /// All problems so far.
    pub fn problems(&self) -> &Problems {
        &self.eval.problems
    }

    /// All texts read.
    pub fn sources(&self) -> &Sources {
        &self.eval.sources
    }

    /// The plans of a training run. `micro_rows`: rows per micro-batch; it must divide the rows of a batch.
    pub fn train_programs(
        &mut self,
        node: &str,
        micro_rows: Option<usize>,
    ) -> Result<TrainPrograms, Problems> {
        let (parts, rows) = self.parts(node)?;
        let micro_rows = kinds::micro_rows(&self.eval.world.target(), rows, parts.seq, micro_rows);
        let micro_count = rows / micro_rows;
        let eval_rows = micro_rows.min(32);
        let made = (|| {
            let kinds = self.eval.weight_views(&parts)?;
            let step = self.eval.step_graph(&parts, micro_rows, micro_count)?;
            let init = self.eval.init_graph(&parts, &kinds, &step.states)?;
            let eval = self.eval.eval_graph(&parts, eval_rows)?;
            Some((step, init, eval))
        })();
        let Some((step, init, eval)) = made else { return Err(self.eval.problems.clone()) };
        Ok(TrainPrograms {
            weights: step.weights,
            states: step.states,
            init: self.compiled(init)?,
            step: self.compiled(step.graph)?,
            eval: self.compiled(eval)?,
            micro_rows,
            micro_count,
            eval_rows,
            seq: parts.seq,
        })
    }

    /// The plans of generation from a training run's model.
    pub fn decode_programs(
        &mut self,
        train: &str,
        prompt_len: usize,
        capacity: usize,
    ) -> Result<DecodePrograms, Problems> {
        let (parts, _) = self.parts(train)?;
        if kinds::writes_in_order(&mut self.eval, &parts).is_none() {
            return Err(self.eval.problems.clone());
        }
        let prefill = self.eval.decode_graph(&parts, prompt_len.max(1), capacity);
        let decode = self.eval.decode_graph(&parts, 1, capacity);
        let (Some((prefill, _)), Some((decode, caches))) = (prefill, decode) else {
            return Err(self.eval.problems.clone());
        };
        Ok(DecodePrograms {
            prefill: self.compiled(prefill)?,
            decode: self.compiled(decode)?,
            caches,
            capacity,
        })
    }

    /// The plan of an application: see [`apply_graph`](Eval::apply_graph).
    pub fn apply_program(
        &mut self,
        name: &str,
        inputs: &[Given],
        weights: &[Given],
        sizes: &[(String, usize)],
        with_grad: bool,
    ) -> Result<Compiled, Problems> {
        match self.eval.apply_graph(name, inputs, weights, sizes, with_grad) {
            Some(made) => self.compiled(made.graph),
            None => Err(self.eval.problems.clone()),
        }
    }

    /// The costs of the forward pass of one row of a training run's model.
    pub fn costs(&mut self, train: &str) -> Result<CostTable, Problems> {
        let (parts, _) = self.parts(train)?;
        match self.eval.forward_graph(&parts, 1) {
            Some(graph) => Ok(cost(&graph)),
            None => Err(self.eval.problems.clone()),
        }
    }

    /// A training node's parts and the rows of its batch.
    fn parts(&mut self, node: &str) -> Result<(TrainParts, usize), Problems> {
        let found = match self.nodes.get(node).map(|n| &n.spec) {
            Some(Spec::Train(spec)) => {
                let rows = (spec.batch_tokens / spec.seq.max(1)).max(1) as usize;
                kinds::train_parts(&mut self.eval, node).map(|p| (p, rows))
            }
            _ => None,
        };
        if let Some(found) = found {
            return Ok(found);
        }
        if !self.eval.problems.has_errors() {
            // Whoever asks would otherwise end without a word.
            let text = format!("`{node}` cannot be compiled, and nothing says why");
            return Err(self.fault(&Bug::new("check", text, "")));
        }
        Err(self.eval.problems.clone())
    }

    fn compiled(&mut self, graph: Graph) -> Result<Compiled, Problems> {
        let target = self.eval.world.target();
        compile(graph, &target).map_err(|bug| self.fault(&bug))
    }

    /// A fault of ours, as a problem with its dump.
    fn fault(&mut self, bug: &Bug) -> Problems {
        let file = self.eval.modules.get(MAIN).map_or(FileId(0), |m| m.file);
        self.eval.problem(bug.problem(Span::new(file, 0, 0)));
        self.eval.problems.clone()
    }
}

#[cfg(test)]
#[path = "front_tests.rs"]
mod tests;
