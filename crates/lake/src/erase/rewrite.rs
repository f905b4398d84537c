//! A file once more without the rows of the users, row group after row group in bounded memory, in the order that it had.
//!
//! What was read is kept plus erased, and what is in the store is what was kept: both are compared by fingerprints, the
//! second one read back from the stored file.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, new_null_array};
use arrow::compute::{cast, filter_record_batch, not};
use arrow::datatypes::{Int32Type, SchemaRef};
use futures::TryStreamExt;
use object_store::ObjectStore;
use parquet::arrow::ProjectionMask;
use parquet::errors::ParquetError;
use uuid::Uuid;

use super::Subjects;
use super::find::{matches, open};
use crate::compact::Fingerprint;
use crate::compact::budget::Budget;
use crate::compact::fingerprint::POSITION_COLUMNS;
use crate::compact::plan::{COMPACTED_PREFIX, is_compacted};
use crate::error::LakeError;
use crate::file::stream::FileStream;
use crate::store::Lake;
use crate::table::commit::NewFile;
use crate::table::{DataFile, TableName, TablePartition};

/// Rewrites files of one table.
pub(super) struct Rewriter {
    pub(super) place: String,
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) table: TableName,
    pub(super) budget: Budget,
}

/// What became of one file.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    /// The file in its place; `None` when no row was left.
    pub(super) file: Option<NewFile>,
    /// Rows that were kept.
    pub(super) kept_rows: u64,
    /// The erased rows of each Kafka partition.
    pub(super) erased: BTreeMap<i32, Fingerprint>,
}

impl Rewriter {
    pub(super) fn new(lake: &Lake, table: TableName, memory_budget_bytes: usize) -> Result<Self, LakeError> {
        Ok(Self {
            place: lake.table_place(table),
            store: lake.table_store(table),
            table,
            budget: Budget::divide(table, memory_budget_bytes, 1)?,
        })
    }

    /// Writes `source` without the users' rows, with the columns of `schema`.
    pub(super) async fn rewrite(
        &self,
        source: &DataFile,
        partition: &TablePartition,
        schema: &SchemaRef,
        subjects: &Subjects,
        batch_id: Uuid,
        number: usize,
    ) -> Result<Rewritten, LakeError> {
        let failed = |error| self.read_error(&source.path, error);
        let mut rows = open(
            &self.store,
            &source.path,
            source.size_bytes,
            self.budget.batch_rows,
        )
        .await
        .and_then(|builder| builder.build())
        .map_err(failed)?;
        let mut open_file: Option<FileStream> = None;
        let mut done = Rewritten::default();
        let (mut read, mut kept) = (Fingerprint::default(), Fingerprint::default());
        let result = async {
            while let Some(batch) = rows.try_next().await.map_err(failed)? {
                let broken = |what: String| failed(ParquetError::General(what));
                let theirs = matches(&batch, self.table, subjects).map_err(broken)?;
                read.add_batch(&batch).map_err(broken)?;
                let arrow = |error: arrow::error::ArrowError| failed(error.into());
                let erased = filter_record_batch(&batch, &theirs).map_err(arrow)?;
                add_by_partition(&mut done.erased, &erased).map_err(broken)?;
                let keep = not(&theirs).map_err(arrow)?;
                let batch = filter_record_batch(&batch, &keep).map_err(arrow)?;
                if batch.num_rows() == 0 {
                    continue;
                }
                kept.add_batch(&batch).map_err(broken)?;
                let batch = with_columns(&batch, schema).map_err(arrow)?;
                let file = match &mut open_file {
                    Some(file) => file,
                    none => none.insert(self.begin(source, partition, schema, batch_id, number)?),
                };
                file.write(&batch).await?;
            }
            match &mut open_file {
                Some(file) => done.file = Some(file.finish(partition).await?),
                None => return Ok(()),
            }
            open_file = None;
            Ok(())
        }
        .await;
        if let Some(unfinished) = open_file.take() {
            unfinished.abort().await;
        }
        result?;
        done.kept_rows = kept.rows;
        let proved = self.prove(source, &done, read, kept).await;
        if let (Err(_), Some(file)) = (&proved, &done.file) {
            self.remove(std::slice::from_ref(file)).await;
        }
        proved.map(|()| done)
    }

