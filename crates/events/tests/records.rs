//! The rules of the record as a whole: what is no event, the order of the reasons, flags, and what messages hold.

mod common;

use common::{GOOD, decode, payload_with, reject_with, verdict};
use loginlake_events::Field;
use loginlake_events::RejectReason::{self, *};

#[test]
fn flags_say_what_was_unusual() {
    for (payload, expected) in [
        (GOOD.to_owned(), vec![]),
        (payload_with("locale", "null"), vec!["locale_missing"]),
        (payload_with("locale", "\"unknown\""), vec!["locale_missing"]),
        (payload_with("device_type", "null"), vec!["device_type_missing"]),
        (
            payload_with("device_type", "\"fridge\""),
            vec!["device_type_other"],
        ),
        (payload_with("app_version", "null"), vec!["app_version_missing"]),
        (payload_with("timestamp", "1720576825000"), vec!["ts_millis"]),
        (payload_with("colour", "1"), vec!["extra_fields"]),
        (
            format!(
                r#"{{{},"timestamp":"1720576825001","x":1,"y":2}}"#,
                common::REQUIRED
            ),
            vec![
                "app_version_missing",
                "device_type_missing",
                "extra_fields",
                "locale_missing",
                "ts_millis",
            ],
        ),
    ] {
        let names = decode(&payload, |event| event.flags().iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(names, expected, "{payload}");
    }
}

#[test]
fn members_that_are_not_known_are_dropped_and_counted() {
    let extras = r#","USER_ID":1,"":null,"a":{"user_id":1},"a":[1e999],"\ud800":"\udc00""#;
    let payload = GOOD.replace("\"iOS\"", &format!("\"iOS\"{extras}"));
    assert_eq!(decode(&payload, |event| event.extra_fields()), Ok(5));
}

#[test]
fn a_missing_required_member_is_named() {
    for field in ["user_id", "device_id", "timestamp", "ip"] {
        let payload = GOOD.replace(&format!("\"{field}\":"), "\"renamed\":");
        let rejection = decode(&payload, |_| ()).unwrap_err();
        assert_eq!(
            (rejection.reason, rejection.field.map(Field::as_str)),
            (MissingField, Some(field))
        );
    }
}

#[test]
fn a_record_that_is_no_object_says_why() {
    let deep = |levels: usize| payload_with("x", &format!("{}{}", "[".repeat(levels), "]".repeat(levels)));
    let hostile = "[".repeat(200_000) + &"]".repeat(200_000);
    let padded = |length: usize| format!("{GOOD}{}", " ".repeat(length - GOOD.len()));
    let cases: Vec<(Vec<u8>, Option<RejectReason>)> = vec![
        (b"".to_vec(), Some(NullPayload)),
        (b"\xff".to_vec(), Some(NotUtf8)),
        (b"{\"user_id\":\"\xc3\x28\"}".to_vec(), Some(NotUtf8)),
        (b"\xed\xa0\x80".to_vec(), Some(NotUtf8)),
        (b" ".to_vec(), Some(NotJson)),
        (b"{".to_vec(), Some(NotJson)),
        (b"{\"a\":01}".to_vec(), Some(NotJson)),
        (b"{\"a\":1,}".to_vec(), Some(NotJson)),
        (b"{'a':1}".to_vec(), Some(NotJson)),
        (b"{a:1}".to_vec(), Some(NotJson)),
        (b"{\"a\":NaN}".to_vec(), Some(NotJson)),
        (b"{\"a\":\"\x01\"}".to_vec(), Some(NotJson)),
        (b"{\"a\x01\":1}".to_vec(), Some(NotJson)),
        (b"{\"a\\x\":1}".to_vec(), Some(NotJson)),
        (b"{\"a\":\"\\u12\"}".to_vec(), Some(NotJson)),
        (b"{}{}".to_vec(), Some(NotJson)),
        (b"[] x".to_vec(), Some(NotJson)),
        (b"undefined".to_vec(), Some(NotJson)),
        (format!("\u{feff}{GOOD}").into_bytes(), Some(NotJson)),
        (format!("{GOOD}\0").into_bytes(), Some(NotJson)),
        (b"null".to_vec(), Some(NotObject)),
        (b" [1e999, \"\\ud800\"]\n".to_vec(), Some(NotObject)),
        (b"1e999".to_vec(), Some(NotObject)),
        (b"\"\\ud800\"".to_vec(), Some(NotObject)),
        (hostile.clone().into_bytes(), Some(NotObject)),
        (deep(31).into_bytes(), None),
        (deep(32).into_bytes(), Some(TooDeep)),
        (payload_with("user_id", &hostile).into_bytes(), Some(TooDeep)),
        (payload_with("x", &hostile).into_bytes(), Some(TooDeep)),
        (
            payload_with("x", &"{\"a\":".repeat(200_000)).into_bytes(),
            Some(NotJson),
        ),
        (padded(1 << 20).into_bytes(), None),
        (padded((1 << 20) + 1).into_bytes(), Some(TooLarge)),
        (vec![b'['; (1 << 20) + 1], Some(NotJson)),
    ];
    for (payload, expected) in cases {
        let shown = String::from_utf8_lossy(&payload[..payload.len().min(60)]).into_owned();
        assert_eq!(verdict(Some(&payload)), expected, "{shown}");
    }
    assert_eq!(verdict(None), Some(NullPayload));
}

#[test]
fn a_known_member_twice_is_a_duplicate_even_with_the_same_value() {
    for (again, expected) in [
        (r#""locale":"RI""#, Some(Field::Locale)),
        (r#""user\u005fid":null"#, Some(Field::UserId)),
        (r#""ip":"1.1.1.1","user_id":1"#, Some(Field::Ip)),
        (r#""other":1,"other":1"#, None),
    ] {
        let payload = GOOD.replace("\"iOS\"", &format!("\"iOS\",{again}"));
        let field = decode(&payload, |_| ()).err().map(|rejection| {
            assert_eq!(rejection.reason, DuplicateField);
            rejection.field
        });
        assert_eq!(field.flatten(), expected, "{again}");
    }
    assert_eq!(verdict(Some(br#"{"ip":null,"ip":null}"#)), Some(DuplicateField));
}

#[test]
fn the_first_reason_in_order_is_the_verdict() {
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    let long = "x".repeat(1 << 20);
    for (payload, expected) in [
        (format!(r#"{{"a":{deep},"b":"{long}","ip":1,"ip":1}}"#), TooDeep),
        (format!(r#"{{"b":"{long}","ip":1,"ip":1}}"#), TooLarge),
        (r#"{"ip":1,"ip":1}"#.to_owned(), DuplicateField),
        (r#"{"ip":1,"device_id":"/"}"#.to_owned(), MissingField),
        (r#"{"ip":1,"device_id":"/","user_id":1}"#.to_owned(), BadType),
    ] {
        assert_eq!(verdict(Some(payload.as_bytes())), Some(expected));
    }
    // Every field is bad; curing them one by one shows the order.
    let bad = [
        ("user_id", "\"x\"", BadUserId),
        ("device_id", "\"/\"", BadDeviceId),
        ("timestamp", "\"x\"", BadTimestamp),
        ("ip", "\"x\"", BadIp),
        ("locale", "\"x\"", BadLocale),
        ("device_type", "\"\\u0000\"", ControlCharacter),
        ("app_version", "\"x\"", BadVersion),
    ];
    for (index, (_, _, expected)) in bad.iter().enumerate() {
        let payload = bad[index..]
            .iter()
            .fold(GOOD.to_owned(), |payload, (field, json, _)| {
                common::set(&payload, field, json)
            });
        assert_eq!(verdict(Some(payload.as_bytes())), Some(*expected));
    }
}

#[test]
fn every_reason_is_reached() {
    let reached: Vec<RejectReason> = common::one_of_every_reason()
        .into_iter()
        .map(|(payload, expected)| {
            assert_eq!(verdict(payload.as_deref()), Some(expected));
            expected
        })
        .collect();
    assert_eq!(reached, RejectReason::OF_CONTRACT);
}

#[test]
fn a_message_never_contains_the_value() {
    let secret = "S3CRET";
    for field in Field::ALL {
        for json in [
            format!("\"{secret}\""),
            format!("\"\\u0000{secret}\""),
            format!("[\"{secret}\"]"),
        ] {
            if let Err(rejection) = reject_with(field.as_str(), &json) {
                assert!(!rejection.to_string().contains(secret), "{rejection}");
            }
        }
    }
    for payload in [
        secret.to_owned(),
        format!("{{\"{secret}\""),
        format!("{{\"a\":{secret}}}"),
    ] {
        let rejection = decode(&payload, |_| ()).unwrap_err();
        assert!(!rejection.to_string().contains(secret), "{rejection}");
    }
}
