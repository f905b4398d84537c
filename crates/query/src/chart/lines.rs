//! Values over time: one panel below the other for several measures, or one with several lines. A line is broken where
//! points are missing, so that nothing is drawn that the result does not say.

use super::Chart;
use super::font;
use super::frame::{close, no_rows, open, series_colour, value_axis, value_axis_width};
use super::model::{Lines, Panel, Series};
use super::scale::{Axis, DAY_MS, TimeTick, time_text, time_ticks};
use super::scene::{AXIS, Anchor, GRID, HEADING, INK, Item, MARGIN, NOTE, Scene, Style, WIDTH, cut};

const ONE_PANEL: f64 = 320.0;
const SOME_PANELS: f64 = 150.0;
const PANEL_GAP: f64 = 48.0;
const MOST_NAME: f64 = 150.0;
/// Half of the text below the last point.
const LAST_TICK: f64 = 20.0;
const NAME_LINE: f64 = 15.0;
/// More points than these have no dots.
const DOTS: usize = 100;
const MOST_TICKS: usize = 11;
const INKED: Style = Style { colour: INK, ..NOTE };

pub(super) fn draw(chart: &Chart, lines: &Lines) -> Scene {
    let (mut scene, top) = open(chart);
    let times = || {
        let series = lines.panels.iter().flat_map(|panel| &panel.series);
        series.flat_map(|series| series.points.iter().map(|(at, _)| *at))
    };
    let (Some(first), Some(last)) = (times().min(), times().max()) else {
        let y = no_rows(&mut scene, top);
        return close(scene, chart, y);
    };
    let gap = usual_gap(lines);
    let axes: Vec<Axis> = lines.panels.iter().map(axis_of).collect();
    let widths = axes.iter().zip(&lines.panels);
    let axis_width = widths
        .map(|(axis, panel)| value_axis_width(axis, &panel.measure))
        .fold(0.0, f64::max);
    let names = lines.panels.iter().flat_map(|panel| &panel.series);
    let name_width = names
        .filter_map(|series| series.name.as_deref())
        .map(|name| font::width(name, NOTE) + 26.0)
        .fold(LAST_TICK, f64::max)
        .min(MOST_NAME);
    let (left, right) = (MARGIN + axis_width + 6.0, WIDTH - MARGIN - name_width);
    let x_of = |at: i64| {
        if first == last {
            f64::midpoint(left, right)
        } else {
            left + (at - first) as f64 / (last - first) as f64 * (right - left)
        }
    };
    let least_step = if lines.is_daily { DAY_MS } else { 1 };
    let ticks = time_ticks(first, last, least_step, MOST_TICKS);
    let height = if lines.panels.len() == 1 {
        ONE_PANEL
    } else {
        SOME_PANELS
    };

    let mut y = top;
    for (panel, axis) in lines.panels.iter().zip(&axes) {
        let heading = panel.measure.axis();
        scene.text((MARGIN, y + 10.0), Anchor::Start, HEADING, heading);
        let (panel_top, bottom) = (y + 26.0, y + 26.0 + height);
        for tick in &ticks {
            let x = x_of(tick.at_ms);
            scene.line((x, panel_top), (x, bottom), GRID);
        }
        value_axis(
            &mut scene,
            axis,
            &panel.measure,
            (left, right),
            (panel_top, bottom),
        );
        let y_of = |value: f64| bottom - axis.position(value) * height;
        for (index, series) in panel.series.iter().enumerate() {
            draw_series(
                &mut scene,
                panel,
                series,
                index,
                lines.is_daily,
                gap,
                &x_of,
                &y_of,
            );
        }
        draw_names(
            &mut scene,
            panel,
            right,
            name_width,
            (panel_top, bottom),
            &x_of,
            &y_of,
        );
        draw_ticks(&mut scene, &ticks, bottom, &x_of);
        y = bottom + PANEL_GAP;
    }
    let bottom = y - PANEL_GAP;
    scene.text(
        (f64::midpoint(left, right), bottom + 52.0),
        Anchor::Middle,
        NOTE,
        lines.axis.clone(),
    );
    close(scene, chart, bottom + 56.0)
}

