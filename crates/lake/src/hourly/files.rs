//! The files of the view: one Parquet file for each share of a date, with what it is complete up to in its footer.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::StreamExt;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use uuid::Uuid;

use super::changes::{DATE, DateValue};
use super::complete::Completeness;
use crate::error::LakeError;
use crate::file::properties::{Tier, writer_properties};
use crate::file::stats::delta_stats;
use crate::file::upload::put_file;
use crate::store::Lake;
use crate::table::commit::NewFile;
use crate::table::{DataFile, TableName, TablePartition};

/// Stores the rows of a date.
pub(super) async fn store_file(
    lake: &Lake,
    date: &DateValue,
    rows: &RecordBatch,
    complete: &Completeness,
    batch_id: Uuid,
    number: usize,
) -> Result<NewFile, LakeError> {
    let partition_values = BTreeMap::from([(DATE.to_owned(), date.clone())]);
    let file = DataFile {
        path: String::new(),
        size_bytes: 0,
        modified_ms: 0,
        partition_values: partition_values.clone(),
        rows: None,
        stats_json: None,
    };
    let folder = TablePartition::of(&[DATE.to_owned()], &file).folder();
    let path = format!("{folder}hourly-{batch_id}-{number:03}.zstd.parquet");
    let (bytes, stats_json) = encode(rows, complete).map_err(|source| LakeError::Parquet {
        action: "write",
        path: path.clone(),
        source,
    })?;
    let store = lake.table_store(TableName::LoginsHourly);
    put_file(
        store.as_ref(),
        &lake.table_place(TableName::LoginsHourly),
        &path,
        &bytes,
    )
    .await?;
    Ok(NewFile {
        path,
        size_bytes: bytes.len() as u64,
        modified_ms: chrono::Utc::now().timestamp_millis(),
        partition_values,
        rows: rows.num_rows() as u64,
        stats_json,
    })
}

/// One row group: what the file's key-value metadata says of its completeness is said of each row group.
fn encode(
    rows: &RecordBatch,
    complete: &Completeness,
) -> Result<(Bytes, String), parquet::errors::ParquetError> {
    let schema = rows.schema();
    let properties = writer_properties(&schema, Tier::Compacted, rows.num_rows() as u64);
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties.as_ref().clone()))?;
    for key_value in complete.key_values() {
        writer.append_key_value_metadata(key_value);
    }
    writer.write(rows)?;
    let metadata = writer.finish()?;
    let stats = delta_stats(&metadata, &schema);
    Ok((std::mem::take(writer.inner_mut()).into(), stats))
}

/// Removes files that no commit names.
pub(super) async fn remove(lake: &Lake, files: &[NewFile]) {
    let store = lake.table_store(TableName::LoginsHourly);
    let paths: Vec<_> = files
        .iter()
        .map(|file| Ok(Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()))))
        .collect();
    let mut deleted = store.delete_stream(futures::stream::iter(paths).boxed());
    while let Some(result) = deleted.next().await {
        if let Err(error) = result {
            tracing::debug!(%error, "a file of an abandoned refresh stays until vacuum");
        }
    }
}
