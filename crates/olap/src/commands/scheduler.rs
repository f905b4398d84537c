//! `olap scheduler`: Ballista's scheduler, for queries on several machines (docs/CLUSTER.md).

use std::net::SocketAddr;

use clap::Args;
use loginlake_service::config::{ConfigFile, HttpArgs, Span};
use loginlake_service::exit::ExitError;

/// Arguments of `olap scheduler`.
#[derive(Args, Debug)]
#[cfg_attr(
    not(feature = "cluster"),
    allow(dead_code, reason = "only read in a build with clusters")
)]
pub struct SchedulerArgs {
    /// Where queries and executors reach it
    #[arg(
        long,
        env = "LOGINLAKE_SCHEDULER_BIND",
        hide_env_values = true,
        value_name = "IP:PORT",
        default_value = "127.0.0.1:50050"
    )]
    bind: SocketAddr,
    #[command(flatten)]
    remote: RemoteArgs,
    /// How long an executor may be silent before others do its work [default: 15s]
    #[arg(long, value_name = "DURATION")]
    executor_timeout: Option<Span>,
    #[command(flatten)]
    http: HttpArgs,
}

/// Whether and how other machines reach a process of a cluster.
#[derive(Args, Clone, Debug)]
#[cfg_attr(
    not(feature = "cluster"),
    allow(dead_code, reason = "only read in a build with clusters")
)]
pub struct RemoteArgs {
    /// Host by which the other processes of the cluster reach this one [default: the address that it listens on]
    #[arg(
        long,
        env = "LOGINLAKE_ADVERTISE",
        hide_env_values = true,
        value_name = "HOST"
    )]
    advertise: Option<String>,
    /// Let other machines reach it: there is no authentication, and whoever reaches it can read the lake
    #[arg(long, env = "LOGINLAKE_ALLOW_REMOTE", hide_env_values = true)]
    allow_remote: bool,
}

/// What a build without clusters says.
#[cfg(not(feature = "cluster"))]
pub fn not_built(what: &str) -> ExitError {
    ExitError::usage(format!(
        "this olap was built without clusters: {what} does nothing"
    ))
    .with_hint("build it with: cargo build --release --bin olap --features loginlake-olap/cluster")
}

/// Runs it.
#[cfg(not(feature = "cluster"))]
pub async fn run(_: SchedulerArgs, _: &ConfigFile) -> Result<(), ExitError> {
    Err(not_built("scheduler"))
}

#[cfg(feature = "cluster")]
pub use with_ballista::{cluster_error, listen_for_log, run};

#[cfg(feature = "cluster")]
mod with_ballista {
    use std::time::Duration;

    use axum::Router;
    use loginlake_query::cluster::ClusterError;
    use loginlake_query::cluster::scheduler::{
        DEFAULT_EXECUTOR_TIMEOUT, Scheduler, SchedulerOptions, SchedulerWatch,
    };
    use loginlake_service::config::Service;
    use loginlake_service::health::{ComponentHealth, Health};
    use loginlake_service::http;
    use loginlake_service::metrics::Metrics;
    use loginlake_service::shutdown::Shutdown;
    use prometheus_client::metrics::gauge::Gauge;
    use tracing::info;
    use tracing::level_filters::LevelFilter;
    use tracing_log::{AsLog, LogTracer};

    use super::*;

    /// How long running queries have to end after SIGTERM.
    const DRAIN_LIMIT: Duration = Duration::from_secs(30);
    /// An executor says that it lives every three seconds.
    const SHORTEST_TIMEOUT: Duration = Duration::from_secs(7);
    const WATCH_EVERY: Duration = Duration::from_millis(500);

    impl RemoteArgs {
        /// The host that others are told.
        pub fn host(&self, bind: SocketAddr) -> Result<String, ExitError> {
            if !self.allow_remote && !bind.ip().to_canonical().is_loopback() {
                return Err(ExitError::usage(format!(
                    "{bind} can be reached from other machines, and a cluster has no authentication"
                ))
                .with_hint(
                    "listen on 127.0.0.1, or give --allow-remote where only its own machines can reach it",
                ));
            }
            match &self.advertise {
                Some(host) => Ok(host.clone()),
                None if bind.ip().is_unspecified() => Err(ExitError::usage(format!(
                    "{bind} is every address of this machine: say with --advertise by which of them others reach it"
                ))),
                None => Ok(bind.ip().to_string()),
            }
        }
    }

