//! Aligned tables: numbers right, texts left, light rules, fitted to the width of a terminal.
//!
//! What does not fit is fitted in this order: long names of columns take several lines, columns move together, long texts
//! are cut (`…`), and only then are the last columns left out, which a line below the table says. A number or a time is never cut.
//!
//! Column widths come from the first rows; those of a longer result are streamed with the same widths, so that memory
//! does not grow with it. A number that is wider there moves its line.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use unicode_width::UnicodeWidthStr;

use super::cell::{Cells, Kind, escape_control};
use super::width::{cut, pad_left, pad_right};

/// Rows that are looked at before the widths are settled.
const SAMPLE_ROWS: usize = 1_000;
/// The same in bytes of their texts.
const SAMPLE_BYTES: usize = 4 << 20;
/// A text column is not cut below this many columns of the terminal.
const MIN_TEXT_WIDTH: usize = 8;
/// Between two columns.
const WIDE: &str = " │ ";
/// The same where there is little room.
const NARROW: &str = "│ ";
const BOLD: &str = "\u{1b}[1m";
const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// State between the calls for one result.
#[derive(Debug)]
pub(super) struct Table {
    terminal_width: Option<usize>,
    colours: bool,
    schema: Option<SchemaRef>,
    columns: Vec<Column>,
    separator: &'static str,
    /// How many of the columns are shown: the first ones.
    shown: usize,
    /// Rows held back until the widths are settled.
    sample: Vec<Vec<String>>,
    sample_bytes: usize,
    is_settled: bool,
}

#[derive(Debug)]
struct Column {
    name: String,
    kind: Kind,
    width: usize,
    /// Widest value of the sample.
    values: usize,
}

impl Column {
    /// The lines of the name within the column's width, cut after an underline.
    fn heading(&self) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        for word in self.name.split_inclusive('_') {
            match lines.last_mut() {
                Some(line) if line.width() + word.width() <= self.width => line.push_str(word),
                _ => lines.push(word.to_owned()),
            }
        }
        lines.iter().map(|line| cut(line, self.width)).collect()
    }

    /// The width below which the name would have to be cut.
    fn longest_word(&self) -> usize {
        let words = self.name.split_inclusive('_');
        words.map(UnicodeWidthStr::width).max().unwrap_or(0)
    }

    /// How narrow the column may get before it is left out.
    fn least(&self) -> usize {
        match self.kind {
            Kind::Text => self.width.min(MIN_TEXT_WIDTH),
            _ => self.width,
        }
    }
}

impl Table {
    pub(super) fn new(terminal_width: Option<usize>) -> Self {
        Self {
            terminal_width,
            colours: false,
            schema: None,
            columns: Vec::new(),
            separator: WIDE,
            shown: 0,
            sample: Vec::new(),
            sample_bytes: 0,
            is_settled: false,
        }
    }

    /// The same with a bold header and dim rules.
    pub(super) fn coloured(&mut self, colours: bool) {
        self.colours = colours;
    }

    pub(super) fn begin(&mut self, schema: &SchemaRef) {
        let columns = schema.fields().iter().map(|field| {
            let name = escape_control(field.name());
            Column {
                width: name.width(),
                kind: Kind::of(field),
                name,
                values: 0,
            }
        });
        self.columns = columns.collect();
        self.schema = Some(schema.clone());
        self.is_settled = false;
    }

