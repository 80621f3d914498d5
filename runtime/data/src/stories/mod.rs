//! A seeded writer of small stories: a corpus for experiments when there is none to read.
//!
//! A story takes a cast (a child, a friend, a grown-up, an animal, things, places; see `words`) and one of the
//! `plots`, which are templates. What a model can learn from them reaches from spelling over pronouns that fit names and
//! animals that make their own sounds to things that keep their colour from the first sentence to the last and
//! endings that follow from beginnings. Story `n` of a seed is always the same, whatever the count.
//!
//! Templates: `{slot}` is a word of the cast, `{Slot}` the same with a capital, `[one|two|]` one of the alternatives,
//! which may be nested or empty. `a` before a vowel becomes `an`.

mod plots;
mod words;

use rayon::prelude::*;

use crate::documents::{Document, Documents};
use crate::error::DataError;
use crate::random::{Draws, Stream};

/// The most stories that are written: about 4 GB of text.
pub const MOST_STORIES: u64 = 10_000_000;

/// The first `count` stories of `seed`; at least one, at most [`MOST_STORIES`].
pub fn stories(count: u64, seed: u64) -> Result<Documents, DataError> {
    match count {
        0 => Err(DataError::EmptyCorpus { what: "`stories(count = 0)`".to_owned() }),
        1..=MOST_STORIES => Ok(written(count, seed)),
        _ => Err(DataError::TooManyStories { count, most: MOST_STORIES }),
    }
}

/// The stories, in order, written in parallel.
pub(crate) fn written(count: u64, seed: u64) -> Documents {
    let stream = Stream::new(seed, "stories");
    let story = |number: u64| Document {
        text: write(&mut stream.draws(number)),
        path: format!("stories/{seed}/{number}").into(),
    };
    Documents::new((0..count).into_par_iter().map(story).collect())
}

fn write(draws: &mut Draws) -> String {
    let cast = words::Cast::draw(draws);
    let plot = draws.pick(plots::PLOTS);
    let opening = *draws.pick(plots::OPENINGS);
    let told = [opening, plot.middle, plot.ending].concat();
    let detail = if draws.chance(50) { fitting(plots::DETAILS, &told, draws) } else { "" };
    let closing = fitting(plots::CLOSINGS, &told, draws);
    let mut text = String::with_capacity(700);
    for part in [opening, detail, plot.middle, plot.ending, closing] {
        if !text.is_empty() && !text.ends_with(' ') {
            text.push(' ');
        }
        expand(part, &cast, draws, &mut text);
    }
    text.truncate(text.trim_end().len());
    text
}

/// One of the sentences that fit what is told besides.
fn fitting(sentences: &[plots::Aside], told: &str, draws: &mut Draws) -> &'static str {
    let told = told.to_ascii_lowercase();
    let tells = |slot: &&'static str| told.contains(&format!("{{{slot}}}"));
    let fits =
        |aside: &&plots::Aside| aside.needs.iter().all(tells) && !aside.shuns.iter().any(tells);
    let fitting: Vec<&plots::Aside> = sentences.iter().filter(fits).collect();
    if fitting.is_empty() { "" } else { draws.pick(&fitting).text }
}

/// Appends what a template becomes.
fn expand(template: &str, cast: &words::Cast, draws: &mut Draws, text: &mut String) {
    let mut rest = template;
    while let Some(at) = rest.find(['{', '[']) {
        push(&rest[..at], text);
        let (inside, after) = enclosed(&rest[at..]);
        if rest.as_bytes()[at] == b'{' {
            push(&cast.word(inside), text);
        } else {
            let alternatives = alternatives(inside);
            expand(draws.pick::<&str>(&alternatives), cast, draws, text);
        }
        rest = after;
    }
    push(rest, text);
}

