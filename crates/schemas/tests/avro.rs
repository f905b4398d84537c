//! Our Avro decoder against the crate `apache-avro`, which writes the bodies here: whatever it can write we read, with the
//! same values.

use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use loginlake_events::{Contract, RejectReason};
use loginlake_schemas::schema::{Schema, SchemaText, SchemaType};
use proptest::prelude::*;
use serde_json::{Value, json};

fn compiled(text: &str) -> Schema {
    Schema::compile(&SchemaText {
        schema_type: SchemaType::Avro,
        text: text.to_owned(),
        references: Vec::new(),
    })
    .expect("a schema")
}

fn body(schema: &str, value: Avro) -> Vec<u8> {
    let schema = apache_avro::Schema::parse_str(schema).expect("a schema");
    let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
    writer.write_value_to_vec(value).expect("a body")
}

fn decoded(schema: &str, body: &[u8]) -> Result<Value, RejectReason> {
    let mut buffer = Vec::new();
    match compiled(schema).json_of(body, &mut buffer) {
        Ok(json) => Ok(serde_json::from_slice(json).expect("JSON")),
        Err(rejection) => Err(rejection.reason),
    }
}

/// A record with one field of the type.
fn record(field_type: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{{"name":"f","type":{field_type}}}]}}"#)
}

#[track_caller]
fn assert_field(field_type: &str, value: Avro, expected: Value) {
    let schema = record(field_type);
    let body = body(&schema, Avro::Record(vec![("f".to_owned(), value)]));
    assert_eq!(
        decoded(&schema, &body),
        Ok(json!({ "f": expected })),
        "{field_type}"
    );
}

