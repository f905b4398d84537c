//! Rows sorted by DataFusion: it reads (columns by name, missing ones as nulls) and sorts, spilling sorted runs to temporary
//! files when its share of the budget is full; merging, encoding and uploading go on next to each other.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::error::DataFusionError;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Output, Rewriter, Rewritten, sort_keys};
use crate::compact::fingerprint::Fingerprint;
use crate::compact::plan::PartitionPlan;
use crate::compact::scan::{FingerprintedScan, object, scan};
use crate::error::LakeError;
use crate::file::stream::FileStream;
use crate::table::DataFile;
use crate::table::commit::NewFile;

/// Sorted batches between the merge and the writer.
const BATCHES_IN_FLIGHT: usize = 2;

impl Output<'_> {
    /// Sorts all rows and writes the files.
    pub(super) async fn sort_by_engine(&self, files: &mut Vec<NewFile>) -> Result<Rewritten, LakeError> {
        let (rewriter, plan) = (self.rewriter, self.plan);
        let engine_error = |error| rewriter.engine_error(plan, error);
        let read = Arc::new(Mutex::new(Fingerprint::default()));
        let sort = rewriter
            .sorted(&plan.sources, self.schema, &read)
            .map_err(engine_error)?;
        let mut rows = rewriter.start(Arc::clone(&sort), plan)?;
        let mut open: Option<FileStream> = None;
        let result = async {
            while let Some(batch) = rows.next().await {
                let batch = batch.map_err(engine_error)?;
                let file = match &mut open {
                    Some(file) => file,
                    none => none.insert(self.begin_stream(files.len())?),
                };
                file.write(&batch).await?;
                (self.progress)(batch.num_rows() as u64);
                if file.size_bytes() >= self.target_file_bytes {
                    files.push(file.finish(&plan.partition).await?);
                    open = None;
                }
            }
            if let Some(file) = &mut open {
                files.push(file.finish(&plan.partition).await?);
                open = None;
            }
            Ok(())
        }
        .await;
        if let Some(unfinished) = open.take() {
            unfinished.abort().await;
        }
        result?;
        let spilled = sort
            .metrics()
            .and_then(|metrics| metrics.spilled_bytes())
            .unwrap_or(0);
        Ok(Rewritten {
            fingerprint: *read.lock().unwrap_or_else(PoisonError::into_inner),
            spilled_bytes: spilled as u64,
        })
    }

    fn begin_stream(&self, number: usize) -> Result<FileStream, LakeError> {
        let rewriter = self.rewriter;
        FileStream::begin(
            Arc::clone(&rewriter.store),
            &rewriter.place,
            rewriter.path(self.plan, self.batch_id, number),
            self.schema,
            self.plan.rows().unwrap_or(u64::MAX),
            rewriter.budget.row_group_bytes,
        )
    }
}

impl Rewriter {
    /// The plan: scans, each fingerprinted, into one external sort.
    fn sorted(
        &self,
        sources: &[DataFile],
        schema: &SchemaRef,
        read: &Arc<Mutex<Fingerprint>>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let scan = scan(
            sources
                .iter()
                .map(|file| object(&file.path, file.size_bytes, file.modified_ms)),
            schema,
        )?;
        let counted = (0..scan.properties().output_partitioning().partition_count()).map(|partition| {
            let (scan, schema, read) = (Arc::clone(&scan), Arc::clone(schema), Arc::clone(read));
            Arc::new(FingerprintedScan {
                scan,
                partition,
                schema,
                read,
            }) as Arc<dyn PartitionStream>
        });
        let counted =
            StreamingTableExec::try_new(Arc::clone(schema), counted.collect(), None, [], false, None)?;
        let keys = sort_keys(self.table).iter().map(|name| {
            Ok(PhysicalSortExpr::new_default(Arc::new(Column::new_with_schema(
                name, schema,
            )?)))
        });
        let keys = LexOrdering::new(keys.collect::<Result<Vec<_>, DataFusionError>>()?)
            .ok_or_else(|| DataFusionError::Internal("a sort without keys".to_owned()))?;
        Ok(Arc::new(SortExec::new(
            keys,
            Arc::new(CoalescePartitionsExec::new(Arc::new(counted))),
        )))
    }

    /// Runs the sort in a task of its own, which ends when the receiver is dropped.
    fn start(
        &self,
        sort: Arc<dyn ExecutionPlan>,
        plan: &PartitionPlan,
    ) -> Result<impl futures::Stream<Item = Result<RecordBatch, DataFusionError>> + Unpin + use<>, LakeError>
    {
        let mut sorted = sort
            .execute(0, self.context())
            .map_err(|error| self.engine_error(plan, error))?;
        let (sender, receiver) = mpsc::channel(BATCHES_IN_FLIGHT);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Some(batch) = sorted.next().await {
                if sender.send(batch).await.is_err() {
                    break;
                }
            }
        });
        // The task is part of the stream: it is aborted with it, and a panic in it is an error, not an early end.
        let received = stream::unfold((receiver, task), |(mut receiver, mut task)| async move {
            if let Some(batch) = receiver.recv().await {
                return Some((batch, (receiver, task)));
            }
            match task.join_next().await {
                Some(Err(error)) => Some((Err(DataFusionError::External(Box::new(error))), (receiver, task))),
                _ => None,
            }
        });
        Ok(Box::pin(received))
    }
}
