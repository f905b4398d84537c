//! One member of the consumer group: polls, transforms, publishes, commits; all on one thread, rebalances included.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::{GroupConsumer, Polled, StartAt};
use loginlake_kafka::producer::RefusedRecord;
use loginlake_kafka::rdkafka::Message;
use loginlake_service::backoff::Backoff;
use loginlake_service::config::Guarantee;
use loginlake_service::exit::ExitError;
use loginlake_service::health::ComponentHealth;
use loginlake_service::shutdown::Shutdown;

use super::at_least_once::Deliveries;
use super::exactly_once::{Commit, Transactions};
use super::members::{Output, Shared};
use super::metrics::RealtimeMetrics;
use super::refusals::Refusals;
use super::transform::{Outcome, Transform};
use super::{Progress, RunOptions, exit_error};
use crate::insights::{InsightHandle, Insights};

/// Without a sign of life for this long the worker is not ready (invariant 12).
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a record: how soon a request to stop is noticed.
const TICK: Duration = Duration::from_millis(100);
/// Wait for a record while deliveries are under way.
const DELIVERY_TICK: Duration = Duration::from_millis(1);
/// Records between two looks at clock and size.
const RECORDS_PER_CHECK: u64 = 64;
/// Records between two looks at deliveries, at least once.
const BATCH_READ: u64 = 4_096;
/// How often the lag is looked at.
const LAG_INTERVAL: Duration = Duration::from_secs(1);
/// How often the group's offsets are asked for, to stop at the end.
const END_INTERVAL: Duration = Duration::from_millis(100);
/// How often offsets are committed under load, at least once.
const OFFSET_COMMIT_INTERVAL: Duration = Duration::from_millis(200);

/// Whether to go on with this consumer and producer.
enum Step {
    GoOn,
    Stop,
}

pub(super) struct Worker {
    number: u16,
    options: RunOptions,
    shutdown: Shutdown,
    health: ComponentHealth,
    metrics: RealtimeMetrics,
    progress: Progress,
    transform: Transform,
    /// What is told about the records; none: nothing.
    insights: Option<(InsightHandle, Insights)>,
    refusals: Refusals,
    lag_seen: Instant,
    end_asked: Instant,
    offsets_committed: Instant,
    /// Delivered next offsets that are not committed yet (at least once).
    uncommitted: BTreeMap<i32, i64>,
}

impl Worker {
    pub fn new(
        number: u16,
        options: RunOptions,
        shutdown: Shutdown,
        health: ComponentHealth,
        metrics: RealtimeMetrics,
        progress: Progress,
        insights: Option<&InsightHandle>,
    ) -> Self {
        let insights = insights.and_then(|handle| {
            let collector = handle.collector(number, Instant::now(), now_ms())?;
            Some((handle.clone(), collector))
        });
        let topics = &options.topics;
        let transform = Transform::new(
            options.contract.clone(),
            options.filters.clone(),
            &topics.output,
            &topics.dead_letter,
        );
        Self {
            number,
            options,
            shutdown,
            health,
            metrics,
            progress,
            transform,
            insights,
            refusals: Refusals::default(),
            lag_seen: Instant::now(),
            end_asked: Instant::now(),
            offsets_committed: Instant::now(),
            uncommitted: BTreeMap::new(),
        }
    }

