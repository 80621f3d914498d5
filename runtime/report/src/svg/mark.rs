//! The shapes of marks.

use super::n;
use crate::chart::Mark;
use crate::color::Color;

/// A mark at a place of the picture. `hover` is escaped text that is told when a reader points at it.
pub(super) fn mark_shape(mark: Mark, x: f64, y: f64, color: Color, hover: &str) -> String {
    let (fill, rim) = (color.hex(), "stroke=\"#ffffff\" stroke-width=\"1\"");
    let title = if hover.is_empty() { String::new() } else { format!("<title>{hover}</title>") };
    let polygon = |corners: &[(f64, f64)], look: &str| {
        let at: Vec<String> =
            corners.iter().map(|(a, b)| format!("{},{}", n(x + a), n(y + b))).collect();
        format!("<polygon points=\"{}\" {look}>{title}</polygon>", at.join(" "))
    };
    let filled = format!("fill=\"{fill}\" {rim}");
    match mark {
        Mark::Dot => {
            format!("<circle cx=\"{}\" cy=\"{}\" r=\"4\" {filled}>{title}</circle>", n(x), n(y))
        }
        Mark::Ring => format!(
            "<circle cx=\"{}\" cy=\"{}\" r=\"3.5\" fill=\"#ffffff\" stroke=\"{fill}\" stroke-width=\"1.5\">{title}</circle>",
            n(x),
            n(y)
        ),
        Mark::Diamond => polygon(
            &[(0.0, -7.0), (6.0, 0.0), (0.0, 7.0), (-6.0, 0.0)],
            &format!("fill=\"{fill}\" stroke=\"#ffffff\" stroke-width=\"1.5\""),
        ),
        Mark::Star => {
            let corners: Vec<(f64, f64)> = STAR.iter().map(|(a, b)| (a * 9.0, b * 9.0)).collect();
            polygon(&corners, &filled)
        }
        Mark::Cross => polygon(&CROSS.map(|(a, b)| (a * 6.5, b * 6.5)), &filled),
    }
}

/// A star of five points and radius 1, its inner radius 0.45.
const STAR: [(f64, f64); 10] = [
    (0.0, -1.0),
    (0.264_5, -0.364_1),
    (0.951_1, -0.309),
    (0.428, 0.139_1),
    (0.587_8, 0.809),
    (0.0, 0.45),
    (-0.587_8, 0.809),
    (-0.428, 0.139_1),
    (-0.951_1, -0.309),
    (-0.264_5, -0.364_1),
];

/// A diagonal cross with arms.
const CROSS: [(f64, f64); 12] = [
    (-1.0, -0.6),
    (-0.6, -1.0),
    (0.0, -0.4),
    (0.6, -1.0),
    (1.0, -0.6),
    (0.4, 0.0),
    (1.0, 0.6),
    (0.6, 1.0),
    (0.0, 0.4),
    (-0.6, 1.0),
    (-1.0, 0.6),
    (-0.4, 0.0),
];
