//! What librdkafka calls back: logs, statistics, errors, and changes of partitions, which it answers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::Offset;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::awaited::Awaited;
use super::{PartitionListener, StartAt};
use crate::KafkaError;
use crate::client::LoggingContext;

/// How long new partitions wait for the group's offsets before the others are read on.
const FIRST_ANSWER: Duration = Duration::from_millis(300);

/// The state that a consumer shares with its callbacks.
pub(super) struct GroupContext<L> {
    pub(super) base: LoggingContext,
    pub(super) listener: Arc<L>,
    pub(super) topic: String,
    pub(super) start: StartAt,
    pub(super) awaited: Awaited,
    /// Where reading began in the partitions that are here. Of the others the group has committed nothing.
    pub(super) began_at: Mutex<BTreeMap<i32, i64>>,
    pub(super) rebalances: AtomicU64,
    pub(super) failure: Mutex<Option<String>>,
}

impl<L: PartitionListener> ClientContext for GroupContext<L> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.base.log(level, facility, message);
    }

    fn stats_raw(&self, json: &[u8]) {
        self.base.stats_raw(json);
    }

    fn error(&self, error: ClientError, reason: &str) {
        self.base.error(error, reason);
    }
}

impl<L: PartitionListener> ConsumerContext for GroupContext<L> {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        self.rebalances.fetch_add(1, Ordering::Relaxed);
        let partitions: Vec<i32> = list
            .elements()
            .iter()
            .filter(|e| e.topic() == self.topic)
            .map(|e| e.partition())
            .collect();
        let result = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assign(consumer, &partitions, list),
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                let lost = consumer.assignment_lost();
                tracing::info!(?partitions, lost, "partitions revoked");
                self.forget(&partitions);
                let next_offsets = self.listener.revoked(&partitions, lost);
                self.commit(consumer, &next_offsets);
                unassign(consumer, list).map_err(|error| error.to_string())
            }
            other => {
                self.forget(&partitions);
                self.listener.revoked(&partitions, true);
                let _ = consumer.unassign();
                Err(format!("rebalance failed: {}", Code::from(other)))
            }
        };
        if let Err(text) = result {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(text);
        }
    }
}

impl<L: PartitionListener> GroupContext<L> {
    /// A failure costs the next owner some records read twice, nothing else.
    fn commit(&self, consumer: &BaseConsumer<Self>, next_offsets: &BTreeMap<i32, i64>) {
        if next_offsets.is_empty() {
            return;
        }
        let result = list_of(
            &self.topic,
            next_offsets
                .iter()
                .map(|(p, offset)| (*p, Offset::Offset(*offset))),
        )
        .and_then(|list| {
            consumer
                .commit(&list, CommitMode::Sync)
                .map_err(|error| KafkaError::of("cannot commit offsets", &error))
        });
        if let Err(error) = result {
            tracing::warn!(%error, "offsets of partitions that leave are not committed");
        }
    }

    fn assign(
        &self,
        consumer: &BaseConsumer<Self>,
        partitions: &[i32],
        list: &mut TopicPartitionList,
    ) -> Result<(), String> {
        let starts = match self.listener.assigned(partitions) {
            Ok(starts) => starts,
            Err(text) => {
                // The group must be answered all the same; nothing is read.
                let nothing = TopicPartitionList::new();
                assign(consumer, &nothing).map_err(|error| error.to_string())?;
                return Err(text);
            }
        };
        let others: Vec<i32> = partitions
            .iter()
            .copied()
            .filter(|partition| self.start == StartAt::Earliest && !starts.contains_key(partition))
            .collect();
        let starts = starts
            .into_iter()
            .map(|(partition, offset)| (partition, Offset::Offset(offset)))
            .chain(self.group_starts(consumer, &others));
        for (partition, offset) in starts {
            list.set_partition_offset(&self.topic, partition, offset)
                .map_err(|error| error.to_string())?;
        }
        tracing::info!(?partitions, "partitions assigned");
        assign(consumer, list).map_err(|error| error.to_string())
    }

    pub(super) fn note_begin(&self, next_offsets: &BTreeMap<i32, Option<i64>>) {
        let known = next_offsets
            .iter()
            .filter_map(|(partition, offset)| Some((*partition, (*offset)?)));
        self.began().extend(known);
    }

    pub(super) fn began(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.began_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, partitions: &[i32]) {
        self.awaited.remove(partitions);
        self.began()
            .retain(|partition, _| !partitions.contains(partition));
    }

    /// Where the group has come to. Partitions of which that is not known yet are assigned at their ends, and wait.
    fn group_starts(&self, consumer: &BaseConsumer<Self>, partitions: &[i32]) -> Vec<(i32, Offset)> {
        if partitions.is_empty() {
            return Vec::new();
        }
        match committed_of(consumer, &self.topic, partitions, FIRST_ANSWER) {
            Ok(next_offsets) => {
                self.note_begin(&next_offsets);
                next_offsets
                    .into_iter()
                    .map(|(partition, offset)| (partition, offset.map_or(Offset::Beginning, Offset::Offset)))
                    .collect()
            }
            Err(error) => {
                tracing::info!(
                    ?partitions,
                    %error,
                    "waiting for the group's offsets: a transaction of the former owner may be open"
                );
                self.awaited.add(partitions);
                partitions
                    .iter()
                    .map(|partition| (*partition, Offset::End))
                    .collect()
            }
        }
    }
}

/// The committed next offset of each partition; `None` where there is none.
pub(super) fn committed_of<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
    timeout: Duration,
) -> Result<BTreeMap<i32, Option<i64>>, KafkaError> {
    let unreadable = |error: ClientError| KafkaError::of("cannot read the committed offsets", &error);
    let list = list_of(
        topic,
        partitions.iter().map(|partition| (*partition, Offset::Invalid)),
    )?;
    let committed = consumer.committed_offsets(list, timeout).map_err(unreadable)?;
    let next_offset = |offset| match offset {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    };
    committed
        .elements()
        .iter()
        .map(|element| {
            // An offset that is not told is not an offset that is not there.
            element.error().map_err(unreadable)?;
            Ok((element.partition(), next_offset(element.offset())))
        })
        .collect()
}

fn assign<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
) -> Result<(), ClientError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}

fn unassign<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
) -> Result<(), ClientError> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    }
}

pub(super) fn list_of(
    topic: &str,
    offsets: impl Iterator<Item = (i32, Offset)>,
) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, partition, offset)
            .map_err(|error| {
                KafkaError::Failed(format!("offset {offset:?} of partition {partition}: {error}"))
            })?;
    }
    Ok(list)
}
