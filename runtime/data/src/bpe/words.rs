//! A memory of words and what they become.
//!
//! Text repeats its words, so most of the work of encoding is to find that a word was met before. Words of up to 15 bytes are one 128-bit number
//! together with their length, and stand in sets of two beside their ids, so that finding one takes two comparisons and one line of the cache; words of
//! up to 31 bytes are two such numbers. A new word takes the place of the one of its set that was met less lately. What does not fit beside the word (more
//! ids) lies in a list, and once that is large all is forgotten.

/// The longest word that is remembered.
pub(super) const LONGEST: usize = 31;

/// See the module.
#[derive(Debug)]
pub(super) struct Words {
    short: Box<[[Slot<1, 4>; 2]]>,
    /// Empty until the first such word.
    long: Box<[[Slot<2, 8>; 2]]>,
    more: Vec<u32>,
}

/// A word of up to `16 K - 1` bytes with its ids.
#[derive(Debug, Clone, Copy)]
struct Slot<const K: usize, const N: usize> {
    /// The bytes, zeroes, and the length as the last byte. No word is all zeroes.
    key: [u128; K],
    /// Up to `N - 1` ids, or where they begin in the list; then their number.
    ids: [u32; N],
}

/// Sets of short words: 2 MB.
const SHORT_BITS: u32 = 15;
/// Sets of longer words: 2 MB.
const LONG_BITS: u32 = 14;
/// As many ids are listed at most.
const MOST: usize = 1 << 20;

impl Words {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        let empty = Slot { key: [0], ids: [0; 4] };
        Self {
            short: vec![[empty; 2]; 1 << SHORT_BITS].into(),
            long: Box::default(),
            more: Vec::new(),
        }
    }

    /// Appends the ids of the word of `bytes` from `start` to `end`, at most [`LONGEST`] bytes; what is not known is asked of `merge`, which appends
    /// them.
    #[inline]
    pub(super) fn encode(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        ids: &mut Vec<u32>,
        merge: impl FnOnce(&mut Vec<u32>),
    ) {
        if end - start < 16 {
            let key = [masked(bytes, start, end - start) | length(end - start)];
            let place = hash(key[0]) >> (64 - SHORT_BITS);
            look_up(&mut self.short[place as usize], key, &mut self.more, ids, merge);
        } else {
            self.encode_long(bytes, start, end, ids, merge);
        }
        if self.more.len() > MOST {
            *self = Self::new();
        }
    }

    fn encode_long(
        &mut self,
        bytes: &[u8],
        start: usize,
        end: usize,
        ids: &mut Vec<u32>,
        merge: impl FnOnce(&mut Vec<u32>),
    ) {
        if self.long.is_empty() {
            let empty = Slot { key: [0; 2], ids: [0; 8] };
            self.long = vec![[empty; 2]; 1 << LONG_BITS].into();
        }
        let first = masked(bytes, start, 16);
        let second = masked(bytes, start + 16, end - start - 16) | length(end - start);
        let place = hash(first ^ second.rotate_left(61)) >> (64 - LONG_BITS);
        look_up(&mut self.long[place as usize], [first, second], &mut self.more, ids, merge);
    }
}

#[inline]
fn look_up<const K: usize, const N: usize>(
    set: &mut [Slot<K, N>; 2],
    key: [u128; K],
    more: &mut Vec<u32>,
    ids: &mut Vec<u32>,
    merge: impl FnOnce(&mut Vec<u32>),
) {
    if set[0].key != key {
        // The set has the word that was met last in the first place.
        set.swap(0, 1);
        if set[0].key != key {
            let slot = &mut set[0];
            let before = ids.len();
            merge(ids);
            let new = &ids[before..];
            slot.key = key;
            slot.ids[N - 1] = new.len() as u32;
            if new.len() < N {
                slot.ids[..new.len()].copy_from_slice(new);
            } else {
                slot.ids[0] = more.len() as u32;
                more.extend_from_slice(new);
            }
            return;
        }
    }
    let slot = &set[0];
    let count = slot.ids[N - 1] as usize;
    if count == 1 {
        ids.push(slot.ids[0]);
    } else if count < N {
        ids.extend_from_slice(&slot.ids[..count]);
    } else {
        let start = slot.ids[0] as usize;
        ids.extend_from_slice(&more[start..start + count]);
    }
}

/// `len` bytes from `start` on, at most 16, as a number whose other bytes are zero.
#[inline]
fn masked(bytes: &[u8], start: usize, len: usize) -> u128 {
    let whole = match bytes[start..].first_chunk::<16>() {
        Some(chunk) => u128::from_le_bytes(*chunk),
        None => {
            let mut padded = [0; 16];
            padded[..bytes.len() - start].copy_from_slice(&bytes[start..]);
            u128::from_le_bytes(padded)
        }
    };
    if len >= 16 { whole } else { whole & !(u128::MAX << (8 * len)) }
}

#[inline]
fn length(len: usize) -> u128 {
    (len as u128) << 120
}

#[inline]
fn hash(key: u128) -> u64 {
    let low = key as u64 ^ 0x2437_6a88_85a3_08d3;
    let high = (key >> 64) as u64 ^ 0x1319_8a2e_0370_7345;
    let product = u128::from(low) * u128::from(high);
    (product >> 64) as u64 ^ product as u64
}
