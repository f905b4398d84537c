//! The binary `realtime`.

use std::process::ExitCode;

use axum::Router;
use clap::{Args, Parser, Subcommand};
use loginlake_realtime::dead_letters::{self, DeadLettersArgs};
use loginlake_realtime::index::{self, IndexArgs};
use loginlake_realtime::insights::{self, InsightHandle, InsightsArgs, InsightsSettings};
use loginlake_realtime::live;
use loginlake_realtime::run::{self, Progress};
use loginlake_realtime::setup::{self, RunArgs};
use loginlake_service::config::CommonArgs;
use loginlake_service::exit::{self, ExitError};
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;
use loginlake_service::{http, logging, memory};

/// The real-time path of login events: validate, enrich and republish within milliseconds.
#[derive(Parser)]
#[command(name = "realtime", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Read the input topic, republish enriched events, send bad ones to the dead letters
    Run(Box<RunCommand>),
    /// Keep the processed logins in OpenSearch, each once
    Index(Box<IndexArgs>),
    /// List, show or replay what was rejected
    DeadLetters(Box<DeadLettersArgs>),
}

#[derive(Args)]
struct RunCommand {
    #[command(flatten)]
    run: RunArgs,
    #[command(flatten)]
    insights: InsightsArgs,
}

/// See the workspace's Cargo.toml for the reason.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::without_huge_pages();
    exit::finish(main_inner())
}

fn main_inner() -> Result<(), ExitError> {
    let cli: Cli = exit::parse_args()?;
    let file = cli.common.load()?;
    let logs = cli.common.resolve(&file)?;
    logging::init(logs.format, logs.verbosity, logs.quiet)?;
    match cli.command {
        Command::Run(command) => {
            let insights = command.insights.resolve(&file)?;
            run_service(command.run.resolve(&file)?, &insights)
        }
        Command::Index(args) => index_service(args.resolve(&file)?),
        Command::DeadLetters(args) => dead_letters::run(*args, &file),
    }
}

fn run_service(resolved: setup::Resolved, insights: &InsightsSettings) -> Result<(), ExitError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| ExitError::failed(format!("cannot start the runtime: {error}")))?;
    let _entered = runtime.enter();
    let shutdown = Shutdown::on_signals()
        .map_err(|error| ExitError::failed(format!("cannot catch signals: {error}")))?;
    let setup::Resolved {
        options,
        http,
        create_topics,
    } = resolved;
    setup::create_missing_topics(&options, create_topics)?;
    let (metrics, health, progress) = (Metrics::new("realtime"), Health::new(), Progress::default());
    let live = loginlake_realtime::dashboard(&options.output, &options.topics, &progress);
    let insights = InsightHandle::start(insights, &options.output, &options.topics.insights, &metrics)?;
    let server = runtime.block_on(http::serve(
        http,
        metrics.clone(),
        health.clone(),
        live::router(live.clone()).merge(insights::router(insights.clone())),
    ))?;
    if let Some(address) = server.local_addr() {
        tracing::info!(%address, "health, metrics and dashboard");
    }
    let result = run::run_with_insights(&options, &shutdown, &health, &metrics, &progress, Some(&insights));
    insights.stop();
    live.stop();
    runtime.block_on(server.shutdown());
    result.map(|_| ())
}

fn index_service(resolved: index::args::Resolved) -> Result<(), ExitError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| ExitError::failed(format!("cannot start the runtime: {error}")))?;
    let _entered = runtime.enter();
    let shutdown = Shutdown::on_signals()
        .map_err(|error| ExitError::failed(format!("cannot catch signals: {error}")))?;
    let index::args::Resolved {
        options,
        http,
        create_topics,
    } = resolved;
    index::args::create_missing_topics(&options, create_topics)?;
    let (metrics, health) = (Metrics::new("index"), Health::new());
    let server = runtime.block_on(http::serve(http, metrics.clone(), health.clone(), Router::new()))?;
    if let Some(address) = server.local_addr() {
        tracing::info!(%address, "health and metrics");
    }
    let result = index::run(&options, &shutdown, &health, &metrics);
    runtime.block_on(server.shutdown());
    result
}
