//! Records into a Kafka topic, acknowledged by all replicas.
//!
//! The record's Kafka timestamp is the moment of production, as any client's is, and not the event's time: brokers
//! delete by it, and would delete history as soon as it arrives. [`RecordSink::flush`] returns without an error only
//! when every record was acknowledged.

use std::time::Duration;

use loginlake_kafka::producer::{Delivered, PlainProducer};
use loginlake_kafka::topics::{TopicSpec, Topics};
use loginlake_kafka::{KafkaError, KafkaSettings};

use crate::record::RecordBuffer;
use crate::sink::{RecordSink, SinkError};

/// How long the last records may take to be acknowledged.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// Produces records to one topic.
pub struct KafkaSink {
    producer: PlainProducer,
    topic: String,
    sent: u64,
}

impl KafkaSink {
    /// Connects and makes sure that the topic is there. With `create`, a missing one is made.
    ///
    /// # Errors
    /// No broker answers within ten seconds, it refuses this client, librdkafka refuses a property, or the topic is
    /// missing and was not to be made.
    pub fn connect(
        settings: &KafkaSettings,
        topic: &str,
        create: Option<TopicSpec>,
    ) -> Result<KafkaSink, KafkaError> {
        let topics = Topics::connect(settings)?;
        match create {
            Some(spec) => topics.ensure(&[spec])?,
            None => {
                topics.describe(topic)?;
            }
        }
        Ok(KafkaSink {
            producer: PlainProducer::new(settings)?,
            topic: topic.to_owned(),
            sent: 0,
        })
    }

    fn check(&self, outcome: Delivered) -> Result<(), SinkError> {
        if outcome.failed == 0 {
            return Ok(());
        }
        let cause = outcome
            .first_error
            .unwrap_or_else(|| "the brokers gave no reason".to_owned());
        Err(SinkError::NotDelivered {
            failed: outcome.failed,
            sent: self.sent,
            cause,
        })
    }
}

impl RecordSink for KafkaSink {
    fn send(&mut self, record: &RecordBuffer) -> Result<(), SinkError> {
        self.producer
            .send(&self.topic, None, Some(record.key()), record.payload(), None)?;
        self.sent += 1;
        Ok(())
    }

    /// The producer's own thread sends; what is left to do is to notice a loss before the end of an endless run.
    fn before_pause(&mut self) -> Result<(), SinkError> {
        if self.producer.in_flight() > 0 {
            return Ok(());
        }
        self.check(self.producer.flush(Duration::ZERO)?)
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.check(self.producer.flush(FLUSH_TIMEOUT)?)
    }
}
