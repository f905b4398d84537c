//! Reads whole topics without a consumer group: every partition, read_committed, nothing is ever committed.
//!
//! For those who look at topics rather than work on them (the dashboard, the tail of a query, lists of dead letters). A
//! reader takes no partitions away from anybody, and any number of readers see the same records. What is fetched but
//! not handled yet is bounded. Partitions that a topic gets after the reader was opened are not read; open another one.
//!
//! One client per topic: rdkafka tells the end of a partition without saying of which topic.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::KafkaError;
use crate::client::LoggingContext;
use crate::oauth::TokenKeeper;
use crate::settings::{CONNECT_TIMEOUT, KafkaSettings, for_consumer};
use crate::topics::metadata;

/// The queues are smaller than those of a worker: a reader runs beside one, in the same process.
const TUNING: &[(&str, &str)] = &[
    ("fetch.queue.backoff.ms", "5"),
    ("queued.max.messages.kbytes", "8192"),
    ("queued.min.messages", "20000"),
    ("fetch.message.max.bytes", "1048576"),
    ("fetch.max.bytes", "8388608"),
    ("fetch.wait.max.ms", "100"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("statistics.interval.ms", "0"),
];

/// librdkafka assigns partitions only to a client with a group name. No group of this name is ever joined or written.
const UNUSED_GROUP: &str = "loginlake-reader";

/// Where a reader begins in every partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the oldest record.
    Beginning,
    /// After the newest record.
    End,
    /// At the first record whose Kafka timestamp is not older.
    Time {
        /// Epoch milliseconds.
        epoch_ms: i64,
        /// Begins at least this many offsets (transaction markers among them) before the end of each partition: Kafka
        /// timestamps can be those of old events, and the embedded broker cannot look them up.
        at_least: i64,
    },
}

/// What a poll found.
pub enum Read<'a> {
    /// A record.
    Record(BorrowedMessage<'a>),
    /// Everything of this partition that was there is read. Told each time that the end is reached.
    EndOfPartition {
        /// The topic.
        topic: &'a str,
        /// The partition.
        partition: i32,
    },
    /// Nothing within the time.
    Nothing,
}

impl ConsumerContext for LoggingContext {}

/// Reads topics without a group. Belongs to one thread.
pub struct TopicReader {
    sources: Vec<Source>,
    /// Which source is asked first: a busy topic must not hide the others.
    turn: Cell<usize>,
    arrivals: Arc<Arrivals>,
}

impl TopicReader {
    /// Begins to read all partitions of these topics. Asks the brokers where, so it can take seconds.
    ///
    /// # Errors
    /// No broker, refused, no such topic, or a property that librdkafka refuses.
    pub fn open(settings: &KafkaSettings, topics: &[&str], from: ReadFrom) -> Result<Self, KafkaError> {
        let arrivals = Arc::new(Arrivals::default());
        let sources = topics
            .iter()
            .map(|topic| Source::open(settings, topic, from, &arrivals))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            sources,
            turn: Cell::new(0),
            arrivals,
        })
    }

    /// The next record of any of the topics. Records of one partition come in its order.
    ///
    /// # Errors
    /// [`KafkaError::Retriable`] for what librdkafka repairs by itself: go on polling. Anything else ends this reader.
    pub fn poll(&self, timeout: Duration) -> Result<Read<'_>, KafkaError> {
        let deadline = Instant::now() + timeout;
        loop {
            // Read before the queues are asked, so that an arrival in between is not waited for.
            let seen = self.arrivals.count();
            let first = self.turn.get();
            for step in 0..self.sources.len() {
                let index = (first + step) % self.sources.len();
                if let Some(found) = self.sources[index].poll() {
                    self.turn.set((index + 1) % self.sources.len());
                    return found;
                }
            }
            if !self.arrivals.wait_beyond(seen, deadline) {
                return Ok(Read::Nothing);
            }
        }
    }

    /// True once the end of every partition was reached, if only for a moment.
    pub fn end_reached(&self) -> bool {
        self.sources
            .iter()
            .all(|source| source.unfinished.borrow().is_empty())
    }

    /// Whether the brokers answer now; after a retriable error and without new records, nothing else tells.
    ///
    /// # Errors
    /// They did not answer in time.
    pub fn ping(&self, timeout: Duration) -> Result<(), KafkaError> {
        let Some(source) = self.sources.first() else {
            return Ok(());
        };
        source
            .consumer
            .fetch_metadata(Some(&source.topic), timeout)
            .map(drop)
            .map_err(|error| source.consumer.context().state.explain(&source.brokers, &error))
    }
}

