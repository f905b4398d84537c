//! Reads exactly the offsets `[from, to)` of chosen partitions of one topic, read_committed, without a consumer group.
//!
//! Guarantee: between [`RangeReader::begin`] and [`RangeRead::Finished`] every committed record of the ranges is given once,
//! those of one partition in order, and none beyond. What cannot be read (retention took it) is an error, never a gap.
//! A reader can be used again for other ranges. What is fetched but not handled yet is bounded.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::bindings as native;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use crate::KafkaError;
use crate::client::LoggingContext;
use crate::oauth::TokenKeeper;
use crate::settings::{CONNECT_TIMEOUT, KafkaSettings, for_consumer};
use crate::topics::{Incarnation, incarnation_of, metadata};

/// For a backlog that somebody waits for. The short wait is that for the end behind a transaction's marker.
const TUNING: &[(&str, &str)] = &[
    ("fetch.queue.backoff.ms", "1"),
    ("queued.max.messages.kbytes", "16384"),
    ("queued.min.messages", "100000"),
    ("fetch.message.max.bytes", "1048576"),
    ("fetch.max.bytes", "8388608"),
    ("fetch.wait.max.ms", "10"),
    ("statistics.interval.ms", "0"),
];

/// librdkafka assigns partitions only to a client with a group name. No group of this name is ever joined or written.
const UNUSED_GROUP: &str = "loginlake-reader";

const READ_COMMITTED: &str = "read_committed";
const READ_UNCOMMITTED: &str = "read_uncommitted";
/// What a reader may fetch ahead.
const LEAST_QUEUE_BYTES: usize = 1 << 20;
const MOST_QUEUE_BYTES: usize = 16 << 20;
/// How often the ends of a topic are asked for while a transaction is open.
const DECIDED_PAUSE: Duration = Duration::from_millis(50);

/// Partitions that are asked for their bounds at the same time.
const QUESTIONS_IN_FLIGHT: usize = 8;

/// What a poll found.
pub enum RangeRead<'a> {
    /// A record of the ranges.
    Record(BorrowedMessage<'a>),
    /// All ranges are read to their ends.
    Finished,
    /// Nothing within the time.
    Nothing,
}

/// First and last stable offset by partition.
pub type Bounds = BTreeMap<i32, (i64, i64)>;

/// The ends of a topic behind everything that had been sent by a moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// First and last stable offset: what was sent by that moment is below, committed or aborted.
    pub bounds: Bounds,
    /// The last stable offsets shortly before that moment. Whatever belongs to a transaction that has a record below them
    /// is below the last offsets of `bounds`.
    pub before: BTreeMap<i32, i64>,
}

/// Asks for the ends of some topics at one moment, and waits until nothing that was sent by then is undecided.
///
/// # Errors
/// No broker answered in time; [`KafkaError::Retriable`] when a transaction is open for longer than `limit`.
pub fn decided(
    settings: &KafkaSettings,
    topics: &[&str],
    limit: Duration,
) -> Result<Vec<Decided>, KafkaError> {
    let readers: Vec<RangeReader> = topics
        .iter()
        .map(|topic| RangeReader::connect(settings, topic))
        .collect::<Result<_, _>>()?;
    let before: Vec<Bounds> = readers
        .iter()
        .map(RangeReader::bounds)
        .collect::<Result<_, _>>()?;
    let mut decided = Vec::new();
    let mut sent = Vec::new();
    for topic in topics {
        let all = RangeReader::connect_as(settings, topic, TUNING, UNUSED_GROUP, READ_UNCOMMITTED)?;
        sent.push(all.bounds()?);
    }
    let began = Instant::now();
    for ((reader, sent), before) in readers.iter().zip(sent).zip(before) {
        let bounds = loop {
            let bounds = reader.bounds()?;
            let is_undecided = |(partition, (_, end)): (&i32, &(i64, i64))| {
                bounds.get(partition).is_none_or(|(_, stable)| stable < end)
            };
            let Some((partition, _)) = sent.iter().find(|found| is_undecided(*found)) else {
                break bounds;
            };
            if began.elapsed() >= limit {
                return Err(KafkaError::Retriable(format!(
                    "a transaction in {}/{partition} is open for more than {} s",
                    reader.topic,
                    limit.as_secs()
                )));
            }
            std::thread::sleep(DECIDED_PAUSE);
        };
        decided.push(Decided {
            bounds,
            before: before
                .into_iter()
                .map(|(partition, (_, end))| (partition, end))
                .collect(),
        });
    }
    Ok(decided)
}

