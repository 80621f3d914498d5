//! Vocabularies in tiktoken's format.
//!
//! A file of ranks has one token a line: its bytes in base64, a blank, its rank, which is its id. There are no merges in it: of all neighbours in a
//! pre-token those become one whose bytes together have the lowest rank, and a pre-token that is a token as a whole is that token.
//! The same comes out with one merge for each token, that of the last two parts which its own bytes pass through: whenever two
//! neighbours have the bytes of a token, they came about inside of these bytes, in the order in which they would alone. The
//! pattern and the ids of the special tokens are not in the file either (`cs336_compiler::vocabulary`).

use std::path::Path;

use cs336_compiler::vocabulary::special_ids;

use super::{Bpe, Pattern, Special};
use crate::error::DataError;
use crate::hash::FastMap;

/// Reads a file of ranks. Special tokens have their published ids, where the number of ranks is the published one; others come behind. An id
/// between them that nothing has stands for no text.
pub fn read_ranks(path: &Path, pattern: Pattern, specials: &[&str]) -> Result<Bpe, DataError> {
    let bytes = std::fs::read(path).map_err(|source| DataError::read(path, source))?;
    let bad = |why: String| DataError::TokenizerFile { path: path.to_owned(), why };
    let mut tokens: Vec<Box<[u8]>> = Vec::new();
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    for (number, line) in (1..).zip(lines) {
        let (token, rank) = one_line(line)
            .ok_or_else(|| bad(format!("line {number} is not a token in base64 and its rank")))?;
        if rank != tokens.len() {
            return Err(bad(format!("line {number} has the rank {rank}, not {}", tokens.len())));
        }
        tokens.push(token);
    }
    let merges = merges(&tokens);
    let ids = special_ids(specials, pattern.name(), tokens.len());
    let named = |(text, id): (&&str, u32)| Special { text: (*text).to_owned(), id };
    let specials: Vec<Special> = specials.iter().zip(ids).map(named).collect();
    for special in &specials {
        let id = special.id as usize;
        if tokens.len() <= id {
            tokens.resize(id + 1, Box::default());
        }
        tokens[id] = special.text.as_bytes().into();
    }
    let bpe = Bpe::new(tokens, merges, specials).map_err(|error| bad(error.to_string()))?;
    Ok(bpe.parted_by(pattern).whole_first())
}

/// The bytes of a token and its rank.
fn one_line(line: &[u8]) -> Option<(Box<[u8]>, usize)> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let (token, rank) = line.split_once(' ')?;
    Some((base64(token.as_bytes())?, rank.parse().ok()?))
}

