//! Records without a source position: of the generator, of insights. Idempotent, acknowledged by all replicas, counted.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::producer::Producer;

use super::{Outgoing, Served, TUNING, send};
use crate::settings::for_producer;
use crate::{KafkaError, KafkaSettings};

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
            producer: Served::start(settings, &settings.client_config(&tuning, for_producer, &owned))?,
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
