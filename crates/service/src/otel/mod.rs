//! Traces: finished spans to an OpenTelemetry collector, off unless it is told where that is.
//!
//! - [`context`]: which trace a record or a process belongs to, as W3C's `traceparent` says it;
//! - [`span`]: what is told of a step;
//! - `export`: the bounded way out.
//!
//! A span is made when its step is done, so nothing is held open, and nothing is told of what was given up. A collector that is away
//! costs spans and never time: no caller waits, and what is lost is counted ([`Tracer::metrics`]).

pub mod context;
mod export;
pub mod span;

use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

pub use context::{Ids, TRACEPARENT, TraceContext};
pub use span::{Span, SpanKind, Value};

use self::export::Queue;
use crate::config::TraceSettings;
use crate::exit::ExitError;

/// Most links of one span, OpenTelemetry's default.
pub const MAX_LINKS: usize = 128;

/// The one of this process.
static TRACER: OnceLock<Tracer> = OnceLock::new();

/// Takes the spans of this process.
#[derive(Debug)]
pub struct Tracer {
    queue: Queue,
    follows_parent: bool,
    ratio: f64,
    parent: Option<TraceContext>,
}

/// Begins tracing for this process. `service` is its name, unless `OTEL_SERVICE_NAME` says another. Not to be called within an async task.
///
/// # Errors
/// Code 2: settings that cannot be used.
pub(crate) fn start(settings: &TraceSettings, service: &'static str) -> Result<(), ExitError> {
    let tracer = Tracer {
        queue: Queue::start(settings, service)?,
        follows_parent: settings.follows_parent,
        ratio: settings.ratio,
        parent: settings
            .parent
            .as_deref()
            .and_then(|text| TraceContext::parse(text.as_bytes())),
    };
    TRACER
        .set(tracer)
        .map_err(|_| ExitError::failed("tracing was begun twice"))
}

/// The tracer of this process; none: traces are off.
pub fn tracer() -> Option<&'static Tracer> {
    TRACER.get()
}

impl Tracer {
    /// The trace of a record: one below its own trace where it has one that is recorded, a new one for a share of the others, or
    /// none.
    pub fn sample(&self, ids: &mut Ids, parent: Option<&TraceContext>) -> Option<TraceContext> {
        let is_sampled = match parent {
            Some(parent) if self.follows_parent => parent.is_sampled(),
            _ => ids.chance(self.ratio),
        };
        is_sampled.then(|| {
            let mut context = ids.below(parent);
            context.record();
            context
        })
    }

    /// The trace that started this process.
    pub fn parent(&self) -> Option<TraceContext> {
        self.parent
    }

    /// Takes a finished span. Never waits.
    pub fn finish(&self, span: Span) {
        self.queue.push(span.into_data());
    }

    /// Counts spans that were made and are not told of.
    pub fn drop_many(&self, spans: u64) {
        self.queue.drop_many(spans);
    }

    /// Spans that the collector took, that it did not take, and that found no room.
    pub fn metrics(&self) -> [(&'static str, u64); 3] {
        let counts = &self.queue.counts;
        [
            ("exported", counts.exported.load(Ordering::Relaxed)),
            ("failed", counts.failed.load(Ordering::Relaxed)),
            ("dropped", counts.dropped.load(Ordering::Relaxed)),
        ]
    }

    /// Sends what waits, for at most this long.
    pub(crate) fn end(&self, limit: Duration) {
        self.queue.end(limit);
    }
}