/// Appends a piece; an article before it adapts.
fn push(piece: &str, text: &mut String) {
    let vowel = piece.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O', 'U']);
    if vowel && (text.ends_with(" a ") || text.ends_with(" A ") || *text == *"A ") {
        text.pop();
        text.push_str("n ");
    }
    // An empty alternative leaves two spaces.
    let piece = if text.ends_with(' ') { piece.trim_start_matches(' ') } else { piece };
    text.push_str(piece);
}

/// What stands between the bracket that `text` begins with and its partner, and what comes behind.
fn enclosed(text: &str) -> (&str, &str) {
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[1..at], &text[at + 1..]);
        }
    }
    (&text[1..], "")
}

/// The parts between the bars that are not inside inner brackets.
fn alternatives(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'[' => depth += 1,
            b']' => depth -= 1,
            b'|' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn stories_are_well_formed_and_differ() {
        let stories = written(3000, 1);
        for document in &stories {
            let text = &document.text;
            assert!(!text.contains(['{', '}', '[', ']', '|']), "{text}");
            assert!(!text.contains("  ") && !text.contains(" ."), "{text}");
            assert!(text.ends_with(['.', '!', '"']) && text.is_ascii(), "{text}");
            assert_eq!(text.matches('"').count() % 2, 0, "{text}");
            for vowel in ["a", "e", "i", "o", "u"] {
                assert!(!text.contains(&format!(" a {vowel}")), "{text}");
            }
        }
        let distinct: BTreeSet<&str> = stories.texts().into_iter().collect();
        assert_eq!(distinct.len(), 3000);
        let mean = stories.bytes() / 3000;
        assert!((250..500).contains(&mean), "{mean} bytes");
    }

    #[test]
    fn a_story_depends_on_its_number_and_seed_only() {
        let few = written(10, 1);
        let many = written(50, 1);
        assert_eq!(few.texts(), many.texts()[..10]);
        assert_ne!(few.texts(), written(10, 2).texts());
    }

    #[test]
    fn none_and_too_many_are_refused() {
        assert_eq!(stories(0, 1).expect_err("none").code(), "E0604");
        assert_eq!(stories(u64::MAX, 1).expect_err("too many").code(), "E0614");
    }

    #[test]
    fn every_plot_uses_slots_that_exist() {
        let cast = words::Cast::draw(&mut Stream::new(0, "test").draws(0));
        let plots = plots::PLOTS.iter().flat_map(|plot| [plot.middle, plot.ending]);
        let asides = plots::DETAILS.iter().chain(plots::CLOSINGS).map(|aside| aside.text);
        for template in plots.chain(asides).chain(plots::OPENINGS.iter().copied()) {
            for slot in template.split('{').skip(1).map(enclosed_slot) {
                assert!(cast.has(slot), "{{{slot}}} in {template}");
            }
            let opened = template.matches('[').count();
            assert_eq!(opened, template.matches(']').count(), "{template}");
        }
    }

    fn enclosed_slot(rest: &str) -> &str {
        rest.split('}').next().unwrap_or("")
    }

    /// The corpus is worth learning: what comes before a word says much about it, but not all.
    #[test]
    fn words_are_neither_random_nor_certain() {
        let text = written(4000, 1).join();
        let words: Vec<&str> = text.split(' ').collect();
        let entropy = |context: usize| {
            let mut counts: BTreeMap<&[&str], BTreeMap<&str, f64>> = BTreeMap::new();
            for window in words.windows(context + 1) {
                let next = counts.entry(&window[..context]).or_default();
                *next.entry(window[context]).or_default() += 1.0;
            }
            let nats = counts.values().map(|next| {
                let total: f64 = next.values().sum();
                next.values().map(|count| -count * (count / total).ln()).sum::<f64>()
            });
            nats.sum::<f64>() / (words.len() - context) as f64
        };
        let (none, two) = (entropy(0), entropy(2));
        assert!(none > 5.0, "{none} nats");
        assert!(two < 0.5 * none && two > 0.3, "{two} of {none} nats");
    }
}
