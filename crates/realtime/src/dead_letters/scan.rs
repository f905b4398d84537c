//! The dead-letter topic from a point to where it ended when the scan began. Without a group: nothing changes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use loginlake_kafka::KafkaSettings;
use loginlake_kafka::rdkafka::Message as _;
use loginlake_kafka::rdkafka::message::BorrowedMessage;
use loginlake_kafka::reader::{Read, ReadFrom, TopicReader};
use loginlake_kafka::topics::Topics as TopicClient;
use loginlake_service::exit::ExitError;

use crate::run::exit_error;

/// Longest wait for the brokers.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(200);

/// Hands every record to `see` until it breaks; records of one partition come in its order.
pub(super) fn scan(
    kafka: &KafkaSettings,
    topic: &str,
    from: ReadFrom,
    mut see: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
) -> Result<(), ExitError> {
    let bounds = TopicClient::connect(kafka)
        .and_then(|client| client.bounds(topic))
        .map_err(exit_error)?;
    let mut unfinished: BTreeSet<i32> = bounds
        .iter()
        .filter(|(_, (low, end))| low < end)
        .map(|(partition, _)| *partition)
        .collect();
    if unfinished.is_empty() {
        return Ok(());
    }
    let reader = TopicReader::open(kafka, &[topic], from).map_err(exit_error)?;
    let mut heard = Instant::now();
    while !unfinished.is_empty() {
        match reader.poll(TICK) {
            Ok(Read::Record(message)) => {
                heard = Instant::now();
                let partition = message.partition();
                let end = bounds.get(&partition).map_or(0, |(_, end)| *end);
                if message.offset() < end && see(&message).is_break() {
                    return Ok(());
                }
                if message.offset() + 1 >= end {
                    unfinished.remove(&partition);
                }
            }
            Ok(Read::EndOfPartition { partition, .. }) => {
                heard = Instant::now();
                unfinished.remove(&partition);
            }
            Ok(Read::Nothing) => {}
            Err(error) if error.is_retriable() => tracing::warn!(%error, "reading on"),
            Err(error) => return Err(exit_error(error)),
        }
        if heard.elapsed() > PATIENCE {
            return Err(ExitError::failed(format!(
                "{} sent nothing of topic {topic} for {} s",
                kafka.brokers,
                PATIENCE.as_secs()
            )));
        }
    }
    Ok(())
}
