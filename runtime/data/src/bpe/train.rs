//! Learning merges from text.
//!
//! Distinct pre-tokens are counted in parallel; then the most frequent pair of neighbouring tokens becomes a token, again
//! and again. For that, every pair knows how often it occurs and in which words it may occur, so a merge visits only
//! those words and only corrects the counts next to the places it changes. A heap finds the next pair: its entries may be
//! out of date, which is seen when they come out, and then they go back with their true count. Counts are exact sums,
//! and the tie rule orders all pairs, so the result does not depend on threads or on the order of the texts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::encode::work_units;
use super::pretoken::Pattern;
use super::special::number_specials;
use super::{Bpe, Special, byte_order, packed};
use crate::error::DataError;
use crate::hash::FastMap;

/// Which of the pairs with the highest count is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TieRule {
    /// The pair whose bytes are greater, left token first: Stanford CS336's rule.
    #[default]
    GreaterPair,
    /// The pair whose ids are lower, left token first: Hugging Face tokenizers' rule.
    LowestIds,
}

impl TieRule {
    /// The rule by its name in a program.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "greater" => Some(Self::GreaterPair),
            "first" => Some(Self::LowestIds),
            _ => None,
        }
    }
}

/// What to learn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainOptions {
    /// Tokens in all: special tokens, then 256 bytes, then merges. Reached only if the text has enough pairs.
    pub vocab: usize,
    /// Special tokens; they get the first ids and are cut out of the text.
    pub special: Vec<String>,
    /// See [`TieRule`].
    pub ties: TieRule,
    /// How text is parted.
    pub pattern: Pattern,
}

/// Learns a vocabulary from `texts`, which are apart: no merge crosses from one to the next.
pub fn train(texts: &[&str], options: &TrainOptions) -> Result<Bpe, DataError> {
    let specials = number_specials(&options.special, 0)?;
    let first_merge = specials.len() + 256;
    if options.vocab < first_merge {
        return Err(DataError::BadVocabulary {
            why: format!(
                "a vocabulary of {} does not hold 256 bytes and {} special tokens",
                options.vocab,
                specials.len()
            ),
        });
    }
    let mut tokens: Vec<Rc<[u8]>> =
        specials.iter().map(|special| Rc::from(special.text.as_bytes())).collect();
    tokens.extend(byte_order().map(|byte| Rc::from([byte].as_slice())));

    let words = count_words(texts, &specials, options.pattern);
    let mut learner = Learner::new(words, tokens, specials.len(), options.ties);
    let mut merges = Vec::new();
    while learner.tokens.len() < options.vocab
        && let Some(merge) = learner.step()
    {
        merges.push(merge);
    }
    let tokens = learner.tokens.iter().map(|token| Box::from(token.as_ref())).collect();
    Ok(Bpe::new(tokens, merges, specials)?.parted_by(options.pattern))
}

/// The distinct pre-tokens with their counts, sorted.
fn count_words<'a>(
    texts: &[&'a str],
    specials: &[Special],
    pattern: Pattern,
) -> Vec<(&'a str, i64)> {
    let counts: FastMap<&'a str, i64> = work_units(texts, specials)
        .into_par_iter()
        .map(|unit| {
            let mut counts: FastMap<&'a str, i64> = FastMap::default();
            for text in unit.plain_texts(specials) {
                pattern.each(text, |start, end| {
                    *counts.entry(&text[start..end]).or_insert(0) += 1;
                });
            }
            counts
        })
        .reduce(FastMap::default, |one, other| {
            let (mut large, small) =
                if one.len() < other.len() { (other, one) } else { (one, other) };
            #[expect(clippy::iter_over_hash_type, reason = "sums do not depend on the order")]
            for (word, count) in small {
                *large.entry(word).or_insert(0) += count;
            }
            large
        });
    let mut words: Vec<_> = counts.into_iter().collect();
    words.par_sort_unstable();
    words
}

/// The state of learning.
struct Learner {
    /// Bytes by id; shared with the heap's entries.
    tokens: Vec<Rc<[u8]>>,
    /// Ids of the tokens that can come from merging: two ways to the same bytes give one token.
    ids: FastMap<Rc<[u8]>, u32>,
    words: Vec<Word>,
    /// All words' tokens, one word after the other; a word that shrinks leaves a gap behind it.
    symbols: Vec<u32>,
    pairs: Vec<Pair>,
    index: FastMap<u64, u32>,
    heap: BinaryHeap<Candidate>,
    ties: TieRule,
    /// Pairs that became more frequent in this step.
    grown: Vec<u32>,
}

/// A distinct pre-token.
struct Word {
    start: usize,
    len: usize,
    count: i64,
}

/// Two neighbouring tokens.
struct Pair {
    left: u32,
    right: u32,
    /// Occurrences now, weighted by the counts of the words.
    count: i64,
    /// Words that held it at some time: a superset of those that hold it now.
    words: Vec<u32>,
}

