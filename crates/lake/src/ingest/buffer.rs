//! What waits in memory for the next commit.
//!
//! Records go straight into Arrow columns. A full chunk of them is encoded in the background, next to consumption, into a
//! compressed row group of about a tenth of its size. One gauge counts all of it, for every batch of the process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use arrow::array::RecordBatch;
use loginlake_events::columns::{LoginsBuilder, RejectedBuilder, SourcePosition};
use loginlake_events::{LoginEvent, Rejection};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::gauge::{MemoryGauge, Reservation};
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
/// Bytes of a chunk of rejected rows, which hold payloads of up to 1 MiB.
pub(super) const REJECTED_CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// What a column of a row group takes beside its values: sizes, statistics, indexes. It matters only when hundreds of table
/// partitions are open, and is most of their memory then.
const COLUMN_OVERHEAD_BYTES: u64 = 3 * 1024;

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
    rejected_encoding: Vec<Encoding>,
    /// The lowest offset of each Kafka partition among the rejected rows.
    rejected_firsts: BTreeMap<i32, i64>,
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
    pub(super) rejected: Vec<Encoding>,
    pub(super) rejected_firsts: BTreeMap<i32, i64>,
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
            rejected_encoding: Vec::new(),
            rejected_firsts: BTreeMap::new(),
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
        self.rejected_firsts
            .entry(source.kafka_partition)
            .or_insert(source.kafka_offset);
        self.count_row();
        if self.rejected.memory_bytes() >= REJECTED_CHUNK_BYTES || self.rejected.len() >= CHUNK_ROWS {
            self.close_rejected_chunk();
        }
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

    /// Hands the open columns of good rows to a background encoder.
    fn close_chunk(&mut self) {
        if self.logins.is_empty() {
            return;
        }
        let chunk = self.logins.finish();
        // Rows of several table partitions are taken apart first, which copies them.
        let copies = if self.table_partitions.seen.len() > 1 {
            2
        } else {
            1
        };
        let partition_columns = self.partition_columns.clone();
        let task = self.encode_in_background(chunk, partition_columns, copies, 1);
        self.encoding.push(task);
    }

    /// The same for rejected rows.
    fn close_rejected_chunk(&mut self) {
        if self.rejected.is_empty() {
            return;
        }
        // The values as they are encoded, their page, and what it is compressed to, may each be as large as all of the payloads.
        let chunk = self.rejected.finish();
        let task = self.encode_in_background(chunk, Vec::new(), 2, 2);
        self.rejected_encoding.push(task);
    }

    /// Begins to encode rows, which take `copies` times their bytes meanwhile, and `held` times their encoded bytes from then on:
    /// payloads hardly compress, and while their file is put together the memory of its row groups is not yet given back.
    fn encode_in_background(
        &mut self,
        chunk: RecordBatch,
        partition_columns: Vec<String>,
        copies: u64,
        held: u64,
    ) -> Encoding {
        let raw_bytes = chunk.get_array_memory_size() as u64;
        let raw = self.gauge.reserve_encoding(raw_bytes * copies);
        self.closed_bytes += raw_bytes / 8;
        let gauge = self.gauge.clone();
        self.runtime.spawn_blocking(move || {
            let groups = encode(&chunk, &partition_columns, Tier::Hot).map_err(encode_error)?;
            let encoded = gauge.reserve(held_bytes(&groups) * held);
            drop(chunk);
            drop(raw);
            Ok((groups, encoded))
        })
    }

    /// Drops rows of encoded row groups; what stays, and its number of rows.
    fn without_kafka_partitions(
        &self,
        encoding: Vec<Encoding>,
        leaving: &BTreeSet<i32>,
    ) -> Result<(Vec<Encoding>, u64), LakeError> {
        let (mut tasks, mut rows) = (Vec::new(), 0);
        for task in encoding {
            let (groups, reservation) = self.runtime.block_on(join(task))?;
            drop(reservation);
            let mut kept = Vec::new();
            for group in groups {
                kept.extend(without_kafka_partitions(group, leaving, Tier::Hot).map_err(encode_error)?);
            }
            if kept.is_empty() {
                continue;
            }
            rows += kept.iter().map(|group| group.rows).sum::<u64>();
            let reservation = self.gauge.reserve(held_bytes(&kept));
            tasks.push(self.runtime.spawn(async move { Ok((kept, reservation)) }));
        }
        Ok((tasks, rows))
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
        self.close_rejected_chunk();
        let encoding = std::mem::take(&mut self.encoding);
        let (encoding, logins_rows) = self.without_kafka_partitions(encoding, leaving)?;
        self.encoding = encoding;
        let rejected = std::mem::take(&mut self.rejected_encoding);
        let (rejected, rejected_rows) = self.without_kafka_partitions(rejected, leaving)?;
        self.rejected_encoding = rejected;
        self.rejected_firsts
            .retain(|partition, _| !leaving.contains(partition));
        let rows = logins_rows + rejected_rows;
        self.rejected_rows = rejected_rows;
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
        self.close_rejected_chunk();
        let batch = Batch {
            id: Uuid::new_v4(),
            ranges,
            rows: self.rows,
            rejected_rows: self.rejected_rows,
            begun: self.begun.unwrap_or_else(Instant::now),
            encoding: std::mem::take(&mut self.encoding),
            rejected: std::mem::take(&mut self.rejected_encoding),
            rejected_firsts: std::mem::take(&mut self.rejected_firsts),
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

/// Bytes that row groups hold, their files included: those take the place of the row groups one column after the other.
fn held_bytes(groups: &[EncodedRowGroup]) -> u64 {
    groups
        .iter()
        .map(|group| group.bytes + group.columns.len() as u64 * COLUMN_OVERHEAD_BYTES)
        .sum()
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
