//! Names and meanings of the metrics of the real-time path. Records are counted after they are committed.

use std::collections::BTreeMap;

use loginlake_events::RejectReason;
use loginlake_service::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::transform::{OUTPUT_REFUSED, Outcome};

/// Label of what became of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    outcome: &'static str,
}

/// Label of the reasons of dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    reason: &'static str,
}

/// Label of a Kafka partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabels {
    partition: i32,
}

/// The metrics of one instance.
#[derive(Clone, Debug)]
pub struct RealtimeMetrics {
    records: Family<OutcomeLabels, Counter>,
    dead_letters: Family<ReasonLabels, Counter>,
    lag_records: Family<PartitionLabels, Gauge>,
    /// Seconds from the broker's timestamp of a record to the commit that publishes it; the oldest of each commit.
    pub publish_delay_seconds: Histogram,
    /// Records of a transaction or batch.
    pub batch_records: Histogram,
    /// Seconds that a commit takes.
    pub commit_seconds: Histogram,
    /// Transactions that were aborted.
    pub aborts: Counter,
    /// Attempts that were repeated because Kafka failed.
    pub retries: Counter,
    /// Rebalances of the group, as this instance's workers saw them.
    pub rebalances: Counter,
}

/// Counts of records that are not committed yet.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// Republished.
    pub processed: u64,
    /// Held back by a filter.
    pub filtered: u64,
    /// Refused by the output topic.
    pub output_refused: u64,
    /// Dead letters by reason.
    pub rejected: BTreeMap<RejectReason, u64>,
    /// The smallest Kafka timestamp.
    pub oldest_kafka_ms: Option<i64>,
}

impl Pending {
    /// Counts a record.
    pub fn count(&mut self, outcome: Outcome, kafka_timestamp_ms: Option<i64>) {
        match outcome {
            Outcome::Processed { .. } => self.processed += 1,
            Outcome::Filtered => self.filtered += 1,
            Outcome::OutputRefused => self.output_refused += 1,
            Outcome::Rejected(reason) => *self.rejected.entry(reason).or_insert(0) += 1,
        }
        if let Some(ms) = kafka_timestamp_ms {
            self.oldest_kafka_ms = Some(self.oldest_kafka_ms.map_or(ms, |oldest| oldest.min(ms)));
        }
    }

    /// All dead letters.
    pub fn dead_letters(&self) -> u64 {
        self.output_refused + self.rejected.values().sum::<u64>()
    }

    /// All records.
    pub fn records(&self) -> u64 {
        self.processed + self.filtered + self.dead_letters()
    }
}

impl RealtimeMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_25, 2.0, 18));
        let new = Self {
            records: Family::default(),
            dead_letters: Family::default(),
            lag_records: Family::default(),
            publish_delay_seconds: seconds(),
            batch_records: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            commit_seconds: seconds(),
            aborts: Counter::default(),
            retries: Counter::default(),
            rebalances: Counter::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "realtime_records",
                "Records committed, by outcome",
                new.records.clone(),
            );
            registry.register(
                "realtime_dead_letters",
                "Dead letters committed, by reason",
                new.dead_letters.clone(),
            );
            registry.register(
                "realtime_lag_records",
                "Records behind the end of the input topic, by Kafka partition",
                new.lag_records.clone(),
            );
            registry.register(
                "realtime_publish_delay_seconds",
                "Seconds from the broker's timestamp of the oldest record of a commit to the commit",
                new.publish_delay_seconds.clone(),
            );
            registry.register(
                "realtime_batch_records",
                "Records of a transaction, or of a batch",
                new.batch_records.clone(),
            );
            registry.register(
                "realtime_commit_seconds",
                "Seconds that a commit takes",
                new.commit_seconds.clone(),
            );
            registry.register(
                "realtime_transactions_aborted",
                "Transactions aborted",
                new.aborts.clone(),
            );
            registry.register(
                "realtime_retries",
                "Attempts repeated because Kafka failed",
                new.retries.clone(),
            );
            registry.register(
                "realtime_rebalances",
                "Rebalances of the group",
                new.rebalances.clone(),
            );
        });
        new
    }

    /// Counts what a commit published. `seconds`: how long the commit took.
    pub fn count_commit(&self, pending: &Pending, seconds: f64, now_ms: i64) {
        let outcome = |name| self.records.get_or_create_owned(&OutcomeLabels { outcome: name });
        outcome("processed").inc_by(pending.processed);
        outcome("dead_letter").inc_by(pending.dead_letters());
        outcome("filtered").inc_by(pending.filtered);
        for (reason, count) in &pending.rejected {
            self.dead_letters
                .get_or_create(&ReasonLabels {
                    reason: reason.as_str(),
                })
                .inc_by(*count);
        }
        if pending.output_refused > 0 {
            self.dead_letters
                .get_or_create(&ReasonLabels {
                    reason: OUTPUT_REFUSED,
                })
                .inc_by(pending.output_refused);
        }
        if let Some(oldest) = pending.oldest_kafka_ms {
            self.publish_delay_seconds
                .observe((now_ms - oldest).max(0) as f64 / 1_000.0);
        }
        self.batch_records.observe(pending.records() as f64);
        self.commit_seconds.observe(seconds);
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
