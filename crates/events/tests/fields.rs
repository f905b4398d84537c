//! The rules of the fields: each row of the contract's table, with good values and bad ones.

mod common;

use common::{GOOD, SOURCE_EVENTS, event_with, kafka_now, payload_with};
use loginlake_events::RejectReason::{self, *};
use loginlake_events::{Contract, Field};

#[test]
fn every_release_of_the_original_generator_is_good() {
    let contract = Contract::default();
    for payload in SOURCE_EVENTS {
        let event = contract.decode(Some(payload.as_bytes()), None).unwrap();
        assert!(!event.user_id().is_empty(), "{payload}");
    }
}

#[test]
fn the_example_is_enriched_as_documented() {
    let contract = Contract::default();
    let event = contract.decode(Some(GOOD.as_bytes()), kafka_now()).unwrap();
    assert_eq!(event.user_id(), "a6397988-1649-4859-ae5f-a1407b638ca6");
    assert_eq!(event.device_id(), "6221eb3d-89b5-4585-8c98-545b78e24c53");
    assert_eq!(event.timestamp_secs(), 1_720_576_825);
    assert_eq!(event.event_time_ms(), 1_720_576_825_000);
    assert_eq!(event.ip(), "108.228.145.239");
    assert_eq!(event.locale(), "RI");
    assert_eq!(event.device_type().as_str(), "ios");
    assert_eq!(event.app_version(), "2.3.0");
    assert_eq!((event.region(), event.division()), ("Northeast", "New England"));
    assert_eq!(event.login_date().to_string(), "2024-07-10");
    assert_eq!((event.login_hour(), event.local_hour()), (2, Some(22)));
    assert_eq!(
        (event.time_of_day().as_str(), event.day_of_week().as_str()),
        ("evening", "Wed")
    );
    assert_eq!(
        (event.ip_class().as_str(), event.ip_prefix()),
        ("public", "108.228.145.0/24")
    );
    assert!(event.flags().is_empty());
    assert_eq!(event.extra_fields(), 0);
}

/// What a value of one field becomes: its normalised text, or the reason.
fn assert_field(field: &str, cases: &[(&str, Result<&str, RejectReason>)]) {
    for (json, expected) in cases {
        let actual = event_with(field, json, |event| match field {
            "user_id" => event.user_id().to_owned(),
            "device_id" => event.device_id().to_owned(),
            "timestamp" => event.event_time_ms().to_string(),
            "ip" => event.ip().to_owned(),
            "locale" => event.locale().to_owned(),
            "device_type" => event.device_type().to_string(),
            "app_version" => event.app_version().to_owned(),
            other => panic!("no such field: {other}"),
        });
        let actual = match actual {
            Ok(text) => Ok(text),
            Err(rejection) => {
                assert_eq!(
                    rejection.field.map(Field::as_str),
                    Some(field),
                    "{field} = {json}"
                );
                Err(rejection.reason)
            }
        };
        assert_eq!(
            actual.as_ref().map(String::as_str),
            expected.as_ref().copied(),
            "{field} = {json}"
        );
    }
}

