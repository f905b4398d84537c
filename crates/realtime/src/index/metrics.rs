//! Names and meanings of the metrics of `realtime index`. Every label is from a closed set, or a partition of this instance; a
//! partition that leaves takes its series along.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use loginlake_service::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::document::Reason;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartitionLabels {
    partition: i32,
}

/// What became of a record.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// OpenSearch has it now.
    Stored,
    /// OpenSearch had it before.
    AlreadyThere,
    /// It is on the dead-letter topic.
    DeadLetter,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Stored, Self::AlreadyThere, Self::DeadLetter];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::AlreadyThere => "already_there",
            Self::DeadLetter => "dead_letter",
        }
    }
}

/// What became of a bulk request.
#[derive(Clone, Copy, Debug)]
pub(super) enum RequestOutcome {
    /// Everything in it is settled.
    Good,
    /// Some items have to be sent again.
    Partly,
    /// Refused because of its size.
    TooLarge,
    /// Refused because there is too much to do (429).
    Overloaded,
    /// No answer, or an error.
    Unavailable,
}

impl RequestOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Partly => "partly",
            Self::TooLarge => "too_large",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
        }
    }
}

/// The metrics of one instance; clones share them.
#[derive(Clone, Debug)]
pub(super) struct IndexMetrics {
    records: Family<OutcomeLabels, Counter>,
    dead_letters: Family<ReasonLabels, Counter>,
    requests: Family<OutcomeLabels, Counter>,
    retried_records: Counter,
    request_seconds: Histogram,
    batch_records: Histogram,
    batch_bytes: Histogram,
    in_flight_requests: Gauge,
    lag_records: Family<PartitionLabels, Gauge>,
    shown: Arc<Mutex<BTreeSet<i32>>>,
}

impl IndexMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let new = Self {
            records: Family::default(),
            dead_letters: Family::default(),
            requests: Family::default(),
            retried_records: Counter::default(),
            request_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 16)),
            batch_records: Histogram::new(exponential_buckets(1.0, 4.0, 8)),
            batch_bytes: Histogram::new(exponential_buckets(1_024.0, 4.0, 8)),
            in_flight_requests: Gauge::default(),
            lag_records: Family::default(),
            shown: Arc::default(),
        };
        macro_rules! register {
            ($($field:ident, $help:literal;)+) => {
                metrics.register(|registry| {
                    $(registry.register(concat!("index_", stringify!($field)), $help, new.$field.clone());)+
                })
            };
        }
        register! {
            records, "Records that are settled, by outcome";
            dead_letters, "Dead letters that are acknowledged, by reason";
            requests, "Bulk requests, by outcome";
            retried_records, "Records that were sent again because OpenSearch did not take them";
            request_seconds, "Time of a bulk request";
            batch_records, "Records of a batch";
            batch_bytes, "Bytes of a batch";
            in_flight_requests, "Batches that are handed over and not settled";
            lag_records, "Records of the processed topic that are not settled, by partition";
        }
        for outcome in Outcome::ALL {
            new.count(outcome, 0);
        }
        // From 0 on, so that the first one is an increase to whoever watches.
        for reason in Reason::ALL {
            let reason = reason.as_str();
            drop(new.dead_letters.get_or_create(&ReasonLabels { reason }));
        }
        new
    }

    pub fn count(&self, outcome: Outcome, records: u64) {
        let outcome = outcome.as_str();
        self.records
            .get_or_create(&OutcomeLabels { outcome })
            .inc_by(records);
    }

    pub fn count_dead_letter(&self, reason: Reason) {
        let reason = reason.as_str();
        self.dead_letters.get_or_create(&ReasonLabels { reason }).inc();
        self.count(Outcome::DeadLetter, 1);
    }

    pub fn count_request(&self, outcome: RequestOutcome) {
        let outcome = outcome.as_str();
        self.requests.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    pub fn count_retried(&self, records: usize) {
        self.retried_records.inc_by(records as u64);
    }

    /// Takes the time of a request.
    pub fn timed<T>(&self, request: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = request();
        self.request_seconds.observe(started.elapsed().as_secs_f64());
        result
    }

    pub fn handed_over(&self, records: usize, bytes: usize) {
        self.batch_records.observe(records as f64);
        self.batch_bytes.observe(bytes as f64);
    }

    pub fn in_flight(&self, batches: usize) {
        self.in_flight_requests
            .set(i64::try_from(batches).unwrap_or(i64::MAX));
    }

    /// The lag of all partitions of this instance; the series of others go.
    pub fn lag(&self, lags: &[(i32, u64)]) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeSet<i32> = lags.iter().map(|(partition, _)| *partition).collect();
        for partition in shown.difference(&now) {
            self.lag_records.remove(&PartitionLabels {
                partition: *partition,
            });
        }
        for (partition, records) in lags {
            let labels = PartitionLabels {
                partition: *partition,
            };
            let records = i64::try_from(*records).unwrap_or(i64::MAX);
            self.lag_records.get_or_create(&labels).set(records);
        }
        *shown = now;
    }
}
