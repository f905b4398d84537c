//! librdkafka properties that pass through: from the file, the environment and `-X`. Those on which correctness
//! rests are refused wherever they come from, and secret values are not shown.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::{self, Debug};
use std::str::FromStr;

use serde::Deserialize;

use super::error::ConfigError;

/// What the software sets itself, and what to use in its place.
const OWNED: [(&str, &str); 11] = [
    ("bootstrap.servers", "use --brokers or --output-brokers"),
    ("metadata.broker.list", "use --brokers or --output-brokers"),
    ("group.id", "use --group-id"),
    (
        "transactional.id",
        "use transactional-id in [realtime] of the configuration file",
    ),
    ("enable.idempotence", "use --guarantee: both guarantees need it"),
    (
        "enable.auto.commit",
        "use --guarantee: offsets are committed when their records are safe",
    ),
    (
        "auto.commit.enable",
        "use --guarantee: offsets are committed when their records are safe",
    ),
    (
        "enable.auto.offset.store",
        "use --guarantee: offsets are stored when their records are safe",
    ),
    (
        "auto.commit.interval.ms",
        "use --guarantee: offsets are committed when their records are safe",
    ),
    (
        "isolation.level",
        "leave it out: only committed records are ever read",
    ),
    (
        "auto.offset.reset",
        "leave it out: a reset would lose or repeat records without a word",
    ),
];

/// Parts of property names whose values are secrets, or lead to one.
const SECRET_PARTS: [&str; 6] = ["password", "secret", ".pem", "oauthbearer", "jaas", "token"];

/// librdkafka properties by name. TOML's dotted keys are joined again, so `security.protocol = "SSL"` needs no quotes.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<String, PropertyValue>")]
pub struct Properties(BTreeMap<String, String>);

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a text, a number, true or false")]
enum PropertyValue {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Nested(BTreeMap<String, PropertyValue>),
}

impl From<BTreeMap<String, PropertyValue>> for Properties {
    fn from(values: BTreeMap<String, PropertyValue>) -> Self {
        let mut properties = Self::default();
        properties.flatten("", values);
        properties
    }
}

impl Properties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    fn flatten(&mut self, prefix: &str, values: BTreeMap<String, PropertyValue>) {
        for (key, value) in values {
            let name = if prefix.is_empty() {
                key
            } else {
                format!("{prefix}.{key}")
            };
            let text = match value {
                PropertyValue::Bool(value) => value.to_string(),
                PropertyValue::Integer(value) => value.to_string(),
                PropertyValue::Float(value) => value.to_string(),
                PropertyValue::Text(value) => value,
                PropertyValue::Nested(inner) => {
                    self.flatten(&name, inner);
                    continue;
                }
            };
            self.0.insert(name, text);
        }
    }

    /// Takes `properties` over what is here, unless the software owns one of them.
    pub(super) fn overlay<K: Into<String>, V: Into<String>>(
        &mut self,
        properties: impl IntoIterator<Item = (K, V)>,
        origin: &'static str,
    ) -> Result<(), ConfigError> {
        for (name, value) in properties {
            let name = name.into();
            if let Some((_, instead)) = OWNED.iter().find(|(owned, _)| *owned == name) {
                return Err(ConfigError::OwnedProperty {
                    property: name,
                    origin,
                    instead,
                });
            }
            self.0.insert(name, value.into());
        }
        Ok(())
    }

    pub(super) fn into_map(self) -> BTreeMap<String, String> {
        self.0
    }
}

impl Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(&self.0).fmt(f)
    }
}

/// The properties as they may be shown: the values of secrets are `***`.
pub(super) fn redacted(properties: &BTreeMap<String, String>) -> BTreeMap<&str, &str> {
    properties
        .iter()
        .map(|(name, value)| (name.as_str(), if is_secret(name) { "***" } else { value }))
        .collect()
}

/// Whether the value of a property is not to be shown.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_PARTS.iter().any(|part| name.contains(part))
}

/// Properties out of environment variables: with the prefix `LOGINLAKE_KAFKA_`, the variable
/// `LOGINLAKE_KAFKA_SECURITY_PROTOCOL` is the property `security.protocol`. An empty variable is one that is not set,
/// as container tools pass them on.
pub fn properties_from_environment(
    variables: impl IntoIterator<Item = (String, String)>,
    prefix: &str,
) -> BTreeMap<String, String> {
    let property = |(variable, value): (String, String)| {
        let name = variable
            .strip_prefix(prefix)
            .filter(|name| !name.is_empty() && !value.is_empty())?;
        Some((name.to_ascii_lowercase().replace('_', "."), value))
    };
    variables.into_iter().filter_map(property).collect()
}

/// One `-X key=value` as it was given. It is taken apart when the settings are resolved, and not by the command
/// line's parser, whose errors would repeat a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PropertyArg(String);

impl PropertyArg {
    /// Name and value.
    pub(super) fn pair(&self) -> Option<(&str, &str)> {
        let (name, value) = self.0.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then_some((name, value))
    }
}

impl FromStr for PropertyArg {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.to_owned()))
    }
}

impl Debug for PropertyArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=***", self.pair().map_or("", |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn variables_with_the_prefix_are_properties() {
        let given = variables(&[
            ("LOGINLAKE_KAFKA_SECURITY_PROTOCOL", "SSL"),
            ("LOGINLAKE_KAFKA_", "x"),
            ("LOGINLAKE_KAFKA_SASL_USERNAME", ""),
            ("LOGINLAKE_OUTPUT_KAFKA_LINGER_MS", "5"),
            ("PATH", "/bin"),
        ]);
        let properties = properties_from_environment(given, "LOGINLAKE_KAFKA_");
        assert_eq!(
            properties,
            BTreeMap::from([("security.protocol".to_owned(), "SSL".to_owned())])
        );
    }

    #[test]
    fn every_owned_property_is_refused_with_what_to_use_instead() {
        for (name, instead) in OWNED {
            let error = Properties::default()
                .overlay([(name, "x")], "-X")
                .expect_err("owned");
            assert!(error.to_string().contains(name), "{error}");
            assert_eq!(error.hint().as_deref(), Some(instead));
        }
    }

    #[test]
    fn a_later_layer_wins() {
        let mut properties = Properties::default();
        properties
            .overlay([("linger.ms", "5"), ("debug", "all")], "file")
            .expect("not owned");
        properties.overlay([("linger.ms", "7")], "-X").expect("not owned");
        assert_eq!(
            properties.iter().collect::<Vec<_>>(),
            [("debug", "all"), ("linger.ms", "7")]
        );
    }

    #[test]
    fn secrets_are_not_shown() {
        let names = [
            "sasl.password",
            "ssl.key.pem",
            "ssl.key.password",
            "sasl.oauthbearer.client.secret",
        ];
        for name in names {
            let mut properties = Properties::default();
            properties.overlay([(name, "hunter2")], "-X").expect("not owned");
            assert_eq!(format!("{properties:?}"), format!("{{\"{name}\": \"***\"}}"));
        }
        let argument: PropertyArg = "sasl.password=hunter2".parse().expect("infallible");
        assert_eq!(format!("{argument:?}"), "sasl.password=***");
        let malformed: PropertyArg = "sasl.password hunter2".parse().expect("infallible");
        assert_eq!(
            (format!("{malformed:?}").as_str(), malformed.pair()),
            ("=***", None)
        );
    }

    #[test]
    fn a_value_may_hold_an_equals_sign() {
        let argument: PropertyArg = "sasl.password=a=b".parse().expect("infallible");
        assert_eq!(argument.pair(), Some(("sasl.password", "a=b")));
    }
}
