//! Names and meanings of the metrics of `olap serve`. Labels come from closed sets: the catalog, and statuses.

use axum::http::StatusCode;
use loginlake_service::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// Upper ends of the buckets of times, seconds.
const SECONDS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    query: String,
    status: u16,
}

/// The metrics of one server.
#[derive(Clone, Debug)]
pub struct ServeMetrics {
    /// Requests for a query that were answered.
    pub requests: Family<RequestLabels, Counter>,
    /// How long the answers took.
    pub seconds: Histogram,
    /// Queries that run now.
    pub running: Gauge,
    /// Queries that were stopped because whoever asked went away.
    pub cancelled: Counter,
    /// Rows of answers.
    pub rows: Counter,
    /// Bytes of answers.
    pub bytes: Counter,
}

impl ServeMetrics {
    /// Registers them.
    pub fn register(metrics: &Metrics) -> Self {
        let new = Self {
            requests: Family::default(),
            seconds: Histogram::new(SECONDS),
            running: Gauge::default(),
            cancelled: Counter::default(),
            rows: Counter::default(),
            bytes: Counter::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "serve_requests",
                "Requests for a query that were answered, by query and status",
                new.requests.clone(),
            );
            registry.register(
                "serve_request_seconds",
                "From a request for a query to its answer",
                new.seconds.clone(),
            );
            registry.register(
                "serve_queries_running",
                "Queries that run now",
                new.running.clone(),
            );
            registry.register(
                "serve_queries_cancelled",
                "Queries that were stopped because whoever asked went away",
                new.cancelled.clone(),
            );
            registry.register("serve_answer_rows", "Rows of answers", new.rows.clone());
            registry.register("serve_answer_bytes", "Bytes of answers", new.bytes.clone());
        });
        new
    }

    /// A request for a query of the catalog was answered.
    pub fn answered(&self, query: &str, status: StatusCode, seconds: f64) {
        let labels = RequestLabels {
            query: query.to_owned(),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        self.seconds.observe(seconds);
    }

    /// A query begins; the guard counts its end.
    pub fn begin(&self) -> Running {
        self.running.inc();
        Running {
            metrics: self.clone(),
            ended: false,
        }
    }
}

/// A query that runs.
#[derive(Debug)]
pub struct Running {
    metrics: ServeMetrics,
    ended: bool,
}

impl Running {
    /// It came to an end of its own. Otherwise it was cancelled.
    pub fn end(mut self) {
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.metrics.running.dec();
        if !self.ended {
            self.metrics.cancelled.inc();
        }
    }
}
