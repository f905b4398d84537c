//! Whose rows are erased. Pure; `Debug` shows no id (invariant 11).
//!
//! A hundred thousand ids take a few mebibytes: they are kept as numbers, and as such they are found in rows and payloads.

use std::collections::HashSet;
use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Length of a UUID as text.
const ID_LENGTH: usize = 36;
/// Its hexadecimal digits.
const ID_DIGITS: usize = 32;
/// How a hash of an id is marked.
const HASH_PREFIX: &str = "sha256:";

/// Users, by the ids that the tables hold, or by hashes of these.
#[derive(Clone)]
pub enum Subjects {
    /// The ids: UUIDs as numbers, pseudonyms included.
    Ids(HashSet<u128>),
    /// SHA-256 of the ids as lower-case text, from a proof. Slower: every id that is met is hashed.
    Hashes(HashSet<[u8; 32]>),
}

impl Subjects {
    /// Users by id.
    ///
    /// # Errors
    /// Which one, by its place in the list, is no UUID.
    pub fn of_ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut known = HashSet::new();
        for (index, id) in ids.into_iter().enumerate() {
            let id = number(id.trim().as_bytes()).ok_or_else(|| {
                format!(
                    "user {} of the list is not a UUID of the form 8-4-4-4-12",
                    index + 1
                )
            })?;
            known.insert(id);
        }
        Ok(Self::Ids(known))
    }

    /// Users by the hashes of a proof.
    ///
    /// # Errors
    /// Which one, by its place in the list, is no hash.
    pub fn of_hashes<'a>(hashes: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut known = HashSet::new();
        for (index, text) in hashes.into_iter().enumerate() {
            let hash = text.strip_prefix(HASH_PREFIX).and_then(from_hexadecimal);
            known
                .insert(hash.ok_or_else(|| format!("hash {} of the list is not {HASH_PREFIX}…", index + 1))?);
        }
        Ok(Self::Hashes(known))
    }

    /// The hashes of the ids, sorted.
    pub fn hashes(&self) -> Vec<String> {
        let mut hashes: Vec<String> = match self {
            Subjects::Ids(ids) => ids.iter().map(|id| hash_text(&hash(*id))).collect(),
            Subjects::Hashes(hashes) => hashes.iter().map(hash_text).collect(),
        };
        hashes.sort();
        hashes
    }

    /// How many ids.
    pub fn len(&self) -> usize {
        match self {
            Subjects::Ids(ids) => ids.len(),
            Subjects::Hashes(hashes) => hashes.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether one of the ids, as the text that rows hold, passes a test; `None` when they are not known.
    pub(super) fn any_id(&self, mut test: impl FnMut(&str) -> bool) -> Option<bool> {
        let Subjects::Ids(ids) = self else { return None };
        let mut text = [0; ID_LENGTH];
        Some(
            ids.iter()
                .any(|id| test(Uuid::from_u128(*id).hyphenated().encode_lower(&mut text))),
        )
    }

    /// Whether this id, as a table holds it, is one of them.
    pub fn contains(&self, id: &str) -> bool {
        number(id.as_bytes()).is_some_and(|id| self.has(id))
    }

    fn has(&self, id: u128) -> bool {
        match self {
            Subjects::Ids(ids) => ids.contains(&id),
            Subjects::Hashes(hashes) => hashes.contains(&hash(id)),
        }
    }

    /// Whether a raw payload names one of them anywhere: in any case, with dashes or without, with `\u` escapes, in UTF-16.
    pub fn are_named_in(&self, raw: &[u8]) -> bool {
        self.are_in_plain(raw)
            || (raw.windows(2).any(|pair| pair == b"\\u") && self.are_in_plain(&without_escapes(raw)))
            || (raw.contains(&0) && self.are_in_plain(&without_zeros(raw)))
    }

    /// The last 32 digits are an id when a dash follows each of the right ones, or none of them.
    fn are_in_plain(&self, raw: &[u8]) -> bool {
        let mut digits = 0_usize;
        let mut id = 0_u128;
        raw.iter().enumerate().any(|(end, byte)| {
            match char::from(*byte).to_digit(16) {
                Some(digit) => {
                    digits += 1;
                    id = (id << 4) | u128::from(digit);
                }
                None => digits = 0,
            }
            if digits >= ID_DIGITS {
                return self.has(id);
            }
            // The last group has twelve digits; what is before them decides.
            digits >= 12
                && end + 1 >= ID_LENGTH
                && raw[end - 12] == b'-'
                && number(&raw[end + 1 - ID_LENGTH..=end]).is_some_and(|id| self.has(id))
        })
    }
}

impl fmt::Debug for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subjects({})", self.len())
    }
}