    pub fn run(mut self) -> Result<(), ExitError> {
        let output = match self.options.guarantee {
            Guarantee::ExactlyOnce => Output::ExactlyOnce(Transactions::new(
                self.options.output.clone(),
                format!("{}-{}", self.options.transactional_id, self.number),
                self.options.transaction_timeout,
                self.options.topics.input.clone(),
            )),
            Guarantee::AtLeastOnce => {
                Output::AtLeastOnce(Deliveries::new(&self.options.output).map_err(exit_error)?)
            }
        };
        let shared = Arc::new(Shared {
            output,
            partitions: Mutex::default(),
            metrics: self.metrics.clone(),
        });
        // First own the transactional id, then join: a predecessor's open transaction must not delay our own reading.
        if !self.ensure_producer(&shared)? {
            return Ok(());
        }
        let consumer = GroupConsumer::join(
            &self.options.input,
            &self.options.group_id,
            &self.options.topics.input,
            StartAt::Earliest,
            Arc::clone(&shared),
        )
        .map_err(exit_error)?;
        tracing::info!(
            worker = self.number,
            group = self.options.group_id,
            topic = self.options.topics.input,
            guarantee = ?self.options.guarantee,
            "running"
        );
        loop {
            if let Step::Stop = self.step(&consumer, &shared)? {
                return Ok(());
            }
        }
    }

    /// Waits, visibly, until this worker owns its transactional id. False: asked to stop meanwhile.
    fn ensure_producer(&self, shared: &Shared) -> Result<bool, ExitError> {
        let Output::ExactlyOnce(transactions) = &shared.output else {
            return Ok(true);
        };
        let mut backoff = Backoff::default();
        loop {
            match transactions.ensure_producer() {
                Ok(()) => return Ok(true),
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, "waiting for the transaction coordinator");
                    self.health.not_ready(error.to_string());
                    self.metrics.retries.inc();
                    if self.shutdown.wait_timeout(backoff.next_delay()) {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(exit_error(error)),
            }
        }
    }

