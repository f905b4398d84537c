//! Reads `[o, h)` of each Kafka partition and decodes it as ingestion does, while the query runs.
//!
//! The offsets are cut into contiguous parts of about the same size, each with a client and a thread of its own. Rows are
//! handed on in batches and never held as a whole, so memory is bounded whatever the size of the rest. Each scan reads the
//! same offsets again, and gives the same rows. Which of them are decoded, and what is built of them, is in `rows`.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use loginlake_events::Contract;
use loginlake_events::columns::SourcePosition;
use loginlake_kafka::KafkaError;
use loginlake_kafka::range::{RangeRead, RangeReader};
use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::topics::Incarnation;
use loginlake_lake::TableName;
use loginlake_lake::ingest::OffsetRange;
use loginlake_query::{Tail, TailError, TailNeed};
use loginlake_schemas::Decoder;

use super::rows::{BATCH_ROWS, Rows, TailRows};
use super::{FreshPosition, FreshSource};
use crate::ingest::NO_TOPIC_ID;

/// Below so many offsets another client costs more than it saves.
const MIN_PART_OFFSETS: i64 = 50_000;
/// Longest wait for one record.
const TICK: Duration = Duration::from_millis(100);
/// How long nothing may come, or the schema registry be away, until the query fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// Offsets `(from, to)` by Kafka partition.
type Ranges = BTreeMap<i32, (i64, i64)>;

/// The rest of a topic.
#[derive(Debug)]
pub struct KafkaTail {
    source: Arc<FreshSource>,
    incarnation: String,
    processed_at_ms: i64,
    parts: BTreeMap<TableName, Vec<Ranges>>,
    read: Mutex<BTreeMap<(TableName, usize), TailRows>>,
}

impl KafkaTail {
    pub(super) fn new(
        source: Arc<FreshSource>,
        position: &FreshPosition,
        ranges: &BTreeMap<TableName, BTreeMap<i32, OffsetRange>>,
    ) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let parts = ranges
            .iter()
            .map(|(table, ranges)| (*table, cut(ranges, threads)))
            .collect();
        Self {
            source,
            incarnation: position.incarnation.clone(),
            processed_at_ms: position.asked_at_ms,
            parts,
            read: Mutex::default(),
        }
    }

    /// What the rest gave to a table; `None` when no statement has read it to its end.
    pub fn rows(&self, table: TableName) -> Option<TailRows> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let parts = self.parts.get(&table)?;
        let mut found = (0..parts.len()).map(|part| read.get(&(table, part)).copied());
        found.try_fold(TailRows::default(), |sum, part| Some(sum.and(part?)))
    }

    /// A statement may have skipped records that another one has decoded: what is known best is kept.
    fn keep(&self, table: TableName, part: usize, found: TailRows) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let known = read.entry((table, part)).or_insert(found);
        if found.skipped < known.skipped {
            *known = found;
        }
    }

    /// Whether the part was read to its end, and not only as far as somebody wanted rows.
    fn read_part(
        &self,
        reader: &mut RangeReader,
        ranges: &Ranges,
        rows: &mut Rows,
        sink: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<bool, TailError> {
        let topic = &self.source.topic;
        let contract = self.source.contract.without_looking_at(&rows.unread());
        reader.begin(ranges).map_err(kafka_failed)?;
        let mut decoder = self.source.schemas.as_ref().map(|schemas| schemas.decoder());
        let mut heard = Instant::now();
        let mut polls_without_clock = 0;
        loop {
            match reader.poll(TICK) {
                Ok(RangeRead::Record(message)) => {
                    polls_without_clock += 1;
                    if polls_without_clock >= BATCH_ROWS {
                        (heard, polls_without_clock) = (Instant::now(), 0);
                    }
                    let position = SourcePosition {
                        kafka_partition: message.partition(),
                        kafka_offset: message.offset(),
                        kafka_timestamp_ms: message.timestamp().to_millis(),
                    };
                    if rows.skips(&contract, position.kafka_timestamp_ms) {
                        continue;
                    }
                    self.append(message.payload(), position, &contract, &mut decoder, rows)?;
                    if rows.is_full() && !sink(rows.finish()) {
                        return Ok(false);
                    }
                }
                Ok(RangeRead::Finished) => break,
                Ok(RangeRead::Nothing) if polls_without_clock > 0 => {
                    (heard, polls_without_clock) = (Instant::now(), 0);
                }
                Ok(RangeRead::Nothing) if heard.elapsed() < PATIENCE => {}
                Ok(RangeRead::Nothing) => {
                    return Err(later(format!(
                        "topic {topic} gives no records for {} s; check the brokers, and run the query again",
                        PATIENCE.as_secs()
                    )));
                }
                Err(error) if error.is_retriable() && heard.elapsed() < PATIENCE => {
                    tracing::debug!(%error, "reading on");
                }
                Err(error) => return Err(kafka_failed(error)),
            }
        }
        self.check_incarnation(reader)?;
        Ok(rows.is_empty() || sink(rows.finish()))
    }

    fn append(
        &self,
        payload: Option<&[u8]>,
        position: SourcePosition,
        contract: &Contract,
        decoder: &mut Option<Decoder>,
        rows: &mut Rows,
    ) -> Result<(), TailError> {
        let mut waiting: Option<Instant> = None;
        loop {
            let error = match loginlake_schemas::json_of(decoder.as_mut(), payload) {
                Ok(json) => {
                    let verdict = json.and_then(|json| contract.decode(json, position.kafka_timestamp_ms));
                    rows.add(verdict, payload, position, self.processed_at_ms);
                    return Ok(());
                }
                Err(error) => error,
            };
            if waiting.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                return Err(later(format!(
                    "records of topic {} need the schema registry: {error}; run the query again when it answers",
                    self.source.topic
                )));
            }
            if let Some(decoder) = decoder {
                std::thread::sleep(decoder.pause_after(&error));
            }
        }
    }

    /// Ids never come back: if the topic has the same one now, all that was read was of it.
    fn check_incarnation(&self, reader: &RangeReader) -> Result<(), TailError> {
        let topic = &self.source.topic;
        match reader.incarnation() {
            Incarnation::Id(id) if id == self.incarnation => Ok(()),
            Incarnation::Unknown if self.incarnation == NO_TOPIC_ID => Ok(()),
            Incarnation::Unknown => Err(later(format!(
                "the brokers do not say whether topic {topic} still is the same; run the query again"
            ))),
            Incarnation::Id(_) | Incarnation::Gone => Err(TailError {
                message: format!(
                    "topic {topic} was deleted while it was read; run the query without --fresh"
                ),
                is_gone: true,
            }),
        }
    }
}

