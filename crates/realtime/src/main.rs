//! The binary `realtime`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loginlake_realtime::live;
use loginlake_realtime::run::{self, Progress};
use loginlake_realtime::setup::{self, RunArgs};
use loginlake_service::config::CommonArgs;
use loginlake_service::exit::{self, ExitError};
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;
use loginlake_service::{http, logging};

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
    Run(Box<RunArgs>),
}

fn main() -> ExitCode {
    exit::finish(main_inner())
}

fn main_inner() -> Result<(), ExitError> {
    let cli: Cli = exit::parse_args()?;
    let file = cli.common.load()?;
    let logs = cli.common.resolve(&file)?;
    logging::init(logs.format, logs.verbosity, logs.quiet)?;
    match cli.command {
        Command::Run(args) => run_service(args.resolve(&file)?),
    }
}

fn run_service(resolved: setup::Resolved) -> Result<(), ExitError> {
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
    let server = runtime.block_on(http::serve(
        http,
        metrics.clone(),
        health.clone(),
        live::router(live.clone()),
    ))?;
    if let Some(address) = server.local_addr() {
        tracing::info!(%address, "health, metrics and dashboard");
    }
    let result = run::run(&options, &shutdown, &health, &metrics, &progress);
    live.stop();
    runtime.block_on(server.shutdown());
    result.map(|_| ())
}