    /// Reads until there is nothing more for now or the transaction is full, then commits.
    fn step(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) -> Result<Step, ExitError> {
        if !self.ensure_producer(shared)? {
            return Ok(Step::Stop);
        }
        let result = self
            .fill(consumer, shared)
            .and_then(|()| self.commit(consumer, shared));
        match result {
            Ok(()) => self.health.ready(),
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, worker = self.number, "kafka failed; trying again");
                self.health.not_ready(error.to_string());
                self.metrics.retries.inc();
                self.rewind(consumer, shared)?;
            }
            Err(KafkaError::AbortTransaction(text)) => {
                tracing::warn!(
                    text,
                    worker = self.number,
                    "transaction aborted; reading again from the committed offsets"
                );
                self.rewind(consumer, shared)?;
            }
            Err(error) => return Err(exit_error(error)),
        }
        self.health.heartbeat();
        self.look_at_lag(consumer, shared);
        if let Some((handle, insights)) = &mut self.insights
            && let Some(report) = insights.take_if_due(Instant::now(), now_ms())
        {
            handle.publish(report);
        }
        let done = self.options.exit_at_end && self.is_at_end(consumer, shared);
        if done || self.shutdown.is_requested() {
            self.drain(consumer, shared)?;
            if let Some((handle, insights)) = &mut self.insights
                && let Some(report) = insights.take_rest(Instant::now(), now_ms())
            {
                handle.publish(report);
            }
            return Ok(Step::Stop);
        }
        Ok(Step::GoOn)
    }

    /// Reads and publishes until there is nothing more to put into the transaction, or it is full.
    fn fill(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) -> Result<(), KafkaError> {
        let mut read = 0_u64;
        loop {
            match &shared.output {
                Output::ExactlyOnce(transactions) if read.is_multiple_of(RECORDS_PER_CHECK) => {
                    let (records, age) = transactions.size();
                    if records >= self.options.transaction_max_records
                        || age >= self.options.transaction_max_age
                    {
                        return Ok(());
                    }
                    transactions.prepare(|| consumer.group_metadata())?;
                }
                Output::AtLeastOnce(_) if read >= BATCH_READ => return Ok(()),
                _ => {}
            }
            if read > 0 && self.refusals.has_suspects() {
                return Ok(());
            }
            let timeout = match &shared.output {
                _ if read > 0 => Duration::ZERO,
                Output::AtLeastOnce(deliveries) if !deliveries.is_idle() => DELIVERY_TICK,
                _ => TICK,
            };
            let polled = consumer.poll(timeout)?;
            if let Output::ExactlyOnce(transactions) = &shared.output
                && transactions.take_rewind()
            {
                self.metrics.aborts.inc();
                return Err(KafkaError::AbortTransaction("partitions were revoked".to_owned()));
            }
            match polled {
                Polled::Record(message) => {
                    if !self.publish(&message, shared)? {
                        return Ok(());
                    }
                    read += 1;
                }
                Polled::EndOfPartition(partition) => {
                    shared.partitions().at_end.insert(partition);
                }
                Polled::Nothing => return Ok(()),
            }
        }
    }

    /// Transforms and publishes one record. False: asked to stop while there was no room.
    fn publish(
        &mut self,
        message: &loginlake_kafka::rdkafka::message::BorrowedMessage<'_>,
        shared: &Shared,
    ) -> Result<bool, KafkaError> {
        let position = (message.partition(), message.offset());
        if let Output::ExactlyOnce(transactions) = &shared.output {
            transactions.ensure_begun()?;
        }
        let now_ms = now_ms();
        let refused = self.refusals.reason(position);
        let shutdown = &self.shutdown;
        let timestamp_ms = message.timestamp().to_millis();
        let insights = &mut self.insights;
        let outcome = self.transform.apply(
            message,
            now_ms,
            refused,
            |outgoing| match &shared.output {
                Output::ExactlyOnce(transactions) => transactions.publish(outgoing, shutdown),
                Output::AtLeastOnce(deliveries) => deliveries.publish(outgoing, shutdown),
            },
            |event| {
                if let Some((_, insights)) = insights {
                    insights.record(event, timestamp_ms);
                }
            },
        );
        let outcome = match outcome {
            Ok(outcome) => outcome,
            // Refused before it was sent: larger than the producer's own limit.
            Err(KafkaError::RecordRefused(error)) => {
                self.refusals.note(
                    vec![RefusedRecord {
                        kafka_partition: position.0,
                        kafka_offset: position.1,
                        error,
                    }],
                    true,
                );
                return Err(KafkaError::AbortTransaction("a record was refused".to_owned()));
            }
            Err(error) if error.is_retriable() && self.shutdown.is_requested() => return Ok(false),
            Err(error) => return Err(error),
        };
        if let Some((_, insights)) = &mut self.insights {
            match outcome {
                Outcome::Processed { .. } => {}
                Outcome::Rejected(reason) => insights.record_rejected(reason),
                Outcome::OutputRefused => insights.record_output_refused(),
                Outcome::Filtered => insights.record_filtered(),
            }
        }
        let (partition, next_offset) = (position.0, position.1 + 1);
        match &shared.output {
            Output::ExactlyOnce(transactions) => {
                transactions.handled(partition, next_offset, |pending| {
                    pending.count(outcome, timestamp_ms)
                });
            }
            Output::AtLeastOnce(deliveries) => {
                deliveries.handled(partition, next_offset, |pending| {
                    pending.count(outcome, timestamp_ms)
                });
            }
        }
        Ok(true)
    }

    fn commit(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) -> Result<(), KafkaError> {
        match &shared.output {
            Output::ExactlyOnce(transactions) => {
                let started = Instant::now();
                match transactions.commit() {
                    None => Ok(()),
                    Some(Commit::Done {
                        next_offsets,
                        pending,
                    }) => {
                        self.metrics
                            .count_commit(&pending, started.elapsed().as_secs_f64(), now_ms());
                        if let Some((_, insights)) = &mut self.insights {
                            insights.commit(now_ms());
                        }
                        shared.partitions().handled.extend(&next_offsets);
                        let mut totals = self.progress.lock();
                        totals.processed += pending.processed;
                        totals.dead_letters += pending.dead_letters();
                        totals.filtered += pending.filtered;
                        totals.next_offsets.extend(next_offsets);
                        Ok(())
                    }
                    Some(Commit::Aborted {
                        error,
                        refused,
                        records,
                    }) => {
                        self.metrics.aborts.inc();
                        self.refusals.note(refused, records == 1);
                        match error {
                            // Fenced by the group, or for a reason without a class: settled by reading again.
                            KafkaError::Failed(text) => Err(KafkaError::AbortTransaction(text)),
                            error => Err(error),
                        }
                    }
                }
            }
            Output::AtLeastOnce(deliveries) => {
                deliveries.close();
                let alone = self.refusals.has_suspects();
                if alone {
                    deliveries.flush();
                }
                let refused = deliveries.take_refused();
                if !refused.is_empty() {
                    self.refusals.note(refused, alone);
                    return Err(KafkaError::AbortTransaction(
                        "the output topic refused a record".to_owned(),
                    ));
                }
                self.take_delivered(deliveries);
                let here = shared.partitions().here.clone();
                self.uncommitted.retain(|partition, _| here.contains(partition));
                let due = self.offsets_committed.elapsed() >= OFFSET_COMMIT_INTERVAL || deliveries.is_idle();
                if due && !self.uncommitted.is_empty() {
                    consumer.commit_async(&self.uncommitted)?;
                    shared.partitions().handled.extend(&self.uncommitted);
                    self.progress
                        .lock()
                        .next_offsets
                        .extend(std::mem::take(&mut self.uncommitted));
                    self.offsets_committed = Instant::now();
                }
                // No more numbers for batches: wait until the oldest is delivered.
                while deliveries.is_full() && !self.shutdown.is_requested() {
                    std::thread::park_timeout(DELIVERY_TICK);
                    self.take_delivered(deliveries);
                }
                Ok(())
            }
        }
    }

    fn take_delivered(&mut self, deliveries: &Deliveries) {
        let Some(delivered) = deliveries.take_delivered() else {
            return;
        };
        self.refusals.settle(&delivered.next_offsets);
        self.uncommitted.extend(delivered.next_offsets);
        let mut totals = self.progress.lock();
        // Insights do not tell batches apart: what is still under way counts a moment before it is delivered.
        if let Some((_, insights)) = &mut self.insights {
            insights.commit(now_ms());
        }
        for (pending, age) in &delivered.batches {
            self.metrics.count_commit(pending, age.as_secs_f64(), now_ms());
            totals.processed += pending.processed;
            totals.dead_letters += pending.dead_letters();
            totals.filtered += pending.filtered;
        }
    }

    /// Drops what is open and reads on from the committed offsets.
    fn rewind(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) -> Result<(), ExitError> {
        let mut backoff = Backoff::default();
        loop {
            match self.try_rewind(consumer, shared) {
                Ok(()) => return Ok(()),
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, "cannot read the committed offsets yet");
                    self.health.not_ready(error.to_string());
                    self.metrics.retries.inc();
                    if self.shutdown.wait_timeout(backoff.next_delay()) {
                        return Ok(());
                    }
                }
                Err(error) => return Err(exit_error(error)),
            }
        }
    }

    fn try_rewind(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) -> Result<(), KafkaError> {
        if let Some((_, insights)) = &mut self.insights {
            insights.rollback();
        }
        match &shared.output {
            Output::ExactlyOnce(transactions) => {
                let refused = transactions.abort(Duration::from_secs(5));
                transactions.take_rewind();
                self.refusals.note(refused, false);
                // A new producer has to settle what an old one left before the committed offsets are true.
                transactions.ensure_producer()?;
            }
            Output::AtLeastOnce(deliveries) => {
                deliveries.forget()?;
                self.uncommitted.clear();
            }
        }
        let partitions: Vec<i32> = shared.partitions().here.iter().copied().collect();
        if partitions.is_empty() {
            return Ok(());
        }
        let committed = consumer.committed(&partitions)?;
        consumer.seek(&committed)?;
        let mut known = shared.partitions();
        for partition in &partitions {
            known.at_end.remove(partition);
            known.handled.remove(partition);
        }
        Ok(())
    }

    fn look_at_lag(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) {
        if self.lag_seen.elapsed() < LAG_INTERVAL {
            return;
        }
        self.lag_seen = Instant::now();
        let here = shared.partitions().here.clone();
        self.progress
            .lock()
            .lag_records
            .retain(|partition, _| here.contains(partition));
        let handled = shared.partitions().handled.clone();
        for (partition, next_offset) in handled {
            if let Some((_, end)) = consumer.known_watermarks(partition) {
                let lag = (end - next_offset).max(0);
                self.metrics.set_lag(partition, lag);
                self.progress
                    .lock()
                    .lag_records
                    .insert(partition, lag.unsigned_abs());
            }
        }
    }

    /// Whether the group has committed everything that the topic held when this instance started, on every partition,
    /// whoever has it. Asked only while there is nothing to do.
    fn is_at_end(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) -> bool {
        let idle = match &shared.output {
            Output::ExactlyOnce(transactions) => transactions.size().0 == 0,
            Output::AtLeastOnce(deliveries) => deliveries.is_idle() && self.uncommitted.is_empty(),
        };
        let known = shared.partitions();
        let here_done = known.here.iter().all(|partition| {
            let end = self
                .options
                .bounds_at_start
                .get(partition)
                .map_or(0, |(_, end)| *end);
            known.at_end.contains(partition)
                || known
                    .handled
                    .get(partition)
                    .is_some_and(|handled| *handled >= end)
        });
        // A partition may end in transaction markers, which no record's offset reaches: everything below its end is handled.
        let ends: BTreeMap<i32, i64> = known
            .here
            .iter()
            .filter(|partition| known.at_end.contains(partition))
            .filter_map(|partition| Some((*partition, self.options.bounds_at_start.get(partition)?.1)))
            .filter(|(partition, end)| known.handled.get(partition).is_none_or(|handled| handled < end))
            .collect();
        drop(known);
        if !idle || !here_done || self.end_asked.elapsed() < END_INTERVAL {
            return false;
        }
        self.end_asked = Instant::now();
        let partitions: Vec<i32> = self.options.bounds_at_start.keys().copied().collect();
        let Ok(committed) = consumer.committed(&partitions) else {
            return false;
        };
        let behind: BTreeMap<i32, i64> = ends
            .into_iter()
            .filter(|(partition, end)| committed.get(partition).copied().flatten().unwrap_or(0) < *end)
            .collect();
        if !behind.is_empty() {
            if let Err(error) = consumer.commit_sync(&behind) {
                tracing::debug!(%error, "the end of the partitions is not committed yet");
            }
            return false;
        }
        self.options
            .bounds_at_start
            .iter()
            .all(|(partition, (low, end))| {
                end <= low
                    || committed
                        .get(partition)
                        .copied()
                        .flatten()
                        .is_some_and(|next| next >= *end)
            })
    }

    /// Commits what was read, before the process ends.
    fn drain(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) -> Result<(), ExitError> {
        if let Output::AtLeastOnce(deliveries) = &shared.output {
            deliveries.flush();
            self.take_delivered(deliveries);
            if !self.uncommitted.is_empty() {
                consumer.commit_sync(&self.uncommitted).map_err(exit_error)?;
                self.progress
                    .lock()
                    .next_offsets
                    .extend(std::mem::take(&mut self.uncommitted));
            }
            return Ok(());
        }
        match self.commit(consumer, shared) {
            // Nothing of it is visible, and its input is read again by whoever comes next.
            Err(KafkaError::AbortTransaction(text)) => {
                tracing::info!(text, "the last transaction was aborted");
                Ok(())
            }
            result => result.map_err(exit_error),
        }
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
