//! At least once: tells for each batch of records when all of them are delivered, so that offsets can follow.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::producer::Producer;

use super::{Outgoing, RING, RefusedRecord, Served, TUNING, send, take_failure, take_refused};
use crate::client::ClientState;
use crate::settings::for_producer;
use crate::{KafkaError, KafkaSettings};

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
            producer: Served::start(settings, &settings.client_config(TUNING, for_producer, &owned))?,
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

    /// There is nothing more to hand over for now: what is held back for larger batches is sent.
    pub fn push(&self) {
        self.producer.push.ask();
    }

    /// Whether every record of the batch that was handed over is delivered.
    pub fn is_delivered(&self, batch: usize) -> bool {
        self.producer.counts().outstanding[batch % RING].load(Ordering::Acquire) == 0
    }

    /// The records that the broker refused for good since the last call: their batches never count as delivered.
    pub fn take_refused(&self) -> Vec<RefusedRecord> {
        take_refused(&self.producer)
    }

    /// Why records did not arrive since the last call that were not refused themselves: their batches never count as
    /// delivered either, so what was not committed has to be read again.
    pub fn take_failure(&self) -> Option<KafkaError> {
        take_failure(&self.producer).map(|error| match error {
            denied @ KafkaError::NotAllowed(_) => denied,
            other => KafkaError::Retriable(other.to_string()),
        })
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
