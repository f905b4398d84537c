//! How many records wait for the group: of its own partitions this instance knows it best, of the others the brokers are asked.
//!
//! Asked on the dashboard's own thread, so only while somebody looks. Brokers that do not answer cost a fraction of a second
//! every few seconds, and what they said last stays: the dashboard says by itself that Kafka does not answer.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use loginlake_kafka::lag::GroupLag;
use loginlake_kafka::{KafkaError, KafkaSettings};

use super::{LagSource, PartitionLag};
use crate::run::Progress;

const ANSWER_LIMIT: Duration = Duration::from_millis(400);
/// How long brokers that failed to answer are left alone.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Where the input is, and who reads it.
#[derive(Clone, Debug)]
pub struct GroupSettings {
    /// The input's cluster.
    pub kafka: KafkaSettings,
    /// The input topic.
    pub topic: String,
    /// The consumer group.
    pub group_id: String,
}

/// The lag of a group.
pub struct OfGroup {
    settings: GroupSettings,
    progress: Progress,
    asking: Mutex<Asking>,
}

#[derive(Default)]
struct Asking {
    client: Option<GroupLag>,
    known: BTreeMap<i32, u64>,
    not_before: Option<Instant>,
}

impl OfGroup {
    /// Connects when it is asked for the first time.
    pub fn new(settings: GroupSettings, progress: Progress) -> Self {
        Self {
            settings,
            progress,
            asking: Mutex::default(),
        }
    }
}

impl LagSource for OfGroup {
    fn lag(&self) -> Vec<PartitionLag> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        asking.ask(&self.settings, Instant::now());
        // The own numbers are newer, and know markers of transactions from records.
        let own = self.progress.totals().lag_records;
        let mut all = asking.known.clone();
        all.extend(own);
        all.into_iter()
            .map(|(partition, records)| PartitionLag { partition, records })
            .collect()
    }
}

impl Asking {
    fn ask(&mut self, settings: &GroupSettings, now: Instant) {
        if self.not_before.is_some_and(|time| now < time) {
            return;
        }
        match self.answer(settings) {
            Ok(known) => {
                self.known = known;
                self.not_before = None;
            }
            Err(error) => {
                tracing::debug!(%error, "the dashboard does not know the lag of other instances");
                self.not_before = Some(now + RETRY_AFTER);
            }
        }
    }

    fn answer(&mut self, settings: &GroupSettings) -> Result<BTreeMap<i32, u64>, KafkaError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(GroupLag::open(
                &settings.kafka,
                &settings.group_id,
                &settings.topic,
            )?),
        };
        client.ask(ANSWER_LIMIT)
    }
}
