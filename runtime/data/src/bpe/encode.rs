//! Text to ids.
//!
//! Inside a pre-token the pair with the lowest rank is merged, leftmost first, until no pair is left. What comes out is found without merging
//! ([`super::apart`]); where that cannot be, by a heap over a linked list. Either takes time near linear, for a line of dashes or a script
//! without spaces too. Pre-tokens repeat, so an [`Encoder`] remembers their ids ([`super::words`]). [`Bpe::encode_all`] works in
//! parallel on parts that are cut where no piece is; [`StreamEncoder`] takes text in any portions. All three give the same ids.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::Bpe;
use super::pairs::{NEVER, Pairs};
use super::pretoken::{settled, splits};
use super::special::{Piece, Special, pieces, unsettled};
use super::words::{LONGEST, Words};

impl Bpe {
    /// The ids of `text`, special tokens included.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3);
        Encoder::new(self).encode(text, &mut ids);
        ids
    }

    /// The ids of each text, in order, computed in parallel.
    pub fn encode_all(&self, texts: &[&str]) -> Vec<Vec<u32>> {
        let encoded: Vec<Vec<(usize, Vec<u32>)>> = work_units(texts, &self.specials)
            .into_par_iter()
            .map_init(
                || Encoder::new(self),
                |encoder, unit| {
                    let encode = |&(text, part): &(usize, &str)| {
                        let mut ids = Vec::with_capacity(part.len() / 3);
                        encoder.encode(part, &mut ids);
                        (text, ids)
                    };
                    unit.parts.iter().map(encode).collect()
                },
            )
            .collect();
        let mut ids = vec![Vec::new(); texts.len()];
        for (text, part) in encoded.into_iter().flatten() {
            if ids[text].is_empty() {
                ids[text] = part;
            } else {
                ids[text].extend(part);
            }
        }
        ids
    }

    /// Encodes a text that comes in portions.
    pub fn stream(&self) -> StreamEncoder<'_> {
        StreamEncoder { encoder: Encoder::new(self), pending: String::new() }
    }
}

/// Texts or parts of texts that one thread works on: pairs of the text's number and the part.
pub(crate) struct WorkUnit<'a> {
    parts: Vec<(usize, &'a str)>,
}

impl<'a> WorkUnit<'a> {
    /// What is left of the parts without special tokens.
    pub(crate) fn plain_texts(&self, specials: &[Special]) -> Vec<&'a str> {
        let plain = |piece| match piece {
            Piece::Text(text) => Some(text),
            Piece::Special(_) => None,
        };
        self.parts.iter().flat_map(|(_, part)| pieces(part, specials)).filter_map(plain).collect()
    }
}

/// Large enough that a thread's memory of pre-tokens pays, small enough that all threads have work.
const UNIT_BYTES: usize = 1 << 19;

/// Parts `texts` into units of about [`UNIT_BYTES`], independent of the number of threads.
pub(crate) fn work_units<'a>(texts: &[&'a str], specials: &[Special]) -> Vec<WorkUnit<'a>> {
    // A part begins at white space, so it can only cut a special token that holds some.
    let divisible = !specials.iter().any(|s| s.text.contains(char::is_whitespace));
    let mut units = Vec::new();
    let (mut parts, mut size) = (Vec::new(), 0);
    for (number, text) in texts.iter().enumerate() {
        let cut = if divisible { splits(text, UNIT_BYTES) } else { vec![*text] };
        for part in cut {
            parts.push((number, part));
            size += part.len();
            if size >= UNIT_BYTES {
                units.push(WorkUnit { parts: std::mem::take(&mut parts) });
                size = 0;
            }
        }
    }
    if !parts.is_empty() {
        units.push(WorkUnit { parts });
    }
    units
}

/// Encodes text after text, remembering the pre-tokens it has met.
#[derive(Debug)]
pub struct Encoder<'a> {
    bpe: &'a Bpe,
    words: Words,
}

