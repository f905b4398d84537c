//! Makes what was published count: the transaction, or the offsets of what is delivered.

use std::time::{Duration, Instant};

use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::GroupConsumer;

use super::{DELIVERY_TICK, Worker, now_ms};
use crate::run::at_least_once::Deliveries;
use crate::run::exactly_once::Commit;
use crate::run::members::{Output, Shared};
use crate::run::metrics::Abort;

/// After how long without a commit it is looked at whether the last ones arrived, at least once.
const COMMIT_CHECK: Duration = Duration::from_secs(1);
/// How often offsets are committed under load, at least once.
const OFFSET_COMMIT_INTERVAL: Duration = Duration::from_millis(200);

impl Worker {
    pub(super) fn commit(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        shared: &Shared,
    ) -> Result<(), KafkaError> {
        match &shared.output {
            Output::ExactlyOnce(transactions) => {
                match transactions.commit() {
                    None => Ok(()),
                    Some(Commit::Done {
                        next_offsets,
                        pending,
                    }) => {
                        self.metrics.count_commit(&pending, now_ms());
                        pending
                            .traces
                            .tell(&self.options.topics.output, &self.options.topics.dead_letter);
                        self.watch.handled(pending.newest_ms());
                        self.stall.committed();
                        self.size.committed(pending.records(), pending.times().1);
                        if let Some((_, insights)) = &mut self.insights {
                            insights.commit(now_ms());
                        }
                        shared.partitions().handled.extend(&next_offsets);
                        let mut totals = self.progress.lock();
                        totals.processed += pending.processed;
                        totals.dead_letters += pending.dead_letters();
                        totals.filtered += pending.filtered;
                        totals.next_offsets.extend(next_offsets);
                        Ok(())
                    }
                    Some(Commit::Aborted {
                        error,
                        refused,
                        records,
                    }) => {
                        self.aborted(if refused.is_empty() {
                            Abort::Failure
                        } else {
                            Abort::Refused
                        });
                        self.refusals.note(refused, records == 1);
                        if error.is_retriable() {
                            self.size.failed(records);
                        }
                        match error {
                            // Fenced by the group, or for a reason without a class: settled by reading again.
                            KafkaError::Failed(text) => Err(KafkaError::AbortTransaction(text)),
                            error => Err(error),
                        }
                    }
                }
            }
            Output::AtLeastOnce(deliveries) => {
                deliveries.close();
                let alone = self.refusals.has_suspects();
                if alone {
                    deliveries.flush();
                }
                let refused = deliveries.take_refused();
                if !refused.is_empty() {
                    self.refusals.note(refused, alone);
                    self.aborted(Abort::Refused);
                    return Err(KafkaError::AbortTransaction(
                        "the output topic refused a record".to_owned(),
                    ));
                }
                if let Some(error) = deliveries.take_failure() {
                    return Err(error);
                }
                self.take_delivered(deliveries);
                self.look_at_commits(consumer, shared, deliveries);
                let here = shared.partitions().here.clone();
                self.uncommitted.retain(|partition, _| here.contains(partition));
                let due = self.offsets_committed.elapsed() >= OFFSET_COMMIT_INTERVAL || deliveries.is_idle();
                if due && !self.uncommitted.is_empty() {
                    consumer.commit_async(&self.uncommitted)?;
                    shared.partitions().handled.extend(&self.uncommitted);
                    self.progress
                        .lock()
                        .next_offsets
                        .extend(std::mem::take(&mut self.uncommitted));
                    self.offsets_committed = Instant::now();
                    self.commits_are_sure = false;
                }
                // No more numbers for batches: wait until the oldest is delivered.
                while deliveries.is_full() && !self.shutdown.is_requested() {
                    std::thread::park_timeout(DELIVERY_TICK);
                    self.take_delivered(deliveries);
                }
                Ok(())
            }
        }
    }

    /// Offsets are committed without waiting, and librdkafka does not tell the caller when the coordinator refuses them, as it
    /// does during a rebalance, of partitions that stay, too. Under load the next ones make up for it; before a worker has
    /// nothing to do, what arrived is asked for, and committed again where it did not.
    fn look_at_commits(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        shared: &Shared,
        deliveries: &Deliveries,
    ) {
        let idle = deliveries.is_idle() && self.uncommitted.is_empty();
        if self.commits_are_sure || !idle || self.offsets_committed.elapsed() < COMMIT_CHECK {
            return;
        }
        let handled = shared.partitions().handled.clone();
        let partitions: Vec<i32> = handled.keys().copied().collect();
        if partitions.is_empty() {
            self.commits_are_sure = true;
            return;
        }
        match consumer.committed(&partitions) {
            Ok(committed) => {
                self.commits_are_sure = true;
                self.uncommitted
                    .extend(handled.into_iter().filter(|(partition, next_offset)| {
                        committed.get(partition).copied().flatten() < Some(*next_offset)
                    }));
            }
            Err(error) => {
                tracing::debug!(%error, "cannot see yet which offsets are committed");
                self.offsets_committed = Instant::now();
            }
        }
    }

    pub(super) fn take_delivered(&mut self, deliveries: &Deliveries) {
        let Some(delivered) = deliveries.take_delivered() else {
            return;
        };
        self.refusals.settle(&delivered.next_offsets);
        self.uncommitted.extend(delivered.next_offsets);
        let mut totals = self.progress.lock();
        // Insights do not tell batches apart: what is still under way counts a moment before it is delivered.
        if let Some((_, insights)) = &mut self.insights {
            insights.commit(now_ms());
        }
        self.stall.committed();
        for pending in &delivered.batches {
            self.metrics.count_commit(pending, now_ms());
            pending
                .traces
                .tell(&self.options.topics.output, &self.options.topics.dead_letter);
            self.watch.handled(pending.newest_ms());
            totals.processed += pending.processed;
            totals.dead_letters += pending.dead_letters();
            totals.filtered += pending.filtered;
        }
    }
}
