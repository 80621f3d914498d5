//! Helpers of the tests: the shared real inputs, and random text.

use std::path::PathBuf;

use crate::random::Stream;

/// The path of a shared real input, or `None` after saying that the test was skipped.
///
/// Looked for in `shared/data` of every folder above this crate; `CS336C_SHARED` names another `shared`.
pub(crate) fn shared(relative: &str) -> Option<PathBuf> {
    let above = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("CS336C_SHARED").map(PathBuf::from);
    let found = named
        .into_iter()
        .chain(above.ancestors().map(|folder| folder.join("shared")))
        .map(|shared| shared.join("data").join(relative))
        .find(|path| path.exists());
    if found.is_none() {
        say_skipped(relative);
    }
    found
}

#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn say_skipped(relative: &str) {
    eprintln!("skipped: needs shared/data/{relative}");
}

/// Up to `most` characters of a mixture that is hard on tokenizers.
pub(crate) fn random_text(case: u64, most: usize) -> String {
    let mut draws = Stream::new(case, "random text").draws(0);
    let len = draws.below(most + 1);
    (0..len)
        .map(|_| match draws.below(10) {
            0 | 1 => ' ',
            2 => *draws.pick(&['\n', '\t', '\r', '\u{a0}', '\u{3000}', '\u{2028}', '\u{b}']),
            3 => *draws.pick(&['\'', '"', '.', '-', '_', '\u{301}', '\u{200d}', '\u{fe0f}']),
            4 => *draws.pick(&['0', '9', '²', '½', '٣', 'Ⅷ', '一']),
            5..=7 => *draws.pick(&['s', 'd', 'm', 't', 'l', 'v', 'e', 'r', 'A']),
            8 => char::from_u32(draws.below(0x3000) as u32).unwrap_or('?'),
            _ => *draws.pick(&['é', 'ß', 'ж', '漢', 'あ', '🙃', '👩', 'ǅ', 'ª', '\u{10ffff}']),
        })
        .collect()
}
