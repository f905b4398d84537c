//! `olap query`: the newest state of the lake, with `--fresh` and what the topic has beyond it, or with `--at` an earlier one.

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Args;
use loginlake_lake::Lake;
use loginlake_olap::fresh::receipt::Receipt;
use loginlake_olap::fresh::{Fresh, FreshPosition, FreshSource, KafkaTail};
use loginlake_olap::output::OutputArgs;
use loginlake_olap::stopped::Stopped;
use loginlake_olap::{lineage, setup};
use loginlake_query::chart;
use loginlake_query::cluster::{self, ClusterAddress};
use loginlake_query::{ParamValue, Params, QueryEngine, QueryOptions, Script, View};
use loginlake_service::config::{ByteSize, ConfigFile, LakeArgs, Span, UtcTime};
use loginlake_service::exit::ExitError;
use loginlake_service::lineage::Processing;
use loginlake_service::telemetry::{self, Job};

use super::fresh::FreshArgs;

/// How long the end of a query that a signal stops may be told of.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Arguments of `olap query`.
#[derive(Args, Debug)]
pub struct QueryArgs {
    /// File with one or more SQL statements
    #[arg(value_name = "FILE", required_unless_present = "execute")]
    file: Option<PathBuf>,
    /// SQL instead of a file
    #[arg(
        short = 'e',
        long = "execute",
        value_name = "SQL",
        conflicts_with = "file",
        allow_hyphen_values = true
    )]
    execute: Option<String>,
    /// A value for a parameter that the SQL takes as $NAME; repeatable
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = ParamValue::from_str)]
    params: Vec<ParamValue>,
    /// Only say what the SQL answers and which parameters it takes
    #[arg(long)]
    help_sql: bool,
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    output: OutputArgs,
    /// Memory that a query may take before it spills to disk [default: 1GiB]
    #[arg(
        long,
        visible_alias = "memory-budget",
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
    /// Most rows of a result [default: 10000 in a table, else unlimited]
    #[arg(long, value_name = "N")]
    max_rows: Option<u64>,
    /// Directory for temporary files of a query that needs more than its memory [default: the system's]
    #[arg(long, value_name = "DIRECTORY")]
    spill_directory: Option<PathBuf>,
    /// Most that these files may hold together [default: 16GiB]
    #[arg(long, value_name = "SIZE")]
    max_spill: Option<ByteSize>,
    /// Also the records of the input topic that the table does not hold yet: exact up to this second
    #[arg(long, conflicts_with = "at")]
    fresh: bool,
    /// The state of an earlier answer: a version of logins, a time, or a receipt
    #[arg(long, value_name = "VERSION|TIME|RECEIPT")]
    at: Option<At>,
    /// Write down what the answer stands for, for --at
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// Let a cluster compute it, by its scheduler: df://host:port (docs/CLUSTER.md); limits on memory and disk are its executors'
    #[arg(
        long,
        env = "LOGINLAKE_CLUSTER",
        hide_env_values = true,
        value_name = "ADDRESS"
    )]
    cluster: Option<ClusterAddress>,
    /// Parts that the cluster cuts large work into [default: 16]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    cluster_partitions: Option<u16>,
    #[command(flatten)]
    topic: FreshArgs,
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
    /// The limits of the configuration file, and of the flags where they say more.
    fn options(&self, file: &ConfigFile) -> Result<QueryOptions, ExitError> {
        let mut options = self.topic.query_options(file)?;
        if let Some(size) = self.memory_limit {
            options.memory_limit_bytes = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
        }
        if let Some(size) = self.max_spill {
            options.max_spill_bytes = size.bytes();
        }
        if let Some(directory) = &self.spill_directory {
            options.spill_directory.clone_from(directory);
        }
        if let Some(address) = &self.cluster {
            options.cluster = Some(address.clone());
            options.target_partitions = self
                .cluster_partitions
                .map_or(cluster::DEFAULT_PARTITIONS, usize::from);
        }
        options.timeout = self.timeout.map(Span::duration).or(options.timeout);
        options.max_rows = self
            .max_rows
            .or(options.max_rows)
            .or_else(|| self.output.default_max_rows());
        Ok(options)
    }

    /// Whether a cluster can be asked this.
    fn check_cluster(&self) -> Result<(), ExitError> {
        if self.cluster.is_none() {
            return match self.cluster_partitions {
                None => Ok(()),
                Some(_) => Err(ExitError::usage("--cluster-partitions is for --cluster")),
            };
        }
        #[cfg(not(feature = "cluster"))]
        {
            Err(super::scheduler::not_built("--cluster"))
        }
        #[cfg(feature = "cluster")]
        {
            match self.fresh {
                true => Err(not_fresh("--fresh")),
                false => Ok(()),
            }
        }
    }

    async fn ask(&self, file: &ConfigFile, lake: &Lake, script: &Script) -> Result<Asked, ExitError> {
        let of = |view| Asked {
            view,
            asked_at: Utc::now(),
            fresh: None,
        };
        if self.fresh {
            let source = self.source(file).await?;
            return Ok(source.newest(lake, &script.tables()).await?.into());
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
                    Some(_) if self.cluster.is_some() => Err(not_fresh("this receipt")),
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
        let (topic, file) = (self.topic.clone(), file.clone());
        // The client of a registry cannot be set up within an async task.
        tokio::task::spawn_blocking(move || topic.source(&file))
            .await
            .map_err(|error| ExitError::failed(format!("a thread ended: {error}")))?
    }
}

