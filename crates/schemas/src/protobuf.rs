//! Protobuf: a schema given as the text of a `.proto` file, and messages of it, to JSON.
//!
//! The file is compiled here, without `protoc`. Fields keep the names of the file. A field that is not set is not in the
//! JSON; proto3 does not tell a field without `optional` that is zero or empty from one that is not set, so those are left
//! out, too. Integers of 64 bits are numbers, enums their names, a `google.protobuf.Timestamp` its milliseconds, and the
//! wrappers of `google.protobuf` what they wrap. Fields that the schema does not know become members `#<number>`, so that
//! the contract counts them.

use std::collections::HashMap;

use loginlake_events::{RejectReason, Rejection};
use prost_reflect::{
    DynamicMessage, EnumDescriptor, FileDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _,
    Value,
};
use protox::Compiler;
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};

use crate::frame::message_indexes;
use crate::json::JsonWriter;
use crate::{mismatch, rejection};

/// What the schema itself is called while it is compiled: no reference has this name.
const ROOT: &str = "loginlake-root.proto";

/// A compiled `.proto` file.
#[derive(Debug)]
pub(crate) struct ProtobufSchema {
    file: FileDescriptor,
}

impl ProtobufSchema {
    /// Compiles a file; `references` are the names and texts of what it imports. The files of `google/protobuf` are known.
    ///
    /// # Errors
    /// What is wrong with it, in words for the log.
    pub(crate) fn compile<'a>(
        text: &'a str,
        references: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, String> {
        let sources = references.into_iter().chain([(ROOT, text)]);
        let mut resolver = ChainFileResolver::new();
        resolver.add(Sources(
            sources
                .map(|(name, text)| (name.to_owned(), text.to_owned()))
                .collect(),
        ));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        compiler.open_file(ROOT).map_err(|error| error.to_string())?;
        let file = compiler.descriptor_pool().get_file_by_name(ROOT);
        let file = file.ok_or("the compiler lost the file")?;
        Ok(Self { file })
    }

    /// Decodes a body, which begins with the message indexes, into `out`, which is empty.
    ///
    /// # Errors
    /// `BAD_FRAME` for the indexes; `SCHEMA_MISMATCH`: the schema has no such message, or the body does not decode under
    /// it; `TOO_DEEP`, `TOO_LARGE`.
    pub(crate) fn decode(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
        let (indexes, body) = message_indexes(body)?;
        let descriptor = self
            .message(&indexes)
            .ok_or_else(|| mismatch("the schema has no message of these indexes"))?;
        // The decoder's own message may quote names of fields and nothing else, but says no more than this.
        let message = DynamicMessage::decode(descriptor, body)
            .map_err(|_| mismatch("the body is no message of the schema's type"))?;
        JsonWriter::new(out).nested(*b"{}", |json| members(&message, true, json))
    }

    /// Follows the indexes. Only messages of the text are counted, not those that the compiler makes for maps: so does
    /// the serializer in Java, which the others have to agree with.
    fn message(&self, indexes: &[usize]) -> Option<MessageDescriptor> {
        let (first, nested) = indexes.split_first()?;
        let mut message = self.file.messages().nth(*first)?;
        for index in nested {
            let child = message
                .child_messages()
                .filter(|child| !child.is_map_entry())
                .nth(*index);
            message = child?;
        }
        Some(message)
    }
}

/// Writes the members of a message. `outermost`: also those that the schema does not know.
fn members(message: &DynamicMessage, outermost: bool, json: &mut JsonWriter<'_>) -> Result<(), Rejection> {
    let mut first = true;
    for (field, content) in message.fields() {
        json.member(first, field.name())?;
        first = false;
        value(content, &field.kind(), json)?;
    }
    if outermost {
        let mut unknown: Vec<u32> = message.unknown_fields().map(|field| field.number()).collect();
        unknown.sort_unstable();
        unknown.dedup();
        for number in unknown {
            json.member(first, &format!("#{number}"))?;
            first = false;
            json.null();
        }
    }
    Ok(())
}

