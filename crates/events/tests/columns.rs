//! The rows of `logins` and `rejected` hold what the events and the rejections say.
#![cfg(feature = "arrow")]

mod common;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Date32Type, Int8Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use common::{GOOD, kafka_now, payload_with};
use loginlake_events::columns::{
    LoginsBuilder, RejectedBuilder, SourcePosition, logins_schema, rejected_schema,
};
use loginlake_events::{Contract, KEPT_OF_TOO_LARGE_BYTES, MAX_PAYLOAD_BYTES};

fn at(kafka_offset: i64, kafka_timestamp_ms: Option<i64>) -> SourcePosition {
    SourcePosition {
        kafka_partition: 3,
        kafka_offset,
        kafka_timestamp_ms,
    }
}

fn text<'b>(batch: &'b RecordBatch, column: &str, row: usize) -> Option<&'b str> {
    let column = batch[column].as_string::<i32>();
    column.is_valid(row).then(|| column.value(row))
}

fn micros(batch: &RecordBatch, column: &str, row: usize) -> Option<i64> {
    let column = batch[column].as_primitive::<TimestampMicrosecondType>();
    column.is_valid(row).then(|| column.value(row))
}

#[test]
fn a_row_of_logins_is_the_event() {
    let contract = Contract::default();
    let second = payload_with("timestamp", "\"1720576825123\"").replace("\"RI\"", "null");
    let mut builder = LoginsBuilder::with_capacity(2);
    for (payload, source) in [(GOOD, at(7, kafka_now())), (&second, at(8, None))] {
        let event = contract.decode(Some(payload.as_bytes()), None).unwrap();
        builder.append(&event, source, 1_720_576_826_001);
    }
    let batch = builder.finish();

    assert_eq!(batch.schema(), logins_schema());
    for (column, expected) in [
        ("user_id", "a6397988-1649-4859-ae5f-a1407b638ca6"),
        ("device_id", "6221eb3d-89b5-4585-8c98-545b78e24c53"),
        ("ip", "108.228.145.239"),
        ("locale", "RI"),
        ("device_type", "ios"),
        ("app_version", "2.3.0"),
        ("region", "Northeast"),
        ("division", "New England"),
        ("time_of_day", "evening"),
        ("day_of_week", "Wed"),
        ("ip_class", "public"),
        ("ip_prefix", "108.228.145.0/24"),
    ] {
        assert_eq!(text(&batch, column, 0), Some(expected), "{column}");
    }
    assert_eq!(
        batch["timestamp"].as_primitive::<Int64Type>().values()[..],
        [1_720_576_825; 2]
    );
    assert_eq!(micros(&batch, "event_time", 0), Some(1_720_576_825_000_000));
    assert_eq!(micros(&batch, "event_time", 1), Some(1_720_576_825_123_000));
    assert_eq!(
        micros(&batch, "processed_timestamp", 1),
        Some(1_720_576_826_001_000)
    );
    assert_eq!(batch["login_date"].as_primitive::<Date32Type>().value(0), 19_914);
    assert_eq!(batch["login_hour"].as_primitive::<Int8Type>().value(0), 2);
    let local_hour = batch["local_hour"].as_primitive::<Int8Type>();
    assert_eq!((local_hour.value(0), local_hour.is_null(1)), (22, true));
    let flags = batch["flags"].as_list::<i32>();
    assert!(flags.value(0).is_empty());
    let second_flags: Vec<_> = flags
        .value(1)
        .as_string::<i32>()
        .iter()
        .flatten()
        .map(str::to_owned)
        .collect();
    assert_eq!(second_flags, ["locale_missing", "ts_millis"]);
    assert_eq!(
        batch["kafka_partition"].as_primitive::<Int32Type>().values()[..],
        [3, 3]
    );
    assert_eq!(
        batch["kafka_offset"].as_primitive::<Int64Type>().values()[..],
        [7, 8]
    );
    assert_eq!(micros(&batch, "kafka_timestamp", 0), Some(1_720_576_826_000_000));
    assert_eq!(micros(&batch, "kafka_timestamp", 1), None);
}

