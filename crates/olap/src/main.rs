//! The binary `olap`.

mod commands;
mod memory;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, Parser, Subcommand};
use loginlake_service::config::{CommonArgs, TelemetryArgs};
use loginlake_service::exit::{self, ExitError};
use loginlake_service::shell_help::{self, CompletionsArgs, ManualArgs};
use loginlake_service::{effective, logging, reload, telemetry};

/// The OLAP path of login events: into a Delta table on a directory or S3, exactly once, and SQL on it.
#[derive(Parser)]
#[command(name = "olap", version, arg_required_else_help = true)]
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
    /// Read the input topic into the lake
    Ingest(Box<commands::ingest::IngestArgs>),
    /// Run the SQL of a file, or of -e, on the tables logins, rejected and logins_hourly
    Query(Box<commands::query::QueryArgs>),
    /// Ask with SQL, statement by statement, at the terminal or from a pipe
    Shell(Box<commands::shell::ShellArgs>),
    /// Serve the SQL files of a directory as a read-only HTTP API
    Serve(Box<commands::serve::ServeArgs>),
    /// Schedule the queries of `olap query --cluster` onto executors (only in a build with clusters)
    Scheduler(Box<commands::scheduler::SchedulerArgs>),
    /// Compute such queries over one lake (only in a build with clusters)
    Executor(Box<commands::executor::ExecutorArgs>),
    /// Count logins_hourly again where logins changed
    Refresh(commands::refresh::RefreshArgs),
    /// Prove that every record is in the lake exactly once, or say exactly what is wrong
    Audit(Box<commands::audit::AuditArgs>),
    /// Rewrite many small files into few sorted ones; the rows stay the same
    Compact(commands::compact::CompactArgs),
    /// Erase a user's rows from all tables, and prove it
    Erase(Box<commands::erase::EraseArgs>),
    /// Delete files that no version of the retention period refers to
    Vacuum(commands::vacuum::VacuumArgs),
    /// Bring a table back to an older version, its offsets with it
    Restore(Box<commands::restore::RestoreArgs>),
    /// Run compaction, refresh and vacuum on their schedules
    Maintain(Box<commands::maintain::MaintainArgs>),
    /// List the commits of a table, newest first
    History(commands::history::HistoryArgs),
    /// Report files, bytes and rows of each table partition
    Files(commands::files::FilesArgs),
    /// Check the settings of ingest against the real brokers and the real store, and print a list of what is right and wrong
    Check(Box<commands::check::CheckArgs>),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Write manual pages
    #[command(hide = true)]
    Manual(ManualArgs),
}

impl Command {
    /// Whether it goes on until it is told to stop.
    const fn is_service(&self) -> bool {
        matches!(self, Self::Ingest(_) | Self::Maintain(_) | Self::Serve(_))
    }
}

/// See the workspace's Cargo.toml for the reason.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::stay_small();
    exit::finish(main_inner())
}

fn main_inner() -> Result<(), ExitError> {
    let (cli, matches): (Cli, ArgMatches) = exit::parse_matches()?;
    match cli.command {
        Command::Completions(args) => return shell_help::completions(Cli::command(), args.shell),
        Command::Manual(args) => return shell_help::manual(Cli::command(), &args.directory),
        _ if cli.common.print_config => return effective::print(&Cli::command(), &matches),
        // It judges the file itself, and is quiet but for its list.
        Command::Check(args) => return commands::check::run(*args, &cli.common),
        _ => {}
    }
    let file = cli.common.load()?;
    let logs = cli.common.resolve(&file)?;
    logging::begin(&logs)?;
    if cli.command.is_service() {
        reload::install(
            &cli.common,
            effective::overridden(&Cli::command(), &matches),
            &logs,
        )?;
    }
    if let Command::Maintain(args) = &cli.command
        && let Some(nice) = args.nice.or(file.maintain.nice)
    {
        // Before the first thread.
        loginlake_olap::maintain::priority::lower(nice)
            .map_err(|error| ExitError::failed(format!("--nice {nice}: {error}")))?;
    }
    let _telemetry = telemetry::start(&cli.telemetry.resolve(&file)?, "loginlake-olap")?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Command::Maintain(args) = &cli.command
        && let Some(threads) = args
            .threads
            .or(file.maintain.threads)
            .map(|threads| threads.clamp(1, 256))
    {
        builder
            .worker_threads(usize::from(threads))
            .max_blocking_threads(usize::from(threads).max(2));
    }
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| ExitError::failed(format!("cannot start the runtime: {error}")))?;
    let _entered = runtime.enter();
    reload::on_hangup()?;
    match cli.command {
        Command::Ingest(args) => {
            memory::stay_small_while_ingesting();
            commands::ingest::run(*args, &file, &runtime)
        }
        Command::Query(args) => runtime.block_on(commands::query::run(*args, &file, logs.quiet)),
        Command::Shell(args) => runtime.block_on(commands::shell::run(*args, &file, logs.quiet)),
        Command::Serve(args) => runtime.block_on(commands::serve::run(*args, &file)),
        Command::Scheduler(args) => runtime.block_on(commands::scheduler::run(*args, &file)),
        Command::Executor(args) => runtime.block_on(commands::executor::run(*args, &file)),
        Command::Refresh(args) => runtime.block_on(commands::refresh::run(args, &file)),
        Command::Audit(args) => runtime.block_on(commands::audit::run(*args, &file)),
        Command::Compact(args) => runtime.block_on(commands::compact::run(args, &file)),
        Command::Erase(args) => runtime.block_on(commands::erase::run(*args, &file)),
        Command::Vacuum(args) => runtime.block_on(commands::vacuum::run(args, &file)),
        Command::Restore(args) => runtime.block_on(commands::restore::run(*args, &file)),
        Command::Maintain(args) => runtime.block_on(commands::maintain::run(*args, &file)),
        Command::History(args) => runtime.block_on(commands::history::run(args, &file)),
        Command::Files(args) => runtime.block_on(commands::files::run(args, &file)),
        Command::Check(_) | Command::Completions(_) | Command::Manual(_) => Ok(()),
    }
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
        let text = keys::defaults_toml(&["", "ingest", "privacy", "alerts"]);
        let file = ConfigFile::parse(&text, std::path::Path::new("defaults.toml")).expect(&text);
        let settings = |file: &ConfigFile| {
            let cli = Cli::try_parse_from(["olap", "ingest"]).expect("a good command line");
            let Command::Ingest(args) = cli.command else {
                unreachable!("it was asked for ingest")
            };
            format!("{:#?}", args.settings(file).expect("good settings"))
        };
        assert_eq!(settings(&file), settings(&ConfigFile::default()));
    }

    #[test]
    fn every_flag_of_a_service_has_its_key_and_variable_or_a_reason() {
        let mut root = Cli::command();
        root.build();
        for name in ["ingest", "maintain", "serve"] {
            let command = root.find_subcommand(name).expect("a command");
            let wrong = keys::disagreements(&["olap", name], command);
            assert!(wrong.is_empty(), "olap {name}: {wrong:#?}");
        }
    }
}
