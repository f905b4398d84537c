//! The polling thread: read, judge, buffer, close batches, and take note of what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loginlake_events::columns::SourcePosition;
use loginlake_kafka::consumer::{GroupConsumer, Polled, StartAt};
use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::topics::Topics;
use loginlake_lake::ingest::{
    BatchBuffer, BatchOutcome, BatchSize, Committer, MemoryGauge, Offsets, Pipeline, RollReason, Verdict,
};
use loginlake_service::backoff::Backoff;
use loginlake_service::exit::ExitError;
use loginlake_service::health::{ComponentHealth, Health};
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;
use tokio::runtime::Handle;

use super::assignment::{Assignment, Filling};
use super::in_flight::{BatchFacts, InFlight};
use super::metrics::IngestMetrics;
use super::{IngestOptions, Progress, Totals};
use crate::setup::{kafka_error, lake_error};

/// Longest wait for a record: how soon a request to stop, an age that is reached or a finished commit is noticed.
const TICK: Duration = Duration::from_millis(50);
/// Records between two looks at clock and sizes.
const RECORDS_PER_CHECK: u64 = 1024;
/// Without a sign of life for this long the service is not ready.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// How often the lag is asked for.
const LAG_INTERVAL: Duration = Duration::from_secs(5);
/// How often the table's offsets are asked for, to stop at the end.
const END_INTERVAL: Duration = Duration::from_millis(200);
/// What a topic without an id is called.
const NO_TOPIC_ID: &str = "unknown";

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
    paused: bool,
    lag_asked: Instant,
    end_asked: Instant,
    /// First and last stable offset of each partition when the run started.
    bounds_at_start: BTreeMap<i32, (i64, i64)>,
}

