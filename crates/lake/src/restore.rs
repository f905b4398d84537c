//! A table back to an older state, its offsets with it, so that ingestion reads again what came after (invariants 6, 7).
//!
//! One commit: the files of the older version that are not in the table come back, the others leave, and each
//! application id of ingestion goes back to where it stood, as a compare-and-set on where it stands. So a running ingester
//! is fenced by its next commit, and goes on from the restored offsets. Kafka partitions that the older version did not
//! know go back to where they began. Maintenance counters go on, never back: who planned on the files of before is fenced.
//!
//! `logins` is restored on its own: rejected records that `rejected` holds beyond the restored offsets are skipped when they
//! are read again. `rejected` can be restored only as far as `logins` does not need what would go.
//!
//! Ingesters may run: their commits between plan and restore make the plan void ([`Attempt::Overtaken`]), and it is made again,
//! without a second look at the files, so that it gets between two commits whatever the table's size.
//!
//! Refused before anything is written: a file is gone (vacuum); an erasure would be undone; the topic was made again since.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures::StreamExt;
use object_store::ObjectStoreExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::compact::execute::loop_commit;
use crate::compact::scan::location;
use crate::error::LakeError;
use crate::history::CommitSummary;
use crate::ingest::pipeline::RETIRED;
use crate::store::Lake;
use crate::table::commit::{CommitOutcome, CommitRequest, NewFile, TableWriter, TxnStep};
use crate::table::partition::MAINTENANCE;
use crate::table::{DataFile, TableName, TablePartition, TableSnapshot};

/// Delta's name of the operation.
const OPERATION: &str = "RESTORE";
/// Commits and files that are looked at at the same time.
const READS_IN_FLIGHT: usize = 8;
/// The first part of the application ids of this software.
const OURS: &str = "loginlake/";
/// Missing files that a message names.
const NAMED_FILES: usize = 3;

/// What a restore would do.
#[derive(Clone, Debug)]
pub struct RestorePlan {
    /// The table.
    pub table: TableName,
    /// The newest version, which is left.
    pub from_version: i64,
    /// The version whose state comes back.
    pub to_version: i64,
    /// Files that come back.
    pub adds: Vec<DataFile>,
    /// Files that leave.
    pub removes: Vec<DataFile>,
    /// The offsets that go back: application id, where it stands, where it goes.
    pub offsets: Vec<(String, i64, i64)>,
    /// Erasures that would be undone.
    pub erasures: BTreeSet<String>,
    /// All application ids as they will be.
    pub transactions: BTreeMap<String, i64>,
    steps: Vec<TxnStep>,
    head: TableSnapshot,
}

impl RestorePlan {
    /// Whether the table is in that state already.
    pub fn is_empty(&self) -> bool {
        self.adds.is_empty() && self.removes.is_empty() && self.offsets.is_empty()
    }

    /// Rows that leave less those that come back; `None` when the log does not say it.
    pub fn rows_lost(&self) -> Option<i64> {
        let rows = |files: &[DataFile]| -> Option<i64> {
            files
                .iter()
                .map(|file| file.rows.and_then(|rows| i64::try_from(rows).ok()))
                .sum()
        };
        Some(rows(&self.removes)? - rows(&self.adds)?)
    }
}

/// Plans the way back to `to_version` and checks that every file of it is still there. `None`: no such table.
///
/// # Errors
/// [`LakeError::Configuration`] when the version is not older than the newest; [`LakeError::NoSuchVersion`] when the log
/// does not have it any more; [`LakeError::DataLossRefused`] when its files are gone, the topic was made again since, or
/// `logins` needs rows of `rejected` that would go.
pub async fn plan(lake: &Lake, table: TableName, to_version: i64) -> Result<Option<RestorePlan>, LakeError> {
    let Some(planned) = plan_unchecked(lake, table, to_version).await? else {
        return Ok(None);
    };
    let (plan, target) = planned;
    check_files(lake, table, &target.files, to_version).await?;
    Ok(Some(plan))
}

/// The plan and the state that comes back, whose files were not looked at.
async fn plan_unchecked(
    lake: &Lake,
    table: TableName,
    to_version: i64,
) -> Result<Option<(RestorePlan, TableSnapshot)>, LakeError> {
    let Some(head) = lake.snapshot(table, None).await? else {
        return Ok(None);
    };
    if to_version < 0 || to_version >= head.version {
        return Err(LakeError::Configuration(format!(
            "--to {to_version}: {table} is at version {}; name an older one, as `olap history` lists them",
            head.version
        )));
    }
    let Some(target) = lake.snapshot(table, Some(to_version)).await? else {
        return Ok(None);
    };
    if target.partition_columns != head.partition_columns {
        return Err(LakeError::DataLossRefused(format!(
            "{table} was partitioned otherwise at version {to_version}; nothing was changed"
        )));
    }
    let commits = commits_between(lake, table, to_version, head.version).await?;
    if table == TableName::Rejected {
        check_rejected(lake, &commits).await?;
    }
    let steps = steps(&target, &head, &commits)?;
    let mut plan = RestorePlan {
        table,
        from_version: head.version,
        to_version,
        adds: files_without(&target.files, &head.files),
        removes: files_without(&head.files, &target.files),
        offsets: steps
            .iter()
            .filter_map(|step| Some((step.app_id.clone(), step.from?, step.to)))
            .filter(|(_, from, to)| from != to)
            .collect(),
        erasures: commits.iter().filter_map(erasure_of).collect(),
        transactions: head.transactions.clone(),
        steps,
        head,
    };
    for step in &plan.steps {
        plan.transactions.insert(step.app_id.clone(), step.to);
    }
    plan.add_maintenance();
    Ok(Some((plan, target)))
}

