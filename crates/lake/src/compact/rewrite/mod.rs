//! The rows of some files, sorted, into new files, in bounded memory whatever their number.
//!
//! DataFusion reads (columns by name, missing ones as nulls) and sorts, spilling sorted runs to temporary files when its
//! share of the budget is full; merging, encoding and uploading go on next to each other. The positions of the rows are
//! fingerprinted as they are read, and again from the files that are in the store at the end: what lies between the two,
//! upload included, is proved and not trusted.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::config::SpillCompression;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::prelude::SessionConfig;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::budget::Budget;
use super::fingerprint::{Fingerprint, POSITION_COLUMNS};
use super::plan::{COMPACTED_PREFIX, PartitionPlan};
use super::scan::{FingerprintedScan, TABLE_URL, object, scan};
use super::text::bytes_text;
use crate::error::{LakeError, error_chain};
use crate::file::stream::FileStream;
use crate::store::Lake;
use crate::table::commit::NewFile;
use crate::table::schema::table_schema;
use crate::table::{DataFile, TableName};

/// Sorted batches between the merge and the writer.
const BATCHES_IN_FLIGHT: usize = 2;

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
        let engine_error = |error| self.engine_error(plan, error);
        let read = Arc::new(Mutex::new(Fingerprint::default()));
        let sort = self.sorted(&plan.sources, schema, &read).map_err(engine_error)?;
        let mut rows = self.start(Arc::clone(&sort), plan)?;
        let expected_rows = plan.rows().unwrap_or(u64::MAX);
        let mut open: Option<FileStream> = None;
        let result = async {
            while let Some(batch) = rows.next().await {
                let batch = batch.map_err(engine_error)?;
                let file = match &mut open {
                    Some(file) => file,
                    none => none.insert(self.begin(plan, schema, batch_id, files.len(), expected_rows)?),
                };
                file.write(&batch).await?;
                progress(batch.num_rows() as u64);
                if file.size_bytes() >= target_file_bytes {
                    files.push(file.finish(&plan.partition).await?);
                    open = None;
                }
            }
            if let Some(file) = &mut open {
                files.push(file.finish(&plan.partition).await?);
                open = None;
            }
            Ok(())
        }
        .await;
        if let Some(unfinished) = open.take() {
            unfinished.abort().await;
        }
        result?;
        let read = *read.lock().unwrap_or_else(PoisonError::into_inner);
        self.prove(plan, read, files).await?;
        let spilled = sort
            .metrics()
            .and_then(|metrics| metrics.spilled_bytes())
            .unwrap_or(0);
        Ok(Rewritten {
            fingerprint: read,
            spilled_bytes: spilled as u64,
        })
    }

    fn begin(
        &self,
        plan: &PartitionPlan,
        schema: &SchemaRef,
        batch_id: Uuid,
        number: usize,
        expected_rows: u64,
    ) -> Result<FileStream, LakeError> {
        let path = format!(
            "{}{COMPACTED_PREFIX}{batch_id}-{number:03}.zstd.parquet",
            plan.partition.folder()
        );
        let store = Arc::clone(&self.store);
        FileStream::begin(
            store,
            &self.place,
            path,
            schema,
            expected_rows,
            self.budget.row_group_bytes,
        )
    }

    /// The plan: scans, each fingerprinted, into one external sort.
    fn sorted(
        &self,
        sources: &[DataFile],
        schema: &SchemaRef,
        read: &Arc<Mutex<Fingerprint>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let scan = scan(
            sources
                .iter()
                .map(|file| object(&file.path, file.size_bytes, file.modified_ms)),
            schema,
        )?;
        let counted = (0..scan.properties().output_partitioning().partition_count()).map(|partition| {
            let (scan, schema, read) = (Arc::clone(&scan), Arc::clone(schema), Arc::clone(read));
            Arc::new(FingerprintedScan {
                scan,
                partition,
                schema,
                read,
            }) as Arc<dyn PartitionStream>
        });
        let counted =
            StreamingTableExec::try_new(Arc::clone(schema), counted.collect(), None, [], false, None)?;
        let keys = sort_keys(self.table).iter().map(|name| {
            Ok(PhysicalSortExpr::new_default(Arc::new(Column::new_with_schema(
                name, schema,
            )?)))
        });
        let keys = LexOrdering::new(keys.collect::<Result<Vec<_>, DataFusionError>>()?)
            .ok_or_else(|| DataFusionError::Internal("a sort without keys".to_owned()))?;
        Ok(Arc::new(SortExec::new(
            keys,
            Arc::new(CoalescePartitionsExec::new(Arc::new(counted))),
        )))
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

    /// Runs the sort in a task of its own, which ends when the receiver is dropped.
    fn start(
        &self,
        sort: Arc<dyn ExecutionPlan>,
        plan: &PartitionPlan,
    ) -> Result<impl futures::Stream<Item = Result<RecordBatch, DataFusionError>> + Unpin + use<>, LakeError>
    {
        let mut sorted = sort
            .execute(0, self.context())
            .map_err(|error| self.engine_error(plan, error))?;
        let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some(batch) = sorted.next().await {
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
        });
        // The task is part of the stream: it is aborted with it, and a panic in it is an error, not an early end.
        let received = stream::unfold((receiver, task), |(mut receiver, mut task)| async move {
            if let Some(batch) = receiver.recv().await {
                return Some((batch, (receiver, task)));
            }
            match task.join_next().await {
                Some(Err(error)) => Some((Err(DataFusionError::External(Box::new(error))), (receiver, task))),
                _ => None,
            }
        });
        Ok(Box::pin(received))
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

    fn engine_error(&self, plan: &PartitionPlan, error: DataFusionError) -> LakeError {
        let path = format!("{}/{}", self.place, plan.partition);
        match error {
            DataFusionError::ObjectStore(error) => LakeError::from_store(&self.place, *error),
            DataFusionError::Context(_, inner) => self.engine_error(plan, *inner),
            DataFusionError::ParquetError(error) => match store_error(&error) {
                Some(detail) => LakeError::Unreachable {
                    place: self.place.clone(),
                    detail,
                },
                None => LakeError::Parquet {
                    action: "read",
                    path,
                    source: *error,
                },
            },
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
