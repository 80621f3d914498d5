//! How the nodes of a program stand: what is there, what goes on, what is missing. Nothing is run, no data is read.

use std::collections::BTreeMap;
use std::path::Path;

use cs336_compiler::check::hir::{Node, Nodes, Spec};
use serde_json::Value;

use crate::error::LabError;
use crate::experiment::order;
use crate::key::NUMERICS_VERSION;
use crate::rundir::{self, Status};

/// How a node stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// Nothing to run: a model, data that are read when needed.
    Ready,
    /// A run that is not there.
    Missing,
    /// A run that goes on from a step.
    Incomplete {
        /// Its newest checkpoint.
        step: u64,
    },
    /// A run that failed; `run --retry failed` tries it again.
    Failed {
        /// Code of what went wrong.
        code: String,
    },
    /// A run that its sweep stopped early.
    Stopped {
        /// Its step then.
        step: u64,
        /// The rung, counted from 1.
        rung: usize,
    },
    /// A finished run.
    Done {
        /// Its figures.
        result: Value,
    },
    /// A sweep: how many of its points are finished, and how many there are.
    Points {
        /// Finished ones.
        done: usize,
        /// Those that were stopped early.
        stopped: usize,
        /// All.
        of: usize,
    },
    /// Comes with a later part.
    NotBuilt {
        /// Which.
        part: String,
    },
    /// Known after another node.
    After {
        /// Which.
        node: String,
        /// It then needs a yes.
        asks: bool,
    },
}

/// How each of the nodes stands, in the order in which they would run. A run counts if it means the same; its data are not read.
pub fn standings(
    nodes: &Nodes,
    targets: &[String],
    root: &Path,
) -> Result<Vec<(String, Standing)>, LabError> {
    let mut runs: BTreeMap<String, Standing> = BTreeMap::new();
    for (path, manifest) in rundir::list(root)?.runs {
        if manifest.inputs.numerics != NUMERICS_VERSION {
            continue;
        }
        let standing = match rundir::status(&path)? {
            Status::Done { result } => Standing::Done { result },
            Status::Failed { code, .. } => Standing::Failed { code },
            Status::Incomplete { step } => Standing::Incomplete { step },
            Status::Stopped { step, at } => Standing::Stopped { step, rung: at.rung },
            Status::New => continue,
        };
        // The same meaning on other data may be there too; what is finished counts most.
        let known = runs.get(&manifest.inputs.meaning);
        if !matches!(known, Some(Standing::Done { .. })) {
            runs.insert(manifest.inputs.meaning, standing);
        }
    }
    let of_train = |node: &Node| runs.get(&node.meaning).cloned().unwrap_or(Standing::Missing);
    let standing = |node: &Node| match &node.spec {
        Spec::Data(_) | Spec::Rows(_) | Spec::Tokenizer(_) | Spec::Model => Standing::Ready,
        Spec::After { node, asks } => Standing::After { node: node.clone(), asks: *asks },
        Spec::NotBuilt { part } => Standing::NotBuilt { part: part.clone() },
        Spec::Fit(_) | Spec::Report(_) => Standing::Ready,
        Spec::Train(_) | Spec::Outside(_) => of_train(node),
        Spec::Sweep(sweep) => {
            let points = sweep.points.iter().filter_map(|p| nodes.get(&p.node));
            let all: Vec<Standing> = points.map(of_train).collect();
            let done = all.iter().filter(|s| matches!(s, Standing::Done { .. })).count();
            let stopped = all.iter().filter(|s| matches!(s, Standing::Stopped { .. })).count();
            Standing::Points { done, stopped, of: sweep.points.len() + sweep.planned }
        }
    };
    let names = order(nodes, targets)?;
    Ok(names.into_iter().map(|name| (name.clone(), standing(&nodes[&name]))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::tests::nodes;

    #[test]
    fn standings_without_runs() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let all = standings(&nodes(), &["report".to_owned()], root.path()).expect("listed");
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["text", "bpe", "model", "big", "small", "report"]);
        assert_eq!(all[5].1, Standing::NotBuilt { part: "part 2".into() });
        assert_eq!(all[2].1, Standing::After { node: "bpe".into(), asks: false });
    }
}
