//! `olap serve`: the SQL files of a directory as a read-only HTTP API.
//!
//! A query is known by its file's name; its parameters are values of prepared parameters. Nothing else can be asked. Each
//! request has a session of its own over the newest state of the lake, with limits on memory, time, rows and bytes, and only
//! so many run at once. An answer is whole or an error. What the client does not wait for any more is stopped.
//!
//! - [`catalog`]: the queries, read at the start;
//! - [`request`]: what is asked;
//! - [`answer`]: the answer; [`columns`]: in types that every Arrow reader knows;
//! - [`error`]: what else a client can get;
//! - [`openapi`]: the description of it all;
//! - [`metrics`]: what is counted;
//! - `flight`: Arrow Flight SQL on a port of its own, if it is asked for.

pub mod answer;
pub mod catalog;
pub mod columns;
pub mod error;
#[cfg(feature = "flight-sql")]
mod flight;
pub mod metrics;
pub mod openapi;
pub mod request;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use loginlake_lake::Lake;
use loginlake_query::QueryOptions;
use loginlake_service::config::HttpBind;
use loginlake_service::exit::ExitError;
use loginlake_service::health::Health;
use loginlake_service::http;
use loginlake_service::http::access::Access;
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;
use serde_json::Value;
use tokio::sync::Semaphore;
use tracing::{debug, info};

use crate::fresh::FreshSource;
use answer::{Answer, WholeAnswer};
use catalog::Catalog;
use error::ApiError;
use metrics::ServeMetrics;
use request::Request;

const ANSWER: HeaderName = HeaderName::from_static("loginlake-answer");
const ROWS: HeaderName = HeaderName::from_static("loginlake-rows");
const TRUNCATED: HeaderName = HeaderName::from_static("loginlake-truncated");
/// How much longer than a query may take a stop waits for answers to be sent.
const SENDING: Duration = Duration::from_secs(2);

/// Limits of the whole service; those of one query are in [`QueryOptions`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Rows of an answer.
    pub max_rows: u64,
    /// Bytes of an answer, in memory and as it is sent.
    pub max_answer_bytes: usize,
    /// Queries that run at once, those included whose answer is still being sent.
    pub max_queries: usize,
    /// How long a request may take, until its answer is whole.
    pub timeout: Duration,
}

/// What a server is started with.
#[derive(Debug)]
pub struct ServeOptions {
    /// The lake.
    pub lake: Lake,
    /// The queries.
    pub catalog: Catalog,
    /// Limits of one query.
    pub query: QueryOptions,
    /// Limits of all.
    pub limits: Limits,
    /// Where fresh records come from; None: they are not offered.
    pub source: Option<Arc<FreshSource>>,
    /// Where it listens, and who may ask.
    pub bind: HttpBind,
    /// Where Flight SQL listens, if it does: on loopback, or with a token. It has the token and the certificate of HTTP.
    #[cfg(feature = "flight-sql")]
    pub flight_sql: Option<std::net::SocketAddr>,
}

/// What requests share.
#[derive(Debug)]
pub struct Api {
    lake: Lake,
    catalog: Catalog,
    query: QueryOptions,
    limits: Limits,
    source: Option<Arc<FreshSource>>,
    permits: Arc<Semaphore>,
    metrics: ServeMetrics,
    list: Bytes,
    document: Bytes,
}

/// Serves until it is asked to stop; then open requests are answered.
///
/// # Errors
/// The address cannot be bound.
pub async fn run(options: ServeOptions, shutdown: &Shutdown) -> Result<(), ExitError> {
    let (metrics, health) = (Metrics::new("serve"), Health::new());
    let drain_limit = options.limits.timeout + SENDING;
    let (count, bind) = (options.catalog.len(), options.bind.clone());
    #[cfg(feature = "flight-sql")]
    let flight_sql = options
        .flight_sql
        .map(|address| (address, metrics.clone(), bind.clone()));
    let api = Arc::new(api(options, &metrics));
    let component = health.component("api", None);
    let server = http::serve_draining(bind, metrics, health, router(Arc::clone(&api)), drain_limit).await?;
    #[cfg(feature = "flight-sql")]
    let flight = match flight_sql {
        Some((address, metrics, bind)) => {
            let guard = server.guard();
            Some(flight::start(address, &bind, guard, api, &metrics, drain_limit).await?)
        }
        None => None,
    };
    component.ready();
    if let Some(address) = server.local_addr() {
        info!(%address, queries = count, "serving queries");
    }
    shutdown.requested().await;
    #[cfg(feature = "flight-sql")]
    if let Some(flight) = flight {
        // Both at once: together they take no longer than one.
        tokio::join!(server.shutdown(), flight.shutdown());
        return Ok(());
    }
    server.shutdown().await;
    Ok(())
}

