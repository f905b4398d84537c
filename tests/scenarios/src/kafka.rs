//! One Apache Kafka broker (KRaft, broker and controller in one process, 512 MiB heap) on free loopback ports, and what
//! scenarios do with it: topics, records in, whole topics out as a read_committed reader sees them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::progress::Progress;
use crate::wait::wait_for;
use crate::{http, parts, scenario, spawn};

const START_LIMIT: Duration = Duration::from_secs(90);
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(60);
/// The silence after which the broker takes the partitions of a member of the newer group protocol, which has this limit
/// from the broker, away from it. Short, so that scenarios can wait for it.
pub const SESSION_TIMEOUT_MS: u32 = 4_000;
/// Sixteen bytes in base64, as StorageTool wants them; a cluster of its own in its own folder needs no better one.
const CLUSTER_ID: &str = "bG9naW5sYWtlLXRlc3RzMQ";

static SHARED: Mutex<Option<Arc<Kafka>>> = Mutex::new(None);

/// The broker that the scenarios of one test binary share; started at the first call.
///
/// # Errors
/// When it does not come up.
pub fn shared() -> Result<Arc<Kafka>> {
    let mut shared = lock(&SHARED);
    if shared.is_none() {
        *shared = Some(Arc::new(Kafka::start(&scenario::run_dir()?.join("kafka"))?));
    }
    Ok(Arc::clone(shared.as_ref().expect("it was set above")))
}

/// Stops the shared broker, if there is one. Called once, when all scenarios are over.
pub fn stop_shared() {
    drop(lock(&SHARED).take());
}

/// A scenario that failed with the lock held must not fail all others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running broker; stopped when dropped.
pub struct Kafka {
    dir: PathBuf,
    port: u16,
    child: Mutex<Option<Child>>,
}

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

impl Kafka {
    /// Starts a broker of one's own, for scenarios that kill it; all others take [`shared`].
    ///
    /// # Errors
    /// When it does not come up within 90 s; the message holds the end of its log.
    pub fn start(dir: &Path) -> Result<Kafka> {
        fs::create_dir_all(dir)?;
        let port = scenario::free_port()?;
        write_properties(dir, port, scenario::free_port()?)?;
        format_storage(dir)?;
        let kafka = Kafka {
            dir: dir.to_path_buf(),
            port,
            child: Mutex::new(None),
        };
        kafka.start_again()?;
        Ok(kafka)
    }

    /// The bootstrap address, `127.0.0.1:port`.
    pub fn brokers(&self) -> String {
        self.address().to_string()
    }

    fn address(&self) -> SocketAddr {
        http::loopback(self.port)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("kafka.log")
    }

    /// Kills the broker as a power cut would; its data and its port stay.
    pub fn kill(&self) {
        if let Some(mut child) = lock(&self.child).take() {
            spawn::stop(&mut child);
        }
    }

    /// Starts it again on the same data and port, and waits until it answers.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start_again(&self) -> Result<()> {
        self.kill();
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = java();
        command
            .args(["kafka.Kafka", "server.properties"])
            .current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        *lock(&self.child) = Some(spawn::spawn(command).context("cannot start java")?);
        let probe: BaseConsumer = self.client().create()?;
        wait_for("Kafka to answer", START_LIMIT, || {
            if let Some(status) = lock(&self.child)
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten()
            {
                bail!("Kafka stopped with {status} while starting");
            }
            if !http::accepts(self.address()) {
                return Ok(None);
            }
            Ok(probe
                .fetch_metadata(None, Duration::from_secs(5))
                .ok()
                .filter(|answer| !answer.brokers().is_empty()))
        })
        .with_context(|| scenario::end_of(&self.log_file()))?;
        Ok(())
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers())
            .set("log_level", "0");
        config
    }

    /// Makes a topic with `partitions` partitions, and waits until the broker serves it.
    ///
    /// # Errors
    /// When the broker refuses, or the topic exists.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        let admin: AdminClient<_> = self.client().create()?;
        let options = AdminOptions::new().operation_timeout(Some(READ_LIMIT));
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let results = futures::executor::block_on(admin.create_topics(&[topic], &options))?;
        for result in results {
            result.map_err(|(topic, code)| anyhow::anyhow!("cannot make topic {topic}: {code}"))?;
        }
        Ok(())
    }

    /// The number of a topic's partitions; 0 when there is no such topic.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn partitions(&self, topic: &str) -> Result<usize> {
        let probe: BaseConsumer = self.client().create()?;
        let metadata = probe.fetch_metadata(Some(topic), READ_LIMIT)?;
        Ok(metadata
            .topics()
            .first()
            .map(|topic| topic.partitions().len())
            .unwrap_or_default())
    }

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
        let mut records = Vec::new();
        let mut at_end = vec![false; partitions];
        while at_end.contains(&false) {
            match consumer.poll(READ_LIMIT) {
                None => bail!("{topic}: no record and no end for {} s", READ_LIMIT.as_secs()),
                Some(Err(KafkaError::PartitionEOF(partition))) => at_end[usize::try_from(partition)?] = true,
                Some(Err(error)) => return Err(error).with_context(|| format!("cannot read {topic}")),
                Some(Ok(message)) => records.push(Record::of(&message)),
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        Ok(records)
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

    /// The offsets that a consumer group has committed for a topic, by partition.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn committed_offsets(&self, group: &str, topic: &str) -> Result<BTreeMap<i32, i64>> {
        Progress::watch(self, topic, group)?.committed()
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

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Java with the heap and the quick start that a broker for a few minutes wants.
fn java() -> Command {
    let mut command = Command::new("java");
    command.args([
        "-Xms128m",
        "-Xmx512m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-cp",
    ]);
    command.arg(parts::kafka_libs().join("*"));
    command
}

/// Without retention: processed records carry the times of their events, which for scenarios are long past.
fn write_properties(dir: &Path, port: u16, controller_port: u16) -> Result<()> {
    let properties = format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.voters=1@127.0.0.1:{controller_port}
log.dirs=data
auto.create.topics.enable=false
log.retention.ms=-1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms={SESSION_TIMEOUT_MS}
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=500
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
"
    );
    fs::write(dir.join("server.properties"), properties)
        .with_context(|| format!("cannot write to {}", dir.display()))
}

fn format_storage(dir: &Path) -> Result<()> {
    let mut command = java();
    command
        .args([
            "kafka.tools.StorageTool",
            "format",
            "-t",
            CLUSTER_ID,
            "-c",
            "server.properties",
        ])
        .current_dir(dir);
    let output = command.output().context("cannot start java")?;
    if !output.status.success() {
        bail!(
            "Kafka's storage cannot be formatted: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
