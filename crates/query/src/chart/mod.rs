//! Results as pictures: SVG, PNG, or text for a terminal.
//!
//! - `columns`: what each column can be in a chart, by name and type;
//! - `shape`: which chart a result is: bars, columns by hour, heat map, lines;
//! - `model`: the data of each chart;
//! - `bars`, `hours`, `heat_map`, `lines`, within `frame`: a chart as a `scene` of rectangles, lines and texts, with the
//!   steps of `scale` and the widths of `font`;
//! - `svg`, `png`: a scene as a file;
//! - `terminal`: a chart as lines of text.
//!
//! Drawings are made here rather than by a library of charts: one scene serves both files, measured with the font that is
//! built in, and tiny-skia fills the pixels. It adds a few seconds to a build.
//!
//! The same data gives the same bytes on every machine: no clock, no font of the system, no order of a hash map. What is
//! left out of a picture is said below it. Texts of the data cannot become markup or commands of a terminal.

mod bars;
mod columns;
mod font;
mod frame;
mod heat_map;
mod hours;
mod lines;
mod model;
mod png;
mod scale;
mod scene;
mod shape;
mod svg;
mod terminal;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use self::columns::Columns;
use self::model::Figure;
use self::scene::Scene;
use crate::print::cell::escape_control;
use crate::run::ResultSink;

/// Rows that a chart is made of at most: what has more is no picture.
pub const MAX_CHART_ROWS: usize = 50_000;
/// Characters of a title.
const MOST_TITLE: usize = 300;

/// Why there is no chart.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// No chart has a place for these columns.
    #[error(
        "no chart fits the columns of this result ({columns}): bars take a text and a number; a heat map a text, an hour (a \
         whole number 0 to 23 in a column named hour or ..._hour) and a number; columns by hour an hour and a number; lines \
         a date or a timestamp and a number after it"
    )]
    NoShape {
        /// Names and types.
        columns: String,
    },
    /// Two rows are for the same place of the chart.
    #[error(
        "two rows are for {place}, and the chart has one place for each {by}: group by it, or add a text column that tells them apart"
    )]
    Twice {
        /// What both are for.
        place: String,
        /// What the places stand for.
        by: String,
    },
    /// A column that is named as an hour holds something else.
    #[error(
        "the column {column} holds {value}, which is no hour of the day (0 to 23): give it another name, or filter"
    )]
    NotAnHour {
        /// Name of the column.
        column: String,
        /// What it holds.
        value: f64,
    },
    /// There would be more lines than can be told apart.
    #[error(
        "more than {} lines cannot be told apart: filter or group {by}",
        shape::MOST_LINES
    )]
    TooManyLines {
        /// What the lines stand for.
        by: String,
    },
    /// The result is too large.
    #[error("the result has more than {MAX_CHART_ROWS} rows, too many for a chart: group or filter them")]
    TooManyRows,
    /// The text has several statements.
    #[error(
        "a chart shows one result, and the text has several statements: leave one, or name a file with one"
    )]
    SeveralResults,
    /// There is no result.
    #[error("there is no result to draw")]
    NoResult,
    /// A value cannot be read as a number, a text or a time.
    #[error("a value cannot be drawn: {0}")]
    Value(#[from] io::Error),
    /// The picture cannot be packed.
    #[error("the picture cannot be made: {0}")]
    Picture(String),
}

/// Where a chart goes, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChartTarget {
    /// `-`: text on standard output.
    Terminal,
    /// A vector picture in this file.
    Svg(PathBuf),
    /// A picture of pixels in this file.
    Png(PathBuf),
}

/// The name says no kind of picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a chart: end it in .svg or .png, or give - for the terminal")]
pub struct UnknownChart(String);

