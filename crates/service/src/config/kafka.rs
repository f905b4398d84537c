//! Kafka's flags and settings: clusters, topics, the consumer group.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

use clap::Args;
use clap::builder::BoolishValueParser;

use super::error::ConfigError;
use super::file::ConfigFile;
use super::properties::{Properties, PropertyArg, properties_from_environment, redacted};
use super::{Service, environment, layered, not_empty, secret_files};

const DEFAULT_BROKERS: &str = "localhost:9092";

/// The cluster that logins are read from.
#[derive(Args, Clone, Debug, Default)]
pub struct KafkaArgs {
    /// Kafka bootstrap servers [default: localhost:9092]
    #[arg(
        long,
        env = "LOGINLAKE_BROKERS",
        hide_env_values = true,
        value_name = "HOST:PORT,…"
    )]
    pub brokers: Option<String>,
    /// librdkafka property, repeatable, as kcat takes them [env: LOGINLAKE_KAFKA_…]
    #[arg(short = 'X', long = "kafka-property", value_name = "KEY=VALUE")]
    pub properties: Vec<PropertyArg>,
}

/// A cluster and how to talk to it. Debug output hides the secrets among the properties.
#[derive(Clone, PartialEq, Eq)]
pub struct ResolvedKafka {
    /// Bootstrap servers, `host:port,…`.
    pub brokers: String,
    /// librdkafka properties, none of which the software owns.
    pub properties: BTreeMap<String, String>,
}

impl Debug for ResolvedKafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolvedKafka")
            .field("brokers", &self.brokers)
            .field("properties", &redacted(&self.properties))
            .finish()
    }
}

impl KafkaArgs {
    /// Resolves against the file and this process's environment.
    ///
    /// # Errors
    /// A property that the software owns, one that is not `key=value`, or empty brokers.
    pub fn resolve(&self, file: &ConfigFile) -> Result<ResolvedKafka, ConfigError> {
        self.resolve_with(file, environment())
    }

    /// Like [`KafkaArgs::resolve`] with the environment's variables given.
    ///
    /// # Errors
    /// As [`KafkaArgs::resolve`].
    pub fn resolve_with(
        &self,
        file: &ConfigFile,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<ResolvedKafka, ConfigError> {
        let brokers = layered(
            self.brokers.clone(),
            file.brokers.clone(),
            DEFAULT_BROKERS.to_owned(),
        );
        let mut properties = Properties::default();
        properties.overlay(file.kafka.iter(), "[kafka] of the configuration file")?;
        let from_environment = properties_from_environment(variables, "LOGINLAKE_KAFKA_");
        properties.overlay(from_environment, "a LOGINLAKE_KAFKA_ variable")?;
        properties.overlay(pairs(&self.properties, "-X")?, "-X")?;
        secret_files::warn_of_arguments("-X", &self.properties);
        resolved(not_empty("--brokers", brokers)?, properties, None)
    }
}

/// The cluster that output goes to, where it is another one.
#[derive(Args, Clone, Debug, Default)]
pub struct OutputKafkaArgs {
    /// Bootstrap servers of the cluster that output goes to [default: the input's]
    #[arg(
        long,
        env = "LOGINLAKE_OUTPUT_BROKERS",
        hide_env_values = true,
        value_name = "HOST:PORT,…"
    )]
    pub output_brokers: Option<String>,
    /// librdkafka property of the output's cluster, repeatable [env: LOGINLAKE_OUTPUT_KAFKA_…]
    #[arg(long = "output-kafka-property", value_name = "KEY=VALUE")]
    pub output_properties: Vec<PropertyArg>,
}

impl OutputKafkaArgs {
    /// Resolves against the file, this process's environment and the input's cluster.
    ///
    /// The input's properties hold for the output, too, as long as it is the same cluster. Another cluster gets its
    /// own ones only: a password for one is never sent to the other.
    ///
    /// # Errors
    /// A property that the software owns, one that is not `key=value`, or empty brokers.
    pub fn resolve(&self, file: &ConfigFile, input: &ResolvedKafka) -> Result<ResolvedKafka, ConfigError> {
        self.resolve_with(file, input, environment())
    }

