//! A schema of any of the three types, compiled once and used for every record of its id.

use std::str::FromStr;

use loginlake_events::Rejection;

use crate::avro::AvroSchema;
use crate::protobuf::ProtobufSchema;

/// The types of schemas that a registry knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaType {
    /// Avro, in its binary encoding.
    Avro,
    /// Protobuf.
    Protobuf,
    /// JSON Schema: the body is JSON.
    JsonSchema,
}

impl SchemaType {
    /// As a registry names it.
    pub const fn as_str(self) -> &'static str {
        match self {
            SchemaType::Avro => "AVRO",
            SchemaType::Protobuf => "PROTOBUF",
            SchemaType::JsonSchema => "JSON",
        }
    }
}

impl FromStr for SchemaType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        [SchemaType::Avro, SchemaType::Protobuf, SchemaType::JsonSchema]
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| format!("the type {name:?} is none of AVRO, PROTOBUF and JSON"))
    }
}

/// A schema as a registry gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaText {
    /// Its type.
    pub schema_type: SchemaType,
    /// The schema.
    pub text: String,
    /// Names and texts of the schemas that it refers to, directly or not; each before those that refer to it.
    pub references: Vec<(String, String)>,
}

/// A compiled schema.
#[derive(Debug)]
pub struct Schema(Kind);

#[derive(Debug)]
enum Kind {
    Avro(AvroSchema),
    Protobuf(ProtobufSchema),
    JsonSchema,
}

impl Schema {
    /// Compiles a schema. A JSON Schema is not looked at: like Confluent's deserializer by default, this one does not
    /// validate, and the contract judges the event anyway.
    ///
    /// # Errors
    /// What is wrong with it, in words for the log.
    pub fn compile(schema: &SchemaText) -> Result<Self, String> {
        let references = schema.references.iter();
        let kind = match schema.schema_type {
            SchemaType::Avro => Kind::Avro(AvroSchema::compile(
                &schema.text,
                references.map(|(_, text)| text.as_str()),
            )?),
            SchemaType::Protobuf => Kind::Protobuf(ProtobufSchema::compile(
                &schema.text,
                references.map(|(name, text)| (name.as_str(), text.as_str())),
            )?),
            SchemaType::JsonSchema => Kind::JsonSchema,
        };
        Ok(Self(kind))
    }

    /// The JSON of a body: a part of it, or written to `buffer`. Whether it is an event is for the contract to say.
    ///
    /// # Errors
    /// `SCHEMA_MISMATCH`: it does not decode under this schema; `BAD_FRAME`: the message indexes of Protobuf; `TOO_DEEP`,
    /// `TOO_LARGE`.
    pub fn json_of<'a>(&self, body: &'a [u8], buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Rejection> {
        buffer.clear();
        match &self.0 {
            Kind::Avro(schema) => schema.decode(body, buffer)?,
            Kind::Protobuf(schema) => schema.decode(body, buffer)?,
            Kind::JsonSchema => return Ok(body),
        }
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_registrys_names() {
        for kind in [SchemaType::Avro, SchemaType::Protobuf, SchemaType::JsonSchema] {
            assert_eq!(kind.as_str().parse(), Ok(kind));
        }
        assert!("XML".parse::<SchemaType>().unwrap_err().contains("XML"));
    }

    #[test]
    fn json_behind_a_frame_is_taken_as_it_is() {
        let schema = Schema::compile(&SchemaText {
            schema_type: SchemaType::JsonSchema,
            text: "not even looked at".to_owned(),
            references: Vec::new(),
        })
        .expect("always");
        assert_eq!(schema.json_of(b"{ }", &mut Vec::new()), Ok(&b"{ }"[..]));
    }
}
