//! Token shards: encoded corpora in a content-addressed cache.
//!
//! A shard is one file: a header of 128 bytes, the ids of all documents one after the other (16 bits each where the
//! vocabulary allows, else 32; each document ends with the end token where the tokenizer has one), then where each document
//! starts. All numbers are little-endian. Its name is the hash of the tokenizer and the texts, so a shard that is there is the
//! right one; its checksum is verified when it is opened, and [`TokenShard::cached`] makes a damaged one again.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | `CS336TOK` |
//! | 8..12, 12..16 | version, bytes per id (2 or 4) |
//! | 16..24, 24..32, 32..40 | number of ids, of documents, of bytes of text |
//! | 40..72 | hash of the tokenizer |
//! | 72..104 | BLAKE3 of everything behind the header, then of bytes 0..72 |
//! | 104..128 | zeros |

use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::documents::Documents;
use crate::error::DataError;
use crate::tokenizer::Tokenizer;
use crate::whole::write_whole_with;

const MAGIC: &[u8; 8] = b"CS336TOK";
const VERSION: u32 = 1;
const HEADER: usize = 128;
/// The part of the header that the checksum covers.
const COVERED: usize = 72;
/// Bytes of one document's start.
const START: usize = 8;

/// An encoded corpus, open for reading at any place.
#[derive(Debug)]
pub struct TokenShard {
    path: PathBuf,
    bytes: Vec<u8>,
    header: Header,
}

/// What the file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    width: usize,
    tokens: u64,
    documents: u64,
    text_bytes: u64,
    tokenizer: [u8; 32],
}

impl TokenShard {
    /// The shard of `documents` in the folder `cache`, encoded and written if it is not there yet.
    pub fn cached(
        cache: &Path,
        tokenizer: &Tokenizer,
        documents: &Documents,
    ) -> Result<Self, DataError> {
        let path = Self::path_in(cache, tokenizer, documents);
        match Self::open(&path) {
            Ok(shard) if shard.header.tokenizer == *tokenizer.hash().as_bytes() => Ok(shard),
            Ok(_)
            | Err(
                DataError::NoFile { .. } | DataError::Damaged { .. } | DataError::Version { .. },
            ) => {
                Self::write(&path, tokenizer, documents)?;
                Self::open(&path)
            }
            Err(error) => Err(error),
        }
    }

    /// Where [`TokenShard::cached`] keeps the shard of these documents.
    pub fn path_in(cache: &Path, tokenizer: &Tokenizer, documents: &Documents) -> PathBuf {
        let mut hasher = blake3::Hasher::new();
        hasher.update(MAGIC).update(&VERSION.to_le_bytes());
        hasher.update(tokenizer.hash().as_bytes()).update(documents.hash().as_bytes());
        cache.join("tokens").join(format!("{}.tok", hasher.finalize().to_hex()))
    }

    /// Encodes `documents` and writes the file, whole or not at all.
    pub fn write(
        path: &Path,
        tokenizer: &Tokenizer,
        documents: &Documents,
    ) -> Result<(), DataError> {
        let width = if tokenizer.vocab_size() <= 1 << 16 { 2 } else { 4 };
        let eos = tokenizer.eos();
        write_whole_with(path, |file| {
            let failed = |source| DataError::write(path, source);
            let mut hasher = blake3::Hasher::new();
            let mut put = |file: &mut dyn Write, bytes: &[u8]| {
                hasher.update(bytes);
                file.write_all(bytes).map_err(failed)
            };
            file.write_all(&[0; HEADER]).map_err(failed)?;
            let mut starts = Vec::with_capacity(documents.len());
            let mut tokens = 0_u64;
            let mut buffer = Vec::new();
            for texts in groups(documents) {
                for ids in tokenizer.encode_all(&texts)? {
                    starts.push(tokens);
                    buffer.clear();
                    for id in ids.iter().copied().chain(eos) {
                        buffer.extend_from_slice(&id.to_le_bytes()[..width]);
                    }
                    tokens += (buffer.len() / width) as u64;
                    put(file, &buffer)?;
                }
            }
            for start in &starts {
                put(file, &start.to_le_bytes())?;
            }
            let header = Header {
                width,
                tokens,
                documents: starts.len() as u64,
                text_bytes: documents.bytes(),
                tokenizer: *tokenizer.hash().as_bytes(),
            };
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
            file.write_all(&header.to_bytes(hasher)).map_err(failed)
        })
    }

