//! Names and meanings of the metrics of ingestion. Everything is counted after the commit.

use std::sync::atomic::AtomicU64;

use loginlake_events::RejectReason;
use loginlake_lake::ingest::RollReason;
use loginlake_service::delays::DelayHistogram;
use loginlake_service::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// Label of the reasons why batches are closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RollLabels {
    reason: &'static str,
}

/// Label of the reasons of rejection.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RejectLabels {
    reason: &'static str,
}

/// Label of a Kafka partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabels {
    partition: i32,
}

/// The metrics of one ingester.
#[derive(Clone, Debug)]
pub struct IngestMetrics {
    /// Rows committed to `logins`.
    pub logins_rows: Counter,
    /// Rows committed to `rejected`, by reason.
    pub rejected_rows: Family<RejectLabels, Counter>,
    /// Logins of other dates than the one that the lake holds (`--only-date`).
    pub left_out: Counter,
    /// Commits by what closed the batch.
    pub commits: Family<RollLabels, Counter>,
    /// Seconds from closing a batch to its commit.
    pub commit_seconds: Histogram,
    /// Seconds from the broker's timestamp of each record to the moment at which it can be queried.
    pub commit_delay_seconds: DelayHistogram,
    /// Bytes of files added to `logins`.
    pub file_bytes: Counter,
    /// Files added to `logins`.
    pub files: Counter,
    /// Bytes that wait for a commit.
    pub buffered_bytes: Gauge,
    /// Rows of the batch that is being filled.
    pub buffered_rows: Gauge,
    /// Records behind the end of the topic, by Kafka partition.
    pub lag_records: Family<PartitionLabels, Gauge>,
    /// Batches that were discarded because another process was first.
    pub fenced: Counter,
    /// Attempts that were repeated because Kafka or the store failed.
    pub retries: Counter,
    /// Times that consumption paused because of the memory budget.
    pub pauses: Counter,
    /// The age at which batches are closed, seconds: as set, or as `--freshness` chose it.
    pub batch_age_limit_seconds: Gauge<f64, AtomicU64>,
}

impl IngestMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.005, 2.0, 16));
        let new = Self {
            logins_rows: Counter::default(),
            rejected_rows: Family::default(),
            left_out: Counter::default(),
            commits: Family::default(),
            commit_seconds: seconds(),
            commit_delay_seconds: DelayHistogram::default(),
            file_bytes: Counter::default(),
            files: Counter::default(),
            buffered_bytes: Gauge::default(),
            buffered_rows: Gauge::default(),
            lag_records: Family::default(),
            fenced: Counter::default(),
            retries: Counter::default(),
            pauses: Counter::default(),
            batch_age_limit_seconds: Gauge::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "ingest_logins_rows",
                "Rows committed to logins",
                new.logins_rows.clone(),
            );
            registry.register(
                "ingest_rejected_rows",
                "Rows committed to rejected, by reason",
                new.rejected_rows.clone(),
            );
            registry.register(
                "ingest_left_out_logins",
                "Logins of other dates than --only-date, past which the offsets were committed",
                new.left_out.clone(),
            );
            registry.register(
                "ingest_commits",
                "Delta commits, by what closed the batch",
                new.commits.clone(),
            );
            registry.register(
                "ingest_commit_seconds",
                "Seconds from closing a batch to its Delta commit",
                new.commit_seconds.clone(),
            );
            registry.register(
                "logins_commit_delay_seconds",
                "Seconds from the broker's timestamp of a record to its Delta commit, each committed record",
                new.commit_delay_seconds.clone(),
            );
            registry.register(
                "ingest_file_bytes",
                "Bytes of data files added to logins",
                new.file_bytes.clone(),
            );
            registry.register("ingest_files", "Data files added to logins", new.files.clone());
            registry.register(
                "ingest_buffered_bytes",
                "Bytes that wait for a commit",
                new.buffered_bytes.clone(),
            );
            registry.register(
                "ingest_buffered_rows",
                "Rows of the batch that is being filled",
                new.buffered_rows.clone(),
            );
            registry.register(
                "ingest_lag_records",
                "Records behind the end of the topic, by Kafka partition",
                new.lag_records.clone(),
            );
            registry.register(
                "ingest_fenced_batches",
                "Batches discarded because another process was first",
                new.fenced.clone(),
            );
            registry.register(
                "ingest_retries",
                "Attempts repeated because Kafka or the object store failed",
                new.retries.clone(),
            );
            registry.register(
                "ingest_pauses",
                "Times that consumption paused because of the memory budget",
                new.pauses.clone(),
            );
            registry.register(
                "ingest_batch_age_limit_seconds",
                "Age at which batches are closed now",
                new.batch_age_limit_seconds.clone(),
            );
        });
        new
    }

    /// Counts a commit.
    pub fn count_commit(&self, reason: RollReason) {
        self.commits
            .get_or_create(&RollLabels {
                reason: reason.as_str(),
            })
            .inc();
    }

    /// Counts committed rejections.
    pub fn count_rejected(&self, reason: RejectReason, rows: u64) {
        self.rejected_rows
            .get_or_create(&RejectLabels {
                reason: reason.as_str(),
            })
            .inc_by(rows);
    }

    /// Sets the lag of a partition.
    pub fn set_lag(&self, partition: i32, records: i64) {
        self.lag_records
            .get_or_create(&PartitionLabels { partition })
            .set(records);
    }

    /// Forgets a partition that left.
    pub fn forget_partition(&self, partition: i32) {
        self.lag_records.remove(&PartitionLabels { partition });
    }
}
