//! At least once: an idempotent producer, and offsets that are committed once everything before them is delivered.
//!
//! Records are counted in batches; a batch is done when all of its records are acknowledged, and offsets move batch by
//! batch, in order. A process that dies repeats what was not committed; the source.* headers tell which.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loginlake_kafka::producer::{Outgoing, RefusedRecord, TrackingProducer};
use loginlake_kafka::{KafkaError, KafkaSettings, Statistics};
use loginlake_service::shutdown::Shutdown;

use super::members::gives_up;
use super::metrics::Pending;
use super::offsets::NextOffsets;

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
    /// When a batch was delivered last, or the first one got under way.
    moved: Option<Instant>,
}

#[derive(Default)]
struct Batch {
    number: usize,
    next_offsets: NextOffsets,
    pending: Pending,
}

/// What was delivered since the last look.
pub(super) struct Delivered {
    pub next_offsets: BTreeMap<i32, i64>,
    pub batches: Vec<Pending>,
}

/// A place in the batch that is being filled for what becomes of one record.
pub(super) struct Next<'a> {
    producer: &'a TrackingProducer,
    state: MutexGuard<'a, State>,
}

impl Next<'_> {
    /// Hands a record over; waits while there is no room.
    pub fn publish(&mut self, outgoing: Outgoing<'_>, shutdown: &Shutdown) -> Result<(), KafkaError> {
        self.producer
            .send(outgoing, self.state.number, gives_up(shutdown))
    }

    /// Takes note that everything below `next_offset` is handed over.
    pub fn handled(mut self, partition: i32, next_offset: i64, count: impl FnOnce(&mut Pending)) {
        let filling = &mut self.state.filling;
        filling.next_offsets.set(partition, next_offset);
        count(&mut filling.pending);
        if filling.pending.records() >= BATCH_RECORDS {
            self.state.close();
        }
    }
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

    /// A place for the next record in the batch that is being filled.
    pub fn next(&self) -> Next<'_> {
        Next {
            producer: &self.producer,
            state: self.lock(),
        }
    }

    /// What was handed over is a batch.
    pub fn close(&self) {
        self.lock().close();
    }

    /// There is nothing more to read for now: what was handed over is sent at once.
    pub fn push(&self) {
        self.producer.push();
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
            delivered.next_offsets.extend(batch.next_offsets.to_map());
            delivered.batches.push(batch.pending);
            state.moved = Some(Instant::now());
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
        delivered.flat_map(|batch| batch.next_offsets.to_map()).collect()
    }

    /// For how long there have been records under way without one of their batches being delivered, and what the producer
    /// complained about last.
    pub fn still(&self) -> (Duration, Option<String>) {
        let state = self.lock();
        let moved = state.moved.filter(|_| !state.under_way.is_empty());
        let complaint = self.producer.client_state().last();
        (moved.map(|moved| moved.elapsed()).unwrap_or_default(), complaint)
    }

    /// Why records did not arrive since the last call: what is under way has to be read again.
    pub fn take_failure(&self) -> Option<KafkaError> {
        self.producer.take_failure()
    }

    /// What the producer holds in memory; `None` as long as it has not said so.
    pub fn statistics(&self) -> Option<Statistics> {
        self.producer.client_state().statistics()
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
        // What failed of it meanwhile is read again as well.
        self.producer.take_failure();
        Ok(())
    }

    /// Drops what is known of partitions that left.
    pub fn forget_partitions(&self, partitions: &[i32]) {
        let mut state = self.lock();
        let gone = |batch: &mut Batch| batch.next_offsets.remove(partitions);
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
        let mut closed = std::mem::replace(&mut self.filling, next);
        closed.pending.close();
        if self.under_way.is_empty() {
            self.moved = Some(Instant::now());
        }
        self.under_way.push_back(closed);
    }
}
