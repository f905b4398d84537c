//! How the memory of a run of compaction is divided among what holds it. Pure.

use super::text::bytes_text;
use crate::error::LakeError;
use crate::table::TableName;

/// The least memory for one partition at a time, in bytes.
const MIN_BUDGET_BYTES: usize = 16 << 20;
/// Bounds of a row group's compressed size, which waits in memory, in bytes.
const ROW_GROUP_BYTES: std::ops::RangeInclusive<usize> = (4 << 20)..=(128 << 20);

/// How the memory of a run is divided: half of it sorts, a quarter holds row groups that are being written, and the rest
/// is what scans and uploads hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Budget {
    pub(crate) total_bytes: usize,
    pub(crate) sort_bytes: usize,
    pub(crate) row_group_bytes: usize,
    pub(crate) spill_reservation_bytes: usize,
    pub(crate) batch_rows: usize,
    /// Of one job: rows that wait to be sorted, and later to be merged.
    pub(crate) rows_bytes: usize,
    /// Rows that are put together and encoded at a time.
    pub(crate) chunk_rows: usize,
}

impl Budget {
    pub(crate) fn divide(table: TableName, total_bytes: usize, jobs: usize) -> Result<Self, LakeError> {
        let per_job = total_bytes / jobs.max(1);
        if per_job < MIN_BUDGET_BYTES {
            return Err(LakeError::Configuration(format!(
                "a memory budget of {} is too small for {jobs} jobs: each needs at least {}",
                bytes_text(total_bytes as u64),
                bytes_text(MIN_BUDGET_BYTES as u64)
            )));
        }
        let batch_rows = match table {
            // Rejected rows hold up to a mebibyte each.
            TableName::Rejected => 64,
            _ if per_job < 8 * MIN_BUDGET_BYTES => 1024,
            _ => 8192,
        };
        Ok(Self {
            total_bytes,
            sort_bytes: total_bytes / 2,
            row_group_bytes: (per_job / 4).clamp(*ROW_GROUP_BYTES.start(), *ROW_GROUP_BYTES.end()),
            spill_reservation_bytes: (per_job / 8).min(10 << 20),
            batch_rows,
            rows_bytes: per_job / 3,
            // A row of logins is about 200 bytes; two chunks are there at a time.
            chunk_rows: (per_job / 16 / 256).clamp(2048, 64 << 10),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_covers_all_jobs_or_says_what_it_needs() {
        let error = Budget::divide(TableName::Logins, 20 << 20, 2)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("20.0 MiB") && error.contains("16.0 MiB"),
            "{error}"
        );
        let budget = Budget::divide(TableName::Logins, 512 << 20, 2).unwrap();
        let held = budget.sort_bytes + 2 * budget.row_group_bytes;
        assert!(held < budget.total_bytes, "{budget:?}");
        assert_eq!(budget.batch_rows, 8192);
        assert_eq!(
            Budget::divide(TableName::Rejected, 512 << 20, 1)
                .unwrap()
                .batch_rows,
            64
        );
    }
}
