//! Parting a corpus into training and held-out text.
//!
//! [`Holdout::Valid`] draws documents: each by its own number under a seed, so that a document's side does not depend on
//! the others. [`Holdout::Tail`] takes the end of all texts together, cut between two characters, as nanoGPT does for
//! Shakespeare; the document that holds the cut is parted. Nothing is lost and nothing is on both sides.

use serde::{Deserialize, Serialize};

use crate::documents::{Document, Documents};
use crate::error::DataError;
use crate::random::Stream;

/// How to part; shares are in 0..1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holdout {
    /// About this share of the documents, drawn by the seed.
    Valid {
        /// How many of all documents.
        share: f64,
        /// Another seed draws other documents.
        seed: u64,
    },
    /// This share of the characters, from the end.
    Tail {
        /// How many of all characters.
        share: f64,
    },
}

/// The two sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// To learn from.
    pub train: Documents,
    /// To measure on.
    pub valid: Documents,
}

/// Parts `documents`. A side without text is an error: there would be nothing to learn from, or nothing to measure on.
pub fn hold_out(documents: Documents, holdout: Holdout) -> Result<Split, DataError> {
    let split = match holdout {
        Holdout::Valid { share, seed } => draw(documents, share, seed),
        Holdout::Tail { share } => cut(documents, share),
    };
    for (side, name) in [(&split.train, "the training part"), (&split.valid, "the held-out part")] {
        if side.is_empty() {
            return Err(DataError::EmptyCorpus { what: name.to_owned() });
        }
    }
    Ok(split)
}

fn draw(documents: Documents, share: f64, seed: u64) -> Split {
    let stream = Stream::new(seed, "holdout");
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    for (number, document) in (0..).zip(documents) {
        let side = if stream.unit(number, 0) < share { &mut valid } else { &mut train };
        side.push(document);
    }
    // A small corpus may leave a side empty by chance; it then gets the document whose draw was nearest to it.
    if train.len() + valid.len() > 1 && share > 0.0 && share < 1.0 {
        let drawn = |number: &usize| stream.unit(*number as u64, 0);
        let order = |a: &usize, b: &usize| drawn(a).total_cmp(&drawn(b));
        if valid.is_empty()
            && let Some(nearest) = (0..train.len()).min_by(order)
        {
            valid.push(train.remove(nearest));
        } else if train.is_empty()
            && let Some(nearest) = (0..valid.len()).max_by(order)
        {
            train.push(valid.remove(nearest));
        }
    }
    Split { train: Documents::new(train), valid: Documents::new(valid) }
}

fn cut(documents: Documents, share: f64) -> Split {
    let total = documents.chars();
    let mut left = (total as f64 * (1.0 - share)).clamp(0.0, total as f64) as usize;
    let (mut train, mut valid) = (Vec::new(), Vec::new());
    for Document { mut text, path } in documents {
        let cut = text.char_indices().nth(left).map_or(text.len(), |(at, _)| at);
        left -= text[..cut].chars().count();
        let tail = text.split_off(cut);
        if !text.is_empty() {
            train.push(Document { text, path: path.clone() });
        }
        if !tail.is_empty() {
            valid.push(Document { text: tail, path });
        }
    }
    Split { train: Documents::new(train), valid: Documents::new(valid) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(texts: &[&str]) -> Documents {
        Documents::new(
            texts.iter().map(|t| Document { text: (*t).to_owned(), path: "x".into() }).collect(),
        )
    }

    #[test]
    fn the_tail_is_cut_between_characters() {
        let split = |texts: &[&str], share| {
            hold_out(documents(texts), Holdout::Tail { share }).expect("two sides")
        };
        let one = split(&["äöüäöüäöüä"], 0.1);
        assert_eq!((one.train.texts(), one.valid.texts()), (vec!["äöüäöüäöü"], vec!["ä"]));
        let three = split(&["abc", "def", "ghij"], 0.5);
        assert_eq!(three.train.texts(), ["abc", "de"]);
        assert_eq!(three.valid.texts(), ["f", "ghij"]);
        let at_a_border = split(&["abc", "def"], 0.5);
        assert_eq!(at_a_border.valid.texts(), ["def"]);
    }

    #[test]
    fn drawn_documents_are_about_the_share() {
        let texts: Vec<String> = (0..4000).map(|n| n.to_string()).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let split = |seed| {
            hold_out(documents(&texts), Holdout::Valid { share: 0.05, seed }).expect("two sides")
        };
        let one = split(1);
        assert!((150..250).contains(&one.valid.len()), "{}", one.valid.len());
        assert_eq!(one.train.len() + one.valid.len(), 4000);
        assert_eq!(one, split(1));
        assert_ne!(one.valid, split(2).valid);
    }

    #[test]
    fn few_documents_still_give_two_sides() {
        for seed in 0..50 {
            let holdout = Holdout::Valid { share: 0.01, seed };
            let split = hold_out(documents(&["a", "b", "c"]), holdout).expect("two sides");
            assert_eq!(split.train.len() + split.valid.len(), 3);
        }
        let alone = hold_out(documents(&["a"]), Holdout::Valid { share: 0.5, seed: 0 });
        assert_eq!(alone.expect_err("one side").code(), "E0604");
        let nothing = hold_out(documents(&["abc"]), Holdout::Tail { share: 0.0 });
        assert_eq!(nothing.expect_err("one side").code(), "E0604");
    }
}
