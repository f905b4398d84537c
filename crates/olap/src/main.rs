//! The binary `olap`.

mod commands;
mod memory;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loginlake_service::config::CommonArgs;
use loginlake_service::exit::{self, ExitError};
use loginlake_service::logging;

/// The OLAP path of login events: into a Delta table on a directory or S3, exactly once, and SQL on it.
#[derive(Parser)]
#[command(name = "olap", version, arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    common: CommonArgs,
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
}

/// See the workspace's Cargo.toml for the reason.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    memory::stay_small();
    exit::finish(main_inner())
}

fn main_inner() -> Result<(), ExitError> {
    let cli: Cli = exit::parse_args()?;
    let file = cli.common.load()?;
    let logs = cli.common.resolve(&file)?;
    logging::init(logs.format, logs.verbosity, logs.quiet)?;
    if let Command::Maintain(args) = &cli.command
        && let Some(nice) = args.nice
    {
        // Before the first thread of the runtime.
        loginlake_olap::maintain::priority::lower(nice)
            .map_err(|error| ExitError::failed(format!("--nice {nice}: {error}")))?;
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Command::Maintain(args) = &cli.command
        && let Some(threads) = args.threads
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
    match cli.command {
        Command::Ingest(args) => {
            memory::stay_small_while_ingesting();
            commands::ingest::run(*args, &file, &runtime)
        }
        Command::Query(args) => runtime.block_on(commands::query::run(*args, &file, logs.quiet)),
        Command::Shell(args) => runtime.block_on(commands::shell::run(*args, &file, logs.quiet)),
        Command::Serve(args) => runtime.block_on(commands::serve::run(*args, &file)),
        Command::Refresh(args) => runtime.block_on(commands::refresh::run(args, &file)),
        Command::Audit(args) => runtime.block_on(commands::audit::run(*args, &file)),
        Command::Compact(args) => runtime.block_on(commands::compact::run(args, &file)),
        Command::Erase(args) => runtime.block_on(commands::erase::run(*args, &file)),
        Command::Vacuum(args) => runtime.block_on(commands::vacuum::run(args, &file)),
        Command::Restore(args) => runtime.block_on(commands::restore::run(*args, &file)),
        Command::Maintain(args) => runtime.block_on(commands::maintain::run(*args, &file)),
        Command::History(args) => runtime.block_on(commands::history::run(args, &file)),
        Command::Files(args) => runtime.block_on(commands::files::run(args, &file)),
    }
}
