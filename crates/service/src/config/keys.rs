//! Every key of the configuration file with its flag, its variable, its kind, its default and its meaning: one list for the
//! documentation, for the schema, for `--print-config` and for what can be changed while a service runs.
//!
//! Kind, default and meaning come from the structs that read the file; a test holds that both know the same keys, and a
//! test of each program that its flags and variables are those of this list.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::file::ConfigFile;
use super::schema;

/// A key as the programs know it. An empty text is: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// `section.name`, or the name alone at the top of the file.
    path: &'static str,
    /// Its flag, without the hyphens.
    flag: &'static str,
    /// Its variable, without `LOGINLAKE_`; the whole name behind a `=` where it is another one.
    variable: &'static str,
    /// Whether a running service takes a new value after SIGHUP.
    is_live: bool,
    /// Whether its value is not to be shown.
    is_secret: bool,
}

const fn row(path: &'static str, flag: &'static str, variable: &'static str) -> Row {
    Row {
        path,
        flag,
        variable,
        is_live: false,
        is_secret: false,
    }
}

impl Row {
    const fn live(mut self) -> Self {
        self.is_live = true;
        self
    }
}

const ROWS: &[Row] = &[
    row("brokers", "brokers", "BROKERS"),
    row("output-brokers", "output-brokers", "OUTPUT_BROKERS"),
    row("input-topic", "input-topic", "INPUT_TOPIC"),
    row("output-topic", "output-topic", "OUTPUT_TOPIC"),
    row("dead-letter-topic", "dead-letter-topic", "DEAD_LETTER_TOPIC"),
    row("insights-topic", "insights-topic", "INSIGHTS_TOPIC"),
    row("create-topics", "create-topics", "CREATE_TOPICS"),
    row("partitions", "partitions", "PARTITIONS"),
    row("replication-factor", "replication-factor", "REPLICATION_FACTOR"),
    row("lake", "lake", "LAKE"),
    row("log-format", "log-format", "LOG_FORMAT"),
    row("log-filter", "", "").live(),
    row("http-token-file", "http-token-file", "HTTP_TOKEN_FILE"),
    row("http-allow-remote", "http-allow-remote", "HTTP_ALLOW_REMOTE"),
    row("http-open-metrics", "http-open-metrics", "HTTP_OPEN_METRICS"),
    row("http-tls-cert", "http-tls-cert", "HTTP_TLS_CERT"),
    row("http-tls-key", "http-tls-key", "HTTP_TLS_KEY"),
    row("regions", "regions", "REGIONS"),
    row("earliest", "earliest", "EARLIEST"),
    row("max-ahead", "max-ahead", "MAX_AHEAD"),
    row("schema-registry", "schema-registry", "SCHEMA_REGISTRY"),
    row(
        "schema-registry-credentials-file",
        "schema-registry-credentials-file",
        "SCHEMA_REGISTRY_CREDENTIALS_FILE",
    ),
    row("otlp-endpoint", "otlp-endpoint", "=OTEL_EXPORTER_OTLP_ENDPOINT"),
    row("trace-ratio", "trace-ratio", "=OTEL_TRACES_SAMPLER_ARG"),
    row("openlineage-url", "openlineage-url", "=OPENLINEAGE_URL"),
    row(
        "openlineage-namespace",
        "openlineage-namespace",
        "=OPENLINEAGE_NAMESPACE",
    ),
    row(
        "openlineage-api-key-file",
        "openlineage-api-key-file",
        "=OPENLINEAGE_API_KEY_FILE",
    ),
    row("kafka", "kafka-property", "KAFKA_…"),
    row("output-kafka", "output-kafka-property", "OUTPUT_KAFKA_…"),
    row("realtime.guarantee", "guarantee", "GUARANTEE"),
    row("realtime.group-id", "group-id", "GROUP_ID"),
    row("realtime.http", "http", "HTTP"),
    row("realtime.workers", "workers", "WORKERS"),
    row("realtime.filters", "drop", "DROP").live(),
    row("realtime.max-rate", "max-rate", "MAX_RATE"),
    row("realtime.insights-every", "insights-every", "INSIGHTS_EVERY"),
    row(
        "realtime.insights-interval",
        "insights-interval",
        "INSIGHTS_INTERVAL",
    ),
    row("realtime.insights-dir", "insights-dir", "INSIGHTS_DIR"),
    row(
        "realtime.transactional-id",
        "transactional-id",
        "TRANSACTIONAL_ID",
    ),
    row(
        "realtime.transaction-max-age",
        "transaction-max-age",
        "TRANSACTION_MAX_AGE",
    ),
    row("realtime.transaction-max-records", "", ""),
    row("realtime.transaction-timeout", "", ""),
    row("ingest.group-id", "group-id", "GROUP_ID"),
    row("ingest.http", "http", "HTTP"),
    row("ingest.max-batch-age", "max-batch-age", "MAX_BATCH_AGE"),
    row("ingest.max-batch-rows", "max-batch-rows", "MAX_BATCH_ROWS"),
    row("ingest.max-batch-bytes", "max-batch-bytes", "MAX_BATCH_BYTES"),
    row("ingest.memory-budget", "memory-budget", "MEMORY_BUDGET"),
    row("ingest.freshness", "freshness", "FRESHNESS"),
    row("ingest.late-hold", "late-hold", "LATE_HOLD"),
    row("ingest.late-partitions", "late-partitions", "LATE_PARTITIONS"),
    row("ingest.partition-by", "partition-by", "PARTITION_BY"),
    row("maintain.http", "http", "HTTP"),
    row("maintain.compact-every", "compact-every", "COMPACT_EVERY"),
    row("maintain.refresh-every", "refresh-every", "REFRESH_EVERY"),
    row(
        "maintain.target-file-bytes",
        "target-file-bytes",
        "TARGET_FILE_BYTES",
    ),
    row("maintain.memory-budget", "memory-budget", ""),
    row("maintain.vacuum-every", "vacuum-every", "VACUUM_EVERY"),
    row("maintain.vacuum-retention", "retention", ""),
    row("maintain.log-retention", "log-retention", ""),
    row("maintain.debt-limit", "debt-limit", ""),
    row("maintain.jobs", "jobs", ""),
    row("maintain.threads", "threads", "THREADS"),
    row("maintain.nice", "nice", "NICE"),
    row("maintain.lease", "lease", ""),
    row("query.memory-limit", "memory-limit", "QUERY_MEMORY_LIMIT"),
    row("query.timeout", "timeout", "QUERY_TIMEOUT"),
    row("query.max-rows", "max-rows", ""),
    row("query.spill-directory", "spill-directory", ""),
    row("query.max-spill", "max-spill", ""),
    row("index.url", "index-url", "INDEX_URL"),
    row(
        "index.credentials-file",
        "index-credentials-file",
        "INDEX_CREDENTIALS_FILE",
    ),
    row("index.ca-file", "index-ca-file", "INDEX_CA_FILE"),
    row("index.name", "index-name", "INDEX_NAME"),
    row("index.group-id", "group-id", "GROUP_ID"),
    row("index.http", "http", "HTTP"),
    row("index.batch-bytes", "batch-bytes", "INDEX_BATCH_BYTES"),
    row("index.batch-records", "batch-records", "INDEX_BATCH_RECORDS"),
    row("index.batch-age", "batch-age", "INDEX_BATCH_AGE"),
    row("index.in-flight", "in-flight", "INDEX_IN_FLIGHT"),
    row(
        "index.dead-letter-topic",
        "index-dead-letter-topic",
        "INDEX_DEAD_LETTER_TOPIC",
    ),
    row(
        "index.create-template",
        "create-template",
        "INDEX_CREATE_TEMPLATE",
    ),
    row("serve.http", "http", "HTTP"),
    row("serve.flight-sql", "flight-sql", "FLIGHT_SQL"),
    row("serve.queries", "queries", "QUERIES"),
    row("serve.token-file", "token-file", "SERVE_TOKEN_FILE"),
    row("serve.max-queries", "max-queries", ""),
    row("serve.max-answer-bytes", "max-answer-bytes", ""),
    row("serve.fresh", "fresh", ""),
    row("privacy.key-file", "pseudonym-key-file", "PSEUDONYM_KEY_FILE"),
    row("privacy.pseudonymise", "pseudonymise", "PSEUDONYMISE"),
    row("privacy.mask-ip", "mask-ip", "MASK_IP"),
    row("alerts.webhook-file", "alert-webhook-file", "ALERT_WEBHOOK_FILE"),
    row("alerts.off", "alert-off", "ALERT_OFF").live(),
    row("alerts.after", "alert-after", "ALERT_AFTER").live(),
    row("alerts.repeat", "alert-repeat", "ALERT_REPEAT").live(),
    row("alerts.window", "alert-window", "ALERT_WINDOW").live(),
    row("alerts.lag", "alert-lag", "ALERT_LAG").live(),
    row("alerts.lag-records", "alert-lag-records", "ALERT_LAG_RECORDS").live(),
    row(
        "alerts.dead-letter-share",
        "alert-dead-letter-share",
        "ALERT_DEAD_LETTER_SHARE",
    )
    .live(),
    row(
        "alerts.publish-delay",
        "alert-publish-delay",
        "ALERT_PUBLISH_DELAY",
    )
    .live(),
    row("alerts.commit-delay", "alert-commit-delay", "ALERT_COMMIT_DELAY").live(),
    row(
        "alerts.compaction-debt",
        "alert-compaction-debt",
        "ALERT_COMPACTION_DEBT",
    )
    .live(),
    row("alerts.no-data", "alert-no-data", "ALERT_NO_DATA").live(),
];

