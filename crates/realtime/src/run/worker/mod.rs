//! One member of the consumer group: polls, transforms, publishes, commits; all on one thread, rebalances included.
//!
//! - here: what a worker is, one turn after the other, and what it says of its health;
//! - `fill`: reads and publishes;
//! - `commit`: makes it count;
//! - `rewind`: after a failure, on from the committed offsets;
//! - `end`: stopping.

mod commit;
mod end;
mod fill;
mod rewind;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::{GroupConsumer, StartAt};
use loginlake_schemas::{Decoder, RegistryError};
use loginlake_service::backoff::Backoff;
use loginlake_service::config::Guarantee;
use loginlake_service::exit::ExitError;
use loginlake_service::health::ComponentHealth;
use loginlake_service::shutdown::Shutdown;

use super::at_least_once::Deliveries;
use super::exactly_once::Transactions;
use super::hold::hold;
use super::members::{Output, Shared};
use super::metrics::{Abort, RealtimeMetrics, Retry};
use super::rate::{Pace, RateLimit};
use super::refusals::Refusals;
use super::size::TransactionSize;
use super::stall::Stall;
use super::transform::Transform;
use super::watch::Watch;
use super::{Progress, RunOptions, exit_error};
use crate::insights::{InsightHandle, Insights};

/// Without a sign of life for this long the worker is not ready (invariant 12).
pub(super) const STALL_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a record: how soon a request to stop is noticed.
const TICK: Duration = Duration::from_millis(100);
/// Wait for a record while deliveries are under way.
const DELIVERY_TICK: Duration = Duration::from_millis(1);
/// Records under way of which none is delivered for longer than this make the worker not ready, at least once.
const DELIVERY_LIMIT: Duration = Duration::from_secs(5);

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
    /// Which change of the filters the transform has.
    filters_seen: u64,
    /// What is told about the records; none: nothing.
    insights: Option<(InsightHandle, Insights)>,
    refusals: Refusals,
    /// The clock, in epoch milliseconds, as of some records ago: they come without a wait in between.
    clock_ms: i64,
    /// Looks at lag and queues.
    watch: Watch,
    /// Holds the rate limit.
    pace: Pace,
    /// Reads framed records; none: there is no registry.
    decoder: Option<Decoder>,
    /// The record whose schema the registry could not be asked for, and why: it is read again.
    registry_away: Option<((i32, i64), RegistryError)>,
    /// Whether records get through.
    stall: Stall,
    /// Limits transactions when commits are slow.
    size: TransactionSize,
    /// Why the last transaction was given up.
    abort: Abort,
    end_asked: Instant,
    offsets_committed: Instant,
    /// Nothing was committed without waiting since the group's offsets were looked at (at least once).
    commits_are_sure: bool,
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
        let size = TransactionSize::new(options.transaction_max_records);
        let topics = &options.topics;
        let transform = Transform::new(
            options.contract.clone(),
            options.filters.get(),
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
            filters_seen: 0,
            insights,
            refusals: Refusals::default(),
            clock_ms: 0,
            watch: Watch::new(number, Instant::now()),
            pace: Pace::new(None),
            decoder: None,
            registry_away: None,
            stall: Stall::new(Backoff::default()),
            size,
            abort: Abort::Failure,
            end_asked: Instant::now(),
            offsets_committed: Instant::now(),
            commits_are_sure: true,
            uncommitted: BTreeMap::new(),
        }
    }

    /// Holds a rate limit, and decodes framed records.
    pub fn with(mut self, rate: Option<RateLimit>, decoder: Option<Decoder>) -> Self {
        self.pace = Pace::new(rate);
        self.decoder = decoder;
        self
    }

    pub fn run(mut self) -> Result<(), ExitError> {
        let output = match self.options.guarantee {
            Guarantee::ExactlyOnce => Output::ExactlyOnce(Transactions::new(
                self.options.output.clone(),
                &format!("{}-{}", self.options.transactional_id, self.number),
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
        // Asked to stop meanwhile, it does not join: that would stop the other members for nothing, and librdkafka can crash when
        // a consumer is closed while its coordinator is not known yet (confluentinc/librdkafka#5347).
        if !self.ensure_producers(&shared)? || self.shutdown.is_requested() {
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
    fn ensure_producers(&self, shared: &Shared) -> Result<bool, ExitError> {
        let Output::ExactlyOnce(transactions) = &shared.output else {
            return Ok(true);
        };
        let mut backoff = Backoff::default();
        loop {
            match transactions.ensure_producers() {
                Ok(()) => return Ok(true),
                Err(error) => {
                    let Some(retry) = self.waits_for(&error, Retry::Coordinator) else {
                        return Err(exit_error(error));
                    };
                    tracing::warn!(%error, "waiting for the transaction coordinator");
                    self.health.not_ready(error.to_string());
                    self.metrics.retried(retry);
                    if self.shutdown.wait_timeout(backoff.next_delay()) {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// How an error is counted that is waited for. Anything else ends the worker. What Kafka's ACLs do not allow is waited for
    /// once this instance has published something: before, it is more often a wrong setting.
    fn waits_for(&self, error: &KafkaError, retry: Retry) -> Option<Retry> {
        match error {
            KafkaError::NotAllowed(_) => self.progress.has_committed().then_some(Retry::NotAllowed),
            error => error.is_retriable().then_some(retry),
        }
    }

    /// Reads until there is nothing more for now or the transaction is full, then commits.
    fn step(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) -> Result<Step, ExitError> {
        if !self.ensure_producers(shared)? {
            return Ok(Step::Stop);
        }
        self.take_filters();
        let result = self
            .fill(consumer, shared)
            .and_then(|()| self.commit(consumer, shared))
            .and_then(|()| self.wait_for_registry(consumer, shared));
        match result {
            Ok(()) => self.tell_health(shared),
            Err(KafkaError::AbortTransaction(text)) => {
                tracing::warn!(
                    text,
                    worker = self.number,
                    "transaction aborted; reading again from the committed offsets"
                );
                self.rewind(consumer, shared)?;
                if std::mem::replace(&mut self.abort, Abort::Failure) == Abort::Failure {
                    let wait = self.stall.failed(Instant::now());
                    // One alone is often a rebalance that the coordinator knew of first.
                    if self.stall.failures() > 1 {
                        self.health.not_ready(text);
                        self.hold(consumer, shared, wait)?;
                    }
                }
            }
            Err(error) => {
                let Some(retry) = self.waits_for(&error, Retry::Records) else {
                    return Err(exit_error(error));
                };
                tracing::warn!(%error, worker = self.number, "kafka failed; trying again");
                self.health.not_ready(error.to_string());
                self.metrics.retried(retry);
                let wait = self.stall.failed(Instant::now());
                self.rewind(consumer, shared)?;
                self.hold(consumer, shared, wait)?;
            }
        }
        self.health.heartbeat();
        self.watch
            .look(consumer, shared, &self.metrics, &self.progress, now_ms());
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

    /// New filters, between two batches.
    fn take_filters(&mut self) {
        if let Some(filters) = self.options.filters.newer_than(&mut self.filters_seen) {
            self.transform.set_filters(filters);
            tracing::info!(
                worker = self.number,
                next_offsets = ?self.progress.lock().next_offsets,
                "new filters hold from the next records on"
            );
        }
    }

    /// Waits before the next attempt.
    fn hold(
        &self,
        consumer: &GroupConsumer<Shared>,
        shared: &Shared,
        wait: Duration,
    ) -> Result<(), ExitError> {
        match hold(consumer, shared, &self.shutdown, &self.health, wait) {
            Err(error) if self.waits_for(&error, Retry::Records).is_none() => Err(exit_error(error)),
            _ => Ok(()),
        }
    }

    /// Takes note of why what is open is given up.
    fn aborted(&mut self, reason: Abort) {
        self.abort = reason;
        if self.options.guarantee == Guarantee::ExactlyOnce {
            self.metrics.aborted(reason);
        }
    }

    /// After a turn in which nothing failed.
    fn tell_health(&mut self, shared: &Shared) {
        if let Output::AtLeastOnce(deliveries) = &shared.output {
            let (still, complaint) = deliveries.still();
            // A quota makes it slow, not stuck.
            if still > DELIVERY_LIMIT && !self.watch.is_throttled() {
                let seconds = still.as_secs();
                let complaint = complaint.unwrap_or_else(|| "the brokers do not say why".to_owned());
                self.health
                    .not_ready(format!("no record was delivered for {seconds} s: {complaint}"));
                return;
            }
        }
        if self.stall.is_over(Instant::now()) {
            self.health.ready();
        }
    }
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
