//! Which files hold rows of the users, with as little reading as possible: the log's statistics and the bloom filters of
//! row groups rule most files out; what is left is decided by the one column that names the user.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use serde_json::Value;

use super::{Subjects, user_column};
use crate::compact::scan::location;
use crate::table::{DataFile, TableName};

/// A file in the store of its table.
pub(super) struct FileReader {
    store: Arc<dyn ObjectStore>,
    path: Path,
    size_bytes: u64,
}

fn store_error(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for FileReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        self.store
            .get_range(&self.path, range)
            .map_err(store_error)
            .boxed()
    }

    fn get_byte_ranges(
        &mut self,
        ranges: Vec<Range<u64>>,
    ) -> BoxFuture<'_, Result<Vec<Bytes>, ParquetError>> {
        async move {
            let found = self.store.get_ranges(&self.path, &ranges).await;
            found.map_err(store_error)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let size_bytes = self.size_bytes;
            let metadata = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .with_page_index_policy(PageIndexPolicy::Skip)
                .load_and_finish(self, size_bytes)
                .await?;
            Ok(Arc::new(metadata))
        }
        .boxed()
    }
}

/// A reader of a file in the store of its table, `batch_rows` rows at a time.
pub(super) async fn open(
    store: &Arc<dyn ObjectStore>,
    path: &str,
    size_bytes: u64,
    batch_rows: usize,
) -> Result<ParquetRecordBatchStreamBuilder<FileReader>, ParquetError> {
    let reader = FileReader {
        store: Arc::clone(store),
        path: location(path),
        size_bytes,
    };
    Ok(ParquetRecordBatchStreamBuilder::new(reader)
        .await?
        .with_batch_size(batch_rows))
}

/// What was found in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, without reading rows.
    RuledOut,
    /// So many rows, after reading.
    Rows(u64),
}

/// Whether the log's statistics leave room for one of the users. Only those of older files and of other software name any.
pub(super) fn may_hold(file: &DataFile, table: TableName, subjects: &Subjects) -> bool {
    let (TableName::Logins, Some(stats)) = (table, file.stats_json.as_deref()) else {
        return true;
    };
    let Ok(stats) = serde_json::from_str::<Value>(stats) else {
        return true;
    };
    let column = user_column(table);
    // A smallest value that was cut is smaller still, and a largest one that was cut is larger.
    match (
        stats["minValues"][column].as_str(),
        stats["maxValues"][column].as_str(),
    ) {
        (Some(min), Some(max)) => subjects.any_id(|id| min <= id && id <= max).unwrap_or(true),
        _ => true,
    }
}

/// Counts the rows of the users in a file.
pub(super) async fn count(
    store: &Arc<dyn ObjectStore>,
    table: TableName,
    path: &str,
    size_bytes: u64,
    subjects: &Subjects,
    batch_rows: usize,
) -> Result<Found, ParquetError> {
    let mut builder = open(store, path, size_bytes, batch_rows).await?;
    let column = user_column(table);
    let descriptor = builder.parquet_schema();
    let Some(index) = descriptor
        .columns()
        .iter()
        .position(|found| found.path().string() == column)
    else {
        return Err(ParquetError::General(format!("it has no column {column}")));
    };
    let mask = ProjectionMask::leaves(descriptor, [index]);
    let mut groups = Vec::new();
    for group in 0..builder.metadata().num_row_groups() {
        let filter = match table {
            TableName::Logins => builder.get_row_group_column_bloom_filter(group, index).await?,
            _ => None,
        };
        let ruled_out = filter.is_some_and(|filter| subjects.any_id(|id| filter.check(id)) == Some(false));
        if !ruled_out {
            groups.push(group);
        }
    }
    if groups.is_empty() {
        return Ok(Found::RuledOut);
    }
    let mut batches = builder.with_row_groups(groups).with_projection(mask).build()?;
    let mut rows = 0;
    while let Some(batch) = batches.try_next().await? {
        rows += matches(&batch, table, subjects)
            .map_err(ParquetError::General)?
            .true_count() as u64;
    }
    Ok(Found::Rows(rows))
}

/// Which rows of a batch are theirs.
pub(super) fn matches(
    batch: &RecordBatch,
    table: TableName,
    subjects: &Subjects,
) -> Result<BooleanArray, String> {
    let name = user_column(table);
    let column = batch
        .column_by_name(name)
        .ok_or_else(|| format!("the rows have no column {name}"))?;
    if let Some(texts) = column.as_string_opt::<i32>() {
        return Ok(texts
            .iter()
            .map(|text| Some(text.is_some_and(|text| subjects.contains(text))))
            .collect());
    }
    match column.as_binary_opt::<i32>() {
        Some(payloads) => Ok(payloads
            .iter()
            .map(|raw| Some(raw.is_some_and(|raw| subjects.are_named_in(raw))))
            .collect()),
        None => Err(format!("column {name} is {}", column.data_type())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn statistics_rule_a_file_out_only_when_they_cover_all_its_users() {
        let file = |stats: &str| DataFile {
            path: "a.parquet".to_owned(),
            size_bytes: 1,
            modified_ms: 0,
            partition_values: BTreeMap::new(),
            rows: None,
            stats_json: (!stats.is_empty()).then(|| stats.to_owned()),
        };
        let subjects = Subjects::of_ids(["a6397988-1649-4859-ae5f-a1407b638ca6"]).unwrap();
        let range = |min: &str, max: &str| {
            file(&format!(
                r#"{{"minValues":{{"user_id":"{min}"}},"maxValues":{{"user_id":"{max}"}}}}"#
            ))
        };
        let may = |file: &DataFile| may_hold(file, TableName::Logins, &subjects);
        assert!(may(&range("a0", "b0")));
        assert!(may(&range("a6397988-1649-4859-ae5f-a1407b63", "b")));
        assert!(!may(&range("a7", "b0")));
        assert!(!may(&range("00", "a6397988-1649-4859-ae5f-a1407b638ca5")));
        assert!(may(&file("")) && may(&file("{}")) && may(&file("{")));
        assert!(may_hold(&range("b", "c"), TableName::Rejected, &subjects));
        let hashes = subjects.hashes();
        let hashed = Subjects::of_hashes(hashes.iter().map(String::as_str)).unwrap();
        assert!(may_hold(&range("b", "c"), TableName::Logins, &hashed));
    }
}
