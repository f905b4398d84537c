//! Records in, and whole topics out as a read_committed reader sees them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::kafka::{Kafka, READ_LIMIT};

/// A record as a read_committed reader gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition in its topic.
    pub partition: i32,
    /// The offset in its partition.
    pub offset: i64,
    /// The key; None when the record has none.
    pub key: Option<Vec<u8>>,
    /// The payload; None for a tombstone.
    pub payload: Option<Vec<u8>>,
    /// The record's timestamp in epoch milliseconds.
    pub timestamp_ms: Option<i64>,
    /// The headers, values as text.
    pub headers: BTreeMap<String, String>,
}

impl Record {
    fn of(message: &BorrowedMessage<'_>) -> Record {
        let headers = message.headers().map_or_else(BTreeMap::new, |headers| {
            let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
            headers
                .iter()
                .map(|header| (header.key.to_owned(), text(header.value)))
                .collect()
        });
        Record {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            timestamp_ms: message.timestamp().to_millis(),
            headers,
        }
    }

    /// The position of the input record that this one was made from.
    ///
    /// # Errors
    /// When the headers that every output and dead letter carries are not there, or hold no numbers.
    pub fn source_position(&self) -> Result<(i32, i64)> {
        let header = |name: &str| {
            self.headers
                .get(name)
                .with_context(|| format!("no header {name} on {self:?}"))
        };
        Ok((
            header("source.partition")?.parse()?,
            header("source.offset")?.parse()?,
        ))
    }
}

/// [`Record::source_position`] of a record that is only looked at.
///
/// # Errors
/// As there.
pub fn source_position(message: &BorrowedMessage<'_>) -> Result<(i32, i64)> {
    let mut found = (None, None);
    for header in message.headers().into_iter().flat_map(Headers::iter) {
        let number = || anyhow::Ok(std::str::from_utf8(header.value.unwrap_or_default())?.parse()?);
        match header.key {
            "source.partition" => found.0 = Some(i32::try_from(number()?)?),
            "source.offset" => found.1 = Some(number()?),
            _ => {}
        }
    }
    match found {
        (Some(partition), Some(offset)) => Ok((partition, offset)),
        _ => bail!(
            "no source position on {}/{} of {}",
            message.partition(),
            message.offset(),
            message.topic()
        ),
    }
}

impl Kafka {
    /// Writes records of (key, payload), partitioned by key, all acknowledged when it returns.
    ///
    /// # Errors
    /// When one is not acknowledged within 60 s.
    pub fn produce(&self, topic: &str, records: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<()> {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "60000");
        let producer: ThreadedProducer<_> = config.create()?;
        for (key, payload) in records {
            let mut record = BaseRecord::to(topic).key(&key).payload(&payload);
            while let Err((error, refused)) = producer.send(record) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                record = refused;
                producer.flush(READ_LIMIT)?;
            }
        }
        Ok(producer.flush(READ_LIMIT)?)
    }

    /// Everything in a topic that is committed, in the order of its partitions' offsets. A topic that is not there yet
    /// is empty.
    ///
    /// # Errors
    /// When the end is not reached: an open transaction holds it back for longer than 60 s, or the broker is gone.
    pub fn read_committed(&self, topic: &str) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        self.each_committed(topic, |message| {
            records.push(Record::of(message));
            Ok(())
        })?;
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
    }

    /// The same one by one, for topics that are too large to hold: each partition in the order of its offsets.
    ///
    /// # Errors
    /// As [`Kafka::read_committed`], or when `look` fails.
    pub fn each_committed(
        &self,
        topic: &str,
        mut look: impl FnMut(&BorrowedMessage<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut config = self.client();
        config
            .set("group.id", "scenario-reader")
            .set("enable.auto.commit", "false");
        config
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true");
        config
            .set("auto.offset.reset", "error")
            .set("fetch.queue.backoff.ms", "5");
        config.set("queued.max.messages.kbytes", "16384");
        let consumer: BaseConsumer = config.create()?;
        let metadata = consumer.fetch_metadata(Some(topic), READ_LIMIT)?;
        let partitions = metadata
            .topics()
            .first()
            .map(|topic| topic.partitions().len())
            .unwrap_or_default();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..i32::try_from(partitions)? {
            assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        }
        consumer.assign(&assignment)?;
        let mut at_end = vec![false; partitions];
        while at_end.contains(&false) {
            match consumer.poll(READ_LIMIT) {
                None => bail!("{topic}: no record and no end for {} s", READ_LIMIT.as_secs()),
                Some(Err(KafkaError::PartitionEOF(partition))) => at_end[usize::try_from(partition)?] = true,
                Some(Err(error)) => return Err(error).with_context(|| format!("cannot read {topic}")),
                Some(Ok(message)) => look(&message)?,
            }
        }
        Ok(())
    }

    /// A producer whose records come in transactions; it has taken the transactional id over.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn transactions(&self, transactional_id: &str) -> Result<Transactions> {
        let mut config = self.client();
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", "600000");
        let producer: ThreadedProducer<_> = config.create()?;
        producer.init_transactions(READ_LIMIT)?;
        Ok(Transactions { producer })
    }
}

/// A transactional producer.
pub struct Transactions {
    producer: ThreadedProducer<DefaultProducerContext>,
}

impl Transactions {
    /// Begins a transaction.
    ///
    /// # Errors
    /// When one is open.
    pub fn begin(&self) -> Result<()> {
        Ok(self.producer.begin_transaction()?)
    }

    /// Hands a record to the open transaction.
    ///
    /// # Errors
    /// When none is open, or the queue is full.
    pub fn send(&self, topic: &str, partition: i32, key: &str, payload: &[u8]) -> Result<()> {
        let record = BaseRecord::to(topic)
            .partition(partition)
            .key(key)
            .payload(payload);
        self.producer.send(record).map_err(|(error, _)| error.into())
    }

    /// Makes next offsets of a group part of the open transaction, as somebody who is no member of it: it has to be empty.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn send_offsets(
        &self,
        kafka: &Kafka,
        group: &str,
        topic: &str,
        next_offsets: &BTreeMap<i32, i64>,
    ) -> Result<()> {
        let consumer: BaseConsumer = kafka.client().set("group.id", group).create()?;
        let metadata = consumer.group_metadata().context("the consumer has no group")?;
        let mut list = TopicPartitionList::new();
        for (partition, offset) in next_offsets {
            list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
        }
        Ok(self
            .producer
            .send_offsets_to_transaction(&list, &metadata, READ_LIMIT)?)
    }

    /// Waits until everything is in the topic; what is in an open transaction stays hidden.
    ///
    /// # Errors
    /// When the broker does not take it within 60 s.
    pub fn flush(&self) -> Result<()> {
        Ok(self.producer.flush(READ_LIMIT)?)
    }

    /// Commits.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn commit(&self) -> Result<()> {
        Ok(self.producer.commit_transaction(READ_LIMIT)?)
    }

    /// Aborts: what was sent takes its offsets and is never seen. Everything is delivered first, as librdkafka would
    /// otherwise drop what it still has.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn abort(&self) -> Result<()> {
        self.flush()?;
        Ok(self.producer.abort_transaction(READ_LIMIT)?)
    }
}