fn axis_of(panel: &Panel) -> Axis {
    let values = panel
        .series
        .iter()
        .flat_map(|series| series.points.iter().map(|(_, value)| *value));
    Axis::over(values, panel.measure.unit, 4)
}

/// The smallest distance of two points of a line: where it is larger, something is missing.
fn usual_gap(lines: &Lines) -> i64 {
    let series = lines.panels.iter().flat_map(|panel| &panel.series);
    let gaps = series.flat_map(|series| series.points.windows(2).map(|pair| pair[1].0 - pair[0].0));
    gaps.filter(|gap| *gap > 0).min().unwrap_or(i64::MAX)
}

#[expect(clippy::too_many_arguments, reason = "the two scales of one panel")]
fn draw_series(
    scene: &mut Scene,
    panel: &Panel,
    series: &Series,
    index: usize,
    is_daily: bool,
    gap: i64,
    x_of: &dyn Fn(i64) -> f64,
    y_of: &dyn Fn(f64) -> f64,
) {
    let colour = series_colour(index);
    let is_whole = |pair: &[(i64, f64)]| pair[1].0 - pair[0].0 <= gap.saturating_add(gap / 2);
    for part in series.points.chunk_by(|a, b| is_whole(&[*a, *b])) {
        if part.len() > 1 {
            scene.items.push(Item::Path {
                points: part.iter().map(|(at, value)| (x_of(*at), y_of(*value))).collect(),
                width: 2.0,
                colour,
            });
        }
        for (at, value) in part {
            if part.len() > 1 && series.points.len() > DOTS {
                continue;
            }
            let name = series
                .name
                .as_deref()
                .map_or(String::new(), |name| format!("{name}, "));
            let said = format!(
                "{name}{}: {}",
                time_text(*at, is_daily),
                panel.measure.text(*value)
            );
            scene.items.push(Item::Dot {
                x: x_of(*at),
                y: y_of(*value),
                radius: 3.0,
                fill: colour,
                title: Some(said),
            });
        }
    }
}

/// The name of each line at its end, moved apart where they would meet.
fn draw_names(
    scene: &mut Scene,
    panel: &Panel,
    right: f64,
    width: f64,
    (top, bottom): (f64, f64),
    x_of: &dyn Fn(i64) -> f64,
    y_of: &dyn Fn(f64) -> f64,
) {
    let mut ends: Vec<(f64, f64, usize, &str)> = Vec::new();
    for (index, series) in panel.series.iter().enumerate() {
        if let (Some(name), Some((at, value))) = (series.name.as_deref(), series.points.last()) {
            ends.push((y_of(*value), x_of(*at), index, name));
        }
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut places: Vec<f64> = Vec::new();
    for (y, ..) in &ends {
        let free = places.last().map_or(top, |last: &f64| last + NAME_LINE);
        places.push(y.max(free));
    }
    // What was pushed below the panel goes up again.
    let mut limit = bottom + NAME_LINE / 2.0;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - NAME_LINE;
    }
    for ((_, _, index, name), place) in ends.into_iter().zip(places) {
        let name = cut(name, INKED, width - 22.0);
        scene.rect(
            (right + 10.0, place - 4.0),
            (9.0, 9.0),
            series_colour(index),
            None,
        );
        scene.text((right + 24.0, place + 4.0), Anchor::Start, INKED, name);
    }
}

fn draw_ticks(scene: &mut Scene, ticks: &[TimeTick], bottom: f64, x_of: &dyn Fn(i64) -> f64) {
    for tick in ticks {
        let x = x_of(tick.at_ms);
        scene.line((x, bottom), (x, bottom + 4.0), AXIS);
        scene.text((x, bottom + 18.0), Anchor::Middle, NOTE, tick.text.clone());
        if let Some(below) = &tick.below {
            scene.text((x, bottom + 33.0), Anchor::Middle, NOTE, below.clone());
        }
    }
}
