//! `olap query`: the newest state of the lake, with `--fresh` and what the topic has beyond it, or with `--at` an earlier one.

use std::convert::Infallible;
use std::io::{BufWriter, IsTerminal};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use clap::Args;
use loginlake_lake::Lake;
use loginlake_lake::LakeError;
use loginlake_olap::fresh::receipt::Receipt;
use loginlake_olap::fresh::{Fresh, FreshPosition, FreshSource, KafkaTail};
use loginlake_olap::setup;
use loginlake_query::print::{Format, Printer};
use loginlake_query::{QueryEngine, QueryError, QueryOptions, SqlError, View, tables_named};
use loginlake_service::config::{
    ByteSize, ConfigFile, ContractArgs, KafkaArgs, LakeArgs, SchemaRegistryArgs, Span, TopicArgs, UtcTime,
};
use loginlake_service::contract;
use loginlake_service::exit::ExitError;

/// Arguments of `olap query`.
#[derive(Args, Debug)]
pub struct QueryArgs {
    /// File with one or more SQL statements
    #[arg(value_name = "FILE", required_unless_present = "execute")]
    file: Option<PathBuf>,
    /// SQL instead of a file
    #[arg(short = 'e', long = "execute", value_name = "SQL", conflicts_with = "file")]
    execute: Option<String>,
    #[command(flatten)]
    lake: LakeArgs,
    /// table, csv, json or ndjson
    #[arg(long, default_value = "table", value_name = "FORMAT", value_parser = Format::from_str)]
    format: Format,
    /// Memory that a query may take before it spills to disk [default: 1GiB]
    #[arg(
        long,
        env = "LOGINLAKE_QUERY_MEMORY_LIMIT",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    memory_limit: Option<ByteSize>,
    /// Longest that a query may run [default: unlimited]
    #[arg(
        long,
        env = "LOGINLAKE_QUERY_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    timeout: Option<Span>,
    /// Most rows of a result [default: unlimited]
    #[arg(long, value_name = "N")]
    max_rows: Option<u64>,
    /// Also the records of the input topic that the table does not hold yet: exact up to this second
    #[arg(long, conflicts_with = "at")]
    fresh: bool,
    /// The state of an earlier answer: a version of logins, a time, or a receipt
    #[arg(long, value_name = "VERSION|TIME|RECEIPT")]
    at: Option<At>,
    /// Write down what the answer stands for, for --at
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    topics: TopicArgs,
    #[command(flatten)]
    contract: ContractArgs,
    #[command(flatten)]
    schema_registry: SchemaRegistryArgs,
}

/// Which earlier state is asked for.
#[derive(Clone, Debug)]
enum At {
    Version(i64),
    Time(UtcTime),
    Receipt(PathBuf),
}

impl FromStr for At {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text.parse(), text.parse()) {
            (Ok(version), _) if version >= 0 => Self::Version(version),
            (_, Ok(time)) => Self::Time(time),
            _ => Self::Receipt(PathBuf::from(text)),
        })
    }
}

/// The state that is asked for, and when that was.
struct Asked {
    view: View,
    asked_at: DateTime<Utc>,
    fresh: Option<(FreshPosition, Arc<KafkaTail>)>,
}

impl From<Fresh> for Asked {
    fn from(fresh: Fresh) -> Self {
        let asked_at = DateTime::from_timestamp_millis(fresh.position.asked_at_ms).unwrap_or_default();
        Self {
            view: fresh.view,
            asked_at,
            fresh: Some((fresh.position, fresh.tail)),
        }
    }
}

impl QueryArgs {
    async fn ask(&self, file: &ConfigFile, lake: &Lake, sql: &str) -> Result<Asked, ExitError> {
        let of = |view| Asked {
            view,
            asked_at: Utc::now(),
            fresh: None,
        };
        if self.fresh {
            let source = self.source(file).await?;
            return Ok(source.newest(lake, &tables_named(sql)).await?.into());
        }
        match &self.at {
            None => Ok(of(View::Newest)),
            Some(At::Version(version)) => Ok(of(View::LoginsVersion(*version))),
            Some(At::Time(time)) => Ok(of(View::Time(time.epoch_ms()))),
            Some(At::Receipt(path)) => {
                let receipt = Receipt::read(path)?;
                let versions = receipt.versions()?;
                match receipt.position() {
                    None => Ok(Asked {
                        asked_at: receipt.asked_at,
                        ..of(View::Versions(versions))
                    }),
                    Some(position) => {
                        let source = self.source(file).await?;
                        Ok(source.again(lake, &versions, position).await?.into())
                    }
                }
            }
        }
    }

