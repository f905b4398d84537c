//! `olap ingest`.

use clap::Args;
use loginlake_kafka::topics::{TopicSpec, Topics as TopicClient};
use loginlake_lake::ingest::RollPolicy;
use loginlake_olap::ingest::{
    self, DEFAULT_MAX_BATCH_AGE, DEFAULT_MAX_BATCH_ROWS, DEFAULT_MEMORY_BUDGET, IngestOptions,
    MIN_MEMORY_BUDGET, Progress,
};
use loginlake_olap::setup;
use loginlake_service::config::{
    ByteSize, ConfigFile, ContractArgs, CreateTopicsArgs, GroupArgs, HttpArgs, KafkaArgs, LakeArgs, Service,
    Span, TablePartitioning, TopicArgs, layered,
};
use loginlake_service::exit::ExitError;
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;
use loginlake_service::{contract, http};
use tokio::runtime::Runtime;

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
    http: HttpArgs,
    /// Longest that a record waits for its commit [default: 10s]
    #[arg(
        long,
        env = "LOGINLAKE_MAX_BATCH_AGE",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    max_batch_age: Option<Span>,
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
    /// Memory of everything that waits for a commit; over it consumption pauses [default: 128MiB]
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
}

/// Runs it.
pub fn run(args: IngestArgs, file: &ConfigFile, runtime: &Runtime) -> Result<(), ExitError> {
    let shutdown = Shutdown::on_signals()
        .map_err(|error| ExitError::failed(format!("cannot catch signals: {error}")))?;
    let http = args.http.resolve(file, Service::Ingest)?;
    let topics = args.topics.resolve(file)?;
    let create = args.create_topics.resolve(file)?;
    let section = &file.ingest;
    let memory_budget = layered(
        args.memory_budget.map(|size| size.bytes()),
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
    let max_bytes = args
        .max_batch_bytes
        .or(section.max_batch_bytes)
        .map_or(memory_budget / 3, |size| size.bytes());
    let options = IngestOptions {
        kafka: setup::kafka(args.kafka.resolve(file)?),
        topic: topics.input,
        group_id: args.group.resolve(file, Service::Ingest)?,
        incarnation: None,
        lake: setup::lake(&args.lake.resolve(file)?)?,
        partition_by: setup::partition_by(layered(
            args.partition_by,
            section.partition_by,
            TablePartitioning::Date,
        )),
        contract: contract::contract(&args.contract.resolve(file)?)?,
        roll: RollPolicy {
            max_age: args
                .max_batch_age
                .or(section.max_batch_age)
                .map_or(DEFAULT_MAX_BATCH_AGE, |span| span.duration()),
            max_rows: layered(
                args.max_batch_rows,
                section.max_batch_rows,
                DEFAULT_MAX_BATCH_ROWS,
            )
            .max(1),
            max_bytes: max_bytes.max(1),
        },
        memory_budget,
        exit_at_end: args.exit_at_end,
    };
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
    let result = ingest::run(options, &shutdown, &health, &metrics, &Progress::default());
    runtime.block_on(server.shutdown());
    result.map(|_| ())
}
