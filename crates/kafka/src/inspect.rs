//! What a broker tells to who only asks: a topic's replicas and settings, what this client may do with it, the state and the offsets
//! of a consumer group, the newest timestamp. Nothing is written and no group is joined. For checks, not for the work.
//!
//! Most of it is librdkafka's admin interface that rdkafka does not offer. Each question takes [`ASK_TIMEOUT`] at most.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::admin::{AdminOptions, ResourceSpecifier};
use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::client::ClientState;
use crate::oauth::TokenKeeper;
use crate::settings::for_consumer;
use crate::topics::{Topics, block_on};
use crate::{KafkaError, KafkaSettings};

/// How long one question may take.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two questions to a coordinator that is not ready.
const PAUSE: Duration = Duration::from_millis(100);

/// What a client may do with a topic or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Right {
    /// Read it; of a group: be a member of it.
    Read,
    /// Write to it.
    Write,
    /// Know of it.
    Describe,
    /// See its settings.
    DescribeConfigs,
}

impl Right {
    /// As Kafka's tools write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Describe => "DESCRIBE",
            Self::DescribeConfigs => "DESCRIBE_CONFIGS",
        }
    }
}

/// A cluster as its brokers tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// How many brokers there are.
    pub brokers: usize,
    /// The id of one of them.
    pub broker: i32,
    /// The cluster's id.
    pub cluster_id: Option<String>,
}

/// A topic as its brokers tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    /// Partitions.
    pub partitions: usize,
    /// Replicas of the partition that has the fewest.
    pub replicas: usize,
    /// Replicas that are in sync, of the partition that has the fewest.
    pub in_sync: usize,
    /// Partitions without a leader.
    pub leaderless: usize,
}

/// A consumer group as its coordinator tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// `Stable`, `Empty`, `Dead`, …
    pub state: String,
    /// Members now.
    pub members: usize,
    /// What this client may do with it; `None`: the broker does not tell.
    pub rights: Option<BTreeSet<Right>>,
}

impl Topics {
    /// The first question to a cluster.
    ///
    /// # Errors
    /// No broker answers, or this client is refused.
    pub fn cluster(&self) -> Result<ClusterFacts, KafkaError> {
        let metadata = self
            .client()
            .fetch_metadata(None, ASK_TIMEOUT)
            .map_err(|error| self.explain(&error))?;
        Ok(ClusterFacts {
            brokers: metadata.brokers().len(),
            broker: metadata.brokers().first().map_or(-1, |broker| broker.id()),
            cluster_id: self.client().fetch_cluster_id(ASK_TIMEOUT),
        })
    }

    /// Partitions and replicas of a topic.
    ///
    /// # Errors
    /// No broker, refused, or no such topic.
    pub fn facts(&self, topic: &str) -> Result<TopicFacts, KafkaError> {
        self.describe(topic)?;
        let metadata = self
            .client()
            .fetch_metadata(Some(topic), ASK_TIMEOUT)
            .map_err(|error| self.explain(&error))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map(|found| found.partitions()).unwrap_or_default();
        let least = |count: &dyn Fn(&rdkafka::metadata::MetadataPartition) -> usize| {
            partitions.iter().map(count).min().unwrap_or_default()
        };
        Ok(TopicFacts {
            partitions: partitions.len(),
            replicas: least(&|partition| partition.replicas().len()),
            in_sync: least(&|partition| partition.isr().len()),
            leaderless: partitions
                .iter()
                .filter(|partition| partition.leader() < 0)
                .count(),
        })
    }

    /// All settings of a topic.
    ///
    /// # Errors
    /// Why the broker does not tell, as it says it.
    pub fn topic_settings(&self, topic: &str) -> Result<BTreeMap<String, String>, String> {
        self.settings_of(&ResourceSpecifier::Topic(topic))
    }

    /// All settings of a broker.
    ///
    /// # Errors
    /// Why the broker does not tell, as it says it.
    pub fn broker_settings(&self, broker: i32) -> Result<BTreeMap<String, String>, String> {
        self.settings_of(&ResourceSpecifier::Broker(broker))
    }

