//! One input record into one output record: enriched, a dead letter, or nothing when a filter holds it back.

use loginlake_events::filter::DropFilters;
use loginlake_events::{
    Contract, KEPT_OF_TOO_LARGE_BYTES, LoginEvent, MAX_PAYLOAD_BYTES, RejectReason, Rejection, SCHEMA_VERSION,
};
use loginlake_kafka::producer::{HeaderList, Outgoing, SOURCE_OFFSET, SOURCE_PARTITION};
use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::rdkafka::message::{BorrowedMessage, Headers};
use loginlake_service::otel::TRACEPARENT;
use sha2::{Digest, Sha256};

use super::traces::{RecordTrace, Traces};

/// The reason of a dead letter whose event is good but whose enriched record the output topic refuses.
pub const OUTPUT_REFUSED: &str = "OUTPUT_REFUSED";

/// Headers that say where a record comes from and what was done to it: those of the input do not survive.
pub(crate) const OWN_HEADERS: &[&str] = &[
    "source.topic",
    SOURCE_PARTITION,
    SOURCE_OFFSET,
    "schema.version",
    "content-type",
    "error.reason",
    "error.field",
    "error.message",
    "source.timestamp",
    "rule.version",
    "payload.length",
    "payload.sha256",
];
/// Header with the number of the attempt that made a dead letter, counted from 1.
pub(crate) const ATTEMPT: &str = "error.attempt";

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Republished, with this event time (epoch milliseconds).
    Processed {
        /// Event time.
        event_time_ms: i64,
    },
    /// A dead letter, for a reason of the contract.
    Rejected(RejectReason),
    /// A dead letter, because the output topic refuses the enriched record.
    OutputRefused,
    /// Good, and held back by a filter.
    Filtered,
}

/// Turns records into records. One for each worker: it keeps a buffer.
#[derive(Debug)]
pub struct Transform {
    contract: Contract,
    filters: DropFilters,
    output_topic: String,
    dead_letter_topic: String,
    buffer: Vec<u8>,
    /// None: traces are off.
    traces: Option<Traces>,
    /// What is told of the last record.
    trace: Option<RecordTrace>,
}

impl Transform {
    /// For the given rules and topics.
    pub fn new(
        contract: Contract,
        filters: DropFilters,
        output_topic: &str,
        dead_letter_topic: &str,
    ) -> Self {
        Self {
            contract,
            filters,
            output_topic: output_topic.to_owned(),
            dead_letter_topic: dead_letter_topic.to_owned(),
            buffer: Vec::with_capacity(1024),
            traces: Traces::new(),
            trace: None,
        }
    }

    /// What is told of the last record, if anything of it was published.
    pub(super) fn take_trace(&mut self) -> Option<RecordTrace> {
        self.trace.take()
    }

    /// Other filters from the next record on.
    pub fn set_filters(&mut self, filters: DropFilters) {
        self.filters = filters;
    }

    /// Transforms one record and hands the result to `publish`; `published` then sees the event, if it was republished.
    /// `json` is what the record holds for the contract: its payload, or what a decoder made of it, or why that failed.
    /// `refused`: what was made of this record was refused before, with that error.
    ///
    /// # Errors
    /// Those of `publish`.
    pub fn apply<E>(
        &mut self,
        message: &BorrowedMessage<'_>,
        json: Result<Option<&[u8]>, Rejection>,
        processed_at_ms: i64,
        refused: Option<Refused<'_>>,
        publish: impl FnOnce(Outgoing<'_>) -> Result<(), E>,
        published: impl FnOnce(&LoginEvent<'_>),
    ) -> Result<Outcome, E> {
        let kafka_ms = message.timestamp().to_millis();
        self.trace = None;
        let trace = self.traces.as_mut().and_then(|traces| traces.begin(message));
        match json.and_then(|json| self.contract.decode(json, kafka_ms)) {
            Ok(event) => {
                if let Some(refused) = refused {
                    let letter = DeadLetter {
                        reason: OUTPUT_REFUSED,
                        field: None,
                        message: refused.error,
                        is_cut: refused.again,
                    };
                    publish(letter.record(
                        message,
                        self.contract.rule_version(),
                        &self.dead_letter_topic,
                        trace.as_ref(),
                    ))?;
                    self.trace = trace.map(RecordTrace::of_dead_letter);
                    return Ok(Outcome::OutputRefused);
                }
                if self.filters.matches(&event) {
                    return Ok(Outcome::Filtered);
                }
                self.buffer.clear();
                event.write_json(processed_at_ms, &mut self.buffer);
                let headers = source_headers(message, 5, trace.as_ref())
                    .with("schema.version", Some(SCHEMA_VERSION.as_bytes()))
                    .with("content-type", Some(b"application/json"));
                let event_time_ms = event.event_time_ms();
                publish(Outgoing {
                    topic: &self.output_topic,
                    key: message.key(),
                    payload: Some(&self.buffer),
                    timestamp_ms: Some(event_time_ms),
                    partition: None,
                    headers: Some(headers),
                })?;
                published(&event);
                self.trace = trace;
                Ok(Outcome::Processed { event_time_ms })
            }
            Err(rejection) => {
                let letter = DeadLetter::of(&rejection, refused.is_some());
                publish(letter.record(
                    message,
                    self.contract.rule_version(),
                    &self.dead_letter_topic,
                    trace.as_ref(),
                ))?;
                self.trace = trace.map(RecordTrace::of_dead_letter);
                Ok(Outcome::Rejected(rejection.reason))
            }
        }
    }
}

/// What was made of a record was refused by the topic that it went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused<'a> {
    /// Why.
    pub error: &'a str,
    /// More than once: the dead letter, too.
    pub again: bool,
}

/// Why a record is a dead letter.
struct DeadLetter<'a> {
    reason: &'a str,
    field: Option<&'a str>,
    message: &'a str,
    /// The whole payload was refused by the dead letters' topic: only the beginning of it is kept.
    is_cut: bool,
}

