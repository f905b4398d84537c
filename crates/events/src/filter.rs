//! Drop filters: which good events are not republished. They never touch what reaches the lake.
//!
//! A filter is one or more conditions joined with `and`; an event is dropped when every condition of any filter holds.
//!
//! ```text
//! filter    = condition { "and" condition }
//! condition = field "missing" | field operator value
//! field     = "locale" | "region" | "division" | "device_type" | "app_version" | "ip_class"
//! operator  = "=" | "!=" ; and for app_version "<" | "<=" | ">" | ">="
//! value     = text in double quotes | a word of A-Z a-z 0-9 . _ + -
//! ```
//!
//! Conditions look at the normalised event. A missing locale, device type or version satisfies `missing` and nothing
//! else, `!=` included. Versions are ordered as Semantic Versioning orders them: `2.0.0-beta` is below `2.0.0`.
//!
//! ```
//! use loginlake_events::filter::DropFilters;
//!
//! let filters = DropFilters::parse([r#"locale = "RU""#, "device_type missing", "app_version < 2.0.0"]).unwrap();
//! assert!(!filters.is_empty());
//! ```

use std::cmp::Ordering;

use crate::event::{DeviceType, Flag, IpClass, LoginEvent};
use crate::fields::{compare_versions, normalise_version};

/// The filters of a configuration.
#[derive(Clone, Debug, Default)]
pub struct DropFilters(Vec<Vec<Condition>>);

