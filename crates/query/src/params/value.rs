//! A text as a value of a type; the error is what was expected, in words.

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;

use super::ParameterType;

impl ParameterType {
    /// The value that a text stands for, or what was expected.
    pub(crate) fn value(self, text: &str) -> Result<ScalarValue, &'static str> {
        let value = match self {
            Self::Date => day_of(text).map(|day| ScalarValue::Date32(Some(day))),
            Self::Timestamp => {
                micros_of(text).map(|micros| ScalarValue::TimestampMicrosecond(Some(micros), utc()))
            }
            Self::Text => Some(ScalarValue::from(text)),
            Self::Integer => text.parse().ok().map(|number| ScalarValue::Int64(Some(number))),
            Self::Number => text
                .parse()
                .ok()
                .filter(|number: &f64| number.is_finite())
                .map(|number| ScalarValue::Float64(Some(number))),
            Self::Boolean => text.parse().ok().map(|is_so| ScalarValue::Boolean(Some(is_so))),
        };
        value.ok_or(self.expected())
    }

    /// NULL of the type.
    pub(crate) fn null(self) -> ScalarValue {
        match self {
            Self::Date => ScalarValue::Date32(None),
            Self::Timestamp => ScalarValue::TimestampMicrosecond(None, utc()),
            Self::Text => ScalarValue::Utf8(None),
            Self::Integer => ScalarValue::Int64(None),
            Self::Number => ScalarValue::Float64(None),
            Self::Boolean => ScalarValue::Boolean(None),
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Date => "a date as 2026-01-31",
            Self::Timestamp => "a time as 2026-01-31T12:00:00Z",
            Self::Text => "a text",
            Self::Integer => "a whole number",
            Self::Number => "a number as 0.95",
            Self::Boolean => "true or false",
        }
    }
}

fn utc() -> Option<std::sync::Arc<str>> {
    Some("UTC".into())
}

/// Days since 1970 of `2026-01-31`, in years of four digits.
fn day_of(text: &str) -> Option<i32> {
    if text.len() != 10 {
        return None;
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    let days = date.signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(days).ok()
}

/// Microseconds since 1970 of an RFC 3339 time; without an offset it is UTC, without a time midnight.
fn micros_of(text: &str) -> Option<i64> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros());
    }
    for format in ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return Some(time.and_utc().timestamp_micros());
        }
    }
    day_of(text).map(|day| i64::from(day) * 86_400_000_000)
}

/// The value that a text stands for where the planner inferred `kind`, or what was expected.
pub(crate) fn inferred_value(text: &str, kind: &DataType) -> Result<ScalarValue, String> {
    let declared = match kind {
        DataType::Date32 | DataType::Date64 => Some(ParameterType::Date),
        DataType::Timestamp(..) => Some(ParameterType::Timestamp),
        DataType::Boolean => Some(ParameterType::Boolean),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Some(ParameterType::Number),
        kind if kind.is_integer() => Some(ParameterType::Integer),
        _ => None,
    };
    match declared {
        Some(declared) => {
            let value = declared.value(text)?;
            value
                .cast_to(kind)
                .map_err(|_| format!("{} that fits the column", declared.expected()))
        }
        None => {
            ScalarValue::try_from_string(text.to_owned(), kind).map_err(|_| format!("a value of type {kind}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_takes_its_texts_and_no_others() {
        let cases = [
            (
                ParameterType::Date,
                &["2026-01-31", "1969-12-31"][..],
                &["2026-02-30", "2026-1-5", "31.01.2026", "2026-01-31T00:00:00Z", ""][..],
            ),
            (
                ParameterType::Timestamp,
                &[
                    "2026-01-31T12:00:00Z",
                    "2026-01-31T12:00:00.5+01:00",
                    "2026-01-31 12:00:00",
                    "2026-01-31",
                ],
                &["noon", "2026-01-31T25:00:00Z", "1767571200"],
            ),
            (ParameterType::Text, &["", "x'; DROP TABLE logins; --"], &[]),
            (
                ParameterType::Integer,
                &["-5", "0"],
                &["1.5", "9223372036854775808", " 1"],
            ),
            (
                ParameterType::Number,
                &["0.95", "-1e3", "7"],
                &["NaN", "inf", "x"],
            ),
            (ParameterType::Boolean, &["true", "false"], &["yes", "TRUE", "1"]),
        ];
        for (kind, good, bad) in cases {
            for text in good {
                let value = kind.value(text).unwrap_or_else(|error| panic!("{text}: {error}"));
                assert_eq!(value.data_type(), kind.null().data_type(), "{text}");
            }
            for text in bad {
                assert!(kind.value(text).is_err(), "{kind} {text}");
            }
        }
        assert_eq!(
            ParameterType::Date.value("1970-01-02").unwrap(),
            ScalarValue::Date32(Some(1))
        );
        assert_eq!(micros_of("1970-01-01T01:00:00+01:00"), Some(0));
    }

    #[test]
    fn an_inferred_type_is_kept_exactly() {
        for (text, kind) in [
            ("7", DataType::Int8),
            ("7", DataType::UInt64),
            ("2026-01-31", DataType::Date32),
            ("West", DataType::Utf8View),
            ("0.5", DataType::Decimal128(3, 1)),
        ] {
            assert_eq!(inferred_value(text, &kind).unwrap().data_type(), kind);
        }
        assert!(
            inferred_value("300", &DataType::Int8)
                .unwrap_err()
                .contains("fits")
        );
        assert!(
            inferred_value("soon", &DataType::Date32)
                .unwrap_err()
                .contains("date")
        );
    }
}
