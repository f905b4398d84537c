//! Hours across, names down, the value as colour and, where there is room, as number. White is where there is no row.

use super::Chart;
use super::font;
use super::frame::{close, no_rows, open};
use super::model::{HOURS, HeatMap, Measure, Unit};
use super::scale::{short, tick_text};
use super::scene::{Anchor, GRID, LABEL, MARGIN, NOTE, PAPER, Scene, Style, WIDTH, cut, heat, ink_on};

const ROW: f64 = 28.0;
const GAP: f64 = 1.5;
const MOST_LABEL: f64 = 230.0;
const LEGEND_WIDTH: f64 = 180.0;
/// Steps in which the legend is painted.
const LEGEND_STEPS: usize = 60;
/// Numbers in cells.
const CELL: Style = Style { size: 10.5, ..NOTE };

pub(super) fn draw(chart: &Chart, map: &HeatMap) -> Scene {
    let (mut scene, top) = open(chart);
    let values = || {
        map.rows
            .iter()
            .flat_map(|row| row.values.iter().flatten().copied())
    };
    let Some(first) = values().next() else {
        let y = no_rows(&mut scene, top);
        return close(scene, chart, y);
    };
    let (low, high) = values().fold((first, first), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    // Nothing is a colour of its own scale: from zero, unless all is far above or something is below it.
    let low = if low > 0.0 { 0.0 } else { low };
    let position = |value: f64| {
        let part = value / (high - low) - low / (high - low);
        if part.is_finite() { part } else { 1.0 }
    };

    let has_gaps = map.rows.iter().any(|row| row.values.contains(&None));
    legend(&mut scene, &map.measure, (low, high), has_gaps, top);
    let top = top + 44.0;
    let widest = map.rows.iter().map(|row| font::width(&row.name, LABEL));
    let left = MARGIN + widest.fold(0.0, f64::max).min(MOST_LABEL) + 12.0;
    let right = WIDTH - MARGIN;
    let slot = (right - left) / HOURS as f64;
    scene.text((MARGIN, top + 12.0), Anchor::Start, NOTE, map.row_axis.clone());
    for hour in 0..HOURS {
        let x = left + slot * (hour as f64 + 0.5);
        scene.text((x, top + 12.0), Anchor::Middle, NOTE, hour.to_string());
    }
    let top = top + 20.0;
    for (index, row) in map.rows.iter().enumerate() {
        let y = top + ROW * index as f64;
        let name = cut(&row.name, LABEL, left - MARGIN - 12.0);
        scene.text((MARGIN, y + 18.5), Anchor::Start, LABEL, name);
        for (hour, value) in row.values.iter().enumerate() {
            let place = (left + slot * hour as f64, y);
            let size = (slot - GAP, ROW - GAP);
            let Some(value) = value else {
                scene.rect(place, size, GRID, None);
                scene.rect(
                    (place.0 + 1.0, y + 1.0),
                    (size.0 - 2.0, size.1 - 2.0),
                    PAPER,
                    None,
                );
                continue;
            };
            let fill = heat(position(*value));
            let title = format!("{}, {hour}:00: {}", row.name, map.measure.text(*value));
            scene.rect(place, size, fill, Some(title));
            let text = cell_text(&map.measure, *value, low.abs().max(high.abs()));
            if font::width(&text, CELL) <= size.0 - 2.0 {
                let style = Style {
                    colour: ink_on(fill),
                    ..CELL
                };
                scene.text((place.0 + size.0 / 2.0, y + 17.5), Anchor::Middle, style, text);
            }
        }
    }
    let bottom = top + ROW * map.rows.len() as f64;
    scene.text(
        (f64::midpoint(left, right), bottom + 20.0),
        Anchor::Middle,
        NOTE,
        map.axis.clone(),
    );
    close(scene, chart, bottom + 24.0)
}

/// Short enough for a cell: no unit, the legend has it.
fn cell_text(measure: &Measure, value: f64, largest: f64) -> String {
    match measure.unit {
        Unit::Share => format!("{:.1}", value * 100.0),
        Unit::Count | Unit::Number => short(value, largest),
    }
}

/// The colours from least to most, and what the colour is.
fn legend(scene: &mut Scene, measure: &Measure, (low, high): (f64, f64), has_gaps: bool, y: f64) {
    let name = measure.axis();
    let x = MARGIN + font::width(&name, NOTE) + 14.0;
    scene.text((MARGIN, y + 12.0), Anchor::Start, NOTE, name);
    let least = tick_text(measure, low, high);
    scene.text((x, y + 12.0), Anchor::Start, NOTE, least.clone());
    let x = x + font::width(&least, NOTE) + 8.0;
    let step = LEGEND_WIDTH / LEGEND_STEPS as f64;
    for index in 0..LEGEND_STEPS {
        let fill = heat(index as f64 / (LEGEND_STEPS - 1) as f64);
        scene.rect((x + step * index as f64, y + 2.0), (step + 0.5, 12.0), fill, None);
    }
    let x = x + LEGEND_WIDTH + 8.0;
    let most = tick_text(measure, high, high);
    scene.text((x, y + 12.0), Anchor::Start, NOTE, most.clone());
    if !has_gaps {
        return;
    }
    let x = x + font::width(&most, NOTE) + 24.0;
    scene.rect((x, y + 1.5), (13.0, 13.0), GRID, None);
    scene.rect((x + 1.0, y + 2.5), (11.0, 11.0), PAPER, None);
    scene.text((x + 19.0, y + 12.0), Anchor::Start, NOTE, "no row in the result");
}
