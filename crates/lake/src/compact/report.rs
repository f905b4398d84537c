//! What a run of compaction tells while it goes on, and at its end.

use std::fmt;
use std::sync::Arc;

use super::text::{TextTable, bytes_text};
use crate::table::{TableName, TablePartition};

/// What is told while compaction runs.
#[derive(Clone, Debug)]
pub enum CompactionEvent {
    /// A partition is begun.
    Started {
        /// The partition.
        partition: TablePartition,
        /// Files to be replaced.
        files: usize,
        /// Their size in bytes.
        bytes: u64,
    },
    /// Rows were written.
    Written {
        /// The partition.
        partition: TablePartition,
        /// Rows since the last such event.
        rows: u64,
    },
    /// Somebody else changed the partition meanwhile: it is begun anew.
    Restarted {
        /// The partition.
        partition: TablePartition,
        /// What was changed.
        detail: String,
    },
    /// A partition is done.
    Finished(PartitionReport),
}

/// Is called with what happens, from several tasks; must return quickly.
pub type Progress = Arc<dyn Fn(CompactionEvent) + Send + Sync>;

/// How a partition ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartitionOutcome {
    /// Its files were replaced.
    Compacted {
        /// The Delta version that did it.
        version: i64,
    },
    /// Somebody else did it, or keeps changing it: nothing was committed here.
    Superseded {
        /// What was found.
        detail: String,
    },
}

/// What became of a partition. The counts are of the files that were replaced and of those in their place; zero when
/// nothing was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionReport {
    /// The partition.
    pub partition: TablePartition,
    /// How it ended.
    pub outcome: PartitionOutcome,
    /// Files replaced.
    pub files_before: usize,
    /// Files in their place.
    pub files_after: usize,
    /// Bytes replaced.
    pub bytes_before: u64,
    /// Bytes in their place.
    pub bytes_after: u64,
    /// Rows in them, the same before and after.
    pub rows: u64,
    /// Bytes that went through temporary files.
    pub spilled_bytes: u64,
}

/// What a run of compaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionReport {
    /// The table.
    pub table: TableName,
    /// Its partitions, in the order in which they were done.
    pub partitions: Vec<PartitionReport>,
}

impl CompactionReport {
    /// Partitions that were rewritten by this run.
    pub fn compacted(&self) -> usize {
        let compacted =
            |report: &&PartitionReport| matches!(report.outcome, PartitionOutcome::Compacted { .. });
        self.partitions.iter().filter(compacted).count()
    }

    /// A sum over all partitions.
    fn sum(&self, of: impl Fn(&PartitionReport) -> u64) -> u64 {
        self.partitions.iter().map(of).sum()
    }
}

impl fmt::Display for CompactionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.partitions.is_empty() {
            return writeln!(f, "{}: nothing to compact", self.table);
        }
        let mut table = TextTable::new(vec![
            "partition",
            "files",
            "→ files",
            "bytes",
            "→ bytes",
            "rows",
            "version",
        ]);
        for report in &self.partitions {
            table.push(vec![
                report.partition.to_string(),
                report.files_before.to_string(),
                report.files_after.to_string(),
                bytes_text(report.bytes_before),
                bytes_text(report.bytes_after),
                report.rows.to_string(),
                match &report.outcome {
                    PartitionOutcome::Compacted { version } => version.to_string(),
                    PartitionOutcome::Superseded { .. } => "by others".to_owned(),
                },
            ]);
        }
        if self.partitions.len() > 1 {
            table.push(vec![
                "total".to_owned(),
                self.sum(|report| report.files_before as u64).to_string(),
                self.sum(|report| report.files_after as u64).to_string(),
                bytes_text(self.sum(|report| report.bytes_before)),
                bytes_text(self.sum(|report| report.bytes_after)),
                self.sum(|report| report.rows).to_string(),
                String::new(),
            ]);
        }
        write!(f, "{table}")
    }
}