#[derive(Clone, Debug)]
enum Condition {
    Missing(FilterField),
    Text {
        field: FilterField,
        equal: bool,
        value: String,
    },
    Version {
        operator: Operator,
        value: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FilterField {
    Locale,
    Region,
    Division,
    DeviceType,
    AppVersion,
    IpClass,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl DropFilters {
    /// Parses each text as one filter; the module says how.
    ///
    /// # Errors
    /// Says which filter is wrong, where, and why.
    pub fn parse<I, S>(filters: I) -> Result<DropFilters, FilterError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        filters
            .into_iter()
            .map(|filter| parse_filter(filter.as_ref()))
            .collect::<Result<_, _>>()
            .map(DropFilters)
    }

    /// Whether nothing is ever dropped.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the event is to be dropped.
    pub fn matches(&self, event: &LoginEvent<'_>) -> bool {
        self.0
            .iter()
            .any(|conditions| conditions.iter().all(|condition| condition.holds(event)))
    }
}

impl Condition {
    fn holds(&self, event: &LoginEvent<'_>) -> bool {
        match self {
            Condition::Missing(field) => field.is_missing(event),
            Condition::Text { field, equal, value } => {
                !field.is_missing(event) && (field.text_of(event) == value) == *equal
            }
            Condition::Version { operator, value } => {
                !FilterField::AppVersion.is_missing(event)
                    && operator.accepts(compare_versions(event.app_version(), value))
            }
        }
    }
}

impl FilterField {
    const NAMES: [(&'static str, FilterField); 6] = [
        ("locale", FilterField::Locale),
        ("region", FilterField::Region),
        ("division", FilterField::Division),
        ("device_type", FilterField::DeviceType),
        ("app_version", FilterField::AppVersion),
        ("ip_class", FilterField::IpClass),
    ];

    fn missing_flag(self) -> Option<Flag> {
        match self {
            FilterField::Locale => Some(Flag::LocaleMissing),
            FilterField::DeviceType => Some(Flag::DeviceTypeMissing),
            FilterField::AppVersion => Some(Flag::AppVersionMissing),
            FilterField::Region | FilterField::Division | FilterField::IpClass => None,
        }
    }

    fn is_missing(self, event: &LoginEvent<'_>) -> bool {
        self.missing_flag()
            .is_some_and(|flag| event.flags().contains(flag))
    }

    fn text_of<'e>(self, event: &'e LoginEvent<'_>) -> &'e str {
        match self {
            FilterField::Locale => event.locale(),
            FilterField::Region => event.region(),
            FilterField::Division => event.division(),
            FilterField::DeviceType => event.device_type().as_str(),
            FilterField::AppVersion => event.app_version(),
            FilterField::IpClass => event.ip_class().as_str(),
        }
    }

    /// The value as events hold it, or what is expected instead.
    fn normal_value(self, value: &str) -> Result<String, &'static str> {
        let is_one_of = |known: bool, expected| {
            if known {
                Ok(value.to_owned())
            } else {
                Err(expected)
            }
        };
        match self {
            FilterField::Locale => {
                let is_code = value.len() == 2 && value.bytes().all(|letter| letter.is_ascii_alphabetic());
                if is_code {
                    Ok(value.to_ascii_uppercase())
                } else {
                    Err("two letters such as RI, or use missing")
                }
            }
            FilterField::Region | FilterField::Division => {
                is_one_of(!value.is_empty(), "a name that is not empty")
            }
            FilterField::DeviceType => is_one_of(
                DeviceType::ALL
                    .iter()
                    .any(|kind| kind.as_str() == value && *kind != DeviceType::Unknown),
                "android, ios, web or other, or use missing",
            ),
            FilterField::AppVersion => normalise_version(value)
                .map(|version| version.into_owned())
                .ok_or("a version such as 2.0.0"),
            FilterField::IpClass => is_one_of(
                IpClass::ALL.iter().any(|class| class.as_str() == value),
                "public, private, loopback, link_local, multicast, documentation or reserved",
            ),
        }
    }
}

impl Operator {
    const SYMBOLS: [(&'static str, Operator); 6] = [
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("=", Operator::Equal),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ];

    fn accepts(self, order: Ordering) -> bool {
        match self {
            Operator::Equal => order.is_eq(),
            Operator::NotEqual => order.is_ne(),
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            Operator::GreaterOrEqual => order.is_ge(),
        }
    }
}

fn parse_filter(filter: &str) -> Result<Vec<Condition>, FilterError> {
    let mut parser = Parser { filter, position: 0 };
    let mut conditions = vec![parser.condition()?];
    while !parser.at_end() {
        let start = parser.position;
        if parser.word() != "and" {
            return Err(parser.error(start, "and, or the end of the filter"));
        }
        conditions.push(parser.condition()?);
    }
    Ok(conditions)
}

struct Parser<'t> {
    filter: &'t str,
    /// The byte at which the next token begins; after each token the blanks behind it are skipped.
    position: usize,
}

impl<'t> Parser<'t> {
    fn condition(&mut self) -> Result<Condition, FilterError> {
        self.skip_blanks();
        let start = self.position;
        let name = self.word();
        let (_, field) = *FilterField::NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .ok_or_else(|| {
                self.error(
                    start,
                    "one of the fields locale, region, division, device_type, app_version, ip_class",
                )
            })?;
        let start = self.position;
        let Some(operator) = self.operator() else {
            return match (self.word(), field.missing_flag()) {
                ("missing", Some(_)) => Ok(Condition::Missing(field)),
                ("missing", None) => Err(self.error(start, "an operator: this field is never missing")),
                _ => Err(self.error(start, "an operator such as =, or missing")),
            };
        };
        let is_version = field == FilterField::AppVersion;
        if !is_version && !matches!(operator, Operator::Equal | Operator::NotEqual) {
            return Err(self.error(start, "= or !=: only app_version has an order"));
        }
        let start = self.position;
        let value = self.value()?;
        let value = field
            .normal_value(value)
            .map_err(|expected| self.error(start, expected))?;
        Ok(if is_version {
            Condition::Version { operator, value }
        } else {
            Condition::Text {
                field,
                equal: operator == Operator::Equal,
                value,
            }
        })
    }

    fn value(&mut self) -> Result<&'t str, FilterError> {
        let start = self.position;
        let Some(quoted) = self.rest().strip_prefix('"') else {
            return match self.word() {
                "" => Err(self.error(start, "a value")),
                word => Ok(word),
            };
        };
        let length = quoted
            .find('"')
            .ok_or_else(|| self.error(start, "a double quote at the value's end"))?;
        self.advance(length + 2);
        Ok(&quoted[..length])
    }

    fn operator(&mut self) -> Option<Operator> {
        let (symbol, operator) = Operator::SYMBOLS
            .iter()
            .find(|(symbol, _)| self.rest().starts_with(symbol))?;
        self.advance(symbol.len());
        Some(*operator)
    }

    /// The next word, empty when something else comes.
    fn word(&mut self) -> &'t str {
        let rest = self.rest();
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-');
        let length = rest.bytes().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        self.advance(length);
        &rest[..length]
    }

