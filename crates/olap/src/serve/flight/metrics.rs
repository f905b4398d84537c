//! Names and meanings of the metrics of Flight SQL. Labels come from closed sets: the calls, and the codes of gRPC.

use std::pin::Pin;
use std::task::{Context, Poll};

use arrow_flight::FlightData;
use futures::Stream;
use loginlake_service::metrics::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use tonic::{Code, Status};

use super::stream::Messages;
use crate::serve::metrics::ServeMetrics;

/// Labels of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    call: &'static str,
    code: &'static str,
}

/// The metrics of one server.
#[derive(Clone, Debug)]
pub(super) struct FlightMetrics {
    calls: Family<CallLabels, Counter>,
    /// Statements that are prepared.
    pub(super) prepared: Gauge,
}

impl FlightMetrics {
    pub(super) fn register(metrics: &Metrics) -> Self {
        let new = Self {
            calls: Family::default(),
            prepared: Gauge::default(),
        };
        metrics.register(|registry| {
            registry.register(
                "serve_flight_sql_calls",
                "Flight SQL calls that have ended, by call and gRPC code",
                new.calls.clone(),
            );
            registry.register(
                "serve_flight_sql_prepared_statements",
                "Prepared statements that are kept",
                new.prepared.clone(),
            );
        });
        new
    }

    /// A call has ended.
    pub(super) fn ended(&self, call: &'static str, code: Code) {
        let code = name_of(code);
        self.calls.get_or_create(&CallLabels { call, code }).inc();
    }

    /// Counts the result of a call, and hands it on.
    pub(super) fn counted<T>(&self, call: &'static str, result: Result<T, Status>) -> Result<T, Status> {
        self.ended(call, result.as_ref().err().map_or(Code::Ok, Status::code));
        result
    }
}

/// The name of a code, as gRPC writes it.
fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The messages of `do_get`, counted: their bytes as they leave, and how they ended. One that is dropped was cancelled.
pub(super) struct Counted {
    messages: Messages,
    metrics: FlightMetrics,
    serve: ServeMetrics,
    ended: bool,
}

impl Counted {
    pub(super) fn new(messages: Messages, metrics: FlightMetrics, serve: ServeMetrics) -> Self {
        Self {
            messages,
            metrics,
            serve,
            ended: false,
        }
    }

    fn end(&mut self, code: Code) {
        if !self.ended {
            self.ended = true;
            self.metrics.ended("do_get", code);
        }
    }
}

impl Stream for Counted {
    type Item = Result<FlightData, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.messages.as_mut().poll_next(context);
        match &next {
            Poll::Ready(Some(Ok(message))) => {
                let bytes = message.data_header.len() + message.data_body.len();
                self.serve.bytes.inc_by(bytes as u64);
            }
            Poll::Ready(Some(Err(status))) => self.end(status.code()),
            Poll::Ready(None) => self.end(Code::Ok),
            Poll::Pending => {}
        }
        next
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}
