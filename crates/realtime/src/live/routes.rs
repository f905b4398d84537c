//! The dashboard over HTTP: the page, its numbers, and its numbers every second.
//!
//! The page is one file without anything from elsewhere. Its policy allows its own style and script by a nonce of each
//! answer, and connections to where it came from; so even a value that were taken for markup could do nothing.

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use futures::Stream;
use uuid::Uuid;

use super::{LiveHandle, Numbers};

/// The page in one file: its style and its script are put into it once.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    include_str!("page.html")
        .replace("{{style}}", include_str!("page.css"))
        .replace("{{script}}", include_str!("page.js"))
});
/// Stands in the page where the nonce goes.
const NONCE_PLACE: &str = "{{nonce}}";
/// How long `/api/stats` waits for complete numbers after nobody has looked for a while; then it tells what there is.
const SETTLED_LIMIT: Duration = Duration::from_secs(5);
/// How long a stream may have nothing to say; well below the time after which nobody seems to look.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(5);
const NO_STORE: (HeaderName, &str) = (CACHE_CONTROL, "no-store");

/// `/`, `/api/stats` and `/api/events`.
pub fn router(live: LiveHandle) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/api/stats", get(stats))
        .route("/api/events", get(events))
        .with_state(live)
}

async fn page() -> impl IntoResponse {
    let nonce = Uuid::new_v4().simple().to_string();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; \
         img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let page = PAGE.replace(NONCE_PLACE, &nonce);
    ([(CONTENT_SECURITY_POLICY, policy)], [NO_STORE], Html(page))
}

async fn stats(State(live): State<LiveHandle>) -> Response {
    let mut numbers = live.look();
    let is_settled = |numbers: &Option<Numbers>| numbers.as_ref().is_some_and(|numbers| numbers.settled);
    // Numbers that are not complete say so themselves.
    let _ = tokio::time::timeout(SETTLED_LIMIT, numbers.wait_for(is_settled)).await;
    let numbers = numbers.borrow().clone();
    match numbers {
        Some(Numbers { json, .. }) => {
            ([NO_STORE, (CONTENT_TYPE, "application/json")], json.to_string()).into_response()
        }
        None => {
            let error = r#"{"error":"no numbers yet; ask again"}"#;
            let head = [NO_STORE, (CONTENT_TYPE, "application/json")];
            (StatusCode::SERVICE_UNAVAILABLE, head, error).into_response()
        }
    }
}

async fn events(State(live): State<LiveHandle>) -> impl IntoResponse {
    (
        [NO_STORE],
        Sse::new(stream(live)).keep_alive(KeepAlive::default()),
    )
}

/// The numbers each time that they are published, beginning with the newest; ends when the service stops.
fn stream(live: LiveHandle) -> impl Stream<Item = Result<Event, Infallible>> {
    let mut numbers = live.look();
    numbers.mark_changed();
    futures::stream::unfold((live, numbers), |(live, mut numbers)| async move {
        loop {
            let stopped = live.stopped();
            tokio::select! {
                () = stopped.cancelled() => return None,
                changed = tokio::time::timeout(ASK_AGAIN_AFTER, numbers.changed()) => {
                    // Looking again each time keeps the reader going.
                    live.look();
                    if let Ok(Err(_)) = changed {
                        return None;
                    }
                }
            }
            let newest = numbers.borrow_and_update().clone();
            if let Some(Numbers { json, .. }) = newest {
                return Some((Ok(Event::default().data(&*json)), (live, numbers)));
            }
        }
    })
}
