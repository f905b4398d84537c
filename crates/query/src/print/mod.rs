//! Results as text: aligned tables for people, CSV, JSON and NDJSON for programs.
//!
//! - `cell`: one value as text or JSON;
//! - `table`: aligned columns, light rules, fitted to a width;
//! - `csv`: RFC 4180, with cells that a spreadsheet would run defused;
//! - `json`: an array of objects, or one object per line.
//!
//! Only data is written, never a message. Several results in one run follow each other: after an empty line in tables and
//! CSV, on a new line in JSON; NDJSON just goes on. Nothing is written for a result beyond its header when it has no rows.

mod cell;
mod csv;
mod json;
mod table;

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::run::ResultSink;

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
}

impl Format {
    /// Every format, in the order in which help texts list them.
    pub const ALL: [Self; 4] = [Self::Table, Self::Csv, Self::Json, Self::Ndjson];

    /// The name by which [`FromStr`] knows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Ndjson => "ndjson",
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
#[error("unknown format {0:?}: use table, csv, json or ndjson")]
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
}

impl<W: Write> Printer<W> {
    /// `width`: columns of the terminal that tables are fitted to; `None` leaves them as wide as they are.
    pub fn new(format: Format, width: Option<usize>, out: W) -> Self {
        let layout = match format {
            Format::Table => Layout::Table(table::Table::new(width)),
            Format::Csv => Layout::Csv(csv::Csv::default()),
            Format::Json => Layout::Json(json::Json::array()),
            Format::Ndjson => Layout::Json(json::Json::lines()),
        };
        Self {
            out,
            layout,
            results: 0,
        }
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
        }
    }

    fn rows(&mut self, batch: &RecordBatch) -> io::Result<()> {
        match &mut self.layout {
            Layout::Table(table) => table.rows(batch, &mut self.out),
            Layout::Csv(csv) => csv.rows(batch, &mut self.out),
            Layout::Json(json) => json.rows(batch, &mut self.out),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        match &mut self.layout {
            Layout::Table(table) => table.end(&mut self.out)?,
            Layout::Csv(_) => {}
            Layout::Json(json) => json.end(&mut self.out)?,
        }
        self.out.flush()
    }
}
