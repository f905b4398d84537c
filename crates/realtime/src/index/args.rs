//! Arguments and configuration of `realtime index` into what it is told.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use loginlake_kafka::KafkaSettings;
use loginlake_kafka::topics::{TopicSpec, Topics as TopicClient};
use loginlake_service::config::{
    AlertArgs, AlertSettings, ByteSize, ConfigFile, CreateTopics, CreateTopicsArgs, GroupArgs, HttpArgs,
    HttpBind, KafkaArgs, OutputKafkaArgs, Secret, Service, Span, TopicArgs, Topics, layered, topic_name,
};
use loginlake_service::exit::ExitError;

use super::{ClientSettings, Credentials, IndexOptions};
use crate::run::exit_error;

/// The environment variable that holds the credentials for OpenSearch: `user:password` or `Bearer token`.
pub const CREDENTIALS_VARIABLE: &str = "LOGINLAKE_INDEX_CREDENTIALS";

const DEFAULT_URL: &str = "http://127.0.0.1:9200";
const DEFAULT_NAME: &str = "logins";
const DEFAULT_DEAD_LETTER_TOPIC: &str = "user-login-index-dead-letters";
const DEFAULT_BATCH_BYTES: ByteSize = ByteSize::from_mib(5);
const DEFAULT_BATCH_RECORDS: usize = 5_000;
const DEFAULT_BATCH_AGE: Duration = Duration::from_millis(500);
const DEFAULT_IN_FLIGHT: usize = 2;
/// OpenSearch refuses larger requests by default.
const MAX_BATCH_BYTES: u64 = 100 << 20;
const MAX_BATCH_RECORDS: usize = 100_000;
const MAX_IN_FLIGHT: usize = 32;
const MAX_BATCH_AGE: Duration = Duration::from_secs(60);
/// OpenSearch's own limit is 255 bytes, and the month comes behind it.
const MAX_NAME_BYTES: usize = 200;

/// Arguments of `realtime index`.
#[derive(Args, Debug)]
pub struct IndexArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    output_kafka: OutputKafkaArgs,
    #[command(flatten)]
    topics: TopicArgs,
    #[command(flatten)]
    group: GroupArgs,
    #[command(flatten)]
    create_topics: CreateTopicsArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    alerts: AlertArgs,
    /// Address of OpenSearch [default: http://127.0.0.1:9200]
    #[arg(long, env = "LOGINLAKE_INDEX_URL", hide_env_values = true, value_name = "URL")]
    index_url: Option<String>,
    /// File with its credentials, `user:password` or `Bearer token` [env: LOGINLAKE_INDEX_CREDENTIALS holds them themselves]
    #[arg(
        long,
        env = "LOGINLAKE_INDEX_CREDENTIALS_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    index_credentials_file: Option<PathBuf>,
    /// PEM file of the authorities that its certificate may be of [default: those of the system]
    #[arg(
        long,
        env = "LOGINLAKE_INDEX_CA_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    index_ca_file: Option<PathBuf>,
    /// Alias of all indices; each month has one, NAME-2026.11 [default: logins]
    #[arg(
        long,
        env = "LOGINLAKE_INDEX_NAME",
        hide_env_values = true,
        value_name = "NAME"
    )]
    index_name: Option<String>,
    /// Topic that records go to which OpenSearch cannot take [default: user-login-index-dead-letters]
    #[arg(
        long,
        env = "LOGINLAKE_INDEX_DEAD_LETTER_TOPIC",
        hide_env_values = true,
        value_name = "TOPIC"
    )]
    index_dead_letter_topic: Option<String>,
    /// Largest bulk request [default: 5MiB]
    #[arg(
        long,
        env = "LOGINLAKE_INDEX_BATCH_BYTES",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    batch_bytes: Option<ByteSize>,
    /// Most records of a bulk request [default: 5000]
    #[arg(
        long,
        env = "LOGINLAKE_INDEX_BATCH_RECORDS",
        hide_env_values = true,
        value_name = "N"
    )]
    batch_records: Option<usize>,
    /// Longest that a record waits for others [default: 500ms]
    #[arg(
        long,
        env = "LOGINLAKE_INDEX_BATCH_AGE",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    batch_age: Option<Span>,
    /// Most bulk requests on their way at once [default: 2]
    #[arg(
        long,
        env = "LOGINLAKE_INDEX_IN_FLIGHT",
        hide_env_values = true,
        value_name = "N"
    )]
    in_flight: Option<usize>,
    /// Install the index template when it is missing or older [default: true]
    #[arg(
        long,
        env = "LOGINLAKE_INDEX_CREATE_TEMPLATE",
        hide_env_values = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    create_template: Option<bool>,
    /// Stop, with code 0, once everything that the topic held at the start is stored and committed
    #[arg(long)]
    exit_at_end: bool,
}

