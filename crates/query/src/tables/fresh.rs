//! A pinned table and the rest of the topic as one table: the union of both scans. The rest is decoded while the plan runs
//! and is never held as a whole: each part has at most [`BATCHES_IN_FLIGHT`] batches on their way. Only the columns of the
//! scan are asked for, and what its filters say about times is handed on; the filters are evaluated on these rows all the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use loginlake_lake::TableName;

use super::provider::LakeTable;
use super::time_bounds::time_bounds;
use crate::error::{QueryError, pack};
use crate::view::{Tail, TailNeed};

/// Batches that wait for the plan, for each part.
const BATCHES_IN_FLIGHT: usize = 2;

/// A table at one version and the rows after it.
#[derive(Debug)]
pub(super) struct FreshTable {
    pub(super) lake: Arc<LakeTable>,
    pub(super) table: TableName,
    pub(super) tail: Arc<dyn Tail>,
}

#[async_trait]
impl TableProvider for FreshTable {
    fn schema(&self) -> SchemaRef {
        self.lake.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// What the table decides by its files' partitions has to be asked of the other rows, too.
    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let mut support = self.lake.supports_filters_pushdown(filters)?;
        for one in &mut support {
            if *one == TableProviderFilterPushDown::Exact {
                *one = TableProviderFilterPushDown::Inexact;
            }
        }
        Ok(support)
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let of_lake = self.lake.scan(session, projection, filters, limit).await?;
        let parts = self.tail.parts(self.table);
        let times = time_bounds(filters, &self.lake.schema());
        if parts == 0 || times.is_empty() {
            return Ok(of_lake);
        }
        let schema = of_lake.schema();
        let columns = schema.fields().iter().map(|field| field.name().clone());
        let need = Arc::new(TailNeed {
            columns: columns.collect(),
            times,
        });
        tracing::debug!(?need, parts, "rest of the topic planned");
        let streams = (0..parts)
            .map(|part| {
                Arc::new(TailStream {
                    schema: Arc::clone(&schema),
                    table: self.table,
                    part,
                    need: Arc::clone(&need),
                    tail: Arc::clone(&self.tail),
                }) as Arc<dyn PartitionStream>
            })
            .collect();
        let of_tail = StreamingTableExec::try_new(schema, streams, None, [], false, limit)?;
        UnionExec::try_new(vec![of_lake, Arc::new(of_tail)])
    }
}

/// One part of the rest, with the columns of a scan.
#[derive(Debug)]
struct TailStream {
    schema: SchemaRef,
    table: TableName,
    part: usize,
    need: Arc<TailNeed>,
    tail: Arc<dyn Tail>,
}

impl PartitionStream for TailStream {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut builder = RecordBatchReceiverStream::builder(Arc::clone(&self.schema), BATCHES_IN_FLIGHT);
        let sender = builder.tx();
        let (tail, schema) = (Arc::clone(&self.tail), Arc::clone(&self.schema));
        let (table, part, need) = (self.table, self.part, Arc::clone(&self.need));
        builder.spawn_blocking(move || {
            let mut unusable = None;
            tail.read(table, part, &need, &mut |batch| {
                match as_scanned(&batch, &schema) {
                    // Nobody receives: the query has all that it wants.
                    Ok(batch) => sender.blocking_send(Ok(batch)).is_ok(),
                    Err(error) => {
                        unusable = Some(error);
                        false
                    }
                }
            })
            .map_err(|error| pack(QueryError::Tail(error)))?;
            unusable.map_or(Ok(()), Err)
        });
        builder.build()
    }
}

/// The columns of the scan, in its types. A column that an older table does not have is not read, and one that only the table
/// has is null.
fn as_scanned(batch: &RecordBatch, schema: &SchemaRef) -> DataFusionResult<RecordBatch> {
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            Some(column) => cast(column, field.data_type()),
            None => Ok(new_null_array(field.data_type(), batch.num_rows())),
        })
        .collect::<Result<Vec<ArrayRef>, _>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}
