//! Ballista's execution engine, with tasks that stop when they are cancelled, and errors that people can read.
//!
//! Ballista cancels a task by no longer waiting for it; what the task has spawned goes on, takes a thread each, and an executor with as
//! many of them as vcores does nothing else any more. Here the rows that a task writes end with an error as soon as nobody waits for it,
//! and operators that multiply rows come back to the runtime between their batches, so that this is noticed.

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::BallistaError;
use ballista_core::serde::protobuf::{
    RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport,
};
use ballista_executor::execution_engine::{DefaultExecutionEngine, ExecutionEngine, QueryStageExecutor};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::{CrossJoinExec, HashJoinExec, NestedLoopJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties,
    ReplaceChildrenOptions, replace_children_if_necessary,
};
use datafusion::prelude::SessionConfig;
use futures::{StreamExt, stream};
use tokio::sync::watch;

/// The engine of all executors.
pub(super) struct Engine(DefaultExecutionEngine);

impl Engine {
    pub(super) fn new() -> Self {
        // Ballista keeps its pool of connections to itself: each fetch makes its own.
        Self(DefaultExecutionEngine::new())
    }
}

impl ExecutionEngine for Engine {
    fn create_query_stage_exec(
        &self,
        job_id: JobId,
        stage_id: usize,
        task_id: usize,
        global_output_partition_ids: Vec<usize>,
        plan: Arc<dyn ExecutionPlan>,
        work_dir: &str,
        config: &SessionConfig,
    ) -> Result<Arc<dyn QueryStageExecutor>> {
        let stop = Arc::new(watch::channel(false).0);
        let stage = self.0.create_query_stage_exec(
            job_id,
            stage_id,
            task_id,
            global_output_partition_ids,
            stoppable(plan, &stop)?,
            work_dir,
            config,
        )?;
        Ok(Arc::new(Stage { stage, stop }))
    }
}

/// The same plan of a stage, whose writer is told to stop.
fn stoppable(
    writer: Arc<dyn ExecutionPlan>,
    stop: &Arc<watch::Sender<bool>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let inputs = writer.children().into_iter().map(|input| {
        let input = comes_back(Arc::clone(input))?;
        let stop = Arc::clone(stop);
        Ok(Arc::new(StoppableExec { input, stop }) as Arc<dyn ExecutionPlan>)
    });
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    replace_children_if_necessary(writer, inputs)
}

/// Joins make any number of batches of one that they read.
fn comes_back(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    plan.transform_up(|node| {
        let multiplies = node.is::<CrossJoinExec>()
            || node.is::<NestedLoopJoinExec>()
            || node.is::<HashJoinExec>()
            || node.is::<SortMergeJoinExec>();
        Ok(if multiplies {
            Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>)
        } else {
            Transformed::no(node)
        })
    })
    .map(|transformed| transformed.data)
}

/// Passes its input's rows on until it is told to stop.
#[derive(Debug)]
struct StoppableExec {
    input: Arc<dyn ExecutionPlan>,
    stop: Arc<watch::Sender<bool>>,
}

impl DisplayAs for StoppableExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoppableExec")
    }
}

impl ExecutionPlan for StoppableExec {
    fn name(&self) -> &'static str {
        "StoppableExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self {
                input,
                stop: Arc::clone(&self.stop),
            })),
            _ => Err(DataFusionError::Internal(
                "StoppableExec has one input".to_owned(),
            )),
        }
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(
            children,
            ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute),
        )
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows = self.input.execute(partition, context)?;
        let schema = rows.schema();
        let mut told = self.stop.subscribe();
        let rows = rows.take_until(async move { told.wait_for(|stops| *stops).await.is_ok() });
        // A part of the rows must not look like all of them.
        let stop = Arc::clone(&self.stop);
        let end = stream::once(ready(())).filter_map(move |()| {
            let stops = *stop.borrow();
            ready(stops.then(|| Err(DataFusionError::Execution("the task was cancelled".to_owned()))))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows.chain(end))))
    }
}

/// A stage whose work ends when nobody waits for it.
#[derive(Debug)]
struct Stage {
    stage: Arc<dyn QueryStageExecutor>,
    stop: Arc<watch::Sender<bool>>,
}

/// Dropped, it stops the work.
struct Waiting<'a>(&'a watch::Sender<bool>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stage.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for Stage {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        let _waiting = Waiting(&self.stop);
        let written = self.stage.execute_query_stage(task_id, context).await;
        written.map_err(readable)
    }

    /// None: nobody is shown them, and where two tasks of a stage have operators that differ (a UNION ALL of which each reads other parts),
    /// the scheduler would refuse the second one's end because of them, and wait for ever.
    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        Vec::new()
    }

    fn collect_runtime_stats_reports(&self) -> Vec<RuntimeStatsReport> {
        self.stage.collect_runtime_stats_reports()
    }

    fn collect_window_state_reports(&self) -> Result<Vec<WindowStateReport>> {
        self.stage.collect_window_state_reports()
    }

    fn collect_column_stats(&self) -> Vec<TaskColumnStats> {
        self.stage.collect_column_stats()
    }
}

/// Ballista sends the debug form of an error: of one that it does not try again, this is its text alone.
fn readable(error: DataFusionError) -> DataFusionError {
    match text(&error) {
        Some(text) => DataFusionError::Execution(text),
        None => error,
    }
}

/// What an error says; nothing of one by which Ballista knows that work is to be done again.
fn text(error: &DataFusionError) -> Option<String> {
    match error.find_root() {
        DataFusionError::IoError(_) => None,
        DataFusionError::External(inner) => match inner.downcast_ref::<BallistaError>() {
            Some(BallistaError::ArrowError(error)) => Some(error.to_string()),
            Some(BallistaError::DataFusionError(error)) => text(error),
            Some(_) => None,
            None => Some(inner.to_string()),
        },
        root => Some(root.strip_backtrace()),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use arrow::error::ArrowError;

    use super::*;

    #[test]
    fn errors_that_are_not_tried_again_become_text() {
        let shared = |error: BallistaError| {
            DataFusionError::Shared(Arc::new(DataFusionError::External(Box::new(error))))
        };
        let arrow = shared(BallistaError::ArrowError(Box::new(ArrowError::DivideByZero)));
        assert!(
            matches!(readable(arrow), DataFusionError::Execution(text) if text == "Divide by zero error")
        );
        let lost = shared(BallistaError::FetchFailed(
            "id".to_owned(),
            1,
            0,
            "gone".to_owned(),
        ));
        assert!(matches!(readable(lost), DataFusionError::Shared(_)));
        let reset = DataFusionError::IoError(io::ErrorKind::ConnectionReset.into());
        assert!(matches!(readable(reset), DataFusionError::IoError(_)));
    }
}
