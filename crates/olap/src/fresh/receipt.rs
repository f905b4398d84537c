//! What an answer stands for: which versions of the tables, and which records beyond them. With a receipt the same question
//! gets the same answer again, as long as the files and the records are kept.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use loginlake_lake::TableName;
use loginlake_lake::ingest::OffsetRange;
use loginlake_query::TableFacts;
use loginlake_service::exit::ExitError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{FreshPosition, KafkaTail, TailRows, time_text};

/// The layout of this file. Another one is not read.
const FORMAT: u32 = 1;
/// Partitions whose ends a line of text names.
const PARTITIONS_IN_TEXT: usize = 8;

/// The receipt of one run of a SQL text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// 1.
    pub format: u32,
    /// When the question was asked.
    pub asked_at: DateTime<Utc>,
    /// The lake's address.
    pub lake: String,
    /// What was asked.
    pub query: QueryText,
    /// The tables that the answer needed.
    pub tables: BTreeMap<String, TableReceipt>,
    /// The records of the topic beside them; null without `--fresh`.
    pub fresh: Option<FreshReceipt>,
    /// The newest event in `logins` and beyond it; null when `logins` was not asked or it is not known.
    pub newest_event: Option<DateTime<Utc>>,
    /// From this hour on events are still coming: the hour of the newest event, but not later than the clock's. Late events
    /// can come for earlier ones.
    pub open_from: Option<DateTime<Utc>>,
}

/// A SQL text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueryText {
    /// Its file, or `-e`.
    pub source: String,
    /// SHA-256 of the text, in hexadecimal digits.
    pub sha256: String,
}

/// A table of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableReceipt {
    /// Its version; null: it was not there.
    pub version: Option<i64>,
    /// Rows of this version; null when its log does not say it.
    pub rows: Option<u64>,
    /// Rows beyond it; null without `--fresh`, or when the answer did not need all of them, so that they were not counted.
    pub rows_beyond: Option<u64>,
}

/// The records of an answer beside its tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreshReceipt {
    /// The topic.
    pub topic: String,
    /// Its id.
    pub incarnation: String,
    /// By Kafka partition.
    pub partitions: BTreeMap<i32, PartitionReceipt>,
}

/// The records of one Kafka partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionReceipt {
    /// What is below is in `logins` and `rejected`.
    pub from: i64,
    /// What is below is in the answer: the last stable offset.
    pub to: i64,
}

