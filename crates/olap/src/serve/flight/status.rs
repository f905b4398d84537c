//! What goes wrong, as a status of gRPC. What is wrong with a statement is said to whoever asked, with its place; what is wrong
//! with the lake or the store goes to the log, and the client learns only whether it is worth to ask again.

use axum::http::StatusCode;
use loginlake_query::{ParameterError, QueryError};
use tonic::Status;
use tracing::warn;

use crate::serve::error::ApiError;

/// The status of a statement that cannot be answered.
pub(super) fn of_query(error: QueryError) -> Status {
    match error {
        QueryError::Sql(_)
        | QueryError::ReadOnly(_)
        | QueryError::NoStatement { .. }
        | QueryError::NotInView { .. } => Status::invalid_argument(error.to_string()),
        QueryError::Parameter(error) => of_parameter(&error),
        QueryError::Timeout { limit } => Status::deadline_exceeded(too_long(limit)),
        QueryError::OutOfMemory { .. } | QueryError::SpillFull { .. } => {
            warn!(%error, "a statement was too large");
            Status::resource_exhausted("the query needs more memory than it may have: ask for less")
        }
        QueryError::Execution(_) => Status::failed_precondition(error.to_string()),
        QueryError::Tail(error) if error.is_gone => Status::failed_precondition(error.message),
        QueryError::Lake(_)
        | QueryError::NoTables { .. }
        | QueryError::FileGone { .. }
        | QueryError::Tail(_)
        | QueryError::Setup(_)
        | QueryError::Output(_) => {
            warn!(%error, "the lake could not be asked");
            Status::unavailable("the data cannot be read now: ask again")
        }
        error => {
            let line = error.to_string();
            warn!(
                error = line.lines().next().unwrap_or_default(),
                "a statement cannot be run"
            );
            Status::internal("the query cannot be run on this lake: the log of the service says why")
        }
    }
}

/// The status of values that do not fit.
pub(super) fn of_parameter(error: &ParameterError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The status of what the HTTP API would answer.
pub(super) fn of_api(error: &ApiError) -> Status {
    let message = error.message().to_owned();
    match error.status() {
        StatusCode::BAD_REQUEST => Status::invalid_argument(message),
        StatusCode::CONFLICT => Status::failed_precondition(message),
        StatusCode::SERVICE_UNAVAILABLE => Status::unavailable(message),
        _ => Status::internal(message),
    }
}

/// What is said when the time is over.
pub(super) fn too_long(limit: std::time::Duration) -> String {
    format!(
        "the query did not end, or its rows were not taken, within {} s: ask for less",
        limit.as_secs_f64()
    )
}
