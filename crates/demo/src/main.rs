//! The binary `demo`: the whole system in one process, nothing installed.
//!
//! An embedded broker, the generator, `realtime` and `olap ingest` as they run in production, compaction, and the first two
//! queries. What is left is a lake in a local directory, and the commands to go on with.

mod directory;
mod produce;
mod report;
mod system;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use loginlake_service::config::HttpAddress;
use loginlake_service::exit::{self, ExitError};
use loginlake_service::logging;
use loginlake_service::shell_help::ShellHelpArgs;

/// Login events through both paths into a local lake, and the answers: which regions and hours log in most.
#[derive(Parser, Debug)]
#[command(name = "demo", version)]
struct Cli {
    /// Logins to generate, spread over the last seven days
    #[arg(long, default_value_t = 500_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    events: u64,
    /// Directory of the lake; an earlier demo's lake there is replaced
    #[arg(long, default_value = "lake", value_name = "DIR")]
    dir: PathBuf,
    /// Share of malformed records
    #[arg(long, default_value_t = 0.02, value_name = "SHARE")]
    bad_share: f64,
    /// Seed of the generator
    #[arg(long, default_value_t = 7, value_name = "N")]
    seed: u64,
    /// Afterwards go on with 50 logins a second and a live dashboard, until Ctrl-C
    #[arg(long)]
    keep_running: bool,
    /// Address of the dashboard, with --keep-running
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    http: HttpAddress,
    /// Show the logs of the services; -vv for more
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
    #[command(flatten)]
    shell_help: ShellHelpArgs,
}

/// See the workspace's Cargo.toml for the reason.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    exit::finish(main_inner())
}

fn main_inner() -> Result<(), ExitError> {
    let cli: Cli = exit::parse_args()?;
    if cli.shell_help.run(&<Cli as clap::CommandFactory>::command())? {
        return Ok(());
    }
    logging::init(None, cli.verbose.saturating_sub(1), cli.verbose == 0)?;
    if !(0.0..=1.0).contains(&cli.bad_share) {
        return Err(ExitError::usage(format!(
            "--bad-share {} is not a share: between 0 and 1",
            cli.bad_share
        )));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| ExitError::failed(format!("cannot start the runtime: {error}")))?;
    let _entered = runtime.enter();
    system::run(&cli, &runtime)
}
