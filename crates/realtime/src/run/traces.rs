//! Traces of records: which record is told of, the header that carries its trace on, and the span of it once what was published
//! counts. A record that is not told of is passed on as without traces; with traces off nothing here is called.
//!
//! A span is told of after the commit that makes its record visible: what was aborted and read again has one span, that of the
//! attempt that counted. A record that a crash of at least once repeats has one for each time that it was published.

use std::time::SystemTime;

use loginlake_kafka::rdkafka::Message as _;
use loginlake_kafka::rdkafka::message::{BorrowedMessage, Headers as _};
use loginlake_service::otel::{self, Ids, Span, SpanKind, TraceContext, Tracer};

/// Spans of one transaction or batch; the records beyond are published with their headers all the same.
const MAX_OPEN: usize = 2_048;

/// Chooses the records that are told of. One for each worker.
#[derive(Debug)]
pub struct Traces {
    tracer: &'static Tracer,
    ids: Ids,
}

/// A record that is told of.
#[derive(Clone, Copy, Debug)]
pub struct RecordTrace {
    context: TraceContext,
    /// The span of the record that was read.
    parent: Option<[u8; 8]>,
    began: SystemTime,
    kafka_partition: i32,
    kafka_offset: i64,
    is_dead_letter: bool,
}

/// Records of a transaction or batch that are told of once it is committed.
#[derive(Clone, Debug, Default)]
pub struct OpenTraces {
    records: Vec<RecordTrace>,
    further: u64,
}

impl Traces {
    /// None: traces are off.
    pub fn new() -> Option<Self> {
        otel::tracer().map(|tracer| Self {
            tracer,
            ids: Ids::new(),
        })
    }

    /// What is told of this record; none: nothing.
    pub fn begin(&mut self, message: &BorrowedMessage<'_>) -> Option<RecordTrace> {
        let headers = message.headers();
        let headers = headers.iter().flat_map(|headers| headers.iter());
        let parent = TraceContext::of_headers(headers.map(|header| (header.key, header.value)));
        let context = self.tracer.sample(&mut self.ids, parent.as_ref())?;
        Some(RecordTrace {
            context,
            parent: parent.map(|parent| parent.span_id()),
            began: SystemTime::now(),
            kafka_partition: message.partition(),
            kafka_offset: message.offset(),
            is_dead_letter: false,
        })
    }
}

impl RecordTrace {
    /// The header of what becomes of the record, in place of the one that it had.
    pub fn header(&self) -> [u8; 55] {
        self.context.header()
    }

    /// It became a dead letter.
    pub fn of_dead_letter(self) -> Self {
        Self {
            is_dead_letter: true,
            ..self
        }
    }
}

impl OpenTraces {
    /// Takes note of a record that was handed over.
    pub fn push(&mut self, trace: RecordTrace) {
        if self.records.len() < MAX_OPEN {
            self.records.push(trace);
        } else {
            self.further += 1;
        }
    }

    /// They count now.
    pub fn tell(&self, output_topic: &str, dead_letter_topic: &str) {
        if self.records.is_empty() {
            return;
        }
        let Some(tracer) = otel::tracer() else {
            return;
        };
        tracer.drop_many(self.further);
        for record in &self.records {
            let (topic, outcome) = if record.is_dead_letter {
                (dead_letter_topic, "dead_letter")
            } else {
                (output_topic, "processed")
            };
            let name = format!("send {topic}");
            let span = Span::new(
                name,
                SpanKind::Producer,
                record.context,
                record.parent,
                record.began,
            )
            .with("messaging.system", "kafka")
            .with("messaging.operation.name", "send")
            .with("messaging.operation.type", "send")
            .with("messaging.destination.name", topic.to_owned())
            .with("loginlake.outcome", outcome)
            .with("loginlake.source.partition", i64::from(record.kafka_partition))
            .with("loginlake.source.offset", record.kafka_offset);
            tracer.finish(span);
        }
    }
}