    /// Like [`OutputKafkaArgs::resolve`] with the environment's variables given.
    ///
    /// # Errors
    /// As [`OutputKafkaArgs::resolve`].
    pub fn resolve_with(
        &self,
        file: &ConfigFile,
        input: &ResolvedKafka,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<ResolvedKafka, ConfigError> {
        let brokers = layered(
            self.output_brokers.clone(),
            file.output_brokers.clone(),
            input.brokers.clone(),
        );
        let brokers = not_empty("--output-brokers", brokers)?;
        let mut properties = Properties::default();
        if brokers == input.brokers {
            properties.overlay(input.properties.clone(), "the input's properties")?;
        }
        properties.overlay(
            file.output_kafka.iter(),
            "[output-kafka] of the configuration file",
        )?;
        let from_environment = properties_from_environment(variables, "LOGINLAKE_OUTPUT_KAFKA_");
        properties.overlay(from_environment, "a LOGINLAKE_OUTPUT_KAFKA_ variable")?;
        let from_flags = pairs(&self.output_properties, "--output-kafka-property")?;
        properties.overlay(from_flags, "--output-kafka-property")?;
        secret_files::warn_of_arguments("--output-kafka-property", &self.output_properties);
        resolved(brokers, properties, Some(&input.properties))
    }
}

fn resolved(
    brokers: String,
    properties: Properties,
    inherited: Option<&BTreeMap<String, String>>,
) -> Result<ResolvedKafka, ConfigError> {
    let mut properties = properties.into_map();
    secret_files::read(&mut properties, inherited)?;
    secret_files::warn_of_weakness(&brokers, &properties);
    Ok(ResolvedKafka { brokers, properties })
}

fn pairs<'a>(
    arguments: &'a [PropertyArg],
    flag: &'static str,
) -> Result<Vec<(&'a str, &'a str)>, ConfigError> {
    let malformed = |index| ConfigError::MalformedProperty {
        flag,
        position: index + 1,
    };
    arguments
        .iter()
        .enumerate()
        .map(|(index, property)| property.pair().ok_or_else(|| malformed(index)))
        .collect()
}

/// The topics.
#[derive(Args, Clone, Debug, Default)]
pub struct TopicArgs {
    /// Topic that logins are read from [default: user-login]
    #[arg(
        long,
        env = "LOGINLAKE_INPUT_TOPIC",
        hide_env_values = true,
        value_name = "TOPIC"
    )]
    pub input_topic: Option<String>,
    /// Topic that enriched logins go to [default: processed-user-login]
    #[arg(
        long,
        env = "LOGINLAKE_OUTPUT_TOPIC",
        hide_env_values = true,
        value_name = "TOPIC"
    )]
    pub output_topic: Option<String>,
    /// Topic that rejected records go to [default: user-login-dead-letters]
    #[arg(
        long,
        env = "LOGINLAKE_DEAD_LETTER_TOPIC",
        hide_env_values = true,
        value_name = "TOPIC"
    )]
    pub dead_letter_topic: Option<String>,
    /// Topic that insights go to [default: login-insights]
    #[arg(
        long,
        env = "LOGINLAKE_INSIGHTS_TOPIC",
        hide_env_values = true,
        value_name = "TOPIC"
    )]
    pub insights_topic: Option<String>,
}

/// Names of the topics, each a name that Kafka accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Logins as they come in.
    pub input: String,
    /// Enriched logins.
    pub output: String,
    /// Rejected records.
    pub dead_letter: String,
    /// Insights.
    pub insights: String,
}

impl TopicArgs {
    /// Resolves against the file.
    ///
    /// # Errors
    /// A name that Kafka refuses, or output that would go to the topic that is read.
    pub fn resolve(&self, file: &ConfigFile) -> Result<Topics, ConfigError> {
        let resolve = |setting, flag: &Option<String>, from_file: &Option<String>, default: &str| {
            topic_name(
                setting,
                layered(flag.clone(), from_file.clone(), default.to_owned()),
            )
        };
        let topics = Topics {
            input: resolve(
                "--input-topic",
                &self.input_topic,
                &file.input_topic,
                "user-login",
            )?,
            output: resolve(
                "--output-topic",
                &self.output_topic,
                &file.output_topic,
                "processed-user-login",
            )?,
            dead_letter: resolve(
                "--dead-letter-topic",
                &self.dead_letter_topic,
                &file.dead_letter_topic,
                "user-login-dead-letters",
            )?,
            insights: resolve(
                "--insights-topic",
                &self.insights_topic,
                &file.insights_topic,
                "login-insights",
            )?,
        };
        topics.all_different()?;
        Ok(topics)
    }
}

