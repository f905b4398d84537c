//! Which offsets may be committed: of each partition, everything up to the last batch of which, and before which, all is
//! settled. Batches may be settled in any order. A partition that leaves is forgotten at once, with what is under way of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What is known of the partitions of this instance.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    here: BTreeMap<i32, Partition>,
}

#[derive(Debug, Default)]
struct Partition {
    /// Next offset after the open batch's last record.
    open: Option<i64>,
    /// Batches under way that hold records of it, oldest first, each with the next offset after it.
    under_way: VecDeque<UnderWay>,
    /// Settled, not committed.
    settled: Option<i64>,
    /// Everything that there was is read.
    at_end: bool,
    /// First offset that is not settled.
    next_offset: Option<i64>,
}

#[derive(Debug)]
struct UnderWay {
    batch: u64,
    next_offset: i64,
    settled: bool,
}

impl Offsets {
    pub fn assigned(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.here.insert(*partition, Partition::default());
        }
    }

    /// They leave: what of them is settled, to be committed before the group is answered.
    pub fn revoked(&mut self, partitions: &[i32]) -> BTreeMap<i32, i64> {
        let left = |partition: &i32| Some((*partition, self.here.remove(partition)?.settled?));
        partitions.iter().filter_map(left).collect()
    }

    /// A record went into the open batch.
    pub fn read(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.here.get_mut(&partition) {
            partition.open = Some(offset + 1);
            partition.next_offset.get_or_insert(offset);
            partition.at_end = false;
        }
    }

    /// Everything of it that there was is read.
    pub fn at_end(&mut self, partition: i32) {
        if let Some(partition) = self.here.get_mut(&partition) {
            partition.at_end = true;
        }
    }

    /// The open batch is handed over.
    pub fn sent(&mut self, batch: u64) {
        for partition in self.here.values_mut() {
            if let Some(next_offset) = partition.open.take() {
                partition.under_way.push_back(UnderWay {
                    batch,
                    next_offset,
                    settled: false,
                });
            }
        }
    }

    /// Everything in it is stored or a dead letter that is acknowledged.
    pub fn settled(&mut self, batch: u64) {
        for partition in self.here.values_mut() {
            for under_way in &mut partition.under_way {
                under_way.settled |= under_way.batch == batch;
            }
            while partition.under_way.front().is_some_and(|first| first.settled) {
                let first = partition.under_way.pop_front();
                partition.settled = first.map(|first| first.next_offset);
                partition.next_offset = partition.settled;
            }
        }
    }

    /// Next offsets that are settled and not committed.
    pub fn to_commit(&self) -> BTreeMap<i32, i64> {
        let settled = |(partition, known): (&i32, &Partition)| Some((*partition, known.settled?));
        self.here.iter().filter_map(settled).collect()
    }

    /// These are committed.
    pub fn committed(&mut self, next_offsets: &BTreeMap<i32, i64>) {
        for (partition, next_offset) in next_offsets {
            if let Some(known) = self.here.get_mut(partition)
                && known.settled == Some(*next_offset)
            {
                known.settled = None;
            }
        }
    }

    /// The partitions of this instance that are read to their end, when nothing at all is open, under way or uncommitted;
    /// `None` while there is anything to do.
    pub fn idle_at_end(&self) -> Option<BTreeSet<i32>> {
        let done = |known: &Partition| {
            known.open.is_none() && known.under_way.is_empty() && known.settled.is_none() && known.at_end
        };
        self.here
            .values()
            .all(done)
            .then(|| self.here.keys().copied().collect())
    }

    /// The partitions of this instance, each with the first offset that is not settled; `None` when there is nothing to do. Those
    /// of which nothing is known yet are left out.
    pub fn unsettled_from(&self) -> impl Iterator<Item = (i32, Option<i64>)> {
        self.here.iter().filter_map(|(partition, known)| {
            let is_idle = known.at_end && known.open.is_none() && known.under_way.is_empty();
            let from = if is_idle { None } else { Some(known.next_offset?) };
            Some((*partition, from))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_committed_past_what_is_not_settled() {
        let mut offsets = Offsets::default();
        offsets.assigned(&[0, 1]);
        offsets.read(0, 4);
        offsets.sent(1);
        offsets.read(0, 9);
        offsets.read(1, 2);
        offsets.sent(2);
        offsets.settled(2);
        assert_eq!(offsets.to_commit(), BTreeMap::from([(1, 3)]));
        let unsettled: BTreeMap<_, _> = offsets.unsettled_from().collect();
        assert_eq!(unsettled, BTreeMap::from([(0, Some(4)), (1, Some(3))]));
        offsets.settled(1);
        assert_eq!(offsets.to_commit(), BTreeMap::from([(0, 10), (1, 3)]));
        offsets.committed(&BTreeMap::from([(0, 10), (1, 3)]));
        assert!(offsets.to_commit().is_empty());
        assert_eq!(offsets.idle_at_end(), None);
        offsets.at_end(0);
        offsets.at_end(1);
        assert_eq!(offsets.idle_at_end(), Some(BTreeSet::from([0, 1])));
        assert!(offsets.unsettled_from().all(|(_, from)| from.is_none()));
    }

    #[test]
    fn a_partition_that_left_is_never_committed_from_here() {
        let mut offsets = Offsets::default();
        offsets.assigned(&[0]);
        offsets.read(0, 1);
        offsets.sent(1);
        offsets.read(0, 3);
        offsets.sent(2);
        offsets.settled(1);
        assert_eq!(offsets.revoked(&[0]), BTreeMap::from([(0, 2)]));
        offsets.settled(2);
        assert!(offsets.to_commit().is_empty());
        // Back again: what was under way before says nothing about what is read now.
        offsets.assigned(&[0]);
        offsets.settled(2);
        assert!(offsets.to_commit().is_empty());
    }

    #[test]
    fn a_commit_that_was_overtaken_does_not_hide_what_came_after() {
        let mut offsets = Offsets::default();
        offsets.assigned(&[0]);
        for batch in 1..=2 {
            offsets.read(0, i64::try_from(batch).expect("small"));
            offsets.sent(batch);
        }
        offsets.settled(1);
        let first = offsets.to_commit();
        offsets.settled(2);
        offsets.committed(&first);
        assert_eq!(offsets.to_commit(), BTreeMap::from([(0, 3)]));
    }
}
