//! Finds keys that no table knows, before serde does: with the line, and with the key that was probably meant.

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;

/// Reports the first unknown key of `text`, in the order of the keys' names.
///
/// # Errors
/// There is one, or the text is not TOML.
pub(super) fn check(
    text: &str,
    path: &Path,
    known: &BTreeMap<&'static str, &'static [&'static str]>,
) -> Result<(), ConfigError> {
    let document = DeTable::parse(text).map_err(|error| ConfigError::from_toml(&error, text, path))?;
    check_table(document.get_ref(), "", text, path, known)
}

fn check_table(
    table: &DeTable<'_>,
    name: &str,
    text: &str,
    path: &Path,
    known: &BTreeMap<&'static str, &'static [&'static str]>,
) -> Result<(), ConfigError> {
    let Some(keys) = known.get(name) else {
        return Ok(());
    };
    for (key, value) in table {
        let given = key.get_ref().as_ref();
        if !keys.contains(&given) {
            return Err(ConfigError::UnknownKey {
                path: path.to_owned(),
                line: line_of(text, key.span().start),
                key: if name.is_empty() {
                    format!("`{given}`")
                } else {
                    format!("`{given}` in [{name}]")
                },
                hint: suggest(given, keys, known),
            });
        }
        if let (DeValue::Table(inner), true) = (value.get_ref(), name.is_empty()) {
            check_table(inner, given, text, path, known)?;
        }
    }
    Ok(())
}

fn suggest(
    given: &str,
    keys: &[&'static str],
    known: &BTreeMap<&'static str, &'static [&'static str]>,
) -> String {
    for (table, table_keys) in known {
        if table_keys.contains(&given) {
            return if table.is_empty() {
                format!("`{given}` belongs at the top, before the first [section]")
            } else {
                format!("`{given}` belongs in [{table}]")
            };
        }
    }
    let nearest = keys.iter().map(|key| (distance(given, key), key)).min();
    match nearest {
        // A third of the letters wrong is still a typing mistake; more is another word.
        Some((wrong, key)) if wrong <= key.len().div_ceil(3) => format!("did you mean `{key}`?"),
        _ => format!("known keys are {}", keys.join(", ")),
    }
}

/// The 1-based line of a byte offset.
pub(crate) fn line_of(text: &str, offset: usize) -> usize {
    1 + text
        .as_bytes()
        .iter()
        .take(offset)
        .filter(|byte| **byte == b'\n')
        .count()
}

/// Levenshtein's distance: insertions, deletions and replacements that make one word the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (above, letter) in from.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

/// The names under which serde knows the fields of a struct, so that they are written down once only.
pub(super) fn field_names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // The probe always ends in an error: it gives no value, it only listens to what is asked for.
    let probed = T::deserialize(FieldNames(&mut names));
    debug_assert!(probed.is_err());
    names
}

struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(Self::Error::custom("only the names were wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_the_changes() {
        for (from, to, changes) in [
            ("", "", 0),
            ("a", "", 1),
            ("brokers", "brokers", 0),
            ("broker", "brokers", 1),
            ("max_rows", "max-rows", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), changes, "{from} {to}");
            assert_eq!(distance(to, from), changes, "{to} {from}");
        }
    }

    #[test]
    fn lines_are_counted_from_one() {
        assert_eq!(
            [0, 1, 2, 3, 99].map(|offset| line_of("a\nb\n", offset)),
            [1, 1, 2, 2, 3]
        );
    }
}