    /// The topic, as `olap ingest` with the same settings reads and judges it.
    async fn source(&self, file: &ConfigFile) -> Result<Arc<FreshSource>, ExitError> {
        let kafka = setup::kafka(self.kafka.clone().resolve(file)?);
        let topic = self.topics.clone().resolve(file)?.input;
        let contract = contract::contract(&self.contract.clone().resolve(file)?)?;
        let registry = self.schema_registry.clone().resolve(file)?;
        // The client of a registry cannot be set up within an async task.
        tokio::task::spawn_blocking(move || FreshSource::new(kafka, topic, contract, registry.as_ref()))
            .await
            .map_err(|error| ExitError::failed(format!("a thread ended: {error}")))?
    }
}

/// Runs it.
pub async fn run(args: QueryArgs, file: &ConfigFile, quiet: bool) -> Result<(), ExitError> {
    let (sql, source) = match (&args.execute, &args.file) {
        (Some(sql), _) => (sql.clone(), "-e".to_owned()),
        (None, Some(path)) => {
            let sql = std::fs::read_to_string(path)
                .map_err(|error| ExitError::usage(format!("cannot read {}: {error}", path.display())))?;
            (sql, path.display().to_string())
        }
        (None, None) => return Err(ExitError::usage("no SQL: name a file, or give it with -e")),
    };
    let section = &file.query;
    let mut options = QueryOptions::default();
    if let Some(size) = args.memory_limit.or(section.memory_limit) {
        options.memory_limit_bytes = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
    }
    options.timeout = args.timeout.or(section.timeout).map(|span| span.duration());
    options.max_rows = args.max_rows.or(section.max_rows);
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    let Asked {
        view,
        asked_at,
        fresh,
    } = args.ask(file, &lake, &sql).await?;
    let engine = QueryEngine::open_view(&lake, options, view).map_err(query_error)?;
    let width = std::io::stdout().is_terminal().then(terminal_width).flatten();
    let mut printer = Printer::new(args.format, width, BufWriter::new(std::io::stdout()));
    let summary = engine
        .run(&sql, &source, &mut printer)
        .await
        .map_err(query_error)?;
    for statement in summary.statements.iter().filter(|statement| statement.truncated) {
        eprintln!("only the first {} rows are shown (--max-rows)", statement.rows);
    }
    let fresh = fresh.as_ref().map(|(position, tail)| (position, tail.as_ref()));
    let receipt = Receipt::new(
        lake.uri(),
        (&source, &sql),
        asked_at,
        &engine.table_facts(),
        fresh,
    );
    if !quiet {
        eprintln!("{receipt}");
    }
    match &args.receipt {
        Some(path) => receipt.write(path),
        None => Ok(()),
    }
}

/// Columns of the terminal, when it says so.
fn terminal_width() -> Option<usize> {
    std::env::var("COLUMNS").ok()?.parse().ok()
}

/// An error of a query as an exit.
fn query_error(error: QueryError) -> ExitError {
    match error {
        QueryError::Lake(LakeError::Configuration(text)) => ExitError::usage(text),
        QueryError::Output(error) => ExitError::stdout(error),
        error @ QueryError::NotInView { .. } => ExitError::usage(error),
        QueryError::Tail(error) if error.is_gone => ExitError::refused(error),
        QueryError::Sql(place) | QueryError::ReadOnly(place) => {
            let SqlError {
                source_name,
                line,
                column,
                message,
                excerpt,
            } = *place;
            ExitError::failed(format!("{source_name}:{line}:{column}: {message}")).with_excerpt(excerpt)
        }
        other => ExitError::failed(other),
    }
}
