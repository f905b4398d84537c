//! `olap maintain`: every job of maintenance on its schedule, in one process, one maintainer of a lake at a time.
//!
//! - [`schedule`]: when a job is due (pure);
//! - [`jobs`]: what each job does;
//! - [`metrics`]: what is told about them;
//! - [`priority`]: how much others go first.
//!
//! Jobs run one after the other. A second process waits for the lease ([`loginlake_lake::lease`]) and takes over when the first
//! is gone; a job under way is given up when the lease is lost, which is safe, as being killed is. A job that fails is tried
//! again after a minute and counted; the service is not ready until it succeeds.

pub mod jobs;
pub mod metrics;
pub mod priority;
pub mod schedule;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use loginlake_lake::lease::{Claim, Lease};
use loginlake_lake::{Lake, LakeError};
use loginlake_service::exit::ExitError;
use loginlake_service::health::{ComponentHealth, Health};
use loginlake_service::metrics::Metrics;
use loginlake_service::shutdown::Shutdown;

use self::jobs::{Job, JobOptions};
use self::metrics::MaintainMetrics;
use self::schedule::Schedule;
use crate::lineage::LakeJob;
use crate::setup::lake_error;

/// A failed job is tried again after this time, or when it is due if that is sooner.
const RETRY: chrono::TimeDelta = chrono::TimeDelta::seconds(60);
/// How often files and debt are looked at.
const INSPECT_EVERY: Duration = Duration::from_secs(30);
/// Looks at the lease within its time.
const CLAIMS_PER_TTL: u32 = 4;
/// Longest pause between two looks at what is due.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How maintenance runs.
#[derive(Clone, Debug)]
pub struct MaintainOptions {
    /// The lake.
    pub lake: Lake,
    /// The jobs and when they run, in the order in which they do when several are due.
    pub schedules: Vec<(Job, Schedule)>,
    /// What the jobs need.
    pub jobs: JobOptions,
    /// How long others wait after this process's last sign of life.
    pub lease_ttl: Duration,
    /// Compaction debt above which the service is not ready, bytes.
    pub debt_limit_bytes: u64,
    /// Run every job once and end.
    pub once: bool,
    /// Who maintains, for those who wait.
    pub who: String,
}

/// When a job ran and runs next.
struct Planned {
    job: Job,
    schedule: Schedule,
    next: Option<DateTime<Utc>>,
}

/// Runs until `shutdown`, or with `once` until every job ran.
///
/// # Errors
/// With `once`: a job failed, or another process maintains the lake. Otherwise only what no retry can change.
pub async fn run(
    options: MaintainOptions,
    shutdown: &Shutdown,
    health: &Health,
    metrics: &Metrics,
) -> Result<(), ExitError> {
    let maintainer = Maintainer {
        metrics: MaintainMetrics::register(metrics, options.debt_limit_bytes),
        jobs_health: health.component("maintenance", None),
        debt_health: health.component("compaction debt", None),
        shutdown,
        options,
    };
    maintainer.jobs_health.ready();
    maintainer.debt_health.ready();
    let lease = Lease::new(
        &maintainer.options.lake,
        maintainer.options.who.clone(),
        maintainer.options.lease_ttl,
    );
    maintainer.run(lease).await
}

struct Maintainer<'a> {
    metrics: MaintainMetrics,
    jobs_health: ComponentHealth,
    debt_health: ComponentHealth,
    shutdown: &'a Shutdown,
    options: MaintainOptions,
}

