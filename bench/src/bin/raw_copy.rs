//! Copies a topic, key and payload and time and headers, without looking into the records: the most that a consumer and a producer of
//! librdkafka do in one process, and so the measure of what our work on a record costs.
//!
//! At least once it commits the offsets when everything is delivered; with `--transactional` records and offsets go
//! together in transactions of the size that `realtime run` has, one after another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use loginlake_bench::backlog::{ANSWER_LIMIT, Backlog, Step};
use loginlake_bench::sender::Sender;
use rdkafka::Message;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage};
use rdkafka::producer::Producer;
use serde_json::json;

/// As `realtime run` has it by default.
const TRANSACTION_MAX_AGE: Duration = Duration::from_millis(400);
const TRANSACTION_MAX_RECORDS: u64 = 200_000;
/// Records between two looks at the age of a transaction.
const RECORDS_PER_CHECK: u64 = 64;
/// Longest wait for a record.
const TICK: Duration = Duration::from_millis(100);

/// Copy a topic to another one.
#[derive(Parser)]
struct Args {
    /// Kafka bootstrap servers
    #[arg(long)]
    brokers: String,
    /// Consumer group; one that has committed nothing copies everything
    #[arg(long)]
    group_id: String,
    /// The topic that is read
    #[arg(long)]
    input_topic: String,
    /// The topic that is written
    #[arg(long)]
    output_topic: String,
    /// Exactly once, in Kafka transactions, instead of at least once
    #[arg(long)]
    transactional: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let transactional_id = args.transactional.then_some(args.group_id.as_str());
    let sender = Sender::start(&args.brokers, &args.output_topic, transactional_id)?;
    let mut backlog = Backlog::join(&args.brokers, &args.group_id, &args.input_topic)?;
    let records = if args.transactional {
        copy_in_transactions(&mut backlog, &sender)?
    } else {
        copy_at_least_once(&mut backlog, &sender)?
    };
    println!(
        "{}",
        json!({ "records": records, "seconds": backlog.elapsed().as_secs_f64() })
    );
    Ok(())
}

fn copy(message: &BorrowedMessage<'_>, sender: &Sender) -> Result<()> {
    let headers = message.headers().map(BorrowedHeaders::detach);
    sender.send(
        message.key(),
        message.payload(),
        message.timestamp().to_millis(),
        headers,
    )
}

fn copy_at_least_once(backlog: &mut Backlog, sender: &Sender) -> Result<u64> {
    let mut records = 0;
    let mut next_offsets = BTreeMap::new();
    loop {
        match backlog.poll(TICK)? {
            Step::Record(message) => {
                copy(&message, sender)?;
                next_offsets.insert(message.partition(), message.offset() + 1);
                records += 1;
            }
            Step::Nothing => {}
            Step::End => break,
        }
    }
    sender.flush()?;
    backlog.commit(&next_offsets)?;
    Ok(records)
}

fn copy_in_transactions(backlog: &mut Backlog, sender: &Sender) -> Result<u64> {
    let mut total = 0;
    loop {
        // Before the first record of the transaction is polled, and never refreshed for it.
        let group = backlog.group_metadata()?;
        sender.producer().begin_transaction()?;
        let (records, next_offsets, at_end) = fill(backlog, sender)?;
        if records > 0 {
            let offsets = backlog.offsets(&next_offsets)?;
            sender
                .producer()
                .send_offsets_to_transaction(&offsets, &group, ANSWER_LIMIT)?;
        }
        sender
            .producer()
            .commit_transaction(ANSWER_LIMIT)
            .context("cannot commit the transaction")?;
        total += records;
        if at_end {
            return Ok(total);
        }
    }
}

/// Copies until the transaction is full, nothing more is there, or the end is reached.
fn fill(backlog: &mut Backlog, sender: &Sender) -> Result<(u64, BTreeMap<i32, i64>, bool)> {
    let mut begun = Instant::now();
    let mut records = 0;
    let mut next_offsets = BTreeMap::new();
    loop {
        if records == 0 {
            begun = Instant::now();
        } else if records % RECORDS_PER_CHECK == 0
            && (records >= TRANSACTION_MAX_RECORDS || begun.elapsed() >= TRANSACTION_MAX_AGE)
        {
            return Ok((records, next_offsets, false));
        }
        match backlog.poll(TICK)? {
            Step::Record(message) => {
                copy(&message, sender)?;
                next_offsets.insert(message.partition(), message.offset() + 1);
                records += 1;
            }
            Step::Nothing => {}
            Step::End => return Ok((records, next_offsets, true)),
        }
    }
}
