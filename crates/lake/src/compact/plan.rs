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
pub(super) const COMPACTED_PREFIX: &str = "compact-";
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
        Self { target_file_bytes: 256 << 20, include_open: false, now_ms, min_files: 2 }
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
            writeln!(f, "{} at version {}: nothing to compact", self.table, self.version)?;
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
            count => writeln!(f, "left alone, still filling: {count} partitions from {} on", self.still_filling[0]),
        }
    }
}

/// Plans the compaction of a table. `logins_hourly` is derived and rewritten by its refresh: nothing is planned for it.
pub fn plan(snapshot: &TableSnapshot, options: &CompactOptions) -> CompactionPlan {
    let mut by_partition: BTreeMap<TablePartition, Vec<&DataFile>> = BTreeMap::new();
    if matches!(snapshot.table, TableName::Logins | TableName::Rejected) {
        for file in &snapshot.files {
            by_partition.entry(TablePartition::of(&snapshot.partition_columns, file)).or_default().push(file);
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
            maintenance_version: snapshot.transactions.get(&partition.maintenance_app_id()).copied(),
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
pub(super) fn is_compacted(file: &DataFile) -> bool {
    file.path.rsplit('/').next().is_some_and(|name| name.starts_with(COMPACTED_PREFIX))
}

fn sources(files: &[&DataFile], options: &CompactOptions) -> Vec<DataFile> {
    let (compacted, hot): (Vec<&DataFile>, Vec<&DataFile>) = files.iter().partition(|file| is_compacted(file));
    let mut small: Vec<&DataFile> =
        compacted.into_iter().filter(|file| file.size_bytes < options.target_file_bytes / 2).collect();
    small.sort_by(|a, b| (a.size_bytes, &a.path).cmp(&(b.size_bytes, &b.path)));
    let some_hot = !hot.is_empty();
    let mut sources: Vec<DataFile> = hot.into_iter().cloned().collect();
    for (index, file) in small.iter().enumerate() {
        // Without hot files the two smallest are weighed against each other.
        let begins = index == 0 && !some_hot;
        if !begins && file.size_bytes / WORTHWHILE_SHARE > total_bytes(&sources) {
            break;
        }
        sources.push((*file).clone());
    }
    let only_compacted = !some_hot;
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
        Some(Self { date, hour: partition.value("login_hour").and_then(|hour| hour.parse().ok()) })
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
    let clock = Period { date: now.date_naive(), hour: watermark.hour.map(|_| now.hour()) };
    Some(watermark.min(clock))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    /// 2026-01-07T12:00:00Z.
    const NOW_MS: i64 = 1_767_787_200_000;

    fn file(date: &str, name: &str, size_bytes: u64) -> DataFile {
        DataFile {
            path: format!("login_date={date}/{name}"),
            size_bytes,
            modified_ms: 0,
            partition_values: BTreeMap::from([("login_date".to_owned(), Some(date.to_owned()))]),
            rows: Some(size_bytes / 50),
            stats_json: None,
        }
    }

    fn snapshot(table: TableName, partition_columns: &[&str], files: Vec<DataFile>) -> TableSnapshot {
        TableSnapshot {
            table,
            version: 7,
            schema: Arc::new(Schema::empty()),
            partition_columns: partition_columns.iter().map(|name| (*name).to_owned()).collect(),
            files,
            transactions: BTreeMap::from([("loginlake/maintenance/login_date=2026-01-05".to_owned(), 4)]),
            checkpoint_version: None,
        }
    }

    fn logins(files: Vec<DataFile>) -> TableSnapshot {
        snapshot(TableName::Logins, &["login_date"], files)
    }

    fn names(plan: &CompactionPlan) -> Vec<Vec<&str>> {
        plan.partitions
            .iter()
            .map(|plan| plan.sources.iter().map(|file| file.path.rsplit('/').next().unwrap_or_default()).collect())
            .collect()
    }

    /// The newest date of a table is open; this one keeps others closed.
    fn newer() -> DataFile {
        file("2026-01-06", "compact-newer", 200 * MIB)
    }

    #[test]
    fn small_files_of_a_closed_date_are_rewritten_together() {
        let files = vec![file("2026-01-05", "b", MIB), file("2026-01-05", "a", 300 * MIB), newer()];
        let plan = plan(&logins(files), &CompactOptions::at(NOW_MS));
        assert_eq!(names(&plan), [["a", "b"]]);
        let first = &plan.partitions[0];
        assert_eq!((first.expected_files, first.maintenance_version), (2, Some(4)));
        assert_eq!((plan.version, plan.files(), plan.bytes()), (7, 2, 301 * MIB));
    }

    #[test]
    fn dates_that_are_still_filling_are_skipped_unless_told() {
        let hot = |date| [file(date, "a", MIB), file(date, "b", MIB)];
        let dates = ["2026-01-06", "2026-01-07", "2026-01-08"];
        let snapshot = logins(dates.into_iter().flat_map(hot).collect());
        let options = CompactOptions::at(NOW_MS);
        let closed = plan(&snapshot, &options);
        assert_eq!(closed.partitions.len(), 1, "today and an event from the future are open, yesterday is not");
        assert_eq!(closed.partitions[0].partition.value("login_date"), Some("2026-01-06"));
        assert_eq!(closed.still_filling.len(), 2);
        assert_eq!(plan(&snapshot, &CompactOptions { include_open: true, ..options }).partitions.len(), 3);
    }

    #[test]
    fn the_newest_date_of_old_events_is_open_because_the_watermark_is_in_it() {
        let hot = |date| [file(date, "a", MIB), file(date, "b", MIB)];
        let snapshot = logins(["2024-02-01", "2024-02-02"].into_iter().flat_map(hot).collect());
        let plan = plan(&snapshot, &CompactOptions::at(NOW_MS));
        assert_eq!(plan.partitions[0].partition.value("login_date"), Some("2024-02-01"));
        assert_eq!(plan.partitions.len(), 1);
    }

    #[test]
    fn hours_close_one_by_one() {
        let hour = |date: &str, hour: &str, name: &str| {
            let mut file = file(date, name, MIB);
            file.partition_values.insert("login_hour".to_owned(), Some(hour.to_owned()));
            file
        };
        let mut files = Vec::new();
        for (date, h) in [("2026-01-06", "23"), ("2026-01-07", "9"), ("2026-01-07", "11"), ("2026-01-07", "12")] {
            files.extend([hour(date, h, "a"), hour(date, h, "b")]);
        }
        let snapshot = snapshot(TableName::Logins, &["login_date", "login_hour"], files);
        let plan = plan(&snapshot, &CompactOptions::at(NOW_MS));
        assert_eq!(plan.partitions.len(), 3);
        assert_eq!(plan.still_filling[0].to_string(), "login_date=2026-01-07/login_hour=12");
    }

    #[test]
    fn rejected_has_no_dates_and_waits_for_enough_files() {
        let unpartitioned = |name: &str| DataFile {
            path: name.to_owned(),
            partition_values: BTreeMap::new(),
            ..file("2026-01-05", name, MIB)
        };
        let options = CompactOptions { min_files: 3, ..CompactOptions::at(NOW_MS) };
        let two = snapshot(TableName::Rejected, &[], vec![unpartitioned("a"), unpartitioned("b")]);
        assert!(plan(&two, &options).is_empty());
        let three = snapshot(TableName::Rejected, &[], ["a", "b", "c"].map(unpartitioned).to_vec());
        let plan = plan(&three, &options);
        assert_eq!(plan.partitions[0].partition.to_string(), "all");
    }

    #[test]
    fn the_batch_view_is_left_to_its_refresh() {
        let files = vec![file("2026-01-05", "a", MIB), file("2026-01-05", "b", MIB), newer()];
        let hourly = snapshot(TableName::LoginsHourly, &["login_date"], files);
        assert!(plan(&hourly, &CompactOptions::at(NOW_MS)).is_empty());
    }

    #[test]
    fn large_compacted_files_stay_and_late_rows_do_not_rewrite_them() {
        let options = CompactOptions::at(NOW_MS);
        let with = |sizes: &[(&str, u64)]| {
            let mut files: Vec<DataFile> =
                sizes.iter().map(|(name, mib)| file("2026-01-05", name, mib * MIB)).collect();
            files.push(newer());
            logins(files)
        };
        assert!(plan(&with(&[("compact-a", 250)]), &options).is_empty());
        assert!(plan(&with(&[("compact-a", 250), ("late", 1)]), &options).is_empty(), "one file is not worth it");
        let late = with(&[("compact-a", 250), ("compact-b", 100), ("late-1", 1), ("late-2", 1)]);
        assert_eq!(names(&plan(&late, &options)), [["late-1", "late-2"]]);
        let many = with(&[("compact-a", 250), ("compact-b", 100), ("late-1", 20), ("late-2", 20)]);
        assert_eq!(names(&plan(&many, &options)), [["compact-b", "late-1", "late-2"]]);
        let rests = with(&[("compact-a", 60), ("compact-b", 30), ("compact-c", 250)]);
        assert_eq!(names(&plan(&rests, &options)), [["compact-a", "compact-b"]]);
        assert!(plan(&with(&[("compact-a", 100), ("compact-b", 10)]), &options).is_empty());
    }

    #[test]
    fn the_plan_prints_as_a_table() {
        let files = vec![file("2026-01-05", "a", MIB), file("2026-01-05", "b", MIB), file("2026-01-07", "c", MIB)];
        let text = plan(&logins(files.clone()), &CompactOptions::at(NOW_MS)).to_string();
        assert!(text.starts_with("partition"), "{text}");
        assert!(text.contains("login_date=2026-01-05") && text.contains("2.0 MiB"), "{text}");
        let options = CompactOptions { min_files: 1, ..CompactOptions::at(NOW_MS) };
        let text = plan(&logins(files), &options).to_string();
        assert!(text.contains("still filling: login_date=2026-01-07"), "{text}");
        let nothing = plan(&logins(Vec::new()), &CompactOptions::at(NOW_MS)).to_string();
        assert_eq!(nothing, "logins at version 7: nothing to compact\n");
    }

    proptest! {
        /// Whatever the files: carrying a plan out leaves nothing to plan, loses no file and takes none twice.
        #[test]
        fn a_plan_that_was_carried_out_leaves_nothing_to_plan(
            sizes in proptest::collection::vec((1..600_u64, any::<bool>(), 1..4_u32), 0..40),
            min_files in 1..6_usize,
        ) {
            let files: Vec<DataFile> = sizes.iter().enumerate().map(|(index, (mib, compacted, day))| {
                let prefix = if *compacted { "compact-" } else { "part-" };
                file(&format!("2026-01-0{day}"), &format!("{prefix}{index}"), mib * MIB)
            }).collect();
            let options = CompactOptions { min_files, include_open: true, ..CompactOptions::at(NOW_MS) };
            let mut snapshot = logins(files);
            let planned = plan(&snapshot, &options);
            for partition in &planned.partitions {
                let before = snapshot.files.len();
                snapshot.files.retain(|file| !partition.sources.contains(file));
                prop_assert_eq!(before - snapshot.files.len(), partition.sources.len());
                let date = partition.partition.value("login_date").unwrap_or_default();
                let mut left = partition.bytes();
                for number in 0..partition.expected_files {
                    let size = left.min(options.target_file_bytes);
                    snapshot.files.push(file(date, &format!("compact-new-{number}"), size));
                    left -= size;
                }
            }
            // One hot file alone may be left below `min_files`; it is not planned either.
            prop_assert!(plan(&snapshot, &options).is_empty());
        }
    }
}
