//! The text of a record, split into the raw values of the members that the contract knows.
//!
//! Values stay text here, so that nothing but the grammar of RFC 8259 decides whether a record is JSON: numbers of any
//! size, strings with lone surrogates and any nesting are JSON, and nothing recurses. What a value is worth is for the
//! field's own rule to say. A name written with escapes (`user\u005fid`) is the same name.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::MAX_DEPTH;
use crate::reason::{Field, RejectReason, Rejection};

/// What a record holds, before any value is looked at.
#[derive(Default)]
pub(crate) struct Members<'a> {
    values: [Option<&'a RawValue>; Field::ALL.len()],
    /// The first known member that came a second time.
    pub(crate) duplicate: Option<Field>,
    /// Members that the contract does not know.
    pub(crate) extra_fields: u32,
    /// Whether some value makes the record nest deeper than [`MAX_DEPTH`].
    pub(crate) too_deep: bool,
}

impl<'a> Members<'a> {
    /// The value of a known member.
    pub(crate) fn value_of(&self, field: Field) -> Value<'a> {
        self.values[field as usize].map_or(Value::Null, |raw| Value::of(raw.get()))
    }

    fn add(&mut self, name: &str, value: &'a RawValue) {
        let text = value.get();
        // The record's own object is the first level.
        if text.starts_with(['{', '[']) && is_deeper_than(text, MAX_DEPTH - 1) {
            self.too_deep = true;
        }
        match field_of(name) {
            None => self.extra_fields = self.extra_fields.saturating_add(1),
            Some(field) => {
                let place = &mut self.values[field as usize];
                if place.is_some() {
                    self.duplicate = self.duplicate.or(Some(field));
                } else {
                    *place = Some(value);
                }
            }
        }
    }
}

/// Splits a record.
///
/// # Errors
/// [`RejectReason::NotJson`] or [`RejectReason::NotObject`].
pub(crate) fn split(text: &str) -> Result<Members<'_>, Rejection> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    if text.bytes().find(|byte| !is_blank(byte)) != Some(b'{') {
        return Err(match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Rejection::record(RejectReason::NotObject, "the payload must be a JSON object"),
            Err(error) => not_json(&error),
        });
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer
        .deserialize_map(SplitObject)
        .map_err(|error| not_json(&error))?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(members)
}

/// Says where the text stops to be JSON. Only the place is told: the parser's own words could hold a piece of it.
fn not_json(error: &serde_json::Error) -> Rejection {
    let place = format!(
        "the payload is not exactly one JSON value: line {}, column {}",
        error.line(),
        error.column()
    );
    Rejection::record(RejectReason::NotJson, place)
}

struct SplitObject;

impl<'de> Visitor<'de> for SplitObject {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Members::default();
        // Names are read raw, too: as strings, those with lone surrogates would not be accepted.
        while let Some((name, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            members.add(inside_quotes(name.get()), value);
        }
        Ok(members)
    }
}

fn field_of(name: &str) -> Option<Field> {
    Field::from_name(name.as_bytes()).or_else(|| {
        let escaped = name.contains('\\');
        escaped
            .then(|| unescape(name))
            .flatten()
            .and_then(|name| Field::from_name(name.as_bytes()))
    })
}

