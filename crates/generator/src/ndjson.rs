//! Records as lines of a file, so that every record can be written and read back byte for byte.
//!
//! A line is the payload itself. What cannot be a line of a text file is wrapped:
//!
//! | line | record |
//! |---|---|
//! | `{"$hex":"7b22ff"}` | a payload with bytes that are not UTF-8, with control characters or a byte-order mark, or none at all |
//! | `{"$tombstone":true}` | a Kafka tombstone |
//!
//! A payload that begins like one of these is wrapped, too, so that nothing is taken for something else. Empty lines
//! are skipped. Keys are not kept.

use std::io::{self, BufRead, Read, Write};

const HEX_START: &[u8] = b"{\"$hex\":\"";
const HEX_END: &[u8] = b"\"}";
const TOMBSTONE: &[u8] = b"{\"$tombstone\":true}";
/// What no payload may begin with unless it is wrapped.
const RESERVED_START: &[u8] = b"{\"$";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The longest line that is read, in bytes: room for a wrapped payload of several MiB, and a limit on memory.
pub const MAX_LINE_BYTES: u64 = 16 << 20;

/// A line that is not a record.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The file could not be read.
    #[error("line {line}: {source}")]
    Read {
        /// Counted from 1.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The line is longer than [`MAX_LINE_BYTES`].
    #[error("line {line} is longer than {MAX_LINE_BYTES} bytes: is this a file with one record a line?")]
    TooLong {
        /// Counted from 1.
        line: u64,
    },
    /// The line begins like a wrapped record and is none.
    #[error(
        "line {line} begins with {{\"$ but is neither {{\"$hex\":\"…\"}} with pairs of hexadecimal digits nor \
         {{\"$tombstone\":true}}"
    )]
    BadWrapper {
        /// Counted from 1.
        line: u64,
    },
}

/// Writes one record and a line end. `None` is a tombstone.
///
/// # Errors
/// Those of `out`.
pub fn write_line(payload: Option<&[u8]>, out: &mut impl Write) -> io::Result<()> {
    match payload {
        None => out.write_all(TOMBSTONE)?,
        Some(payload) if is_plain(payload) => out.write_all(payload)?,
        Some(payload) => {
            out.write_all(HEX_START)?;
            for byte in payload {
                write!(out, "{byte:02x}")?;
            }
            out.write_all(HEX_END)?;
        }
    }
    out.write_all(b"\n")
}

fn is_plain(payload: &[u8]) -> bool {
    !payload.is_empty()
        && !payload.starts_with(RESERVED_START)
        && !payload.starts_with(BYTE_ORDER_MARK)
        && !payload.iter().any(|byte| byte.is_ascii_control())
        && std::str::from_utf8(payload).is_ok()
}

/// What a line held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A payload; it is in the buffer.
    Payload,
    /// A tombstone.
    Tombstone,
}

/// Reads records from lines.
#[derive(Debug)]
pub struct LineReader<R> {
    input: R,
    line: u64,
}

impl<R: BufRead> LineReader<R> {
    /// Reads from the start of `input`.
    pub fn new(input: R) -> LineReader<R> {
        LineReader { input, line: 0 }
    }

    /// Replaces what is in `payload` by the next record's; `None` at the end of the input.
    ///
    /// # Errors
    /// The input cannot be read, or the line is too long or not a record. Reading cannot go on after that.
    pub fn read_into(&mut self, payload: &mut Vec<u8>) -> Result<Option<Line>, LineError> {
        loop {
            self.line += 1;
            let line = self.line;
            payload.clear();
            let mut limited = (&mut self.input).take(MAX_LINE_BYTES + 1);
            let read = limited
                .read_until(b'\n', payload)
                .map_err(|source| LineError::Read { line, source })?;
            if read == 0 {
                return Ok(None);
            }
            if payload.last() == Some(&b'\n') {
                payload.pop();
            } else if read as u64 > MAX_LINE_BYTES {
                return Err(LineError::TooLong { line });
            }
            // Files that went through an editor on Windows; no plain payload ends like this.
            if payload.last() == Some(&b'\r') {
                payload.pop();
            }
            if payload.is_empty() {
                continue;
            }
            if !payload.starts_with(RESERVED_START) {
                return Ok(Some(Line::Payload));
            }
            return unwrap(payload).map(Some).ok_or(LineError::BadWrapper { line });
        }
    }
}