/// Runs it. SIGINT and SIGTERM end the process at once, with code 130 and 143.
pub async fn run(args: QueryArgs, file: &ConfigFile, quiet: bool) -> Result<(), ExitError> {
    let stopped = Stopped::on_signals();
    // Dropping the answer takes back a file that is half written.
    let signal = tokio::select! {
        answered = told(args, file, quiet) => {
            #[cfg(feature = "cluster")]
            cluster::client::settled(LAST_WORDS).await;
            return answered;
        }
        signal = stopped.requested() => signal,
    };
    #[cfg(feature = "cluster")]
    cluster::client::settled(LAST_WORDS).await;
    telemetry::send_waiting(LAST_WORDS);
    signal.exit()
}

/// The rest of the topic is decoded by this process, and is not to be had by a cluster.
fn not_fresh(what: &str) -> ExitError {
    ExitError::usage(format!(
        "{what} asks for records of the topic, which a cluster does not read: it computes from the lake alone"
    ))
    .with_hint("ask without --cluster, or without the topic")
}

/// Answers, and tells of it who wants to know: which query, of which tables, not what its text or its errors say.
async fn told(args: QueryArgs, file: &ConfigFile, quiet: bool) -> Result<(), ExitError> {
    let mut job = None;
    let result = answer(args, file, quiet, &mut job).await;
    if let Some(job) = job {
        job.end(match &result {
            Ok(()) => Ok(()),
            Err(_) => Err("the query failed: its own standard error says why"),
        });
    }
    result
}

async fn answer(
    args: QueryArgs,
    file: &ConfigFile,
    quiet: bool,
    job: &mut Option<Job>,
) -> Result<(), ExitError> {
    let (sql, source) = match (&args.execute, &args.file) {
        (Some(sql), _) => (sql.clone(), "-e".to_owned()),
        (None, Some(path)) => {
            let sql = std::fs::read_to_string(path)
                .map_err(|error| ExitError::usage(format!("cannot read {}: {error}", path.display())))?;
            (sql, path.display().to_string())
        }
        (None, None) => return Err(ExitError::usage("no SQL: name a file, or give it with -e")),
    };
    let script = Script::parse(&sql, &source).map_err(setup::query_error)?;
    if args.help_sql {
        return writeln!(std::io::stdout(), "{}", script.help()).map_err(ExitError::stdout);
    }
    let params = given(&args.params)?;
    script
        .check(&params)
        .map_err(|error| setup::query_error(error.into()))?;
    args.check_cluster()?;
    let options = args.options(file)?;
    let mut output = args.output.open()?;
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    let name = lineage::query_name(args.file.as_deref());
    let job = job.insert(Job::begin_as("olap.query", &name, Processing::Batch, || {
        (lineage::tables(&lake, script.tables()), Vec::new())
    }));
    let Asked {
        view,
        asked_at,
        fresh,
    } = args.ask(file, &lake, &script).await?;
    let engine = QueryEngine::open_view(&lake, options, view).map_err(setup::query_error)?;
    let summary = engine
        .run_script(&script, &params, &mut output)
        .await
        .map_err(|error| output.error(error))?;
    if let Some(run) = job.run() {
        let facts = engine.table_facts();
        let read = facts.iter().map(|facts| {
            let table = lineage::table(&lake, facts.table);
            match facts.version {
                Some(version) => table.with_version(version),
                None => table,
            }
        });
        run.found(read.collect(), Vec::new());
    }
    let truncated = summary.statements.iter().filter(|statement| statement.truncated);
    let left_out: Vec<String> = truncated
        .map(|statement| format!("only the first {} rows are shown (--max-rows)", statement.rows))
        .collect();
    let drawn = output.finish(chart::title_of(&sql), left_out.first().cloned())?;
    for line in &left_out {
        eprintln!("{line}");
    }
    if let Some(chart) = drawn.filter(|_| !quiet) {
        eprintln!("{}", chart.description());
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

/// The values of `--param`, each name once.
fn given(values: &[ParamValue]) -> Result<Params, ExitError> {
    let mut params = Params::new();
    for ParamValue { name, value } in values {
        if params.set(name, value).is_some() {
            return Err(ExitError::usage(format!(
                "--param {name} is given twice; give it once"
            )));
        }
    }
    Ok(params)
}