/// A member's value, as far as the rules tell types apart.
#[derive(Debug, PartialEq)]
pub(crate) enum Value<'a> {
    /// Null, or no such member.
    Null,
    /// A string, its escapes resolved.
    Text(Cow<'a, str>),
    /// A string that is no Unicode text: it has an escaped surrogate without its partner.
    LoneSurrogate,
    /// A number, as it is written.
    Number(&'a str),
    /// A boolean, an array or an object.
    Other,
}

impl<'a> Value<'a> {
    fn of(text: &'a str) -> Value<'a> {
        match text.as_bytes().first() {
            Some(b'"') => {
                let inside = inside_quotes(text);
                if !inside.contains('\\') {
                    return Value::Text(Cow::Borrowed(inside));
                }
                unescape(inside).map_or(Value::LoneSurrogate, |text| Value::Text(Cow::Owned(text)))
            }
            Some(b'n') => Value::Null,
            Some(b't' | b'f' | b'[' | b'{') => Value::Other,
            _ => Value::Number(text),
        }
    }
}

fn inside_quotes(raw_string: &str) -> &str {
    &raw_string[1..raw_string.len() - 1]
}

/// Resolves the escapes of a string whose grammar is checked already; `None` when a surrogate stands alone.
fn unescape(inside: &str) -> Option<String> {
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(backslash) = rest.find('\\') {
        text.push_str(&rest[..backslash]);
        let escape = rest.as_bytes()[backslash + 1];
        rest = &rest[backslash + 2..];
        match escape {
            b'b' => text.push('\u{8}'),
            b'f' => text.push('\u{c}'),
            b'n' => text.push('\n'),
            b'r' => text.push('\r'),
            b't' => text.push('\t'),
            b'u' => {
                let mut code = hex_digits(&rest[..4]);
                rest = &rest[4..];
                if (0xd800..0xdc00).contains(&code) {
                    let low = hex_digits(rest.strip_prefix("\\u")?.get(..4)?);
                    if !(0xdc00..0xe000).contains(&low) {
                        return None;
                    }
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                    rest = &rest[6..];
                }
                text.push(char::from_u32(code)?);
            }
            // A quote, a slash or a backslash stands for itself.
            other => text.push(char::from(other)),
        }
    }
    text.push_str(rest);
    Some(text)
}

fn hex_digits(digits: &str) -> u32 {
    u32::from_str_radix(digits, 16).expect("the grammar of escapes is checked already")
}

/// Whether a value that is JSON nests deeper than `limit`. Does not recurse.
fn is_deeper_than(json: &str, limit: usize) -> bool {
    let mut depth = 0;
    let mut in_string = false;
    let mut bytes = json.bytes();
    while let Some(byte) = bytes.next() {
        match (in_string, byte) {
            (true, b'\\') => {
                bytes.next();
            }
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > limit {
                    return true;
                }
            }
            (false, b'}' | b']') => depth -= 1,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_resolved() {
        for (raw, expected) in [
            (r"a\u005fb", "a_b"),
            (r#"\"\\\/\b\f\n\r\t"#, "\"\\/\u{8}\u{c}\n\r\t"),
            (r"\ud83d\ude00 und \u00FC", "😀 und ü"),
            ("ü", "ü"),
        ] {
            assert_eq!(unescape(raw).as_deref(), Some(expected), "{raw}");
        }
    }

    #[test]
    fn a_surrogate_alone_is_no_text() {
        for raw in [
            r"\ud800",
            r"\udc00",
            r"\ud800x",
            r"\ud800\n",
            r"\ud800\u0041",
            r"\ud800\ud800",
            r"\udc00\ud800",
        ] {
            assert_eq!(unescape(raw), None, "{raw}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        assert!(!is_deeper_than(r#"["[[[[\"[[", {"}": "\\"}]"#, 2));
        assert!(is_deeper_than("[[[1]]]", 2));
        assert!(!is_deeper_than("[[1],[2],[3]]", 2));
    }

    #[test]
    fn known_members_are_kept_and_others_counted() {
        let members = split(r#" {"ip" : null, "user\u005fid":"x", "\ud800":1, "other":1e999 } "#).unwrap();
        assert_eq!(members.value_of(Field::UserId), Value::Text(Cow::Borrowed("x")));
        assert_eq!(members.value_of(Field::Ip), Value::Null);
        assert_eq!(members.value_of(Field::Locale), Value::Null);
        assert_eq!((members.extra_fields, members.duplicate), (2, None));
    }

    #[test]
    fn a_control_character_in_a_name_is_not_json() {
        assert_eq!(
            split("{\"a\nb\":1}").err().map(|rejection| rejection.reason),
            Some(RejectReason::NotJson)
        );
    }
}
