//! A version of a table, pinned: which files it has, up to which offsets it is complete, what its columns are.
//!
//! The Delta kernel finds the log's newest checkpoint and the commits after it; one pass over their actions, newest
//! first, gives files and `txn` offsets. The store is never listed for data files.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, MapArray, RecordBatch, StructArray};
use arrow::datatypes::{Int64Type, SchemaRef};
use chrono::NaiveDate;
use delta_kernel::actions::get_commit_schema;
use delta_kernel::engine::arrow_conversion::TryIntoArrow;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::{Engine, Snapshot as KernelSnapshot, SnapshotRef};

use super::{TableName, schema};
use crate::error::{LakeError, error_chain};
use crate::store::Lake;

/// A data file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Path relative to the table's folder, percent-decoded.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When the file was written, epoch milliseconds.
    pub modified_ms: i64,
    /// Partition column → value; `None` is SQL's NULL.
    pub partition_values: BTreeMap<String, Option<String>>,
    /// Number of rows, when the log says it.
    pub rows: Option<u64>,
    /// The Delta statistics (`numRecords`, `minValues`, `maxValues`, `nullCount`) as JSON.
    pub stats_json: Option<String>,
}

/// A table at one version.
#[derive(Clone, Debug)]
pub struct TableSnapshot {
    /// The table.
    pub table: TableName,
    /// The Delta version.
    pub version: i64,
    /// All columns, partition columns included, in the table's order.
    pub schema: SchemaRef,
    /// Partition columns, in order.
    pub partition_columns: Vec<String>,
    /// The files, in no particular order. Empty when the snapshot was loaded without files.
    pub files: Vec<DataFile>,
    /// `txn` actions: application id → version (for ingestion: the next offset of a Kafka partition).
    pub transactions: BTreeMap<String, i64>,
    /// The one date whose rows the table holds; then its offsets do not mean that every row below them is there. `None`: all
    /// dates.
    pub only_date: Option<NaiveDate>,
    /// The version that the log's newest checkpoint summarises.
    pub checkpoint_version: Option<i64>,
}

/// Whether a snapshot needs the list of files: writers do not, and stay small however large the table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WithFiles {
    /// Files and transactions.
    Yes,
    /// Transactions only.
    No,
}

impl Lake {
    /// Loads a table at `version` (default: the newest), with its files. `None` when there is no such table.
    ///
    /// # Errors
    /// The store cannot be reached, the log cannot be read, the version does not exist, or a reader feature is needed
    /// that this software does not have.
    pub async fn snapshot(
        &self,
        table: TableName,
        version: Option<i64>,
    ) -> Result<Option<TableSnapshot>, LakeError> {
        self.load_snapshot(table, version, WithFiles::Yes).await
    }

    /// As [`Lake::snapshot`], with or without the list of files.
    ///
    /// # Errors
    /// As [`Lake::snapshot`].
    pub async fn load_snapshot(
        &self,
        table: TableName,
        version: Option<i64>,
        with_files: WithFiles,
    ) -> Result<Option<TableSnapshot>, LakeError> {
        let Some((kernel, engine)) = self.kernel_snapshot(table, version).await? else {
            return Ok(None);
        };
        let place = self.table_place(table);
        run_blocking(move || read_snapshot(table, &place, &kernel, engine.as_ref(), with_files))
            .await
            .map(Some)
    }

    /// The kernel's view of a table, which knows where its log begins and ends.
    pub(crate) async fn kernel_snapshot(
        &self,
        table: TableName,
        version: Option<i64>,
    ) -> Result<Option<(SnapshotRef, Arc<dyn Engine>)>, LakeError> {
        let error = match self.build_kernel_snapshot(table, version).await? {
            Ok(snapshot) => return Ok(Some(snapshot)),
            Err(error) => error,
        };
        // Asked only now: one question less of the store where there is a table, which is nearly always.
        if let Some(error) = LakeError::from_store_text(&self.table_place(table), &error_chain(&error)) {
            return Err(error);
        }
        if !self.has_log(table).await? {
            return Ok(None);
        }
        tracing::debug!(%error, "reading a log again, which may have been begun meanwhile");
        match self.build_kernel_snapshot(table, version).await? {
            Ok(snapshot) => Ok(Some(snapshot)),
            Err(error) => Err(kernel_error(&self.table_place(table), version, &error)),
        }
    }

