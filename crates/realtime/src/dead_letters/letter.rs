//! A record of the dead-letter topic, as far as its headers tell what it is.

use chrono::{DateTime, SecondsFormat};
use loginlake_kafka::producer::{SOURCE_OFFSET, SOURCE_PARTITION};
use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::rdkafka::message::{BorrowedMessage, Headers as _};
use serde_json::{Value, json};

use crate::run::transform::ATTEMPT;

/// Longest text of a header that is kept, in bytes: anybody may write to the topic.
const MAX_TEXT_BYTES: usize = 1_024;

/// A dead letter without key and payload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Letter {
    pub partition: i32,
    pub offset: i64,
    /// When it was rejected: its Kafka timestamp, epoch milliseconds.
    pub timestamp_ms: Option<i64>,
    /// `None`: not a dead letter of this software.
    pub reason: Option<String>,
    pub field: Option<String>,
    pub message: Option<String>,
    /// How often the record was tried; at least once.
    pub attempt: u32,
    pub source: Source,
    pub rule_version: Option<String>,
    /// Bytes of the payload that are here.
    pub payload_bytes: u64,
    /// Bytes of the original payload, where only the beginning was kept.
    pub original_bytes: Option<u64>,
}

/// Where a record came from, as the headers say it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub topic: Option<String>,
    pub partition: Option<i32>,
    pub offset: Option<i64>,
    pub timestamp_ms: Option<i64>,
}

impl Letter {
    pub(super) fn of(message: &BorrowedMessage<'_>) -> Self {
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            reason: text(message, "error.reason"),
            field: text(message, "error.field"),
            message: text(message, "error.message"),
            attempt: number(message, ATTEMPT).unwrap_or(1),
            source: Source {
                topic: text(message, "source.topic"),
                partition: number(message, SOURCE_PARTITION),
                offset: number(message, SOURCE_OFFSET),
                timestamp_ms: number(message, "source.timestamp"),
            },
            rule_version: text(message, "rule.version"),
            payload_bytes: message.payload().map_or(0, |payload| payload.len() as u64),
            original_bytes: number(message, "payload.length"),
        }
    }

    /// Whether not all of the original payload is here.
    pub(super) fn is_truncated(&self) -> bool {
        self.original_bytes
            .is_some_and(|bytes| bytes > self.payload_bytes)
    }

    /// Everything but key and payload.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "partition": self.partition,
            "offset": self.offset,
            "rejected_at": self.timestamp_ms.map(rfc3339),
            "reason": self.reason,
            "field": self.field,
            "message": self.message,
            "attempt": self.attempt,
            "source": {
                "topic": self.source.topic,
                "partition": self.source.partition,
                "offset": self.source.offset,
                "timestamp": self.source.timestamp_ms.map(rfc3339),
            },
            "rule_version": self.rule_version,
            "payload_bytes": self.payload_bytes,
            "original_bytes": self.original_bytes,
            "truncated": self.is_truncated(),
        })
    }
}

/// The last header of this name.
pub(super) fn header<'a>(message: &'a BorrowedMessage<'_>, key: &str) -> Option<&'a [u8]> {
    let headers = message.headers()?;
    headers.iter().filter(|header| header.key == key).last()?.value
}

fn text(message: &BorrowedMessage<'_>, key: &str) -> Option<String> {
    let value = header(message, key)?;
    let value = &value[..value.len().min(MAX_TEXT_BYTES)];
    Some(String::from_utf8_lossy(value).into_owned())
}

fn number<N: std::str::FromStr>(message: &BorrowedMessage<'_>, key: &str) -> Option<N> {
    std::str::from_utf8(header(message, key)?).ok()?.parse().ok()
}

pub(super) fn rfc3339(epoch_ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(epoch_ms).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_part_of_the_payload_is_truncated() {
        let letter = |original_bytes| Letter {
            payload_bytes: 1_024,
            original_bytes,
            ..Letter::default()
        };
        assert!(!letter(None).is_truncated());
        assert!(!letter(Some(1_024)).is_truncated());
        assert!(letter(Some(1_025)).is_truncated());
    }
}
