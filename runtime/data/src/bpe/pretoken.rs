//! GPT-2's pre-tokenizer: text to the pieces inside which BPE merges. It takes any text and gives slices that, put
//! together, are that text.
//!
//! The pieces are the matches of
//!
//! ```text
//! '(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
//! ```
//!
//! (Radford et al. 2019, `encoder.py`), found by hand: every character is a letter, a number, white space or other; the
//! first character of a piece, or the second after a space, says which run it is. Only two things look ahead. A run of
//! white space gives its last character to what follows, and an apostrophe looks for `s d m t ll ve re`. So a piece is
//! settled by the text up to at most `LOOKAHEAD` bytes behind it, and white space after something else always
//! begins a piece: `splits` cuts there without changing the pieces.

use unicode_general_category::{GeneralCategory, get_general_category};

/// How many bytes after its end may decide where a piece ends.
pub(crate) const LOOKAHEAD: usize = 3;

/// The pieces of `text`.
pub fn pretokens(text: &str) -> Pretokens<'_> {
    Pretokens { text, at: 0 }
}

/// `text` in parts of about `size` bytes with the same pieces as the whole. Text without spaces stays in one part.
pub(crate) fn splits(text: &str, size: usize) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let mut start = 0;
    while text.len() - start > size {
        let cut = (start + size..bytes.len())
            .find(|&at| matches!(bytes[at], b' ' | b'\n') && bytes[at - 1].is_ascii_graphic());
        let Some(cut) = cut else { break };
        parts.push(&text[start..cut]);
        start = cut;
    }
    if start < text.len() {
        parts.push(&text[start..]);
    }
    parts
}

/// Iterator over the pieces.
#[derive(Debug, Clone)]
pub struct Pretokens<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Iterator for Pretokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.at = end_of_piece(self.text, start)?;
        Some(&self.text[start..self.at])
    }
}

/// What the pattern distinguishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Letter,
    Number,
    Space,
    Other,
}

fn end_of_piece(text: &str, start: usize) -> Option<usize> {
    let (class, len) = class_at(text, start)?;
    let first = text.as_bytes()[start];
    if first == b'\'' {
        let suffix = contraction(&text.as_bytes()[start + 1..]);
        if suffix > 0 {
            return Some(start + 1 + suffix);
        }
    }
    if first == b' '
        && let Some((next, next_len)) = class_at(text, start + 1)
        && next != Class::Space
    {
        return Some(end_of_run(text, start + 1 + next_len, next));
    }
    if class != Class::Space {
        return Some(end_of_run(text, start + len, class));
    }
    Some(end_of_space(text, start + len))
}

/// Bytes of the suffix after an apostrophe, 0 if there is none.
fn contraction(after: &[u8]) -> usize {
    match after {
        [b's' | b'd' | b'm' | b't', ..] => 1,
        [b'l', b'l', ..] | [b'v', b'e', ..] | [b'r', b'e', ..] => 2,
        _ => 0,
    }
}

fn end_of_run(text: &str, mut at: usize, class: Class) -> usize {
    while let Some((next, len)) = class_at(text, at)
        && next == class
    {
        at += len;
    }
    at
}

/// The end of white space whose first character ends at `at`: the last character is left to what follows, if there are
/// others before it and something follows.
fn end_of_space(text: &str, mut at: usize) -> usize {
    let mut before_last = None;
    while let Some((next, len)) = class_at(text, at) {
        if next != Class::Space {
            return before_last.unwrap_or(at);
        }
        before_last = Some(at);
        at += len;
    }
    at
}

/// Class and length of the character at `at`, which is a boundary.
fn class_at(text: &str, at: usize) -> Option<(Class, usize)> {
    let byte = *text.as_bytes().get(at)?;
    if byte < 128 {
        return Some((ASCII[usize::from(byte)], 1));
    }
    let character = text[at..].chars().next()?;
    Some((class_of(character), character.len_utf8()))
}

const ASCII: [Class; 128] = {
    let mut table = [Class::Other; 128];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b' ' | b'\t'..=b'\r' => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    table
};

fn class_of(character: char) -> Class {
    use GeneralCategory as G;
    if character.is_whitespace() {
        return Class::Space;
    }
    match get_general_category(character) {
        G::UppercaseLetter
        | G::LowercaseLetter
        | G::TitlecaseLetter
        | G::ModifierLetter
        | G::OtherLetter => Class::Letter,
        G::DecimalNumber | G::LetterNumber | G::OtherNumber => Class::Number,
        _ => Class::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const PATTERN: &str =
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    fn by_regex<'a>(regex: &fancy_regex::Regex, text: &'a str) -> Vec<&'a str> {
        regex.find_iter(text).map(|found| found.expect("no backtracking limit").as_str()).collect()
    }

    #[test]
    fn as_published() {
        let pieces = |text| pretokens(text).collect::<Vec<_>>();
        assert_eq!(
            pieces("Hello, we've  got 12\n\n apples's!"),
            ["Hello", ",", " we", "'ve", " ", " got", " 12", "\n\n", " apples", "'s", "!"]
        );
        assert_eq!(pieces(""), Vec::<&str>::new());
        assert_eq!(pieces("   "), ["   "]);
        assert_eq!(pieces("\u{a0}x"), ["\u{a0}", "x"]);
    }

    #[test]
    fn agrees_with_the_pattern_on_all_short_strings() {
        let regex = fancy_regex::Regex::new(PATTERN).expect("a valid pattern");
        let letters = [" ", "\n", "'", "l", "s", "e", "v", "7", "!", "é", "\u{2003}"];
        let mut texts = vec![String::new()];
        for _ in 0..5 {
            let longer: Vec<String> =
                texts.iter().flat_map(|t| letters.iter().map(move |l| format!("{t}{l}"))).collect();
            for text in &longer {
                assert_eq!(pretokens(text).collect::<Vec<_>>(), by_regex(&regex, text), "{text:?}");
            }
            texts = longer;
        }
    }

    #[test]
    fn agrees_with_the_pattern_on_random_unicode() {
        let regex = fancy_regex::Regex::new(PATTERN).expect("a valid pattern");
        for case in 0..3000 {
            let text = crate::witness::random_text(case, 40);
            assert_eq!(pretokens(&text).collect::<Vec<_>>(), by_regex(&regex, &text), "{text:?}");
        }
    }

    #[test]
    fn parts_have_the_pieces_of_the_whole() {
        for case in 0..500 {
            let text = crate::witness::random_text(case, 120);
            let size = 1 + Stream::new(case, "size").below(0, 0, 30) as usize;
            let parts = splits(&text, size);
            assert_eq!(parts.concat(), text);
            let of_parts: Vec<&str> = parts.iter().flat_map(|part| pretokens(part)).collect();
            assert_eq!(of_parts, pretokens(&text).collect::<Vec<_>>(), "{text:?} by {size}");
        }
    }
}
