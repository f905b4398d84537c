//! Arguments and configuration of `realtime run` into what a run is told.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use loginlake_events::filter::DropFilters;
use loginlake_kafka::KafkaSettings;
use loginlake_kafka::topics::{TopicSpec, Topics as TopicClient};
use loginlake_service::config::{
    AlertArgs, AlertSettings, ConfigFile, ContractArgs, CreateTopics, CreateTopicsArgs, GroupArgs, Guarantee,
    HttpArgs, HttpBind, KafkaArgs, OutputKafkaArgs, Rate, ResolvedKafka, SchemaRegistryArgs, Service, Span,
    TopicArgs, layered,
};
use loginlake_service::exit::ExitError;
use loginlake_service::{contract, reload};

use crate::run::{
    DEFAULT_TRANSACTION_MAX_AGE, DEFAULT_TRANSACTION_MAX_RECORDS, DEFAULT_TRANSACTION_TIMEOUT, LiveFilters,
    RunOptions, exit_error,
};

/// Arguments of `realtime run`.
#[derive(Args, Debug)]
pub struct RunArgs {
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
    contract: ContractArgs,
    #[command(flatten)]
    schema_registry: SchemaRegistryArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    alerts: AlertArgs,
    /// What is guaranteed [default: exactly-once]
    #[arg(
        long,
        env = "LOGINLAKE_GUARANTEE",
        hide_env_values = true,
        value_name = "GUARANTEE"
    )]
    guarantee: Option<Guarantee>,
    /// Good events that are not republished, such as 'locale = "RU"', 'device_type missing', 'app_version < 2.0.0'; repeatable
    #[arg(
        long = "drop",
        env = "LOGINLAKE_DROP",
        hide_env_values = true,
        value_name = "FILTER",
        value_delimiter = ';'
    )]
    filters: Option<Vec<String>>,
    /// Most records of this instance, such as 50000/s or 3000000/min, for replays beside live consumers [default: unlimited]
    #[arg(long, env = "LOGINLAKE_MAX_RATE", hide_env_values = true, value_name = "RATE")]
    max_rate: Option<Rate>,
    /// Members of the consumer group in this process [default: 1]
    #[arg(long, env = "LOGINLAKE_WORKERS", hide_env_values = true, value_name = "N")]
    workers: Option<u16>,
    /// Stable, unique name of this instance's transactions [default: group id, host name and HTTP port]
    #[arg(
        long,
        env = "LOGINLAKE_TRANSACTIONAL_ID",
        hide_env_values = true,
        value_name = "NAME"
    )]
    transactional_id: Option<String>,
    /// Longest that a transaction stays open under load [default: 400ms]
    #[arg(
        long,
        env = "LOGINLAKE_TRANSACTION_MAX_AGE",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    transaction_max_age: Option<Span>,
    /// Stop, with code 0, once everything that the topic held at the start is processed and committed
    #[arg(long)]
    exit_at_end: bool,
}

/// What `realtime run` runs with.
#[derive(Debug)]
pub struct Resolved {
    /// What a run is told.
    pub options: RunOptions,
    /// Where health, metrics and dashboard are served.
    pub http: HttpBind,
    /// Which missing topics are made.
    pub create_topics: CreateTopics,
    /// Alerts by webhook.
    pub alerts: AlertSettings,
    /// The flags of these, for a file that is read again.
    pub alert_args: AlertArgs,
}

impl RunArgs {
    /// Resolves flags, environment and file.
    ///
    /// # Errors
    /// A usage error.
    pub fn resolve(self, file: &ConfigFile) -> Result<Resolved, ExitError> {
        let section = &file.realtime;
        let input = self.kafka.resolve(file)?;
        let output = self.output_kafka.resolve(file, &input)?;
        let group_id = self.group.resolve(file, Service::Realtime)?;
        let http = self.http.resolve(file, Service::Realtime)?;
        let (filters, texts) = parsed_filters(self.filters.as_ref(), file)?;
        let filters = LiveFilters::from(filters);
        follow_filters(&filters, texts, self.filters);
        let duration = |span: Option<Span>, default: Duration| span.map_or(default, |span| span.duration());
        let transactional_id = self
            .transactional_id
            .or_else(|| section.transactional_id.clone())
            .unwrap_or_else(|| default_transactional_id(&group_id, &http));
        let options = RunOptions {
            input: settings(input),
            output: settings(output),
            topics: self.topics.resolve(file)?,
            group_id,
            guarantee: layered(self.guarantee, section.guarantee, Guarantee::ExactlyOnce),
            contract: contract::contract(&self.contract.resolve(file)?)?,
            schema_registry: self.schema_registry.resolve(file)?,
            filters,
            max_rate: self.max_rate.or(section.max_rate),
            workers: layered(self.workers, section.workers, 1).max(1),
            transactional_id,
            transaction_max_age: duration(
                self.transaction_max_age.or(section.transaction_max_age),
                DEFAULT_TRANSACTION_MAX_AGE,
            ),
            transaction_max_records: section
                .transaction_max_records
                .unwrap_or(DEFAULT_TRANSACTION_MAX_RECORDS),
            transaction_timeout: duration(section.transaction_timeout, DEFAULT_TRANSACTION_TIMEOUT),
            exit_at_end: self.exit_at_end,
            bounds_at_start: std::collections::BTreeMap::new(),
        };
        Ok(Resolved {
            options,
            http,
            create_topics: self.create_topics.resolve(file)?,
            alerts: self.alerts.resolve(file)?,
            alert_args: self.alerts,
        })
    }
}

