//! The configuration file: TOML, every key optional, every unknown key an error. What a file does not say is left to
//! the built-in default; what it says, the environment and the flags override.
//!
//! The comments of the fields are read by [`super::keys`]: `What it is; default VALUE.`, the value in back quotes or a
//! number where it is one value, and words otherwise. They become the JSON schema and `docs/CONFIGURATION.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;

use super::alerts::AlertsSection;
use super::choices::{Guarantee, LogFormat, PersonalField, TablePartitioning};
use super::error::ConfigError;
use super::properties::Properties;
use super::rate::Rate;
use super::unknown_keys;
use super::values::{ByteSize, HttpAddress, LogFilter, Span, UtcTime};

/// Everything that a configuration file can say. The keys are the flags' names.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ConfigFile {
    /// Kafka bootstrap servers, `host:port,…`; default `localhost:9092`.
    pub brokers: Option<String>,
    /// Bootstrap servers of the cluster that output goes to; default: the input's.
    pub output_brokers: Option<String>,
    /// Topic that logins are read from; default `user-login`.
    pub input_topic: Option<String>,
    /// Topic that enriched logins go to; default `processed-user-login`.
    pub output_topic: Option<String>,
    /// Topic that rejected records go to; default `user-login-dead-letters`.
    pub dead_letter_topic: Option<String>,
    /// Topic that insights go to; default `login-insights`.
    pub insights_topic: Option<String>,
    /// Whether missing topics are created; default `false`.
    pub create_topics: Option<bool>,
    /// Partitions of a topic that is created; default 4.
    pub partitions: Option<i32>,
    /// Replicas of a topic that is created; default: what the broker says.
    pub replication_factor: Option<i16>,
    /// Where the tables are: a directory, `file://…` or `s3://bucket/prefix`; default `./lake`.
    pub lake: Option<String>,
    /// `text` or `json`; default: text on a terminal, JSON otherwise.
    pub log_format: Option<LogFormat>,
    /// What is logged, in the form of `RUST_LOG`, such as `warn,loginlake=debug`; `RUST_LOG`, `-v` and `-q` win; default: our own
    /// at info, libraries at warn.
    pub log_filter: Option<LogFilter>,
    /// File with the token that HTTP clients have to send; default: none, and only this machine is served.
    pub http_token_file: Option<PathBuf>,
    /// Whether anybody who can reach it may ask HTTP without a token; default `false`.
    pub http_allow_remote: Option<bool>,
    /// Whether anybody who can reach it may have `/metrics` without the token; default `false`.
    pub http_open_metrics: Option<bool>,
    /// Certificate chain for HTTPS, a PEM file; default: none, plain HTTP.
    pub http_tls_cert: Option<PathBuf>,
    /// Private key of that certificate, a PEM file without a password; default: none.
    pub http_tls_key: Option<PathBuf>,
    /// CSV file of regions and divisions; default: the built-in table of US states.
    pub regions: Option<PathBuf>,
    /// Earliest event time that is accepted, a date; default `2015-01-01`.
    pub earliest: Option<UtcTime>,
    /// How far an event time may be ahead of its record's Kafka timestamp, a duration; default `24h`.
    pub max_ahead: Option<Span>,
    /// Address of the schema registry of the input topic; default: none, records are plain JSON.
    pub schema_registry: Option<String>,
    /// File with the credentials for it, `user:password` or `Bearer token`; default: none.
    pub schema_registry_credentials_file: Option<PathBuf>,
    /// OpenTelemetry collector (OTLP over HTTP) that traces are sent to; default: none, no traces.
    pub otlp_endpoint: Option<String>,
    /// Share of the records without a trace of their own that begin one, 0 to 1; default 0.
    pub trace_ratio: Option<f64>,
    /// Receiver of OpenLineage events about ingestion, maintenance and queries; default: none, no events.
    pub openlineage_url: Option<String>,
    /// Namespace of the jobs in these events; default `default`.
    pub openlineage_namespace: Option<String>,
    /// File with the key that this receiver asks for; default: none.
    pub openlineage_api_key_file: Option<PathBuf>,
    /// librdkafka properties of the input's cluster; default: none.
    pub kafka: Properties,
    /// librdkafka properties of the output's cluster; default: those of the input, on the same cluster.
    pub output_kafka: Properties,
    /// `realtime run`.
    pub realtime: RealtimeSection,
    /// `olap ingest`.
    pub ingest: IngestSection,
    /// `olap maintain`, `compact`, `vacuum`.
    pub maintain: MaintainSection,
    /// `olap query`, `shell`, `serve`.
    pub query: QuerySection,
    /// `realtime index`.
    pub index: IndexSection,
    /// `olap serve`; limits of a query are in `[query]`.
    pub serve: ServeSection,
    /// What happens to personal fields.
    pub privacy: PrivacySection,
    /// Alerts by webhook.
    pub alerts: AlertsSection,
}

