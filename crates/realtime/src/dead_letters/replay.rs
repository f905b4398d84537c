//! `dead-letters replay`: original records back to the input topic, exactly once.
//!
//! A consumer group of its own (`<group>-dead-letters-replay`) marks how far the dead-letter topic was considered. Each
//! Kafka transaction covers the records that are put back *and* the group's offsets past what was considered, so a replay
//! that dies, at any moment, is continued by the next one: nothing is put back twice, nothing is left out. What the filters
//! leave out counts as considered, too, and is not offered again, unless `from_beginning` sets the group back.
//!
//! Nothing loops: a replay ends where the topic ended when it began, and a record that is rejected again comes back with a
//! higher attempt, up to a limit. One replay runs at a time: a second one with the same group takes over, and the first
//! ends with code 3.
//!
//! Whatever fails in a transaction, the whole step is done again with a new producer, which settles what the old one left,
//! and a new consumer, which begins at the committed offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loginlake_kafka::consumer::{GroupConsumer, PartitionListener, Polled, StartAt};
use loginlake_kafka::producer::TransactionalProducer;
use loginlake_kafka::rdkafka::Message as _;
use loginlake_kafka::rdkafka::consumer::ConsumerGroupMetadata;
use loginlake_kafka::rdkafka::message::BorrowedMessage;
use loginlake_kafka::topics::Topics as TopicClient;
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_service::backoff::Backoff;
use loginlake_service::exit::ExitError;

use super::letter::Letter;
use super::select::Selection;
use super::verdict::{Verdict, judge, record};
use crate::run::exit_error;

const TICK: Duration = Duration::from_millis(100);
/// Longest wait for partitions or records before a step fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one transactional call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// How long an abort inside of a rebalance may take.
const ABORT_TIMEOUT: Duration = Duration::from_secs(5);
/// After how long the broker aborts what a dead replay left open.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Dead letters of one transaction.
const MAX_CONSIDERED: u64 = 1_000;
/// Longest that a transaction stays open.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Steps that may fail one after another.
const MAX_FAILURES: u32 = 5;
/// Shortest time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);

/// What a replay is told.
#[derive(Clone, Debug)]
pub struct ReplayOptions {
    /// The cluster of both topics.
    pub kafka: KafkaSettings,
    /// Where the dead letters are.
    pub dead_letter_topic: String,
    /// Where their records go.
    pub input_topic: String,
    /// The group that marks what was considered; also the name of the transactions.
    pub group_id: String,
    /// Which dead letters are replayed.
    pub selection: Selection,
    /// Records that were tried this often are left out.
    pub max_attempts: u32,
    /// Set the group back to the oldest dead letter first.
    pub from_beginning: bool,
    /// Tell what would be done, and change nothing.
    pub dry_run: bool,
}

/// What became of the dead letters that were considered, as far as it is known to be committed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub considered: u64,
    /// Put back to the input topic.
    pub replayed: u64,
    /// Left out by the filters.
    pub left_out: u64,
    /// Tried as often as is allowed.
    pub at_limit: u64,
    /// Only the beginning of the payload was kept: they cannot be replayed.
    pub truncated: u64,
    /// Records of the topic that are no dead letters of this software.
    pub foreign: u64,
}

impl Tally {
    fn count(&mut self, verdict: Verdict) {
        self.considered += 1;
        match verdict {
            Verdict::Replay => self.replayed += 1,
            Verdict::LeftOut => self.left_out += 1,
            Verdict::AtLimit => self.at_limit += 1,
            Verdict::Truncated => self.truncated += 1,
            Verdict::Foreign => self.foreign += 1,
        }
    }

    fn add(&mut self, other: &Self) {
        self.considered += other.considered;
        self.replayed += other.replayed;
        self.left_out += other.left_out;
        self.at_limit += other.at_limit;
        self.truncated += other.truncated;
        self.foreign += other.foreign;
    }

    /// One line for each number.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn print(&self, dry_run: bool, out: &mut impl Write) -> Result<(), ExitError> {
        let replayed = if dry_run { "would be replayed" } else { "replayed" };
        let lines = [
            ("considered", self.considered),
            (replayed, self.replayed),
            ("left out by the filters", self.left_out),
            ("at the attempt limit", self.at_limit),
            ("truncated", self.truncated),
            ("not dead letters", self.foreign),
        ];
        lines
            .iter()
            .try_for_each(|(name, count)| writeln!(out, "{name:<24}{count:>12}"))
            .and_then(|()| out.flush())
            .map_err(ExitError::stdout)
    }
}

