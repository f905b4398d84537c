//! What is told of ingestion: a span for each commit, with links to the traces of records in it, and the run of the process as lineage.
//! Both are off by default; then nothing here looks at a record.
//!
//! A record's trace and a commit's are not one below the other, because a commit is of many records: OpenTelemetry has links for that. Their
//! number is bounded, the rest is counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::rdkafka::message::{BorrowedMessage, Headers as _};
use loginlake_lake::ingest::BatchRanges;
use loginlake_lake::{Lake, TableName};
use loginlake_service::exit::ExitError;
use loginlake_service::lineage::{self, Dataset, Processing, Run, Written};
use loginlake_service::otel::{self, Ids, MAX_LINKS, Span, SpanKind, TraceContext};

use super::IngestOptions;
use crate::lineage::table;

/// How often a running ingester says what it did so far.
const NEWS_EVERY: Duration = Duration::from_secs(60);

/// Traces of the records that are buffered.
#[derive(Debug)]
pub(super) struct Links {
    is_on: bool,
    open: BatchTraces,
}

/// Traces of the records of a batch.
#[derive(Debug, Default)]
pub(super) struct BatchTraces {
    links: Vec<(i32, i64, TraceContext)>,
    further: u64,
}

impl Links {
    pub fn new() -> Self {
        Self {
            is_on: otel::tracer().is_some(),
            open: BatchTraces::default(),
        }
    }

    /// Takes note of the trace of a record that is buffered, if it has one that is recorded.
    pub fn note(&mut self, message: &BorrowedMessage<'_>) {
        if !self.is_on {
            return;
        }
        let Some(headers) = message.headers() else {
            return;
        };
        let headers = headers.iter().map(|header| (header.key, header.value));
        if let Some(context) = TraceContext::of_headers(headers)
            && context.is_sampled()
        {
            if self.open.links.len() < MAX_LINKS {
                self.open
                    .links
                    .push((message.partition(), message.offset(), context));
            } else {
                self.open.further += 1;
            }
        }
    }

    /// Those of a batch that is closed. What was noted of partitions that have left is not among them.
    pub fn take(&mut self, ranges: &BatchRanges) -> BatchTraces {
        let mut taken = std::mem::take(&mut self.open);
        taken.links.retain(|(partition, offset, _)| {
            ranges
                .get(partition)
                .is_some_and(|range| (range.from..range.to).contains(offset))
        });
        taken
    }
}

/// A batch whose outcome is known.
pub(super) struct Outcome<'a> {
    /// When it was closed.
    pub closed: Instant,
    pub traces: &'a BatchTraces,
    pub reason: &'static str,
    pub logins: u64,
    pub rejected: u64,
    /// Version of `logins`, files and bytes; none: another process was first.
    pub committed: Option<(i64, usize, u64)>,
    /// The next offset of each Kafka partition of it.
    pub offsets: &'a BTreeMap<i32, i64>,
}

/// The run of this process. Shared by its threads.
#[derive(Clone, Debug)]
pub(super) struct Told(Arc<Mutex<Option<Lineage>>>);

#[derive(Debug)]
struct Lineage {
    run: Run,
    lake: Lake,
    topic: Dataset,
    version: Option<i64>,
    logins: Written,
    rejected: Written,
    offsets: BTreeMap<i32, i64>,
    said: Instant,
}

impl Told {
    /// It begins.
    pub fn begin(options: &IngestOptions) -> Self {
        let lineage = lineage::emitter().map(|emitter| {
            let lake = options.lake.clone();
            let topic = Dataset::topic(&options.kafka.brokers, &options.topic);
            let outputs = vec![table(&lake, TableName::Logins), table(&lake, TableName::Rejected)];
            Lineage {
                run: emitter.begin("olap.ingest", Processing::Streaming, vec![topic.clone()], outputs),
                lake,
                topic,
                version: None,
                logins: Written {
                    rows: 0,
                    bytes: Some(0),
                    files: Some(0),
                },
                rejected: Written::default(),
                offsets: BTreeMap::new(),
                said: Instant::now(),
            }
        });
        Self(Arc::new(Mutex::new(lineage)))
    }

    /// A batch is in the tables, or lost its race.
    pub fn settled(&self, outcome: &Outcome<'_>) {
        trace(outcome);
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(lineage), Some((version, files, bytes))) = (told.as_mut(), outcome.committed) {
            lineage.count(outcome, version, files, bytes);
            if lineage.said.elapsed() >= NEWS_EVERY {
                lineage.say();
                lineage.run.running();
                lineage.said = Instant::now();
            }
        }
    }

    /// The process ends.
    pub fn end<T>(&self, result: &Result<T, ExitError>) {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut lineage) = told {
            lineage.say();
            match result {
                Ok(_) => lineage.run.complete(),
                Err(error) => lineage.run.fail(&error.message),
            }
        }
    }
}

impl Lineage {
    fn count(&mut self, outcome: &Outcome<'_>, version: i64, files: usize, bytes: u64) {
        self.version = Some(version);
        self.logins.rows += outcome.logins;
        self.logins.files = self.logins.files.map(|known| known + files as u64);
        self.logins.bytes = self.logins.bytes.map(|known| known + bytes);
        self.rejected.rows += outcome.rejected;
        self.offsets.extend(outcome.offsets);
    }

    /// Everything since the start.
    fn say(&mut self) {
        let offsets = self.offsets.iter();
        let topic = self
            .topic
            .clone()
            .with_offsets(offsets.map(|(partition, offset)| (*partition, *offset)));
        let mut logins = table(&self.lake, TableName::Logins).with_written(self.logins);
        if let Some(version) = self.version {
            logins = logins.with_version(version);
        }
        let rejected = table(&self.lake, TableName::Rejected).with_written(self.rejected);
        self.run.found(vec![topic], vec![logins, rejected]);
    }
}

/// The span of a commit: from the end of its batch to its outcome. It has a trace of its own.
fn trace(outcome: &Outcome<'_>) {
    let Some(tracer) = otel::tracer() else {
        return;
    };
    let now = SystemTime::now();
    let began = now.checked_sub(outcome.closed.elapsed()).unwrap_or(now);
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let links = outcome.traces.links.iter().map(|(_, _, context)| *context);
    let span = Span::new(
        "commit logins",
        SpanKind::Consumer,
        Ids::new().below(None),
        None,
        began,
    )
    .with_links(links, outcome.traces.further)
    .with("messaging.system", "kafka")
    .with("messaging.operation.name", "commit")
    .with("messaging.operation.type", "process")
    .with(
        "messaging.batch.message_count",
        number(outcome.logins.saturating_add(outcome.rejected)),
    )
    .with("loginlake.batch.closed_by", outcome.reason)
    .with("loginlake.logins", number(outcome.logins))
    .with("loginlake.rejected", number(outcome.rejected));
    tracer.finish(match outcome.committed {
        Some((version, files, bytes)) => span
            .with("loginlake.delta.version", version)
            .with("loginlake.files", number(files as u64))
            .with("loginlake.bytes", number(bytes)),
        None => span.failed("fenced: another process was first"),
    });
}
