//! The ids of special tokens in published vocabularies: what their files of ranks do not say. Takes names, gives ids; no files.

/// The pattern's name in programs, how many ranks the published file has, and the ids of its special tokens (tiktoken, `openai_public.py`).
const PUBLISHED: &[(&str, usize, &[(&str, u32)])] = &[
    ("gpt2", 50_256, &[("<|endoftext|>", 50_256)]),
    (
        "cl100k",
        100_256,
        &[
            ("<|endoftext|>", 100_257),
            ("<|fim_prefix|>", 100_258),
            ("<|fim_middle|>", 100_259),
            ("<|fim_suffix|>", 100_260),
            ("<|endofprompt|>", 100_276),
        ],
    ),
    ("o200k", 199_998, &[("<|endoftext|>", 199_999), ("<|endofprompt|>", 200_018)]),
];

/// The ids of `specials` behind `ranks` ranks: the published ones, if this is the number of ranks of the published vocabulary with that
/// pattern; the ids behind those for all others.
pub fn special_ids(specials: &[&str], pattern: &str, ranks: usize) -> Vec<u32> {
    let published = PUBLISHED
        .iter()
        .find(|(name, count, _)| *name == pattern && *count == ranks)
        .map_or(&[][..], |(_, _, specials)| *specials);
    let known = |text: &str| published.iter().find(|(name, _)| *name == text).map(|(_, id)| *id);
    let mut next = specials
        .iter()
        .filter_map(|text| known(text))
        .max()
        .map_or(u32::try_from(ranks).unwrap_or(u32::MAX), |last| last + 1);
    specials
        .iter()
        .map(|text| {
            known(text).unwrap_or_else(|| {
                let id = next;
                next = next.saturating_add(1);
                id
            })
        })
        .collect()
}

/// How many ids there are then: one more than the last.
pub fn vocab_size(specials: &[&str], pattern: &str, ranks: usize) -> usize {
    let ids = special_ids(specials, pattern, ranks);
    ids.iter().map(|id| *id as usize + 1).max().unwrap_or(0).max(ranks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ids_and_the_next_ones() {
        let names = ["<|endoftext|>", "<|mine|>", "<|endofprompt|>"];
        assert_eq!(special_ids(&names, "cl100k", 100_256), [100_257, 100_277, 100_276]);
        assert_eq!(special_ids(&names, "cl100k", 300), [300, 301, 302]);
        assert_eq!(vocab_size(&names[..1], "o200k", 199_998), 200_000);
        assert_eq!(vocab_size(&[], "gpt2", 50_256), 50_256);
    }
}
