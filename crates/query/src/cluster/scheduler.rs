//! Ballista's scheduler: it cuts plans into stages, gives them to executors, and keeps nothing on disk.
//!
//! It needs no access to the lake and reads nothing. It takes physical plans only, from anybody who reaches its port: Ballista has no
//! authentication. Where no executor lives, and while it is stopping, a query is refused at once.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use ballista_core::extension::SessionConfigExt;
use ballista_core::serde::protobuf::executor_status::Status;
use ballista_core::utils::default_config_producer;
use ballista_scheduler::SessionBuilder;
use ballista_scheduler::cluster::memory::InMemoryJobState;
use ballista_scheduler::cluster::{BallistaCluster, ClusterState};
use ballista_scheduler::config::{SchedulerConfig, TaskDistributionPolicy};
use ballista_scheduler::scheduler_process::{create_scheduler, start_grpc_service_with_listener};
use ballista_scheduler::scheduler_server::{SchedulerServer, timestamp_secs};
use datafusion::catalog::Session;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::context::QueryPlanner;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::SessionStateBuilder;
use datafusion::execution::{SessionState, SessionStateDefaults};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use tokio::net::TcpListener;

use super::store::NoStores;
use super::vcores::CountedState;
use super::{ClusterError, MAX_MESSAGE_BYTES};
use crate::session::scalar_functions;

/// By these the client knows why it was refused.
pub(super) const NO_EXECUTOR: &str = "no executor has registered with this scheduler";
pub(super) const STOPPING: &str = "this scheduler is stopping";

/// Without an answer from an executor for so long, its work is given to others.
pub const DEFAULT_EXECUTOR_TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is looked for executors that do not answer.
const EXPIRY_INTERVAL_SECS: u64 = 1;
/// Of jobs whose client does not say that it has their rows.
const KEEP_FINISHED_SECS: u64 = 300;
/// How often a stop looks whether jobs still run.
const DRAIN_INTERVAL: Duration = Duration::from_millis(50);

/// What a scheduler is started with.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// Where it listens; port 0 is a free one.
    pub bind: SocketAddr,
    /// The host by which executors reach it.
    pub advertise: String,
    /// How long an executor may be silent.
    pub executor_timeout: Duration,
}

/// How much there is to do, and who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerFacts {
    /// Executors that live.
    pub executors: usize,
    /// Jobs that run.
    pub running_jobs: usize,
    /// Jobs that wait.
    pub pending_jobs: usize,
}

/// A scheduler that listens.
pub struct Scheduler {
    address: SocketAddr,
    listener: TcpListener,
    watch: SchedulerWatch,
}

/// A view on a running scheduler; clones share it.
#[derive(Clone)]
pub struct SchedulerWatch {
    server: SchedulerServer<LogicalPlanNode, PhysicalPlanNode>,
    executors: Executors,
    stopping: Arc<AtomicBool>,
}

impl fmt::Debug for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scheduler({})", self.address)
    }
}

impl fmt::Debug for SchedulerWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SchedulerWatch({:?})", self.facts())
    }
}

