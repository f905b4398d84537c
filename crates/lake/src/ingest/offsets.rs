//! Which offsets a process has handled, sealed into batches and committed, for each Kafka partition that it has.
//!
//! Pure: no I/O, no clock. The rules (CORRECTNESS, OLAP path):
//! - a partition begins at the offset that the table has committed for it, and never earlier records are buffered;
//! - a batch covers `[from, to)` of each partition, and the next batch begins where it ended, so ranges never overlap and
//!   never leave a hole, whatever gaps the offsets have (transaction markers, log compaction);
//! - a partition that leaves takes its state along; coming back it begins anew from the table.

use std::collections::BTreeMap;

/// Offsets `[from, to)` of one Kafka partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetRange {
    /// First offset of the range: what the table has committed.
    pub from: i64,
    /// One more than the last offset handled: what it has committed afterwards.
    pub to: i64,
}

/// The ranges of a batch, by Kafka partition.
pub type BatchRanges = BTreeMap<i32, OffsetRange>;

/// What to do with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one of its partition: buffer it.
    Buffer,
    /// It was handled before, or its partition is not here (any more): drop it.
    Skip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PartitionState {
    /// `txn` of the table.
    committed: i64,
    /// End of the newest sealed batch.
    sealed: i64,
    /// One more than the last offset buffered.
    next: i64,
}

/// The offsets of all partitions that this process has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    partitions: BTreeMap<i32, PartitionState>,
}

impl Offsets {
    /// A partition arrives; the table has committed everything below `committed`.
    pub fn assign(&mut self, kafka_partition: i32, committed: i64) {
        self.partitions.insert(
            kafka_partition,
            PartitionState {
                committed,
                sealed: committed,
                next: committed,
            },
        );
    }

    /// A partition leaves. What is buffered of it has to be dropped.
    pub fn revoke(&mut self, kafka_partition: i32) {
        self.partitions.remove(&kafka_partition);
    }

    /// Judges a record and, when it is to be buffered, counts it as handled.
    pub fn accept(&mut self, kafka_partition: i32, kafka_offset: i64) -> Verdict {
        match self.partitions.get_mut(&kafka_partition) {
            Some(state) if kafka_offset >= state.next => {
                state.next = kafka_offset + 1;
                Verdict::Buffer
            }
            _ => Verdict::Skip,
        }
    }

    /// Everything below `next_offset` is known to be handled, although no record has that offset: it is a gap. Never goes
    /// back.
    pub fn skip_to(&mut self, kafka_partition: i32, next_offset: i64) {
        if let Some(state) = self.partitions.get_mut(&kafka_partition) {
            state.next = state.next.max(next_offset);
        }
    }

    /// Closes what is buffered into a batch: the ranges of the partitions that moved since the last one.
    pub fn seal(&mut self) -> BatchRanges {
        let mut ranges = BatchRanges::new();
        for (partition, state) in &mut self.partitions {
            if state.next > state.sealed {
                ranges.insert(
                    *partition,
                    OffsetRange {
                        from: state.sealed,
                        to: state.next,
                    },
                );
                state.sealed = state.next;
            }
        }
        ranges
    }

    /// A batch is in the table. Partitions that left, or that came back meanwhile, are not touched.
    pub fn committed(&mut self, ranges: &BatchRanges) {
        for (partition, range) in ranges {
            if let Some(state) = self.partitions.get_mut(partition)
                && state.committed == range.from
            {
                state.committed = range.to;
            }
        }
    }

    /// The partitions that are here.
    pub fn partitions(&self) -> Vec<i32> {
        self.partitions.keys().copied().collect()
    }

    /// What the table has committed of a partition that is here.
    pub fn committed_offset(&self, kafka_partition: i32) -> Option<i64> {
        self.partitions.get(&kafka_partition).map(|state| state.committed)
    }

    /// The next offset to be read of a partition that is here.
    pub fn next_offset(&self, kafka_partition: i32) -> Option<i64> {
        self.partitions.get(&kafka_partition).map(|state| state.next)
    }

    /// Whether everything handled is committed.
    pub fn is_drained(&self) -> bool {
        self.partitions
            .values()
            .all(|state| state.committed == state.next)
    }

    /// Whether a partition has records that are in no batch yet.
    pub fn has_unsealed(&self) -> bool {
        self.partitions.values().any(|state| state.next > state.sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_follow_each_other_without_hole_or_overlap() {
        let mut offsets = Offsets::default();
        offsets.assign(0, 10);
        assert_eq!(offsets.accept(0, 9), Verdict::Skip);
        assert_eq!(offsets.accept(0, 10), Verdict::Buffer);
        assert_eq!(offsets.accept(0, 10), Verdict::Skip);
        assert_eq!(offsets.accept(0, 14), Verdict::Buffer, "gaps are legal");
        let first = offsets.seal();
        assert_eq!(first[&0], OffsetRange { from: 10, to: 15 });
        assert!(offsets.seal().is_empty(), "nothing new");
        assert_eq!(offsets.accept(0, 15), Verdict::Buffer);
        let second = offsets.seal();
        assert_eq!(second[&0], OffsetRange { from: 15, to: 16 });
        offsets.committed(&first);
        assert!(!offsets.is_drained());
        offsets.committed(&second);
        assert!(offsets.is_drained());
        assert_eq!(offsets.committed_offset(0), Some(16));
    }

    #[test]
    fn a_partition_that_left_and_came_back_begins_at_the_table() {
        let mut offsets = Offsets::default();
        offsets.assign(3, 0);
        offsets.accept(3, 0);
        let batch = offsets.seal();
        offsets.revoke(3);
        assert_eq!(offsets.accept(3, 1), Verdict::Skip);
        offsets.assign(3, 7);
        offsets.committed(&batch);
        assert_eq!(
            offsets.committed_offset(3),
            Some(7),
            "an old batch does not move the new assignment"
        );
        assert_eq!(offsets.accept(3, 1), Verdict::Skip);
        assert_eq!(offsets.accept(3, 7), Verdict::Buffer);
    }
}