/// `[realtime]`: the speed path.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct RealtimeSection {
    /// `exactly-once` or `at-least-once`; default `exactly-once`.
    pub guarantee: Option<Guarantee>,
    /// Consumer group; default `loginlake-realtime`.
    pub group_id: Option<String>,
    /// Address of health, metrics and dashboard, or `none`; default `127.0.0.1:8080`.
    pub http: Option<HttpAddress>,
    /// Members of the consumer group in this process; default 1.
    pub workers: Option<u16>,
    /// Good events that are not republished, such as `locale = "RU"`; default: none.
    pub filters: Option<Vec<String>>,
    /// Most records of an instance, such as `50000/s`; a number is per second; default: unlimited.
    pub max_rate: Option<Rate>,
    /// Records after which insights are written, at most once a second; 0: never; default 100.
    pub insights_every: Option<u64>,
    /// Longest time after which insights are written if there were any records, a duration; default `10s`.
    pub insights_interval: Option<Span>,
    /// Directory that insights are written to as well; default: none.
    pub insights_dir: Option<PathBuf>,
    /// Stable, unique name of this instance's transactions; default: group id, host name and HTTP port.
    pub transactional_id: Option<String>,
    /// Longest a transaction stays open before it is committed, a duration; default `400ms`.
    pub transaction_max_age: Option<Span>,
    /// Most records of one transaction; default 200000.
    pub transaction_max_records: Option<u64>,
    /// After how long the broker aborts an abandoned transaction, a duration; default `20s`.
    pub transaction_timeout: Option<Span>,
}

/// `[ingest]`: the batch path.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct IngestSection {
    /// Consumer group, for lag tools only; default `loginlake-olap`.
    pub group_id: Option<String>,
    /// Address of health and metrics, or `none`; default `127.0.0.1:8081`.
    pub http: Option<HttpAddress>,
    /// Longest that a record waits for its commit, a duration; default `10s`.
    pub max_batch_age: Option<Span>,
    /// Most rows of one commit; default 2000000.
    pub max_batch_rows: Option<u64>,
    /// Most buffered bytes of one commit; default: a third of the memory budget.
    pub max_batch_bytes: Option<ByteSize>,
    /// Bytes of everything that waits for a commit; over it consumption pauses; at least `32MiB`; default `64MiB`.
    pub memory_budget: Option<ByteSize>,
    /// How long after the broker got it a record is queryable, 99 of 100, a duration; instead of `max-batch-age`; default:
    /// none.
    pub freshness: Option<Span>,
    /// How long a commit may wait that would add files to more than `late-partitions` table partitions, a duration; default
    /// `60s`.
    pub late_hold: Option<Span>,
    /// How many table partitions are too many for `late-hold`; default 32.
    pub late_partitions: Option<usize>,
    /// `login_date` or `login_date,login_hour`; default `login_date`.
    pub partition_by: Option<TablePartitioning>,
}

/// `[maintain]`: compaction, the batch view, vacuum.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct MaintainSection {
    /// Address of health and metrics, or `none`; default `127.0.0.1:8082`.
    pub http: Option<HttpAddress>,
    /// When small files are rewritten into large ones: a duration, a cron expression in UTC, or `never`; default `5m`.
    pub compact_every: Option<String>,
    /// When `logins_hourly` is refreshed, likewise; default `5m`.
    pub refresh_every: Option<String>,
    /// Size that compaction aims at, bytes; default `256MiB`.
    pub target_file_bytes: Option<ByteSize>,
    /// Bytes that compaction may hold in memory, at least `64MiB`; default `256MiB`.
    pub memory_budget: Option<ByteSize>,
    /// When unreferenced files and expired logs are deleted, likewise; default `24h`.
    pub vacuum_every: Option<String>,
    /// How long unreferenced files are kept, a duration; default `7d`.
    pub vacuum_retention: Option<Span>,
    /// How far back the tables' logs reach, a duration; default `30d`.
    pub log_retention: Option<Span>,
    /// Bytes that wait for compaction above which `olap maintain` is not ready; default `50GiB`.
    pub debt_limit: Option<ByteSize>,
    /// Table partitions that are compacted at the same time; default 1.
    pub jobs: Option<u16>,
    /// Most threads of `olap maintain` that work at the same time; default: one a core.
    pub threads: Option<u16>,
    /// How far `olap maintain` lets other processes go first, 1 to 19 as of nice(1); default: as it is started.
    pub nice: Option<u8>,
    /// How long another `olap maintain` waits after the last sign of life of this one before it takes over, a duration, at least
    /// `2s`; default `30s`.
    pub lease: Option<Span>,
}

