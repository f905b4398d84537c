//! A ranking as horizontal bars, each with its number; groups have a heading.

use super::Chart;
use super::font;
use super::frame::{close, no_rows, open, series_colour};
use super::model::Bars;
use super::scale::Axis;
use super::scene::{AXIS, Anchor, GRID, HEADING, LABEL, MARGIN, NOTE, Scene, WIDTH, cut};

const ROW: f64 = 26.0;
const BAR: f64 = 17.0;
const GROUP_GAP: f64 = 8.0;
/// Labels take no more than this, bars no less than what is left.
const MOST_LABEL: f64 = 300.0;
const INDENT: f64 = 14.0;

pub(super) fn draw(chart: &Chart, bars: &Bars) -> Scene {
    let (mut scene, top) = open(chart);
    let rows = || bars.groups.iter().flat_map(|group| &group.bars);
    if rows().next().is_none() {
        let y = no_rows(&mut scene, top);
        return close(scene, chart, y);
    }
    let has_headings = bars.groups.iter().any(|group| group.heading().is_some());
    let indent = if has_headings { INDENT } else { 0.0 };
    let widest = |texts: &mut dyn Iterator<Item = f64>| texts.fold(0.0, f64::max);
    let headings = bars.groups.iter().filter_map(|group| {
        let total = font::width(group.total.as_deref().unwrap_or_default(), NOTE);
        Some(font::width(group.heading()?, HEADING) + total + 10.0)
    });
    let labels = rows().map(|bar| font::width(&bar.label, LABEL) + indent);
    let label_width = widest(&mut labels.chain(headings)).min(MOST_LABEL);
    let text_width = widest(&mut rows().map(|bar| font::width(&bar.text(&bars.measure), NOTE)));
    let left = MARGIN + label_width + 12.0;
    let right = WIDTH - MARGIN - text_width - 10.0;
    let axis = Axis::over(rows().filter_map(|bar| bar.value), bars.measure.unit, 6);
    let x_of = |value: f64| left + axis.position(value) * (right - left);

    // The grid lies below the bars, but how far it goes is known from them.
    let height: f64 = bars
        .groups
        .iter()
        .map(|group| {
            let heading = if group.heading().is_some() { ROW } else { 0.0 };
            heading + ROW * group.bars.len() as f64 + if has_headings { GROUP_GAP } else { 0.0 }
        })
        .sum();
    let bottom = top + height + 4.0;
    for tick in &axis.ticks {
        let x = x_of(*tick);
        scene.line((x, top), (x, bottom), if *tick == 0.0 { AXIS } else { GRID });
        scene.text(
            (x, bottom + 16.0),
            Anchor::Middle,
            NOTE,
            axis.text(&bars.measure, *tick),
        );
    }
    scene.text(
        (f64::midpoint(left, right), bottom + 36.0),
        Anchor::Middle,
        NOTE,
        bars.measure.axis(),
    );

    let mut y = top;
    for group in &bars.groups {
        if let Some(name) = group.heading() {
            let total = group.total.as_deref().unwrap_or_default();
            let total_width = font::width(total, NOTE) + 10.0;
            let name = cut(name, HEADING, WIDTH - 2.0 * MARGIN - total_width);
            let name_width = font::width(&name, HEADING);
            // Without the grid behind it.
            let cover = name_width + total_width + 4.0;
            scene.rect((MARGIN, y + 2.0), (cover, ROW - 4.0), super::scene::PAPER, None);
            scene.text((MARGIN, y + 17.5), Anchor::Start, HEADING, name);
            scene.text((MARGIN + name_width + 10.0, y + 17.5), Anchor::Start, NOTE, total);
            y += ROW;
        }
        for bar in &group.bars {
            let is_group = group.name.is_some() && group.heading().is_none();
            let (style, inset) = if is_group { (HEADING, 0.0) } else { (LABEL, indent) };
            let label = cut(&bar.label, style, label_width - inset);
            scene.text((MARGIN + inset, y + 17.5), Anchor::Start, style, label);
            let text = bar.text(&bars.measure);
            let value = bar.value.unwrap_or(0.0);
            let (from, to) = (x_of(value.min(0.0)), x_of(value.max(0.0)));
            let title = format!("{}: {text}", bar.label);
            scene.rect(
                (from, y + (ROW - BAR) / 2.0),
                (to - from, BAR),
                series_colour(0),
                Some(title),
            );
            // Of a bar to the left on its left, if there is room.
            if value < 0.0 && from - 8.0 - font::width(&text, NOTE) > left {
                scene.text((from - 8.0, y + 17.5), Anchor::End, NOTE, text);
            } else {
                scene.text((to + 8.0, y + 17.5), Anchor::Start, NOTE, text);
            }
            y += ROW;
        }
        if has_headings {
            y += GROUP_GAP;
        }
    }
    close(scene, chart, bottom + 40.0)
}
