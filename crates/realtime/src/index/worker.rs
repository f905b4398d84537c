//! The loop: polls, fills a batch, hands it to one of a few senders, commits what is settled, serves the group.
//!
//! Memory is bounded by (in flight + 1) batches. While no sender is free, nothing is polled; after two seconds of that the
//! partitions are paused and the group is served, so that an outage of hours costs nothing but lag.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::{GroupConsumer, PartitionListener, Polled, StartAt};
use loginlake_kafka::producer::{SOURCE_OFFSET, SOURCE_PARTITION};
use loginlake_kafka::rdkafka::Message as _;
use loginlake_kafka::rdkafka::message::{BorrowedMessage, Headers as _};
use loginlake_service::backoff::Backoff;
use loginlake_service::exit::ExitError;
use loginlake_service::health::ComponentHealth;
use loginlake_service::shutdown::Shutdown;

use super::IndexOptions;
use super::batch::Batch;
use super::deliver::{Bulk, deliver};
use super::document;
use super::end;
use super::letters::Letters;
use super::metrics::IndexMetrics;
use super::offsets::Offsets;
use crate::run::exit_error;

/// Longest that the loop may be still.
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(100);
/// How often settled offsets are committed: what a crash reads again.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// How long senders are waited for before the group is served meanwhile.
const HOLD_AFTER: Duration = Duration::from_secs(2);
/// How long a stop waits for what is under way. What is not settled then is read again by the next start.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Longest pause between two attempts of a request.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// So long after the last trouble with Kafka a service without anything to do counts as ready.
const FORGIVEN_AFTER: Duration = Duration::from_secs(30);
/// Polls between two looks at anything else, while records come in.
const POLLS_PER_TURN: u32 = 1_000;

