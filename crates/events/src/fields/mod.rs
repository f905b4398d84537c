//! One rule per field: a raw value in, a normalised one out, or the rejection that says what was expected.

mod app_version;
mod device_type;
mod identity;
mod ip;
mod locale;
mod timestamp;

use std::borrow::Cow;

use crate::json::Value;
use crate::reason::{Field, RejectReason, Rejection};

pub(crate) use app_version::{app_version, compare as compare_versions, normalise as normalise_version};
pub(crate) use device_type::device_type;
pub(crate) use identity::{device_id, user_id};
pub(crate) use ip::{class_of, ip, prefix_of, text_of};
pub(crate) use locale::locale;
pub(crate) use timestamp::{EventTime, out_of_range, timestamp};

/// The text of an optional string member; `None` when it is missing or null. `bad` is the field's reason for a string
/// that is no Unicode text.
fn optional_text<'a>(
    value: Value<'a>,
    field: Field,
    bad: RejectReason,
) -> Result<Option<Cow<'a, str>>, Rejection> {
    match value {
        Value::Null => Ok(None),
        Value::Text(text) => Ok(Some(text)),
        Value::LoneSurrogate => Err(Rejection::field(
            bad,
            field,
            "the string holds an escaped surrogate without its partner",
        )),
        Value::Number(_) | Value::Other => {
            Err(Rejection::field(RejectReason::BadType, field, "must be a string"))
        }
    }
}

/// The text of a required string member.
fn required_text<'a>(value: Value<'a>, field: Field, bad: RejectReason) -> Result<Cow<'a, str>, Rejection> {
    optional_text(value, field, bad)?.ok_or_else(|| missing(field))
}

fn missing(field: Field) -> Rejection {
    Rejection::field(RejectReason::MissingField, field, "must be there and not null")
}
