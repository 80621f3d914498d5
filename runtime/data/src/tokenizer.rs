//! Tokenizers: text to ids and back.
//!
//! Three kinds behind one face. `Bpe` learns frequent byte strings; `Bytes` has one token per byte, and so knows any text;
//! `Chars` has one token per character of its corpus, in the order of code points, and refuses others. Each may have
//! special tokens; the first, or `<|endoftext|>` if it is one of them, ends documents. Decoding what was encoded
//! gives the text back. [`Tokenizer::save`] writes our own versioned JSON; [`Tokenizer::hash`] is the hash of that
//! content and so names what was encoded with it.

use std::collections::BTreeSet;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bpe::files::{spell, unspell};
use crate::bpe::{Bpe, Pattern, Special, number_specials};
use crate::error::DataError;
use crate::whole::write_whole;

/// See the module.
#[derive(Debug, Clone)]
pub enum Tokenizer {
    /// Byte-pair encoding.
    Bpe(Bpe),
    /// Ids 0 to 255 are the bytes, special tokens follow.
    Bytes {
        /// From id 256 on.
        specials: Vec<Special>,
    },
    /// Ids from 0 on are the characters, special tokens follow.
    Chars {
        /// Sorted; the place is the id.
        alphabet: Vec<char>,
        /// From the length of the alphabet on.
        specials: Vec<Special>,
    },
}

/// The version of the files that [`Tokenizer::save`] writes.
const VERSION: u64 = 1;

/// The name of the token that ends documents, where a tokenizer has it.
const END_OF_TEXT: &str = "<|endoftext|>";

impl Tokenizer {
    /// The tokenizer of bytes.
    pub fn bytes(special: &[String]) -> Result<Self, DataError> {
        Ok(Self::Bytes { specials: number_specials(special, 256)? })
    }

    /// The tokenizer of the characters of `texts`.
    pub fn chars(texts: &[&str], special: &[String]) -> Result<Self, DataError> {
        let alphabet: BTreeSet<char> = texts.iter().flat_map(|text| text.chars()).collect();
        let alphabet: Vec<char> = alphabet.into_iter().collect();
        let specials = number_specials(special, alphabet.len() as u32)?;
        Ok(Self::Chars { alphabet, specials })
    }

    /// The ids of `text`; special tokens in it are recognised.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        match self {
            Self::Bpe(bpe) => Ok(bpe.encode(text)),
            Self::Bytes { .. } | Self::Chars { .. } => self.encode_units(text),
        }
    }

    /// The ids of each text, in order, computed in parallel.
    pub fn encode_all(&self, texts: &[&str]) -> Result<Vec<Vec<u32>>, DataError> {
        use rayon::prelude::*;
        match self {
            Self::Bpe(bpe) => Ok(bpe.encode_all(texts)),
            Self::Bytes { .. } | Self::Chars { .. } => {
                texts.par_iter().map(|text| self.encode_units(text)).collect()
            }
        }
    }

    /// The text of `ids`. Bytes that are no UTF-8 become U+FFFD: a model may write such.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DataError> {
        let mut decoder = self.decoder();
        let mut text = String::new();
        for &id in ids {
            text += &decoder.push(id)?;
        }
        Ok(text + &decoder.finish())
    }

    /// Decodes ids that come one by one.
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder { tokenizer: self, pending: Vec::new() }
    }

    /// Number of tokens, special ones included.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Bpe(bpe) => bpe.vocab_size(),
            Self::Bytes { specials } => 256 + specials.len(),
            Self::Chars { alphabet, specials } => alphabet.len() + specials.len(),
        }
    }

    /// Bytes of the token `id`.
    pub fn token(&self, id: u32) -> Option<Vec<u8>> {
        let special = |id| {
            let found = self.specials().iter().find(|special| special.id == id);
            found.map(|special| special.text.clone().into_bytes())
        };
        match self {
            Self::Bpe(bpe) => bpe.token(id).map(<[u8]>::to_vec),
            Self::Bytes { .. } => match u8::try_from(id) {
                Ok(byte) => Some(vec![byte]),
                Err(_) => special(id),
            },
            Self::Chars { alphabet, .. } => match alphabet.get(id as usize) {
                Some(character) => Some(character.to_string().into_bytes()),
                None => special(id),
            },
        }
    }

    /// The special tokens, in the order in which they were given.
    pub fn specials(&self) -> &[Special] {
        match self {
            Self::Bpe(bpe) => bpe.specials(),
            Self::Bytes { specials } | Self::Chars { specials, .. } => specials,
        }
    }

    /// The id of a special token.
    pub fn special(&self, text: &str) -> Option<u32> {
        self.specials().iter().find(|special| special.text == text).map(|special| special.id)
    }

    /// The token that ends documents: `<|endoftext|>`, else the first special token.
    pub fn eos(&self) -> Option<u32> {
        self.special(END_OF_TEXT).or_else(|| self.specials().first().map(|special| special.id))
    }

    /// The hash of all that decides how text is encoded.
    pub fn hash(&self) -> blake3::Hash {
        blake3::hash(self.to_json().as_bytes())
    }

    /// The content of the file that [`Tokenizer::save`] writes.
    pub fn to_json(&self) -> String {
        let kind = match self {
            Self::Bpe(bpe) => Kind::Bpe {
                tokens: bpe.tokens().iter().map(|token| spell(token)).collect(),
                merges: bpe.merges().to_vec(),
                specials: bpe.specials().to_vec(),
                pattern: bpe.pattern(),
                unmade: bpe.unmade(),
            },
            Self::Bytes { specials } => Kind::Bytes { specials: specials.clone() },
            Self::Chars { alphabet, specials } => {
                Kind::Chars { alphabet: alphabet.iter().collect(), specials: specials.clone() }
            }
        };
        serde_json::to_string(&File { format: FORMAT.to_owned(), version: VERSION, kind })
            .expect("text and numbers are JSON")
    }

    /// Writes the file whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), DataError> {
        write_whole(path, self.to_json().as_bytes())
    }

    /// Reads what [`Tokenizer::save`] wrote.
    pub fn load(path: &Path) -> Result<Self, DataError> {
        let bad = |why: String| DataError::TokenizerFile { path: path.to_owned(), why };
        let bytes = std::fs::read(path).map_err(|source| DataError::read(path, source))?;
        let header: Header =
            serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        if header.format != FORMAT {
            return Err(bad(format!("its format is {:?}, not {FORMAT:?}", header.format)));
        }
        if header.version != VERSION {
            return Err(DataError::Version {
                path: path.to_owned(),
                found: header.version,
                known: VERSION,
            });
        }
        let file: File = serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))?;
        file.kind.tokenizer().map_err(bad)
    }

    fn encode_units(&self, text: &str) -> Result<Vec<u32>, DataError> {
        use crate::bpe::Piece;
        let mut ids = Vec::with_capacity(text.len());
        for piece in crate::bpe::pieces(text, self.specials()) {
            match (piece, self) {
                (Piece::Special(id), _) => ids.push(id),
                (Piece::Text(plain), Self::Chars { alphabet, .. }) => {
                    for (at, character) in plain.char_indices() {
                        let id = alphabet.binary_search(&character).map_err(|_| {
                            let offset = plain.as_ptr() as usize - text.as_ptr() as usize + at;
                            DataError::UnknownChar { character, offset }
                        })?;
                        ids.push(id as u32);
                    }
                }
                (Piece::Text(plain), Self::Bpe(_) | Self::Bytes { .. }) => {
                    ids.extend(plain.bytes().map(u32::from));
                }
            }
        }
        Ok(ids)
    }
}