/// A UUID of the form 8-4-4-4-12, in any case.
fn number(text: &[u8]) -> Option<u128> {
    if text.len() != ID_LENGTH {
        return None;
    }
    let mut id = 0_u128;
    for (index, byte) in text.iter().enumerate() {
        match index {
            8 | 13 | 18 | 23 if *byte == b'-' => {}
            8 | 13 | 18 | 23 => return None,
            _ => id = (id << 4) | u128::from(char::from(*byte).to_digit(16)?),
        }
    }
    Some(id)
}

/// A payload with `\u00XX` of ASCII characters written out.
fn without_escapes(raw: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((first, tail)) = rest.split_first() {
        let escaped = rest
            .get(..6)
            .filter(|six| six.starts_with(b"\\u"))
            .and_then(|six| u8::from_str_radix(std::str::from_utf8(&six[2..]).ok()?, 16).ok())
            .filter(u8::is_ascii);
        match escaped {
            Some(byte) => {
                plain.push(byte);
                rest = &rest[6..];
            }
            None => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

/// UTF-16 of ASCII characters has a zero beside each.
fn without_zeros(raw: &[u8]) -> Vec<u8> {
    raw.iter().copied().filter(|byte| *byte != 0).collect()
}

fn hash(id: u128) -> [u8; 32] {
    let mut text = [0; ID_LENGTH];
    Sha256::digest(Uuid::from_u128(id).hyphenated().encode_lower(&mut text)).into()
}

fn hash_text(hash: &[u8; 32]) -> String {
    hash.iter()
        .fold(HASH_PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn from_hexadecimal(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "a6397988-1649-4859-ae5f-a1407b638ca6";

    #[test]
    fn a_user_is_found_by_id_and_by_hash_however_the_payload_writes_it() {
        let by_id = Subjects::of_ids([" A6397988-1649-4859-AE5F-A1407B638CA6\n"]).unwrap();
        let hashes = by_id.hashes();
        let by_hash = Subjects::of_hashes(hashes.iter().map(String::as_str)).unwrap();
        assert_eq!(by_hash.hashes(), hashes);
        let escaped = USER.replacen('a', "\\u0061", 1).replacen('-', "\\u002D", 1);
        let other = USER.replacen('a', "b", 1);
        for subjects in [by_id, by_hash] {
            assert!(subjects.contains(USER));
            assert!(!subjects.contains(&other));
            for text in [
                USER.to_owned(),
                format!("xx-{}yy", USER.to_uppercase()),
                format!(r#"{{"user_id":"{escaped}"}}"#),
                format!("0{}0", USER.replace('-', "")),
                format!("a-{USER}"),
                format!("0{USER}"),
                USER.encode_utf16()
                    .flat_map(u16::to_be_bytes)
                    .map(char::from)
                    .collect(),
            ] {
                assert!(subjects.are_named_in(text.as_bytes()), "{text}");
            }
            for text in [
                other.clone(),
                String::new(),
                USER[1..].to_owned(),
                USER.replacen('-', "", 1),
                USER.replace('-', "_"),
                other.replace('-', ""),
                "\\u00".to_owned(),
            ] {
                assert!(!subjects.are_named_in(text.as_bytes()), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_id_is_refused_by_its_place_and_never_shown() {
        let error = Subjects::of_ids([USER, "secret-name"]).unwrap_err();
        assert!(
            error.starts_with("user 2 ") && !error.contains("secret"),
            "{error}"
        );
        assert!(Subjects::of_hashes(["sha256:12"]).is_err());
        let shown = format!("{:?}", Subjects::of_ids([USER]).unwrap());
        assert_eq!(shown, "Subjects(1)");
    }
}
