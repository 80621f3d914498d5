//! Encoding without merging: the longest token that may stand beside the one before it.
//!
//! Merging makes of any bytes one row of tokens, and a row is that of its bytes if and only if each two neighbours are that of theirs (Gee and van
//! Antwerpen 2024, the crate `bpe`). So the row is found from left to right: the longest token that begins here and
//! stays apart from the last; if there is none down to one byte, the last one was wrong, its end is no border, and the next shorter one takes its
//! place. Every end is refused at most once, so this ends after few steps for each byte.
//!
//! Whether two tokens stay apart is seen by undoing their merges, the latest first: was there a moment at which the last part of the left one and the
//! first part of the right one would have become a token of their own before the merge that is being undone? This needs merges whose parts
//! come about before them, as learning makes them. A vocabulary with others has no [`Apart`], and is encoded by merging.

use super::prefixes::{NONE, Prefixes};
use super::{Merge, byte_order};

/// How the tokens come about.
#[derive(Debug, Clone)]
pub(super) struct Apart {
    prefixes: Prefixes,
    made: Vec<Made>,
    /// Bytes of each token.
    lens: Vec<u16>,
    /// The merges that happen.
    joins: Joins,
}

/// How a token comes about.
#[derive(Debug, Clone, Copy)]
struct Made {
    /// 0 for a byte, one more than the rank of its merge for others; [`NEVER`] if nothing makes it.
    order: u32,
    left: u32,
    right: u32,
    /// The next longest token that it begins with.
    shorter: u32,
}

/// The order of a token that nothing makes.
const NEVER: u32 = u32::MAX;

impl Apart {
    /// How `tokens` come about by `merges`, whose parts and results are among them; `None` if a merge needs what comes about after it.
    pub(super) fn new(
        tokens: &[Box<[u8]>],
        merges: &[((u32, u32), Merge)],
        byte_ids: &[u32; 256],
    ) -> Option<Self> {
        let unmade = Made { order: NEVER, left: NONE, right: NONE, shorter: NONE };
        let mut made = vec![unmade; tokens.len()];
        let lens: Option<Vec<u16>> =
            tokens.iter().map(|token| u16::try_from(token.len()).ok()).collect();
        for byte in byte_order() {
            made[byte_ids[usize::from(byte)] as usize].order = 0;
        }
        let mut joins = Joins::new(tokens.len(), merges.len())?;
        let mut awaited = vec![false; tokens.len()];
        for &((left, right), merge) in merges {
            let parts = [left as usize, right as usize];
            if parts.iter().any(|part| made[*part].order == NEVER) {
                parts.iter().for_each(|part| awaited[*part] |= made[*part].order == NEVER);
                continue;
            }
            let token = merge.token as usize;
            // If its own bytes come about otherwise, or these two never stand side by side, the merge never happens.
            if made[token].order == NEVER && apart(&made, &joins, left, right) {
                if awaited[token] {
                    return None;
                }
                made[token] = Made { order: merge.rank + 1, left, right, ..made[token] };
                joins.insert(left, right, merge.rank);
            }
        }
        let mut known: Vec<(&[u8], u32)> = (0_u32..)
            .zip(tokens)
            .filter(|(id, _)| made[*id as usize].order != NEVER)
            .map(|(id, token)| (&**token, id))
            .collect();
        known.sort_unstable();
        let prefixes = Prefixes::new(&known)?;
        for (bytes, id) in known {
            let mut shorter = NONE;
            prefixes.longest(&bytes[..bytes.len() - 1], |token| shorter = token);
            made[id as usize].shorter = shorter;
        }
        Some(Self { prefixes, made, lens: lens?, joins })
    }

    /// Whether merging makes the token.
    pub(super) fn makes(&self, token: u32) -> bool {
        self.made[token as usize].order != NEVER
    }

    /// Appends what `word` becomes.
    #[inline]
    pub(super) fn encode(&self, word: &[u8], ids: &mut Vec<u32>) {
        let first = self.prefixes.longest(word, |_| ());
        ids.push(first);
        if self.len(first) != word.len() {
            self.encode_on(word, ids);
        }
    }

    #[inline]
    fn len(&self, token: u32) -> usize {
        usize::from(self.lens[token as usize])
    }

    /// Goes on where the last token is the longest that `word` begins with.
    fn encode_on(&self, word: &[u8], ids: &mut Vec<u32>) {
        let begin = ids.len() - 1;
        let mut at = self.len(ids[begin]);
        // Ends of tokens that are no borders; most words have none.
        let mut refused: Vec<usize> = Vec::new();
        while at < word.len() {
            let mut token = self.prefixes.longest(&word[at..], |_| ());
            loop {
                // Every byte is a token, so only what was tried down to there is `NONE`.
                if token == NONE {
                    refused.push(at);
                    let Some(last) = ids.pop() else { return };
                    at -= self.len(last);
                    token = self.made[last as usize].shorter;
                    continue;
                }
                let end = at + self.len(token);
                let beside =
                    ids.len() == begin || apart(&self.made, &self.joins, ids[ids.len() - 1], token);
                if beside && !refused.contains(&end) {
                    ids.push(token);
                    at = end;
                    break;
                }
                token = self.made[token as usize].shorter;
            }
        }
    }
}

/// Whether the bytes of the two tokens become just these two.
#[inline]
fn apart(made: &[Made], joins: &Joins, mut left: u32, mut right: u32) -> bool {
    // Merges of this rank or later come too late to join what is on both sides of the border.
    let mut limit = u32::MAX;
    loop {
        if joins.rank(left, right) < limit {
            return false;
        }
        let (one, other) = (made[left as usize], made[right as usize]);
        // Of the same merge the place further left goes first: so a left token is undone only if it came later, and is as early as one that would
        // need its last part; a right one is as late.
        if one.order > other.order {
            limit = one.order - 1;
            left = one.right;
        } else if other.order > 0 {
            limit = other.order;
            right = other.left;
        } else {
            return true;
        }
    }
}

/// The ranks of merges by their pairs, eight bytes each: 20 bits for either token, above 24 bits for the rank. Open addressing, at most half full.
#[derive(Debug, Clone)]
struct Joins {
    slots: Box<[u64]>,
    shift: u32,
}

impl Joins {
    /// No tokens have this pair.
    const FREE: u64 = u64::MAX;

    /// Room for `most` merges; `None` if they, or the tokens, are too many for the bits.
    fn new(tokens: usize, most: usize) -> Option<Self> {
        let bits = (2 * most.max(1)).next_power_of_two().ilog2();
        let fits = tokens < 1 << 20 && most < 1 << 24;
        fits.then(|| Self { slots: vec![Self::FREE; 1 << bits].into(), shift: 64 - bits })
    }

    fn insert(&mut self, left: u32, right: u32, rank: u32) {
        let pair = Self::pair(left, right);
        let mut place = self.place(pair);
        while self.slots[place] != Self::FREE {
            place = (place + 1) & (self.slots.len() - 1);
        }
        self.slots[place] = pair << 24 | u64::from(rank);
    }

    /// The rank of the merge of these two, [`NEVER`] if there is none.
    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let pair = Self::pair(left, right);
        let mut place = self.place(pair);
        loop {
            let found = self.slots[place];
            if found >> 24 == pair {
                return found as u32 & 0xff_ffff;
            }
            if found == Self::FREE {
                return NEVER;
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    #[inline]
    fn pair(left: u32, right: u32) -> u64 {
        u64::from(left) << 20 | u64::from(right)
    }

    #[inline]
    fn place(&self, pair: u64) -> usize {
        pair.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_shr(self.shift) as usize
            & (self.slots.len() - 1)
    }
}