impl FromStr for ChartTarget {
    type Err = UnknownChart;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "-" {
            return Ok(Self::Terminal);
        }
        let path = PathBuf::from(text);
        let extension = Path::new(text)
            .extension()
            .and_then(|extension| extension.to_str());
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("svg") => Ok(Self::Svg(path)),
            Some("png") => Ok(Self::Png(path)),
            _ => Err(UnknownChart(text.to_owned())),
        }
    }
}

/// What [`shape::find`] makes of a result.
#[derive(Debug)]
struct Drawn {
    /// Name of the kind of chart.
    what: &'static str,
    subtitle: String,
    notes: Vec<String>,
    figure: Figure,
}

/// Collects the one result of a run for a chart. The first thing that is wrong with it ends the run with an error that
/// holds a [`ChartError`].
#[derive(Debug, Default)]
pub struct ChartSink {
    schema: Option<SchemaRef>,
    batches: Vec<RecordBatch>,
    rows: usize,
}

impl ChartSink {
    /// The chart of what was collected, titled by `title`, or by what it shows.
    ///
    /// # Errors
    /// When no chart fits the result.
    pub fn finish(self, title: Option<&str>) -> Result<Chart, ChartError> {
        let schema = self.schema.ok_or(ChartError::NoResult)?;
        let drawn = shape::find(&Columns::new(&schema, &self.batches))?;
        let title = title.map_or_else(|| drawn.subtitle.clone(), |title| escape_control(title.trim()));
        Ok(Chart {
            title: title.chars().take(MOST_TITLE).collect(),
            subtitle: drawn.subtitle,
            what: drawn.what,
            rows: self.rows,
            notes: drawn.notes,
            figure: drawn.figure,
        })
    }
}

impl ResultSink for ChartSink {
    fn begin(&mut self, schema: &SchemaRef) -> io::Result<()> {
        if self.schema.is_some() {
            return Err(io::Error::other(ChartError::SeveralResults));
        }
        self.schema = Some(schema.clone());
        Ok(())
    }

    fn rows(&mut self, batch: &RecordBatch) -> io::Result<()> {
        self.rows += batch.num_rows();
        if self.rows > MAX_CHART_ROWS {
            return Err(io::Error::other(ChartError::TooManyRows));
        }
        self.batches.push(batch.clone());
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A chart, ready to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    title: String,
    subtitle: String,
    what: &'static str,
    rows: usize,
    notes: Vec<String>,
    figure: Figure,
}

impl Chart {
    /// Which chart was chosen, and what it shows: `bars: logins by region and division (9 rows)`.
    pub fn description(&self) -> String {
        format!("{}: {} ({} rows)", self.what, self.subtitle, self.rows)
    }

    /// What the chart leaves out.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Says one more thing that is left out, below the chart.
    #[must_use]
    pub fn with_note(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }

    /// The chart as an SVG file.
    pub fn svg(&self) -> String {
        svg::write(&self.scene())
    }

    /// The chart as a PNG file.
    ///
    /// # Errors
    /// [`ChartError::Picture`] when there is no memory for it.
    pub fn png(&self) -> Result<Vec<u8>, ChartError> {
        png::write(&self.scene())
    }

    /// The chart as lines of text of at most `width` columns, with the colours of a terminal or without.
    pub fn text(&self, width: usize, colours: bool) -> String {
        terminal::write(self, width, colours)
    }

    fn scene(&self) -> Scene {
        match &self.figure {
            Figure::Bars(figure) => bars::draw(self, figure),
            Figure::Hours(figure) => hours::draw(self, figure),
            Figure::HeatMap(figure) => heat_map::draw(self, figure),
            Figure::Lines(figure) => lines::draw(self, figure),
        }
    }
}

/// The title that a SQL text gives itself: its first line, if that is a comment.
pub fn title_of(sql: &str) -> Option<&str> {
    let line = sql.lines().map(str::trim).find(|line| !line.is_empty())?;
    let title = line
        .strip_prefix("--")?
        .trim_matches(|c: char| c == '-' || c.is_whitespace());
    (!title.is_empty()).then_some(title)
}