/// What `text` is in base64 (RFC 4648, section 4).
fn base64(text: &[u8]) -> Option<Box<[u8]>> {
    let bare = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if !text.len().is_multiple_of(4) || bare.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(bare.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for &letter in bare {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes.into())
}

/// One merge for each token that is made by merging, in the order of ranks.
fn merges(tokens: &[Box<[u8]>]) -> Vec<(u32, u32)> {
    let ranks: FastMap<&[u8], u32> =
        (0..).zip(tokens).map(|(rank, token)| (&**token, rank)).collect();
    // The parts of a token, as places where they begin, and the ranks that they would have with the next one.
    let (mut places, mut joint) = (Vec::new(), Vec::new());
    let mut found = Vec::with_capacity(tokens.len());
    for token in tokens.iter().filter(|token| token.len() > 1) {
        let rank =
            |from: usize, to: usize| ranks.get(&token[from..to]).copied().unwrap_or(u32::MAX);
        places.clear();
        places.extend(0..=token.len());
        joint.clear();
        joint.extend((0..token.len() - 1).map(|at| rank(at, at + 2)));
        while places.len() > 3 {
            let least = joint.iter().copied().enumerate().min_by_key(|(at, rank)| (*rank, *at));
            let Some((at, _)) = least.filter(|(_, rank)| *rank != u32::MAX) else { break };
            places.remove(at + 1);
            joint.remove(at);
            if at < joint.len() {
                joint[at] = rank(places[at], places[at + 2]);
            }
            if at > 0 {
                joint[at - 1] = rank(places[at - 1], places[at + 1]);
            }
        }
        if let [start, middle, end] = places[..]
            && let (Some(&left), Some(&right)) =
                (ranks.get(&token[start..middle]), ranks.get(&token[middle..end]))
        {
            found.push((left, right));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
                << (8 * (3 - three.len()));
            for place in 0..4 {
                let letter = char::from(LETTERS[(bits >> (18 - 6 * place) & 63) as usize]);
                text.push(if place <= three.len() { letter } else { '=' });
            }
        }
        text
    }

    fn written(tokens: &[&[u8]]) -> String {
        (0..)
            .zip(tokens)
            .map(|(rank, token): (u32, _)| format!("{} {rank}\n", encoded(token)))
            .collect()
    }

    fn read(text: &str, pattern: Pattern, specials: &[&str]) -> Result<Bpe, DataError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        read_ranks(file.path(), pattern, specials)
    }

    /// What tiktoken does: the neighbours whose bytes have the lowest rank become one.
    fn slowly(tokens: &[&[u8]], word: &[u8]) -> Vec<u32> {
        let rank = |bytes: &[u8]| tokens.iter().position(|token| *token == bytes);
        if let Some(whole) = rank(word) {
            return vec![whole as u32];
        }
        let mut parts: Vec<Vec<u8>> = word.iter().map(|byte| vec![*byte]).collect();
        while let Some((_, at)) =
            (1..parts.len()).filter_map(|at| Some((rank(&parts[at - 1..=at].concat())?, at))).min()
        {
            let right = parts.remove(at);
            parts[at - 1].extend(right);
        }
        parts.iter().map(|part| rank(part).expect("a token") as u32).collect()
    }

    #[test]
    fn ids_are_those_of_merging_by_bytes() {
        let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
        let mut tokens: Vec<&[u8]> = bytes.iter().map(<[u8; 1]>::as_slice).collect();
        // `abcd` is made of `ab` and `cd`; `bcde` of nothing: its own bytes become `b` and `cd` and `e`.
        let more = ["cd", "ab", "bc", "abc", "abcd", "bcde", "aa", "aaa", "aaaa", "ababab", "xyz"];
        tokens.extend(more.iter().map(|token| token.as_bytes()));
        let bpe = read(&written(&tokens), Pattern::Gpt2, &[]).expect("a vocabulary");
        assert_eq!(bpe.unmade().len(), 3, "bcde, ababab, xyz");
        let mut words = vec![String::new()];
        for _ in 0..6 {
            let longer =
                |word: &String| ["a", "b", "c", "d"].map(|letter| format!("{word}{letter}"));
            words = words.iter().flat_map(longer).collect();
            for word in &words {
                assert_eq!(bpe.encode(word), slowly(&tokens, word.as_bytes()), "{word}");
            }
        }
        for word in ["bcde", "abcde", "xyz", "wxyz", "aaaaaaaaaaaa"] {
            assert_eq!(bpe.encode(word), slowly(&tokens, word.as_bytes()), "{word}");
        }
    }

    #[test]
    fn files_that_are_none_are_refused_by_line() {
        let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
        let tokens: Vec<&[u8]> = bytes.iter().map(<[u8; 1]>::as_slice).collect();
        let good = written(&tokens);
        assert!(read(&good, Pattern::Gpt2, &["<|endoftext|>"]).is_ok());
        for (from, to, why) in [
            ("AA== 0", "AA= 0", "line 1"),
            ("AQ== 1", "AQ== 7", "line 2"),
            ("/w== 255\n", "", "0xff"),
            ("Ag==", "A!==", "line 3"),
        ] {
            let error = read(&good.replacen(from, to, 1), Pattern::Gpt2, &[]).expect_err("refused");
            assert_eq!(error.code(), "E0609");
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}
