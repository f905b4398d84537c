//! Exactly once: records and consumer offsets in one Kafka transaction (KIP-98, KIP-447).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::producer::{Producer, PurgeConfig};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::{Outgoing, RefusedRecord, Served, TUNING, send, take_failure, take_refused};
use crate::client::ClientState;
use crate::settings::for_producer;
use crate::{KafkaError, KafkaSettings};

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
            producer: Served::start(settings, &config)?,
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
        // Of another transaction.
        take_failure(&self.producer);
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
        send(&self.producer, outgoing, 0, give_up).map_err(|error| self.because(error))
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
        // Records and offsets travel at the same time.
        self.producer.push.ask();
        self.repeat(deadline, "cannot add the offsets to the transaction", |left| {
            self.producer
                .producer
                .send_offsets_to_transaction(&list, group, left)
        })
        .map_err(|error| self.because(error))
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
        .map_err(|error| self.because(error))
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

    /// A transaction that has failed says little of the reason; the records that did not arrive know it.
    fn because(&self, error: KafkaError) -> KafkaError {
        let KafkaError::AbortTransaction(text) = error else {
            return error;
        };
        self.producer.serve();
        match take_failure(&self.producer) {
            Some(denied @ KafkaError::NotAllowed(_)) => denied,
            Some(cause) => KafkaError::AbortTransaction(format!("{text}: {cause}")),
            None => KafkaError::AbortTransaction(text),
        }
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

    /// Why records of the open transaction were not delivered, if any was not.
    pub fn take_failure(&self) -> Option<KafkaError> {
        take_failure(&self.producer)
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
