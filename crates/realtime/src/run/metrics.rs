//! Names and meanings of the metrics of the real-time path. Records are counted after they are committed. Every label is
//! from a closed set, or a partition or worker of this instance; a partition that leaves takes its series along.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use loginlake_service::delays::DelayHistogram;
use loginlake_service::metrics::Metrics;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::lag::Lag;
pub use super::pending::{Counted, Pending};
use super::transform::OUTPUT_REFUSED;

/// Label of what became of a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

/// Label of the reasons of dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// Label of a Kafka partition.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    partition: i32,
}

/// Labels of a client of librdkafka.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientLabels {
    worker: u16,
    client: Client,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    reason: Retry,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AbortLabels {
    reason: Abort,
}

/// Which of a worker's clients; its producers count as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// Reads the input.
    Consumer,
    /// Writes processed records and dead letters.
    Producer,
}

/// Why something was tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Retry {
    /// A producer could not take over its transactional id.
    Coordinator,
    /// Records could not be read, published or committed.
    Records,
    /// The committed offsets could not be read.
    Offsets,
    /// Kafka's ACLs do not allow it (any more).
    NotAllowed,
}

/// Why a transaction was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Abort {
    /// Partitions left.
    Rebalance,
    /// The output topic refused a record.
    Refused,
    /// Anything else: a failure, a fence, an unknown outcome.
    Failure,
}

macro_rules! label_values {
    ($($kind:ident: $($variant:ident = $name:literal),+;)+) => {
        $(impl EncodeLabelValue for $kind {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
                let name = match self {
                    $($kind::$variant => $name,)+
                };
                name.encode(encoder)
            }
        })+
    };
}

label_values! {
    Client: Consumer = "consumer", Producer = "producer";
    Retry: Coordinator = "coordinator", Records = "records", Offsets = "offsets", NotAllowed = "not_allowed";
    Abort: Rebalance = "rebalance", Refused = "refused", Failure = "failure";
}

/// The metrics of one instance.
#[derive(Clone, Debug)]
pub struct RealtimeMetrics {
    records: Family<OutcomeLabels, Counter>,
    dead_letters: Family<ReasonLabels, Counter>,
    event_delay_seconds: DelayHistogram,
    publish_delay_seconds: DelayHistogram,
    batch_records: Histogram,
    batch_bytes: Histogram,
    fill_seconds: Histogram,
    commit_seconds: Histogram,
    lag_records: Family<PartitionLabels, Gauge>,
    lag_seconds: Family<PartitionLabels, Gauge<f64, AtomicU64>>,
    aborts: Family<AbortLabels, Counter>,
    retries: Family<RetryLabels, Counter>,
    /// Rebalances of the group, as this instance's workers saw them.
    pub rebalances: Counter,
    rate_limited_seconds: Counter<f64, AtomicU64>,
    queue_bytes: Family<ClientLabels, Gauge>,
    throttled_seconds: Family<ClientLabels, Gauge<f64, AtomicU64>>,
}

