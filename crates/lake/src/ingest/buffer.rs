//! What waits in memory for the next commit.
//!
//! Records go straight into Arrow columns. A full chunk of them is encoded in the background, next to consumption, into a
//! compressed row group of about a tenth of its size. One gauge counts all of it, for every batch of the process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use arrow::datatypes::Int32Type;
use loginlake_events::columns::{LoginsBuilder, RejectedBuilder, SourcePosition};
use loginlake_events::{LoginEvent, Rejection};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::offsets::BatchRanges;
use super::roll::BatchSize;
use super::session::Rows;
use crate::error::LakeError;
use crate::file::encode::{EncodedRowGroup, encode, without_kafka_partitions};
use crate::file::properties::Tier;

/// Rows of a chunk: large enough for good encodings, small enough that two of them fit a small budget.
const CHUNK_ROWS: usize = 64 * 1024;
/// Bytes of a chunk of unusually large rows.
const CHUNK_BYTES: usize = 32 * 1024 * 1024;

/// Counts the bytes that wait, over all batches of a process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct MemoryGauge(Arc<AtomicU64>);

impl MemoryGauge {
    /// Bytes that are waiting now.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn reserve(&self, bytes: u64) -> Reservation {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Reservation {
            gauge: self.clone(),
            bytes,
        }
    }
}

/// Bytes counted in a gauge until dropped.
#[derive(Debug)]
pub struct Reservation {
    gauge: MemoryGauge,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.gauge.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Encoded row groups and the memory that they take.
pub(super) type Encoded = (Vec<EncodedRowGroup>, Reservation);
type Encoding = JoinHandle<Result<Encoded, LakeError>>;

/// The table partitions that the rows of a batch belong to.
struct TablePartitions {
    /// Whether the table is partitioned by hour, too.
    by_hour: bool,
    seen: BTreeSet<i32>,
    /// Recently seen ones, by their last bits: a row of a usual batch costs one comparison.
    recent: [i32; 64],
}

impl TablePartitions {
    /// No hour and no date is this one.
    const NONE: i32 = i32::MIN;

    fn new(by_hour: bool) -> Self {
        Self {
            by_hour,
            seen: BTreeSet::new(),
            recent: [Self::NONE; 64],
        }
    }

    fn count(&mut self, event: &LoginEvent<'_>) {
        let mut key = event.login_date_days();
        if self.by_hour {
            key = key * 24 + i32::from(event.login_hour());
        }
        let slot = &mut self.recent[key as usize % 64];
        if *slot != key {
            *slot = key;
            self.seen.insert(key);
        }
    }

    fn clear(&mut self) {
        *self = Self::new(self.by_hour);
    }
}

/// The batch that is being filled.
pub struct BatchBuffer {
    runtime: Handle,
    gauge: MemoryGauge,
    partition_columns: Vec<String>,
    logins: LoginsBuilder,
    rejected: RejectedBuilder,
    encoding: Vec<Encoding>,
    rejected_parts: Vec<RecordBatch>,
    /// Rows that were dropped since may have been the only ones of one.
    table_partitions: TablePartitions,
    rows: u64,
    rejected_rows: u64,
    closed_bytes: u64,
    begun: Option<Instant>,
}

/// A batch that is closed: its offsets, and its rows being encoded.
pub struct Batch {
    /// Tells its commit from all others.
    pub id: Uuid,
    /// The offsets that it covers.
    pub ranges: BatchRanges,
    /// Records, good and rejected.
    pub rows: u64,
    /// Rejected records among them.
    pub rejected_rows: u64,
    /// When its first record was buffered.
    pub begun: Instant,
    pub(super) encoding: Vec<Encoding>,
    pub(super) rejected: Vec<RecordBatch>,
}

impl BatchBuffer {
    /// An empty buffer. `runtime` runs the encoding; `partition_columns` are those of `logins`.
    pub fn new(runtime: Handle, gauge: MemoryGauge, partition_columns: Vec<String>) -> Self {
        let by_hour = partition_columns.iter().any(|column| column == "login_hour");
        Self {
            runtime,
            gauge,
            partition_columns,
            table_partitions: TablePartitions::new(by_hour),
            logins: LoginsBuilder::with_capacity(1024),
            rejected: RejectedBuilder::default(),
            encoding: Vec::new(),
            rejected_parts: Vec::new(),
            rows: 0,
            rejected_rows: 0,
            closed_bytes: 0,
            begun: None,
        }
    }

    /// Buffers a good record.
    pub fn append_login(&mut self, event: &LoginEvent<'_>, source: SourcePosition, processed_at_ms: i64) {
        self.logins.append(event, source, processed_at_ms);
        self.table_partitions.count(event);
        self.count_row();
        // The bytes are looked at now and then only: their sum takes a walk over the columns.
        if self.logins.len() >= CHUNK_ROWS
            || (self.logins.len().is_multiple_of(1024) && self.logins.memory_bytes() >= CHUNK_BYTES)
        {
            self.close_chunk();
        }
    }

    /// Buffers a rejected record.
    pub fn append_rejected(&mut self, rejection: &Rejection, payload: Option<&[u8]>, source: SourcePosition) {
        self.rejected.append(rejection, payload, source);
        self.rejected_rows += 1;
        self.count_row();
    }

    fn count_row(&mut self) {
        self.rows += 1;
        self.begun.get_or_insert_with(Instant::now);
    }

    /// What the batch holds.
    pub fn size(&self) -> BatchSize {
        BatchSize {
            rows: self.rows,
            bytes: self.closed_bytes + self.open_bytes(),
            table_partitions: self.table_partitions.seen.len(),
        }
    }