/// Writes a value. `kind` is that of the field: of a list's elements, and of a map's entries.
fn value(content: &Value, kind: &Kind, json: &mut JsonWriter<'_>) -> Result<(), Rejection> {
    match content {
        Value::Bool(value) => json.boolean(*value),
        Value::I32(value) => json.integer(*value),
        Value::I64(value) => json.integer(*value),
        Value::U32(value) => json.integer(*value),
        Value::U64(value) => json.integer(*value),
        Value::F32(value) => json.float(f64::from(*value)),
        Value::F64(value) => json.float(*value),
        Value::String(value) => json.text(value),
        Value::Bytes(value) => json.bytes(value),
        Value::EnumNumber(number) => match symbol(kind.as_enum(), *number) {
            Some(name) => json.text(&name),
            None => json.integer(*number),
        },
        Value::Message(value) => return message(value, json),
        Value::List(values) => {
            return json.nested(*b"[]", |json| {
                for (index, element) in values.iter().enumerate() {
                    json.element(index == 0)?;
                    value(element, kind, json)?;
                }
                Ok(())
            });
        }
        Value::Map(entries) => {
            let entry = kind.as_message();
            let kind = entry.map_or_else(|| kind.clone(), |entry| entry.map_entry_value_field().kind());
            // In the order of the keys: the same bytes give the same JSON.
            let mut sorted: Vec<(&MapKey, &Value)> = entries.iter().collect();
            sorted.sort_unstable_by_key(|(key, _)| *key);
            return json.nested(*b"{}", |json| {
                for (index, (key, content)) in sorted.into_iter().enumerate() {
                    json.member(index == 0, &key_text(key))?;
                    value(content, &kind, json)?;
                }
                Ok(())
            });
        }
    }
    Ok(())
}

fn message(message: &DynamicMessage, json: &mut JsonWriter<'_>) -> Result<(), Rejection> {
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            let number = |name| message.get_field_by_name(name);
            let secs = number("seconds").and_then(|value| value.as_i64()).unwrap_or(0);
            let nanos = number("nanos").and_then(|value| value.as_i32()).unwrap_or(0);
            let ms = secs
                .checked_mul(1_000)
                .and_then(|ms| ms.checked_add(i64::from(nanos.div_euclid(1_000_000))));
            json.integer(ms.ok_or_else(|| {
                rejection(
                    RejectReason::SchemaMismatch,
                    "a timestamp is beyond what milliseconds in 64 bits can say",
                )
            })?);
            Ok(())
        }
        "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int64Value"
        | "google.protobuf.UInt64Value"
        | "google.protobuf.Int32Value"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.BoolValue"
        | "google.protobuf.StringValue"
        | "google.protobuf.BytesValue" => match descriptor.get_field_by_name("value") {
            Some(field) => value(&message.get_field(&field), &field.kind(), json),
            None => json.nested(*b"{}", |json| members(message, false, json)),
        },
        _ => json.nested(*b"{}", |json| members(message, false, json)),
    }
}