impl<'a> DeadLetter<'a> {
    fn of(rejection: &'a Rejection, is_cut: bool) -> Self {
        Self {
            is_cut,
            reason: rejection.reason.as_str(),
            field: rejection.field.map(|field| field.as_str()),
            message: &rejection.message,
        }
    }

    /// The original key and bytes, untouched; the beginning, with length and hash, of a payload over 1 MiB or of one that the
    /// dead letters' topic does not take.
    fn record<'b>(
        &self,
        message: &'b BorrowedMessage<'_>,
        rule_version: &str,
        topic: &'b str,
        trace: Option<&RecordTrace>,
    ) -> Outgoing<'b> {
        let attempt = attempt_of(message) + 1;
        let mut headers = source_headers(message, 12, trace)
            .with("error.reason", Some(self.reason.as_bytes()))
            .with("error.field", self.field.map(str::as_bytes))
            .with("error.message", Some(self.message.as_bytes()))
            .with("rule.version", Some(rule_version.as_bytes()))
            .with(ATTEMPT, Some(attempt.to_string().as_bytes()));
        if let Some(ms) = message.timestamp().to_millis() {
            headers = headers.with("source.timestamp", Some(ms.to_string().as_bytes()));
        }
        let mut payload = message.payload();
        let too_large = self.is_cut || payload.is_some_and(|bytes| bytes.len() > MAX_PAYLOAD_BYTES);
        if let Some(bytes) = payload.filter(|_| too_large) {
            let digest: String = Sha256::digest(bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            headers = headers
                .with("payload.length", Some(bytes.len().to_string().as_bytes()))
                .with("payload.sha256", Some(digest.as_bytes()));
            payload = Some(&bytes[..bytes.len().min(KEPT_OF_TOO_LARGE_BYTES)]);
        }
        Outgoing {
            topic,
            key: message.key(),
            payload,
            timestamp_ms: None,
            partition: None,
            headers: Some(headers),
        }
    }
}

/// The input's own headers and where it comes from, with room for `more`. A record that is told of carries its trace on from here,
/// in place of the one that it had; every other one has the headers that it came with.
fn source_headers(message: &BorrowedMessage<'_>, more: usize, trace: Option<&RecordTrace>) -> HeaderList {
    let kept = message.headers();
    let mut headers = HeaderList::with_capacity(kept.map_or(0, Headers::count) + more);
    for header in kept.iter().flat_map(|kept| kept.iter()) {
        let is_replaced = trace.is_some() && header.key == TRACEPARENT;
        if !OWN_HEADERS.contains(&header.key) && header.key != ATTEMPT && !is_replaced {
            headers = headers.with(header.key, header.value);
        }
    }
    if let Some(trace) = trace {
        headers = headers.with(TRACEPARENT, Some(&trace.header()));
    }
    let mut digits = [0_u8; 20];
    headers
        .with("source.topic", Some(message.topic().as_bytes()))
        .with(
            SOURCE_PARTITION,
            Some(write_number(i64::from(message.partition()), &mut digits)),
        )
        .with(
            SOURCE_OFFSET,
            Some(write_number(message.offset(), &mut [0_u8; 20])),
        )
}

/// How often this record was tried before: dead letters that are replayed carry it.
fn attempt_of(message: &BorrowedMessage<'_>) -> u32 {
    let value = message
        .headers()
        .and_then(|headers| headers.iter().filter(|header| header.key == ATTEMPT).last())
        .and_then(|header| header.value);
    value
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok())
        .unwrap_or(0)
}

/// Decimal digits without an allocation; positions are never negative.
fn write_number(number: i64, buffer: &mut [u8; 20]) -> &[u8] {
    let mut rest = number.unsigned_abs();
    let mut start = buffer.len();
    loop {
        start -= 1;
        buffer[start] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            return &buffer[start..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_to_string_writes_them() {
        for number in [0, 7, 10, 12_345, i64::MAX] {
            assert_eq!(write_number(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
