//! The longest token with which bytes begin.
//!
//! A trie in one array (Aoe 1989, with exclusive or in place of sums): the child of a node by a byte lies at the node's base xor that byte, if the entry
//! there names that byte. No two nodes have the same base, so the byte is enough. One step is one load of eight bytes: the
//! arrays of a large vocabulary do not fit into the first caches, and what encoding a new word costs is waiting for them.

/// No token.
pub(super) const NONE: u32 = u32::MAX;

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Prefixes {
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// Where the children are, above the byte by which this is a child.
    base_and_byte: u32,
    /// The token that ends here.
    token: u32,
}

impl Node {
    #[inline]
    fn base(self) -> u32 {
        self.base_and_byte >> 8
    }

    #[inline]
    fn byte(self) -> u8 {
        self.base_and_byte as u8
    }
}

/// Bases are smaller.
const MOST: usize = 1 << 24;
/// No base ends in this byte.
const NOBODY: u8 = 1;
/// For as many places a node looks for room among the entries that are left over.
const TRIES: usize = 16;

impl Prefixes {
    /// The trie of `tokens`, bytes and id, sorted by bytes, which differ and are not empty. `None` if there are too many.
    pub(super) fn new(tokens: &[(&[u8], u32)]) -> Option<Self> {
        let mut building = Building::new();
        let mut open = vec![(0_u32, 0_usize, 0_usize, tokens.len())];
        let mut edges: Vec<(u8, usize, usize)> = Vec::new();
        while let Some((node, depth, start, end)) = open.pop() {
            edges.clear();
            let mut at = start;
            while at < end {
                let byte = tokens[at].0[depth];
                let same = tokens[at..end].iter().take_while(|(bytes, _)| bytes[depth] == byte);
                let next = at + same.count();
                edges.push((byte, at, next));
                at = next;
            }
            if edges.is_empty() {
                continue;
            }
            let base = building.room(&edges);
            if building.nodes.len() > MOST {
                return None;
            }
            building.nodes[node as usize].base_and_byte |= base << 8;
            for &(byte, from, to) in &edges {
                let child = base ^ u32::from(byte);
                // The token that ends here is the first of those that go on.
                let ends = tokens[from].0.len() == depth + 1;
                let token = if ends { tokens[from].1 } else { NONE };
                building.taken[child as usize] = true;
                building.nodes[child as usize] = Node { base_and_byte: u32::from(byte), token };
                open.push((child, depth + 1, from + usize::from(ends), to));
            }
        }
        Some(Self { nodes: building.nodes })
    }

    /// The longest token with which `bytes` begin, [`NONE`] if there is none; and through `seen` all of them, shorter ones first.
    #[inline]
    pub(super) fn longest(&self, bytes: &[u8], mut seen: impl FnMut(u32)) -> u32 {
        let (mut base, mut found) = (self.nodes[0].base(), NONE);
        for &byte in bytes {
            let entry = self.nodes[(base ^ u32::from(byte)) as usize];
            if entry.byte() != byte {
                break;
            }
            if entry.token != NONE {
                found = entry.token;
                seen(found);
            }
            base = entry.base();
        }
        found
    }
}

/// A trie that grows.
struct Building {
    nodes: Vec<Node>,
    /// Which entries are nodes.
    taken: Vec<bool>,
    /// Which bases are.
    bases: Vec<bool>,
    /// Entries that were left over, last ones first to be taken; some may be taken already.
    free: Vec<u32>,
}

impl Building {
    /// The first 256 entries are for the root, which is the first, and for nobody else: nodes without children have the base 0 and look there.
    fn new() -> Self {
        let mut building =
            Self { nodes: Vec::new(), taken: Vec::new(), bases: Vec::new(), free: Vec::new() };
        building.grow();
        building.taken.fill(true);
        building.bases.fill(true);
        building
    }

    /// 256 more entries. What is free names a byte that leads to it from a base that ends in [`NOBODY`] only, and such are not given away.
    fn grow(&mut self) {
        let end = self.nodes.len() + 256;
        self.nodes.extend(
            (0..=255_u8).map(|byte| Node { base_and_byte: u32::from(byte ^ NOBODY), token: NONE }),
        );
        self.taken.resize(end, false);
        self.bases.resize(end, false);
    }

    /// A base of no other node whose entries for all `edges` are free.
    fn room(&mut self, edges: &[(u8, usize, usize)]) -> u32 {
        while self.free.last().is_some_and(|&place| self.taken[place as usize]) {
            self.free.pop();
        }
        let (first, _, _) = edges[0];
        for &place in self.free.iter().rev().take(TRIES) {
            let base = place ^ u32::from(first);
            let fits =
                |(byte, _, _): &(u8, usize, usize)| !self.taken[(base ^ u32::from(*byte)) as usize];
            let given = self.bases[base as usize] || base as u8 == NOBODY;
            if !given && edges.iter().all(fits) {
                self.bases[base as usize] = true;
                return base;
            }
        }
        // A block of its own; what it does not need is for those that come.
        let base = self.nodes.len() as u32;
        self.grow();
        self.bases[base as usize] = true;
        let needed = |place: u32| edges.iter().any(|(byte, _, _)| base ^ u32::from(*byte) == place);
        self.free.extend((base..base + 256).filter(|place| !needed(*place)));
        base
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    #[test]
    fn the_longest_of_random_tokens() {
        for case in 0..50 {
            let mut draws = Stream::new(case, "tokens").draws(0);
            let mut word = |most: usize| -> Vec<u8> {
                let len = 1 + draws.below(most);
                (0..len).map(|_| *draws.pick(&[0, 1, 97, 98, 255])).collect()
            };
            let mut tokens: Vec<Vec<u8>> = (0..300).map(|_| word(6)).collect();
            tokens.sort();
            tokens.dedup();
            let numbered: Vec<(&[u8], u32)> = tokens.iter().map(Vec::as_slice).zip(0..).collect();
            let trie = Prefixes::new(&numbered).expect("few tokens");
            for _ in 0..300 {
                let text = word(9);
                let begins = |(token, _): &&(&[u8], u32)| text.starts_with(token);
                let mut expected: Vec<_> = numbered.iter().filter(begins).collect();
                expected.sort_by_key(|(token, _)| token.len());
                let expected: Vec<u32> = expected.iter().map(|(_, id)| *id).collect();
                let mut seen = Vec::new();
                let longest = trie.longest(&text, |token| seen.push(token));
                assert_eq!(seen, expected);
                assert_eq!(longest, expected.last().copied().unwrap_or(NONE));
            }
        }
    }
}
