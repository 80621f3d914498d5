//! Text to ids.
//!
//! Inside a pre-token the pair with the lowest rank is merged, leftmost first, until no pair is left. Short pre-tokens
//! are scanned for it; long ones (a line of dashes, a script without spaces) use a heap over a linked list, so that time
//! stays near linear. Pre-tokens repeat, so an [`Encoder`] remembers their ids. [`Bpe::encode_all`] works in parallel on parts
//! that are cut where no piece is; [`StreamEncoder`] takes text in any portions. All three give the same ids.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::pretoken::{LOOKAHEAD, pretokens, splits};
use super::special::{Piece, Special, pieces, unsettled};
use super::{Bpe, Merge};
use crate::hash::FastMap;

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
            .map(|unit| {
                let mut encoder = Encoder::new(self);
                let encode = |&(text, part): &(usize, &str)| {
                    let mut ids = Vec::with_capacity(part.len() / 3);
                    encoder.encode(part, &mut ids);
                    (text, ids)
                };
                unit.parts.iter().map(encode).collect()
            })
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
    /// Where the ids of a pre-token are in `known_ids`.
    known: FastMap<Box<[u8]>, (u32, u32)>,
    known_ids: Vec<u32>,
    parts: Vec<Part>,
}

/// Pre-tokens up to this length are scanned, and remembered.
const SHORT: usize = 48;
/// The memory is emptied when it holds this many pre-tokens, about 10 MB.
const MOST_KNOWN: usize = 1 << 17;

/// A token inside a short pre-token, and what it and the next one would become.
#[derive(Debug, Clone, Copy)]
struct Part {
    token: u32,
    merge: Option<Merge>,
}

impl<'a> Encoder<'a> {
    /// An encoder that has met nothing yet.
    pub fn new(bpe: &'a Bpe) -> Self {
        Self { bpe, known: FastMap::default(), known_ids: Vec::new(), parts: Vec::new() }
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
        for word in pretokens(text) {
            self.encode_word(word.as_bytes(), ids);
        }
    }

    fn encode_word(&mut self, word: &[u8], ids: &mut Vec<u32>) {
        if let [byte] = word {
            return ids.push(self.bpe.byte_id(*byte));
        }
        if word.len() > SHORT {
            return merge_long(self.bpe, word, ids);
        }
        if let Some(&(start, len)) = self.known.get(word) {
            let start = start as usize;
            return ids.extend_from_slice(&self.known_ids[start..start + len as usize]);
        }
        merge_short(self.bpe, word, &mut self.parts);
        if self.known.len() >= MOST_KNOWN {
            self.known.clear();
            self.known_ids.clear();
        }
        let start = self.known_ids.len() as u32;
        self.known.insert(word.into(), (start, self.parts.len() as u32));
        self.known_ids.extend(self.parts.iter().map(|part| part.token));
        ids.extend(self.parts.iter().map(|part| part.token));
    }
}

/// Leaves in `parts` what `word` becomes.
fn merge_short(bpe: &Bpe, word: &[u8], parts: &mut Vec<Part>) {
    parts.clear();
    parts.extend(word.iter().map(|&byte| Part { token: bpe.byte_id(byte), merge: None }));
    for at in 1..parts.len() {
        parts[at - 1].merge = bpe.merge(parts[at - 1].token, parts[at].token);
    }
    loop {
        let ranked = parts.iter().enumerate().filter_map(|(at, part)| Some((part.merge?, at)));
        let Some((merge, at)) = ranked.min_by_key(|(merge, at)| (merge.rank, *at)) else { break };
        parts[at].token = merge.token;
        parts.remove(at + 1);
        parts[at].merge = parts.get(at + 1).and_then(|next| bpe.merge(merge.token, next.token));
        if at > 0 {
            parts[at - 1].merge = bpe.merge(parts[at - 1].token, merge.token);
        }
    }
}

/// A token inside a long pre-token; a merged one lives in the place of its first byte.
struct Node {
    token: u32,
    previous: usize,
    next: usize,
    alive: bool,
}

/// No neighbour.
const NONE: usize = usize::MAX;

/// Appends what `word` becomes.
fn merge_long(bpe: &Bpe, word: &[u8], ids: &mut Vec<u32>) {
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
            if let Some(merge) = bpe.merge(left, right) {
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
        let mut settled = 0;
        for piece in pieces(&self.pending, specials) {
            if settled >= end {
                break;
            }
            match piece {
                Piece::Special(id) => {
                    ids.push(id);
                    settled += specials.iter().find(|s| s.id == id).map_or(0, |s| s.text.len());
                }
                // A special token follows that is one in any case, so this text is complete.
                Piece::Text(text) if settled + text.len() < end => {
                    self.encoder.encode_plain(text, ids);
                    settled += text.len();
                }
                Piece::Text(text) => {
                    for word in pretokens(&text[..end - settled]) {
                        if settled + word.len() + LOOKAHEAD > end {
                            break;
                        }
                        self.encoder.encode_word(word.as_bytes(), ids);
                        settled += word.len();
                    }
                    break;
                }
            }
        }
        self.pending.drain(..settled);
    }

    /// Appends the ids of what was held back.
    pub fn finish(mut self, ids: &mut Vec<u32>) {
        self.encoder.encode(&self.pending, ids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe::{TieRule, TrainOptions, train};
    use crate::random::Stream;

    fn small() -> Bpe {
        let text = crate::stories::written(40, 3).join();
        let special = vec!["<|endoftext|>".to_owned(), "<|endoftext|><|pad|>".to_owned()];
        let options = TrainOptions { vocab: 600, special, ties: TieRule::GreaterPair };
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
    fn long_and_short_words_merge_alike() {
        let bpe = small();
        for case in 0..400 {
            let text = noisy(case, 40);
            let (mut parts, mut ids) = (Vec::new(), Vec::new());
            merge_short(&bpe, text.as_bytes(), &mut parts);
            merge_long(&bpe, text.as_bytes(), &mut ids);
            assert_eq!(parts.iter().map(|part| part.token).collect::<Vec<_>>(), ids, "{text:?}");
        }
    }

    #[test]
    fn portions_do_not_matter() {
        let bpe = small();
        for case in 0..1000 {
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
