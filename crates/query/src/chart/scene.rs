//! A picture as a list of rectangles, lines and texts, which [`super::svg`] and [`super::png`] write alike; and the colours
//! and sizes that all drawings share.

use super::font;

/// Width of every picture, in CSS pixels.
pub(super) const WIDTH: f64 = 960.0;
/// Free space around a picture.
pub(super) const MARGIN: f64 = 28.0;

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

pub(super) const PAPER: Colour = [0xff, 0xff, 0xff];
pub(super) const INK: Colour = [0x1f, 0x24, 0x28];
pub(super) const GREY: Colour = [0x57, 0x60, 0x6a];
pub(super) const GRID: Colour = [0xe4, 0xe7, 0xeb];
pub(super) const AXIS: Colour = [0x8c, 0x95, 0x9f];

/// Colours of series: those of Okabe and Ito, told apart with every kind of colour vision, without their yellow, which
/// is too light on white; black last.
pub(super) const SERIES: [Colour; 7] = [
    [0x00, 0x72, 0xb2],
    [0xd5, 0x5e, 0x00],
    [0x00, 0x9e, 0x73],
    [0xcc, 0x79, 0xa7],
    [0x56, 0xb4, 0xe9],
    [0xe6, 0x9f, 0x00],
    [0x00, 0x00, 0x00],
];

/// Stops of a scale from little to much: one hue, so that it also reads in grey.
const HEAT: [Colour; 6] = [
    [0xef, 0xf4, 0xfa],
    [0xc6, 0xdb, 0xef],
    [0x8c, 0xbd, 0xde],
    [0x42, 0x92, 0xc6],
    [0x12, 0x5c, 0xa4],
    [0x08, 0x2c, 0x62],
];

/// The colour of a value at `position`, 0 to 1.
pub(super) fn heat(position: f64) -> Colour {
    let place = position.clamp(0.0, 1.0) * (HEAT.len() - 1) as f64;
    let index = (place as usize).min(HEAT.len() - 2);
    let part = place - index as f64;
    std::array::from_fn(|channel| {
        let (from, to) = (
            f64::from(HEAT[index][channel]),
            f64::from(HEAT[index + 1][channel]),
        );
        (from + (to - from) * part).round() as u8
    })
}

/// Ink that can be read on `colour`.
pub(super) fn ink_on(colour: Colour) -> Colour {
    // The luminance at which ink and paper are told apart from it equally well.
    const EVEN: f64 = 0.22;
    let [red, green, blue] = colour.map(|channel| (f64::from(channel) / 255.0).powi(2));
    if 0.2126 * red + 0.7152 * green + 0.0722 * blue > EVEN {
        INK
    } else {
        PAPER
    }
}

/// Which end of a text is at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Style {
    pub(super) size: f64,
    pub(super) bold: bool,
    pub(super) colour: Colour,
}

pub(super) const TITLE: Style = Style {
    size: 20.0,
    bold: true,
    colour: INK,
};
pub(super) const HEADING: Style = Style {
    size: 13.0,
    bold: true,
    colour: INK,
};
pub(super) const LABEL: Style = Style {
    size: 13.0,
    bold: false,
    colour: INK,
};
pub(super) const NOTE: Style = Style {
    size: 12.0,
    bold: false,
    colour: GREY,
};

/// Something drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Rect {
        x: f64,
        y: f64,
        width: f64,
        height: f64,
        fill: Colour,
        /// What a pointer over it says.
        title: Option<String>,
    },
    /// A line through all points.
    Path {
        points: Vec<(f64, f64)>,
        width: f64,
        colour: Colour,
    },
    Dot {
        x: f64,
        y: f64,
        radius: f64,
        fill: Colour,
        title: Option<String>,
    },
    /// `y` is the base line.
    Text {
        x: f64,
        y: f64,
        anchor: Anchor,
        style: Style,
        text: String,
    },
}

/// A whole picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scene {
    pub(super) height: f64,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) items: Vec<Item>,
}

impl Scene {
    pub(super) fn rect(&mut self, place: (f64, f64), size: (f64, f64), fill: Colour, title: Option<String>) {
        self.items.push(Item::Rect {
            x: place.0,
            y: place.1,
            width: size.0,
            height: size.1,
            fill,
            title,
        });
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: Colour) {
        self.items.push(Item::Path {
            points: vec![from, to],
            width: 1.0,
            colour,
        });
    }

    pub(super) fn text(&mut self, place: (f64, f64), anchor: Anchor, style: Style, text: impl Into<String>) {
        self.items.push(Item::Text {
            x: place.0,
            y: place.1,
            anchor,
            style,
            text: text.into(),
        });
    }
}

/// `text` in at most `width` pixels, `…` in place of what was cut.
pub(super) fn cut(text: &str, style: Style, width: f64) -> String {
    if font::width(text, style) <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        shown.push(c);
        if font::width(&shown, style) + font::width("…", style) > width {
            shown.pop();
            break;
        }
    }
    shown.push('…');
    shown
}

/// `text` in lines of at most `width` pixels, cut after `most` of them.
pub(super) fn wrap(text: &str, style: Style, width: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let is_last = lines.len() == most;
        match lines.last_mut() {
            Some(line) if is_last || font::width(&format!("{line} {word}"), style) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter().map(|line| cut(&line, style, width)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_and_wrapped_to_what_fits() {
        let text = "Which regions log in most, and which divisions within them?";
        let lines = wrap(text, TITLE, 300.0, 2);
        assert_eq!(lines.len(), 2);
        assert!(
            lines.iter().all(|line| font::width(line, TITLE) <= 300.0),
            "{lines:?}"
        );
        assert!(lines[1].ends_with('…'));
        assert_eq!(cut("short", LABEL, 300.0), "short");
        assert_eq!(wrap(text, TITLE, 5_000.0, 2), [text]);
        assert!(wrap("", TITLE, 100.0, 2).is_empty());
    }

    #[test]
    fn heat_goes_from_light_to_dark() {
        let light = |position| heat(position).into_iter().map(u32::from).sum::<u32>();
        let steps: Vec<u32> = (0..=20).map(|step| light(f64::from(step) / 20.0)).collect();
        assert!(steps.windows(2).all(|pair| pair[0] > pair[1]), "{steps:?}");
        assert_eq!(ink_on(heat(0.0)), INK);
        assert_eq!(ink_on(heat(1.0)), PAPER);
    }
}
