//! Files that no version needs any more, removed from the store.
//!
//! Guarantee (invariant 8): a file stays while the newest version names it; while less than the retention has passed since
//! a commit removed it, so that every reader of an older version finds its files; and while it is itself younger than the
//! retention, because its writer may still be about to commit it. The log is never touched. So the retention has to be
//! longer than the longest commit and the longest query. Several at the same time do no harm.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use delta_kernel::Engine;
use delta_kernel::SnapshotRef;
use delta_kernel::actions::get_commit_schema;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use futures::StreamExt;
use object_store::{ObjectMeta, ObjectStore};

use crate::compact::text::bytes_text;
use crate::error::{LakeError, error_chain};
use crate::store::Lake;
use crate::table::TableName;
use crate::table::commit::commit_path;
use crate::table::snapshot::run_blocking;

/// The shortest retention without [`VacuumOptions::force`].
pub const MIN_RETENTION: Duration = Duration::from_secs(60 * 60);
/// The default retention. Checkpoints keep the removal of a file for this long, too.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// The only files that this software puts beside the log.
const DATA_FILE_SUFFIX: &str = ".parquet";

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VacuumOptions {
    /// How long a file stays after it was written and after it was removed from the table. Default 7 days.
    pub retention: Duration,
    /// Only report. Default yes.
    pub dry_run: bool,
    /// Accept a retention below [`MIN_RETENTION`]: right only when nobody reads or writes. Default no.
    pub force: bool,
    /// The clock, epoch milliseconds.
    pub now_ms: i64,
}

impl VacuumOptions {
    /// The defaults, at a time given in epoch milliseconds: a dry run.
    pub fn at(now_ms: i64) -> Self {
        Self {
            retention: DEFAULT_RETENTION,
            dry_run: true,
            force: false,
            now_ms,
        }
    }

    fn cutoff_ms(&self) -> i64 {
        self.now_ms
            .saturating_sub(i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A file that was, or would be, removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VacuumedFile {
    /// Path relative to the table's folder.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it was written, epoch milliseconds, by the store's clock.
    pub modified_ms: i64,
}

/// What vacuum found, and removed unless it was a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VacuumReport {
    /// The table.
    pub table: TableName,
    /// The version whose files were kept.
    pub version: i64,
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// The files, in the order of their paths.
    pub files: Vec<VacuumedFile>,
    /// Files that no version names but that are too young.
    pub too_young: u64,
}

impl VacuumReport {
    /// Size of the files in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.size_bytes).sum()
    }
}

impl fmt::Display for VacuumReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.dry_run {
            "would be removed"
        } else {
            "removed"
        };
        let (files, bytes) = (self.files.len(), bytes_text(self.bytes()));
        write!(
            f,
            "{} at version {}: {files} files, {bytes} {what}",
            self.table, self.version
        )?;
        match self.too_young {
            0 => writeln!(f),
            count => writeln!(f, "; {count} more are not needed but younger than the retention"),
        }
    }
}

/// Finds the files that no version needs any more, and removes them unless `dry_run`. `None`: no such table.
///
/// # Errors
/// [`LakeError::Configuration`] when the retention is too short, or longer than the log goes back; the store failed (what
/// was removed until then is gone; calling again is right).
pub async fn vacuum(
    lake: &Lake,
    table: TableName,
    options: &VacuumOptions,
) -> Result<Option<VacuumReport>, LakeError> {
    if options.retention < MIN_RETENTION && !options.force {
        return Err(LakeError::Configuration(format!(
            "a retention of {} s is shorter than {} s: files of running commits and queries could be removed; use a longer one, or --force when nothing else runs",
            options.retention.as_secs(),
            MIN_RETENTION.as_secs()
        )));
    }
    // The list comes first: what is committed after it is in the snapshot, or it is too young.
    let listed = list_data_files(lake, table).await?;
    let Some((kernel, engine)) = lake.kernel_snapshot(table, None).await? else {
        return Ok(None);
    };
    let version = i64::try_from(kernel.version()).unwrap_or(i64::MAX);
    let cutoff_ms = options.cutoff_ms();
    let mut kept = removed_since(lake, table, kernel, engine, cutoff_ms).await?;
    if options.retention > DEFAULT_RETENTION {
        kept.extend(removed_in_commits_since(lake, table, version, cutoff_ms).await?);
    }
    let Some(snapshot) = lake.snapshot(table, Some(version)).await? else {
        return Ok(None);
    };
    kept.extend(snapshot.files.into_iter().map(|file| file.path));

    let mut report = VacuumReport {
        table,
        version,
        dry_run: options.dry_run,
        files: Vec::new(),
        too_young: 0,
    };
    let mut locations = Vec::new();
    for object in listed {
        // A store may show a name as it is or encoded: both are kept.
        let name = object.location.as_ref();
        if kept.contains(name) || kept.contains(&decode(name)) {
            continue;
        }
        let modified_ms = object.last_modified.timestamp_millis();
        if modified_ms >= cutoff_ms {
            report.too_young += 1;
            continue;
        }
        let path = object.location.as_ref().to_owned();
        report.files.push(VacuumedFile {
            path,
            size_bytes: object.size,
            modified_ms,
        });
        locations.push(object.location);
    }
    report.files.sort_by(|a, b| a.path.cmp(&b.path));
    if !options.dry_run {
        remove(lake, table, locations).await?;
    }
    Ok(Some(report))
}

/// The Parquet files beside the log. Folders and files whose names begin with `_` or `.` are not the table's.
pub(crate) async fn list_data_files(lake: &Lake, table: TableName) -> Result<Vec<ObjectMeta>, LakeError> {
    let store = lake.table_store(table);
    let mut listing = store.list(None);
    let mut files = Vec::new();
    while let Some(object) = listing.next().await {
        match object {
            Ok(object) if is_data_file(object.location.as_ref()) => files.push(object),
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(LakeError::from_store(&lake.table_place(table), error)),
        }
    }
    Ok(files)
}

