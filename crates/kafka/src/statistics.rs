//! The few numbers that are wanted of librdkafka's statistics (`statistics.interval.ms`), which are a JSON text with
//! hundreds of them. Only these are taken out of it. A text that is not understood changes nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

/// What a client holds in memory and how it fares, as librdkafka said it last: every five seconds while it is polled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Records that wait to be sent or acknowledged.
    pub unsent_records: u64,
    /// Their bytes.
    pub unsent_bytes: u64,
    /// Records that are fetched and not yet handed out.
    pub fetched_records: u64,
    /// Their bytes.
    pub fetched_bytes: u64,
    /// Longest time for which a broker has held an answer back because of a quota, since the statistics before; milliseconds.
    pub throttled_ms: u64,
    /// Records between the position of the consumer and the last stable offset, of the partitions for which both are known.
    pub lag_records: BTreeMap<i32, u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Client {
    msg_cnt: u64,
    msg_size: u64,
    brokers: BTreeMap<String, Broker>,
    topics: BTreeMap<String, Topic>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Broker {
    throttle: Window,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Window {
    max: i64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Topic {
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Partition {
    fetchq_cnt: u64,
    fetchq_size: u64,
    consumer_lag: i64,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            fetchq_cnt: 0,
            fetchq_size: 0,
            // librdkafka's sign for a lag that it does not know.
            consumer_lag: -1,
        }
    }
}

impl Statistics {
    /// Reads librdkafka's text; `None` when it is not one.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        let client: Client = serde_json::from_slice(json).ok()?;
        let throttled_ms = client.brokers.values().map(|broker| broker.throttle.max).max();
        let mut statistics = Self {
            unsent_records: client.msg_cnt,
            unsent_bytes: client.msg_size,
            throttled_ms: throttled_ms.unwrap_or(0).max(0).unsigned_abs(),
            ..Self::default()
        };
        let partitions = client.topics.into_values().flat_map(|topic| topic.partitions);
        // -1 is where a producer keeps records without a partition.
        for (number, partition) in partitions.filter(|(number, _)| *number >= 0) {
            statistics.fetched_records += partition.fetchq_cnt;
            statistics.fetched_bytes += partition.fetchq_size;
            if let Ok(lag) = u64::try_from(partition.consumer_lag) {
                statistics.lag_records.insert(number, lag);
            }
        }
        Some(statistics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shortened from what librdkafka 2.12.1 gives.
    const TEXT: &str = r#"{ "name": "rdkafka#consumer-1", "type": "consumer", "ts": 1, "time": 2, "replyq": 0,
        "msg_cnt": 3, "msg_size": 704, "msg_max": 100000, "simple_cnt": 0,
        "brokers": {
            "127.0.0.1:9092/1": { "name": "127.0.0.1:9092/1", "nodeid": 1, "rtt": { "min": 1, "max": 9 },
                "throttle": { "min": 0, "max": 120, "avg": 7, "sum": 90, "cnt": 13 }, "req": { "Fetch": 10 } },
            "GroupCoordinator": { "throttle": { "min": 0, "max": 0 } } },
        "topics": { "user-login": { "topic": "user-login", "age": 5, "batchsize": { "max": 1 }, "partitions": {
            "0": { "partition": 0, "fetchq_cnt": 10, "fetchq_size": 2000, "consumer_lag": 7, "hi_offset": 9 },
            "1": { "partition": 1, "fetchq_cnt": 1, "fetchq_size": 30, "consumer_lag": -1 },
            "-1": { "partition": -1, "fetchq_cnt": 99, "fetchq_size": 99, "consumer_lag": 99 } } } },
        "cgrp": { "state": "up" }, "tx": 40 }"#;

    #[test]
    fn the_wanted_numbers_are_taken_out() {
        let expected = Statistics {
            unsent_records: 3,
            unsent_bytes: 704,
            fetched_records: 11,
            fetched_bytes: 2_030,
            throttled_ms: 120,
            lag_records: BTreeMap::from([(0, 7)]),
        };
        assert_eq!(Statistics::parse(TEXT.as_bytes()), Some(expected));
    }

    #[test]
    fn what_is_not_there_is_zero_and_what_is_no_statistics_is_nothing() {
        assert_eq!(Statistics::parse(b"{}"), Some(Statistics::default()));
        assert_eq!(Statistics::parse(b"[1, 2"), None);
        assert_eq!(Statistics::parse(br#"{"msg_cnt": "many"}"#), None);
    }
}
