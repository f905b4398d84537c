//! `olap ingest`.

use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use clap::Args;
use loginlake_events::Contract;
use loginlake_kafka::KafkaSettings;
use loginlake_kafka::topics::{TopicSpec, Topics as TopicClient};
use loginlake_lake::ingest::{GapRequest, LateHold, RollPolicy};
use loginlake_lake::table::schema::PartitionBy;
use loginlake_olap::ingest::{
    self, AcceptedGaps, DEFAULT_MAX_BATCH_AGE, DEFAULT_MAX_BATCH_ROWS, DEFAULT_MEMORY_BUDGET, IngestOptions,
    MIN_MEMORY_BUDGET, Progress, TimeRange,
};
use loginlake_olap::setup;
use loginlake_service::alerts::{self, Alerts};
use loginlake_service::config::{
    AlertArgs, AlertSettings, ByteSize, ConfigFile, ContractArgs, CreateTopics, CreateTopicsArgs, GroupArgs,
    HttpArgs, HttpBind, IngestSection, KafkaArgs, LakeArgs, ResolvedSchemaRegistry, SchemaRegistryArgs,
    Service, Span, TablePartitioning, TopicArgs, UtcTime, layered,
};
use loginlake_service::exit::ExitError;
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;
use loginlake_service::{contract, http, reload};
use tokio::runtime::Runtime;

/// The least time that `--freshness` can promise: a commit alone takes some hundred milliseconds.
const MIN_FRESHNESS: Duration = Duration::from_secs(1);

/// Arguments of `olap ingest`.
#[derive(Args, Debug)]
pub struct IngestArgs {
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    topics: TopicArgs,
    #[command(flatten)]
    group: GroupArgs,
    #[command(flatten)]
    create_topics: CreateTopicsArgs,
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    contract: ContractArgs,
    #[command(flatten)]
    schema_registry: SchemaRegistryArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    alerts: AlertArgs,
    /// Longest that a record waits for its commit [default: 10s]
    #[arg(
        long,
        env = "LOGINLAKE_MAX_BATCH_AGE",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    max_batch_age: Option<Span>,
    /// Choose the age of batches so that 99 of 100 records can be queried so long after the broker got them, with the
    /// largest files that allow it; instead of --max-batch-age
    #[arg(
        long,
        env = "LOGINLAKE_FRESHNESS",
        hide_env_values = true,
        value_name = "DURATION",
        conflicts_with = "max_batch_age"
    )]
    freshness: Option<Span>,
    /// How long a commit may wait that would add files to many table partitions, a burst of old dates [default: 60s]
    #[arg(
        long,
        env = "LOGINLAKE_LATE_HOLD",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    late_hold: Option<Span>,
    /// How many table partitions are too many for --late-hold [default: 32]
    #[arg(
        long,
        env = "LOGINLAKE_LATE_PARTITIONS",
        hide_env_values = true,
        value_name = "N"
    )]
    late_partitions: Option<usize>,
    /// Most records of a commit [default: 2000000]
    #[arg(
        long,
        env = "LOGINLAKE_MAX_BATCH_ROWS",
        hide_env_values = true,
        value_name = "N"
    )]
    max_batch_rows: Option<u64>,
    /// Most memory that the records of a commit take [default: a third of the memory budget]
    #[arg(
        long,
        env = "LOGINLAKE_MAX_BATCH_BYTES",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    max_batch_bytes: Option<ByteSize>,
    /// Memory of everything that waits for a commit; over it consumption pauses [default: 64MiB]
    #[arg(
        long,
        env = "LOGINLAKE_MEMORY_BUDGET",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    memory_budget: Option<ByteSize>,
    /// How a new table is partitioned [default: login_date]
    #[arg(
        long,
        env = "LOGINLAKE_PARTITION_BY",
        hide_env_values = true,
        value_name = "COLUMNS"
    )]
    partition_by: Option<TablePartitioning>,
    /// Stop, with code 0, once everything that the topic held at the start is committed
    #[arg(long)]
    exit_at_end: bool,
    /// Begin at the first records that are not older, by their Kafka timestamps; only for a lake that has nothing of the
    /// topic yet
    #[arg(long, value_name = "TIME")]
    from_timestamp: Option<UtcTime>,
    /// Stop, with code 0, before the first record of each partition that is not older
    #[arg(long, value_name = "TIME")]
    until_timestamp: Option<UtcTime>,
    /// Keep only the logins of this date (UTC, by the event's own time), in a lake of their own: such a lake takes no other
    /// date, and an existing lake does not become one
    #[arg(long, value_name = "YYYY-MM-DD")]
    only_date: Option<NaiveDate>,
    /// Go on although the records FROM to TO of a partition are lost; written into the table's history. Can be repeated
    #[arg(long, value_name = "PARTITION:FROM-TO")]
    accept_gap: Vec<GapRequest>,
}

