//! Summaries of a table's log, written beside it every [`INTERVAL_VERSIONS`] commits, so that opening a table reads one
//! file and at most that many commits. A checkpoint that fails costs nothing but time: the log stays the truth.

use super::TableName;
use super::snapshot::run_blocking;
use crate::error::{LakeError, error_chain};
use crate::ingest::fail_point::{FailPoint, is_armed, pass};
use crate::store::Lake;

/// Commits between two checkpoints.
pub const INTERVAL_VERSIONS: i64 = 100;

/// Whether a checkpoint is to be written after this version. A test that wants to fail at one need not wait for it.
pub(super) fn is_due(version: i64) -> bool {
    version % INTERVAL_VERSIONS == 0
        || is_armed(FailPoint::BeforeCheckpoint)
        || is_armed(FailPoint::AfterCheckpoint)
}

/// Writes the checkpoint of `version`.
///
/// # Errors
/// The store failed, or the version cannot be read.
pub async fn write(lake: &Lake, table: TableName, version: i64) -> Result<(), LakeError> {
    pass(FailPoint::BeforeCheckpoint)?;
    let place = lake.table_place(table);
    let Some((snapshot, engine)) = lake.kernel_snapshot(table, Some(version)).await? else {
        return Err(LakeError::NoSuchVersion {
            place,
            version,
            detail: "there is no log".to_owned(),
        });
    };
    run_blocking(move || {
        snapshot
            .checkpoint(engine.as_ref(), None)
            .map(|_| ())
            .map_err(|error| LakeError::Log {
                place,
                detail: error_chain(&error),
            })
    })
    .await?;
    pass(FailPoint::AfterCheckpoint)
}
