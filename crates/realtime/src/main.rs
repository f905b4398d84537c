//! The binary `realtime`.

use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use clap::{ArgMatches, Args, CommandFactory, Parser, Subcommand};
use loginlake_realtime::check::{self, CheckArgs};
use loginlake_realtime::dead_letters::{self, DeadLettersArgs};
use loginlake_realtime::index::{self, IndexArgs};
use loginlake_realtime::insights::{self, InsightHandle, InsightsArgs, InsightsSettings};
use loginlake_realtime::live;
use loginlake_realtime::run::{self, Progress};
use loginlake_realtime::setup::{self, RunArgs};
use loginlake_service::alerts::{self, Alerts};
use loginlake_service::config::{CommonArgs, TelemetryArgs};
use loginlake_service::exit::{self, ExitError};
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;
use loginlake_service::shell_help::{self, CompletionsArgs, ManualArgs};
use loginlake_service::shutdown::Shutdown;
use loginlake_service::{effective, http, logging, memory, reload, telemetry};

/// The real-time path of login events: validate, enrich and republish within milliseconds.
#[derive(Parser)]
#[command(name = "realtime", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
    #[command(flatten)]
    telemetry: TelemetryArgs,
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
    /// Check the settings of `run` against the real brokers, and print a list of what is right and wrong
    Check(Box<CheckArgs>),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Write manual pages
    #[command(hide = true)]
    Manual(ManualArgs),
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
    let (cli, matches): (Cli, ArgMatches) = exit::parse_matches()?;
    match cli.command {
        Command::Completions(args) => return shell_help::completions(Cli::command(), args.shell),
        Command::Manual(args) => return shell_help::manual(Cli::command(), &args.directory),
        _ if cli.common.print_config => return effective::print(&Cli::command(), &matches),
        // It judges the file itself, and is quiet but for its list.
        Command::Check(args) => return check::run(*args, &cli.common),
        _ => {}
    }
    let file = cli.common.load()?;
    let logs = cli.common.resolve(&file)?;
    logging::begin(&logs)?;
    if matches!(cli.command, Command::Run(_) | Command::Index(_)) {
        reload::install(
            &cli.common,
            effective::overridden(&Cli::command(), &matches),
            &logs,
        )?;
    }
    let _telemetry = telemetry::start(&cli.telemetry.resolve(&file)?, "loginlake-realtime")?;
    match cli.command {
        Command::Run(command) => {
            let insights = command.insights.resolve(&file)?;
            run_service(command.run.resolve(&file)?, &insights)
        }
        Command::Index(args) => index_service(args.resolve(&file)?),
        Command::DeadLetters(args) => dead_letters::run(*args, &file),
        Command::Check(_) | Command::Completions(_) | Command::Manual(_) => Ok(()),
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
    reload::on_hangup()?;
    let setup::Resolved {
        options,
        http,
        create_topics,
        alerts,
        alert_args,
    } = resolved;
    setup::create_missing_topics(&options, create_topics)?;
    let (metrics, health, progress) = (Metrics::new("realtime"), Health::new(), Progress::default());
    let live = loginlake_realtime::dashboard(
        &options.input,
        &options.output,
        &options.topics,
        &options.group_id,
        &progress,
    );
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
    let instance = alerts::instance(server.local_addr());
    let alerts = Arc::new(Alerts::start(&alerts, "realtime", instance, &metrics, &health)?);
    reload::alerts(&alerts, alert_args);
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
    reload::on_hangup()?;
    let index::args::Resolved {
        options,
        http,
        create_topics,
        alerts,
        alert_args,
    } = resolved;
    index::args::create_missing_topics(&options, create_topics)?;
    let (metrics, health) = (Metrics::new("index"), Health::new());
    let server = runtime.block_on(http::serve(http, metrics.clone(), health.clone(), Router::new()))?;
    if let Some(address) = server.local_addr() {
        tracing::info!(%address, "health and metrics");
    }
    let instance = alerts::instance(server.local_addr());
    let alerts = Arc::new(Alerts::start(&alerts, "index", instance, &metrics, &health)?);
    reload::alerts(&alerts, alert_args);
    let result = index::run(&options, &shutdown, &health, &metrics);
    runtime.block_on(server.shutdown());
    result
}

#[cfg(test)]
mod tests {
    use loginlake_service::config::{ConfigFile, keys};

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// What is documented as a default is what holds when nobody says anything.
    #[test]
    fn the_documented_defaults_are_those_that_hold() {
        let text = keys::defaults_toml(&["", "realtime", "index", "privacy", "alerts"]);
        let file = ConfigFile::parse(&text, std::path::Path::new("defaults.toml")).expect(&text);
        let settings = |file: &ConfigFile| {
            let cli = |name| {
                Cli::try_parse_from(["realtime", name])
                    .expect("a good command line")
                    .command
            };
            let Command::Run(run) = cli("run") else {
                unreachable!("it was asked for run")
            };
            let Command::Index(index) = cli("index") else {
                unreachable!("it was asked for index")
            };
            let insights = run.insights.resolve(file).expect("good settings");
            let run = run.run.resolve(file).expect("good settings");
            let index = index.resolve(file).expect("good settings");
            format!(
                "{:#?} {:#?} {:#?} {:#?} {insights:#?} {:#?} {:#?} {:#?}",
                run.options, run.http, run.create_topics, run.alerts, index.options, index.http, index.alerts
            )
        };
        assert_eq!(settings(&file), settings(&ConfigFile::default()));
    }

    #[test]
    fn every_flag_of_a_service_has_its_key_and_variable_or_a_reason() {
        let mut root = Cli::command();
        root.build();
        for name in ["run", "index"] {
            let command = root.find_subcommand(name).expect("a command");
            let wrong = keys::disagreements(&["realtime", name], command);
            assert!(wrong.is_empty(), "realtime {name}: {wrong:#?}");
        }
    }
}
