//! `olap executor`: Ballista's executor over one lake, for queries on several machines (docs/CLUSTER.md).

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use loginlake_query::cluster::ClusterAddress;
use loginlake_service::config::{ByteSize, ConfigFile, HttpArgs, LakeArgs};
use loginlake_service::exit::ExitError;

use super::scheduler::RemoteArgs;

/// Arguments of `olap executor`.
#[derive(Args, Debug)]
#[cfg_attr(
    not(feature = "cluster"),
    allow(dead_code, reason = "only read in a build with clusters")
)]
pub struct ExecutorArgs {
    #[command(flatten)]
    lake: LakeArgs,
    /// The scheduler, df://host:port
    #[arg(
        long,
        env = "LOGINLAKE_SCHEDULER",
        hide_env_values = true,
        value_name = "ADDRESS",
        default_value = "df://127.0.0.1:50050"
    )]
    scheduler: ClusterAddress,
    /// Where others fetch its results
    #[arg(
        long,
        env = "LOGINLAKE_EXECUTOR_BIND",
        hide_env_values = true,
        value_name = "IP:PORT",
        default_value = "127.0.0.1:50051"
    )]
    bind: SocketAddr,
    /// Port by which the scheduler sends it work, at the same address [default: the one after --bind's]
    #[arg(long, value_name = "PORT")]
    control_port: Option<u16>,
    #[command(flatten)]
    remote: RemoteArgs,
    /// Directory for intermediate results, in a folder of its own that is gone at the end [default: the system's]
    #[arg(long, env = "LOGINLAKE_WORK_DIR", hide_env_values = true, value_name = "DIR")]
    work_dir: Option<PathBuf>,
    /// How much it computes at once [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    vcores: Option<u16>,
    /// Memory of all its operators together before they spill to disk [default: 1GiB]
    #[arg(
        long,
        env = "LOGINLAKE_QUERY_MEMORY_LIMIT",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    memory_limit: Option<ByteSize>,
    /// Most that spilled data may take on disk [default: 16GiB]
    #[arg(long, value_name = "SIZE")]
    max_spill: Option<ByteSize>,
    #[command(flatten)]
    http: HttpArgs,
}

/// Runs it.
#[cfg(not(feature = "cluster"))]
pub async fn run(_: ExecutorArgs, _: &ConfigFile) -> Result<(), ExitError> {
    Err(super::scheduler::not_built("executor"))
}

#[cfg(feature = "cluster")]
pub use with_ballista::run;

#[cfg(feature = "cluster")]
mod with_ballista {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use axum::Router;
    use loginlake_olap::setup;
    use loginlake_query::cluster::executor::{self, ExecutorOptions, ExecutorWatch, FailPoint};
    use loginlake_service::config::Service;
    use loginlake_service::health::{ComponentHealth, Health};
    use loginlake_service::http;
    use loginlake_service::metrics::Metrics;
    use loginlake_service::shutdown::Shutdown;
    use prometheus_client::metrics::gauge::Gauge;
    use tracing::info;

    use super::super::scheduler::{cluster_error, listen_for_log};
    use super::*;

    const DEFAULT_MEMORY: u64 = 1 << 30;
    const DEFAULT_SPILL: u64 = 16 << 30;
    /// How long running work has to end after SIGTERM.
    const DRAIN_LIMIT: Duration = Duration::from_secs(30);
    const WATCH_EVERY: Duration = Duration::from_millis(500);
    /// For tests: where it stands still until it is killed.
    const FAIL_POINT_VARIABLE: &str = "LOGINLAKE_EXECUTOR_FAIL_POINT";

    impl ExecutorArgs {
        fn options(&self, file: &ConfigFile) -> Result<ExecutorOptions, ExitError> {
            let control_port = match (self.control_port, self.bind.port().checked_add(1)) {
                (Some(port), _) | (None, Some(port)) => port,
                (None, None) => return Err(ExitError::usage("say a port with --control-port")),
            };
            if self.bind.port() == 0 || control_port == 0 || control_port == self.bind.port() {
                return Err(ExitError::usage(
                    "--bind and --control-port are two ports of their own, not 0: the scheduler tells them to others",
                ));
            }
            let fail_point = std::env::var(FAIL_POINT_VARIABLE).ok();
            let fail_point = fail_point.map(|text| text.parse::<FailPoint>()).transpose();
            let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
            Ok(ExecutorOptions {
                lake: setup::lake(&self.lake.resolve(file)?)?,
                scheduler: self.scheduler.clone(),
                bind: self.bind,
                control_port,
                advertise: self.remote.host(self.bind)?,
                work_directory: self.work_dir.clone().unwrap_or_else(std::env::temp_dir),
                vcores: self.vcores.map_or(cores, usize::from),
                memory_limit_bytes: self
                    .memory_limit
                    .or(file.query.memory_limit)
                    .map_or(DEFAULT_MEMORY, |size| size.bytes()),
                max_spill_bytes: self
                    .max_spill
                    .or(file.query.max_spill)
                    .map_or(DEFAULT_SPILL, |size| size.bytes()),
                fail_point: fail_point
                    .map_err(|error| ExitError::usage(format!("{FAIL_POINT_VARIABLE}: {error}")))?,
            })
        }
    }

    /// Runs it until SIGTERM, or until its scheduler is gone.
    pub async fn run(args: ExecutorArgs, file: &ConfigFile) -> Result<(), ExitError> {
        let shutdown = Shutdown::on_signals()
            .map_err(|error| ExitError::failed(format!("cannot catch signals: {error}")))?;
        let http = args.http.resolve(file, Service::Executor)?;
        let options = args.options(file)?;
        listen_for_log();
        let (metrics, health) = (Metrics::new("executor"), Health::new());
        let connected = Gauge::default();
        metrics.register(|registry| {
            registry.register(
                "executor_connected",
                "1 while its scheduler answers",
                connected.clone(),
            );
        });
        let component = health.component("scheduler", None);
        let server = http::serve(http, metrics, health, Router::new()).await?;
        let executor_watch = ExecutorWatch::default();
        let watching = tokio::spawn(watch(executor_watch.clone(), connected, component));
        info!(scheduler = %options.scheduler, lake = options.lake.uri(), vcores = options.vcores, "executing queries");
        let scheduler = options.scheduler.clone();
        let ended = tokio::select! {
            ended = executor::run(options, executor_watch) => ended.map_err(cluster_error),
            () = overdue(&shutdown) => {
                tracing::warn!("ending although work is still running: the scheduler gives it to others");
                Ok(())
            }
        };
        watching.abort();
        server.shutdown().await;
        match ended {
            Ok(()) if !shutdown.is_requested() => Err(ExitError::failed(format!(
                "the scheduler at {scheduler} does not answer any more, or takes this executor for dead"
            ))),
            ended => ended,
        }
    }

    async fn overdue(shutdown: &Shutdown) {
        shutdown.requested().await;
        tokio::time::sleep(DRAIN_LIMIT).await;
    }

    async fn watch(executor: ExecutorWatch, connected: Gauge, health: ComponentHealth) {
        loop {
            let is_connected = executor.is_connected();
            if connected.set(i64::from(is_connected)) != i64::from(is_connected) && is_connected {
                info!("the scheduler knows this executor");
            }
            if is_connected {
                health.ready();
            } else {
                health.not_ready("the scheduler has not answered");
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }
}
