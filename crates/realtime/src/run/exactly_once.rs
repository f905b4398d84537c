//! Exactly once: records and offsets in one transaction (CORRECTNESS, real-time path 1 to 7).
//!
//! The group's metadata is taken before the first record of a transaction is polled and never refreshed for it. A revoked
//! partition aborts the open transaction before the group is answered. After an abort everything is read again from the
//! committed offsets; after an unknown outcome a new producer takes over the transactional id, which settles it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loginlake_kafka::producer::{Outgoing, RefusedRecord, TransactionalProducer};
use loginlake_kafka::rdkafka::consumer::ConsumerGroupMetadata;
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_service::shutdown::Shutdown;

use super::metrics::Pending;

/// How long one transactional call may take before its outcome counts as unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an abort inside of a rebalance may take: shorter than the group's patience.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);

/// So often within [`FENCE_WINDOW`] a producer takes its transactional id back; then somebody else is using it.
const MAX_FENCES: usize = 5;
/// A stall can cost a producer its epoch; two instances with one id fence each other again and again.
const FENCE_WINDOW: Duration = Duration::from_secs(60);

/// What happened to the transaction that was to be committed.
#[derive(Debug)]
pub(super) enum Commit {
    /// It is committed: these offsets, these counts.
    Done {
        next_offsets: BTreeMap<i32, i64>,
        pending: Pending,
    },
    /// Nothing of it is visible; everything has to be read again from the committed offsets.
    Aborted {
        error: KafkaError,
        refused: Vec<RefusedRecord>,
        records: u64,
    },
}

/// Transactions of one worker.
pub(super) struct Transactions {
    settings: KafkaSettings,
    transactional_id: String,
    transaction_timeout: Duration,
    input_topic: String,
    state: Mutex<State>,
    /// The open transaction was aborted by a rebalance: read again from the committed offsets.
    rewind: AtomicBool,
}

struct State {
    /// `None`: a new producer has to take over before the next transaction.
    producer: Option<TransactionalProducer>,
    open: Option<Open>,
    /// When this producer was fenced lately.
    fenced: VecDeque<Instant>,
}

struct Open {
    group: ConsumerGroupMetadata,
    /// When its first record came; `None`: nothing has begun at the producer.
    begun: Option<Instant>,
    next_offsets: BTreeMap<i32, i64>,
    pending: Pending,
}

