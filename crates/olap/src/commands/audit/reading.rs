//! Records of the topics into a pass of the audit, by as many threads as the machine has, each with a client of its own.
//!
//! Of the input each record is decoded as ingestion does, or only its position is taken; of the output topics only the headers
//! are looked at. What is fetched ahead is bounded by the memory that all readers share.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::NaiveDate;
use loginlake_events::Contract;
use loginlake_events::columns::SourcePosition;
use loginlake_kafka::producer::{SOURCE_OFFSET, SOURCE_PARTITION};
use loginlake_kafka::range::{Bounds, RangeRead, RangeReader, cut};
use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::rdkafka::message::{BorrowedMessage, Headers};
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_lake::audit::{Output, Pass, PublishedRecord, Records};
use loginlake_olap::setup::kafka_error;
use loginlake_schemas::{Decoder, Schemas};
use loginlake_service::config::ResolvedSchemaRegistry;
use loginlake_service::exit::ExitError;
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;

use super::sources::Sources;

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(200);
/// How long a topic may say nothing, or the schema registry be away, before the audit gives up.
const SILENCE: Duration = Duration::from_secs(60);
/// Below so many offsets another client costs more than it saves.
const LEAST_PART: i64 = 50_000;
/// Records between two looks at the clock, and published ones that are handed on at a time.
const BATCH: usize = 4_096;
/// Header with the topic that a record came from.
const SOURCE_TOPIC: &str = "source.topic";
/// Offsets of an output partition whose source offsets are known together.
const BLOCK: i64 = 1 << 16;

/// How records are decoded.
pub struct Decoding {
    contract: Contract,
    schemas: Option<Schemas>,
    only_days: Option<i32>,
    contents: bool,
}

impl Decoding {
    /// As ingestion does it. `only_date`: the lake holds the logins of one date; `contents`: what records say is compared.
    ///
    /// # Errors
    /// The schema registry's settings cannot work.
    pub fn new(
        contract: Contract,
        registry: Option<&ResolvedSchemaRegistry>,
        only_date: Option<NaiveDate>,
        contents: bool,
    ) -> Result<Self, ExitError> {
        let connect = |registry| Schemas::new(registry, &Health::new(), &Metrics::new("audit"));
        // The registry's client blocks, which a thread of the runtime must not.
        let schemas = registry.map(|registry| {
            std::thread::scope(|scope| {
                let connected = scope.spawn(|| connect(registry)).join();
                connected.unwrap_or_else(|_| Err(ExitError::failed("the schema registry's client panicked")))
            })
        });
        Ok(Self {
            contract,
            schemas: schemas.transpose()?,
            only_days: only_date.map(|date| date.to_epoch_days()),
            contents,
        })
    }

    /// Takes up a record.
    fn record(
        &self,
        message: &BorrowedMessage<'_>,
        decoder: &mut Option<Decoder>,
        records: &mut Records,
    ) -> Result<(), ExitError> {
        let position = position(message);
        let payload = message.payload();
        let mut waiting: Option<Instant> = None;
        loop {
            let error = match loginlake_schemas::json_of(decoder.as_mut(), payload) {
                Ok(json) => {
                    let verdict =
                        json.and_then(|json| self.contract.decode(json, position.kafka_timestamp_ms));
                    match verdict {
                        Ok(event) if self.only_days.is_some_and(|days| days != event.login_date_days()) => {
                            records.other_date(position.kafka_partition);
                        }
                        _ if !self.contents => records.position(position),
                        Ok(event) => records.login(&event, position),
                        Err(rejection) => records.rejected(&rejection, payload, position),
                    }
                    return Ok(());
                }
                Err(error) => error,
            };
            if waiting.get_or_insert_with(Instant::now).elapsed() >= SILENCE {
                return Err(ExitError::failed(format!(
                    "records of the topic need the schema registry: {error}; audit again when it answers, or with --compare positions"
                )));
            }
            if let Some(decoder) = decoder {
                std::thread::sleep(decoder.pause_after(&error));
            }
        }
    }
}

fn position(message: &BorrowedMessage<'_>) -> SourcePosition {
    SourcePosition {
        kafka_partition: message.partition(),
        kafka_offset: message.offset(),
        kafka_timestamp_ms: message.timestamp().to_millis(),
    }
}

/// Where the records of which source offsets stand in an output topic, block by block.
type Index = BTreeMap<(i32, i64), BTreeMap<i32, (i64, i64)>>;

/// The topics of an audit while they are read.
pub struct Reading {
    sources: Sources,
    decoding: Option<Decoding>,
    threads: usize,
    /// What each reader may fetch ahead.
    queue_bytes: usize,
    /// Filled in the first pass.
    indices: BTreeMap<Output, Mutex<Index>>,
    records: AtomicU64,
}

