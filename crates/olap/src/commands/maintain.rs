//! `olap maintain`.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use loginlake_lake::table::log_cleanup::DEFAULT_LOG_RETENTION;
use loginlake_lake::vacuum::{DEFAULT_RETENTION, MIN_RETENTION};
use loginlake_olap::maintain::jobs::{Job, JobOptions};
use loginlake_olap::maintain::schedule::Schedule;
use loginlake_olap::maintain::{self, MaintainOptions};
use loginlake_olap::setup;
use loginlake_service::alerts::{self, Alerts};
use loginlake_service::config::{AlertArgs, ByteSize, ConfigFile, HttpArgs, LakeArgs, Service, Span};
use loginlake_service::exit::ExitError;
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;
use loginlake_service::{http, reload};

/// The default memory of a job.
const DEFAULT_MEMORY: u64 = 256 << 20;
/// The smallest one.
const MIN_MEMORY: u64 = 64 << 20;
/// The default size of files.
const DEFAULT_TARGET: u64 = 256 << 20;
/// The default debt above which the service is not ready.
const DEFAULT_DEBT_LIMIT: u64 = 50 << 30;
/// The default time after which another process takes over.
const DEFAULT_LEASE_TTL: Duration = Duration::from_secs(30);
/// The shortest one: a store may take seconds to answer.
const MIN_LEASE_TTL: Duration = Duration::from_secs(2);

/// Arguments of `olap maintain`.
#[derive(Args, Debug)]
pub struct MaintainArgs {
    #[command(flatten)]
    lake: LakeArgs,
    #[command(flatten)]
    http: HttpArgs,
    #[command(flatten)]
    alerts: AlertArgs,
    /// Run every job once, whatever its schedule, and end. Exit code 1 when one fails, or another process maintains the lake
    #[arg(long)]
    once: bool,
    /// When small files are compacted: an interval, a cron expression in UTC (five fields, or six with seconds), or never [default: 5m]
    #[arg(
        long,
        env = "LOGINLAKE_COMPACT_EVERY",
        hide_env_values = true,
        value_name = "SCHEDULE"
    )]
    compact_every: Option<String>,
    /// When logins_hourly is refreshed, likewise [default: 5m]
    #[arg(
        long,
        env = "LOGINLAKE_REFRESH_EVERY",
        hide_env_values = true,
        value_name = "SCHEDULE"
    )]
    refresh_every: Option<String>,
    /// When unreferenced files and expired logs are deleted, likewise [default: 24h]
    #[arg(
        long,
        env = "LOGINLAKE_VACUUM_EVERY",
        hide_env_values = true,
        value_name = "SCHEDULE"
    )]
    vacuum_every: Option<String>,
    /// Size at which a file is closed [default: 256MiB]
    #[arg(
        long,
        env = "LOGINLAKE_TARGET_FILE_BYTES",
        hide_env_values = true,
        value_name = "SIZE"
    )]
    target_file_bytes: Option<ByteSize>,
    /// Memory of a job; what does not fit is sorted through temporary files [default: 256MiB]
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<ByteSize>,
    /// Table partitions that are compacted at the same time [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    jobs: Option<u16>,
    /// Most threads that work at the same time: the limit on CPU [default: one a core]
    #[arg(long, env = "LOGINLAKE_THREADS", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Let other processes go first, 1 to 19 as of nice(1) [default: as it is started]
    #[arg(long, env = "LOGINLAKE_NICE", hide_env_values = true, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=19))]
    pub nice: Option<u8>,
    /// How long unreferenced files stay [default: 7d]
    #[arg(long, value_name = "DURATION")]
    retention: Option<Span>,
    /// How far back history, restore and --at reach [default: 30d]
    #[arg(long, value_name = "DURATION")]
    log_retention: Option<Span>,
    /// Bytes that wait for compaction above which the service is not ready [default: 50GiB]
    #[arg(long, value_name = "SIZE")]
    debt_limit: Option<ByteSize>,
    /// How long another process waits after the last sign of life of this one before it takes over [default: 30s]
    #[arg(long, value_name = "DURATION")]
    lease: Option<Span>,
}