#[test]
fn user_id_is_a_uuid_trimmed_and_lower_cased() {
    let good = "a6397988-1649-4859-ae5f-a1407b638ca6";
    assert_field(
        "user_id",
        &[
            (r#""a6397988-1649-4859-ae5f-a1407b638ca6""#, Ok(good)),
            (r#""A6397988-1649-4859-AE5F-A1407B638CA6""#, Ok(good)),
            (r#""  a6397988-1649-4859-ae5f-a1407b638ca6\t""#, Ok(good)),
            (r#""\u00616397988-1649-4859-ae5f-a1407b638ca6""#, Ok(good)),
            (
                r#""00000000-0000-0000-0000-000000000000""#,
                Ok("00000000-0000-0000-0000-000000000000"),
            ),
            ("null", Err(MissingField)),
            ("1", Err(BadType)),
            ("true", Err(BadType)),
            ("[]", Err(BadType)),
            ("{}", Err(BadType)),
            (r#""""#, Err(BadUserId)),
            (r#""a639798816494859ae5fa1407b638ca6""#, Err(BadUserId)),
            (r#""{a6397988-1649-4859-ae5f-a1407b638ca6}""#, Err(BadUserId)),
            (r#""a6397988-1649-4859-ae5f-a1407b638cag""#, Err(BadUserId)),
            (r#""a6397988-1649-4859-ae5f-a1407b638ca""#, Err(BadUserId)),
            (r#""a6397988-1649-4859-ae5f-a1407b638ca6a""#, Err(BadUserId)),
            (r#""a63979881-649-4859-ae5f-a1407b638ca6""#, Err(BadUserId)),
            (r#""a6397988-1649-4859-ae5f-a1407b638c\ud800""#, Err(BadUserId)),
        ],
    );
}

#[test]
fn device_id_is_1_to_128_safe_characters() {
    let longest = "a".repeat(128);
    assert_field(
        "device_id",
        &[
            (r#""593-47-5928""#, Ok("593-47-5928")),
            (r#""A.z_0:9-""#, Ok("A.z_0:9-")),
            (&format!("\"{longest}\""), Ok(&longest)),
            (&format!("\"{longest}a\""), Err(BadDeviceId)),
            ("null", Err(MissingField)),
            ("5934759", Err(BadType)),
            (r#""""#, Err(BadDeviceId)),
            (r#"" x""#, Err(BadDeviceId)),
            (r#""a/b""#, Err(BadDeviceId)),
            (r#""ü""#, Err(BadDeviceId)),
            (r#""a\u0000""#, Err(BadDeviceId)),
            (r#""\udc00""#, Err(BadDeviceId)),
        ],
    );
}

#[test]
fn timestamp_is_whole_seconds_or_thirteen_digits_of_milliseconds() {
    assert_field(
        "timestamp",
        &[
            ("1720576825", Ok("1720576825000")),
            (r#""1694479551""#, Ok("1694479551000")),
            ("1720576825123", Ok("1720576825123")),
            (r#""1720576825123""#, Ok("1720576825123")),
            (r#""00001720576825""#, Ok("1720576825000")),
            ("null", Err(MissingField)),
            ("true", Err(BadType)),
            ("[1720576825]", Err(BadType)),
            ("{}", Err(BadType)),
            ("1720576825.0", Err(BadTimestamp)),
            ("1.720576825e9", Err(BadTimestamp)),
            ("-1.5", Err(BadTimestamp)),
            (r#""""#, Err(BadTimestamp)),
            (r#"" 1720576825""#, Err(BadTimestamp)),
            (r#""+1720576825""#, Err(BadTimestamp)),
            (r#""-1720576825""#, Err(BadTimestamp)),
            (r#""2024-07-10T02:00:25Z""#, Err(BadTimestamp)),
            (r#""١٧٢٠٥٧٦٨٢٥""#, Err(BadTimestamp)),
            (r#""\ud800""#, Err(BadTimestamp)),
            ("-1720576825", Err(TimestampRange)),
            ("-0", Err(TimestampRange)),
            ("0", Err(TimestampRange)),
            ("172057682512", Err(TimestampRange)),
            ("9223372036854775807", Err(TimestampRange)),
            ("9223372036854775808", Err(TimestampRange)),
            ("100000000000000000000000000000000000000000", Err(TimestampRange)),
        ],
    );
}

#[test]
fn the_timestamp_window_includes_both_of_its_ends() {
    let contract = Contract::builder()
        .earliest_ms(1_700_000_000_000)
        .max_ahead_ms(5_000)
        .build()
        .unwrap();
    let kafka_ms = 1_720_000_000_000;
    for (timestamp, kafka_timestamp_ms, good) in [
        ("1700000000000", Some(kafka_ms), true),
        ("1699999999999", Some(kafka_ms), false),
        ("1720000005000", Some(kafka_ms), true),
        ("1720000005001", Some(kafka_ms), false),
        ("1720000006", Some(kafka_ms), false),
        ("4102444800", None, true),
        ("4102444801", None, false),
        ("4102444800", Some(i64::MAX), true),
        ("4102444801", Some(i64::MAX), false),
        ("1700000000000", Some(i64::MIN), false),
    ] {
        let payload = payload_with("timestamp", timestamp);
        let reason = contract
            .decode(Some(payload.as_bytes()), kafka_timestamp_ms)
            .err()
            .map(|r| r.reason);
        assert_eq!(
            reason,
            (!good).then_some(TimestampRange),
            "{timestamp} at {kafka_timestamp_ms:?}"
        );
    }
}

#[test]
fn ip_is_strict_text_written_canonically() {
    assert_field(
        "ip",
        &[
            (r#""108.228.145.239""#, Ok("108.228.145.239")),
            (r#""0.0.0.0""#, Ok("0.0.0.0")),
            (r#""255.255.255.255""#, Ok("255.255.255.255")),
            (r#""2001:DB8:0:0:1:0:0:1""#, Ok("2001:db8::1:0:0:1")),
            (r#""2001:0db8::0001""#, Ok("2001:db8::1")),
            (r#""::""#, Ok("::")),
            (r#""::ffff:108.228.145.239""#, Ok("108.228.145.239")),
            (r#""::FFFF:6ce4:91ef""#, Ok("108.228.145.239")),
            (r#""64:ff9b::1.2.3.4""#, Ok("64:ff9b::102:304")),
            (
                r#""ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255""#,
                Ok("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ),
            ("null", Err(MissingField)),
            ("1823773167", Err(BadType)),
            (r#""""#, Err(BadIp)),
            (r#""1.2.3""#, Err(BadIp)),
            (r#""1.2.3.4.5""#, Err(BadIp)),
            (r#""1.2.3.256""#, Err(BadIp)),
            (r#""01.2.3.4""#, Err(BadIp)),
            (r#""1.2.3.4 ""#, Err(BadIp)),
            (r#""1.2.3.4:80""#, Err(BadIp)),
            (r#""0x1.2.3.4""#, Err(BadIp)),
            (r#""fe80::1%eth0""#, Err(BadIp)),
            (r#""[::1]""#, Err(BadIp)),
            (r#""1::2::3""#, Err(BadIp)),
            (r#""localhost""#, Err(BadIp)),
            (r#""\ud800""#, Err(BadIp)),
        ],
    );
}

#[test]
fn locale_is_a_state_a_territory_or_a_country() {
    assert_field(
        "locale",
        &[
            (r#""RI""#, Ok("RI")),
            (r#""ri""#, Ok("RI")),
            (r#""en-RI""#, Ok("RI")),
            (r#""EN_ri""#, Ok("RI")),
            (r#""RU""#, Ok("RU")),
            (r#""DC""#, Ok("DC")),
            (r#""PR""#, Ok("PR")),
            (r#""en-US""#, Ok("US")),
            (r#""unknown""#, Ok("unknown")),
            ("null", Ok("unknown")),
            ("7", Err(BadType)),
            ("[]", Err(BadType)),
            (r#""""#, Err(BadLocale)),
            (r#""Unknown""#, Err(BadLocale)),
            (r#""R""#, Err(BadLocale)),
            (r#""RIX""#, Err(BadLocale)),
            (r#"" RI""#, Err(BadLocale)),
            (r#""XX""#, Err(BadLocale)),
            (r#""UK""#, Err(BadLocale)),
            (r#""en-XX""#, Err(BadLocale)),
            (r#""e1-RI""#, Err(BadLocale)),
            (r#""en RI""#, Err(BadLocale)),
            (r#""eng-RI""#, Err(BadLocale)),
            (r#""en-RI-x""#, Err(BadLocale)),
            (r#""ü""#, Err(BadLocale)),
            (r#""\ud800""#, Err(BadLocale)),
        ],
    );
}

#[test]
fn a_locale_decides_region_division_and_local_hour() {
    for (locale, region, division, local_hour) in [
        (r#""CA""#, "West", "Pacific", Some(19)),
        (r#""HI""#, "West", "Pacific", Some(16)),
        (r#""AZ""#, "West", "Mountain", Some(19)),
        (r#""TX""#, "South", "West South Central", Some(21)),
        (r#""PR""#, "Territories", "Territories", None),
        (r#""GU""#, "Territories", "Territories", None),
        (r#""VI""#, "Territories", "Territories", None),
        (r#""AS""#, "Territories", "Territories", None),
        (r#""MP""#, "Territories", "Territories", None),
        (r#""RU""#, "International", "International", None),
        (r#""US""#, "Unknown", "Unknown", None),
        ("null", "Unknown", "Unknown", None),
    ] {
        event_with("locale", locale, |event| {
            assert_eq!((event.region(), event.division()), (region, division), "{locale}");
            assert_eq!(event.local_hour(), local_hour, "{locale}");
            let hour = local_hour.unwrap_or(2);
            assert_eq!(
                event.time_of_day().as_str(),
                ["night", "morning", "afternoon", "evening"][hour as usize / 6]
            );
        })
        .unwrap();
    }
}

#[test]
fn device_type_is_one_of_a_few_kinds() {
    let longest = "ß".repeat(64);
    assert_field(
        "device_type",
        &[
            (r#""iOS""#, Ok("ios")),
            (r#""iPhone""#, Ok("ios")),
            (r#""IPAD""#, Ok("ios")),
            (r#"" Android\n""#, Ok("android")),
            (r#""web""#, Ok("web")),
            (r#""smart fridge ❄""#, Ok("other")),
            (r#""other""#, Ok("other")),
            (r#""""#, Ok("other")),
            (r#""   ""#, Ok("other")),
            (&format!("\" {longest} \""), Ok("other")),
            (r#""unknown""#, Ok("unknown")),
            (r#""UNKNOWN""#, Ok("unknown")),
            ("null", Ok("unknown")),
            ("3", Err(BadType)),
            ("false", Err(BadType)),
            (&format!("\"{longest}x\""), Err(ControlCharacter)),
            (r#""a\u0000b""#, Err(ControlCharacter)),
            (r#""a\nb""#, Err(ControlCharacter)),
            (r#""a\u2028b""#, Err(ControlCharacter)),
            (r#""\ufeffios""#, Err(ControlCharacter)),
            (r#""i\u200dos""#, Err(ControlCharacter)),
            (r#""\u202esoi""#, Err(ControlCharacter)),
            (r#""\ud800""#, Err(ControlCharacter)),
        ],
    );
}

#[test]
fn app_version_is_dotted_numbers_padded_to_three() {
    assert_field(
        "app_version",
        &[
            (r#""2.3.0""#, Ok("2.3.0")),
            (r#""v2.3""#, Ok("2.3.0")),
            (r#""02.3-beta+7""#, Ok("2.3.0-beta+7")),
            (r#""2\u002e3""#, Ok("2.3.0")),
            (r#""unknown""#, Ok("unknown")),
            ("null", Ok("unknown")),
            ("2", Err(BadType)),
            ("2.3", Err(BadType)),
            (r#""""#, Err(BadVersion)),
            (r#""4294967296""#, Err(BadVersion)),
            (r#""2.3.0 ""#, Err(BadVersion)),
            (r#""latest""#, Err(BadVersion)),
            (r#""2.3-\ud800""#, Err(BadVersion)),
        ],
    );
}
