//! Up to where the view is complete, and which of its hours are closed.
//!
//! A reader finds it twice: in the `txn` actions of `logins_hourly` (for the whole table), and in the key-value metadata of each of
//! its Parquet files (for the file, at the time when its date was counted; a date that did not change since is as complete as
//! the table).

use std::collections::BTreeMap;

use chrono::{DateTime, Timelike};
use parquet::file::metadata::KeyValue;
use serde_json::Value;

use crate::table::TableSnapshot;

/// Application id whose version is the version of `logins` up to which all of the view is complete.
pub const LOGINS_VERSION: &str = "loginlake/hourly/logins-version";
/// Application id whose version tells that version of `logins` from all others of its number: the first 63 bits of the SHA-256
/// of its commit. A table that was made again, or put back from a copy, has other commits.
pub const LOGINS_COMMIT: &str = "loginlake/hourly/logins-commit";
/// Application id that every refresh moves on by one: of two at once, one wins.
pub(super) const REFRESHES: &str = "loginlake/hourly/refreshes";

/// What the view was counted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completeness {
    /// The version of `logins`.
    pub logins_version: i64,
    /// Its `txn` actions: application id → next offset (and the counters of maintenance).
    pub offsets: BTreeMap<String, i64>,
    /// Hours that begin before this are closed: the event-time watermark has left them. Epoch milliseconds of a full hour; `None`:
    /// no hour is closed. Late rows still correct closed hours, at the next refresh.
    pub closed_before_ms: Option<i64>,
}

impl Completeness {
    /// Of a version of `logins`, at a time given in epoch milliseconds. The watermark is the newest event time of all files,
    /// but never later than the clock, whatever an event from the future says.
    pub fn of(logins: &TableSnapshot, now_ms: i64) -> Self {
        let newest_ms = logins
            .files
            .iter()
            .filter_map(|file| {
                let stats: Value = serde_json::from_str(file.stats_json.as_deref()?).ok()?;
                let newest = stats["maxValues"]["event_time"].as_str()?;
                Some(DateTime::parse_from_rfc3339(newest).ok()?.timestamp_millis())
            })
            .max();
        Self {
            logins_version: logins.version,
            offsets: logins.transactions.clone(),
            closed_before_ms: newest_ms.map(|newest_ms| full_hour(newest_ms.min(now_ms))),
        }
    }

    /// The same as a reader sees it, RFC 3339; empty when no hour is closed.
    pub fn closed_before(&self) -> String {
        self.closed_before_ms
            .and_then(DateTime::from_timestamp_millis)
            .map(|time| time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
            .unwrap_or_default()
    }

    /// As key-value metadata of a Parquet file.
    pub(super) fn key_values(&self) -> Vec<KeyValue> {
        let offsets = serde_json::to_string(&self.offsets).unwrap_or_default();
        vec![
            KeyValue::new(
                "loginlake.logins-version".to_owned(),
                self.logins_version.to_string(),
            ),
            KeyValue::new("loginlake.offsets".to_owned(), offsets),
            KeyValue::new("loginlake.closed-before".to_owned(), self.closed_before()),
        ]
    }
}

fn full_hour(ms: i64) -> i64 {
    DateTime::from_timestamp_millis(ms).map_or(ms, |time| {
        let into_hour = i64::from(time.minute() * 60 + time.second()) * 1_000;
        ms - into_hour - i64::from(time.timestamp_subsec_millis())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_closed_when_the_watermark_has_left_it() {
        let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
        assert_eq!(
            full_hour(at("2026-01-05T10:59:59.999Z")),
            at("2026-01-05T10:00:00Z")
        );
        assert_eq!(full_hour(at("2026-01-05T11:00:00Z")), at("2026-01-05T11:00:00Z"));
        let complete = Completeness {
            logins_version: 3,
            offsets: BTreeMap::new(),
            closed_before_ms: Some(at("2026-01-05T11:00:00Z")),
        };
        assert_eq!(complete.closed_before(), "2026-01-05T11:00:00Z");
    }
}