impl Scheduler {
    /// Listens; nobody is served yet.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(options: SchedulerOptions) -> Result<Self, ClusterError> {
        let bind_error = |source| ClusterError::Bind {
            address: options.bind,
            source,
        };
        let listener = TcpListener::bind(options.bind).await.map_err(bind_error)?;
        let address = listener.local_addr().map_err(bind_error)?;
        let timeout_secs = options.executor_timeout.as_secs().max(1);
        let executors = Executors {
            state: Arc::default(),
            timeout_secs,
        };
        let stopping = Arc::new(AtomicBool::new(false));
        let sessions = session_builder(executors.clone(), Arc::clone(&stopping))?;
        let config = SchedulerConfig {
            external_host: options.advertise,
            bind_host: address.ip().to_string(),
            bind_port: address.port(),
            task_distribution: TaskDistributionPolicy::RoundRobin,
            finished_job_data_clean_up_interval_seconds: KEEP_FINISHED_SECS,
            finished_job_state_clean_up_interval_seconds: KEEP_FINISHED_SECS,
            grpc_server_max_decoding_message_size: MAX_MESSAGE_BYTES,
            grpc_server_max_encoding_message_size: MAX_MESSAGE_BYTES,
            grpc_client_max_message_size: MAX_MESSAGE_BYTES,
            executor_timeout_seconds: timeout_secs,
            expire_dead_executor_interval_seconds: EXPIRY_INTERVAL_SECS,
            no_executors_grace_period_seconds: timeout_secs,
            ..SchedulerConfig::default()
        };
        let jobs = InMemoryJobState::new(
            config.scheduler_id.clone(),
            sessions,
            Arc::new(default_config_producer),
        );
        let cluster = BallistaCluster::new(Arc::clone(&executors.state) as _, Arc::new(jobs));
        let server = create_scheduler(cluster, Arc::new(config))
            .await
            .map_err(|error| ClusterError::Setup(error.to_string()))?;
        Ok(Self {
            address,
            listener,
            watch: SchedulerWatch {
                server,
                executors,
                stopping,
            },
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What can be asked of it while it runs.
    pub fn watch(&self) -> SchedulerWatch {
        self.watch.clone()
    }

    /// Serves until `stop` comes. From then on new queries are refused, and those that run have `drain_limit` to end.
    ///
    /// # Errors
    /// The server fails.
    pub async fn serve(
        self,
        stop: impl Future<Output = ()>,
        drain_limit: Duration,
    ) -> Result<(), ClusterError> {
        let watch = self.watch;
        let serving = start_grpc_service_with_listener(self.listener, watch.server.clone());
        let stopped = async {
            stop.await;
            watch.stopping.store(true, Ordering::SeqCst);
            let drained = async {
                while watch.server.running_job_number() + watch.server.pending_job_number() > 0 {
                    tokio::time::sleep(DRAIN_INTERVAL).await;
                }
            };
            if tokio::time::timeout(drain_limit, drained).await.is_err() {
                tracing::warn!(facts = ?watch.facts(), "ending although queries still run");
            }
        };
        tokio::select! {
            served = serving => served.map_err(|error| ClusterError::Ended(format!("the scheduler's server ended: {error}"))),
            () = stopped => Ok(()),
        }
    }
}

impl SchedulerWatch {
    /// How it stands now.
    pub fn facts(&self) -> SchedulerFacts {
        SchedulerFacts {
            executors: self.executors.alive(),
            running_jobs: self.server.running_job_number(),
            pending_jobs: self.server.pending_job_number(),
        }
    }
}

/// The executors that the scheduler knows.
#[derive(Clone)]
struct Executors {
    state: Arc<CountedState>,
    timeout_secs: u64,
}

impl Executors {
    /// How many work and were heard of in time.
    fn alive(&self) -> usize {
        let oldest = timestamp_secs().saturating_sub(self.timeout_secs);
        let heartbeats = self.state.executor_heartbeats();
        let is_active = |status: &Option<_>| matches!(status, Some(Status::Active(_)));
        heartbeats
            .values()
            .filter(|heartbeat| {
                let status = heartbeat.status.as_ref().and_then(|status| status.status.clone());
                is_active(&status) && heartbeat.timestamp > oldest
            })
            .count()
    }
}

/// Makes the session of each query, or refuses it.
fn session_builder(executors: Executors, stopping: Arc<AtomicBool>) -> Result<SessionBuilder, ClusterError> {
    let runtime = RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::new(NoStores))
        .build_arc()
        .map_err(|error| ClusterError::Setup(error.strip_backtrace()))?;
    Ok(Arc::new(move |config| {
        if stopping.load(Ordering::SeqCst) {
            return Err(DataFusionError::Execution(STOPPING.to_owned()));
        }
        if executors.alive() == 0 {
            return Err(DataFusionError::Execution(NO_EXECUTOR.to_owned()));
        }
        Ok(session(config, Arc::clone(&runtime)))
    }))
}

fn session(config: SessionConfig, runtime: Arc<RuntimeEnv>) -> SessionState {
    SessionStateBuilder::new()
        .with_config(config.with_ballista_adaptive_query_planner(false))
        .with_runtime_env(runtime)
        .with_scalar_functions(scalar_functions(None))
        .with_higher_order_functions(SessionStateDefaults::default_higher_order_functions())
        .with_aggregate_functions(SessionStateDefaults::default_aggregate_functions())
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_query_planner(Arc::new(PhysicalPlansOnly))
        .build()
}

/// Plans nothing: a plan in another form is not ours, and could name any file.
#[derive(Debug)]
struct PhysicalPlansOnly;

#[async_trait]
impl QueryPlanner for PhysicalPlansOnly {
    async fn create_physical_plan(
        &self,
        _: &LogicalPlan,
        _: &dyn Session,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::Execution(
            "this scheduler takes the plans of `olap query --cluster` only".to_owned(),
        ))
    }
}
