//! One table pinned to a version: its columns, and the scan of those of its files that a filter leaves.
//!
//! Sizes, partition values and row counts come from the log, so planning does not touch the store, and `count(*)` is
//! answered without it. Filters on partition columns are decided here, exactly; what else a filter says is used to leave
//! files out, and evaluated by DataFusion on the rows.

use std::cmp::Ordering;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use loginlake_lake::table::schema::table_schema;
use loginlake_lake::{DataFile, Lake, TableName, TableSnapshot};
use object_store::ObjectMeta;
use object_store::path::Path;

use super::prune::{FileStatistics, PrunableFile, has_subquery, is_decided_by_partition, kept_files};
use crate::error::QueryError;
use crate::view::TableFacts;

/// Below these a scan is one partition: starting more would cost more than it saves.
const SMALL_SCAN_BYTES: u64 = 4 << 20;
const SMALL_SCAN_FILES: usize = 16;

/// A table at one version.
#[derive(Debug)]
pub(super) struct LakeTable {
    /// `None`: the table does not exist (yet).
    version: Option<i64>,
    /// In the order of the table's own schema, which is the order of `SELECT *`.
    schema: SchemaRef,
    partition_schema: SchemaRef,
    /// As the scan has it: the columns of the files, then the partition columns.
    scan_schema: TableSchema,
    /// For each column of `schema` its index in `scan_schema`.
    scan_indices: Vec<usize>,
    store_url: ObjectStoreUrl,
    files: Vec<LakeFile>,
    /// Its scans are sent to other processes.
    is_for_cluster: bool,
}

/// A data file, as the log describes it.
#[derive(Debug)]
struct LakeFile {
    meta: ObjectMeta,
    partition_values: Vec<ScalarValue>,
    rows: Option<u64>,
    statistics: FileStatistics,
}

impl PrunableFile for LakeFile {
    fn partition_values(&self) -> &[ScalarValue] {
        &self.partition_values
    }

    fn rows(&self) -> Option<u64> {
        self.rows
    }

    fn statistics(&self) -> &FileStatistics {
        &self.statistics
    }
}

/// A hash of the file's name, which is random and never used again.
fn name_hash(file: &LakeFile) -> u64 {
    let mut hasher = DefaultHasher::new();
    file.meta.location.as_ref().hash(&mut hasher);
    hasher.finish()
}

impl LakeTable {
    /// The table at the version of `snapshot`.
    pub(super) fn pinned(lake: &Lake, name: TableName, snapshot: TableSnapshot) -> Result<Self, QueryError> {
        let mut table = Self::without_files(lake, name, &snapshot.schema, &snapshot.partition_columns)?;
        table.version = Some(snapshot.version);
        let folder = lake.table_path(name);
        table.files = snapshot
            .files
            .into_iter()
            .map(|file| LakeFile::new(file, &folder, &table.partition_schema))
            .collect::<Result<_, _>>()
            .map_err(|detail| QueryError::Table {
                table: name.as_str(),
                detail,
            })?;
        Ok(table)
    }

    /// A table that does not exist, which reads as an empty one.
    pub(super) fn absent(lake: &Lake, name: TableName) -> Result<Self, QueryError> {
        Self::without_files(lake, name, &table_schema(name), &[])
    }

    /// The same with scans that are sent to other processes: texts are not views, because a view is sent with all the bytes that it
    /// is a part of, and a file goes without its statistics, which only the plan needs.
    pub(super) fn for_cluster(mut self) -> Self {
        self.is_for_cluster = true;
        self.schema = without_views(&self.schema);
        self.partition_schema = without_views(&self.partition_schema);
        self.scan_schema = TableSchema::builder(without_views(self.scan_schema.file_schema()))
            .with_table_partition_cols(self.partition_schema.fields().iter().cloned().collect::<Vec<_>>())
            .build();
        self
    }

    pub(super) fn version(&self) -> Option<i64> {
        self.version
    }

    /// What is known without reading a file. The newest event is in a file of the newest date, if it is partitioned by it.
    pub(super) fn facts(&self, table: TableName) -> TableFacts {
        let dates = self.partition_schema.index_of("login_date").ok();
        let date_of = |file: &LakeFile| dates.map(|index| file.partition_values[index].clone());
        let newest_date = self
            .files
            .iter()
            .filter_map(date_of)
            .max_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
        let newest_files = self.files.iter().filter(|file| date_of(file) == newest_date);
        let mut newest_events = newest_files.map(|file| file.statistics.newest_ms("event_time"));
        TableFacts {
            table,
            version: self.version,
            rows: self.files.iter().map(|file| file.rows).sum(),
            newest_event_ms: newest_events
                .try_fold(None, |newest: Option<i64>, event| Some(newest.max(Some(event?))))
                .flatten(),
            files_hash: self
                .files
                .iter()
                .fold(0, |hash, file| hash.wrapping_add(name_hash(file))),
        }
    }

