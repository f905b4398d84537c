//! Records that OpenSearch cannot take, on a topic of their own. It is not the topic of rejected input: what lies there can be
//! put back to the input topic, and these are processed already.

use std::time::Duration;

use loginlake_kafka::producer::{HeaderList, Outgoing, PlainProducer, SOURCE_OFFSET, SOURCE_PARTITION};
use loginlake_kafka::{KafkaError, KafkaSettings};

use super::batch::Letter;
use super::metrics::IndexMetrics;

/// How long the acknowledgement of letters is waited for at a time.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes letters.
pub(super) struct Letters {
    producer: PlainProducer,
    topic: String,
}

impl Letters {
    /// Does not connect yet.
    ///
    /// # Errors
    /// librdkafka refuses a property.
    pub fn new(settings: &KafkaSettings, topic: &str) -> Result<Self, KafkaError> {
        Ok(Self {
            producer: PlainProducer::new(settings)?,
            topic: topic.to_owned(),
        })
    }

    /// Publishes all of them, and returns when they are acknowledged. After an error any of them may be there already: a letter
    /// may come twice.
    ///
    /// # Errors
    /// Not all of them are acknowledged.
    pub fn publish(&self, letters: &[Letter], metrics: &IndexMetrics) -> Result<(), KafkaError> {
        let (failed_before, _) = self.producer.failed();
        for letter in letters {
            let mut headers = HeaderList::with_capacity(6)
                .with("error.reason", Some(letter.reason.as_str().as_bytes()))
                .with("error.field", letter.field.as_deref().map(str::as_bytes));
            if let Some(source) = &letter.source {
                headers = headers
                    .with("source.topic", Some(source.topic.as_bytes()))
                    .with(
                        SOURCE_PARTITION,
                        Some(source.kafka_partition.to_string().as_bytes()),
                    )
                    .with(SOURCE_OFFSET, Some(source.kafka_offset.to_string().as_bytes()));
            }
            self.producer.send_record(Outgoing {
                topic: &self.topic,
                key: letter.key.as_deref(),
                payload: letter.payload.as_deref(),
                timestamp_ms: None,
                partition: None,
                headers: Some(headers),
            })?;
        }
        let delivered = self.producer.flush(FLUSH_TIMEOUT)?;
        if delivered.failed > failed_before {
            let why = delivered.first_error.unwrap_or_default();
            return Err(KafkaError::Retriable(format!(
                "dead letters were not delivered: {why}"
            )));
        }
        for letter in letters {
            metrics.count_dead_letter(letter.reason);
            tracing::debug!(
                reason = letter.reason.as_str(),
                field = letter.field,
                "dead letter"
            );
        }
        Ok(())
    }
}