/// What `realtime index` runs with.
#[derive(Debug)]
pub struct Resolved {
    /// What it is told.
    pub options: IndexOptions,
    /// Where health and metrics are served.
    pub http: HttpBind,
    /// Which missing topics are made.
    pub create_topics: CreateTopics,
    /// Alerts by webhook.
    pub alerts: AlertSettings,
    /// The flags of these, for a file that is read again.
    pub alert_args: AlertArgs,
}

impl IndexArgs {
    /// Resolves flags, environment and file.
    ///
    /// # Errors
    /// A usage error.
    pub fn resolve(self, file: &ConfigFile) -> Result<Resolved, ExitError> {
        let variable = std::env::var(CREDENTIALS_VARIABLE).ok();
        self.resolve_with(file, variable)
    }

    /// With the credentials that the environment holds given.
    fn resolve_with(self, file: &ConfigFile, variable: Option<String>) -> Result<Resolved, ExitError> {
        let section = &file.index;
        let input = self.kafka.resolve(file)?;
        let kafka = self.output_kafka.resolve(file, &input)?;
        let topics = self.topics.resolve(file)?;
        let dead_letter_topic = dead_letter_topic(
            self.index_dead_letter_topic
                .or_else(|| section.dead_letter_topic.clone()),
            &topics,
        )?;
        let credentials = match (
            self.index_credentials_file,
            variable.filter(|text| !text.is_empty()),
            &section.credentials_file,
        ) {
            (Some(path), _, _) => Some(credentials_in(&path)?),
            (None, Some(text), _) => Some(credentials(&text)?),
            (None, None, Some(path)) => Some(credentials_in(path)?),
            (None, None, None) => None,
        };
        let url = self.index_url.or_else(|| section.url.clone());
        let batch_bytes = layered(self.batch_bytes, section.batch_bytes, DEFAULT_BATCH_BYTES);
        let batch_bytes = within("--batch-bytes", batch_bytes.bytes(), 1, MAX_BATCH_BYTES)?;
        let batch_records = layered(self.batch_records, section.batch_records, DEFAULT_BATCH_RECORDS);
        let in_flight = layered(self.in_flight, section.in_flight, DEFAULT_IN_FLIGHT);
        let batch_age = self.batch_age.or(section.batch_age);
        let batch_age = batch_age.map_or(DEFAULT_BATCH_AGE, Span::duration);
        if batch_age > MAX_BATCH_AGE {
            return Err(ExitError::usage("--batch-age: more than 60s"));
        }
        let options = IndexOptions {
            kafka: KafkaSettings {
                brokers: kafka.brokers,
                properties: kafka.properties,
            },
            topic: topics.output,
            dead_letter_topic,
            group_id: self.group.resolve(file, Service::Index)?,
            client: ClientSettings {
                url: url.unwrap_or_else(|| DEFAULT_URL.to_owned()).trim().to_owned(),
                credentials,
                ca_file: self.index_ca_file.or_else(|| section.ca_file.clone()),
            },
            name: index_name(self.index_name.or_else(|| section.name.clone()))?,
            batch_bytes: usize::try_from(batch_bytes).unwrap_or(usize::MAX),
            batch_records: within("--batch-records", batch_records, 1, MAX_BATCH_RECORDS)?,
            batch_age,
            in_flight: within("--in-flight", in_flight, 1, MAX_IN_FLIGHT)?,
            create_template: layered(self.create_template, section.create_template, true),
            exit_at_end: self.exit_at_end,
        };
        Ok(Resolved {
            options,
            http: self.http.resolve(file, Service::Index)?,
            create_topics: self.create_topics.resolve(file)?,
            alerts: self.alerts.resolve(file)?,
            alert_args: self.alerts,
        })
    }
}

/// Makes the topics that are missing, when asked to.
///
/// # Errors
/// The broker cannot be reached or refuses.
pub fn create_missing_topics(options: &IndexOptions, create: CreateTopics) -> Result<(), ExitError> {
    if !create.create {
        return Ok(());
    }
    let spec = |name: &String| TopicSpec {
        name: name.clone(),
        partitions: create.partitions,
        replication_factor: i32::from(create.replication_factor),
    };
    TopicClient::connect(&options.kafka)
        .and_then(|client| client.ensure(&[spec(&options.topic), spec(&options.dead_letter_topic)]))
        .map_err(exit_error)
}

fn dead_letter_topic(given: Option<String>, topics: &Topics) -> Result<String, ExitError> {
    const FLAG: &str = "--index-dead-letter-topic";
    let name = topic_name(
        FLAG,
        given.unwrap_or_else(|| DEFAULT_DEAD_LETTER_TOPIC.to_owned()),
    )?;
    let others = [
        &topics.input,
        &topics.output,
        &topics.dead_letter,
        &topics.insights,
    ];
    if others.contains(&&name) {
        return Err(
            ExitError::usage(format!("{FLAG}: `{name}` is another topic of this software"))
                .with_hint("records that lie here are processed already: they must not be replayed as input"),
        );
    }
    Ok(name)
}