    pub(super) fn rows(&mut self, batch: &RecordBatch, out: &mut impl Write) -> io::Result<()> {
        let schema = self.schema.get_or_insert_with(|| batch.schema());
        let cells = batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(array, field)| Cells::new(array, field));
        let cells = cells.collect::<io::Result<Vec<_>>>()?;
        let mut lines = String::new();
        for row in 0..batch.num_rows() {
            let texts = cells
                .iter()
                .map(|cells| {
                    let text = cells.for_people(row)?;
                    // What the terminal cannot show is not kept.
                    Ok(match self.terminal_width {
                        Some(width) if cells.kind() == Kind::Text => cut(&text, width),
                        _ => text,
                    })
                })
                .collect::<io::Result<Vec<String>>>()?;
            if self.is_settled {
                self.push_line(&mut lines, &texts, false);
            } else {
                self.sample_bytes += texts.iter().map(String::len).sum::<usize>();
                self.sample.push(texts);
                if self.sample.len() >= SAMPLE_ROWS || self.sample_bytes >= SAMPLE_BYTES {
                    self.settle(&mut lines);
                }
            }
        }
        out.write_all(lines.as_bytes())
    }

    pub(super) fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        let mut lines = String::new();
        if !self.is_settled {
            self.settle(&mut lines);
        }
        self.push_left_out(&mut lines);
        out.write_all(lines.as_bytes())
    }

    /// Fixes the widths, and gives the header and the rows held back.
    fn settle(&mut self, lines: &mut String) {
        let sample = std::mem::take(&mut self.sample);
        self.sample_bytes = 0;
        for texts in &sample {
            for (column, text) in self.columns.iter_mut().zip(texts) {
                column.values = column.values.max(text.width());
            }
        }
        for column in &mut self.columns {
            column.width = column.width.max(column.values);
        }
        self.shown = self.columns.len();
        self.separator = WIDE;
        if let Some(terminal_width) = self.terminal_width {
            self.fit(terminal_width);
        }
        self.is_settled = true;
        self.push_header(lines);
        for texts in &sample {
            self.push_line(lines, texts, false);
        }
    }

    /// Columns of the terminal that the rule, the longest line, takes when each column has the given width.
    fn line_width(&self, width: impl Fn(&Column) -> usize) -> usize {
        // A blank before the first column, and in a wide table one after the last.
        let blanks = self.separator.width() - 1;
        let separators = self.separator.width() * self.shown.saturating_sub(1) + blanks;
        separators + self.columns[..self.shown].iter().map(width).sum::<usize>()
    }

    fn fit(&mut self, terminal_width: usize) {
        if self.line_width(|column| column.width) <= terminal_width {
            return;
        }
        for column in &mut self.columns {
            column.width = column.values.max(column.longest_word());
        }
        if self.line_width(|column| column.width) > terminal_width {
            self.separator = NARROW;
        }
        while self.shown > 1 && self.line_width(Column::least) > terminal_width {
            self.shown -= 1;
        }
        let mut line_width = self.line_width(|column| column.width);
        while line_width > terminal_width {
            let texts = self.columns[..self.shown].iter_mut();
            let texts = texts.filter(|column| column.kind == Kind::Text && column.width > MIN_TEXT_WIDTH);
            let Some(widest) = texts.max_by_key(|column| column.width) else {
                break;
            };
            widest.width -= 1;
            line_width -= 1;
        }
    }

    fn push_header(&self, lines: &mut String) {
        let headings: Vec<Vec<String>> = self.columns.iter().map(Column::heading).collect();
        let height = headings[..self.shown].iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            // Names stand on the rule.
            let texts = headings.iter().map(|heading| {
                let above = height.saturating_sub(heading.len());
                let text = line.checked_sub(above).and_then(|line| heading.get(line));
                text.cloned().unwrap_or_default()
            });
            self.push_line(lines, &texts.collect::<Vec<_>>(), true);
        }
        let rules: Vec<String> = self.columns[..self.shown]
            .iter()
            .map(|column| "─".repeat(column.width + self.separator.width() - 1))
            .collect();
        self.push_styled(lines, DIM, &rules.join("┼"));
        lines.push('\n');
    }

    fn push_styled(&self, lines: &mut String, style: &str, text: &str) {
        if self.colours && !text.is_empty() {
            lines.push_str(style);
            lines.push_str(text);
            lines.push_str(PLAIN);
        } else {
            lines.push_str(text);
        }
    }

    fn push_line(&self, lines: &mut String, texts: &[String], is_header: bool) {
        let line_start = lines.len();
        for (index, (column, text)) in self.columns[..self.shown].iter().zip(texts).enumerate() {
            if index == 0 {
                lines.push(' ');
            } else {
                self.push_styled(lines, DIM, self.separator);
            }
            let text = match column.kind {
                Kind::Text => pad_right(&cut(text, column.width), column.width),
                Kind::Time => pad_right(text, column.width),
                _ => pad_left(text, column.width),
            };
            // No blanks behind the last column.
            let is_last = index + 1 == self.shown;
            let text = if is_last {
                text.trim_end_matches(' ')
            } else {
                &text
            };
            if is_header {
                self.push_styled(lines, BOLD, text);
            } else {
                lines.push_str(text);
            }
        }
        if !self.colours {
            lines.truncate(lines.trim_end_matches(' ').len().max(line_start));
        }
        lines.push('\n');
    }

    /// Says which columns are left out.
    fn push_left_out(&self, lines: &mut String) {
        let left_out = &self.columns[self.shown..];
        if left_out.is_empty() {
            return;
        }
        let names: Vec<&str> = left_out.iter().map(|column| column.name.as_str()).collect();
        let subject = if names.len() == 1 {
            "1 more column does".to_owned()
        } else {
            format!("{} more columns do", names.len())
        };
        let text = format!(
            "{subject} not fit the terminal: {} (--format csv or json has all)",
            names.join(", ")
        );
        let width = self.terminal_width.unwrap_or(usize::MAX).max(MIN_TEXT_WIDTH);
        let mut line = String::new();
        for word in text.split(' ') {
            if !line.is_empty() && line.width() + 1 + word.width() > width {
                self.push_styled(lines, DIM, &line);
                lines.push('\n');
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(&cut(word, width));
        }
        self.push_styled(lines, DIM, &line);
        lines.push('\n');
    }
}

#[cfg(test)]
mod tests;
