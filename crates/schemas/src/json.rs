//! Writes what a decoder finds as JSON, never more of it than a plain record may have. Numbers and texts are written as
//! any JSON producer writes them, so that the contract judges them as it judges those of a plain record.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use loginlake_events::{MAX_DEPTH, MAX_PAYLOAD_BYTES, RejectReason, Rejection};

use crate::rejection;

/// Nesting at which decoding stops. Beyond what the contract takes, so that the contract gives the verdict on everything
/// that a sane schema holds; a schema that refers to itself goes deeper and must not end in a full stack.
const STOP_DEPTH: usize = 2 * MAX_DEPTH;

/// Appends JSON to a buffer, and knows how deep it is.
pub(crate) struct JsonWriter<'a> {
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl<'a> JsonWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, depth: 0 }
    }

    /// Writes a container from `open` to `close`, with what `fill` writes in between.
    ///
    /// # Errors
    /// `TOO_DEEP`, `TOO_LARGE`, or what `fill` says.
    pub(crate) fn nested(
        &mut self,
        [open, close]: [u8; 2],
        fill: impl FnOnce(&mut Self) -> Result<(), Rejection>,
    ) -> Result<(), Rejection> {
        self.depth += 1;
        if self.depth > STOP_DEPTH {
            return Err(rejection(
                RejectReason::TooDeep,
                format!("the record nests deeper than {STOP_DEPTH}; at most {MAX_DEPTH} are accepted"),
            ));
        }
        self.out.push(open);
        fill(self)?;
        self.out.push(close);
        self.depth -= 1;
        self.check_length()
    }

    /// Begins the next element of a container, `first` without a comma.
    pub(crate) fn element(&mut self, first: bool) -> Result<(), Rejection> {
        if !first {
            self.out.push(b',');
        }
        self.check_length()
    }

    /// Begins the next member of an object, `first` without a comma.
    pub(crate) fn member(&mut self, first: bool, name: &str) -> Result<(), Rejection> {
        self.element(first)?;
        self.text(name);
        self.out.push(b':');
        Ok(())
    }

    pub(crate) fn null(&mut self) {
        self.out.extend_from_slice(b"null");
    }

    pub(crate) fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    pub(crate) fn integer(&mut self, value: impl itoa::Integer) {
        self.out
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// A number, or as text what JSON has no number for, as Protobuf's mapping to JSON does it.
    pub(crate) fn float(&mut self, value: f64) {
        if value.is_finite() {
            serde_json::to_writer(&mut *self.out, &value).expect("a vector takes everything");
        } else if value.is_nan() {
            self.text("NaN");
        } else {
            self.text(if value > 0.0 { "Infinity" } else { "-Infinity" });
        }
    }

    pub(crate) fn text(&mut self, value: &str) {
        serde_json::to_writer(&mut *self.out, value).expect("a vector takes everything");
    }

    /// Bytes as base64 text, as Protobuf's mapping to JSON does it.
    pub(crate) fn bytes(&mut self, value: &[u8]) {
        self.text(&STANDARD.encode(value));
    }

    fn check_length(&self) -> Result<(), Rejection> {
        if self.out.len() <= MAX_PAYLOAD_BYTES {
            return Ok(());
        }
        Err(rejection(
            RejectReason::TooLarge,
            format!("as JSON the record has more than the {MAX_PAYLOAD_BYTES} bytes that are accepted"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut JsonWriter<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut JsonWriter::new(&mut out));
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn scalars_are_json() {
        assert_eq!(written(|json| json.integer(i64::MIN)), "-9223372036854775808");
        assert_eq!(written(|json| json.float(1.5)), "1.5");
        assert_eq!(written(|json| json.float(f64::NAN)), "\"NaN\"");
        assert_eq!(written(|json| json.float(f64::NEG_INFINITY)), "\"-Infinity\"");
        assert_eq!(written(|json| json.text("a\"\u{0}é")), "\"a\\\"\\u0000é\"");
        assert_eq!(written(|json| json.bytes(&[0xff, 0xee])), "\"/+4=\"");
    }

    #[test]
    fn depth_and_length_have_a_limit() {
        fn deeper(json: &mut JsonWriter<'_>) -> Result<(), Rejection> {
            json.nested(*b"[]", deeper)
        }
        let mut out = Vec::new();
        let error = deeper(&mut JsonWriter::new(&mut out)).unwrap_err();
        assert_eq!(error.reason, RejectReason::TooDeep);

        let mut out = Vec::new();
        let endless = JsonWriter::new(&mut out).nested(*b"[]", |json| {
            loop {
                json.element(false)?;
                json.null();
            }
        });
        assert_eq!(endless.unwrap_err().reason, RejectReason::TooLarge);
        assert!(out.len() < MAX_PAYLOAD_BYTES + 16);
    }
}
