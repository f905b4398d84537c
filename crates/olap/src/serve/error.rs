//! What a request gets instead of an answer: a status, one sentence, and the parameter that is to blame, as JSON.
//!
//! What is wrong with the request is said to whoever asked. What is wrong with the lake, the store or a SQL file goes to
//! the log, and the client learns only whether it is worth to ask again.

use axum::Json;
use axum::http::header::{CACHE_CONTROL, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use loginlake_query::{ParameterError, QueryError};
use loginlake_service::exit::{ExitCode, ExitError};
use serde_json::{Map, Value};
use tracing::warn;

/// An error of a request.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
    parameter: Option<String>,
    /// Seconds after which it is worth to ask again.
    retry_after: Option<u64>,
}

impl ApiError {
    /// With a status of its own.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            parameter: None,
            retry_after: None,
        }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Names the parameter that is to blame.
    #[must_use]
    pub fn of_parameter(mut self, name: &str) -> Self {
        self.parameter = Some(name.chars().take(60).collect());
        self
    }

    /// Says when it is worth to ask again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is said.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The parameter that is to blame.
    pub fn parameter(&self) -> Option<&str> {
        self.parameter.as_deref()
    }

    /// The query `name` failed.
    pub fn of_query(name: &str, error: QueryError) -> Self {
        match error {
            QueryError::Parameter(error) => error.into(),
            QueryError::Timeout { limit } => Self::new(
                StatusCode::GATEWAY_TIMEOUT,
                format!(
                    "the query did not end within {} s: ask for less",
                    limit.as_secs_f64()
                ),
            ),
            error @ (QueryError::OutOfMemory { .. } | QueryError::SpillFull { .. }) => {
                warn!(query = name, %error, "a query was too large");
                Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "the query needs more memory than it may have: ask for less",
                )
            }
            QueryError::Execution(place) => {
                warn!(
                    query = name,
                    line = place.line,
                    column = place.column,
                    error = place.message,
                    "a query failed"
                );
                Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    format!("the query failed: {}", place.message),
                )
            }
            QueryError::Tail(error) if error.is_gone => Self::new(StatusCode::CONFLICT, error.message),
            error @ QueryError::NotInView { .. } => Self::bad_request(error.to_string()),
            error @ (QueryError::Lake(_)
            | QueryError::NoTables { .. }
            | QueryError::FileGone { .. }
            | QueryError::Tail(_)
            | QueryError::Setup(_)
            | QueryError::Output(_)) => {
                warn!(query = name, %error, "the lake could not be asked");
                Self::unavailable()
            }
            error => {
                warn!(query = name, error = %error.to_string().lines().next().unwrap_or_default(), "a query cannot be run");
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the query cannot be run on this lake: the log of the service says why",
                )
            }
        }
    }

    /// The fresh records of a query could not be had.
    pub fn of_source(name: &str, error: &ExitError) -> Self {
        match error.code {
            ExitCode::Usage => Self::bad_request(error.message.clone()).of_parameter("fresh"),
            ExitCode::Refused => Self::new(StatusCode::CONFLICT, error.message.clone()),
            ExitCode::Failed => {
                warn!(
                    query = name,
                    error = error.message,
                    "the topic could not be asked"
                );
                Self::unavailable()
            }
        }
    }

    fn unavailable() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the data cannot be read now: ask again",
        )
        .retry_after(5)
    }
}

impl From<ParameterError> for ApiError {
    fn from(error: ParameterError) -> Self {
        Self::bad_request(error.message).of_parameter(&error.name)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = Map::from_iter([("error".to_owned(), Value::from(self.message))]);
        if let Some(name) = self.parameter {
            body.insert("parameter".to_owned(), Value::from(name));
        }
        let mut response = (self.status, Json(Value::Object(body))).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
