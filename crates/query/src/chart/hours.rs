//! The hours of a day as columns, one colour for each series, the peak of each with its number.

use super::Chart;
use super::font;
use super::frame::{close, legend, no_rows, open, series_colour, value_axis, value_axis_width};
use super::model::{HOURS, Hours};
use super::scale::Axis;
use super::scene::{Anchor, GREY, MARGIN, NOTE, Scene, Style, WIDTH};

const HEIGHT: f64 = 300.0;
/// Share of an hour's space that its columns take.
const FILLED: f64 = 0.78;

pub(super) fn draw(chart: &Chart, hours: &Hours) -> Scene {
    let (mut scene, top) = open(chart);
    let values = || {
        hours
            .series
            .iter()
            .flat_map(|series| series.values.iter().flatten().copied())
    };
    if values().next().is_none() {
        let y = no_rows(&mut scene, top);
        return close(scene, chart, y);
    }
    let names: Vec<&str> = hours.series.iter().map(|series| series.name.as_str()).collect();
    let top = if names.len() > 1 {
        legend(&mut scene, &names, top - 8.0)
    } else {
        top
    };
    let axis = Axis::over(values(), hours.measure.unit, 5);
    let left = MARGIN + value_axis_width(&axis, &hours.measure);
    let right = WIDTH - MARGIN;
    scene.text((MARGIN, top + 8.0), Anchor::Start, NOTE, hours.measure.axis());
    // Room for the number over the highest column.
    let top = top + 34.0;
    let bottom = top + HEIGHT;
    value_axis(&mut scene, &axis, &hours.measure, (left, right), (top, bottom));

    let slot = (right - left) / HOURS as f64;
    let column = slot * FILLED / hours.series.len() as f64;
    let y_of = |value: f64| bottom - axis.position(value) * HEIGHT;
    for hour in 0..HOURS {
        let start = left + slot * hour as f64;
        scene.text(
            (start + slot / 2.0, bottom + 16.0),
            Anchor::Middle,
            NOTE,
            hour.to_string(),
        );
        for (index, series) in hours.series.iter().enumerate() {
            let Some(value) = series.values[hour] else {
                continue;
            };
            let x = start + slot * (1.0 - FILLED) / 2.0 + column * index as f64;
            let (high, low) = (y_of(value.max(0.0)), y_of(value.min(0.0)));
            let title = format!("{}, {hour}:00: {}", series.name, hours.measure.text(value));
            scene.rect((x, high), (column, low - high), series_colour(index), Some(title));
        }
    }
    // Numbers come last, over every column; the second one goes higher where it would meet the first.
    let mut said: Vec<(f64, f64, f64)> = Vec::new();
    for (index, series) in hours.series.iter().enumerate() {
        let Some((hour, value)) = peak(&series.values) else {
            continue;
        };
        let x = left + slot * (hour as f64 + (1.0 - FILLED) / 2.0) + column * (index as f64 + 0.5);
        let text = hours.measure.text(value);
        let half = font::width(&text, NOTE) / 2.0 + 3.0;
        let x = x.clamp(left + half, right - half);
        let mut y = y_of(value.max(0.0)) - 6.0;
        while said.iter().any(|(other, other_half, other_y)| {
            (x - other).abs() < half + other_half && (y - other_y).abs() < 13.0
        }) {
            y -= 13.0;
        }
        said.push((x, half, y));
        let colour = if hours.series.len() > 1 {
            series_colour(index)
        } else {
            GREY
        };
        scene.text(
            (x, y),
            Anchor::Middle,
            Style {
                bold: true,
                colour,
                ..NOTE
            },
            text,
        );
    }
    scene.text(
        (f64::midpoint(left, right), bottom + 38.0),
        Anchor::Middle,
        NOTE,
        hours.axis.clone(),
    );
    close(scene, chart, bottom + 42.0)
}

/// The hour with the most; the first of equal ones.
fn peak(values: &[Option<f64>; HOURS]) -> Option<(usize, f64)> {
    let mut best: Option<(usize, f64)> = None;
    for (hour, value) in values.iter().enumerate() {
        if let Some(value) = value
            && best.is_none_or(|(_, most)| *value > most)
        {
            best = Some((hour, *value));
        }
    }
    best
}
