//! A Parquet file of any size whose columns are encoded next to each other: the writers of a row group's columns are handed
//! out, filled on as many threads as there are, and come back as chunks. A row group at a time is held in memory, compressed,
//! and goes into the store in parts. What the store has is a file only after [`RowGroupFile::finish`]; one that fails is to
//! be given up with [`RowGroupFile::abort`], and its file to be written again from the start.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, encode_arrow_schema};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::writer::SerializedFileWriter;

use super::parts::PartUpload;
use super::properties::{Tier, writer_properties};
use super::stats::delta_stats;
use super::stream::ROW_GROUP_ROWS;
use crate::error::LakeError;
use crate::table::TablePartition;
use crate::table::commit::NewFile;

/// A file that is being written.
pub(crate) struct RowGroupFile {
    place: String,
    path: String,
    schema: SchemaRef,
    rows: u64,
    row_groups: usize,
    file: SerializedFileWriter<Vec<u8>>,
    writers: ArrowRowGroupWriterFactory,
    upload: PartUpload,
}

impl RowGroupFile {
    /// Begins a file at `path` of the table's `store`. `expected_rows` sizes the bloom filters. `place` names the table in
    /// errors.
    pub(crate) fn begin(
        store: Arc<dyn ObjectStore>,
        place: &str,
        path: String,
        schema: &SchemaRef,
        expected_rows: u64,
    ) -> Result<Self, LakeError> {
        let properties = writer_properties(schema, Tier::Compacted, expected_rows.min(ROW_GROUP_ROWS));
        let upload = PartUpload::begin(store, place, &path)?;
        let begun = || -> Result<_, ParquetError> {
            let columns = ArrowSchemaConverter::new().convert(schema)?;
            let mut file = SerializedFileWriter::new(Vec::new(), columns.root_schema_ptr(), properties)?;
            file.append_key_value_metadata(KeyValue::new(
                ARROW_SCHEMA_META_KEY.to_owned(),
                encode_arrow_schema(schema),
            ));
            let writers = ArrowRowGroupWriterFactory::new(&file, Arc::clone(schema));
            Ok((file, writers))
        };
        let (file, writers) = begun().map_err(|error| write_error(&path, error))?;
        Ok(Self {
            place: place.to_owned(),
            path,
            schema: Arc::clone(schema),
            rows: 0,
            row_groups: 0,
            file,
            writers,
            upload,
        })
    }

    /// The writers of the next row group's columns, in the order of the schema: one for each column that is not nested.
    pub(crate) fn column_writers(&self) -> Result<Vec<ArrowColumnWriter>, LakeError> {
        self.writers
            .create_column_writers(self.row_groups)
            .map_err(|error| write_error(&self.path, error))
    }

    /// Adds a row group: what became of [`RowGroupFile::column_writers`], in their order. May wait for the store.
    pub(crate) async fn append(
        &mut self,
        columns: Vec<ArrowColumnChunk>,
        rows: u64,
    ) -> Result<(), LakeError> {
        let appended = || -> Result<(), ParquetError> {
            let mut group = self.file.next_row_group()?;
            for column in columns {
                column.append_to_row_group(&mut group)?;
            }
            group.close().map(|_| ())
        };
        appended().map_err(|error| write_error(&self.path, error))?;
        self.row_groups += 1;
        self.rows += rows;
        self.push_encoded().await
    }

    /// Bytes of the row groups that were added.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.file.bytes_written() as u64
    }

    /// Completes the file and says what a commit has to know of it.
    pub(crate) async fn finish(&mut self, partition: &TablePartition) -> Result<NewFile, LakeError> {
        let metadata = self
            .file
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
        let encoded = std::mem::take(self.file.inner_mut());
        self.upload
            .push(encoded.into())
            .await
            .map_err(|error| LakeError::from_store(&self.place, error))
    }
}

pub(super) fn write_error(path: &str, source: ParquetError) -> LakeError {
    LakeError::Parquet {
        action: "write",
        path: path.to_owned(),
        source,
    }
}
