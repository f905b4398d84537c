//! Reads and publishes until there is nothing more for now, or the transaction is full.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use loginlake_kafka::KafkaError;
use loginlake_kafka::consumer::{GroupConsumer, Polled};
use loginlake_kafka::producer::RefusedRecord;
use loginlake_kafka::rdkafka::Message;

use super::{DELIVERY_TICK, TICK, Worker, now_ms};
use crate::run::hold::hold;
use crate::run::members::{Output, Shared};
use crate::run::metrics::{Abort, Counted};
use crate::run::transform::Outcome;

/// Records between two looks at clock and size.
const RECORDS_PER_CHECK: u64 = 64;
/// Records between two looks at deliveries, at least once.
const BATCH_READ: u64 = 4_096;

impl Worker {
    /// Reads and publishes until there is nothing more to put into the transaction, or it is full.
    pub(super) fn fill(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        shared: &Shared,
    ) -> Result<(), KafkaError> {
        self.registry_away = None;
        let mut read = 0_u64;
        loop {
            match &shared.output {
                Output::ExactlyOnce(transactions) if read.is_multiple_of(RECORDS_PER_CHECK) => {
                    let (records, age) = transactions.size();
                    if records >= self.size.limit() || age >= self.options.transaction_max_age {
                        return Ok(());
                    }
                    transactions.prepare(|| consumer.group_metadata())?;
                }
                Output::AtLeastOnce(_) if read >= BATCH_READ => return Ok(()),
                _ => {}
            }
            if read > 0 && self.refusals.has_suspects() {
                return Ok(());
            }
            if let Err(wait) = self.pace.take(Instant::now) {
                // What is open is committed before the wait.
                if read == 0 {
                    self.wait_for_rate(consumer, shared, wait)?;
                }
                return Ok(());
            }
            let timeout = match &shared.output {
                _ if read > 0 => Duration::ZERO,
                Output::AtLeastOnce(deliveries) if !deliveries.is_idle() => DELIVERY_TICK,
                _ => TICK,
            };
            let polled = consumer.poll(timeout)?;
            if let Output::ExactlyOnce(transactions) = &shared.output
                && transactions.take_rewind()
            {
                self.aborted(Abort::Rebalance);
                return Err(KafkaError::AbortTransaction("partitions were revoked".to_owned()));
            }
            if !matches!(polled, Polled::Record(_)) {
                self.pace.give_back();
            }
            match polled {
                Polled::Record(message) => {
                    if read.is_multiple_of(RECORDS_PER_CHECK) {
                        self.clock_ms = now_ms();
                    }
                    if !self.publish(&message, shared)? {
                        return Ok(());
                    }
                    read += 1;
                }
                Polled::EndOfPartition(partition) => {
                    shared.at_end(
                        partition,
                        consumer.known_watermarks(partition).map(|(_, end)| end),
                    );
                }
                Polled::Nothing => {
                    if let Some(decoder) = &mut self.decoder {
                        decoder.idle(Instant::now());
                    }
                    if let Output::AtLeastOnce(deliveries) = &shared.output
                        && read > 0
                    {
                        deliveries.push();
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Waits when the schema registry could not be asked; what was read before is committed by now. Then the record is
    /// read again, and nothing of its partition before it.
    pub(super) fn wait_for_registry(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        shared: &Shared,
    ) -> Result<(), KafkaError> {
        let Some(((partition, offset), error)) = self.registry_away.take() else {
            return Ok(());
        };
        consumer.seek(&BTreeMap::from([(partition, Some(offset))]))?;
        let pause = self.decoder.as_mut().map(|decoder| decoder.pause_after(&error));
        hold(
            consumer,
            shared,
            &self.shutdown,
            &self.health,
            pause.unwrap_or_default(),
        )
    }

    fn wait_for_rate(
        &mut self,
        consumer: &GroupConsumer<Shared>,
        shared: &Shared,
        wait: Duration,
    ) -> Result<(), KafkaError> {
        // Deliveries under way are looked at in between.
        let wait = match &shared.output {
            Output::AtLeastOnce(deliveries) if !deliveries.is_idle() => wait.min(DELIVERY_TICK),
            _ => wait,
        };
        let started = Instant::now();
        let result = hold(consumer, shared, &self.shutdown, &self.health, wait);
        self.metrics.rate_limited(started.elapsed());
        result
    }

    /// Transforms and publishes one record. False: asked to stop while there was no room.
    fn publish(
        &mut self,
        message: &loginlake_kafka::rdkafka::message::BorrowedMessage<'_>,
        shared: &Shared,
    ) -> Result<bool, KafkaError> {
        let position = (message.partition(), message.offset());
        let json = match loginlake_schemas::json_of(self.decoder.as_mut(), message.payload()) {
            Ok(json) => json,
            Err(error) => {
                self.pace.give_back();
                self.registry_away = Some((position, error));
                return Ok(false);
            }
        };
        let mut next = shared.output.next()?;
        let refused = self.refusals.reason(position);
        let shutdown = &self.shutdown;
        let timestamp_ms = message.timestamp().to_millis();
        let counted = Counted {
            partition: position.0,
            kafka_ms: timestamp_ms,
            bytes: message.payload_len() + message.key_len(),
        };
        let insights = &mut self.insights;
        let outcome = self.transform.apply(
            message,
            json,
            self.clock_ms,
            refused,
            |outgoing| next.publish(outgoing, shutdown),
            |event| {
                if let Some((_, insights)) = insights {
                    insights.record(event, timestamp_ms);
                }
            },
        );
        let outcome = match outcome {
            Ok(outcome) => outcome,
            // Refused before it was sent: larger than the producer's own limit.
            Err(KafkaError::RecordRefused(error)) => {
                self.refusals.note(
                    vec![RefusedRecord {
                        kafka_partition: position.0,
                        kafka_offset: position.1,
                        error,
                    }],
                    true,
                );
                self.abort = Abort::Refused;
                return Err(KafkaError::AbortTransaction("a record was refused".to_owned()));
            }
            Err(error) if error.is_retriable() && self.shutdown.is_requested() => return Ok(false),
            Err(error) => return Err(error),
        };
        if let Some((_, insights)) = &mut self.insights {
            match outcome {
                Outcome::Processed { .. } => {}
                Outcome::Rejected(reason) => insights.record_rejected(reason),
                Outcome::OutputRefused => insights.record_output_refused(),
                Outcome::Filtered => insights.record_filtered(),
            }
        }
        let trace = self.transform.take_trace();
        next.handled(position.0, position.1 + 1, |pending| {
            pending.count(outcome, counted);
            if let Some(trace) = trace {
                pending.traces.push(trace);
            }
        });
        Ok(true)
    }
}