/// Turns ids into text as they come; characters whose bytes are spread over tokens appear when they are complete.
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    /// The beginning of a character, at most three bytes.
    pending: Vec<u8>,
}

impl Decoder<'_> {
    /// The text that is complete with `id`.
    pub fn push(&mut self, id: u32) -> Result<String, DataError> {
        let vocab = self.tokenizer.vocab_size();
        self.pending.extend(self.tokenizer.token(id).ok_or(DataError::UnknownToken { id, vocab })?);
        let mut text = String::new();
        let mut kept = 0;
        for chunk in self.pending.utf8_chunks() {
            text += chunk.valid();
            kept += chunk.valid().len();
            let invalid = chunk.invalid();
            // Bytes at the very end that more bytes could complete are not wrong yet.
            let last = kept + invalid.len() == self.pending.len();
            if last && may_continue(invalid) {
                break;
            }
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                kept += invalid.len();
            }
        }
        self.pending.drain(..kept);
        Ok(text)
    }

    /// What is left when no more ids come: U+FFFD if a character is not complete.
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Whether the bytes are the beginning of a character.
fn may_continue(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

const FORMAT: &str = "cs336c-tokenizer";

/// What every version of the file begins with.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u64,
    #[serde(flatten)]
    kind: Kind,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Kind {
    Bpe {
        tokens: Vec<String>,
        merges: Vec<(u32, u32)>,
        specials: Vec<Special>,
        /// GPT-2's is not written, so that the files of before are the same.
        #[serde(default, skip_serializing_if = "is_default")]
        pattern: Pattern,
        /// The tokens that no merge makes; not empty where pre-tokens are looked for as a whole.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        unmade: Vec<u32>,
    },
    Bytes {
        specials: Vec<Special>,
    },
    Chars {
        alphabet: String,
        specials: Vec<Special>,
    },
}

fn is_default(pattern: &Pattern) -> bool {
    *pattern == Pattern::default()
}

impl Kind {
    /// `Err` says what does not fit together.
    fn tokenizer(self) -> Result<Tokenizer, String> {
        let follow = |specials: &[Special], first: u32| {
            let texts: Vec<String> = specials.iter().map(|special| special.text.clone()).collect();
            let expected = number_specials(&texts, first).map_err(|error| error.to_string())?;
            if expected == specials {
                Ok(())
            } else {
                Err("its special tokens do not follow the others".to_owned())
            }
        };
        match self {
            Self::Bpe { tokens, merges, specials, pattern, unmade } => {
                let tokens = tokens
                    .iter()
                    .map(|token| {
                        unspell(token)
                            .ok_or_else(|| format!("the token {token:?} is not byte-level"))
                    })
                    .collect::<Result<_, _>>()?;
                let bpe = Bpe::new(tokens, merges, specials).map_err(|error| error.to_string())?;
                let bpe = bpe.parted_by(pattern);
                Ok(Tokenizer::Bpe(if unmade.is_empty() { bpe } else { bpe.whole_first() }))
            }
            Self::Bytes { specials } => {
                follow(&specials, 256)?;
                Ok(Tokenizer::Bytes { specials })
            }
            Self::Chars { alphabet, specials } => {
                let alphabet: Vec<char> = alphabet.chars().collect();
                if !alphabet.is_sorted_by(|a, b| a < b) {
                    return Err("its alphabet is not sorted".to_owned());
                }
                follow(&specials, alphabet.len() as u32)?;
                Ok(Tokenizer::Chars { alphabet, specials })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe::{TieRule, TrainOptions, train};

    fn all_kinds() -> Vec<Tokenizer> {
        let special = vec!["<|pad|>".to_owned(), END_OF_TEXT.to_owned()];
        let text = crate::stories::written(30, 2).join();
        let options = TrainOptions {
            vocab: 500,
            special: special.clone(),
            ties: TieRule::GreaterPair,
            pattern: Pattern::Cl100k,
        };
        let everything: Vec<String> =
            (0..200).map(|case| crate::witness::random_text(case, 60)).collect();
        let everything: Vec<&str> = everything.iter().map(String::as_str).collect();
        vec![
            Tokenizer::Bpe(train(&[&text], &options).expect("enough text")),
            Tokenizer::bytes(&special).expect("good names"),
            Tokenizer::chars(&everything, &special).expect("good names"),
            Tokenizer::bytes(&[]).expect("no names"),
        ]
    }

    #[test]
    fn decoding_gives_the_text_back() {
        for tokenizer in all_kinds() {
            for case in 0..200 {
                let text = crate::witness::random_text(case, 60);
                let text = format!("{text}{END_OF_TEXT}{text}");
                let ids = tokenizer.encode(&text).expect("text of the corpus");
                assert_eq!(tokenizer.decode(&ids).expect("its own ids"), text);
            }
        }
    }

    #[test]
    fn characters_appear_when_complete() {
        let bytes = Tokenizer::bytes(&[]).expect("no names");
        let mut decoder = bytes.decoder();
        let mut push = |id: u32| decoder.push(id).expect("a byte");
        assert_eq!(push(0x41), "A");
        assert_eq!([push(0xf0), push(0x9f), push(0x99), push(0x83)].concat(), "🙃");
        assert_eq!([push(0xe2), push(0x41)].concat(), "\u{fffd}A");
        assert_eq!(push(0xff), "\u{fffd}");
        assert_eq!(push(0xc3), "");
        assert_eq!(decoder.finish(), "\u{fffd}");
    }

    #[test]
    fn files_come_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tokenizer.json");
        let mut hashes = BTreeSet::new();
        for tokenizer in all_kinds() {
            tokenizer.save(&path).expect("written");
            let read = Tokenizer::load(&path).expect("read");
            assert_eq!(read.to_json(), tokenizer.to_json());
            assert_eq!(read.eos(), tokenizer.special(END_OF_TEXT));
            assert_eq!(read.vocab_size(), tokenizer.vocab_size());
            hashes.insert(*tokenizer.hash().as_bytes());
        }
        assert_eq!(hashes.len(), 4);
        let text = Tokenizer::bytes(&[]).expect("no names").to_json();
        for (from, to, code) in [
            ("\"version\":1", "\"version\":9", "E0608"),
            ("cs336c-tokenizer", "other", "E0609"),
            ("bytes", "words", "E0609"),
            ("{", "", "E0609"),
        ] {
            std::fs::write(&path, text.replacen(from, to, 1)).expect("written");
            assert_eq!(Tokenizer::load(&path).expect_err("refused").code(), code, "{to}");
        }
    }

    #[test]
    fn special_tokens_have_different_names() {
        for special in [["".to_owned(), "a".to_owned()], ["a".to_owned(), "a".to_owned()]] {
            assert_eq!(Tokenizer::bytes(&special).expect_err("refused").code(), "E0612");
            assert_eq!(Tokenizer::chars(&["x"], &special).expect_err("refused").code(), "E0612");
        }
    }

    #[test]
    fn a_strange_character_and_a_strange_id() {
        let tokenizer =
            Tokenizer::chars(&["hello"], &[END_OF_TEXT.to_owned()]).expect("a good name");
        assert_eq!(tokenizer.encode("hole").expect("known"), [1, 3, 2, 0]);
        let error = tokenizer.encode("<|endoftext|>hé").expect_err("unknown");
        assert!(matches!(error, DataError::UnknownChar { character: 'é', offset: 14 }), "{error}");
        assert_eq!(tokenizer.decode(&[5]).expect_err("too large").code(), "E0613");
        assert_eq!(tokenizer.decode(&[4]).expect("special"), END_OF_TEXT);
    }
}
