//! Rows of Parquet files as the engine reads them: columns by name, missing ones as nulls, and the positions of the rows
//! fingerprinted on the way.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, stream};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::fingerprint::Fingerprint;

/// Scans of one partition next to each other, in front of its sorter.
const SCANS: usize = 2;
/// What is asked for at the end of a file to find its footer in one request, in bytes.
const FOOTER_BYTES: usize = 64 << 10;
/// Under this address the engine finds the table's folder.
pub(super) const TABLE_URL: &str = "lake://table";

/// A scan of files, their columns matched by name, in up to [`SCANS`] partitions of about the same size.
pub(super) fn scan(
    objects: impl Iterator<Item = ObjectMeta>,
    schema: &SchemaRef,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let source = ParquetSource::new(Arc::clone(schema)).with_metadata_size_hint(FOOTER_BYTES);
    let scan = FileScanConfigBuilder::new(ObjectStoreUrl::parse(TABLE_URL)?, Arc::new(source))
        .with_file_groups(file_groups(objects.collect()))
        .build();
    Ok(DataSourceExec::from_data_source(scan))
}

fn file_groups(mut objects: Vec<ObjectMeta>) -> Vec<FileGroup> {
    objects.sort_by_key(|object| std::cmp::Reverse(object.size));
    let mut groups: Vec<(u64, FileGroup)> = (0..SCANS.min(objects.len()))
        .map(|_| (0, FileGroup::default()))
        .collect();
    for object in objects {
        if let Some((bytes, group)) = groups.iter_mut().min_by_key(|(bytes, _)| *bytes) {
            *bytes += object.size;
            group.push(PartitionedFile::new_from_meta(object));
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// A file of the table, by what its log says of it.
pub(super) fn object(path: &str, size: u64, modified_ms: i64) -> ObjectMeta {
    let last_modified = chrono::DateTime::from_timestamp_millis(modified_ms).unwrap_or_default();
    ObjectMeta {
        location: location(path),
        last_modified,
        size,
        e_tag: None,
        version: None,
    }
}

/// Where a file of the table is in the store of its folder.
pub(crate) fn location(path: &str) -> Path {
    Path::parse(path).unwrap_or_else(|_| Path::from(path))
}

/// A scan that fingerprints what it reads.
pub(super) struct FingerprintedScan {
    pub(super) scan: Arc<dyn ExecutionPlan>,
    pub(super) partition: usize,
    pub(super) schema: SchemaRef,
    pub(super) read: Arc<Mutex<Fingerprint>>,
}

impl std::fmt::Debug for FingerprintedScan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FingerprintedScan[{}]", self.partition)
    }
}

impl PartitionStream for FingerprintedScan {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let read = Arc::clone(&self.read);
        let batches = match self.scan.execute(self.partition, context) {
            Ok(batches) => batches
                .map(move |batch| {
                    let batch = batch?;
                    let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                    read.add_batch(&batch).map_err(DataFusionError::Execution)?;
                    Ok(batch)
                })
                .boxed(),
            Err(error) => stream::once(async move { Err(error) }).boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_divided_by_size() {
        let groups = file_groups(vec![object("a", 5, 0), object("b", 9, 0), object("c", 4, 0)]);
        assert_eq!(groups.iter().map(FileGroup::len).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(file_groups(vec![object("a", 5, 0)]).len(), 1);
    }
}