impl MaintainArgs {
    fn schedules(&self, file: &ConfigFile) -> Result<Vec<(Job, Schedule)>, ExitError> {
        let section = &file.maintain;
        let schedule = |job, flag: &Option<String>, key: &Option<String>, name: &str, default: &str| {
            let text = flag.as_deref().or(key.as_deref()).unwrap_or(default);
            match text.parse::<Schedule>() {
                Ok(schedule) => Ok((job, schedule)),
                Err(error) => Err(ExitError::usage(format!("--{name}: {error}"))),
            }
        };
        Ok(vec![
            schedule(
                Job::Compact,
                &self.compact_every,
                &section.compact_every,
                "compact-every",
                "5m",
            )?,
            schedule(
                Job::Refresh,
                &self.refresh_every,
                &section.refresh_every,
                "refresh-every",
                "5m",
            )?,
            schedule(
                Job::Vacuum,
                &self.vacuum_every,
                &section.vacuum_every,
                "vacuum-every",
                "24h",
            )?,
        ])
    }

    fn jobs(&self, file: &ConfigFile) -> Result<JobOptions, ExitError> {
        let section = &file.maintain;
        let memory = self
            .memory_budget
            .or(section.memory_budget)
            .map_or(DEFAULT_MEMORY, |size| size.bytes());
        let jobs = self.jobs.or(section.jobs).unwrap_or(1).max(1);
        if memory < MIN_MEMORY {
            return Err(ExitError::usage(format!(
                "--memory-budget {} is too small: at least {}",
                ByteSize::from_bytes(memory),
                ByteSize::from_bytes(MIN_MEMORY)
            )));
        }
        let span = |span: Option<Span>, default: Duration| span.map_or(default, Span::duration);
        let vacuum_retention = span(self.retention.or(section.vacuum_retention), DEFAULT_RETENTION);
        let log_retention = span(
            self.log_retention.or(section.log_retention),
            DEFAULT_LOG_RETENTION,
        );
        if vacuum_retention < MIN_RETENTION {
            return Err(ExitError::usage(format!(
                "--retention of {} s is shorter than {} s: files of running commits and queries could be removed",
                vacuum_retention.as_secs(),
                MIN_RETENTION.as_secs()
            )));
        }
        super::vacuum::check_log_retention(log_retention, vacuum_retention)?;
        Ok(JobOptions {
            target_file_bytes: self
                .target_file_bytes
                .or(section.target_file_bytes)
                .map_or(DEFAULT_TARGET, |size| size.bytes())
                .max(1),
            memory_budget_bytes: usize::try_from(memory).unwrap_or(usize::MAX),
            jobs: usize::from(jobs),
            vacuum_retention,
            log_retention,
        })
    }
}

/// Runs it.
pub async fn run(args: MaintainArgs, file: &ConfigFile) -> Result<(), ExitError> {
    super::arm_fail_point()?;
    let shutdown = Shutdown::on_signals()
        .map_err(|error| ExitError::failed(format!("cannot catch signals: {error}")))?;
    let bind = args.http.resolve(file, Service::Maintain)?;
    let alerts = args.alerts.resolve(file)?;
    let lease_ttl = args
        .lease
        .or(file.maintain.lease)
        .map_or(DEFAULT_LEASE_TTL, Span::duration);
    if lease_ttl < MIN_LEASE_TTL {
        return Err(ExitError::usage(format!(
            "--lease is too short: at least {} s",
            MIN_LEASE_TTL.as_secs()
        )));
    }
    let options = MaintainOptions {
        lake: setup::lake(&args.lake.resolve(file)?)?,
        schedules: args.schedules(file)?,
        jobs: args.jobs(file)?,
        lease_ttl,
        debt_limit_bytes: args
            .debt_limit
            .or(file.maintain.debt_limit)
            .map_or(DEFAULT_DEBT_LIMIT, |size| size.bytes()),
        once: args.once,
        who: super::operator(),
    };
    let (metrics, health) = (Metrics::new("maintain"), Health::new());
    let server = http::serve(bind, metrics.clone(), health.clone(), axum::Router::new()).await?;
    if let Some(address) = server.local_addr() {
        tracing::info!(%address, "health and metrics");
    }
    let instance = alerts::instance(server.local_addr());
    let alerts = Arc::new(Alerts::start(&alerts, "maintain", instance, &metrics, &health)?);
    reload::alerts(&alerts, args.alerts);
    let result = maintain::run(options, &shutdown, &health, &metrics).await;
    server.shutdown().await;
    result
}
