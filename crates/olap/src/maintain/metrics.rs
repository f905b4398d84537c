//! Names and meanings of the metrics of maintenance. Labels come from closed sets: jobs and tables.

use std::sync::atomic::AtomicU64;

use loginlake_service::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::jobs::{Job, TableState};

/// Label of a job.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct JobLabels {
    job: &'static str,
}

/// Label of a table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TableLabels {
    table: &'static str,
}

/// The metrics of one maintainer.
#[derive(Clone, Debug, Default)]
pub struct MaintainMetrics {
    /// 1 while this process has the lease.
    pub active: Gauge,
    /// Runs that succeeded, by job.
    pub runs: Family<JobLabels, Counter>,
    /// Runs that failed, by job.
    pub failures: Family<JobLabels, Counter>,
    /// Seconds of the last run, by job.
    pub last_seconds: Family<JobLabels, Gauge<f64, AtomicU64>>,
    /// When the last run succeeded, by job.
    pub last_success: Family<JobLabels, Gauge>,
    /// Files by table.
    pub files: Family<TableLabels, Gauge>,
    /// Small files by table.
    pub small_files: Family<TableLabels, Gauge>,
    /// Bytes by table.
    pub bytes: Family<TableLabels, Gauge>,
    /// Bytes that wait for compaction, by table.
    pub debt_bytes: Family<TableLabels, Gauge>,
    /// The limit on them.
    pub debt_limit_bytes: Gauge,
    /// 1 while they are more than the limit.
    pub debt_over_limit: Gauge,
}

impl MaintainMetrics {
    /// Registers them. `debt_limit_bytes` does not change while a process runs.
    pub fn register(metrics: &Metrics, debt_limit_bytes: u64) -> Self {
        let new = Self::default();
        new.debt_limit_bytes.set(gauge(debt_limit_bytes));
        metrics.register(|registry| {
            registry.register(
                "maintain_active",
                "1 while this process is the one that maintains the lake",
                new.active.clone(),
            );
            registry.register(
                "maintain_job_runs",
                "Runs that succeeded, by job",
                new.runs.clone(),
            );
            registry.register(
                "maintain_job_failures",
                "Runs that failed, by job",
                new.failures.clone(),
            );
            registry.register(
                "maintain_job_last_seconds",
                "How long the last run took, by job",
                new.last_seconds.clone(),
            );
            registry.register(
                "maintain_job_last_success_timestamp_seconds",
                "When the last run succeeded, by job, since the epoch",
                new.last_success.clone(),
            );
            registry.register("maintain_table_files", "Files, by table", new.files.clone());
            registry.register(
                "maintain_table_small_files",
                "Files below 32 MiB, by table",
                new.small_files.clone(),
            );
            registry.register("maintain_table_bytes", "Bytes, by table", new.bytes.clone());
            registry.register(
                "maintain_compaction_debt_bytes",
                "Bytes that wait to be compacted, by table",
                new.debt_bytes.clone(),
            );
            registry.register(
                "maintain_compaction_debt_limit_bytes",
                "The limit --debt-limit on the bytes that wait to be compacted, of all tables",
                new.debt_limit_bytes.clone(),
            );
            registry.register(
                "maintain_debt_over_limit",
                "1 while more bytes wait to be compacted than --debt-limit",
                new.debt_over_limit.clone(),
            );
        });
        for job in Job::ALL {
            let labels = JobLabels { job: job.name() };
            drop(new.runs.get_or_create(&labels));
            drop(new.failures.get_or_create(&labels));
        }
        new
    }

    /// A job ended at `now` (seconds since the epoch).
    pub fn ran(&self, job: Job, seconds: f64, succeeded: bool, now: i64) {
        let labels = JobLabels { job: job.name() };
        self.last_seconds.get_or_create(&labels).set(seconds);
        if succeeded {
            self.runs.get_or_create(&labels).inc();
            self.last_success.get_or_create(&labels).set(now);
        } else {
            self.failures.get_or_create(&labels).inc();
        }
    }

    /// What the tables hold.
    pub fn found(&self, tables: &[TableState]) {
        for table in tables {
            let labels = TableLabels {
                table: table.table.as_str(),
            };
            self.files.get_or_create(&labels).set(gauge(table.files));
            self.small_files
                .get_or_create(&labels)
                .set(gauge(table.small_files));
            self.bytes.get_or_create(&labels).set(gauge(table.bytes));
            self.debt_bytes
                .get_or_create(&labels)
                .set(gauge(table.debt_bytes));
        }
    }
    /// Another process maintains the lake: what this one knew of the tables gets old, and would be taken for the truth.
    pub fn forget(&self) {
        self.active.set(0);
        self.debt_over_limit.set(0);
        for tables in [&self.files, &self.small_files, &self.bytes, &self.debt_bytes] {
            tables.clear();
        }
    }
}

fn gauge(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
