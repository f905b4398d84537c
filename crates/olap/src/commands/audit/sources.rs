//! The topics of an audit, and between which offsets they are read.
//!
//! In this order, so that what is compared belongs together: the tables (by the caller), the group's offsets, the ends of the
//! output topics, the ends of the input.

use std::time::Duration;

use loginlake_kafka::range::{Decided, RangeReader, committed_by, decided};
use loginlake_kafka::topics::{Incarnation, Topics};
use loginlake_kafka::{KafkaError, KafkaSettings};
use loginlake_lake::audit::{Audit, OutputFacts, SpeedPath, TopicFacts};
use loginlake_lake::ingest::Pipeline;
use loginlake_olap::setup::kafka_error;
use loginlake_service::exit::ExitError;

/// How long a transaction of the speed path may be open.
const DECIDED_LIMIT: Duration = Duration::from_secs(60);
/// The incarnation of a topic without an id.
const NO_TOPIC_ID: &str = loginlake_lake::ingest::commit::EMBEDDED;

/// What the speed path is asked for.
pub struct AskedSpeedPath {
    /// The cluster of the output topics.
    pub kafka: KafkaSettings,
    /// Enriched logins.
    pub output_topic: String,
    /// Rejected records.
    pub dead_letter_topic: String,
    /// Its consumer group.
    pub group: String,
    /// It holds records back.
    pub filtered: bool,
    /// It repeats records after a crash.
    pub at_least_once: bool,
}

/// The topics to compare with.
pub struct Sources {
    /// The cluster of the input.
    pub kafka: KafkaSettings,
    /// The input topic.
    pub input: String,
    /// What is known of it.
    pub facts: TopicFacts,
    /// The output topics and what is known of them, when they were named.
    pub speed_path: Option<SpeedPath>,
    /// Their names.
    pub asked: Option<AskedSpeedPath>,
}

impl Sources {
    /// Asks the brokers.
    ///
    /// # Errors
    /// No broker answered, refused, or no such topic.
    pub fn open(
        kafka: KafkaSettings,
        input: &str,
        asked: Option<AskedSpeedPath>,
        audit: &Audit,
    ) -> Result<Self, ExitError> {
        let reader = RangeReader::connect(&kafka, input).map_err(kafka_error)?;
        let partitions: Vec<i32> = reader.bounds().map_err(kafka_error)?.into_keys().collect();
        let speed_path = match &asked {
            Some(asked) => Some(open_speed_path(&kafka, input, &partitions, asked).map_err(kafka_error)?),
            None => None,
        };
        let bounds = reader.bounds().map_err(kafka_error)?;
        let incarnation = match reader.incarnation() {
            Incarnation::Id(id) => id,
            Incarnation::Unknown => NO_TOPIC_ID.to_owned(),
            Incarnation::Gone => {
                return Err(ExitError::refused(format!(
                    "topic {input} was deleted while it was asked for its offsets"
                )));
            }
        };
        let pipeline = Pipeline::new(input, incarnation);
        let topics = Topics::connect(&kafka).map_err(kafka_error)?;
        let begins = match audit.begins_at_ms(&pipeline) {
            Some(begins_at_ms) => topics.offsets_at(input, begins_at_ms).map_err(kafka_error)?,
            None => Default::default(),
        };
        let facts = TopicFacts {
            pipeline,
            bounds,
            compacted: topics.is_compacted(input).unwrap_or(false),
            begins,
        };
        Ok(Self {
            kafka,
            input: input.to_owned(),
            facts,
            speed_path,
            asked,
        })
    }
}

fn open_speed_path(
    kafka: &KafkaSettings,
    input: &str,
    partitions: &[i32],
    asked: &AskedSpeedPath,
) -> Result<SpeedPath, KafkaError> {
    // Before the ends: what the group has committed is published below them.
    let committed = match committed_by(kafka, &asked.group, input, partitions) {
        Ok(committed) => committed,
        Err(error) => {
            tracing::warn!(group = asked.group, %error, "the group's offsets are not known: the last records of the speed path are not judged");
            Default::default()
        }
    };
    let names = [asked.output_topic.as_str(), asked.dead_letter_topic.as_str()];
    let ends = decided(&asked.kafka, &names, DECIDED_LIMIT)?;
    let topics = Topics::connect(&asked.kafka)?;
    let mut facts = names
        .into_iter()
        .zip(ends)
        .map(|(topic, ends): (_, Decided)| OutputFacts {
            bounds: ends.bounds,
            before: ends.before,
            compacted: topics.is_compacted(topic).unwrap_or(false),
        });
    Ok(SpeedPath {
        processed: facts.next().unwrap_or_default(),
        dead_letters: facts.next().unwrap_or_default(),
        committed,
        filtered: asked.filtered,
        at_least_once: asked.at_least_once,
    })
}
