//! Results for people and programs: aligned tables, CSV, JSON, NDJSON and Parquet.
//!
//! - `cell`: one value as text or JSON; `width`: texts in columns of a terminal;
//! - `table`: aligned columns, light rules, fitted to a width;
//! - `csv`: RFC 4180, with cells that a spreadsheet would run defused;
//! - `json`: an array of objects, or one object per line;
//! - `parquet`: row groups of bounded size;
//! - [`mod@file`]: a file that is there whole or not at all.
//!
//! Only data is written, but for one line below a table that had to leave columns out. Several results in one run follow
//! each other: after an empty line in tables and CSV, on a new line in JSON; NDJSON just goes on; Parquet takes one.
//! Nothing is written for a result beyond its header when it has no rows. Every format streams: memory does not grow with
//! the rows.

pub(crate) mod cell;
mod csv;
pub mod file;
mod json;
mod parquet;
mod table;
pub(crate) mod width;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::run::ResultSink;

/// Rows of a table, unless the user says otherwise.
pub const MAX_TABLE_ROWS: u64 = 10_000;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Aligned columns for people: thousands separated, shares as per cent.
    #[default]
    Table,
    /// Comma-separated with a header line; NULL is an empty cell, an empty text is `""`.
    Csv,
    /// One array of objects for each statement.
    Json,
    /// One object per line.
    Ndjson,
    /// One Parquet file.
    Parquet,
}

impl Format {
    /// Every format, in the order in which help texts list them.
    pub const ALL: [Self; 5] = [Self::Table, Self::Csv, Self::Json, Self::Ndjson, Self::Parquet];

    /// The name by which [`FromStr`] knows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        }
    }

    /// The format that the name of a file asks for: `.csv`, `.json`, `.ndjson` or `.jsonl`, `.parquet`.
    pub fn of_file(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }

    /// Rows that a result has at most unless the user says otherwise: nobody reads a longer table.
    pub fn default_max_rows(self) -> Option<u64> {
        match self {
            Self::Table => Some(MAX_TABLE_ROWS),
            Self::Csv | Self::Json | Self::Ndjson | Self::Parquet => None,
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name is no output format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format {0:?}: use table, csv, json, ndjson or parquet")]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.as_str() == name)
            .ok_or_else(|| UnknownFormat(name.to_owned()))
    }
}

/// What of a result has no place in its format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrintError {
    /// A second result in a format that takes one.
    #[error("a Parquet file holds one result, and the text has several statements: leave one, or use ndjson")]
    SeveralResults,
    /// A type that Parquet does not have.
    #[error(
        "the result cannot be written as Parquet ({detail}): cast the column to another type, or use ndjson"
    )]
    NotParquet {
        /// What Parquet says of it.
        detail: String,
    },
}

/// Writes results in one format to `out`, flushed at the end of each.
#[derive(Debug)]
pub struct Printer<W> {
    out: W,
    layout: Layout,
    results: u64,
}

#[derive(Debug)]
enum Layout {
    Table(table::Table),
    Csv(csv::Csv),
    Json(json::Json),
    Parquet(Box<parquet::Parquet>),
}

impl<W: Write> Printer<W> {
    /// `width`: columns of the terminal that tables are fitted to; `None` leaves them as wide as they are.
    pub fn new(format: Format, width: Option<usize>, out: W) -> Self {
        let layout = match format {
            Format::Table => Layout::Table(table::Table::new(width)),
            Format::Csv => Layout::Csv(csv::Csv::default()),
            Format::Json => Layout::Json(json::Json::array()),
            Format::Ndjson => Layout::Json(json::Json::lines()),
            Format::Parquet => Layout::Parquet(Box::default()),
        };
        Self {
            out,
            layout,
            results: 0,
        }
    }

    /// The same for a terminal: nothing in a value reaches it as a command, and tables have colours if `colours` says so.
    #[must_use]
    pub fn for_terminal(mut self, colours: bool) -> Self {
        match &mut self.layout {
            Layout::Table(table) => table.coloured(colours),
            Layout::Csv(csv) => csv.escape_control(),
            Layout::Json(_) | Layout::Parquet(_) => {}
        }
        self
    }

    /// The output, with what was written so far.
    pub fn written(&self) -> &W {
        &self.out
    }

    /// Gives the output back.
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write + Send> ResultSink for Printer<W> {
    fn begin(&mut self, schema: &SchemaRef) -> io::Result<()> {
        let is_first = self.results == 0;
        self.results += 1;
        match &mut self.layout {
            Layout::Table(table) => {
                if !is_first {
                    writeln!(self.out)?;
                }
                table.begin(schema);
                Ok(())
            }
            Layout::Csv(csv) => {
                if !is_first {
                    writeln!(self.out)?;
                }
                csv.begin(schema, &mut self.out)
            }
            Layout::Json(json) => json.begin(schema, &mut self.out),
            Layout::Parquet(parquet) => parquet.begin(schema),
        }
    }

    fn rows(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match &mut self.layout {
            Layout::Table(table) => table.rows(batch, &mut self.out),
            Layout::Csv(csv) => csv.rows(batch, &mut self.out),
            Layout::Json(json) => json.rows(batch, &mut self.out),
            Layout::Parquet(parquet) => parquet.rows(batch, &mut self.out),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match &mut self.layout {
            Layout::Table(table) => table.end(&mut self.out)?,
            Layout::Csv(_) => {}
            Layout::Json(json) => json.end(&mut self.out)?,
            Layout::Parquet(parquet) => parquet.end(&mut self.out)?,
        }
        self.out.flush()
    }
}
