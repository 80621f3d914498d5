//! Tables of words: what other languages write, and what is meant here.

/// First words of items in other languages, with what to write here.
pub(super) const FOREIGN_WORDS: [(&str, &str); 35] = [
    ("import", "names of other files and modules come by `use std.models { llama }`"),
    ("from", "names of other files and modules come by `use std.models { llama }`"),
    ("include", "names of other files and modules come by `use \"./other.cs336\" { a, b }`"),
    ("require", "names of other files and modules come by `use \"./other.cs336\" { a, b }`"),
    ("export", "every item of a file can be used by others; drop the word"),
    ("pub", "every item of a file can be used by others; drop the word"),
    ("def", "a function is written `fn f(x) = ..`"),
    ("function", "a function is written `fn f(x) = ..`"),
    ("func", "a function is written `fn f(x) = ..`"),
    ("lambda", "give the function a name: `fn f(x) = ..`"),
    ("class", "parts of models are written `layer Name { .. }`, models `model name { .. }`"),
    ("struct", "parts of models are written `layer Name { .. }`, records `{ a = 1 }`"),
    ("enum", "a choice is written as a text or a `Bool` parameter"),
    ("impl", "methods stand inside the `layer`"),
    ("trait", "any layer fits where its axes fit"),
    ("interface", "any layer fits where its axes fit"),
    ("var", "a name for a value is written `let x = ..`; values do not change"),
    ("const", "a name for a value is written `let x = ..`"),
    ("val", "a name for a value is written `let x = ..`"),
    ("mut", "values do not change; a tensor that does is a `state`"),
    ("return", "the last value of a block is its result; drop the word"),
    ("yield", "the last value of a block is its result"),
    ("pass", "an empty block is written `{ }`"),
    ("while", "repetition is `for` in a list or a sweep, or `scan` along an axis"),
    ("loop", "repetition is `for` in a list or a sweep, or `scan` along an axis"),
    ("break", "a `for` ends with its list; `where` leaves points out"),
    ("continue", "`where` leaves points out of a `for`"),
    ("elif", "write `else if a then b`"),
    ("elsif", "write `else if a then b`"),
    ("elseif", "write `else if a then b`"),
    ("switch", "write `match x { \"a\" -> 1 }`"),
    ("case", "an arm of a `match` is written `\"a\" -> 1`"),
    ("try", "nothing is caught; what must hold is said by `assert`"),
    ("raise", "what must hold is said by `assert`"),
    ("del", "names last to the end of their block"),
];

/// Words that stand for a function of another language before its name.
pub(super) const FUNCTION_WORDS: [&str; 3] = ["def", "function", "func"];

/// Words that bind a name in other languages.
pub(super) const BINDING_WORDS: [&str; 3] = ["var", "const", "val"];

/// Plain values of other languages.
pub(super) const FOREIGN_LITERALS: [(&str, &str); 9] = [
    ("True", "true"),
    ("TRUE", "true"),
    ("False", "false"),
    ("FALSE", "false"),
    ("None", "none"),
    ("NONE", "none"),
    ("null", "none"),
    ("nil", "none"),
    ("NULL", "none"),
];

/// Units that are spelled differently here.
pub(super) const UNIT_SPELLINGS: [(&str, &str); 22] = [
    ("FLOPS", "FLOPs"),
    ("Flops", "FLOPs"),
    ("flops", "FLOPs"),
    ("flop", "FLOPs"),
    ("Flop", "FLOPs"),
    ("Tokens", "tokens"),
    ("tok", "tokens"),
    ("toks", "tokens"),
    ("Bytes", "bytes"),
    ("Params", "params"),
    ("parameters", "params"),
    ("sec", "s"),
    ("secs", "s"),
    ("seconds", "s"),
    ("mins", "min"),
    ("minutes", "min"),
    ("minute", "min"),
    ("hours", "h"),
    ("hour", "h"),
    ("hrs", "h"),
    ("Gb", "GB"),
    ("gb", "GB"),
];

/// Every unit that the language has, so that `3e18 FLOPs/x` can be told from `FLOPs/token`.
pub const UNIT_NAMES: &[&str] = &[
    "tokens", "token", "params", "param", "FLOPs", "FLOP", "kFLOPs", "MFLOPs", "GFLOPs", "TFLOPs",
    "PFLOPs", "EFLOPs", "bytes", "byte", "KB", "MB", "GB", "TB", "PB", "KiB", "MiB", "GiB", "TiB",
    "s", "ms", "us", "ns", "min", "h", "d", "day", "days", "steps", "step", "epochs", "epoch",
    "rows", "row", "docs", "doc", "nats", "nat", "bits", "bit", "chars", "char", "words", "word",
    "lines", "line", "GPU", "GPUs", "device", "devices", "W", "kW", "kWh", "J", "Hz", "MHz", "GHz",
    "USD",
];

/// What `word` is meant to be, by one of the tables above.
pub(super) fn meant(table: &[(&str, &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(found, _)| *found == word).map(|(_, meant)| *meant)
}

/// Words that may not be names anywhere but after a dot.
pub(super) const VALUE_WORDS: [&str; 15] = [
    "scan", "for", "in", "where", "with", "if", "then", "else", "match", "and", "or", "not",
    "true", "false", "none",
];

/// Words that are reserved where an item begins.
pub(super) const ITEM_WORDS: [&str; 10] =
    ["use", "let", "knob", "fn", "layer", "weight", "state", "penalty", "measure", "assert"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_reserved_word_is_a_unit() {
        for word in VALUE_WORDS.iter().chain(&ITEM_WORDS) {
            assert!(!UNIT_NAMES.contains(word), "`{word}` is reserved and a unit");
        }
    }

    #[test]
    fn spellings_lead_to_units() {
        for (found, meant) in UNIT_SPELLINGS {
            assert!(UNIT_NAMES.contains(&meant), "{found} -> {meant}");
            assert!(!UNIT_NAMES.contains(&found), "{found} is a unit already");
        }
    }
}