/// OpenSearch's rule for names, and no character that a URL or JSON writes in another way.
fn index_name(given: Option<String>) -> Result<String, ExitError> {
    let name = given.unwrap_or_else(|| DEFAULT_NAME.to_owned());
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
    let is_legal = name.bytes().all(legal) && name.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    if is_legal && name.len() <= MAX_NAME_BYTES {
        return Ok(name);
    }
    Err(
        ExitError::usage(format!("--index-name: `{name}` is no name of an index"))
            .with_hint("use up to 200 of a-z 0-9 _ -, a letter first"),
    )
}

fn within<N: PartialOrd + std::fmt::Display>(
    flag: &str,
    value: N,
    least: N,
    most: N,
) -> Result<N, ExitError> {
    if value < least || value > most {
        return Err(ExitError::usage(format!(
            "{flag}: {value} is not from {least} to {most}"
        )));
    }
    Ok(value)
}

fn credentials_in(path: &Path) -> Result<Credentials, ExitError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        ExitError::usage(format!(
            "--index-credentials-file: cannot read `{}`: {error}",
            path.display()
        ))
    })?;
    credentials(&text).map_err(|error| {
        let what = error.message.trim_start_matches(CREDENTIALS_VARIABLE);
        ExitError::usage(format!("--index-credentials-file: `{}`{what}", path.display()))
    })
}

/// The text is never part of an error.
fn credentials(text: &str) -> Result<Credentials, ExitError> {
    let text = text.trim_end_matches(['\r', '\n']);
    let token = text.strip_prefix("Bearer ").map(str::trim);
    if let Some(token) = token.filter(|token| !token.is_empty()) {
        return Ok(Credentials::Bearer(Secret::new(token)));
    }
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() => Ok(Credentials::Basic {
            user: user.to_owned(),
            password: Secret::new(password),
        }),
        _ => Err(ExitError::usage(format!(
            "{CREDENTIALS_VARIABLE}: the credentials are neither `user:password` nor `Bearer token`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        index: IndexArgs,
    }

    fn resolve(line: &str, file: &str, variable: Option<&str>) -> Result<IndexOptions, ExitError> {
        let cli = Cli::try_parse_from(std::iter::once("index").chain(line.split_whitespace()));
        let cli = cli.map_err(ExitError::usage)?;
        let file = ConfigFile::parse(file, Path::new("ll.toml"))?;
        let resolved = cli.index.resolve_with(&file, variable.map(str::to_owned))?;
        Ok(resolved.options)
    }

    #[test]
    fn flags_win_over_the_file_and_the_file_over_the_defaults() {
        let file = "[index]\nurl = \"https://a:1\"\nbatch-records = 7\nin-flight = 3\nbatch-age = \"1s\"\n";
        let options = resolve("--in-flight 4 --output-topic t", file, None).expect("good");
        assert_eq!((options.in_flight, options.batch_records), (4, 7));
        assert_eq!(options.batch_bytes, 5 << 20);
        assert_eq!(options.client.url, "https://a:1");
        assert_eq!((options.topic.as_str(), options.name.as_str()), ("t", "logins"));
        assert_eq!(options.group_id, "loginlake-index");
        assert!(options.create_template && options.batch_age == Duration::from_secs(1));
        assert!(
            !resolve("--create-template=false", "", None)
                .expect("good")
                .create_template
        );
    }

    #[test]
    fn credentials_are_never_shown() {
        let options = resolve("", "", Some("app:hunter2")).expect("good");
        assert!(matches!(
            options.client.credentials,
            Some(Credentials::Basic { .. })
        ));
        assert!(!format!("{options:?}").contains("hunter2"));
        let error = resolve("", "", Some("hunter2")).expect_err("no credentials");
        assert!(error.message.contains("user:password") && !error.message.contains("hunter2"));
    }

    #[test]
    fn a_credentials_file_that_holds_none_is_named() {
        let error = resolve("--index-credentials-file /dev/null", "", None).expect_err("no credentials");
        assert!(
            error
                .message
                .starts_with("--index-credentials-file: `/dev/null`: the credentials are neither"),
            "{}",
            error.message
        );
    }

    #[test]
    fn wrong_values_are_usage_errors() {
        for line in [
            "--index-name Logins",
            "--index-name a/b",
            "--in-flight 0",
            "--batch-records 0",
            "--batch-bytes 0",
            "--batch-bytes 1GiB",
            "--batch-age 2m",
            "--index-dead-letter-topic user-login",
            "--index-dead-letter-topic user-login-dead-letters",
            "--index-credentials-file no/such/file",
            "--index-credentials-file /dev/null",
        ] {
            let error = resolve(line, "", None).expect_err(line);
            assert_eq!(error.code, loginlake_service::exit::ExitCode::Usage, "{line}");
        }
    }
}
