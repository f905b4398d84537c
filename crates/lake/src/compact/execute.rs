//! A plan carried out: per table partition the rows are rewritten, proved to be the same, and committed, so that a run
//! that is interrupted keeps the partitions that it has done.
//!
//! The commit compares the partition's maintenance counter with the version that the list of files came from, and checks
//! once more that each of those files is still in the table. Whoever loses that race removes its files and begins anew
//! from what the winner left. New files are removed only when it is certain that no commit names them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Schema, SchemaRef};
use futures::StreamExt;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::plan::{CompactOptions, CompactionPlan, PartitionPlan, plan};
use super::report::{CompactionEvent, CompactionReport, PartitionOutcome, PartitionReport, Progress};
use super::rewrite::{Rewriter, Rewritten};
use super::scan::location;
use crate::error::LakeError;
use crate::ingest::fail_point::{FailPoint, pass};
use crate::store::Lake;
use crate::table::commit::{CommitOutcome, CommitRequest, NewFile, TableWriter, TxnStep};
use crate::table::{TablePartition, TableSnapshot};

/// Delta's name for what compaction does.
const OPERATION: &str = "OPTIMIZE";
/// How often a partition is begun anew after somebody else changed it.
const MAX_ATTEMPTS: u32 = 3;
/// How often one commit is sent while the store fails.
const COMMIT_TRIES: u32 = 5;
/// The first pause between two of them; each next one is twice as long.
const COMMIT_PAUSE: Duration = Duration::from_millis(200);

/// How a plan is carried out.
#[derive(Clone)]
pub struct ExecuteOptions {
    /// Memory of all jobs together, in bytes; what does not fit is sorted through temporary files. Default 512 MiB.
    pub memory_budget_bytes: usize,
    /// Partitions at the same time. Default 1.
    pub jobs: usize,
    /// Where temporary files go. Default: the system's directory for them.
    pub spill_directory: Option<PathBuf>,
    /// Is told what happens. Default nobody.
    pub progress: Option<Progress>,
}

impl Default for ExecuteOptions {
    fn default() -> Self {
        Self {
            memory_budget_bytes: 512 << 20,
            jobs: 1,
            spill_directory: None,
            progress: None,
        }
    }
}

impl fmt::Debug for ExecuteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecuteOptions")
            .field("memory_budget_bytes", &self.memory_budget_bytes)
            .field("jobs", &self.jobs)
            .field("spill_directory", &self.spill_directory)
            .finish_non_exhaustive()
    }
}

/// Carries a plan out. Dropping the future stops it; partitions that are committed stay so, and what was being written
/// is left to vacuum.
///
/// # Errors
/// The first error of a partition, after the others that had begun have ended; none is begun afterwards. Partitions
/// that were committed stay so: they were told as [`CompactionEvent::Finished`].
pub async fn execute(
    lake: &Lake,
    plan: CompactionPlan,
    options: &ExecuteOptions,
) -> Result<CompactionReport, LakeError> {
    let jobs = options.jobs.max(1).min(plan.partitions.len().max(1));
    let rewriter = Rewriter::new(
        lake,
        plan.table,
        options.memory_budget_bytes,
        jobs,
        options.spill_directory.clone(),
    )?;
    let job = Arc::new(Job {
        rewriter,
        schema: file_schema(&plan.schema, &plan.partition_columns),
        table_schema: plan.schema,
        partition_columns: plan.partition_columns,
        options: plan.options,
        progress: options.progress.clone(),
    });
    let mut waiting = plan.partitions.into_iter();
    let mut running = JoinSet::new();
    let mut report = CompactionReport {
        table: plan.table,
        partitions: Vec::new(),
    };
    let mut first_error = None;
    loop {
        while first_error.is_none() && running.len() < jobs {
            let Some(work) = waiting.next() else { break };
            let job = Arc::clone(&job);
            running.spawn(async move { job.run(work).await });
        }
        match running.join_next().await {
            None => break,
            Some(Ok(Ok(partition))) => {
                job.tell(CompactionEvent::Finished(partition.clone()));
                report.partitions.push(partition);
            }
            Some(Ok(Err(error))) => first_error = first_error.or(Some(error)),
            Some(Err(panic)) => {
                first_error = first_error.or(Some(LakeError::Invariant(format!(
                    "a compaction job panicked: {panic}"
                ))));
            }
        }
    }
    first_error.map_or(Ok(report), Err)
}