impl IngestArgs {
    fn roll(
        &self,
        section: &IngestSection,
        memory_budget: u64,
    ) -> Result<(RollPolicy, Option<Duration>), ExitError> {
        if section.freshness.is_some() && section.max_batch_age.is_some() {
            return Err(ExitError::usage(
                "the configuration file has ingest.freshness and ingest.max-batch-age: take one of them out",
            ));
        }
        // What the command line or the environment says counts, and its other one in the file does not.
        let (max_age, freshness) = match (self.max_batch_age, self.freshness) {
            (None, None) => (section.max_batch_age, section.freshness),
            said => said,
        };
        let freshness = freshness.map(Span::duration);
        if let Some(freshness) = freshness
            && freshness < MIN_FRESHNESS
        {
            return Err(ExitError::usage(format!(
                "--freshness {} is too short: at least {}s",
                Span::from_millis(u64::try_from(freshness.as_millis()).unwrap_or(u64::MAX)),
                MIN_FRESHNESS.as_secs()
            )));
        }
        let late = LateHold::default();
        let max_bytes = self
            .max_batch_bytes
            .or(section.max_batch_bytes)
            .map_or(memory_budget / 3, |size| size.bytes());
        let roll = RollPolicy {
            max_age: max_age.map_or(DEFAULT_MAX_BATCH_AGE, Span::duration),
            max_rows: layered(
                self.max_batch_rows,
                section.max_batch_rows,
                DEFAULT_MAX_BATCH_ROWS,
            )
            .max(1),
            max_bytes: max_bytes.max(1),
            late: LateHold {
                table_partitions: layered(
                    self.late_partitions,
                    section.late_partitions,
                    late.table_partitions,
                ),
                max_age: self
                    .late_hold
                    .or(section.late_hold)
                    .map_or(late.max_age, Span::duration),
            },
        };
        Ok((roll, freshness))
    }

    fn range(&self) -> Result<TimeRange, ExitError> {
        let range = TimeRange {
            from_ms: self.from_timestamp.map(UtcTime::epoch_ms),
            until_ms: self.until_timestamp.map(UtcTime::epoch_ms),
        };
        if let (Some(from), Some(until)) = (range.from_ms, range.until_ms)
            && from >= until
        {
            return Err(ExitError::usage(
                "--until-timestamp is not later than --from-timestamp",
            ));
        }
        Ok(range)
    }
}

/// What `olap ingest` works with, checked as far as it can be without asking anybody.
#[derive(Debug)]
pub struct Settings {
    /// The cluster.
    pub kafka: KafkaSettings,
    /// The input topic.
    pub topic: String,
    /// The consumer group, for lag tools.
    pub group_id: String,
    /// The lake's address.
    pub lake: String,
    /// How a new table is partitioned.
    pub partition_by: PartitionBy,
    /// Who knows the schemas of framed records.
    pub schema_registry: Option<ResolvedSchemaRegistry>,
    /// Bytes of everything that waits for a commit.
    pub memory_budget: u64,
    /// Where health and metrics are served.
    pub http: HttpBind,
    alerts: AlertSettings,
    create: CreateTopics,
    contract: Contract,
    roll: RollPolicy,
    freshness: Option<Duration>,
    range: TimeRange,
}

