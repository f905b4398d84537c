//! The rows of some files, sorted, into new files, in bounded memory whatever their number.
//!
//! Logins are sorted by the sort that was made for them ([`super::sort`], written by `logins`); rejected records, and logins
//! that it cannot sort, by DataFusion (`engine`). The positions of the rows are fingerprinted as they are read, and again
//! from the files that are in the store at the end: what lies between the two, upload included, is proved and not trusted.

mod engine;
mod logins;

use std::path::PathBuf;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::config::SpillCompression;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::SessionConfig;
use futures::TryStreamExt;
use uuid::Uuid;

use super::budget::Budget;
use super::fingerprint::{Fingerprint, POSITION_COLUMNS};
use super::plan::{COMPACTED_PREFIX, PartitionPlan};
use super::scan::{TABLE_URL, object, scan};
use super::sort::{self, SortError, SortOptions};
use super::text::bytes_text;
use crate::error::{LakeError, error_chain};
use crate::store::Lake;
use crate::table::TableName;
use crate::table::commit::NewFile;
use crate::table::schema::table_schema;

/// Threads of one job, at most: each holds rows of its own.
const MAX_THREADS: usize = 4;

/// What rewrites share: the memory, the temporary files, the table.
pub(super) struct Rewriter {
    pub(super) lake: Lake,
    pub(super) table: TableName,
    place: String,
    store: Arc<dyn object_store::ObjectStore>,
    runtime: Arc<RuntimeEnv>,
    /// The columns that fingerprints are made of.
    positions: SchemaRef,
    budget: Budget,
    sort: SortOptions,
}

/// What a rewrite did, besides its files.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rewritten {
    pub(super) fingerprint: Fingerprint,
    pub(super) spilled_bytes: u64,
}

