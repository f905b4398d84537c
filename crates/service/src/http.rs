//! The HTTP shell of a service: `/metrics`, `/health/live`, `/health/ready`, and whatever the service adds.
//!
//! It only ever reads, needs no authentication because it listens on loopback unless an operator says otherwise, and
//! cannot be made to hold the service up: connections, header sizes, waiting times and bodies are limited, and a
//! stop waits for open answers for [`DRAIN_LIMIT`] at most, then closes them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderValue, StatusCode};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::HttpBind;
use crate::exit::{ExitCode, ExitError};
use crate::health::{Health, HealthReport};
use crate::metrics::{self, Metrics};
use crate::stall::StallLimit;

/// How long a stop waits for answers that are being written, such as event streams.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(2);

const MAX_CONNECTIONS: usize = 256;
const MAX_BODY_BYTES: usize = 64 << 10;
const MAX_HEADER_BYTES: usize = 32 << 10;
const HEADER_READ_LIMIT: Duration = Duration::from_secs(30);
/// A client that takes nothing of its answer for so long is cut off.
const STALL_LIMIT: Duration = Duration::from_secs(30);
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
}

impl From<HttpError> for ExitError {
    fn from(error: HttpError) -> Self {
        Self::caused_by(ExitCode::Failed, &error)
            .with_hint("choose another address with --http ADDR, or --http none for no HTTP")
    }
}

/// Begins to serve; `extra` is what the service adds. With [`HttpBind::OFF`] nothing listens, and what is returned
/// says so. The health is registered with the metrics.
///
/// # Errors
/// The address cannot be bound.
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
/// The address cannot be bound.
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
    let listener = TcpListener::bind(address).await.map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    let stop = CancellationToken::new();
    let accepting = tokio::spawn(accept(
        listener,
        router(metrics, health, extra),
        stop.clone(),
        drain_limit,
    ));
    info!(%address, "serving HTTP");
    Ok(RunningHttp {
        server: Some(Server {
            address,
            stop,
            accepting,
        }),
    })
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
}

impl RunningHttp {
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

async fn accept(listener: TcpListener, router: Router, stop: CancellationToken, drain_limit: Duration) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, router.clone(), stop.clone()));
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

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
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

fn router(metrics: Metrics, health: Health, extra: Router) -> Router {
    Router::new()
        .route("/metrics", get(scrape).with_state(metrics))
        .route("/health/live", get(live).with_state(health.clone()))
        .route("/health/ready", get(ready).with_state(health))
        .merge(extra)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::map_response(secure))
}

async fn scrape(State(metrics): State<Metrics>) -> impl IntoResponse {
    (
        [(CONTENT_TYPE, metrics::CONTENT_TYPE), (CACHE_CONTROL, "no-store")],
        metrics.encode(),
    )
}

async fn live(State(health): State<Health>) -> Response {
    let report = health.report();
    answer(report.live, "live", &report)
}

async fn ready(State(health): State<Health>) -> Response {
    let report = health.report();
    answer(report.ready, "ready", &report)
}

