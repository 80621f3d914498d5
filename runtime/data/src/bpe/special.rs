//! Special tokens: texts with an id of their own, found before anything else.
//!
//! At every place the longest special token wins, and the leftmost place goes first. What lies between is plain text.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// A text that is one token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Special {
    /// As it stands in text, such as `<|endoftext|>`.
    pub text: String,
    /// Its id.
    pub id: u32,
}

/// Special tokens with the ids from `first` on. An empty text, or the same twice, is refused.
pub(crate) fn number_specials(texts: &[String], first: u32) -> Result<Vec<Special>, DataError> {
    let mut specials: Vec<Special> = Vec::with_capacity(texts.len());
    let mut known = BTreeSet::new();
    for (id, text) in (first..).zip(texts) {
        if text.is_empty() || !known.insert(text) {
            let why = format!("the special token {text:?} is empty or given twice");
            return Err(DataError::BadVocabulary { why });
        }
        specials.push(Special { text: text.clone(), id });
    }
    Ok(specials)
}

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Plain text, not empty.
    Text(&'a str),
    /// A special token.
    Special(u32),
}

/// The parts of `text`, in order; together they are the text.
pub(crate) fn pieces<'a>(text: &'a str, specials: &[Special]) -> Vec<Piece<'a>> {
    let mut found = Vec::new();
    let mut at = 0;
    // The next place of each special token at or after `at`; only those passed by are looked for again.
    let mut next: Vec<Option<usize>> = specials.iter().map(|s| text.find(&s.text)).collect();
    loop {
        for (place, special) in next.iter_mut().zip(specials) {
            if place.is_some_and(|place| place < at) {
                *place = text[at..].find(&special.text).map(|offset| at + offset);
            }
        }
        let first = next.iter().zip(specials).filter_map(|(place, special)| {
            place.map(|place| (place, std::cmp::Reverse(special.text.len()), special))
        });
        let Some((place, _, special)) = first.min_by_key(|&(place, longest, _)| (place, longest))
        else {
            break;
        };
        if place > at {
            found.push(Piece::Text(&text[at..place]));
        }
        found.push(Piece::Special(special.id));
        at = place + special.text.len();
    }
    if at < text.len() {
        found.push(Piece::Text(&text[at..]));
    }
    found
}

/// The first place from which `text` might become a special token, or a longer one, if more text follows; else its end.
pub(crate) fn unsettled(text: &str, specials: &[Special]) -> usize {
    let longest = specials.iter().map(|special| special.text.len()).max().unwrap_or(0);
    (text.len().saturating_sub(longest.saturating_sub(1))..text.len())
        .filter(|&at| text.is_char_boundary(at))
        .find(|&at| {
            specials
                .iter()
                .any(|s| s.text.len() > text.len() - at && s.text.starts_with(&text[at..]))
        })
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn special(text: &str, id: u32) -> Special {
        Special { text: text.to_owned(), id }
    }

    #[test]
    fn leftmost_then_longest() {
        let specials = [special("<|a|>", 1), special("<|a|><|a|>", 2), special("|><", 3)];
        assert_eq!(
            pieces("x<|a|><|a|><|a|>y<|a", &specials),
            [Piece::Text("x"), Piece::Special(2), Piece::Special(1), Piece::Text("y<|a")]
        );
        assert_eq!(pieces("", &specials), []);
        assert_eq!(pieces("plain", &[]), [Piece::Text("plain")]);
    }

    #[test]
    fn an_end_that_may_become_special_waits() {
        let specials = [special("<|end|>", 0), special("<|end|>!", 1)];
        assert_eq!(unsettled("text <|en", &specials), 5);
        assert_eq!(unsettled("text <|end|>", &specials), 5);
        assert_eq!(unsettled("text", &specials), 4);
        assert_eq!(unsettled("é<", &specials), 2);
    }
}