/// What a service is told on its command line only, and why the file has no key for it.
pub const FLAGS_WITHOUT_KEY: &[(&str, &str)] = &[
    ("config", "names the file itself"),
    (
        "alert-webhook",
        "the address may be a secret; `webhook-file` in `[alerts]` is the key",
    ),
    ("print-config", "asks for the settings and nothing else"),
    ("verbose", "more logs of this run; `log-filter` is the key"),
    ("quiet", "fewer logs of this run; `log-filter` is the key"),
    ("exit-at-end", "ends this run"),
    (
        "from-timestamp",
        "where this run begins, in a lake that has nothing of the topic yet",
    ),
    ("until-timestamp", "where this run ends"),
    (
        "only-date",
        "a lake of one date, which is decided when the lake is made",
    ),
    ("accept-gap", "accepts one loss, once"),
    ("once", "ends this run after one round"),
];

/// Variables that stand for themselves: no flag and no key, so that no secret is seen in a process list.
pub const SECRET_VARIABLES: &[(&str, &str)] = &[
    (
        "LOGINLAKE_PSEUDONYM_KEY",
        "the key of the pseudonyms itself, instead of `privacy.key-file`",
    ),
    (
        "LOGINLAKE_SCHEMA_REGISTRY_CREDENTIALS",
        "the registry's credentials, instead of `schema-registry-credentials-file`",
    ),
    (
        "LOGINLAKE_INDEX_CREDENTIALS",
        "OpenSearch's credentials, instead of `index.credentials-file`",
    ),
    (
        "LOGINLAKE_SERVE_TOKEN",
        "the token of `olap serve`, instead of `serve.token-file`",
    ),
    (
        "LOGINLAKE_HTTP_TOKEN",
        "the token of HTTP itself, instead of `http-token-file`",
    ),
    (
        "LOGINLAKE_ALERT_WEBHOOK",
        "the URL itself that alerts are posted to, instead of `alerts.webhook-file`",
    ),
    (
        "OPENLINEAGE_API_KEY",
        "the key of the receiver of lineage itself, instead of `openlineage-api-key-file`",
    ),
];

