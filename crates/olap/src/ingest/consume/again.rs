//! Records that are read again: from the table's offsets, from where the registry was away, or as a new member of the group.

use std::collections::BTreeMap;
use std::sync::Arc;

use loginlake_events::columns::SourcePosition;
use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::{GroupConsumer, PartitionListener, StartAt};
use loginlake_schemas::RegistryError;
use loginlake_service::backoff::Backoff;
use loginlake_service::exit::ExitError;

use super::Ingester;
use crate::ingest::IngestOptions;
use crate::ingest::assignment::Assignment;
use crate::setup::kafka_error;

/// How often a member whose group has given it up joins anew without a commit in between.
const MAX_JOINS: u32 = 5;

/// Joins the group.
pub(super) fn join(
    options: &IngestOptions,
    assignment: &Arc<Assignment>,
) -> Result<GroupConsumer<Assignment>, ExitError> {
    GroupConsumer::join(
        &options.kafka,
        &options.group_id,
        &options.topic,
        StartAt::ListenerOnly,
        Arc::clone(assignment),
    )
    .map_err(kafka_error)
}

impl Ingester {
    /// Discards what is buffered and reads on from the offsets of the table, for the partitions that are still here.
    pub(super) fn restart_from_table(&mut self) -> Result<(), ExitError> {
        let committed = self
            .assignment
            .with_retries(|committer| self.runtime.block_on(committer.reload_offsets()))
            .map_err(ExitError::failed)?;
        let mut filling = self.assignment.lock();
        let starts = filling.session.restart(&committed);
        drop(filling);
        let starts = starts
            .into_iter()
            .map(|(partition, next_offset)| (partition, Some(next_offset)))
            .collect();
        self.seek(&starts)
    }

    /// A member that the group has given up for good (librdkafka with the newer protocol after `max.poll.interval.ms`,
    /// confluentinc/librdkafka#5541) becomes a new one. Nothing of what it had buffered is kept: it is read again.
    pub(super) fn join_anew(&mut self, error: KafkaError) -> Result<(), ExitError> {
        if self.joined_anew >= MAX_JOINS {
            return Err(kafka_error(error));
        }
        self.joined_anew += 1;
        tracing::warn!(%error, attempt = self.joined_anew, "not a member of the group any more: joining it anew");
        self.kafka_health.not_ready(error.to_string());
        self.metrics.retries.inc();
        let consumer = join(&self.options, &self.assignment)?;
        drop(std::mem::replace(&mut self.consumer, consumer));
        let here = self.assignment.lock().session.offsets().partitions();
        self.assignment.revoked(&here, true);
        self.paused.clear();
        Ok(())
    }

    /// Waits a moment for the schema registry. The record is read again after it: its offset was not taken, so nothing of
    /// its partition may be read before it.
    pub(super) fn wait_for_registry(
        &mut self,
        error: &RegistryError,
        position: SourcePosition,
    ) -> Result<(), ExitError> {
        let start = BTreeMap::from([(position.kafka_partition, Some(position.kafka_offset))]);
        self.seek(&start)?;
        if let Some(decoder) = &mut self.decoder {
            self.shutdown.wait_timeout(decoder.pause_after(error));
        }
        Ok(())
    }

    /// Reads on from these offsets, once librdkafka can.
    fn seek(&self, starts: &BTreeMap<i32, Option<i64>>) -> Result<(), ExitError> {
        let mut backoff = Backoff::default();
        loop {
            match self.consumer.seek(starts) {
                Err(error) if error.is_retriable() && !self.shutdown.is_requested() => {
                    tracing::warn!(%error, "cannot seek yet");
                    self.kafka_health.not_ready(error.to_string());
                    self.metrics.retries.inc();
                    self.shutdown.wait_timeout(backoff.next_delay());
                }
                result => return result.map_err(kafka_error),
            }
        }
    }
}