    /// When its first record was buffered; `None` when it is empty.
    pub fn begun(&self) -> Option<Instant> {
        self.begun
    }

    /// Bytes in columns that are still being filled: not in the gauge.
    pub fn open_bytes(&self) -> u64 {
        (self.logins.memory_bytes() + self.rejected.memory_bytes()) as u64
    }

    /// Hands the open columns to a background encoder.
    fn close_chunk(&mut self) {
        if self.logins.is_empty() {
            return;
        }
        let chunk = self.logins.finish();
        let raw_bytes = chunk.get_array_memory_size() as u64;
        self.closed_bytes += raw_bytes / 8;
        let raw = self.gauge.reserve(raw_bytes);
        let gauge = self.gauge.clone();
        let partition_columns = self.partition_columns.clone();
        self.encoding.push(self.runtime.spawn_blocking(move || {
            let groups = encode(&chunk, &partition_columns, Tier::Hot).map_err(encode_error)?;
            let encoded = gauge.reserve(groups.iter().map(|group| group.bytes).sum());
            drop(chunk);
            drop(raw);
            Ok((groups, encoded))
        }));
    }

    /// Drops every row of these Kafka partitions, before the group is told that they are given up. Called by a thread that
    /// may wait.
    ///
    /// # Errors
    /// An encoder failed: the whole batch is not to be used.
    pub fn drop_kafka_partitions(&mut self, leaving: &BTreeSet<i32>) -> Result<(), LakeError> {
        if self.rows == 0 {
            return Ok(());
        }
        self.close_chunk();
        let encoding = std::mem::take(&mut self.encoding);
        let mut rows = 0;
        for task in encoding {
            let (groups, reservation) = self.runtime.block_on(join(task))?;
            drop(reservation);
            let mut kept = Vec::new();
            for group in groups {
                kept.extend(without_kafka_partitions(group, leaving, Tier::Hot).map_err(encode_error)?);
            }
            rows += kept.iter().map(|group| group.rows).sum::<u64>();
            let reservation = self.gauge.reserve(kept.iter().map(|group| group.bytes).sum());
            self.encoding
                .push(self.runtime.spawn(async move { Ok((kept, reservation)) }));
        }
        let mut rejected = std::mem::take(&mut self.rejected_parts);
        rejected.push(self.rejected.finish());
        for part in rejected {
            let kept = keep_rows(&part, |partition, _| !leaving.contains(&partition))?;
            rows += kept.num_rows() as u64;
            if kept.num_rows() > 0 {
                self.rejected_parts.push(kept);
            }
        }
        self.rejected_rows = self
            .rejected_parts
            .iter()
            .map(|part| part.num_rows() as u64)
            .sum();
        self.rows = rows;
        if rows == 0 {
            self.begun = None;
            self.closed_bytes = 0;
            self.table_partitions.clear();
        }
        Ok(())
    }

    /// Drops everything.
    pub fn clear(&mut self) {
        let empty = Self::new(
            self.runtime.clone(),
            self.gauge.clone(),
            self.partition_columns.clone(),
        );
        *self = empty;
    }

    /// Closes the batch, which covers `ranges`, and begins an empty one.
    pub fn close(&mut self, ranges: BatchRanges) -> Batch {
        self.close_chunk();
        let mut rejected = std::mem::take(&mut self.rejected_parts);
        if !self.rejected.is_empty() {
            rejected.push(self.rejected.finish());
        }
        let batch = Batch {
            id: Uuid::new_v4(),
            ranges,
            rows: self.rows,
            rejected_rows: self.rejected_rows,
            begun: self.begun.unwrap_or_else(Instant::now),
            encoding: std::mem::take(&mut self.encoding),
            rejected,
        };
        self.rows = 0;
        self.rejected_rows = 0;
        self.closed_bytes = 0;
        self.begun = None;
        self.table_partitions.clear();
        batch
    }
}

impl Rows for BatchBuffer {
    type Batch = Batch;

    fn drop_kafka_partitions(&mut self, leaving: &BTreeSet<i32>) -> Result<(), LakeError> {
        Self::drop_kafka_partitions(self, leaving)
    }

    fn clear(&mut self) {
        Self::clear(self);
    }

    fn close(&mut self, ranges: BatchRanges) -> Batch {
        Self::close(self, ranges)
    }
}

/// Waits for an encoder.
pub(super) async fn join(task: Encoding) -> Result<Encoded, LakeError> {
    task.await
        .unwrap_or_else(|error| Err(LakeError::Invariant(format!("an encoder panicked: {error}"))))
}

pub(super) fn encode_error(source: parquet::errors::ParquetError) -> LakeError {
    LakeError::Parquet {
        action: "encode",
        path: "(memory)".to_owned(),
        source,
    }
}

/// The rows whose Kafka partition and offset are wanted.
pub(super) fn keep_rows(
    part: &RecordBatch,
    wanted: impl Fn(i32, i64) -> bool,
) -> Result<RecordBatch, LakeError> {
    let missing = || LakeError::Invariant("rows without kafka_partition and kafka_offset".to_owned());
    let partitions = part
        .column_by_name("kafka_partition")
        .ok_or_else(missing)?
        .as_primitive::<Int32Type>();
    let offsets = part
        .column_by_name("kafka_offset")
        .ok_or_else(missing)?
        .as_primitive::<arrow::datatypes::Int64Type>();
    let mask: BooleanArray = partitions
        .values()
        .iter()
        .zip(offsets.values())
        .map(|(p, o)| Some(wanted(*p, *o)))
        .collect();
    filter_record_batch(part, &mask).map_err(|error| LakeError::Invariant(error.to_string()))
}
