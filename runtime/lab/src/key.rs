//! Which run is which: the key of a run and how two keys differ.
//!
//! Two runs are the same if they mean the same: the canonical text of the checked node with all that it reaches, the content
//! of its data, and the version of our numbers. How a run is carried out (threads, micro-batches, cadence of saving) is not
//! in its key, so a run may be resumed under other settings of that kind.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Raised whenever the same program may give other numbers than before.
pub const NUMERICS_VERSION: u32 = 1;

/// Everything that a run's key is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInputs {
    /// The canonical text of the node and of what it reaches.
    pub meaning: String,
    /// Hashes of contents by what they are the content of: `data`, `tokenizer bpe`.
    pub data: BTreeMap<String, String>,
    /// [`NUMERICS_VERSION`] at the time.
    pub numerics: u32,
    /// The device, where the budget is a time.
    pub device: Option<String>,
}

/// A difference between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What differs: a line's name in the meaning, `data: NAME`, `numerics`, `device`.
    pub field: String,
    /// On the one side; `None`: it is not there.
    pub left: Option<String>,
    /// On the other.
    pub right: Option<String>,
}

impl KeyInputs {
    /// The key: 64 hexadecimal digits.
    pub fn key(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        // Lengths go before texts, so that no two inputs run into the same bytes.
        let mut put = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        };
        put("cs336c run 1");
        put(&self.meaning);
        put(&self.numerics.to_string());
        put(self.device.as_deref().unwrap_or(""));
        for (name, hash) in &self.data {
            put(name);
            put(hash);
        }
        hasher.finalize().to_hex().to_string()
    }
}

impl KeyInputs {
    /// A run that begins with the weights of another depends on all that the other depends on.
    pub fn begin_with(&mut self, node: &str, key: &str) {
        self.data.insert(format!("init {node}"), key.to_owned());
    }
}

/// The first eight digits, for names of folders.
pub fn key8(key: &str) -> &str {
    key.get(..8).unwrap_or(key)
}

/// What makes two keys differ, field by field; nothing if they are equal.
pub fn differences(left: &KeyInputs, right: &KeyInputs) -> Vec<Difference> {
    let (a, b) = (left.fields(), right.fields());
    let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    names
        .into_iter()
        .filter(|name| a.get(*name) != b.get(*name))
        .map(|name| Difference {
            field: name.clone(),
            left: a.get(name).cloned(),
            right: b.get(name).cloned(),
        })
        .collect()
}

impl KeyInputs {
    /// Flat: names of fields to their texts. A line `name = value` of the meaning is a field under the names of the
    /// blocks around it; other lines count by their text.
    fn fields(&self) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        let mut blocks: Vec<String> = Vec::new();
        for line in self.meaning.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if line == "}" {
                blocks.pop();
            } else if let Some(head) = line.strip_suffix('{') {
                let head = head.trim().trim_end_matches('=').trim();
                blocks.push(head.to_owned());
            } else {
                let (name, value) = line.split_once(" = ").unwrap_or((line, ""));
                let path: Vec<&str> =
                    blocks.iter().map(String::as_str).chain(std::iter::once(name)).collect();
                let path = path.join(".");
                // Equal names in a list of blocks: all their values count, in order.
                let entry: &mut String = fields.entry(path).or_default();
                if !entry.is_empty() {
                    entry.push_str("; ");
                }
                entry.push_str(value);
            }
        }
        for (name, hash) in &self.data {
            fields.insert(format!("data: {name}"), hash.clone());
        }
        fields.insert("numerics".to_owned(), self.numerics.to_string());
        if let Some(device) = &self.device {
            fields.insert("device".to_owned(), device.clone());
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(lr: &str, corpus: &str) -> KeyInputs {
        KeyInputs {
            meaning: format!("train {{\n  optimizer {{\n    lr = {lr}\n  }}\n  seed = 1\n}}\n"),
            data: BTreeMap::from([("data".to_owned(), corpus.to_owned())]),
            numerics: NUMERICS_VERSION,
            device: None,
        }
    }

    #[test]
    fn equal_meanings_have_equal_keys() {
        assert_eq!(inputs("3e-4", "aa").key(), inputs("3e-4", "aa").key());
        assert_eq!(inputs("3e-4", "aa").key().len(), 64);
        assert_eq!(key8(&inputs("3e-4", "aa").key()).len(), 8);
        assert_eq!(differences(&inputs("3e-4", "aa"), &inputs("3e-4", "aa")), []);
    }

    #[test]
    fn whatever_differs_changes_the_key_and_is_named() {
        let one = inputs("3e-4", "aa");
        let mut numerics = one.clone();
        numerics.numerics += 1;
        let mut device = one.clone();
        device.device = Some("cpu".to_owned());
        for (other, field) in [
            (inputs("1e-3", "aa"), "train.optimizer.lr"),
            (inputs("3e-4", "bb"), "data: data"),
            (numerics, "numerics"),
            (device, "device"),
        ] {
            assert_ne!(one.key(), other.key(), "{field}");
            let found = differences(&one, &other);
            assert_eq!(found.iter().map(|d| d.field.as_str()).collect::<Vec<_>>(), [field]);
        }
    }

    #[test]
    fn texts_do_not_run_into_each_other() {
        let (mut one, mut other) = (inputs("1", "aa"), inputs("1", "aa"));
        one.data = BTreeMap::from([("a".to_owned(), "bc".to_owned())]);
        other.data = BTreeMap::from([("ab".to_owned(), "c".to_owned())]);
        assert_ne!(one.key(), other.key());
    }
}
