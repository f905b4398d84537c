//! Which topics there are, how many partitions, and which incarnation of a topic this is.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::Offset;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::KafkaError;
use crate::client::LoggingContext;
use crate::oauth::TokenKeeper;
use crate::settings::{CONNECT_TIMEOUT, KafkaSettings, for_admin};

/// How long a question about a topic's configuration may take: the answer is an optimisation only.
const CONFIG_TIMEOUT: Duration = Duration::from_secs(3);
/// How often it is looked why there is no answer yet.
const LISTEN_EVERY: Duration = Duration::from_secs(2);

/// A topic to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
    /// Number of replicas of each.
    pub replication_factor: i32,
}

/// What a broker says about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Number of partitions.
    pub partitions: i32,
}

/// Asks brokers about topics.
pub struct Topics {
    // Before the client, which it serves: fields are dropped in this order.
    _tokens: Option<TokenKeeper>,
    admin: AdminClient<LoggingContext>,
    context: LoggingContext,
    brokers: String,
}

impl Topics {
    /// Prepares a client; does not connect yet.
    ///
    /// # Errors
    /// [`KafkaError::Configuration`] when librdkafka refuses a property.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let context = LoggingContext::of(settings);
        let config: ClientConfig = settings.client_config(&[], for_admin, &[]);
        let admin = AdminClient::from_config_and_context(&config, context.clone())
            .map_err(|error| KafkaError::Configuration(error.to_string()))?;
        let tokens = TokenKeeper::start(admin.inner().native_ptr(), settings, &context.state)?;
        Ok(Self {
            _tokens: tokens,
            admin,
            context,
            brokers: settings.brokers.clone(),
        })
    }

    /// The id of the cluster, whatever the names of its brokers are; `None` when no broker tells it in ten seconds.
    pub fn cluster_id(&self) -> Option<String> {
        self.client().fetch_cluster_id(CONNECT_TIMEOUT)
    }

    /// Describes a topic. Waits up to ten seconds for a broker.
    ///
    /// # Errors
    /// No broker, refused, or no such topic.
    pub fn describe(&self, topic: &str) -> Result<TopicInfo, KafkaError> {
        let metadata = metadata(self.client(), &self.context, &self.brokers, topic)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let no_topic = || KafkaError::NoTopic {
            topic: topic.to_owned(),
            brokers: self.brokers.clone(),
        };
        let found = found.ok_or_else(no_topic)?;
        if let Some(code) = found.error() {
            return Err(match code {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => KafkaError::Refused {
                    brokers: self.brokers.clone(),
                    detail: format!("not authorised for topic {topic}"),
                },
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE => {
                    KafkaError::Retriable(format!("topic {topic} has no leader yet"))
                }
                _ => no_topic(),
            });
        }
        let partitions = i32::try_from(found.partitions().len()).unwrap_or(i32::MAX);
        if partitions == 0 {
            return Err(no_topic());
        }
        Ok(TopicInfo {
            name: topic.to_owned(),
            partitions,
        })
    }

    /// First and last stable offset of a partition: what a read_committed reader can reach now.
    ///
    /// # Errors
    /// No broker answered in time.
    pub fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64), KafkaError> {
        self.client()
            .fetch_watermarks(topic, partition, CONNECT_TIMEOUT)
            .map_err(|error| {
                KafkaError::of(&format!("cannot read the offsets of {topic}/{partition}"), &error)
            })
    }

    /// First and last stable offset of every partition now.
    ///
    /// # Errors
    /// No broker answered in time.
    pub fn bounds(&self, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>, KafkaError> {
        let info = self.describe(topic)?;
        (0..info.partitions)
            .map(|partition| Ok((partition, self.watermarks(topic, partition)?)))
            .collect()
    }

    /// The offset of the first record of each partition that is not older than `timestamp_ms` (epoch milliseconds, by the
    /// records' timestamps); where there is none, the last stable offset.
    ///
    /// # Errors
    /// No broker answered in time.
    pub fn offsets_at(&self, topic: &str, timestamp_ms: i64) -> Result<BTreeMap<i32, i64>, KafkaError> {
        let context = format!("cannot find the offsets of {topic} by time");
        let bounds = self.bounds(topic)?;
        let mut list = TopicPartitionList::new();
        for partition in bounds.keys() {
            list.add_partition_offset(topic, *partition, Offset::Offset(timestamp_ms))
                .map_err(|error| KafkaError::of(&context, &error))?;
        }
        let timeout_ms = i32::try_from(CONNECT_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: client and list outlive the call, which writes the offsets into the list.
        let code =
            unsafe { native::rd_kafka_offsets_for_times(self.client().native_ptr(), list.ptr(), timeout_ms) };
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(KafkaError::of(&context, &ClientError::MetadataFetch(code.into())));
        }
        let mut found = BTreeMap::new();
        for element in list.elements() {
            element
                .error()
                .map_err(|error| KafkaError::of(&context, &error))?;
            let (low, high) = bounds.get(&element.partition()).copied().unwrap_or_default();
            let offset = match element.offset() {
                // A record of an open transaction may be the first.
                Offset::Offset(offset) => offset.clamp(low, high),
                _ => high,
            };
            found.insert(element.partition(), offset);
        }
        Ok(found)
    }

    /// The largest batch that the topic takes (`max.message.bytes`), in bytes; `None` when the broker does not say it.
    pub fn max_message_bytes(&self, topic: &str) -> Option<u64> {
        self.config(topic, "max.message.bytes")?.parse().ok()
    }

    /// Whether the broker compacts the topic, so that records inside of it may be gone; `None` when the broker does not say it.
    pub fn is_compacted(&self, topic: &str) -> Option<bool> {
        Some(self.config(topic, "cleanup.policy")?.contains("compact"))
    }

    fn config(&self, topic: &str, name: &str) -> Option<String> {
        let options = AdminOptions::new().request_timeout(Some(CONFIG_TIMEOUT));
        let described = block_on(
            self.admin
                .describe_configs(&[ResourceSpecifier::Topic(topic)], &options),
        );
        let configs = described.ok()?.into_iter().next()?.ok()?;
        configs.get(name)?.value.clone()
    }

    /// Makes the topics that are not there yet.
    ///
    /// # Errors
    /// No broker, refused, or more replicas asked for than there are brokers.
    pub fn ensure(&self, specs: &[TopicSpec]) -> Result<(), KafkaError> {
        let mut missing = Vec::new();
        for spec in specs {
            match self.describe(&spec.name) {
                Ok(_) => {}
                Err(KafkaError::NoTopic { .. }) => missing.push(spec),
                Err(other) => return Err(other),
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let new_topics: Vec<NewTopic<'_>> = missing
            .iter()
            .map(|spec| {
                NewTopic::new(
                    &spec.name,
                    spec.partitions,
                    TopicReplication::Fixed(spec.replication_factor),
                )
            })
            .collect();
        let options = AdminOptions::new().operation_timeout(Some(CONNECT_TIMEOUT));
        let results = block_on(self.admin.create_topics(&new_topics, &options))
            .map_err(|error| self.explain(&error))?;
        for result in results {
            match result {
                Ok(topic) => tracing::info!(topic, "topic created"),
                Err((_, Code::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(KafkaError::Failed(format!(
                        "cannot create topic {topic} at {}: {code}",
                        self.brokers
                    )));
                }
            }
        }
        for spec in missing {
            self.wait_for(&spec.name)?;
        }
        Ok(())
    }

    /// A new topic takes a moment until every broker tells of it.
    fn wait_for(&self, topic: &str) -> Result<(), KafkaError> {
        let started = std::time::Instant::now();
        loop {
            match self.describe(topic) {
                Ok(_) => return Ok(()),
                Err(error) if started.elapsed() > CONNECT_TIMEOUT => return Err(error),
                Err(KafkaError::NoTopic { .. } | KafkaError::Retriable(_)) => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn client(&self) -> &Client<LoggingContext> {
        self.admin.inner()
    }

    pub(crate) fn admin(&self) -> &AdminClient<LoggingContext> {
        &self.admin
    }

    /// Why there was no answer.
    pub(crate) fn explain(&self, error: &ClientError) -> KafkaError {
        self.context.listen(self.client().native_ptr());
        self.context.state.explain(&self.brokers, error)
    }

    /// The broker's id of this incarnation of a topic (KIP-516): a topic that is deleted and made again has another one.
    /// `None` when the broker does not say it within ten seconds: it is older than topic ids, or the embedded one.
    pub fn topic_id(&self, topic: &str) -> Option<String> {
        match self.incarnation(topic) {
            Incarnation::Id(id) => Some(id),
            Incarnation::Gone | Incarnation::Unknown => None,
        }
    }

    /// The same, with the reason why there is no id.
    pub fn incarnation(&self, topic: &str) -> Incarnation {
        incarnation_of(self.client(), topic)
    }
}

/// Asks the brokers about a topic, for ten seconds at most; not to the end when they have refused this client meanwhile. The client
/// must be one that reads no records at the moment.
pub(crate) fn metadata(
    client: &Client<LoggingContext>,
    context: &LoggingContext,
    brokers: &str,
    topic: &str,
) -> Result<Metadata, KafkaError> {
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let error = match client.fetch_metadata(Some(topic), left.min(LISTEN_EVERY)) {
            Ok(metadata) => return Ok(metadata),
            Err(error) => error,
        };
        context.listen(client.native_ptr());
        if context.state.is_refused() || Instant::now() >= deadline {
            return Err(context.state.explain(brokers, &error));
        }
    }
}

/// Asks a topic's id, by librdkafka's `DescribeTopics`, which rdkafka does not offer.
pub(crate) fn incarnation_of(client: &Client<LoggingContext>, topic: &str) -> Incarnation {
    let Ok(name) = CString::new(topic) else {
        return Incarnation::Gone;
    };
    let mut names: [*const c_char; 1] = [name.as_ptr()];
    let timeout_ms = i32::try_from(CONNECT_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: every object that is made here is destroyed here, in the order that librdkafka asks for; pointers into
    // the result are read before the event that owns them is destroyed; `name` outlives the call that copies it.
    unsafe {
        let client = client.native_ptr();
        let queue = native::rd_kafka_queue_new(client);
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        native::rd_kafka_DescribeTopics(client, topics, ptr::null(), queue);
        let event = native::rd_kafka_queue_poll(queue, timeout_ms);
        let incarnation = if event.is_null() {
            Incarnation::Unknown
        } else {
            incarnation_of_event(event)
        };
        if !event.is_null() {
            native::rd_kafka_event_destroy(event);
        }
        native::rd_kafka_TopicCollection_destroy(topics);
        native::rd_kafka_queue_destroy(queue);
        incarnation
    }
}

/// What a broker says about a topic's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incarnation {
    /// It has this one.
    Id(String),
    /// There is no such topic.
    Gone,
    /// No answer, or one without an id.
    Unknown,
}

/// # Safety
/// `event` is a live event of librdkafka.
unsafe fn incarnation_of_event(event: *mut native::rd_kafka_event_t) -> Incarnation {
    // SAFETY: the caller's promise; every pointer is checked before it is read.
    unsafe {
        let result = native::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Incarnation::Unknown;
        }
        let mut count = 0_usize;
        let topics = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 {
            return Incarnation::Unknown;
        }
        let error = native::rd_kafka_TopicDescription_error(*topics);
        if !error.is_null() {
            let code = native::rd_kafka_error_code(error);
            if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART {
                return Incarnation::Gone;
            }
        }
        let id = native::rd_kafka_TopicDescription_topic_id(*topics);
        if id.is_null()
            || (native::rd_kafka_Uuid_most_significant_bits(id) == 0
                && native::rd_kafka_Uuid_least_significant_bits(id) == 0)
        {
            return Incarnation::Unknown;
        }
        let text = native::rd_kafka_Uuid_base64str(id);
        if text.is_null() {
            Incarnation::Unknown
        } else {
            Incarnation::Id(CStr::from_ptr(text).to_string_lossy().into_owned())
        }
    }
}

/// Waits for an admin call: its thread is librdkafka's, so any thread may park for it.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}