/// One topic and its client.
struct Source {
    // Before the client, which it serves: fields are dropped in this order.
    _tokens: Option<TokenKeeper>,
    consumer: BaseConsumer<LoggingContext>,
    topic: String,
    brokers: String,
    /// Partitions whose end was not seen yet.
    unfinished: RefCell<BTreeSet<i32>>,
}

impl Source {
    fn open(
        settings: &KafkaSettings,
        topic: &str,
        from: ReadFrom,
        arrivals: &Arc<Arrivals>,
    ) -> Result<Self, KafkaError> {
        let config = settings.client_config(
            TUNING,
            for_consumer,
            &[
                ("group.id", UNUSED_GROUP),
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("isolation.level", "read_committed"),
                // Retention overtook the reader: it goes on with what is still there.
                ("auto.offset.reset", "earliest"),
                ("enable.partition.eof", "true"),
                ("allow.auto.create.topics", "false"),
            ],
        );
        let context = LoggingContext::of(settings);
        let mut consumer = BaseConsumer::from_config_and_context(&config, context.clone())
            .map_err(|error| KafkaError::Configuration(error.to_string()))?;
        let tokens = TokenKeeper::start(consumer.client().native_ptr(), settings, &context.state)?;
        let arrivals = Arc::clone(arrivals);
        consumer.set_nonempty_callback(move || arrivals.announce());
        let source = Self {
            _tokens: tokens,
            consumer,
            topic: topic.to_owned(),
            brokers: settings.brokers.clone(),
            unfinished: RefCell::default(),
        };
        let partitions = source.partitions()?;
        let list = source.list(source.starts(&partitions, from)?)?;
        source.unfinished.borrow_mut().extend(partitions);
        source
            .consumer
            .assign(&list)
            .map_err(|error| KafkaError::of(&format!("cannot read {topic}"), &error))?;
        Ok(source)
    }

    fn partitions(&self) -> Result<Vec<i32>, KafkaError> {
        // Nothing is assigned yet: there is no record that could be taken.
        let client = self.consumer.client();
        let metadata = metadata(client, client.context(), &self.brokers, &self.topic)?;
        let found = metadata.topics().iter().find(|found| found.name() == self.topic);
        let partitions: Vec<i32> = found
            .iter()
            .flat_map(|found| found.partitions())
            .map(|partition| partition.id())
            .collect();
        if let Some(code) = found.and_then(|found| found.error()).map(Code::from) {
            match code {
                Code::UnknownTopicOrPartition | Code::UnknownTopic => {}
                Code::TopicAuthorizationFailed => {
                    return Err(KafkaError::Refused {
                        brokers: self.brokers.clone(),
                        detail: format!("not authorised for topic {}", self.topic),
                    });
                }
                code => return Err(KafkaError::Retriable(format!("topic {}: {code}", self.topic))),
            }
        }
        if partitions.is_empty() {
            return Err(KafkaError::NoTopic {
                topic: self.topic.clone(),
                brokers: self.brokers.clone(),
            });
        }
        Ok(partitions)
    }

