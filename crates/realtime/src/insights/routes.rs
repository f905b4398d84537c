//! `/api/insights`: the last reports as JSON.

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;

use super::sink::InsightHandle;

/// `/api/insights`: an array of the last [`KEPT_REPORTS`](super::KEPT_REPORTS) reports, the newest first.
pub fn router(insights: InsightHandle) -> Router {
    Router::new()
        .route("/api/insights", get(recent))
        .with_state(insights)
}

async fn recent(State(insights): State<InsightHandle>) -> impl IntoResponse {
    let head = [(CACHE_CONTROL, "no-store"), (CONTENT_TYPE, "application/json")];
    (head, insights.recent_json())
}
