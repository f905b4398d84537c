//! A topic read from its oldest record to its end by the only member of a consumer group.
//!
//! Time counts from the moment when the group has handed out the partitions, as it does for the programs that the probes
//! are compared with: connecting and joining are start-up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rdkafka::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata, Rebalance,
};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::config;

/// How long a broker may take to answer.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Notes when the first partitions came.
#[derive(Clone, Default)]
struct Watch(Arc<OnceLock<Instant>>);

impl ClientContext for Watch {}

impl ConsumerContext for Watch {
    fn post_rebalance(&self, _: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(list) = rebalance
            && list.count() > 0
        {
            self.0.get_or_init(Instant::now);
        }
    }
}

/// What a look at the backlog found.
pub enum Step<'a> {
    /// The next record.
    Record(BorrowedMessage<'a>),
    /// Nothing within the time.
    Nothing,
    /// Every partition is read to its end.
    End,
}

/// A topic that is being read.
pub struct Backlog {
    consumer: BaseConsumer<Watch>,
    watch: Watch,
    topic: String,
    open: BTreeSet<i32>,
    last_sign: Instant,
}

impl Backlog {
    /// Joins `group_id`; the partitions come while polling.
    ///
    /// # Errors
    /// No broker answers, or there is no such topic.
    pub fn join(brokers: &str, group_id: &str, topic: &str) -> Result<Backlog> {
        let watch = Watch::default();
        let config = config::consumer(brokers, group_id);
        let consumer = BaseConsumer::from_config_and_context(&config, watch.clone())?;
        let open = partitions(&consumer, topic)?;
        consumer.subscribe(&[topic])?;
        Ok(Backlog {
            consumer,
            watch,
            topic: topic.to_owned(),
            open,
            last_sign: Instant::now(),
        })
    }

    /// The next record, waiting up to `timeout` for it.
    ///
    /// # Errors
    /// librdkafka reports one, or nothing came for half a minute.
    pub fn poll(&mut self, timeout: Duration) -> Result<Step<'_>> {
        if self.open.is_empty() {
            return Ok(Step::End);
        }
        match self.consumer.poll(timeout) {
            Some(Ok(message)) => {
                self.last_sign = Instant::now();
                Ok(Step::Record(message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.open.remove(&partition);
                Ok(Step::Nothing)
            }
            Some(Err(error)) => Err(error).with_context(|| format!("cannot read {}", self.topic)),
            None if self.last_sign.elapsed() > ANSWER_LIMIT => {
                bail!(
                    "{}: no record and no end for {} s",
                    self.topic,
                    ANSWER_LIMIT.as_secs()
                )
            }
            None => Ok(Step::Nothing),
        }
    }

    /// Time since the partitions were handed out; zero before.
    pub fn elapsed(&self) -> Duration {
        self.watch.0.get().map(Instant::elapsed).unwrap_or_default()
    }

    /// The member's identity for a transaction.
    ///
    /// # Errors
    /// The consumer has no group, which cannot be.
    pub fn group_metadata(&self) -> Result<ConsumerGroupMetadata> {
        self.consumer
            .group_metadata()
            .context("the consumer has no group")
    }

    /// Commits next offsets for the group and waits for the answer.
    ///
    /// # Errors
    /// The coordinator refuses.
    pub fn commit(&self, next_offsets: &BTreeMap<i32, i64>) -> Result<()> {
        self.consumer
            .commit(&self.offsets(next_offsets)?, CommitMode::Sync)
            .context("cannot commit the offsets")
    }

    /// Next offsets as librdkafka takes them.
    ///
    /// # Errors
    /// An offset is negative.
    pub fn offsets(&self, next_offsets: &BTreeMap<i32, i64>) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next_offsets {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*offset))?;
        }
        Ok(list)
    }
}

/// The partitions of a topic.
///
/// # Errors
/// No broker answers, or there is no such topic.
pub fn partitions<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<BTreeSet<i32>> {
    let metadata = consumer
        .fetch_metadata(Some(topic), ANSWER_LIMIT)
        .context("no broker answers")?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions: BTreeSet<i32> = found
        .map(|found| {
            found
                .partitions()
                .iter()
                .map(|partition| partition.id())
                .collect()
        })
        .unwrap_or_default();
    if partitions.is_empty() {
        bail!("there is no topic {topic}: create it first");
    }
    Ok(partitions)
}
