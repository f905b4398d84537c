//! A chart as text: bars of block elements for rankings, hours and days, shades for heat maps. Every line is at most as wide
//! as the terminal; colours are only there when asked for.

use unicode_width::UnicodeWidthStr;

use super::Chart;
use super::model::{Bars, Figure, HOURS, HeatMap, Hours, Lines, Measure};
use super::scale::{tick_text, time_text};
use crate::print::width::{cut, pad_left, pad_right};

/// Below this a chart is not made narrower.
const LEAST_WIDTH: usize = 40;
/// Beyond this bars say nothing more.
const MOST_WIDTH: usize = 160;
/// Points that are listed of one line, and of one of several; of more, the last.
const MOST_POINTS: usize = 60;
const MOST_OF_SEVERAL: usize = 31;
const EIGHTHS: [&str; 9] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"];
const SHADES: [char; 5] = ['·', '░', '▒', '▓', '█'];
/// Names are not cut below this.
const LEAST_LABEL: usize = 8;
/// Number 32 of the 256 colours, which stands out from black as from white. Of a heat map the shade, not the colour, says how
/// much: on a dark terminal a light cell would look like much.
const BLUE: &str = "\u{1b}[38;5;32m";
const BOLD: &str = "\u{1b}[1m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// The lines of the chart.
pub(super) fn write(chart: &Chart, width: usize, colours: bool) -> String {
    let mut text = Text {
        lines: String::new(),
        width: width.clamp(LEAST_WIDTH, MOST_WIDTH),
        colours,
    };
    text.line(BOLD, &chart.title);
    if chart.subtitle != chart.title {
        text.line(DIM, &chart.subtitle);
    }
    text.lines.push('\n');
    match &chart.figure {
        Figure::Bars(bars) => text.bars(bars),
        Figure::Hours(hours) => text.hours(hours),
        Figure::HeatMap(map) => text.heat_map(map),
        Figure::Lines(lines) => text.days(lines),
    }
    for note in &chart.notes {
        text.line(DIM, note);
    }
    text.lines
}

struct Text {
    lines: String,
    width: usize,
    colours: bool,
}

/// One bar: its name, its value, and what is written after it.
struct Row {
    label: String,
    value: Option<f64>,
    text: String,
}

impl Text {
    fn line(&mut self, style: &str, line: &str) {
        let line = cut(line, self.width);
        self.styled(style, &line);
        self.lines.push('\n');
    }

    fn styled(&mut self, style: &str, text: &str) {
        if self.colours && !text.is_empty() {
            self.lines.push_str(style);
            self.lines.push_str(text);
            self.lines.push_str(PLAIN);
        } else {
            self.lines.push_str(text);
        }
    }

    fn bars(&mut self, bars: &Bars) {
        let rows = bars.groups.iter().flat_map(|group| {
            let indent = if group.heading().is_some() { "  " } else { "" };
            group.bars.iter().map(move |bar| Row {
                label: format!("{indent}{}", bar.label),
                value: bar.value,
                text: bar.text(&bars.measure),
            })
        });
        let rows: Vec<Row> = rows.collect();
        let scale = Scale::of(&rows, self.width);
        let mut rows = rows.into_iter();
        for group in &bars.groups {
            if let Some(name) = group.heading() {
                let total = group
                    .total
                    .as_deref()
                    .map_or(String::new(), |total| format!("  {total}"));
                let name = cut(name, self.width.saturating_sub(total.width() + 1));
                self.lines.push(' ');
                self.styled(BOLD, &name);
                self.styled(DIM, &total);
                self.lines.push('\n');
            }
            for row in rows.by_ref().take(group.bars.len()) {
                self.row(&row, &scale);
            }
        }
        if scale.is_empty {
            self.line(DIM, "no rows");
        }
    }

    fn hours(&mut self, hours: &Hours) {
        for series in &hours.series {
            if hours.series.len() > 1 {
                self.line(BOLD, &format!(" {}", series.name));
            }
            let rows: Vec<Row> = (0..HOURS)
                .map(|hour| row_of(hour.to_string(), series.values[hour], &hours.measure))
                .collect();
            self.rows(&rows);
        }
    }

    fn days(&mut self, lines: &Lines) {
        let count: usize = lines.panels.iter().map(|panel| panel.series.len()).sum();
        let most = if count > 1 { MOST_OF_SEVERAL } else { MOST_POINTS };
        for panel in &lines.panels {
            for series in &panel.series {
                let name = series.name.as_deref().unwrap_or(&panel.measure.name);
                if count > 1 {
                    self.line(BOLD, &format!(" {name}"));
                }
                let earlier = series.points.len().saturating_sub(most);
                if earlier > 0 {
                    self.line(DIM, &format!(" {earlier} earlier points are not shown"));
                }
                let points = &series.points[earlier..];
                let rows: Vec<Row> = points
                    .iter()
                    .map(|(at, value)| row_of(time_text(*at, lines.is_daily), Some(*value), &panel.measure))
                    .collect();
                self.rows(&rows);
            }
            if panel.series.is_empty() {
                self.line(DIM, "no rows");
            }
        }
    }

    fn rows(&mut self, rows: &[Row]) {
        let scale = Scale::of(rows, self.width);
        for row in rows {
            self.row(row, &scale);
        }
    }

