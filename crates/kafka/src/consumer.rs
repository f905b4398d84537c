//! A member of a consumer group, polled by one thread.
//!
//! Guarantees: read_committed; offsets are committed only when asked; a listener learns of lost partitions *before* the
//! group is answered, and decides where new ones begin. Both group protocols work: the classic one (cooperative-sticky)
//! and KIP-848 (`-X group.protocol=consumer`).

mod awaited;
mod context;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use self::awaited::Awaited;
use self::context::{GroupContext, committed_of, list_of};
use crate::KafkaError;
use crate::client::{ClientState, LoggingContext};
use crate::oauth::TokenKeeper;
use crate::settings::{CONNECT_TIMEOUT, KafkaSettings, for_consumer};

/// Tuning that measurements asked for. The queue's backoff is 1 s by default: a consumer that once fills its queue then
/// sleeps for a second at a time. The sizes bound the memory of everything that is fetched but not yet handled.
const TUNING: &[(&str, &str)] = &[
    ("fetch.queue.backoff.ms", "5"),
    ("queued.max.messages.kbytes", "4096"),
    ("queued.min.messages", "100000"),
    ("fetch.message.max.bytes", "524288"),
    ("fetch.max.bytes", "4194304"),
    ("fetch.wait.max.ms", "100"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "10000"),
    ("max.poll.interval.ms", "120000"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("statistics.interval.ms", "5000"),
];

/// Settings of the classic group protocol that librdkafka refuses together with KIP-848.
const CLASSIC_ONLY: &[&str] = &["partition.assignment.strategy", "session.timeout.ms"];

/// Told about every change of partitions, on the polling thread, inside of [`GroupConsumer::poll`].
pub trait PartitionListener: Send + Sync + 'static {
    /// New partitions. Returns where to begin in each; partitions that are left out begin at the group's committed
    /// offset. An error leaves them unassigned and ends the consumer with that text.
    ///
    /// # Errors
    /// Whatever makes the partitions unusable.
    fn assigned(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, String>;

    /// These partitions leave. Whatever is buffered of them has to be dropped before this returns: the group is answered
    /// afterwards. `lost`: they may already belong to somebody else. Returns next offsets that are to be committed for the
    /// group before it is answered.
    fn revoked(&self, partitions: &[i32], lost: bool) -> BTreeMap<i32, i64>;
}

/// Where a group without committed offsets begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the oldest record.
    Earliest,
    /// Nowhere: every start is given by the listener, and an offset that is out of range is an error.
    ListenerOnly,
}

/// What a poll found.
pub enum Polled<'a> {
    /// A record.
    Record(BorrowedMessage<'a>),
    /// Everything of this partition that was there is read.
    EndOfPartition(i32),
    /// Nothing within the time.
    Nothing,
}

/// A consumer of one topic in a group.
pub struct GroupConsumer<L: PartitionListener> {
    // Before the client, which it serves: fields are dropped in this order.
    _tokens: Option<TokenKeeper>,
    consumer: BaseConsumer<GroupContext<L>>,
    topic: String,
}

impl<L: PartitionListener> GroupConsumer<L> {
    /// Joins the group. Returns at once; the partitions come through the listener while polling.
    ///
    /// # Errors
    /// librdkafka refuses a property.
    pub fn join(
        settings: &KafkaSettings,
        group_id: &str,
        topic: &str,
        start: StartAt,
        listener: Arc<L>,
    ) -> Result<Self, KafkaError> {
        let reset = match start {
            StartAt::Earliest => "earliest",
            StartAt::ListenerOnly => "error",
        };
        let newer_protocol = settings
            .properties
            .get("group.protocol")
            .is_some_and(|value| value == "consumer");
        let tuning: Vec<(&str, &str)> = TUNING
            .iter()
            .copied()
            .filter(|(key, _)| !(newer_protocol && CLASSIC_ONLY.contains(key)))
            .collect();
        let config = settings.client_config(
            &tuning,
            for_consumer,
            &[
                ("group.id", group_id),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("isolation.level", "read_committed"),
                ("auto.offset.reset", reset),
                ("enable.partition.eof", "true"),
                ("allow.auto.create.topics", "false"),
            ],
        );
        let base = LoggingContext::of(settings);
        let state = base.state.clone();
        let context = GroupContext {
            base,
            listener,
            topic: topic.to_owned(),
            start,
            awaited: Awaited::default(),
            began_at: Mutex::default(),
            rebalances: AtomicU64::new(0),
            failure: Mutex::new(None),
        };
        let consumer = BaseConsumer::from_config_and_context(&config, context)
            .map_err(|error| KafkaError::Configuration(error.to_string()))?;
        let tokens = TokenKeeper::start(consumer.client().native_ptr(), settings, &state)?;
        consumer
            .subscribe(&[topic])
            .map_err(|error| KafkaError::of("cannot subscribe", &error))?;
        Ok(Self {
            _tokens: tokens,
            consumer,
            topic: topic.to_owned(),
        })
    }

