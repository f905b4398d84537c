//! Lakes in temporary directories, filled through ingestion, and ways to look at all their rows.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod faulty;

use std::collections::BTreeMap;
use std::fs::File;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use loginlake_events::Contract;
use loginlake_events::columns::SourcePosition;
use loginlake_lake::ingest::{BatchBuffer, BatchOutcome, Committer, MemoryGauge, Offsets, Pipeline, Verdict};
use loginlake_lake::table::schema::PartitionBy;
use loginlake_lake::{Lake, StoreOptions, TableName, TableSnapshot};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::TempDir;
use tokio::runtime::Handle;

/// 2026-01-05T00:00:00Z, a Monday, in epoch seconds.
pub const MONDAY_SECS: i64 = 1_767_571_200;
/// 2026-01-10T00:00:00Z in epoch milliseconds: every date of these tests is over.
pub const LATER_MS: i64 = (MONDAY_SECS + 5 * DAY_SECS) * 1_000;
pub const DAY_SECS: i64 = 86_400;
const KAFKA_PARTITIONS: i32 = 3;

/// A lake in a directory that goes away with it, and the one process that ingests into it.
pub struct TestLake {
    pub directory: TempDir,
    pub lake: Lake,
    committer: Committer,
    offsets: Offsets,
    next_offset: i64,
    random: u64,
}

