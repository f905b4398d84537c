//! Ballista's executor: it computes the stages that a scheduler gives it, and keeps their results for those who read them next.
//!
//! It reads the tables of one lake and nothing else, changes nothing, and has limits on memory and on disk. Its folder below the work
//! directory is its own, closed to other users, and gone when it ends; what one that was killed has left there, the next
//! one that starts removes. Other machines fetch results from it without authentication: it listens on loopback unless told.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ballista_core::registry::BallistaFunctionRegistry;
use ballista_executor::execution_engine::ExecutionEngine;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_executor::health::ExecutorHealth;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::disk_manager::DiskManagerBuilder;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use loginlake_lake::Lake;
use uuid::Uuid;

use super::engine::Engine;
pub use super::fail_point::FailPoint;
use super::fail_point::Standing;
use super::store::OnlyLake;
use super::{ClusterAddress, ClusterError, MAX_MESSAGE_BYTES};
use crate::limits::spill::{SpillArea, SpillFactory};
use crate::session::scalar_functions;

/// How long the scheduler may take to be reached at the start.
const REACH_LIMIT: Duration = Duration::from_secs(5);
/// How often the scheduler hears of it.
const HEARTBEAT_SECS: u64 = 3;
/// Ballista gives a scheduler up after five signs of life without an answer.
const ABANDONED_AFTER: Duration = Duration::from_secs(5 * HEARTBEAT_SECS + 5);
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// Results of a scheduler that never asked for their removal.
const KEEP_RESULTS_SECS: u64 = 6 * 3600;
const CLEAN_INTERVAL_SECS: u64 = 600;
/// First part of the names of its folder and its lock.
const PREFIX: &str = "olap-executor-";
const LOCK: &str = "lock";

/// What an executor is started with.
#[derive(Debug, Clone)]
pub struct ExecutorOptions {
    /// The lake whose tables it reads.
    pub lake: Lake,
    /// Its scheduler.
    pub scheduler: ClusterAddress,
    /// Where others fetch results from.
    pub bind: SocketAddr,
    /// The port by which the scheduler sends it work, at the same address.
    pub control_port: u16,
    /// The host by which the scheduler, clients and other executors reach it.
    pub advertise: String,
    /// Where its folder for intermediate results is made.
    pub work_directory: PathBuf,
    /// How much it computes at once.
    pub vcores: usize,
    /// Bytes that the operators of all its tasks may hold together before they spill.
    pub memory_limit_bytes: u64,
    /// Bytes that spilled data may take on disk.
    pub max_spill_bytes: u64,
    /// Where it stands still until a test kills it; debug builds only.
    pub fail_point: Option<FailPoint>,
}

/// Whether the scheduler answers; clones share it.
#[derive(Clone, Default)]
pub struct ExecutorWatch(ExecutorHealth);

impl ExecutorWatch {
    /// Whether the scheduler answered when it last heard of this executor.
    pub fn is_connected(&self) -> bool {
        self.0.is_ready()
    }
}

impl std::fmt::Debug for ExecutorWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ExecutorWatch({})", self.is_connected())
    }
}

/// Runs until SIGTERM or SIGINT, which Ballista takes itself: then no more work is taken, and what runs is done first.
///
/// # Errors
/// The work directory or a port cannot be used, the scheduler cannot be reached. It also ends when the scheduler has not
/// answered five times in a row.
pub async fn run(options: ExecutorOptions, watch: ExecutorWatch) -> Result<(), ClusterError> {
    let folder = WorkFolder::make(&options.work_directory).map_err(|source| ClusterError::WorkDirectory {
        directory: options.work_directory.display().to_string(),
        source,
    })?;
    let control = SocketAddr::new(options.bind.ip(), options.control_port);
    for address in [options.bind, control] {
        is_free(address)?;
    }
    reach(&options.scheduler).await?;
    let config = config(options, folder.path(), watch.clone())?;
    let ended = tokio::select! {
        ended = start_executor_process(Arc::new(config)) => ended,
        // Ballista itself waits for the end of what runs, although nobody can be told any more.
        () = abandoned(&watch) => Ok(()),
    };
    folder.remove();
    ended.map_err(|error| ClusterError::Ended(format!("the executor ended: {error}")))
}

