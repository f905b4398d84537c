//! What must hold for any input: nothing panics, the same bytes get the same verdict, the output is the documented
//! record, and a record that is decoded again has the same normalised fields.

mod common;

use common::{GOOD, SOURCE_EVENTS};
use loginlake_events::{Contract, LoginEvent, MAX_PAYLOAD_BYTES};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::Value;

/// The members of a processed record, in their order.
const OUTPUT_MEMBERS: [&str; 19] = [
    "user_id",
    "device_id",
    "timestamp",
    "ip",
    "locale",
    "device_type",
    "app_version",
    "event_time",
    "processed_timestamp",
    "region",
    "division",
    "login_date",
    "login_hour",
    "local_hour",
    "time_of_day",
    "day_of_week",
    "ip_class",
    "ip_prefix",
    "flags",
];

const PROCESSED_AT_MS: i64 = 1_720_576_826_123;

fn record_of(event: &LoginEvent<'_>) -> String {
    let mut record = Vec::new();
    event.write_json(PROCESSED_AT_MS, &mut record);
    String::from_utf8(record).expect("a record is UTF-8")
}

fn normalised_fields(event: &LoginEvent<'_>) -> [String; 7] {
    [
        event.user_id(),
        event.device_id(),
        &event.timestamp_secs().to_string(),
        event.ip(),
        event.locale(),
        event.device_type().as_str(),
        event.app_version(),
    ]
    .map(str::to_owned)
}

/// Judges a record twice, by contracts that share nothing, and checks everything that must hold for any record.
fn check(payload: &[u8], kafka_timestamp_ms: Option<i64>) -> Result<bool, TestCaseError> {
    let (first, second) = (Contract::default(), Contract::default());
    match (
        first.decode(Some(payload), kafka_timestamp_ms),
        second.decode(Some(payload), kafka_timestamp_ms),
    ) {
        (Err(rejection), again) => {
            prop_assert_eq!(Some(rejection), again.err());
            Ok(false)
        }
        (Ok(event), Ok(again)) => {
            let record = record_of(&event);
            prop_assert_eq!(&record, &record_of(&again));
            check_record(&event, &record)?;
            let decoded_again = first.decode(Some(record.as_bytes()), kafka_timestamp_ms);
            let decoded_again =
                decoded_again.map_err(|rejection| TestCaseError::fail(rejection.to_string()))?;
            prop_assert_eq!(normalised_fields(&event), normalised_fields(&decoded_again));
            Ok(true)
        }
        (Ok(_), Err(rejection)) => Err(TestCaseError::fail(format!("good once, then {rejection}"))),
    }
}

fn check_record(event: &LoginEvent<'_>, record: &str) -> Result<(), TestCaseError> {
    let value: Value =
        serde_json::from_str(record).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let object = value.as_object().expect("a record is an object");
    prop_assert_eq!(object.len(), OUTPUT_MEMBERS.len());
    let positions: Vec<Option<usize>> = OUTPUT_MEMBERS
        .iter()
        .map(|name| record.find(&format!("\"{name}\":")))
        .collect();
    prop_assert!(
        positions.iter().all(Option::is_some) && positions.is_sorted(),
        "{}",
        record
    );

    let texts = [
        ("user_id", event.user_id()),
        ("device_id", event.device_id()),
        ("ip", event.ip()),
        ("locale", event.locale()),
        ("device_type", event.device_type().as_str()),
        ("app_version", event.app_version()),
        ("region", event.region()),
        ("division", event.division()),
        ("time_of_day", event.time_of_day().as_str()),
        ("day_of_week", event.day_of_week().as_str()),
        ("ip_class", event.ip_class().as_str()),
        ("ip_prefix", event.ip_prefix()),
    ];
    for (name, expected) in texts {
        prop_assert_eq!(object[name].as_str(), Some(expected), "{}", name);
    }
    prop_assert_eq!(object["timestamp"].as_i64(), Some(event.timestamp_secs()));
    prop_assert_eq!(object["processed_timestamp"].as_i64(), Some(PROCESSED_AT_MS));
    prop_assert_eq!(object["login_hour"].as_u64(), Some(event.login_hour().into()));
    prop_assert_eq!(object["local_hour"].as_u64(), event.local_hour().map(u64::from));
    let instant = chrono::DateTime::from_timestamp_millis(event.event_time_ms()).expect("within the window");
    let has_millis = event.event_time_ms() % 1_000 != 0;
    let format = if has_millis {
        "%Y-%m-%dT%H:%M:%S%.3fZ"
    } else {
        "%Y-%m-%dT%H:%M:%SZ"
    };
    let (event_time, login_date) = (instant.format(format).to_string(), event.login_date().to_string());
    prop_assert_eq!(object["event_time"].as_str(), Some(event_time.as_str()));
    prop_assert_eq!(object["login_date"].as_str(), Some(login_date.as_str()));
    prop_assert_eq!(event.login_date(), instant.date_naive());
    let flags: Vec<&str> = object["flags"]
        .as_array()
        .expect("an array")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    prop_assert!(flags.is_sorted());
    prop_assert_eq!(flags, event.flags().iter().collect::<Vec<_>>());
    Ok(())
}

/// A JSON text of any shape, strings with odd escapes and numbers of any size included.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,4})?",
        any::<String>().prop_map(|text| Value::from(text).to_string()),
        "\"(\\\\u[0-9a-fA-F]{4}|\\\\[\"\\\\/bfnrt]|[a-z ]){0,8}\"",
    ];
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec(("[a-z]{0,3}", inner), 0..5).prop_map(|members| {
                let members: Vec<String> = members
                    .iter()
                    .map(|(name, value)| format!("\"{name}\":{value}"))
                    .collect();
                format!("{{{}}}", members.join(" , "))
            }),
        ]
    })
}

