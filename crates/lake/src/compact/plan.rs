//! What to rewrite: pure, from a snapshot and a clock. Which files a partition has decides; their contents never do.
//!
//! - A file that compaction did not write is unsorted: it is rewritten.
//! - A compacted file of at least half the target stays. A smaller one is merged, but only with others that are together
//!   at least a quarter of it, so that late rows do not have the same large file rewritten over and over: each row is
//!   written a number of times that grows with the logarithm of its partition's size.
//! - A partition with fewer than `min_files` such files is left alone, and so is one that would not become fewer.
//! - A partition that is still filling is left alone, unless told otherwise.
//!
//! A plan that was carried out leaves nothing to plan.

use std::collections::BTreeMap;
use std::fmt;

use arrow::datatypes::SchemaRef;
use chrono::{DateTime, NaiveDate, Timelike};

use super::text::{TextTable, bytes_text, number_text};
use crate::table::{DataFile, TableName, TablePartition, TableSnapshot};

/// First part of the names of files that compaction wrote.
pub(crate) const COMPACTED_PREFIX: &str = "compact-";
/// A compacted file is merged only with others of together at least this share of it (one in …).
const WORTHWHILE_SHARE: u64 = 4;

/// What compaction aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactOptions {
    /// Size at which a file is closed, in bytes. Default 256 MiB.
    pub target_file_bytes: u64,
    /// Also partitions that are still filling (`olap compact --all`). Default no.
    pub include_open: bool,
    /// The clock, epoch milliseconds.
    pub now_ms: i64,
    /// The fewest files of a partition that are worth a rewrite. Default 2; more for a table that is never closed.
    pub min_files: usize,
}

impl CompactOptions {
    /// The defaults, at a time given in epoch milliseconds.
    pub fn at(now_ms: i64) -> Self {
        Self {
            target_file_bytes: 256 << 20,
            include_open: false,
            now_ms,
            min_files: 2,
        }
    }
}

/// The rewrite of one table partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPlan {
    /// The partition.
    pub partition: TablePartition,
    /// The files that are replaced.
    pub sources: Vec<DataFile>,
    /// How many files are expected in their place, at the most.
    pub expected_files: u64,
    /// Where the snapshot's maintenance counter of the partition stands: the compare of the compare-and-set.
    pub maintenance_version: Option<i64>,
}

impl PartitionPlan {
    /// Bytes of the files that are replaced.
    pub fn bytes(&self) -> u64 {
        total_bytes(&self.sources)
    }

    /// Rows of the files that are replaced; `None` when the log does not say it.
    pub fn rows(&self) -> Option<u64> {
        self.sources.iter().map(|file| file.rows).sum()
    }
}

/// What compaction would do to a table at one version.
#[derive(Clone, Debug)]
pub struct CompactionPlan {
    /// The table.
    pub table: TableName,
    /// The version that was planned on.
    pub version: i64,
    /// What was planned for.
    pub options: CompactOptions,
    /// The partitions to be rewritten, in order.
    pub partitions: Vec<PartitionPlan>,
    /// Partitions that have something to rewrite but are still filling.
    pub still_filling: Vec<TablePartition>,
    pub(super) schema: SchemaRef,
    pub(super) partition_columns: Vec<String>,
}

impl CompactionPlan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    /// Files that would be replaced.
    pub fn files(&self) -> usize {
        self.partitions.iter().map(|plan| plan.sources.len()).sum()
    }

    /// Bytes that would be rewritten: the compaction debt.
    pub fn bytes(&self) -> u64 {
        self.partitions.iter().map(PartitionPlan::bytes).sum()
    }
}

impl fmt::Display for CompactionPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            writeln!(
                f,
                "{} at version {}: nothing to compact",
                self.table, self.version
            )?;
        } else {
            let mut table = TextTable::new(vec!["partition", "files", "bytes", "rows", "→ files"]);
            for plan in &self.partitions {
                table.push(vec![
                    plan.partition.to_string(),
                    plan.sources.len().to_string(),
                    bytes_text(plan.bytes()),
                    number_text(plan.rows()),
                    plan.expected_files.to_string(),
                ]);
            }
            write!(f, "{table}")?;
        }
        match self.still_filling.len() {
            0 => Ok(()),
            1 => writeln!(f, "left alone, still filling: {}", self.still_filling[0]),
            count => writeln!(
                f,
                "left alone, still filling: {count} partitions from {} on",
                self.still_filling[0]
            ),
        }
    }
}

