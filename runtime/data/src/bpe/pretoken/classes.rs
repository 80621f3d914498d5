//! What pre-tokenizers distinguish: the class of the character at a place of a text.
//!
//! A [`Class`] is one bit (a line break is white space too), so that sets of classes are sums and membership is one `and`. Behind the end of the text
//! the class is [`NOTHING`], which is in no set. ASCII is a table; the rest is a table of pages of 256 code points, of which most are alike,
//! filled from Unicode's general categories when the first character beyond ASCII is met.

use std::sync::LazyLock;

use unicode_general_category::{GeneralCategory, get_general_category};

/// One bit for a character, several for a set.
pub(super) type Class = u8;

/// Behind the end.
pub(super) const NOTHING: Class = 0;
/// `\p{Lu}` and `\p{Lt}`.
pub(super) const UPPER: Class = 1;
/// `\p{Ll}`.
pub(super) const LOWER: Class = 2;
/// `\p{Lm}` and `\p{Lo}`.
pub(super) const CASELESS: Class = 4;
/// `\p{M}`.
pub(super) const MARK: Class = 8;
/// `\p{N}`.
pub(super) const NUMBER: Class = 16;
/// `\s`.
pub(super) const SPACE: Class = 32;
/// `[\r\n]`; these have the bit [`SPACE`] too.
pub(super) const BREAK: Class = 64;
/// All others.
pub(super) const OTHER: Class = 128;
/// `\p{L}`.
pub(super) const LETTER: Class = UPPER | LOWER | CASELESS;

/// Class and length of the character that begins at `at`.
#[inline(always)]
#[expect(clippy::inline_always, reason = "most characters are ASCII, one load")]
pub(super) fn class_at(bytes: &[u8], at: usize) -> (Class, usize) {
    match bytes.get(at) {
        None => (NOTHING, 0),
        Some(&byte) if byte < 128 => (ASCII[usize::from(byte)], 1),
        Some(&byte) => beyond_ascii(bytes, at, byte),
    }
}

/// The end of the characters from `at` on whose classes are in `set`.
#[inline]
pub(super) fn end_of_run(bytes: &[u8], mut at: usize, set: Class) -> usize {
    loop {
        let (class, len) = class_at(bytes, at);
        if class & set == 0 {
            return at;
        }
        at += len;
    }
}

/// [`end_of_run`] of [`LETTER`], eight bytes at a time where they are ASCII.
#[inline]
pub(super) fn end_of_letters(bytes: &[u8], mut at: usize) -> usize {
    loop {
        let ascii = ascii_letters(bytes, at, CASE);
        at += ascii;
        if ascii < 8 {
            let (class, len) = class_at(bytes, at);
            if class & LETTER == 0 {
                return at;
            }
            at += len;
        }
    }
}

/// The bit that tells the ASCII letters of both cases apart: with it, `a` and `A` are alike.
pub(super) const CASE: u8 = 0x20;

/// How many of the next eight bytes are ASCII letters, from the first on: small ones, or with [`CASE`] any. 0 near the end of the text.
#[inline]
pub(super) fn ascii_letters(bytes: &[u8], at: usize, either: u8) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) else { return 0 };
    let word = u64::from_le_bytes(*chunk);
    let small = (word | (u64::from(either) * ONES)) & !HIGH;
    // The high bit of a byte says that it is at least `a`, or past `z`: seven bits and these sums do not carry over.
    let from_a = small + u64::from(0x80 - b'a') * ONES;
    let past_z = small + u64::from(0x80 - b'z' - 1) * ONES;
    let other = !(from_a & !past_z & !word) & HIGH;
    (other.trailing_zeros() / 8) as usize
}

#[inline(never)]
fn beyond_ascii(bytes: &[u8], at: usize, first: u8) -> (Class, usize) {
    // `bytes` is UTF-8, so what is missing is not met; it would read as zero.
    let next = |n: usize| bytes.get(at + n).map_or(0, |byte| usize::from(byte & 0x3f));
    let first = usize::from(first);
    let (code, len) = if first < 0xe0 {
        ((first & 0x1f) << 6 | next(1), 2)
    } else if first < 0xf0 {
        ((first & 0x0f) << 12 | next(1) << 6 | next(2), 3)
    } else {
        ((first & 0x07) << 18 | next(1) << 12 | next(2) << 6 | next(3), 4)
    };
    let table = &*TABLE;
    let page = usize::from(table.pages[code >> 8 & 0x1fff]);
    (table.kinds[page][code & 0xff], len)
}

const ASCII: [Class; 128] = {
    let mut table = [OTHER; 128];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = match byte {
            b'a'..=b'z' => LOWER,
            b'A'..=b'Z' => UPPER,
            b'0'..=b'9' => NUMBER,
            b'\r' | b'\n' => SPACE | BREAK,
            b' ' | b'\t' | 0x0b | 0x0c => SPACE,
            _ => OTHER,
        };
        byte += 1;
    }
    table
};

/// Classes by pages.
struct Table {
    /// Which kind of page, by the upper bits of the code point; as long as five bits and a byte can say.
    pages: Box<[u8; 0x2000]>,
    kinds: Vec<[Class; 256]>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table { pages: Box::new([0; 0x2000]), kinds: vec![[OTHER; 256]] };
    for page in 0..0x1100_u32 {
        // The planes from 4 to 13 are empty, the last two private.
        if (0x400..0xe00).contains(&page) || page >= 0xf00 {
            continue;
        }
        let mut kind = [OTHER; 256];
        for (class, code) in kind.iter_mut().zip(page << 8..) {
            *class = char::from_u32(code).map_or(OTHER, class_of);
        }
        let known = table.kinds.iter().position(|other| *other == kind);
        let number = known.unwrap_or_else(|| {
            table.kinds.push(kind);
            table.kinds.len() - 1
        });
        table.pages[page as usize] =
            u8::try_from(number).expect("Unicode has about 100 kinds of pages");
    }
    table
});

fn class_of(character: char) -> Class {
    use GeneralCategory as G;
    if matches!(character, '\r' | '\n') {
        return SPACE | BREAK;
    }
    if character.is_whitespace() {
        return SPACE;
    }
    match get_general_category(character) {
        G::UppercaseLetter | G::TitlecaseLetter => UPPER,
        G::LowercaseLetter => LOWER,
        G::ModifierLetter | G::OtherLetter => CASELESS,
        G::NonspacingMark | G::SpacingMark | G::EnclosingMark => MARK,
        G::DecimalNumber | G::LetterNumber | G::OtherNumber => NUMBER,
        _ => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_has_its_class() {
        let mut buffer = [0; 4];
        for character in '\0'..=char::MAX {
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            assert_eq!(class_at(bytes, 0), (class_of(character), bytes.len()), "{character:?}");
        }
        assert_eq!(class_at(b"x", 1), (NOTHING, 0));
    }

    #[test]
    fn letters_eight_at_a_time() {
        for place in 0..8 {
            for byte in 0..=255_u8 {
                let mut text = *b"qwertyAZ";
                text[place] = byte;
                for (either, letter) in
                    [(0, byte.is_ascii_lowercase()), (CASE, byte.is_ascii_alphabetic())]
                {
                    let small =
                        if either == 0 { text.map(|b| b.to_ascii_lowercase()) } else { text };
                    let mut small = small;
                    small[place] = byte;
                    let expected = if letter { 8 } else { place };
                    assert_eq!(ascii_letters(&small, 0, either), expected, "{byte} at {place}");
                }
            }
        }
        assert_eq!(ascii_letters(b"letters", 0, CASE), 0);
    }
}