    fn begin(
        &self,
        source: &DataFile,
        partition: &TablePartition,
        schema: &SchemaRef,
        batch_id: Uuid,
        number: usize,
    ) -> Result<FileStream, LakeError> {
        // The rows keep their order, so a file that compaction sorted still is one.
        let kind = if is_compacted(source) {
            COMPACTED_PREFIX
        } else {
            "part-"
        };
        let path = format!("{}{kind}{batch_id}-{number:03}.zstd.parquet", partition.folder());
        FileStream::begin(
            Arc::clone(&self.store),
            &self.place,
            path,
            schema,
            source.rows.unwrap_or(u64::MAX),
            self.budget.row_group_bytes,
        )
    }

    async fn prove(
        &self,
        source: &DataFile,
        done: &Rewritten,
        read: Fingerprint,
        kept: Fingerprint,
    ) -> Result<(), LakeError> {
        let broken = |what: String| {
            LakeError::Invariant(format!(
                "erasure in {}/{} was refused, nothing was committed: {what}; run olap audit",
                self.place, source.path
            ))
        };
        if let Some(rows) = source.rows
            && rows != read.rows
        {
            return Err(broken(format!("its log says {rows} rows, it has {}", read.rows)));
        }
        let mut sum = kept;
        done.erased.values().for_each(|erased| sum.merge(*erased));
        if sum != read {
            return Err(broken(format!("read {read}, but kept and erased {sum}")));
        }
        let stored = match &done.file {
            Some(file) => self
                .stored(file)
                .await
                .map_err(|error| self.read_error(&file.path, error))?,
            None => Fingerprint::default(),
        };
        if stored != kept {
            return Err(broken(format!("kept {kept}, but stored {stored}")));
        }
        Ok(())
    }

    /// The positions that a file in the store has.
    async fn stored(&self, file: &NewFile) -> Result<Fingerprint, ParquetError> {
        let builder = open(&self.store, &file.path, file.size_bytes, self.budget.batch_rows).await?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), POSITION_COLUMNS);
        let mut batches = builder.with_projection(mask).build()?;
        let mut stored = Fingerprint::default();
        while let Some(batch) = batches.try_next().await? {
            stored.add_batch(&batch).map_err(ParquetError::General)?;
        }
        Ok(stored)
    }

    /// Removes files that no commit names.
    pub(super) async fn remove(&self, files: &[NewFile]) {
        use object_store::ObjectStoreExt;
        for file in files {
            let location = crate::compact::scan::location(&file.path);
            if let Err(error) = self.store.delete(&location).await {
                tracing::debug!(path = file.path, %error, "a file of an abandoned erasure stays until vacuum");
            }
        }
    }

    pub(super) fn read_error(&self, path: &str, error: ParquetError) -> LakeError {
        let text = crate::error::error_chain(&error);
        let mut cause: Option<&(dyn std::error::Error + 'static)> = match &error {
            ParquetError::External(source) => Some(source.as_ref()),
            _ => None,
        };
        while let Some(inner) = cause {
            if inner.is::<object_store::Error>() {
                return LakeError::Unreachable {
                    place: format!("{}/{path}", self.place),
                    detail: text,
                };
            }
            cause = inner.source();
        }
        LakeError::Parquet {
            action: "read",
            path: format!("{}/{path}", self.place),
            source: error,
        }
    }
}

/// Adds rows to the fingerprints of their Kafka partitions.
fn add_by_partition(erased: &mut BTreeMap<i32, Fingerprint>, rows: &RecordBatch) -> Result<(), String> {
    if rows.num_rows() == 0 {
        return Ok(());
    }
    let partitions = rows
        .column_by_name(POSITION_COLUMNS[0])
        .and_then(|column| column.as_primitive_opt::<Int32Type>())
        .ok_or("the rows have no Kafka partition")?
        .clone();
    for row in 0..rows.num_rows() {
        erased
            .entry(partitions.value(row))
            .or_default()
            .add_batch(&rows.slice(row, 1))?;
    }
    Ok(())
}

/// The batch with exactly these columns: missing ones are null.
fn with_columns(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, arrow::error::ArrowError> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast(column, field.data_type()),
        });
    RecordBatch::try_new(Arc::clone(schema), columns.collect::<Result<_, _>>()?)
}