fn symbol(descriptor: Option<&EnumDescriptor>, number: i32) -> Option<String> {
    Some(descriptor?.get_value(number)?.name().to_owned())
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Files by their names.
struct Sources(HashMap<String, String>);

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(protox::Error::file_not_found(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost_reflect::prost::Message as _;

    use super::*;

    const LOGIN: &str = r#"
        syntax = "proto3";
        package logins;
        import "google/protobuf/timestamp.proto";
        import "google/protobuf/wrappers.proto";
        import "shared/device.proto";
        message Other { map<string, int32> counts = 1; message Deep { string x = 1; } }
        message Login {
          string user_id = 1;
          int64 timestamp = 2;
          optional string locale = 3;
          shared.Device device_type = 4;
          google.protobuf.Timestamp at = 5;
          google.protobuf.StringValue note = 6;
          repeated uint64 numbers = 7;
          map<string, Other.Deep> deep = 8;
          bytes raw = 9;
          double ratio = 10;
        }
    "#;
    const DEVICE: &str = r#"
        syntax = "proto3";
        package shared;
        enum Device { unset = 0; iOS = 1; android = 2; }
    "#;

    fn schema() -> ProtobufSchema {
        ProtobufSchema::compile(LOGIN, [("shared/device.proto", DEVICE)]).expect("a schema")
    }

    fn decoded(frame: &[u8], body: &[u8]) -> Result<String, Rejection> {
        let mut out = Vec::new();
        schema().decode(&[frame, body].concat(), &mut out)?;
        Ok(String::from_utf8(out).expect("JSON is UTF-8"))
    }

    fn login(fill: impl FnOnce(&mut DynamicMessage)) -> Vec<u8> {
        let mut message = DynamicMessage::new(schema().message(&[1]).expect("a login"));
        fill(&mut message);
        message.encode_to_vec()
    }

    #[test]
    fn a_message_is_json_under_the_names_of_the_file() {
        let body = login(|login| {
            login.set_field_by_name("user_id", Value::String("a\"b".to_owned()));
            login.set_field_by_name("timestamp", Value::I64(i64::MAX));
            login.set_field_by_name("locale", Value::String(String::new()));
            login.set_field_by_name("device_type", Value::EnumNumber(1));
            login.set_field_by_name("numbers", Value::List(vec![Value::U64(0), Value::U64(u64::MAX)]));
            login.set_field_by_name("raw", Value::Bytes(vec![1_u8].into()));
            login.set_field_by_name("ratio", Value::F64(0.5));
        });
        assert_eq!(
            decoded(&[2, 2], &body).unwrap(),
            r#"{"user_id":"a\"b","timestamp":9223372036854775807,"locale":"","device_type":"iOS","numbers":[0,18446744073709551615],"raw":"AQ==","ratio":0.5}"#
        );
    }

    #[test]
    fn what_is_not_set_is_not_there_and_an_unknown_symbol_is_its_number() {
        let body = login(|login| login.set_field_by_name("device_type", Value::EnumNumber(9)));
        assert_eq!(decoded(&[2, 2], &body).unwrap(), r#"{"device_type":9}"#);
        assert_eq!(decoded(&[2, 2], &[]).unwrap(), "{}");
    }

    #[test]
    fn timestamps_are_milliseconds_and_wrappers_what_they_wrap() {
        // at { seconds: 1720576825, nanos: 250000000 }, note { value: "x" }
        let body = login(|login| {
            let at = login
                .descriptor()
                .get_field_by_name("at")
                .expect("a field")
                .kind();
            let mut at = DynamicMessage::new(at.as_message().expect("a message").clone());
            at.set_field_by_name("seconds", Value::I64(1_720_576_825));
            at.set_field_by_name("nanos", Value::I32(250_000_000));
            login.set_field_by_name("at", Value::Message(at));
            let note = login
                .descriptor()
                .get_field_by_name("note")
                .expect("a field")
                .kind();
            let note = DynamicMessage::new(note.as_message().expect("a message").clone());
            login.set_field_by_name("note", Value::Message(note));
        });
        assert_eq!(
            decoded(&[2, 2], &body).unwrap(),
            r#"{"at":1720576825250,"note":""}"#
        );
        let endless = login(|login| {
            let at = login
                .descriptor()
                .get_field_by_name("at")
                .expect("a field")
                .kind();
            let mut at = DynamicMessage::new(at.as_message().expect("a message").clone());
            at.set_field_by_name("seconds", Value::I64(i64::MAX));
            login.set_field_by_name("at", Value::Message(at));
        });
        assert_eq!(
            decoded(&[2, 2], &endless).unwrap_err().reason,
            RejectReason::SchemaMismatch
        );
    }

    #[test]
    fn maps_are_objects_in_the_order_of_their_keys() {
        let body = login(|login| {
            let deep = DynamicMessage::new(schema().message(&[0, 0]).expect("the nested one"));
            let entries =
                ["b", "a"].map(|key| (MapKey::String(key.to_owned()), Value::Message(deep.clone())));
            login.set_field_by_name("deep", Value::Map(entries.into_iter().collect()));
        });
        assert_eq!(decoded(&[2, 2], &body).unwrap(), r#"{"deep":{"a":{},"b":{}}}"#);
    }

    #[test]
    fn fields_that_the_schema_does_not_know_are_counted_by_the_contract() {
        // Field 99, a varint, twice; field 98, empty.
        let body = [0x98, 0x06, 1, 0x98, 0x06, 2, 0x92, 0x06, 0];
        assert_eq!(decoded(&[2, 2], &body).unwrap(), r##"{"#98":null,"#99":null}"##);
    }

    #[test]
    fn indexes_choose_the_message_and_maps_do_not_count() {
        // Other.Deep: the entry of the map `counts` is no message of the text.
        assert_eq!(decoded(&[4, 0, 0], &[0x0a, 1, b'y']).unwrap(), r#"{"x":"y"}"#);
        for indexes in [&[2_u8, 4][..], &[4, 0, 2], &[4, 2, 0]] {
            let error = decoded(indexes, &[]).unwrap_err();
            assert_eq!(error.reason, RejectReason::SchemaMismatch, "{indexes:?}");
        }
    }

    #[test]
    fn a_body_that_is_no_such_message_is_a_mismatch() {
        for body in [
            &[0x0a][..],
            &[0x0a, 5, b'a'],
            &[0x08, 1],
            &[0x0a, 1, 0xff],
            &[0xff; 12],
        ] {
            let error = decoded(&[2, 2], body).unwrap_err();
            assert_eq!(error.reason, RejectReason::SchemaMismatch, "{body:?}");
        }
    }

    #[test]
    fn a_file_that_does_not_compile_says_why() {
        let error = ProtobufSchema::compile("syntax = \"proto3\"; message A { B b = 1; }", []).unwrap_err();
        assert!(error.contains('B'), "{error}");
        assert!(
            ProtobufSchema::compile(LOGIN, [])
                .unwrap_err()
                .contains("shared/device.proto")
        );
    }
}
