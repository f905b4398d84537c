//! Reads the few columns that rows are counted by, dictionaries as they are in the files, and counts.
//!
//! Each partition gives one batch, or more when there are very many values. Files and their ranges, the reader and its cache
//! of footers are those of the scan that it replaces; like that, it takes the row groups that begin in a file's range.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::FileGroup;
use datafusion::datasource::physical_plan::parquet::ParquetFileReaderFactory;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use datafusion::parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use datafusion::parquet::file::metadata::ParquetMetaData;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties};
use futures::{StreamExt, TryStreamExt};

use super::groups::{GroupColumn, Groups};

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 16_384;

/// A column that rows are counted by.
#[derive(Debug, Clone)]
pub(super) struct KeyColumn {
    /// Its name in the table.
    pub name: String,
    /// Its type in the table.
    pub data_type: DataType,
    /// Which partition column it is; `None`: it is in the files.
    pub partition_index: Option<usize>,
}

/// What a scan reads, and by what its rows are counted.
pub(super) struct CountScan {
    pub files: Vec<FileGroup>,
    pub reader_factory: Arc<dyn ParquetFileReaderFactory>,
    pub metadata_size_hint: Option<usize>,
    pub keys: Vec<KeyColumn>,
}

/// Counts the rows of Parquet files by columns of few values: the partial state of `count(*)`.
pub(crate) struct CountExec {
    scan: Arc<CountScan>,
    /// The key columns, then any number of counts, which are all the same.
    schema: SchemaRef,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl CountExec {
    /// `schema` is what the partial aggregate gives.
    pub(super) fn new(scan: CountScan, schema: SchemaRef) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&schema)),
            Partitioning::UnknownPartitioning(scan.files.len()),
            EmissionType::Final,
            Boundedness::Bounded,
        );
        Self {
            scan: Arc::new(scan),
            schema,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }
}

impl fmt::Debug for CountExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CountExec")
            .field("keys", &self.scan.keys)
            .finish_non_exhaustive()
    }
}

impl DisplayAs for CountExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.scan.keys.iter().map(|key| key.name.as_str()).collect();
        let files: usize = self.scan.files.iter().map(FileGroup::len).sum();
        write!(f, "CountExec: by=[{}], files={files}", keys.join(", "))
    }
}

