//! One record of the two topics, cut down to what the dashboard counts.
//!
//! Only the members that are shown are parsed, borrowed from the payload. A record that does not have them as
//! `loginlake_events` writes them is `None`: it is counted as unreadable, and ends nothing.

use std::borrow::Cow;

use loginlake_events::{DeviceType, RejectReason};
use loginlake_kafka::rdkafka::Message;
use loginlake_kafka::rdkafka::message::{BorrowedMessage, Headers as _, Timestamp};
use serde::Deserialize;

/// The header of a dead letter that names its reason.
const REASON_HEADER: &str = "error.reason";
/// The header with the Kafka timestamp of the input record.
const RECEIVED_HEADER: &str = "source.timestamp";

/// What is counted of a login.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Login<'a> {
    /// When it was published, epoch milliseconds.
    pub processed_ms: i64,
    /// When it happened, epoch milliseconds.
    pub event_ms: i64,
    /// `RI`; `unknown`.
    pub locale: Cow<'a, str>,
    pub region: Cow<'a, str>,
    /// Hour of day, below 24.
    pub utc_hour: u8,
    /// Hour of day where the login happened, below 24; `None` outside the US.
    pub local_hour: Option<u8>,
    pub device_type: DeviceType,
    pub app_version: Cow<'a, str>,
}

/// The members of a processed record that are needed.
#[derive(Deserialize)]
struct Members<'a> {
    timestamp: i64,
    #[serde(borrow)]
    event_time: Cow<'a, str>,
    processed_timestamp: i64,
    #[serde(borrow)]
    locale: Cow<'a, str>,
    #[serde(borrow)]
    region: Cow<'a, str>,
    login_hour: u8,
    local_hour: Option<u8>,
    #[serde(borrow)]
    device_type: Cow<'a, str>,
    #[serde(borrow)]
    app_version: Cow<'a, str>,
}

impl<'a> Login<'a> {
    /// Reads a record of the processed topic.
    pub(super) fn parse(payload: &'a [u8]) -> Option<Self> {
        let members: Members<'a> = serde_json::from_slice(payload).ok()?;
        let device_type = DeviceType::ALL
            .iter()
            .copied()
            .find(|known| known.as_str() == members.device_type)?;
        let is_hour = |hour: u8| hour < 24;
        if !is_hour(members.login_hour) || !members.local_hour.is_none_or(is_hour) {
            return None;
        }
        let millis = milliseconds_of(&members.event_time)?;
        Some(Self {
            processed_ms: members.processed_timestamp,
            event_ms: members.timestamp.checked_mul(1_000)?.checked_add(millis)?,
            locale: members.locale,
            region: members.region,
            utc_hour: members.login_hour,
            local_hour: members.local_hour,
            device_type,
            app_version: members.app_version,
        })
    }
}

/// The fraction of an `event_time`: `.123Z` is 123, and a whole second has none.
fn milliseconds_of(event_time: &str) -> Option<i64> {
    let Some((_, fraction)) = event_time.split_once('.') else {
        return Some(0);
    };
    let digits = fraction.strip_suffix('Z').filter(|digits| digits.len() == 3)?;
    digits
        .bytes()
        .all(|digit| digit.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

/// Why a dead letter was rejected; `None` when its header does not say so in words that are known here.
pub(super) fn reason_of(message: &BorrowedMessage<'_>) -> Option<RejectReason> {
    header(message, REASON_HEADER)?.parse().ok()
}

/// When the input record came to Kafka, epoch milliseconds: from the header that the transform adds, else the Kafka
/// timestamp that the producer set. A broker that stamps records on arrival hides the latter.
pub(super) fn received_ms(message: &BorrowedMessage<'_>) -> Option<i64> {
    if let Some(value) = header(message, RECEIVED_HEADER) {
        return value.parse().ok();
    }
    match message.timestamp() {
        Timestamp::CreateTime(ms) => Some(ms),
        Timestamp::LogAppendTime(_) | Timestamp::NotAvailable => None,
    }
}

fn header<'a>(message: &'a BorrowedMessage<'_>, key: &str) -> Option<&'a str> {
    let header = message.headers()?.iter().find(|header| header.key == key)?;
    std::str::from_utf8(header.value?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use loginlake_events::Contract;

    fn processed(input: &str) -> Vec<u8> {
        let contract = Contract::default();
        let mut out = Vec::new();
        contract
            .decode(Some(input.as_bytes()), None)
            .expect("a good event")
            .write_json(1_720_576_827_250, &mut out);
        out
    }

    #[test]
    fn what_the_contract_writes_is_read() {
        let record = processed(
            r#"{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"2.3.0","ip":"108.228.145.239",
            "locale":"RI","device_id":"x","timestamp":1720576825250,"device_type":"iOS"}"#,
        );
        let login = Login::parse(&record).expect("readable");
        assert_eq!(
            (login.event_ms, login.processed_ms),
            (1_720_576_825_250, 1_720_576_827_250)
        );
        assert_eq!(
            (&*login.locale, &*login.region, &*login.app_version),
            ("RI", "Northeast", "2.3.0")
        );
        assert_eq!((login.utc_hour, login.local_hour), (2, Some(22)));
        assert_eq!(login.device_type, DeviceType::Ios);
    }

    #[test]
    fn what_is_missing_in_the_event_is_unknown_and_not_unreadable() {
        let record = processed(
            r#"{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","ip":"::1","device_id":"x","timestamp":1720576825}"#,
        );
        let login = Login::parse(&record).expect("readable");
        assert_eq!((&*login.locale, login.local_hour), ("unknown", None));
        assert_eq!(
            (login.device_type, &*login.app_version),
            (DeviceType::Unknown, "unknown")
        );
    }

    #[test]
    fn anything_else_is_unreadable() {
        let good = String::from_utf8(processed(
            r#"{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"2.3.0","ip":"1.1.1.1",
            "locale":"RI","device_id":"x","timestamp":1720576825,"device_type":"iOS"}"#,
        ))
        .expect("text");
        let changed = |from: &str, to: &str| {
            assert!(good.contains(from), "{from} is not in {good}");
            good.replace(from, to)
        };
        for bad in [
            String::new(),
            "[]".to_owned(),
            good[..good.len() - 1].to_owned(),
            changed("\"login_hour\":2", "\"login_hour\":24"),
            changed("\"local_hour\":22", "\"local_hour\":99"),
            changed("\"device_type\":\"ios\"", "\"device_type\":\"toaster\""),
            changed("\"timestamp\":1720576825", "\"timestamp\":9223372036854775807"),
            changed("\"region\":\"Northeast\"", "\"region\":7"),
            changed(":25Z", ":25.1234Z"),
        ] {
            assert_eq!(Login::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