    fn without_files(
        lake: &Lake,
        name: TableName,
        schema: &Schema,
        partition_columns: &[String],
    ) -> Result<Self, QueryError> {
        let unusable = |detail: String| QueryError::Table {
            table: name.as_str(),
            detail,
        };
        let schema = with_views(schema);
        let is_partition = |field: &FieldRef| partition_columns.contains(field.name());
        let file_fields: Vec<FieldRef> = schema
            .fields()
            .iter()
            .filter(|f| !is_partition(f))
            .cloned()
            .collect();
        let partition_fields = partition_columns
            .iter()
            .map(|column| {
                let found = schema
                    .fields()
                    .iter()
                    .find(|field| field.name() == column)
                    .cloned();
                found.ok_or_else(|| unusable(format!("partition column {column} is not in its schema")))
            })
            .collect::<Result<Vec<FieldRef>, _>>()?;
        let partition_schema = Arc::new(Schema::new(partition_fields.clone()));
        let scan_schema = TableSchema::builder(Arc::new(Schema::new(file_fields)))
            .with_table_partition_cols(partition_fields)
            .build();
        let scan_indices = schema
            .fields()
            .iter()
            .map(|field| scan_schema.table_schema().index_of(field.name()))
            .collect::<Result<Vec<usize>, _>>()
            .map_err(|error| unusable(error.to_string()))?;
        let store_url = ObjectStoreUrl::parse(lake.object_store_url()).map_err(|error| {
            unusable(format!(
                "its store cannot be addressed: {}",
                error.strip_backtrace()
            ))
        })?;
        Ok(Self {
            version: None,
            schema,
            partition_schema,
            scan_schema,
            scan_indices,
            store_url,
            files: Vec::new(),
            is_for_cluster: false,
        })
    }

    /// Statistics of one file over the scan's columns: its rows, and the values of its partition.
    fn planner_statistics(&self, file: &LakeFile) -> Statistics {
        let rows = exact(file.rows);
        let mut statistics = Statistics::new_unknown(self.scan_schema.table_schema());
        statistics.num_rows = rows;
        let first_partition = self.scan_schema.file_schema().fields().len();
        for (column, value) in statistics.column_statistics[first_partition..]
            .iter_mut()
            .zip(&file.partition_values)
        {
            let null_count = if value.is_null() {
                rows
            } else {
                Precision::Exact(0)
            };
            *column = ColumnStatistics {
                null_count,
                ..ColumnStatistics::new_unknown()
            };
            if !value.is_null() {
                column.min_value = Precision::Exact(value.clone());
                column.max_value = Precision::Exact(value.clone());
            }
        }
        statistics
    }

    fn merged_statistics(&self, files: &[PartitionedFile]) -> DataFusionResult<Statistics> {
        let each = files.iter().filter_map(|file| file.statistics.as_deref());
        Statistics::try_merge_iter(each, self.scan_schema.table_schema())
    }

    fn partitioned_file(&self, file: &LakeFile) -> PartitionedFile {
        let mut partitioned = PartitionedFile::new_from_meta(file.meta.clone());
        partitioned.partition_values.clone_from(&file.partition_values);
        partitioned.statistics = Some(Arc::new(self.planner_statistics(file)));
        partitioned
    }
}

/// Text and bytes as views: what the Parquet reader decodes into without a copy, and what groups fastest.
fn with_views(schema: &Schema) -> SchemaRef {
    let as_view = |field: &FieldRef| {
        let data_type = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
            other => other.clone(),
        };
        field.as_ref().clone().with_data_type(data_type)
    };
    Arc::new(Schema::new(
        schema.fields().iter().map(as_view).collect::<Vec<Field>>(),
    ))
}

/// Texts and bytes with their own bytes behind them.
fn without_views(schema: &Schema) -> SchemaRef {
    let plain = |field: &FieldRef| {
        let data_type = match field.data_type() {
            DataType::Utf8View => DataType::Utf8,
            DataType::BinaryView => DataType::Binary,
            other => other.clone(),
        };
        field.as_ref().clone().with_data_type(data_type)
    };
    Arc::new(Schema::new(
        schema.fields().iter().map(plain).collect::<Vec<Field>>(),
    ))
}