/// The filters of a flag or of the file, and their texts.
fn parsed_filters(
    flag: Option<&Vec<String>>,
    file: &ConfigFile,
) -> Result<(DropFilters, Vec<String>), ExitError> {
    let texts = flag
        .or(file.realtime.filters.as_ref())
        .cloned()
        .unwrap_or_default();
    let filters = DropFilters::parse(&texts).map_err(|error| ExitError::usage(format!("--drop: {error}")))?;
    Ok((filters, texts))
}

/// Filters that change with the file. `texts` are those of now.
fn follow_filters(live: &LiveFilters, texts: Vec<String>, flag: Option<Vec<String>>) {
    let (live, texts) = (live.clone(), Arc::new(Mutex::new(texts)));
    reload::on_change(move |file| {
        let (filters, new) = parsed_filters(flag.as_ref(), file)?;
        let (live, texts) = (live.clone(), Arc::clone(&texts));
        Ok(Box::new(move || {
            let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
            if *texts != new {
                live.set(filters);
                *texts = new;
            }
        }))
    });
}

/// How to reach a cluster.
fn settings(resolved: ResolvedKafka) -> KafkaSettings {
    KafkaSettings {
        brokers: resolved.brokers,
        properties: resolved.properties,
    }
}

/// Unique on a network as long as no two instances of a group share a host and an HTTP port. Without a port the process id
/// keeps instances apart; what a dead one left open then ends by its timeout instead of by its successor.
fn default_transactional_id(group_id: &str, http: &HttpBind) -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map_or_else(|| "localhost".to_owned(), |name| name.trim().to_owned());
    match http.address() {
        Some(address) => format!("{group_id}-{host}-{}", address.port()),
        None => format!("{group_id}-{host}-pid{}", std::process::id()),
    }
}

/// Makes the topics that are missing, when asked to.
///
/// # Errors
/// The broker cannot be reached or refuses.
pub fn create_missing_topics(options: &RunOptions, create: CreateTopics) -> Result<(), ExitError> {
    if !create.create {
        return Ok(());
    }
    let spec = |name: &String| TopicSpec {
        name: name.clone(),
        partitions: create.partitions,
        replication_factor: i32::from(create.replication_factor),
    };
    let topics = &options.topics;
    TopicClient::connect(&options.input)
        .and_then(|client| client.ensure(&[spec(&topics.input)]))
        .map_err(exit_error)?;
    TopicClient::connect(&options.output)
        .and_then(|client| {
            client.ensure(&[
                spec(&topics.output),
                spec(&topics.dead_letter),
                spec(&topics.insights),
            ])
        })
        .map_err(exit_error)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArgs,
    }

    /// What `realtime run` runs with when it is given these flags.
    fn options(flags: &[&str]) -> RunOptions {
        let cli = Cli::try_parse_from([&["run", "--http", "none"], flags].concat()).expect("good flags");
        cli.run
            .resolve(&ConfigFile::default())
            .expect("good settings")
            .options
    }

    fn event(device_type: &str, locale: &str, app_version: &str) -> String {
        format!(
            r#"{{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","app_version":"{app_version}","ip":"108.228.145.239",
            "locale":"{locale}","device_id":"d-1","timestamp":1720576825{device_type}}}"#
        )
    }

    #[test]
    fn the_flags_of_filters_drop_what_they_say() {
        let options = options(&[
            "--drop",
            "locale = \"RU\"",
            "--drop",
            "device_type missing;app_version < 2.0.0",
        ]);
        for (device_type, locale, app_version, dropped) in [
            (r#","device_type":"iOS""#, "RI", "2.3.0", false),
            (r#","device_type":"iOS""#, "RU", "2.3.0", true),
            ("", "RI", "2.3.0", true),
            (r#","device_type":"iOS""#, "RI", "1.9.9", true),
        ] {
            let payload = event(device_type, locale, app_version);
            let event = options.contract.decode(Some(payload.as_bytes()), None);
            let event = event.expect("a good event");
            assert_eq!(options.filters.get().matches(&event), dropped, "{payload}");
        }
    }

    #[test]
    fn the_flags_of_privacy_change_the_event() {
        let directory = tempfile::tempdir().expect("a directory");
        let key = directory.path().join("key");
        std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").expect("written");
        let key = key.to_str().expect("a path in UTF-8");
        let payload = event("", "RI", "2.3.0");
        let plain = options(&[]);
        let plain = plain
            .contract
            .decode(Some(payload.as_bytes()), None)
            .expect("a good event");
        let masking = options(&[
            "--mask-ip",
            "--pseudonymise",
            "user_id,device_id",
            "--pseudonym-key-file",
            key,
        ]);
        let masked = masking
            .contract
            .decode(Some(payload.as_bytes()), None)
            .expect("a good event");
        let mut json = Vec::new();
        masked.write_json(0, &mut json);
        let json = String::from_utf8(json).expect("JSON is UTF-8");
        assert!(json.contains("\"ip\":\"108.228.145.0\""), "{json}");
        for secret in [plain.user_id(), "d-1\"", "108.228.145.239"] {
            assert!(!json.contains(secret), "{secret} is in {json}");
        }
    }

    #[test]
    fn a_rate_is_a_flag() {
        assert_eq!(options(&[]).max_rate, None);
        assert_eq!(
            options(&["--max-rate", "3000000/min"]).max_rate,
            "3000000/min".parse().ok()
        );
        let wrong = Cli::try_parse_from(["run", "--max-rate", "50k/s"])
            .err()
            .expect("refused");
        assert!(wrong.to_string().contains("`50k/s` is not a rate"), "{wrong}");
    }
}
