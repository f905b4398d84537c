//! CSV by RFC 4180 with `\n` line ends.
//!
//! A text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a carriage return)
//! gets a `'` in front, unless it is a number. On a terminal, control characters are written as `\u{1b}`; elsewhere they
//! stay, because the data are the reader's.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::cell::{Cells, Kind, escape_control};

/// State between the calls for one result.
#[derive(Debug, Default)]
pub(super) struct Csv {
    schema: Option<SchemaRef>,
    escapes_control: bool,
}

impl Csv {
    /// For a terminal.
    pub(super) fn escape_control(&mut self) {
        self.escapes_control = true;
    }

    fn push_text(&self, line: &mut String, text: &str) {
        if self.escapes_control {
            push_text(line, &escape_control(text));
        } else {
            push_text(line, text);
        }
    }

    pub(super) fn begin(&mut self, schema: &SchemaRef, out: &mut impl Write) -> io::Result<()> {
        let mut line = String::new();
        for (index, field) in schema.fields().iter().enumerate() {
            if index > 0 {
                line.push(',');
            }
            self.push_text(&mut line, field.name());
        }
        line.push('\n');
        self.schema = Some(schema.clone());
        out.write_all(line.as_bytes())
    }

    pub(super) fn rows(&mut self, batch: &RecordBatch, out: &mut impl Write) -> io::Result<()> {
        let schema = self.schema.get_or_insert_with(|| batch.schema()).clone();
        let columns = batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(array, field)| Cells::new(array, field));
        let columns = columns.collect::<io::Result<Vec<_>>>()?;
        let mut lines = String::new();
        for row in 0..batch.num_rows() {
            for (index, cells) in columns.iter().enumerate() {
                if index > 0 {
                    lines.push(',');
                }
                match cells.kind() {
                    _ if cells.is_null(row) => {}
                    Kind::Text | Kind::Time => self.push_text(&mut lines, &cells.plain(row)?),
                    Kind::Number | Kind::Float | Kind::Share => lines.push_str(&cells.plain(row)?),
                }
            }
            lines.push('\n');
        }
        out.write_all(lines.as_bytes())
    }
}

fn push_text(line: &mut String, text: &str) {
    let defuse = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number(text);
    let quote = text.is_empty() || text.contains([',', '"', '\n', '\r']);
    if quote {
        line.push('"');
    }
    if defuse {
        line.push('\'');
    }
    if quote {
        line.push_str(&text.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(text);
    }
}

/// `-12`, `+3.5`: a sign, digits, perhaps a fraction.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    all_digits(whole) && all_digits(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_a_spreadsheet_would_run_are_defused() {
        let cases = [
            ("=1+1", "'=1+1"),
            ("+cmd", "'+cmd"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\tx", "'\tx"),
            ("\r=1", "\"'\r=1\""),
            ("=\"a\",b", "\"'=\"\"a\"\",b\""),
            ("-12", "-12"),
            ("+3.5", "+3.5"),
            ("-", "'-"),
            ("-1.", "'-1."),
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("a\nb", "\"a\nb\""),
            ("", "\"\""),
        ];
        for (text, cell) in cases {
            let mut line = String::new();
            push_text(&mut line, text);
            assert_eq!(line, cell, "{text:?}");
        }
    }
}
