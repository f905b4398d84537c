//! `olap query`.

use std::io::{BufWriter, IsTerminal};
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use loginlake_lake::LakeError;
use loginlake_olap::setup;
use loginlake_query::print::{Format, Printer};
use loginlake_query::{QueryEngine, QueryError, QueryOptions, SqlError};
use loginlake_service::config::{ByteSize, ConfigFile, LakeArgs, Span};
use loginlake_service::exit::ExitError;

/// Arguments of `olap query`.
#[derive(Args, Debug)]
pub struct QueryArgs {
    /// File with one or more SQL statements
    #[arg(value_name = "FILE", required_unless_present = "execute")]
    file: Option<PathBuf>,
    /// SQL instead of a file
    #[arg(short = 'e', long = "execute", value_name = "SQL", conflicts_with = "file")]
    execute: Option<String>,
    #[command(flatten)]
    lake: LakeArgs,
    /// table, csv, json or ndjson
    #[arg(long, default_value = "table", value_name = "FORMAT", value_parser = Format::from_str)]
    format: Format,
    /// Memory that a query may take before it spills to disk [default: 1GiB]
    #[arg(
        long,
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
    /// Most rows of a result [default: unlimited]
    #[arg(long, value_name = "N")]
    max_rows: Option<u64>,
}

/// Runs it.
pub async fn run(args: QueryArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let (sql, source) = match (&args.execute, &args.file) {
        (Some(sql), _) => (sql.clone(), "-e".to_owned()),
        (None, Some(path)) => {
            let sql = std::fs::read_to_string(path)
                .map_err(|error| ExitError::usage(format!("cannot read {}: {error}", path.display())))?;
            (sql, path.display().to_string())
        }
        (None, None) => return Err(ExitError::usage("no SQL: name a file, or give it with -e")),
    };
    let section = &file.query;
    let mut options = QueryOptions::default();
    if let Some(size) = args.memory_limit.or(section.memory_limit) {
        options.memory_limit_bytes = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
    }
    options.timeout = args.timeout.or(section.timeout).map(|span| span.duration());
    options.max_rows = args.max_rows.or(section.max_rows);
    let lake = setup::lake(&args.lake.resolve(file)?)?;
    let engine = QueryEngine::open(&lake, options).map_err(query_error)?;
    let width = std::io::stdout().is_terminal().then(terminal_width).flatten();
    let mut printer = Printer::new(args.format, width, BufWriter::new(std::io::stdout()));
    let summary = engine
        .run(&sql, &source, &mut printer)
        .await
        .map_err(query_error)?;
    for statement in summary.statements.iter().filter(|statement| statement.truncated) {
        eprintln!("only the first {} rows are shown (--max-rows)", statement.rows);
    }
    Ok(())
}

/// Columns of the terminal, when it says so.
fn terminal_width() -> Option<usize> {
    std::env::var("COLUMNS").ok()?.parse().ok()
}

/// An error of a query as an exit.
fn query_error(error: QueryError) -> ExitError {
    match error {
        QueryError::Lake(LakeError::Configuration(text)) => ExitError::usage(text),
        QueryError::Output(error) => ExitError::stdout(error),
        QueryError::Sql(place) | QueryError::ReadOnly(place) => {
            let SqlError {
                source_name,
                line,
                column,
                message,
                excerpt,
            } = *place;
            ExitError::failed(format!("{source_name}:{line}:{column}: {message}")).with_excerpt(excerpt)
        }
        other => ExitError::failed(other),
    }
}