    /// The next record. Also serves rebalances: call it at least every two minutes.
    ///
    /// # Errors
    /// [`KafkaError::Retriable`] for what librdkafka repairs by itself; anything else ends this consumer.
    pub fn poll(&self, timeout: Duration) -> Result<Polled<'_>, KafkaError> {
        self.seek_awaited()?;
        let polled = self.consumer.poll(timeout);
        match polled {
            // It is read again from the group's offset.
            Some(Ok(message)) if self.awaits_offset(message.partition()) => Ok(Polled::Nothing),
            Some(Err(ClientError::PartitionEOF(partition))) if self.awaits_offset(partition) => {
                Ok(Polled::Nothing)
            }
            Some(Ok(message)) => Ok(Polled::Record(message)),
            None => self.check().map(|()| Polled::Nothing),
            Some(Err(ClientError::PartitionEOF(partition))) => Ok(Polled::EndOfPartition(partition)),
            Some(Err(error)) => {
                self.check()?;
                Err(self.sort(&error))
            }
        }
    }

    /// Whether it is not known yet where the group has come to in this partition. Nothing of it is handed out until then, and it need
    /// not be sought.
    pub fn awaits_offset(&self, partition: i32) -> bool {
        self.consumer.context().awaited.contains(partition)
    }

    /// Where reading began in this partition when it came, or was sought to last; `None`: that is not known yet, or the group has committed
    /// nothing.
    pub fn began_at(&self, partition: i32) -> Option<i64> {
        self.consumer.context().began().get(&partition).copied()
    }

    /// Asks for the group's offsets of the partitions that wait for them, now and then.
    fn seek_awaited(&self) -> Result<(), KafkaError> {
        let awaited = &self.consumer.context().awaited;
        let Some((partitions, patience)) = awaited.due(Instant::now()) else {
            return Ok(());
        };
        let sought = committed_of(&self.consumer, &self.topic, &partitions, patience)
            .and_then(|next_offsets| self.seek(&next_offsets).map(|()| next_offsets));
        match sought {
            Ok(next_offsets) => {
                awaited.remove(&partitions);
                tracing::info!(
                    ?next_offsets,
                    "the group's offsets are known: reading on from there"
                );
                Ok(())
            }
            Err(error) => {
                awaited.failed(Instant::now());
                match error.is_retriable() {
                    true => Ok(()),
                    false => Err(error),
                }
            }
        }
    }

    fn sort(&self, error: &ClientError) -> KafkaError {
        match error.rdkafka_error_code() {
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                KafkaError::Retriable(format!("topic {} is not there", self.topic))
            }
            Some(Code::OffsetOutOfRange | Code::AutoOffsetReset) => KafkaError::Failed(format!(
                "an offset of {} is out of the topic's range: {error}",
                self.topic
            )),
            _ => KafkaError::of("cannot read", error),
        }
    }

    /// What went wrong inside of a rebalance, or ended the client.
    fn check(&self) -> Result<(), KafkaError> {
        let context = self.consumer.context();
        if let Some(text) = context
            .failure
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            return Err(KafkaError::Failed(text));
        }
        match context.base.state.fatal() {
            Some(text) => Err(KafkaError::Fenced(text)),
            None => Ok(()),
        }
    }

    /// The member's identity for [`crate::producer::TransactionalProducer::send_offsets`] (KIP-447).
    ///
    /// # Errors
    /// The consumer has no group, which cannot be.
    pub fn group_metadata(&self) -> Result<ConsumerGroupMetadata, KafkaError> {
        self.consumer
            .group_metadata()
            .ok_or_else(|| KafkaError::Failed("the consumer has no group".to_owned()))
    }

    /// The partitions that this member has now.
    ///
    /// # Errors
    /// librdkafka failed.
    pub fn assignment(&self) -> Result<Vec<i32>, KafkaError> {
        let list = self
            .consumer
            .assignment()
            .map_err(|error| KafkaError::of("cannot read the assignment", &error))?;
        Ok(list
            .elements()
            .iter()
            .map(|element| element.partition())
            .collect())
    }

    /// The group's committed next offset of each partition; `None` where there is none.
    ///
    /// # Errors
    /// No coordinator answered in time.
    pub fn committed(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Option<i64>>, KafkaError> {
        committed_of(&self.consumer, &self.topic, partitions, CONNECT_TIMEOUT)
    }

    /// Commits next offsets for the group without waiting.
    ///
    /// # Errors
    /// librdkafka refused the call.
    pub fn commit_async(&self, next_offsets: &BTreeMap<i32, i64>) -> Result<(), KafkaError> {
        self.commit(next_offsets, CommitMode::Async)
    }

    /// Commits next offsets for the group and waits for the coordinator.
    ///
    /// # Errors
    /// The coordinator refused or did not answer.
    pub fn commit_sync(&self, next_offsets: &BTreeMap<i32, i64>) -> Result<(), KafkaError> {
        self.commit(next_offsets, CommitMode::Sync)
    }

    fn commit(&self, next_offsets: &BTreeMap<i32, i64>, mode: CommitMode) -> Result<(), KafkaError> {
        let list = self.list(
            next_offsets
                .iter()
                .map(|(partition, offset)| (*partition, Offset::Offset(*offset))),
        )?;
        self.consumer
            .commit(&list, mode)
            .map_err(|error| KafkaError::of("cannot commit offsets", &error))
    }

    /// Reads on from these offsets; the partitions must be assigned. A partition without an offset goes to the oldest record.
    ///
    /// # Errors
    /// librdkafka could not seek in time.
    pub fn seek(&self, next_offsets: &BTreeMap<i32, Option<i64>>) -> Result<(), KafkaError> {
        // librdkafka takes an empty list for a mistake.
        if next_offsets.is_empty() {
            return Ok(());
        }
        let offsets = next_offsets
            .iter()
            .map(|(partition, offset)| (*partition, offset.map_or(Offset::Beginning, Offset::Offset)));
        let list = self.list(offsets)?;
        let result = self
            .consumer
            .seek_partitions(list, CONNECT_TIMEOUT)
            .map_err(|error| KafkaError::of("cannot seek", &error))?;
        match result.elements().iter().find_map(|element| element.error().err()) {
            Some(error) => Err(KafkaError::of("cannot seek", &error)),
            None => {
                self.consumer.context().note_begin(next_offsets);
                Ok(())
            }
        }
    }

    /// Stops fetching these partitions; polling goes on.
    ///
    /// # Errors
    /// librdkafka failed.
    pub fn pause(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        let list = self.list(partitions.iter().map(|partition| (*partition, Offset::Invalid)))?;
        self.consumer
            .pause(&list)
            .map_err(|error| KafkaError::of("cannot pause", &error))
    }

    /// Fetches them again.
    ///
    /// # Errors
    /// librdkafka failed.
    pub fn resume(&self, partitions: &[i32]) -> Result<(), KafkaError> {
        let list = self.list(partitions.iter().map(|partition| (*partition, Offset::Invalid)))?;
        self.consumer
            .resume(&list)
            .map_err(|error| KafkaError::of("cannot resume", &error))
    }

    /// First and next-to-be-read offset (read_committed: the last stable one) of a partition.
    ///
    /// # Errors
    /// No broker answered in time.
    pub fn watermarks(&self, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.consumer
            .fetch_watermarks(&self.topic, partition, CONNECT_TIMEOUT)
            .map_err(|error| {
                KafkaError::of(
                    &format!("cannot read the offsets of {}/{partition}", self.topic),
                    &error,
                )
            })
    }

    /// The offsets of a partition as the last fetch told them, without asking; `None` before the first fetch.
    pub fn known_watermarks(&self, partition: i32) -> Option<(i64, i64)> {
        let topic = std::ffi::CString::new(self.topic.as_str()).ok()?;
        let (mut low, mut high) = (-1_i64, -1_i64);
        // SAFETY: the client lives as long as `self`, the name and both numbers outlive the call.
        let code = unsafe {
            rdkafka::bindings::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                partition,
                &mut low,
                &mut high,
            )
        };
        (code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some((low, high))
    }

    /// How many rebalances this member has seen.
    pub fn rebalances(&self) -> u64 {
        self.consumer.context().rebalances.load(Ordering::Relaxed)
    }

    /// What librdkafka complained about last.
    pub fn client_state(&self) -> &ClientState {
        &self.consumer.context().base.state
    }

    fn list(&self, offsets: impl Iterator<Item = (i32, Offset)>) -> Result<TopicPartitionList, KafkaError> {
        list_of(&self.topic, offsets)
    }
}