    /// Opens a shard and verifies every byte of it.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let bytes = std::fs::read(path).map_err(|source| DataError::read(path, source))?;
        let header = Header::verified(path, &bytes)?;
        Ok(Self { path: path.to_owned(), bytes, header })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tokens, end tokens included.
    pub fn len(&self) -> u64 {
        self.header.tokens
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.header.tokens == 0
    }

    /// Number of documents.
    pub fn documents(&self) -> u64 {
        self.header.documents
    }

    /// Bytes of the text that was encoded, without end tokens.
    pub fn text_bytes(&self) -> u64 {
        self.header.text_bytes
    }

    /// The hash of the tokenizer that made it.
    pub fn tokenizer(&self) -> blake3::Hash {
        blake3::Hash::from_bytes(self.header.tokenizer)
    }

    /// The tokens of a range; what lies behind the end is left out.
    pub fn tokens(&self, range: Range<u64>) -> Vec<u32> {
        let end = range.end.min(self.header.tokens);
        let start = range.start.min(end);
        let width = self.header.width;
        let at = |token: u64| HEADER + token as usize * width;
        let bytes = &self.bytes[at(start)..at(end)];
        if width == 2 {
            bytes.as_chunks::<2>().0.iter().map(|id| u32::from(u16::from_le_bytes(*id))).collect()
        } else {
            bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect()
        }
    }

    /// Where document `number` starts; the number of tokens for the one behind the last.
    pub fn document_start(&self, number: u64) -> u64 {
        if number >= self.header.documents {
            return self.header.tokens;
        }
        let at = HEADER + self.header.tokens as usize * self.header.width + number as usize * START;
        u64_at(&self.bytes, at)
    }

    /// The document that holds the token at `position`.
    pub fn document_at(&self, position: u64) -> u64 {
        let (mut low, mut high) = (0, self.header.documents);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.document_start(middle) <= position { low = middle + 1 } else { high = middle }
        }
        low.saturating_sub(1)
    }
}

