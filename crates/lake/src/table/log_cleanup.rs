//! Commits and checkpoints that no version of the log's retention needs, removed from the store.
//!
//! Guarantee: every version that was the newest at some time within the retention can still be loaded, and so can all after
//! it: the newest checkpoint at or below the first of them stays, with everything from it on. Without such a checkpoint
//! nothing is removed. The oldest goes first, so what is left of an interrupted run has no hole. Times are those of the
//! store. Other engines' files in the log are left alone.

use std::time::Duration;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};

use super::TableName;
use crate::error::LakeError;
use crate::store::Lake;

/// The shortest retention, whatever is asked for: a writer trusts for ten minutes what it knows of the log, and would put its
/// commit where one was that is gone.
const MIN_RETENTION: Duration = Duration::from_secs(3600);
/// The default retention of the log: `olap restore`, `query --at` and `history` reach so far back.
pub const DEFAULT_LOG_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What a cleanup found, and removed unless it was a dry run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCleanup {
    /// The table.
    pub table: TableName,
    /// Commits.
    pub commits: u64,
    /// Files of checkpoints.
    pub checkpoint_files: u64,
    /// The oldest version that can be loaded afterwards; `None`: nothing is expired.
    pub oldest_version: Option<i64>,
}

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LogFile {
    version: i64,
    is_checkpoint: bool,
    modified_ms: i64,
    path: Path,
}

/// Removes what is expired unless `dry_run`; nothing that is younger than an hour. `now_ms` is the clock, epoch milliseconds. `None`: no log.
///
/// # Errors
/// The store failed; what was removed until then is gone, and calling again is right.
pub async fn clean_log(
    lake: &Lake,
    table: TableName,
    retention: Duration,
    now_ms: i64,
    dry_run: bool,
) -> Result<Option<LogCleanup>, LakeError> {
    let store = lake.table_store(table);
    let failed = |error| LakeError::from_store(&lake.table_place(table), error);
    let folder = Path::from("_delta_log");
    let mut listing = store.list(Some(&folder));
    let mut files = Vec::new();
    while let Some(object) = listing.next().await {
        match object {
            Ok(object) => files.extend(parse(object)),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    drop(listing);
    if files.is_empty() {
        return Ok(None);
    }
    let retention = retention.max(MIN_RETENTION);
    let cutoff_ms = now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX));
    let Some((oldest_version, expired)) = expired(files, cutoff_ms) else {
        return Ok(Some(LogCleanup {
            table,
            commits: 0,
            checkpoint_files: 0,
            oldest_version: None,
        }));
    };
    let checkpoint_files = expired.iter().filter(|file| file.is_checkpoint).count() as u64;
    if !dry_run {
        // One after the other: the order is what keeps the log whole.
        for file in &expired {
            match store.delete(&file.path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    Ok(Some(LogCleanup {
        table,
        commits: expired.len() as u64 - checkpoint_files,
        checkpoint_files,
        oldest_version: Some(oldest_version),
    }))
}

/// `N.json`, `N.checkpoint.parquet` and its other forms; nothing else.
fn parse(object: ObjectMeta) -> Option<LogFile> {
    let name = object.location.filename()?;
    let (version, kind) = name.split_once('.')?;
    if version.len() != 20 || !version.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let is_checkpoint = kind.starts_with("checkpoint") && kind.ends_with("parquet");
    if !is_checkpoint && kind != "json" {
        return None;
    }
    Some(LogFile {
        version: version.parse().ok()?,
        is_checkpoint,
        modified_ms: object.last_modified.timestamp_millis(),
        path: object.location,
    })
}

/// The checkpoint that has to stay, and the files below it, oldest first. `None`: nothing is expired.
fn expired(mut files: Vec<LogFile>, cutoff_ms: i64) -> Option<(i64, Vec<LogFile>)> {
    // The version that was the newest when the retention began.
    let needed = files
        .iter()
        .filter(|file| !file.is_checkpoint && file.modified_ms < cutoff_ms)
        .map(|file| file.version)
        .max()?;
    let oldest_version = files
        .iter()
        .filter(|file| file.is_checkpoint && file.version <= needed)
        .map(|file| file.version)
        .max()?;
    files.retain(|file| file.version < oldest_version && file.modified_ms < cutoff_ms);
    if files.is_empty() {
        return None;
    }
    files.sort_by(|a, b| (a.version, &a.path).cmp(&(b.version, &b.path)));
    Some((oldest_version, files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: i64, is_checkpoint: bool, modified_ms: i64) -> LogFile {
        LogFile {
            version,
            is_checkpoint,
            modified_ms,
            path: Path::from(format!("_delta_log/{version}-{is_checkpoint}")),
        }
    }

    #[test]
    fn the_checkpoint_below_the_retention_stays_with_all_after_it() {
        let mut files: Vec<LogFile> = (0..=10)
            .map(|version| file(version, false, version * 10))
            .collect();
        assert_eq!(expired(files.clone(), 1_000), None, "no checkpoint");
        files.extend([file(3, true, 31), file(6, true, 61), file(9, true, 91)]);
        // At time 75 version 7 was the newest: it needs the checkpoint of 6.
        let (oldest, gone) = expired(files.clone(), 75).unwrap();
        assert_eq!(oldest, 6);
        assert!(gone.iter().all(|file| file.version < 6));
        assert_eq!(gone.len(), 6 + 1);
        assert!(gone.is_sorted_by_key(|file| file.version));
        assert_eq!(expired(files.clone(), 29), None, "version 2 needs all from 0 on");
        assert_eq!(expired(files, 1_000).unwrap().0, 9);
    }

    #[test]
    fn files_of_others_are_left_alone() {
        let object = |name: &str| ObjectMeta {
            location: Path::from(format!("_delta_log/{name}")),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size: 1,
            e_tag: None,
            version: None,
        };
        let parsed = |name: &str| parse(object(name)).map(|file| (file.version, file.is_checkpoint));
        assert_eq!(parsed("00000000000000000012.json"), Some((12, false)));
        assert_eq!(
            parsed("00000000000000000012.checkpoint.parquet"),
            Some((12, true))
        );
        let part = "00000000000000000012.checkpoint.0000000001.0000000002.parquet";
        assert_eq!(parsed(part), Some((12, true)));
        for other in [
            "_last_checkpoint",
            "00000000000000000012.crc",
            "12.json",
            "x.json",
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }
}
