//! Which version of a table stood at a time, by the clocks of those who committed, or of the store where they do not say it.
//!
//! The answer for a time that has passed stays the same while the table goes on: the versions that are looked at depend on
//! that time only, and later commits count as later. Reads as many commits as the newest version has binary digits.

use object_store::ObjectStoreExt;

use super::TableName;
use super::commit::commit_path;
use super::snapshot::WithFiles;
use crate::error::LakeError;
use crate::store::Lake;

/// What a commit says about its time.
enum Committed {
    At(i64),
    /// The log does not have it any more, so it is older than all that the log has.
    Cleaned,
}

impl Lake {
    /// The newest version that was committed at or before a time (epoch milliseconds). `None`: there is none in the log, or
    /// no such table.
    ///
    /// # Errors
    /// The store failed, or a commit is not readable.
    pub async fn version_at(&self, table: TableName, epoch_ms: i64) -> Result<Option<i64>, LakeError> {
        let Some(head) = self.load_snapshot(table, None, WithFiles::No).await? else {
            return Ok(None);
        };
        // Counts versions, so that 0 stands for none.
        let mut below = 0_i64;
        let mut step = 1_i64 << (63 - (head.version + 1).leading_zeros().min(63));
        while step > 0 {
            let candidate = below + step;
            if candidate <= head.version + 1 {
                let is_later = match self.committed(table, candidate - 1).await? {
                    Committed::At(committed_ms) => committed_ms > epoch_ms,
                    Committed::Cleaned => false,
                };
                if !is_later {
                    below = candidate;
                }
            }
            step /= 2;
        }
        if below == 0 {
            return Ok(None);
        }
        match self.committed(table, below - 1).await? {
            Committed::At(_) => Ok(Some(below - 1)),
            Committed::Cleaned => Ok(None),
        }
    }

    /// When a version was committed, epoch milliseconds; `None` when the log does not say it (any more).
    ///
    /// # Errors
    /// The store failed, or the commit is not readable.
    pub async fn committed_at(&self, table: TableName, version: i64) -> Result<Option<i64>, LakeError> {
        Ok(match self.committed(table, version).await? {
            Committed::At(committed_ms) => Some(committed_ms),
            Committed::Cleaned => None,
        })
    }

    async fn committed(&self, table: TableName, version: i64) -> Result<Committed, LakeError> {
        let Some(commit) = self.read_commit(table, version).await? else {
            return Ok(Committed::Cleaned);
        };
        if let Some(committed_ms) = commit.timestamp_ms {
            return Ok(Committed::At(committed_ms));
        }
        // As the table format has it for commits that do not say it: when the store got them.
        match self.table_store(table).head(&commit_path(version)).await {
            Ok(meta) => Ok(Committed::At(meta.last_modified.timestamp_millis())),
            Err(object_store::Error::NotFound { .. }) => Ok(Committed::Cleaned),
            Err(error) => Err(LakeError::from_store(&self.table_place(table), error)),
        }
    }
}