/// How a value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A number of bytes, with or without a unit.
    Size,
    /// A length of time with its unit.
    Duration,
    /// A date or a point in time.
    Time,
    /// So many records in a time.
    Rate,
    /// Where to listen, or `none`.
    Address,
    /// What is logged.
    LogFilter,
    /// One of these words.
    Choice(Vec<String>),
    /// A list of texts; of these words, where there are any.
    List(Vec<String>),
    /// A table of librdkafka properties.
    Properties,
}

impl Kind {
    /// How it is written, for a person.
    pub fn describe(&self) -> String {
        match self {
            Self::Text => "text".to_owned(),
            Self::Bool => "`true` or `false`".to_owned(),
            Self::Integer => "whole number".to_owned(),
            Self::Number => "number".to_owned(),
            Self::Size => "bytes: `256MiB`, `1GB`, a number".to_owned(),
            Self::Duration => "duration: `500ms`, `10s`, `2m`, `1h`, `7d`".to_owned(),
            Self::Time => "date: `2015-01-01`, or RFC 3339".to_owned(),
            Self::Rate => "rate: `50000/s`, `3000000/min`".to_owned(),
            Self::Address => "address: `127.0.0.1:8080`, or `none`".to_owned(),
            Self::LogFilter => "filter of logs".to_owned(),
            Self::Choice(words) => quoted(words),
            Self::List(words) if words.is_empty() => "list of texts".to_owned(),
            Self::List(words) => format!("list of {}", quoted(words)),
            Self::Properties => "table of librdkafka properties".to_owned(),
        }
    }

