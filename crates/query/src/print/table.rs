//! Aligned tables: numbers right, texts left, light rules, fitted to the width of a terminal by cutting wide texts.
//!
//! Column widths come from the first rows; those of a longer result are streamed with the same widths, so that memory
//! does not grow with it. A number is never cut: a wider one moves its line.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::cell::{Cells, Kind, escape_control};

/// Rows that are looked at before the widths are settled.
const SAMPLE_ROWS: usize = 1_000;
/// A text column is not cut below this many columns of the terminal.
const MIN_TEXT_WIDTH: usize = 8;
/// Between two columns: ` │ `.
const SEPARATOR_WIDTH: usize = 3;

/// State between the calls for one result.
#[derive(Debug)]
pub(super) struct Table {
    terminal_width: Option<usize>,
    schema: Option<SchemaRef>,
    columns: Vec<Column>,
    /// Rows held back until the widths are settled.
    sample: Vec<Vec<String>>,
    is_settled: bool,
}

#[derive(Debug)]
struct Column {
    name: String,
    kind: Kind,
    width: usize,
}

impl Table {
    pub(super) fn new(terminal_width: Option<usize>) -> Self {
        Self {
            terminal_width,
            schema: None,
            columns: Vec::new(),
            sample: Vec::new(),
            is_settled: false,
        }
    }

    pub(super) fn begin(&mut self, schema: &SchemaRef) {
        let columns = schema.fields().iter().map(|field| {
            let name = escape_control(field.name());
            Column {
                width: name.width(),
                kind: Kind::of(field),
                name,
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
                .map(|cells| cells.for_people(row))
                .collect::<io::Result<Vec<String>>>()?;
            if self.is_settled {
                self.push_line(&mut lines, &texts);
            } else {
                self.sample.push(texts);
                if self.sample.len() >= SAMPLE_ROWS {
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
        out.write_all(lines.as_bytes())
    }

    /// Fixes the widths, and gives the header and the rows held back.
    fn settle(&mut self, lines: &mut String) {
        let sample = std::mem::take(&mut self.sample);
        for texts in &sample {
            for (column, text) in self.columns.iter_mut().zip(texts) {
                column.width = column.width.max(text.width());
            }
        }
        self.fit();
        self.is_settled = true;
        let names: Vec<String> = self.columns.iter().map(|column| column.name.clone()).collect();
        self.push_line(lines, &names);
        let rules: Vec<String> = self
            .columns
            .iter()
            .map(|column| "─".repeat(column.width + 2))
            .collect();
        lines.push_str(&rules.join("┼"));
        lines.push('\n');
        for texts in &sample {
            self.push_line(lines, texts);
        }
    }

    /// Takes from the widest texts until the line fits, or no text can give any more.
    fn fit(&mut self) {
        let Some(terminal_width) = self.terminal_width else {
            return;
        };
        let separators = SEPARATOR_WIDTH * self.columns.len().saturating_sub(1) + 1;
        let mut line_width = separators + self.columns.iter().map(|column| column.width).sum::<usize>();
        while line_width > terminal_width {
            let texts = self.columns.iter_mut().filter(|column| column.kind == Kind::Text);
            let Some(widest) = texts
                .max_by_key(|column| column.width)
                .filter(|c| c.width > MIN_TEXT_WIDTH)
            else {
                break;
            };
            widest.width -= 1;
            line_width -= 1;
        }
    }

    fn push_line(&self, lines: &mut String, texts: &[String]) {
        let line_start = lines.len();
        for (index, (column, text)) in self.columns.iter().zip(texts).enumerate() {
            lines.push_str(if index == 0 { " " } else { " │ " });
            let text = if column.kind == Kind::Text {
                cut(text, column.width)
            } else {
                text.clone()
            };
            let padding = " ".repeat(column.width.saturating_sub(text.width()));
            if column.kind.is_right_aligned() {
                lines.push_str(&padding);
                lines.push_str(&text);
            } else {
                lines.push_str(&text);
                lines.push_str(&padding);
            }
        }
        lines.truncate(lines.trim_end_matches(' ').len().max(line_start));
        lines.push('\n');
    }
}

/// `text` in at most `width` columns of the terminal, `…` in place of what was cut.
fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut used = 1;
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > width {
            break;
        }
        shown.push(c);
    }
    shown.push('…');
    shown
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};

    use super::*;

    fn printed(width: Option<usize>, columns: Vec<(&str, ArrayRef)>) -> String {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut table = Table::new(width);
        let mut out = Vec::new();
        table.begin(&batch.schema());
        table.rows(&batch, &mut out).unwrap();
        table.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_aligned_whatever_their_size() {
        let text = printed(
            None,
            vec![
                (
                    "region",
                    Arc::new(StringArray::from(vec![Some("South"), None, Some("東京")])) as ArrayRef,
                ),
                (
                    "logins",
                    Arc::new(Int64Array::from(vec![1_234_567_890_123, 7, -1000])),
                ),
                ("share", Arc::new(Float64Array::from(vec![0.9994, 0.0001, 0.0]))),
            ],
        );
        let expected = " region │            logins │   share\n\
                        ────────┼───────────────────┼─────────\n \
                        South  │ 1,234,567,890,123 │  99.9 %\n \
                        ∅      │                 7 │ < 0.1 %\n \
                        東京   │            -1,000 │   0.0 %\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn wide_texts_are_cut_to_the_terminal_and_numbers_never() {
        let text = printed(
            Some(30),
            vec![
                (
                    "message",
                    Arc::new(StringArray::from(vec!["a very long message that goes on and on"])) as ArrayRef,
                ),
                ("kafka_offset", Arc::new(Int64Array::from(vec![i64::MAX]))),
            ],
        );
        assert!(text.contains("a very …"), "{text}");
        assert!(text.contains("9,223,372,036,854,775,807"), "{text}");
    }

    #[test]
    fn a_result_without_rows_is_a_header() {
        let none: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
        assert_eq!(printed(None, vec![("logins", none)]), " logins\n────────\n");
    }

    #[test]
    fn rows_beyond_the_sample_keep_the_columns() {
        let count = i64::try_from(SAMPLE_ROWS).unwrap() + 500;
        let text = printed(
            None,
            vec![(
                "n",
                Arc::new((1_000..1_000 + count).collect::<Int64Array>()) as ArrayRef,
            )],
        );
        assert_eq!(text.lines().count(), SAMPLE_ROWS + 502);
        assert!(
            text.lines().skip(2).all(|line| line.chars().count() == 6),
            "{text}"
        );
    }
}