impl Receipt {
    /// The receipt of a run that is over.
    pub fn new(
        lake: &str,
        (source, sql): (&str, &str),
        asked_at: DateTime<Utc>,
        facts: &[TableFacts],
        fresh: Option<(&FreshPosition, &KafkaTail)>,
    ) -> Self {
        let mut newest_ms = None;
        let mut tables = BTreeMap::new();
        for table in facts {
            let beyond = fresh.map(|(_, tail)| tail.rows(table.table));
            if table.table == TableName::Logins {
                newest_ms = newest_of(table, beyond);
            }
            let receipt = TableReceipt {
                version: table.version,
                rows: table.rows,
                rows_beyond: beyond.flatten().and_then(|rows| rows.all_rows()),
            };
            tables.insert(table.table.as_str().to_owned(), receipt);
        }
        let newest_event = newest_ms.and_then(DateTime::from_timestamp_millis);
        Self {
            format: FORMAT,
            asked_at,
            lake: lake.to_owned(),
            query: QueryText {
                source: source.to_owned(),
                sha256: Sha256::digest(sql.as_bytes())
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
            },
            tables,
            fresh: fresh.map(|(position, _)| FreshReceipt::of(position)),
            newest_event,
            open_from: newest_event
                .and_then(|newest| newest.min(asked_at).duration_trunc(TimeDelta::hours(1)).ok()),
        }
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// A usage error: the file cannot be read, or is no receipt.
    pub fn read(path: &Path) -> Result<Self, ExitError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            ExitError::usage(format!(
                "--at {shown}: no version, no time, and no receipt that can be read: {error}"
            ))
        })?;
        let receipt: Self = serde_json::from_str(&text)
            .map_err(|error| ExitError::usage(format!("--at {shown} is no receipt: {error}")))?;
        if receipt.format != FORMAT {
            return Err(ExitError::usage(format!(
                "--at {shown} is a receipt of format {}, and this version reads format {FORMAT}",
                receipt.format
            )));
        }
        Ok(receipt)
    }

    /// Writes it, as a whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), ExitError> {
        let failed = |error: std::io::Error| {
            ExitError::failed(format!("cannot write the receipt {}: {error}", path.display()))
        };
        let mut text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        text.push('\n');
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        std::fs::write(&temporary, text).map_err(failed)?;
        std::fs::rename(&temporary, path).map_err(failed)
    }

    /// The versions of its tables.
    ///
    /// # Errors
    /// A usage error: it names a table that no lake has.
    pub fn versions(&self) -> Result<BTreeMap<TableName, Option<i64>>, ExitError> {
        let known = |name: &str| TableName::ALL.into_iter().find(|table| table.as_str() == name);
        self.tables
            .iter()
            .map(|(name, table)| {
                let unknown =
                    || ExitError::usage(format!("the receipt names a table {name}, which no lake has"));
                Ok((known(name).ok_or_else(unknown)?, table.version))
            })
            .collect()
    }

    /// The records beside its tables.
    pub fn position(&self) -> Option<FreshPosition> {
        let fresh = self.fresh.as_ref()?;
        let ranges = fresh.partitions.iter().map(|(partition, range)| {
            let (from, to) = (range.from, range.to);
            (*partition, OffsetRange { from, to })
        });
        Some(FreshPosition {
            topic: fresh.topic.clone(),
            incarnation: fresh.incarnation.clone(),
            partitions: ranges.collect(),
            asked_at_ms: self.asked_at.timestamp_millis(),
        })
    }
}

/// The newest event of a table and what is beyond it, if that is known. `beyond` is `None` without `--fresh`, and holds
/// `None` when it was not read to its end.
fn newest_of(table: &TableFacts, beyond: Option<Option<TailRows>>) -> Option<i64> {
    let is_table_known = table.newest_event_ms.is_some() || table.rows == Some(0) || table.version.is_none();
    let Some(beyond) = beyond else {
        return table.newest_event_ms;
    };
    let beyond = beyond.filter(|_| is_table_known)?;
    let newest_ms = table.newest_event_ms.max(beyond.newest_event_ms);
    newest_ms.filter(|newest_ms| {
        beyond
            .latest_skipped_ms
            .is_none_or(|skipped_ms| skipped_ms <= *newest_ms)
    })
}

impl FreshReceipt {
    fn of(position: &FreshPosition) -> Self {
        let partitions = position.partitions.iter().map(|(partition, range)| {
            let (from, to) = (range.from, range.to);
            (*partition, PartitionReceipt { from, to })
        });
        Self {
            topic: position.topic.clone(),
            incarnation: position.incarnation.clone(),
            partitions: partitions.collect(),
        }
    }

    /// Offsets between the tables and the ends, transaction markers among them.
    fn offsets(&self) -> i64 {
        self.partitions.values().map(|range| range.to - range.from).sum()
    }
}