    fn of(schema: &Value, definitions: &Value) -> Self {
        if let Some(name) = schema::reference_in(schema) {
            return Self::of(&definitions[name], definitions);
        }
        match schema["x-kind"].as_str() {
            Some("size") => return Self::Size,
            Some("duration") => return Self::Duration,
            Some("time") => return Self::Time,
            Some("rate") => return Self::Rate,
            Some("address") => return Self::Address,
            Some("filter of logs") => return Self::LogFilter,
            Some("properties") => return Self::Properties,
            _ => {}
        }
        let words = words_of(schema);
        if !words.is_empty() {
            return Self::Choice(words);
        }
        match schema["type"].as_str() {
            Some("boolean") => Self::Bool,
            Some("integer") => Self::Integer,
            Some("number") => Self::Number,
            Some("array") => match Self::of(&schema["items"], definitions) {
                Self::Choice(words) => Self::List(words),
                _ => Self::List(Vec::new()),
            },
            _ => Self::Text,
        }
    }
}

fn words_of(schema: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of = |name: &str| schema[name].as_array().cloned().unwrap_or_default();
    let mut words: Vec<String> = of("enum").iter().filter_map(text).collect();
    words.extend(of("oneOf").iter().flat_map(words_of));
    words.extend(text(&schema["const"]));
    words
}

fn quoted(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

/// What holds where nobody says anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preset {
    /// This text, number or truth.
    Value(Value),
    /// What cannot be written as a value.
    Words(String),
}

impl Preset {
    /// As JSON, where it is a value.
    pub fn json(&self) -> Option<Value> {
        match self {
            Self::Value(value) => Some(value.clone()),
            Self::Words(_) => None,
        }
    }

    /// For a person.
    pub fn describe(&self) -> String {
        match self {
            Self::Value(Value::String(text)) => format!("`{text}`"),
            Self::Value(value) => format!("`{value}`"),
            Self::Words(words) => words.clone(),
        }
    }
}

/// A key of the configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its table; empty at the top.
    pub section: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// Its flag, without hyphens.
    pub flag: Option<&'static str>,
    /// Its variable; one that ends in `…` stands for all that begin so.
    pub variable: Option<String>,
    /// Whether a running service takes a new value after SIGHUP.
    pub is_live: bool,
    /// Whether its value is not to be shown.
    pub is_secret: bool,
    /// How it is written.
    pub kind: Kind,
    /// What it is when nobody says anything.
    pub default: Preset,
    /// What it is for.
    pub meaning: String,
}

impl Key {
    /// `section.name`, or the name alone.
    pub fn path(&self) -> String {
        match self.section {
            "" => self.name.to_owned(),
            section => format!("{section}.{}", self.name),
        }
    }
}

/// All keys, in the order of the file's structs.
pub fn all() -> &'static [Key] {
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let mut schema = schema::bare_schema();
        let definitions = schema["definitions"].clone();
        let known = ConfigFile::known_keys();
        let names = |section: &str| known.get(section).copied().unwrap_or_default();
        let is_section = |name: &str| known.contains_key(name);
        let top = names("")
            .iter()
            .filter(|name| !is_section(name))
            .map(|name| ("", *name));
        let below = names("")
            .iter()
            .flat_map(|section| names(section).iter().map(|name| (*section, *name)));
        let rows: BTreeMap<&str, &Row> = ROWS.iter().map(|row| (row.path, row)).collect();
        let all: Vec<(&'static str, &'static str)> = top.chain(below).collect();
        all.into_iter()
            .filter_map(|(section, name)| {
                let property = schema::property_of(schema.as_object_mut()?, section, name)?;
                Some(key(
                    section,
                    name,
                    &rows,
                    &Value::Object(property.clone()),
                    &definitions,
                ))
            })
            .collect()
    })
}

