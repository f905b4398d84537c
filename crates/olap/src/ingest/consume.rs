//! The polling thread: read, judge, buffer, close batches, and take note of what became of them.

mod again;
mod end;
mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loginlake_events::columns::SourcePosition;
use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::{GroupConsumer, Polled};
use loginlake_kafka::rdkafka::Message;
use loginlake_lake::ingest::{
    BatchBuffer, BatchOutcome, FailPoint, FreshnessController, MemoryGauge, RollPolicy, RollReason, Session,
    TopicBounds, Verdict, fail_point,
};
use loginlake_schemas::{Decoder, Schemas};
use loginlake_service::exit::ExitError;
use loginlake_service::health::{ComponentHealth, Health};
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;
use tokio::runtime::Handle;

use self::again::join;
use super::assignment::{Assignment, Filling};
use super::counted_rows::CountedRows;
use super::in_flight::InFlight;
use super::metrics::IngestMetrics;
use super::start::Start;
use super::told::{Links, Outcome, Told};
use super::{IngestOptions, Progress, Totals};
use crate::setup::{kafka_error, lake_error};

/// Longest wait for a record: how soon a request to stop, an age that is reached or a finished commit is noticed.
const TICK: Duration = Duration::from_millis(50);
/// Records between two looks at clock and sizes.
const RECORDS_PER_CHECK: u64 = 1024;
/// The same for large records, bytes: none is over 1 MiB by much, so this is what the budget may be passed by.
const BYTES_PER_CHECK: usize = 1024 * 1024;
/// Records that share a look at the clock.
const RECORDS_PER_CLOCK: u64 = 64;
/// Without a sign of life for this long the service is not ready.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How often the lag is asked for.
const LAG_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Ingester {
    options: IngestOptions,
    runtime: Handle,
    shutdown: Shutdown,
    consumer: GroupConsumer<Assignment>,
    assignment: Arc<Assignment>,
    gauge: MemoryGauge,
    in_flight: Option<InFlight>,
    kafka_health: ComponentHealth,
    metrics: IngestMetrics,
    progress: Progress,
    /// Reads framed records; none: there is no registry.
    decoder: Option<Decoder>,
    /// The one date whose logins are kept, days since 1970-01-01; none: all of them are.
    only_days: Option<i32>,
    roll: RollPolicy,
    freshness: Option<FreshnessController>,
    /// Partitions that are not fetched because of the memory budget.
    paused: BTreeSet<i32>,
    /// How often it has joined the group anew since the last commit.
    joined_anew: u32,
    lag_asked: Instant,
    end_asked: Instant,
    /// First and last stable offset of each partition when the run started.
    bounds_at_start: TopicBounds,
    /// Traces of what is buffered.
    links: Links,
    /// Who is told of commits.
    told: Told,
}

impl Ingester {
    pub fn start(
        options: IngestOptions,
        runtime: Handle,
        shutdown: Shutdown,
        health: &Health,
        metrics: &Metrics,
        progress: Progress,
        told: Told,
    ) -> Result<Self, ExitError> {
        let decoder = match &options.schema_registry {
            Some(registry) => Some(Schemas::new(registry, health, metrics)?.decoder()),
            None => None,
        };
        let kafka_health = health.component("kafka", Some(STALL_LIMIT));
        let store_health = health.component("store", None);
        let start = Start::of(&options, &runtime)?;
        store_health.ready();
        let metrics = IngestMetrics::register(metrics);
        let gauge = MemoryGauge::default();
        let buffer = BatchBuffer::new(
            runtime.clone(),
            gauge.clone(),
            start.committer.partition_columns().to_vec(),
        );
        let rows = CountedRows::new(buffer);
        progress.lock().version = start.committer.version();
        let mut roll = options.roll;
        let freshness = options.freshness.map(FreshnessController::new);
        if let Some(freshness) = &freshness {
            // What was promised holds for every record: nothing is held any longer.
            roll.late.max_age = Duration::ZERO;
            roll.max_age = freshness.max_age();
        }
        metrics.batch_age_limit_seconds.set(roll.max_age.as_secs_f64());
        let assignment = Arc::new(Assignment {
            filling: Mutex::new(Filling {
                session: Session::new(rows, start.limits),
                refusal: None,
            }),
            committer: Arc::new(tokio::sync::Mutex::new(start.committer)),
            topics: start.topics,
            topic: options.topic.clone(),
            topic_id: start.topic_id,
            begins: start.begins,
            begins_at_ms: options.range.from_ms,
            runtime: runtime.clone(),
            kafka_health: kafka_health.clone(),
            store_health,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        });
        let only_days = options.only_date.map(|date| date.to_epoch_days());
        let consumer = join(&options, &assignment)?;
        tracing::info!(
            topic = options.topic,
            group = options.group_id,
            lake = options.lake.uri(),
            "ingesting"
        );
        Ok(Self {
            options,
            runtime,
            shutdown,
            consumer,
            assignment,
            gauge,
            in_flight: None,
            kafka_health,
            metrics,
            progress,
            decoder,
            only_days,
            roll,
            freshness,
            paused: BTreeSet::new(),
            joined_anew: 0,
            lag_asked: Instant::now(),
            end_asked: Instant::now(),
            bounds_at_start: start.bounds,
            links: Links::new(),
            told,
        })
    }

