//! `app_version`: dotted numbers with an optional leading `v` and an optional `-pre` or `+build`, padded to three.

use std::borrow::Cow;
use std::cmp::Ordering;

use crate::event::UNKNOWN;
use crate::json::Value;
use crate::reason::{Field, RejectReason, Rejection};

const LEAST_NUMBERS: usize = 3;

/// The rule of `app_version`; `None` when it is missing.
pub(crate) fn app_version(value: Value<'_>) -> Result<Option<Cow<'_, str>>, Rejection> {
    let text = match super::optional_text(value, Field::AppVersion, RejectReason::BadVersion)? {
        None => return Ok(None),
        Some(text) if text == UNKNOWN => return Ok(None),
        Some(text) => text,
    };
    let normalised = match &text {
        Cow::Borrowed(text) => normalise(text),
        Cow::Owned(text) => normalise(text).map(|normalised| Cow::Owned(normalised.into_owned())),
    };
    normalised.map(Some).ok_or_else(|| {
        Rejection::field(
            RejectReason::BadVersion,
            Field::AppVersion,
            "must be dotted numbers below 4294967296 with an optional leading v, -pre or +build",
        )
    })
}

/// The text of a version in its one normal form, `None` when it is not a version.
pub(crate) fn normalise(text: &str) -> Option<Cow<'_, str>> {
    if is_usual(text.as_bytes()) {
        return Some(Cow::Borrowed(text));
    }
    let without_v = text.strip_prefix('v').unwrap_or(text);
    let (numbers, suffix) = split_suffix(without_v);
    if !is_suffix(suffix) {
        return None;
    }
    let mut is_normal = true;
    let mut count = 0;
    for number in numbers.split('.') {
        parse_number(number)?;
        is_normal &= number.len() == 1 || !number.starts_with('0');
        count += 1;
    }
    if is_normal && count >= LEAST_NUMBERS {
        return Some(Cow::Borrowed(without_v));
    }
    let mut normal = String::with_capacity(text.len() + 4);
    for number in numbers
        .split('.')
        .chain(std::iter::repeat_n("0", LEAST_NUMBERS.saturating_sub(count)))
    {
        if !normal.is_empty() {
            normal.push('.');
        }
        let stripped = number.trim_start_matches('0');
        normal.push_str(if stripped.is_empty() { "0" } else { stripped });
    }
    normal.push_str(suffix);
    Some(Cow::Owned(normal))
}

/// Whether it is three or more numbers of at most nine digits, in their normal form and without a suffix.
fn is_usual(text: &[u8]) -> bool {
    let (mut numbers, mut digits, mut first) = (1, 0, 0);
    for byte in text {
        match byte {
            b'0'..=b'9' if digits == 0 => (digits, first) = (1, *byte),
            b'0'..=b'9' if first != b'0' && digits < 9 => digits += 1,
            b'.' if digits > 0 => (numbers, digits) = (numbers + 1, 0),
            _ => return false,
        }
    }
    digits > 0 && numbers >= LEAST_NUMBERS
}

/// Orders two normal versions: by their numbers, then a version with `-pre` before the one without; among several
/// `-pre` by the rules of Semantic Versioning 2.0.0, section 11. `+build` does not count.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    let ((left, left_suffix), (right, right_suffix)) = (split_suffix(left), split_suffix(right));
    compare_numbers(left, right).then_with(|| match (pre_release(left_suffix), pre_release(right_suffix)) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(left), Some(right)) => left
            .split('.')
            .map(Identifier::of)
            .cmp(right.split('.').map(Identifier::of)),
    })
}

/// Numbers, and the suffix with its own `-` or `+`.
fn split_suffix(version: &str) -> (&str, &str) {
    version.split_at(version.find(['-', '+']).unwrap_or(version.len()))
}

