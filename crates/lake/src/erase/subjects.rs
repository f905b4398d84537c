//! Whose rows are erased. Pure; `Debug` shows no id (invariant 11).

use std::collections::{BTreeSet, HashSet};
use std::fmt;

use sha2::{Digest, Sha256};

/// Length of a UUID as text.
const ID_LENGTH: usize = 36;
/// How a hash of an id is marked.
const HASH_PREFIX: &str = "sha256:";

/// Users, by the ids that the tables hold, or by hashes of these.
#[derive(Clone)]
pub enum Subjects {
    /// The ids: lower-case UUIDs, pseudonyms included.
    Ids(BTreeSet<String>),
    /// SHA-256 of the ids, from a proof. Slower: every id that is met is hashed.
    Hashes(HashSet<[u8; 32]>),
}

impl Subjects {
    /// Users by id.
    ///
    /// # Errors
    /// Which one, by its place in the list, is no UUID.
    pub fn of_ids<'a>(ids: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let mut known = BTreeSet::new();
        for (index, id) in ids.into_iter().enumerate() {
            let id = id.trim().to_ascii_lowercase();
            if !is_id(id.as_bytes()) {
                return Err(format!(
                    "user {} of the list is not a UUID of the form 8-4-4-4-12",
                    index + 1
                ));
            }
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
            Subjects::Ids(ids) => ids.iter().map(|id| hash_text(&hash(id))).collect(),
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

    /// The ids, when they are known.
    pub(super) fn ids(&self) -> Option<&BTreeSet<String>> {
        match self {
            Subjects::Ids(ids) => Some(ids),
            Subjects::Hashes(_) => None,
        }
    }

    /// Whether this id, as a table holds it, is one of them.
    pub fn contains(&self, id: &str) -> bool {
        match self {
            Subjects::Ids(ids) => ids.contains(id),
            Subjects::Hashes(hashes) => hashes.contains(&hash(id)),
        }
    }

    /// Whether a raw payload names one of them anywhere: in any case, also written with `\u` escapes.
    pub fn are_named_in(&self, raw: &[u8]) -> bool {
        self.are_in_plain(raw)
            || (raw.windows(2).any(|pair| pair == b"\\u") && self.are_in_plain(&without_escapes(raw)))
    }

    fn are_in_plain(&self, raw: &[u8]) -> bool {
        raw.windows(ID_LENGTH).any(|window| {
            // The first dash rules out nearly every place at the price of one comparison.
            window[8] == b'-' && is_id(window) && {
                let id = String::from_utf8_lossy(window).to_ascii_lowercase();
                self.contains(&id)
            }
        })
    }
}

impl fmt::Debug for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subjects({})", self.len())
    }
}

fn is_id(text: &[u8]) -> bool {
    text.len() == ID_LENGTH
        && text.iter().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
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

fn hash(id: &str) -> [u8; 32] {
    Sha256::digest(id.as_bytes()).into()
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
            ] {
                assert!(subjects.are_named_in(text.as_bytes()), "{text}");
            }
            for text in [
                other.clone(),
                String::new(),
                USER[1..].to_owned(),
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
