//! What can go wrong with data: one variant per code, each naming the file and the place.
//!
//! The CLI shows a [`DataError`] as a problem: its [`code`](DataError::code) has a page in `compiler/explain/`, its
//! `Display` says what was found, its [`help`](DataError::help) what to do. Nothing here loses work: writers use a
//! temporary name, so a file under its final name is whole.

use std::io;
use std::path::{Path, PathBuf};

/// Every code of this crate with the title of its page.
pub const CODES: &[(&str, &str)] = &[
    ("E0601", "no such file"),
    ("E0602", "no file matches the pattern"),
    ("E0603", "the file is not text"),
    ("E0604", "the corpus is empty"),
    ("E0605", "the corpus is shorter than the context"),
    ("E0606", "a token shard is damaged"),
    ("E0607", "a file cannot be written"),
    ("E0608", "the file has an unknown version"),
    ("E0609", "the tokenizer file cannot be used"),
    ("E0610", "a file cannot be read"),
    ("E0611", "a character is not in the vocabulary"),
    ("E0612", "the tokenizer cannot be made as asked"),
    ("E0613", "a token id is outside the vocabulary"),
    ("E0614", "too many stories"),
];

/// Why bytes are not text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotText {
    /// A zero byte, which text files do not hold.
    Nul,
    /// Bytes that are not UTF-8.
    Utf8,
}

/// A problem with files, text, tokenizers or shards.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// E0601: a file that the program names is not there.
    #[error("there is no file `{}`", path.display())]
    NoFile {
        /// The path that was looked for.
        path: PathBuf,
    },
    /// E0602: a pattern or directory yields nothing.
    #[error("no file matches `{pattern}` in `{}`", base.display())]
    NoMatch {
        /// As written in the program.
        pattern: String,
        /// The folder that the pattern is relative to.
        base: PathBuf,
    },
    /// E0603: bytes that are not text.
    #[error("`{}` is not text: {} at byte {offset}", path.display(), match why {
        NotText::Nul => "a zero byte",
        NotText::Utf8 => "invalid UTF-8",
    })]
    NotText {
        /// The file.
        path: PathBuf,
        /// Where in it the first bad byte is, from 0.
        offset: u64,
        /// What is wrong there.
        why: NotText,
    },
    /// E0604: nothing but emptiness in all files.
    #[error("{what} holds no text")]
    EmptyCorpus {
        /// Which files or which part.
        what: String,
    },
    /// E0605: not one row fits.
    #[error("the text has {tokens} tokens, a row of context {seq} needs {}", seq + 1)]
    TooShort {
        /// Tokens that there are.
        tokens: u64,
        /// The context asked for.
        seq: usize,
    },
    /// E0606: a shard whose bytes are not those that were written.
    #[error("the token shard `{}` is damaged: {why}", path.display())]
    Damaged {
        /// The shard.
        path: PathBuf,
        /// What does not agree.
        why: String,
    },
    /// E0607: writing failed; the file that was there before is untouched.
    #[error("cannot write `{}`: {source}", path.display())]
    Write {
        /// The file under its final name.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// E0608: written by another version of this program.
    #[error("`{}` has version {found}, this program knows version {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// Ours.
        known: u64,
    },
    /// E0609: a tokenizer file that is broken or asks for something we do not do.
    #[error("cannot use the tokenizer file `{}`: {why}", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What is missing or not supported.
        why: String,
    },
    /// E0610: the file is there, the system does not give it.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// E0611: a character tokenizer meets a character that its corpus did not have.
    #[error("the character {character:?} at byte {offset} is not in the vocabulary")]
    UnknownChar {
        /// The character.
        character: char,
        /// Its place in the text that was to be encoded.
        offset: usize,
    },
    /// E0612: options that contradict each other.
    #[error("the tokenizer cannot be made: {why}")]
    BadVocabulary {
        /// Which option and why.
        why: String,
    },
    /// E0613: an id that no token has.
    #[error("token {id} is outside the vocabulary of {vocab}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// How many tokens there are.
        vocab: usize,
    },
    /// E0614: more stories than memory could hold.
    #[error("{count} stories are more than the {most} that can be written")]
    TooManyStories {
        /// How many were asked for.
        count: u64,
        /// The limit.
        most: u64,
    },
}

