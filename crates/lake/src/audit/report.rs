//! What an audit found: a table for people, JSON for programs. Bounded, whatever is wrong.

use std::fmt;

use serde::Serialize;

use crate::compact::Fingerprint;
use crate::compact::text::TextTable;

/// Ranges that a finding names; the others are counted.
pub const MAX_RANGES: usize = 20;
/// Hours that are named; the others are counted.
const MAX_HOURS_NAMED: usize = 1_000;
/// Findings that are kept; the others are counted.
const MAX_FINDINGS: usize = 1_000;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A commit moved offsets back, or did not begin where the one before it ended.
    OffsetsBroken,
    /// Two commits carry one batch id.
    BatchTwice,
    /// The rows of a commit do not add up.
    RowsDoNotAddUp,
    /// Rows were added or removed by something that is neither ingestion nor maintenance.
    Unaudited,
    /// The log and the newest version do not name the same files.
    LogDiffers,
    /// A file that the table names is not there.
    FileMissing,
    /// A file has another size than the log says, or cannot be read.
    FileDamaged,
    /// A file has other rows, or other bounds, than its statistics say.
    StatisticsWrong,
    /// A compaction left other rows than it took.
    CompactionChangedRows,
    /// An offset is there more often than once.
    RowTwice,
    /// A row has an offset that is not committed.
    AboveCommitted,
    /// The topic has a record that the tables do not have.
    RowMissing,
    /// The tables have a row that the topic does not have.
    RowExtra,
    /// The topic was deleted and made again.
    TopicMadeAgain,
    /// A row says something else than its record.
    RowDiffers,
    /// A row stands in another table partition than its event time says.
    RowMisplaced,
    /// Rows stand in another hour than the topic's records.
    HourDiffers,
    /// The tables have a row that the speed path did not publish.
    NotPublished,
    /// The speed path published a record more often than once.
    PublishedTwice,
    /// The speed path published what the tables do not have.
    PublishedExtra,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub what: What,
    /// The table; `None`: both together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<&'static str>,
    /// The Delta version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// The file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The Kafka partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kafka_partition: Option<i32>,
    /// Offsets `[from, to)`, the first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<(i64, i64)>,
    /// Ranges that are not named.
    #[serde(skip_serializing_if = "is_zero")]
    pub more_ranges: u64,
    /// How many offsets or rows are concerned.
    pub count: u64,
    /// The rest in words.
    pub detail: String,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Finding {
    /// Something wrong; the builder methods say where.
    pub(super) fn new(what: What, detail: impl Into<String>) -> Self {
        Self {
            what,
            table: None,
            version: None,
            file: None,
            kafka_partition: None,
            offsets: Vec::new(),
            more_ranges: 0,
            count: 1,
            detail: detail.into(),
        }
    }

    pub(super) fn in_table(mut self, table: &'static str) -> Self {
        self.table = Some(table);
        self
    }

    pub(super) fn at_version(mut self, version: i64) -> Self {
        self.version = Some(version);
        self
    }

    pub(super) fn in_file(mut self, file: &str) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    pub(super) fn at(mut self, kafka_partition: i32, ranges: &Ranges) -> Self {
        self.kafka_partition = Some(kafka_partition);
        self.offsets = ranges.first.clone();
        self.more_ranges = ranges.more;
        self.count = ranges.offsets;
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = serde_json::to_value(self.what).unwrap_or_default();
        write!(f, "{}:", name.as_str().unwrap_or_default())?;
        if let Some(table) = self.table {
            write!(f, " {table}")?;
        }
        if let Some(version) = self.version {
            write!(f, " version {version}")?;
        }
        if let Some(file) = &self.file {
            write!(f, " {file}")?;
        }
        if let Some(partition) = self.kafka_partition {
            write!(f, " partition {partition}")?;
        }
        if !self.offsets.is_empty() {
            let ranges: Vec<String> = self
                .offsets
                .iter()
                .map(|(from, to)| match to - from {
                    1 => from.to_string(),
                    _ => format!("{from}-{}", to - 1),
                })
                .collect();
            write!(f, " offsets {}", ranges.join(" "))?;
            if self.more_ranges > 0 {
                write!(f, " and {} more ranges", self.more_ranges)?;
            }
            write!(f, " ({} in all)", self.count)?;
        }
        write!(f, ": {}", self.detail)
    }
}

/// Ranges of offsets, the first ones by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    pub(super) first: Vec<(i64, i64)>,
    pub(super) more: u64,
    pub(super) offsets: u64,
    end: Option<i64>,
}

impl Ranges {
    /// Adds an offset; they come in order.
    pub(super) fn push(&mut self, offset: i64) {
        self.push_range(offset, offset + 1);
    }

    /// Adds `[from, to)`; they come in order.
    pub(super) fn push_range(&mut self, from: i64, to: i64) {
        self.offsets += to.abs_diff(from);
        let joins = self.end == Some(from);
        self.end = Some(to);
        let named = self.first.len();
        match self.first.last_mut() {
            Some(last) if joins && self.more == 0 => last.1 = to,
            _ if joins => {}
            _ if named < MAX_RANGES => self.first.push((from, to)),
            _ => self.more += 1,
        }
    }

    /// Adds ranges that come after these.
    pub(super) fn append(&mut self, later: &Self) {
        let named: u64 = later.first.iter().map(|(from, to)| from.abs_diff(*to)).sum();
        for (from, to) in &later.first {
            self.push_range(*from, *to);
        }
        self.more += later.more;
        self.offsets += later.offsets - named;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.offsets == 0
    }
}

