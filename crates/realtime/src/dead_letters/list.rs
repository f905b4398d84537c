//! `dead-letters list`: the newest ones, without key and payload.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::ControlFlow;

use loginlake_kafka::KafkaSettings;
use loginlake_kafka::reader::ReadFrom;
use loginlake_service::exit::ExitError;

use super::args::Format;
use super::letter::{Letter, rfc3339};
use super::scan::scan;
use super::select::Selection;
use super::text::printable;

const HEADINGS: [&str; 7] = [
    "POSITION",
    "REJECTED AT",
    "REASON",
    "FIELD",
    "ATTEMPT",
    "SOURCE",
    "MESSAGE",
];

/// The newest dead letters of a selection, and how many there are.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// By time, partition and offset: the newest last.
    newest: BTreeMap<(Option<i64>, i32, i64), Letter>,
    matching: u64,
}

/// The newest `limit` dead letters that match. Memory is bounded by the limit.
pub(super) fn newest(
    kafka: &KafkaSettings,
    topic: &str,
    selection: &Selection,
    limit: usize,
) -> Result<Found, ExitError> {
    let from = selection
        .since_ms
        .map_or(ReadFrom::Beginning, |epoch_ms| ReadFrom::Time {
            epoch_ms,
            at_least: 0,
        });
    let mut found = Found::default();
    scan(kafka, topic, from, |message| {
        found.add(Letter::of(message), selection, limit);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

impl Found {
    fn add(&mut self, letter: Letter, selection: &Selection, limit: usize) {
        if !selection.matches(&letter) {
            return;
        }
        self.matching += 1;
        let key = (letter.timestamp_ms, letter.partition, letter.offset);
        self.newest.insert(key, letter);
        if self.newest.len() > limit {
            self.newest.pop_first();
        }
    }

    pub(super) fn print(&self, format: Format, out: &mut impl Write) -> Result<(), ExitError> {
        let letters = self.newest.values().rev();
        let lines: Vec<String> = match format {
            Format::Ndjson => letters.map(|letter| letter.to_json().to_string()).collect(),
            Format::Table if self.newest.is_empty() => Vec::new(),
            Format::Table => table(letters),
        };
        lines
            .iter()
            .try_for_each(|line| writeln!(out, "{line}"))
            .and_then(|()| out.flush())
            .map_err(ExitError::stdout)
    }

    /// On standard error: it is about the list, not of it.
    pub(super) fn tell_what_is_left_out(&self) {
        let shown = self.newest.len() as u64;
        if self.matching == 0 {
            tracing::info!("no dead letters match");
        } else if self.matching > shown {
            tracing::info!(
                shown,
                matching = self.matching,
                "these are the newest; --limit shows more"
            );
        }
    }
}

fn table<'a>(letters: impl Iterator<Item = &'a Letter>) -> Vec<String> {
    let dash = || "-".to_owned();
    let rows = letters.map(|letter| {
        let shown = |text: &Option<String>| text.as_deref().map_or_else(dash, printable);
        let source = &letter.source;
        [
            format!("{}:{}", letter.partition, letter.offset),
            letter.timestamp_ms.map_or_else(dash, rfc3339),
            shown(&letter.reason),
            shown(&letter.field),
            letter.attempt.to_string(),
            match (&source.topic, source.partition, source.offset) {
                (Some(topic), Some(partition), Some(offset)) => {
                    format!("{}/{partition}:{offset}", printable(topic))
                }
                _ => dash(),
            },
            shown(&letter.message),
        ]
    });
    let rows: Vec<[String; 7]> = std::iter::once(HEADINGS.map(str::to_owned)).chain(rows).collect();
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 7]| {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(offset: i64, timestamp_ms: i64) -> Letter {
        Letter {
            partition: 1,
            offset,
            timestamp_ms: Some(timestamp_ms),
            reason: Some("BAD_IP".to_owned()),
            message: Some("must be an address\u{1b}[31m".to_owned()),
            attempt: 1,
            ..Letter::default()
        }
    }

    fn printed(found: &Found, format: Format) -> String {
        let mut out = Vec::new();
        found.print(format, &mut out).expect("memory takes it");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn the_newest_come_first_and_the_limit_bounds_what_is_kept() {
        let mut found = Found::default();
        for (offset, timestamp_ms) in [(0, 500), (1, 100), (2, 900), (3, 700)] {
            found.add(letter(offset, timestamp_ms), &Selection::default(), 2);
        }
        assert_eq!((found.newest.len(), found.matching), (2, 4));
        let table = printed(&found, Format::Table);
        let positions: Vec<&str> = table
            .lines()
            .map(|line| line.split_whitespace().next().unwrap_or_default())
            .collect();
        assert_eq!(positions, ["POSITION", "1:2", "1:3"]);
        assert!(!table.contains('\u{1b}'), "{table}");
    }

    #[test]
    fn each_line_of_ndjson_is_an_object() {
        let mut found = Found::default();
        found.add(letter(7, 1_720_576_825_000), &Selection::default(), 10);
        let text = printed(&found, Format::Ndjson);
        let value: serde_json::Value = serde_json::from_str(text.trim()).expect("JSON");
        assert_eq!(
            (&value["offset"], &value["reason"]),
            (&7.into(), &"BAD_IP".into())
        );
        assert_eq!(value["rejected_at"], "2024-07-10T02:00:25.000Z");
        assert_eq!(value["truncated"], false);
    }

    #[test]
    fn nothing_is_an_empty_answer() {
        assert_eq!(printed(&Found::default(), Format::Table), "");
        assert_eq!(printed(&Found::default(), Format::Ndjson), "");
    }
}
