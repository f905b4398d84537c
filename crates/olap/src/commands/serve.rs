//! `olap serve`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use loginlake_olap::fresh::FreshSource;
use loginlake_olap::serve::access::{Access, Token};
use loginlake_olap::serve::catalog::Catalog;
use loginlake_olap::serve::{self, Limits, ServeOptions};
use loginlake_olap::setup;
use loginlake_query::QueryOptions;
use loginlake_service::config::{ByteSize, ConfigFile, HttpArgs, HttpBind, LakeArgs, Service, Span};
use loginlake_service::exit::ExitError;
use loginlake_service::shutdown::Shutdown;

use super::fresh::FreshArgs;

/// The variable of the token itself.
const TOKEN_VARIABLE: &str = "LOGINLAKE_SERVE_TOKEN";
const DEFAULT_MEMORY: u64 = 256 << 20;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_MAX_ROWS: u64 = 100_000;
const DEFAULT_ANSWER_BYTES: u64 = 32 << 20;
const DEFAULT_QUERIES: u16 = 4;

/// Arguments of `olap serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// Directory of the SQL files that are served [default: sql]
    #[arg(long, env = "LOGINLAKE_QUERIES", hide_env_values = true, value_name = "DIR")]
    queries: Option<PathBuf>,
    #[command(flatten)]
    http: HttpArgs,
    /// File with the token that clients have to send; LOGINLAKE_SERVE_TOKEN holds the token itself
    #[arg(
        long,
        env = "LOGINLAKE_SERVE_TOKEN_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    token_file: Option<PathBuf>,
    /// Memory that a query may take before it spills to disk [default: 256MiB]
    #[arg(
        long,
        env = "LOGINLAKE_QUERY_MEMORY_LIMIT",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    memory_limit: Option<ByteSize>,
    /// Longest that a request may take [default: 30s]
    #[arg(
        long,
        env = "LOGINLAKE_QUERY_TIMEOUT",
        hide_env_values = true,
        value_name = "DURATION"
    )]
    timeout: Option<Span>,
    /// Most rows of an answer [default: 100000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_rows: Option<u64>,
    /// Most bytes of an answer [default: 32MiB]
    #[arg(long, value_name = "SIZE")]
    max_answer_bytes: Option<ByteSize>,
    /// Queries that run at once; more are told to come again [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    max_queries: Option<u16>,
    /// Offer fresh=true: also the records of the input topic that the table does not hold yet
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    source: FreshArgs,
}

impl ServeArgs {
    fn token(&self, file: &ConfigFile) -> Result<Option<Token>, ExitError> {
        let path = self.token_file.as_ref().or(file.serve.token_file.as_ref());
        let said = std::env::var(TOKEN_VARIABLE)
            .ok()
            .filter(|token| !token.is_empty());
        match (path, said) {
            (Some(_), Some(_)) => Err(ExitError::usage(format!(
                "a token file and {TOKEN_VARIABLE} are both given: give one of them"
            ))),
            (Some(path), None) => {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    ExitError::usage(format!("cannot read the token file {}: {error}", path.display()))
                })?;
                Token::new(&text).map(Some)
            }
            (None, Some(text)) => Token::new(&text).map(Some),
            (None, None) => Ok(None),
        }
    }

    fn bind(&self, file: &ConfigFile, has_token: bool) -> Result<HttpBind, ExitError> {
        let mut http = self.http.clone();
        if has_token {
            http.http_allow_remote = Some(true);
        }
        let bind = http.resolve(file, Service::Serve).map_err(|error| {
            ExitError::from(error).with_hint(
                "let clients send a token (--token-file), listen on 127.0.0.1, or give --http-allow-remote to serve anybody",
            )
        })?;
        if bind.address().is_none() {
            return Err(ExitError::usage(
                "olap serve does nothing without HTTP: give --http ADDR",
            ));
        }
        Ok(bind)
    }

    async fn source(&self, file: &ConfigFile) -> Result<Option<Arc<FreshSource>>, ExitError> {
        if !(self.fresh || file.serve.fresh.unwrap_or(false)) {
            return Ok(None);
        }
        let (source, file) = (self.source.clone(), file.clone());
        let opened = tokio::task::spawn_blocking(move || source.source(&file)).await;
        let opened = opened.map_err(|error| ExitError::failed(format!("a thread ended: {error}")))?;
        opened.map(Some)
    }
}

/// Runs it.
pub async fn run(args: ServeArgs, file: &ConfigFile) -> Result<(), ExitError> {
    let shutdown = Shutdown::on_signals()
        .map_err(|error| ExitError::failed(format!("cannot catch signals: {error}")))?;
    let token = args.token(file)?;
    let bind = args.bind(file, token.is_some())?;
    let is_loopback = bind
        .address()
        .is_some_and(|address| address.ip().to_canonical().is_loopback());
    let access = match token {
        Some(token) => Access::Token(token),
        None if is_loopback => Access::Loopback,
        None => Access::Anybody,
    };
    let section = &file.query;
    let bytes = |size: Option<ByteSize>, default: u64| {
        usize::try_from(size.map_or(default, |size| size.bytes())).unwrap_or(usize::MAX)
    };
    let timeout = args
        .timeout
        .or(section.timeout)
        .map_or(DEFAULT_TIMEOUT, Span::duration);
    let queries = args.queries.clone().or_else(|| file.serve.queries.clone());
    let options = ServeOptions {
        lake: setup::lake(&args.lake.clone().resolve(file)?)?,
        catalog: Catalog::load(&queries.unwrap_or_else(|| "sql".into()))?,
        query: QueryOptions {
            memory_limit_bytes: bytes(args.memory_limit.or(section.memory_limit), DEFAULT_MEMORY),
            timeout: Some(timeout),
            ..args.source.query_options(file)?
        },
        limits: Limits {
            max_rows: args
                .max_rows
                .or(section.max_rows)
                .unwrap_or(DEFAULT_MAX_ROWS)
                .max(1),
            max_answer_bytes: bytes(
                args.max_answer_bytes.or(file.serve.max_answer_bytes),
                DEFAULT_ANSWER_BYTES,
            ),
            max_queries: usize::from(
                args.max_queries
                    .or(file.serve.max_queries)
                    .unwrap_or(DEFAULT_QUERIES)
                    .max(1),
            ),
            timeout,
        },
        access,
        source: args.source(file).await?,
        bind,
    };
    serve::run(options, &shutdown).await
}
