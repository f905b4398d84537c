//! A lake of generated logins, local or on S3 (by the `AWS_*` variables), without a broker: our generator, our decoder and our writer, batch by batch, as
//! `olap ingest` would have committed them. The same arguments give the same rows.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use clap::Parser;
use loginlake_events::Contract;
use loginlake_events::columns::SourcePosition;
use loginlake_generator::{Generator, GeneratorConfig, RecordBuffer, Timeline};
use loginlake_lake::ingest::{BatchBuffer, BatchOutcome, Committer, MemoryGauge, Offsets, Pipeline};
use loginlake_lake::table::schema::PartitionBy;
use loginlake_lake::{Lake, StoreOptions};
use serde_json::json;
use tokio::runtime::Runtime;

/// 2026-01-01T00:00:00Z.
const FIRST_SECS: i64 = 1_767_225_600;
const SECS_PER_DAY: i64 = 86_400;
/// Kafka partitions that the rows seem to come from.
const KAFKA_PARTITIONS: u64 = 4;
/// How long after its event a record seems to have reached Kafka, and to have been processed.
const KAFKA_DELAY_MS: i64 = 1_000;
const PROCESSING_DELAY_MS: i64 = 1_200;

/// Make a local lake of generated logins.
#[derive(Parser)]
struct Args {
    /// The lake: a folder or `s3://bucket/prefix`; it must not hold a lake yet
    #[arg(long)]
    lake: String,
    /// Rows of the table logins
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Days that they are spread over, from 2026-01-01
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=365))]
    days: u16,
    /// Rows of a commit
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    batch_rows: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let path = args.lake.as_str();
    let lake = Lake::open(path, &StoreOptions::from_env())?;
    let runtime = Runtime::new()?;
    let pipeline = Pipeline::new("user-login", "bench");
    let mut committer = runtime.block_on(Committer::open(&lake, PartitionBy::Date, pipeline))?;
    let starts: BTreeMap<i32, i64> = (0..KAFKA_PARTITIONS as i32)
        .map(|partition| (partition, 0))
        .collect();
    let mut offsets = Offsets::default();
    for (partition, next_offset) in runtime.block_on(committer.bootstrap(&starts))? {
        if next_offset != 0 {
            bail!("{path} holds a lake already: name another folder");
        }
        offsets.assign(partition, next_offset);
    }
    let columns = committer.partition_columns().to_vec();
    let mut buffer = BatchBuffer::new(runtime.handle().clone(), MemoryGauge::default(), columns);
    let (mut files, mut bytes) = (0, 0);
    let mut commit = |buffer: &mut BatchBuffer, offsets: &mut Offsets| -> Result<()> {
        let batch = buffer.close(offsets.seal());
        let ranges = batch.ranges.clone();
        let mut batch = runtime.block_on(Committer::prepare(batch))?;
        match runtime.block_on(committer.commit(&mut batch))? {
            BatchOutcome::Committed {
                files: more,
                bytes: size,
                ..
            } => {
                (files, bytes) = (files + more, bytes + size);
                offsets.committed(&ranges);
                Ok(())
            }
            BatchOutcome::Fenced { detail } => bail!("somebody else writes to {path}: {detail}"),
        }
    };

    let contract = Contract::default();
    let to_secs = FIRST_SECS + i64::from(args.days) * SECS_PER_DAY;
    let timeline = Timeline::Period {
        from_secs: FIRST_SECS,
        to_secs,
    };
    let config = GeneratorConfig {
        seed: 7,
        count: Some(args.rows),
        timeline,
        ..GeneratorConfig::default()
    };
    let mut generator = Generator::new(config)?;
    let mut record = RecordBuffer::new();
    let mut number = 0;
    while generator.next_into(&mut record) {
        let kafka_partition = (number % KAFKA_PARTITIONS) as i32;
        let kafka_offset = (number / KAFKA_PARTITIONS) as i64;
        number += 1;
        let event_ms = record
            .event_time_ms()
            .context("a generated record without a time")?;
        let timestamp_ms = Some(event_ms + KAFKA_DELAY_MS);
        offsets.accept(kafka_partition, kafka_offset);
        let source = SourcePosition {
            kafka_partition,
            kafka_offset,
            kafka_timestamp_ms: timestamp_ms,
        };
        match contract.decode(record.payload(), timestamp_ms) {
            Ok(event) => buffer.append_login(&event, source, event_ms + PROCESSING_DELAY_MS),
            Err(rejection) => bail!("a generated record is rejected: {}", rejection.message),
        }
        if number % args.batch_rows == 0 {
            commit(&mut buffer, &mut offsets)?;
        }
    }
    if buffer.size().rows > 0 {
        commit(&mut buffer, &mut offsets)?;
    }
    println!("{}", json!({ "rows": number, "files": files, "bytes": bytes }));
    Ok(())
}
