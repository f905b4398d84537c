//! What a worker shares with the callbacks of its consumer group, which run on the worker's thread inside of a poll: where
//! records go, and which partitions are here. Records of partitions that leave are dropped or delivered before the group
//! is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use loginlake_kafka::consumer::PartitionListener;

use super::at_least_once::Deliveries;
use super::exactly_once::Transactions;
use super::metrics::RealtimeMetrics;

/// Where records go, and how offsets follow them.
pub(super) enum Output {
    ExactlyOnce(Transactions),
    AtLeastOnce(Deliveries),
}

/// Shared with the rebalance callbacks, which run on the same thread inside of a poll.
pub(super) struct Shared {
    pub output: Output,
    pub partitions: Mutex<Partitions>,
    pub metrics: RealtimeMetrics,
}

#[derive(Default)]
pub(super) struct Partitions {
    pub here: BTreeSet<i32>,
    pub at_end: BTreeSet<i32>,
    pub handled: BTreeMap<i32, i64>,
}

impl Shared {
    pub fn partitions(&self) -> MutexGuard<'_, Partitions> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartitionListener for Shared {
    fn assigned(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, String> {
        self.metrics.rebalances.inc();
        let mut known = self.partitions();
        known.here.extend(partitions);
        for partition in partitions {
            known.at_end.remove(partition);
            known.handled.remove(partition);
        }
        // They begin at the group's committed offsets.
        Ok(BTreeMap::new())
    }

    fn revoked(&self, partitions: &[i32], lost: bool) -> BTreeMap<i32, i64> {
        self.metrics.rebalances.inc();
        let mut next_offsets = BTreeMap::new();
        match &self.output {
            Output::ExactlyOnce(transactions) => transactions.revoked(),
            Output::AtLeastOnce(deliveries) => {
                if !lost {
                    deliveries.flush();
                    next_offsets = deliveries.delivered_offsets();
                    next_offsets.retain(|partition, _| partitions.contains(partition));
                }
                deliveries.forget_partitions(partitions);
            }
        }
        let mut known = self.partitions();
        for partition in partitions {
            known.here.remove(partition);
            known.at_end.remove(partition);
            known.handled.remove(partition);
            self.metrics.forget_partition(*partition);
        }
        next_offsets
    }
}
