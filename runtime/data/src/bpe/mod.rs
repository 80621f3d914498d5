//! Byte-pair encoding (Gage 1994; Sennrich et al. 2016; on bytes: Radford et al. 2019).
//!
//! A [`Bpe`] is a list of tokens, each a byte string, and a list of merges: pairs of tokens that become one, the earlier
//! the sooner. Text is parted at special tokens, then into [`pretoken`]s, and merges happen only inside those. [`mod@train`]
//! learns the merges, [`encode`] applies them, [`files`] reads and writes them as others do.

mod apart;
pub mod encode;
pub mod files;
mod pairs;
mod prefixes;
pub mod pretoken;
pub mod ranks;
mod special;
pub mod train;
mod words;

use std::collections::BTreeSet;

use crate::error::DataError;
use crate::hash::FastMap;

use apart::Apart;
use pairs::Pairs;

pub use encode::{Encoder, StreamEncoder};
pub use pretoken::Pattern;
pub use special::Special;
pub(crate) use special::{Piece, number_specials, pieces};
pub use train::{TieRule, TrainOptions, train};

/// A vocabulary with its merges; see the module.
#[derive(Debug, Clone)]
pub struct Bpe {
    /// Bytes of each token, by id.
    tokens: Vec<Box<[u8]>>,
    /// Pairs of ids, in the order in which they were learned.
    merges: Vec<(u32, u32)>,
    /// Tokens that stand for themselves and are never made by merging.
    specials: Vec<Special>,
    /// The id of each single byte.
    byte_ids: Box<[u32; 256]>,
    /// How tokens come about, if that is in order.
    apart: Option<Apart>,
    /// Merges by their pairs, if it is not.
    pairs: Pairs,
    /// How text is parted.
    pattern: Pattern,
    /// Tokens that merging does not make, and that a pre-token is all the same if it is one as a whole.
    whole: FastMap<Box<[u8]>, u32>,
}

/// A pair becomes a token: with which priority, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Place in the list of merges; lower goes first.
    pub(crate) rank: u32,
    /// The token that it becomes.
    pub(crate) token: u32,
}

/// A pair of ids as one word, for lookup.
pub(crate) fn packed(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

impl Bpe {
    /// Puts a vocabulary together and checks it: all 256 bytes are tokens, every special token is the token of its id,
    /// every merge gives a token. The error says which of these does not hold.
    pub fn new(
        tokens: Vec<Box<[u8]>>,
        merges: Vec<(u32, u32)>,
        specials: Vec<Special>,
    ) -> Result<Self, DataError> {
        let bad = |why: String| DataError::BadVocabulary { why };
        if u32::try_from(tokens.len()).is_err() {
            return Err(bad(format!("{} tokens are more than ids can number", tokens.len())));
        }
        let special_ids: BTreeSet<u32> = specials.iter().map(|special| special.id).collect();
        for special in &specials {
            let token = tokens.get(special.id as usize).map(AsRef::as_ref);
            if token != Some(special.text.as_bytes()) || special.text.is_empty() {
                return Err(bad(format!(
                    "the special token {:?} is not token {}",
                    special.text, special.id
                )));
            }
        }
        let mut ids: FastMap<&[u8], u32> = FastMap::default();
        for (id, token) in (0_u32..).zip(&tokens) {
            if !special_ids.contains(&id) {
                ids.entry(token).or_insert(id);
            }
        }
        let mut byte_ids = Box::new([0; 256]);
        for byte in 0..=255_u8 {
            byte_ids[usize::from(byte)] = *ids
                .get([byte].as_slice())
                .ok_or_else(|| bad(format!("the byte {byte:#04x} has no token")))?;
        }
        let mut table = Vec::with_capacity(merges.len());
        for (rank, &(left, right)) in (0_u32..).zip(&merges) {
            let part = |id: u32| {
                tokens.get(id as usize).ok_or_else(|| {
                    bad(format!("merge {rank} names token {id}, which is not there"))
                })
            };
            let whole = [part(left)?.as_ref(), part(right)?.as_ref()].concat();
            let token = *ids.get(whole.as_slice()).ok_or_else(|| {
                bad(format!("merge {rank} gives {:?}, no token", String::from_utf8_lossy(&whole)))
            })?;
            table.push(((left, right), Merge { rank, token }));
        }
        let apart = Apart::new(&tokens, &table, &byte_ids);
        let mut pairs = Pairs::new(if apart.is_some() { 0 } else { table.len() });
        if apart.is_none() {
            table.iter().for_each(|&((left, right), merge)| pairs.insert(left, right, merge));
        }
        let (pattern, whole) = (Pattern::default(), FastMap::default());
        Ok(Self { tokens, merges, specials, byte_ids, apart, pairs, pattern, whole })
    }

    /// The same with text parted by `pattern`.
    #[must_use]
    pub fn parted_by(self, pattern: Pattern) -> Self {
        Self { pattern, ..self }
    }

    /// The same where a pre-token that is a token as a whole is that token, also if merging does not make it. Special tokens and
    /// bytes are not meant.
    #[must_use]
    pub fn whole_first(mut self) -> Self {
        let special = |id: u32| self.specials.iter().any(|special| special.id == id);
        let mut unmade: FastMap<Box<[u8]>, u32> = FastMap::default();
        for (id, token) in (0_u32..).zip(&self.tokens) {
            if token.len() > 1 && !special(id) && !self.makes(id, token) {
                unmade.entry(token.clone()).or_insert(id);
            }
        }
        self.whole = unmade;
        self
    }

    fn makes(&self, id: u32, token: &[u8]) -> bool {
        match &self.apart {
            Some(apart) => apart.makes(id),
            None => {
                let mut made = Vec::new();
                encode::merge(self, token, &mut made);
                made == [id]
            }
        }
    }

    /// How text is parted.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// The tokens that only [`Bpe::whole_first`] makes, in order.
    pub(crate) fn unmade(&self) -> Vec<u32> {
        let mut ids: Vec<u32> = self.whole.values().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Number of tokens, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// Bytes of the token `id`.
    pub fn token(&self, id: u32) -> Option<&[u8]> {
        self.tokens.get(id as usize).map(AsRef::as_ref)
    }

    /// Bytes of all tokens, by id.
    pub fn tokens(&self) -> &[Box<[u8]>] {
        &self.tokens
    }

    /// The merges, first learned first.
    pub fn merges(&self) -> &[(u32, u32)] {
        &self.merges
    }

    /// The special tokens, in the order in which they were given.
    pub fn specials(&self) -> &[Special] {
        &self.specials
    }

    /// The id of a single byte.
    pub(crate) fn byte_id(&self, byte: u8) -> u32 {
        self.byte_ids[usize::from(byte)]
    }

    /// The token that `word` is as a whole, though no merge makes it.
    pub(crate) fn whole(&self, word: &[u8]) -> Option<u32> {
        if self.whole.is_empty() { None } else { self.whole.get(word).copied() }
    }
}

/// The 256 bytes in the order of GPT-2's vocabulary: printable ones first, then the rest.
pub(crate) fn byte_order() -> impl Iterator<Item = u8> {
    (0..=255).filter(|&b| printable(b)).chain((0..=255).filter(|&b| !printable(b)))
}

/// The bytes that GPT-2 writes as the character of the same number.
pub(crate) fn printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}