impl<'a> Encoder<'a> {
    /// An encoder that has met nothing yet.
    pub fn new(bpe: &'a Bpe) -> Self {
        Self { bpe, words: Words::new() }
    }

    /// Appends the ids of `text`, special tokens included.
    pub fn encode(&mut self, text: &str, ids: &mut Vec<u32>) {
        for piece in pieces(text, &self.bpe.specials) {
            match piece {
                Piece::Text(text) => self.encode_plain(text, ids),
                Piece::Special(id) => ids.push(id),
            }
        }
    }

    /// Appends the ids of `text`; a special token in it is text like any other.
    pub fn encode_plain(&mut self, text: &str, ids: &mut Vec<u32>) {
        let (bpe, words, bytes) = (self.bpe, &mut self.words, text.as_bytes());
        bpe.pattern.each(text, |start, end| {
            let len = end - start;
            if len == 1 {
                ids.push(bpe.byte_id(bytes[start]));
            } else if len <= LONGEST {
                words.encode(bytes, start, end, ids, |ids| merge(bpe, &bytes[start..end], ids));
            } else {
                merge(bpe, &bytes[start..end], ids);
            }
        });
    }
}

/// Appends what `word` becomes, which has at least two bytes.
pub(super) fn merge(bpe: &Bpe, word: &[u8], ids: &mut Vec<u32>) {
    if let Some(id) = bpe.whole(word) {
        return ids.push(id);
    }
    match &bpe.apart {
        Some(apart) => apart.encode(word, ids),
        None => merge_in_order(bpe, &bpe.pairs, word, ids),
    }
}

/// A token inside a pre-token; a merged one lives in the place of its first byte.
struct Node {
    token: u32,
    previous: usize,
    next: usize,
    alive: bool,
}

/// No neighbour.
const NONE: usize = usize::MAX;

/// Appends what `word` becomes by the merges as they are written.
fn merge_in_order(bpe: &Bpe, pairs: &Pairs, word: &[u8], ids: &mut Vec<u32>) {
    let mut nodes: Vec<Node> = (0..word.len())
        .map(|at| Node {
            token: bpe.byte_id(word[at]),
            previous: at.checked_sub(1).unwrap_or(NONE),
            next: if at + 1 < word.len() { at + 1 } else { NONE },
            alive: true,
        })
        .collect();
    // (rank, place, left token, right token): the tokens tell whether the entry still holds.
    let mut heap = BinaryHeap::new();
    let offer = |heap: &mut BinaryHeap<_>, nodes: &[Node], at: usize| {
        let next = nodes[at].next;
        if next != NONE {
            let (left, right) = (nodes[at].token, nodes[next].token);
            let merge = pairs.get(left, right);
            if merge != NEVER {
                heap.push(Reverse((merge.rank, at, left, right, merge.token)));
            }
        }
    };
    for at in 0..nodes.len() {
        offer(&mut heap, &nodes, at);
    }
    while let Some(Reverse((_, at, left, right, token))) = heap.pop() {
        let next = nodes[at].next;
        let holds = nodes[at].alive
            && nodes[at].token == left
            && next != NONE
            && nodes[next].token == right;
        if !holds {
            continue;
        }
        let after = nodes[next].next;
        nodes[next].alive = false;
        nodes[at].token = token;
        nodes[at].next = after;
        if after != NONE {
            nodes[after].previous = at;
        }
        offer(&mut heap, &nodes, at);
        let previous = nodes[at].previous;
        if previous != NONE {
            offer(&mut heap, &nodes, previous);
        }
    }
    ids.extend(nodes.iter().filter(|node| node.alive).map(|node| node.token));
}

/// Encodes a text that comes in portions, cut anywhere between two characters.
#[derive(Debug)]
pub struct StreamEncoder<'a> {
    encoder: Encoder<'a>,
    /// Text whose pieces may still change.
    pending: String,
}