#[test]
fn a_row_of_rejected_is_the_rejection_and_the_bytes() {
    let contract = Contract::default();
    let mut too_large = payload_with("x", "1").into_bytes();
    too_large.resize(MAX_PAYLOAD_BYTES + 1, b' ');
    let payloads: [Option<&[u8]>; 3] = [None, Some(br#"{"user_id":7}"#), Some(&too_large)];
    let mut builder = RejectedBuilder::new();
    for (offset, payload) in (0..).zip(payloads) {
        let rejection = contract.decode(payload, None).unwrap_err();
        builder.append(&rejection, payload, at(offset, kafka_now()));
    }
    let batch = builder.finish();

    assert_eq!(batch.schema(), rejected_schema());
    let column = |name: &str| {
        (0..3)
            .map(|row| text(&batch, name, row).map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(
        column("reason"),
        [some("NULL_PAYLOAD"), some("BAD_TYPE"), some("TOO_LARGE")]
    );
    assert_eq!(column("field"), [None, some("user_id"), None]);
    assert_eq!(text(&batch, "message", 1), Some("must be a string"));
    let raw = batch["raw"].as_binary::<i32>();
    assert!(raw.is_null(0));
    assert_eq!(raw.value(1), br#"{"user_id":7}"#);
    assert_eq!(raw.value(2), &too_large[..KEPT_OF_TOO_LARGE_BYTES]);
    let lengths = batch["raw_length"].as_primitive::<Int64Type>();
    assert_eq!(lengths.values()[..], [0, 13, too_large.len() as i64]);
    assert_eq!(
        batch["kafka_offset"].as_primitive::<Int64Type>().values()[..],
        [0, 1, 2]
    );
}

#[test]
fn builders_count_what_they_hold_and_are_empty_after_finish() {
    let contract = Contract::default();
    let event = contract.decode(Some(GOOD.as_bytes()), None).unwrap();
    let rejection = contract.decode(None, None).unwrap_err();
    let (mut logins, mut rejected) = (LoginsBuilder::with_capacity(10), RejectedBuilder::new());
    for _ in 0..2 {
        for row in 1..=1_000 {
            logins.append(&event, at(row, None), 0);
            rejected.append(&rejection, Some(b"12345"), at(row, None));
        }
        assert_eq!((logins.len(), rejected.len()), (1_000, 1_000));
        let (logins_bytes, rejected_bytes) = (logins.memory_bytes(), rejected.memory_bytes());
        let (logins_batch, rejected_batch) = (logins.finish(), rejected.finish());
        assert_eq!(
            (logins_batch.num_rows(), rejected_batch.num_rows()),
            (1_000, 1_000)
        );
        for (held, batch) in [(logins_bytes, &logins_batch), (rejected_bytes, &rejected_batch)] {
            let actual: usize = batch
                .columns()
                .iter()
                .map(|column| column.to_data().get_slice_memory_size().unwrap())
                .sum();
            assert!(
                held * 10 > actual * 9 && held * 9 < actual * 10,
                "{held} is about {actual}"
            );
        }
        assert!(logins.is_empty() && rejected.is_empty());
        assert_eq!((logins.memory_bytes(), rejected.memory_bytes()), (0, 0));
    }
    assert_eq!(logins.finish().num_rows(), 0);
}

#[test]
fn every_column_of_both_tables_can_be_null_and_times_are_in_utc_microseconds() {
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    for schema in [logins_schema(), rejected_schema()] {
        assert!(schema.fields().iter().all(|field| field.is_nullable()));
        assert_eq!(
            schema.field_with_name("kafka_timestamp").unwrap().data_type(),
            &micros
        );
    }
    assert_eq!(
        (logins_schema().fields().len(), rejected_schema().fields().len()),
        (22, 8)
    );
}
