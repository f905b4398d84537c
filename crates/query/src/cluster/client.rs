//! A plan to the scheduler, and its rows back.
//!
//! The scheduler is asked for the job's state until it has ended; then the rows are fetched from the executors that hold them, one part
//! after another, so that an order holds, and the executors are told that they are no longer needed. A job whose rows nobody waits
//! for any more, because of a signal, a time limit or an error, is cancelled; [`settled`] waits until the scheduler knows.
//!
//! *Failure.* A scheduler that does not answer, has forgotten the job, or has no executor is an error at once, within
//! [`CALL_LIMIT`]. An executor that dies with rows that were not fetched yet is an error, too: the query is to be asked again.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use ballista_core::client::BallistaClient;
use ballista_core::extension::{BallistaConfigGrpcEndpoint, SessionConfigHelperExt};
use ballista_core::serde::protobuf::execute_query_params::Query;
use ballista_core::serde::protobuf::job_status::Status as State;
use ballista_core::serde::protobuf::scheduler_grpc_client::SchedulerGrpcClient;
use ballista_core::serde::protobuf::{ExecuteQueryParams, GetJobStatusParams, PartitionLocation};
use datafusion::datasource::physical_plan::FileScanConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::analyze::AnalyzeExec;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion_proto::physical_plan::AsExecutionPlan;
use datafusion_proto::protobuf::PhysicalPlanNode;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tonic::transport::Endpoint;
use uuid::Uuid;

use super::codec::Codec;
pub use super::running::settled;
use super::running::{Running, Scheduler, cause, chain, said, submit};
use super::vcores::LOST;
use super::{ClusterAddress, MAX_MESSAGE_BYTES};
use crate::error::{QueryError, pack};

/// How long a call to the scheduler may take, and a connection to an executor.
pub const CALL_LIMIT: Duration = Duration::from_secs(20);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// A peer that answers no ping for so long is taken for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// First and longest wait between two questions for the job's state.
const FIRST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(50);
/// The scheduler does not know a job at once; one that it does not know for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);
/// How often a query is asked, when executors die, and the pause in which a death becomes known.
const ATTEMPTS: u32 = 5;
const PAUSE_AFTER_DEATH: Duration = Duration::from_secs(1);
/// Batches that wait for whoever reads the rows.
const WAITING_BATCHES: usize = 2;

/// What is computed instead of `plan`: the same by the cluster, where it reads files of the lake, else `plan` itself.
pub(crate) fn distributed(
    address: &ClusterAddress,
    has_own_regions: bool,
    plan: Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    if !any(&plan, &reads_files) {
        return Ok(plan);
    }
    if any(&plan, &|node| node.is::<AnalyzeExec>()) {
        return Err(DataFusionError::Plan(
            "EXPLAIN ANALYZE measures one process: ask without --cluster".to_owned(),
        ));
    }
    let job: Arc<dyn PartitionStream> = Arc::new(ClusterStream {
        schema: plan.schema(),
        job: Arc::new(Job {
            address: address.clone(),
            has_own_regions,
            plan,
        }),
    });
    let schema = Arc::clone(job.schema());
    Ok(Arc::new(StreamingTableExec::try_new(
        schema,
        vec![job],
        None,
        [],
        false,
        None,
    )?))
}

fn any(plan: &Arc<dyn ExecutionPlan>, found: &impl Fn(&Arc<dyn ExecutionPlan>) -> bool) -> bool {
    found(plan) || plan.children().into_iter().any(|child| any(child, found))
}

fn reads_files(node: &Arc<dyn ExecutionPlan>) -> bool {
    node.downcast_ref::<DataSourceExec>()
        .is_some_and(|source| source.data_source().is::<FileScanConfig>())
}

/// The rows of one job.
#[derive(Debug)]
struct ClusterStream {
    schema: SchemaRef,
    job: Arc<Job>,
}

impl PartitionStream for ClusterStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), WAITING_BATCHES);
        let (job, rows) = (Arc::clone(&self.job), builder.tx());
        builder.spawn(async move { job.run(&context, rows).await });
        builder.build()
    }
}

/// Why there is no answer.
struct Failure {
    error: DataFusionError,
    /// An executor died, and nobody has seen a row yet.
    is_lost: bool,
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        let is_lost = false;
        Self { error, is_lost }
    }
}

/// What the cluster is to compute.
#[derive(Debug)]
struct Job {
    address: ClusterAddress,
    has_own_regions: bool,
    plan: Arc<dyn ExecutionPlan>,
}

