//! Which runs a name means: for queries, comparisons and exports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cs336_compiler::check::hir::{Coordinate, Nodes, PointSpec, Spec};
use cs336_compiler::row::Rows;
use cs336_compiler::row::interp::{Cell, Row};
use cs336_compiler::row::kinds::{Columns, Kind};
use cs336_table::{Frame, Ledger, TableError, ledger, sources};

use crate::error::LabError;
use crate::fits;
use crate::rundir::{self, Manifest};

/// The runs of a node of a program: those that mean what the node, or a point of it, means now. Of a node that the program does
/// not have: those that have its name.
pub fn runs_of(ledger: &Ledger, nodes: &Nodes, node: &str) -> Result<Frame, TableError> {
    if let Some((fit, what)) = node.split_once('.') {
        let rows = fits::found(ledger.root(), fit, what).map_err(|why| TableError::Query {
            code: "E0859",
            message: format!("nothing is known of `{node}`: {why}"),
            help: format!("`cs336c run FILE {fit}` fits it"),
        })?;
        return Frame::from_rows(&rows);
    }
    let point = format!("{node}/");
    let meanings: BTreeSet<String> = nodes
        .iter()
        .filter(|(name, n)| {
            (*name == node || name.starts_with(&point))
                && matches!(n.spec, Spec::Train(_) | Spec::Outside(_))
        })
        .map(|(_, n)| ledger::meaning_hash(&n.meaning))
        .collect();
    if meanings.is_empty() {
        return ledger.of_node(node);
    }
    let found = ledger.having("meaning", &meanings)?;
    let at = points(nodes, node);
    if at.is_empty() {
        return Ok(found);
    }
    let rows: Vec<Row> = found.rows().into_iter().map(|row| placed(row, &at)).collect();
    let mut columns = found.columns();
    for (name, kind) in places(nodes) {
        // The sweep's own names are there even if none of its runs is.
        if at.values().any(|place| place.iter().any(|c| c.name == name)) {
            columns.entry(name).or_insert(kind);
        }
    }
    Frame::with_columns(&rows, &columns.iter().map(|(n, k)| (n.as_str(), *k)).collect::<Vec<_>>())
}

/// The columns that rows of the sweeps of a program have by their `for` names.
pub fn places(nodes: &Nodes) -> Columns {
    let mut found = Columns::new();
    for node in nodes.values() {
        let Spec::Sweep(spec) = &node.spec else { continue };
        for c in spec.points.iter().flat_map(|p| &p.at) {
            let kind = if c.number.is_some() { Kind::Number } else { Kind::Text };
            let known = found.entry(c.name.clone()).or_insert(kind);
            if *known != kind {
                *known = Kind::Any;
            }
        }
    }
    found
}

/// Where the points of a sweep lie, by the hash of what they mean.
fn points<'a>(nodes: &'a Nodes, sweep: &str) -> BTreeMap<String, &'a [Coordinate]> {
    let points = match nodes.get(sweep).map(|n| &n.spec) {
        Some(Spec::Sweep(spec)) => spec.points.as_slice(),
        _ => &[],
    };
    let place = |p: &'a PointSpec| {
        Some((ledger::meaning_hash(&nodes.get(&p.node)?.meaning), p.at.as_slice()))
    };
    points.iter().filter_map(place).collect()
}

/// A row with the `for` names of its point as columns. Columns that every run has keep their meaning.
fn placed(mut row: Row, places: &BTreeMap<String, &[Coordinate]>) -> Row {
    let Some(Cell::Text(meaning)) = row.get("meaning") else { return row };
    for c in places.get(meaning).copied().unwrap_or_default() {
        if row.get(&c.name).is_none_or(|old| *old == Cell::Null) {
            let cell = c.number.map_or_else(|| Cell::Text(c.shown.clone()), Cell::Number);
            row.insert(c.name.clone(), cell);
        }
    }
    row
}

/// The rows that a program asks for.
pub fn rows(ledger: &Ledger, nodes: &Nodes, asked: &Rows) -> Result<Frame, TableError> {
    sources::rows(asked, ledger, &|node| runs_of(ledger, nodes, node))
}

/// The one run that a text means: its folder, its name, or the beginning of its key.
pub fn find(root: &Path, text: &str) -> Result<(PathBuf, Manifest), LabError> {
    let runs = rundir::list(root)?.runs;
    let asked = Path::new(text.trim_end_matches('/'));
    let by_folder = |path: &Path| path == asked || path.strip_prefix(root) == Ok(asked);
    let tries: [&dyn Fn(&Path, &Manifest) -> bool; 3] =
        [&|path, _| by_folder(path), &|_, manifest| manifest.name == text, &|_, manifest| {
            text.len() >= 4 && manifest.key.starts_with(text)
        }];
    for is_it in tries {
        let mut found: Vec<&(PathBuf, Manifest)> =
            runs.iter().filter(|(path, manifest)| is_it(path, manifest)).collect();
        match found.len() {
            0 => {}
            1 => return Ok(found.remove(0).clone()),
            _ => {
                let shown = found.iter().map(|(path, _)| path.display().to_string()).collect();
                return Err(LabError::NoRun { name: text.to_owned(), several: true, known: shown });
            }
        }
    }
    let known = runs.iter().map(|(_, manifest)| manifest.name.clone()).collect();
    Err(LabError::NoRun { name: text.to_owned(), several: false, known })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyInputs;
    use crate::rundir::{RunDir, SCHEMA_VERSION};

    fn run(root: &Path, name: &str, seed: u64) -> PathBuf {
        let inputs = KeyInputs {
            meaning: format!("seed = {seed}.0\n"),
            data: Default::default(),
            numerics: 1,
            device: None,
        };
        let manifest = Manifest {
            version: SCHEMA_VERSION,
            name: name.to_owned(),
            key: inputs.key(),
            inputs,
            sources: Vec::new(),
            seeds: serde_json::json!({ "order": seed }),
            cs336c: "0.1.0".to_owned(),
            machine: serde_json::json!({}),
            created: 0,
            columns: Default::default(),
        };
        RunDir::open(root, &manifest).expect("opened").path().to_owned()
    }

    #[test]
    fn runs_are_found_by_folder_name_and_key() {
        let root = tempfile::tempdir().expect("a temporary folder");
        let root = root.path();
        let (a, b) = (run(root, "a", 1), run(root, "b", 2));
        run(root, "b", 3);
        let found = |text: &str| find(root, text).map(|(path, _)| path);
        assert_eq!(found("a").expect("by name"), a);
        assert_eq!(found(&b.display().to_string()).expect("by folder"), b);
        let folder = b.strip_prefix(root).expect("inside").display().to_string();
        assert_eq!(found(&folder).expect("by folder"), b);
        let key = find(root, "a").expect("found").1.key;
        assert_eq!(found(&key[..8]).expect("by key"), a);
        assert!(found("b").expect_err("two").to_string().contains("2 runs"));
        let none = found("bb").expect_err("none");
        assert_eq!((none.code(), none.help()), ("E0861", "did you mean `b`?".to_owned()));
    }
}