impl RealtimeMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let seconds = || Histogram::new(exponential_buckets(0.000_25, 2.0, 18));
        let new = Self {
            records: Family::default(),
            dead_letters: Family::default(),
            event_delay_seconds: DelayHistogram::default(),
            publish_delay_seconds: DelayHistogram::default(),
            batch_records: Histogram::new(exponential_buckets(1.0, 4.0, 10)),
            batch_bytes: Histogram::new(exponential_buckets(256.0, 4.0, 10)),
            fill_seconds: seconds(),
            commit_seconds: seconds(),
            lag_records: Family::default(),
            lag_seconds: Family::default(),
            aborts: Family::default(),
            retries: Family::default(),
            rebalances: Counter::default(),
            rate_limited_seconds: Counter::default(),
            queue_bytes: Family::default(),
            throttled_seconds: Family::default(),
        };
        macro_rules! register {
            ($($field:ident, $help:literal;)+) => {
                metrics.register(|registry| {
                    $(registry.register(concat!("realtime_", stringify!($field)), $help, new.$field.clone());)+
                    registry.register("realtime_transactions_aborted", "Transactions aborted, by reason", new.aborts.clone());
                })
            };
        }
        register! {
            records, "Records committed, by outcome";
            dead_letters, "Dead letters committed, by reason";
            event_delay_seconds, "Seconds from the event time of a republished record to the commit that publishes it";
            publish_delay_seconds, "Seconds from the broker's timestamp of a record to the commit that publishes it or its dead letter";
            batch_records, "Records of a transaction, or of a batch";
            batch_bytes, "Bytes of the keys and values that were read for a transaction, or for a batch";
            fill_seconds, "Seconds from the first record of a transaction or batch to the last";
            commit_seconds, "Seconds from the last record of a transaction to the end of its commit, or of a batch to its delivery";
            lag_records, "Records behind the end of the input topic, by Kafka partition";
            lag_seconds, "Age of the oldest unhandled record at most, seconds, by Kafka partition: since the broker's timestamp of the last handled record, or since nothing was left to read; 0 when nothing is";
            retries, "Attempts repeated because Kafka failed or refused, by reason";
            rebalances, "Rebalances of the group";
            rate_limited_seconds, "Seconds that workers waited because of --max-rate";
            queue_bytes, "Bytes in the queues of a worker's clients: fetched and not yet handled, or not yet delivered";
            throttled_seconds, "Longest time for which a quota made a broker hold back an answer lately, seconds";
        }
        new
    }

    /// Counts what a commit published at `now_ms`.
    pub fn count_commit(&self, pending: &Pending, now_ms: i64) {
        let outcome = |name| self.records.get_or_create_owned(&OutcomeLabels { outcome: name });
        outcome("processed").inc_by(pending.processed);
        outcome("dead_letter").inc_by(pending.dead_letters());
        outcome("filtered").inc_by(pending.filtered);
        let reasons = pending.rejected().map(|(reason, count)| (reason.as_str(), count));
        let refused = (pending.output_refused > 0).then_some((OUTPUT_REFUSED, pending.output_refused));
        for (reason, count) in reasons.chain(refused) {
            self.dead_letters
                .get_or_create(&ReasonLabels { reason })
                .inc_by(count);
        }
        self.event_delay_seconds.observe(&pending.event_delays, now_ms);
        self.publish_delay_seconds
            .observe(&pending.publish_delays, now_ms);
        let (fill, commit) = pending.times();
        self.batch_records.observe(pending.records() as f64);
        self.batch_bytes.observe(pending.bytes as f64);
        self.fill_seconds.observe(fill.as_secs_f64());
        self.commit_seconds.observe(commit.as_secs_f64());
    }

    /// Counts an aborted transaction.
    pub fn aborted(&self, reason: Abort) {
        self.aborts.get_or_create(&AbortLabels { reason }).inc();
    }

    /// Counts something that is tried again.
    pub fn retried(&self, reason: Retry) {
        self.retries.get_or_create(&RetryLabels { reason }).inc();
    }

    /// Counts a wait because of the rate limit.
    pub fn rate_limited(&self, waited: Duration) {
        self.rate_limited_seconds.inc_by(waited.as_secs_f64());
    }

    /// Sets the lag of a partition.
    pub fn set_lag(&self, partition: i32, lag: Lag) {
        let labels = PartitionLabels { partition };
        let records = i64::try_from(lag.records).unwrap_or(i64::MAX);
        self.lag_records.get_or_create(&labels).set(records);
        self.lag_seconds.get_or_create(&labels).set(lag.seconds);
    }

    /// Forgets a partition that left.
    pub fn forget_partition(&self, partition: i32) {
        let labels = PartitionLabels { partition };
        self.lag_records.remove(&labels);
        self.lag_seconds.remove(&labels);
    }

    /// Sets what a client of a worker holds, in bytes, and for how long a quota holds it up.
    pub fn set_client(&self, worker: u16, client: Client, queue_bytes: u64, throttled: Duration) {
        let labels = ClientLabels { worker, client };
        let bytes = i64::try_from(queue_bytes).unwrap_or(i64::MAX);
        self.queue_bytes.get_or_create(&labels).set(bytes);
        self.throttled_seconds
            .get_or_create(&labels)
            .set(throttled.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use loginlake_events::RejectReason;

    use super::super::transform::Outcome;
    use super::*;

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }

    #[test]
    fn a_commit_counts_records_delays_and_sizes() {
        let metrics = Metrics::new("test");
        let realtime = RealtimeMetrics::register(&metrics);
        let now_ms = chrono::Utc::now().timestamp_millis();
        let mut pending = Pending::default();
        let record = Counted {
            partition: 0,
            kafka_ms: Some(now_ms - 86_000_000),
            bytes: 200,
        };
        for outcome in [
            Outcome::Processed {
                event_time_ms: now_ms - 600_000_000,
            },
            Outcome::Rejected(RejectReason::BadIp),
            Outcome::OutputRefused,
            Outcome::Filtered,
        ] {
            pending.count(outcome, record);
        }
        pending.close();
        realtime.count_commit(&pending, now_ms);
        let text = metrics.encode();
        for line in [
            "realtime_records_total{outcome=\"processed\"} 1",
            "realtime_records_total{outcome=\"dead_letter\"} 2",
            "realtime_records_total{outcome=\"filtered\"} 1",
            "realtime_dead_letters_total{reason=\"BAD_IP\"} 1",
            "realtime_dead_letters_total{reason=\"OUTPUT_REFUSED\"} 1",
            "realtime_event_delay_seconds_bucket{le=\"86400.0\"} 0",
            "realtime_event_delay_seconds_bucket{le=\"604800.0\"} 1",
            "realtime_publish_delay_seconds_bucket{le=\"21600.0\"} 0",
            "realtime_publish_delay_seconds_count 3",
            "realtime_batch_records_sum 4.0",
            "realtime_batch_bytes_sum 800.0",
            "realtime_fill_seconds_count 1",
            "realtime_commit_seconds_count 1",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn labels_are_closed_and_partitions_take_theirs_along() {
        let metrics = Metrics::new("test");
        let realtime = RealtimeMetrics::register(&metrics);
        let lag = Lag {
            records: 7,
            seconds: 1.5,
        };
        realtime.set_lag(3, lag);
        realtime.aborted(Abort::Rebalance);
        realtime.retried(Retry::NotAllowed);
        realtime.rate_limited(Duration::from_millis(250));
        realtime.set_client(0, Client::Producer, 2_000, Duration::from_millis(500));
        let text = metrics.encode();
        for line in [
            "realtime_lag_records{partition=\"3\"} 7",
            "realtime_lag_seconds{partition=\"3\"} 1.5",
            "realtime_transactions_aborted_total{reason=\"rebalance\"} 1",
            "realtime_retries_total{reason=\"not_allowed\"} 1",
            "realtime_rate_limited_seconds_total 0.25",
            "realtime_queue_bytes{worker=\"0\",client=\"producer\"} 2000",
            "realtime_throttled_seconds{worker=\"0\",client=\"producer\"} 0.5",
        ] {
            has(&text, line);
        }
        realtime.forget_partition(3);
        assert!(!metrics.encode().contains("partition=\"3\""));
    }
}
