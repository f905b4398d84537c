//! What a worker shares with the callbacks of its consumer group, which run on the worker's thread inside of a poll: where
//! records go, and which partitions are here. Records of partitions that leave are dropped or delivered before the group
//! is answered.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loginlake_kafka::consumer::PartitionListener;
use loginlake_kafka::producer::Outgoing;
use loginlake_kafka::{KafkaError, Statistics};
use loginlake_service::shutdown::Shutdown;

use super::at_least_once::{self, Deliveries};
use super::exactly_once::{self, Transactions};
use super::metrics::{Pending, RealtimeMetrics};

/// How long a full queue of the producer is waited for before it counts as a failure: longer than a quota that is meant to
/// let anything through makes a batch wait, shorter than the group's patience.
const QUEUE_FULL_LIMIT: Duration = Duration::from_secs(60);

/// When a record that finds no room in the producer's queue is given up: nothing is asked before.
pub(super) fn gives_up(shutdown: &Shutdown) -> impl Fn() -> bool {
    let full_since = Cell::new(None);
    move || {
        let since = full_since.get().unwrap_or_else(Instant::now);
        full_since.set(Some(since));
        shutdown.is_requested() || since.elapsed() > QUEUE_FULL_LIMIT
    }
}

/// Where records go, and how offsets follow them.
#[expect(clippy::large_enum_variant, reason = "there is one for each worker")]
pub(super) enum Output {
    ExactlyOnce(Transactions),
    AtLeastOnce(Deliveries),
}

/// A place for what becomes of one record.
pub(super) enum Next<'a> {
    ExactlyOnce(exactly_once::Next<'a>),
    AtLeastOnce(at_least_once::Next<'a>),
}

impl Output {
    /// A place for the next record.
    pub fn next(&self) -> Result<Next<'_>, KafkaError> {
        Ok(match self {
            Self::ExactlyOnce(transactions) => Next::ExactlyOnce(transactions.next()?),
            Self::AtLeastOnce(deliveries) => Next::AtLeastOnce(deliveries.next()),
        })
    }

    /// What the producers hold in memory; `None` as long as none has said so.
    pub fn statistics(&self) -> Option<Statistics> {
        match self {
            Self::ExactlyOnce(transactions) => transactions.statistics(),
            Self::AtLeastOnce(deliveries) => deliveries.statistics(),
        }
    }
}

impl Next<'_> {
    /// Hands a record over; waits while there is no room.
    pub fn publish(&mut self, outgoing: Outgoing<'_>, shutdown: &Shutdown) -> Result<(), KafkaError> {
        match self {
            Self::ExactlyOnce(next) => next.publish(outgoing, shutdown),
            Self::AtLeastOnce(next) => next.publish(outgoing, shutdown),
        }
    }

    /// Takes note that everything below `next_offset` is handled.
    pub fn handled(self, partition: i32, next_offset: i64, count: impl FnOnce(&mut Pending)) {
        match self {
            Self::ExactlyOnce(next) => next.handled(partition, next_offset, count),
            Self::AtLeastOnce(next) => next.handled(partition, next_offset, count),
        }
    }
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
    /// End of the partition when everything that could be read of it was.
    pub read_to: BTreeMap<i32, i64>,
}

impl Shared {
    pub fn partitions(&self) -> MutexGuard<'_, Partitions> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything that was there of a partition is read. `end`: its end, where transaction markers count.
    pub fn at_end(&self, partition: i32, end: Option<i64>) {
        let mut known = self.partitions();
        known.at_end.insert(partition);
        if let Some(end) = end {
            known.read_to.insert(partition, end);
        }
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
            known.read_to.remove(partition);
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
            known.read_to.remove(partition);
            self.metrics.forget_partition(*partition);
        }
        next_offsets
    }
}