    /// The offset at which each partition begins.
    fn starts(&self, partitions: &[i32], from: ReadFrom) -> Result<BTreeMap<i32, Offset>, KafkaError> {
        let everywhere = |offset| partitions.iter().map(|partition| (*partition, offset)).collect();
        match from {
            ReadFrom::Beginning => Ok(everywhere(Offset::Beginning)),
            ReadFrom::End => Ok(everywhere(Offset::End)),
            ReadFrom::Time { epoch_ms, at_least } => {
                let times = self.list(everywhere(Offset::Offset(epoch_ms)))?;
                let found = self
                    .consumer
                    .offsets_for_times(times, CONNECT_TIMEOUT)
                    .map_err(|error| self.failed("cannot look up a time in", &error))?;
                found
                    .elements()
                    .iter()
                    .map(|element| {
                        element
                            .error()
                            .map_err(|error| self.failed("cannot look up a time in", &error))?;
                        let start = self.no_later_than(element.partition(), element.offset(), at_least)?;
                        Ok((element.partition(), start))
                    })
                    .collect()
            }
        }
    }

    /// `found`, or `at_least` offsets before the end where that is earlier.
    fn no_later_than(&self, partition: i32, found: Offset, at_least: i64) -> Result<Offset, KafkaError> {
        let (low, end) = self
            .consumer
            .fetch_watermarks(&self.topic, partition, CONNECT_TIMEOUT)
            .map_err(|error| self.failed("cannot read the offsets of", &error))?;
        let latest = end.saturating_sub(at_least).max(low);
        Ok(Offset::Offset(match found {
            Offset::Offset(offset) => offset.min(latest),
            _ => latest,
        }))
    }

    fn list(&self, offsets: BTreeMap<i32, Offset>) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.topic, partition, offset)
                .map_err(|error| {
                    KafkaError::Failed(format!(
                        "offset {offset:?} of {}/{partition}: {error}",
                        self.topic
                    ))
                })?;
        }
        Ok(list)
    }

    fn failed(&self, what: &str, error: &ClientError) -> KafkaError {
        KafkaError::of(&format!("{what} {}", self.topic), error)
    }

    /// What is there now, without waiting.
    fn poll(&self) -> Option<Result<Read<'_>, KafkaError>> {
        match self.consumer.poll(Duration::ZERO) {
            Some(Ok(message)) => Some(Ok(Read::Record(message))),
            Some(Err(ClientError::PartitionEOF(partition))) => {
                self.unfinished.borrow_mut().remove(&partition);
                Some(Ok(Read::EndOfPartition {
                    topic: &self.topic,
                    partition,
                }))
            }
            Some(Err(error)) => self.judge(&error).map(Err),
            None => self
                .consumer
                .context()
                .state
                .fatal()
                .map(|text| Err(KafkaError::Failed(text))),
        }
    }

    /// `None` for an error that does not matter.
    fn judge(&self, error: &ClientError) -> Option<KafkaError> {
        match error.rdkafka_error_code() {
            // The group is a name only; that this user may not use it changes nothing.
            Some(Code::GroupAuthorizationFailed) => None,
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Some(KafkaError::Failed(format!(
                "topic {} is not there any more",
                self.topic
            ))),
            _ => Some(self.failed("cannot read", error)),
        }
    }
}

/// Counts the times at which an empty queue got something, over all clients of a reader.
#[derive(Default)]
struct Arrivals {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Arrivals {
    fn lock(&self) -> std::sync::MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> u64 {
        *self.lock()
    }

