//! What each job of maintenance does, and what there is to do. Each is safe beside itself, writers and readers.

use std::time::Duration;

use loginlake_lake::compact::{
    self, CompactOptions, CompactionReport, ExecuteOptions, PartitionOutcome, file_report,
};
use loginlake_lake::hourly::{self, RefreshOptions, RefreshReport};
use loginlake_lake::table::{checkpoint, log_cleanup, schema};
use loginlake_lake::vacuum::{self, VacuumOptions};
use loginlake_lake::{Lake, LakeError, TableName};
use loginlake_service::lineage::Written;

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

    /// Its name as a span and in lineage.
    pub const fn told_name(self) -> &'static str {
        match self {
            Job::Compact => "olap.maintain.compact",
            Job::Refresh => "olap.maintain.refresh",
            Job::Vacuum => "olap.maintain.vacuum",
        }
    }

    /// The tables that it reads, and those that it writes: files that nobody needs are no data.
    pub const fn tables(self) -> (&'static [TableName], &'static [TableName]) {
        match self {
            Job::Compact => (&COMPACTED, &COMPACTED),
            Job::Refresh => (&[TableName::Logins], &[TableName::LoginsHourly]),
            Job::Vacuum => (&TableName::ALL, &[]),
        }
    }
}

/// What a job did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// In words.
    pub text: String,
    /// What it wrote into which table.
    pub written: Vec<(TableName, Written)>,
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
pub async fn run(job: Job, lake: &Lake, options: &JobOptions) -> Result<Done, LakeError> {
    match job {
        Job::Compact => compact(lake, options).await,
        Job::Refresh => refresh(lake).await,
        Job::Vacuum => clean(lake, options).await,
    }
}

/// What a compaction put in the place of small files.
pub fn compacted(report: &CompactionReport) -> Written {
    let done = || {
        let partitions = report.partitions.iter();
        partitions.filter(|partition| matches!(partition.outcome, PartitionOutcome::Compacted { .. }))
    };
    Written {
        rows: done().map(|partition| partition.rows).sum(),
        bytes: Some(done().map(|partition| partition.bytes_after).sum()),
        files: Some(done().map(|partition| partition.files_after as u64).sum()),
    }
}

async fn compact(lake: &Lake, options: &JobOptions) -> Result<Done, LakeError> {
    let (mut partitions, mut before, mut after) = (0, 0, 0);
    let mut written = Vec::new();
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
        written.push((table, compacted(&report)));
        for partition in &report.partitions {
            if matches!(partition.outcome, PartitionOutcome::Compacted { .. }) {
                partitions += 1;
                before += partition.files_before;
                after += partition.files_after;
            }
        }
    }
    Ok(Done {
        text: format!("{partitions} partitions, {before} files into {after}"),
        written,
    })
}

async fn refresh(lake: &Lake) -> Result<Done, LakeError> {
    let report = hourly::refresh(lake, &RefreshOptions::at(now_ms())).await?;
    Ok(match report {
        Some(report) => Done {
            text: report.to_string().lines().next().unwrap_or_default().to_owned(),
            written: vec![(TableName::LoginsHourly, refreshed(&report))],
        },
        None => Done {
            text: "there is no table yet".to_owned(),
            written: Vec::new(),
        },
    })
}

/// What a refresh wrote into the view.
pub fn refreshed(report: &RefreshReport) -> Written {
    Written {
        rows: report.rows,
        ..Written::default()
    }
}

async fn clean(lake: &Lake, options: &JobOptions) -> Result<Done, LakeError> {
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
    Ok(Done {
        text: format!("{files} files, {bytes} bytes, {log_files} files of logs removed"),
        written: Vec::new(),
    })
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
