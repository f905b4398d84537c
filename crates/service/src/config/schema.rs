//! The JSON schema of the configuration file, for editors: derived from the structs that read it, so that it cannot say
//! anything else. What is refused here is refused by the programs, too; the other way round, a schema cannot know all rules.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value};

use super::alerts::Share;
use super::file::ConfigFile;
use super::keys;
use super::properties::Properties;
use super::rate::Rate;
use super::values::{ByteSize, HttpAddress, LogFilter, Span, UtcTime};

/// The schema, in the draft that editors of TOML know best.
pub fn json_schema() -> Value {
    let mut schema = bare_schema();
    if let Some(root) = schema.as_object_mut() {
        root.insert("title".to_owned(), "Configuration of loginlake".into());
        for key in keys::all() {
            let Some(value) = key.default.json() else { continue };
            if let Some(property) = property_of(root, key.section, key.name) {
                property.insert("default".to_owned(), value);
            }
        }
    }
    schema
}

/// The same without the defaults, which are read out of its descriptions.
pub(super) fn bare_schema() -> Value {
    let generator = SchemaSettings::draft07().into_generator();
    let mut schema = Value::from(generator.into_root_schema_for::<ConfigFile>());
    without_null(&mut schema);
    schema
}

/// The schema of a key.
pub(super) fn property_of<'a>(
    root: &'a mut Map<String, Value>,
    section: &str,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    let table = match section {
        "" => root,
        _ => {
            let reference = root.get("properties")?.get(section)?;
            let definition = reference_in(reference)?.to_owned();
            root.get_mut("definitions")?
                .get_mut(&definition)?
                .as_object_mut()?
        }
    };
    table
        .get_mut("properties")?
        .get_mut(name)
        .and_then(Value::as_object_mut)
}

/// The name of the definition that a schema refers to.
pub(super) fn reference_in(schema: &Value) -> Option<&str> {
    let own = schema.get("$ref");
    let first = || schema.get("allOf")?.as_array()?.first()?.get("$ref");
    own.or_else(first)?.as_str()?.strip_prefix("#/definitions/")
}

/// TOML has no null: a key that is not set is left out.
fn without_null(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|name| name != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice.get("type").is_none_or(|name| name != "null"));
                if choices.len() == 1
                    && let Some(only) = object.remove("anyOf")
                {
                    object.insert("allOf".to_owned(), only);
                }
            }
            object.retain(|name, inner| name != "default" || !(inner.is_null() || inner.is_object()));
            object.values_mut().for_each(without_null);
        }
        Value::Array(values) => values.iter_mut().for_each(without_null),
        _ => {}
    }
}

/// A kind of value that is written in the place where it is used, with the word by which [`keys`] knows it again.
macro_rules! inline_schema {
    ($type:ty, $name:literal, $schema:tt) => {
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

inline_schema!(ByteSize, "Size", {
    "type": ["string", "integer"],
    "minimum": 0,
    "pattern": r"^\s*[0-9]+\s*(([KkMmGgTt][Ii]?)?[Bb])?\s*$",
    "x-kind": "size",
});

inline_schema!(Span, "Duration", {
    "type": "string",
    "pattern": r"^\s*[0-9]+\s*(ms|s|m|h|d)\s*$",
    "x-kind": "duration",
});

inline_schema!(UtcTime, "Time", {
    "type": "string",
    "x-kind": "time",
});

inline_schema!(Rate, "Rate", {
    "type": ["string", "integer"],
    "minimum": 1,
    "pattern": r"^\s*[0-9]+\s*(/\s*(s|min|h)\s*)?$",
    "x-kind": "rate",
});

inline_schema!(Share, "Share", {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": 1,
    "x-kind": "share",
});

inline_schema!(HttpAddress, "Address", {
    "type": "string",
    "pattern": r"^\s*([Nn][Oo][Nn][Ee]|.+:[0-9]{1,5})\s*$",
    "x-kind": "address",
});

inline_schema!(LogFilter, "LogFilter", {
    "type": "string",
    "minLength": 1,
    "x-kind": "filter of logs",
});

inline_schema!(Properties, "Properties", {
    "type": "object",
    "additionalProperties": { "type": ["string", "integer", "number", "boolean", "object"] },
    "x-kind": "properties",
});
