//! What one process knows about its Kafka partitions and what it has buffered of them: the polling side of ingestion,
//! without I/O and without a clock.
//!
//! Guarantee: a row is buffered only while its partition is here, once, and in order; a closed batch holds exactly the rows
//! of its ranges; whatever leaves or is fenced takes its rows along. The rows themselves are behind [`Rows`], so that
//! property tests drive this very code with rows in a list.

use std::collections::{BTreeMap, BTreeSet};

use super::offsets::{BatchRanges, Offsets, Verdict};
use crate::error::LakeError;

/// Rows that wait for the next commit.
pub trait Rows {
    /// What they become when the batch is closed.
    type Batch;

    /// Drops every row of these Kafka partitions.
    ///
    /// # Errors
    /// The rows cannot be told apart any more: none of them is to be used.
    fn drop_kafka_partitions(&mut self, leaving: &BTreeSet<i32>) -> Result<(), LakeError>;
    /// Drops everything.
    fn clear(&mut self);
    /// Closes the batch, which covers `ranges`, and begins an empty one.
    fn close(&mut self, ranges: BatchRanges) -> Self::Batch;
}

/// One process's partitions and rows.
#[derive(Debug)]
pub struct Session<R> {
    offsets: Offsets,
    rows: R,
    /// Partitions that were read to their end since they came.
    at_end: BTreeSet<i32>,
    /// Where reading ends, for a run that is bounded.
    limits: BTreeMap<i32, i64>,
}

impl<R: Rows> Session<R> {
    /// No partitions. `limits`: offsets from which on nothing is taken, by Kafka partition; empty for a run without an end.
    pub fn new(rows: R, limits: BTreeMap<i32, i64>) -> Self {
        Self {
            offsets: Offsets::default(),
            rows,
            at_end: BTreeSet::new(),
            limits,
        }
    }

    /// Partitions arrive; the table has committed everything below these offsets. What is buffered of one that never left
    /// is dropped: it begins anew.
    ///
    /// # Errors
    /// The rows cannot be dropped: the process must not commit any more.
    pub fn assign(&mut self, starts: &BTreeMap<i32, i64>) -> Result<(), LakeError> {
        let here = |partition: &i32| self.offsets.next_offset(*partition).is_some();
        let again: Vec<i32> = starts.keys().copied().filter(here).collect();
        if !again.is_empty() {
            self.revoke(&again)?;
        }
        self.begin(starts);
        Ok(())
    }

    fn begin(&mut self, starts: &BTreeMap<i32, i64>) {
        for (partition, next_offset) in starts {
            self.offsets.assign(*partition, *next_offset);
            self.at_end.remove(partition);
        }
    }

    /// Partitions leave, with their rows.
    ///
    /// # Errors
    /// The rows cannot be dropped: the process must not commit any more.
    pub fn revoke(&mut self, partitions: &[i32]) -> Result<(), LakeError> {
        for partition in partitions {
            self.offsets.revoke(*partition);
            self.at_end.remove(partition);
        }
        self.rows
            .drop_kafka_partitions(&partitions.iter().copied().collect())
    }

    /// Judges a record. On [`Verdict::Buffer`] the caller appends it to [`Session::rows_mut`] before anything else happens.
    pub fn accept(&mut self, kafka_partition: i32, kafka_offset: i64) -> Verdict {
        if let Some(limit) = self.limits.get(&kafka_partition)
            && kafka_offset >= *limit
        {
            self.offsets.skip_to(kafka_partition, *limit);
            self.at_end.insert(kafka_partition);
            return Verdict::Skip;
        }
        self.offsets.accept(kafka_partition, kafka_offset)
    }

    /// All that was in a partition is read.
    pub fn end_reached(&mut self, kafka_partition: i32) {
        self.at_end.insert(kafka_partition);
    }

    /// Whether every partition that is here was read up to these ends. One may end in transaction markers, which no record's
    /// offset reaches: they count as read.
    pub fn has_read_to(&mut self, ends: &BTreeMap<i32, i64>) -> bool {
        let mut all = true;
        for partition in self.offsets.partitions() {
            let Some(end) = ends.get(&partition).copied() else {
                continue;
            };
            if self.at_end.contains(&partition) {
                self.offsets.skip_to(partition, end);
            } else if self.offsets.next_offset(partition).is_some_and(|next| next < end) {
                all = false;
            }
        }
        all
    }

    /// Closes what is buffered; `None` when no offset has moved since the last batch.
    pub fn close(&mut self) -> Option<R::Batch> {
        let ranges = self.offsets.seal();
        (!ranges.is_empty()).then(|| self.rows.close(ranges))
    }

    /// A batch is in the table.
    pub fn committed(&mut self, ranges: &BatchRanges) {
        self.offsets.committed(ranges);
    }

    /// A batch was fenced: drops everything that is buffered. Returns where to read on in each partition that is here; the
    /// table has committed everything below `committed`.
    pub fn restart(&mut self, committed: &BTreeMap<i32, i64>) -> BTreeMap<i32, i64> {
        self.rows.clear();
        let starts: BTreeMap<i32, i64> = self
            .offsets
            .partitions()
            .into_iter()
            .filter_map(|partition| Some((partition, *committed.get(&partition)?)))
            .collect();
        self.begin(&starts);
        starts
    }

    /// The offsets.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// The rows.
    pub fn rows(&self) -> &R {
        &self.rows
    }

    /// The rows, to append one that was accepted.
    pub fn rows_mut(&mut self) -> &mut R {
        &mut self.rows
    }
}
