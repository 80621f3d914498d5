//! Which run is which: the key of a run and how two keys differ.
//!
//! Two runs are the same if they mean the same: the canonical text of the checked node with all that it reaches, the content
//! of its data, and the version of our numbers. How a run is carried out (threads, micro-batches, cadence of saving) is not
//! in its key, so a run may be resumed under other settings of that kind.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Raised whenever the same program may give other numbers than before.
pub const NUMERICS_VERSION: u32 = 3;

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
        let mut fields: BTreeMap<String, String> = BTreeMap::new();
        let mut blocks: Vec<String> = Vec::new();
        // Equal names in a list of blocks: all their values count, in order.
        let mut put = |blocks: &[String], name: &str, value: &str| {
            let names = blocks.iter().map(String::as_str).chain(std::iter::once(name));
            let path: Vec<&str> = names.filter(|part| !part.is_empty()).collect();
            let entry = fields.entry(path.join(".")).or_default();
            if !entry.is_empty() && !value.is_empty() {
                entry.push_str("; ");
            }
            entry.push_str(value);
        };
        for line in self.meaning.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (closed, open) = unmatched(line);
            let rest = if closed > 0 { line.trim_start_matches('}') } else { line };
            if closed > 0 {
                // What follows a block belongs to the value that the block is in: `}}) |> pack(..)`.
                let left = blocks.len().saturating_sub(closed);
                let name = blocks.get(left).cloned().unwrap_or_default();
                blocks.truncate(left);
                if open == 0 {
                    if !rest.is_empty() {
                        put(&blocks, &name, rest);
                    }
                    continue;
                }
            }
            let (name, value) = rest.split_once(" = ").unwrap_or((rest, ""));
            if open == 0 {
                put(&blocks, name, value);
                continue;
            }
            let name = name.trim_end_matches('{').trim_end_matches([' ', '=']);
            let value = value.trim_end_matches(['{', ' ']);
            if !value.is_empty() {
                put(&blocks, name, value);
            }
            blocks.push(name.to_owned());
            // Braces inside the value are closed together with the block.
            blocks.extend(std::iter::repeat_n(String::new(), open - 1));
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

/// Braces of a line that close what lines before opened, and that lines behind close; those in texts do not count.
fn unmatched(line: &str) -> (usize, usize) {
    let (mut closed, mut open) = (0, 0usize);
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '{' if !quoted => open += 1,
            '}' if !quoted && open > 0 => open -= 1,
            '}' if !quoted => closed += 1,
            _ => {}
        }
    }
    (closed, open)
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
    fn fields_behind_a_block_within_a_value_keep_their_names() {
        let inputs = |seed: &str, vocab: &str, seq: &str| KeyInputs {
            meaning: format!(
                "data = files({{a = \"}}{{\"}}) |> encode({{tokenizer = tokenizer {{\nkind = \"bpe\"\nvocab = {vocab}\n}}}}) \
                 |> pack({{seq = {seq}}})\nseed = {seed}\n"
            ),
            ..inputs("1", "aa")
        };
        let names = |other: KeyInputs| {
            let found = differences(&inputs("1", "256", "64"), &other);
            found.into_iter().map(|d| d.field).collect::<Vec<_>>()
        };
        assert_eq!(names(inputs("2", "256", "64")), ["seed"]);
        assert_eq!(names(inputs("1", "512", "64")), ["data.vocab"]);
        assert_eq!(names(inputs("1", "256", "32")), ["data"]);
    }

    #[test]
    fn texts_do_not_run_into_each_other() {
        let (mut one, mut other) = (inputs("1", "aa"), inputs("1", "aa"));
        one.data = BTreeMap::from([("a".to_owned(), "bc".to_owned())]);
        other.data = BTreeMap::from([("ab".to_owned(), "c".to_owned())]);
        assert_ne!(one.key(), other.key());
    }
}
