//! Row groups into one Parquet file, and the file into the store. The file is put together in memory (its row groups are
//! given up one by one, so it is never there twice) and can be uploaded again when the store fails.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt};
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, encode_arrow_schema};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::writer::SerializedFileWriter;

use super::encode::{EncodedRowGroup, PartitionValues};
use super::properties::{Tier, writer_properties};
use super::stats::delta_stats;
use crate::error::LakeError;
use crate::table::commit::NewFile;

/// Size of an upload's parts: S3 asks for at least 5 MiB.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;

/// A whole file of one table partition, ready to be uploaded as often as it takes.
#[derive(Clone, Debug)]
pub struct AssembledFile {
    /// Partition columns with their values; empty for an unpartitioned table.
    pub partition_values: PartitionValues,
    /// Number of rows.
    pub rows: u64,
    /// The Delta statistics as JSON.
    pub stats_json: String,
    /// The file.
    pub bytes: Bytes,
}

impl AssembledFile {
    /// Puts row groups of one table partition together.
    ///
    /// # Errors
    /// The row groups do not fit together, which a test rules out.
    pub fn assemble(groups: Vec<EncodedRowGroup>, tier: Tier) -> Result<Self, ParquetError> {
        let Some(first) = groups.first() else {
            return Err(ParquetError::General("a file without row groups".to_owned()));
        };
        let partition_values = first.partition_values.clone();
        let schema = Arc::clone(&first.file_schema);
        let rows = groups.iter().map(|group| group.rows).sum();
        let expected: u64 = groups.iter().map(|group| group.bytes).sum();
        let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
        let metadata = write_file(groups, tier, &mut bytes)?;
        Ok(Self {
            partition_values,
            rows,
            stats_json: delta_stats(&metadata, &schema),
            bytes: bytes.into(),
        })
    }

    /// The path of the file inside its table: the partition's folders, then a name that says which batch made it.
    pub fn path(&self, batch_id: uuid::Uuid, number: usize) -> String {
        let folders: String = self
            .partition_values
            .iter()
            .map(|(name, value)| format!("{name}={value}/"))
            .collect();
        format!("{folders}part-{batch_id}-{number:03}.zstd.parquet")
    }

    /// What a commit has to say about the file, once it is stored at `path`.
    pub fn as_new_file(&self, path: String) -> NewFile {
        let values: BTreeMap<_, _> = self
            .partition_values
            .iter()
            .map(|(k, v)| (k.clone(), Some(v.clone())))
            .collect();
        NewFile {
            path,
            size_bytes: self.bytes.len() as u64,
            modified_ms: chrono::Utc::now().timestamp_millis(),
            partition_values: values,
            rows: self.rows,
            stats_json: self.stats_json.clone(),
        }
    }
}

/// Stores a file: one put when it is small, a multipart upload otherwise. An upload that fails is given up.
///
/// # Errors
/// The store failed; calling again is right.
pub async fn put_file(
    store: &dyn ObjectStore,
    place: &str,
    path: &str,
    bytes: &Bytes,
) -> Result<(), LakeError> {
    let result = match Path::parse(path) {
        Ok(path) if bytes.len() <= PART_BYTES => store.put(&path, bytes.clone().into()).await.map(|_| ()),
        Ok(path) => put_in_parts(store, &path, bytes).await,
        Err(source) => Err(object_store::Error::InvalidPath { source }),
    };
    result.map_err(|error| LakeError::from_store(place, error))
}

async fn put_in_parts(
    store: &dyn ObjectStore,
    path: &Path,
    bytes: &Bytes,
) -> Result<(), object_store::Error> {
    let mut upload = store.put_multipart(path).await?;
    let parts = (0..bytes.len()).step_by(PART_BYTES).map(|start| {
        let end = (start + PART_BYTES).min(bytes.len());
        upload.put_part(bytes.slice(start..end).into())
    });
    let parts: Vec<_> = parts.collect();
    let result = match futures::future::try_join_all(parts).await {
        Ok(_) => upload.complete().await.map(|_| ()),
        Err(error) => Err(error),
    };
    if result.is_err() {
        // What was uploaded so far would be kept, and charged for, until a rule of the bucket removes it.
        let _ = upload.abort().await;
    }
    result
}

/// Writes row groups as a file.
pub(crate) fn write_file(
    groups: Vec<EncodedRowGroup>,
    tier: Tier,
    sink: &mut (impl Write + Send),
) -> Result<ParquetMetaData, ParquetError> {
    let schema = groups.first().map(|group| Arc::clone(&group.file_schema));
    let schema = schema.ok_or_else(|| ParquetError::General("a file without row groups".to_owned()))?;
    let rows = groups.iter().map(|group| group.rows).sum();
    let properties = writer_properties(&schema, tier, rows);
    let parquet_schema = ArrowSchemaConverter::new().convert(&schema)?;
    let mut file = SerializedFileWriter::new(sink, parquet_schema.root_schema_ptr(), properties)?;
    file.append_key_value_metadata(KeyValue::new(
        ARROW_SCHEMA_META_KEY.to_owned(),
        encode_arrow_schema(&schema),
    ));
    for group in groups {
        let mut writer = file.next_row_group()?;
        for column in group.columns {
            column.append_to_row_group(&mut writer)?;
        }
        writer.close()?;
    }
    file.finish()
}