/// The columns of a file: those of the table without those of its partitions.
pub(crate) fn file_schema(schema: &Schema, partition_columns: &[String]) -> SchemaRef {
    let fields = schema
        .fields()
        .iter()
        .filter(|field| !partition_columns.contains(field.name()));
    Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
}

/// What the partitions of a run share.
struct Job {
    rewriter: Rewriter,
    schema: SchemaRef,
    table_schema: SchemaRef,
    partition_columns: Vec<String>,
    options: CompactOptions,
    progress: Option<Progress>,
}

/// How one attempt ended, when nothing failed.
enum Attempt {
    Committed(PartitionReport),
    /// Somebody else changed the partition.
    Lost(String),
}

impl Job {
    fn tell(&self, event: CompactionEvent) {
        if let Some(progress) = &self.progress {
            progress(event);
        }
    }

    /// A partition until it is committed, superseded or given up.
    async fn run(&self, mut work: PartitionPlan) -> Result<PartitionReport, LakeError> {
        let partition = work.partition.clone();
        let (files, bytes) = (work.sources.len(), work.bytes());
        self.tell(CompactionEvent::Started {
            partition: partition.clone(),
            files,
            bytes,
        });
        let mut attempt = 1;
        loop {
            let detail = match self.attempt(&work).await? {
                Attempt::Committed(report) => return Ok(report),
                Attempt::Lost(detail) => detail,
            };
            tracing::info!(table = %self.rewriter.table, %partition, attempt, detail, "compaction superseded");
            let left = match attempt < MAX_ATTEMPTS {
                true => self.plan_again(&partition).await?,
                false => None,
            };
            let Some(left) = left else {
                let outcome = PartitionOutcome::Superseded { detail };
                return Ok(PartitionReport {
                    partition,
                    outcome,
                    files_before: 0,
                    files_after: 0,
                    bytes_before: 0,
                    bytes_after: 0,
                    rows: 0,
                    spilled_bytes: 0,
                });
            };
            self.tell(CompactionEvent::Restarted {
                partition: partition.clone(),
                detail,
            });
            work = left;
            attempt += 1;
        }
    }

    async fn attempt(&self, work: &PartitionPlan) -> Result<Attempt, LakeError> {
        let batch_id = Uuid::new_v4();
        let mut files = Vec::new();
        pass(FailPoint::CompactionBeforeRewrite)?;
        let written = |rows| {
            self.tell(CompactionEvent::Written {
                partition: work.partition.clone(),
                rows,
            })
        };
        let target = self.options.target_file_bytes;
        let rewritten = self
            .rewriter
            .rewrite(work, &self.schema, target, batch_id, &mut files, &written)
            .await;
        let ready = match rewritten {
            Ok(rewritten) => self
                .current(work)
                .await
                .map(|current| current.map(|writer| (writer, rewritten))),
            // A source that vacuum took after somebody else's compaction is not an error.
            Err(error) => match self.current(work).await {
                Ok(Err(detail)) => Ok(Err(detail)),
                Ok(Ok(_)) | Err(_) => Err(error),
            },
        };
        match ready {
            Ok(Ok((mut writer, rewritten))) => {
                self.commit(&mut writer, work, batch_id, files, rewritten).await
            }
            Ok(Err(detail)) => {
                self.remove(&files).await;
                Ok(Attempt::Lost(detail))
            }
            Err(error) => {
                self.remove(&files).await;
                Err(error)
            }
        }
    }

    /// A writer at the newest version, when `work` is still right for it; otherwise what was changed.
    async fn current(&self, work: &PartitionPlan) -> Result<Result<TableWriter, String>, LakeError> {
        let snapshot = self.snapshot().await?;
        let found = snapshot
            .transactions
            .get(&work.partition.maintenance_app_id())
            .copied();
        if found != work.maintenance_version {
            return Ok(Err(format!(
                "another run of maintenance has changed it by version {}",
                snapshot.version
            )));
        }
        if snapshot.schema != self.table_schema || snapshot.partition_columns != self.partition_columns {
            return Ok(Err(format!("version {} has another schema", snapshot.version)));
        }
        let files: std::collections::HashMap<&str, u64> = snapshot
            .files
            .iter()
            .map(|file| (file.path.as_str(), file.size_bytes))
            .collect();
        let gone = work
            .sources
            .iter()
            .find(|source| files.get(source.path.as_str()) != Some(&source.size_bytes));
        match gone {
            Some(source) => Ok(Err(format!(
                "version {} does not have {}",
                snapshot.version, source.path
            ))),
            None => TableWriter::at_snapshot(&self.rewriter.lake, &snapshot).map(Ok),
        }
    }