/// Whether it is empty, `-pre`, `+build` or `-pre+build`, each part made of `[0-9A-Za-z.-]` and not empty.
fn is_suffix(suffix: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
    };
    let (pre, build) = suffix.split_at(suffix.find('+').unwrap_or(suffix.len()));
    (pre.is_empty() || is_part(&pre[1..])) && (build.is_empty() || is_part(&build[1..]))
}

fn pre_release(suffix: &str) -> Option<&str> {
    let pre = suffix.strip_prefix('-')?;
    Some(pre.split_once('+').map_or(pre, |(pre, _)| pre))
}

/// A number below 2^32, digits only.
fn parse_number(digits: &str) -> Option<u32> {
    // `parse` alone would accept a leading plus.
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

fn compare_numbers(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.split('.'), right.split('.'));
    loop {
        let (left, right) = (left.next(), right.next());
        if left.is_none() && right.is_none() {
            return Ordering::Equal;
        }
        let value = |number: Option<&str>| number.and_then(parse_number).unwrap_or(0);
        let order = value(left).cmp(&value(right));
        if order.is_ne() {
            return order;
        }
    }
}

/// A dotted part of `-pre`. Numbers come before words; a number is kept without leading zeros, so that a longer one is
/// the larger one whatever its size.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Identifier<'a> {
    Number(usize, &'a str),
    Word(&'a str),
}

impl<'a> Identifier<'a> {
    fn of(part: &'a str) -> Identifier<'a> {
        if part.is_empty() || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return Identifier::Word(part);
        }
        let digits = part.trim_start_matches('0');
        Identifier::Number(digits.len(), digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_one_normal_form() {
        for (text, expected) in [
            ("2.3.0", Some("2.3.0")),
            ("2", Some("2.0.0")),
            ("2.3", Some("2.3.0")),
            ("v2.3", Some("2.3.0")),
            ("v2.3.4", Some("2.3.4")),
            ("1.2.3.4.5", Some("1.2.3.4.5")),
            ("002.03.000", Some("2.3.0")),
            ("000", Some("0.0.0")),
            ("4294967295.0.0", Some("4294967295.0.0")),
            ("00004294967295", Some("4294967295.0.0")),
            ("2.3-beta", Some("2.3.0-beta")),
            ("2.3.0-beta.1+build-7", Some("2.3.0-beta.1+build-7")),
            ("2.3.0+20240710", Some("2.3.0+20240710")),
            ("2.3.0+a-b", Some("2.3.0+a-b")),
            ("2.3.0--", Some("2.3.0--")),
            ("", None),
            ("v", None),
            ("vv1", None),
            ("V1", None),
            ("4294967296", None),
            ("99999999999999999999", None),
            ("1.", None),
            (".1", None),
            ("1..2", None),
            ("+1", None),
            ("1.+2", None),
            ("-1", None),
            ("1.-1", None),
            ("1-", None),
            ("1+", None),
            ("1-+b", None),
            ("1+a+b", None),
            ("1-a_b", None),
            (" 1", None),
            ("1 ", None),
            ("1.x", None),
            ("١", None),
        ] {
            assert_eq!(normalise(text).as_deref(), expected, "{text:?}");
        }
    }

    #[test]
    fn a_normal_form_is_kept_without_a_copy() {
        assert!(matches!(normalise("2.3.0-rc.1"), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn versions_are_ordered_as_semantic_versioning_says() {
        let ascending = [
            "0.9.9",
            "1.0.0-1",
            "1.0.0-2",
            "1.0.0-10",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.0.1",
            "1.2.0",
            "1.10.0",
            "2.0.0",
        ];
        for (left_index, left) in ascending.iter().enumerate() {
            for (right_index, right) in ascending.iter().enumerate() {
                assert_eq!(
                    compare(left, right),
                    left_index.cmp(&right_index),
                    "{left} and {right}"
                );
            }
        }
        assert_eq!(compare("1.0.0+a", "1.0.0.0+b"), Ordering::Equal);
    }
}
