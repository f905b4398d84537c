//! librdkafka's in-process mock cluster, for the demo: a broker with nothing installed.
//!
//! It keeps about 5 MB of each partition and silently drops what is older, so whoever writes to it has to wait for its
//! readers: [`KEPT_BYTES_PER_PARTITION`] is the room that a writer may use. It has no real transaction markers:
//! exactness is tested on real Kafka only.

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

use crate::{KafkaError, KafkaSettings};

/// What a writer may have unread in one partition, in bytes. The mock cluster drops records beyond 5 MiB; batches count
/// with their headers, so a part of that is left free.
pub const KEPT_BYTES_PER_PARTITION: u64 = 3 * 1024 * 1024;

/// A broker inside this process. Dropping it stops it.
pub struct EmbeddedBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl EmbeddedBroker {
    /// Starts it with the given topics (name, partitions).
    ///
    /// # Errors
    /// librdkafka could not start its listener.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, KafkaError> {
        let failed = |error| KafkaError::Failed(format!("the embedded broker did not start: {error}"));
        let cluster = MockCluster::new(1).map_err(failed)?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1).map_err(failed)?;
        }
        Ok(Self { cluster })
    }

    /// How clients reach it: loopback, a free port.
    pub fn settings(&self) -> KafkaSettings {
        KafkaSettings::new(self.cluster.bootstrap_servers())
    }
}