    fn settings_of(&self, resource: &ResourceSpecifier<'_>) -> Result<BTreeMap<String, String>, String> {
        let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT));
        let described = block_on(self.admin().describe_configs([resource], &options));
        let described = described.map_err(|error| error.to_string())?;
        let Some(settings) = described.into_iter().next() else {
            return Err("no answer".to_owned());
        };
        let settings = settings.map_err(|code| code.to_string())?;
        let entries = settings.entries.into_iter();
        Ok(entries
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect())
    }

    /// What this client may do with a topic; `None`: the broker does not tell (one before Kafka 2.3, or the embedded one).
    pub fn topic_rights(&self, topic: &str) -> Option<BTreeSet<Right>> {
        let name = CString::new(topic).ok()?;
        let mut names: [*const c_char; 1] = [name.as_ptr()];
        // SAFETY: the collection is destroyed after the call, which copies it; `name` outlives both; what the result points to is
        // read while its event lives.
        unsafe {
            let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
            let event = self.ask(
                native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
                true,
                |client, options, queue| native::rd_kafka_DescribeTopics(client, topics, options, queue),
            );
            native::rd_kafka_TopicCollection_destroy(topics);
            let event = event?;
            let result = native::rd_kafka_event_DescribeTopics_result(event.0);
            if result.is_null() {
                return None;
            }
            let mut count = 0_usize;
            let found = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
            if found.is_null() || count == 0 {
                return None;
            }
            let mut operations = 0_usize;
            let list = native::rd_kafka_TopicDescription_authorized_operations(*found, &mut operations);
            rights_in(list, operations)
        }
    }

    /// The state of a consumer group, and what this client may do with it.
    ///
    /// # Errors
    /// Why the coordinator does not tell, as it says it.
    pub fn group(&self, group: &str) -> Result<GroupFacts, String> {
        let until = Instant::now() + ASK_TIMEOUT;
        loop {
            match self.group_once(group) {
                // A broker that has just started loads what it knows of groups.
                Err((Some(code), _))
                    if KafkaError::of("", &ClientError::MetadataFetch(code)).is_retriable()
                        && Instant::now() < until =>
                {
                    std::thread::sleep(PAUSE);
                }
                answer => return answer.map_err(|(_, text)| text),
            }
        }
    }

    fn group_once(&self, group: &str) -> Result<GroupFacts, (Option<RDKafkaErrorCode>, String)> {
        let other = |text: &str| (None, text.to_owned());
        let name = CString::new(group).map_err(|_| other("a name with a null in it"))?;
        let mut names: [*const c_char; 1] = [name.as_ptr()];
        // SAFETY: `name` outlives the call, which copies it; what the result points to is read while its event lives.
        unsafe {
            let event = self
                .ask(
                    native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS,
                    true,
                    |client, options, queue| {
                        native::rd_kafka_DescribeConsumerGroups(
                            client,
                            names.as_mut_ptr(),
                            names.len(),
                            options,
                            queue,
                        );
                    },
                )
                .ok_or_else(|| other("no answer"))?;
            event.error().map_err(|text| (None, text))?;
            let result = native::rd_kafka_event_DescribeConsumerGroups_result(event.0);
            if result.is_null() {
                return Err(other("no answer"));
            }
            let mut count = 0_usize;
            let groups = native::rd_kafka_DescribeConsumerGroups_result_groups(result, &mut count);
            if groups.is_null() || count == 0 {
                return Err(other("no answer"));
            }
            let found = *groups;
            let error = native::rd_kafka_ConsumerGroupDescription_error(found);
            let code = match error.is_null() {
                true => RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
                false => native::rd_kafka_error_code(error),
            };
            match code {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
                // Newer brokers say so of a group that nobody was ever a member of, older ones call it dead.
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND => {
                    return Ok(GroupFacts {
                        state: "Dead".to_owned(),
                        members: 0,
                        rights: None,
                    });
                }
                code => {
                    let code = RDKafkaErrorCode::from(code);
                    let text = format!("{code}: {}", text_of(native::rd_kafka_error_string(error)));
                    return Err((Some(code), text));
                }
            }
            let state = native::rd_kafka_ConsumerGroupDescription_state(found);
            let mut operations = 0_usize;
            let list =
                native::rd_kafka_ConsumerGroupDescription_authorized_operations(found, &mut operations);
            Ok(GroupFacts {
                state: text_of(native::rd_kafka_consumer_group_state_name(state)),
                members: native::rd_kafka_ConsumerGroupDescription_member_count(found),
                rights: rights_in(list, operations),
            })
        }
    }

    /// The newest timestamp of a topic's records, epoch milliseconds; `None`: there is none, or the broker does not tell (one before
    /// Kafka 3.0).
    pub fn newest_timestamp_ms(&self, topic: &str, partitions: usize) -> Option<i64> {
        let newest = native::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_MAX_TIMESTAMP as i64;
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions).ok()? {
            list.add_partition(topic, partition);
        }
        // SAFETY: the list outlives the call, which copies it, and has as many elements as it says; what the result points to is read
        // while its event lives.
        unsafe {
            let raw = list.ptr();
            for index in 0..usize::try_from((*raw).cnt).ok()? {
                (*(*raw).elems.add(index)).offset = newest;
            }
            let event = self.ask(
                native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTOFFSETS,
                false,
                |client, options, queue| native::rd_kafka_ListOffsets(client, raw, options, queue),
            )?;
            let result = native::rd_kafka_event_ListOffsets_result(event.0);
            if result.is_null() {
                return None;
            }
            let mut count = 0_usize;
            let infos = native::rd_kafka_ListOffsets_result_infos(result, &mut count);
            if infos.is_null() {
                return None;
            }
            (0..count)
                .map(|index| native::rd_kafka_ListOffsetsResultInfo_timestamp(*infos.add(index)))
                .filter(|timestamp_ms| *timestamp_ms > 0)
                .max()
        }
    }

    /// Sends a question and waits for its answer.
    ///
    /// # Safety
    /// `send` hands the client, the options and the queue to one call of librdkafka's admin interface and keeps none of them.
    unsafe fn ask(
        &self,
        operation: native::rd_kafka_admin_op_t,
        with_rights: bool,
        send: impl FnOnce(
            *mut native::rd_kafka_t,
            *const native::rd_kafka_AdminOptions_t,
            *mut native::rd_kafka_queue_t,
        ),
    ) -> Option<Answer> {
        let timeout_ms = c_int::try_from(ASK_TIMEOUT.as_millis()).unwrap_or(c_int::MAX);
        // SAFETY: what is made here is destroyed here, in the order that librdkafka asks for; the answer owns itself.
        unsafe {
            let client = self.client().native_ptr();
            let options = native::rd_kafka_AdminOptions_new(client, operation);
            if options.is_null() {
                return None;
            }
            native::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, ptr::null_mut(), 0);
            if with_rights {
                let error = native::rd_kafka_AdminOptions_set_include_authorized_operations(options, 1);
                if !error.is_null() {
                    native::rd_kafka_error_destroy(error);
                }
            }
            let queue = native::rd_kafka_queue_new(client);
            send(client, options, queue);
            let event = native::rd_kafka_queue_poll(queue, timeout_ms.saturating_add(1_000));
            native::rd_kafka_queue_destroy(queue);
            native::rd_kafka_AdminOptions_destroy(options);
            (!event.is_null()).then_some(Answer(event))
        }
    }
}