/// Shared with the group's callbacks, which run inside of a poll.
#[derive(Default)]
struct Shared(Mutex<Offsets>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Offsets> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartitionListener for Shared {
    fn assigned(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, String> {
        self.lock().assigned(partitions);
        Ok(BTreeMap::new())
    }

    fn revoked(&self, partitions: &[i32], lost: bool) -> BTreeMap<i32, i64> {
        let settled = self.lock().revoked(partitions);
        // Somebody else may be further already.
        if lost { BTreeMap::new() } else { settled }
    }
}

/// What a sender tells.
enum Told {
    /// The batch, and whether it is settled.
    Done(Batch, bool),
    /// Why this sender waits; `None`: it goes on.
    Waiting(usize, Option<String>),
}

pub(super) struct Worker<'a> {
    options: &'a IndexOptions,
    bounds: &'a BTreeMap<i32, (i64, i64)>,
    shutdown: &'a Shutdown,
    health: ComponentHealth,
    metrics: IndexMetrics,
    shared: Arc<Shared>,
    open: Batch,
    known_topic: Option<Arc<str>>,
    in_flight: usize,
    /// Why senders wait, by sender.
    waiting: BTreeMap<usize, String>,
    /// Why Kafka does not do what it is asked.
    trouble: Option<(String, Instant)>,
    backoff: Backoff,
    /// Batches whose letters are not acknowledged.
    unwritten: Vec<Batch>,
    paused: BTreeSet<i32>,
    held_since: Option<Instant>,
    committed_at: Instant,
}

impl<'a> Worker<'a> {
    pub fn new(
        options: &'a IndexOptions,
        bounds: &'a BTreeMap<i32, (i64, i64)>,
        shutdown: &'a Shutdown,
        health: ComponentHealth,
        metrics: IndexMetrics,
    ) -> Self {
        Self {
            options,
            bounds,
            shutdown,
            health,
            metrics,
            shared: Arc::default(),
            open: Batch::new(1),
            known_topic: None,
            in_flight: 0,
            waiting: BTreeMap::new(),
            trouble: None,
            backoff: Backoff::default(),
            unwritten: Vec::new(),
            paused: BTreeSet::new(),
            held_since: None,
            committed_at: Instant::now(),
        }
    }

    /// Until told to stop, or until the end.
    ///
    /// # Errors
    /// Kafka refuses for good.
    pub fn run(mut self, bulk: &impl Bulk) -> Result<(), ExitError> {
        let options = self.options;
        let letters = Letters::new(&options.kafka, &options.dead_letter_topic).map_err(exit_error)?;
        let consumer = GroupConsumer::join(
            &options.kafka,
            &options.group_id,
            &options.topic,
            StartAt::Earliest,
            Arc::clone(&self.shared),
        )
        .map_err(exit_error)?;
        let call_off = Shutdown::new();
        let metrics = self.metrics.clone();
        // Never full: what is under way is counted.
        let (to_senders, batches) = sync_channel::<Batch>(options.in_flight);
        let batches = Mutex::new(batches);
        let (tell, told) = channel();
        std::thread::scope(|scope| {
            // The senders end when `to_senders` goes and their deliveries are over or called off, on every way out.
            let _call_off = OnDrop(&call_off);
            let to_senders = to_senders;
            for sender in 0..options.in_flight {
                let (batches, tell, call_off, metrics) = (&batches, tell.clone(), &call_off, &metrics);
                scope.spawn(move || send(sender, batches, &tell, bulk, call_off, metrics));
            }
            self.turn_until_end(&consumer, &letters, &to_senders, &told)
        })
    }

    fn turn_until_end(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        letters: &Letters,
        to_senders: &SyncSender<Batch>,
        told: &Receiver<Told>,
    ) -> Result<(), ExitError> {
        let mut stopping: Option<Instant> = None;
        loop {
            self.listen(told, letters);
            self.commit(consumer, false);
            self.say(consumer);
            if self.shutdown.is_requested() && stopping.is_none() {
                stopping = Some(Instant::now());
            }
            let is_due = self.open.bytes() >= self.options.batch_bytes
                || self.open.records() >= self.options.batch_records
                || stopping.is_some()
                || self.open.opened().elapsed() >= self.options.batch_age;
            if !self.open.is_empty() && is_due && !self.hand_over(to_senders) {
                self.hold(consumer, told, letters, stopping.is_some())?;
            } else if stopping.is_none() {
                self.go_on(consumer);
                self.fill(consumer)?;
            }
            let is_idle = self.open.is_empty() && self.in_flight == 0 && self.unwritten.is_empty();
            if let Some(since) = stopping {
                if is_idle || since.elapsed() > STOP_LIMIT {
                    if !is_idle {
                        tracing::warn!(
                            batches = self.in_flight,
                            "stopping with batches that OpenSearch did not take; they are read again"
                        );
                    }
                    self.commit(consumer, true);
                    return Ok(());
                }
                self.wait_for_senders(told, letters);
            } else if self.options.exit_at_end && is_idle {
                self.commit(consumer, true);
                let here = self.shared.lock().idle_at_end();
                if here.is_some_and(|here| end::is_reached(consumer, &here, self.bounds)) {
                    tracing::info!("everything that the topic held at the start is settled and committed");
                    return Ok(());
                }
            }
        }
    }

    /// Polls until the batch is due or nothing comes.
    fn fill(&mut self, consumer: &GroupConsumer<Shared>) -> Result<(), ExitError> {
        for _ in 0..POLLS_PER_TURN {
            let left = self
                .options
                .batch_age
                .saturating_sub(self.open.opened().elapsed());
            let wait = if self.open.is_empty() {
                TICK
            } else {
                left.min(TICK)
            };
            match consumer.poll(wait) {
                Ok(Polled::Record(message)) => {
                    self.trouble = None;
                    self.take(&message);
                    if self.open.bytes() >= self.options.batch_bytes
                        || self.open.records() >= self.options.batch_records
                    {
                        return Ok(());
                    }
                }
                Ok(Polled::EndOfPartition(partition)) => {
                    self.trouble = None;
                    self.shared.lock().at_end(partition);
                }
                Ok(Polled::Nothing) => return Ok(()),
                Err(error) => return self.wait_after(error),
            }
        }
        Ok(())
    }

    /// What librdkafka repairs by itself, or an administrator may, is waited for; anything else ends the service.
    fn wait_after(&mut self, error: KafkaError) -> Result<(), ExitError> {
        match error {
            KafkaError::Retriable(_) | KafkaError::NotAllowed(_) => {
                self.troubled(error.to_string());
                tracing::debug!(%error, "not read");
                self.shutdown.wait_timeout(self.backoff.next_delay());
                Ok(())
            }
            _ => Err(exit_error(error)),
        }
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let headers = message.headers();
        let header = |key: &str| {
            let headers = headers?;
            headers.iter().filter(|header| header.key == key).last()?.value
        };
        let source = document::source(
            header("source.topic"),
            header(SOURCE_PARTITION),
            header(SOURCE_OFFSET),
            &mut self.known_topic,
        );
        self.open
            .add(&self.options.name, source, message.key(), message.payload());
        self.shared.lock().read(message.partition(), message.offset());
    }

    /// Gives the open batch to a sender that is free. Returns whether there was one.
    fn hand_over(&mut self, to_senders: &SyncSender<Batch>) -> bool {
        if self.in_flight >= self.options.in_flight {
            return false;
        }
        let number = self.open.number;
        let (records, bytes) = (self.open.records(), self.open.bytes());
        let batch = std::mem::replace(&mut self.open, Batch::new(number + 1));
        match to_senders.try_send(batch) {
            Ok(()) => {
                self.shared.lock().sent(number);
                self.in_flight += 1;
                self.metrics.handed_over(records, bytes);
                self.metrics.in_flight(self.in_flight);
                true
            }
            // Not while there are senders, and there are until the end.
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                self.open = batch;
                false
            }
        }
    }

    /// No sender is free: waits for one, and serves the group when it takes long.
    fn hold(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        told: &Receiver<Told>,
        letters: &Letters,
        stopping: bool,
    ) -> Result<(), ExitError> {
        let since = *self.held_since.get_or_insert_with(Instant::now);
        self.wait_for_senders(told, letters);
        if stopping || since.elapsed() < HOLD_AFTER {
            return Ok(());
        }
        let here = consumer.assignment().map_err(exit_error)?;
        let new: Vec<i32> = here
            .iter()
            .copied()
            .filter(|p| !self.paused.contains(p))
            .collect();
        if !new.is_empty() {
            consumer.pause(&new).map_err(exit_error)?;
        }
        self.paused = here.into_iter().collect();
        match consumer.poll(Duration::ZERO) {
            // Of a partition that came a moment ago: it is paused in the next turn.
            Ok(Polled::Record(message)) => self.take(&message),
            Ok(Polled::EndOfPartition(_) | Polled::Nothing) => {}
            Err(error) => return self.wait_after(error),
        }
        Ok(())
    }

    /// The opposite of [`Worker::hold`].
    fn go_on(&mut self, consumer: &GroupConsumer<Shared>) {
        self.held_since = None;
        if self.paused.is_empty() {
            return;
        }
        let here = consumer.assignment().unwrap_or_default();
        let paused: Vec<i32> = here.into_iter().filter(|p| self.paused.contains(p)).collect();
        match consumer.resume(&paused) {
            Ok(()) => self.paused.clear(),
            Err(error) => self.troubled(error.to_string()),
        }
    }

    /// Up to a tick, for anything that a sender tells.
    fn wait_for_senders(&mut self, told: &Receiver<Told>, letters: &Letters) {
        if let Ok(first) = told.recv_timeout(TICK) {
            self.hear(first);
        }
        self.listen(told, letters);
    }

    fn listen(&mut self, told: &Receiver<Told>, letters: &Letters) {
        while let Ok(next) = told.try_recv() {
            self.hear(next);
        }
        while let Some(batch) = self.unwritten.first() {
            if let Err(error) = letters.publish(&batch.letters, &self.metrics) {
                tracing::warn!(%error, "dead letters are published again");
                self.troubled(format!("dead letters: {error}"));
                self.shutdown.wait_timeout(self.backoff.next_delay());
                return;
            }
            let batch = self.unwritten.remove(0);
            self.trouble = None;
            self.backoff.reset();
            self.shared.lock().settled(batch.number);
            self.in_flight -= 1;
            self.metrics.in_flight(self.in_flight);
        }
    }

    fn hear(&mut self, told: Told) {
        match told {
            Told::Waiting(sender, None) => {
                self.waiting.remove(&sender);
            }
            Told::Waiting(sender, Some(reason)) => {
                self.waiting.insert(sender, reason);
            }
            Told::Done(batch, true) if batch.letters.is_empty() => {
                self.shared.lock().settled(batch.number);
                self.in_flight -= 1;
                self.metrics.in_flight(self.in_flight);
            }
            // It counts as under way until its letters are acknowledged: that bounds them.
            Told::Done(batch, true) => self.unwritten.push(batch),
            Told::Done(_, false) => {}
        }
    }

    /// Commits what is settled: once a second, or `now`.
    fn commit(&mut self, consumer: &GroupConsumer<Shared>, now: bool) {
        if !now && self.committed_at.elapsed() < COMMIT_INTERVAL {
            return;
        }
        self.committed_at = Instant::now();
        let next_offsets = self.shared.lock().to_commit();
        if next_offsets.is_empty() {
            return;
        }
        match consumer.commit_sync(&next_offsets) {
            Ok(()) => self.shared.lock().committed(&next_offsets),
            // A rebalance or an outage: the next time. Until then records may be read again, and are found to be there.
            Err(error) => tracing::warn!(%error, "offsets are committed later"),
        }
    }

    fn troubled(&mut self, reason: String) {
        self.trouble = Some((reason, Instant::now()));
    }

    /// Readiness and lag.
    fn say(&mut self, consumer: &GroupConsumer<Shared>) {
        // Without records nothing else tells that it is over.
        self.trouble
            .take_if(|(_, since)| since.elapsed() > FORGIVEN_AFTER);
        let trouble = self.trouble.as_ref().map(|(reason, _)| reason);
        match trouble.or_else(|| self.waiting.values().next()) {
            Some(reason) => self.health.not_ready(reason.clone()),
            None => self.health.ready(),
        }
        let offsets = self.shared.lock();
        let lags: Vec<(i32, u64)> = offsets
            .unsettled_from()
            .filter_map(|(partition, from)| {
                let (_, end) = consumer.known_watermarks(partition)?;
                let lag = from.map_or(0, |from| end - from);
                Some((partition, u64::try_from(lag).unwrap_or(0)))
            })
            .collect();
        self.metrics.lag(&lags);
    }
}

/// A sender: one batch after the other, until there are no more.
fn send(
    sender: usize,
    batches: &Mutex<Receiver<Batch>>,
    tell: &Sender<Told>,
    bulk: &impl Bulk,
    call_off: &Shutdown,
    metrics: &IndexMetrics,
) {
    loop {
        let next = batches.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut batch) = next else { return };
        let backoff = Backoff::new(TICK, MAX_PAUSE);
        // Nobody listens any more only when the worker has ended.
        let waiting = |reason: Option<String>| drop(tell.send(Told::Waiting(sender, reason)));
        let settled = deliver(&mut batch, bulk, call_off, backoff, metrics, waiting);
        let _ = tell.send(Told::Done(batch, settled));
    }
}

/// Calls deliveries off when the worker ends, however it does.
struct OnDrop<'a>(&'a Shutdown);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.trigger();
    }
}