/// The next offsets that a consumer group has committed for partitions of a topic; those of open transactions do not count.
/// The group is only looked at.
///
/// # Errors
/// No broker answered in time, or refused.
pub fn committed_by(
    settings: &KafkaSettings,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let reader = RangeReader::connect_as(settings, topic, TUNING, group, READ_UNCOMMITTED)?;
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    let committed = reader
        .consumer
        .committed_offsets(list, CONNECT_TIMEOUT)
        .map_err(|error| KafkaError::of(&format!("cannot read the offsets of group {group}"), &error))?;
    let found = committed
        .elements()
        .into_iter()
        .filter_map(|element| match element.offset() {
            Offset::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        });
    Ok(found.collect())
}

/// Cuts ranges into at most `most` parts of about the same number of offsets, none of them smaller than `least` unless it is
/// the only one. A partition that is cut has its pieces in parts that follow each other.
pub fn cut(ranges: &Bounds, most: usize, least: i64) -> Vec<Bounds> {
    let total: i64 = ranges.values().map(|(from, to)| (to - from).max(0)).sum();
    if total == 0 {
        return Vec::new();
    }
    let most = i64::try_from(most).unwrap_or(i64::MAX).max(1);
    let share = total.div_euclid((total / least.max(1)).clamp(1, most)) + 1;
    let mut parts = vec![Bounds::new()];
    let mut room = share;
    for (partition, (from, to)) in ranges {
        let mut from = *from;
        while from < *to {
            if room == 0 {
                parts.push(Bounds::new());
                room = share;
            }
            let end = (*to).min(from.saturating_add(room));
            if let Some(part) = parts.last_mut() {
                part.insert(*partition, (from, end));
            }
            room -= end - from;
            from = end;
        }
    }
    parts
}

/// Reads ranges of one topic. Belongs to one thread at a time.
pub struct RangeReader {
    // Before the client, which it serves: fields are dropped in this order.
    _tokens: Option<TokenKeeper>,
    consumer: BaseConsumer<LoggingContext>,
    topic: String,
    brokers: String,
    /// Where each partition ends whose end was not reached yet.
    open: RefCell<BTreeMap<i32, i64>>,
}

impl RangeReader {
    /// Prepares a client, which begins to connect in the background.
    ///
    /// # Errors
    /// [`KafkaError::Configuration`] when librdkafka refuses a property.
    pub fn connect(settings: &KafkaSettings, topic: &str) -> Result<Self, KafkaError> {
        Self::connect_as(settings, topic, TUNING, UNUSED_GROUP, READ_COMMITTED)
    }

    /// The same for one of many readers: it fetches at most about `bytes` ahead, and at least one message of the largest size.
    ///
    /// # Errors
    /// As [`RangeReader::connect`].
    pub fn connect_within(settings: &KafkaSettings, topic: &str, bytes: usize) -> Result<Self, KafkaError> {
        // librdkafka refuses a fetch that is smaller than a message may be.
        let largest = settings.properties.get("message.max.bytes");
        let largest = largest.and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        let bytes = bytes.min(MOST_QUEUE_BYTES).max(LEAST_QUEUE_BYTES.max(largest));
        let fetch = (bytes / 2).max(LEAST_QUEUE_BYTES.max(largest)).to_string();
        let (kilobytes, message) = ((bytes >> 10).to_string(), (bytes / 2).min(1 << 20).to_string());
        let own = [
            ("queued.max.messages.kbytes", kilobytes.as_str()),
            ("fetch.max.bytes", &fetch),
            ("fetch.message.max.bytes", &message),
        ];
        let tuning = [TUNING, &own].concat();
        Self::connect_as(settings, topic, &tuning, UNUSED_GROUP, READ_COMMITTED)
    }