fn exact(rows: Option<u64>) -> Precision<usize> {
    rows.and_then(|rows| usize::try_from(rows).ok())
        .map_or(Precision::Absent, Precision::Exact)
}

impl LakeFile {
    fn new(file: DataFile, folder: &Path, partition_schema: &Schema) -> Result<Self, String> {
        let location = Path::parse(format!("{folder}/{}", file.path))
            .map_err(|error| format!("the log names an unusable file {:?}: {error}", file.path))?;
        let last_modified = DateTime::<Utc>::from_timestamp_millis(file.modified_ms).unwrap_or_default();
        let partition_values = partition_schema
            .fields()
            .iter()
            .map(|field| match file.partition_values.get(field.name()) {
                Some(Some(text)) => {
                    ScalarValue::try_from_string(text.clone(), field.data_type()).map_err(|_| {
                        format!(
                            "{} = {text:?} of {} is no {}",
                            field.name(),
                            file.path,
                            field.data_type()
                        )
                    })
                }
                Some(None) => {
                    ScalarValue::try_from(field.data_type()).map_err(|error| error.strip_backtrace())
                }
                None => Err(format!(
                    "the log gives {} no value of {}",
                    file.path,
                    field.name()
                )),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            meta: ObjectMeta {
                location,
                last_modified,
                size: file.size_bytes,
                e_tag: None,
                version: None,
            },
            partition_values,
            rows: file.rows,
            statistics: FileStatistics::new(file.stats_json),
        })
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let partition_columns: Vec<String> = self
            .partition_schema
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect();
        let support = |filter: &&Expr| {
            if is_decided_by_partition(filter, &partition_columns) {
                TableProviderFilterPushDown::Exact
            } else if has_subquery(filter) || filter.is_volatile() {
                TableProviderFilterPushDown::Unsupported
            } else {
                TableProviderFilterPushDown::Inexact
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let projection: Vec<usize> = projection
            .cloned()
            .unwrap_or_else(|| (0..self.schema.fields().len()).collect());
        let kept = kept_files(
            session,
            &self.schema,
            &self.partition_schema,
            &self.files,
            filters,
        )?;
        tracing::debug!(files = self.files.len(), kept = kept.len(), "scan planned");
        if kept.is_empty() {
            return Ok(Arc::new(EmptyExec::new(Arc::new(
                self.schema.project(&projection)?,
            ))));
        }

        let options = session.config_options();
        let bytes: u64 = kept.iter().map(|file| file.meta.size).sum();
        let small = bytes < SMALL_SCAN_BYTES && kept.len() <= SMALL_SCAN_FILES;
        let partitions = if small {
            1
        } else {
            options.execution.target_partitions
        };
        let files: Vec<PartitionedFile> = kept.iter().map(|file| self.partitioned_file(file)).collect();
        let statistics = self.merged_statistics(&files)?;
        let groups = FileGroup::new(files)
            .split_files(partitions)
            .into_iter()
            .map(|group| {
                if self.is_for_cluster {
                    let without = |file| PartitionedFile {
                        statistics: None,
                        ..file
                    };
                    return Ok(FileGroup::new(
                        group.into_inner().into_iter().map(without).collect(),
                    ));
                }
                let statistics = self.merged_statistics(group.files())?;
                Ok(group.with_statistics(Arc::new(statistics)))
            })
            .collect::<DataFusionResult<Vec<FileGroup>>>()?;

        let runtime = session.runtime_env();
        // Footers are read once per session, however many statements and partitions read the file.
        let reader_factory = CachedParquetFileReaderFactory::new(
            runtime.object_store(&self.store_url)?,
            runtime.cache_manager.get_file_metadata_cache(),
        );
        let mut source = ParquetSource::new(self.scan_schema.clone())
            .with_table_parquet_options(session.default_table_options().parquet)
            .with_parquet_file_reader_factory(Arc::new(reader_factory));
        if let Some(hint) = options.execution.parquet.metadata_size_hint {
            source = source.with_metadata_size_hint(hint);
        }
        let projection = projection
            .into_iter()
            .map(|index| self.scan_indices[index])
            .collect();
        let scan = FileScanConfigBuilder::new(self.store_url.clone(), Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(Some(projection))?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(scan))
    }
}