/// `[query]`: SQL on the tables.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct QuerySection {
    /// Bytes that a query may hold in memory before it spills; default: 1GiB, `olap serve` 256MiB.
    pub memory_limit: Option<ByteSize>,
    /// Longest that a query may run, a duration; default: unlimited, `olap serve` 30s.
    pub timeout: Option<Span>,
    /// Most rows of a result; default: 10000 in a table, else unlimited, `olap serve` 100000.
    pub max_rows: Option<u64>,
    /// Directory for temporary files of queries that need more than their memory; default: the system's.
    pub spill_directory: Option<PathBuf>,
    /// Bytes that these files may hold together; default `16GiB`.
    pub max_spill: Option<ByteSize>,
}

/// `[serve]`: SQL files as an HTTP API.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct ServeSection {
    /// Address of the API, health and metrics; default `127.0.0.1:8084`.
    pub http: Option<HttpAddress>,
    /// Address of Arrow Flight SQL, on loopback or with a token; default: it is not served.
    pub flight_sql: Option<std::net::SocketAddr>,
    /// Directory of the SQL files; default `sql`.
    pub queries: Option<PathBuf>,
    /// File with the token that clients of `olap serve` have to send; default: `http-token-file`.
    pub token_file: Option<PathBuf>,
    /// Queries that run at once; default 4.
    pub max_queries: Option<u16>,
    /// Bytes of an answer; default `32MiB`.
    pub max_answer_bytes: Option<ByteSize>,
    /// Whether answers may have the records of the topic that the table does not hold yet; default `false`.
    pub fresh: Option<bool>,
}

/// `[index]`: processed logins in OpenSearch.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct IndexSection {
    /// Address of OpenSearch, without credentials; default `http://127.0.0.1:9200`.
    pub url: Option<String>,
    /// File with the credentials for it, `user:password` or `Bearer token`; default: none.
    pub credentials_file: Option<PathBuf>,
    /// File with the certificates of the authorities that its certificate may be of, PEM; default: those of the system.
    pub ca_file: Option<PathBuf>,
    /// Alias of all indices, and the beginning of their names; default `logins`.
    pub name: Option<String>,
    /// Consumer group; default `loginlake-index`.
    pub group_id: Option<String>,
    /// Address of health and metrics, or `none`; default `127.0.0.1:8083`.
    pub http: Option<HttpAddress>,
    /// Largest bulk request, bytes; default `5MiB`.
    pub batch_bytes: Option<ByteSize>,
    /// Most records of a bulk request; default 5000.
    pub batch_records: Option<usize>,
    /// Longest that a record waits for others, a duration; default `500ms`.
    pub batch_age: Option<Span>,
    /// Most bulk requests on their way at once; default 2.
    pub in_flight: Option<usize>,
    /// Topic that records go to which OpenSearch cannot take; default `user-login-index-dead-letters`.
    pub dead_letter_topic: Option<String>,
    /// Whether the index template is installed when it is missing or older; default `true`.
    pub create_template: Option<bool>,
}

/// `[privacy]`: what happens to personal fields before they are written anywhere.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct PrivacySection {
    /// File that holds the key of the pseudonyms; default: none.
    pub key_file: Option<PathBuf>,
    /// Fields that are replaced by keyed pseudonyms: `user_id`, `device_id`, `ip`; default: none.
    pub pseudonymise: Option<Vec<PersonalField>>,
    /// Whether the host part of `ip` is set to zero; default `false`.
    pub mask_ip: Option<bool>,
}