/// Puts the wrapped payload in place of its wrapper.
fn unwrap(line: &mut Vec<u8>) -> Option<Line> {
    if line == TOMBSTONE {
        line.clear();
        return Some(Line::Tombstone);
    }
    let digits = line.strip_prefix(HEX_START)?.strip_suffix(HEX_END)?;
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(hex_value(*high)? << 4 | hex_value(*low)?),
        _ => None,
    });
    *line = pairs.collect::<Option<Vec<u8>>>()?;
    Some(Line::Payload)
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(payload: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        write_line(payload, &mut out).unwrap();
        out
    }

    fn read(text: &[u8]) -> Result<Vec<Option<Vec<u8>>>, LineError> {
        let mut reader = LineReader::new(text);
        let mut payload = Vec::new();
        let mut records = Vec::new();
        while let Some(line) = reader.read_into(&mut payload)? {
            records.push((line == Line::Payload).then(|| payload.clone()));
        }
        Ok(records)
    }

    #[test]
    fn a_good_event_is_its_own_line() {
        assert_eq!(written(Some(b"{\"user_id\":1}")), b"{\"user_id\":1}\n");
        assert_eq!(written(Some("\"ü\"".as_bytes())), "\"ü\"\n".as_bytes());
    }

    #[test]
    fn what_cannot_be_a_line_is_wrapped() {
        assert_eq!(written(None), b"{\"$tombstone\":true}\n");
        assert_eq!(written(Some(b"")), b"{\"$hex\":\"\"}\n");
        assert_eq!(written(Some(b"\xff\n")), b"{\"$hex\":\"ff0a\"}\n");
        assert_eq!(written(Some(b"\xef\xbb\xbf")), b"{\"$hex\":\"efbbbf\"}\n");
    }

    #[test]
    fn every_record_is_read_as_it_was_written() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let records: [Option<&[u8]>; 10] = [
            Some(b"{}"),
            None,
            Some(b""),
            Some(&every_byte),
            Some(TOMBSTONE),
            Some(b"{\"$hex\":\"00\"}"),
            Some(b"{\"$"),
            Some(b"a\r"),
            Some(b"\n"),
            Some(b"\xef\xbb\xbf{}"),
        ];
        let mut text = Vec::new();
        for record in records {
            write_line(record, &mut text).unwrap();
        }
        let again = read(&text).unwrap();
        assert_eq!(again.iter().map(Option::as_deref).collect::<Vec<_>>(), records);
    }

    #[test]
    fn empty_lines_and_a_missing_line_end_do_no_harm() {
        assert_eq!(
            read(b"\n1\r\n\r\n\n2").unwrap(),
            [Some(b"1".to_vec()), Some(b"2".to_vec())]
        );
    }

    #[test]
    fn a_broken_wrapper_is_named_with_its_line() {
        for broken in [
            "{\"$hex\":\"0\"}",
            "{\"$hex\":\"0g\"}",
            "{\"$hex\":\"00\"",
            "{\"$tombstone\":false}",
        ] {
            let error = read(format!("1\n{broken}\n").as_bytes()).unwrap_err();
            assert!(
                error.to_string().starts_with("line 2 begins with {\"$"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut reader = LineReader::new(io::BufReader::new(io::repeat(b'x')));
        let error = reader.read_into(&mut Vec::new()).unwrap_err();
        assert!(matches!(error, LineError::TooLong { line: 1 }), "{error}");
    }
}
