//! Arguments and configuration of `realtime run` into what a run is told.

use std::time::Duration;

use clap::Args;
use loginlake_events::filter::DropFilters;
use loginlake_kafka::KafkaSettings;
use loginlake_kafka::topics::{TopicSpec, Topics as TopicClient};
use loginlake_service::config::{
    ConfigFile, ContractArgs, CreateTopics, CreateTopicsArgs, GroupArgs, Guarantee, HttpArgs, HttpBind,
    KafkaArgs, OutputKafkaArgs, ResolvedKafka, Service, Span, TopicArgs, layered,
};
use loginlake_service::contract;
use loginlake_service::exit::ExitError;

use crate::run::{
    DEFAULT_TRANSACTION_MAX_AGE, DEFAULT_TRANSACTION_MAX_RECORDS, DEFAULT_TRANSACTION_TIMEOUT, RunOptions,
    exit_error,
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
    http: HttpArgs,
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
        let filters = self
            .filters
            .or_else(|| section.filters.clone())
            .unwrap_or_default();
        let filters =
            DropFilters::parse(&filters).map_err(|error| ExitError::usage(format!("--drop: {error}")))?;
        let duration = |span: Option<Span>, default: Duration| span.map_or(default, |span| span.duration());
        let transactional_id = self
            .transactional_id
            .or_else(|| section.transactional_id.clone())
            .unwrap_or_else(|| default_transactional_id(&group_id, http));
        let options = RunOptions {
            input: settings(input),
            output: settings(output),
            topics: self.topics.resolve(file)?,
            group_id,
            guarantee: layered(self.guarantee, section.guarantee, Guarantee::ExactlyOnce),
            contract: contract::contract(&self.contract.resolve(file)?)?,
            filters,
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
        })
    }
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
fn default_transactional_id(group_id: &str, http: HttpBind) -> String {
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