impl TestLake {
    pub async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lake = Lake::open(directory.path().to_str().unwrap(), &StoreOptions::default()).unwrap();
        let pipeline = Pipeline::new("user-login", "first");
        let mut committer = Committer::open(&lake, PartitionBy::Date, pipeline).await.unwrap();
        let starts = (0..KAFKA_PARTITIONS).map(|partition| (partition, 0)).collect();
        let mut offsets = Offsets::default();
        for (partition, offset) in committer.bootstrap(&starts).await.unwrap() {
            offsets.assign(partition, offset);
        }
        Self {
            directory,
            lake,
            committer,
            offsets,
            next_offset: 0,
            random: 42,
        }
    }

    /// The process starts again: it knows of the log what is there now. A cleanup leaves whatever a running one may know.
    pub async fn start_again(&mut self) {
        let pipeline = Pipeline::new("user-login", "first");
        self.committer = Committer::open(&self.lake, PartitionBy::Date, pipeline)
            .await
            .unwrap();
    }

    /// Ingests one batch: `rows` good records on each of these days after [`MONDAY_SECS`], and `bad` ones.
    pub async fn ingest(&mut self, days: &[i64], rows: usize, bad: usize) -> i64 {
        let contract = Contract::default();
        let columns = self.committer.partition_columns().to_vec();
        let mut buffer = BatchBuffer::new(Handle::current(), MemoryGauge::default(), columns);
        for day in days {
            for _ in 0..rows {
                let secs = MONDAY_SECS + day * DAY_SECS + (self.random() % DAY_SECS as u64) as i64;
                let payload = self.payload(secs);
                let source = self.position(secs);
                let event = contract
                    .decode(Some(payload.as_bytes()), source.kafka_timestamp_ms)
                    .unwrap();
                buffer.append_login(&event, source, secs * 1_000 + 7);
            }
        }
        for index in 0..bad {
            let payload = format!("{{\"user_id\":{index}}}");
            let source = self.position(MONDAY_SECS);
            let Err(rejection) = contract.decode(Some(payload.as_bytes()), None) else {
                panic!("a good record")
            };
            buffer.append_rejected(&rejection, Some(payload.as_bytes()), source);
        }
        let batch = buffer.close(self.offsets.seal());
        let ranges = batch.ranges.clone();
        let mut batch = Committer::prepare(batch).await.unwrap();
        match self.committer.commit(&mut batch).await.unwrap() {
            BatchOutcome::Committed { version, .. } => {
                self.offsets.committed(&ranges);
                version
            }
            BatchOutcome::Fenced { detail } => panic!("ingestion was fenced: {detail}"),
        }
    }

    fn position(&mut self, secs: i64) -> SourcePosition {
        let kafka_offset = self.next_offset / i64::from(KAFKA_PARTITIONS);
        let kafka_partition = (self.next_offset % i64::from(KAFKA_PARTITIONS)) as i32;
        self.next_offset += 1;
        assert_eq!(
            self.offsets.accept(kafka_partition, kafka_offset),
            Verdict::Buffer
        );
        SourcePosition {
            kafka_partition,
            kafka_offset,
            kafka_timestamp_ms: Some(secs * 1_000),
        }
    }

    fn payload(&mut self, secs: i64) -> String {
        let (a, b) = (self.random(), self.random());
        let locale = ["RI", "CA", "TX", "IL", "RU", "NY"][(a % 6) as usize];
        let device = ["android", "iOS", "web"][(b % 3) as usize];
        let user = uuid::Uuid::from_u64_pair(a, b);
        format!(
            r#"{{"user_id":"{user}","device_id":"d-{b:x}","ip":"10.0.{}.{}","locale":"{locale}","timestamp":{secs},"device_type":"{device}","app_version":"2.3.{}"}}"#,
            a % 250,
            b % 250,
            a % 4
        )
    }

    /// Seeded, so that every run of a test sees the same rows.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    pub async fn snapshot(&self, table: TableName) -> TableSnapshot {
        self.lake.snapshot(table, None).await.unwrap().unwrap()
    }

    /// Every row of a snapshot as text, its partition and all columns by name, sorted.
    pub fn rows(&self, snapshot: &TableSnapshot) -> Vec<String> {
        let mut rows = Vec::new();
        for file in &snapshot.files {
            let partition = format!("{:?}", file.partition_values);
            for batch in self.batches(snapshot.table, &file.path) {
                let schema = batch.schema();
                let mut columns: BTreeMap<&str, ArrayFormatter<'_>> = BTreeMap::new();
                for (field, column) in schema.fields().iter().zip(batch.columns()) {
                    let options = FormatOptions::default().with_null("null");
                    let formatter = ArrayFormatter::try_new(column.as_ref(), &options).unwrap();
                    columns.insert(field.name(), formatter);
                }
                for row in 0..batch.num_rows() {
                    let cells: Vec<String> = columns
                        .iter()
                        .map(|(name, column)| format!("{name}={}", column.value(row)))
                        .collect();
                    rows.push(format!("{partition} {}", cells.join(" ")));
                }
            }
        }
        rows.sort();
        rows
    }

    /// The rows of one file.
    pub fn batches(&self, table: TableName, path: &str) -> Vec<RecordBatch> {
        let file = File::open(self.directory.path().join(table.as_str()).join(path)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file)
            .unwrap()
            .build()
            .unwrap();
        reader.map(Result::unwrap).collect()
    }

    /// The positions of all rows, sorted.
    pub fn positions(&self, snapshot: &TableSnapshot) -> Vec<(i32, i64)> {
        let mut positions = Vec::new();
        for file in &snapshot.files {
            for batch in self.batches(snapshot.table, &file.path) {
                let partitions = batch["kafka_partition"].as_primitive::<Int32Type>();
                let offsets = batch["kafka_offset"].as_primitive::<Int64Type>();
                positions.extend(
                    partitions
                        .values()
                        .iter()
                        .copied()
                        .zip(offsets.values().iter().copied()),
                );
            }
        }
        positions.sort_unstable();
        positions
    }

    /// The Parquet files in a table's folder, named by the log or not.
    pub fn files_on_disk(&self, table: TableName) -> Vec<String> {
        let root = self.directory.path().join(table.as_str());
        let mut folders = vec![root.clone()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "parquet") {
                    files.push(path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        files.sort();
        files
    }
}

/// The paths of a snapshot's files, sorted.
pub fn paths(snapshot: &TableSnapshot) -> Vec<String> {
    let mut paths: Vec<String> = snapshot.files.iter().map(|file| file.path.clone()).collect();
    paths.sort();
    paths
}
