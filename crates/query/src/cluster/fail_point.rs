//! Where an executor stands still until a test kills it: at the beginning or at the end of a task that reads files of the lake (`map`),
//! or of one that reads what other tasks have written (`reduce`). Debug builds only.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::execution_plans::ShuffleReaderExec;
use ballista_core::serde::protobuf::{
    RuntimeStatsReport, ShuffleWritePartition, TaskColumnStats, WindowStateReport,
};
use ballista_executor::execution_engine::{ExecutionEngine, QueryStageExecutor};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use datafusion::prelude::SessionConfig;

use super::engine::Engine;

/// Which task it is, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FailPoint {
    reduces: bool,
    is_written: bool,
}

impl FromStr for FailPoint {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        if !cfg!(debug_assertions) {
            return Err("a release build has no fail points".to_owned());
        }
        let (reduces, is_written) = match text {
            "map-begins" => (false, false),
            "map-written" => (false, true),
            "reduce-begins" => (true, false),
            "reduce-written" => (true, true),
            _ => {
                return Err(format!(
                    "`{text}` is none of map-begins, map-written, reduce-begins, reduce-written"
                ));
            }
        };
        Ok(Self { reduces, is_written })
    }
}

/// An engine that stands still there.
pub(super) struct Standing {
    engine: Engine,
    point: FailPoint,
}

impl Standing {
    pub(super) fn new(engine: Engine, point: FailPoint) -> Self {
        Self { engine, point }
    }
}

impl ExecutionEngine for Standing {
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
        let is_there = reads_results(&plan) == self.point.reduces;
        let stage = self.engine.create_query_stage_exec(
            job_id,
            stage_id,
            task_id,
            global_output_partition_ids,
            plan,
            work_dir,
            config,
        )?;
        if !is_there {
            return Ok(stage);
        }
        let is_written = self.point.is_written;
        Ok(Arc::new(Held { stage, is_written }))
    }
}

fn reads_results(plan: &Arc<dyn ExecutionPlan>) -> bool {
    plan.is::<ShuffleReaderExec>() || plan.children().into_iter().any(reads_results)
}

#[derive(Debug)]
struct Held {
    stage: Arc<dyn QueryStageExecutor>,
    is_written: bool,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stage.fmt(f)
    }
}

#[async_trait]
impl QueryStageExecutor for Held {
    async fn execute_query_stage(
        &self,
        task_id: usize,
        context: Arc<TaskContext>,
    ) -> Result<Vec<ShuffleWritePartition>> {
        if self.is_written {
            self.stage.execute_query_stage(task_id, context).await?;
        }
        tracing::warn!("standing still at the fail point");
        std::future::pending().await
    }

    fn collect_plan_metrics(&self) -> Vec<MetricsSet> {
        self.stage.collect_plan_metrics()
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