/// What became of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It is in the table, as this version.
    Restored {
        /// The version.
        version: i64,
    },
    /// The table has changed since it was planned; nothing was written.
    Overtaken {
        /// By what.
        detail: String,
    },
}

/// Commits a plan, and returns the version. `who` is kept in the history.
///
/// # Errors
/// As [`attempt`], and [`LakeError::DataLossRefused`] when the table has changed since it was planned.
pub async fn execute(lake: &Lake, plan: &RestorePlan, who: &str) -> Result<i64, LakeError> {
    match attempt(lake, plan, who).await? {
        Attempt::Restored { version } => Ok(version),
        Attempt::Overtaken { detail } => Err(LakeError::DataLossRefused(format!(
            "{} was not restored: {detail}; plan it again, best with ingestion stopped",
            plan.table
        ))),
    }
}

/// Commits a plan, if the table still stands where it was planned. `who` is kept in the history.
///
/// # Errors
/// [`LakeError::DataLossRefused`] when vacuum took a file meanwhile; the store failed.
pub async fn attempt(lake: &Lake, plan: &RestorePlan, who: &str) -> Result<Attempt, LakeError> {
    let request = CommitRequest {
        batch_id: Uuid::new_v4(),
        operation: OPERATION,
        steps: plan.steps.clone(),
        adds: plan.adds.iter().map(as_new_file).collect(),
        removes: plan.removes.clone(),
        data_change: true,
        info: json!({
            "kind": "restore",
            "toVersion": plan.to_version,
            "fromVersion": plan.from_version,
            "who": who,
            "undoneErasures": plan.erasures,
            "rowsRemoved": plan.removes.iter().map(|file| file.rows).sum::<Option<u64>>(),
        }),
    };
    let mut writer = TableWriter::at_snapshot(lake, &plan.head)?;
    let mut failed = false;
    match loop_commit(&mut writer, &request, &mut failed).await? {
        CommitOutcome::Committed { version } => {
            check_files(lake, plan.table, &plan.adds, plan.to_version).await?;
            Ok(Attempt::Restored { version })
        }
        CommitOutcome::Fenced { app_id, .. } => Ok(Attempt::Overtaken {
            detail: format!("{app_id} has moved on meanwhile"),
        }),
        CommitOutcome::Conflict { detail } => Ok(Attempt::Overtaken { detail }),
    }
}

impl RestorePlan {
    /// The same way back from where the table stands now. The files were looked at already.
    ///
    /// # Errors
    /// As [`plan`].
    pub async fn again(&self, lake: &Lake) -> Result<RestorePlan, LakeError> {
        let planned = plan_unchecked(lake, self.table, self.to_version).await?;
        let (plan, _) = planned.ok_or_else(|| {
            LakeError::DataLossRefused(format!("{} is gone; nothing was changed", self.table))
        })?;
        Ok(plan)
    }

    /// Whoever maintains a partition whose files change has to look again.
    fn add_maintenance(&mut self) {
        let changed: BTreeSet<TablePartition> = self
            .adds
            .iter()
            .chain(&self.removes)
            .map(|file| TablePartition::of(&self.head.partition_columns, file))
            .collect();
        for partition in changed {
            let app_id = partition.maintenance_app_id();
            let from = self.head.transactions.get(&app_id).copied();
            let to = from.unwrap_or(0) + 1;
            self.transactions.insert(app_id.clone(), to);
            self.steps.push(TxnStep { app_id, from, to });
        }
    }
}

fn is_of_ingestion(app_id: &str) -> bool {
    app_id.starts_with(OURS) && !app_id.starts_with(MAINTENANCE)
}

/// Where the application ids of ingestion go. Pure.
fn steps(
    target: &TableSnapshot,
    head: &TableSnapshot,
    commits: &[CommitSummary],
) -> Result<Vec<TxnStep>, LakeError> {
    let mut steps = Vec::new();
    for (app_id, stands_at) in head
        .transactions
        .iter()
        .filter(|(app_id, _)| is_of_ingestion(app_id))
    {
        let known = target.transactions.get(app_id).copied();
        if *stands_at == RETIRED && known != Some(RETIRED) {
            return Err(LakeError::DataLossRefused(format!(
                "the topic was made again after version {}: its old offsets mean nothing to the new topic; restore a version \
                 after that, or a copy of the lake",
                target.version
            )));
        }
        // A partition that the older version did not know goes back to where it began; a time is no offset and stays.
        let began = || {
            let first = commits.iter().find_map(|commit| commit.transactions.get(app_id));
            first.copied().filter(|_| is_offset(app_id))
        };
        steps.push(TxnStep {
            app_id: app_id.clone(),
            from: Some(*stands_at),
            to: known.or_else(began).unwrap_or(*stands_at),
        });
    }
    Ok(steps)
}

