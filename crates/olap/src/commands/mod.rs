//! One file per command: its arguments, and what it does with them.

pub mod compact;
pub mod files;
pub mod history;
pub mod ingest;
pub mod query;
pub mod vacuum;

use std::io::Write;

use clap::ValueEnum;
use loginlake_lake::TableName;
use loginlake_service::exit::ExitError;

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
