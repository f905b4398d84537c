//! Reads a topic to its end and does nothing with the records: the most that any consumer can do. Also counts what a
//! read_committed reader sees, by which `bench/run` checks each contestant's output.

use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use loginlake_bench::backlog::{Backlog, Step};
use serde_json::json;

/// Read a topic to its end.
#[derive(Parser)]
struct Args {
    /// Kafka bootstrap servers
    #[arg(long)]
    brokers: String,
    /// Consumer group; one that has committed nothing reads everything
    #[arg(long)]
    group_id: String,
    /// The topic
    #[arg(long)]
    topic: String,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut backlog = Backlog::join(&args.brokers, &args.group_id, &args.topic)?;
    let (mut records, mut bytes) = (0_u64, 0_u64);
    loop {
        match backlog.poll(Duration::from_millis(100))? {
            Step::Record(message) => {
                records += 1;
                bytes += (message.key_len() + message.payload_len()) as u64;
            }
            Step::Nothing => {}
            Step::End => break,
        }
    }
    let seconds = backlog.elapsed().as_secs_f64();
    println!(
        "{}",
        json!({ "records": records, "bytes": bytes, "seconds": seconds })
    );
    Ok(())
}