fn key(
    section: &'static str,
    name: &'static str,
    rows: &BTreeMap<&str, &Row>,
    property: &Value,
    definitions: &Value,
) -> Key {
    let path = match section {
        "" => name.to_owned(),
        section => format!("{section}.{name}"),
    };
    let row = rows.get(path.as_str()).copied();
    let said = |text: &'static str| (!text.is_empty()).then_some(text);
    let description = property["description"].as_str().unwrap_or_default();
    let kind = Kind::of(property, definitions);
    let (meaning, default) = meaning_and_default(description);
    Key {
        section,
        name,
        flag: row.and_then(|row| said(row.flag)),
        variable: row
            .and_then(|row| said(row.variable))
            .map(|name| match name.strip_prefix('=') {
                Some(whole) => whole.to_owned(),
                None => format!("LOGINLAKE_{name}"),
            }),
        is_live: row.is_some_and(|row| row.is_live),
        is_secret: row.is_some_and(|row| row.is_secret),
        kind,
        default,
        meaning,
    }
}

/// `What it is; default VALUE.` taken apart.
fn meaning_and_default(description: &str) -> (String, Preset) {
    let text = description.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.trim_end_matches('.');
    let Some((meaning, default)) = text.rsplit_once("; default") else {
        return (text.to_owned(), Preset::Words(String::new()));
    };
    let default = default.trim_start_matches(':').trim();
    let literal = default
        .strip_prefix('`')
        .and_then(|rest| rest.strip_suffix('`'))
        .filter(|inner| !inner.contains('`'));
    let number = default.parse::<u64>().map(Value::from);
    let number = number.or_else(|_| default.parse::<f64>().map(Value::from));
    let preset = match (literal, number) {
        (Some("true"), _) => Preset::Value(true.into()),
        (Some("false"), _) => Preset::Value(false.into()),
        (Some(text), _) => Preset::Value(text.into()),
        (None, Ok(number)) => Preset::Value(number),
        (None, Err(_)) => Preset::Words(default.to_owned()),
    };
    (meaning.to_owned(), preset)
}

/// A file that says what holds anyway: the defaults of these sections, as far as they are values.
pub fn defaults_toml(sections: &[&str]) -> String {
    let mut text = String::new();
    for section in sections {
        if !section.is_empty() {
            text.push_str(&format!("[{section}]\n"));
        }
        for key in all().iter().filter(|key| key.section == *section) {
            if let Some(value) = key.default.json() {
                text.push_str(&format!("{} = {value}\n", key.name));
            }
        }
    }
    text
}

/// The keys that differ between two files, by path. A table of properties is one key.
pub fn changed(before: &str, after: &str) -> Vec<String> {
    let parsed = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
    let (before, after) = (parsed(before), parsed(after));
    let value = |table: &toml::Table, key: &Key| match key.section {
        "" => table.get(key.name).cloned(),
        section => table.get(section)?.get(key.name).cloned(),
    };
    all()
        .iter()
        .filter(|key| value(&before, key) != value(&after, key))
        .map(Key::path)
        .collect()
}

/// The sections that a command reads, and whether it reads all of their keys or those only for which it has a flag.
fn sections_of(path: &[&str]) -> &'static [(&'static str, bool)] {
    match path {
        ["realtime", "run" | "check"] => &[("realtime", true), ("privacy", true), ("alerts", true)],
        ["realtime", "index"] => &[("index", true), ("alerts", true)],
        ["olap", "ingest" | "check"] => &[("ingest", true), ("privacy", true), ("alerts", true)],
        ["olap", "maintain"] => &[("maintain", true), ("alerts", true)],
        ["olap", "compact" | "vacuum" | "refresh"] => &[("maintain", false)],
        ["olap", "query" | "shell"] => &[("query", true), ("privacy", true)],
        ["olap", "serve"] => &[("serve", true), ("query", true), ("privacy", true)],
        _ => &[("privacy", false)],
    }
}

/// The keys that a command reads. `path` is its name with those of its parents, `has_flag` whether it has such a flag.
pub fn of_command<'a>(
    path: &[&str],
    has_flag: impl Fn(&str) -> bool + 'a,
) -> impl Iterator<Item = &'static Key> + 'a {
    let sections = sections_of(path);
    all().iter().filter(move |key| {
        let flagged = key.flag.is_some_and(&has_flag);
        match key.section {
            "" => flagged || key.name == "log-filter",
            section => sections
                .iter()
                .any(|(name, whole)| *name == section && (flagged || *whole)),
        }
    })
}