impl StreamEncoder<'_> {
    /// Takes the next portion and appends the ids that are settled.
    pub fn push(&mut self, portion: &str, ids: &mut Vec<u32>) {
        self.pending.push_str(portion);
        let specials = &self.encoder.bpe.specials;
        let end = unsettled(&self.pending, specials);
        let mut done = 0;
        for piece in pieces(&self.pending, specials) {
            if done >= end {
                break;
            }
            match piece {
                Piece::Special(id) => {
                    ids.push(id);
                    done += specials.iter().find(|s| s.id == id).map_or(0, |s| s.text.len());
                }
                // A special token follows that is one in any case, so this text is complete.
                Piece::Text(text) if done + text.len() < end => {
                    self.encoder.encode_plain(text, ids);
                    done += text.len();
                }
                Piece::Text(text) => {
                    let text = &text[..end - done];
                    let cut = settled(text);
                    self.encoder.encode_plain(&text[..cut], ids);
                    done += cut;
                    break;
                }
            }
        }
        self.pending.drain(..done);
    }

    /// Appends the ids of what was held back.
    pub fn finish(mut self, ids: &mut Vec<u32>) {
        self.encoder.encode(&self.pending, ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe::{Merge, Pattern, TieRule, TrainOptions, train};
    use crate::random::Stream;

    fn small() -> Bpe {
        parted_by(Pattern::Gpt2)
    }

    fn parted_by(pattern: Pattern) -> Bpe {
        let text = crate::stories::written(40, 3).join();
        let special = vec!["<|endoftext|>".to_owned(), "<|endoftext|><|pad|>".to_owned()];
        let options = TrainOptions { vocab: 600, special, ties: TieRule::GreaterPair, pattern };
        train(&[&text, "llve''' \n\n   ----------------- aaaaaaaaaaaaaaaaaaa"], &options)
            .expect("enough text")
    }

    fn noisy(case: u64, most: usize) -> String {
        let mut draws = Stream::new(case, "noise").draws(0);
        (0..draws.below(8) as u64)
            .map(|part| match draws.below(5) {
                0 => "<|endoftext|>".to_owned(),
                1 => "<|endoftext|><|pad|>".to_owned(),
                2 => "-".repeat(draws.below(150)) + "<|end",
                3 => "Tom found a red ball.  ".to_owned(),
                _ => crate::witness::random_text(case * 10 + part, most),
            })
            .collect()
    }

    #[test]
    fn decoding_gives_the_text_back() {
        let bpe = small();
        for case in 0..500 {
            let text = noisy(case, 60);
            let bytes: Vec<u8> = bpe
                .encode(&text)
                .iter()
                .flat_map(|&id| bpe.token(id).expect("an id of the vocabulary"))
                .copied()
                .collect();
            assert_eq!(String::from_utf8(bytes).as_ref(), Ok(&text));
        }
    }

    #[test]
    fn tokens_apart_are_those_of_merging() {
        let bpe = small();
        let mut pairs = Pairs::new(bpe.merges().len());
        for (rank, &(left, right)) in (0..).zip(bpe.merges()) {
            let whole =
                [bpe.tokens()[left as usize].as_ref(), &bpe.tokens()[right as usize]].concat();
            let token = bpe.tokens().iter().position(|token| **token == *whole).expect("a token");
            pairs.insert(left, right, Merge { rank, token: token as u32 });
        }
        for case in 0..2000 {
            let text = noisy(case, 40);
            if text.is_empty() {
                continue;
            }
            let (mut apart, mut merged) = (Vec::new(), Vec::new());
            bpe.apart.as_ref().expect("in order").encode(text.as_bytes(), &mut apart);
            merge_in_order(&bpe, &pairs, text.as_bytes(), &mut merged);
            assert_eq!(apart, merged, "{text:?}");
        }
    }

    #[test]
    fn merges_in_any_order() {
        // Random merges over few letters, so that all that learning never makes occurs: merges that never happen, two for one token, parts that come about later.
        let mut in_order = 0;
        for case in 0..3000 {
            let mut draws = Stream::new(case, "merges").draws(0);
            let mut tokens: Vec<Box<[u8]>> = (0..=255).map(|byte| [byte].into()).collect();
            let mut merges = Vec::new();
            for _ in 0..draws.below(14) {
                let some = |draws: &mut crate::random::Draws| match draws.below(2) {
                    0 => 97 + draws.below(3) as u32,
                    _ => match tokens.len() as u32 - 256 {
                        0 => 97,
                        more => 256 + draws.below(more as usize) as u32,
                    },
                };
                let (left, right) = (some(&mut draws), some(&mut draws));
                let whole: Box<[u8]> =
                    [&*tokens[left as usize], &*tokens[right as usize]].concat().into();
                if !tokens.contains(&whole) {
                    tokens.push(whole);
                }
                merges.push((left, right));
            }
            if case % 2 == 0 {
                for at in 1..merges.len() {
                    merges.swap(at, draws.below(at + 1));
                }
            }
            let bpe = Bpe::new(tokens, merges, Vec::new()).expect("a vocabulary");
            in_order += usize::from(bpe.apart.is_some());
            for _ in 0..20 {
                let len = 1 + draws.below(14);
                let word: Vec<u8> = (0..len).map(|_| 97 + draws.below(3) as u8).collect();
                let (mut ids, mut expected) = (Vec::new(), Vec::new());
                merge(&bpe, &word, &mut ids);
                slowly(&bpe, &word, &mut expected);
                assert_eq!(ids, expected, "{word:?} by {:?}", bpe.merges());
            }
        }
        assert!((1000..2900).contains(&in_order), "{in_order}");
    }

    /// The earliest merge, leftmost first, until there is none.
    fn slowly(bpe: &Bpe, word: &[u8], ids: &mut Vec<u32>) {
        ids.extend(word.iter().map(|byte| u32::from(*byte)));
        while let Some((_, at)) = (1..ids.len())
            .filter_map(|at| {
                let pair = (ids[at - 1], ids[at]);
                Some((bpe.merges().iter().position(|merge| *merge == pair)?, at))
            })
            .min()
        {
            let whole =
                [bpe.tokens()[ids[at - 1] as usize].as_ref(), &bpe.tokens()[ids[at] as usize]]
                    .concat();
            let token = bpe.tokens().iter().position(|token| **token == *whole).expect("a token");
            ids[at - 1] = token as u32;
            ids.remove(at);
        }
    }

    #[test]
    fn portions_do_not_matter() {
        let all = [Pattern::Gpt2, Pattern::Cl100k, Pattern::O200k].map(parted_by);
        for case in 0..1500 {
            let bpe = &all[case as usize % 3];
            let text = noisy(case, 60);
            let mut draws = Stream::new(case, "portions").draws(0);
            let (mut stream, mut ids) = (bpe.stream(), Vec::new());
            let mut start = 0;
            while start < text.len() {
                let mut end = (start + 1 + draws.below(12)).min(text.len());
                while !text.is_char_boundary(end) {
                    end += 1;
                }
                stream.push(&text[start..end], &mut ids);
                start = end;
            }
            stream.finish(&mut ids);
            assert_eq!(ids, bpe.encode(&text), "{text:?}");
        }
    }

    #[test]
    fn parallel_is_the_same() {
        let bpe = small();
        let long = crate::stories::written(8000, 1).join();
        let texts = [long.as_str(), "", "short", &long[..5000], "<|endoftext|>"];
        let one_by_one: Vec<_> = texts.iter().map(|text| bpe.encode(text)).collect();
        assert!(work_units(&texts, bpe.specials()).len() > 2);
        assert_eq!(bpe.encode_all(&texts), one_by_one);
    }
}
