//! A Parquet file of any size, written while its rows come: a row group at a time is held in memory, compressed, and
//! goes into the store in parts. What the store has is a file only after [`FileStream::finish`]; a stream that fails is
//! to be given up with [`FileStream::abort`], and its file to be written again from the start.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use tokio::task::JoinSet;

use super::properties::{Tier, writer_properties};
use super::stats::delta_stats;
use super::upload::PART_BYTES;
use crate::error::LakeError;
use crate::table::TablePartition;
use crate::table::commit::NewFile;

/// Rows of a row group: what queries skip by, and what a reader holds at a time.
pub(crate) const ROW_GROUP_ROWS: u64 = 1024 * 1024;
/// Parts of one file on their way at the same time.
const PARTS_IN_FLIGHT: usize = 4;

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
        let location = Path::parse(&path)
            .map_err(|source| LakeError::from_store(place, object_store::Error::InvalidPath { source }))?;
        let upload = PartUpload {
            store,
            location,
            multipart: None,
            waiting: Vec::new(),
            parts: JoinSet::new(),
            size: 0,
        };
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
            size_bytes: self.upload.size,
            modified_ms: chrono::Utc::now().timestamp_millis(),
            partition_values: partition.values(),
            rows: self.rows,
            stats_json: delta_stats(&metadata, &self.schema),
        })
    }

    /// Gives up a file that was not finished: the parts in the store would be kept, and charged for, otherwise.
    pub(crate) async fn abort(mut self) {
        self.upload.parts.shutdown().await;
        if let Some(mut multipart) = self.upload.multipart.take()
            && let Err(error) = multipart.abort().await
        {
            tracing::debug!(path = self.path, %error, "parts of an abandoned upload stay in the store");
        }
    }

    async fn push_encoded(&mut self) -> Result<(), LakeError> {
        let encoded = std::mem::take(self.writer.inner_mut());
        self.upload
            .push(encoded.into())
            .await
            .map_err(|error| LakeError::from_store(&self.place, error))
    }
}

fn write_error(path: &str, source: ParquetError) -> LakeError {
    LakeError::Parquet {
        action: "write",
        path: path.to_owned(),
        source,
    }
}

/// Bytes into an object: one put when they are few, parts of equal size otherwise.
struct PartUpload {
    store: Arc<dyn ObjectStore>,
    location: Path,
    multipart: Option<Box<dyn MultipartUpload>>,
    /// The beginning of the next part.
    waiting: Vec<u8>,
    /// Parts on their way, next to the encoding of the following ones.
    parts: JoinSet<object_store::Result<()>>,
    size: u64,
}

impl PartUpload {
    async fn push(&mut self, mut bytes: Bytes) -> object_store::Result<()> {
        self.size += bytes.len() as u64;
        while self.waiting.len() + bytes.len() > PART_BYTES {
            let head = bytes.split_to(PART_BYTES - self.waiting.len());
            self.waiting.extend_from_slice(&head);
            self.put_part().await?;
        }
        self.waiting.extend_from_slice(&bytes);
        Ok(())
    }

    async fn put_part(&mut self) -> object_store::Result<()> {
        let part = std::mem::take(&mut self.waiting);
        while self.parts.len() >= PARTS_IN_FLIGHT {
            self.join_part().await?;
        }
        if self.multipart.is_none() {
            self.multipart = Some(self.store.put_multipart(&self.location).await?);
        }
        if let Some(multipart) = &mut self.multipart {
            self.parts.spawn(multipart.put_part(part.into()));
        }
        Ok(())
    }

    async fn join_part(&mut self) -> object_store::Result<()> {
        match self.parts.join_next().await {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(object_store::Error::Generic {
                store: "upload",
                source: Box::new(error),
            }),
        }
    }

    async fn finish(&mut self) -> object_store::Result<()> {
        if self.multipart.is_none() {
            let bytes = std::mem::take(&mut self.waiting);
            return self.store.put(&self.location, bytes.into()).await.map(|_| ());
        }
        self.put_part().await?;
        while !self.parts.is_empty() {
            self.join_part().await?;
        }
        if let Some(multipart) = &mut self.multipart {
            multipart.complete().await?;
        }
        self.multipart = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;
    use futures::TryStreamExt;
    use object_store::memory::InMemory;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

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
        assert!(
            file.upload.multipart.is_some(),
            "parts are uploaded while rows come"
        );
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
        assert!(file.upload.multipart.is_none());
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
