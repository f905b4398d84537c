//! The binary `olap`.

mod commands;

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
    Query(commands::query::QueryArgs),
    /// Rewrite many small files into few sorted ones; the rows stay the same
    Compact(commands::compact::CompactArgs),
    /// Delete files that no version of the retention period refers to
    Vacuum(commands::vacuum::VacuumArgs),
    /// List the commits of a table, newest first
    History(commands::history::HistoryArgs),
    /// Report files, bytes and rows of each table partition
    Files(commands::files::FilesArgs),
}

/// See the workspace's Cargo.toml for the reason.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    exit::finish(main_inner())
}

fn main_inner() -> Result<(), ExitError> {
    let cli: Cli = exit::parse_args()?;
    let file = cli.common.load()?;
    let logs = cli.common.resolve(&file)?;
    logging::init(logs.format, logs.verbosity, logs.quiet)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| ExitError::failed(format!("cannot start the runtime: {error}")))?;
    let _entered = runtime.enter();
    match cli.command {
        Command::Ingest(args) => commands::ingest::run(*args, &file, &runtime),
        Command::Query(args) => runtime.block_on(commands::query::run(args, &file)),
        Command::Compact(args) => runtime.block_on(commands::compact::run(args, &file)),
        Command::Vacuum(args) => runtime.block_on(commands::vacuum::run(args, &file)),
        Command::History(args) => runtime.block_on(commands::history::run(args, &file)),
        Command::Files(args) => runtime.block_on(commands::files::run(args, &file)),
    }
}
