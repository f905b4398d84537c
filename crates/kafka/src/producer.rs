//! The producers. Delivery reports are served by the thread that sends, between its records.
//!
//! - [`PlainProducer`]: idempotent, `acks=all`, counts what was delivered; for the generator and for side outputs.
//! - [`TrackingProducer`]: idempotent; tells for each batch of records when all of them are delivered: at least once.
//! - [`TransactionalProducer`]: records and consumer offsets in one Kafka transaction: exactly once (KIP-98, KIP-447).

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Headers, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{Message, Offset};

use crate::KafkaError;
use crate::client::{ClientState, LoggingContext};
use crate::settings::{KafkaSettings, for_producer};

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

/// What became of the records of a [`PlainProducer`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Acknowledged by all replicas.
    pub delivered: u64,
    /// Given up.
    pub failed: u64,
    /// Why the first one was given up.
    pub first_error: Option<String>,
}

/// Produces records, idempotently and acknowledged by all replicas; no transactions.
pub struct PlainProducer {
    producer: Served,
}

impl PlainProducer {
    /// Prepares it; does not connect yet.
    ///
    /// # Errors
    /// librdkafka refuses a property.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let tuning: Vec<_> = TUNING.iter().copied().chain([("linger.ms", "5")]).collect();
        let owned = [("acks", "all"), ("enable.idempotence", "true")];
        Ok(Self {
            producer: Served::start(&settings.client_config(&tuning, for_producer, &owned))?,
        })
    }

    /// Hands a record over; waits while the queue is full.
    ///
    /// # Errors
    /// [`KafkaError::RecordRefused`] for a record that is too large.
    pub fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        timestamp_ms: Option<i64>,
    ) -> Result<(), KafkaError> {
        send(
            &self.producer,
            Outgoing {
                topic,
                key,
                payload,
                timestamp_ms,
                partition,
                headers: None,
            },
            0,
            || false,
        )
    }

    /// Hands over a record that has headers; waits while the queue is full.
    ///
    /// # Errors
    /// [`KafkaError::RecordRefused`] for a record that is too large.
    pub fn send_record(&self, outgoing: Outgoing<'_>) -> Result<(), KafkaError> {
        send(&self.producer, outgoing, 0, || false)
    }

    /// Waits until everything is delivered or given up, and tells what became of it since the start.
    ///
    /// # Errors
    /// Not everything was settled within `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<Delivered, KafkaError> {
        self.producer.drain(Instant::now() + timeout);
        let result = self.producer.producer.flush(Duration::ZERO);
        let counts = self.producer.counts();
        let first_error = counts
            .first_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        result.map_err(|error| {
            let state = &counts.base.state;
            let detail = state
                .take_last()
                .or_else(|| first_error.clone())
                .unwrap_or_else(|| error.to_string());
            KafkaError::Retriable(format!(
                "{} records were not acknowledged within {} s: {detail}",
                self.producer.producer.in_flight_count(),
                timeout.as_secs()
            ))
        })?;
        Ok(Delivered {
            delivered: counts.delivered.load(Ordering::Relaxed),
            failed: counts.failed.load(Ordering::Acquire),
            first_error,
        })
    }

    /// Records handed over and not yet settled.
    pub fn in_flight(&self) -> u64 {
        self.producer.serve();
        u64::try_from(self.producer.producer.in_flight_count()).unwrap_or(0)
    }

    /// Records given up so far, and why the first one was.
    pub fn failed(&self) -> (u64, Option<String>) {
        self.producer.serve();
        let counts = self.producer.counts();
        let first = counts
            .first_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        (counts.failed.load(Ordering::Acquire), first)
    }
}

/// Produces batches, idempotently, and tells when each batch is delivered as a whole.
pub struct TrackingProducer {
    producer: Served,
}

impl TrackingProducer {
    /// Prepares it; does not connect yet.
    ///
    /// # Errors
    /// librdkafka refuses a property.
    pub fn new(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        // A record stays in the queue until it is delivered, however long the broker is away: the input is not lost.
        let owned = [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("message.timeout.ms", "0"),
        ];
        Ok(Self {
            producer: Served::start(&settings.client_config(TUNING, for_producer, &owned))?,
        })
    }

    /// How many batches may be under way.
    pub const MAX_BATCHES: usize = RING;

    /// Hands over a record of batch number `batch`. The caller keeps fewer than [`Self::MAX_BATCHES`] under way.
    ///
    /// # Errors
    /// [`KafkaError::RecordRefused`] for a record that is too large; [`KafkaError::Retriable`] when `give_up` said so.
    pub fn send(
        &self,
        outgoing: Outgoing<'_>,
        batch: usize,
        give_up: impl Fn() -> bool,
    ) -> Result<(), KafkaError> {
        let counts = self.producer.counts();
        counts.outstanding[batch % RING].fetch_add(1, Ordering::AcqRel);
        send(&self.producer, outgoing, batch, give_up).inspect_err(|_| {
            counts.outstanding[batch % RING].fetch_sub(1, Ordering::AcqRel);
        })
    }

    /// Counts anew, after everything was settled: refused records would keep their batches under way for ever.
    pub fn reset_batches(&self) {
        for batch in &self.producer.counts().outstanding {
            batch.store(0, Ordering::Release);
        }
    }

    /// Serves the delivery reports that are there; before [`Self::is_delivered`] is asked.
    pub fn serve(&self) {
        self.producer.serve();
    }

    /// Whether every record of the batch that was handed over is delivered.
    pub fn is_delivered(&self, batch: usize) -> bool {
        self.producer.counts().outstanding[batch % RING].load(Ordering::Acquire) == 0
    }

