//! Partitions come and go. New ones begin at the offset that the table has committed; what is buffered of those that
//! leave is dropped before the group is answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::PartitionListener;
use loginlake_kafka::topics::{Incarnation, Topics};
use loginlake_lake::LakeError;
use loginlake_lake::ingest::{Committer, Session, TopicBounds};
use loginlake_service::backoff::Backoff;
use loginlake_service::health::ComponentHealth;
use loginlake_service::shutdown::Shutdown;
use tokio::runtime::Handle;

use super::counted_rows::CountedRows;
use super::metrics::IngestMetrics;

/// How long partitions that leave wait for a commit that is under way: shorter than the group's patience.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);

/// How long the tables are waited for before a request to stop is looked at.
const LOCK_PATIENCE: Duration = Duration::from_millis(200);

/// What the polling thread and its rebalance callbacks share. Never locked while polling.
pub(super) struct Filling {
    /// Partitions, offsets and rows.
    pub session: Session<CountedRows>,
    /// Why going on would lose records.
    pub refusal: Option<String>,
}

pub(super) struct Assignment {
    pub filling: Mutex<Filling>,
    pub committer: Arc<tokio::sync::Mutex<Committer>>,
    pub topics: Topics,
    pub topic: String,
    /// The topic's id, if it can be asked for again.
    pub topic_id: Option<String>,
    /// Where partitions begin that the table does not know; empty: at their oldest record.
    pub begins: BTreeMap<i32, i64>,
    /// The time by which `begins` was chosen, epoch milliseconds.
    pub begins_at_ms: Option<i64>,
    pub runtime: Handle,
    pub kafka_health: ComponentHealth,
    pub store_health: ComponentHealth,
    pub metrics: IngestMetrics,
    pub shutdown: Shutdown,
}

impl Assignment {
    pub fn lock(&self) -> MutexGuard<'_, Filling> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where partitions begin: at the table. Those that it does not know are written down first, at their oldest record or
    /// at the time that was asked for.
    fn starts(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, String> {
        if self.is_same_topic() == Some(false) {
            let text = other_topic(&self.topic);
            self.lock().refusal = Some(text.clone());
            return Err(text);
        }
        let known = self.with_retries(|committer| self.runtime.block_on(committer.reload_offsets()))?;
        if partitions.iter().any(|partition| !known.contains_key(partition)) {
            let bounds = self.bounds(partitions)?;
            let begins = bounds
                .iter()
                .map(|(partition, (low, _))| (*partition, *self.begins.get(partition).unwrap_or(low)))
                .collect();
            self.with_retries(|committer| {
                self.runtime.block_on(async {
                    committer.reload_offsets().await?;
                    committer.bootstrap_at(&begins, self.begins_at_ms).await
                })
            })?;
        }
        // Only now, so that what another process has committed meanwhile is in the bounds.
        let bounds = self.bounds(partitions)?;
        let checked = self.with_retries(|committer| match committer.check_topic(&bounds) {
            Ok(()) => Ok(Ok(committer.offsets())),
            Err(LakeError::DataLossRefused(text)) => Ok(Err(text)),
            Err(error) => Err(error),
        })?;
        match checked {
            Ok(offsets) => Ok(offsets
                .into_iter()
                .filter(|(partition, _)| partitions.contains(partition))
                .collect()),
            Err(text) => {
                self.lock().refusal = Some(text.clone());
                Err(text)
            }
        }
    }

    fn bounds(&self, partitions: &[i32]) -> Result<TopicBounds, String> {
        partitions
            .iter()
            .map(|partition| {
                let bounds = self.with_kafka(|| self.topics.watermarks(&self.topic, *partition))?;
                Ok((*partition, bounds))
            })
            .collect()
    }

    /// Whether this still is the topic that the table's offsets are of. What was read before the answer is of this topic
    /// then, because ids never come back. `None`: the broker does not say it now.
    pub fn is_same_topic(&self) -> Option<bool> {
        let Some(topic_id) = &self.topic_id else {
            return Some(true);
        };
        match self.topics.incarnation(&self.topic) {
            Incarnation::Id(found) => Some(found == *topic_id),
            // What is buffered can only be of the one that was deleted.
            Incarnation::Gone => Some(true),
            Incarnation::Unknown => None,
        }
    }

    /// A broker may be away while partitions arrive: wait for it, visibly, as long as nobody asks to stop.
    fn with_kafka<T>(&self, mut call: impl FnMut() -> Result<T, KafkaError>) -> Result<T, String> {
        let mut backoff = Backoff::default();
        loop {
            match call() {
                Ok(value) => return Ok(value),
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, "cannot ask where the topic begins and ends; trying again");
                    self.kafka_health.not_ready(error.to_string());
                    self.metrics.retries.inc();
                    if self.shutdown.wait_timeout(backoff.next_delay()) {
                        return Err(format!("stopped while waiting: {error}"));
                    }
                }
                Err(error) => return Err(error.to_string()),
            }
        }
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

/// A topic that is deleted and made again under a running consumer has other records at the same offsets.
pub(super) fn other_topic(topic: &str) -> String {
    format!(
        "topic {topic} was deleted and made again while it was ingested; what was read since the last commit is not in the table: \
         start again, and read what it says then"
    )
}

impl PartitionListener for Assignment {
    fn assigned(&self, partitions: &[i32]) -> Result<BTreeMap<i32, i64>, String> {
        let starts = if partitions.is_empty() {
            BTreeMap::new()
        } else {
            self.starts(partitions)?
        };
        let mut filling = self.lock();
        if let Err(error) = filling.session.assign(&starts) {
            let text = format!("cannot drop the rows of partitions that never left: {error}");
            filling.refusal = Some(text.clone());
            return Err(text);
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
        for partition in partitions {
            self.metrics.forget_partition(*partition);
        }
        let mut filling = self.lock();
        if let Err(error) = filling.session.revoke(partitions) {
            // The rows cannot be told apart any more: let the run end and be read again from the table's offsets.
            filling.refusal = Some(format!("cannot drop the rows of partitions that left: {error}"));
        }
        // The group's offsets are for lag tools only, and are written after each commit.
        BTreeMap::new()
    }
}
