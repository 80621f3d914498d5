//! Numbers as people read them: on axes, in tables, in text.
//!
//! Everything here takes a number and gives text; nothing depends on a locale. Large counts are spelled as in the language (`3M`, `10B`), amounts of
//! compute as powers of ten (`1e17`). An interval decides how many digits its value deserves.

/// `3M`, `10B`, `120K`, `0.25`: at most `digits` significant digits, counts from ten thousand on with a letter.
pub fn short(x: f64, digits: usize) -> String {
    if !x.is_finite() {
        return plain_word(x);
    }
    for (scale, letter) in [(1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")] {
        let y = significant(x, digits) / scale;
        if y.abs() >= if letter == "K" { 10.0 } else { 1.0 } {
            return if y.abs() >= 1e3 {
                power(x, digits)
            } else {
                signed(&fixed(y, digits)) + letter
            };
        }
    }
    if x != 0.0 && x.abs() < 1e-3 { power(x, digits) } else { signed(&fixed(x, digits)) }
}

/// `1e17`, `3.2e-5`: at most `digits` significant digits.
pub fn power(x: f64, digits: usize) -> String {
    if x == 0.0 || !x.is_finite() {
        return if x == 0.0 { "0".to_owned() } else { plain_word(x) };
    }
    let text = format!("{x:.*e}", digits.saturating_sub(1));
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = if mantissa.contains('.') {
        mantissa.trim_end_matches('0').trim_end_matches('.')
    } else {
        mantissa
    };
    signed(mantissa) + "e" + &signed(exponent)
}

/// `value (low–high)`, each with as many digits as the width of the interval deserves: two of the width.
pub fn interval(value: f64, low: f64, high: f64) -> String {
    let [value, low, high] = alike([value, low, high], (high - low).abs());
    format!("{value} ({low}–{high})")
}

/// `low–high`, with digits as in [`interval`].
pub fn range(low: f64, high: f64) -> String {
    let [_, low, high] = alike([low, low, high], (high - low).abs());
    format!("{low}–{high}")
}

/// Numbers spelled to two digits of `width`.
fn alike(all: [f64; 3], width: f64) -> [String; 3] {
    let largest = all.iter().fold(0f64, |m, x| m.max(x.abs()));
    if !(width.is_finite() && width > 0.0 && largest.is_finite()) {
        return all.map(|x| short(x, 4));
    }
    let digits = (order(largest) - order(width) + 2).clamp(2, 8) as usize;
    if (1e-3..1e4).contains(&largest) {
        let decimals = (1 - order(width)).clamp(0, 9) as usize;
        return all.map(|x| signed(&format!("{x:.decimals$}")));
    }
    all.map(|x| short(x, digits))
}

/// A number for a cell of a table: four significant digits, whole numbers up to a million in full.
pub fn cell(x: f64) -> String {
    if x.fract() == 0.0 && x.abs() < 1e6 {
        return signed(&format!("{x}"));
    }
    if x.abs() >= 1e15 { power(x, 3) } else { short(x, 4) }
}

/// `x` rounded to `digits` significant digits, without trailing zeros and without an exponent.
pub fn fixed(x: f64, digits: usize) -> String {
    if x == 0.0 || !x.is_finite() {
        return if x == 0.0 { "0".to_owned() } else { plain_word(x) };
    }
    let decimals = (digits as i32 - 1 - order(significant(x, digits))).max(0) as usize;
    let text = format!("{x:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A minus sign of the width of a plus.
pub(crate) fn signed(text: &str) -> String {
    text.strip_prefix('-').map_or_else(|| text.to_owned(), |rest| format!("\u{2212}{rest}"))
}

fn plain_word(x: f64) -> String {
    let word = if x.is_nan() {
        "NaN"
    } else if x > 0.0 {
        "∞"
    } else {
        "\u{2212}∞"
    };
    word.to_owned()
}

/// The power of ten of the first digit: 0 for 1 to 9.99.
fn order(x: f64) -> i32 {
    // Through text, because `log10` of 1000 may be a hair below 3.
    let text = format!("{x:e}");
    text.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0)
}

fn significant(x: f64, digits: usize) -> f64 {
    format!("{x:.*e}", digits.saturating_sub(1)).parse().unwrap_or(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_spelled_as_in_the_language() {
        let all = [3e6, 1.25e7, 1e10, 2500.0, 12_000.0, 0.25, 0.0, 1e-5, 999_999.0, -3e6, 5e15];
        let text: Vec<String> = all.iter().map(|x| short(*x, 3)).collect();
        let want = ["3M", "12.5M", "10B", "2500", "12K", "0.25", "0", "1e−5", "1M", "−3M", "5e15"];
        assert_eq!(text, want);
        assert_eq!(short(f64::NAN, 3), "NaN");
    }

    #[test]
    fn compute_is_a_power_of_ten() {
        assert_eq!(power(1e17, 2), "1e17");
        assert_eq!(power(3.16e17, 2), "3.2e17");
        assert_eq!(power(-2.5e-4, 3), "−2.5e−4");
    }

    #[test]
    fn an_interval_gives_its_value_two_digits_of_its_width() {
        assert_eq!(interval(0.347_31, 0.331_2, 0.362_4), "0.347 (0.331–0.362)");
        assert_eq!(interval(1.817_218, 1.764_9, 1.869_8), "1.82 (1.76–1.87)");
        assert_eq!(interval(70.1e9, 40.2e9, 120.3e9), "70.1B (40.2B–120B)");
        assert_eq!(interval(2.0, 2.0, 2.0), "2 (2–2)");
        assert_eq!(interval(477.83, 250.0, 710.0), "478 (250–710)");
    }

    #[test]
    fn cells_show_counts_in_full() {
        assert_eq!(
            [cell(2048.0), cell(1.515_2), cell(1.5e18), cell(2.5e8)],
            ["2048", "1.515", "1.5e18", "250M"]
        );
    }
}
