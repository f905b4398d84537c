//! `olap audit`: its arguments, and the order in which tables and topics are looked at.
//!
//! - [`sources`]: the topics, and between which offsets they are read;
//! - [`reading`]: their records into a pass, by several threads.

mod reading;
mod sources;

use std::sync::Arc;

use clap::{Args, ValueEnum};
use loginlake_lake::audit::{Audit, AuditOptions, Output};
use loginlake_olap::setup;
use loginlake_service::config::{
    ByteSize, ConfigFile, ContractArgs, GroupArgs, Guarantee, KafkaArgs, LakeArgs, OutputKafkaArgs,
    SchemaRegistryArgs, Service, TopicArgs,
};
use loginlake_service::contract;
use loginlake_service::exit::ExitError;

use self::reading::{Decoding, Reading};
use self::sources::Sources;
use super::print_line;

/// The least memory: smaller passes would read the files over and over.
const MIN_MEMORY: u64 = 1024 * 1024;

/// How the report is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ReportFormat {
    /// For people.
    Table,
    /// For programs: one object.
    Json,
}

/// What is compared of a record of the input topic and its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compare {
    /// All that they say, by the event contract.
    Contents,
    /// That both are there.
    Positions,
}

/// Arguments of `olap audit`.
#[derive(Args, Debug)]
pub struct AuditArgs {
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    output_kafka: OutputKafkaArgs,
    #[command(flatten)]
    topics: TopicArgs,
    /// Consumer group of the speed path, whose offsets say what must have been published [default: loginlake-realtime]
    #[arg(long, value_name = "GROUP")]
    realtime_group: Option<String>,
    /// The speed path's guarantee: at-least-once may repeat records [default: exactly-once]
    #[arg(
        long,
        env = "LOGINLAKE_GUARANTEE",
        hide_env_values = true,
        value_enum,
        value_name = "GUARANTEE"
    )]
    guarantee: Option<Guarantee>,
    /// The speed path holds records back (--drop): what is in the tables need not be published
    #[arg(long)]
    filtered: bool,
    /// What is compared with the input topic: contents need the settings of the event contract that ingestion had
    #[arg(long, value_enum, default_value = "contents", value_name = "WHAT")]
    compare: Compare,
    #[command(flatten)]
    contract: ContractArgs,
    #[command(flatten)]
    schema_registry: SchemaRegistryArgs,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "table", value_name = "FORMAT")]
    format: ReportFormat,
    /// Memory for what is known of positions and for the records that are read, without the program itself; less means that
    /// files are read several times
    #[arg(long, default_value = "256MiB", value_name = "SIZE")]
    memory_budget: ByteSize,
}

impl AuditArgs {
    fn check(&self) -> Result<(), ExitError> {
        if self.memory_budget.bytes() < MIN_MEMORY {
            return Err(ExitError::usage(format!(
                "--memory-budget {} is too small: at least {}",
                self.memory_budget,
                ByteSize::from_bytes(MIN_MEMORY)
            )));
        }
        if self.asks_speed_path() && self.kafka.brokers.is_none() {
            return Err(ExitError::usage(
                "--output-topic and --dead-letter-topic need --brokers",
            ));
        }
        Ok(())
    }

    fn asks_speed_path(&self) -> bool {
        self.topics.output_topic.is_some() || self.topics.dead_letter_topic.is_some()
    }

    fn sources(&self, file: &ConfigFile, audit: &Audit) -> Result<Sources, ExitError> {
        let kafka = self.kafka.resolve(file)?;
        let outputs = self.output_kafka.resolve(file, &kafka)?;
        let topics = self.topics.resolve(file)?;
        let group = GroupArgs {
            group_id: self.realtime_group.clone(),
        };
        let speed_path = self.asks_speed_path().then(|| -> Result<_, ExitError> {
            Ok(sources::AskedSpeedPath {
                kafka: setup::kafka(outputs),
                output_topic: topics.output.clone(),
                dead_letter_topic: topics.dead_letter.clone(),
                group: group.resolve(file, Service::Realtime)?,
                filtered: self.filtered
                    || file
                        .realtime
                        .filters
                        .as_ref()
                        .is_some_and(|filters| !filters.is_empty()),
                at_least_once: self.guarantee.or(file.realtime.guarantee) == Some(Guarantee::AtLeastOnce),
            })
        });
        Sources::open(setup::kafka(kafka), &topics.input, speed_path.transpose()?, audit)
    }

    fn decoding(&self, file: &ConfigFile, audit: &Audit) -> Result<Option<Decoding>, ExitError> {
        let only_date = audit.only_date();
        if self.compare == Compare::Positions && only_date.is_none() {
            return Ok(None);
        }
        Ok(Some(Decoding::new(
            contract::contract(&self.contract.resolve(file)?)?,
            self.schema_registry.resolve(file)?.as_ref(),
            only_date,
            self.compare == Compare::Contents,
        )?))
    }
}

/// Runs it: exit code 3 when something is wrong.
pub async fn run(args: AuditArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    args.check()?;
    let memory = usize::try_from(args.memory_budget.bytes()).unwrap_or(usize::MAX);
    let options = AuditOptions {
        memory_budget_bytes: memory,
        contents: args.compare == Compare::Contents,
    };
    let Some(mut audit) = Audit::open(&lake, options).await.map_err(setup::lake_error)? else {
        return Err(super::no_tables(&lake));
    };
    // The ends of the topics are asked for after the tables were pinned, so that the tables are never ahead.
    let reading = match args.kafka.brokers {
        Some(_) => {
            let decoding = args.decoding(file, &audit)?;
            let sources = tokio::task::block_in_place(|| args.sources(file, &audit))?;
            audit
                .begin(Some(sources.facts.clone()), sources.speed_path.clone())
                .map_err(setup::lake_error)?;
            Some(Reading::new(sources, decoding, memory / 2))
        }
        None => {
            audit.begin(None, None).map_err(setup::lake_error)?;
            None
        }
    };
    while let Some(pass) = audit.next_pass() {
        audit.read_tables(&pass).await.map_err(setup::lake_error)?;
        if let Some(reading) = &reading {
            let pass = Arc::clone(&pass);
            tokio::task::block_in_place(|| -> Result<(), ExitError> {
                reading.input(&pass)?;
                reading.published(Output::Processed, &pass)?;
                reading.published(Output::DeadLetters, &pass)
            })?;
        }
        audit.finish_pass(&pass);
    }
    let read = reading.as_ref().map_or(0, Reading::records);
    let report = audit.report();
    tracing::info!(
        rows = report.rows,
        records = read,
        "everything that is compared was read"
    );
    match args.format {
        ReportFormat::Table => print_line(&report.to_string())?,
        ReportFormat::Json => print_line(&serde_json::to_string(&report).unwrap_or_default())?,
    }
    if report.is_clean() {
        return Ok(());
    }
    Err(ExitError::refused(format!(
        "the lake {} is not what it should be; wrong things found: {}",
        lake.uri(),
        report.findings.len() as u64 + report.more_findings
    ))
    .with_hint("docs/OPERATIONS.md, \"Audit\", says what each finding means"))
}
