//! Why a record was rejected: a closed set of reasons with stable names.
//!
//! The names go into headers, metrics and the table `rejected`, so a released name never changes its meaning. A
//! [`Rejection`] never holds any part of the record: its message may be logged (invariant 11).

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// Why a record was rejected. One record gives one reason: the first that applies, in the order of [`RejectReason::ALL`]
/// for the whole record, then field by field in the order of [`Field::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// The payload is absent (a Kafka tombstone) or empty.
    NullPayload,
    /// The payload is not UTF-8.
    NotUtf8,
    /// The payload is not exactly one JSON value (a byte-order mark included).
    NotJson,
    /// The payload is a JSON value other than an object.
    NotObject,
    /// The payload is nested deeper than [`crate::MAX_DEPTH`].
    TooDeep,
    /// The payload is longer than [`crate::MAX_PAYLOAD_BYTES`].
    TooLarge,
    /// A known member is there more than once.
    DuplicateField,
    /// A required member is absent or null.
    MissingField,
    /// A known member has a JSON type that its rule does not allow.
    BadType,
    /// `user_id` is not a UUID.
    BadUserId,
    /// `device_id` is not 1 to 128 of the allowed characters.
    BadDeviceId,
    /// `timestamp` is not an integer or a string of digits.
    BadTimestamp,
    /// `timestamp` is outside the configured window.
    TimestampRange,
    /// `ip` is not an IPv4 or IPv6 address in its strict text form.
    BadIp,
    /// `locale` is not a known state, territory or country.
    BadLocale,
    /// `device_type` is too long or holds a character that is not printable.
    ControlCharacter,
    /// `app_version` is not a dotted version.
    BadVersion,
    /// The payload begins like a framed record (see the crate `schemas`), and the frame is cut off or impossible.
    BadFrame,
    /// The registry does not know the schema of a framed record, or what it gives is no schema that can be used.
    UnknownSchema,
    /// The body of a framed record does not decode under its schema, or is no record.
    SchemaMismatch,
}

impl RejectReason {
    /// Every reason: those of the contract, then those of framed records, which the contract never sees.
    pub const ALL: [RejectReason; 20] = [
        RejectReason::NullPayload,
        RejectReason::NotUtf8,
        RejectReason::NotJson,
        RejectReason::NotObject,
        RejectReason::TooDeep,
        RejectReason::TooLarge,
        RejectReason::DuplicateField,
        RejectReason::MissingField,
        RejectReason::BadType,
        RejectReason::BadUserId,
        RejectReason::BadDeviceId,
        RejectReason::BadTimestamp,
        RejectReason::TimestampRange,
        RejectReason::BadIp,
        RejectReason::BadLocale,
        RejectReason::ControlCharacter,
        RejectReason::BadVersion,
        RejectReason::BadFrame,
        RejectReason::UnknownSchema,
        RejectReason::SchemaMismatch,
    ];

    /// The reasons of [`crate::Contract::decode`]: the order in which a whole record is judged, then the order of the
    /// fields' own reasons.
    pub const OF_CONTRACT: [RejectReason; 17] = match RejectReason::ALL.first_chunk() {
        Some(reasons) => *reasons,
        None => unreachable!(),
    };