    /// The records that the broker refused for good since the last call: their batches never count as delivered.
    pub fn take_refused(&self) -> Vec<RefusedRecord> {
        take_refused(&self.producer)
    }

    /// Waits until everything is delivered.
    ///
    /// # Errors
    /// Not within `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.producer.drain(Instant::now() + timeout);
        self.producer
            .producer
            .flush(Duration::ZERO)
            .map_err(|error| KafkaError::of("cannot flush", &error))
    }

    /// Records handed over and not yet delivered.
    pub fn in_flight(&self) -> u64 {
        self.producer.serve();
        u64::try_from(self.producer.producer.in_flight_count()).unwrap_or(0)
    }

    /// What librdkafka complained about last.
    pub fn client_state(&self) -> &ClientState {
        &self.producer.counts().base.state
    }
}

/// Produces records and consumer offsets in transactions. Used by one thread at a time.
pub struct TransactionalProducer {
    producer: Served,
    transactional_id: String,
}

impl TransactionalProducer {
    /// Prepares a producer; [`Self::init`] connects it. `transaction_timeout` bounds how long an open transaction can
    /// hold back readers when this process dies.
    ///
    /// # Errors
    /// librdkafka refuses a property.
    pub fn new(
        settings: &KafkaSettings,
        transactional_id: &str,
        transaction_timeout: Duration,
    ) -> Result<Self, KafkaError> {
        let timeout_ms = transaction_timeout.as_millis().to_string();
        let owned = [
            ("acks", "all"),
            ("enable.idempotence", "true"),
            ("transactional.id", transactional_id),
            ("transaction.timeout.ms", timeout_ms.as_str()),
            ("message.timeout.ms", timeout_ms.as_str()),
        ];
        let config = settings.client_config(TUNING, for_producer, &owned);
        Ok(Self {
            producer: Served::start(&config)?,
            transactional_id: transactional_id.to_owned(),
        })
    }

    /// Takes over the transactional id: fences whoever had it, and aborts what they left open. Repeat while retriable.
    ///
    /// # Errors
    /// Sorted by what to do next.
    pub fn init(&self, timeout: Duration) -> Result<(), KafkaError> {
        self.producer
            .producer
            .init_transactions(timeout)
            .map_err(|error| {
                KafkaError::of_transaction(&format!("cannot start as {}", self.transactional_id), &error)
            })
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// Sorted by what to do next.
    pub fn begin(&self) -> Result<(), KafkaError> {
        self.producer
            .producer
            .begin_transaction()
            .map_err(|error| KafkaError::of_transaction("cannot begin a transaction", &error))
    }

    /// Hands a record to the open transaction; waits while the queue is full.
    ///
    /// # Errors
    /// Sorted by what to do next.
    pub fn send(&self, outgoing: Outgoing<'_>, give_up: impl Fn() -> bool) -> Result<(), KafkaError> {
        send(&self.producer, outgoing, 0, give_up)
    }

    /// Puts the consumer's next offsets into the transaction. `group` was taken before the first record was polled.
    ///
    /// # Errors
    /// Sorted by what to do next.
    pub fn send_offsets(
        &self,
        topic: &str,
        next_offsets: &BTreeMap<i32, i64>,
        group: &ConsumerGroupMetadata,
        timeout: Duration,
    ) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next_offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(|error| KafkaError::Failed(error.to_string()))?;
        }
        let deadline = Instant::now() + timeout;
        self.repeat(deadline, "cannot add the offsets to the transaction", |left| {
            self.producer
                .producer
                .send_offsets_to_transaction(&list, group, left)
        })
    }

    /// Delivers everything and commits. [`KafkaError::Retriable`] after `timeout` means that the outcome is unknown.
    ///
    /// # Errors
    /// Sorted by what to do next.
    pub fn commit(&self, timeout: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + timeout;
        self.producer.drain(deadline);
        self.repeat(deadline, "cannot commit the transaction", |left| {
            self.producer.producer.commit_transaction(left)
        })
    }

    /// Aborts: nothing of the transaction is ever seen by a read_committed reader.
    ///
    /// # Errors
    /// Sorted by what to do next.
    pub fn abort(&self, timeout: Duration) -> Result<(), KafkaError> {
        let deadline = Instant::now() + timeout;
        // librdkafka aborts only when nothing is in its queue or under way, and does not serve the reports of that itself.
        self.producer.producer.purge(PurgeConfig::default().queue());
        self.producer.drain(deadline);
        self.repeat(deadline, "cannot abort the transaction", |left| {
            self.producer.producer.abort_transaction(left)
        })
    }

    /// Retriable errors mean the same call again, until the deadline.
    fn repeat(
        &self,
        deadline: Instant,
        context: &str,
        call: impl Fn(Duration) -> Result<(), ClientError>,
    ) -> Result<(), KafkaError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match call(left).map_err(|error| KafkaError::of_transaction(context, &error)) {
                Err(error) if error.is_retriable() && Instant::now() < deadline => {
                    tracing::debug!(%error, "repeating");
                }
                other => return other,
            }
        }
    }

    /// The transactional id.
    pub fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    /// The records that the broker refused for good since the last call.
    pub fn take_refused(&self) -> Vec<RefusedRecord> {
        take_refused(&self.producer)
    }

    /// Records handed over and not yet delivered.
    pub fn in_flight(&self) -> u64 {
        self.producer.serve();
        u64::try_from(self.producer.producer.in_flight_count()).unwrap_or(0)
    }

    /// What librdkafka complained about last.
    pub fn client_state(&self) -> &ClientState {
        &self.producer.counts().base.state
    }
}
