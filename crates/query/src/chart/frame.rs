//! What every picture has around its drawing: title, what it shows, and what is left out; and the marks of a number axis.

use super::Chart;
use super::font;
use super::model::Measure;
use super::scale::Axis;
use super::scene::{AXIS, Anchor, Colour, GRID, MARGIN, NOTE, SERIES, Scene, TITLE, WIDTH, wrap};

/// Height of a line of the title.
const TITLE_LINE: f64 = 26.0;
const NOTE_LINE: f64 = 18.0;

/// A new picture with its title. Gives the height at which the drawing begins.
pub(super) fn open(chart: &Chart) -> (Scene, f64) {
    let mut scene = Scene {
        height: 0.0,
        title: chart.title.clone(),
        description: chart.description(),
        items: Vec::new(),
    };
    let width = WIDTH - 2.0 * MARGIN;
    let mut y = MARGIN + 14.0;
    for line in wrap(&chart.title, TITLE, width, 2) {
        scene.text((MARGIN, y), Anchor::Start, TITLE, line);
        y += TITLE_LINE;
    }
    let subtitle = if chart.subtitle == chart.title {
        ""
    } else {
        &chart.subtitle
    };
    for line in wrap(subtitle, NOTE, width, 2) {
        scene.text((MARGIN, y), Anchor::Start, NOTE, line);
        y += NOTE_LINE;
    }
    (scene, y + 8.0)
}

/// Ends the picture below its drawing, with what is left out.
pub(super) fn close(mut scene: Scene, chart: &Chart, mut y: f64) -> Scene {
    for note in &chart.notes {
        for line in wrap(note, NOTE, WIDTH - 2.0 * MARGIN, 3) {
            y += NOTE_LINE;
            scene.text((MARGIN, y), Anchor::Start, NOTE, line);
        }
    }
    scene.height = (y + MARGIN - 6.0).ceil();
    scene
}

/// Says that there is nothing, and gives the height below it.
pub(super) fn no_rows(scene: &mut Scene, y: f64) -> f64 {
    scene.text((WIDTH / 2.0, y + 60.0), Anchor::Middle, NOTE, "no rows");
    y + 110.0
}

/// Grid lines and the texts of a vertical axis between `left` and `right`.
pub(super) fn value_axis(
    scene: &mut Scene,
    axis: &Axis,
    measure: &Measure,
    (left, right): (f64, f64),
    (top, bottom): (f64, f64),
) {
    for tick in &axis.ticks {
        let y = bottom - axis.position(*tick) * (bottom - top);
        let colour = if *tick == 0.0 { AXIS } else { GRID };
        scene.line((left, y), (right, y), colour);
        scene.text(
            (left - 8.0, y + 4.0),
            Anchor::End,
            NOTE,
            axis.text(measure, *tick),
        );
    }
}

/// Width that the texts of a vertical axis take, with the space beside them.
pub(super) fn value_axis_width(axis: &Axis, measure: &Measure) -> f64 {
    let texts = axis
        .ticks
        .iter()
        .map(|tick| font::width(&axis.text(measure, *tick), NOTE));
    texts.fold(24.0, f64::max) + 12.0
}

/// Names beside squares of their colours, in one line or more. Gives the height below them.
pub(super) fn legend(scene: &mut Scene, names: &[&str], y: f64) -> f64 {
    let (mut x, mut y) = (MARGIN, y + 6.0);
    for (index, name) in names.iter().enumerate() {
        let width = font::width(name, NOTE) + 40.0;
        if x > MARGIN && x + width > WIDTH - MARGIN {
            x = MARGIN;
            y += NOTE_LINE;
        }
        scene.rect((x, y), (12.0, 12.0), series_colour(index), None);
        scene.text((x + 18.0, y + 10.5), Anchor::Start, NOTE, *name);
        x += width;
    }
    y + NOTE_LINE + 8.0
}

/// The colour of the series with this number.
pub(super) fn series_colour(index: usize) -> Colour {
    SERIES[index % SERIES.len()]
}
