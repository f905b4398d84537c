//! The producers. Delivery reports are served by the thread that sends, between its records.
//!
//! - [`PlainProducer`]: idempotent, `acks=all`, counts what was delivered; for the generator and for side outputs.
//! - [`TrackingProducer`]: idempotent; tells for each batch of records when all of them are delivered: at least once.
//! - [`TransactionalProducer`]: records and consumer offsets in one Kafka transaction: exactly once (KIP-98, KIP-447).

mod native;
mod plain;
mod push;
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
use rdkafka::message::Headers;
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};

use crate::client::LoggingContext;
use crate::oauth::TokenKeeper;
use crate::{KafkaError, KafkaSettings};
use native::{NativeHeaders, Topics, Wake};
use push::Push;

/// Tuning that measurements asked for. The buffer bounds the memory of everything that is not delivered yet. A batch waits
/// for more under load only, see `push`. Keys go to the partitions where Java's producers put them.
const TUNING: &[(&str, &str)] = &[
    ("compression.codec", "lz4"),
    ("linger.ms", "10"),
    ("partitioner", "murmur2_random"),
    ("batch.num.messages", "10000"),
    ("batch.size", "524288"),
    ("queue.buffering.max.kbytes", "8192"),
    ("queue.buffering.max.messages", "200000"),
    ("message.max.bytes", "4194304"),
    ("statistics.interval.ms", "5000"),
];

/// Records between two looks at delivery reports.
const SENDS_PER_SERVICE: u64 = 256;
/// How long delivery reports are waited for at a time.
const DRAIN_POLL: Duration = Duration::from_millis(1);

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
    pub headers: Option<HeaderList>,
}

/// Headers of a record, in order.
#[derive(Debug)]
pub struct HeaderList(NativeHeaders);

impl HeaderList {
    /// Room for `capacity` headers.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(NativeHeaders::with_capacity(capacity))
    }

    /// Adds one.
    #[must_use]
    pub fn with(mut self, key: &str, value: Option<&[u8]>) -> Self {
        self.0.add(key, value);
        self
    }

    fn pointer(&self) -> *mut rdkafka::bindings::rd_kafka_headers_t {
        self.0.pointer()
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
    /// Why records that are not to blame themselves did not arrive: the first since it was asked for.
    failure: Mutex<Option<KafkaError>>,
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
            failure: Mutex::new(None),
            refused: Mutex::new(Vec::new()),
            outstanding: (0..RING).map(|_| AtomicI64::new(0)).collect(),
        }
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.base.log(level, facility, message);
    }

    fn stats_raw(&self, json: &[u8]) {
        self.base.stats_raw(json);
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
                    } else {
                        let context = format!("cannot publish to {}", message.topic());
                        self.failure
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .get_or_insert_with(|| KafkaError::of(&context, error));
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
    // Before the client, which they belong to: fields are dropped in this order.
    topics: Topics,
    wake: Wake,
    push: Push,
    _tokens: Option<TokenKeeper>,
    producer: BaseProducer<Deliveries>,
    sends: AtomicU64,
}

impl Served {
    fn start(settings: &KafkaSettings, config: &ClientConfig) -> Result<Self, KafkaError> {
        let producer = BaseProducer::from_config_and_context(config, Deliveries::new())
            .map_err(|error| KafkaError::Configuration(error.to_string()))?;
        let client = producer.client().native_ptr();
        let tokens = TokenKeeper::start(client, settings, &producer.client().context().base.state)?;
        Ok(Self {
            topics: Topics::default(),
            wake: Wake::this_thread(client),
            push: Push::start(client)?,
            _tokens: tokens,
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

    /// Serves the delivery reports that are there; when there are none waits for some, a moment at most.
    fn wait(&self) {
        if !self.wake.is_this_thread() {
            return self.producer.poll(DRAIN_POLL);
        }
        let before = self.producer.in_flight_count();
        self.serve();
        if self.producer.in_flight_count() == before {
            std::thread::park_timeout(DRAIN_POLL);
        }
    }

    /// Waits until nothing is in the queue or under way. rdkafka's own waiting polls for 100 ms at a time and does not
    /// return before, whatever arrives.
    fn drain(&self, deadline: Instant) {
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.push.ask();
            self.wait();
        }
    }
}

/// Hands a record to librdkafka; waits while its queue is full.
fn send(
    producer: &Served,
    mut outgoing: Outgoing<'_>,
    batch: usize,
    give_up: impl Fn() -> bool,
) -> Result<(), KafkaError> {
    let client = producer.producer.client().native_ptr();
    loop {
        match producer.topics.produce(client, &mut outgoing, batch) {
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
            Err(error) => {
                if error.rdkafka_error_code() != Some(Code::QueueFull) || give_up() {
                    let context = format!("cannot publish to {}", outgoing.topic);
                    return Err(KafkaError::of_transaction(&context, &error));
                }
                producer.wait();
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

/// Why records did not arrive that were not refused themselves, since the last call.
fn take_failure(producer: &Served) -> Option<KafkaError> {
    producer
        .counts()
        .failure
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
}
