//! Text in pictures and pages: how wide it is, and how it is kept from being markup.

/// Advance widths of the printable ASCII characters in thousandths of the size, weight 400.
const REGULAR: [u16; 95] = [
    281, 288, 466, 633, 642, 982, 644, 300, 365, 365, 501, 662, 288, 460, 288, 360, 631, 407, 610,
    618, 646, 593, 620, 566, 619, 620, 288, 302, 662, 662, 662, 511, 966, 690, 654, 730, 722, 601,
    590, 746, 743, 269, 571, 672, 565, 903, 753, 765, 639, 765, 644, 642, 646, 744, 690, 985, 682,
    679, 629, 365, 360, 365, 471, 456, 323, 562, 612, 571, 612, 583, 370, 613, 591, 242, 242, 549,
    242, 876, 591, 600, 612, 612, 376, 528, 327, 591, 562, 818, 546, 562, 552, 426, 333, 426, 662,
];

/// A semibold letter is about this much wider.
const SEMIBOLD: f64 = 1.03;

/// The width of a text of `size`, as the built-in typeface sets it; an estimate where another one stands in for it.
pub(crate) fn width(text: &str, size: f64, bold: bool) -> f64 {
    let units: u32 = text
        .chars()
        .map(|c| {
            let at = (c as usize).wrapping_sub(0x20);
            u32::from(REGULAR.get(at).copied().unwrap_or(664))
        })
        .sum();
    f64::from(units) / 1000.0 * size * if bold { SEMIBOLD } else { 1.0 }
}

/// Text as content or attribute of XML and HTML. Control characters, which neither may have, are left out.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

/// Letters, digits and dashes for anchors and names of files; different names stay different.
pub fn slug(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '.' => out.push(c),
            ' ' | '/' => out.push('-'),
            c => out.push_str(&format!("~{:x}", c as u32)),
        }
    }
    out.trim_start_matches('.').to_owned()
}

/// Bytes as text, for pictures and typefaces inside a page (RFC 4648, section 4).
pub(crate) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..4 {
            if i <= three.len() {
                out.push(LETTERS[(bits >> (18 - 6 * i) & 63) as usize] as char);
            } else {
                out.push('=');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_stays_text() {
        assert_eq!(
            escape("<img src=x onerror='a(\"&\")'>\u{0}\u{1b}"),
            "&lt;img src=x onerror=&#39;a(&quot;&amp;&quot;)&#39;&gt;"
        );
        assert_eq!(slug("iso/07 <x>"), "iso-07-~3cx~3e");
        assert_eq!(slug("../../etc"), "-..-etc");
    }

    #[test]
    fn bytes_as_letters() {
        assert_eq!(
            ["", "f", "fo", "foo", "foob"].map(|t| base64(t.as_bytes())),
            ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]
        );
    }

    #[test]
    fn wide_letters_are_wider() {
        assert!(width("WWW", 12.0, false) > width("iii", 12.0, false) * 3.0);
        assert!(width("1e17", 12.0, true) > width("1e17", 12.0, false));
    }
}
