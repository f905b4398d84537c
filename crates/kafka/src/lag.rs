//! How far a whole consumer group is behind the end of a topic, asked from the brokers by a client that joins nothing and stays
//! connected. Two requests for each question, one of them to each broker that leads a partition.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::KafkaError;
use crate::client::LoggingContext;
use crate::oauth::TokenKeeper;
use crate::settings::{KafkaSettings, for_consumer};

/// After so many questions it is asked how many partitions there are.
const ASK_PARTITIONS_EVERY: u32 = 30;

/// Asks about one group and one topic.
pub struct GroupLag {
    // Before the client, which it serves: fields are dropped in this order.
    _tokens: Option<TokenKeeper>,
    consumer: BaseConsumer<LoggingContext>,
    topic: String,
    partitions: i32,
    asked: u32,
}

impl GroupLag {
    /// Prepares a client; does not connect yet.
    ///
    /// # Errors
    /// [`KafkaError::Configuration`] when librdkafka refuses a property.
    pub fn open(settings: &KafkaSettings, group: &str, topic: &str) -> Result<Self, KafkaError> {
        let config = settings.client_config(
            &[("statistics.interval.ms", "0")],
            for_consumer,
            &[
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("allow.auto.create.topics", "false"),
                // With committed ones only, the brokers would hold an answer back while a transaction is open.
                ("isolation.level", "read_uncommitted"),
            ],
        );
        let context = LoggingContext::default();
        let consumer = BaseConsumer::from_config_and_context(&config, context.clone())
            .map_err(|error| KafkaError::Configuration(error.to_string()))?;
        let tokens = TokenKeeper::start(consumer.client().native_ptr(), settings, &context.state)?;
        Ok(Self {
            _tokens: tokens,
            consumer,
            topic: topic.to_owned(),
            partitions: 0,
            asked: 0,
        })
    }

    /// Offsets from the group's to the end, by partition; partitions of which the group has committed nothing are left out. What a
    /// producer has not committed yet counts, and so do the markers of its transactions.
    ///
    /// # Errors
    /// The brokers did not answer in `timeout`, or refused.
    pub fn ask(&mut self, timeout: Duration) -> Result<BTreeMap<i32, u64>, KafkaError> {
        let context = format!("cannot read how far the group is behind in {}", self.topic);
        let failed = |error| KafkaError::of(&context, &error);
        if self.asked.is_multiple_of(ASK_PARTITIONS_EVERY) || self.partitions == 0 {
            let client = self.consumer.client();
            let metadata = client
                .fetch_metadata(Some(&self.topic), timeout)
                .map_err(failed)?;
            let found = metadata.topics().iter().find(|found| found.name() == self.topic);
            let count = found.map_or(0, |found| found.partitions().len());
            self.partitions = i32::try_from(count).unwrap_or(i32::MAX);
        }
        self.asked = self.asked.wrapping_add(1);
        let list = |offset: Offset| {
            let mut list = TopicPartitionList::new();
            for partition in 0..self.partitions {
                list.add_partition_offset(&self.topic, partition, offset)?;
            }
            Ok(list)
        };
        let committed = self
            .consumer
            .committed_offsets(list(Offset::Invalid).map_err(failed)?, timeout)
            .map_err(failed)?;
        // The number of "the end" is what Kafka's protocol takes for the newest offset, too.
        let ends = self
            .consumer
            .offsets_for_times(list(Offset::End).map_err(failed)?, timeout)
            .map_err(failed)?;
        let (committed, ends) = (known(&committed), known(&ends));
        Ok(committed
            .into_iter()
            .filter_map(|(partition, offset)| {
                let end = ends.get(&partition)?;
                Some((partition, (end - offset).max(0).unsigned_abs()))
            })
            .collect())
    }
}

/// A partition with an error of its own is left out: its broker is away, and the others are there.
fn known(list: &TopicPartitionList) -> BTreeMap<i32, i64> {
    let elements = list.elements();
    let offsets = elements
        .iter()
        .filter_map(|element| match (element.error(), element.offset()) {
            (Ok(()), Offset::Offset(offset)) => Some((element.partition(), offset)),
            _ => None,
        });
    offsets.collect()
}