/// Two sides compared between two offsets, by counts and by sums that do not depend on the order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// First offset.
    pub from: i64,
    /// One more than the last.
    pub to: i64,
    /// Rows of the tables.
    pub rows: Fingerprint,
    /// Records of the other side, each position once.
    pub records: Fingerprint,
}

impl Serialize for Comparison {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Written {
            from: i64,
            to: i64,
            rows: u64,
            rows_sum: String,
            records: u64,
            records_sum: String,
        }
        let sum = |of: Fingerprint| format!("{:016x}", of.sum);
        Written {
            from: self.from,
            to: self.to,
            rows: self.rows.rows,
            rows_sum: sum(self.rows),
            records: self.records.rows,
            records_sum: sum(self.records),
        }
        .serialize(serializer)
    }
}

/// An hour of a Kafka partition whose rows are not the records of the topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HourDifference {
    /// The Kafka partition.
    pub kafka_partition: i32,
    /// The hour of the records' times, RFC 3339.
    pub hour: String,
    /// Records of the topic.
    pub records: u64,
    /// Rows of `logins`.
    pub logins: u64,
    /// Rows of `rejected`.
    pub rejected: u64,
    /// Order-independent sum over the records' positions, in hexadecimal.
    pub records_sum: String,
    /// The same over the rows'.
    pub rows_sum: String,
}

/// What was seen of a Kafka partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PartitionSummary {
    /// The Kafka partition.
    pub kafka_partition: i32,
    /// The next offset that `logins` has committed.
    pub next_offset: i64,
    /// Rows in `logins`.
    pub logins: u64,
    /// Rows in `rejected` below the next offset.
    pub rejected: u64,
    /// Records of the topic that were compared, when it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<u64>,
    /// Records that the speed path published, when its topics were asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published: Option<u64>,
    /// Further records for source positions that were published already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_again: Option<u64>,
    /// Rows that audited erasures took.
    pub erased: u64,
    /// Offsets that accepted gaps gave up.
    pub given_up: u64,
    /// Order-independent sum over the positions of all rows, in hexadecimal.
    pub sum: String,
    /// Hours of the records' times that were compared.
    pub hours: u64,
    /// The tables beside the topic, where the topic has its records still.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Comparison>,
    /// The tables beside what the speed path published, where it can be judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub speed_path: Option<Comparison>,
}

/// Everything that an audit found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AuditReport {
    /// The lake.
    pub lake: String,
    /// The versions that were looked at.
    pub versions: std::collections::BTreeMap<&'static str, i64>,
    /// Commits that were read.
    pub commits: u64,
    /// Files that were read.
    pub files: u64,
    /// Rows that were read.
    pub rows: u64,
    /// Kafka partition by Kafka partition.
    pub partitions: Vec<PartitionSummary>,
    /// What could not be judged, and why. Not wrong by itself.
    pub notes: Vec<String>,
    /// Hours whose rows are not the records of the topic, the first of them.
    pub hours: Vec<HourDifference>,
    /// How many such hours there are.
    pub hours_differing: u64,
    /// What is wrong, the first of it.
    pub findings: Vec<Finding>,
    /// What else is wrong.
    pub more_findings: u64,
}

impl AuditReport {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    pub(super) fn found(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }

    pub(super) fn hour_differs(&mut self, hour: HourDifference) {
        self.hours_differing += 1;
        if self.hours.len() < MAX_HOURS_NAMED {
            self.hours.push(hour);
        }
    }

    pub(super) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }
}

impl fmt::Display for AuditReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |count| count.to_string());
        let mut table = TextTable::new(vec![
            "partition",
            "next offset",
            "logins",
            "rejected",
            "topic",
            "published",
            "again",
            "erased",
            "given up",
        ]);
        for partition in &self.partitions {
            table.push(vec![
                partition.kafka_partition.to_string(),
                partition.next_offset.to_string(),
                partition.logins.to_string(),
                partition.rejected.to_string(),
                optional(partition.topic),
                optional(partition.published),
                optional(partition.published_again),
                partition.erased.to_string(),
                partition.given_up.to_string(),
            ]);
        }
        write!(f, "{table}")?;
        let versions: Vec<String> = self
            .versions
            .iter()
            .map(|(table, version)| format!("{table} at version {version}"))
            .collect();
        writeln!(
            f,
            "{}: {} commits, {} files, {} rows read",
            versions.join(", "),
            self.commits,
            self.files,
            self.rows
        )?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for finding in &self.findings {
            writeln!(f, "WRONG {finding}")?;
        }
        match self.findings.len() as u64 + self.more_findings {
            0 => write!(f, "nothing is wrong"),
            1 => write!(f, "1 thing is wrong"),
            count => write!(f, "{count} things are wrong"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_ranges_are_named_and_the_others_counted() {
        let mut ranges = Ranges::default();
        for offset in [1, 2, 3, 7] {
            ranges.push(offset);
        }
        assert_eq!((ranges.first.clone(), ranges.offsets), (vec![(1, 4), (7, 8)], 4));
        for offset in (100..200).step_by(2) {
            ranges.push(offset);
        }
        ranges.push(199);
        assert_eq!(ranges.first.len(), MAX_RANGES);
        assert_eq!((ranges.more, ranges.offsets), (32, 55));
        let text = Finding::new(What::RowTwice, "more often than once")
            .at(3, &ranges)
            .to_string();
        assert!(
            text.starts_with("row_twice: partition 3 offsets 1-3 7 100 "),
            "{text}"
        );
        assert!(text.contains("and 32 more ranges (55 in all)"), "{text}");
    }
}