/// What is wrong between this list and a service's command: flags without a key or a reason, and other variables than the
/// list says. Empty: nothing.
pub fn disagreements(path: &[&str], command: &clap::Command) -> Vec<String> {
    let has_flag = |flag: &str| command.get_arguments().any(|arg| arg.get_long() == Some(flag));
    let keys: Vec<&Key> = of_command(path, has_flag).collect();
    let mut wrong = Vec::new();
    for argument in command.get_arguments() {
        let Some(flag) = argument
            .get_long()
            .filter(|flag| !matches!(*flag, "help" | "version"))
        else {
            continue;
        };
        let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
        match keys.iter().find(|key| key.flag == Some(flag)) {
            Some(key) => {
                let listed = key.variable.clone().filter(|name| !name.ends_with('…'));
                if listed != variable {
                    wrong.push(format!(
                        "--{flag}: {variable:?} here, and {listed:?} in the list of keys"
                    ));
                }
            }
            None if FLAGS_WITHOUT_KEY.iter().any(|(name, _)| *name == flag) => {}
            None => wrong.push(format!("--{flag} has neither a key nor a reason why it has none")),
        }
    }
    for key in keys {
        if let Some(flag) = key.flag
            && key.section != "privacy"
            && key.section != "query"
            && !has_flag(flag)
        {
            wrong.push(format!(
                "{} is said to be --{flag}, which is not there",
                key.path()
            ));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_list_has_the_keys_of_the_file_and_no_others() {
        let known: BTreeSet<String> = all().iter().map(Key::path).collect();
        let listed: BTreeSet<String> = ROWS.iter().map(|row| row.path.to_owned()).collect();
        assert_eq!(listed.len(), ROWS.len(), "a key is there twice");
        assert_eq!(known, listed);
    }

    #[test]
    fn every_key_has_a_meaning_and_a_default() {
        for key in all() {
            let what = key.path();
            assert!(!key.meaning.is_empty(), "{what} has no meaning");
            assert_ne!(key.default, Preset::Words(String::new()), "{what} has no default");
        }
    }

    /// All defaults together, written into a file, are a good file.
    #[test]
    fn every_default_is_a_value_of_its_key() {
        for key in all() {
            let Some(value) = key.default.json() else { continue };
            let text = match key.section {
                "" => format!("{} = {value}\n", key.name),
                section => format!("[{section}]\n{} = {value}\n", key.name),
            };
            ConfigFile::parse(&text, std::path::Path::new("defaults.toml")).expect(&text);
        }
    }

    #[test]
    fn kinds_are_read_out_of_the_schema() {
        let kind = |path: &str| {
            let key = all().iter().find(|key| key.path() == path).expect(path);
            key.kind.clone()
        };
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(kind("brokers"), Kind::Text);
        assert_eq!(kind("partitions"), Kind::Integer);
        assert_eq!(kind("max-ahead"), Kind::Duration);
        assert_eq!(kind("earliest"), Kind::Time);
        assert_eq!(kind("create-topics"), Kind::Bool);
        assert_eq!(kind("log-format"), Kind::Choice(words(&["text", "json"])));
        assert_eq!(kind("log-filter"), Kind::LogFilter);
        assert_eq!(kind("kafka"), Kind::Properties);
        assert_eq!(kind("realtime.http"), Kind::Address);
        assert_eq!(kind("realtime.max-rate"), Kind::Rate);
        assert_eq!(kind("realtime.filters"), Kind::List(Vec::new()));
        assert_eq!(kind("ingest.memory-budget"), Kind::Size);
        assert_eq!(
            kind("ingest.partition-by"),
            Kind::Choice(words(&["login_date", "login_date,login_hour"]))
        );
        assert_eq!(
            kind("privacy.pseudonymise"),
            Kind::List(words(&["user_id", "device_id", "ip"]))
        );
    }

    #[test]
    fn a_default_is_a_value_or_words() {
        let of = |text| meaning_and_default(text).1;
        assert_eq!(of("x; default 4."), Preset::Value(4.into()));
        assert_eq!(of("x; default `10s`."), Preset::Value("10s".into()));
        assert_eq!(of("x; default `false`."), Preset::Value(false.into()));
        assert_eq!(
            of("x; 0: never; default: a `b` and a `c`."),
            Preset::Words("a `b` and a `c`".to_owned())
        );
    }

    #[test]
    fn what_differs_between_two_files_is_named() {
        let before = "lake = \"a\"\n[kafka]\nlinger.ms = 5\n[realtime]\nworkers = 2\n";
        let after = "lake = \"a\"\n[kafka]\nlinger.ms = 6\n[realtime]\nfilters = ['locale = \"RU\"']\n";
        assert_eq!(
            changed(before, after),
            ["kafka", "realtime.workers", "realtime.filters"]
        );
        assert!(changed(before, before).is_empty());
    }
}
