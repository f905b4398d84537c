//! Who did what to a table: its commits, newest first, as far as its log still has them.
//!
//! Read from the commits' JSON, which any engine may have written: what a commit does not say is `None`, never a guess.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use serde::Deserialize;
use serde_json::Value;

use crate::error::LakeError;
use crate::store::Lake;
use crate::table::TableName;
use crate::table::commit::commit_path;
use crate::table::snapshot::WithFiles;

/// Commits that are read at the same time.
const READS_IN_FLIGHT: usize = 8;

/// A commit of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitSummary {
    /// The Delta version.
    pub version: i64,
    /// When it was committed, epoch milliseconds, by the writer's clock.
    pub timestamp_ms: Option<i64>,
    /// Delta's name of the operation: `STREAMING UPDATE`, `OPTIMIZE`, …
    pub operation: Option<String>,
    /// The software that wrote it.
    pub engine: Option<String>,
    /// Files that became part of the table.
    pub files_added: u64,
    /// Files that left it.
    pub files_removed: u64,
    /// Rows in the files added; `None` when a file does not say it.
    pub rows_added: Option<u64>,
    /// Rows in the files removed; `None` when the commit does not say it.
    pub rows_removed: Option<u64>,
    /// Bytes in the files added.
    pub bytes_added: u64,
    /// Application id → version, as the commit's `txn` actions moved them.
    pub transactions: BTreeMap<String, i64>,
    /// What this software says beside the operation: kind, offsets, partition (`commitInfo.loginlake.info`).
    pub info: Option<Value>,
}

impl Lake {
    /// The newest `limit` commits of a table, newest first; fewer when the log goes back no further. `None`: no such
    /// table.
    ///
    /// # Errors
    /// The store failed, or a commit is not readable.
    pub async fn history(
        &self,
        table: TableName,
        limit: usize,
    ) -> Result<Option<Vec<CommitSummary>>, LakeError> {
        let Some(head) = self.load_snapshot(table, None, WithFiles::No).await? else {
            return Ok(None);
        };
        let versions = (0..=head.version).rev().take(limit);
        let mut commits = futures::stream::iter(versions)
            .map(|version| self.read_commit(table, version))
            .buffered(READS_IN_FLIGHT);
        let mut history = Vec::new();
        // Cleaned logs end somewhere: what is older than the first gap is not shown.
        while let Some(commit) = commits.next().await {
            match commit? {
                Some(commit) => history.push(commit),
                None => break,
            }
        }
        Ok(Some(history))
    }

    /// One commit; `None` when the log does not have it any more.
    pub(crate) async fn read_commit(
        &self,
        table: TableName,
        version: i64,
    ) -> Result<Option<CommitSummary>, LakeError> {
        let place = self.table_place(table);
        let bytes = match self.table_store(table).get(&commit_path(version)).await {
            Ok(found) => found.bytes().await,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => Err(error),
        };
        let bytes = bytes.map_err(|error| LakeError::from_store(&place, error))?;
        match summarise(version, &bytes) {
            Ok(summary) => Ok(Some(summary)),
            Err(error) => Err(LakeError::Log {
                place,
                detail: format!("version {version}: {error}"),
            }),
        }
    }
}

/// One line of a commit; only what the summary needs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ActionLine {
    commit_info: Option<CommitInfoFields>,
    add: Option<FileFields>,
    remove: Option<FileFields>,
    txn: Option<TxnFields>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CommitInfoFields {
    timestamp: Option<i64>,
    operation: Option<String>,
    engine_info: Option<String>,
    loginlake: Option<OurFields>,
}

#[derive(Deserialize)]
struct OurFields {
    info: Option<Value>,
}

#[derive(Deserialize)]
struct FileFields {
    size: Option<u64>,
    stats: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TxnFields {
    app_id: String,
    version: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatsFields {
    num_records: Option<u64>,
}

impl FileFields {
    fn rows(&self) -> Option<u64> {
        serde_json::from_str::<StatsFields>(self.stats.as_deref()?)
            .ok()?
            .num_records
    }
}

fn summarise(version: i64, commit: &Bytes) -> Result<CommitSummary, serde_json::Error> {
    let mut summary = CommitSummary {
        version,
        rows_added: Some(0),
        rows_removed: Some(0),
        ..CommitSummary::default()
    };
    for line in commit
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
    {
        let action: ActionLine = serde_json::from_slice(line)?;
        if let Some(info) = action.commit_info {
            summary.timestamp_ms = info.timestamp;
            summary.operation = info.operation;
            summary.engine = info.engine_info;
            summary.info = info.loginlake.and_then(|ours| ours.info);
        }
        if let Some(add) = action.add {
            summary.files_added += 1;
            summary.bytes_added += add.size.unwrap_or(0);
            summary.rows_added = summary.rows_added.zip(add.rows()).map(|(sum, rows)| sum + rows);
        }
        if let Some(remove) = action.remove {
            summary.files_removed += 1;
            summary.rows_removed = summary
                .rows_removed
                .zip(remove.rows())
                .map(|(sum, rows)| sum + rows);
        }
        if let Some(txn) = action.txn {
            summary.transactions.insert(txn.app_id, txn.version);
        }
    }
    // Removes hardly ever carry statistics; our own commits say it once.
    if summary.rows_removed.is_none() {
        summary.rows_removed = summary
            .info
            .as_ref()
            .and_then(|info| info["rowsRemoved"].as_u64());
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_commit_says_what_it_says_and_nothing_is_guessed() {
        let commit = Bytes::from_static(
            br#"{"commitInfo":{"timestamp":5,"operation":"DELETE","engineInfo":"other/1"}}
{"remove":{"path":"a","dataChange":true,"size":3}}

{"add":{"path":"b","size":2,"stats":"{\"numRecords\":7}"}}
{"add":{"path":"c","size":2}}
{"txn":{"appId":"x","version":9}}"#,
        );
        let summary = summarise(4, &commit).unwrap();
        assert_eq!(summary.operation.as_deref(), Some("DELETE"));
        assert_eq!(summary.engine.as_deref(), Some("other/1"));
        assert_eq!(
            (summary.files_added, summary.files_removed, summary.bytes_added),
            (2, 1, 4)
        );
        assert_eq!((summary.rows_added, summary.rows_removed), (None, None));
        assert_eq!(summary.transactions["x"], 9);
        assert_eq!(summary.info, None);
        assert!(summarise(4, &Bytes::from_static(b"{")).is_err());
    }
}