impl ExecutionPlan for CountExec {
    fn name(&self) -> &'static str {
        "CountExec"
    }

    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let counting = Counting {
            groups: Groups::new(
                &self
                    .scan
                    .keys
                    .iter()
                    .map(|key| held_as(&key.data_type))
                    .collect::<Vec<_>>(),
            )?,
            files: self.scan.files[partition].files().to_vec().into_iter(),
            scan: Arc::clone(&self.scan),
            schema: Arc::clone(&self.schema),
            metrics: self.metrics.clone(),
            baseline: BaselineMetrics::new(&self.metrics, partition),
            partition,
            open: None,
        };
        let batches = futures::stream::try_unfold(counting, |mut counting| async {
            Ok(counting.next().await?.map(|batch| (batch, counting)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            Arc::clone(&self.schema),
            batches,
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// How values of a key are held while they are counted: texts without views.
fn held_as(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        other => other.clone(),
    }
}

/// The batches of a file that is being read.
type Batches = futures::stream::BoxStream<'static, DataFusionResult<RecordBatch>>;

/// A file that is being read.
struct OpenFile {
    batches: Batches,
    /// For each key what it is in a batch of this file.
    keys: Vec<InFile>,
}

/// What a key is in a file.
enum InFile {
    Constant(ScalarValue),
    Column(usize),
}

/// The counting of one partition.
struct Counting {
    scan: Arc<CountScan>,
    schema: SchemaRef,
    metrics: ExecutionPlanMetricsSet,
    baseline: BaselineMetrics,
    partition: usize,
    files: std::vec::IntoIter<PartitionedFile>,
    open: Option<OpenFile>,
    groups: Groups,
}

impl Counting {
    /// What was counted in all files, or in as many as there is room for; `None` after the last of it.
    async fn next(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        loop {
            if let Some(open) = &mut self.open {
                match open.batches.try_next().await? {
                    None => self.open = None,
                    Some(batch) => {
                        let time = self.baseline.elapsed_compute().timer();
                        let column = |key: &InFile| match key {
                            InFile::Constant(value) => GroupColumn::Constant(value.clone()),
                            InFile::Column(index) => GroupColumn::Array(Arc::clone(batch.column(*index))),
                        };
                        let columns: Vec<GroupColumn> = open.keys.iter().map(column).collect();
                        self.groups.add(&columns, batch.num_rows())?;
                        time.done();
                        if self.groups.is_full(BATCH_ROWS) {
                            return self.counted();
                        }
                    }
                }
            } else if let Some(file) = self.files.next() {
                self.open = Some(self.begin(file).await?);
            } else {
                return self.counted();
            }
        }
    }

    /// What was counted since the last time, in the types of the aggregate; `None` if that is nothing.
    fn counted(&mut self) -> DataFusionResult<Option<RecordBatch>> {
        let (keys, counts) = self.groups.take()?;
        let rows = counts.len();
        if rows == 0 {
            return Ok(None);
        }
        let counts: ArrayRef = Arc::new(counts);
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for (index, field) in self.schema.fields().iter().enumerate() {
            let column = keys.get(index).unwrap_or(&counts);
            columns.push(cast(column, field.data_type())?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        self.baseline.record_output(rows);
        Ok(Some(batch))
    }

    /// Reads the footer of a file and begins with its row groups.
    async fn begin(&mut self, file: PartitionedFile) -> DataFusionResult<OpenFile> {
        let mut reader: Box<dyn AsyncFileReader> = self.scan.reader_factory.create_reader(
            self.partition,
            file.clone(),
            self.scan.metadata_size_hint,
            &self.metrics,
        )?;
        let footer = reader.get_metadata(None).await?;
        let plain = ArrowReaderMetadata::try_new(Arc::clone(&footer), ArrowReaderOptions::new())?;
        let mut keys = Vec::with_capacity(self.scan.keys.len());
        let mut read = Vec::new();
        for key in &self.scan.keys {
            keys.push(match (key.partition_index, plain.schema().index_of(&key.name)) {
                (Some(index), _) => {
                    InFile::Constant(cast_scalar(&file.partition_values[index], &key.data_type)?)
                }
                // Written before the column was there.
                (None, Err(_)) => InFile::Constant(ScalarValue::try_from(held_as(&key.data_type))?),
                (None, Ok(index)) => {
                    read.push(index);
                    InFile::Column(index)
                }
            });
        }
        read.sort_unstable();
        for key in &mut keys {
            if let InFile::Column(index) = key {
                *index = read.partition_point(|other| other < index);
            }
        }
        let options = ArrowReaderOptions::new().with_schema(with_dictionaries(plain.schema(), &read));
        let metadata = ArrowReaderMetadata::try_new(Arc::clone(&footer), options)?;
        let mask = ProjectionMask::roots(metadata.parquet_schema(), read);
        let batches = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata)
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .with_row_groups(row_groups(&footer, &file))
            .build()?
            .map_err(DataFusionError::from)
            .boxed();
        Ok(OpenFile { batches, keys })
    }
}

fn cast_scalar(value: &ScalarValue, data_type: &DataType) -> DataFusionResult<ScalarValue> {
    value.cast_to(&held_as(data_type))
}

/// The schema of a file with dictionaries in place of the texts that are read.
fn with_dictionaries(schema: &Schema, read: &[usize]) -> SchemaRef {
    let field = |(index, field): (usize, &Arc<Field>)| match field.data_type() {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View if read.contains(&index) => {
            let data_type = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
            Arc::new(field.as_ref().clone().with_data_type(data_type))
        }
        _ => Arc::clone(field),
    };
    let fields: Vec<Arc<Field>> = schema.fields().iter().enumerate().map(field).collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// The row groups that begin in the range of a file, as DataFusion's own scan decides it.
fn row_groups(footer: &ParquetMetaData, file: &PartitionedFile) -> Vec<usize> {
    let begins_in_range = |index: &usize| {
        let Some(range) = &file.range else { return true };
        let column = footer.row_group(*index).column(0);
        let start = column
            .dictionary_page_offset()
            .unwrap_or_else(|| column.data_page_offset());
        (range.start..range.end).contains(&start)
    };
    (0..footer.num_row_groups()).filter(begins_in_range).collect()
}