fn answer(good: bool, word: &str, report: &HealthReport) -> Response {
    let (code, status) = if good {
        (StatusCode::OK, word.to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not {word}"))
    };
    let body = json!({ "status": status, "components": report.components });
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
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn running(health: &Health, extra: Router) -> RunningHttp {
        let bind = HttpBind::new(SocketAddr::from(([127, 0, 0, 1], 0)), false).expect("loopback");
        serve(bind, Metrics::new("test"), health.clone(), extra)
            .await
            .expect("a free port")
    }

    /// The whole answer to one request, as text.
    async fn request(http: &RunningHttp, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(http.local_addr().expect("listening"))
            .await
            .expect("connected");
        let request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    #[tokio::test]
    async fn health_is_served_with_the_component_and_the_reason() {
        let health = Health::new();
        let http = running(&health, Router::new()).await;
        let consumer = health.component("consumer", None);
        consumer.not_ready("no broker");
        let answer = request(&http, "GET", "/health/ready").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("application/json"), "{answer}");
        assert!(
            answer.contains(r#""name":"consumer""#) && answer.contains(r#""reason":"no broker""#),
            "{answer}"
        );
        assert!(
            request(&http, "GET", "/health/live")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
        consumer.ready();
        let answer = request(&http, "GET", "/health/ready").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""status":"ready""#),
            "{answer}"
        );
        http.shutdown().await;
    }

    #[tokio::test]
    async fn metrics_are_served_as_openmetrics() {
        let http = running(&Health::new(), Router::new()).await;
        let answer = request(&http, "GET", "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(
            answer.contains(metrics::CONTENT_TYPE) && answer.contains("loginlake_build_info"),
            "{answer}"
        );
        http.shutdown().await;
    }

    #[tokio::test]
    async fn every_answer_is_secured_and_a_policy_of_the_service_stays() {
        let page = || async { ([(CONTENT_SECURITY_POLICY, "default-src 'self'")], "hello") };
        let http = running(&Health::new(), Router::new().route("/", get(page))).await;
        let answer = request(&http, "GET", "/").await;
        assert!(
            answer.contains("default-src 'self'") && !answer.contains("default-src 'none'"),
            "{answer}"
        );
        for (method, path, status) in [("GET", "/nothing", "404"), ("POST", "/metrics", "405")] {
            let answer = request(&http, method, path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(
                answer.contains("default-src 'none'") && answer.contains("nosniff"),
                "{answer}"
            );
            assert!(
                answer.contains("no-referrer") && answer.contains(r#"{"error":"#),
                "{answer}"
            );
        }
        http.shutdown().await;
    }

    #[tokio::test]
    async fn an_address_in_use_is_named_with_what_to_do() {
        let first = running(&Health::new(), Router::new()).await;
        let bind = HttpBind::new(first.local_addr().expect("listening"), false).expect("loopback");
        let error = serve(bind, Metrics::new("test"), Health::new(), Router::new())
            .await
            .expect_err("in use");
        assert!(error.to_string().ends_with("the address is in use"), "{error}");
        assert!(ExitError::from(error).hint.expect("a hint").contains("--http"));
        first.shutdown().await;
    }

    #[tokio::test]
    async fn a_stop_closes_what_waits_and_frees_the_port() {
        let http = running(&Health::new(), Router::new()).await;
        let address = http.local_addr().expect("listening");
        let mut idle = TcpStream::connect(address).await.expect("connected");
        idle.write_all(b"GET /health/live HTTP/1.1\r\nhost: test\r\n\r\n")
            .await
            .expect("sent");
        let mut first = [0; 12];
        idle.read_exact(&mut first).await.expect("an answer");
        assert_eq!(&first, b"HTTP/1.1 200");
        http.shutdown().await;
        let mut rest = Vec::new();
        idle.read_to_end(&mut rest).await.expect("closed by the server");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_an_answer_that_never_ends() {
        let asked = CancellationToken::new();
        let seen = asked.clone();
        let endless = move || async move {
            seen.cancel();
            std::future::pending::<()>().await
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("listening");
        let stop = CancellationToken::new();
        let router = Router::new().route("/", get(endless));
        let accepting = tokio::spawn(accept(listener, router, stop.clone(), Duration::ZERO));
        let mut stream = TcpStream::connect(address).await.expect("connected");
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n")
            .await
            .expect("sent");
        asked.cancelled().await;
        stop.cancel();
        accepting.await.expect("no panic");
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .await
            .expect("closed by the server");
        assert!(answer.is_empty());
    }

    #[tokio::test]
    async fn switched_off_nothing_listens() {
        let http = serve(HttpBind::OFF, Metrics::new("test"), Health::new(), Router::new())
            .await
            .expect("off");
        assert_eq!(http.local_addr(), None);
        http.shutdown().await;
    }
}
