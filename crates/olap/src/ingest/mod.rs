//! `olap ingest`: the topic into the lake, exactly once, whatever dies.
//!
//! One thread polls, decodes and buffers (`consume`, `counted_rows`); encoders work beside it; commits run one at a time, in order, next
//! to the filling of the next batch (`in_flight`). Before all that it is made sure that the topic holds what the table needs
//! next (`start`). The listener of the consumer group (`assignment`) decides where
//! partitions begin — at the offsets of the table, never at those of the group — and drops what is buffered of partitions
//! that leave before the group is answered. `told` makes spans and lineage of the commits, where somebody wants them.

mod assignment;
mod consume;
mod counted_rows;
mod in_flight;
mod metrics;
mod start;
mod told;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::NaiveDate;
use loginlake_events::Contract;
use loginlake_kafka::KafkaSettings;
use loginlake_lake::Lake;
use loginlake_lake::ingest::{GapRequest, RollPolicy};
use loginlake_lake::table::schema::PartitionBy;
use loginlake_service::config::ResolvedSchemaRegistry;
use loginlake_service::exit::ExitError;
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;

pub use metrics::IngestMetrics;
pub(crate) use start::NO_TOPIC_ID;

/// Longest that a record waits for its commit.
pub const DEFAULT_MAX_BATCH_AGE: Duration = Duration::from_secs(10);
/// Most records of a commit.
pub const DEFAULT_MAX_BATCH_ROWS: u64 = 2_000_000;
/// Bytes of everything that waits.
pub const DEFAULT_MEMORY_BUDGET: u64 = 64 * 1024 * 1024;
/// The smallest budget that can hold a chunk being filled and one being encoded.
pub const MIN_MEMORY_BUDGET: u64 = 32 * 1024 * 1024;

/// What `olap ingest` is told.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// The input cluster.
    pub kafka: KafkaSettings,
    /// The input topic.
    pub topic: String,
    /// The consumer group.
    pub group_id: String,
    /// Which incarnation of the topic this is; `None`: ask the broker.
    pub incarnation: Option<String>,
    /// Where the tables are.
    pub lake: Lake,
    /// How a new table is partitioned.
    pub partition_by: PartitionBy,
    /// The rules by which records are judged.
    pub contract: Contract,
    /// Who knows the schemas of framed records; `None`: records are plain JSON.
    pub schema_registry: Option<ResolvedSchemaRegistry>,
    /// When a batch is closed.
    pub roll: RollPolicy,
    /// Records are queryable so long after the broker got them, 99 of 100: the age of `roll` is chosen for that. `None`: it
    /// is as it is.
    pub freshness: Option<Duration>,
    /// Between which times a backfill reads.
    pub range: TimeRange,
    /// The one date whose logins are kept, in a lake of their own; `None`: all dates.
    pub only_date: Option<NaiveDate>,
    /// What the operator accepts as lost.
    pub gaps: AcceptedGaps,
    /// Bytes of everything that waits, for the whole process; over it consumption pauses.
    pub memory_budget: u64,
    /// Stop once everything that the topic held at the start is committed.
    pub exit_at_end: bool,
}

/// Times by the records' Kafka timestamps, epoch milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeRange {
    /// Where a lake begins that has nothing of the topic; `None`: at the oldest records.
    pub from_ms: Option<i64>,
    /// Reading ends before the first record of each partition that is not older; `None`: it does not end.
    pub until_ms: Option<i64>,
}

/// Gaps that are written into the table's history before anything is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedGaps {
    /// As the operator states them.
    pub gaps: Vec<GapRequest>,
    /// Who that is.
    pub who: String,
}

/// What an ingester has done; shared with whoever watches it.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Totals>>);

/// Counts of committed records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Rows in `logins`.
    pub logins: u64,
    /// Rows in `rejected`.
    pub rejected: u64,
    /// Delta commits with rows.
    pub commits: u64,
    /// The newest version of `logins`.
    pub version: i64,
    /// The next offset to be read, by Kafka partition: what is below it was read (not necessarily committed).
    pub next_offsets: BTreeMap<i32, i64>,
}

impl Progress {
    /// A copy of the counts.
    pub fn totals(&self) -> Totals {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Totals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until told to stop, or until the end of the topic with `exit_at_end`. Call it on a thread that may block, inside of
/// a tokio runtime with several workers.
///
/// # Errors
/// Exit code 2 for settings that cannot work, 3 when going on would lose records, 1 for anything else.
pub fn run(
    options: IngestOptions,
    shutdown: &Shutdown,
    health: &Health,
    metrics: &Metrics,
    progress: &Progress,
) -> Result<Totals, ExitError> {
    let runtime = tokio::runtime::Handle::current();
    let told = told::Told::begin(&options);
    let ingester = consume::Ingester::start(
        options,
        runtime,
        shutdown.clone(),
        health,
        metrics,
        progress.clone(),
        told.clone(),
    );
    let result = ingester.and_then(consume::Ingester::run);
    told.end(&result);
    result
}
