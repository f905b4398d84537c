//! The columns that somebody chooses have the values that the whole rows have, and choosing changes no verdict.
#![cfg(feature = "arrow")]

mod common;

use arrow::array::{Array, ArrayRef};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use common::{SOURCE_EVENTS, kafka_now, one_of_every_reason, payload_with};
use loginlake_events::Contract;
use loginlake_events::columns::{ChosenColumns, LoginsBuilder, SourcePosition, logins_schema};
use loginlake_events::privacy::{PersonalField, Privacy};
use proptest::prelude::*;

const KEY: &[u8] = b"a key of sixteen bytes and more";
const PROCESSED_AT_MS: i64 = 1_720_576_826_001;

/// Good records that differ in every column, long texts and missing values among them.
fn payloads() -> Vec<String> {
    let mut payloads: Vec<String> = SOURCE_EVENTS.map(str::to_owned).to_vec();
    payloads.extend([
        payload_with("timestamp", "\"1720576825123\""),
        payload_with("locale", "null"),
        payload_with("locale", "\"CA\""),
        payload_with("app_version", "\"12.34.56-a-long-name-of-a-version\""),
        payload_with("device_type", "\"toaster\""),
        payload_with("ip", "\"2001:db8:1234:5678::9abc\""),
        payload_with("ip", "\"10.1.2.3\""),
        payload_with("more", "1"),
    ]);
    payloads
}

fn contracts() -> impl Strategy<Value = Contract> {
    let pseudonyms = Privacy::pseudonyms(KEY, &PersonalField::ALL).unwrap();
    let masked = Privacy::none().with_masked_ip().unwrap();
    proptest::sample::select(vec![Privacy::none(), pseudonyms, masked])
        .prop_map(|privacy| Contract::builder().privacy(privacy).build().unwrap())
}

/// As queries hold it.
fn as_views(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Utf8 => cast(column, &DataType::Utf8View).unwrap(),
        _ => column.clone(),
    }
}

proptest! {
    #[test]
    fn a_chosen_column_is_the_column_of_the_whole_rows(
        names in proptest::sample::subsequence(
            logins_schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>(),
            0..=22,
        ),
        contract in contracts(),
        batches in 1_usize..3,
    ) {
        let mut chosen = ChosenColumns::new(names.iter().map(String::as_str));
        let unread: Vec<PersonalField> = PersonalField::ALL.into_iter().filter(|field| !chosen.shows(*field)).collect();
        let careless = contract.without_looking_at(&unread);
        let mut all = LoginsBuilder::with_capacity(16);
        for _ in 0..batches {
            for (offset, payload) in (0..).zip(payloads()) {
                let source = SourcePosition {
                    kafka_partition: 3,
                    kafka_offset: offset,
                    kafka_timestamp_ms: kafka_now().filter(|_| offset % 2 == 0),
                };
                let payload = Some(payload.as_bytes());
                let event = contract.decode(payload, source.kafka_timestamp_ms).unwrap();
                all.append(&event, source, PROCESSED_AT_MS);
                let event = careless.decode(payload, source.kafka_timestamp_ms).unwrap();
                chosen.append(&event, source, PROCESSED_AT_MS);
            }
            prop_assert_eq!(chosen.len(), all.len());
            let bytes = chosen.memory_bytes();
            let (some, all) = (chosen.finish(), all.finish());
            prop_assert!(chosen.is_empty() && chosen.memory_bytes() == 0);
            prop_assert_eq!(some.num_rows(), all.num_rows());
            let held: Vec<&String> = some.schema_ref().fields().iter().map(|field| field.name()).collect();
            prop_assert_eq!(held, names.iter().collect::<Vec<_>>());
            for name in &names {
                prop_assert_eq!(&some[name.as_str()], &as_views(&all[name.as_str()]), "{}", name);
            }
            let actual: usize = some.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum();
            prop_assert!(bytes * 2 >= actual, "{} bytes are said, and {} are held", bytes, actual);
        }
    }
}

#[test]
fn unknown_and_repeated_names_are_left_out() {
    let mut chosen = ChosenColumns::new(["region", "no_column", "region", "ip_prefix"]);
    assert!(chosen.shows(PersonalField::Ip) && !chosen.shows(PersonalField::UserId));
    let batch = chosen.finish();
    let names: Vec<&str> = batch
        .schema_ref()
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert_eq!(names, ["region", "ip_prefix"]);
    assert_eq!(batch.num_rows(), 0);
}

#[test]
fn what_nobody_looks_at_changes_no_verdict_and_no_rules() {
    let privacy = Privacy::pseudonyms(KEY, &PersonalField::ALL).unwrap();
    let contract = Contract::builder().privacy(privacy).build().unwrap();
    let careless = contract.without_looking_at(&PersonalField::ALL);
    assert_eq!(careless.rule_version(), contract.rule_version());
    for (payload, reason) in one_of_every_reason() {
        for contract in [&contract, &careless] {
            let verdict = contract.decode(payload.as_deref(), kafka_now());
            assert_eq!(verdict.unwrap_err().reason, reason);
        }
    }
    let payload = Some(SOURCE_EVENTS[0].as_bytes());
    let (hidden, shown) = (contract.decode(payload, None), careless.decode(payload, None));
    assert_ne!(hidden.unwrap().user_id(), shown.unwrap().user_id());
}

#[test]
fn the_latest_event_of_a_record_is_the_last_one_that_is_accepted() {
    let contract = Contract::default();
    for kafka_ms in [Some(1_720_576_826_000), Some(1_720_576_826_999), None] {
        let latest_ms = contract.latest_event_ms(kafka_ms);
        let verdict = |event_ms: i64| {
            let payload = payload_with("timestamp", &event_ms.to_string());
            contract.decode(Some(payload.as_bytes()), kafka_ms).map(|_| ())
        };
        assert_eq!(verdict(latest_ms), Ok(()));
        assert!(verdict(latest_ms + 1).is_err());
    }
}
