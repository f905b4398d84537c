//! Arrow Flight SQL beside the HTTP API: the protocol of BI tools and of ADBC and JDBC drivers.
//!
//! Any statement that only reads may be asked, not only those of the catalog. Everything else is as over HTTP: the same engine,
//! the same token, the same limits of memory, time and rows, and the same queries that run at once. Rows are streamed: two
//! batches wait at most, however large the answer is, and an answer that is not whole ends with an error. Who goes away, or takes
//! nothing, stops the query.
//!
//! A ticket is the statement itself, so that nothing has to be kept between the call that plans and the one that reads. Only
//! prepared statements are kept: few, and not for long.
//!
//! - [`listen`]: connections, bounded;
//! - [`access`]: who may call;
//! - [`calls`]: the calls of Flight; [`service`]: those of Flight SQL; [`messages`]: what they are made of;
//! - [`catalog`]: what there is;
//! - [`statements`]: prepared statements;
//! - [`stream`]: a statement's rows as they come;
//! - [`status`]: what goes wrong;
//! - [`metrics`]: what is counted.

mod access;
mod calls;
mod catalog;
mod listen;
mod messages;
mod metrics;
mod service;
mod statements;
mod status;
mod stream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use loginlake_service::config::HttpBind;
use loginlake_service::exit::ExitError;
use loginlake_service::http::Guard;
use loginlake_service::http::access::Access;
use loginlake_service::metrics::Metrics;
use loginlake_service::tls::ServerTls;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tracing::{info, warn};

use super::Api;
use calls::Calls;
use metrics::FlightMetrics;
use service::FlightSql;

/// Bytes of a message from a client: a statement, or the values of one.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Bytes of a message to a client. Batches are cut to an eighth of it; one row may need more.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Calls of one connection at the same time.
const MAX_CALLS: u32 = 64;
const MAX_HEADER_BYTES: u32 = 32 << 10;
/// A connection that is silent is asked whether it still is there, and closed when it does not say so.
const KEEPALIVE: Duration = Duration::from_secs(30);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(20);

/// Flight SQL while it is served.
#[derive(Debug)]
pub struct RunningFlight {
    stop: watch::Sender<bool>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    drain_limit: Duration,
}

/// Begins to serve, with the token and the certificate of HTTP. A stop waits for open calls until `drain_limit`.
///
/// # Errors
/// The address cannot be bound, or the certificate cannot be used.
pub async fn start(
    address: SocketAddr,
    http: &HttpBind,
    guard: Option<Guard>,
    api: Arc<Api>,
    metrics: &Metrics,
    drain_limit: Duration,
) -> Result<RunningFlight, ExitError> {
    let failed = |error: std::io::Error| {
        ExitError::failed(format!("cannot serve Flight SQL on {address}: {error}"))
            .with_hint("choose another address with --flight-sql ADDR")
    };
    let has_token = matches!(http.access(), Access::Token(_));
    let guard = guard.filter(|_| has_token);
    let tls = http.tls().cloned().map(|files| ServerTls::load(files, &["h2"]));
    let tls = tls
        .transpose()
        .map_err(|error| ExitError::usage(format!("cannot serve Flight SQL: {error}")))?;
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let metrics = FlightMetrics::register(metrics);
    let service = FlightServiceServer::new(Calls::new(FlightSql::new(api, metrics)))
        .max_decoding_message_size(MAX_REQUEST_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let guarded = InterceptedService::new(service, move |request: tonic::Request<()>| {
        access::check(guard.as_ref(), request.metadata())?;
        Ok(request)
    });
    let (stop, stopping) = watch::channel(false);
    let mut asked = stopping.clone();
    let router = Server::builder()
        .max_concurrent_streams(MAX_CALLS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_LIMIT))
        .add_service(guarded);
    let serving = tokio::spawn(router.serve_with_incoming_shutdown(
        listen::connections(listener, tls.clone(), stopping),
        async move {
            // An error: nobody can ask for it any more.
            let _ = asked.wait_for(|stop| *stop).await;
        },
    ));
    info!(%address, tls = tls.is_some(), "serving Flight SQL");
    if tls.is_none() && !address.ip().to_canonical().is_loopback() {
        warn!(
            "the token can be read on the way, as there is no TLS: give --http-tls-cert and --http-tls-key, or let only a proxy on this network reach this address"
        );
    }
    Ok(RunningFlight {
        stop,
        serving,
        drain_limit,
    })
}

impl RunningFlight {
    /// Stops listening, waits for open calls until the limit, and gives up what is left.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        match tokio::time::timeout(self.drain_limit, &mut self.serving).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the Flight SQL server ended abnormally"),
            Ok(Err(error)) => warn!(%error, "the Flight SQL server ended abnormally"),
            Err(_) => warn!("Flight SQL calls are still open: they are given up"),
        }
    }
}