fn api(options: ServeOptions, metrics: &Metrics) -> Api {
    let has_token = matches!(options.bind.access(), Access::Token(_));
    let limits = options.limits;
    let document = openapi::document(&options.catalog, has_token, limits.max_rows);
    Api {
        list: text_of(&openapi::list(&options.catalog)),
        document: text_of(&document),
        permits: Arc::new(Semaphore::new(limits.max_queries)),
        lake: options.lake,
        catalog: options.catalog,
        query: options.query,
        limits,
        source: options.source,
        metrics: ServeMetrics::register(metrics),
    }
}

fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/queries", get(list))
        .route("/queries/{*name}", get(query))
        .route("/openapi.json", get(document_of))
        .with_state(api)
}

fn text_of(value: &Value) -> Bytes {
    Bytes::from(format!("{value:#}\n"))
}

fn json(text: &Bytes) -> Response {
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("private, no-cache")),
    ];
    (headers, text.clone()).into_response()
}

async fn list(State(api): State<Arc<Api>>) -> Response {
    json(&api.list)
}

async fn document_of(State(api): State<Arc<Api>>) -> Response {
    json(&api.document)
}

async fn query(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    pairs: Result<Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let Some(entry) = api.catalog.get(&name) else {
        let message = "there is no such query: /queries lists those that there are";
        return ApiError::new(StatusCode::NOT_FOUND, message).into_response();
    };
    let began = Instant::now();
    let running = api.metrics.begin();
    let accept = joined(&headers, &ACCEPT);
    let known = joined(&headers, &IF_NONE_MATCH);
    let work = async {
        let Query(pairs) =
            pairs.map_err(|_| ApiError::bad_request("the part after ? is not name=value&…"))?;
        let request = Request::read(pairs, accept.as_deref())?;
        let content_type = request.format.content_type();
        let answer = answer::answer(&api, entry, request, |etag| {
            known.as_deref().is_some_and(|known| matches_etag(known, etag))
        });
        Ok((answer.await?, content_type))
    };
    let limit = api.limits.timeout;
    let result = tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!(
            "the query did not end within {} s: ask for less",
            limit.as_secs_f64()
        );
        Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, message))
    });
    let response = match result {
        Ok((Answer::Whole(answer), content_type)) => whole(&api.metrics, answer, content_type),
        Ok((Answer::NotModified { etag }, _)) => {
            let mut response = StatusCode::NOT_MODIFIED.into_response();
            revalidated(response.headers_mut(), Some(&etag));
            response
        }
        Err(error) => error.into_response(),
    };
    running.end();
    // Values of parameters can be personal: they are not in the log.
    debug!(query = entry.name, status = response.status().as_u16(), elapsed = ?began.elapsed(), "answered");
    api.metrics
        .answered(&entry.name, response.status(), began.elapsed().as_secs_f64());
    response
}

fn whole(metrics: &ServeMetrics, answer: WholeAnswer, content_type: &'static str) -> Response {
    metrics.rows.inc_by(answer.rows);
    metrics.bytes.inc_by(answer.body.as_ref().len() as u64);
    let mut response = Response::new(Body::from(Bytes::from_owner(answer.body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(ROWS, HeaderValue::from(answer.rows));
    let truncated = if answer.truncated { "true" } else { "false" };
    headers.insert(TRUNCATED, HeaderValue::from_static(truncated));
    if let Ok(receipt) = HeaderValue::from_str(&answer.receipt) {
        headers.insert(ANSWER, receipt);
    }
    revalidated(headers, answer.etag.as_deref());
    response
}

/// A copy may be kept by whoever asked, and is to be asked about before it is used again.
fn revalidated(headers: &mut HeaderMap, etag: Option<&str>) {
    match etag.map(HeaderValue::from_str) {
        Some(Ok(etag)) => {
            headers.insert(ETAG, etag);
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        }
        _ => {
            headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
    }
    headers.insert(VARY, HeaderValue::from_static("Accept, Authorization"));
}

/// All headers of a name, as if they were one.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// Whether an `If-None-Match` names a tag, by the weak comparison (RFC 9110, 8.8.3.2).
fn matches_etag(header: &str, etag: &str) -> bool {
    let opaque = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    header.trim() == "*" || header.split(',').any(|tag| opaque(tag) == opaque(etag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_among_several() {
        let etag = "W/\"abc\"";
        for header in ["W/\"abc\"", "\"abc\"", "\"x\", W/\"abc\"", "*", " W/\"abc\" "] {
            assert!(matches_etag(header, etag), "{header}");
        }
        for header in ["\"x\"", "abc", "W/\"abcd\"", ""] {
            assert!(!matches_etag(header, etag), "{header}");
        }
    }
}
