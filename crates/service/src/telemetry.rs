//! What this process tells others of its work: traces ([`crate::otel`]) and lineage ([`crate::lineage`]). Both are off by default, both are
//! begun once, before anything else runs, and get a moment at the end to send what waits.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;

use crate::config::Telemetry;
use crate::exit::ExitError;
use crate::lineage::{self, Dataset, Processing, Run};
use crate::otel::{self, Ids, Span, SpanKind, TraceContext, Value};

/// How long an end waits for a collector and a receiver, both together.
const END_LIMIT: Duration = Duration::from_secs(5);

/// Ends both when it is dropped.
#[derive(Debug)]
#[must_use = "what waits is sent when it is dropped"]
pub struct Guard(());

/// Begins what the settings ask for. `service` is the name of this process in traces. Not to be called within an async task.
///
/// # Errors
/// Settings that cannot be used (code 2); the system has no thread left.
pub fn start(settings: &Telemetry, service: &'static str) -> Result<Guard, ExitError> {
    if let Some(settings) = &settings.traces {
        otel::start(settings, service)?;
    }
    if let Some(settings) = &settings.lineage {
        lineage::start(settings)?;
    }
    Ok(Guard(()))
}

impl Drop for Guard {
    fn drop(&mut self) {
        send_waiting(END_LIMIT);
    }
}

/// Sends what waits, for at most this long, where the process is about to end without going back to its beginning.
pub fn send_waiting(limit: Duration) {
    let end = Instant::now() + limit;
    let left = || end.saturating_duration_since(Instant::now());
    if let Some(emitter) = lineage::emitter() {
        emitter.end(left() / 2);
    }
    if let Some(tracer) = otel::tracer() {
        tracer.end(left());
    }
}

/// A run of a command, told of as a span and as lineage, as far as each is on.
#[derive(Debug)]
pub struct Job {
    name: &'static str,
    began: SystemTime,
    context: Option<(TraceContext, Option<[u8; 8]>)>,
    run: Option<Run>,
    said: Vec<(&'static str, Value)>,
}

impl Job {
    /// It begins. `datasets` is asked only when lineage is on: what is read, what is written.
    pub fn begin(
        name: &'static str,
        processing: Processing,
        datasets: impl FnOnce() -> (Vec<Dataset>, Vec<Dataset>),
    ) -> Self {
        Self::begin_as(name, name, processing, datasets)
    }

    /// The same with a name of its own in the lineage: `olap.query.top_regions` for `olap.query`.
    pub fn begin_as(
        name: &'static str,
        in_lineage: &str,
        processing: Processing,
        datasets: impl FnOnce() -> (Vec<Dataset>, Vec<Dataset>),
    ) -> Self {
        let context = otel::tracer().map(|tracer| {
            let parent = tracer.parent();
            let context = Ids::new().below(parent.as_ref());
            (context, parent.map(|parent| parent.span_id()))
        });
        let run = lineage::emitter().map(|emitter| {
            let (inputs, outputs) = datasets();
            emitter.begin(in_lineage, processing, inputs, outputs)
        });
        Self {
            name,
            began: SystemTime::now(),
            context,
            run,
            said: Vec::new(),
        }
    }

    /// The run as lineage has it; none: lineage is off.
    pub fn run(&mut self) -> Option<&mut Run> {
        self.run.as_mut()
    }

    /// Says something of it in its span.
    pub fn say(&mut self, key: &'static str, value: impl Into<Value>) {
        if self.context.is_some() {
            self.said.push((key, value.into()));
        }
    }

    /// It is done, or it failed: with `why`, which must hold nothing personal.
    pub fn end(mut self, result: Result<(), &str>) {
        if let Some(run) = self.run.take() {
            match result {
                Ok(()) => run.complete(),
                Err(why) => run.fail(why),
            }
        }
        let (Some((context, parent)), Some(tracer)) = (self.context, otel::tracer()) else {
            return;
        };
        if !context.is_sampled() {
            return;
        }
        let mut span = Span::new(self.name, SpanKind::Internal, context, parent, self.began);
        for (key, value) in self.said {
            span = span.with(key, value);
        }
        tracer.finish(match result {
            Ok(()) => span,
            Err(why) => span.failed(why.to_owned()),
        });
    }
}

const SPANS: (&str, &str) = (
    "trace_spans",
    "Spans by what became of them: taken by the collector, not taken, no room in the queue",
);
const EVENTS: (&str, &str) = (
    "lineage_events",
    "Lineage events by what became of them: taken by the receiver, not taken, no room in the queue",
);

/// Counts of what was told; nothing where nothing is.
#[derive(Debug)]
pub(crate) struct Told;

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        if let Some(tracer) = otel::tracer() {
            counters(&mut encoder, SPANS, tracer.metrics())?;
        }
        if let Some(emitter) = lineage::emitter() {
            counters(&mut encoder, EVENTS, emitter.metrics())?;
        }
        Ok(())
    }
}

fn counters(
    encoder: &mut DescriptorEncoder,
    (name, help): (&str, &str),
    counts: [(&'static str, u64); 3],
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (outcome, count) in counts {
        let labels = [("outcome", outcome)];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
