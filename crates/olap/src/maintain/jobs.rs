//! What each job of maintenance does, and what there is to do. Each is safe beside itself, writers and readers.

use std::time::Duration;

use loginlake_lake::compact::{self, CompactOptions, ExecuteOptions, PartitionOutcome, file_report};
use loginlake_lake::hourly::{self, RefreshOptions};
use loginlake_lake::table::{checkpoint, log_cleanup, schema};
use loginlake_lake::vacuum::{self, VacuumOptions};
use loginlake_lake::{Lake, LakeError, TableName};

/// Files of `rejected` that are worth a rewrite: its one table partition is never closed.
pub const MIN_FILES_REJECTED: usize = 8;
/// The tables that are compacted.
const COMPACTED: [TableName; 2] = [TableName::Logins, TableName::Rejected];

/// A job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// Small files into large ones, and a checkpoint of a log that lacks one.
    Compact,
    /// `logins_hourly`.
    Refresh,
    /// Files and logs that nobody needs any more.
    Vacuum,
}

impl Job {
    /// All of them, in the order in which they run when all are due.
    pub const ALL: [Job; 3] = [Job::Compact, Job::Refresh, Job::Vacuum];

    /// Its name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Job::Compact => "compact",
            Job::Refresh => "refresh",
            Job::Vacuum => "vacuum",
        }
    }
}

/// What the jobs need.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// Size that compaction aims at, bytes.
    pub target_file_bytes: u64,
    /// Memory of a job, bytes.
    pub memory_budget_bytes: usize,
    /// Table partitions at the same time.
    pub jobs: usize,
    /// How long unreferenced files stay.
    pub vacuum_retention: Duration,
    /// How far back logs reach.
    pub log_retention: Duration,
}

impl JobOptions {
    fn compaction_of(&self, table: TableName) -> CompactOptions {
        let mut options = CompactOptions::at(now_ms());
        options.target_file_bytes = self.target_file_bytes;
        if table == TableName::Rejected {
            options.min_files = MIN_FILES_REJECTED;
        }
        options
    }
}

/// The files of one table and what compaction has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableState {
    /// The table.
    pub table: TableName,
    /// Files.
    pub files: u64,
    /// Small ones.
    pub small_files: u64,
    /// Bytes of all.
    pub bytes: u64,
    /// Bytes that wait to be rewritten.
    pub debt_bytes: u64,
}

/// Runs a job and says what it did.
///
/// # Errors
/// The first error; what was done until then stays.
pub async fn run(job: Job, lake: &Lake, options: &JobOptions) -> Result<String, LakeError> {
    match job {
        Job::Compact => compact(lake, options).await,
        Job::Refresh => refresh(lake).await,
        Job::Vacuum => clean(lake, options).await,
    }
}

async fn compact(lake: &Lake, options: &JobOptions) -> Result<String, LakeError> {
    let (mut partitions, mut before, mut after) = (0, 0, 0);
    for table in COMPACTED {
        let Some(snapshot) = lake.snapshot(table, None).await? else {
            continue;
        };
        schema::check_compatible(&snapshot).map_err(|detail| LakeError::Foreign {
            place: lake.table_place(table),
            detail,
        })?;
        let since = snapshot.version - snapshot.checkpoint_version.unwrap_or(0);
        if since > checkpoint::INTERVAL_VERSIONS {
            checkpoint::write(lake, table, snapshot.version).await?;
        }
        let plan = compact::plan(&snapshot, &options.compaction_of(table));
        let execute = ExecuteOptions {
            memory_budget_bytes: options.memory_budget_bytes,
            jobs: options.jobs,
            ..ExecuteOptions::default()
        };
        let report = compact::execute(lake, plan, &execute).await?;
        for partition in &report.partitions {
            if matches!(partition.outcome, PartitionOutcome::Compacted { .. }) {
                partitions += 1;
                before += partition.files_before;
                after += partition.files_after;
            }
        }
    }
    Ok(format!("{partitions} partitions, {before} files into {after}"))
}

async fn refresh(lake: &Lake) -> Result<String, LakeError> {
    let report = hourly::refresh(lake, &RefreshOptions::at(now_ms())).await?;
    Ok(match report {
        Some(report) => report.to_string().lines().next().unwrap_or_default().to_owned(),
        None => "there is no table yet".to_owned(),
    })
}

async fn clean(lake: &Lake, options: &JobOptions) -> Result<String, LakeError> {
    let now_ms = now_ms();
    let mut vacuum_options = VacuumOptions::at(now_ms);
    vacuum_options.retention = options.vacuum_retention;
    vacuum_options.dry_run = false;
    let (mut files, mut bytes, mut log_files) = (0, 0, 0);
    for table in TableName::ALL {
        if let Some(report) = vacuum::vacuum(lake, table, &vacuum_options).await? {
            files += report.files.len();
            bytes += report.bytes();
        }
        let cleaned = log_cleanup::clean_log(lake, table, options.log_retention, now_ms, false).await?;
        log_files += cleaned.map_or(0, |cleaned| cleaned.commits + cleaned.checkpoint_files);
    }
    Ok(format!(
        "{files} files, {bytes} bytes, {log_files} files of logs removed"
    ))
}

/// The files of each table, by the log alone.
///
/// # Errors
/// The store failed.
pub async fn inspect(lake: &Lake, options: &JobOptions) -> Result<Vec<TableState>, LakeError> {
    let mut states = Vec::new();
    for table in TableName::ALL {
        let Some(snapshot) = lake.snapshot(table, None).await? else {
            continue;
        };
        let total = file_report(&snapshot).total;
        states.push(TableState {
            table,
            files: total.files,
            small_files: total.small_files,
            bytes: total.bytes,
            debt_bytes: compact::plan(&snapshot, &options.compaction_of(table)).bytes(),
        });
    }
    Ok(states)
}

fn now_ms() -> i64 {
    chrono::Utc::now().timestamp_millis()
}