/// Plans the compaction of a table. `logins_hourly` is derived and rewritten by its refresh: nothing is planned for it.
pub fn plan(snapshot: &TableSnapshot, options: &CompactOptions) -> CompactionPlan {
    let mut by_partition: BTreeMap<TablePartition, Vec<&DataFile>> = BTreeMap::new();
    if matches!(snapshot.table, TableName::Logins | TableName::Rejected) {
        for file in &snapshot.files {
            by_partition
                .entry(TablePartition::of(&snapshot.partition_columns, file))
                .or_default()
                .push(file);
        }
    }
    let open_from = open_from(by_partition.keys(), options.now_ms);
    let mut partitions = Vec::new();
    let mut still_filling = Vec::new();
    for (partition, files) in by_partition {
        let sources = sources(&files, options);
        if sources.is_empty() {
            continue;
        }
        let open = Period::of(&partition).is_some_and(|period| period.is_open(open_from));
        if open && !options.include_open {
            still_filling.push(partition);
            continue;
        }
        partitions.push(PartitionPlan {
            expected_files: expected_files(total_bytes(&sources), options),
            maintenance_version: snapshot
                .transactions
                .get(&partition.maintenance_app_id())
                .copied(),
            partition,
            sources,
        });
    }
    CompactionPlan {
        table: snapshot.table,
        version: snapshot.version,
        options: *options,
        partitions,
        still_filling,
        schema: snapshot.schema.clone(),
        partition_columns: snapshot.partition_columns.clone(),
    }
}

/// Whether compaction wrote this file: sorted, and compressed to stay.
pub(crate) fn is_compacted(file: &DataFile) -> bool {
    file.path
        .rsplit('/')
        .next()
        .is_some_and(|name| name.starts_with(COMPACTED_PREFIX))
}

fn sources(files: &[&DataFile], options: &CompactOptions) -> Vec<DataFile> {
    let (compacted, hot): (Vec<&DataFile>, Vec<&DataFile>) =
        files.iter().copied().partition(|file| is_compacted(file));
    let mut small: Vec<&DataFile> = compacted
        .into_iter()
        .filter(|file| file.size_bytes < options.target_file_bytes / 2)
        .collect();
    small.sort_by(|a, b| (a.size_bytes, &a.path).cmp(&(b.size_bytes, &b.path)));
    let only_compacted = hot.is_empty();
    let mut sources: Vec<DataFile> = hot.into_iter().cloned().collect();
    let mut below = total_bytes(&sources);
    let mut taken = 0;
    for (index, file) in small.iter().enumerate() {
        if file.size_bytes / WORTHWHILE_SHARE <= below {
            taken = index + 1;
        }
        below += file.size_bytes;
    }
    sources.extend(small[..taken].iter().map(|file| (*file).clone()));
    let enough = sources.len() >= options.min_files.max(1);
    let fewer = (sources.len() as u64) > expected_files(total_bytes(&sources), options);
    if enough && (fewer || !only_compacted) {
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        sources
    } else {
        Vec::new()
    }
}

fn expected_files(bytes: u64, options: &CompactOptions) -> u64 {
    bytes.div_ceil(options.target_file_bytes.max(1)).max(1)
}

fn total_bytes(files: &[DataFile]) -> u64 {
    files.iter().map(|file| file.size_bytes).sum()
}

/// When the events of a partition happened: a date, or an hour of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Period {
    date: NaiveDate,
    hour: Option<u32>,
}

impl Period {
    /// `None` for a partition that is not one of time: it is never open.
    fn of(partition: &TablePartition) -> Option<Self> {
        let date = partition.value("login_date")?.parse().ok()?;
        Some(Self {
            date,
            hour: partition.value("login_hour").and_then(|hour| hour.parse().ok()),
        })
    }

    fn is_open(self, open_from: Option<Period>) -> bool {
        open_from.is_some_and(|from| match (self.hour, from.hour) {
            (Some(_), Some(_)) => self >= from,
            _ => self.date >= from.date,
        })
    }
}

/// The first period that is still filling: the one that the event-time watermark is in, the newest with rows, but never
/// later than the clock's, whatever an event from the future says.
fn open_from<'a>(partitions: impl Iterator<Item = &'a TablePartition>, now_ms: i64) -> Option<Period> {
    let now = DateTime::from_timestamp_millis(now_ms)?;
    let watermark = partitions.filter_map(Period::of).max()?;
    let clock = Period {
        date: now.date_naive(),
        hour: watermark.hour.map(|_| now.hour()),
    };
    Some(watermark.min(clock))
}

#[cfg(test)]
mod tests;
