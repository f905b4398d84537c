//! How many vcores of each executor are free, counted from the tasks that run.
//!
//! Ballista counts up and down: a task's vcores are given back when its end is told. Where a stage is rolled back because an executor
//! died, its tasks on the living ones are cancelled and forgotten before they tell it, so their vcores stay taken for good: that query
//! and all after it would wait for ever. Here what is taken is read off the tasks of running jobs each time before work is given out, so
//! nothing is lost or given back twice.
//!
//! A job that goes on after an executor's death is ended here, before work is given out again: rows of a stage that was rolled back have
//! been counted beside those of its second attempt. The client asks again from the beginning ([`LOST`]).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use ballista_core::JobId;
use ballista_core::error::Result;
use ballista_core::serde::protobuf::ExecutorHeartbeat;
use ballista_core::serde::scheduler::{ExecutorData, ExecutorMetadata};
use ballista_scheduler::cluster::memory::InMemoryClusterState;
use ballista_scheduler::cluster::{BoundTask, ClusterState, ClusterStateEventStream, ExecutorSlot};
use ballista_scheduler::config::TaskDistributionPolicy;
use ballista_scheduler::state::execution_stage::ExecutionStage;
use ballista_scheduler::state::task_manager::JobInfoCache;
use tokio::sync::Mutex;

/// What the end of such a job says.
pub(super) const LOST: &str = "an executor died while it ran";

/// Ballista's state of the executors, with vcores that are counted anew.
#[derive(Default)]
pub(super) struct CountedState {
    inner: InMemoryClusterState,
    /// By the executor's id.
    vcores: Mutex<HashMap<String, Vcores>>,
    deaths: Mutex<Deaths>,
}

/// How many executors have died, and how many had when each running job was first given work.
#[derive(Debug, Default)]
struct Deaths {
    number: u64,
    before: HashMap<JobId, u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Vcores {
    total: u32,
    /// What `inner` takes for free.
    free: u32,
}

/// Says that what runs takes `taken`. Returns how many are free that were not.
fn release(vcores: &mut Vcores, taken: u32) -> u32 {
    let released = vcores.total.saturating_sub(taken).saturating_sub(vcores.free);
    vcores.free += released;
    released
}

/// Vcores that the tasks of these jobs hold, by executor.
async fn taken(jobs: &HashMap<JobId, JobInfoCache>) -> HashMap<String, u32> {
    let mut taken = HashMap::new();
    for job in jobs.values() {
        let graph = job.execution_graph.read().await;
        for task in graph.running_tasks() {
            if let Some(vcores) = graph.task_vcores(task.stage_id, task.task_id) {
                *taken.entry(task.executor_id).or_insert(0) += vcores;
            }
        }
    }
    taken
}

impl CountedState {
    /// The jobs that may go on. The others are ended.
    async fn unharmed(&self, jobs: &HashMap<JobId, JobInfoCache>) -> HashMap<JobId, JobInfoCache> {
        let mut deaths = self.deaths.lock().await;
        deaths.before.retain(|id, _| jobs.contains_key(id));
        let number = deaths.number;
        let mut unharmed = HashMap::new();
        for (id, job) in jobs {
            let mut graph = job.execution_graph.write().await;
            let is_rolled_back = graph.stages().values().any(|stage| match stage {
                ExecutionStage::UnResolved(stage) => stage.stage_attempt_num > 0,
                ExecutionStage::Resolved(stage) => stage.stage_attempt_num > 0,
                ExecutionStage::Running(stage) => stage.stage_attempt_num > 0,
                ExecutionStage::Successful(stage) => stage.stage_attempt_num > 0,
                ExecutionStage::Failed(stage) => stage.stage_attempt_num > 0,
            });
            if is_rolled_back || *deaths.before.entry(id.clone()).or_insert(number) != number {
                graph.fail_job(LOST.to_owned());
            } else {
                unharmed.insert(id.clone(), job.clone());
            }
        }
        unharmed
    }
}

#[async_trait]
impl ClusterState for CountedState {
    async fn init(&self) -> Result<()> {
        self.inner.init().await
    }

    async fn bind_schedulable_tasks(
        &self,
        distribution: TaskDistributionPolicy,
        active_jobs: Arc<HashMap<JobId, JobInfoCache>>,
        executors: Option<HashSet<String>>,
    ) -> Result<Vec<BoundTask>> {
        let mut known = self.vcores.lock().await;
        let taken = taken(&active_jobs).await;
        let unharmed = Arc::new(self.unharmed(&active_jobs).await);
        let released = known
            .iter_mut()
            .map(|(id, vcores)| (id.clone(), release(vcores, taken.get(id).copied().unwrap_or(0))))
            .collect();
        self.inner.unbind_tasks(released).await?;
        let bound = self
            .inner
            .bind_schedulable_tasks(distribution, unharmed, executors)
            .await?;
        for (id, task) in &bound {
            if let Some(vcores) = known.get_mut(id) {
                vcores.free = vcores.free.saturating_sub(task.vcores_consumed);
            }
        }
        Ok(bound)
    }

    /// They are counted when work is given out.
    async fn unbind_tasks(&self, _: Vec<ExecutorSlot>) -> Result<()> {
        Ok(())
    }

    async fn register_executor(&self, metadata: ExecutorMetadata, spec: ExecutorData) -> Result<()> {
        let mut known = self.vcores.lock().await;
        let (id, vcores) = (
            spec.executor_id.clone(),
            Vcores {
                total: spec.total_vcores,
                free: spec.available_vcores,
            },
        );
        self.inner.register_executor(metadata, spec).await?;
        known.insert(id, vcores);
        Ok(())
    }

    async fn save_executor_metadata(&self, metadata: ExecutorMetadata) -> Result<()> {
        self.inner.save_executor_metadata(metadata).await
    }

    async fn get_executor_metadata(&self, executor_id: &str) -> Result<ExecutorMetadata> {
        self.inner.get_executor_metadata(executor_id).await
    }

    async fn registered_executor_metadata(&self) -> Vec<ExecutorMetadata> {
        self.inner.registered_executor_metadata().await
    }

    async fn save_executor_heartbeat(&self, heartbeat: ExecutorHeartbeat) -> Result<()> {
        self.inner.save_executor_heartbeat(heartbeat).await
    }

    async fn remove_executor(&self, executor_id: &str) -> Result<()> {
        let mut known = self.vcores.lock().await;
        known.remove(executor_id);
        self.deaths.lock().await.number += 1;
        self.inner.remove_executor(executor_id).await
    }

    fn executor_heartbeats(&self) -> HashMap<String, ExecutorHeartbeat> {
        self.inner.executor_heartbeats()
    }

    fn get_executor_heartbeat(&self, executor_id: &str) -> Option<ExecutorHeartbeat> {
        self.inner.get_executor_heartbeat(executor_id)
    }

    async fn cluster_state_events(&self) -> Result<ClusterStateEventStream> {
        self.inner.cluster_state_events().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_task_holds_is_free_once() {
        let mut vcores = Vcores { total: 4, free: 1 };
        assert_eq!(release(&mut vcores, 3), 0);
        assert_eq!(release(&mut vcores, 1), 2);
        assert_eq!(release(&mut vcores, 1), 0);
        assert_eq!(release(&mut vcores, 9), 0);
        assert_eq!(release(&mut vcores, 0), 1);
        assert_eq!(vcores, Vcores { total: 4, free: 4 });
    }
}