impl fmt::Display for Receipt {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, table)) in self.tables.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            match table.version {
                Some(version) => write!(f, "{name} version {version}")?,
                None => write!(f, "{name} is not there")?,
            }
            if let Some(rows) = table.rows.filter(|_| table.version.is_some()) {
                write!(f, " ({rows} rows)")?;
            }
            match table.rows_beyond {
                Some(rows) => write!(f, " + {rows} rows of the topic")?,
                None if self.fresh.is_some() => write!(f, " + rows of the topic")?,
                None => {}
            }
        }
        if self.tables.is_empty() {
            f.write_str("no table was asked")?;
        }
        if let Some(fresh) = &self.fresh {
            write!(f, "; {} up to", fresh.topic)?;
            if fresh.partitions.len() <= PARTITIONS_IN_TEXT {
                for (partition, range) in &fresh.partitions {
                    write!(f, " {partition}:{}", range.to)?;
                }
            } else {
                write!(
                    f,
                    " {} offsets beyond the table in {} partitions",
                    fresh.offsets(),
                    fresh.partitions.len()
                )?;
            }
        }
        if let Some(newest) = self.newest_event {
            write!(f, "; newest event {}", time_text(newest.timestamp_millis()))?;
        }
        if let Some(open_from) = self.open_from {
            write!(f, ", open from {}", open_from.format("%Y-%m-%dT%H:00Z"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt() -> Receipt {
        let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let table = TableReceipt {
            version: Some(12),
            rows: Some(1_000),
            rows_beyond: Some(5),
        };
        Receipt {
            format: FORMAT,
            asked_at: time("2026-01-05T10:20:00Z"),
            lake: "./lake".to_owned(),
            query: QueryText {
                source: "-e".to_owned(),
                sha256: String::new(),
            },
            tables: BTreeMap::from([("logins".to_owned(), table)]),
            fresh: Some(FreshReceipt {
                topic: "t".to_owned(),
                incarnation: "A".to_owned(),
                partitions: BTreeMap::from([
                    (0, PartitionReceipt { from: 1, to: 7 }),
                    (1, PartitionReceipt { from: 3, to: 3 }),
                ]),
            }),
            newest_event: Some(time("2026-01-05T09:59:59.500Z")),
            open_from: Some(time("2026-01-05T09:00:00Z")),
        }
    }

    #[test]
    fn a_receipt_says_in_one_line_what_it_stands_for() {
        assert_eq!(
            receipt().to_string(),
            "logins version 12 (1000 rows) + 5 rows of the topic; t up to 0:7 1:3; newest event \
             2026-01-05T09:59:59.500Z, open from 2026-01-05T09:00Z"
        );
    }

    #[test]
    fn the_newest_event_is_said_only_if_it_is_known() {
        let table = |newest_event_ms, rows| TableFacts {
            table: TableName::Logins,
            version: Some(1),
            rows,
            newest_event_ms,
            files_hash: 0,
        };
        let beyond = |newest_event_ms: Option<i64>, latest_skipped_ms: Option<i64>| {
            Some(Some(TailRows {
                rows: 1,
                skipped: u64::from(latest_skipped_ms.is_some()),
                newest_event_ms,
                latest_skipped_ms,
            }))
        };
        let of_table = table(Some(10), Some(5));
        assert_eq!(newest_of(&of_table, None), Some(10));
        assert_eq!(newest_of(&of_table, beyond(Some(12), None)), Some(12));
        assert_eq!(newest_of(&of_table, beyond(None, None)), Some(10));
        assert_eq!(
            newest_of(&of_table, Some(None)),
            None,
            "it was not read to its end"
        );
        assert_eq!(newest_of(&of_table, beyond(Some(12), Some(12))), Some(12));
        assert_eq!(newest_of(&of_table, beyond(Some(12), Some(13))), None);
        assert_eq!(newest_of(&table(None, Some(0)), beyond(Some(12), None)), Some(12));
        assert_eq!(newest_of(&table(None, None), beyond(Some(12), None)), None);
    }

    #[test]
    fn a_receipt_comes_back_from_its_file() {
        let dir = std::env::temp_dir().join(format!("loginlake-receipt-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("receipt.json");
        let written = receipt();
        written.write(&path).unwrap();
        let read = Receipt::read(&path).unwrap();
        assert_eq!(read, written);
        assert_eq!(
            read.versions().unwrap(),
            BTreeMap::from([(TableName::Logins, Some(12))])
        );
        let position = read.position().unwrap();
        assert_eq!(position.partitions[&0], OffsetRange { from: 1, to: 7 });
        std::fs::write(&path, "{}").unwrap();
        assert!(Receipt::read(&path).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