/// A heap entry: greatest count first, then the tie rule.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    count: i64,
    tie: Tie,
    pair: u32,
}

/// The tie rule's key; all entries of a heap are of one kind.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Tie {
    Bytes(Rc<[u8]>, Rc<[u8]>),
    Ids(Reverse<(u32, u32)>),
}

impl Learner {
    fn new(
        counted: Vec<(&str, i64)>,
        tokens: Vec<Rc<[u8]>>,
        first_byte: usize,
        ties: TieRule,
    ) -> Self {
        let mut byte_ids = [0; 256];
        let mut ids = FastMap::default();
        for (id, token) in (0_u32..).zip(&tokens).skip(first_byte) {
            byte_ids[usize::from(token[0])] = id;
            ids.insert(Rc::clone(token), id);
        }
        let mut learner = Self {
            tokens,
            ids,
            words: Vec::with_capacity(counted.len()),
            symbols: Vec::new(),
            pairs: Vec::new(),
            index: FastMap::default(),
            heap: BinaryHeap::new(),
            ties,
            grown: Vec::new(),
        };
        for (word, count) in counted {
            let number = learner.words.len() as u32;
            let start = learner.symbols.len();
            learner.symbols.extend(word.bytes().map(|byte| byte_ids[usize::from(byte)]));
            learner.words.push(Word { start, len: word.len(), count });
            for at in start..start + word.len() - 1 {
                let (left, right) = (learner.symbols[at], learner.symbols[at + 1]);
                learner.add(left, right, number, count);
            }
        }
        learner.offer_grown();
        learner
    }

    /// Merges the best pair and names it; `None` if no two tokens are neighbours any more.
    fn step(&mut self) -> Option<(u32, u32)> {
        let best = self.best()?;
        let Pair { left, right, .. } = self.pairs[best as usize];
        let bytes: Rc<[u8]> =
            [self.tokens[left as usize].as_ref(), self.tokens[right as usize].as_ref()]
                .concat()
                .into();
        let token = match self.ids.get(&bytes) {
            Some(&known) => known,
            None => {
                let id = self.tokens.len() as u32;
                self.tokens.push(Rc::clone(&bytes));
                self.ids.insert(bytes, id);
                id
            }
        };
        for word in std::mem::take(&mut self.pairs[best as usize].words) {
            self.merge_in_word(word, left, right, token);
        }
        self.offer_grown();
        Some((left, right))
    }

    /// The pair of the highest true count, taken off the heap.
    fn best(&mut self) -> Option<u32> {
        while let Some(entry) = self.heap.pop() {
            let count = self.pairs[entry.pair as usize].count;
            if count == entry.count {
                return Some(entry.pair);
            }
            // A pair that grew has a newer entry; one that shrank goes back to its place.
            if 0 < count && count < entry.count {
                self.heap.push(Candidate { count, ..entry });
            }
        }
        None
    }

    /// Replaces `left right` by `token` in one word, left to right, and corrects the counts around each place.
    fn merge_in_word(&mut self, number: u32, left: u32, right: u32, token: u32) {
        let Word { start, len, count } = self.words[number as usize];
        let (mut read, mut write, end) = (start, start, start + len);
        while read < end {
            let here = self.symbols[read];
            if here == left && read + 1 < end && self.symbols[read + 1] == right {
                self.remove(left, right, count);
                if write > start {
                    let before = self.symbols[write - 1];
                    self.remove(before, left, count);
                    self.add(before, token, number, count);
                }
                if read + 2 < end {
                    let after = self.symbols[read + 2];
                    self.remove(right, after, count);
                    self.add(token, after, number, count);
                }
                self.symbols[write] = token;
                read += 2;
            } else {
                self.symbols[write] = here;
                read += 1;
            }
            write += 1;
        }
        self.words[number as usize].len = write - start;
    }

    fn add(&mut self, left: u32, right: u32, word: u32, count: i64) {
        let number = *self.index.entry(packed(left, right)).or_insert_with(|| {
            self.pairs.push(Pair { left, right, count: 0, words: Vec::new() });
            self.pairs.len() as u32 - 1
        });
        let pair = &mut self.pairs[number as usize];
        pair.count += count;
        if pair.words.last() != Some(&word) {
            pair.words.push(word);
        }
        if self.grown.last() != Some(&number) {
            self.grown.push(number);
        }
    }

    fn remove(&mut self, left: u32, right: u32, count: i64) {
        if let Some(&number) = self.index.get(&packed(left, right)) {
            self.pairs[number as usize].count -= count;
        }
    }