impl Rewriter {
    pub(super) fn new(
        lake: &Lake,
        table: TableName,
        memory_budget_bytes: usize,
        jobs: usize,
        spill_directory: Option<PathBuf>,
    ) -> Result<Self, LakeError> {
        let setup =
            |error: DataFusionError| LakeError::Configuration(format!("cannot set up a sort: {error}"));
        let budget = Budget::divide(table, memory_budget_bytes, jobs)?;
        let sort = SortOptions {
            rows_bytes: budget.rows_bytes,
            threads: threads(jobs),
            spill_directory: spill_directory.clone(),
        };
        let disk = match spill_directory {
            Some(directory) => DiskManagerMode::Directories(vec![directory]),
            None => DiskManagerMode::OsTmpDirectory,
        };
        let store = lake.table_store(table);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(budget.sort_bytes)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(disk))
            .build_arc()
            .map_err(setup)?;
        let url = ObjectStoreUrl::parse(TABLE_URL).map_err(setup)?;
        runtime.register_object_store(url.as_ref(), Arc::clone(&store));
        let columns = table_schema(table);
        let positions: Vec<_> = POSITION_COLUMNS
            .iter()
            .filter_map(|name| columns.field_with_name(name).ok().cloned())
            .collect();
        let (lake, place) = (lake.clone(), lake.table_place(table));
        Ok(Self {
            lake,
            table,
            place,
            store,
            runtime,
            positions: Arc::new(Schema::new(positions)),
            budget,
            sort,
        })
    }

    /// Rewrites the sources of `plan` into files of `schema` (the table's columns without those of its partitions). Each
    /// finished file is pushed to `files` at once, so that the caller can remove them whatever happens.
    ///
    /// # Errors
    /// The store failed; a source is not readable; [`LakeError::Invariant`] when the rows are not those of the sources.
    pub(super) async fn rewrite(
        &self,
        plan: &PartitionPlan,
        schema: &SchemaRef,
        target_file_bytes: u64,
        batch_id: Uuid,
        files: &mut Vec<NewFile>,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Rewritten, LakeError> {
        let output = Output {
            rewriter: self,
            plan,
            schema,
            target_file_bytes,
            batch_id,
            progress,
        };
        let sorted = match sort_keys(self.table) {
            &[first, second, third] if self.table == TableName::Logins => sort::sorted(
                &self.store,
                &plan.sources,
                schema,
                [first, second, third],
                &self.sort,
            )
            .await
            .map_err(|error| self.sort_error(plan, error))?,
            _ => None,
        };
        let rewritten = match sorted {
            Some(sorted) => output.write_sorted(sorted, files).await?,
            None => output.sort_by_engine(files).await?,
        };
        self.prove(plan, rewritten.fingerprint, files).await?;
        Ok(rewritten)
    }

    fn context(&self) -> Arc<TaskContext> {
        let mut config = SessionConfig::new().with_batch_size(self.budget.batch_rows);
        config.options_mut().execution.sort_spill_reservation_bytes = self.budget.spill_reservation_bytes;
        config.options_mut().execution.spill_compression = SpillCompression::Lz4Frame;
        Arc::new(
            TaskContext::default()
                .with_session_config(config)
                .with_runtime(Arc::clone(&self.runtime)),
        )
    }

    /// Compares what was read with what the log says and with what is in the store now.
    async fn prove(
        &self,
        plan: &PartitionPlan,
        read: Fingerprint,
        files: &[NewFile],
    ) -> Result<(), LakeError> {
        let broken = |what: String| {
            LakeError::Invariant(format!(
                "compaction of {} {} was refused, nothing was committed: {what}; run olap audit",
                self.place, plan.partition
            ))
        };
        if let Some(rows) = plan.rows()
            && rows != read.rows
        {
            return Err(broken(format!(
                "its log says {rows} rows, its files have {}",
                read.rows
            )));
        }
        let written = self
            .stored(files)
            .await
            .map_err(|error| self.engine_error(plan, error))?;
        if written != read {
            return Err(broken(format!("read {read}, but written {written}")));
        }
        Ok(())
    }

    /// The positions that the files in the store have.
    async fn stored(&self, files: &[NewFile]) -> Result<Fingerprint, DataFusionError> {
        let objects = files
            .iter()
            .map(|file| object(&file.path, file.size_bytes, file.modified_ms));
        let scan = scan(objects, &self.positions)?;
        let context = self.context();
        let mut stored = Fingerprint::default();
        for partition in 0..scan.properties().output_partitioning().partition_count() {
            let mut batches = scan.execute(partition, Arc::clone(&context))?;
            while let Some(batch) = batches.try_next().await? {
                stored.add_batch(&batch).map_err(DataFusionError::Execution)?;
            }
        }
        Ok(stored)
    }

    /// Where the next file of a rewrite is.
    fn path(&self, plan: &PartitionPlan, batch_id: Uuid, number: usize) -> String {
        format!(
            "{}{COMPACTED_PREFIX}{batch_id}-{number:03}.zstd.parquet",
            plan.partition.folder()
        )
    }

    fn sort_error(&self, plan: &PartitionPlan, error: SortError) -> LakeError {
        match error {
            SortError::Source { path, error } => self.parquet_error("read", &path, error),
            SortError::Spill(error) => LakeError::Configuration(format!(
                "cannot sort {}/{} through temporary files: {error}; give the temporary directory more room",
                self.place, plan.partition
            )),
            SortError::Layout(detail) => {
                LakeError::Invariant(format!("cannot sort {}/{}: {detail}", self.place, plan.partition))
            }
        }
    }

    fn parquet_error(
        &self,
        action: &'static str,
        path: &str,
        source: parquet::errors::ParquetError,
    ) -> LakeError {
        match store_error(&source) {
            Some(detail) => LakeError::Unreachable {
                place: self.place.clone(),
                detail,
            },
            None => LakeError::Parquet {
                action,
                path: format!("{}/{path}", self.place),
                source,
            },
        }
    }

    fn engine_error(&self, plan: &PartitionPlan, error: DataFusionError) -> LakeError {
        let path = format!("{}/{}", self.place, plan.partition);
        match error {
            DataFusionError::ObjectStore(error) => LakeError::from_store(&self.place, *error),
            DataFusionError::Context(_, inner) => self.engine_error(plan, *inner),
            DataFusionError::ParquetError(error) => {
                self.parquet_error("read", &plan.partition.to_string(), *error)
            }
            error => match error.find_root() {
                DataFusionError::ResourcesExhausted(detail) => LakeError::Configuration(format!(
                    "cannot sort {path} in {}: raise the memory budget, or give the temporary directory more room ({detail})",
                    bytes_text(self.budget.total_bytes as u64)
                )),
                _ => LakeError::Parquet {
                    action: "rewrite",
                    path,
                    source: parquet::errors::ParquetError::External(Box::new(error)),
                },
            },
        }
    }
}

/// What a rewrite makes, and tells of it.
struct Output<'a> {
    rewriter: &'a Rewriter,
    plan: &'a PartitionPlan,
    schema: &'a SchemaRef,
    target_file_bytes: u64,
    batch_id: Uuid,
    progress: &'a (dyn Fn(u64) + Send + Sync),
}

/// Threads of one job.
fn threads(jobs: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (cores / jobs.max(1)).clamp(1, MAX_THREADS)
}

/// How the rows of a compacted file are sorted: what queries group and filter by comes first.
pub(super) fn sort_keys(table: TableName) -> &'static [&'static str] {
    match table {
        TableName::Rejected => &["reason", "kafka_partition", "kafka_offset"],
        TableName::Logins | TableName::LoginsHourly => &["region", "device_type", "event_time"],
    }
}

/// What the store said, when a Parquet error is one of the store.
fn store_error(error: &parquet::errors::ParquetError) -> Option<String> {
    let text = error_chain(error);
    match error {
        parquet::errors::ParquetError::External(source) => {
            let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(source.as_ref());
            while let Some(error) = cause {
                if error.is::<object_store::Error>() {
                    return Some(text);
                }
                cause = error.source();
            }
            None
        }
        _ => None,
    }
}
