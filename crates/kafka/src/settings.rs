//! Brokers and librdkafka properties. What the operator gives (`-X`) passes through; what correctness rests on is set
//! last and cannot be overridden.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};

use crate::oauth;

/// How long a check at the start waits for a broker.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaSettings {
    /// `host:port,…`
    pub brokers: String,
    /// librdkafka properties of the operator: security and tuning.
    pub properties: BTreeMap<String, String>,
}

impl KafkaSettings {
    /// A cluster without further properties.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            properties: BTreeMap::new(),
        }
    }

    /// Built-in tuning < the operator's properties < what is owned by this software.
    pub(crate) fn client_config(
        &self,
        tuning: &[(&str, &str)],
        applies: impl Fn(&str) -> bool,
        owned: &[(&str, &str)],
    ) -> ClientConfig {
        let mut config = ClientConfig::new();
        // `-X debug=eos,broker` is of use only when what it says gets through.
        let level = if self.properties.contains_key("debug") {
            RDKafkaLogLevel::Debug
        } else {
            // Why a connection ended is said at this level; `LoggingContext` keeps it out of the log.
            RDKafkaLogLevel::Info
        };
        config.set("client.id", "loginlake").set_log_level(level);
        for (key, value) in tuning {
            config.set(*key, *value);
        }
        for (key, value) in self
            .properties
            .iter()
            .filter(|(key, _)| applies(key) && !oauth::is_ours(key))
        {
            config.set(key, value);
        }
        if self.wants_system_authorities() {
            // OpenSSL is part of this program and knows no authorities: librdkafka looks where systems keep them.
            config.set("ssl.ca.location", "probe");
        }
        config.set("bootstrap.servers", &self.brokers);
        for (key, value) in owned {
            config.set(*key, *value);
        }
        config
    }
}

impl KafkaSettings {
    fn wants_system_authorities(&self) -> bool {
        let protocol = self.properties.get("security.protocol");
        let is_tls = protocol.is_some_and(|protocol| protocol.to_ascii_lowercase().ends_with("ssl"));
        is_tls
            && !["ssl.ca.location", "ssl.ca.pem"]
                .iter()
                .any(|key| self.properties.contains_key(*key))
    }
}

impl std::fmt::Debug for KafkaSettings {
    /// Names of properties only: values can be secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("properties", &self.properties.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// Properties that librdkafka knows for consumers only: a producer that gets one only warns, but says so each time.
const CONSUMER_ONLY: &[&str] = &[
    "auto.offset.reset",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.partition.eof",
    "fetch.",
    "group.",
    "heartbeat.interval.ms",
    "isolation.level",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "queued.",
    "session.timeout.ms",
    "check.crcs",
    "auto.commit.interval.ms",
];

/// Properties for producers only.
const PRODUCER_ONLY: &[&str] = &[
    "acks",
    "batch.",
    "compression.",
    "delivery.",
    "enable.idempotence",
    "linger.ms",
    "message.send.max.retries",
    "message.timeout.ms",
    "partitioner",
    "queue.buffering.",
    "queuing.strategy",
    "request.required.acks",
    "request.timeout.ms",
    "retries",
    "sticky.partitioning",
    "transaction",
    "enable.gapless.guarantee",
];

pub(crate) fn for_consumer(key: &str) -> bool {
    !PRODUCER_ONLY.iter().any(|prefix| key.starts_with(prefix))
}

pub(crate) fn for_producer(key: &str) -> bool {
    !CONSUMER_ONLY.iter().any(|prefix| key.starts_with(prefix))
}

pub(crate) fn for_admin(key: &str) -> bool {
    for_consumer(key) && for_producer(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_win_over_the_operators_and_theirs_over_the_tuning() {
        let mut settings = KafkaSettings::new("a:1");
        settings.properties.insert("linger.ms".into(), "7".into());
        settings.properties.insert("acks".into(), "0".into());
        settings.properties.insert("fetch.min.bytes".into(), "9".into());
        let config = settings.client_config(&[("linger.ms", "5")], for_producer, &[("acks", "all")]);
        assert_eq!(config.get("linger.ms"), Some("7"));
        assert_eq!(config.get("acks"), Some("all"));
        assert_eq!(config.get("fetch.min.bytes"), None);
    }

    #[test]
    fn without_authorities_those_of_the_system_are_looked_for() {
        let mut settings = KafkaSettings::new("a:1");
        let location = |settings: &KafkaSettings| {
            let config = settings.client_config(&[], for_admin, &[]);
            config.get("ssl.ca.location").map(ToOwned::to_owned)
        };
        assert_eq!(location(&settings), None);
        settings
            .properties
            .insert("security.protocol".into(), "SASL_SSL".into());
        assert_eq!(location(&settings).as_deref(), Some("probe"));
        settings
            .properties
            .insert("ssl.ca.location".into(), "ca.pem".into());
        assert_eq!(location(&settings).as_deref(), Some("ca.pem"));
        settings.properties.remove("ssl.ca.location");
        settings.properties.insert("ssl.ca.pem".into(), "…".into());
        assert_eq!(location(&settings), None);
    }

    #[test]
    fn debug_shows_no_values() {
        let mut settings = KafkaSettings::new("a:1");
        settings
            .properties
            .insert("sasl.password".into(), "hunter2".into());
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
