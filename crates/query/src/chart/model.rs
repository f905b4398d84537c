//! What a chart shows, free of Arrow and of pixels: the shapes that [`super::shape`] makes of a result and that the
//! drawings turn into a picture or into text.

use crate::print::cell::{per_cent, rounded, separate_thousands};

/// Hours of a day, the columns of a heat map.
pub(super) const HOURS: usize = 24;

/// What a number counts, which decides its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    /// Whole numbers.
    Count,
    /// Any number.
    Number,
    /// A fraction of one, said in per cent.
    Share,
}

/// A column of numbers: its name for people, and what it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Measure {
    pub(super) name: String,
    pub(super) unit: Unit,
}

impl Measure {
    /// The value with all that matters of it: `12,345`, `38.1 %`.
    pub(super) fn text(&self, value: f64) -> String {
        match self.unit {
            Unit::Count => separate_thousands(&format!("{value:.0}")),
            Unit::Number => rounded(value),
            Unit::Share => per_cent(value),
        }
    }

    /// The name with its unit, for an axis: `share (%)`.
    pub(super) fn axis(&self) -> String {
        match self.unit {
            Unit::Share => format!("{} (%)", self.name),
            Unit::Count | Unit::Number => self.name.clone(),
        }
    }
}

/// One of the shapes.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Figure {
    Bars(Bars),
    Hours(Hours),
    HeatMap(HeatMap),
    Lines(Lines),
}

/// A ranking: one bar for each row, in the order of the rows, under the headings of their groups.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bars {
    pub(super) measure: Measure,
    /// One without a name when there are no groups.
    pub(super) groups: Vec<Group>,
}

/// Bars that belong together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Group {
    pub(super) name: Option<String>,
    /// What the group has in all, as text.
    pub(super) total: Option<String>,
    pub(super) bars: Vec<Bar>,
}

impl Group {
    /// Whether the group is said by a line of its own: not when its only bar has the same name.
    pub(super) fn heading(&self) -> Option<&str> {
        self.name
            .as_deref()
            .filter(|name| self.bars.len() != 1 || self.bars[0].label != *name)
    }
}

/// One row of a ranking.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: Option<f64>,
    pub(super) share: Option<f64>,
}

impl Bar {
    /// What is written beside the bar.
    pub(super) fn text(&self, measure: &Measure) -> String {
        let Some(value) = self.value else {
            return "no value".to_owned();
        };
        match self.share {
            Some(share) => format!("{} · {}", measure.text(value), per_cent(share)),
            None => measure.text(value),
        }
    }
}

/// The hours of a day, for each clock or other series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hours {
    pub(super) measure: Measure,
    pub(super) axis: String,
    pub(super) series: Vec<HourSeries>,
}

/// One series of [`Hours`], one row of a [`HeatMap`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HourSeries {
    pub(super) name: String,
    /// `None` where the result has no row.
    pub(super) values: [Option<f64>; HOURS],
}

/// Hours across, names down, the value as colour.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HeatMap {
    pub(super) measure: Measure,
    pub(super) axis: String,
    pub(super) row_axis: String,
    pub(super) rows: Vec<HourSeries>,
}

/// Values over time. Several measures have a panel each; several series share one panel.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Lines {
    pub(super) axis: String,
    /// Whether the points are dates rather than times.
    pub(super) is_daily: bool,
    pub(super) panels: Vec<Panel>,
}

/// One measure of [`Lines`].
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Panel {
    pub(super) measure: Measure,
    pub(super) series: Vec<Series>,
}

/// One line: points by time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Series {
    pub(super) name: Option<String>,
    /// Milliseconds since 1970 and the value there, by time.
    pub(super) points: Vec<(i64, f64)>,
}

/// `login_date` as `login date`.
pub(super) fn human(name: &str) -> String {
    name.replace('_', " ").trim().to_owned()
}