/// Values of each field that are good, and some that nearly are.
fn field_value(field: &'static str) -> BoxedStrategy<String> {
    let quoted = |strategy: &'static str| strategy.prop_map(|text| format!("\"{text}\"")).boxed();
    match field {
        "user_id" => {
            quoted(" ?[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12} ?")
        }
        "device_id" => quoted("[A-Za-z0-9._:-]{1,130}"),
        "timestamp" => prop_oneof![
            (1_400_000_000i64..4_200_000_000).prop_map(|secs| secs.to_string()),
            (1_400_000_000_000i64..4_200_000_000_000).prop_map(|ms| format!("\"{ms}\"")),
        ]
        .boxed(),
        "ip" => prop_oneof![
            any::<std::net::Ipv4Addr>().prop_map(|ip| format!("\"{ip}\"")),
            any::<std::net::Ipv6Addr>().prop_map(|ip| format!("\"{ip}\"")),
            any::<[u16; 8]>()
                .prop_map(|groups| format!("\"{}\"", groups.map(|group| format!("{group:04X}")).join(":"))),
            any::<std::net::Ipv4Addr>().prop_map(|ip| format!("\"::ffff:{ip}\"")),
        ]
        .boxed(),
        "locale" => quoted("([a-z]{2}[-_])?(RI|ca|Tx|AK|pr|US|RU|de|[A-Z]{2})|unknown"),
        "device_type" => quoted("(?i: ?(android|ios|ipad|iphone|web|other|unknown|[a-z ]{0,70}) ?)"),
        "app_version" => {
            quoted("v?[0-9]{1,3}(\\.[0-9]{1,10}){0,4}(-[0-9A-Za-z.-]{1,6})?(\\+[0-9A-Za-z.-]{1,6})?")
        }
        other => panic!("no such field: {other}"),
    }
}

const FIELDS: [&str; 7] = [
    "user_id",
    "device_id",
    "timestamp",
    "ip",
    "locale",
    "device_type",
    "app_version",
];

/// Records whose fields are good or nearly so.
fn near_event() -> impl Strategy<Value = String> {
    FIELDS.map(field_value).prop_map(|values| {
        let members: Vec<String> = FIELDS
            .iter()
            .zip(values)
            .map(|(name, json)| format!("\"{name}\":{json}"))
            .collect();
        format!("{{{}}}", members.join(","))
    })
}

/// The same cases on every run; a failing one is printed, not kept in a file.
fn config() -> ProptestConfig {
    ProptestConfig {
        cases: 512,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_bytes_get_a_verdict(payload in prop::collection::vec(any::<u8>(), 0..300), kafka_ms in any::<Option<i64>>()) {
        check(&payload, kafka_ms)?;
    }

    #[test]
    fn any_json_gets_a_verdict_and_is_never_called_not_json(json in json_text()) {
        check(json.as_bytes(), None)?;
        let reason = common::verdict(Some(json.as_bytes())).map(|reason| reason.as_str());
        prop_assert!(reason != Some("NOT_JSON") && reason != Some("NOT_UTF8"), "{:?}", reason);
    }

    #[test]
    fn any_json_is_accepted_as_the_value_of_any_member(json in json_text(), field in prop::sample::select(&FIELDS[..])) {
        check(common::payload_with(field, &json).as_bytes(), common::kafka_now())?;
        let as_extra = common::payload_with("anything", &json);
        prop_assert!(check(as_extra.as_bytes(), common::kafka_now())?);
    }

    #[test]
    fn changed_bytes_of_a_good_event_get_a_verdict(
        source in prop::sample::select(&SOURCE_EVENTS[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3u8), 1..6),
    ) {
        let mut payload = source.as_bytes().to_vec();
        for (place, byte, change) in changes {
            let place = place.index(payload.len());
            match change {
                0 => payload[place] = byte,
                1 => payload.insert(place, byte),
                _ => drop(payload.remove(place)),
            }
        }
        check(&payload, None)?;
    }

    #[test]
    fn events_of_any_good_values_decode_again_to_the_same_fields(payload in near_event()) {
        check(payload.as_bytes(), None)?;
    }

    #[test]
    fn a_serde_parser_agrees_on_what_is_json(payload in "[\\[\\]{}\",:0-9a-z\\\\ -]{0,24}") {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&payload).is_ok();
        let reason = common::verdict(Some(payload.as_bytes())).map(|reason| reason.as_str());
        prop_assert_eq!(!is_json && !payload.is_empty(), reason == Some("NOT_JSON"));
    }

    #[test]
    fn blanks_and_order_of_members_do_not_matter(order in Just(FIELDS.to_vec()).prop_shuffle(), blank in "[ \t\r\n]{0,3}") {
        let good: Value = serde_json::from_str(GOOD).expect("the example is JSON");
        let members: Vec<String> =
            order.iter().map(|name| format!("{blank}\"{name}\"{blank}:{blank}{}{blank}", good[*name])).collect();
        let payload = format!("{blank}{{{}}}{blank}", members.join(","));
        let expected = common::decode(GOOD, record_of);
        prop_assert_eq!(common::decode(&payload, record_of), expected);
    }
}

#[test]
fn the_largest_payload_is_judged_like_any_other() {
    let filler = "\\u0000".repeat((MAX_PAYLOAD_BYTES - GOOD.len()) / 6 - 4);
    let payload = common::payload_with("x", &format!("\"{filler}\""));
    assert!(payload.len() <= MAX_PAYLOAD_BYTES);
    assert!(check(payload.as_bytes(), None).unwrap());
}
