//! The HTTP shell of a service: `/metrics`, `/health/live`, `/health/ready`, and whatever the service adds.
//!
//! It only ever reads. Beyond loopback it asks for a token, unless an operator says otherwise, and speaks TLS where it is given a
//! certificate; token and certificate are read again when their files change. It cannot be made to hold the service up:
//! connections, handshakes, header sizes, waiting times and bodies are limited, and a stop waits for open answers for
//! [`DRAIN_LIMIT`] at most, then closes them.
//!
//! - [`access`]: who may ask;
//! - `door`: what every request passes;
//! - `login`: the way in for a person with a browser.

pub mod access;
mod door;
mod login;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::HttpBind;
use crate::exit::{ExitCode, ExitError};
use crate::health::{Health, HealthReport};
use crate::metrics::{self, Metrics};
use crate::stall::StallLimit;
use crate::tls::{ServerTls, TlsError};
use door::{Door, LetIn};

/// How long a stop waits for answers that are being written, such as event streams.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(2);

const MAX_CONNECTIONS: usize = 256;
const MAX_BODY_BYTES: usize = 64 << 10;
const MAX_HEADER_BYTES: usize = 32 << 10;
const HEADER_READ_LIMIT: Duration = Duration::from_secs(30);
/// A client that takes nothing of its answer for so long is cut off.
const STALL_LIMIT: Duration = Duration::from_secs(30);
/// A client that has not finished the handshake of TLS by then is cut off.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// How often the files of token and certificate are looked at.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// After a failed accept (mostly: no file descriptor left) the next one waits, or the loop would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why HTTP cannot be served.
#[derive(Debug, Error)]
pub enum HttpError {
    /// Somebody else listens there.
    #[error("cannot serve HTTP on {address}: the address is in use")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The operating system refuses for another reason.
    #[error("cannot serve HTTP on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificate cannot be used.
    #[error("cannot serve HTTPS")]
    Tls(#[from] TlsError),
}

impl From<HttpError> for ExitError {
    fn from(error: HttpError) -> Self {
        let (code, hint) = match &error {
            HttpError::Tls(_) => (
                ExitCode::Usage,
                "give the PEM files of a certificate and of its key with --http-tls-cert and --http-tls-key",
            ),
            _ => (
                ExitCode::Failed,
                "choose another address with --http ADDR, or --http none for no HTTP",
            ),
        };
        Self::caused_by(code, &error).with_hint(hint)
    }
}

/// Begins to serve; `extra` is what the service adds. With [`HttpBind::OFF`] nothing listens, and what is returned
/// says so. The health is registered with the metrics.
///
/// # Errors
/// The address cannot be bound, or the certificate cannot be used.
pub async fn serve(
    bind: HttpBind,
    metrics: Metrics,
    health: Health,
    extra: Router,
) -> Result<RunningHttp, HttpError> {
    serve_draining(bind, metrics, health, extra, DRAIN_LIMIT).await
}

/// The same for a service whose answers take longer: a stop waits for them until `drain_limit`.
///
/// # Errors
/// As [`serve`].
pub async fn serve_draining(
    bind: HttpBind,
    metrics: Metrics,
    health: Health,
    extra: Router,
    drain_limit: Duration,
) -> Result<RunningHttp, HttpError> {
    health.register(&metrics);
    let Some(address) = bind.address() else {
        return Ok(RunningHttp { server: None });
    };
    let bind_error = |source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => HttpError::AddressInUse { address },
        _ => HttpError::Bind { address, source },
    };
    let tls = bind
        .tls()
        .cloned()
        .map(|files| ServerTls::load(files, &["http/1.1"]));
    let tls = tls.transpose()?;
    let door = Door::new(
        bind.access().clone(),
        bind.open_metrics(),
        tls.is_some(),
        &metrics,
    );
    let listener = TcpListener::bind(address).await.map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    let stop = CancellationToken::new();
    tokio::spawn(renew(Arc::clone(&door), tls.clone(), stop.clone()));
    let accepting = tokio::spawn(accept(
        listener,
        tls.clone(),
        router(metrics, health, extra, Arc::clone(&door)),
        stop.clone(),
        drain_limit,
    ));
    info!(%address, tls = tls.is_some(), "serving HTTP");
    if matches!(bind.access(), access::Access::Token(_)) && tls.is_none() && !is_loopback(address) {
        warn!(
            "the token can be read on the way, as there is no TLS: give --http-tls-cert and --http-tls-key, or let only a proxy on this network reach this address"
        );
    }
    Ok(RunningHttp {
        server: Some(Server {
            address,
            stop,
            accepting,
            guard: Guard(door),
        }),
    })
}

