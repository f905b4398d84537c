//! `realtime run`: every record of the input topic once on the processed or on the dead-letter topic, in milliseconds.
//!
//! - [`transform`]: one record in, one record out (or a filtered count); pure but for the clock that is passed in;
//! - `worker`: polls, transforms, and hands records to one of two outputs:
//!   - `exactly_once`: records and offsets in one Kafka transaction, small when little comes in, large under load;
//!   - `at_least_once`: an idempotent producer, and offsets committed once everything before them is delivered;
//! - `members`: what the group's callbacks do when partitions come and go;
//! - `filters`: the drop filters, which may change between two batches;
//! - `offsets`: which offsets follow from the records of a transaction or batch;
//! - `refusals`: which records the output topic refuses;
//! - `size`: makes transactions smaller while commits are slow;
//! - `rate`: holds `--max-rate`; `stall`: how long to wait after a failure, and when it is over; `hold`: waits, and serves
//!   the group meanwhile;
//! - [`metrics`]: what is counted, after the commit; `pending`: what is counted before, for each record;
//! - `traces`: which records are told of as spans, and the header that carries their trace on;
//! - `told`: the run as lineage;
//! - `watch`: lag, queues and quotas, once a second; `lag`: how far behind a partition is.
//!
//! An instance runs one or more workers, each a member of the consumer group with its own producer.

mod at_least_once;
mod exactly_once;
mod filters;
mod hold;
mod lag;
mod members;
pub mod metrics;
mod offsets;
mod pending;
mod rate;
mod refusals;
mod size;
mod stall;
mod told;
mod traces;
pub mod transform;
mod watch;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use loginlake_events::Contract;
use loginlake_kafka::topics::Topics as TopicClient;
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_schemas::Schemas;
use loginlake_service::config::{Guarantee, Rate, ResolvedSchemaRegistry, Topics};
use loginlake_service::exit::ExitError;
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;

use crate::insights::InsightHandle;

pub use filters::LiveFilters;
pub use metrics::RealtimeMetrics;

/// Longest that a transaction stays open under load.
pub const DEFAULT_TRANSACTION_MAX_AGE: Duration = Duration::from_millis(400);
/// Most records of a transaction.
pub const DEFAULT_TRANSACTION_MAX_RECORDS: u64 = 200_000;
/// After how long the broker aborts what a dead process left open: until then readers wait for it.
pub const DEFAULT_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(20);

/// The producer's largest batch, unless a topic allows less.
const PRODUCER_BATCH_BYTES: u64 = 512 * 1024;
/// What a batch has beside its records.
const BATCH_OVERHEAD_BYTES: u64 = 512;

/// What `realtime run` is told.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// The input cluster.
    pub input: KafkaSettings,
    /// The output cluster: the same one for exactly once.
    pub output: KafkaSettings,
    /// All topics.
    pub topics: Topics,
    /// The consumer group.
    pub group_id: String,
    /// What is guaranteed.
    pub guarantee: Guarantee,
    /// The rules by which records are judged.
    pub contract: Contract,
    /// Who knows the schemas of framed records; `None`: records are plain JSON.
    pub schema_registry: Option<ResolvedSchemaRegistry>,
    /// Which good events are not republished.
    pub filters: LiveFilters,
    /// Most records of this instance; `None`: unlimited.
    pub max_rate: Option<Rate>,
    /// Workers of this instance.
    pub workers: u16,
    /// Stable name of this instance; each worker adds its number to it for its transactions.
    pub transactional_id: String,
    /// Longest that a transaction stays open under load.
    pub transaction_max_age: Duration,
    /// Most records of a transaction.
    pub transaction_max_records: u64,
    /// After how long the broker aborts an abandoned transaction.
    pub transaction_timeout: Duration,
    /// Stop once everything that the topic held at the start is processed and committed.
    pub exit_at_end: bool,
    /// First and last stable offset of each input partition when the run started; filled by [`run`].
    pub bounds_at_start: BTreeMap<i32, (i64, i64)>,
}

/// What the workers have committed; shared with whoever watches.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Totals>>);

/// Counts of committed records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Republished events.
    pub processed: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Good events that a filter held back.
    pub filtered: u64,
    /// Committed next offset, by Kafka partition.
    pub next_offsets: BTreeMap<i32, i64>,
    /// Records behind the end of the input topic, by Kafka partition.
    pub lag_records: BTreeMap<i32, u64>,
}

impl Progress {
    /// Whether anything was committed since the start.
    pub(crate) fn has_committed(&self) -> bool {
        let totals = self.lock();
        totals.processed + totals.dead_letters + totals.filtered > 0
    }

