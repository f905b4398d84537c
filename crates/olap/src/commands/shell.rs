//! `olap shell`.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use loginlake_olap::setup;
use loginlake_olap::shell::{self, ShellOptions};
use loginlake_query::print::Format;
use loginlake_query::{ParamValue, Params};
use loginlake_service::config::{ByteSize, ConfigFile, LakeArgs, Span};
use loginlake_service::exit::ExitError;

use super::fresh::FreshArgs;

/// Arguments of `olap shell`.
#[derive(Args, Debug)]
pub struct ShellArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// How answers are written at first
    #[arg(long, default_value = "table", value_name = "FORMAT")]
    format: FormatArg,
    /// Value of $NAME in statements, repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    param: Vec<ParamValue>,
    /// Memory that a statement may take before it spills to disk [default: 1GiB]
    #[arg(
        long,
        env = "LOGINLAKE_QUERY_MEMORY_LIMIT",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    memory_limit: Option<ByteSize>,
    /// Longest that a statement may run [default: unlimited]
    #[arg(
        long,
        env = "LOGINLAKE_QUERY_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    timeout: Option<Span>,
    /// Most rows of an answer [default: unlimited]
    #[arg(long, value_name = "N")]
    max_rows: Option<u64>,
    /// File of the history, or `none` [default: loginlake/shell-history in the user's state directory]
    #[arg(long, env = "LOGINLAKE_HISTORY", value_name = "FILE")]
    history: Option<PathBuf>,
    #[command(flatten)]
    fresh: FreshArgs,
}

/// A format that a shell writes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    Table,
    Csv,
    Json,
    Ndjson,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Table => Self::Table,
            FormatArg::Csv => Self::Csv,
            FormatArg::Json => Self::Json,
            FormatArg::Ndjson => Self::Ndjson,
        }
    }
}

/// `$XDG_STATE_HOME`, or `~/.local/state`.
fn state_directory() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = PathBuf::from(std::env::var_os(name)?);
        path.is_absolute().then_some(path)
    };
    absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))
}

/// Runs it.
pub async fn run(args: ShellArgs, file: &ConfigFile, quiet: bool) -> Result<(), ExitError> {
    let mut query = args.fresh.query_options(file)?;
    if let Some(size) = args.memory_limit {
        query.memory_limit_bytes = usize::try_from(size.bytes()).unwrap_or(usize::MAX);
    }
    query.timeout = args.timeout.map(Span::duration).or(query.timeout);
    query.max_rows = args.max_rows.or(query.max_rows);
    let mut params = Params::new();
    for ParamValue { name, value } in args.param {
        if params.set(name.clone(), value).is_some() {
            return Err(ExitError::usage(format!("--param {name} is given twice")));
        }
    }
    let history = match args.history {
        Some(path) if path.as_os_str() == "none" => None,
        Some(path) => Some(path),
        None => state_directory().map(|state| state.join("loginlake/shell-history")),
    };
    let (fresh, file_of_source) = (args.fresh, file.clone());
    shell::run(ShellOptions {
        lake: setup::lake(&args.lake.resolve(file)?)?,
        query,
        format: args.format.into(),
        params,
        history,
        open_source: Arc::new(move || fresh.clone().source(&file_of_source)),
        quiet,
    })
    .await
}
