//! A scene as PNG, twice as many pixels as SVG has units, with the built-in font.

use tiny_skia::{FillRule, LineJoin, Paint, Path, PathBuilder, Pixmap, Rect, Stroke, Transform};
use ttf_parser::OutlineBuilder;

use super::ChartError;
use super::font;
use super::scene::{Anchor, Colour, Item, PAPER, Scene, WIDTH};
use crate::print::cell::escape_control;

/// Pixels for each unit of the scene: sharp on today's screens.
const SCALE: f64 = 2.0;

/// The picture as a whole file.
///
/// # Errors
/// [`ChartError::Picture`] when there is no memory for the pixels, or they cannot be packed.
pub(super) fn write(scene: &Scene) -> Result<Vec<u8>, ChartError> {
    let (width, height) = ((WIDTH * SCALE) as u32, (scene.height * SCALE).ceil() as u32);
    let mut pixels = Pixmap::new(width, height)
        .ok_or_else(|| ChartError::Picture(format!("no picture of {width} by {height} pixels")))?;
    let [red, green, blue] = PAPER;
    pixels.fill(tiny_skia::Color::from_rgba8(red, green, blue, 0xff));
    for item in &scene.items {
        draw(&mut pixels, item);
    }
    pixels
        .encode_png()
        .map_err(|error| ChartError::Picture(error.to_string()))
}

fn draw(pixels: &mut Pixmap, item: &Item) {
    let scale = Transform::from_scale(SCALE as f32, SCALE as f32);
    match item {
        Item::Rect {
            x,
            y,
            width,
            height,
            fill,
            ..
        } => {
            if let Some(rect) = Rect::from_xywh(*x as f32, *y as f32, *width as f32, *height as f32) {
                pixels.fill_rect(rect, &paint(*fill), scale, None);
            }
        }
        Item::Dot {
            x, y, radius, fill, ..
        } => {
            if let Some(circle) = PathBuilder::from_circle(*x as f32, *y as f32, *radius as f32) {
                pixels.fill_path(&circle, &paint(*fill), FillRule::Winding, scale, None);
            }
        }
        Item::Path {
            points,
            width,
            colour,
        } => {
            let mut path = PathBuilder::new();
            for (index, (x, y)) in points.iter().enumerate() {
                if index == 0 {
                    path.move_to(*x as f32, *y as f32);
                } else {
                    path.line_to(*x as f32, *y as f32);
                }
            }
            let stroke = Stroke {
                width: *width as f32,
                line_join: LineJoin::Round,
                ..Stroke::default()
            };
            if let Some(path) = path.finish() {
                pixels.stroke_path(&path, &paint(*colour), &stroke, scale, None);
            }
        }
        Item::Text {
            x,
            y,
            anchor,
            style,
            text,
        } => {
            let text = escape_control(text);
            let start = match anchor {
                Anchor::Start => *x,
                Anchor::Middle => x - font::width(&text, *style) / 2.0,
                Anchor::End => x - font::width(&text, *style),
            };
            let letters = font::outline(&text, *style, start, |at, unit| Letter::new(at, *y, unit));
            for path in letters.into_iter().filter_map(Letter::finish) {
                pixels.fill_path(&path, &paint(style.colour), FillRule::Winding, scale, None);
            }
        }
    }
}

fn paint([red, green, blue]: Colour) -> Paint<'static> {
    let mut paint = Paint::default();
    paint.set_color_rgba8(red, green, blue, 0xff);
    paint.anti_alias = true;
    paint
}

/// Takes the outline of a letter from the font's units, where y goes up, to the scene's.
struct Letter {
    path: PathBuilder,
    x: f32,
    y: f32,
    unit: f32,
}

impl Letter {
    fn new(x: f64, y: f64, unit: f64) -> Self {
        Self {
            path: PathBuilder::new(),
            x: x as f32,
            y: y as f32,
            unit: unit as f32,
        }
    }

    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.unit, self.y - y * self.unit)
    }

    fn finish(self) -> Option<Path> {
        self.path.finish()
    }
}

impl OutlineBuilder for Letter {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.move_to(x, y);
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.path.line_to(x, y);
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.path.quad_to(x1, y1, x, y);
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.path.cubic_to(x1, y1, x2, y2, x, y);
    }

    fn close(&mut self) {
        self.path.close();
    }
}
