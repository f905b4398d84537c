//! Exactly once: records and offsets in one transaction (CORRECTNESS, real-time path 1 to 7).
//!
//! Transactions take turns on [`PRODUCERS`] producers, one transaction at a time: the broker answers a commit before it has
//! written all of its markers, and until then refuses the same producer's next transaction, which librdkafka then tries
//! again after 20 ms. A commit waits until everything of it is delivered, so the order of the records stays.
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
use loginlake_kafka::{KafkaError, KafkaSettings, Statistics};
use loginlake_service::shutdown::Shutdown;

use super::members::gives_up;
use super::metrics::Pending;
use super::offsets::NextOffsets;

/// Producers that take turns, each with a transactional id of its own.
const PRODUCERS: usize = 2;

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
        pending: Box<Pending>,
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
    transactional_ids: [String; PRODUCERS],
    transaction_timeout: Duration,
    input_topic: String,
    state: Mutex<State>,
    /// The open transaction was aborted by a rebalance: read again from the committed offsets.
    rewind: AtomicBool,
}

struct State {
    /// `None`: a new producer has to take over before the next transaction.
    producers: [Option<TransactionalProducer>; PRODUCERS],
    /// Whose turn it is.
    turn: usize,
    open: Option<Open>,
    /// When this producer was fenced lately.
    fenced: VecDeque<Instant>,
}

struct Open {
    group: ConsumerGroupMetadata,
    /// When its first record came; `None`: nothing has begun at the producer.
    begun: Option<Instant>,
    next_offsets: NextOffsets,
    pending: Pending,
}

/// A place in the open transaction for what becomes of one record.
pub(super) struct Next<'a> {
    transactions: &'a Transactions,
    state: MutexGuard<'a, State>,
}

impl Next<'_> {
    /// Hands a record to the transaction; waits while there is no room.
    pub fn publish(&mut self, outgoing: Outgoing<'_>, shutdown: &Shutdown) -> Result<(), KafkaError> {
        let result = match self.state.producer() {
            Some(producer) => producer.send(outgoing, gives_up(shutdown)),
            None => Err(gone()),
        };
        result.map_err(|error| self.transactions.note_fence(&mut self.state, error))
    }

    /// Takes note that everything below `next_offset` is handled by the transaction.
    pub fn handled(mut self, partition: i32, next_offset: i64, count: impl FnOnce(&mut Pending)) {
        if let Some(open) = &mut self.state.open {
            open.next_offsets.set(partition, next_offset);
            count(&mut open.pending);
        }
    }
}

impl State {
    fn producer(&self) -> Option<&TransactionalProducer> {
        self.producers[self.turn].as_ref()
    }

    /// What this producer leaves open is settled by the next one with its id.
    fn drop_producer(&mut self) {
        self.producers[self.turn] = None;
    }
}

impl Transactions {
    /// `transactional_id` is the beginning of the ids of this worker.
    pub fn new(
        settings: KafkaSettings,
        transactional_id: &str,
        transaction_timeout: Duration,
        input_topic: String,
    ) -> Self {
        let state = Mutex::new(State {
            producers: [const { None }; PRODUCERS],
            turn: 0,
            open: None,
            fenced: VecDeque::new(),
        });
        Self {
            settings,
            transactional_ids: std::array::from_fn(|number| format!("{transactional_id}-{number}")),
            transaction_timeout,
            input_topic,
            state,
            rewind: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that every transactional id has a producer that owns it. A retriable error: call again.
    ///
    /// All of them, before anything is read: the committed offsets are true only when no predecessor of any id has an open
    /// transaction.
    pub fn ensure_producers(&self) -> Result<(), KafkaError> {
        let mut state = self.lock();
        for (number, id) in self.transactional_ids.iter().enumerate() {
            if state.producers[number].is_none() {
                let producer = TransactionalProducer::new(&self.settings, id, self.transaction_timeout)?;
                let result = producer.init(CALL_TIMEOUT);
                result.map_err(|error| self.note_fence(&mut state, error))?;
                state.producers[number] = Some(producer);
            }
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
                next_offsets: NextOffsets::default(),
                pending: Pending::default(),
            };
            state.open = Some(open);
        }
        Ok(())
    }

    /// A place for the next record: begins the transaction at the producer with its first one.
    pub fn next(&self) -> Result<Next<'_>, KafkaError> {
        let mut state = self.lock();
        let State {
            producers,
            turn,
            open: Some(open),
            ..
        } = &mut *state
        else {
            return Err(gone());
        };
        if open.begun.is_none() {
            let Some(producer) = &producers[*turn] else {
                return Err(gone());
            };
            let result = producer.begin();
            open.begun = Some(Instant::now());
            result.map_err(|error| self.note_fence(&mut state, error))?;
        }
        Ok(Next {
            transactions: self,
            state,
        })
    }

