//! How long a record takes from being produced to being received by a read_committed reader of another topic, through
//! whatever program copies it there. With the input topic as output it is the bare hop through the broker.
//!
//! The key of a record holds the moment in which it was handed to the producer, by the one clock of this process; every
//! contestant keeps keys. Records of the warm-up pass through and are not counted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use loginlake_bench::backlog::{ANSWER_LIMIT, partitions};
use loginlake_bench::config;
use loginlake_bench::delays::Delays;
use loginlake_bench::sender::Sender;
use loginlake_generator::{Generator, GeneratorConfig, RecordBuffer};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::{ClientConfig, Message};
use serde_json::json;

/// Measure the delay between two topics.
#[derive(Parser)]
struct Args {
    /// Kafka bootstrap servers
    #[arg(long)]
    brokers: String,
    /// The topic that is written
    #[arg(long)]
    input_topic: String,
    /// The topic that is read
    #[arg(long)]
    output_topic: String,
    /// Records a second
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Seconds that are measured
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Seconds before them that are not
    #[arg(long, default_value_t = 3)]
    warm_up: u32,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let consumer = reader_at_end(&args.brokers, &args.output_topic)?;
    let sender = Sender::without_linger(&args.brokers, &args.input_topic)?;
    let total = u64::from(args.rate) * u64::from(args.warm_up + args.seconds);
    let started = Instant::now();
    let warm_up = Duration::from_secs(args.warm_up.into());
    let (sent, received) = std::thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&consumer, total, started, warm_up));
        let sent = send(&sender, args.rate, total, started);
        let received = receiver
            .join()
            .unwrap_or_else(|_| bail!("the receiving thread panicked"));
        (sent, received)
    });
    let (seconds, mut delays) = (sent?, received?);
    let [p50_ms, p99_ms, max_ms] = delays
        .quantiles_ms([0.5, 0.99, 1.0])
        .context("no record was measured")?;
    let result = json!({
        "records": delays.len(),
        "sent_per_second": total as f64 / seconds,
        "p50_ms": p50_ms,
        "p99_ms": p99_ms,
        "max_ms": max_ms,
    });
    println!("{result}");
    Ok(())
}

/// Sends at the given rate; returns the seconds that it took.
fn send(sender: &Sender, rate: u32, total: u64, started: Instant) -> Result<f64> {
    let config = GeneratorConfig {
        seed: 7,
        ..GeneratorConfig::default()
    };
    let mut generator = Generator::new(config)?;
    let mut record = RecordBuffer::new();
    let interval = Duration::from_secs(1) / rate;
    for number in 0..total {
        let due = interval.saturating_mul(u32::try_from(number)?);
        // Late by less than a timer's tick is as good as on time; later ones are sent at once.
        if let Some(early) = due.checked_sub(started.elapsed()) {
            std::thread::sleep(early);
        }
        generator.next_into(&mut record);
        let key = started.elapsed().as_nanos().to_string();
        sender.send(Some(key.as_bytes()), record.payload(), None, None)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    sender.flush()?;
    Ok(seconds)
}

/// Receives all records and keeps the delays of those that were sent after the warm-up.
fn receive(consumer: &BaseConsumer, total: u64, started: Instant, warm_up: Duration) -> Result<Delays> {
    let mut delays = Delays::default();
    let mut received = 0;
    let mut last_sign = Instant::now();
    while received < total {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let now = started.elapsed();
                let sent = sent_at(message.key()).context("a record with a key that is not from here")?;
                if sent >= warm_up {
                    delays.push(now.saturating_sub(sent));
                }
                received += 1;
                last_sign = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => return Err(error).context("cannot read the output"),
            None => ensure!(
                last_sign.elapsed() < ANSWER_LIMIT,
                "{received} of {total} records arrived, and none for {} s",
                ANSWER_LIMIT.as_secs()
            ),
        }
    }
    Ok(delays)
}

/// When a record was handed to the producer, since the start of this process.
fn sent_at(key: Option<&[u8]>) -> Option<Duration> {
    std::str::from_utf8(key?)
        .ok()?
        .parse()
        .ok()
        .map(Duration::from_nanos)
}

/// A reader of committed records that begins where the topic ends now.
fn reader_at_end(brokers: &str, topic: &str) -> Result<BaseConsumer> {
    let config: ClientConfig = config::consumer(brokers, "bench-delay-probe");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in partitions(&consumer, topic)? {
        // A number, not "the end": that is looked up later, and records of the meantime would be missed.
        let (_, end) = consumer.fetch_watermarks(topic, partition, ANSWER_LIMIT)?;
        list.add_partition_offset(topic, partition, Offset::Offset(end))?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}
