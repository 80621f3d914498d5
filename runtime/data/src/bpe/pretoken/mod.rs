//! Pre-tokenizers: text to the pieces inside which BPE merges. Any text is taken; the pieces are slices that, put together, are that text.
//!
//! The pieces are the matches of one of three published [`Pattern`]s, found by hand (`rules`): every character has a class (`classes`), and the
//! first one or two of a piece say which run it is. No pattern looks back, and in all of them white space after a
//! letter or a number begins a piece, and so does a blank after anything that is not white space: there `splits` cuts without
//! changing the pieces, and up to there the pieces of a text that goes on are [`settled`].

mod classes;
mod rules;

use serde::{Deserialize, Serialize};

use classes::{LETTER, NUMBER, SPACE, class_at};

/// Which pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// GPT-2's and r50k's (Radford et al. 2019, `encoder.py`).
    #[default]
    Gpt2,
    /// cl100k's, as tiktoken 0.8 and later have it.
    Cl100k,
    /// o200k's.
    O200k,
}

impl Pattern {
    /// The name in a program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Cl100k => "cl100k",
            Self::O200k => "o200k",
        }
    }

    /// The pattern by its name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Gpt2, Self::Cl100k, Self::O200k].into_iter().find(|pattern| pattern.name() == name)
    }

    /// The pattern that a file spells out; spellings are known word by word.
    pub fn spelled(text: &str) -> Option<Self> {
        let mut known = SPELLINGS.iter().filter(|(_, spellings)| spellings.contains(&text));
        known.next().map(|(pattern, _)| *pattern)
    }

    /// The pattern as a regular expression, as others write it down.
    pub fn spelling(self) -> &'static str {
        match self {
            Self::Gpt2 => GPT2,
            Self::Cl100k => CL100K,
            Self::O200k => O200K,
        }
    }

    /// Calls `piece` with the start and the end of each piece of `text`, in order.
    #[inline]
    pub(crate) fn each(self, text: &str, piece: impl FnMut(usize, usize)) {
        match self {
            Self::Gpt2 => each_by(text, rules::gpt2, piece),
            Self::Cl100k => each_by(text, rules::cl100k, piece),
            Self::O200k => each_by(text, rules::o200k, piece),
        }
    }
}

/// The pieces of `text`.
pub fn pretokens(text: &str, pattern: Pattern) -> Vec<&str> {
    let mut pieces = Vec::new();
    pattern.each(text, |start, end| pieces.push(&text[start..end]));
    pieces
}

/// `text` in parts of about `size` bytes with the same pieces as the whole. Text without spaces stays in one part.
pub(crate) fn splits(text: &str, size: usize) -> Vec<&str> {
    let bytes = text.as_bytes();
    let mut parts = Vec::new();
    let mut start = 0;
    while text.len() - start > size {
        let cut = (start + size..bytes.len()).find(|&at| match bytes[at] {
            b' ' => bytes[at - 1].is_ascii_graphic(),
            b'\n' => bytes[at - 1].is_ascii_alphanumeric(),
            _ => false,
        });
        let Some(cut) = cut else { break };
        parts.push(&text[start..cut]);
        start = cut;
    }
    if start < text.len() {
        parts.push(&text[start..]);
    }
    parts
}

/// The last place at which `text` can be cut whatever follows it; 0 if there is none.
pub(crate) fn settled(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut behind = text.char_indices().rev();
    let Some((mut next, _)) = behind.next() else { return 0 };
    for (at, _) in behind {
        let (class, _) = class_at(bytes, at);
        let (after, _) = class_at(bytes, next);
        let blank = bytes[next] == b' ' && class & SPACE == 0;
        if blank || after & SPACE != 0 && class & (LETTER | NUMBER) != 0 {
            return next;
        }
        next = at;
    }
    0
}

#[inline]
fn each_by(text: &str, end: impl Fn(&[u8], usize) -> usize, mut piece: impl FnMut(usize, usize)) {
    let bytes = text.as_bytes();
    let mut start = 0;
    while start < bytes.len() {
        let next = end(bytes, start);
        piece(start, next);
        start = next;
    }
}