/// The last part is a Kafka partition.
fn is_offset(app_id: &str) -> bool {
    app_id
        .rsplit('/')
        .next()
        .is_some_and(|last| last.parse::<i32>().is_ok())
}

/// Rejected rows below the offsets of `logins` are never read again: none of them may go.
async fn check_rejected(lake: &Lake, commits: &[CommitSummary]) -> Result<(), LakeError> {
    let logins = lake
        .load_snapshot(TableName::Logins, None, crate::table::snapshot::WithFiles::No)
        .await?;
    let Some(logins) = logins else { return Ok(()) };
    for commit in commits {
        let Some(info) = commit.info.as_ref().filter(|info| info["kind"] == "ingest") else {
            continue;
        };
        for app_id in commit.transactions.keys() {
            let partition = app_id
                .rsplit('/')
                .next()
                .and_then(|last| last.parse::<i64>().ok());
            let range = info["offsets"]
                .as_array()
                .and_then(|ranges| ranges.iter().find(|range| range[0].as_i64() == partition));
            let from = range.and_then(|range| range[1].as_i64());
            let needed = logins.transactions.get(app_id).copied().unwrap_or(0);
            if from.is_none_or(|from| from < needed) {
                return Err(LakeError::DataLossRefused(format!(
                    "version {} of rejected holds records that logins counts as done ({app_id} stands at {needed}): restore \
                     logins to before it first, with ingestion stopped",
                    commit.version
                )));
            }
        }
    }
    Ok(())
}

/// The erasure that a commit was part of.
fn erasure_of(commit: &CommitSummary) -> Option<String> {
    let info = commit.info.as_ref().filter(|info| info["kind"] == "erasure")?;
    info["erasure"].as_str().map(str::to_owned)
}

/// The commits after `from` up to `to`, oldest first.
async fn commits_between(
    lake: &Lake,
    table: TableName,
    from: i64,
    to: i64,
) -> Result<Vec<CommitSummary>, LakeError> {
    let mut reads = futures::stream::iter(from + 1..=to)
        .map(|version| async move { (version, lake.read_commit(table, version).await) })
        .buffered(READS_IN_FLIGHT);
    let mut commits = Vec::new();
    while let Some((version, commit)) = reads.next().await {
        let commit = commit?.ok_or_else(|| LakeError::NoSuchVersion {
            place: lake.table_place(table),
            version,
            detail: "the log does not have its commit any more".to_owned(),
        })?;
        commits.push(commit);
    }
    Ok(commits)
}

fn files_without(files: &[DataFile], without: &[DataFile]) -> Vec<DataFile> {
    let known: HashSet<&str> = without.iter().map(|file| file.path.as_str()).collect();
    let mut left: Vec<DataFile> = files
        .iter()
        .filter(|file| !known.contains(file.path.as_str()))
        .cloned()
        .collect();
    left.sort_by(|a, b| a.path.cmp(&b.path));
    left
}

/// Every file is in the store, as large as the log says.
async fn check_files(
    lake: &Lake,
    table: TableName,
    files: &[DataFile],
    version: i64,
) -> Result<(), LakeError> {
    let store = lake.table_store(table);
    let mut looks = futures::stream::iter(files)
        .map(|file| {
            let store = std::sync::Arc::clone(&store);
            async move { (file, store.head(&location(&file.path)).await) }
        })
        .buffer_unordered(READS_IN_FLIGHT);
    let mut missing = Vec::new();
    while let Some((file, found)) = looks.next().await {
        match found {
            Ok(meta) if meta.size == file.size_bytes => {}
            Ok(_) | Err(object_store::Error::NotFound { .. }) => missing.push(file.path.clone()),
            Err(error) => return Err(LakeError::from_store(&lake.table_place(table), error)),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort();
    let count = missing.len();
    missing.truncate(NAMED_FILES);
    Err(LakeError::DataLossRefused(format!(
        "{count} files of version {version} of {table} are gone or of another size (vacuum, or damage): {}; restore a newer \
         version, or a copy of the lake",
        missing.join(", ")
    )))
}

fn as_new_file(file: &DataFile) -> NewFile {
    NewFile {
        path: file.path.clone(),
        size_bytes: file.size_bytes,
        modified_ms: file.modified_ms,
        partition_values: file.partition_values.clone(),
        rows: file.rows.unwrap_or(0),
        stats_json: file
            .stats_json
            .clone()
            .unwrap_or_else(|| Value::Object(serde_json::Map::new()).to_string()),
    }
}
