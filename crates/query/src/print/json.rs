//! JSON: for each result one array of objects, a row per line, or (NDJSON) the objects alone, one per line.
//!
//! Control characters, and those that turn the direction of reading, are written as `\u001b`: the same value for a program,
//! harmless on a terminal. Numbers and booleans keep their type, lists and structs theirs; times, dates and decimals are texts.

use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use super::cell::{Cells, is_unsafe};

/// State between the calls for one result.
#[derive(Debug)]
pub(super) struct Json {
    is_array: bool,
    schema: Option<SchemaRef>,
    rows: u64,
}

impl Json {
    /// One array for each result.
    pub(super) fn array() -> Self {
        Self {
            is_array: true,
            schema: None,
            rows: 0,
        }
    }

    /// One object per line.
    pub(super) fn lines() -> Self {
        Self {
            is_array: false,
            schema: None,
            rows: 0,
        }
    }

    pub(super) fn begin(&mut self, schema: &SchemaRef, out: &mut impl Write) -> io::Result<()> {
        self.schema = Some(schema.clone());
        self.rows = 0;
        if self.is_array {
            out.write_all(b"[")
        } else {
            Ok(())
        }
    }

    pub(super) fn rows(&mut self, batch: &RecordBatch, out: &mut impl Write) -> io::Result<()> {
        let schema = self.schema.get_or_insert_with(|| batch.schema()).clone();
        let columns = batch
            .columns()
            .iter()
            .zip(schema.fields())
            .map(|(array, field)| Cells::new(array, field));
        let columns = columns.collect::<io::Result<Vec<_>>>()?;
        let mut text = Vec::new();
        for row in 0..batch.num_rows() {
            if self.is_array {
                text.extend_from_slice(if self.rows == 0 { b"\n" } else { b",\n" });
            }
            self.rows += 1;
            text.push(b'{');
            for (index, (cells, field)) in columns.iter().zip(schema.fields()).enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                push_json(&mut text, &serde_json::to_string(field.name())?);
                text.push(b':');
                push_json(&mut text, &serde_json::to_string(&cells.json(row)?)?);
            }
            text.push(b'}');
            if !self.is_array {
                text.push(b'\n');
            }
        }
        out.write_all(&text)
    }

    pub(super) fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        match (self.is_array, self.rows) {
            (false, _) => Ok(()),
            (true, 0) => out.write_all(b"]\n"),
            (true, _) => out.write_all(b"\n]\n"),
        }
    }
}

/// Adds what is JSON already, with escapes in place of what a terminal would obey: it can only stand within a string.
fn push_json(text: &mut Vec<u8>, json: &str) {
    if !json.chars().any(is_unsafe) {
        text.extend_from_slice(json.as_bytes());
        return;
    }
    for c in json.chars() {
        if is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
            }
        } else {
            text.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_keep_the_value_and_spare_the_terminal() {
        let value = "a\u{1b}[31m\u{9b}2J\u{202e}b\u{e0041}é東";
        let mut text = Vec::new();
        push_json(&mut text, &serde_json::to_string(value).unwrap());
        let json = String::from_utf8(text).unwrap();
        assert!(!json.chars().any(is_unsafe), "{json}");
        assert!(json.contains("é東"), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), value);
    }
}
