//! Colours that most people with a colour vision deficiency can tell apart, and that keep their order in grey.
//!
//! *Kinds* (runs, models, optimizers) get the eight colours of Okabe and Ito ("Color Universal Design", 2008) less its yellow and black, which are
//! poor on white. *Amounts* (budgets, sizes) get steps on one path through OKLab (Ottosson 2020) from dark violet over teal to amber: lightness grows
//! evenly, so the order is seen without a legend.

use serde::{Deserialize, Serialize};

/// A colour, eight bits a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Color(pub u8, pub u8, pub u8);

/// Text and marks that belong to no group.
pub const INK: Color = Color(0x1f, 0x29, 0x33);
/// Axes, titles of axes.
pub const GREY: Color = Color(0x5b, 0x66, 0x73);
/// Guides behind the marks.
pub const FAINT: Color = Color(0xe4, 0xe8, 0xed);
/// What is drawn when nothing chooses a colour.
pub const MAIN: Color = Color(0x1f, 0x6f, 0xb4);
/// What stands out: predictions, targets.
pub const STRONG: Color = Color(0xd1, 0x49, 0x3f);

const KINDS: [Color; 7] = [
    Color(0x00, 0x72, 0xb2),
    Color(0xd5, 0x5e, 0x00),
    Color(0x00, 0x9e, 0x73),
    Color(0xcc, 0x79, 0xa7),
    Color(0x56, 0xb4, 0xe9),
    Color(0xe6, 0x9f, 0x00),
    Color(0x6b, 0x5b, 0x95),
];

/// Control points of the path for amounts in OKLab: lightness, green to red, blue to yellow.
const PATH: [[f64; 3]; 6] = [
    [0.330, 0.045, -0.125],
    [0.430, -0.005, -0.125],
    [0.540, -0.065, -0.060],
    [0.640, -0.110, 0.020],
    [0.735, -0.060, 0.125],
    [0.810, 0.030, 0.150],
];

/// The colour of the kind number `i`.
pub fn kind(i: usize) -> Color {
    KINDS[i % KINDS.len()]
}

/// The colour of an amount at `t` between 0 (least) and 1 (most).
pub fn amount(t: f64) -> Color {
    let at = t.clamp(0.0, 1.0) * (PATH.len() - 1) as f64;
    let i = (at.floor() as usize).min(PATH.len() - 2);
    let f = at - i as f64;
    let mix = |k: usize| PATH[i][k] * (1.0 - f) + PATH[i + 1][k] * f;
    from_oklab(mix(0), mix(1), mix(2))
}

impl Color {
    /// `#0072b2`.
    pub fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }

    /// The same hue for text, which needs more contrast than marks do.
    #[must_use]
    pub fn for_text(self) -> Self {
        let dark = |c: u8| (f64::from(c) * 0.78) as u8;
        Self(dark(self.0), dark(self.1), dark(self.2))
    }
}

/// OKLab to sRGB (Ottosson 2020), clipped to what a screen shows.
fn from_oklab(lightness: f64, a: f64, b: f64) -> Color {
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    let channel = |linear: f64| {
        let x = linear.clamp(0.0, 1.0);
        let encoded = if x <= 0.003_130_8 { 12.92 * x } else { 1.055 * x.powf(1.0 / 2.4) - 0.055 };
        (encoded * 255.0).round() as u8
    };
    Color(
        channel(4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s),
        channel(-1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s),
        channel(-0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance (WCAG 2.2).
    fn luminance(c: Color) -> f64 {
        let lin = |c: u8| {
            let x = f64::from(c) / 255.0;
            if x <= 0.040_45 { x / 12.92 } else { ((x + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * lin(c.0) + 0.7152 * lin(c.1) + 0.0722 * lin(c.2)
    }

    #[test]
    fn amounts_keep_their_order_in_grey() {
        let all: Vec<f64> = (0..=20).map(|i| luminance(amount(f64::from(i) / 20.0))).collect();
        assert!(all.windows(2).all(|w| w[0] < w[1]), "{all:?}");
        assert!(all[20] < 0.55, "too pale on white: {}", all[20]);
    }

    #[test]
    fn kinds_differ() {
        for i in 0..7 {
            for j in 0..i {
                let (a, b) = (kind(i), kind(j));
                let far = |x: u8, y: u8| i32::from(x.abs_diff(y));
                assert!(far(a.0, b.0) + far(a.1, b.1) + far(a.2, b.2) > 60, "{i} {j}");
            }
        }
        assert_eq!(kind(7), kind(0));
    }
}
