//! Records that the tests share, and short ways to judge them.
#![allow(dead_code, reason = "each test file uses its own part")]

use loginlake_events::RejectReason::{self, *};
use loginlake_events::{Contract, LoginEvent, Rejection};

/// What the original generator emits.
pub const GOOD: &str = r#"{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"2.3.0","ip":"108.228.145.239","locale":"RI","device_id":"6221eb3d-89b5-4585-8c98-545b78e24c53","timestamp":1720576825,"device_type":"iOS"}"#;

/// The required members but `timestamp`.
pub const REQUIRED: &str =
    r#""user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","device_id":"d","ip":"108.228.145.239""#;

/// One event of each release of the original generator, and one without `device_type`.
pub const SOURCE_EVENTS: [&str; 4] = [
    GOOD,
    r#"{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"2.3.0","ip":"108.228.145.239","locale":"RI","device_id":"6221eb3d-89b5-4585-8c98-545b78e24c53","timestamp":1720576825}"#,
    r#"{"user_id": "424cdd21-063a-43a7-b91b-7ca1a833afae", "app_version": "2.3.0", "device_type": "android", "ip": "199.172.111.135", "locale": "RU", "device_id": "593-47-5928", "timestamp": "1694479551"}"#,
    r#"{"user_id":"424cdd21-063a-43a7-b91b-7ca1a833afae","app_version":"2.3.0","device_type":null,"ip":"199.172.111.135","locale":"RU","device_id":"593-47-5928","timestamp":"1694479551"}"#,
];

/// A Kafka timestamp a little after [`GOOD`].
pub fn kafka_now() -> Option<i64> {
    Some(1_720_576_826_000)
}

/// A record with one member set to a JSON text; the member is added when it is not there.
pub fn set(payload: &str, field: &str, json: &str) -> String {
    let name = format!("\"{field}\":");
    match payload.find(&name) {
        None => format!("{},{name}{json}}}", payload.strip_suffix('}').expect("an object")),
        Some(start) => {
            let value = start + name.len();
            let length = payload[value..]
                .find([',', '}'])
                .expect("values of the shared records hold neither");
            format!("{}{json}{}", &payload[..value], &payload[value + length..])
        }
    }
}

/// [`GOOD`] with one member set to a JSON text.
pub fn payload_with(field: &str, json: &str) -> String {
    set(GOOD, field, json)
}

/// Judges a record by the default contract and looks at the event.
pub fn decode<T>(payload: &str, look: impl FnOnce(&LoginEvent<'_>) -> T) -> Result<T, Rejection> {
    Contract::default()
        .decode(Some(payload.as_bytes()), kafka_now())
        .map(|event| look(&event))
}

/// Judges [`GOOD`] with one member changed and looks at the event.
pub fn event_with<T>(
    field: &str,
    json: &str,
    look: impl FnOnce(&LoginEvent<'_>) -> T,
) -> Result<T, Rejection> {
    decode(&payload_with(field, json), look)
}

/// Judges [`GOOD`] with one member changed.
pub fn reject_with(field: &str, json: &str) -> Result<(), Rejection> {
    event_with(field, json, |_| ())
}

/// The reason for a record, `None` when it is good.
pub fn verdict(payload: Option<&[u8]>) -> Option<RejectReason> {
    Contract::default()
        .decode(payload, kafka_now())
        .err()
        .map(|rejection| rejection.reason)
}

/// One record for every reason, in the order of the reasons.
pub fn one_of_every_reason() -> Vec<(Option<Vec<u8>>, RejectReason)> {
    let nested = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let too_large = format!("\"{}\"", "x".repeat(1 << 20));
    vec![
        (None, NullPayload),
        (Some(b"\xc0\x80".to_vec()), NotUtf8),
        (Some(b"{".to_vec()), NotJson),
        (Some(b"[]".to_vec()), NotObject),
        (Some(payload_with("x", &nested).into_bytes()), TooDeep),
        (Some(payload_with("x", &too_large).into_bytes()), TooLarge),
        (Some(br#"{"ip":1,"ip":2}"#.to_vec()), DuplicateField),
        (Some(b"{}".to_vec()), MissingField),
        (Some(payload_with("user_id", "7").into_bytes()), BadType),
        (Some(payload_with("user_id", "\"7\"").into_bytes()), BadUserId),
        (Some(payload_with("device_id", "\"\"").into_bytes()), BadDeviceId),
        (Some(payload_with("timestamp", "1.5").into_bytes()), BadTimestamp),
        (Some(payload_with("timestamp", "1").into_bytes()), TimestampRange),
        (Some(payload_with("ip", "\"::1%lo\"").into_bytes()), BadIp),
        (Some(payload_with("locale", "\"XX\"").into_bytes()), BadLocale),
        (
            Some(payload_with("device_type", "\"\\u0007\"").into_bytes()),
            ControlCharacter,
        ),
        (
            Some(payload_with("app_version", "\"x\"").into_bytes()),
            BadVersion,
        ),
    ]
}
