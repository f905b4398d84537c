//! The fresh answer (`olap query --fresh`): a table's newest version, and exactly the records of the topic that it does not
//! hold.
//!
//! 1. The newest version V of the tables is loaded and pinned; o is its next offset of each Kafka partition.
//! 2. Then, and only then, h is asked for: the last stable offset of each partition.
//! 3. Refused, if the topic is another incarnation, or does not hold `[o, h)` any more.
//! 4. `[o, h)` is read through the same contract as ingestion uses (`tail`); the rows of the answer are V and those.
//!
//! What is committed to the table meanwhile is not in V and is read from Kafka: nothing is missed, nothing is there twice.
//! `rejected` is committed before `logins` and has offsets of its own: its rest begins where it ends, if that is later.
//! What the answer stands for is its [`receipt`], by which it can be asked again.
//!
//! - `start`: which records are missing, or why that cannot be said (pure);
//! - `tail`: reads and decodes them, in parallel, while the query runs;
//! - `rows`: which of them a query needs, and the rows that it needs of them.

pub mod receipt;
mod rows;
mod start;
mod tail;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use chrono::{DateTime, Utc};
use loginlake_events::Contract;
use loginlake_kafka::KafkaSettings;
use loginlake_kafka::range::RangeReader;
use loginlake_kafka::topics::{Incarnation, Topics};
use loginlake_lake::ingest::{OffsetRange, Pipeline, TopicBounds};
use loginlake_lake::{Lake, TableName, TableSnapshot};
use loginlake_query::{FreshView, View};
use loginlake_schemas::Schemas;
use loginlake_service::config::ResolvedSchemaRegistry;
use loginlake_service::exit::ExitError;
use loginlake_service::health::Health;
use loginlake_service::metrics::Metrics;

use crate::ingest::NO_TOPIC_ID;
use crate::setup::{kafka_error, lake_error};
pub use rows::TailRows;
pub use tail::KafkaTail;

/// Clients that wait for the next question. Further ones are closed.
const MAX_IDLE_READERS: usize = 8;

/// Where the records come from, and how they are judged; as `olap ingest` has it. Can be asked any number of times.
#[derive(Debug)]
pub struct FreshSource {
    kafka: KafkaSettings,
    topic: String,
    contract: Contract,
    schemas: Option<Schemas>,
    idle: Mutex<IdleReaders>,
}

#[derive(Default)]
struct IdleReaders(Vec<RangeReader>);

impl std::fmt::Debug for IdleReaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} idle readers", self.0.len())
    }
}

/// Which records an answer has beside its tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FreshPosition {
    /// The topic.
    pub topic: String,
    /// Its id.
    pub incarnation: String,
    /// `[o, h)` of each Kafka partition: from the table's next offset to the last stable one.
    pub partitions: BTreeMap<i32, OffsetRange>,
    /// When it was asked, epoch milliseconds: the `processed_timestamp` of these rows.
    pub asked_at_ms: i64,
}

/// A state of the lake with the rest of the topic.
#[derive(Debug)]
pub struct Fresh {
    /// For the query engine.
    pub view: View,
    /// Which records it adds.
    pub position: FreshPosition,
    /// What was read of them.
    pub tail: Arc<KafkaTail>,
}

impl FreshSource {
    /// Sets up where to read. Nothing is asked yet. Not to be called within an async task.
    ///
    /// # Errors
    /// A usage error: the settings of the schema registry cannot work.
    pub fn new(
        kafka: KafkaSettings,
        topic: String,
        contract: Contract,
        registry: Option<&ResolvedSchemaRegistry>,
    ) -> Result<Arc<Self>, ExitError> {
        let schemas = match registry {
            Some(settings) => Some(Schemas::new(settings, &Health::new(), &Metrics::new("query"))?),
            None => None,
        };
        Ok(Arc::new(Self {
            kafka,
            topic,
            contract,
            schemas,
            idle: Mutex::default(),
        }))
    }