impl Topics {
    fn all_different(&self) -> Result<(), ConfigError> {
        let named = [
            ("--input-topic", &self.input),
            ("--output-topic", &self.output),
            ("--dead-letter-topic", &self.dead_letter),
            ("--insights-topic", &self.insights),
        ];
        for (index, (setting, name)) in named.iter().enumerate() {
            if let Some((other, _)) = named[..index].iter().find(|(_, earlier)| earlier == name) {
                let problem = format!("`{name}` is what {other} names, too; each needs a topic of its own");
                return Err(ConfigError::invalid(setting, problem));
            }
        }
        Ok(())
    }
}

/// A name that Kafka accepts for a topic, by its own rule.
///
/// # Errors
/// It is none.
pub fn topic_name(setting: &'static str, name: String) -> Result<String, ConfigError> {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=249).contains(&name.len()) && name.bytes().all(legal) && name != "." && name != ".." {
        return Ok(name);
    }
    let problem = format!("`{name}` is no topic name: use 1 to 249 of A-Z a-z 0-9 . _ -");
    Err(ConfigError::invalid(setting, problem))
}

/// Whether and how missing topics are created.
#[derive(Args, Clone, Debug, Default)]
pub struct CreateTopicsArgs {
    /// Create topics that are missing
    #[arg(
        long,
        env = "LOGINLAKE_CREATE_TOPICS",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub create_topics: Option<bool>,
    /// Partitions of a topic that is created [default: 4]
    #[arg(long, env = "LOGINLAKE_PARTITIONS", hide_env_values = true, value_name = "N",
        value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: Option<i32>,
    /// Replicas of a topic that is created [default: what the broker says]
    #[arg(long, env = "LOGINLAKE_REPLICATION_FACTOR", hide_env_values = true, value_name = "N",
        value_parser = clap::value_parser!(i16).range(1..))]
    pub replication_factor: Option<i16>,
}

/// Whether and how missing topics are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateTopics {
    /// Create what is missing; otherwise a missing topic is an error.
    pub create: bool,
    /// Partitions of a new topic.
    pub partitions: i32,
    /// Replicas of a new topic; -1 is the broker's default.
    pub replication_factor: i16,
}

impl CreateTopicsArgs {
    /// Resolves against the file.
    ///
    /// # Errors
    /// A count in the file that is below 1.
    pub fn resolve(&self, file: &ConfigFile) -> Result<CreateTopics, ConfigError> {
        let partitions = layered(self.partitions, file.partitions, 4);
        let replication_factor = self.replication_factor.or(file.replication_factor);
        if partitions < 1 {
            return Err(ConfigError::invalid(
                "--partitions",
                format!("{partitions} is below 1"),
            ));
        }
        if let Some(factor @ ..1) = replication_factor {
            return Err(ConfigError::invalid(
                "--replication-factor",
                format!("{factor} is below 1"),
            ));
        }
        Ok(CreateTopics {
            create: layered(self.create_topics, file.create_topics, false),
            partitions,
            replication_factor: replication_factor.unwrap_or(-1),
        })
    }
}

/// The consumer group.
#[derive(Args, Clone, Debug, Default)]
pub struct GroupArgs {
    /// Consumer group [default: loginlake-realtime, loginlake-olap or loginlake-index]
    #[arg(
        long,
        env = "LOGINLAKE_GROUP_ID",
        hide_env_values = true,
        value_name = "GROUP"
    )]
    pub group_id: Option<String>,
}

impl GroupArgs {
    /// The group of this service.
    ///
    /// # Errors
    /// It is empty.
    pub fn resolve(&self, file: &ConfigFile, service: Service) -> Result<String, ConfigError> {
        let group = layered(
            self.group_id.clone(),
            service.group_id_in(file).cloned(),
            service.default_group_id().to_owned(),
        );
        not_empty("--group-id", group)
    }
}
