//! Documents: texts with the place they come from, in an order that is the same everywhere.
//!
//! [`Documents::read`] takes a base folder and a file, a folder or a pattern, and promises UTF-8 text without zero bytes, in
//! the order of paths and of places in files, and at least one document that is not empty. Where files hold several
//! documents with a mark between them (`split_on`), the white space around the mark is layout and goes with it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::{DataError, NotText};
use crate::glob::{files_matching, files_under, is_pattern};

/// One text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// The text itself.
    pub text: String,
    /// Where it comes from, relative to the base folder where it lies under it.
    pub path: Arc<str>,
}

/// Texts in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents(Vec<Document>);

impl Documents {
    /// The given documents.
    pub fn new(documents: Vec<Document>) -> Self {
        Self(documents)
    }

    /// The text files that `pattern` names, in order: a file, a folder (all files in it) or a pattern with `*`, `?`, `**`. Nothing is read.
    pub fn find(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, DataError> {
        let named = base.join(pattern);
        let paths = if is_pattern(pattern) {
            files_matching(base, pattern).map_err(|source| DataError::read(base, source))?
        } else if named.is_dir() {
            files_under(&named).map_err(|source| DataError::read(&named, source))?
        } else if named.exists() {
            vec![named]
        } else {
            return Err(DataError::NoFile { path: named });
        };
        if paths.is_empty() {
            return Err(DataError::NoMatch { pattern: pattern.to_owned(), base: base.to_owned() });
        }
        Ok(paths)
    }

    /// Reads the text files that `pattern` names.
    pub fn read(base: &Path, pattern: &str, split_on: Option<&str>) -> Result<Self, DataError> {
        let paths = Self::find(base, pattern)?;
        let texts: Vec<String> =
            paths.par_iter().map(|path| read_text(path)).collect::<Result<_, _>>()?;
        let mut documents = Vec::new();
        for (path, text) in paths.iter().zip(texts) {
            let path: Arc<str> = path.strip_prefix(base).unwrap_or(path).to_string_lossy().into();
            match split_on.filter(|mark| !mark.is_empty()) {
                None if text.is_empty() => {}
                None => documents.push(Document { text, path }),
                Some(mark) => {
                    let parts = text.split(mark).map(str::trim).filter(|part| !part.is_empty());
                    documents.extend(
                        parts.map(|part| Document {
                            text: part.to_owned(),
                            path: Arc::clone(&path),
                        }),
                    );
                }
            }
        }
        if documents.is_empty() {
            return Err(DataError::EmptyCorpus { what: format!("`{pattern}`") });
        }
        Ok(Self(documents))
    }

    /// The documents, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Document> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The texts, in order.
    pub fn texts(&self) -> Vec<&str> {
        self.0.iter().map(|document| document.text.as_str()).collect()
    }

    /// Bytes of all texts together.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|document| document.text.len() as u64).sum()
    }

    /// Characters of all texts together.
    pub fn chars(&self) -> u64 {
        self.0.iter().map(|document| document.text.chars().count() as u64).sum()
    }

    /// All texts one after the other, nothing between.
    pub fn join(&self) -> String {
        self.texts().concat()
    }

    /// The hash of the texts and their borders; where they come from is not part of it.
    pub fn hash(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for document in &self.0 {
            hasher.update(&(document.text.len() as u64).to_le_bytes());
            hasher.update(document.text.as_bytes());
        }
        hasher.finalize()
    }
}

impl IntoIterator for Documents {
    type Item = Document;
    type IntoIter = std::vec::IntoIter<Document>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Documents {
    type Item = &'a Document;
    type IntoIter = std::slice::Iter<'a, Document>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// A whole file as text; a byte-order mark at its start is dropped.
fn read_text(path: &Path) -> Result<String, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::read(path, source))?;
    let not_text = |offset: usize, why| DataError::NotText {
        path: path.to_owned(),
        offset: offset as u64,
        why,
    };
    let nul = bytes.iter().position(|&byte| byte == 0);
    match String::from_utf8(bytes) {
        Ok(text) => match nul {
            Some(offset) => Err(not_text(offset, NotText::Nul)),
            None => Ok(match text.strip_prefix('\u{feff}') {
                Some(rest) => rest.to_owned(),
                None => text,
            }),
        },
        Err(error) => {
            let invalid = error.utf8_error().valid_up_to();
            match nul {
                Some(offset) if offset < invalid => Err(not_text(offset, NotText::Nul)),
                Some(_) | None => Err(not_text(invalid, NotText::Utf8)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, bytes) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, bytes).expect("written");
        }
        folder
    }

    #[test]
    fn files_folders_and_patterns() {
        let folder = folder(&[
            ("b.txt", b"\xef\xbb\xbfsecond"),
            ("a.txt", b"one\n<|end|>\ntwo\n<|end|>\n"),
            ("sub/c.txt", b"third"),
            ("empty.txt", b""),
        ]);
        let read = |pattern, split| Documents::read(folder.path(), pattern, split);
        let all = read("*.txt", Some("<|end|>")).expect("text");
        assert_eq!(all.texts(), ["one", "two", "second"]);
        assert_eq!(&*all.iter().next().expect("a document").path, "a.txt");
        assert_eq!(read("a.txt", None).expect("text").texts(), ["one\n<|end|>\ntwo\n<|end|>\n"]);
        assert_eq!(read("sub", None).expect("text").texts(), ["third"]);
        assert_eq!(read(".", None).expect("text").len(), 3);
    }

    #[test]
    fn each_failure_has_its_code() {
        let folder = folder(&[
            ("nul.bin", b"ab\0c\xff"),
            ("latin.txt", b"caf\xe9 au lait"),
            ("empty.txt", b""),
            ("blank.md", b"\n <|end|> \n"),
        ]);
        let fail = |pattern, split| {
            Documents::read(folder.path(), pattern, split).expect_err("not a corpus")
        };
        assert_eq!(fail("none.txt", None).code(), "E0601");
        assert_eq!(fail("*.csv", None).code(), "E0602");
        assert_eq!(fail("empty.txt", None).code(), "E0604");
        assert_eq!(fail("blank.md", Some("<|end|>")).code(), "E0604");
        assert!(matches!(
            fail("nul.bin", None),
            DataError::NotText { offset: 2, why: NotText::Nul, .. }
        ));
        assert!(matches!(
            fail("latin.txt", None),
            DataError::NotText { offset: 3, why: NotText::Utf8, .. }
        ));
    }

    #[test]
    fn the_hash_sees_borders() {
        let documents = |texts: &[&str]| {
            let path: Arc<str> = "x".into();
            let document = |text: &&str| Document { text: (*text).to_owned(), path: path.clone() };
            Documents::new(texts.iter().map(document).collect()).hash()
        };
        assert_ne!(documents(&["ab", "c"]), documents(&["a", "bc"]));
        assert_eq!(documents(&["ab", "c"]), documents(&["ab", "c"]));
    }
}