impl Reading {
    /// `memory_bytes`: what all readers may fetch ahead.
    pub fn new(sources: Sources, decoding: Option<Decoding>, memory_bytes: usize) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            sources,
            decoding,
            threads,
            // librdkafka goes over it by what it has asked for already.
            queue_bytes: memory_bytes / threads / 2,
            indices: [Output::Processed, Output::DeadLetters]
                .map(|output| (output, Mutex::default()))
                .into(),
            records: AtomicU64::new(0),
        }
    }

    /// How many records were read, of all topics.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// The records of the input topic that a pass wants.
    ///
    /// # Errors
    /// The topic cannot be read.
    pub fn input(&self, pass: &Pass) -> Result<(), ExitError> {
        let hand_on = |records: &mut Records| pass.see_topic(records).map_err(ExitError::failed);
        self.each_part(
            &self.sources.kafka,
            &self.sources.input,
            &pass.topic_ranges(),
            |part| {
                let schemas = self
                    .decoding
                    .as_ref()
                    .and_then(|decoding| decoding.schemas.as_ref());
                let mut decoder = schemas.map(Schemas::decoder);
                let mut records = Records::default();
                self.read(part, |message| {
                    match &self.decoding {
                        Some(decoding) => decoding.record(message, &mut decoder, &mut records)?,
                        None => records.position(position(message)),
                    }
                    if records.is_full() {
                        hand_on(&mut records)?;
                    }
                    Ok(())
                })?;
                hand_on(&mut records)
            },
        )
    }

    /// What the speed path published: all of it in the first pass, afterwards what may be of the pass.
    ///
    /// # Errors
    /// The topic cannot be read.
    pub fn published(&self, output: Output, pass: &Pass) -> Result<(), ExitError> {
        let (Some(path), Some(asked)) = (&self.sources.speed_path, &self.sources.asked) else {
            return Ok(());
        };
        let topic = match output {
            Output::Processed => &asked.output_topic,
            Output::DeadLetters => &asked.dead_letter_topic,
        };
        let all = &path.facts(output).bounds;
        let index = self.indices.get(&output);
        let ranges = match index {
            Some(index) if !pass.is_first() => {
                let index = index.lock().unwrap_or_else(PoisonError::into_inner);
                wanted(all, &index, pass.source_ranges())
            }
            _ => all.clone(),
        };
        let input = self.sources.input.as_bytes();
        self.each_part(&asked.kafka, topic, &ranges, |part| {
            let mut records = Vec::with_capacity(BATCH);
            let mut found = Index::new();
            self.read(part, |message| {
                if let Some(record) = published_record(message, input) {
                    if pass.is_first() {
                        note(&mut found, &record);
                    }
                    records.push(record);
                }
                if records.len() >= BATCH {
                    pass.see_published(output, &records);
                    records.clear();
                }
                Ok(())
            })?;
            pass.see_published(output, &records);
            if let Some(index) = index {
                merge(&mut index.lock().unwrap_or_else(PoisonError::into_inner), found);
            }
            Ok(())
        })
    }

    /// Cuts ranges into parts and reads each of them on a thread of its own.
    fn each_part(
        &self,
        kafka: &KafkaSettings,
        topic: &str,
        ranges: &Bounds,
        read: impl Fn(Part<'_>) -> Result<(), ExitError> + Sync,
    ) -> Result<(), ExitError> {
        let parts = cut(ranges, self.threads, LEAST_PART);
        std::thread::scope(|scope| {
            let read = &read;
            let threads: Vec<_> = parts
                .iter()
                .map(|ranges| {
                    scope.spawn(move || {
                        let reader = RangeReader::connect_within(kafka, topic, self.queue_bytes)
                            .map_err(kafka_error)?;
                        read(Part {
                            reader,
                            topic,
                            ranges,
                        })
                    })
                })
                .collect();
            let mut result = Ok(());
            for thread in threads {
                let panicked = |_| Err(ExitError::failed(format!("a thread that read {topic} panicked")));
                result = result.and(thread.join().unwrap_or_else(panicked));
            }
            result
        })
    }

    /// Reads a part whole.
    fn read(
        &self,
        mut part: Part<'_>,
        mut each: impl FnMut(&BorrowedMessage<'_>) -> Result<(), ExitError>,
    ) -> Result<(), ExitError> {
        part.reader.begin(part.ranges).map_err(kafka_error)?;
        let mut heard = Instant::now();
        let mut since = 0;
        loop {
            match part.reader.poll(POLL) {
                Ok(RangeRead::Record(message)) => {
                    since += 1;
                    if since >= BATCH {
                        self.records.fetch_add(since as u64, Ordering::Relaxed);
                        (heard, since) = (Instant::now(), 0);
                    }
                    each(&message)?;
                }
                Ok(RangeRead::Finished) => break,
                Ok(RangeRead::Nothing) if since > 0 => {
                    self.records.fetch_add(since as u64, Ordering::Relaxed);
                    (heard, since) = (Instant::now(), 0);
                }
                Ok(RangeRead::Nothing) if heard.elapsed() < SILENCE => {}
                Ok(RangeRead::Nothing) => {
                    return Err(kafka_error(KafkaError::Retriable(format!(
                        "topic {} said nothing for {} s",
                        part.topic,
                        SILENCE.as_secs()
                    ))));
                }
                Err(error) if error.is_retriable() && heard.elapsed() < SILENCE => {
                    tracing::debug!(%error, "asked again");
                }
                Err(error) => return Err(kafka_error(error)),
            }
        }
        self.records.fetch_add(since as u64, Ordering::Relaxed);
        part.reader.stop();
        Ok(())
    }
}

/// A part of a topic, and who reads it.
struct Part<'a> {
    reader: RangeReader,
    topic: &'a str,
    ranges: &'a Bounds,
}