impl Ingester {
    pub fn start(
        options: IngestOptions,
        runtime: Handle,
        shutdown: Shutdown,
        health: &Health,
        metrics: &Metrics,
        progress: Progress,
    ) -> Result<Self, ExitError> {
        let kafka_health = health.component("kafka", Some(STALL_LIMIT));
        let store_health = health.component("store", None);
        let topics = Topics::connect(&options.kafka).map_err(kafka_error)?;
        let bounds_at_start = topics.bounds(&options.topic).map_err(kafka_error)?;
        let incarnation = match &options.incarnation {
            Some(incarnation) => incarnation.clone(),
            None => topics
                .topic_id(&options.topic)
                .unwrap_or_else(|| NO_TOPIC_ID.to_owned()),
        };
        let pipeline = Pipeline::new(&options.topic, incarnation);
        let committer = runtime
            .block_on(async {
                options.lake.check().await?;
                Committer::open(&options.lake, options.partition_by, pipeline).await
            })
            .map_err(lake_error)?;
        store_health.ready();
        let metrics = IngestMetrics::register(metrics);
        let gauge = MemoryGauge::default();
        let buffer = BatchBuffer::new(
            runtime.clone(),
            gauge.clone(),
            committer.partition_columns().to_vec(),
        );
        progress.lock().version = committer.version();
        let assignment = Arc::new(Assignment {
            filling: Mutex::new(Filling {
                offsets: Offsets::default(),
                buffer,
                at_end: BTreeSet::new(),
                refusal: None,
                rejected: BTreeMap::new(),
                oldest_kafka_ms: None,
            }),
            committer: Arc::new(tokio::sync::Mutex::new(committer)),
            topics,
            topic: options.topic.clone(),
            runtime: runtime.clone(),
            store_health,
            metrics: metrics.clone(),
            shutdown: shutdown.clone(),
        });
        let consumer = GroupConsumer::join(
            &options.kafka,
            &options.group_id,
            &options.topic,
            StartAt::ListenerOnly,
            Arc::clone(&assignment),
        )
        .map_err(kafka_error)?;
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
            paused: false,
            lag_asked: Instant::now(),
            end_asked: Instant::now(),
            bounds_at_start,
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
        let mut read = 0;
        while read < RECORDS_PER_CHECK {
            // Wait only when there was nothing: a backlog is taken as it comes.
            let timeout = if read == 0 {
                self.patience()
            } else {
                Duration::ZERO
            };
            match self.consumer.poll(timeout) {
                Ok(Polled::Record(message)) => {
                    let now_ms = chrono::Utc::now().timestamp_millis();
                    let position = SourcePosition {
                        kafka_partition: message.partition(),
                        kafka_offset: message.offset(),
                        kafka_timestamp_ms: message.timestamp().to_millis(),
                    };
                    let payload = message.payload();
                    let mut filling = self.assignment.lock();
                    if filling
                        .offsets
                        .accept(position.kafka_partition, position.kafka_offset)
                        == Verdict::Buffer
                    {
                        let timestamp_ms = position.kafka_timestamp_ms;
                        if let Some(ms) = timestamp_ms {
                            filling.oldest_kafka_ms =
                                Some(filling.oldest_kafka_ms.map_or(ms, |old| old.min(ms)));
                        }
                        match self.options.contract.decode(payload, timestamp_ms) {
                            Ok(event) => filling.buffer.append_login(&event, position, now_ms),
                            Err(rejection) => {
                                *filling.rejected.entry(rejection.reason).or_insert(0) += 1;
                                filling.buffer.append_rejected(&rejection, payload, position);
                            }
                        }
                    }
                    read += 1;
                }
                Ok(Polled::EndOfPartition(partition)) => {
                    self.assignment.lock().at_end.insert(partition);
                }
                Ok(Polled::Nothing) => break,
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, "kafka is away; waiting");
                    self.kafka_health.not_ready(error.to_string());
                    self.metrics.retries.inc();
                    return Ok(());
                }
                Err(error) => {
                    return Err(match self.assignment.lock().refusal.take() {
                        Some(refusal) => ExitError::refused(refusal),
                        None => kafka_error(error),
                    });
                }
            }
        }
        self.kafka_health.ready();
        Ok(())
    }

    /// How long to wait for a record: not beyond the age of the batch.
    fn patience(&self) -> Duration {
        let filling = self.assignment.lock();
        let age = filling
            .buffer
            .begun()
            .map(|begun| begun.elapsed())
            .unwrap_or_default();
        self.options.roll.time_left(filling.buffer.size(), age).min(TICK)
    }

    /// Closes the batch when a limit is reached and the one before is done.
    fn close_if_due(&mut self) -> Result<(), ExitError> {
        let reason = {
            let filling = self.assignment.lock();
            let age = filling
                .buffer
                .begun()
                .map(|begun| begun.elapsed())
                .unwrap_or_default();
            self.options.roll.decide(filling.buffer.size(), age)
        };
        match reason {
            Some(reason) if self.in_flight.is_none() => self.close(reason),
            _ => Ok(()),
        }
    }

    fn close(&mut self, reason: RollReason) -> Result<(), ExitError> {
        let mut filling = self.assignment.lock();
        let ranges = filling.offsets.seal();
        if ranges.is_empty() {
            return Ok(());
        }
        let batch = filling.buffer.close(ranges);
        let facts = BatchFacts {
            rejected: std::mem::take(&mut filling.rejected),
            reason,
            oldest_kafka_ms: filling.oldest_kafka_ms.take(),
        };
        drop(filling);
        self.in_flight = Some(InFlight::send(
            &self.runtime,
            Arc::clone(&self.assignment.committer),
            batch,
            facts,
            self.assignment.store_health.clone(),
            self.metrics.clone(),
            self.shutdown.clone(),
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
            Ok(BatchOutcome::Committed {
                version,
                files,
                bytes,
            }) => {
                self.note_commit(&batch, version, files, bytes);
                Ok(())
            }
            Ok(BatchOutcome::Fenced { detail }) => {
                tracing::warn!(
                    detail,
                    "another process was first: discarding what is buffered and reading on from the table"
                );
                self.metrics.fenced.inc();
                self.restart_from_table()
            }
            Err(error) => Err(lake_error(error)),
        }
    }

    fn note_commit(&mut self, batch: &InFlight, version: i64, files: usize, bytes: u64) {
        let seconds = batch.closed.elapsed().as_secs_f64();
        let rejected: u64 = batch.rejected.values().sum();
        self.metrics.logins_rows.inc_by(batch.logins);
        for (reason, rows) in &batch.rejected {
            self.metrics.count_rejected(*reason, *rows);
        }
        self.metrics.count_commit(batch.reason);
        self.metrics.commit_seconds.observe(seconds);
        self.metrics.files.inc_by(files as u64);
        self.metrics.file_bytes.inc_by(bytes);
        if let Some(oldest) = batch.oldest_kafka_ms {
            let delay_ms = chrono::Utc::now().timestamp_millis() - oldest;
            self.metrics
                .commit_delay_seconds
                .observe(delay_ms.max(0) as f64 / 1_000.0);
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
        filling.offsets.committed(&batch.ranges);
        // For lag tools only; nothing reads it back.
        let group_offsets: BTreeMap<i32, i64> = batch
            .ranges
            .keys()
            .filter_map(|partition| Some((*partition, filling.offsets.committed_offset(*partition)?)))
            .collect();
        drop(filling);
        if !group_offsets.is_empty()
            && let Err(error) = self.consumer.commit_async(&group_offsets)
        {
            tracing::debug!(%error, "group offsets not written");
        }
        let mut totals = self.progress.lock();
        totals.logins += batch.logins;
        totals.rejected += rejected;
        totals.commits += 1;
        totals.version = version;
    }

    /// Discards what is buffered and reads on from the offsets of the table, for the partitions that are still here.
    fn restart_from_table(&mut self) -> Result<(), ExitError> {
        let committed = self
            .assignment
            .with_retries(|committer| self.runtime.block_on(committer.reload_offsets()))
            .map_err(ExitError::failed)?;
        let mut filling = self.assignment.lock();
        filling.buffer.clear();
        filling.rejected.clear();
        filling.oldest_kafka_ms = None;
        let mut starts = BTreeMap::new();
        for partition in filling.offsets.partitions() {
            if let Some(next_offset) = committed.get(&partition) {
                filling.offsets.assign(partition, *next_offset);
                filling.at_end.remove(&partition);
                starts.insert(partition, Some(*next_offset));
            }
        }
        drop(filling);
        let mut backoff = Backoff::default();
        loop {
            match self.consumer.seek(&starts) {
                Err(error) if error.is_retriable() && !self.shutdown.is_requested() => {
                    tracing::warn!(%error, "cannot read on from the table's offsets yet");
                    self.kafka_health.not_ready(error.to_string());
                    self.metrics.retries.inc();
                    self.shutdown.wait_timeout(backoff.next_delay());
                }
                result => return result.map_err(kafka_error),
            }
        }
    }

    /// Over the budget: close the batch early; when one is already under way, stop fetching until it is done.
    fn bound_memory(&mut self) -> Result<(), ExitError> {
        let open = self.assignment.lock().buffer.open_bytes();
        let waiting = self.gauge.bytes() + open;
        self.metrics
            .buffered_bytes
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let over = waiting > self.options.memory_budget;
        if over && self.in_flight.is_none() {
            self.close(RollReason::Bytes)?;
        }
        let pause = over && self.in_flight.is_some();
        if pause != self.paused {
            let partitions = self.consumer.assignment().map_err(kafka_error)?;
            if pause {
                self.consumer.pause(&partitions).map_err(kafka_error)?;
                self.metrics.pauses.inc();
                tracing::debug!(waiting, "over the memory budget: paused");
            } else {
                self.consumer.resume(&partitions).map_err(kafka_error)?;
            }
            self.paused = pause;
        }
        let filling = self.assignment.lock();
        let mut totals = self.progress.lock();
        for partition in filling.offsets.partitions() {
            if let Some(next_offset) = filling.offsets.next_offset(partition) {
                totals.next_offsets.insert(partition, next_offset);
            }
        }
        Ok(())
    }

    fn ask_lag(&mut self) {
        if self.lag_asked.elapsed() < LAG_INTERVAL {
            return;
        }
        self.lag_asked = Instant::now();
        let partitions = self.assignment.lock().offsets.partitions();
        for partition in partitions {
            let Some((_, high)) = self.consumer.known_watermarks(partition) else {
                continue;
            };
            if let Some(committed) = self.assignment.lock().offsets.committed_offset(partition) {
                self.metrics.set_lag(partition, (high - committed).max(0));
            }
        }
    }

    /// Whether the table has everything that the topic held when this run started, on every partition, whoever has it.
    fn is_at_end(&mut self) -> Result<bool, ExitError> {
        let mut filling = self.assignment.lock();
        for partition in filling.offsets.partitions() {
            let Some((_, end)) = self.bounds_at_start.get(&partition) else {
                continue;
            };
            if filling.at_end.contains(&partition) {
                // A partition may end in transaction markers, which no record's offset reaches.
                filling.offsets.skip_to(partition, *end);
            } else if filling
                .offsets
                .next_offset(partition)
                .is_some_and(|next| next < *end)
            {
                return Ok(false);
            }
        }
        let drained = filling.offsets.is_drained();
        drop(filling);
        if !drained {
            if self.in_flight.is_none() {
                self.close(RollReason::Drain)?;
            }
            return Ok(false);
        }
        if self.end_asked.elapsed() < END_INTERVAL {
            return Ok(false);
        }
        self.end_asked = Instant::now();
        let offsets = match self
            .runtime
            .block_on(async { self.assignment.committer.lock().await.reload_offsets().await })
        {
            Ok(offsets) => offsets,
            Err(error) if error.is_retriable() => {
                tracing::warn!(%error, "cannot read the table's offsets; trying again");
                return Ok(false);
            }
            Err(error) => return Err(lake_error(error)),
        };
        Ok(self.bounds_at_start.iter().all(|(partition, (low, end))| {
            end <= low || offsets.get(partition).is_some_and(|next| next >= end)
        }))
    }

    /// Commits what was read.
    fn drain(&mut self) -> Result<(), ExitError> {
        loop {
            self.settle(true)?;
            let size: BatchSize = self.assignment.lock().buffer.size();
            if size.rows == 0 && !self.assignment.lock().offsets.has_unsealed() {
                break;
            }
            self.close(RollReason::Drain)?;
        }
        // Let the coordinator know before leaving, so that lag tools agree.
        let group_offsets: BTreeMap<i32, i64> = {
            let filling = self.assignment.lock();
            let partitions = filling.offsets.partitions();
            partitions
                .into_iter()
                .filter_map(|p| Some((p, filling.offsets.committed_offset(p)?)))
                .collect()
        };
        if !group_offsets.is_empty()
            && let Err(error) = self.consumer.commit_sync(&group_offsets)
        {
            tracing::debug!(%error, "group offsets not written");
        }
        Ok(())
    }
}
