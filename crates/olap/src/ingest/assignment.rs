//! Partitions come and go. New ones begin at the offset that the table has committed; what is buffered of those that
//! leave is dropped before the group is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loginlake_kafka::consumer::PartitionListener;
use loginlake_kafka::topics::Topics;
use loginlake_lake::LakeError;
use loginlake_lake::ingest::{BatchBuffer, Committer, Offsets};
use loginlake_service::backoff::Backoff;
use loginlake_service::health::ComponentHealth;
use loginlake_service::shutdown::Shutdown;
use tokio::runtime::Handle;

use super::metrics::IngestMetrics;

/// How long partitions that leave wait for a commit that is under way: shorter than the group's patience.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the tables are waited for before a request to stop is looked at.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// What the polling thread and its rebalance callbacks share. Never locked while polling.
pub(super) struct Filling {
    pub offsets: Offsets,
    pub buffer: BatchBuffer,
    /// Partitions that were read to their end since they came.
    pub at_end: BTreeSet<i32>,
    /// Why going on would lose records.
    pub refusal: Option<String>,
    /// Counts by reason of the rejected records in the buffer.
    pub rejected: BTreeMap<loginlake_events::RejectReason, u64>,
    /// The smallest Kafka timestamp in the buffer.
    pub oldest_kafka_ms: Option<i64>,
}

pub(super) struct Assignment {
    pub filling: Mutex<Filling>,
    pub committer: Arc<tokio::sync::Mutex<Committer>>,
    pub topics: Topics,
    pub topic: String,
    pub runtime: Handle,
    pub store_health: ComponentHealth,
    pub metrics: IngestMetrics,
    pub shutdown: Shutdown,
}

impl Assignment {
    pub fn lock(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where partitions begin: at the table. Those that it does not know are written down at their oldest record.
    fn starts(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, String> {
        let mut watermarks = BTreeMap::new();
        for partition in partitions {
            let (low, high) = self
                .topics
                .watermarks(&self.topic, *partition)
                .map_err(|error| error.to_string())?;
            watermarks.insert(*partition, (low, high));
        }
        let oldest: BTreeMap<i32, i64> = watermarks
            .iter()
            .map(|(partition, (low, _))| (*partition, *low))
            .collect();
        let starts = self.with_retries(|committer| {
            self.runtime.block_on(async {
                committer.reload_offsets().await?;
                committer.bootstrap(&oldest).await
            })
        })?;
        for (partition, next_offset) in &starts {
            let (low, high) = watermarks[partition];
            if !(low..=high).contains(next_offset) {
                let lost = if *next_offset < low {
                    format!(
                        "records {next_offset} to {} are gone from the topic (retention)",
                        low - 1
                    )
                } else {
                    format!("the topic ends at {high}: it lost records, or is another topic of the same name")
                };
                let text = format!(
                    "the table's next offset of {}/{partition} is {next_offset}, but {lost}; nothing was read",
                    self.topic
                );
                self.lock().refusal = Some(text.clone());
                return Err(text);
            }
        }
        Ok(starts)
    }

    /// The store may be away while partitions arrive: wait for it, visibly, as long as nobody asks to stop.
    pub fn with_retries<T>(
        &self,
        mut call: impl FnMut(&mut Committer) -> Result<T, LakeError>,
    ) -> Result<T, String> {
        let mut backoff = Backoff::default();
        loop {
            // A commit that is under way has it for as long as the store is away.
            let waited = self
                .runtime
                .block_on(async { tokio::time::timeout(LOCK_PATIENCE, self.committer.lock()).await });
            let Ok(mut committer) = waited else {
                if self.shutdown.is_requested() {
                    return Err("stopped while a commit was under way".to_owned());
                }
                continue;
            };
            match call(&mut committer) {
                Ok(value) => {
                    self.store_health.ready();
                    return Ok(value);
                }
                Err(error) if error.is_retriable() => {
                    drop(committer);
                    tracing::warn!(%error, "cannot read the table's offsets; trying again");
                    self.store_health.not_ready(error.to_string());
                    self.metrics.retries.inc();
                    if self.shutdown.wait_timeout(backoff.next_delay()) {
                        return Err(format!("stopped while waiting: {error}"));
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl PartitionListener for Assignment {
    fn assigned(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, String> {
        let starts = if partitions.is_empty() {
            BTreeMap::new()
        } else {
            self.starts(partitions)?
        };
        let mut filling = self.lock();
        for (partition, next_offset) in &starts {
            filling.offsets.assign(*partition, *next_offset);
            filling.at_end.remove(partition);
        }
        Ok(starts)
    }

    fn revoked(&self, partitions: &[i32], lost: bool) -> BTreeMap<i32, i64> {
        // A commit that is under way for these partitions should be over before somebody else begins at the old offset;
        // when it is not, the compare-and-set decides. Lost partitions already are somebody else's: no reason to wait.
        if !lost {
            let waited = self.runtime.block_on(async {
                tokio::time::timeout(COMMIT_PATIENCE, self.committer.lock())
                    .await
                    .is_ok()
            });
            if !waited {
                tracing::warn!(
                    ?partitions,
                    "partitions leave while a commit of theirs is still under way"
                );
            }
        }
        let leaving: BTreeSet<i32> = partitions.iter().copied().collect();
        let mut filling = self.lock();
        for partition in partitions {
            filling.offsets.revoke(*partition);
            filling.at_end.remove(partition);
            self.metrics.forget_partition(*partition);
        }
        if let Err(error) = filling.buffer.drop_kafka_partitions(&leaving) {
            // The rows cannot be told apart any more: let the run end and be read again from the table's offsets.
            filling.refusal = Some(format!("cannot drop the rows of partitions that left: {error}"));
        }
        // The group's offsets are for lag tools only, and are written after each commit.
        BTreeMap::new()
    }
}
