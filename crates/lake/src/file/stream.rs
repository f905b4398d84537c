//! A Parquet file of any size, written while its rows come: a row group at a time is held in memory, compressed, and
//! goes into the store in parts. What the store has is a file only after [`FileStream::finish`]; a stream that fails is
//! to be given up with [`FileStream::abort`], and its file to be written again from the start.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use parquet::arrow::ArrowWriter;

use super::parts::PartUpload;
use super::properties::{Tier, writer_properties};
use super::row_groups::write_error;
use super::stats::delta_stats;
use crate::error::LakeError;
use crate::table::TablePartition;
use crate::table::commit::NewFile;

/// Rows of a row group: what queries skip by, and what a reader holds at a time.
pub(crate) const ROW_GROUP_ROWS: u64 = 1024 * 1024;

/// A file that is being written.
pub(crate) struct FileStream {
    place: String,
    path: String,
    schema: SchemaRef,
    rows: u64,
    row_group_bytes: usize,
    writer: ArrowWriter<Vec<u8>>,
    upload: PartUpload,
}

impl FileStream {
    /// Begins a file at `path` of the table's `store`. `expected_rows` sizes the bloom filters; a row group is closed
    /// before it holds `row_group_bytes`, or at about a million rows. `place` names the table in errors.
    pub(crate) fn begin(
        store: Arc<dyn ObjectStore>,
        place: &str,
        path: String,
        schema: &SchemaRef,
        expected_rows: u64,
        row_group_bytes: usize,
    ) -> Result<Self, LakeError> {
        let properties = writer_properties(schema, Tier::Compacted, expected_rows.min(ROW_GROUP_ROWS));
        let writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties.as_ref().clone()))
            .map_err(|error| write_error(&path, error))?;
        let upload = PartUpload::begin(store, place, &path)?;
        let schema = Arc::clone(schema);
        Ok(Self {
            place: place.to_owned(),
            path,
            schema,
            rows: 0,
            row_group_bytes,
            writer,
            upload,
        })
    }

    /// Adds rows. May wait for the store.
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        let flushed = self.writer.flushed_row_groups().len();
        self.writer
            .write(batch)
            .map_err(|error| write_error(&self.path, error))?;
        self.rows += batch.num_rows() as u64;
        if self.writer.in_progress_size() >= self.row_group_bytes {
            self.writer
                .flush()
                .map_err(|error| write_error(&self.path, error))?;
        }
        if self.writer.flushed_row_groups().len() > flushed {
            self.push_encoded().await?;
        }
        Ok(())
    }

    /// About the bytes that the file would have if it ended here.
    pub(crate) fn size_bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Completes the file and says what a commit has to know of it.
    pub(crate) async fn finish(&mut self, partition: &TablePartition) -> Result<NewFile, LakeError> {
        let metadata = self
            .writer
            .finish()
            .map_err(|error| write_error(&self.path, error))?;
        self.push_encoded().await?;
        self.upload
            .finish()
            .await
            .map_err(|error| LakeError::from_store(&self.place, error))?;
        Ok(NewFile {
            path: self.path.clone(),
            size_bytes: self.upload.size(),
            modified_ms: chrono::Utc::now().timestamp_millis(),
            partition_values: partition.values(),
            rows: self.rows,
            stats_json: delta_stats(&metadata, &self.schema),
        })
    }

    /// Gives up a file that was not finished.
    pub(crate) async fn abort(self) {
        self.upload.abort().await;
    }

    async fn push_encoded(&mut self) -> Result<(), LakeError> {
        let encoded = std::mem::take(self.writer.inner_mut());
        self.upload
            .push(encoded.into())
            .await
            .map_err(|error| LakeError::from_store(&self.place, error))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::super::upload::PART_BYTES;
    use super::*;

    const ROWS_PER_BATCH: i64 = 512;

    /// Rows of about a kilobyte that hardly compress.
    fn batch(number: i64) -> RecordBatch {
        let offsets = number * ROWS_PER_BATCH..(number + 1) * ROWS_PER_BATCH;
        let noise = |offset: i64| -> String {
            let mut state = offset.cast_unsigned() + 1;
            let mut next = || {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                char::from(33 + (state >> 33) as u8 % 94)
            };
            (0..1_000).map(|_| next()).collect()
        };
        let raw: ArrayRef = Arc::new(StringArray::from_iter_values(offsets.clone().map(noise)));
        let offset: ArrayRef = Arc::new(Int64Array::from_iter_values(offsets));
        RecordBatch::try_from_iter_with_nullable([("kafka_offset", offset, true), ("raw", raw, true)])
            .unwrap()
    }

    fn begin(store: &Arc<InMemory>) -> FileStream {
        let store: Arc<dyn ObjectStore> = Arc::clone(store) as _;
        FileStream::begin(
            store,
            "lake/logins",
            "a/b.parquet".to_owned(),
            &batch(0).schema(),
            100,
            4 << 20,
        )
        .unwrap()
    }

    #[tokio::test]
    async fn a_file_of_many_parts_is_whole_and_has_bounded_row_groups() {
        const BATCHES: i64 = 60;
        let store = Arc::new(InMemory::new());
        let mut file = begin(&store);
        for number in 0..BATCHES {
            file.write(&batch(number)).await.unwrap();
        }
        assert!(file.upload.is_multipart(), "parts are uploaded while rows come");
        let new = file.finish(&TablePartition::default()).await.unwrap();
        let stored = store
            .get(&Path::from("a/b.parquet"))
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        assert_eq!(
            (new.size_bytes, new.rows),
            (stored.len() as u64, (BATCHES * ROWS_PER_BATCH) as u64)
        );
        assert!(stored.len() > 2 * PART_BYTES);
        let reader = ParquetRecordBatchReaderBuilder::try_new(stored).unwrap();
        assert!(reader.metadata().num_row_groups() > 3);
        let read: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        let offsets = read
            .iter()
            .flat_map(|batch| batch["kafka_offset"].as_primitive::<Int64Type>().values());
        assert!(offsets.copied().eq(0..BATCHES * ROWS_PER_BATCH));
    }

    #[tokio::test]
    async fn a_small_file_is_one_put_and_an_aborted_one_is_none() {
        let store = Arc::new(InMemory::new());
        let mut file = begin(&store);
        file.write(&batch(0)).await.unwrap();
        assert!(!file.upload.is_multipart());
        file.abort().await;
        let objects: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(objects.len(), 0);
        let mut file = begin(&store);
        file.write(&batch(0)).await.unwrap();
        assert_eq!(
            file.finish(&TablePartition::default()).await.unwrap().rows,
            ROWS_PER_BATCH as u64
        );
    }
}