    fn connect_as(
        settings: &KafkaSettings,
        topic: &str,
        tuning: &[(&str, &str)],
        group: &str,
        isolation: &str,
    ) -> Result<Self, KafkaError> {
        let config = settings.client_config(
            tuning,
            for_consumer,
            &[
                ("group.id", group),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("isolation.level", isolation),
                ("auto.offset.reset", "error"),
                ("enable.partition.eof", "true"),
                ("allow.auto.create.topics", "false"),
            ],
        );
        let context = LoggingContext::of(settings);
        let consumer = BaseConsumer::from_config_and_context(&config, context.clone())
            .map_err(|error| KafkaError::Configuration(error.to_string()))?;
        let tokens = TokenKeeper::start(consumer.client().native_ptr(), settings, &context.state)?;
        Ok(Self {
            _tokens: tokens,
            consumer,
            topic: topic.to_owned(),
            brokers: settings.brokers.clone(),
            open: RefCell::default(),
        })
    }

    /// Which incarnation of the topic the broker has now.
    pub fn incarnation(&self) -> Incarnation {
        incarnation_of(self.consumer.client(), &self.topic)
    }

    /// First and last stable offset of every partition now. The last stable one only ever grows, and everything below it
    /// is decided: committed or aborted.
    ///
    /// # Errors
    /// No broker answered in time, refused, or no such topic.
    pub fn bounds(&self) -> Result<BTreeMap<i32, (i64, i64)>, KafkaError> {
        let client = self.consumer.client();
        let metadata = if self.open.borrow().is_empty() {
            metadata(client, client.context(), &self.brokers, &self.topic)?
        } else {
            self.consumer
                .fetch_metadata(Some(&self.topic), CONNECT_TIMEOUT)
                .map_err(|error| client.context().state.explain(&self.brokers, &error))?
        };
        let found = metadata.topics().iter().find(|found| found.name() == self.topic);
        if let Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED) =
            found.and_then(|found| found.error())
        {
            return Err(KafkaError::Refused {
                brokers: self.brokers.clone(),
                detail: format!("not authorised for topic {}", self.topic),
            });
        }
        let partitions: Vec<i32> = found
            .iter()
            .flat_map(|found| found.partitions())
            .map(|partition| partition.id())
            .collect();
        if partitions.is_empty() {
            return Err(KafkaError::NoTopic {
                topic: self.topic.clone(),
                brokers: self.brokers.clone(),
            });
        }
        self.bounds_of(&partitions)
    }

    fn bounds_of(&self, partitions: &[i32]) -> Result<BTreeMap<i32, (i64, i64)>, KafkaError> {
        let (consumer, topic) = (&self.consumer, self.topic.as_str());
        let found = Mutex::new(BTreeMap::new());
        let ask = |partitions: &[i32]| -> Result<(), KafkaError> {
            for partition in partitions {
                let bounds = consumer
                    .fetch_watermarks(topic, *partition, CONNECT_TIMEOUT)
                    .map_err(|error| {
                        KafkaError::of(&format!("cannot read the offsets of {topic}/{partition}"), &error)
                    })?;
                found
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .insert(*partition, bounds);
            }
            Ok(())
        };
        let share = partitions.len().div_ceil(QUESTIONS_IN_FLIGHT).max(1);
        let mut shares = partitions.chunks(share);
        let first = shares.next().unwrap_or_default();
        std::thread::scope(|scope| {
            let others: Vec<_> = shares.map(|share| scope.spawn(|| ask(share))).collect();
            let mut result = ask(first);
            for other in others {
                let asked = other.join().unwrap_or_else(|_| {
                    Err(KafkaError::Failed(format!(
                        "a thread that asked for the offsets of {topic} panicked"
                    )))
                });
                result = result.and(asked);
            }
            result
        })?;
        Ok(found
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Begins to read these ranges `(from, to)`, by partition. Every `to` is at most the last stable offset. Empty ranges are
    /// left out.
    ///
    /// # Errors
    /// librdkafka refuses an offset.
    pub fn begin(&mut self, ranges: &BTreeMap<i32, (i64, i64)>) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        let mut open = BTreeMap::new();
        for (partition, (from, to)) in ranges.iter().filter(|(_, (from, to))| from < to) {
            list.add_partition_offset(&self.topic, *partition, Offset::Offset(*from))
                .map_err(|error| self.failed(&error))?;
            open.insert(*partition, *to);
        }
        self.consumer.assign(&list).map_err(|error| self.failed(&error))?;
        // That a partition was paused outlasts its assignment.
        self.consumer.resume(&list).map_err(|error| self.failed(&error))?;
        self.open.replace(open);
        Ok(())
    }

    /// The next record of the ranges.
    ///
    /// # Errors
    /// [`KafkaError::Retriable`] for what librdkafka repairs by itself: go on polling. [`KafkaError::OutOfRange`]: records
    /// of the ranges are gone.
    pub fn poll(&self, timeout: Duration) -> Result<RangeRead<'_>, KafkaError> {
        loop {
            if self.open.borrow().is_empty() {
                return Ok(RangeRead::Finished);
            }
            match self.consumer.poll(timeout) {
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(to) = self.open.borrow().get(&partition).copied() else {
                        continue;
                    };
                    if offset + 1 >= to {
                        self.close(partition);
                    }
                    if offset < to {
                        return Ok(RangeRead::Record(message));
                    }
                }
                Some(Err(ClientError::PartitionEOF(partition))) => {
                    let to = self.open.borrow().get(&partition).copied();
                    // A new leader may know less for a moment: the end is told again when there is more.
                    if to.is_some_and(|to| self.known_end(partition) >= to) {
                        self.close(partition);
                    }
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    // The group is a name only; that this user may not use it changes nothing.
                    Some(Code::GroupAuthorizationFailed) => {}
                    Some(Code::OffsetOutOfRange | Code::AutoOffsetReset) => {
                        return Err(KafkaError::OutOfRange(format!(
                            "records of topic {} are gone that were there when reading began",
                            self.topic
                        )));
                    }
                    Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => {
                        return Err(KafkaError::OutOfRange(format!(
                            "topic {} is not there any more",
                            self.topic
                        )));
                    }
                    _ => return Err(self.failed(&error)),
                },
                None => {
                    return match self.consumer.context().state.fatal() {
                        Some(text) => Err(KafkaError::Failed(text)),
                        None => Ok(RangeRead::Nothing),
                    };
                }
            }
        }
    }

    /// Stops fetching.
    pub fn stop(&mut self) {
        self.open.get_mut().clear();
        if let Err(error) = self.consumer.unassign() {
            tracing::debug!(%error, "partitions not given back");
        }
    }

    /// Its end is reached: nothing more of it is fetched while others are read.
    fn close(&self, partition: i32) {
        let mut open = self.open.borrow_mut();
        open.remove(&partition);
        if open.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        if let Err(error) = self.consumer.pause(&list) {
            tracing::debug!(%error, partition, "not paused");
        }
    }

    /// The end of a partition as the newest answer of the broker said it.
    fn known_end(&self, partition: i32) -> i64 {
        let (mut low, mut high) = (-1, -1);
        let Ok(topic) = std::ffi::CString::new(self.topic.as_str()) else {
            return -1;
        };
        // SAFETY: client and name outlive the call, which writes two numbers.
        unsafe {
            native::rd_kafka_get_watermark_offsets(
                self.consumer.client().native_ptr(),
                topic.as_ptr(),
                partition,
                &mut low,
                &mut high,
            );
        }
        high
    }

    fn failed(&self, error: &ClientError) -> KafkaError {
        KafkaError::of(&format!("cannot read {}", self.topic), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::EmbeddedBroker;
    use crate::producer::{Outgoing, PlainProducer};

    const LIMIT: Duration = Duration::from_secs(30);

    fn produce(settings: &KafkaSettings, partition: i32, records: std::ops::Range<i64>) {
        let producer = PlainProducer::new(settings).expect("a producer");
        for record in records {
            let text = format!("{partition}/{record}");
            let outgoing = Outgoing {
                topic: "a",
                key: None,
                payload: Some(text.as_bytes()),
                timestamp_ms: None,
                partition: Some(partition),
                headers: None,
            };
            producer.send_record(outgoing).expect("taken");
        }
        assert_eq!(producer.flush(LIMIT).expect("flushed").failed, 0);
    }

    fn read(reader: &mut RangeReader, ranges: &[(i32, i64, i64)]) -> Vec<String> {
        let ranges = ranges.iter().map(|(p, from, to)| (*p, (*from, *to))).collect();
        reader.begin(&ranges).expect("begun");
        let deadline = Instant::now() + LIMIT;
        let mut found = Vec::new();
        loop {
            assert!(Instant::now() < deadline, "the end was not reached: {found:?}");
            match reader.poll(Duration::from_millis(100)) {
                Ok(RangeRead::Record(message)) => {
                    found.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned());
                }
                Ok(RangeRead::Finished) => break,
                Ok(RangeRead::Nothing) => {}
                Err(error) if error.is_retriable() => {}
                Err(error) => panic!("{error}"),
            }
        }
        reader.stop();
        found.sort();
        found
    }

    #[test]
    fn exactly_the_ranges_are_read_and_a_reader_can_be_used_again() {
        let broker = EmbeddedBroker::start(&[("a", 3)]).expect("a broker");
        produce(&broker.settings(), 0, 0..10);
        produce(&broker.settings(), 1, 0..5);
        let mut reader = RangeReader::connect(&broker.settings(), "a").expect("a reader");
        let bounds = reader.bounds().expect("bounds");
        assert_eq!(bounds, BTreeMap::from([(0, (0, 10)), (1, (0, 5)), (2, (0, 0))]));
        assert_eq!(
            read(&mut reader, &[(0, 2, 5), (1, 4, 5), (2, 0, 0)]),
            ["0/2", "0/3", "0/4", "1/4"]
        );
        assert_eq!(read(&mut reader, &[(1, 0, 2)]), ["1/0", "1/1"]);
        for _ in 0..3 {
            assert_eq!(read(&mut reader, &[(0, 9, 10), (1, 3, 5)]), ["0/9", "1/3", "1/4"]);
        }
        assert!(read(&mut reader, &[]).is_empty());
    }

    #[test]
    fn a_topic_that_is_not_there_is_said() {
        let broker = EmbeddedBroker::start(&[("a", 1)]).expect("a broker");
        let reader = RangeReader::connect(&broker.settings(), "b").expect("a reader");
        assert!(matches!(reader.bounds(), Err(KafkaError::NoTopic { .. })));
    }

    #[test]
    fn the_ends_of_a_topic_are_those_of_all_that_was_sent() {
        let broker = EmbeddedBroker::start(&[("a", 2)]).expect("a broker");
        produce(&broker.settings(), 0, 0..7);
        let found = decided(&broker.settings(), &["a"], LIMIT).expect("decided");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].bounds, BTreeMap::from([(0, (0, 7)), (1, (0, 0))]));
        assert_eq!(found[0].before, BTreeMap::from([(0, 7), (1, 0)]));
        let none = committed_by(&broker.settings(), "nobody", "a", &[0, 1]).expect("asked");
        assert_eq!(none, BTreeMap::new());
    }

    #[test]
    fn a_small_reader_reads_all_of_a_range() {
        let broker = EmbeddedBroker::start(&[("a", 1)]).expect("a broker");
        produce(&broker.settings(), 0, 0..3_000);
        let mut reader = RangeReader::connect_within(&broker.settings(), "a", 1).expect("a reader");
        assert_eq!(read(&mut reader, &[(0, 10, 3_000)]).len(), 2_990);
    }

    #[test]
    fn parts_are_of_the_same_size_and_cover_every_offset_once() {
        let ranges = Bounds::from([(0, (10, 310)), (1, (0, 0)), (2, (5, 106))]);
        for (most, least) in [(1, 1), (3, 1), (7, 1), (3, 200), (1_000, 1)] {
            let parts = cut(&ranges, most, least);
            assert!(!parts.is_empty() && parts.len() <= most, "{most}: {parts:?}");
            let sizes = parts
                .iter()
                .map(|part| part.values().map(|(from, to)| to - from).sum::<i64>());
            let sizes: Vec<i64> = sizes.collect();
            assert!(parts.len() == 1 || sizes[0] >= least, "{sizes:?}");
            for (partition, (from, to)) in &ranges {
                let mut next = *from;
                for (begin, end) in parts.iter().filter_map(|part| part.get(partition)) {
                    assert_eq!(*begin, next);
                    next = *end;
                }
                assert_eq!(next, *to);
            }
        }
        assert!(cut(&Bounds::from([(0, (5, 5))]), 4, 1).is_empty());
    }
}