/// Waits until the scheduler has answered, and then has not for [`ABANDONED_AFTER`].
async fn abandoned(watch: &ExecutorWatch) {
    let mut last_answer = None;
    loop {
        if watch.is_connected() {
            last_answer = Some(Instant::now());
        }
        if last_answer.is_some_and(|last| last.elapsed() > ABANDONED_AFTER) {
            tracing::warn!("ending although work is still running: the scheduler does not answer");
            return;
        }
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

/// Ballista binds by itself, and says little when it cannot.
fn is_free(address: SocketAddr) -> Result<(), ClusterError> {
    TcpListener::bind(address)
        .map(drop)
        .map_err(|source| ClusterError::Bind { address, source })
}

async fn reach(scheduler: &ClusterAddress) -> Result<(), ClusterError> {
    let host = scheduler.host().trim_matches(['[', ']']).to_owned();
    let connecting = tokio::net::TcpStream::connect((host, scheduler.port()));
    let detail = match tokio::time::timeout(REACH_LIMIT, connecting).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", REACH_LIMIT.as_secs()),
    };
    Err(ClusterError::Unreachable {
        address: scheduler.clone(),
        detail,
    })
}

fn config(
    options: ExecutorOptions,
    folder: &Path,
    watch: ExecutorWatch,
) -> Result<ExecutorProcessConfig, ClusterError> {
    let spill = SpillArea::new(folder.to_path_buf(), options.max_spill_bytes);
    let runtime = RuntimeEnvBuilder::new()
        .with_object_store_registry(Arc::new(OnlyLake::new(&options.lake)))
        .with_disk_manager_builder(
            DiskManagerBuilder::default().with_temp_file_factory(Arc::new(SpillFactory(spill))),
        )
        .build_arc()
        .map_err(|error| ClusterError::Setup(error.strip_backtrace()))?;
    let engine: Arc<dyn ExecutionEngine> = match options.fail_point {
        Some(point) => Arc::new(Standing::new(Engine::new(), point)),
        None => Arc::new(Engine::new()),
    };
    Ok(ExecutorProcessConfig {
        bind_host: options.bind.ip().to_string(),
        external_host: Some(options.advertise),
        port: options.bind.port(),
        grpc_port: options.control_port,
        scheduler_host: options.scheduler.host().to_owned(),
        scheduler_port: options.scheduler.port(),
        vcores: options.vcores,
        work_dir: Some(folder.display().to_string()),
        job_data_ttl_seconds: KEEP_RESULTS_SECS,
        job_data_clean_up_interval_seconds: CLEAN_INTERVAL_SECS,
        grpc_max_decoding_message_size: MAX_MESSAGE_BYTES,
        grpc_max_encoding_message_size: MAX_MESSAGE_BYTES,
        executor_heartbeat_interval_seconds: HEARTBEAT_SECS,
        memory_pool_size: Some(options.memory_limit_bytes),
        override_execution_engine: Some(engine),
        override_function_registry: Some(Arc::new(functions())),
        // One for all: footers that were read once are known to later queries.
        override_runtime_producer: Some(Arc::new(move |_| Ok(Arc::clone(&runtime)))),
        health: watch.0,
        ..ExecutorProcessConfig::default()
    })
}

/// All functions that a plan can name.
fn functions() -> BallistaFunctionRegistry {
    let scalar = scalar_functions(None);
    let higher_order = SessionStateDefaults::default_higher_order_functions();
    let aggregate = SessionStateDefaults::default_aggregate_functions();
    let window = SessionStateDefaults::default_window_functions();
    BallistaFunctionRegistry {
        scalar_functions: scalar.into_iter().map(|f| (f.name().to_owned(), f)).collect(),
        higher_order_functions: higher_order
            .into_iter()
            .map(|f| (f.name().to_owned(), f))
            .collect(),
        aggregate_functions: aggregate.into_iter().map(|f| (f.name().to_owned(), f)).collect(),
        window_functions: window.into_iter().map(|f| (f.name().to_owned(), f)).collect(),
    }
}

/// The executor's folder, and the lock by which others know that it lives.
#[derive(Debug)]
struct WorkFolder {
    path: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl WorkFolder {
    /// Makes one, and removes those of executors that are dead.
    fn make(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        remove_abandoned(directory)?;
        let path = directory.join(format!("{PREFIX}{}", Uuid::new_v4().simple()));
        let lock_path = path.with_extension(LOCK);
        let lock = File::create_new(&lock_path)?;
        lock.lock()?;
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self {
            path,
            lock_path,
            _lock: lock,
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) {
        for error in [fs::remove_dir_all(&self.path), fs::remove_file(&self.lock_path)]
            .into_iter()
            .filter_map(Result::err)
        {
            tracing::warn!(%error, folder = %self.path.display(), "the executor's folder is not removed");
        }
    }
}

fn remove_abandoned(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let lock_path = entry?.path();
        let name = lock_path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if !name.starts_with(PREFIX) || lock_path.extension().is_none_or(|extension| extension != LOCK) {
            continue;
        }
        // Somebody else may remove it at the same moment.
        let Ok(lock) = File::open(&lock_path) else {
            continue;
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => continue,
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let folder = lock_path.with_extension("");
        tracing::info!(folder = %folder.display(), "removing the folder of an executor that is dead");
        for removed in [fs::remove_dir_all(&folder), fs::remove_file(&lock_path)] {
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_the_dead_are_removed_and_those_of_the_living_stay() {
        let directory = tempfile::tempdir().unwrap();
        let living = WorkFolder::make(directory.path()).unwrap();
        let dead = WorkFolder::make(directory.path()).unwrap();
        let (dead_folder, dead_lock) = (dead.path.clone(), dead.lock_path.clone());
        fs::write(dead_folder.join("rows"), "x").unwrap();
        drop(dead);
        let other = directory.path().join("not-ours.lock");
        fs::write(&other, "x").unwrap();

        let next = WorkFolder::make(directory.path()).unwrap();
        assert!(!dead_folder.exists() && !dead_lock.exists());
        assert!(living.path.exists() && next.path.exists() && other.exists());
        next.remove();
        assert!(!next.path.exists() && !next.lock_path.exists() && living.path.exists());
    }
}