impl ConfigFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It cannot be read, is not TOML, has an unknown key (with the nearest known one as the hint), or a value of the
    /// wrong kind. Each names the file, and the line where there is one.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Like [`ConfigFile::load`] for a text that is already here; `path` is for the messages.
    ///
    /// # Errors
    /// As [`ConfigFile::load`], but for reading.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        unknown_keys::check(text, path, &Self::known_keys())?;
        toml::from_str(text).map_err(|error| ConfigError::from_toml(&error, text, path))
    }

    /// The keys of each table of the file; the top level is the table `""`. Tables of free properties are not in it.
    pub(super) fn known_keys() -> BTreeMap<&'static str, &'static [&'static str]> {
        BTreeMap::from([
            ("", unknown_keys::field_names::<Self>()),
            ("realtime", unknown_keys::field_names::<RealtimeSection>()),
            ("ingest", unknown_keys::field_names::<IngestSection>()),
            ("maintain", unknown_keys::field_names::<MaintainSection>()),
            ("query", unknown_keys::field_names::<QuerySection>()),
            ("index", unknown_keys::field_names::<IndexSection>()),
            ("serve", unknown_keys::field_names::<ServeSection>()),
            ("privacy", unknown_keys::field_names::<PrivacySection>()),
            ("alerts", unknown_keys::field_names::<AlertsSection>()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, ConfigError> {
        ConfigFile::parse(text, Path::new("ll.toml"))
    }

    fn message_and_hint(text: &str) -> (String, Option<String>) {
        let error = parse(text).expect_err("a broken file");
        (error.to_string(), error.hint())
    }

    #[test]
    fn an_empty_file_says_nothing() {
        let file = parse("").expect("an empty file");
        assert!(file.brokers.is_none() && file.kafka.is_empty() && file.realtime.guarantee.is_none());
    }

    #[test]
    fn every_kind_of_value_is_read() {
        let file = parse(
            r#"
            brokers = "a:1,b:2"
            earliest = 2020-02-03
            max-ahead = "1h"
            log-format = "json"
            [kafka]
            security.protocol = "SASL_SSL"
            "sasl.password" = "secret"
            linger.ms = 5
            enable.ssl.certificate.verification = true
            [realtime]
            guarantee = "at-least-once"
            http = "none"
            filters = ['locale = "RU"']
            max-rate = "3000000/min"
            [ingest]
            memory-budget = "64MiB"
            max-batch-bytes = 1000
            partition-by = "login_date,login_hour"
            [privacy]
            pseudonymise = ["user_id", "ip"]
            "#,
        )
        .expect("a good file");
        assert_eq!(file.earliest, Some("2020-02-03".parse().expect("a date")));
        assert_eq!(file.max_ahead, Some(Span::from_secs(3600)));
        assert_eq!(file.log_format, Some(LogFormat::Json));
        let properties: Vec<_> = file.kafka.iter().collect();
        assert_eq!(
            properties,
            [
                ("enable.ssl.certificate.verification", "true"),
                ("linger.ms", "5"),
                ("sasl.password", "secret"),
                ("security.protocol", "SASL_SSL"),
            ]
        );
        assert_eq!(file.realtime.guarantee, Some(Guarantee::AtLeastOnce));
        assert_eq!(file.realtime.http, Some(HttpAddress::Off));
        assert_eq!(file.realtime.max_rate, "3000000/min".parse().ok());
        assert_eq!(file.ingest.memory_budget, Some(ByteSize::from_mib(64)));
        assert_eq!(file.ingest.max_batch_bytes, Some(ByteSize::from_bytes(1000)));
        assert_eq!(file.ingest.partition_by, Some(TablePartitioning::DateAndHour));
        assert_eq!(
            file.privacy.pseudonymise,
            Some(vec![PersonalField::UserId, PersonalField::Ip])
        );
        assert!(
            !format!("{file:?}").contains("secret"),
            "secrets stay out of debug output"
        );
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
        assert_eq!(
            message_and_hint("lake = \"x\"\nbroker = \"a:1\"\n"),
            (
                "ll.toml:2: unknown key `broker`".to_owned(),
                Some("did you mean `brokers`?".to_owned())
            )
        );
        assert_eq!(
            message_and_hint("[ingest]\nhttp = \"none\"\nmax_batch_age = \"1s\"\n"),
            (
                "ll.toml:3: unknown key `max_batch_age` in [ingest]".to_owned(),
                Some("did you mean `max-batch-age`?".to_owned())
            )
        );
        assert_eq!(
            message_and_hint("[realtim]\n").1.as_deref(),
            Some("did you mean `realtime`?"),
            "a section, too"
        );
        assert_eq!(
            message_and_hint("max-batch-age = \"1s\"\n").1.as_deref(),
            Some("`max-batch-age` belongs in [ingest]"),
            "a key of another table"
        );
        let (message, hint) = message_and_hint("zzzzzzzz = 1\n");
        assert_eq!(message, "ll.toml:1: unknown key `zzzzzzzz`");
        assert!(
            hint.expect("a hint").contains("brokers"),
            "nothing near: the known keys are listed"
        );
    }

    #[test]
    fn a_wrong_value_is_named_with_its_line_and_what_is_accepted() {
        let (message, _) = message_and_hint("\n[ingest]\nmax-batch-age = \"10\"\n");
        assert!(
            message.starts_with("ll.toml:3: `10` is not a duration"),
            "{message}"
        );
        let (message, _) = message_and_hint("[ingest]\nmemory-budget = true\n");
        assert!(message.starts_with("ll.toml:2: expected a size"), "{message}");
        let (message, _) = message_and_hint("[realtime]\nmax-rate = 0\n");
        assert!(message.starts_with("ll.toml:2: `0` is not a rate"), "{message}");
        let (message, _) = message_and_hint("lake = \"x\nbrokers = 1");
        assert!(message.starts_with("ll.toml:1: "), "{message}");
        let (message, _) = message_and_hint("realtime = 3");
        assert!(message.starts_with("ll.toml:1: "), "{message}");
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let error = ConfigFile::load(Path::new("no/such/file.toml")).expect_err("no file");
        assert!(error.to_string().contains("no/such/file.toml"), "{error}");
    }
}