/// Considers every dead letter from where the group is to where the topic ends now.
///
/// # Errors
/// Code 3 when another replay of the same group took over; code 1 when Kafka fails again and again. What was committed
/// until then is replayed, the rest is considered by the next replay.
pub fn replay(options: &ReplayOptions) -> Result<Tally, ExitError> {
    let mut replay = Replay::new(options)?;
    let mut backoff = Backoff::default();
    loop {
        let before = replay.tally.considered;
        match replay.step() {
            Ok(()) => return Ok(replay.tally),
            Err(error @ KafkaError::Fenced(_)) => {
                return Err(exit_error(error).with_hint(
                    "another replay of this group took over; what this one had committed is not done again",
                ));
            }
            Err(
                error @ (KafkaError::Configuration(_)
                | KafkaError::NoTopic { .. }
                | KafkaError::NotAllowed(_)
                | KafkaError::Refused { .. }),
            ) => {
                return Err(exit_error(error));
            }
            Err(error) => {
                if replay.tally.considered > before && !options.dry_run {
                    backoff.reset();
                }
                if backoff.attempts() >= MAX_FAILURES {
                    return Err(exit_error(error).with_hint(format!(
                        "{} records are replayed; the next replay goes on behind them",
                        replay.tally.replayed
                    )));
                }
                tracing::warn!(%error, "going on from the committed offsets");
                std::thread::sleep(backoff.next_delay());
            }
        }
        replay.begin_again();
    }
}

/// Shared with the rebalance callbacks, which run on the same thread inside of a poll.
struct Shared {
    /// `None`: a dry run.
    producer: Option<TransactionalProducer>,
    /// A transaction is open at the producer.
    is_open: AtomicBool,
    /// Partitions left: what is open is aborted, and everything begins again.
    is_moved: AtomicBool,
    is_assigned: AtomicBool,
    /// Where partitions begin instead of at the group's offsets.
    starts: BTreeMap<i32, i64>,
}

impl PartitionListener for Shared {
    fn assigned(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, String> {
        self.is_assigned
            .fetch_or(!partitions.is_empty(), Ordering::AcqRel);
        let mut starts = self.starts.clone();
        starts.retain(|partition, _| partitions.contains(partition));
        Ok(starts)
    }

    fn revoked(&self, _partitions: &[i32], _lost: bool) -> BTreeMap<i32, i64> {
        self.is_moved.store(true, Ordering::Release);
        if let Some(producer) = &self.producer
            && self.is_open.swap(false, Ordering::AcqRel)
            && let Err(error) = producer.abort(ABORT_TIMEOUT)
        {
            tracing::warn!(%error, "cannot abort; the next producer does");
        }
        BTreeMap::new()
    }
}

struct Replay<'a> {
    options: &'a ReplayOptions,
    /// First and next-to-be-written offset of each partition when the replay began.
    bounds: BTreeMap<i32, (i64, i64)>,
    input_partitions: i32,
    /// The group has yet to be set back.
    set_back: bool,
    tally: Tally,
    told: Instant,
}

/// What is considered and not committed.
#[derive(Default)]
struct Open {
    begun: Option<Instant>,
    next_offsets: BTreeMap<i32, i64>,
    tally: Tally,
}

impl<'a> Replay<'a> {
    fn new(options: &'a ReplayOptions) -> Result<Self, ExitError> {
        let topics = TopicClient::connect(&options.kafka).map_err(exit_error)?;
        let bounds = topics.bounds(&options.dead_letter_topic).map_err(exit_error)?;
        let input = topics.describe(&options.input_topic).map_err(exit_error)?;
        Ok(Self {
            options,
            bounds,
            input_partitions: input.partitions,
            set_back: options.from_beginning,
            tally: Tally::default(),
            told: Instant::now(),
        })
    }

    /// A dry run commits nothing: its next step begins where its first one did.
    fn begin_again(&mut self) {
        if self.options.dry_run {
            self.tally = Tally::default();
        }
    }