const GPT2: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const CL100K: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What each pattern is spelled like in published files.
const SPELLINGS: &[(Pattern, &[&str])] = &[
    (
        Pattern::Gpt2,
        &[
            GPT2,
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"'s|'t|'re|'ve|'m|'ll|'d| ?[\p{L}]+| ?[\p{N}]+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
            r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
        ],
    ),
    (Pattern::Cl100k, &[CL100K]),
    (Pattern::O200k, &[O200K]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    const ALL: [Pattern; 3] = [Pattern::Gpt2, Pattern::Cl100k, Pattern::O200k];

    /// The spelling as the pattern's author runs it.
    fn regex(pattern: Pattern) -> fancy_regex::Regex {
        fancy_regex::Regex::new(pattern.spelling()).expect("a valid pattern")
    }

    fn by_regex<'a>(regex: &fancy_regex::Regex, text: &'a str) -> Vec<&'a str> {
        regex.find_iter(text).map(|found| found.expect("no backtracking limit").as_str()).collect()
    }

    #[test]
    fn as_published() {
        let text = "Hello, we've  got 12345\n\n  Apples'S!\n ";
        assert_eq!(
            pretokens(text, Pattern::Gpt2),
            [
                "Hello", ",", " we", "'ve", " ", " got", " 12345", "\n\n ", " Apples", "'", "S",
                "!", "\n "
            ]
        );
        assert_eq!(
            pretokens(text, Pattern::Cl100k),
            [
                "Hello", ",", " we", "'ve", " ", " got", " ", "123", "45", "\n\n", " ", " Apples",
                "'S", "!\n", " "
            ]
        );
        assert_eq!(
            pretokens("getHTTPCode'll漢字ABC a/\n", Pattern::O200k),
            ["get", "HTTPCode'll", "漢字", "ABC", " a", "/\n"]
        );
        for pattern in ALL {
            assert_eq!(pretokens("", pattern), Vec::<&str>::new());
            assert_eq!(pretokens("   ", pattern), ["   "]);
            assert_eq!(Pattern::spelled(pattern.spelling()), Some(pattern));
        }
        assert_eq!(pretokens("\u{a0}x", Pattern::Gpt2), ["\u{a0}", "x"]);
        assert_eq!(ALL.map(|pattern| Pattern::named(pattern.name())), ALL.map(Some));
    }

    #[test]
    fn agrees_with_the_pattern_on_all_short_strings() {
        let sets: [(Pattern, &[&str]); 3] = [
            (Pattern::Gpt2, &[" ", "\n", "'", "l", "s", "e", "v", "7", "!", "é", "\u{2003}"]),
            (Pattern::Cl100k, &[" ", "\n", "\t", "'", "L", "s", "7", "!", "é", "\u{301}", "ſ"]),
            (Pattern::O200k, &[" ", "\n", "'", "L", "l", "S", "7", "/", "\u{301}", "漢", "ǅ"]),
        ];
        for (pattern, letters) in sets {
            let regex = regex(pattern);
            let mut texts = vec![String::new()];
            for _ in 0..5 {
                let longer =
                    |t: &String| letters.iter().map(move |l| format!("{t}{l}")).collect::<Vec<_>>();
                texts = texts.iter().flat_map(longer).collect();
                for text in &texts {
                    assert_eq!(pretokens(text, pattern), by_regex(&regex, text), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn agrees_with_the_pattern_on_random_unicode() {
        for pattern in ALL {
            let regex = regex(pattern);
            for case in 0..3000 {
                let text = crate::witness::random_text(case, 40);
                assert_eq!(pretokens(&text, pattern), by_regex(&regex, &text), "{text:?}");
            }
        }
    }

    #[test]
    fn parts_have_the_pieces_of_the_whole() {
        for pattern in ALL {
            for case in 0..500 {
                let text = crate::witness::random_text(case, 120);
                let size = 1 + Stream::new(case, "size").below(0, 0, 30) as usize;
                let parts = splits(&text, size);
                assert_eq!(parts.concat(), text);
                let of_parts: Vec<&str> =
                    parts.iter().flat_map(|part| pretokens(part, pattern)).collect();
                assert_eq!(of_parts, pretokens(&text, pattern), "{text:?} by {size}");
            }
        }
    }

    #[test]
    fn what_is_settled_does_not_change() {
        for pattern in ALL {
            for case in 0..500 {
                let text = crate::witness::random_text(case, 60);
                let whole = pretokens(&text, pattern);
                for end in (0..=text.len()).filter(|end| text.is_char_boundary(*end)) {
                    let cut = settled(&text[..end]);
                    let first = pretokens(&text[..cut], pattern);
                    assert_eq!(first, whole[..first.len()], "{text:?} until {end}");
                }
            }
        }
        assert_eq!(settled("a b c"), 3);
        assert_eq!(settled("漢字 "), 6);
        assert_eq!(settled("!\n"), 0);
    }
}
