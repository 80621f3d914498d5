//! SVG to PNG, with the built-in typeface alone: the same picture on every machine, with or without fonts.

use std::sync::{Arc, OnceLock};

use resvg::{tiny_skia, usvg};
use usvg::fontdb;

/// Weights of the built-in typeface.
const REGULAR: &[u8] = include_bytes!("../fonts/inter-regular.ttf");
const SEMIBOLD: &[u8] = include_bytes!("../fonts/inter-semibold.ttf");

/// The largest side of a picture.
const MOST: u32 = 16_384;

/// Renders an SVG text at `scale` pixels per unit. `None`: the text is no picture, or a larger one than can be.
pub fn png(svg: &str, scale: f32) -> Option<Vec<u8>> {
    let options = usvg::Options {
        font_family: "Inter".to_owned(),
        fontdb: fonts(),
        ..usvg::Options::default()
    };
    let tree = usvg::Tree::from_str(svg, &options).ok()?;
    let size = tree.size().to_int_size().scale_by(scale)?;
    if size.width() > MOST || size.height() > MOST {
        return None;
    }
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height())?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().ok()
}

/// Read once: parsing takes longer than a small chart.
fn fonts() -> Arc<fontdb::Database> {
    static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let read = || {
        let mut fonts = fontdb::Database::new();
        fonts.load_font_data(REGULAR.to_vec());
        fonts.load_font_data(SEMIBOLD.to_vec());
        fonts.set_sans_serif_family("Inter");
        Arc::new(fonts)
    };
    FONTS.get_or_init(read).clone()
}