    /// A copy of the counts.
    pub fn totals(&self) -> Totals {
        self.lock().clone()
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until told to stop, or until the end of the topic with `exit_at_end`. Blocks.
///
/// # Errors
/// Exit code 2 for settings that cannot work, 3 when fenced by another instance of the same name, 1 for anything else.
pub fn run(
    options: &RunOptions,
    shutdown: &Shutdown,
    health: &Health,
    metrics: &Metrics,
    progress: &Progress,
) -> Result<Totals, ExitError> {
    run_with_insights(options, shutdown, health, metrics, progress, None)
}

/// Like [`run`], and tells `insights` what the workers commit.
///
/// # Errors
/// As [`run`].
pub fn run_with_insights(
    options: &RunOptions,
    shutdown: &Shutdown,
    health: &Health,
    metrics: &Metrics,
    progress: &Progress,
    insights: Option<&InsightHandle>,
) -> Result<Totals, ExitError> {
    let told = told::Told::begin(options, progress);
    let result = run_workers(options, shutdown, health, metrics, progress, insights);
    told.end(&result);
    result
}

fn run_workers(
    options: &RunOptions,
    shutdown: &Shutdown,
    health: &Health,
    metrics: &Metrics,
    progress: &Progress,
    insights: Option<&InsightHandle>,
) -> Result<Totals, ExitError> {
    let mut options = options.clone();
    let schemas = match &options.schema_registry {
        Some(registry) => Some(Schemas::new(registry, health, metrics)?),
        None => None,
    };
    options.bounds_at_start = check(&mut options)?;
    let metrics = RealtimeMetrics::register(metrics);
    let rate = options
        .max_rate
        .map(|rate| rate::RateLimit::new(rate, Instant::now()));
    let workers: Vec<_> = (0..options.workers.max(1))
        .map(|number| {
            let component = health.component(format!("worker-{number}"), Some(worker::STALL_LIMIT));
            worker::Worker::new(
                number,
                options.clone(),
                shutdown.clone(),
                component,
                metrics.clone(),
                progress.clone(),
                insights,
            )
            .with(rate.clone(), schemas.as_ref().map(Schemas::decoder))
        })
        .collect();
    let results: Vec<Result<(), ExitError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|worker| {
                scope.spawn(move || {
                    let result = worker.run();
                    if result.is_err() {
                        // One worker that cannot go on ends the instance, so that somebody notices.
                        shutdown.trigger();
                    }
                    result
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|_| Err(ExitError::failed("a worker panicked")))
            })
            .collect()
    });
    results.into_iter().collect::<Result<(), ExitError>>()?;
    let totals = progress.totals();
    tracing::info!(
        processed = totals.processed,
        dead_letters = totals.dead_letters,
        filtered = totals.filtered,
        "everything that was read is committed"
    );
    Ok(totals)
}

/// What can be known to be wrong before the first record. Returns the bounds of the input partitions.
fn check(options: &mut RunOptions) -> Result<BTreeMap<i32, (i64, i64)>, ExitError> {
    let input = TopicClient::connect(&options.input).map_err(exit_error)?;
    let bounds = input.bounds(&options.topics.input).map_err(exit_error)?;
    let output = TopicClient::connect(&options.output).map_err(exit_error)?;
    for topic in [&options.topics.output, &options.topics.dead_letter] {
        output.describe(topic).map_err(exit_error)?;
    }
    check_clusters(options, &input, &output)?;
    // A broker refuses a batch that is larger than its topic allows, with all of its records: make none.
    let limit = [&options.topics.output, &options.topics.dead_letter]
        .into_iter()
        .filter_map(|topic| output.max_message_bytes(topic))
        .min();
    if let Some(limit) = limit.filter(|limit| *limit < PRODUCER_BATCH_BYTES) {
        let bytes = limit.saturating_sub(BATCH_OVERHEAD_BYTES).max(1).to_string();
        options
            .output
            .properties
            .entry("batch.size".to_owned())
            .or_insert(bytes);
    }
    Ok(bounds)
}

/// Two addresses can be one cluster: their ids tell. Where a cluster has none, the addresses decide.
fn check_clusters(options: &RunOptions, input: &TopicClient, output: &TopicClient) -> Result<(), ExitError> {
    let (from, to) = (&options.input.brokers, &options.output.brokers);
    if from == to
        || input
            .cluster_id()
            .is_some_and(|id| output.cluster_id() == Some(id))
    {
        return Ok(());
    }
    if options.guarantee == Guarantee::ExactlyOnce {
        let what = format!(
            "exactly once is not possible from {from} to {to}: a Kafka transaction does not span clusters"
        );
        let hint = "start with --guarantee at-least-once; source.* headers let a reader drop duplicates";
        return Err(ExitError::usage(what).with_hint(hint));
    }
    tracing::warn!(
        input = from,
        output = to,
        "two clusters: at least once; after a failure records may repeat, with the same source.* headers"
    );
    Ok(())
}

/// An error of Kafka as an exit: 2 for settings that are wrong by themselves, 3 for fenced, 1 for what the outside world
/// refuses.
pub fn exit_error(error: KafkaError) -> ExitError {
    match error {
        KafkaError::Configuration(_) => ExitError::usage(error),
        KafkaError::Fenced(_) => ExitError::refused(error),
        _ => ExitError::failed(error),
    }
}