    fn announce(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits for another arrival; false when the time is over.
    fn wait_beyond(&self, seen: u64, deadline: Instant) -> bool {
        let remaining = deadline.saturating_duration_since(Instant::now());
        let (_count, timed_out) = self
            .changed
            .wait_timeout_while(self.lock(), remaining, |count| *count <= seen)
            .unwrap_or_else(PoisonError::into_inner);
        !timed_out.timed_out()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::EmbeddedBroker;
    use crate::producer::{Outgoing, PlainProducer};
    use rdkafka::Message;

    const LIMIT: Duration = Duration::from_secs(30);

    fn produce(settings: &KafkaSettings, records: &[(&str, i32, &str)]) {
        let producer = PlainProducer::new(settings).expect("a producer");
        for (topic, partition, payload) in records {
            let outgoing = Outgoing {
                topic,
                key: None,
                payload: Some(payload.as_bytes()),
                timestamp_ms: None,
                partition: Some(*partition),
                headers: None,
            };
            producer.send_record(outgoing).expect("taken");
        }
        assert_eq!(producer.flush(LIMIT).expect("flushed").failed, 0);
    }

    /// Topic, partition and payload of a record.
    type Found = (String, i32, String);

    /// Every record up to the end of all partitions, and the ends that were told.
    fn read_to_the_end(reader: &TopicReader) -> (Vec<Found>, Vec<(String, i32)>) {
        let deadline = Instant::now() + LIMIT;
        let (mut records, mut ends) = (Vec::new(), Vec::new());
        while !reader.end_reached() {
            assert!(
                Instant::now() < deadline,
                "the end was not reached; read {records:?}"
            );
            match reader.poll(Duration::from_millis(100)).expect("readable") {
                Read::Record(message) => {
                    let payload = String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned();
                    records.push((message.topic().to_owned(), message.partition(), payload));
                }
                Read::EndOfPartition { topic, partition } => ends.push((topic.to_owned(), partition)),
                Read::Nothing => {}
            }
        }
        records.sort();
        ends.sort();
        (records, ends)
    }

    fn owned(records: &[(&str, i32, &str)]) -> Vec<Found> {
        records
            .iter()
            .map(|(topic, partition, text)| ((*topic).into(), *partition, (*text).into()))
            .collect()
    }

    #[test]
    fn all_partitions_of_all_topics_are_read_and_each_end_is_told_with_its_topic() {
        let broker = EmbeddedBroker::start(&[("a", 2), ("b", 1)]).expect("a broker");
        let records = [("a", 0, "1"), ("a", 0, "2"), ("a", 1, "3"), ("b", 0, "4")];
        produce(&broker.settings(), &records);
        let reader =
            TopicReader::open(&broker.settings(), &["a", "b"], ReadFrom::Beginning).expect("a reader");
        let (read, ends) = read_to_the_end(&reader);
        assert_eq!(read, owned(&records));
        assert_eq!(
            ends,
            [("a".to_owned(), 0), ("a".to_owned(), 1), ("b".to_owned(), 0)]
        );
        reader.ping(LIMIT).expect("the broker answers");
    }

    #[test]
    fn from_the_end_only_what_comes_later_is_read() {
        let broker = EmbeddedBroker::start(&[("a", 1)]).expect("a broker");
        produce(&broker.settings(), &[("a", 0, "before")]);
        let reader = TopicReader::open(&broker.settings(), &["a"], ReadFrom::End).expect("a reader");
        assert!(read_to_the_end(&reader).0.is_empty());
        produce(&broker.settings(), &[("a", 0, "after")]);
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < deadline, "the record did not arrive");
            if let Read::Record(message) = reader.poll(Duration::from_millis(100)).expect("readable") {
                assert_eq!(message.payload(), Some(&b"after"[..]));
                return;
            }
        }
    }

    #[test]
    fn from_a_time_at_least_the_newest_offsets_are_read() {
        let broker = EmbeddedBroker::start(&[("a", 1)]).expect("a broker");
        produce(&broker.settings(), &[("a", 0, "1"), ("a", 0, "2"), ("a", 0, "3")]);
        // Nothing is newer than the end of time.
        for (at_least, expected) in [(0, &[][..]), (2, &["2", "3"]), (100, &["1", "2", "3"])] {
            let from = ReadFrom::Time {
                epoch_ms: i64::MAX,
                at_least,
            };
            let reader = TopicReader::open(&broker.settings(), &["a"], from).expect("a reader");
            let read: Vec<String> = read_to_the_end(&reader)
                .0
                .into_iter()
                .map(|(_, _, text)| text)
                .collect();
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn an_arrival_between_the_look_and_the_wait_is_not_missed() {
        let arrivals = Arrivals::default();
        let seen = arrivals.count();
        arrivals.announce();
        assert!(arrivals.wait_beyond(seen, Instant::now() + LIMIT));
        assert!(!arrivals.wait_beyond(seen + 1, Instant::now()));
    }
}