impl Header {
    /// The header with the checksum of the body that `body` has seen.
    fn to_bytes(self, mut body: blake3::Hasher) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(self.width as u32).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.tokens.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.documents.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.text_bytes.to_le_bytes());
        bytes[40..72].copy_from_slice(&self.tokenizer);
        let sum = body.update(&bytes[..COVERED]).finalize();
        bytes[72..104].copy_from_slice(sum.as_bytes());
        bytes
    }

    /// The header of a whole and sound file.
    fn verified(path: &Path, bytes: &[u8]) -> Result<Self, DataError> {
        let damaged = |why: String| DataError::Damaged { path: path.to_owned(), why };
        if bytes.len() < HEADER {
            return Err(damaged(format!("{} bytes are less than its header", bytes.len())));
        }
        if &bytes[0..8] != MAGIC {
            return Err(damaged("it does not begin like a shard".to_owned()));
        }
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        if word(8) != VERSION {
            return Err(DataError::Version {
                path: path.to_owned(),
                found: u64::from(word(8)),
                known: u64::from(VERSION),
            });
        }
        let mut tokenizer = [0; 32];
        tokenizer.copy_from_slice(&bytes[40..72]);
        let header = Self {
            width: word(12) as usize,
            tokens: u64_at(bytes, 16),
            documents: u64_at(bytes, 24),
            text_bytes: u64_at(bytes, 32),
            tokenizer,
        };
        if header.width != 2 && header.width != 4 {
            return Err(damaged(format!("ids of {} bytes", header.width)));
        }
        let expected = u128::from(header.tokens) * header.width as u128
            + u128::from(header.documents) * START as u128
            + HEADER as u128;
        if bytes.len() as u128 != expected {
            return Err(damaged(format!("{} bytes instead of {expected}", bytes.len())));
        }
        let mut hasher = blake3::Hasher::new();
        hasher.update(&bytes[HEADER..]).update(&bytes[..COVERED]);
        if hasher.finalize().as_bytes().as_slice() != &bytes[72..104] {
            return Err(damaged("its checksum does not agree".to_owned()));
        }
        Ok(header)
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// The texts in groups of about 64 MB, so that ids in memory stay few.
fn groups(documents: &Documents) -> impl Iterator<Item = Vec<&str>> {
    const MOST: usize = 1 << 26;
    let mut texts = documents.iter().map(|document| document.text.as_str()).peekable();
    std::iter::from_fn(move || {
        texts.peek()?;
        let (mut group, mut size) = (Vec::new(), 0);
        while size < MOST
            && let Some(text) = texts.next()
        {
            size += text.len();
            group.push(text);
        }
        Some(group)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::documents::Document;

    fn documents(texts: &[&str]) -> Documents {
        Documents::new(
            texts.iter().map(|t| Document { text: (*t).to_owned(), path: "x".into() }).collect(),
        )
    }

    #[test]
    fn a_shard_holds_the_ids_and_the_borders() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokenizer = Tokenizer::bytes(&["<|endoftext|>".to_owned()]).expect("a good name");
        let documents = documents(&["ab", "", "c"]);
        let shard = TokenShard::cached(folder.path(), &tokenizer, &documents).expect("written");
        assert_eq!(shard.tokens(0..100), [97, 98, 256, 256, 99, 256]);
        assert_eq!(shard.tokens(1..3), [98, 256]);
        assert_eq!((shard.len(), shard.documents(), shard.text_bytes()), (6, 3, 3));
        assert_eq!((0..4).map(|n| shard.document_start(n)).collect::<Vec<_>>(), [0, 3, 4, 6]);
        assert_eq!((0..6).map(|p| shard.document_at(p)).collect::<Vec<_>>(), [0, 0, 0, 1, 2, 2]);
        assert_eq!(shard.tokenizer(), tokenizer.hash());
        let unmarked = TokenShard::cached(
            folder.path(),
            &Tokenizer::bytes(&[]).expect("no names"),
            &documents,
        );
        assert_eq!(unmarked.expect("written").tokens(0..9), [97, 98, 99]);
    }

    #[test]
    fn wide_ids() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let special: Vec<String> = (0..66_000).map(|n| format!("<|{n}|>")).collect();
        let tokenizer = Tokenizer::bytes(&special).expect("good names");
        let path = folder.path().join("wide.tok");
        TokenShard::write(&path, &tokenizer, &documents(&["a"])).expect("written");
        assert_eq!(TokenShard::open(&path).expect("sound").tokens(0..2), [97, 256]);
    }

    #[test]
    fn any_flipped_or_missing_byte_is_noticed_and_mended() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokenizer = Tokenizer::bytes(&["<|endoftext|>".to_owned()]).expect("a good name");
        let documents = documents(&["some text", "more"]);
        let path = TokenShard::path_in(folder.path(), &tokenizer, &documents);
        TokenShard::write(&path, &tokenizer, &documents).expect("written");
        let sound = std::fs::read(&path).expect("read");
        for at in (0..104).chain(HEADER..sound.len()) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).expect("written");
            let code = TokenShard::open(&path).expect_err("damaged").code();
            assert_eq!(code, if (8..12).contains(&at) { "E0608" } else { "E0606" }, "byte {at}");
        }
        std::fs::write(&path, &sound[..sound.len() - 1]).expect("written");
        assert_eq!(TokenShard::open(&path).expect_err("cut off").code(), "E0606");
        TokenShard::cached(folder.path(), &tokenizer, &documents).expect("made again");
        assert_eq!(std::fs::read(&path).expect("read"), sound);
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = folder.path().join("file");
        std::fs::write(&cache, "not a folder").expect("written");
        let documents = documents(&["text"]);
        let path = cache.join("tokens/x.tok");
        let error = TokenShard::write(&path, &Tokenizer::bytes(&[]).expect("no names"), &documents)
            .expect_err("no folder");
        assert_eq!(error.code(), "E0607");
        assert!(error.to_string().contains("x.tok"), "{error}");
    }

    #[test]
    fn a_failed_encoding_leaves_no_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let tokenizer = Tokenizer::chars(&["abc"], &[]).expect("no names");
        let error = TokenShard::cached(folder.path(), &tokenizer, &documents(&["abx"]));
        assert_eq!(error.expect_err("unknown").code(), "E0611");
        let files = std::fs::read_dir(folder.path().join("tokens")).expect("listed").count();
        assert_eq!(files, 0);
    }
}
