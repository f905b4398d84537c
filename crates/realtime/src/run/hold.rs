//! Waiting without reading: because of the rate limit, or after a failure. The group is served all the while, so a
//! rebalance does not wait for this worker, and a request to stop ends the wait.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::{GroupConsumer, Polled};
use loginlake_kafka::rdkafka::Message;
use loginlake_service::health::ComponentHealth;
use loginlake_service::shutdown::Shutdown;

use super::members::Shared;

/// Waits up to this long are just slept through: pausing partitions would throw away what is fetched.
const SHORT: Duration = Duration::from_millis(100);

/// Waits for `wait`, or until asked to stop. Nothing may be open: what is read meanwhile is read again.
///
/// # Errors
/// Those of the consumer that do not pass by themselves. Those that do come again when something is read.
pub(super) fn hold(
    consumer: &GroupConsumer<Shared>,
    shared: &Shared,
    shutdown: &Shutdown,
    health: &ComponentHealth,
    wait: Duration,
) -> Result<(), KafkaError> {
    if wait <= SHORT {
        shutdown.wait_timeout(wait);
        return Ok(());
    }
    let until = Instant::now() + wait;
    let mut paused: Vec<i32> = Vec::new();
    let result = loop {
        // Those, too, that came meanwhile. One that left is kept in mind: librdkafka still has it paused when it comes back.
        let here = shared.partitions().here.clone();
        let new: Vec<i32> = here.into_iter().filter(|here| !paused.contains(here)).collect();
        if !new.is_empty()
            && let Err(error) = consumer.pause(&new)
        {
            break Err(error);
        }
        paused.extend(new);
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || shutdown.is_requested() {
            break Ok(());
        }
        let position = match consumer.poll(left.min(SHORT)) {
            // Fetched before its partition was paused.
            Ok(Polled::Record(message)) => Some((message.partition(), Some(message.offset()))),
            Ok(Polled::EndOfPartition(partition)) => {
                shared.at_end(
                    partition,
                    consumer.known_watermarks(partition).map(|(_, end)| end),
                );
                None
            }
            Ok(Polled::Nothing) => None,
            Err(error) if error.is_retriable() || matches!(error, KafkaError::NotAllowed(_)) => {
                tracing::debug!(%error, "while waiting");
                None
            }
            Err(error) => break Err(error),
        };
        if let Some(position) = position
            && let Err(error) = consumer.seek(&BTreeMap::from([position]))
        {
            break Err(error);
        }
        health.heartbeat();
    };
    let resumed = if paused.is_empty() {
        Ok(())
    } else {
        consumer.resume(&paused)
    };
    result.and(resumed)
}