impl IngestArgs {
    /// Resolves flags, environment and file.
    pub fn settings(&self, file: &ConfigFile) -> Result<Settings, ExitError> {
        let section = &file.ingest;
        let memory_budget = layered(
            self.memory_budget.map(|size| size.bytes()),
            section.memory_budget.map(|size| size.bytes()),
            DEFAULT_MEMORY_BUDGET,
        );
        if memory_budget < MIN_MEMORY_BUDGET {
            return Err(ExitError::usage(format!(
                "--memory-budget {} is too small: at least {}",
                ByteSize::from_bytes(memory_budget),
                ByteSize::from_bytes(MIN_MEMORY_BUDGET)
            )));
        }
        let (roll, freshness) = self.roll(section, memory_budget)?;
        Ok(Settings {
            kafka: setup::kafka(self.kafka.resolve(file)?),
            topic: self.topics.resolve(file)?.input,
            group_id: self.group.resolve(file, Service::Ingest)?,
            lake: self.lake.resolve(file)?,
            partition_by: setup::partition_by(layered(
                self.partition_by,
                section.partition_by,
                TablePartitioning::Date,
            )),
            schema_registry: self.schema_registry.resolve(file)?,
            memory_budget,
            http: self.http.resolve(file, Service::Ingest)?,
            alerts: self.alerts.resolve(file)?,
            create: self.create_topics.resolve(file)?,
            contract: contract::contract(&self.contract.resolve(file)?)?,
            roll,
            freshness,
            range: self.range()?,
        })
    }
}

impl Settings {
    fn options(
        self,
        only_date: Option<NaiveDate>,
        gaps: Vec<GapRequest>,
        exit_at_end: bool,
    ) -> Result<IngestOptions, ExitError> {
        Ok(IngestOptions {
            kafka: self.kafka,
            topic: self.topic,
            group_id: self.group_id,
            incarnation: None,
            lake: setup::lake(&self.lake)?,
            partition_by: self.partition_by,
            contract: self.contract,
            schema_registry: self.schema_registry,
            roll: self.roll,
            freshness: self.freshness,
            range: self.range,
            only_date,
            gaps: AcceptedGaps {
                gaps,
                who: super::operator(),
            },
            memory_budget: self.memory_budget,
            exit_at_end: exit_at_end || self.range.until_ms.is_some(),
        })
    }
}

/// Runs it.
pub fn run(args: IngestArgs, file: &ConfigFile, runtime: &Runtime) -> Result<(), ExitError> {
    super::arm_fail_point()?;
    let shutdown = Shutdown::on_signals()
        .map_err(|error| ExitError::failed(format!("cannot catch signals: {error}")))?;
    let settings = args.settings(file)?;
    let (http, create, alerts) = (settings.http.clone(), settings.create, settings.alerts.clone());
    let options = settings.options(args.only_date, args.accept_gap, args.exit_at_end)?;
    if create.create {
        let spec = TopicSpec {
            name: options.topic.clone(),
            partitions: create.partitions,
            replication_factor: i32::from(create.replication_factor),
        };
        TopicClient::connect(&options.kafka)
            .and_then(|client| client.ensure(&[spec]))
            .map_err(setup::kafka_error)?;
    }
    let (metrics, health) = (Metrics::new("ingest"), Health::new());
    let server = runtime.block_on(http::serve(
        http,
        metrics.clone(),
        health.clone(),
        axum::Router::new(),
    ))?;
    if let Some(address) = server.local_addr() {
        tracing::info!(%address, "health and metrics");
    }
    let instance = alerts::instance(server.local_addr());
    let alerts = Arc::new(Alerts::start(&alerts, "ingest", instance, &metrics, &health)?);
    reload::alerts(&alerts, args.alerts);
    let result = ingest::run(options, &shutdown, &health, &metrics, &Progress::default());
    runtime.block_on(server.shutdown());
    result.map(|_| ())
}
