//! One record of the processed topic into what OpenSearch is told: a pure function of the record.

use std::ops::RangeInclusive;
use std::sync::Arc;

use chrono::{DateTime, Datelike as _};
use loginlake_service::config::topic_name;
use serde::Deserialize;

/// Years that an index can be of. The contract's window is narrower; this bounds the number of indices whoever writes to the
/// topic.
const YEARS: RangeInclusive<i32> = 2000..=2099;

/// Where a login came from: the identity of its document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// Input topic.
    pub topic: Arc<str>,
    /// Input partition.
    pub kafka_partition: i32,
    /// Input offset.
    pub kafka_offset: i64,
}

/// Why OpenSearch is not given a record, or did not take it. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reason {
    /// Its headers do not say where it came from.
    NoSource,
    /// Its payload is not a JSON object with a `timestamp`.
    NotALogin,
    /// Its `timestamp` is of no year that an index is made for.
    TimeRange,
    /// A field does not fit its type in the index.
    Mapping,
    /// It is larger than OpenSearch takes.
    TooLarge,
}

impl Reason {
    pub const ALL: [Self; 5] = [
        Self::NoSource,
        Self::NotALogin,
        Self::TimeRange,
        Self::Mapping,
        Self::TooLarge,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoSource => "INDEX_NO_SOURCE",
            Self::NotALogin => "INDEX_NOT_A_LOGIN",
            Self::TimeRange => "INDEX_TIME_RANGE",
            Self::Mapping => "INDEX_MAPPING",
            Self::TooLarge => "INDEX_TOO_LARGE",
        }
    }
}

#[derive(Deserialize)]
struct Login {
    timestamp: i64,
}

/// Appends the two lines of a record to a bulk request. On an error nothing is appended.
///
/// # Errors
/// Why there is no document of it.
pub(super) fn append(
    name: &str,
    source: Option<&Source>,
    payload: Option<&[u8]>,
    body: &mut Vec<u8>,
) -> Result<(), Reason> {
    let source = source.ok_or(Reason::NoSource)?;
    let payload = payload.ok_or(Reason::NotALogin)?;
    // Also that all of it is JSON: one bad line would make a whole request fail.
    let login: Login = serde_json::from_slice(payload).map_err(|_| Reason::NotALogin)?;
    let time = DateTime::from_timestamp(login.timestamp, 0).ok_or(Reason::TimeRange)?;
    if !YEARS.contains(&time.year()) {
        return Err(Reason::TimeRange);
    }
    body.extend_from_slice(b"{\"create\":{\"_index\":\"");
    body.extend_from_slice(format!("{name}-{:04}.{:02}", time.year(), time.month()).as_bytes());
    body.extend_from_slice(b"\",\"_id\":\"");
    body.extend_from_slice(id(source, login.timestamp).as_bytes());
    body.extend_from_slice(b"\"}}\n");
    let line = body.len();
    body.extend_from_slice(payload);
    // Outside of texts a line break is a blank, and inside of them JSON has none.
    for byte in &mut body[line..] {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    body.push(b'\n');
    Ok(())
}

/// The id of a login: where it came from, and when it was. The time tells the records of a topic that was deleted and made
/// again from those that had their offsets before. A topic's name has no character that JSON escapes.
fn id(source: &Source, timestamp_secs: i64) -> String {
    format!(
        "{}:{}:{}:{timestamp_secs}",
        source.topic, source.kafka_partition, source.kafka_offset
    )
}

/// The source position that headers tell; `known` is the topic of the record before, so that it is not copied each time.
pub(super) fn source(
    topic: Option<&[u8]>,
    kafka_partition: Option<&[u8]>,
    kafka_offset: Option<&[u8]>,
    known: &mut Option<Arc<str>>,
) -> Option<Source> {
    let topic = std::str::from_utf8(topic?).ok()?;
    let topic = match known {
        Some(known) if **known == *topic => Arc::clone(known),
        _ => {
            let checked: Arc<str> = topic_name("source.topic", topic.to_owned()).ok()?.into();
            *known = Some(Arc::clone(&checked));
            checked
        }
    };
    let kafka_partition: i32 = std::str::from_utf8(kafka_partition?).ok()?.parse().ok()?;
    let kafka_offset: i64 = std::str::from_utf8(kafka_offset?).ok()?.parse().ok()?;
    (kafka_partition >= 0 && kafka_offset >= 0).then_some(Source {
        topic,
        kafka_partition,
        kafka_offset,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(topic: &str, partition: &str, offset: &str) -> Option<Source> {
        source(
            Some(topic.as_bytes()),
            Some(partition.as_bytes()),
            Some(offset.as_bytes()),
            &mut None,
        )
    }

    fn lines(payload: &str) -> Result<String, Reason> {
        let mut body = Vec::new();
        append(
            "logins",
            from("user-login", "3", "17").as_ref(),
            Some(payload.as_bytes()),
            &mut body,
        )?;
        Ok(String::from_utf8(body).expect("text"))
    }

    #[test]
    fn a_login_is_filed_under_its_month_by_its_source() {
        assert_eq!(
            lines("{\"timestamp\":1720576825,\n\"ip\":\"1.2.3.4\"}").expect("good"),
            "{\"create\":{\"_index\":\"logins-2024.07\",\"_id\":\"user-login:3:17:1720576825\"}}\n\
             {\"timestamp\":1720576825, \"ip\":\"1.2.3.4\"}\n"
        );
    }

    #[test]
    fn what_is_no_login_is_not_sent_and_leaves_nothing_behind() {
        let source = from("user-login", "0", "0");
        for (source, payload, reason) in [
            (None, Some("{\"timestamp\":1720576825}"), Reason::NoSource),
            (source.as_ref(), None, Reason::NotALogin),
            (
                source.as_ref(),
                Some("{\"timestamp\":1720576825} {"),
                Reason::NotALogin,
            ),
            (source.as_ref(), Some("{\"timestamp\":\"x\"}"), Reason::NotALogin),
            (source.as_ref(), Some("[]"), Reason::NotALogin),
            (source.as_ref(), Some("{\"timestamp\":0}"), Reason::TimeRange),
            (
                source.as_ref(),
                Some("{\"timestamp\":9223372036854775807}"),
                Reason::TimeRange,
            ),
        ] {
            let mut body = Vec::new();
            assert_eq!(
                append("x", source, payload.map(str::as_bytes), &mut body),
                Err(reason)
            );
            assert!(body.is_empty());
        }
    }

    #[test]
    fn hostile_headers_are_no_source() {
        for (topic, partition, offset) in [
            ("a\"b", "0", "0"),
            ("", "0", "0"),
            ("a", "-1", "0"),
            ("a", "0", "-1"),
            ("a", "0", "9223372036854775808"),
            ("a", "x", "0"),
        ] {
            assert_eq!(
                from(topic, partition, offset),
                None,
                "{topic} {partition} {offset}"
            );
        }
        assert_eq!(source(None, Some(b"0"), Some(b"0"), &mut None), None);
    }

    #[test]
    fn a_topic_that_was_made_again_has_other_ids() {
        let source = from("t", "0", "5").expect("a source");
        assert_ne!(id(&source, 1_720_576_825), id(&source, 1_720_576_826));
    }
}