    fn offer_grown(&mut self) {
        let mut grown = std::mem::take(&mut self.grown);
        grown.sort_unstable();
        grown.dedup();
        for number in grown.drain(..) {
            let Pair { left, right, count, .. } = self.pairs[number as usize];
            if count > 0 {
                let bytes = |id: u32| Rc::clone(&self.tokens[id as usize]);
                let tie = match self.ties {
                    TieRule::GreaterPair => Tie::Bytes(bytes(left), bytes(right)),
                    TieRule::LowestIds => Tie::Ids(Reverse((left, right))),
                };
                self.heap.push(Candidate { count, tie, pair: number });
            }
        }
        self.grown = grown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe::files;
    use crate::bpe::pretoken::pretokens;

    fn options(vocab: usize, ties: TieRule) -> TrainOptions {
        TrainOptions {
            vocab,
            special: vec!["<|endoftext|>".to_owned()],
            ties,
            pattern: Pattern::Gpt2,
        }
    }

    /// Counts all pairs anew for every merge.
    fn slowly(texts: &[&str], options: &TrainOptions) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut tokens: Vec<Vec<u8>> =
            options.special.iter().map(|text| text.clone().into_bytes()).collect();
        tokens.extend(byte_order().map(|byte| vec![byte]));
        let id = |tokens: &[Vec<u8>], bytes: &[u8]| {
            tokens.iter().position(|token| token == bytes).expect("a token")
        };
        let mut words: Vec<Vec<Vec<u8>>> = texts
            .iter()
            .flat_map(|text| text.split(options.special[0].as_str()))
            .flat_map(|text| pretokens(text, options.pattern))
            .map(|word| word.bytes().map(|byte| vec![byte]).collect())
            .collect();
        let mut merges = Vec::new();
        while tokens.len() < options.vocab {
            let mut counts = std::collections::BTreeMap::new();
            for pair in words.iter().flat_map(|word| word.windows(2)) {
                *counts.entry((pair[0].clone(), pair[1].clone())).or_insert(0) += 1;
            }
            let best = counts.into_iter().max_by_key(|((left, right), count)| {
                let key = match options.ties {
                    TieRule::GreaterPair => (Some((left.clone(), right.clone())), None),
                    TieRule::LowestIds => {
                        (None, Some(Reverse((id(&tokens, left), id(&tokens, right)))))
                    }
                };
                (*count, key)
            });
            let Some(((left, right), _)) = best else { break };
            let whole = [left.clone(), right.clone()].concat();
            if !tokens.contains(&whole) {
                tokens.push(whole.clone());
            }
            for word in &mut words {
                let mut at = 0;
                while at + 1 < word.len() {
                    if word[at] == left && word[at + 1] == right {
                        word[at] = whole.clone();
                        word.remove(at + 1);
                    }
                    at += 1;
                }
            }
            merges.push((left, right));
        }
        merges
    }

    fn spelled(bpe: &Bpe) -> Vec<(Vec<u8>, Vec<u8>)> {
        let bytes = |id: u32| bpe.token(id).expect("a token of a merge").to_vec();
        bpe.merges().iter().map(|&(left, right)| (bytes(left), bytes(right))).collect()
    }

    #[test]
    fn the_example_of_the_course() {
        let text = "low low low low low lower lower widest widest widest \
                    newest newest newest newest newest newest";
        let options = TrainOptions {
            vocab: 262,
            special: Vec::new(),
            ties: TieRule::GreaterPair,
            pattern: Pattern::Gpt2,
        };
        let bpe = train(&[text], &options).expect("enough text");
        let merged: Vec<&[u8]> = bpe.tokens()[256..].iter().map(AsRef::as_ref).collect();
        assert_eq!(merged, [b"st".as_slice(), b"est", b"ow", b"low", b"west", b"ne"]);
    }

    #[test]
    fn agrees_with_counting_anew() {
        for ties in [TieRule::GreaterPair, TieRule::LowestIds] {
            for case in 0..40 {
                let text = crate::witness::random_text(case, 400);
                let repeated = format!("{text}<|endoftext|>{text}aaaa aaaaa ababab {text}");
                let options = options(330, ties);
                let bpe = train(&[&repeated, &text], &options).expect("a vocabulary");
                assert_eq!(spelled(&bpe), slowly(&[&repeated, &text], &options), "{text:?}");
            }
        }
    }

    #[test]
    fn a_vocabulary_too_small_is_refused() {
        let error = train(&["text"], &options(256, TieRule::GreaterPair)).expect_err("too small");
        assert_eq!(error.code(), "E0612");
    }

    #[test]
    fn reference_merges_of_the_course() {
        let (Some(corpus), Some(merges), Some(vocab)) = (
            crate::witness::shared("bpe/corpus.en"),
            crate::witness::shared("bpe/train-bpe-reference-merges.txt"),
            crate::witness::shared("bpe/train-bpe-reference-vocab.json"),
        ) else {
            return;
        };
        let text = std::fs::read_to_string(corpus).expect("the shared corpus");
        let bpe = train(&[&text], &options(500, TieRule::GreaterPair)).expect("enough text");
        let reference =
            files::read_gpt2(&vocab, &merges, &["<|endoftext|>"]).expect("the reference");
        assert_eq!(reference.merges().len(), 243);
        assert_eq!(spelled(&bpe), spelled(&reference));
        assert_eq!(bpe.tokens(), reference.tokens());
    }
}
