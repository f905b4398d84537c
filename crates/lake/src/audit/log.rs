//! Commits of a table's log as the audit needs them, oldest first, as far as the log goes back.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStoreExt;
use object_store::path::Path;
use serde_json::Value;

use crate::error::LakeError;
use crate::store::Lake;
use crate::table::TableName;
use crate::table::commit::commit_path;

/// Commits that are read at the same time.
const READS_IN_FLIGHT: usize = 16;

/// A file in a commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoggedFile {
    /// Path relative to the table's folder, percent-decoded.
    pub path: String,
    /// Rows by its statistics.
    pub rows: Option<u64>,
}

/// A commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditedCommit {
    /// The Delta version.
    pub version: i64,
    /// Delta's name of the operation.
    pub operation: String,
    /// The batch id of this software; `None` for others.
    pub batch_id: Option<String>,
    /// What this software says beside the operation; null for others.
    pub info: Value,
    /// Its `txn` actions.
    pub transactions: BTreeMap<String, i64>,
    /// Files that became part of the table.
    pub adds: Vec<LoggedFile>,
    /// Paths that left it.
    pub removes: Vec<String>,
    /// Whether it says of any file that its rows are others than before, not only elsewhere.
    pub changes_data: bool,
}

impl AuditedCommit {
    pub(super) fn parse(version: i64, bytes: &[u8]) -> Result<Self, String> {
        let mut commit = Self {
            version,
            ..Self::default()
        };
        for line in bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
        {
            let action: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            let path_of = |file: &Value| {
                let path = file["path"].as_str().ok_or("a file without a path")?;
                let path = percent_encoding::percent_decode_str(path);
                Ok::<_, String>(path.decode_utf8_lossy().into_owned())
            };
            if let Some(info) = action.get("commitInfo") {
                commit.operation = info["operation"].as_str().unwrap_or_default().to_owned();
                commit.batch_id = info["loginlake"]["batchId"].as_str().map(str::to_owned);
                commit.info = info["loginlake"]["info"].clone();
            } else if let Some(txn) = action.get("txn") {
                let app_id = txn["appId"].as_str().ok_or("a txn action without appId")?;
                let to = txn["version"].as_i64().ok_or("a txn action without version")?;
                commit.transactions.insert(app_id.to_owned(), to);
            } else if let Some(add) = action.get("add") {
                commit.changes_data |= add["dataChange"] != false;
                let stats = add["stats"].as_str().unwrap_or("{}");
                let stats: Value = serde_json::from_str(stats).unwrap_or_default();
                commit.adds.push(LoggedFile {
                    path: path_of(add)?,
                    rows: stats["numRecords"].as_u64(),
                });
            } else if let Some(remove) = action.get("remove") {
                commit.removes.push(path_of(remove)?);
            }
        }
        Ok(commit)
    }
}

/// The versions up to `up_to` whose commits the log still has, in order.
pub(super) async fn versions(lake: &Lake, table: TableName, up_to: i64) -> Result<Vec<i64>, LakeError> {
    let store = lake.table_store(table);
    let folder = Path::from("_delta_log");
    let mut found: Vec<i64> = store
        .list(Some(&folder))
        .try_filter_map(|object| async move {
            let name = object.location.filename().unwrap_or_default();
            Ok(name
                .strip_suffix(".json")
                .and_then(|name| name.parse::<i64>().ok()))
        })
        .try_collect()
        .await
        .map_err(|error| LakeError::from_store(&lake.table_place(table), error))?;
    found.retain(|version| (0..=up_to).contains(version));
    found.sort_unstable();
    Ok(found)
}

/// Hands the commits of these versions on, in order.
pub(super) async fn read(
    lake: &Lake,
    table: TableName,
    versions: Vec<i64>,
    mut each: impl FnMut(&AuditedCommit),
) -> Result<(), LakeError> {
    let store = lake.table_store(table);
    let place = lake.table_place(table);
    let mut commits = futures::stream::iter(versions)
        .map(|version| {
            let (store, place) = (&store, &place);
            async move {
                let bytes = match store.get(&commit_path(version)).await {
                    Ok(found) => found.bytes().await,
                    Err(error) => Err(error),
                };
                let bytes = bytes.map_err(|error| LakeError::from_store(place, error))?;
                AuditedCommit::parse(version, &bytes).map_err(|detail| LakeError::Log {
                    place: place.clone(),
                    detail: format!("version {version}: {detail}"),
                })
            }
        })
        .buffered(READS_IN_FLIGHT);
    while let Some(commit) = commits.next().await {
        each(&commit?);
    }
    Ok(())
}
