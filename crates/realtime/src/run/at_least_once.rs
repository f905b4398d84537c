//! At least once: an idempotent producer, and offsets that are committed once everything before them is delivered.
//!
//! Records are counted in batches; a batch is done when all of its records are acknowledged, and offsets move batch by
//! batch, in order. A process that dies repeats what was not committed; the source.* headers tell which.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loginlake_kafka::KafkaError;
use loginlake_kafka::KafkaSettings;
use loginlake_kafka::producer::{Outgoing, RefusedRecord, TrackingProducer};
use loginlake_service::shutdown::Shutdown;

use super::metrics::Pending;

/// Records of a batch under load.
const BATCH_RECORDS: u64 = 1_000;
/// How long partitions that leave wait for their records to be delivered: shorter than the group's patience.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Deliveries of one worker.
pub(super) struct Deliveries {
    producer: TrackingProducer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Number of the batch that is being filled.
    number: usize,
    filling: Batch,
    /// Closed batches, oldest first.
    under_way: VecDeque<Batch>,
}

#[derive(Default)]
struct Batch {
    number: usize,
    next_offsets: BTreeMap<i32, i64>,
    pending: Pending,
    begun: Option<Instant>,
}

/// What was delivered since the last look.
pub(super) struct Delivered {
    pub next_offsets: BTreeMap<i32, i64>,
    pub batches: Vec<(Pending, Duration)>,
}

impl Deliveries {
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        Ok(Self {
            producer: TrackingProducer::new(settings)?,
            state: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a record over; waits while there is no room.
    pub fn publish(&self, outgoing: Outgoing<'_>, shutdown: &Shutdown) -> Result<(), KafkaError> {
        let number = self.lock().number;
        self.producer.send(outgoing, number, || shutdown.is_requested())
    }

    /// Takes note that everything below `next_offset` is handed over.
    pub fn handled(&self, partition: i32, next_offset: i64, count: impl FnOnce(&mut Pending)) {
        let mut state = self.lock();
        state.filling.next_offsets.insert(partition, next_offset);
        state.filling.begun.get_or_insert_with(Instant::now);
        count(&mut state.filling.pending);
        if state.filling.pending.records() >= BATCH_RECORDS {
            state.close();
        }
    }

    /// There is nothing more to read for now: what was handed over is a batch.
    pub fn close(&self) {
        self.lock().close();
    }

    /// Whether the next record would need a batch number that is still under way.
    pub fn is_full(&self) -> bool {
        self.lock().under_way.len() >= TrackingProducer::MAX_BATCHES - 2
    }

    /// Takes the batches that are delivered, oldest first, up to the first that is not.
    pub fn take_delivered(&self) -> Option<Delivered> {
        self.producer.serve();
        let mut state = self.lock();
        let mut delivered = Delivered {
            next_offsets: BTreeMap::new(),
            batches: Vec::new(),
        };
        while state
            .under_way
            .front()
            .is_some_and(|batch| self.producer.is_delivered(batch.number))
        {
            let Some(batch) = state.under_way.pop_front() else {
                break;
            };
            delivered.next_offsets.extend(batch.next_offsets);
            let age = batch.begun.map(|begun| begun.elapsed()).unwrap_or_default();
            delivered.batches.push((batch.pending, age));
        }
        (!delivered.batches.is_empty()).then_some(delivered)
    }

    /// Next offsets of what is delivered and not taken note of yet; the batches stay to be counted.
    pub fn delivered_offsets(&self) -> BTreeMap<i32, i64> {
        let state = self.lock();
        let delivered = state
            .under_way
            .iter()
            .take_while(|batch| self.producer.is_delivered(batch.number));
        delivered.flat_map(|batch| batch.next_offsets.clone()).collect()
    }

    /// Whether everything that was handed over is delivered and taken note of.
    pub fn is_idle(&self) -> bool {
        let state = self.lock();
        state.under_way.is_empty() && state.filling.next_offsets.is_empty()
    }

    /// Waits for deliveries, because partitions leave or the process stops.
    pub fn flush(&self) {
        self.close();
        if let Err(error) = self.producer.flush(FLUSH_TIMEOUT) {
            tracing::warn!(%error, "records are still under way");
        }
    }

    /// Records that the broker refused for good since the last call.
    pub fn take_refused(&self) -> Vec<RefusedRecord> {
        self.producer.take_refused()
    }

    /// What is under way is not waited for any more: its input is read again.
    pub fn forget(&self) -> Result<(), KafkaError> {
        self.producer.flush(FLUSH_TIMEOUT)?;
        let mut state = self.lock();
        let number = state.number;
        *state = State::default();
        // The numbers of the forgotten batches never count as delivered again: go past them.
        state.number = number + TrackingProducer::MAX_BATCHES;
        state.filling.number = state.number;
        drop(state);
        self.producer.reset_batches();
        Ok(())
    }

    /// Drops what is known of partitions that left.
    pub fn forget_partitions(&self, partitions: &[i32]) {
        let mut state = self.lock();
        let gone = |batch: &mut Batch| {
            batch
                .next_offsets
                .retain(|partition, _| !partitions.contains(partition))
        };
        gone(&mut state.filling);
        state.under_way.iter_mut().for_each(gone);
    }
}

impl State {
    fn close(&mut self) {
        if self.filling.next_offsets.is_empty() {
            return;
        }
        self.number += 1;
        let next = Batch {
            number: self.number,
            ..Batch::default()
        };
        let closed = std::mem::replace(&mut self.filling, next);
        self.under_way.push_back(closed);
    }
}