impl Job {
    /// Asks again when an executor's death has ended the job, as long as no row was handed on.
    async fn run(&self, context: &TaskContext, rows: mpsc::Sender<Result<RecordBatch>>) -> Result<()> {
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(context, &rows).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            if !failure.is_lost || attempt == ATTEMPTS {
                return Err(failure.error);
            }
            tracing::warn!(cluster = %self.address, attempt, "an executor died: asking again");
            attempt += 1;
            tokio::time::sleep(PAUSE_AFTER_DEATH).await;
        }
    }

    async fn attempt(
        &self,
        context: &TaskContext,
        rows: &mpsc::Sender<Result<RecordBatch>>,
    ) -> std::result::Result<(), Failure> {
        let request = self.request(context)?;
        let scheduler = self.connect().await?;
        // A task of its own: the job is known and can be cancelled, also when nobody waits for this call any more.
        let submitting = tokio::spawn(submit(scheduler, request));
        let submitted = submitting
            .await
            .map_err(|error| self.failed(format!("a task ended: {error}")))?;
        let running = submitted.map_err(|detail| self.failed(detail))?;
        let mut is_begun = false;
        for part in self.finished(&running).await? {
            let lost = |error, is_begun: bool| Failure {
                error,
                is_lost: !is_begun,
            };
            let mut batches = self.fetch(part).await.map_err(|error| lost(error, is_begun))?;
            while let Some(batch) = batches.next().await {
                let batch = batch.map_err(|error| lost(self.lost_rows(error), is_begun))?;
                is_begun = true;
                // Nobody receives when the query was stopped.
                if rows.send(Ok(batch)).await.is_err() {
                    return Ok(());
                }
            }
        }
        running.rows_are_fetched().await;
        Ok(())
    }

    fn request(&self, context: &TaskContext) -> Result<ExecuteQueryParams> {
        let codec = Codec::new(self.has_own_regions);
        let mut plan = Vec::new();
        PhysicalPlanNode::try_from_physical_plan(Arc::clone(&self.plan), &codec)
            .and_then(|node| node.try_encode(&mut plan))
            .map_err(|error| {
                DataFusionError::Execution(format!(
                    "this statement cannot be sent to a cluster ({}): ask without --cluster",
                    error.strip_backtrace()
                ))
            })?;
        let id = || Uuid::new_v4().to_string();
        Ok(ExecuteQueryParams {
            session_id: id(),
            settings: context.session_config().to_key_value_pairs(),
            operation_id: id(),
            query: Some(Query::PhysicalPlan(plan)),
        })
    }

    async fn connect(&self) -> Result<Scheduler> {
        let url = format!("http://{}:{}", self.address.host(), self.address.port());
        let endpoint = Endpoint::from_shared(url).map_err(|error| self.failed(chain(&error)))?;
        let endpoint = with_limits(endpoint).timeout(CALL_LIMIT);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| self.failed(format!("cannot be reached: {}", chain(&error))))?;
        Ok(SchedulerGrpcClient::new(channel)
            .max_encoding_message_size(MAX_MESSAGE_BYTES as usize)
            .max_decoding_message_size(MAX_MESSAGE_BYTES as usize))
    }

    /// Waits for the end of the job, and says where its rows are.
    async fn finished(&self, running: &Running) -> std::result::Result<Vec<PartitionLocation>, Failure> {
        let mut wait = FIRST_WAIT;
        let mut last_known = Instant::now();
        loop {
            let job_id = running.job_id.clone();
            let mut scheduler = running.scheduler.clone();
            let answer = scheduler
                .get_job_status(GetJobStatusParams { job_id })
                .await
                .map_err(|status| self.failed(format!("does not answer any more: {}", said(&status))))?;
            match answer.into_inner().status.and_then(|status| status.status) {
                Some(State::Successful(done)) => return Ok(done.partition_location),
                Some(State::Failed(failed)) if failed.error.contains(LOST) => {
                    return Err(Failure {
                        error: self.failed(format!("has lost executors {ATTEMPTS} times: ask again")),
                        is_lost: true,
                    });
                }
                Some(State::Failed(failed)) => {
                    return Err(DataFusionError::Execution(cause(&failed.error)).into());
                }
                Some(State::Queued(_) | State::Running(_)) => last_known = Instant::now(),
                None if last_known.elapsed() > FORGOTTEN_AFTER => {
                    return Err(self
                        .failed(
                            "does not know the query any more: its scheduler was started anew; ask again"
                                .to_owned(),
                        )
                        .into());
                }
                None => {}
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 3 / 2).min(LONGEST_WAIT);
        }
    }

    /// The rows of one part, from the executor that holds them.
    async fn fetch(&self, part: PartitionLocation) -> Result<SendableRecordBatchStream> {
        let layout = part.layout();
        let (Some(executor), Some(partition)) = (part.executor_meta, part.partition_id) else {
            return Err(self.failed("does not say where the rows are".to_owned()));
        };
        let port = u16::try_from(executor.port).unwrap_or_default();
        let limits = BallistaConfigGrpcEndpoint::new(Arc::new(|endpoint| Ok(with_limits(endpoint))));
        let fetching = async {
            let mut client = BallistaClient::try_new(
                &executor.host,
                port,
                MAX_MESSAGE_BYTES as usize,
                false,
                Some(Arc::new(limits)),
                1,
                0,
                0,
                0,
            )
            .await?;
            client
                .fetch_partition(&executor.id, &partition.into(), part.file_id, layout, true)
                .await
        };
        match timeout(CALL_LIMIT, fetching).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.lost_rows(error)),
            Err(_) => Err(self.lost_rows("no answer")),
        }
    }

    fn lost_rows(&self, error: impl std::fmt::Display) -> DataFusionError {
        self.failed(format!(
            "has lost an executor with rows of the answer ({error}): ask again"
        ))
    }

    fn failed(&self, detail: String) -> DataFusionError {
        pack(QueryError::Cluster {
            address: self.address.clone(),
            detail: detail.split_whitespace().collect::<Vec<_>>().join(" "),
        })
    }
}

fn with_limits(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_LIMIT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
}
