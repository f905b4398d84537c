//! One file per command: its arguments, and what it does with them.

pub mod audit;
pub mod check;
pub mod compact;
pub mod erase;
pub mod executor;
pub mod files;
pub mod fresh;
pub mod history;
pub mod ingest;
pub mod maintain;
pub mod query;
pub mod refresh;
pub mod restore;
pub mod scheduler;
pub mod serve;
pub mod shell;
pub mod vacuum;

use std::io::Write;

use clap::ValueEnum;
use loginlake_lake::TableName;
use loginlake_service::exit::ExitError;

/// Most characters of an operator's name.
const MAX_OPERATOR: usize = 100;

/// A table on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TableArg {
    /// Accepted logins.
    Logins,
    /// Rejected records.
    Rejected,
}

impl From<TableArg> for TableName {
    fn from(table: TableArg) -> Self {
        match table {
            TableArg::Logins => TableName::Logins,
            TableArg::Rejected => TableName::Rejected,
        }
    }
}

/// Who changes a table, for its history: `LOGINLAKE_OPERATOR`, or the user and the host.
fn operator() -> String {
    let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if let Some(name) = said("LOGINLAKE_OPERATOR") {
        return name
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_OPERATOR)
            .collect();
    }
    let user = said("USER").or_else(|| said("LOGNAME"));
    let host = said("HOSTNAME").or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    let unknown = || "unknown".to_owned();
    format!(
        "{}@{}",
        user.unwrap_or_else(unknown),
        host.unwrap_or_else(unknown).trim()
    )
}

/// For tests of crashes; release builds have no fail points.
#[cfg(debug_assertions)]
fn arm_fail_point() -> Result<(), ExitError> {
    match std::env::var("LOGINLAKE_FAIL_POINT") {
        Ok(text) => loginlake_lake::ingest::fail_point::arm(&text)
            .map_err(|error| ExitError::usage(format!("LOGINLAKE_FAIL_POINT: {error}"))),
        Err(_) => Ok(()),
    }
}

#[cfg(not(debug_assertions))]
fn arm_fail_point() -> Result<(), ExitError> {
    Ok(())
}

/// Corrects `logins_hourly` after rows have gone, when there is such a table.
async fn refresh_after(lake: &loginlake_lake::Lake) -> Result<(), ExitError> {
    use loginlake_lake::hourly::{RefreshOptions, refresh};
    use loginlake_olap::setup::lake_error;
    let view = lake.load_snapshot(
        TableName::LoginsHourly,
        None,
        loginlake_lake::table::snapshot::WithFiles::No,
    );
    if view.await.map_err(lake_error)?.is_none() {
        return Ok(());
    }
    let options = RefreshOptions::at(chrono::Utc::now().timestamp_millis());
    if let Some(report) = refresh(lake, &options).await.map_err(lake_error)? {
        print_line(report.to_string().trim_end())?;
    }
    Ok(())
}

/// Writes a line of data to stdout.
fn print_line(text: &str) -> Result<(), ExitError> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(ExitError::stdout)
}

/// What a command says about a lake without tables.
fn no_tables(lake: &loginlake_lake::Lake) -> ExitError {
    ExitError::failed(format!("the lake {} holds no table", lake.uri())).with_hint(
        "fill it with `olap ingest` or `cargo run --release --bin demo`, or name another one with --lake",
    )
}
