//! The three patterns by hand: where the piece that begins at a place ends. `bytes` is UTF-8, `start` the boundary of a character that is
//! there.

use super::classes::{
    BREAK, CASE, CASELESS, LETTER, LOWER, MARK, NOTHING, NUMBER, OTHER, SPACE, UPPER,
    ascii_letters, class_at, end_of_letters, end_of_run,
};

/// `'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
#[inline]
pub(super) fn gpt2(bytes: &[u8], start: usize) -> usize {
    let first = bytes[start];
    if first == b'\'' {
        let suffix = match &bytes[start + 1..] {
            [b's' | b'd' | b'm' | b't', ..] => 1,
            [b'l', b'l', ..] | [b'v', b'e', ..] | [b'r', b'e', ..] => 2,
            _ => 0,
        };
        if suffix > 0 {
            return start + 1 + suffix;
        }
    }
    let begin = start + usize::from(first == b' ');
    let (class, len) = class_at(bytes, begin);
    if class & LETTER != 0 {
        end_of_letters(bytes, begin + len)
    } else if class & (OTHER | MARK) != 0 {
        end_of_run(bytes, begin + len, OTHER | MARK)
    } else if class & NUMBER != 0 {
        end_of_run(bytes, begin + len, NUMBER)
    } else {
        let run = white_space(bytes, start);
        if run.at_end { run.end } else { run.but_last() }
    }
}

/// `'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+$|\s*[\r\n]|\s+(?!\S)|\s`
#[inline]
pub(super) fn cl100k(bytes: &[u8], start: usize) -> usize {
    let first = bytes[start];
    if first == b'\'' {
        let suffix = contraction(bytes, start);
        if suffix > 0 {
            return start + suffix;
        }
    }
    let (class, len) = class_at(bytes, start);
    if class & LETTER != 0 {
        return end_of_letters(bytes, start + len);
    }
    if class & NUMBER != 0 {
        return three_numbers(bytes, start + len);
    }
    let (next, next_len) = class_at(bytes, start + len);
    if class & BREAK == 0 && next & LETTER != 0 {
        return end_of_letters(bytes, start + len + next_len);
    }
    if class & (OTHER | MARK) != 0 || first == b' ' && next & (OTHER | MARK) != 0 {
        return end_of_run(bytes, end_of_run(bytes, start + len, OTHER | MARK), BREAK);
    }
    let run = white_space(bytes, start);
    if run.at_end { run.end } else { run.after_break.unwrap_or_else(|| run.but_last()) }
}

/// ```text
/// [^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?
/// |[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?
/// |\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
/// ```
#[inline]
pub(super) fn o200k(bytes: &[u8], start: usize) -> usize {
    let first = bytes[start];
    let (class, len) = class_at(bytes, start);
    if class & NUMBER != 0 {
        return three_numbers(bytes, start + len);
    }
    let prefix = class & (LETTER | BREAK) == 0;
    let behind = start + len;
    // The pattern's order: ends in small letters, with the first character before them or as one of them; then the same in capitals.
    let word = if prefix {
        let (next, _) = class_at(bytes, behind);
        if (next | class) & (LETTER | MARK) == 0 {
            None
        } else {
            let own = class & MARK != 0;
            small_at_end(bytes, behind)
                .or_else(|| small_at_end(bytes, start).filter(|_| own))
                .or_else(|| capitals(bytes, behind))
        }
    } else if class & LETTER != 0 {
        small_at_end(bytes, start).or_else(|| capitals(bytes, start))
    } else {
        None
    };
    if let Some(end) = word {
        return end + if bytes.get(end) == Some(&b'\'') { contraction(bytes, end) } else { 0 };
    }
    let (next, _) = class_at(bytes, behind);
    if class & (OTHER | MARK) != 0 || first == b' ' && next & (OTHER | MARK) != 0 {
        let mut end = end_of_run(bytes, behind, OTHER | MARK);
        while matches!(bytes.get(end), Some(b'\r' | b'\n' | b'/')) {
            end += 1;
        }
        return end;
    }
    let run = white_space(bytes, start);
    run.after_break.unwrap_or_else(|| if run.at_end { run.end } else { run.but_last() })
}

/// What stands before the last small letters: capitals, and what has no case.
const NOT_SMALL: u8 = UPPER | CASELESS | MARK;
/// What may end such a word.
const SMALL: u8 = LOWER | CASELESS | MARK;

/// The end of `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+` at `at`.
#[inline]
fn small_at_end(bytes: &[u8], mut at: usize) -> Option<usize> {
    // The end of the last character that is in both sets: where the first set took all, it gives back until there.
    let mut both = None;
    loop {
        let (class, len) = class_at(bytes, at);
        if class & NOT_SMALL == 0 {
            return if class & LOWER != 0 { Some(end_of_small(bytes, at + len)) } else { both };
        }
        at += len;
        if class & (CASELESS | MARK) != 0 {
            both = Some(at);
        }
    }
}

/// [`end_of_run`] of [`SMALL`], eight bytes at a time where they are ASCII.
#[inline]
fn end_of_small(bytes: &[u8], mut at: usize) -> usize {
    loop {
        let ascii = ascii_letters(bytes, at, 0);
        at += ascii;
        if ascii < 8 {
            let (class, len) = class_at(bytes, at);
            if class & SMALL == 0 {
                return at;
            }
            at += len;
        }
    }
}

/// The end of `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+` at `at`, behind which no small letter is.
fn capitals(bytes: &[u8], at: usize) -> Option<usize> {
    Some(end_of_run(bytes, at, NOT_SMALL)).filter(|end| *end > at)
}

/// Bytes of `'(?i:[sdmt]|ll|ve|re)` at the apostrophe, 0 if it is none. Without regard to case, `ſ` is an `s`.
fn contraction(bytes: &[u8], apostrophe: usize) -> usize {
    let small = |n: usize| bytes.get(apostrophe + n).map_or(0, |byte| byte | CASE);
    match (small(1), small(2)) {
        (b's' | b'd' | b'm' | b't', _) => 2,
        (b'l', b'l') | (b'v', b'e') | (b'r', b'e') => 3,
        _ if bytes[apostrophe + 1..].starts_with("ſ".as_bytes()) => 3,
        _ => 0,
    }
}

/// The end of up to two more numbers.
#[inline]
fn three_numbers(bytes: &[u8], mut at: usize) -> usize {
    for _ in 0..2 {
        let (class, len) = class_at(bytes, at);
        if class & NUMBER == 0 {
            break;
        }
        at += len;
    }
    at
}

/// A run of white space, not empty.
struct Run {
    /// Behind the first character.
    first: usize,
    /// Before the last character.
    last: usize,
    end: usize,
    /// Behind the last line break.
    after_break: Option<usize>,
    /// Whether the text ends with it.
    at_end: bool,
}

impl Run {
    /// The last character is left to what follows, if there are others before it.
    fn but_last(&self) -> usize {
        self.last.max(self.first)
    }
}

fn white_space(bytes: &[u8], start: usize) -> Run {
    let (mut at, mut last, mut first, mut after_break) = (start, start, None, None);
    loop {
        let (class, len) = class_at(bytes, at);
        if class & SPACE == 0 {
            let at_end = class == NOTHING;
            return Run { first: first.unwrap_or(at), last, end: at, after_break, at_end };
        }
        last = at;
        at += len;
        first.get_or_insert(at);
        if class & BREAK != 0 {
            after_break = Some(at);
        }
    }
}
