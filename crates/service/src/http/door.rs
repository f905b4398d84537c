//! The door of a service's pages: every request passes it, and is let in, sent to the form, or refused.
//!
//! Probes pass without anything: a system that starts and restarts services cannot log in. Who has not shown that it may ask learns
//! from them only whether the service is ready, not why. Refusals are counted, and said in the log once a minute at most.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::Form;
use axum::extract::rejection::FormRejection;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, VARY, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use serde_json::json;
use tracing::{info, warn};

use super::access::{Access, Refusal, Token};
use super::login;
use crate::metrics::Metrics;
use crate::tls::{FileStamp, file_stamp};

const REFUSED: (&str, &str) = (
    "http_refused_requests",
    "Requests that were refused because of who asked, by reason",
);
/// Seconds between two lines about refusals.
const WARN_EVERY_S: u64 = 60;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[allow(non_camel_case_types)]
enum Reason {
    no_token,
    wrong_token,
    wrong_host,
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoToken => Self::no_token,
            Refusal::WrongToken => Self::wrong_token,
            Refusal::WrongHost => Self::wrong_host,
        }
    }
}

/// In a request's extensions: it may be told everything.
#[derive(Clone, Copy)]
pub(super) struct LetIn;

/// The door of one server.
pub(super) struct Door {
    access: RwLock<(Access, FileStamp)>,
    open_metrics: bool,
    is_tls: bool,
    refused: Family<Labels, Counter>,
    started: Instant,
    /// Seconds since the start, plus one; 0: never.
    warned: AtomicU64,
}

impl Door {
    pub(super) fn new(access: Access, open_metrics: bool, is_tls: bool, metrics: &Metrics) -> Arc<Self> {
        let refused: Family<Labels, Counter> = Family::default();
        for reason in [Reason::no_token, Reason::wrong_token, Reason::wrong_host] {
            let _ = refused.get_or_create(&Labels { reason });
        }
        metrics.register(|registry| registry.register(REFUSED.0, REFUSED.1, refused.clone()));
        Arc::new(Self {
            // The first look reads the file anew: it may have changed since the token was read.
            access: RwLock::new((access, None)),
            open_metrics,
            is_tls,
            refused,
            started: Instant::now(),
            warned: AtomicU64::new(0),
        })
    }

    /// Takes the token anew if its file has changed. A file that holds none is said, and the old token stays.
    pub(super) fn renew(&self) {
        let file = match self.access() {
            Access::Token(token) => token.file().map(ToOwned::to_owned),
            Access::Loopback | Access::Anybody => None,
        };
        let Some(file) = file else { return };
        let stamp = file_stamp(&file);
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        if access.1 == stamp {
            return;
        }
        access.1 = stamp;
        match Token::from_file(&file) {
            Ok(token) if access.0 == Access::Token(token.clone()) => {}
            Ok(token) => {
                access.0 = Access::Token(token);
                info!(file = %file.display(), "another token is asked for from now on");
            }
            Err(error) => warn!(%error, "the old token stays"),
        }
    }

    fn access(&self) -> Access {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        access.0.clone()
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        access.0.check(headers)
    }

    /// [`Self::check`], and counts.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        self.check(headers).inspect_err(|refusal| self.count(*refusal))
    }

    fn count(&self, refusal: Refusal) {
        let reason = Reason::from(refusal);
        self.refused.get_or_create(&Labels { reason }).inc();
        let now = self.started.elapsed().as_secs() + 1;
        let before = self.warned.load(Ordering::Relaxed);
        let is_due = before == 0 || now >= before + WARN_EVERY_S;
        let order = Ordering::Relaxed;
        if is_due && self.warned.compare_exchange(before, now, order, order).is_ok() {
            warn!(
                ?reason,
                "an HTTP request was refused; http_refused_requests_total counts all"
            );
        }
    }

    fn refuse(&self, refusal: Refusal, request: &Request) -> Response {
        self.count(refusal);
        if refusal == Refusal::WrongHost {
            return refused(StatusCode::MISDIRECTED_REQUEST, refusal);
        }
        let mut response = if login::is_for_a_page(request.method(), request.headers()) {
            login::page(request.uri())
        } else {
            refused(StatusCode::UNAUTHORIZED, refusal)
        };
        let scheme = HeaderValue::from_static("Bearer realm=\"loginlake\"");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
        response
    }
}

fn refused(status: StatusCode, refusal: Refusal) -> Response {
    let headers = [(CACHE_CONTROL, "no-store"), (VARY, "Authorization, Cookie")];
    (status, headers, Json(json!({ "error": refusal.message() }))).into_response()
}

/// What every request passes.
pub(super) async fn guard(State(door): State<Arc<Door>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_open = path.starts_with("/health/")
        || (path == login::PATH && matches!(door.access(), Access::Token(_)))
        || (path == "/metrics" && door.open_metrics);
    match door.check(request.headers()) {
        Ok(()) => {
            request.extensions_mut().insert(LetIn);
        }
        Err(_) if is_open => {}
        Err(refusal) => return door.refuse(refusal, &request),
    }
    next.run(request).await
}

/// `GET /login`.
pub(super) async fn form(Extension(door): Extension<Arc<Door>>, request: Request) -> Response {
    match door.access() {
        Access::Token(_) => login::page(request.uri()),
        Access::Loopback | Access::Anybody => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `POST /login`.
pub(super) async fn log_in(
    Extension(door): Extension<Arc<Door>>,
    sent: Result<Form<login::LoginForm>, FormRejection>,
) -> Response {
    let Access::Token(token) = door.access() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let (is_good, response) = login::log_in(&token, sent, door.is_tls);
    if !is_good {
        door.count(Refusal::WrongToken);
    }
    response
}