    pub fn run(mut self) -> Result<Totals, ExitError> {
        loop {
            self.read_some()?;
            if let Some(refusal) = self.assignment.lock().refusal.take() {
                return Err(ExitError::refused(refusal));
            }
            self.kafka_health.heartbeat();
            self.settle(false)?;
            self.close_if_due()?;
            self.bound_memory()?;
            self.note_progress();
            self.ask_lag();
            let at_end = self.options.exit_at_end && self.is_at_end()?;
            if at_end || self.shutdown.is_requested() {
                self.drain()?;
                let totals = self.progress.totals();
                tracing::info!(
                    logins = totals.logins,
                    rejected = totals.rejected,
                    commits = totals.commits,
                    version = totals.version,
                    "everything that was read is committed"
                );
                return Ok(totals);
            }
        }
    }

    /// Reads until there is nothing more, or until it is time to look at clock and sizes.
    fn read_some(&mut self) -> Result<(), ExitError> {
        let (mut read, mut read_bytes, mut now_ms) = (0, 0, 0);
        while read < RECORDS_PER_CHECK && read_bytes < BYTES_PER_CHECK {
            // Wait only when there was nothing: a backlog is taken as it comes.
            let timeout = if read == 0 {
                self.patience()
            } else {
                Duration::ZERO
            };
            match self.consumer.poll(timeout) {
                Ok(Polled::Record(message)) => {
                    // The first record may have been waited for; those after it came at once.
                    if read % RECORDS_PER_CLOCK == 0 {
                        now_ms = chrono::Utc::now().timestamp_millis();
                    }
                    let position = SourcePosition {
                        kafka_partition: message.partition(),
                        kafka_offset: message.offset(),
                        kafka_timestamp_ms: message.timestamp().to_millis(),
                    };
                    let payload = message.payload();
                    // Before its offset is taken: without an answer the record is read again.
                    let json = match loginlake_schemas::json_of(self.decoder.as_mut(), payload) {
                        Ok(json) => json,
                        Err(error) => return self.wait_for_registry(&error, position),
                    };
                    let mut filling = self.assignment.lock();
                    if filling
                        .session
                        .accept(position.kafka_partition, position.kafka_offset)
                        == Verdict::Buffer
                    {
                        self.links.note(&message);
                        let timestamp_ms = position.kafka_timestamp_ms;
                        match json.and_then(|json| self.options.contract.decode(json, timestamp_ms)) {
                            Ok(event)
                                if self.only_days.is_some_and(|days| days != event.login_date_days()) =>
                            {
                                filling.session.rows_mut().leave_out(position);
                            }
                            Ok(event) => filling.session.rows_mut().append_login(&event, position, now_ms),
                            Err(rejection) => filling
                                .session
                                .rows_mut()
                                .append_rejected(&rejection, payload, position, now_ms),
                        }
                    }
                    read += 1;
                    read_bytes += payload.map_or(0, <[u8]>::len);
                }
                Ok(Polled::EndOfPartition(partition)) => {
                    self.assignment.lock().session.end_reached(partition);
                }
                Ok(Polled::Nothing) => {
                    if let Some(decoder) = &mut self.decoder {
                        decoder.idle(Instant::now());
                    }
                    break;
                }
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, "kafka is away; waiting");
                    self.kafka_health.not_ready(error.to_string());
                    self.metrics.retries.inc();
                    return Ok(());
                }
                Err(error) => {
                    if let Some(refusal) = self.assignment.lock().refusal.take() {
                        return Err(ExitError::refused(refusal));
                    }
                    return match error {
                        KafkaError::Fenced(_) => self.join_anew(error),
                        error => Err(kafka_error(error)),
                    };
                }
            }
        }
        self.kafka_health.ready();
        Ok(())
    }

    /// How long to wait for a record: not beyond the age of the batch.
    fn patience(&self) -> Duration {
        let filling = self.assignment.lock();
        let rows = filling.session.rows();
        let age = rows.begun().map(|begun| begun.elapsed()).unwrap_or_default();
        self.roll.time_left(rows.size(), age).min(TICK)
    }

    /// Closes the batch when a limit is reached and the one before is done.
    fn close_if_due(&mut self) -> Result<(), ExitError> {
        let reason = {
            let filling = self.assignment.lock();
            let rows = filling.session.rows();
            let age = rows.begun().map(|begun| begun.elapsed()).unwrap_or_default();
            let size = rows.size();
            let buffered = i64::try_from(size.rows).unwrap_or(i64::MAX);
            self.metrics.buffered_rows.set(buffered);
            self.roll.decide(size, age)
        };
        match reason {
            Some(reason) if self.in_flight.is_none() => self.close(reason),
            _ => Ok(()),
        }
    }

    fn close(&mut self, reason: RollReason) -> Result<(), ExitError> {
        let mut filling = self.assignment.lock();
        let Some(batch) = filling.session.close() else {
            return Ok(());
        };
        drop(filling);
        let traces = self.links.take(&batch.batch.ranges);
        self.in_flight = Some(InFlight::send(
            &self.runtime,
            Arc::clone(&self.assignment),
            batch,
            reason,
            traces,
        ));
        Ok(())
    }

    /// Takes note of a batch that is done. `wait`: also of one that is not done yet.
    fn settle(&mut self, wait: bool) -> Result<(), ExitError> {
        if !self
            .in_flight
            .as_ref()
            .is_some_and(|batch| wait || batch.is_done())
        {
            return Ok(());
        }
        let Some(mut batch) = self.in_flight.take() else {
            return Ok(());
        };
        match batch.outcome(&self.runtime) {
            Ok((
                BatchOutcome::Committed {
                    version,
                    files,
                    bytes,
                },
                at_ms,
            )) => {
                self.note_commit(&batch, version, files, bytes, at_ms);
                Ok(())
            }
            Ok((BatchOutcome::Fenced { detail }, _)) => {
                tracing::warn!(
                    detail,
                    "another process was first: discarding what is buffered and reading on from the table"
                );
                self.metrics.fenced.inc();
                self.tell(&batch, None, &BTreeMap::new());
                self.restart_from_table()
            }
            Err(error) => Err(lake_error(error)),
        }
    }

    /// `at_ms`: since when the batch can be queried, epoch milliseconds.
    fn note_commit(&mut self, batch: &InFlight, version: i64, files: usize, bytes: u64, at_ms: i64) {
        self.joined_anew = 0;
        let took = batch.closed.elapsed();
        let seconds = took.as_secs_f64();
        if let Some(freshness) = &mut self.freshness {
            freshness.observe(took);
            self.roll.max_age = freshness.max_age();
            self.metrics
                .batch_age_limit_seconds
                .set(self.roll.max_age.as_secs_f64());
        }
        let rejected = batch.counts.rejected_rows();
        self.metrics.logins_rows.inc_by(batch.logins);
        for (reason, rows) in batch.counts.rejected() {
            self.metrics.count_rejected(reason, rows);
        }
        self.metrics.left_out.inc_by(batch.counts.left_out());
        self.metrics.count_commit(batch.reason);
        self.metrics.commit_seconds.observe(seconds);
        self.metrics.files.inc_by(files as u64);
        self.metrics.file_bytes.inc_by(bytes);
        for delays in batch.counts.delays() {
            self.metrics.commit_delay_seconds.observe(delays, at_ms);
        }
        tracing::info!(
            version,
            logins = batch.logins,
            rejected,
            files,
            bytes,
            reason = batch.reason.as_str(),
            seconds = format!("{seconds:.3}"),
            "committed"
        );
        let mut filling = self.assignment.lock();
        filling.session.committed(&batch.ranges);
        // For lag tools only; nothing reads it back.
        let group_offsets: BTreeMap<i32, i64> = batch
            .ranges
            .keys()
            .filter_map(|partition| {
                Some((
                    *partition,
                    filling.session.offsets().committed_offset(*partition)?,
                ))
            })
            .collect();
        drop(filling);
        self.tell(batch, Some((version, files, bytes)), &group_offsets);
        if !group_offsets.is_empty() && fail_point::pass(FailPoint::BeforeGroupOffsets).is_ok() {
            if let Err(error) = self.consumer.commit_async(&group_offsets) {
                tracing::debug!(%error, "group offsets not written");
            }
            // Whatever fails from here on concerns nobody.
            let _ = fail_point::pass(FailPoint::AfterGroupOffsets);
        }
        let mut totals = self.progress.lock();
        totals.logins += batch.logins;
        totals.rejected += rejected;
        totals.commits += 1;
        totals.version = version;
    }

    /// Tells of a batch whose outcome is known.
    fn tell(&self, batch: &InFlight, committed: Option<(i64, usize, u64)>, offsets: &BTreeMap<i32, i64>) {
        self.told.settled(&Outcome {
            closed: batch.closed,
            traces: &batch.traces,
            reason: batch.reason.as_str(),
            logins: batch.logins,
            rejected: batch.counts.rejected_rows(),
            committed,
            offsets,
        });
    }

    /// Tells how far it has read.
    fn note_progress(&self) {
        let filling = self.assignment.lock();
        let mut totals = self.progress.lock();
        let offsets = filling.session.offsets();
        for partition in offsets.partitions() {
            if let Some(next_offset) = offsets.next_offset(partition) {
                totals.next_offsets.insert(partition, next_offset);
            }
        }
    }

    fn ask_lag(&mut self) {
        if self.lag_asked.elapsed() < LAG_INTERVAL {
            return;
        }
        self.lag_asked = Instant::now();
        let partitions = self.assignment.lock().session.offsets().partitions();
        for partition in partitions {
            let Some((_, high)) = self.consumer.known_watermarks(partition) else {
                continue;
            };
            let committed = self
                .assignment
                .lock()
                .session
                .offsets()
                .committed_offset(partition);
            if let Some(committed) = committed {
                self.metrics.set_lag(partition, (high - committed).max(0));
            }
        }
    }
}
