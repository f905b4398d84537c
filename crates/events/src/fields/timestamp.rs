//! `timestamp`: epoch seconds, as an integer or a string of digits; exactly 13 digits are milliseconds.

use crate::json::Value;
use crate::reason::{Field, RejectReason, Rejection};

const MILLISECOND_DIGITS: usize = 13;

/// When an event happened, before the window is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EventTime {
    /// Milliseconds since 1970-01-01T00:00:00Z; not negative.
    pub(crate) ms: i64,
    /// Whether the record gave milliseconds.
    pub(crate) was_millis: bool,
}

/// The rule of `timestamp`, without the window.
pub(crate) fn timestamp(value: Value<'_>) -> Result<EventTime, Rejection> {
    match value {
        Value::Null => Err(super::missing(Field::Timestamp)),
        Value::Other => Err(Rejection::field(
            RejectReason::BadType,
            Field::Timestamp,
            "must be an integer or a string of digits",
        )),
        Value::Text(digits) => of_digits(&digits),
        Value::LoneSurrogate => Err(not_digits()),
        Value::Number(number) => match number.strip_prefix('-') {
            None => of_digits(number),
            Some(digits) if is_digits(digits) => Err(out_of_range("must not be negative")),
            Some(_) => Err(not_digits()),
        },
    }
}

fn of_digits(digits: &str) -> Result<EventTime, Rejection> {
    if !is_digits(digits) {
        return Err(not_digits());
    }
    let number: i64 = digits.parse().map_err(|_| out_of_range("is too large"))?;
    if digits.len() == MILLISECOND_DIGITS {
        return Ok(EventTime {
            ms: number,
            was_millis: true,
        });
    }
    let ms = number
        .checked_mul(1_000)
        .ok_or_else(|| out_of_range("is too large"))?;
    Ok(EventTime {
        ms,
        was_millis: false,
    })
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn not_digits() -> Rejection {
    Rejection::field(
        RejectReason::BadTimestamp,
        Field::Timestamp,
        "must be whole epoch seconds: digits only, without a fraction or an exponent",
    )
}

pub(crate) fn out_of_range(message: &'static str) -> Rejection {
    Rejection::field(RejectReason::TimestampRange, Field::Timestamp, message)
}