    /// The stable name, such as `BAD_IP`.
    pub const fn as_str(self) -> &'static str {
        match self {
            RejectReason::NullPayload => "NULL_PAYLOAD",
            RejectReason::NotUtf8 => "NOT_UTF8",
            RejectReason::NotJson => "NOT_JSON",
            RejectReason::NotObject => "NOT_OBJECT",
            RejectReason::TooDeep => "TOO_DEEP",
            RejectReason::TooLarge => "TOO_LARGE",
            RejectReason::DuplicateField => "DUPLICATE_FIELD",
            RejectReason::MissingField => "MISSING_FIELD",
            RejectReason::BadType => "BAD_TYPE",
            RejectReason::BadUserId => "BAD_USER_ID",
            RejectReason::BadDeviceId => "BAD_DEVICE_ID",
            RejectReason::BadTimestamp => "BAD_TIMESTAMP",
            RejectReason::TimestampRange => "TIMESTAMP_RANGE",
            RejectReason::BadIp => "BAD_IP",
            RejectReason::BadLocale => "BAD_LOCALE",
            RejectReason::ControlCharacter => "CONTROL_CHARACTER",
            RejectReason::BadVersion => "BAD_VERSION",
            RejectReason::BadFrame => "BAD_FRAME",
            RejectReason::UnknownSchema => "UNKNOWN_SCHEMA",
            RejectReason::SchemaMismatch => "SCHEMA_MISMATCH",
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for RejectReason {
    type Err = UnknownReason;

    fn from_str(name: &str) -> Result<Self, UnknownReason> {
        RejectReason::ALL
            .into_iter()
            .find(|reason| reason.as_str() == name)
            .ok_or_else(|| UnknownReason(name.to_owned()))
    }
}

/// A text that is not the name of a [`RejectReason`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no reject reason is called {0:?}; the names are like BAD_IP, in capitals")]
pub struct UnknownReason(pub String);

/// The known members of an event, in the order in which they are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `user_id`
    UserId,
    /// `device_id`
    DeviceId,
    /// `timestamp`
    Timestamp,
    /// `ip`
    Ip,
    /// `locale`
    Locale,
    /// `device_type`
    DeviceType,
    /// `app_version`
    AppVersion,
}

impl Field {
    /// Every known field, in the order in which they are judged.
    pub const ALL: [Field; 7] = [
        Field::UserId,
        Field::DeviceId,
        Field::Timestamp,
        Field::Ip,
        Field::Locale,
        Field::DeviceType,
        Field::AppVersion,
    ];

    /// The member's name in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Field::UserId => "user_id",
            Field::DeviceId => "device_id",
            Field::Timestamp => "timestamp",
            Field::Ip => "ip",
            Field::Locale => "locale",
            Field::DeviceType => "device_type",
            Field::AppVersion => "app_version",
        }
    }

    /// The field that a member's (unescaped) name stands for.
    pub(crate) fn from_name(name: &[u8]) -> Option<Field> {
        match name {
            b"user_id" => Some(Field::UserId),
            b"device_id" => Some(Field::DeviceId),
            b"timestamp" => Some(Field::Timestamp),
            b"ip" => Some(Field::Ip),
            b"locale" => Some(Field::Locale),
            b"device_type" => Some(Field::DeviceType),
            b"app_version" => Some(Field::AppVersion),
            _ => None,
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Why one record is not an event. Safe to log: it holds nothing of the record itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Rejection {
    /// The stable reason.
    pub reason: RejectReason,
    /// The field at fault; `None` when the record as a whole is.
    pub field: Option<Field>,
    /// What was expected, in words for a person. Never contains the value.
    pub message: Cow<'static, str>,
}

impl Rejection {
    /// A rejection of the whole record.
    pub(crate) fn record(reason: RejectReason, message: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection {
            reason,
            field: None,
            message: message.into(),
        }
    }

    /// A rejection for one field.
    pub(crate) fn field(
        reason: RejectReason,
        field: Field,
        message: impl Into<Cow<'static, str>>,
    ) -> Rejection {
        Rejection {
            reason,
            field: Some(field),
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back_and_is_listed_once() {
        for (index, reason) in RejectReason::ALL.into_iter().enumerate() {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(reason as usize, index, "ALL is in declaration order");
        }
        let unknown = "bad_ip".parse::<RejectReason>().unwrap_err();
        assert!(unknown.to_string().contains("bad_ip"));
    }

    #[test]
    fn every_field_is_found_by_its_name() {
        for field in Field::ALL {
            assert_eq!(Field::from_name(field.as_str().as_bytes()), Some(field));
        }
        assert_eq!(Field::from_name(b"USER_ID"), None);
    }
}