/// Who may ask, for what is served beside HTTP: the same token, also after its file has changed.
#[derive(Clone)]
pub struct Guard(Arc<Door>);

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard(…)")
    }
}

impl Guard {
    /// Whether whoever sends these headers may ask. Refusals are counted with those of HTTP.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, headers: &axum::http::HeaderMap) -> Result<(), access::Refusal> {
        self.0.admit(headers)
    }
}

/// HTTP while it is served. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct RunningHttp {
    server: Option<Server>,
}

#[derive(Debug)]
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    accepting: JoinHandle<()>,
    guard: Guard,
}

impl RunningHttp {
    /// What its requests are asked for; None where HTTP is off.
    pub fn guard(&self) -> Option<Guard> {
        self.server.as_ref().map(|server| server.guard.clone())
    }

    /// Where it listens, with the port that was free where 0 was asked for; None where HTTP is off.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(|server| server.address)
    }

    /// Stops listening, waits for open answers for [`DRAIN_LIMIT`] (or the limit that it was given) at most, and closes what
    /// is left.
    pub async fn shutdown(mut self) {
        let Some(server) = &mut self.server else { return };
        server.stop.cancel();
        if let Err(error) = (&mut server.accepting).await {
            warn!(%error, "the HTTP server ended abnormally");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Looks at the files of token and certificate until the server stops.
async fn renew(door: Arc<Door>, tls: Option<ServerTls>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RENEW_EVERY) => {}
        }
        door.renew();
        match tls.as_ref().map(ServerTls::renew) {
            Some(Ok(true)) => info!("another certificate is served from now on"),
            Some(Err(error)) => warn!(%error, "the old certificate stays"),
            Some(Ok(false)) | None => {}
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<ServerTls>,
    router: Router,
    stop: CancellationToken,
    drain_limit: Duration,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, tls.clone(), router.clone(), stop.clone()));
                }
                Err(error) => {
                    warn!(%error, "cannot accept an HTTP connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(drain_limit, drained).await.is_err() {
        debug!(
            open = connections.len(),
            "closing HTTP connections that are still open"
        );
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, tls: Option<ServerTls>, router: Router, stop: CancellationToken) {
    let Some(tls) = tls else {
        return exchange(stream, router, stop).await;
    };
    let handshake = tokio::time::timeout(HANDSHAKE_LIMIT, tls.acceptor().accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => exchange(stream, router, stop).await,
        Ok(Err(error)) => debug!(%error, "a client of HTTPS did not agree on TLS"),
        Err(_) => debug!("a client of HTTPS did not finish its handshake"),
    }
}

async fn exchange<S>(stream: S, router: Router, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ_LIMIT)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(
            TokioIo::new(StallLimit::new(stream, STALL_LIMIT)),
            TowerToHyperService::new(router),
        );
    let mut serving = std::pin::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "an HTTP connection ended early");
    }
}

fn router(metrics: Metrics, health: Health, extra: Router, door: Arc<Door>) -> Router {
    Router::new()
        .route("/metrics", get(scrape).with_state(metrics))
        .route("/health/live", get(live).with_state(health.clone()))
        .route("/health/ready", get(ready).with_state(health))
        .route("/login", get(door::form).post(door::log_in))
        .merge(extra)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(Extension(Arc::clone(&door)))
        .layer(middleware::from_fn_with_state(door, door::guard))
        .layer(middleware::map_response(secure))
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, metrics::CONTENT_TYPE), (CACHE_CONTROL, "no-store")],
        metrics.encode(),
    )
}

async fn live(State(health): State<Health>, known: Option<Extension<LetIn>>) -> Response {
    let report = health.report();
    answer(report.live, "live", &report, known.is_some())
}

async fn ready(State(health): State<Health>, known: Option<Extension<LetIn>>) -> Response {
    let report = health.report();
    answer(report.ready, "ready", &report, known.is_some())
}

/// A stranger gets the word only: reasons name brokers, stores and topics.
fn answer(good: bool, word: &str, report: &HealthReport, is_known: bool) -> Response {
    let (code, status) = if good {
        (StatusCode::OK, word.to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not {word}"))
    };
    let body = if is_known {
        json!({ "status": status, "components": report.components })
    } else {
        json!({ "status": status })
    };
    (code, [(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

async fn not_found() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, Json(json!({ "error": "not found" })))
}

async fn method_not_allowed() -> impl IntoResponse {
    (
        StatusCode::METHOD_NOT_ALLOWED,
        Json(json!({ "error": "method not allowed" })),
    )
}

/// What a page may do is nothing, unless the service's own router has said more.
async fn secure(mut response: Response) -> Response {
    const DEFAULTS: [(HeaderName, &str); 4] = [
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    let headers = response.headers_mut();
    for (name, value) in DEFAULTS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