    fn rest(&self) -> &'t str {
        &self.filter[self.position..]
    }

    fn advance(&mut self, bytes: usize) {
        self.position += bytes;
        self.skip_blanks();
    }

    fn skip_blanks(&mut self) {
        self.position = self.filter.len() - self.rest().trim_start().len();
    }

    fn at_end(&self) -> bool {
        self.position == self.filter.len()
    }

    fn error(&self, position: usize, expected: &'static str) -> FilterError {
        let column = self.filter[..position].chars().count() + 1;
        FilterError {
            filter: self.filter.to_owned(),
            column,
            expected,
        }
    }
}

/// Why a text is not a filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the filter {filter:?} is wrong at character {column}: expected {expected}")]
pub struct FilterError {
    /// The filter as it was given.
    pub filter: String,
    /// Where it is wrong, in characters from 1.
    pub column: usize,
    /// What could stand there.
    pub expected: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Contract;

    const IDS: &str = r#""user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","device_id":"d","ip":"10.0.0.1""#;

    fn drops(filters: &[&str], members: &str) -> bool {
        let contract = Contract::default();
        let payload = format!("{{{IDS},\"timestamp\":1720576825{members}}}");
        let event = contract.decode(Some(payload.as_bytes()), None).unwrap();
        DropFilters::parse(filters).unwrap().matches(&event)
    }

    #[test]
    fn filters_drop_what_they_say_and_nothing_else() {
        let ri = r#","locale":"RI","app_version":"2.0.0","device_type":"web""#;
        let nothing = "";
        for (filter, members, expected) in [
            (r#"locale = "RI""#, ri, true),
            ("locale=ri", ri, true),
            ("locale != RI", ri, false),
            ("locale != RU", ri, true),
            ("locale != RU", nothing, false),
            ("locale missing", nothing, true),
            ("locale missing", ri, false),
            (r#"region = "Northeast""#, ri, true),
            (r#"division != "New England""#, ri, false),
            ("device_type missing", nothing, true),
            ("device_type = web", ri, true),
            ("ip_class = private", ri, true),
            ("app_version < 2.0.0", ri, false),
            ("app_version <= v2", ri, true),
            ("app_version = 2", ri, true),
            ("app_version != 2", ri, false),
            ("app_version > 1.99", ri, true),
            ("app_version >= 2.0.1", ri, false),
            ("app_version > 2.0.0-rc.1", ri, true),
            ("app_version < 2.0.0", nothing, false),
            ("app_version missing", nothing, true),
            ("  locale = RI  and  device_type = web ", ri, true),
            ("locale = RI and device_type = ios", ri, false),
        ] {
            assert_eq!(drops(&[filter], members), expected, "{filter} on {members}");
        }
    }

    #[test]
    fn one_filter_that_matches_is_enough_and_none_drops_nothing() {
        assert!(drops(&["locale = RU", "locale missing"], ""));
        assert!(!drops(&[], ""));
    }

    #[test]
    fn errors_say_where_and_what() {
        for (filter, column, expected) in [
            ("", 1, "one of the fields"),
            ("colour = red", 1, "one of the fields"),
            ("locale", 7, "an operator such as ="),
            ("locale RU", 8, "an operator such as ="),
            ("locale =", 9, "a value"),
            ("locale = \"RU", 10, "a double quote"),
            ("locale = Russia", 10, "two letters"),
            ("locale < RU", 8, "only app_version"),
            ("region missing", 8, "never missing"),
            ("device_type = unknown", 15, "or use missing"),
            ("ip_class = good", 12, "public, private"),
            ("app_version < x", 15, "a version"),
            ("locale = RU or device_type missing", 13, "and, or the end"),
            ("région = x", 1, "one of the fields"),
            ("locale = RU and", 16, "one of the fields"),
        ] {
            let error = DropFilters::parse([filter]).unwrap_err();
            assert_eq!(error.column, column, "{error}");
            assert!(error.expected.contains(expected), "{error}");
        }
    }
}