impl Maintainer<'_> {
    async fn run(&self, mut lease: Lease) -> Result<(), ExitError> {
        loop {
            if !self.wait_for_lease(&mut lease).await? {
                return Ok(());
            }
            self.metrics.active.set(1);
            tracing::info!("maintaining the lake");
            let result = tokio::select! {
                result = self.work() => Some(result),
                lost = self.keep(&mut lease) => {
                    tracing::warn!(who = lost, "another process took over; waiting");
                    None
                }
                () = self.shutdown.requested() => Some(Ok(())),
            };
            self.metrics.forget();
            self.debt_health.ready();
            if let Some(result) = result {
                if let Err(error) = lease.release().await {
                    tracing::warn!(%error, "the lease was not given back: a successor waits for it to run out");
                }
                return result;
            }
        }
    }

    /// False: it was asked to stop.
    async fn wait_for_lease(&self, lease: &mut Lease) -> Result<bool, ExitError> {
        let began = Instant::now();
        let mut told = false;
        loop {
            match lease.claim(Instant::now()).await {
                Ok(Claim::Held) => return Ok(true),
                Ok(Claim::Waiting { who }) => {
                    if self.options.once && began.elapsed() > self.options.lease_ttl * 2 {
                        return Err(ExitError::failed(format!(
                            "{who} maintains this lake: its `olap maintain` does all jobs; stop it, or leave --once off to wait"
                        )));
                    }
                    if !told {
                        tracing::info!(who, "another process maintains the lake; waiting for it to end");
                        told = true;
                    }
                    self.jobs_health.ready();
                }
                Err(error) if error.is_retriable() && !self.options.once => {
                    tracing::warn!(%error, "the lease cannot be looked at; again");
                    self.jobs_health.not_ready("the store does not answer");
                }
                Err(error) => return Err(lake_error(error)),
            }
            if self.pause(self.options.lease_ttl / CLAIMS_PER_TTL).await {
                return Ok(false);
            }
        }
    }

    /// Signs of life until the lease is lost. Returns to whom.
    async fn keep(&self, lease: &mut Lease) -> String {
        loop {
            tokio::time::sleep(self.options.lease_ttl / CLAIMS_PER_TTL).await;
            match lease.claim(Instant::now()).await {
                Ok(Claim::Held) => {}
                Ok(Claim::Waiting { who }) => return who,
                // Whoever takes over meanwhile is met at the next look.
                Err(error) => tracing::warn!(%error, "no sign of life could be left"),
            }
        }
    }

    /// True: it was asked to stop.
    async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(duration) => false,
            () = self.shutdown.requested() => true,
        }
    }

    async fn work(&self) -> Result<(), ExitError> {
        if self.options.once {
            return self.work_once().await;
        }
        let now = Utc::now();
        let mut planned: Vec<Planned> = self
            .options
            .schedules
            .iter()
            .map(|(job, schedule)| Planned {
                job: *job,
                next: schedule.first(now),
                schedule: schedule.clone(),
            })
            .collect();
        let mut inspected: Option<Instant> = None;
        loop {
            for plan in &mut planned {
                if plan.next.is_none_or(|next| next > Utc::now()) {
                    continue;
                }
                let result = self.run_job(plan.job).await;
                let next = plan.schedule.next(Utc::now());
                plan.next = match result {
                    Ok(()) => next,
                    Err(_) => next.map(|next| next.min(Utc::now() + RETRY)),
                };
                inspected = None;
            }
            if inspected.is_none_or(|inspected| inspected.elapsed() >= INSPECT_EVERY) {
                self.inspect().await;
                inspected = Some(Instant::now());
            }
            let next = planned.iter().filter_map(|plan| plan.next).min();
            let pause = next
                .and_then(|next| (next - Utc::now()).to_std().ok())
                .unwrap_or(LONGEST_PAUSE);
            tokio::time::sleep(pause.clamp(Duration::from_millis(50), LONGEST_PAUSE)).await;
        }
    }

    async fn work_once(&self) -> Result<(), ExitError> {
        let mut first_error = None;
        for (job, _) in &self.options.schedules {
            if let Err(error) = self.run_job(*job).await {
                first_error = first_error.or(Some(error));
            }
        }
        self.inspect().await;
        first_error.map_or(Ok(()), |error| Err(lake_error(error)))
    }

    async fn run_job(&self, job: Job) -> Result<(), LakeError> {
        let began = Instant::now();
        let (reads, writes) = job.tables();
        let mut told = LakeJob::begin(job.told_name(), &self.options.lake, reads, writes);
        let result = jobs::run(job, &self.options.lake, &self.options.jobs).await;
        let seconds = began.elapsed().as_secs_f64();
        self.metrics
            .ran(job, seconds, result.is_ok(), Utc::now().timestamp());
        match &result {
            Ok(done) => {
                tracing::info!(job = job.name(), seconds, done = done.text, "job done");
                self.jobs_health.ready();
                for (table, written) in &done.written {
                    told.wrote(*table, *written);
                }
                told.end(Ok(())).await;
            }
            Err(error) => {
                tracing::error!(job = job.name(), seconds, %error, "job failed");
                self.jobs_health
                    .not_ready(format!("the last {} failed", job.name()));
                told.end(Err(&error.to_string())).await;
            }
        }
        result.map(drop)
    }

    /// Files and debt, for whoever looks; above the limit this says so first.
    async fn inspect(&self) {
        let found = match jobs::inspect(&self.options.lake, &self.options.jobs).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "files and debt cannot be looked at");
                return;
            }
        };
        self.metrics.found(&found);
        let debt = found.iter().map(|table| table.debt_bytes).sum::<u64>();
        let limit = self.options.debt_limit_bytes;
        let is_over = debt > limit;
        self.metrics.debt_over_limit.set(i64::from(is_over));
        if is_over {
            tracing::error!(
                debt_bytes = debt,
                limit_bytes = limit,
                "compaction does not keep up: queries get slower with every commit; give it more --jobs, or ingest less"
            );
            self.debt_health
                .not_ready(format!("{debt} bytes wait for compaction, more than {limit}"));
        } else {
            self.debt_health.ready();
        }
    }
}