    /// Whether a transaction has begun at the producer.
    pub fn is_open(&self) -> bool {
        self.lock().open.as_ref().is_some_and(|open| open.begun.is_some())
    }

    /// What the producers hold in memory together, and the longest time for which a quota held one up; `None` as long as
    /// none has said so.
    pub fn statistics(&self) -> Option<Statistics> {
        let state = self.lock();
        let all = state.producers.iter().flatten();
        all.filter_map(|producer| producer.client_state().statistics())
            .reduce(|one, other| Statistics {
                unsent_records: one.unsent_records + other.unsent_records,
                unsent_bytes: one.unsent_bytes + other.unsent_bytes,
                throttled_ms: one.throttled_ms.max(other.throttled_ms),
                ..one
            })
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
        let mut open = state.open.take()?;
        open.begun?;
        open.pending.close();
        let Some(producer) = state.producer() else {
            return Some(Commit::Aborted {
                error: gone(),
                refused: Vec::new(),
                records: 0,
            });
        };
        let next_offsets = open.next_offsets.to_map();
        let result = producer
            .send_offsets(&self.input_topic, &next_offsets, &open.group, CALL_TIMEOUT)
            .and_then(|()| producer.commit(CALL_TIMEOUT));
        match result {
            Ok(()) => {
                state.turn = (state.turn + 1) % PRODUCERS;
                Some(Commit::Done {
                    next_offsets,
                    pending: Box::new(open.pending),
                })
            }
            Err(error) => {
                let refused = producer.take_refused();
                // Abortable: this producer goes on after the abort. Anything else, an unknown outcome included: a new one
                // takes over the id, which aborts or completes what is under way before the offsets are read.
                let goes_on =
                    matches!(error, KafkaError::AbortTransaction(_)) && producer.abort(CALL_TIMEOUT).is_ok();
                if !goes_on {
                    state.drop_producer();
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
        let Some(producer) = state.producer() else {
            return Vec::new();
        };
        let result = producer.abort(timeout);
        let refused = producer.take_refused();
        if let Err(error) = result {
            tracing::warn!(%error, "cannot abort; a new producer takes over");
            state.drop_producer();
        }
        refused
    }

    /// Being fenced means new producers, for whoever took one id takes the others as well, and everything read again, as
    /// long as it does not happen all the time.
    fn note_fence(&self, state: &mut State, error: KafkaError) -> KafkaError {
        let KafkaError::Fenced(text) = error else {
            return error;
        };
        state.producers = [const { None }; PRODUCERS];
        let now = Instant::now();
        state
            .fenced
            .retain(|then| now.duration_since(*then) < FENCE_WINDOW);
        state.fenced.push_back(now);
        if state.fenced.len() > MAX_FENCES {
            return KafkaError::Fenced(format!(
                "{text}; another instance seems to use the transactional id {}: give each its own --transactional-id",
                self.transactional_ids[state.turn]
            ));
        }
        KafkaError::AbortTransaction(text)
    }

    /// Partitions leave: the open transaction may hold records of theirs.
    pub fn revoked(&self) {
        let had_records = self.is_open();
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
