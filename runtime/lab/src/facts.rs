//! What earlier runs have found out about data: tokens, documents, sizes of vocabularies.
//!
//! Checking reads no data, so the checker asks for facts. A fact is remembered per program file together with the meaning of the
//! node that it is about; when that meaning changes, the fact is no longer known. The file is a cache: it may be deleted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cs336_compiler::check::hir::Nodes;
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::files::{read_json, write_json};

const VERSION: u64 = 1;

/// The facts of one program.
#[derive(Debug)]
pub struct Facts {
    path: PathBuf,
    known: RefCell<BTreeMap<String, Fact>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Fact {
    value: f64,
    /// Nodes that it depends on, and hashes of their meanings.
    about: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct File {
    version: u64,
    facts: BTreeMap<String, Fact>,
}

impl Facts {
    /// The facts about the program at `program`, kept in the folder `cache`. What cannot be read is not known.
    pub fn open(cache: &Path, program: &Path) -> Self {
        let whole = std::path::absolute(program).unwrap_or_else(|_| program.to_owned());
        let name = blake3::hash(whole.to_string_lossy().as_bytes()).to_hex();
        let path = cache.join("facts").join(format!("{}.json", &name[..16]));
        let known = match read_json::<File>(&path) {
            Ok(file) if file.version == VERSION => file.facts,
            Ok(_) | Err(_) => BTreeMap::new(),
        };
        Self { path, known: RefCell::new(known) }
    }

    /// A fact, if it is known.
    pub fn get(&self, node: &str, field: &str) -> Option<f64> {
        self.known.borrow().get(&format!("{node}.{field}")).map(|fact| fact.value)
    }

    /// Remembers a fact about `node` (a node, or a part of one: `stories.train`) that depends on the nodes `on`. Gives whether it is new.
    pub fn set(&self, node: &str, field: &str, value: f64, on: &[&str], nodes: &Nodes) -> bool {
        let about = on
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), meaning(nodes, name)?)))
            .collect();
        let fact = Fact { value, about };
        let old = self.known.borrow_mut().insert(format!("{node}.{field}"), fact.clone());
        old.is_none_or(|old| old.value != value)
    }

    /// Forgets the facts about nodes that mean something else now. True if there were any: then the program must be checked again.
    pub fn forget_stale(&self, nodes: &Nodes) -> bool {
        let mut known = self.known.borrow_mut();
        let before = known.len();
        known.retain(|_, fact| {
            fact.about.iter().all(|(name, hash)| meaning(nodes, name).as_ref() == Some(hash))
        });
        known.len() < before
    }

    /// Writes the file.
    pub fn save(&self) -> Result<(), LabError> {
        let facts = self.known.borrow().clone();
        write_json(&self.path, &File { version: VERSION, facts })
    }
}

fn meaning(nodes: &Nodes, name: &str) -> Option<String> {
    let node = nodes.get(name)?;
    Some(blake3::hash(node.meaning.as_bytes()).to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cs336_compiler::check::hir::{Node, Spec};
    use cs336_compiler::source::{FileId, Span};

    fn nodes(meaning: &str) -> Nodes {
        let node = Node {
            name: "bpe".into(),
            kind: "tokenizer".into(),
            span: Span::new(FileId(0), 0, 0),
            needs: Vec::new(),
            spec: Spec::Model,
            meaning: meaning.into(),
        };
        Nodes::from([("bpe".to_owned(), node)])
    }

    #[test]
    fn facts_last_as_long_as_what_they_are_about() {
        let cache = tempfile::tempdir().expect("a temporary folder");
        let program = Path::new("a.cs336");
        let facts = Facts::open(cache.path(), program);
        assert_eq!(facts.get("bpe", "vocab"), None);
        assert!(facts.set("bpe", "vocab", 1999.0, &["bpe"], &nodes("a")));
        assert!(!facts.set("bpe", "vocab", 1999.0, &["bpe"], &nodes("a")));
        facts.save().expect("written");
        let again = Facts::open(cache.path(), program);
        assert_eq!(again.get("bpe", "vocab"), Some(1999.0));
        assert!(!again.forget_stale(&nodes("a")));
        assert!(again.forget_stale(&nodes("b")));
        assert_eq!(again.get("bpe", "vocab"), None);
        assert_eq!(Facts::open(cache.path(), Path::new("b.cs336")).get("bpe", "vocab"), None);
    }
}