impl Transactions {
    pub fn new(
        settings: KafkaSettings,
        transactional_id: String,
        transaction_timeout: Duration,
        input_topic: String,
    ) -> Self {
        let state = Mutex::new(State {
            producer: None,
            open: None,
            fenced: VecDeque::new(),
        });
        Self {
            settings,
            transactional_id,
            transaction_timeout,
            input_topic,
            state,
            rewind: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that there is a producer that owns the transactional id. A retriable error: call again.
    pub fn ensure_producer(&self) -> Result<(), KafkaError> {
        let mut state = self.lock();
        if state.producer.is_none() {
            let producer =
                TransactionalProducer::new(&self.settings, &self.transactional_id, self.transaction_timeout)?;
            let result = producer.init(CALL_TIMEOUT);
            result.map_err(|error| self.note_fence(&mut state, error))?;
            state.producer = Some(producer);
        }
        Ok(())
    }

    /// Takes the group's metadata for the next transaction, before its first record is polled, unless one is open.
    pub fn prepare(
        &self,
        group: impl FnOnce() -> Result<ConsumerGroupMetadata, KafkaError>,
    ) -> Result<(), KafkaError> {
        let mut state = self.lock();
        if state.open.is_none() {
            let open = Open {
                group: group()?,
                begun: None,
                next_offsets: BTreeMap::new(),
                pending: Pending::default(),
            };
            state.open = Some(open);
        }
        Ok(())
    }

    /// Begins the transaction at the producer with its first record.
    pub fn ensure_begun(&self) -> Result<(), KafkaError> {
        let mut state = self.lock();
        let State {
            producer: Some(producer),
            open: Some(open),
            ..
        } = &mut *state
        else {
            return Err(gone());
        };
        if open.begun.is_none() {
            let result = producer.begin();
            open.begun = Some(Instant::now());
            return result.map_err(|error| self.note_fence(&mut state, error));
        }
        Ok(())
    }

    /// Hands a record to the open transaction.
    pub fn publish(&self, outgoing: Outgoing<'_>, shutdown: &Shutdown) -> Result<(), KafkaError> {
        let mut state = self.lock();
        let result = match &*state {
            State {
                producer: Some(producer),
                open: Some(_),
                ..
            } => producer.send(outgoing, || shutdown.is_requested()),
            _ => Err(gone()),
        };
        result.map_err(|error| self.note_fence(&mut state, error))
    }

    /// Takes note that everything below `next_offset` is handled by the open transaction.
    pub fn handled(&self, partition: i32, next_offset: i64, count: impl FnOnce(&mut Pending)) {
        if let Some(open) = &mut self.lock().open {
            open.next_offsets.insert(partition, next_offset);
            count(&mut open.pending);
        }
    }

    /// Records in the open transaction, and its age.
    pub fn size(&self) -> (u64, Duration) {
        let state = self.lock();
        let open = state.open.as_ref();
        let age = open.and_then(|open| open.begun).map(|begun| begun.elapsed());
        (
            open.map_or(0, |open| open.pending.records()),
            age.unwrap_or_default(),
        )
    }

    /// Commits the open transaction. `None`: there was nothing to commit.
    pub fn commit(&self) -> Option<Commit> {
        let mut state = self.lock();
        let open = state.open.take()?;
        open.begun?;
        let Some(producer) = &state.producer else {
            return Some(Commit::Aborted {
                error: gone(),
                refused: Vec::new(),
                records: 0,
            });
        };
        let result = producer
            .send_offsets(&self.input_topic, &open.next_offsets, &open.group, CALL_TIMEOUT)
            .and_then(|()| producer.commit(CALL_TIMEOUT));
        match result {
            Ok(()) => Some(Commit::Done {
                next_offsets: open.next_offsets,
                pending: open.pending,
            }),
            Err(error) => {
                let refused = producer.take_refused();
                // Abortable: this producer goes on after the abort. Anything else, an unknown outcome included: a new one
                // takes over the id, which aborts or completes what is under way before the offsets are read.
                let goes_on =
                    matches!(error, KafkaError::AbortTransaction(_)) && producer.abort(CALL_TIMEOUT).is_ok();
                if !goes_on {
                    state.producer = None;
                }
                let error = self.note_fence(&mut state, error);
                let records = open.pending.records();
                Some(Commit::Aborted {
                    error,
                    refused,
                    records,
                })
            }
        }
    }

    /// Gives the open transaction up: nothing of it becomes visible.
    pub fn abort(&self, timeout: Duration) -> Vec<RefusedRecord> {
        let mut state = self.lock();

        if state.open.take().and_then(|open| open.begun).is_none() {
            return Vec::new();
        }
        let Some(producer) = &state.producer else {
            return Vec::new();
        };
        let result = producer.abort(timeout);
        let refused = producer.take_refused();
        if let Err(error) = result {
            tracing::warn!(%error, "cannot abort; a new producer takes over");
            state.producer = None;
        }
        refused
    }

    /// Being fenced means a new producer and everything read again, as long as it does not happen all the time.
    fn note_fence(&self, state: &mut State, error: KafkaError) -> KafkaError {
        let KafkaError::Fenced(text) = error else {
            return error;
        };
        state.producer = None;
        let now = Instant::now();
        state
            .fenced
            .retain(|then| now.duration_since(*then) < FENCE_WINDOW);
        state.fenced.push_back(now);
        if state.fenced.len() > MAX_FENCES {
            return KafkaError::Fenced(format!(
                "{text}; another instance seems to use the transactional id {}: give each its own --transactional-id",
                self.transactional_id
            ));
        }
        KafkaError::AbortTransaction(text)
    }

    /// Partitions leave: the open transaction may hold records of theirs.
    pub fn revoked(&self) {
        let had_records = self.lock().open.as_ref().is_some_and(|open| open.begun.is_some());
        self.abort(ABORT_TIMEOUT);
        if had_records {
            self.rewind.store(true, Ordering::Release);
        }
    }

    /// Whether a rebalance aborted the open transaction since the last call.
    pub fn take_rewind(&self) -> bool {
        self.rewind.load(Ordering::Acquire) && self.rewind.swap(false, Ordering::AcqRel)
    }
}

fn gone() -> KafkaError {
    KafkaError::AbortTransaction("the transaction was aborted by a rebalance".to_owned())
}
