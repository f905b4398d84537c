//! How the files of a table are: per partition their number, size, rows, and how many are small. What `olap files` prints,
//! and what tells whether compaction keeps up.

use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, SecondsFormat};

use super::plan::is_compacted;
use super::text::{TextTable, bytes_text, number_text};
use crate::table::{TableName, TablePartition, TableSnapshot};

/// A file below this size, in bytes, counts as small.
pub const SMALL_FILE_BYTES: u64 = 32 << 20;

/// The files of one partition, or of a whole table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionFiles {
    /// Number of files.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Their rows; `None` when the log does not say it for each.
    pub rows: Option<u64>,
    /// Files below [`SMALL_FILE_BYTES`].
    pub small_files: u64,
    /// Files that compaction wrote.
    pub compacted_files: u64,
    /// When the oldest file was written, epoch milliseconds; `None` without files.
    pub oldest_ms: Option<i64>,
}

impl PartitionFiles {
    fn none() -> Self {
        Self {
            rows: Some(0),
            ..Self::default()
        }
    }

    fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
        self.rows = self.rows.zip(other.rows).map(|(a, b)| a + b);
        self.small_files += other.small_files;
        self.compacted_files += other.compacted_files;
        self.oldest_ms = [self.oldest_ms, other.oldest_ms].into_iter().flatten().min();
    }
}

/// The files of a table at one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The table.
    pub table: TableName,
    /// The version.
    pub version: i64,
    /// By partition, in order.
    pub partitions: Vec<(TablePartition, PartitionFiles)>,
    /// All of them.
    pub total: PartitionFiles,
}

/// Reports on a snapshot. Pure: what the log says, no file is opened.
pub fn file_report(snapshot: &TableSnapshot) -> FileReport {
    let mut partitions: BTreeMap<TablePartition, PartitionFiles> = BTreeMap::new();
    let mut total = PartitionFiles::none();
    for file in &snapshot.files {
        let one = PartitionFiles {
            files: 1,
            bytes: file.size_bytes,
            rows: file.rows,
            small_files: u64::from(file.size_bytes < SMALL_FILE_BYTES),
            compacted_files: u64::from(is_compacted(file)),
            oldest_ms: Some(file.modified_ms),
        };
        let partition = TablePartition::of(&snapshot.partition_columns, file);
        partitions
            .entry(partition)
            .or_insert_with(PartitionFiles::none)
            .add(one);
        total.add(one);
    }
    FileReport {
        table: snapshot.table,
        version: snapshot.version,
        partitions: partitions.into_iter().collect(),
        total,
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} at version {}", self.table, self.version)?;
        let mut table = TextTable::new(vec![
            "partition",
            "files",
            "small",
            "compacted",
            "bytes",
            "rows",
            "oldest file",
        ]);
        let row = |name: String, files: &PartitionFiles| {
            let oldest = files.oldest_ms.and_then(DateTime::from_timestamp_millis);
            vec![
                name,
                files.files.to_string(),
                files.small_files.to_string(),
                files.compacted_files.to_string(),
                bytes_text(files.bytes),
                number_text(files.rows),
                oldest.map_or_else(
                    || "-".to_owned(),
                    |time| time.to_rfc3339_opts(SecondsFormat::Secs, true),
                ),
            ]
        };
        for (partition, files) in &self.partitions {
            table.push(row(partition.to_string(), files));
        }
        if self.partitions.len() != 1 {
            table.push(row("total".to_owned(), &self.total));
        }
        write!(f, "{table}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;

    use super::*;
    use crate::table::DataFile;

    #[test]
    fn files_are_counted_by_partition_and_in_total() {
        let file = |date: &str, name: &str, size_bytes, rows| DataFile {
            path: format!("login_date={date}/{name}"),
            size_bytes,
            modified_ms: 1_767_787_200_000,
            partition_values: BTreeMap::from([("login_date".to_owned(), Some(date.to_owned()))]),
            rows,
            stats_json: None,
        };
        let snapshot = TableSnapshot {
            table: TableName::Logins,
            version: 3,
            schema: Arc::new(Schema::empty()),
            partition_columns: vec!["login_date".to_owned()],
            files: vec![
                file("2026-01-05", "compact-a", SMALL_FILE_BYTES, Some(10)),
                file("2026-01-05", "part-b", 1024, Some(5)),
                file("2026-01-06", "part-c", 2048, None),
            ],
            transactions: BTreeMap::new(),
            only_date: None,
            checkpoint_version: None,
        };
        let report = file_report(&snapshot);
        let first = report.partitions[0].1;
        assert_eq!(
            (first.files, first.small_files, first.compacted_files, first.rows),
            (2, 1, 1, Some(15))
        );
        assert_eq!((report.total.files, report.total.rows), (3, None));
        let text = report.to_string();
        assert!(
            text.contains("login_date=2026-01-06") && text.contains("2026-01-07T12:00:00Z"),
            "{text}"
        );
        assert!(
            text.lines().last().is_some_and(|line| line.starts_with("total")),
            "{text}"
        );
    }
}
