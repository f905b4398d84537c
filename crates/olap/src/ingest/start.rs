//! What has to be clear before the first record is read: which topic this is, whether it still holds what the table needs
//! next, which gaps the operator accepts, and between which offsets a bounded run reads.

use std::collections::BTreeMap;

use loginlake_kafka::topics::Topics;
use loginlake_lake::LakeError;
use loginlake_lake::ingest::{Committer, Pipeline, TopicBounds};
use loginlake_service::exit::ExitError;
use tokio::runtime::Handle;

use super::IngestOptions;
use crate::setup::{kafka_error, lake_error};

/// What a topic without an id is called.
pub(crate) const NO_TOPIC_ID: &str = "unknown";

/// Offsets and bounds are looked at again so often when others move them meanwhile.
const LOOKS: u32 = 3;

pub(super) struct Start {
    pub topics: Topics,
    pub committer: Committer,
    /// The topic's id, if it can be asked for again.
    pub topic_id: Option<String>,
    /// Where each partition begins that the table does not know; empty: at its oldest record.
    pub begins: BTreeMap<i32, i64>,
    /// Where a bounded run ends in each partition; empty: nowhere.
    pub limits: BTreeMap<i32, i64>,
    /// First and last offset of each partition that `--exit-at-end` waits for.
    pub bounds: TopicBounds,
}

impl Start {
    pub fn of(options: &IngestOptions, runtime: &Handle) -> Result<Self, ExitError> {
        let topics = Topics::connect(&options.kafka).map_err(kafka_error)?;
        topics.describe(&options.topic).map_err(kafka_error)?;
        let topic_id = match options.incarnation {
            Some(_) => None,
            None => topics.topic_id(&options.topic),
        };
        let incarnation = options.incarnation.clone().or_else(|| topic_id.clone());
        let pipeline = Pipeline::new(
            &options.topic,
            incarnation.unwrap_or_else(|| NO_TOPIC_ID.to_owned()),
        );
        let mut committer = runtime
            .block_on(async {
                options.lake.check().await?;
                Committer::open_any(&options.lake, options.partition_by, options.only_date, pipeline).await
            })
            .map_err(lake_error)?;
        let mut bounds = check(options, runtime, &topics, &mut committer)?;

        let mut begins = BTreeMap::new();
        if let Some(from_ms) = options.range.from_ms {
            refuse_other_beginning(options, &committer, from_ms)?;
            begins = topics.offsets_at(&options.topic, from_ms).map_err(kafka_error)?;
            for (partition, begin) in &begins {
                if let Some((low, _)) = bounds.get_mut(partition) {
                    *low = *begin;
                }
            }
        }
        let mut limits = BTreeMap::new();
        if let Some(until_ms) = options.range.until_ms {
            limits = topics.offsets_at(&options.topic, until_ms).map_err(kafka_error)?;
            for (partition, limit) in &limits {
                if let Some((_, high)) = bounds.get_mut(partition) {
                    *high = (*high).min(*limit);
                }
            }
        }
        Ok(Self {
            topics,
            committer,
            topic_id,
            begins,
            limits,
            bounds,
        })
    }
}

/// Accepts the gaps that the operator names; then the topic has to hold what the table needs next. The topic is looked at
/// *after* the table, so that what others commit meanwhile is in its bounds.
fn check(
    options: &IngestOptions,
    runtime: &Handle,
    topics: &Topics,
    committer: &mut Committer,
) -> Result<TopicBounds, ExitError> {
    let mut bounds = topics.bounds(&options.topic).map_err(kafka_error)?;
    let accepted = &options.gaps;
    if !accepted.gaps.is_empty() {
        let version = runtime
            .block_on(committer.accept_gaps(&accepted.gaps, &bounds, &accepted.who))
            .map_err(lake_error)?;
        for gap in &accepted.gaps {
            tracing::warn!(
                version,
                partition = gap.kafka_partition,
                from = gap.from,
                to = gap.to,
                who = accepted.who,
                "gap accepted: these records will never be in the table"
            );
        }
    }
    for look in 1.. {
        match committer.check_topic(&bounds) {
            Ok(()) => break,
            Err(LakeError::DataLossRefused(text)) if look == LOOKS => return Err(ExitError::refused(text)),
            Err(LakeError::DataLossRefused(_)) => {
                runtime.block_on(committer.reload_offsets()).map_err(lake_error)?;
                bounds = topics.bounds(&options.topic).map_err(kafka_error)?;
            }
            Err(error) => return Err(lake_error(error)),
        }
    }
    Ok(bounds)
}

/// `--from-timestamp` is for a lake that has nothing of the topic, or that was begun with the same time.
fn refuse_other_beginning(
    options: &IngestOptions,
    committer: &Committer,
    from_ms: i64,
) -> Result<(), ExitError> {
    if committer.offsets().is_empty() || committer.begins_at_ms() == Some(from_ms) {
        return Ok(());
    }
    let begun = match committer.begins_at_ms() {
        None => "at its oldest records".to_owned(),
        Some(ms) => format!("at --from-timestamp {}", time_text(ms)),
    };
    Err(ExitError::refused(format!(
        "--from-timestamp {}: the lake {} has offsets of topic {} already, begun {begun}, and records before them would be \
         twice in it or never",
        time_text(from_ms),
        options.lake.uri(),
        options.topic
    ))
    .with_hint("leave --from-timestamp off to go on from the table's offsets, or choose another --lake and --group-id"))
}

fn time_text(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms).map_or_else(
        || format!("{ms} ms"),
        |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
    )
}