/// The offsets that a consumer group has committed for a topic, by partition; those without one are left out. The group is not
/// joined.
///
/// # Errors
/// The group cannot be asked: no coordinator, or not allowed.
pub fn committed_offsets(
    settings: &KafkaSettings,
    group: &str,
    topic: &str,
    partitions: usize,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let config = settings.client_config(&[], for_consumer, &[("group.id", group)]);
    let consumer: BaseConsumer = config
        .create()
        .map_err(|error| KafkaError::Configuration(error.to_string()))?;
    // Ends before the client, which is declared before it.
    let _tokens = TokenKeeper::start(consumer.client().native_ptr(), settings, &ClientState::default())?;
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        list.add_partition(topic, partition);
    }
    let context = format!("cannot read the offsets of group {group}");
    let committed = consumer
        .committed_offsets(list, ASK_TIMEOUT)
        .map_err(|error| KafkaError::of(&context, &error))?;
    let mut offsets = BTreeMap::new();
    for element in committed.elements() {
        element
            .error()
            .map_err(|error| KafkaError::of(&context, &error))?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert(element.partition(), offset);
        }
    }
    Ok(offsets)
}

/// An event of librdkafka that is ours.
struct Answer(*mut native::rd_kafka_event_t);

impl Answer {
    fn error(&self) -> Result<(), String> {
        // SAFETY: the event lives as long as this.
        unsafe {
            match native::rd_kafka_event_error(self.0) {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
                _ => Err(text_of(native::rd_kafka_event_error_string(self.0))),
            }
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // SAFETY: it is destroyed once, and nothing that it owns is used after.
        unsafe { native::rd_kafka_event_destroy(self.0) }
    }
}

/// # Safety
/// `text` is null or a text of librdkafka that lives.
unsafe fn text_of(text: *const c_char) -> String {
    if text.is_null() {
        return "no reason given".to_owned();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// # Safety
/// `list` is null or has `count` operations.
unsafe fn rights_in(list: *const native::rd_kafka_AclOperation_t, count: usize) -> Option<BTreeSet<Right>> {
    use native::rd_kafka_AclOperation_t as Operation;
    if list.is_null() {
        return None;
    }
    let mut rights = BTreeSet::new();
    for index in 0..count {
        // SAFETY: the caller's promise.
        match unsafe { *list.add(index) } {
            Operation::RD_KAFKA_ACL_OPERATION_READ => rights.insert(Right::Read),
            Operation::RD_KAFKA_ACL_OPERATION_WRITE => rights.insert(Right::Write),
            Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE => rights.insert(Right::Describe),
            Operation::RD_KAFKA_ACL_OPERATION_DESCRIBE_CONFIGS => rights.insert(Right::DescribeConfigs),
            _ => false,
        };
    }
    Some(rights)
}