    async fn build_kernel_snapshot(
        &self,
        table: TableName,
        version: Option<i64>,
    ) -> Result<Result<(SnapshotRef, Arc<dyn Engine>), delta_kernel::Error>, LakeError> {
        let engine = self.log_store(table)?.engine(None);
        let url = self.table_url(table)?;
        run_blocking(move || {
            let mut builder = KernelSnapshot::builder_for(url);
            if let Some(version) = version {
                builder = builder.at_version(version.unsigned_abs());
            }
            Ok(builder.build(engine.as_ref()).map(|snapshot| (snapshot, engine)))
        })
        .await
    }

    /// Whether the table's folder holds a Delta log: one listing of one page.
    async fn has_log(&self, table: TableName) -> Result<bool, LakeError> {
        use futures::StreamExt;
        let log = self.table_path(table).join("_delta_log");
        let store = self.object_store();
        let mut listing = store.list(Some(&log));
        match listing.next().await {
            Some(Ok(_)) => Ok(true),
            None | Some(Err(object_store::Error::NotFound { .. })) => Ok(false),
            Some(Err(error)) => Err(LakeError::from_store(&self.table_place(table), error)),
        }
    }
}

/// Runs work that blocks on the store outside the async workers.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LakeError> + Send + 'static,
) -> Result<T, LakeError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(LakeError::Invariant(format!(
            "a task of the lake panicked: {error}"
        )))
    })
}

/// The kernel keeps the store's errors as text only.
fn kernel_error(place: &str, version: Option<i64>, error: &delta_kernel::Error) -> LakeError {
    let detail = error_chain(error);
    let place = place.to_owned();
    LakeError::from_store_text(&place, &detail).unwrap_or_else(|| match version {
        Some(version) => LakeError::NoSuchVersion {
            place,
            version,
            detail,
        },
        None => LakeError::Log { place, detail },
    })
}

pub(super) fn read_snapshot(
    table: TableName,
    place: &str,
    kernel: &SnapshotRef,
    engine: &dyn Engine,
    with_files: WithFiles,
) -> Result<TableSnapshot, LakeError> {
    let log_error = |error: delta_kernel::Error| kernel_error(place, None, &error);
    let configuration = kernel.table_configuration();
    let logical = configuration.logical_schema();
    let columns: arrow::datatypes::Schema =
        logical
            .as_ref()
            .try_into_arrow()
            .map_err(|error| LakeError::Log {
                place: place.to_owned(),
                detail: error.to_string(),
            })?;
    let only_date = configuration
        .metadata()
        .configuration()
        .get(schema::ONLY_DATE)
        .map(|text| text.parse())
        .transpose()
        .map_err(|error| LakeError::Log {
            place: place.to_owned(),
            detail: format!("its property {}: {error}", schema::ONLY_DATE),
        })?;
    // A checkpoint's removals are tombstones for vacuum, often a hundred times as many as its files: not read.
    let (of_commits, of_checkpoint): (&[&str], &[&str]) = match with_files {
        WithFiles::Yes => (&["add", "remove", "txn"], &["add", "txn"]),
        WithFiles::No => (&["txn"], &["txn"]),
    };
    let project = |actions| get_commit_schema().project(actions).map_err(log_error);
    let log = kernel
        .log_segment()
        .read_actions_with_projected_checkpoint_actions(
            engine,
            project(of_commits)?,
            project(of_checkpoint)?,
            None,
            None,
            None,
            None,
        )
        .map_err(log_error)?;
    let mut replay = Replay::new(place);
    for batch in log.actions {
        let batch = batch.map_err(log_error)?;
        let is_commit = batch.is_log_batch;
        let data = ArrowEngineData::try_from_engine_data(batch.actions).map_err(log_error)?;
        replay.apply(data.record_batch(), is_commit)?;
    }
    Ok(TableSnapshot {
        table,
        version: i64::try_from(kernel.version()).unwrap_or(i64::MAX),
        schema: Arc::new(columns),
        partition_columns: configuration.metadata().partition_columns().to_vec(),
        files: replay.files,
        transactions: replay.transactions,
        only_date,
        checkpoint_version: kernel
            .log_segment()
            .checkpoint_version
            .and_then(|version| i64::try_from(version).ok()),
    })
}

/// Replays actions from the newest to the oldest: what is seen first wins.
struct Replay<'a> {
    place: &'a str,
    /// Paths that a newer commit added or removed.
    decided: HashSet<String>,
    files: Vec<DataFile>,
    transactions: BTreeMap<String, i64>,
}

