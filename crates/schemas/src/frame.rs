//! The frame around a record, as Confluent's serializers write it: a zero byte, the schema's id in four bytes, big-endian,
//! and for Protobuf the path to the message within its file. The first byte of a JSON text is never zero, so framed and
//! plain records can be told apart in one topic.
//!
//! Source: the section "Wire format" of the schema registry's documentation.

use loginlake_events::{RejectReason, Rejection};

use crate::rejection;

/// First byte of a framed record.
pub const MAGIC: u8 = 0;
/// Bytes before the body, for Protobuf before the message indexes.
pub const HEADER_BYTES: usize = 5;
/// Deepest nesting of Protobuf messages that is followed.
const MAX_MESSAGE_INDEXES: usize = 32;

/// Id that a registry has given to a schema. It never stands for another one.
pub type SchemaId = u32;

/// Whether a payload claims to be framed.
pub fn is_framed(payload: &[u8]) -> bool {
    payload.first() == Some(&MAGIC)
}

/// Splits a framed payload into the id of its schema and what follows.
///
/// # Errors
/// `BAD_FRAME`: it is too short, or the id is none that a registry gives.
pub fn split(payload: &[u8]) -> Result<(SchemaId, &[u8]), Rejection> {
    let too_short = || {
        rejection(
            RejectReason::BadFrame,
            format!(
                "a framed record begins with {HEADER_BYTES} bytes; this one has {}",
                payload.len()
            ),
        )
    };
    let (header, body) = payload
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or_else(too_short)?;
    let [_, id @ ..] = *header;
    // Registries count in signed integers.
    match i32::from_be_bytes(id) {
        id @ 1.. => Ok((id.unsigned_abs(), body)),
        id => Err(rejection(
            RejectReason::BadFrame,
            format!("the frame's schema id is {id}; ids begin at 1"),
        )),
    }
}

/// Reads the message indexes of a Protobuf body: the position of the message among those of its file, then that of the
/// nested one within it, and so on. Returns them and what follows.
///
/// # Errors
/// `BAD_FRAME`: they end early, or there are more than a schema can nest.
pub fn message_indexes(body: &[u8]) -> Result<(Vec<usize>, &[u8]), Rejection> {
    let broken = |problem: &str| {
        rejection(
            RejectReason::BadFrame,
            format!("the frame's message indexes {problem}"),
        )
    };
    let mut rest = body;
    let mut next = || zigzag_varint(&mut rest).ok_or_else(|| broken("end early or overflow"));
    let count = usize::try_from(next()?).map_err(|_| broken("have a negative count"))?;
    if count > MAX_MESSAGE_INDEXES {
        return Err(broken("are more than 32"));
    }
    if count == 0 {
        // The short form of the most frequent case: the first message of the file.
        return Ok((vec![0], rest));
    }
    let indexes = (0..count)
        .map(|_| usize::try_from(next()?).map_err(|_| broken("have a negative one")))
        .collect::<Result<_, _>>()?;
    Ok((indexes, rest))
}

/// Takes an integer of 64 bits from the front: seven bits a byte, the least significant first, the sign in the lowest bit.
/// Both Avro and the message indexes write integers so. None: it ends early, or has more than 64 bits.
pub(crate) fn zigzag_varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_zero_byte_begins_a_frame() {
        assert!(is_framed(&[0]));
        assert!(!is_framed(b"{}") && !is_framed(b"") && !is_framed(&[1, 0, 0, 0, 7]));
    }

    #[test]
    fn the_id_is_big_endian_and_the_rest_is_the_body() {
        assert_eq!(split(&[0, 0, 0, 1, 2, 9, 8]), Ok((258, &[9_u8, 8][..])));
        assert_eq!(split(&[0, 0x7f, 0xff, 0xff, 0xff]), Ok((0x7fff_ffff, &[][..])));
    }

    #[test]
    fn a_short_frame_and_an_impossible_id_are_bad_frames() {
        for payload in [
            &[0_u8][..],
            &[0, 0, 0, 0],
            &[0, 0, 0, 0, 0],
            &[0, 0x80, 0, 0, 0],
            &[0, 0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(
                split(payload).unwrap_err().reason,
                RejectReason::BadFrame,
                "{payload:?}"
            );
        }
    }

    #[test]
    fn integers_are_zigzag_varints() {
        for (bytes, value) in [
            (&[0_u8][..], 0),
            (&[1], -1),
            (&[2], 1),
            (&[0xac, 0x02], 150),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                i64::MIN,
            ),
            (
                &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
                i64::MAX,
            ),
        ] {
            let mut rest = bytes;
            assert_eq!(
                (zigzag_varint(&mut rest), rest),
                (Some(value), &[][..]),
                "{bytes:?}"
            );
        }
        for bytes in [
            &[][..],
            &[0x80],
            &[0xff; 11],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
        ] {
            assert_eq!(zigzag_varint(&mut &bytes[..]), None, "{bytes:?}");
        }
    }

    #[test]
    fn message_indexes_have_a_short_and_a_long_form() {
        assert_eq!(message_indexes(&[0, 7]), Ok((vec![0], &[7_u8][..])));
        assert_eq!(message_indexes(&[2, 0, 7]), Ok((vec![0], &[7_u8][..])));
        assert_eq!(message_indexes(&[4, 2, 0]), Ok((vec![1, 0], &[][..])));
        for body in [&[][..], &[2], &[4, 2], &[1], &[2, 1], &[0x80], &[66]] {
            let error = message_indexes(body).unwrap_err();
            assert_eq!(error.reason, RejectReason::BadFrame, "{body:?}");
        }
    }
}
