//! How far a topic and a consumer group are: the clock by which scenarios kill, stop and start processes. A schedule in
//! records hits any moment of a commit, and needs no pause of a fixed length.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::{Kafka, READ_LIMIT};
use crate::wait::wait_for;

/// Looks at one topic and one group over one connection.
pub struct Progress {
    consumer: BaseConsumer,
    read_committed: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl Progress {
    /// # Errors
    /// When the broker does not answer, or the topic is not there.
    pub fn watch(kafka: &Kafka, topic: &str, group: &str) -> Result<Progress> {
        let partitions = i32::try_from(kafka.partitions(topic)?)?;
        ensure!(partitions > 0, "there is no topic {topic}");
        let mut config = kafka.client();
        // With read_committed the answer about a group waits for open transactions.
        config
            .set("group.id", group)
            .set("isolation.level", "read_uncommitted");
        Ok(Progress {
            consumer: config.create()?,
            read_committed: kafka.client().create()?,
            topic: topic.to_owned(),
            partitions,
        })
    }

    /// Where the partitions end, open transactions included.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn ends(&self) -> Result<BTreeMap<i32, i64>> {
        self.ends_as_seen_by(&self.consumer)
    }

    /// Where the partitions end for a read_committed reader: behind transaction markers, before open transactions.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn stable_ends(&self) -> Result<BTreeMap<i32, i64>> {
        self.ends_as_seen_by(&self.read_committed)
    }

    fn ends_as_seen_by(&self, consumer: &BaseConsumer) -> Result<BTreeMap<i32, i64>> {
        let end = |partition| {
            let what = format!("the end of {}/{partition}", self.topic);
            wait_for(&what, READ_LIMIT, || {
                let watermarks = consumer.fetch_watermarks(&self.topic, partition, READ_LIMIT);
                Ok(unless_starting(watermarks)?.map(|(_, end)| (partition, end)))
            })
        };
        (0..self.partitions).map(end).collect()
    }

    /// What the group has committed; partitions of which it has nothing are left out.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn committed(&self) -> Result<BTreeMap<i32, i64>> {
        wait_for("the group's coordinator", READ_LIMIT, || self.ask_committed())
    }

    /// `None`: its coordinator is not ready yet.
    fn ask_committed(&self) -> Result<Option<BTreeMap<i32, i64>>> {
        let mut wanted = TopicPartitionList::new();
        wanted.add_partition_range(&self.topic, 0, self.partitions - 1);
        let Some(committed) = unless_starting(self.consumer.committed_offsets(wanted, READ_LIMIT))? else {
            return Ok(None);
        };
        let elements = committed.elements();
        let offsets = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
        Ok(Some(offsets.collect()))
    }

    /// Waits until so many records are in the topic.
    ///
    /// # Errors
    /// When `limit` passes.
    pub fn wait_produced(&self, records: u64, limit: Duration) -> Result<()> {
        let records = i64::try_from(records)?;
        wait_for(&format!("{records} records in {}", self.topic), limit, || {
            Ok((self.ends()?.values().sum::<i64>() >= records).then_some(()))
        })
    }

    /// Waits until the group has committed so many records.
    ///
    /// # Errors
    /// When `limit` passes.
    pub fn wait_committed(&self, records: i64, limit: Duration) -> Result<()> {
        wait_for(
            &format!("{records} records of {} to be committed", self.topic),
            limit,
            || Ok((self.committed()?.values().sum::<i64>() >= records).then_some(())),
        )
    }

    /// Waits until the group has committed everything.
    ///
    /// # Errors
    /// When `limit` passes.
    pub fn wait_all_committed(&self, limit: Duration) -> Result<()> {
        let ends = self.ends()?;
        let what = format!("{} to be committed up to {ends:?}", self.topic);
        let found = wait_for(&what, limit, || {
            let committed = self.committed()?;
            let done = |(partition, end): (&i32, &i64)| committed.get(partition).unwrap_or(&0) >= end;
            Ok(ends.iter().all(done).then_some(()))
        });
        found.with_context(|| format!("committed is {:?}", self.committed()))
    }
}

/// `None`: the broker has just started, or the group is new; a moment later there is an answer.
fn unless_starting<T>(answer: KafkaResult<T>) -> KafkaResult<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) => match error.rdkafka_error_code() {
            Some(
                Code::NotCoordinator
                | Code::CoordinatorLoadInProgress
                | Code::CoordinatorNotAvailable
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::UnknownTopicOrPartition
                | Code::BrokerTransportFailure,
            ) => Ok(None),
            _ => Err(error),
        },
    }
}
