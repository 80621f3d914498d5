//! Programs that nobody meant: texts with pieces cut out, doubled, exchanged. The same dice make the same changes.

/// Numbers from a seed.
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    /// A number below `n`; 0 if there is none.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n.max(1)
    }
}

/// What is put in: signs and words that mean something somewhere.
const PIECES: &[&str] = &[
    "(", ")", "[", "]", "{", "}", "=", "->", "|>", "..", ".", ",", "\"", "none", "0", "-1", "1e30",
    "with", "if", "scan", "batch", "seq", "d", "50%", "tokens", "[d -> e]", "\n",
];

/// A text with up to three words or signs changed.
pub fn words(text: &str, dice: &mut Dice) -> String {
    let mut pieces = pieces(text);
    for _ in 0..=dice.below(3) {
        if pieces.is_empty() {
            break;
        }
        let (i, j) = (dice.below(pieces.len()), dice.below(pieces.len()));
        match dice.below(5) {
            0 => drop(pieces.remove(i)),
            1 => pieces.swap(i, j),
            2 => pieces.insert(i, pieces[j].clone()),
            3 => pieces[i] = pieces[j].clone(),
            _ => pieces.insert(i, PIECES[dice.below(PIECES.len())].to_owned()),
        }
    }
    pieces.concat()
}

/// A text with a few words of another one in it, or a stretch of it, or all lines of both.
pub fn crossed(text: &str, other: &str, dice: &mut Dice) -> String {
    let (mut here, there) = (pieces(text), pieces(other));
    if there.is_empty() {
        return text.to_owned();
    }
    let from = dice.below(there.len());
    let to = (from + 1 + dice.below(40)).min(there.len());
    let at = dice.below(here.len() + 1);
    match dice.below(3) {
        0 => here.splice(at..at, there[from..to].iter().cloned()).for_each(drop),
        1 => {
            let end = (at + dice.below(40)).min(here.len());
            here.splice(at..end, there[from..to].iter().cloned()).for_each(drop);
        }
        _ => return format!("{text}\n{other}"),
    }
    here.concat()
}

/// Characters that are seldom meant.
const SIGNS: &[char] = &[
    '"', '\\', '{', '}', '(', ')', '[', ']', '#', '%', '.', '-', '\u{0}', '\t', '\r', '\n', ' ',
    'é', '∞', '\u{200b}', '\u{feff}', '٣', '😀', '/', '*', '@', '~', '=', '<', '>', ':', ',', '9',
    'e', '_',
];

/// A text with up to four characters changed.
pub fn characters(text: &str, dice: &mut Dice) -> String {
    let mut all: Vec<char> = text.chars().collect();
    for _ in 0..=dice.below(4) {
        let at = dice.below(all.len() + 1);
        match dice.below(4) {
            0 if at < all.len() => drop(all.remove(at)),
            1 if at < all.len() => all[at] = SIGNS[dice.below(SIGNS.len())],
            2 => {
                let end = (at + dice.below(20)).min(all.len());
                all.drain(at..end).for_each(drop);
            }
            _ => all.insert(at, SIGNS[dice.below(SIGNS.len())]),
        }
    }
    all.into_iter().collect()
}

/// Words, blanks and signs.
fn pieces(text: &str) -> Vec<String> {
    let kind = |c: char| if c.is_alphanumeric() || c == '_' { 0 } else { 1 + u32::from(c) };
    let mut out: Vec<String> = Vec::new();
    let mut last = None;
    for c in text.chars() {
        match out.last_mut() {
            Some(piece) if last == Some(kind(c)) => piece.push(c),
            _ => out.push(c.to_string()),
        }
        last = Some(kind(c));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_dice_make_the_same_changes() {
        let text = "layer f[d] { weight w[d]  forward(x: [d]) = x * w }";
        for seed in 0..50 {
            let all = |mut dice: Dice| {
                [
                    words(text, &mut dice),
                    characters(text, &mut dice),
                    crossed(text, "let a = 3", &mut dice),
                ]
            };
            assert_eq!(all(Dice(seed)), all(Dice(seed)));
        }
        assert_eq!(words("", &mut Dice(1)), "");
        assert_eq!(crossed("", "", &mut Dice(1)), "");
    }
}
