//! The one batch that is on its way into the tables while the next is being filled.

use std::sync::Arc;
use std::time::Instant;

use loginlake_lake::LakeError;
use loginlake_lake::ingest::{BatchOutcome, BatchRanges, Committer, RollReason};
use loginlake_service::backoff::Backoff;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::assignment::{Assignment, other_topic};
use super::counted_rows::{CountedBatch, Counts};
use super::told::BatchTraces;

/// Attempts that are still made for a batch after the process was asked to stop: then its records stay in Kafka.
const ATTEMPTS_WHILE_STOPPING: u32 = 3;

/// A batch whose commit runs in the background.
pub(super) struct InFlight {
    pub ranges: BatchRanges,
    pub logins: u64,
    /// Rejected rows and delays: they count once it is committed.
    pub counts: Counts,
    pub reason: RollReason,
    /// Of its records.
    pub traces: BatchTraces,
    pub closed: Instant,
    task: JoinHandle<Result<(BatchOutcome, i64), LakeError>>,
}

impl InFlight {
    /// Sends a batch off. It is tried for ever, visibly, unless the process is asked to stop.
    pub fn send(
        runtime: &Handle,
        assignment: Arc<Assignment>,
        batch: CountedBatch,
        reason: RollReason,
        traces: BatchTraces,
    ) -> Self {
        let CountedBatch { batch, counts } = batch;
        let ranges = batch.ranges.clone();
        let logins = batch.rows - batch.rejected_rows;
        let task = runtime.spawn(async move {
            let mut committer = assignment.committer.lock().await;
            let mut batch = Committer::prepare(batch).await?;
            let mut backoff = Backoff::default();
            let mut attempts_while_stopping = 0;
            let mut is_checked = false;
            loop {
                let result = match check_topic(&assignment, &mut is_checked).await {
                    Ok(()) => committer.commit(&mut batch).await,
                    Err(error) => Err(error),
                };
                match result {
                    Ok(outcome) => {
                        assignment.store_health.ready();
                        return Ok((outcome, chrono::Utc::now().timestamp_millis()));
                    }
                    Err(error) if error.is_retriable() => {
                        tracing::warn!(%error, attempt = backoff.attempts() + 1, "commit failed; trying again");
                        assignment.store_health.not_ready(error.to_string());
                        assignment.metrics.retries.inc();
                        let shutdown = &assignment.shutdown;
                        if shutdown.is_requested() {
                            attempts_while_stopping += 1;
                            if attempts_while_stopping > ATTEMPTS_WHILE_STOPPING {
                                return Err(error);
                            }
                        }
                        let delay = backoff.next_delay();
                        tokio::select! {
                            () = tokio::time::sleep(delay) => {}
                            () = shutdown.requested(), if !shutdown.is_requested() => {}
                        }
                    }
                    Err(error) => return Err(error),
                }
            }
        });
        Self {
            ranges,
            logins,
            counts,
            reason,
            traces,
            closed: Instant::now(),
            task,
        }
    }

    /// Whether the outcome is there.
    pub fn is_done(&self) -> bool {
        self.task.is_finished()
    }

    /// The outcome and when it was there, epoch milliseconds; waits for it.
    pub fn outcome(&mut self, runtime: &Handle) -> Result<(BatchOutcome, i64), LakeError> {
        runtime
            .block_on(&mut self.task)
            .unwrap_or_else(|error| Err(LakeError::Invariant(format!("a commit panicked: {error}"))))
    }
}

/// Once for each batch, after its last record was read: all of it is of the topic that the table's offsets are of.
async fn check_topic(assignment: &Arc<Assignment>, is_checked: &mut bool) -> Result<(), LakeError> {
    if *is_checked {
        return Ok(());
    }
    let asked = Arc::clone(assignment);
    let answer = tokio::task::spawn_blocking(move || asked.is_same_topic()).await;
    match answer.unwrap_or_default() {
        Some(true) => {
            *is_checked = true;
            Ok(())
        }
        Some(false) => Err(LakeError::DataLossRefused(other_topic(&assignment.topic))),
        None => Err(LakeError::Unreachable {
            place: format!("topic {}", assignment.topic),
            detail: "no broker says whether it still is the same topic".to_owned(),
        }),
    }
}