/// The position of the input's record that a published one was made from; `None`: it is of another topic, or says none.
fn published_record(message: &BorrowedMessage<'_>, input: &[u8]) -> Option<PublishedRecord> {
    let headers = message.headers()?;
    let (mut topic, mut partition, mut offset) = (None, None, None);
    // The last one counts: an input record may bring headers of that name along.
    for header in headers.iter() {
        match header.key {
            SOURCE_TOPIC => topic = header.value,
            SOURCE_PARTITION => partition = header.value,
            SOURCE_OFFSET => offset = header.value,
            _ => {}
        }
    }
    if topic? != input {
        return None;
    }
    Some(PublishedRecord {
        output_partition: message.partition(),
        output_offset: message.offset(),
        source_partition: std::str::from_utf8(partition?).ok()?.parse().ok()?,
        source_offset: std::str::from_utf8(offset?).ok()?.parse().ok()?,
    })
}

fn note(index: &mut Index, record: &PublishedRecord) {
    let block = (record.output_partition, record.output_offset.div_euclid(BLOCK));
    let (from, to) = index
        .entry(block)
        .or_default()
        .entry(record.source_partition)
        .or_insert((record.source_offset, record.source_offset + 1));
    *from = (*from).min(record.source_offset);
    *to = (*to).max(record.source_offset + 1);
}

fn merge(index: &mut Index, other: Index) {
    for (block, sources) in other {
        let known = index.entry(block).or_default();
        for (partition, (from, to)) in sources {
            let range = known.entry(partition).or_insert((from, to));
            *range = (range.0.min(from), range.1.max(to));
        }
    }
}

/// From the first to the last block of each output partition that may have records of these source offsets.
fn wanted(all: &Bounds, index: &Index, sources: &Bounds) -> Bounds {
    let mut found = Bounds::new();
    for ((partition, block), known) in index {
        let is_wanted = known.iter().any(|(source, (from, to))| {
            let wanted = sources.get(source);
            wanted.is_some_and(|(wanted_from, wanted_to)| from < wanted_to && wanted_from < to)
        });
        let Some((low, high)) = all.get(partition).filter(|_| is_wanted) else {
            continue;
        };
        let (from, to) = ((block * BLOCK).max(*low), ((block + 1) * BLOCK).min(*high));
        let range = found.entry(*partition).or_insert((from, to));
        *range = (range.0.min(from), range.1.max(to));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(output_partition: i32, output_offset: i64, source: (i32, i64)) -> PublishedRecord {
        PublishedRecord {
            output_partition,
            output_offset,
            source_partition: source.0,
            source_offset: source.1,
        }
    }

    #[test]
    fn a_later_pass_reads_from_the_first_to_the_last_block_that_may_have_its_records() {
        let mut index = Index::new();
        let mut later = Index::new();
        for block in 0..10 {
            let into = if block % 2 == 0 { &mut index } else { &mut later };
            note(into, &record(0, block * BLOCK + 5, (0, block * 100)));
            note(into, &record(0, block * BLOCK + 6, (0, block * 100 + 99)));
            note(into, &record(1, block * BLOCK, (7, block)));
        }
        merge(&mut index, later);
        let all = Bounds::from([(0, (3, 10 * BLOCK - 9)), (1, (0, 10 * BLOCK)), (2, (0, 5))]);
        let of = |sources: &[(i32, (i64, i64))]| wanted(&all, &index, &sources.iter().copied().collect());
        assert_eq!(of(&[(0, (0, 1))]), Bounds::from([(0, (3, BLOCK))]));
        assert_eq!(
            of(&[(0, (250, 501))]),
            Bounds::from([(0, (2 * BLOCK, 6 * BLOCK))])
        );
        assert_eq!(
            of(&[(0, (900, 5_000)), (7, (3, 4))]),
            Bounds::from([(0, (9 * BLOCK, 10 * BLOCK - 9)), (1, (3 * BLOCK, 4 * BLOCK))])
        );
        assert_eq!(of(&[(9, (0, 1_000))]), Bounds::new());
        assert_eq!(
            of(&[(0, (0, i64::MAX)), (7, (0, i64::MAX))]),
            Bounds::from([(0, (3, 10 * BLOCK - 9)), (1, (0, 10 * BLOCK))])
        );
    }
}
