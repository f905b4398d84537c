//! A producer with a thread of its own for delivery reports. It waits while its queue is full, and a record that is given
//! up is an error at the next [`Sender::flush`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use crate::config;

/// How long everything in the queue may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(60);
/// How long a full queue is waited for at a time.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(1);

/// Counts the records that were given up.
#[derive(Default)]
pub struct Reports {
    failed: AtomicU64,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_err() {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Sends records to one topic.
pub struct Sender {
    producer: ThreadedProducer<Reports>,
    topic: String,
}

impl Sender {
    /// Prepares it. With `transactional_id` it takes that over, and records belong into transactions.
    ///
    /// # Errors
    /// No coordinator answers.
    pub fn start(brokers: &str, topic: &str, transactional_id: Option<&str>) -> Result<Sender> {
        Self::with(
            &config::producer(brokers, transactional_id),
            topic,
            transactional_id,
        )
    }

    /// Prepares one that sends each record at once, instead of waiting for more.
    ///
    /// # Errors
    /// As [`Sender::start`].
    pub fn without_linger(brokers: &str, topic: &str) -> Result<Sender> {
        Self::with(config::producer(brokers, None).set("linger.ms", "0"), topic, None)
    }

    fn with(config: &ClientConfig, topic: &str, transactional_id: Option<&str>) -> Result<Sender> {
        let producer = ThreadedProducer::from_config_and_context(config, Reports::default())?;
        if transactional_id.is_some() {
            producer
                .init_transactions(FLUSH_LIMIT)
                .context("cannot take the transactional id over")?;
        }
        Ok(Sender {
            producer,
            topic: topic.to_owned(),
        })
    }

    /// Hands a record over, partitioned by its key; waits while the queue is full. Without `timestamp_ms` its time is now.
    ///
    /// # Errors
    /// librdkafka refuses the record.
    pub fn send(
        &self,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        timestamp_ms: Option<i64>,
        headers: Option<OwnedHeaders>,
    ) -> Result<()> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&self.topic);
        record.headers = headers;
        record.key = key;
        record.payload = payload;
        record.timestamp = timestamp_ms;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((error, back)) if error.rdkafka_error_code() == Some(Code::QueueFull) => {
                    record = back;
                    std::thread::park_timeout(QUEUE_FULL_WAIT);
                }
                Err((error, _)) => return Err(error).context("cannot produce"),
            }
        }
    }

    /// Waits until everything is delivered.
    ///
    /// # Errors
    /// It takes too long, or a record was given up.
    pub fn flush(&self) -> Result<()> {
        self.producer
            .flush(FLUSH_LIMIT)
            .context("records were not acknowledged")?;
        let failed = self.producer.client().context().failed.load(Ordering::Relaxed);
        ensure!(failed == 0, "{failed} records were given up");
        Ok(())
    }

    /// The producer, for its transactional calls.
    pub fn producer(&self) -> &ThreadedProducer<Reports> {
        &self.producer
    }
}
