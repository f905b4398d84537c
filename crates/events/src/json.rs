//! The text of a record, split into the raw values of the members that the contract knows.
//!
//! Values stay text here, so that nothing but the grammar of RFC 8259 decides whether a record is JSON: numbers of any
//! size, strings with lone surrogates and any nesting are JSON, and nothing recurses. What a value is worth is for the
//! field's own rule to say. A name written with escapes (`user\u005fid`) is the same name.
//!
//! There are two ways through this module. The usual record is a flat object of plain strings, whole numbers and literals,
//! and a scanner of our own takes it apart; it accepts nothing that is not JSON, and gives up at the first byte that is not
//! usual. Whatever it gives up on is decided by `serde_json` from the beginning. A property test holds the two together.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::MAX_DEPTH;
use crate::reason::{Field, RejectReason, Rejection};

/// A value as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
struct RawText<'a> {
    text: &'a str,
    /// Known to be a string without escapes, a whole number or a literal.
    is_plain: bool,
}

/// What a record holds, before any value is looked at.
#[derive(Default)]
pub(crate) struct Members<'a> {
    values: [Option<RawText<'a>>; Field::ALL.len()],
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
        self.values[field as usize].map_or(Value::Null, |value| match value {
            RawText { text, is_plain: true } if text.starts_with('"') => {
                Value::Text(Cow::Borrowed(inside_quotes(text)))
            }
            RawText { text, .. } => Value::of(text),
        })
    }

    /// Adds a member whose value is nested, or may be.
    fn add_any(&mut self, name: &str, value: &'a str) {
        // The record's own object is the first level.
        if value.starts_with(['{', '[']) && is_deeper_than(value, MAX_DEPTH - 1) {
            self.too_deep = true;
        }
        self.add(
            field_of(name),
            RawText {
                text: value,
                is_plain: false,
            },
        );
    }

    fn add(&mut self, field: Option<Field>, value: RawText<'a>) {
        match field {
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
    match split_usual(text) {
        Some(members) => Ok(members),
        None => split_any(text),
    }
}

/// Splits a flat object whose names and strings have no escapes and whose numbers are whole. `None`: something else.
fn split_usual(text: &str) -> Option<Members<'_>> {
    let bytes = text.as_bytes();
    let mut members = Members::default();
    let mut at = after_blanks(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    loop {
        at = after_blanks(bytes, at + 1);
        let name_end = plain_string_end(bytes, at)?;
        // Only the name of a member that the contract does not know may be something else than ASCII.
        let field = Field::from_name(&bytes[at + 1..name_end - 1]);
        at = after_blanks(bytes, name_end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        at = after_blanks(bytes, at + 1);
        let end = plain_value_end(bytes, at)?;
        members.add(
            field,
            RawText {
                text: &text[at..end],
                is_plain: true,
            },
        );
        at = after_blanks(bytes, end);
        match bytes.get(at)? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    (after_blanks(bytes, at + 1) == bytes.len()).then_some(members)
}

fn after_blanks(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Where the value that begins at `at` ends, if it is a plain string, a whole number or a literal.
fn plain_value_end(bytes: &[u8], at: usize) -> Option<usize> {
    let literal = |text: &'static [u8]| bytes[at..].starts_with(text).then_some(at + text.len());
    match bytes.get(at)? {
        b'"' => plain_string_end(bytes, at),
        // A zero stands alone; a sign, a fraction and an exponent are not usual.
        b'0' => Some(at + 1),
        b'1'..=b'9' => {
            let digits = bytes[at..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            Some(at + digits)
        }
        b'n' => literal(b"null"),
        b't' => literal(b"true"),
        b'f' => literal(b"false"),
        _ => None,
    }
}

/// Where the string that begins with the quote at `at` ends, its own quote included; `None` when it has escapes, or
/// characters that must be escaped, or no end.
fn plain_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let mut end = at + 1;
    // Eight at a time, as long as none of them ends the text.
    while let Some(eight) = bytes.get(end..end + 8) {
        let eight = u64::from_le_bytes(eight.try_into().ok()?);
        let ending = ends_plain_text(eight);
        if ending != 0 {
            end += (ending.trailing_zeros() / 8) as usize;
            return (bytes[end] == b'"').then_some(end + 1);
        }
        end += 8;
    }
    let rest = bytes[end..]
        .iter()
        .position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'))?;
    (bytes[end + rest] == b'"').then_some(end + rest + 1)
}

/// The highest bit of each byte that is a quote, a backslash, or one of the control characters that RFC 8259 does not
/// allow in a string. Bits above the lowest one that is set may be wrong: a borrow goes upwards.
fn ends_plain_text(eight: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    let is_zero = |bytes: u64| bytes.wrapping_sub(ONES) & !bytes & HIGHS;
    let quote = is_zero(eight ^ (ONES * b'"' as u64));
    let backslash = is_zero(eight ^ (ONES * b'\\' as u64));
    let control = eight.wrapping_sub(ONES * 0x20) & !eight & HIGHS;
    quote | backslash | control
}

/// Splits whatever is an object in JSON.
fn split_any(text: &str) -> Result<Members<'_>, Rejection> {
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
            members.add_any(inside_quotes(name.get()), value.get());
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
    use proptest::prelude::*;

    use super::*;

    /// JSON, nearly JSON, and what the usual way has to leave to the other one.
    fn texts() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            proptest::sample::select(Field::ALL.to_vec()).prop_map(|field| format!("\"{}\"", field.as_str())),
            r#""[ -~ü]{0,6}""#,
            r#""(user\\u005fid|\\ud800|\\n)""#,
        ];
        let value = prop_oneof![
            r#""[ -~ü]{0,12}""#,
            "-?[0-9]{0,14}",
            "(0|1)[.eE+-]{0,2}[0-9]{0,3}",
            "null|true|false|nul|True",
            r#"\[1\]|\{"a":\[\]\}|\[\[|\]"#,
            r#""\\u00e9\\"""#,
        ];
        let blank = "[ \t\n\r]{0,2}";
        let member = (blank, name, blank, "[:]{0,2}", blank, value, blank).prop_map(
            |(a, name, b, colon, c, value, d)| {
                let colon = if colon.is_empty() || colon.len() > 1 {
                    colon
                } else {
                    ":".to_owned()
                };
                format!("{a}{name}{b}{colon}{c}{value}{d}")
            },
        );
        (
            blank,
            proptest::collection::vec(member, 0..9),
            ",|,|,|;|",
            blank,
            0_u8..20,
        )
            .prop_map(|(before, members, comma, after, cut)| {
                let text = format!("{before}{{{}}}{after}", members.join(&comma));
                let keep = if cut == 0 { text.len() / 2 } else { text.len() };
                text.chars().take(keep).collect()
            })
    }

    fn seen<'a>(members: &Members<'a>) -> (Vec<Option<&'a str>>, Option<Field>, u32, bool) {
        (
            members
                .values
                .iter()
                .map(|value| value.map(|value| value.text))
                .collect(),
            members.duplicate,
            members.extra_fields,
            members.too_deep,
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]
        #[test]
        fn the_usual_way_sees_what_the_other_one_sees(text in texts()) {
            if let Some(usual) = split_usual(&text) {
                let any = split_any(&text).expect("what the usual way accepts is JSON");
                prop_assert_eq!(seen(&usual), seen(&any));
            }
        }

        #[test]
        fn a_flat_object_goes_the_usual_way(
            values in proptest::collection::vec(r#""[ !#-\[\]-~ü]{0,40}"|[1-9][0-9]{0,12}|0|null"#, 1..8)
        ) {
            let members: Vec<String> = values
                .iter()
                .zip(Field::ALL)
                .map(|(value, field)| format!("\"{}\":{value}", field.as_str()))
                .collect();
            let text = format!("{{{}}}", members.join(","));
            prop_assert!(split_usual(&text).is_some(), "{}", text);
        }
    }

    #[test]
    fn the_lowest_byte_that_ends_a_text_is_found_among_any_eight() {
        for position in 0..8 {
            for byte in 0..=255_u8 {
                for around in [b'a', b' ', b'#', b'!', b'[', b']', 0x7f, 0x80, 0xff] {
                    let mut eight = [around; 8];
                    eight[position] = byte;
                    let expected = eight
                        .iter()
                        .position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'));
                    let found = ends_plain_text(u64::from_le_bytes(eight));
                    let found = (found != 0).then(|| (found.trailing_zeros() / 8) as usize);
                    assert_eq!(found, expected, "{eight:?}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_usual_is_left_to_the_other_way() {
        for text in [
            "{}",
            "[]",
            "",
            "{",
            r#"{"a":1"#,
            r#"{"a":1}x"#,
            r#"{"a":1,}"#,
            r#"{"a":01}"#,
            r#"{"a":-1}"#,
            r#"{"a":1.5}"#,
            r#"{"a":[1]}"#,
            r#"{"a":nulL}"#,
            r#"{"a" 1}"#,
            "{\"a\":\"\u{1}\"}",
            r#"{"a\n":1}"#,
            r#"{"a":"\n"}"#,
            r#"{"a":"b}"#,
        ] {
            assert!(split_usual(text).is_none(), "{text}");
        }
    }

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