impl Tail for KafkaTail {
    fn parts(&self, table: TableName) -> usize {
        self.parts.get(&table).map_or(0, Vec::len)
    }

    fn read(
        &self,
        table: TableName,
        part: usize,
        need: &TailNeed,
        sink: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<(), TailError> {
        let Some(ranges) = self.parts.get(&table).and_then(|parts| parts.get(part)) else {
            return Ok(());
        };
        let mut rows = Rows::new(table, need);
        let began = Instant::now();
        let mut reader = self.source.take_reader().map_err(kafka_failed)?;
        let is_whole = self.read_part(&mut reader, ranges, &mut rows, sink)?;
        reader.stop();
        self.source.give_back(reader);
        let (found, took) = (rows.found, began.elapsed());
        tracing::debug!(
            table = table.as_str(),
            part,
            ?found,
            is_whole,
            ?took,
            "rest of the topic read"
        );
        if is_whole {
            self.keep(table, part, found);
        }
        Ok(())
    }
}

/// Contiguous parts of about the same number of offsets, not more than `most`, and none too small. A partition that is cut has
/// its pieces in parts that follow each other.
fn cut(ranges: &BTreeMap<i32, OffsetRange>, most: usize) -> Vec<Ranges> {
    let total: i64 = ranges.values().map(|range| range.to - range.from).sum();
    if total == 0 {
        return Vec::new();
    }
    let most = i64::try_from(most).unwrap_or(i64::MAX).max(1);
    let count = (total / MIN_PART_OFFSETS).clamp(1, most);
    let share = (total + count - 1) / count;
    let mut parts = vec![Ranges::new()];
    let mut room = share;
    for (partition, range) in ranges {
        let mut from = range.from;
        while from < range.to {
            if room == 0 {
                parts.push(Ranges::new());
                room = share;
            }
            let to = range.to.min(from + room);
            if let Some(part) = parts.last_mut() {
                part.insert(*partition, (from, to));
            }
            room -= to - from;
            from = to;
        }
    }
    parts
}

fn kafka_failed(error: KafkaError) -> TailError {
    match error {
        KafkaError::OutOfRange(text) => TailError {
            message: format!("{text}: the answer would lack them; run the query again, or without --fresh"),
            is_gone: true,
        },
        other => later(other.to_string()),
    }
}

fn later(message: String) -> TailError {
    TailError {
        message,
        is_gone: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(of: &[(i32, i64, i64)]) -> BTreeMap<i32, OffsetRange> {
        of.iter()
            .map(|(partition, from, to)| (*partition, OffsetRange { from: *from, to: *to }))
            .collect()
    }

    #[test]
    fn a_small_rest_is_one_part_and_none_is_none() {
        assert!(cut(&ranges(&[(0, 5, 5), (1, 0, 0)]), 4).is_empty());
        assert_eq!(
            cut(&ranges(&[(0, 5, 9), (1, 2, 2), (2, 0, 1)]), 4),
            [Ranges::from([(0, (5, 9)), (2, (0, 1))])]
        );
    }

    #[test]
    fn parts_are_of_the_same_size_and_cover_every_offset_once() {
        let of = ranges(&[(0, 10, 10 + 3 * MIN_PART_OFFSETS), (1, 0, MIN_PART_OFFSETS + 1)]);
        let parts = cut(&of, 3);
        assert_eq!(parts.len(), 3);
        let total: i64 = of.values().map(|range| range.to - range.from).sum();
        for part in &parts {
            let size: i64 = part.values().map(|(from, to)| to - from).sum();
            assert!((size - total / 3).abs() <= 2, "{parts:?}");
        }
        for (partition, range) in &of {
            let mut next = range.from;
            for (from, to) in parts.iter().filter_map(|part| part.get(partition)) {
                assert_eq!(*from, next);
                next = *to;
            }
            assert_eq!(next, range.to);
        }
    }
}