#[test]
fn every_type_is_read_as_it_was_written() {
    assert_field(r#""null""#, Avro::Null, Value::Null);
    assert_field(r#""boolean""#, Avro::Boolean(true), json!(true));
    assert_field(r#""int""#, Avro::Int(i32::MIN), json!(i32::MIN));
    assert_field(r#""long""#, Avro::Long(i64::MAX), json!(i64::MAX));
    assert_field(r#""float""#, Avro::Float(0.5), json!(0.5));
    assert_field(r#""double""#, Avro::Double(-1.25), json!(-1.25));
    assert_field(r#""double""#, Avro::Double(f64::NAN), json!("NaN"));
    assert_field(r#""bytes""#, Avro::Bytes(vec![255, 0]), json!("/wA="));
    assert_field(r#""string""#, Avro::String("é\"\n".to_owned()), json!("é\"\n"));
    assert_field(
        r#"{"type":"fixed","name":"F","size":2}"#,
        Avro::Fixed(2, vec![1, 2]),
        json!("AQI="),
    );
    assert_field(
        r#"{"type":"enum","name":"E","symbols":["iOS","web"]}"#,
        Avro::Enum(1, "web".to_owned()),
        json!("web"),
    );
    assert_field(
        r#"{"type":"array","items":"int"}"#,
        Avro::Array(vec![Avro::Int(1), Avro::Int(-1)]),
        json!([1, -1]),
    );
    assert_field(
        r#"{"type":"map","values":"int"}"#,
        Avro::Map([("k".to_owned(), Avro::Int(7))].into()),
        json!({"k": 7}),
    );
}

#[test]
fn a_null_of_a_union_is_null_and_the_branch_has_no_trace() {
    let union = r#"["null","string","long"]"#;
    assert_field(union, Avro::Union(0, Box::new(Avro::Null)), Value::Null);
    assert_field(
        union,
        Avro::Union(1, Box::new(Avro::String("x".to_owned()))),
        json!("x"),
    );
    assert_field(union, Avro::Union(2, Box::new(Avro::Long(5))), json!(5));
}

#[test]
fn logical_types_become_what_the_contract_takes() {
    let ms = 1_720_576_825_250_i64;
    let logical = |base: &str, name: &str| format!(r#"{{"type":"{base}","logicalType":"{name}"}}"#);
    assert_field(
        &logical("long", "timestamp-millis"),
        Avro::TimestampMillis(ms),
        json!(ms),
    );
    assert_field(
        &logical("long", "timestamp-micros"),
        Avro::TimestampMicros(ms * 1_000 + 999),
        json!(ms),
    );
    assert_field(
        &logical("long", "timestamp-nanos"),
        Avro::TimestampNanos(ms * 1_000_000 + 1),
        json!(ms),
    );
    assert_field(&logical("int", "date"), Avro::Date(19_000), json!(19_000));
    let text = "a6397988-1649-4859-ae5f-a1407b638ca6";
    let uuid = apache_avro::Uuid::parse_str(text).expect("a UUID");
    assert_field(&logical("string", "uuid"), Avro::Uuid(uuid), json!(text));
    assert_field(
        r#"{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}"#,
        Avro::Uuid(uuid),
        json!(text),
    );
}

#[test]
fn a_type_within_itself_is_read_and_does_not_fill_the_stack() {
    let schema = r#"{"type":"record","name":"N","fields":[{"name":"next","type":["null","N"]}]}"#;
    // Two levels: branch 1, branch 0.
    assert_eq!(decoded(schema, &[2, 0]), Ok(json!({"next": {"next": null}})));
    assert_eq!(decoded(schema, &[2; 1 << 20]), Err(RejectReason::TooDeep));
    let endless = r#"{"type":"record","name":"N","fields":[{"name":"next","type":"N"}]}"#;
    assert_eq!(decoded(endless, &[]), Err(RejectReason::TooDeep));
}

#[test]
fn items_of_no_size_do_not_fill_the_memory() {
    let nulls = record(r#"{"type":"array","items":"null"}"#);
    let count = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
    assert_eq!(decoded(&nulls, &count), Err(RejectReason::TooLarge));
}

#[test]
fn what_does_not_fit_the_schema_is_a_mismatch() {
    let cases: [(&str, &[u8]); 11] = [
        (r#""string""#, &[]),
        (r#""string""#, &[4, b'a']),
        (r#""string""#, &[1]),
        (r#""string""#, &[2, 0xff]),
        (r#""boolean""#, &[2]),
        (r#""int""#, &[0xff, 0xff, 0xff, 0xff, 0x7f]),
        (r#""double""#, &[0; 7]),
        (r#"["null","int"]"#, &[4]),
        (r#"{"type":"enum","name":"E","symbols":["a"]}"#, &[2]),
        (r#"{"type":"array","items":"int"}"#, &[2, 2]),
        // One byte too many.
        (r#""null""#, &[0]),
    ];
    for (field_type, body) in cases {
        let verdict = decoded(&record(field_type), body);
        assert_eq!(
            verdict,
            Err(RejectReason::SchemaMismatch),
            "{field_type} {body:?}"
        );
    }
    assert_eq!(
        decoded(r#""string""#, &[0]),
        Err(RejectReason::SchemaMismatch),
        "no record"
    );
    let union = format!("[\"null\",{}]", record(r#""int""#));
    assert_eq!(
        decoded(&union, &[2, 14]),
        Ok(json!({"f": 7})),
        "a union of records"
    );
    assert_eq!(decoded(&union, &[0]), Err(RejectReason::SchemaMismatch));
}

const LOGIN: &str = r#"{"type":"record","name":"Login","fields":[
    {"name":"user_id","type":{"type":"string","logicalType":"uuid"}},
    {"name":"app_version","type":["null","string"]},
    {"name":"ip","type":"string"},
    {"name":"locale","type":["null","string"]},
    {"name":"device_id","type":"string"},
    {"name":"timestamp","type":["long","string"]},
    {"name":"device_type","type":["null","string"]},
    {"name":"tags","type":{"type":"map","values":["null","double",{"type":"array","items":"bytes"}]}}]}"#;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn texts_and_numbers_survive(texts in prop::collection::vec(any::<String>(), 3), secs: i64, some: bool) {
        let optional = |text: &str| match some {
            true => Avro::Union(1, Box::new(Avro::String(text.to_owned()))),
            false => Avro::Union(0, Box::new(Avro::Null)),
        };
        let user_id = "a6397988-1649-4859-ae5f-a1407b638ca6";
        let login = Avro::Record(vec![
            ("user_id".to_owned(), Avro::Uuid(apache_avro::Uuid::parse_str(user_id).expect("a UUID"))),
            ("app_version".to_owned(), optional(&texts[0])),
            ("ip".to_owned(), Avro::String(texts[1].clone())),
            ("locale".to_owned(), optional(&texts[2])),
            ("device_id".to_owned(), Avro::String(texts[2].clone())),
            ("timestamp".to_owned(), Avro::Union(0, Box::new(Avro::Long(secs)))),
            ("device_type".to_owned(), optional(&texts[1])),
            ("tags".to_owned(), Avro::Map([(texts[0].clone(), Avro::Union(1, Box::new(Avro::Double(1.5))))].into())),
        ]);
        let shown = |text: &str| if some { json!(text) } else { Value::Null };
        prop_assert_eq!(decoded(LOGIN, &body(LOGIN, login)), Ok(json!({
            "user_id": user_id, "app_version": shown(&texts[0]), "ip": texts[1], "locale": shown(&texts[2]),
            "device_id": texts[2], "timestamp": secs, "device_type": shown(&texts[1]), "tags": {texts[0].clone(): 1.5},
        })));
    }

    /// Arbitrary bodies get a verdict: never a panic, and what is decoded is JSON that the contract can judge.
    #[test]
    fn any_body_gets_a_verdict(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = Vec::new();
        match compiled(LOGIN).json_of(&body, &mut buffer) {
            Ok(json) => {
                prop_assert!(serde_json::from_slice::<Value>(json).is_ok());
                let reason = Contract::default().decode(Some(json), None).err().map(|rejection| rejection.reason);
                prop_assert_ne!(reason, Some(RejectReason::NotJson));
            }
            Err(rejection) => prop_assert!(
                matches!(rejection.reason, RejectReason::SchemaMismatch | RejectReason::TooLarge | RejectReason::TooDeep)
            ),
        }
    }
}
