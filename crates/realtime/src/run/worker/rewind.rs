//! Drops what is open and reads on from the committed offsets.

use std::time::Duration;

use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::GroupConsumer;
use loginlake_service::backoff::Backoff;
use loginlake_service::exit::ExitError;

use super::Worker;
use crate::run::exit_error;
use crate::run::members::{Output, Shared};
use crate::run::metrics::Retry;

impl Worker {
    /// Drops what is open and reads on from the committed offsets.
    pub(super) fn rewind(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        shared: &Shared,
    ) -> Result<(), ExitError> {
        let mut backoff = Backoff::default();
        loop {
            match self.try_rewind(consumer, shared) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    let Some(retry) = self.waits_for(&error, Retry::Offsets) else {
                        return Err(exit_error(error));
                    };
                    tracing::warn!(%error, "cannot read the committed offsets yet");
                    self.health.not_ready(error.to_string());
                    self.metrics.retried(retry);
                    if self.shutdown.wait_timeout(backoff.next_delay()) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn try_rewind(&mut self, consumer: &GroupConsumer<Shared>, shared: &Shared) -> Result<(), KafkaError> {
        if let Some((_, insights)) = &mut self.insights {
            insights.rollback();
        }
        match &shared.output {
            Output::ExactlyOnce(transactions) => {
                if transactions.is_open() {
                    self.metrics.aborted(self.abort);
                }
                let refused = transactions.abort(Duration::from_secs(5));
                transactions.take_rewind();
                self.refusals.note(refused, false);
                // A new producer has to settle what an old one left before the committed offsets are true.
                transactions.ensure_producers()?;
            }
            Output::AtLeastOnce(deliveries) => {
                deliveries.forget()?;
                // Refused meanwhile, in the batches of before: none of them was alone.
                self.refusals.note(deliveries.take_refused(), false);
                self.uncommitted.clear();
            }
        }
        let mut partitions: Vec<i32> = shared.partitions().here.iter().copied().collect();
        // The consumer itself seeks those that wait for a transaction of somebody else.
        partitions.retain(|partition| !consumer.awaits_offset(*partition));
        if partitions.is_empty() {
            return Ok(());
        }
        let committed = consumer.committed(&partitions)?;
        consumer.seek(&committed)?;
        let mut known = shared.partitions();
        for partition in &partitions {
            known.at_end.remove(partition);
            known.handled.remove(partition);
            known.read_to.remove(partition);
        }
        Ok(())
    }
}