impl DataError {
    /// The stable code, with a page of the same name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoFile { .. } => "E0601",
            Self::NoMatch { .. } => "E0602",
            Self::NotText { .. } => "E0603",
            Self::EmptyCorpus { .. } => "E0604",
            Self::TooShort { .. } => "E0605",
            Self::Damaged { .. } => "E0606",
            Self::Write { .. } => "E0607",
            Self::Version { .. } => "E0608",
            Self::TokenizerFile { .. } => "E0609",
            Self::Read { .. } => "E0610",
            Self::UnknownChar { .. } => "E0611",
            Self::BadVocabulary { .. } => "E0612",
            Self::UnknownToken { .. } => "E0613",
            Self::TooManyStories { .. } => "E0614",
        }
    }

    /// What to do about it, one sentence.
    pub fn help(&self) -> String {
        match self {
            Self::NoFile { .. } => {
                "paths are relative to the folder of the program that names them".to_owned()
            }
            Self::NoMatch { .. } => {
                "`*` matches within a folder name, `**` any number of folders".to_owned()
            }
            Self::NotText { .. } => {
                "name only text files in the pattern, or convert this one to UTF-8".to_owned()
            }
            Self::EmptyCorpus { .. } => "name files that hold text, or hold out less".to_owned(),
            Self::TooShort { tokens, .. } => match tokens.checked_sub(1) {
                Some(most @ 1..) => format!("use more text, or a context of at most {most}"),
                Some(0) | None => "use more text".to_owned(),
            },
            Self::Damaged { path, .. } => {
                format!("it is a cache: delete `{}` and it is made again", path.display())
            }
            Self::Write { source, .. } => help_to_write(source.kind()).to_owned(),
            Self::Version { .. } => {
                "use the version of cs336c that wrote it, or make it again".to_owned()
            }
            Self::TokenizerFile { .. } => {
                "GPT-2's vocab.json with merges.txt, and byte-level BPE in tokenizer.json, are read"
                    .to_owned()
            }
            Self::Read { source, .. } => help_to_read(source.kind()).to_owned(),
            Self::UnknownChar { .. } => {
                "make the tokenizer from the whole corpus, or use `bytes` or `bpe`".to_owned()
            }
            Self::BadVocabulary { .. } => {
                "a BPE vocabulary holds 256 bytes and the special tokens before the first merge"
                    .to_owned()
            }
            Self::UnknownToken { .. } => "these ids were made with another tokenizer".to_owned(),
            Self::TooManyStories { most, .. } => {
                format!("ask for at most {most}, about 4 GB of text")
            }
        }
    }

    /// The error of a failed read of `path`: E0601 where nothing is there, else E0610.
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            Self::NoFile { path: path.to_owned() }
        } else {
            Self::Read { path: path.to_owned(), source }
        }
    }

    /// The error of a failed write of `path`.
    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write { path: path.to_owned(), source }
    }
}

/// What to do where a file cannot be written.
pub fn help_to_write(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::StorageFull => {
            "make room on the disk and run again: nothing that was there is lost"
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => "make its folder first",
        io::ErrorKind::PermissionDenied => "you may not write there; name another place",
        io::ErrorKind::IsADirectory => "that is a folder; name a file in it",
        _ => "nothing that was there is lost; mend the cause and run again",
    }
}

/// What to do where a file cannot be read.
pub fn help_to_read(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::InvalidData => {
            "it is no UTF-8 text: another file may be meant, or convert this one"
        }
        io::ErrorKind::IsADirectory => "that is a folder; name a file in it",
        io::ErrorKind::PermissionDenied => "you may not read it",
        _ => "check the file's permissions and the disk",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_page() {
        let explain = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compiler/explain");
        for (code, title) in CODES {
            let page = std::fs::read_to_string(explain.join(format!("{code}.md"))).expect("a page");
            assert!(page.starts_with(&format!("# {code}: {title}\n\n")), "{code}");
        }
    }

    #[test]
    fn messages_name_the_file_and_the_place() {
        let error = DataError::NotText { path: "a/b.txt".into(), offset: 7, why: NotText::Nul };
        assert_eq!(error.to_string(), "`a/b.txt` is not text: a zero byte at byte 7");
        let error = DataError::TooShort { tokens: 10, seq: 64 };
        assert_eq!(error.to_string(), "the text has 10 tokens, a row of context 64 needs 65");
        assert_eq!(error.help(), "use more text, or a context of at most 9");
    }
}