fn is_data_file(path: &str) -> bool {
    let hidden = |name: &str| (name.starts_with('_') && !name.contains('=')) || name.starts_with('.');
    path.ends_with(DATA_FILE_SUFFIX) && !path.split('/').any(hidden)
}

/// Paths that commits since `cutoff_ms` removed, by the newest checkpoint and the commits after it.
async fn removed_since(
    lake: &Lake,
    table: TableName,
    kernel: SnapshotRef,
    engine: Arc<dyn Engine>,
    cutoff_ms: i64,
) -> Result<HashSet<String>, LakeError> {
    let place = lake.table_place(table);
    run_blocking(move || {
        let unreadable = |error: delta_kernel::Error| LakeError::Log {
            place: place.clone(),
            detail: error_chain(&error),
        };
        let no_field = |name: &str| LakeError::Log {
            place: place.clone(),
            detail: format!("its removes have no field {name}"),
        };
        let schema = get_commit_schema().project(&["remove"]).map_err(unreadable)?;
        let mut paths = HashSet::new();
        for batch in kernel
            .log_segment()
            .read_actions(engine.as_ref(), schema)
            .map_err(unreadable)?
        {
            let data = ArrowEngineData::try_from_engine_data(batch.map_err(unreadable)?.actions)
                .map_err(unreadable)?;
            let Some(remove) = data.record_batch().column_by_name("remove") else {
                continue;
            };
            let remove = remove.as_struct();
            let path = remove
                .column_by_name("path")
                .ok_or_else(|| no_field("path"))?
                .as_string::<i32>();
            let removed = remove
                .column_by_name("deletionTimestamp")
                .ok_or_else(|| no_field("deletionTimestamp"))?;
            let removed = removed.as_primitive::<Int64Type>();
            for row in (0..remove.len()).filter(|row| remove.is_valid(*row)) {
                // A removal without a time is taken for a new one.
                if removed.is_null(row) || removed.value(row) >= cutoff_ms {
                    paths.insert(decode(path.value(row)));
                }
            }
        }
        Ok(paths)
    })
    .await
}

/// Checkpoints forget removals after a week. For a longer retention the commits themselves are read, back to one that is
/// older than it.
async fn removed_in_commits_since(
    lake: &Lake,
    table: TableName,
    newest: i64,
    cutoff_ms: i64,
) -> Result<HashSet<String>, LakeError> {
    let place = lake.table_place(table);
    let store = lake.table_store(table);
    let mut paths = HashSet::new();
    let mut commits = futures::stream::iter((0..=newest).rev())
        .map(|version| read_commit(store.as_ref(), version))
        .buffered(8);
    while let Some(commit) = commits.next().await {
        match commit {
            Ok((modified_ms, commit)) => {
                for line in commit.split(|byte| *byte == b'\n') {
                    let action: serde_json::Value = match serde_json::from_slice(line) {
                        Ok(action) => action,
                        Err(_) if line.trim_ascii().is_empty() => continue,
                        Err(error) => {
                            return Err(LakeError::Log {
                                place,
                                detail: error.to_string(),
                            });
                        }
                    };
                    let remove = &action["remove"];
                    // As above: a removal without a time is taken for a new one.
                    let recent = remove["deletionTimestamp"]
                        .as_i64()
                        .is_none_or(|removed| removed >= cutoff_ms);
                    if let (Some(path), true) = (remove["path"].as_str(), recent) {
                        paths.insert(decode(path));
                    }
                }
                if modified_ms < cutoff_ms {
                    return Ok(paths);
                }
            }
            Err(object_store::Error::NotFound { .. }) => {
                return Err(LakeError::Configuration(format!(
                    "the log of {place} does not go back as far as the retention: files that it needs cannot be told from \
                     others; use a retention of at most {} days",
                    DEFAULT_RETENTION.as_secs() / 86_400
                )));
            }
            Err(error) => return Err(LakeError::from_store(&place, error)),
        }
    }
    Ok(paths)
}

async fn read_commit(store: &dyn ObjectStore, version: i64) -> object_store::Result<(i64, bytes::Bytes)> {
    let found = store
        .get_opts(&commit_path(version), object_store::GetOptions::default())
        .await?;
    let modified_ms = found.meta.last_modified.timestamp_millis();
    Ok((modified_ms, found.bytes().await?))
}

async fn remove(
    lake: &Lake,
    table: TableName,
    locations: Vec<object_store::path::Path>,
) -> Result<(), LakeError> {
    let store = lake.table_store(table);
    let locations = futures::stream::iter(locations.into_iter().map(Ok)).boxed();
    let mut removed = store.delete_stream(locations);
    while let Some(result) = removed.next().await {
        match result {
            // Another vacuum was quicker.
            Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(LakeError::from_store(&lake.table_place(table), error)),
        }
    }
    Ok(())
}

/// Paths in the log are URIs.
fn decode(path: &str) -> String {
    percent_encoding::percent_decode_str(path)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parquet_files_beside_the_log_are_the_tables() {
        assert!(is_data_file("login_date=2026-01-05/part-0.zstd.parquet"));
        assert!(is_data_file("part-0.zstd.parquet"));
        assert!(is_data_file("_day=1/part-0.parquet"));
        for other in [
            "_delta_log/00.checkpoint.parquet",
            "_tmp/a.parquet",
            ".hidden/a.parquet",
            "a/_b.parquet",
            "README.md",
        ] {
            assert!(!is_data_file(other), "{other}");
        }
    }
}