    pub fn cluster_error(error: ClusterError) -> ExitError {
        let exit = ExitError::failed(&error);
        match error {
            ClusterError::Bind { .. } => exit.with_hint("choose another address with --bind"),
            ClusterError::Unreachable { .. } => {
                exit.with_hint("start it with `olap scheduler`, or name another one with --scheduler")
            }
            ClusterError::WorkDirectory { .. } => exit.with_hint("name another one with --work-dir"),
            ClusterError::Ended(_) | ClusterError::Setup(_) => exit,
        }
    }

    /// What Ballista says with the crate log goes where ours goes.
    pub fn listen_for_log() {
        // An error means that it does already: Ballista's own features make our subscriber take it.
        let _ = LogTracer::init_with_filter(LevelFilter::current().as_log());
    }

    /// Runs it until SIGTERM.
    pub async fn run(args: SchedulerArgs, file: &ConfigFile) -> Result<(), ExitError> {
        let shutdown = Shutdown::on_signals()
            .map_err(|error| ExitError::failed(format!("cannot catch signals: {error}")))?;
        let http = args.http.resolve(file, Service::Scheduler)?;
        let advertise = args.remote.host(args.bind)?;
        let executor_timeout = args
            .executor_timeout
            .map_or(DEFAULT_EXECUTOR_TIMEOUT, Span::duration);
        if executor_timeout < SHORTEST_TIMEOUT {
            return Err(ExitError::usage(format!(
                "--executor-timeout is at least {} s: an executor says every three seconds that it lives",
                SHORTEST_TIMEOUT.as_secs()
            )));
        }
        listen_for_log();
        let scheduler = Scheduler::bind(SchedulerOptions {
            bind: args.bind,
            advertise,
            executor_timeout,
        });
        let scheduler = scheduler.await.map_err(cluster_error)?;
        let (metrics, health) = (Metrics::new("scheduler"), Health::new());
        let gauges = Gauges::register(&metrics);
        let executors = health.component("executors", None);
        let server = http::serve(http, metrics, health, Router::new()).await?;
        info!(address = %scheduler.local_addr(), "scheduling queries");
        let watching = tokio::spawn(watch(scheduler.watch(), gauges, executors));
        let served = scheduler.serve(shutdown.requested(), DRAIN_LIMIT).await;
        watching.abort();
        server.shutdown().await;
        served.map_err(cluster_error)
    }

    /// What is told about a scheduler.
    struct Gauges {
        executors: Gauge,
        running_jobs: Gauge,
        pending_jobs: Gauge,
    }

    impl Gauges {
        fn register(metrics: &Metrics) -> Self {
            let new = Self {
                executors: Gauge::default(),
                running_jobs: Gauge::default(),
                pending_jobs: Gauge::default(),
            };
            metrics.register(|registry| {
                registry.register(
                    "scheduler_executors",
                    "Executors that live",
                    new.executors.clone(),
                );
                registry.register(
                    "scheduler_jobs_running",
                    "Queries that executors work on",
                    new.running_jobs.clone(),
                );
                registry.register(
                    "scheduler_jobs_pending",
                    "Queries that wait to be planned",
                    new.pending_jobs.clone(),
                );
            });
            new
        }
    }

    async fn watch(scheduler: SchedulerWatch, gauges: Gauges, health: ComponentHealth) {
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        loop {
            let facts = scheduler.facts();
            if gauges.executors.set(count(facts.executors)) != count(facts.executors) {
                info!(executors = facts.executors, "executors have come or gone");
            }
            gauges.running_jobs.set(count(facts.running_jobs));
            gauges.pending_jobs.set(count(facts.pending_jobs));
            match facts.executors {
                0 => health.not_ready("no executor has registered"),
                _ => health.ready(),
            }
            tokio::time::sleep(WATCH_EVERY).await;
        }
    }
}