    /// From the group's offsets to the end.
    fn step(&mut self) -> Result<(), KafkaError> {
        let options = self.options;
        let mut unfinished: BTreeSet<i32> = self
            .bounds
            .iter()
            .filter(|(_, (low, end))| low < end)
            .map(|(partition, _)| *partition)
            .collect();
        if unfinished.is_empty() {
            return Ok(());
        }
        let shared = Arc::new(self.shared()?);
        let consumer = GroupConsumer::join(
            &options.kafka,
            &options.group_id,
            &options.dead_letter_topic,
            StartAt::Earliest,
            Arc::clone(&shared),
        )?;
        let mut group = None;
        let mut open = Open::default();
        let mut heard = Instant::now();
        while !unfinished.is_empty() {
            // Before the first poll of each transaction; only the first one of all can begin with the poll that brings
            // the partitions, which is then the generation of its metadata.
            if group.is_none() && shared.is_assigned.load(Ordering::Acquire) {
                group = Some(self.group(&consumer)?);
            }
            let polled = match consumer.poll(TICK) {
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, "reading on");
                    Polled::Nothing
                }
                polled => polled?,
            };
            if shared.is_moved.load(Ordering::Acquire) {
                return Err(KafkaError::AbortTransaction("partitions were revoked".to_owned()));
            }
            let mut is_idle = false;
            match polled {
                Polled::Record(message) => {
                    heard = Instant::now();
                    if group.is_none() {
                        group = Some(self.group(&consumer)?);
                    }
                    let end = self.bounds.get(&message.partition()).map_or(0, |(_, end)| *end);
                    if message.offset() < end {
                        self.consider(&message, &shared, &mut open)?;
                    }
                    if message.offset() + 1 >= end {
                        unfinished.remove(&message.partition());
                    }
                }
                Polled::EndOfPartition(partition) => {
                    heard = Instant::now();
                    unfinished.remove(&partition);
                }
                Polled::Nothing => is_idle = true,
            }
            let age = open.begun.map(|begun| begun.elapsed()).unwrap_or_default();
            let is_full = open.tally.considered >= MAX_CONSIDERED || age >= MAX_AGE;
            if is_full || is_idle || unfinished.is_empty() {
                self.commit(&shared, &mut open, &mut group)?;
            }
            if heard.elapsed() > PATIENCE {
                return Err(KafkaError::Retriable(format!(
                    "no partition and no record of {} came for {} s",
                    options.dead_letter_topic,
                    PATIENCE.as_secs()
                )));
            }
        }
        Ok(())
    }

    /// With a producer that owns the transactions, which ends what a predecessor left open.
    fn shared(&self) -> Result<Shared, KafkaError> {
        let options = self.options;
        let producer = if options.dry_run {
            None
        } else {
            let producer =
                TransactionalProducer::new(&options.kafka, &options.group_id, TRANSACTION_TIMEOUT)?;
            producer.init(CALL_TIMEOUT)?;
            Some(producer)
        };
        let starts = if self.set_back {
            self.oldest()
        } else {
            BTreeMap::new()
        };
        Ok(Shared {
            producer,
            is_open: AtomicBool::new(false),
            is_moved: AtomicBool::new(false),
            is_assigned: AtomicBool::new(false),
            starts,
        })
    }

    fn oldest(&self) -> BTreeMap<i32, i64> {
        let oldest = self.bounds.iter().map(|(partition, (low, _))| (*partition, *low));
        oldest.collect()
    }

    /// The group's metadata. Setting the group back comes before anything is replayed, so a step that fails later goes on
    /// from what was committed, like any other.
    fn group(&mut self, consumer: &GroupConsumer<Shared>) -> Result<ConsumerGroupMetadata, KafkaError> {
        if self.set_back && !self.options.dry_run {
            consumer.commit_sync(&self.oldest())?;
            self.set_back = false;
        }
        consumer.group_metadata()
    }

    fn consider(
        &self,
        message: &BorrowedMessage<'_>,
        shared: &Shared,
        open: &mut Open,
    ) -> Result<(), KafkaError> {
        let letter = Letter::of(message);
        let verdict = judge(&letter, &self.options.selection, self.options.max_attempts);
        if let Some(producer) = &shared.producer {
            if open.begun.is_none() {
                producer.begin()?;
                shared.is_open.store(true, Ordering::Release);
            }
            if verdict == Verdict::Replay {
                let record = record(message, &letter, &self.options.input_topic, self.input_partitions);
                producer.send(record, || false)?;
            }
        }
        open.begun.get_or_insert_with(Instant::now);
        open.next_offsets
            .insert(message.partition(), message.offset() + 1);
        open.tally.count(verdict);
        Ok(())
    }

    /// Commits what is open; the next transaction begins with new metadata.
    fn commit(
        &mut self,
        shared: &Shared,
        open: &mut Open,
        group: &mut Option<ConsumerGroupMetadata>,
    ) -> Result<(), KafkaError> {
        if open.begun.is_none() {
            return Ok(());
        }
        let group = group.take();
        if let (Some(producer), Some(group)) = (&shared.producer, &group) {
            let topic = &self.options.dead_letter_topic;
            producer.send_offsets(topic, &open.next_offsets, group, CALL_TIMEOUT)?;
            producer.commit(CALL_TIMEOUT)?;
            shared.is_open.store(false, Ordering::Release);
        }
        self.tally.add(&std::mem::take(open).tally);
        if self.told.elapsed() >= PROGRESS_INTERVAL {
            self.told = Instant::now();
            let Tally {
                considered, replayed, ..
            } = self.tally;
            tracing::info!(considered, replayed, "replaying");
        }
        Ok(())
    }
}
