//! A job of the cluster from the moment when the scheduler takes it: when nobody waits for it any more, it is cancelled.

use std::error::Error;
use std::sync::LazyLock;
use std::time::Duration;

use ballista_core::BALLISTA_VERSION;
use ballista_core::serde::protobuf::execute_query_failure_result::Failure;
use ballista_core::serde::protobuf::execute_query_result::Result as Submitted;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{CancelJobParams, CleanJobDataParams, ExecuteQueryParams};
use ballista_core::version::{check_compatibility, insert_version_header, version_from_metadata};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::Channel;

use super::scheduler::{NO_EXECUTOR, STOPPING};

/// Calls that tell the cluster what is no longer needed.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

pub(super) type Scheduler = SchedulerGrpcClient<Channel>;

/// Jobs of this process that run, or of whose end the scheduler does not know yet.
static OPEN_JOBS: LazyLock<watch::Sender<usize>> = LazyLock::new(|| watch::channel(0).0);

/// Waits until every job that was dropped is cancelled, for `limit` at most: before a process ends.
pub async fn settled(limit: Duration) {
    let mut open = OPEN_JOBS.subscribe();
    // At the limit the scheduler is left to its own.
    let _ = timeout(limit, open.wait_for(|open| *open == 0)).await;
}

/// A job that the scheduler has taken. Dropped before its rows were fetched, it is cancelled.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) scheduler: Scheduler,
    pub(super) job_id: String,
    rows_are_fetched: bool,
    open: Option<Open>,
}

/// Counts among [`OPEN_JOBS`].
#[derive(Debug)]
struct Open;

impl Open {
    fn new() -> Self {
        OPEN_JOBS.send_modify(|open| *open += 1);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        OPEN_JOBS.send_modify(|open| *open -= 1);
    }
}

/// Hands the job in; else why it was not taken.
pub(super) async fn submit(
    mut scheduler: Scheduler,
    request: ExecuteQueryParams,
) -> std::result::Result<Running, String> {
    let open = Some(Open::new());
    let mut request = tonic::Request::new(request);
    insert_version_header(request.metadata_mut());
    let answer = scheduler
        .execute_query(request)
        .await
        .map_err(|status| refusal(&said(&status)))?;
    let is_compatible = check_compatibility(Some(BALLISTA_VERSION), version_from_metadata(answer.metadata()));
    let running = match answer.into_inner().result {
        Some(Submitted::Success(taken)) => Running {
            scheduler,
            job_id: taken.job_id,
            rows_are_fetched: false,
            open,
        },
        Some(Submitted::Failure(failed)) => {
            let detail = match failed.failure {
                Some(
                    Failure::SessionNotFound(text)
                    | Failure::PlanParsingFailure(text)
                    | Failure::SqlParsingFailure(text),
                ) => text,
                None => "it does not say why".to_owned(),
            };
            return Err(refusal(&detail));
        }
        None => return Err("gave no answer that can be understood".to_owned()),
    };
    is_compatible.map(|()| running)
}

/// Why a query was not taken.
fn refusal(said: &str) -> String {
    if said.contains(NO_EXECUTOR) {
        "has no executor: start one with `olap executor --scheduler`".to_owned()
    } else if said.contains(STOPPING) {
        "is stopping and takes no more queries".to_owned()
    } else {
        format!("refuses the query: {said}")
    }
}

impl Running {
    /// The rows are here: the executors may forget them.
    pub(super) async fn rows_are_fetched(mut self) {
        self.rows_are_fetched = true;
        let job_id = self.job_id.clone();
        let clean = self.scheduler.clean_job_data(CleanJobDataParams {
            job_id,
            remove_stage_ids: Vec::new(),
        });
        // What is not removed now is removed by the scheduler after some minutes.
        let _ = timeout(FAREWELL_LIMIT, clean).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let open = self.open.take();
        if self.rows_are_fetched {
            return;
        }
        let (mut scheduler, job_id) = (self.scheduler.clone(), std::mem::take(&mut self.job_id));
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                // A job that has failed is no longer there to be cancelled; one of a dead scheduler is gone with it.
                let _ = timeout(FAREWELL_LIMIT, scheduler.cancel_job(CancelJobParams { job_id })).await;
                drop(open);
            });
        }
    }
}

/// What a refused call says.
pub(super) fn said(status: &Status) -> String {
    match status.source() {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    }
}

pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// The innermost of what is said of a job that failed.
pub(super) fn cause(error: &str) -> String {
    const WRAPPERS: [&str; 8] = [
        "Job failed due to stage",
        "Task failed due to runtime execution error:",
        "DataFusion error:",
        "Execution error:",
        "Arrow error:",
        "External error:",
        "Parquet error:",
        "General error:",
    ];
    const DEBUG_FORM: &str = "DataFusionError(Execution(";
    let text = error.split_whitespace().collect::<Vec<_>>().join(" ");
    let unquoted: Option<String> = text
        .split_once(DEBUG_FORM)
        .and_then(|(_, debug)| debug.strip_suffix("))"))
        .and_then(|quoted| serde_json::from_str(quoted).ok());
    let text = unquoted.unwrap_or(text);
    let mut rest = text.as_str();
    if rest.contains("could not be prepared or was rejected by executor") {
        return "an executor refuses it: give both the same --lake, and run the same version of olap everywhere; \
                its log says more"
            .to_owned();
    }
    while let Some(inner) = WRAPPERS
        .iter()
        .find_map(|wrapper| rest.split_once(wrapper).map(|(_, inner)| inner.trim_start()))
        .filter(|inner| !inner.is_empty())
    {
        rest = inner;
    }
    rest.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_cause_of_a_failed_job_is_told() {
        assert_eq!(
            cause(
                "Job failed due to stage 1 failed: Task failed due to runtime execution error: DataFusion error: Arrow error: Divide by zero error"
            ),
            "Divide by zero error"
        );
        assert_eq!(cause("all executors were lost"), "all executors were lost");
        assert_eq!(
            cause(
                r#"Job failed due to stage 1 failed: Task failed due to runtime execution error: DataFusionError(Execution("Execution error: no \"x\""))"#
            ),
            r#"no "x""#
        );
        assert!(cause("task could not be prepared or was rejected by executor").contains("the same --lake"));
    }
}