    /// The newest state, for a question that names these tables.
    ///
    /// # Errors
    /// Code 3 when records that the table does not hold are gone from the topic, or the topic is another one; 2 when a table
    /// is named that is never fresh; 1 when the lake or Kafka does not answer.
    pub async fn newest(
        self: &Arc<Self>,
        lake: &Lake,
        tables: &BTreeSet<TableName>,
    ) -> Result<Fresh, ExitError> {
        if tables.contains(&TableName::LoginsHourly) && tables.len() < TableName::ALL.len() {
            return Err(ExitError::usage(
                "--fresh: logins_hourly is only as new as its last refresh; ask logins, or leave --fresh off",
            ));
        }
        let asked_at_ms = Utc::now().timestamp_millis();
        // The clients connect while the log of the table is read; what they answer now does not count.
        let connecting = {
            let source = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                let reader = source.take_reader()?;
                let bounds = reader.bounds();
                source.give_back(reader);
                bounds.map(drop)
            })
        };
        let mut versions = BTreeMap::from([(TableName::Logins, None)]);
        if tables.contains(&TableName::Rejected) {
            versions.insert(TableName::Rejected, None);
        }
        let began = Instant::now();
        let snapshots = self.snapshots(lake, &versions).await?;
        let loaded = began.elapsed();
        joined(connecting.await)?.map_err(kafka_error)?;
        let connected = began.elapsed();
        // Only now: whatever anybody has committed so far is below these ends.
        let (bounds, incarnation) = self.topic_now().await?;
        tracing::debug!(?loaded, ?connected, asked = ?began.elapsed(), "tables loaded, and the ends of the topic asked for");
        let pipeline = Pipeline::new(&self.topic, incarnation.clone());
        let logins = logins_of(&snapshots, lake)?;
        let begins = self.begins(&pipeline, logins, &bounds).await?;
        let partitions =
            start::missing(&pipeline, logins, &begins, &bounds).map_err(|error| error.into_exit())?;
        let position = FreshPosition {
            topic: self.topic.clone(),
            incarnation,
            partitions,
            asked_at_ms,
        };
        self.fresh(snapshots, position)
    }

    /// The state of an earlier answer: these versions, and the same records.
    ///
    /// # Errors
    /// Code 3 when the records are gone from the topic, or the topic is another one; 1 when the lake or Kafka does not answer.
    pub async fn again(
        self: &Arc<Self>,
        lake: &Lake,
        versions: &BTreeMap<TableName, Option<i64>>,
        position: FreshPosition,
    ) -> Result<Fresh, ExitError> {
        if position.topic != self.topic {
            return Err(ExitError::usage(format!(
                "the receipt is of topic {}, not of {}: name it with --input-topic",
                position.topic, self.topic
            )));
        }
        let snapshots = self.snapshots(lake, versions).await?;
        logins_of(&snapshots, lake)?;
        if position.partitions.values().any(|range| range.from < range.to) {
            let (bounds, incarnation) = self.topic_now().await?;
            start::still_there(&position, &incarnation, &bounds).map_err(|error| error.into_exit())?;
        }
        self.fresh(snapshots, position)
    }

    fn fresh(
        self: &Arc<Self>,
        snapshots: BTreeMap<TableName, Option<TableSnapshot>>,
        position: FreshPosition,
    ) -> Result<Fresh, ExitError> {
        let pipeline = Pipeline::new(&self.topic, position.incarnation.clone());
        let mut ranges = BTreeMap::from([(TableName::Logins, position.partitions.clone())]);
        if let Some(rejected) = snapshots.get(&TableName::Rejected) {
            let held = rejected
                .as_ref()
                .map(|snapshot| pipeline.offsets(&snapshot.transactions))
                .unwrap_or_default();
            let rest = start::rest_of_rejected(&position, &held).map_err(|error| error.into_exit())?;
            ranges.insert(TableName::Rejected, rest);
        }
        let tail = Arc::new(KafkaTail::new(Arc::clone(self), &position, &ranges));
        let view = View::Fresh(FreshView {
            snapshots,
            tail: Arc::clone(&tail) as _,
        });
        Ok(Fresh { view, position, tail })
    }

    async fn snapshots(
        &self,
        lake: &Lake,
        versions: &BTreeMap<TableName, Option<i64>>,
    ) -> Result<BTreeMap<TableName, Option<TableSnapshot>>, ExitError> {
        let mut snapshots = BTreeMap::new();
        for (table, version) in versions {
            let snapshot = lake.snapshot(*table, *version).await.map_err(lake_error)?;
            snapshots.insert(*table, snapshot);
        }
        Ok(snapshots)
    }

    /// First and last stable offsets of the topic, and its id, which is asked last: ids never come back, so the offsets are
    /// this one's.
    async fn topic_now(self: &Arc<Self>) -> Result<(TopicBounds, String), ExitError> {
        let source = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || {
            let reader = source.take_reader()?;
            let bounds = reader.bounds()?;
            let incarnation = reader.incarnation();
            source.give_back(reader);
            Ok((bounds, incarnation))
        });
        let (bounds, incarnation) = joined(asked.await)?.map_err(kafka_error)?;
        match incarnation {
            Incarnation::Id(id) => Ok((bounds, id)),
            Incarnation::Unknown => Ok((bounds, NO_TOPIC_ID.to_owned())),
            Incarnation::Gone => Err(ExitError::refused(format!(
                "topic {} was deleted while it was asked for its offsets",
                self.topic
            ))),
        }
    }

    /// Where partitions begin that the table does not know: at their oldest record, or at the time at which the lake begins.
    async fn begins(
        &self,
        pipeline: &Pipeline,
        logins: &TableSnapshot,
        bounds: &TopicBounds,
    ) -> Result<BTreeMap<i32, i64>, ExitError> {
        let known = pipeline.offsets(&logins.transactions);
        let unknown = bounds
            .iter()
            .filter(|(partition, _)| !known.contains_key(*partition));
        let mut begins: BTreeMap<i32, i64> =
            unknown.map(|(partition, (low, _))| (*partition, *low)).collect();
        let begins_at_ms = pipeline.begins_at_ms(&logins.transactions);
        if let Some(begins_at_ms) = begins_at_ms.filter(|_| !begins.is_empty()) {
            let (settings, topic) = (self.kafka.clone(), self.topic.clone());
            let asked = tokio::task::spawn_blocking(move || {
                Topics::connect(&settings)?.offsets_at(&topic, begins_at_ms)
            });
            let offsets = joined(asked.await)?.map_err(kafka_error)?;
            for (partition, begin) in &mut begins {
                if let Some(offset) = offsets.get(partition) {
                    *begin = *offset;
                }
            }
        }
        Ok(begins)
    }

    fn take_reader(&self) -> Result<RangeReader, loginlake_kafka::KafkaError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).0.pop();
        match idle {
            Some(reader) => Ok(reader),
            None => RangeReader::connect(&self.kafka, &self.topic),
        }
    }

    fn give_back(&self, reader: RangeReader) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.0.len() < MAX_IDLE_READERS {
            idle.0.push(reader);
        }
    }
}

fn logins_of<'a>(
    snapshots: &'a BTreeMap<TableName, Option<TableSnapshot>>,
    lake: &Lake,
) -> Result<&'a TableSnapshot, ExitError> {
    let logins = snapshots.get(&TableName::Logins).and_then(Option::as_ref);
    logins.ok_or_else(|| {
        ExitError::failed(format!(
            "--fresh: the lake {} has no table logins: fill it with `olap ingest`, or name another one with --lake",
            lake.uri()
        ))
    })
}

fn joined<T>(result: Result<T, tokio::task::JoinError>) -> Result<T, ExitError> {
    result.map_err(|error| ExitError::failed(format!("a thread that asked Kafka ended: {error}")))
}

/// A time as receipts and messages show it.
pub(crate) fn time_text(ms: i64) -> String {
    DateTime::<Utc>::from_timestamp_millis(ms).map_or_else(
        || format!("{ms} ms"),
        |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
    )
}