    fn row(&mut self, row: &Row, scale: &Scale) {
        let label = cut(&row.label, scale.label);
        let label = if scale.is_numbered {
            pad_left(&label, scale.label)
        } else {
            pad_right(&label, scale.label)
        };
        self.lines.push(' ');
        self.lines.push_str(&label);
        self.lines.push_str(" │");
        let bar = scale.bar(row.value.unwrap_or(0.0));
        self.styled(BLUE, &bar);
        if !bar.is_empty() {
            self.lines.push(' ');
        }
        self.lines.push_str(&row.text);
        self.lines.push('\n');
    }

    fn heat_map(&mut self, map: &HeatMap) {
        let values = || {
            map.rows
                .iter()
                .flat_map(|row| row.values.iter().flatten().copied())
        };
        let Some(first) = values().next() else {
            return self.line(DIM, "no rows");
        };
        let (low, high) = values().fold((first.min(0.0), first), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let names = map.rows.iter().map(|row| row.name.width());
        // Two columns of the terminal for each hour, or one where there is no room for them.
        let cell = if self.width >= 2 * HOURS + 4 + LEAST_LABEL {
            2
        } else {
            1
        };
        let room = self.width.saturating_sub(cell * HOURS + 4).max(LEAST_LABEL);
        let label = names.max().unwrap_or(0).max(map.row_axis.width()).min(room);
        let hours: String = if cell == 2 {
            (0..HOURS).map(|hour| format!("{hour:>2}")).collect()
        } else {
            (0..HOURS).step_by(6).map(|hour| format!("{hour:<6}")).collect()
        };
        let head = format!(" {}  {hours}", pad_right(&cut(&map.row_axis, label), label));
        self.styled(DIM, &head);
        self.lines.push('\n');
        for row in &map.rows {
            let name = pad_right(&cut(&row.name, label), label);
            self.lines.push_str(&format!(" {name}  "));
            for value in row.values {
                let level = value.map(|value| {
                    let part = value / (high - low) - low / (high - low);
                    ((part * SHADES.len() as f64) as usize).min(SHADES.len() - 1)
                });
                self.cell(level, cell);
            }
            self.lines.push('\n');
        }
        self.legend(&map.measure, (low, high), cell);
    }

    /// What the shades stand for; what does not fit is left out, the values last.
    fn legend(&mut self, measure: &Measure, (low, high): (f64, f64), cell: usize) {
        let (least, most) = (tick_text(measure, low, high), tick_text(measure, high, high));
        let scale = least.width() + 1 + cell * SHADES.len() + 1 + most.width();
        let room = self.width.saturating_sub(scale + 2);
        let empty = ", empty: no row";
        let has_empty = measure.axis().width() + empty.width() <= room;
        let name = cut(&measure.axis(), room);
        self.lines.push_str(&format!(" {name} {least} "));
        for level in 0..SHADES.len() {
            self.cell(Some(level), cell);
        }
        self.lines
            .push_str(&format!(" {most}{}\n", if has_empty { empty } else { "" }));
    }

    fn cell(&mut self, level: Option<usize>, width: usize) {
        match level {
            None => self.lines.push_str(&" ".repeat(width)),
            Some(level) => self.styled(BLUE, &SHADES[level].to_string().repeat(width)),
        }
    }
}

fn row_of(label: String, value: Option<f64>, measure: &Measure) -> Row {
    Row {
        label,
        value,
        text: value.map_or_else(String::new, |value| measure.text(value)),
    }
}

/// How wide labels and bars are, and how much a column of the terminal stands for.
struct Scale {
    label: usize,
    /// Columns left of zero, and right of it.
    below: usize,
    above: usize,
    unit: f64,
    is_numbered: bool,
    is_empty: bool,
}

impl Scale {
    fn of(rows: &[Row], width: usize) -> Self {
        let widest = |widths: &mut dyn Iterator<Item = usize>| widths.max().unwrap_or(0);
        let text = widest(&mut rows.iter().map(|row| row.text.width()));
        // Between label, bar and text: ` `, ` │`, ` `.
        let room = width.saturating_sub(text + 4);
        let label =
            widest(&mut rows.iter().map(|row| row.label.width())).min((room * 3 / 5).max(LEAST_LABEL));
        let bar = room.saturating_sub(label).max(1);
        let values = || rows.iter().filter_map(|row| row.value);
        let (low, high) = values().fold((0.0_f64, 0.0_f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let below = if low < 0.0 {
            let part = low.abs() / (low.abs() / 2.0 + high / 2.0) / 2.0;
            ((bar as f64 * part).round() as usize).clamp(1, bar)
        } else {
            0
        };
        let above = bar - below;
        let unit = (low.abs() / below.max(1) as f64).max(high / above.max(1) as f64);
        Self {
            label,
            below,
            above,
            unit,
            is_numbered: !rows.is_empty() && rows.iter().all(|row| row.label.parse::<f64>().is_ok()),
            is_empty: rows.is_empty(),
        }
    }

    /// The bar, from the far left of what is below zero.
    fn bar(&self, value: f64) -> String {
        let size = if self.unit > 0.0 {
            value.abs() / self.unit
        } else {
            0.0
        };
        if value < 0.0 {
            let cells = (size.round() as usize).clamp(1, self.below);
            return format!("{}{}", " ".repeat(self.below - cells), "█".repeat(cells));
        }
        let eighths = ((size * 8.0).round() as usize).min(self.above * 8);
        // Something is never drawn as nothing.
        let eighths = if value > 0.0 { eighths.max(1) } else { eighths };
        let bar = format!("{}{}", "█".repeat(eighths / 8), EIGHTHS[eighths % 8]);
        format!("{}{bar}", " ".repeat(self.below))
    }
}
