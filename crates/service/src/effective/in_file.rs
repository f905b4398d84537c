//! What the configuration file says, by key, with the line on which it says it.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::toml_text::quoted;
use crate::config::{ConfigError, line_of};

/// The values of a file in TOML, each with its place.
#[derive(Debug, Default)]
pub(super) struct InFile {
    /// By path: `section.key`, or the key alone. Deeper tables are joined with dots.
    values: BTreeMap<String, (String, usize)>,
    name: String,
}

impl InFile {
    /// Of a text; `path` is for the places.
    pub(super) fn read(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let document = DeTable::parse(text).map_err(|error| ConfigError::from_toml(&error, text, path))?;
        let mut values = BTreeMap::new();
        collect(document.get_ref(), "", text, &mut values);
        Ok(Self {
            values,
            name: path.display().to_string(),
        })
    }

    /// A key's value and place.
    pub(super) fn value(&self, path: &str) -> Option<(&str, String)> {
        let (value, line) = self.values.get(path)?;
        Some((value, self.place(*line)))
    }

    /// The values below a table, by their names in it.
    pub(super) fn properties(&self, table: &str) -> BTreeMap<String, (String, String)> {
        let prefix = format!("{table}.");
        self.values
            .iter()
            .filter_map(|(path, (value, line))| {
                let name = path.strip_prefix(&prefix)?;
                Some((name.to_owned(), (value.clone(), self.place(*line))))
            })
            .collect()
    }

    fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.name)
    }
}

fn collect(table: &DeTable<'_>, prefix: &str, text: &str, values: &mut BTreeMap<String, (String, usize)>) {
    for (key, value) in table {
        let path = match prefix {
            "" => key.get_ref().as_ref().to_owned(),
            prefix => format!("{prefix}.{}", key.get_ref()),
        };
        match value.get_ref() {
            DeValue::Table(inner) => collect(inner, &path, text, values),
            inner => {
                let line = line_of(text, key.span().start);
                values.insert(path, (value_text(inner, value.span(), text), line));
            }
        }
    }
}

/// On one line, whatever it was.
fn value_text(value: &DeValue<'_>, span: std::ops::Range<usize>, text: &str) -> String {
    match value {
        DeValue::String(text) => quoted(text),
        DeValue::Array(values) => {
            let values: Vec<String> = values
                .iter()
                .map(|value| value_text(value.get_ref(), value.span(), text))
                .collect();
            format!("[{}]", values.join(", "))
        }
        _ => text.get(span).unwrap_or_default().to_owned(),
    }
}