    async fn snapshot(&self) -> Result<TableSnapshot, LakeError> {
        let Rewriter { lake, table, .. } = &self.rewriter;
        lake.snapshot(*table, None).await?.ok_or_else(|| LakeError::Log {
            place: lake.table_place(*table),
            detail: "the table was deleted while it was being compacted".to_owned(),
        })
    }

    /// What is left to do in a partition. `None`: nothing, or the table has another schema, which this run does not know.
    async fn plan_again(&self, partition: &TablePartition) -> Result<Option<PartitionPlan>, LakeError> {
        let snapshot = self.snapshot().await?;
        if snapshot.schema != self.table_schema || snapshot.partition_columns != self.partition_columns {
            return Ok(None);
        }
        Ok(plan(&snapshot, &self.options)
            .partitions
            .into_iter()
            .find(|plan| plan.partition == *partition))
    }

    async fn commit(
        &self,
        writer: &mut TableWriter,
        work: &PartitionPlan,
        batch_id: Uuid,
        files: Vec<NewFile>,
        rewritten: Rewritten,
    ) -> Result<Attempt, LakeError> {
        let request = commit_request(work, batch_id, files, rewritten);
        let mut failed = false;
        pass(FailPoint::CompactionBeforeCommit)?;
        let outcome = loop_commit(writer, &request, &mut failed).await?;
        pass(FailPoint::CompactionAfterCommit)?;
        match outcome {
            CommitOutcome::Committed { version } => Ok(Attempt::Committed(PartitionReport {
                partition: work.partition.clone(),
                outcome: PartitionOutcome::Compacted { version },
                files_before: work.sources.len(),
                files_after: request.adds.len(),
                bytes_before: work.bytes(),
                bytes_after: request.adds.iter().map(|file| file.size_bytes).sum(),
                rows: rewritten.fingerprint.rows,
                spilled_bytes: rewritten.spilled_bytes,
            })),
            CommitOutcome::Fenced { .. } | CommitOutcome::Conflict { .. } => {
                // After an unanswered try it may be our own commit, or a successor of it, that is in the way.
                if !failed {
                    self.remove(&request.adds).await;
                }
                Ok(Attempt::Lost(match outcome {
                    CommitOutcome::Conflict { detail } => detail,
                    _ => "another run of maintenance was first".to_owned(),
                }))
            }
        }
    }

    /// Files that no commit names.
    async fn remove(&self, files: &[NewFile]) {
        let paths: Vec<_> = files.iter().map(|file| Ok(location(&file.path))).collect();
        let store = self.rewriter.lake.table_store(self.rewriter.table);
        let mut deleted = store.delete_stream(futures::stream::iter(paths).boxed());
        while let Some(result) = deleted.next().await {
            if let Err(error) = result {
                tracing::debug!(%error, "a file of an abandoned compaction stays until vacuum");
            }
        }
    }
}

fn commit_request(
    work: &PartitionPlan,
    batch_id: Uuid,
    adds: Vec<NewFile>,
    rewritten: Rewritten,
) -> CommitRequest {
    let Rewritten { fingerprint, .. } = rewritten;
    CommitRequest {
        batch_id,
        operation: OPERATION,
        steps: vec![TxnStep {
            app_id: work.partition.maintenance_app_id(),
            from: work.maintenance_version,
            to: work.maintenance_version.unwrap_or(0) + 1,
        }],
        info: json!({
            "kind": "compaction",
            "partition": work.partition.to_string(),
            "rows": fingerprint.rows,
            "rowsRemoved": fingerprint.rows,
            "sum": format!("{:016x}", fingerprint.sum),
            "xor": format!("{:016x}", fingerprint.xor),
        }),
        adds,
        removes: work.sources.clone(),
        data_change: false,
    }
}

/// Sends the same request until the store answers, a bounded number of times. `failed`: at least one try was not
/// answered, so that the request may have been committed without our knowing.
pub(crate) async fn loop_commit(
    writer: &mut TableWriter,
    request: &CommitRequest,
    failed: &mut bool,
) -> Result<CommitOutcome, LakeError> {
    let mut pause = COMMIT_PAUSE;
    for _ in 1..COMMIT_TRIES {
        match writer.commit(request).await {
            Err(error) if error.is_retriable() => {
                *failed = true;
                tracing::warn!(%error, "maintenance commit not answered, sent again");
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            result => return result,
        }
    }
    writer.commit(request).await
}
