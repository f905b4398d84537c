//! The producers. Delivery reports are served by the thread that sends, between its records.
//!
//! - [`PlainProducer`]: idempotent, `acks=all`, counts what was delivered; for the generator and for side outputs.
//! - [`TrackingProducer`]: idempotent; tells for each batch of records when all of them are delivered: at least once.
//! - [`TransactionalProducer`]: records and consumer offsets in one Kafka transaction: exactly once (KIP-98, KIP-447).

mod plain;
mod tracking;
mod transactional;

pub use plain::{Delivered, PlainProducer};
pub use tracking::TrackingProducer;
pub use transactional::TransactionalProducer;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::Message;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use crate::KafkaError;
use crate::client::LoggingContext;

/// Tuning that measurements asked for. The buffer bounds the memory of everything that is not delivered yet.
const TUNING: &[(&str, &str)] = &[
    ("compression.codec", "lz4"),
    ("linger.ms", "0"),
    ("batch.num.messages", "10000"),
    ("batch.size", "524288"),
    ("queue.buffering.max.kbytes", "24576"),
    ("queue.buffering.max.messages", "200000"),
    ("message.max.bytes", "4194304"),
];

/// Records between two looks at delivery reports.
const SENDS_PER_SERVICE: u64 = 256;
/// How long delivery reports are waited for at a time.
const DRAIN_POLL: Duration = Duration::from_millis(1);
/// How long a full local queue is waited for at a time.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(1);

/// A record to be produced.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Key, kept as it came.
    pub key: Option<&'a [u8]>,
    /// Value; `None` is a tombstone.
    pub payload: Option<&'a [u8]>,
    /// Epoch milliseconds; `None`: now.
    pub timestamp_ms: Option<i64>,
    /// Partition; `None`: by the key.
    pub partition: Option<i32>,
    /// Headers.
    pub headers: Option<OwnedHeaders>,
}

/// Builds headers in order.
#[derive(Debug)]
pub struct HeaderList(OwnedHeaders);

impl HeaderList {
    /// Room for `capacity` headers.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(OwnedHeaders::new_with_capacity(capacity))
    }

    /// Adds one.
    #[must_use]
    pub fn with(self, key: &str, value: Option<&[u8]>) -> Self {
        Self(self.0.insert(Header { key, value }))
    }

    /// The headers for [`Outgoing`].
    pub fn finish(self) -> OwnedHeaders {
        self.0
    }
}

/// Header with the partition that a record came from.
pub const SOURCE_PARTITION: &str = "source.partition";
/// Header with the offset that a record came from.
pub const SOURCE_OFFSET: &str = "source.offset";

/// A record that the broker refused for good: where it came from, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Input partition.
    pub kafka_partition: i32,
    /// Input offset.
    pub kafka_offset: i64,
    /// Why.
    pub error: String,
}

impl RefusedRecord {
    fn of(message: &rdkafka::message::BorrowedMessage<'_>, error: &str) -> Option<Self> {
        let headers = message.headers()?;
        let number = |key: &str| -> Option<i64> {
            let value = headers.iter().filter(|header| header.key == key).last()?.value?;
            std::str::from_utf8(value).ok()?.parse().ok()
        };
        Some(Self {
            kafka_partition: i32::try_from(number(SOURCE_PARTITION)?).ok()?,
            kafka_offset: number(SOURCE_OFFSET)?,
            error: error.to_owned(),
        })
    }
}

/// Number of batches that can be under way at once in a [`TrackingProducer`].
const RING: usize = 1024;

/// Counts deliveries; shared with the thread that serves them.
struct Deliveries {
    base: LoggingContext,
    delivered: AtomicU64,
    failed: AtomicU64,
    first_error: Mutex<Option<String>>,
    /// Source positions of records that the broker refused for good, as their headers say it.
    refused: Mutex<Vec<RefusedRecord>>,
    /// Records not yet delivered, by batch number modulo [`RING`].
    outstanding: Vec<AtomicI64>,
}

impl Deliveries {
    fn new() -> Self {
        Self {
            base: LoggingContext::default(),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            first_error: Mutex::new(None),
            refused: Mutex::new(Vec::new()),
            outstanding: (0..RING).map(|_| AtomicI64::new(0)).collect(),
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.base.log(level, facility, message);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.base.error(error, reason);
    }
}

impl ProducerContext for Deliveries {
    /// The batch that the record belongs to.
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: usize) {
        match result {
            Ok(_) => {
                self.delivered.fetch_add(1, Ordering::Relaxed);
                self.outstanding[batch % RING].fetch_sub(1, Ordering::AcqRel);
            }
            // What was purged by an abort was never meant to arrive.
            Err((error, message)) => {
                let code = error.rdkafka_error_code();
                if !matches!(code, Some(Code::PurgeQueue | Code::PurgeInflight)) {
                    let text = format!("{}: {error}", message.topic());
                    if matches!(
                        code,
                        Some(Code::MessageSizeTooLarge | Code::InvalidRecord | Code::InvalidTimestamp)
                    ) && let Some(record) = RefusedRecord::of(message, &text)
                    {
                        self.refused
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(record);
                    }
                    self.first_error
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .get_or_insert(text);
                }
                self.failed.fetch_add(1, Ordering::AcqRel);
            }
        }
    }
}

/// A producer whose delivery reports are served by the thread that sends: a thread of their own would race with `flush`,
/// which then sleeps for 100 ms at a time, on every commit.
struct Served {
    producer: BaseProducer<Deliveries>,
    sends: AtomicU64,
}

impl Served {
    fn start(config: &ClientConfig) -> Result<Self, KafkaError> {
        let producer = BaseProducer::from_config_and_context(config, Deliveries::new())
            .map_err(|error| KafkaError::Configuration(error.to_string()))?;
        Ok(Self {
            producer,
            sends: AtomicU64::new(0),
        })
    }

    fn counts(&self) -> &Deliveries {
        self.producer.client().context()
    }

    /// Serves the delivery reports that are there.
    fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until nothing is in the queue or under way. rdkafka's own waiting polls for 100 ms at a time and does not
    /// return before, whatever arrives.
    fn drain(&self, deadline: Instant) {
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(DRAIN_POLL);
        }
    }
}

/// Hands a record to librdkafka; waits while its queue is full.
fn send(
    producer: &Served,
    outgoing: Outgoing<'_>,
    batch: usize,
    give_up: impl Fn() -> bool,
) -> Result<(), KafkaError> {
    let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(outgoing.topic, batch);
    record.key = outgoing.key;
    record.payload = outgoing.payload;
    record.timestamp = outgoing.timestamp_ms;
    record.partition = outgoing.partition;
    record.headers = outgoing.headers;
    loop {
        match producer.producer.send(record) {
            Ok(()) => {
                if producer
                    .sends
                    .fetch_add(1, Ordering::Relaxed)
                    .is_multiple_of(SENDS_PER_SERVICE)
                {
                    producer.serve();
                }
                return Ok(());
            }
            Err((error, back)) => {
                if error.rdkafka_error_code() != Some(Code::QueueFull) || give_up() {
                    return Err(KafkaError::of_transaction("cannot produce", &error));
                }
                record = back;
                producer.producer.poll(QUEUE_FULL_WAIT);
            }
        }
    }
}

fn take_refused(producer: &Served) -> Vec<RefusedRecord> {
    std::mem::take(
        &mut producer
            .counts()
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner),
    )
}