impl<'a> Replay<'a> {
    fn new(place: &'a str) -> Self {
        Self {
            place,
            decided: HashSet::new(),
            files: Vec::new(),
            transactions: BTreeMap::new(),
        }
    }

    fn apply(&mut self, batch: &RecordBatch, is_commit: bool) -> Result<(), LakeError> {
        if let Some(txn) = batch.column_by_name("txn") {
            self.apply_transactions(txn.as_struct())?;
        }
        // Adds before removes: a commit that removes a file and adds the same path again means the added one.
        if let Some(add) = batch.column_by_name("add") {
            self.apply_adds(add.as_struct(), is_commit)?;
        }
        if let Some(remove) = batch.column_by_name("remove").filter(|_| is_commit) {
            let remove = remove.as_struct();
            let paths = self.column(remove, "path")?.as_string::<i32>();
            for row in (0..remove.len()).filter(|row| remove.is_valid(*row)) {
                self.decided.insert(paths.value(row).to_owned());
            }
        }
        Ok(())
    }

    fn apply_transactions(&mut self, txn: &StructArray) -> Result<(), LakeError> {
        let ids = self.column(txn, "appId")?.as_string::<i32>();
        let versions = self.column(txn, "version")?.as_primitive::<Int64Type>();
        for row in (0..txn.len()).filter(|row| txn.is_valid(*row)) {
            self.transactions
                .entry(ids.value(row).to_owned())
                .or_insert_with(|| versions.value(row));
        }
        Ok(())
    }

    fn apply_adds(&mut self, add: &StructArray, is_commit: bool) -> Result<(), LakeError> {
        let paths = self.column(add, "path")?.as_string::<i32>().clone();
        let sizes = self.column(add, "size")?.as_primitive::<Int64Type>().clone();
        let modified = self
            .column(add, "modificationTime")?
            .as_primitive::<Int64Type>()
            .clone();
        let partitions = self.column(add, "partitionValues")?.as_map().clone();
        let stats = self.column(add, "stats")?.as_string::<i32>().clone();
        let vectors = add.column_by_name("deletionVector").cloned();
        for row in (0..add.len()).filter(|row| add.is_valid(*row)) {
            let raw_path = paths.value(row);
            if self.decided.contains(raw_path) {
                continue;
            }
            if is_commit {
                self.decided.insert(raw_path.to_owned());
            }
            if vectors.as_ref().is_some_and(|vectors| vectors.is_valid(row)) {
                return Err(LakeError::Foreign {
                    place: self.place.to_owned(),
                    detail: "it uses deletion vectors, which this software does not read".to_owned(),
                });
            }
            let stats_json = stats.is_valid(row).then(|| stats.value(row).to_owned());
            self.files.push(DataFile {
                path: decode_path(raw_path),
                size_bytes: sizes.value(row).unsigned_abs(),
                modified_ms: modified.value(row),
                partition_values: partition_values(&partitions, row),
                rows: stats_json.as_deref().and_then(rows_of_stats),
                stats_json,
            });
        }
        Ok(())
    }

    fn column<'b>(&self, action: &'b StructArray, name: &str) -> Result<&'b Arc<dyn Array>, LakeError> {
        action.column_by_name(name).ok_or_else(|| LakeError::Log {
            place: self.place.to_owned(),
            detail: format!("its actions have no field {name}"),
        })
    }
}

/// Delta paths are URIs: percent-decoded they are object names.
fn decode_path(path: &str) -> String {
    percent_encoding::percent_decode_str(path)
        .decode_utf8_lossy()
        .into_owned()
}

fn partition_values(map: &MapArray, row: usize) -> BTreeMap<String, Option<String>> {
    let entries = map.value(row);
    let keys = entries.column(0).as_string::<i32>();
    let values = entries.column(1).as_string::<i32>();
    (0..entries.len())
        // The protocol writes NULL as null or as an empty string.
        .map(|i| {
            let value =
                (values.is_valid(i) && !values.value(i).is_empty()).then(|| values.value(i).to_owned());
            (keys.value(i).to_owned(), value)
        })
        .collect()
}

fn rows_of_stats(stats: &str) -> Option<u64> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Rows {
        num_records: Option<u64>,
    }
    serde_json::from_str::<Rows>(stats).ok()?.num_records
}
