//! `olap serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use loginlake_olap::fresh::FreshSource;
use loginlake_olap::serve::catalog::Catalog;
use loginlake_olap::serve::{self, Limits, ServeOptions};
use loginlake_olap::setup;
use loginlake_query::QueryOptions;
use loginlake_service::config::{
    ByteSize, ConfigFile, HttpArgs, HttpBind, LakeArgs, Service, Span, TokenSource,
};
use loginlake_service::exit::ExitError;
use loginlake_service::http::access::Access;
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
    /// Also answer Arrow Flight SQL at this address, for BI tools and ADBC and JDBC drivers: any statement that only reads
    #[arg(
        long,
        env = "LOGINLAKE_FLIGHT_SQL",
        hide_env_values = true,
        value_name = "ADDR"
    )]
    flight_sql: Option<SocketAddr>,
    /// File with the token that clients have to send, if it is not that of --http-token-file; LOGINLAKE_SERVE_TOKEN holds the token itself
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
    fn bind(&self, file: &ConfigFile) -> Result<HttpBind, ExitError> {
        let own = TokenSource::layered(
            self.token_file.as_ref(),
            TOKEN_VARIABLE,
            file.serve.token_file.as_ref(),
        )?;
        let bind = self.http.resolve_with(file, Service::Serve, own)?;
        if bind.address().is_none() {
            return Err(ExitError::usage(
                "olap serve does nothing without HTTP: give --http ADDR",
            ));
        }
        Ok(bind)
    }

    /// Where Flight SQL listens. Without a token, here only.
    fn flight_sql(&self, file: &ConfigFile, bind: &HttpBind) -> Result<Option<SocketAddr>, ExitError> {
        let address = self.flight_sql.or(file.serve.flight_sql);
        let has_token = matches!(bind.access(), Access::Token(_));
        if address.is_some() && !cfg!(feature = "flight-sql") {
            return Err(ExitError::usage("this olap was built without Flight SQL").with_hint(
                "build it with the cargo feature flight-sql, which is on by default, or leave --flight-sql out",
            ));
        }
        match address {
            Some(remote) if !has_token && !remote.ip().to_canonical().is_loopback() => Err(ExitError::usage(
                format!("Flight SQL on {remote} can be reached by others, and there is no token"),
            )
            .with_hint("let clients send a token (--token-file), or listen on 127.0.0.1")),
            address => Ok(address),
        }
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
    let bind = args.bind(file)?;
    let flight_sql = args.flight_sql(file, &bind)?;
    #[cfg(not(feature = "flight-sql"))]
    let _ = flight_sql;
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
        source: args.source(file).await?,
        bind,
        #[cfg(feature = "flight-sql")]
        flight_sql,
    };
    serve::run(options, &shutdown).await
}
