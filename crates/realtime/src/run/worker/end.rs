//! Stopping: whether the end of the topic is reached, and what is left to commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::GroupConsumer;
use loginlake_service::exit::ExitError;

use super::Worker;
use crate::run::exit_error;
use crate::run::members::{Output, Shared};

/// How often the group's offsets are asked for, to stop at the end.
const END_INTERVAL: Duration = Duration::from_millis(100);

impl Worker {
    /// Whether the group has committed everything that the topic held when this instance started, on every partition,
    /// whoever has it. Asked only while there is nothing to do.
    pub(super) fn is_at_end(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) -> bool {
        let idle = match &shared.output {
            Output::ExactlyOnce(transactions) => transactions.size().0 == 0,
            Output::AtLeastOnce(deliveries) => deliveries.is_idle() && self.uncommitted.is_empty(),
        };
        let known = shared.partitions();
        let here_done = known.here.iter().all(|partition| {
            let end = self
                .options
                .bounds_at_start
                .get(partition)
                .map_or(0, |(_, end)| *end);
            known.at_end.contains(partition)
                || known
                    .handled
                    .get(partition)
                    .is_some_and(|handled| *handled >= end)
        });
        // A partition may end in transaction markers, which no record's offset reaches: everything below its end is handled.
        let ends: BTreeMap<i32, i64> = known
            .here
            .iter()
            .filter(|partition| known.at_end.contains(partition))
            .filter_map(|partition| Some((*partition, self.options.bounds_at_start.get(partition)?.1)))
            .filter(|(partition, end)| known.handled.get(partition).is_none_or(|handled| handled < end))
            .collect();
        drop(known);
        if !idle || !here_done || self.end_asked.elapsed() < END_INTERVAL {
            return false;
        }
        self.end_asked = Instant::now();
        let partitions: Vec<i32> = self.options.bounds_at_start.keys().copied().collect();
        let Ok(committed) = consumer.committed(&partitions) else {
            return false;
        };
        let behind: BTreeMap<i32, i64> = ends
            .into_iter()
            .filter(|(partition, end)| committed.get(partition).copied().flatten().unwrap_or(0) < *end)
            .collect();
        if !behind.is_empty() {
            if let Err(error) = consumer.commit_sync(&behind) {
                tracing::debug!(%error, "the end of the partitions is not committed yet");
            }
            return false;
        }
        self.options
            .bounds_at_start
            .iter()
            .all(|(partition, (low, end))| {
                end <= low
                    || committed
                        .get(partition)
                        .copied()
                        .flatten()
                        .is_some_and(|next| next >= *end)
            })
    }

    /// Commits what was read, before the process ends.
    pub(super) fn drain(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        shared: &Shared,
    ) -> Result<(), ExitError> {
        if let Output::AtLeastOnce(deliveries) = &shared.output {
            deliveries.flush();
            self.take_delivered(deliveries);
            if !self.uncommitted.is_empty() {
                consumer.commit_sync(&self.uncommitted).map_err(exit_error)?;
                self.progress
                    .lock()
                    .next_offsets
                    .extend(std::mem::take(&mut self.uncommitted));
            }
            return Ok(());
        }
        match self.commit(consumer, shared) {
            // Nothing of it is visible, and its input is read again by whoever comes next.
            Err(KafkaError::AbortTransaction(text)) => {
                tracing::info!(text, "the last transaction was aborted");
                Ok(())
            }
            result => result.map_err(exit_error),
        }
    }
}
