//! Records that a schema registry describes: Confluent's frame in JSON Schema, Avro or Protobuf, into the JSON that the
//! contract judges. Both paths use it, so the same bytes get the same verdict on both.
//!
//! In the order in which a record goes through:
//! - [`decoder`]: a payload into JSON; plain JSON passes through untouched;
//! - [`frame`]: the id of the schema;
//! - [`cache`]: the schemas that were asked for, bounded;
//! - [`registry`]: asks the registry over HTTP;
//! - [`schema`]: a compiled schema of any type; `avro` and `protobuf` compile and decode, `json` writes.
//!
//! What cannot be decoded is a rejection like any other: `BAD_FRAME`, `UNKNOWN_SCHEMA`, `SCHEMA_MISMATCH`. A registry that
//! does not answer is not: its records wait, visibly, and nothing is lost ([`Failure::Unavailable`]).

mod avro;
pub mod cache;
pub mod decoder;
pub mod frame;
mod json;
mod protobuf;
pub mod registry;
pub mod schema;

pub use decoder::{Decoder, Failure, Schemas, json_of};
pub use registry::{Registry, RegistryError};

use std::borrow::Cow;

use loginlake_events::{RejectReason, Rejection};

/// A rejection of a whole record.
fn rejection(reason: RejectReason, message: impl Into<Cow<'static, str>>) -> Rejection {
    Rejection {
        reason,
        field: None,
        message: message.into(),
    }
}

/// A body that does not decode under its schema. `problem` never holds a value (invariant 11).
fn mismatch(problem: &'static str) -> Rejection {
    rejection(RejectReason::SchemaMismatch, problem)
}
