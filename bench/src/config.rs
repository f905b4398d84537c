//! librdkafka settings of the probes: those of `crates/kafka`, so that a ratio compares work and not tuning.
//!
//! They are written down here once more because a probe must not run through the code that it is compared with. A test
//! reads the originals and fails when the two differ.

use rdkafka::ClientConfig;

/// Tuning of every consumer, as in `crates/kafka/src/consumer.rs`.
const CONSUMER: &[(&str, &str)] = &[
    ("fetch.queue.backoff.ms", "5"),
    ("queued.max.messages.kbytes", "4096"),
    ("queued.min.messages", "100000"),
    ("fetch.message.max.bytes", "524288"),
    ("fetch.max.bytes", "4194304"),
    ("fetch.wait.max.ms", "100"),
    ("partition.assignment.strategy", "cooperative-sticky"),
    ("session.timeout.ms", "10000"),
    ("max.poll.interval.ms", "120000"),
    ("topic.metadata.refresh.interval.ms", "30000"),
    ("statistics.interval.ms", "5000"),
];

/// Tuning of every producer, as in `crates/kafka/src/producer/mod.rs`.
const PRODUCER: &[(&str, &str)] = &[
    ("compression.codec", "lz4"),
    ("linger.ms", "10"),
    ("partitioner", "murmur2_random"),
    ("batch.num.messages", "10000"),
    ("batch.size", "524288"),
    ("queue.buffering.max.kbytes", "8192"),
    ("queue.buffering.max.messages", "200000"),
    ("message.max.bytes", "4194304"),
    ("statistics.interval.ms", "5000"),
];

fn client(brokers: &str, tuning: &[(&str, &str)], own: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (key, value) in tuning.iter().chain(own) {
        config.set(*key, *value);
    }
    config
        .set("client.id", "loginlake-bench")
        .set("bootstrap.servers", brokers);
    config
}

/// A client without tuning, for metadata and administration.
pub fn admin(brokers: &str) -> ClientConfig {
    client(brokers, &[], &[])
}

/// A consumer that reads committed records from the oldest one and commits nothing by itself.
pub fn consumer(brokers: &str, group_id: &str) -> ClientConfig {
    let own = [
        ("group.id", group_id),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("isolation.level", "read_committed"),
        ("auto.offset.reset", "earliest"),
        ("enable.partition.eof", "true"),
        ("allow.auto.create.topics", "false"),
    ];
    client(brokers, CONSUMER, &own)
}

/// An idempotent producer whose records all replicas acknowledge. With `transactional_id` it is a transactional one.
pub fn producer(brokers: &str, transactional_id: Option<&str>) -> ClientConfig {
    let mut config = client(
        brokers,
        PRODUCER,
        &[("acks", "all"), ("enable.idempotence", "true")],
    );
    if let Some(id) = transactional_id {
        config
            .set("transactional.id", id)
            .set("transaction.timeout.ms", "20000")
            .set("message.timeout.ms", "20000");
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pairs of the list `TUNING` in a source file.
    fn tuning_of(source: &str) -> Vec<(&str, &str)> {
        let (_, rest) = source
            .split_once("const TUNING: &[(&str, &str)] = &[")
            .expect("the list is called TUNING");
        let (list, _) = rest.split_once("];").expect("the list ends");
        let texts: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        texts.chunks(2).map(|pair| (pair[0], pair[1])).collect()
    }

    #[test]
    fn probes_are_tuned_as_the_services_are() {
        assert_eq!(
            CONSUMER,
            tuning_of(include_str!("../../crates/kafka/src/consumer.rs"))
        );
        assert_eq!(
            PRODUCER,
            tuning_of(include_str!("../../crates/kafka/src/producer/mod.rs"))
        );
    }

    #[test]
    fn only_a_transactional_producer_has_a_transactional_id() {
        assert_eq!(producer("a:1", None).get("transactional.id"), None);
        assert_eq!(producer("a:1", Some("x")).get("transactional.id"), Some("x"));
    }
}
