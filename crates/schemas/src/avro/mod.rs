//! Avro: a writer's schema, and bodies that were written with it, straight to JSON.
//!
//! The writer's names are taken as they are; a null in a union is a JSON null, which the contract takes for a member that
//! is not there. Decoding is a walk of our own over the compiled schema: it builds no tree of values, and its depth and
//! output are bounded whatever the bytes say. The tests hold it against the crate `apache-avro`.

mod decode;
mod schema;

use loginlake_events::Rejection;

pub(crate) use schema::AvroSchema;

impl AvroSchema {
    /// Decodes a body into `out`, which is empty.
    ///
    /// # Errors
    /// `SCHEMA_MISMATCH`: it does not decode under this schema, or is no record. `TOO_DEEP`, `TOO_LARGE`.
    pub(crate) fn decode(&self, body: &[u8], out: &mut Vec<u8>) -> Result<(), Rejection> {
        decode::decode(self, body, out)
    }
}
