//! The built-in font, DejaVu Sans: the width of texts, and the outlines of their letters for pictures of pixels.
//!
//! No font of the system is asked for, so a picture is the same on every machine. What the font does not have (most of all
//! Chinese, Japanese and Korean) is an empty box in PNG; SVG leaves the choice of a font to whoever shows it.

use std::sync::LazyLock;

use ttf_parser::{Face, OutlineBuilder};

use super::scene::Style;

/// Names for SVG: the built-in font, then what is about as wide.
pub(super) const FAMILY: &str = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif";

static REGULAR: LazyLock<Face<'static>> = LazyLock::new(|| face(dejavu::sans::regular()));
static BOLD: LazyLock<Face<'static>> = LazyLock::new(|| face(dejavu::sans::bold()));

fn face(bytes: &'static [u8]) -> Face<'static> {
    Face::parse(bytes, 0).expect("the built-in font is whole")
}

fn face_of(style: Style) -> &'static Face<'static> {
    if style.bold { &BOLD } else { &REGULAR }
}

fn advance(face: &Face<'_>, c: char) -> f64 {
    let glyph = face.glyph_index(c).unwrap_or_default();
    f64::from(face.glyph_hor_advance(glyph).unwrap_or_default())
}

/// Pixels that `text` takes.
pub(super) fn width(text: &str, style: Style) -> f64 {
    let face = face_of(style);
    let units: f64 = text.chars().map(|c| advance(face, c)).sum();
    units * style.size / f64::from(face.units_per_em())
}

/// Gives the outlines of `text` to `builder`, one letter at a time, with its origin and the size of a unit in pixels.
pub(super) fn outline<B: OutlineBuilder>(
    text: &str,
    style: Style,
    x: f64,
    mut letter: impl FnMut(f64, f64) -> B,
) -> Vec<B> {
    let face = face_of(style);
    let scale = style.size / f64::from(face.units_per_em());
    let mut at = x;
    let mut letters = Vec::new();
    for c in text.chars() {
        let mut builder = letter(at, scale);
        if face
            .outline_glyph(face.glyph_index(c).unwrap_or_default(), &mut builder)
            .is_some()
        {
            letters.push(builder);
        }
        at += advance(face, c) * scale;
    }
    letters
}
