//! Counts of records that are not committed yet: what a commit adds to the metrics, and an abort forgets.
//!
//! On the way of every record, so nothing here searches, allocates or reads a clock for each of them.

use std::time::{Duration, Instant};

use loginlake_events::RejectReason;
use loginlake_service::delays::Delays;

use super::traces::OpenTraces;
use super::transform::Outcome;

/// An input record, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Kafka partition.
    pub partition: i32,
    /// The broker's timestamp, epoch milliseconds.
    pub kafka_ms: Option<i64>,
    /// Key and value, bytes.
    pub bytes: usize,
}

/// Counts of the records of a transaction or batch.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// Republished.
    pub processed: u64,
    /// Held back by a filter.
    pub filtered: u64,
    /// Refused by the output topic.
    pub output_refused: u64,
    /// Key and value of what was read, bytes.
    pub bytes: u64,
    rejected: [u64; RejectReason::ALL.len()],
    records: u64,
    began: Option<(Instant, i64)>,
    closed: Option<Instant>,
    /// Event time → publication, of what was republished.
    pub(super) event_delays: Delays,
    /// Broker's timestamp → publication, of republished records and dead letters.
    pub(super) publish_delays: Delays,
    /// The broker's timestamp of the last record of each partition.
    newest_ms: Vec<(i32, i64)>,
    /// The entry of the last record's partition.
    newest: usize,
    /// Records that are told of.
    pub(super) traces: OpenTraces,
}

impl Pending {
    /// Counts a record.
    pub fn count(&mut self, outcome: Outcome, record: Counted) {
        let (_, base_ms) = *self
            .began
            .get_or_insert_with(|| (Instant::now(), chrono::Utc::now().timestamp_millis()));
        self.bytes += record.bytes as u64;
        self.records += 1;
        match outcome {
            Outcome::Processed { event_time_ms } => {
                self.processed += 1;
                self.event_delays.count(base_ms, event_time_ms);
            }
            Outcome::Filtered => self.filtered += 1,
            Outcome::OutputRefused => self.output_refused += 1,
            Outcome::Rejected(reason) => self.rejected[reason as usize] += 1,
        }
        let Some(kafka_ms) = record.kafka_ms else {
            return;
        };
        if outcome != Outcome::Filtered {
            self.publish_delays.count(base_ms, kafka_ms);
        }
        match self.newest_ms.get_mut(self.newest) {
            Some((partition, newest_ms)) if *partition == record.partition => *newest_ms = kafka_ms,
            _ => self.note_newest(record.partition, kafka_ms),
        }
    }

    /// Another partition than that of the record before.
    fn note_newest(&mut self, partition: i32, kafka_ms: i64) {
        let known = self.newest_ms.iter().position(|(known, _)| *known == partition);
        self.newest = known.unwrap_or(self.newest_ms.len());
        match known {
            Some(entry) => self.newest_ms[entry].1 = kafka_ms,
            None => self.newest_ms.push((partition, kafka_ms)),
        }
    }

    /// No record is added any more: what follows is the commit.
    pub fn close(&mut self) {
        self.closed.get_or_insert_with(Instant::now);
    }

    /// How long records were added, and how long it took from then until now.
    pub(super) fn times(&self) -> (Duration, Duration) {
        let now = Instant::now();
        let closed = self.closed.unwrap_or(now);
        let began = self.began.map_or(closed, |(began, _)| began);
        (closed - began, now - closed)
    }

    /// Dead letters by reason of the contract, without those of which there are none.
    pub fn rejected(&self) -> impl Iterator<Item = (RejectReason, u64)> {
        let counts = RejectReason::ALL
            .into_iter()
            .map(|reason| (reason, self.rejected[reason as usize]));
        counts.filter(|(_, count)| *count > 0)
    }

    /// The broker's timestamp of the last record of each partition, epoch milliseconds.
    pub fn newest_ms(&self) -> &[(i32, i64)] {
        &self.newest_ms
    }

    /// All dead letters.
    pub fn dead_letters(&self) -> u64 {
        self.output_refused + self.rejected.iter().sum::<u64>()
    }

    /// All records.
    pub fn records(&self) -> u64 {
        self.records
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, kafka_ms: i64) -> Counted {
        Counted {
            partition,
            kafka_ms: Some(kafka_ms),
            bytes: 100,
        }
    }

    #[test]
    fn reasons_number_their_own_places() {
        for (place, reason) in RejectReason::ALL.into_iter().enumerate() {
            let mut pending = Pending::default();
            pending.count(Outcome::Rejected(reason), record(0, 1));
            assert_eq!(pending.rejected().collect::<Vec<_>>(), [(reason, 1)]);
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn every_record_has_one_outcome() {
        let mut pending = Pending::default();
        let outcomes = [
            Outcome::Processed { event_time_ms: 5 },
            Outcome::Processed { event_time_ms: 6 },
            Outcome::Filtered,
            Outcome::OutputRefused,
            Outcome::Rejected(RejectReason::BadIp),
        ];
        for outcome in outcomes {
            pending.count(outcome, record(0, 1));
        }
        assert_eq!(
            (pending.processed, pending.filtered, pending.output_refused),
            (2, 1, 1)
        );
        assert_eq!(
            (pending.dead_letters(), pending.records(), pending.bytes),
            (2, 5, 500)
        );
    }

    #[test]
    fn the_newest_timestamp_is_that_of_the_last_record_of_each_partition() {
        let mut pending = Pending::default();
        for (partition, kafka_ms) in [(3, 10), (3, 12), (0, 7), (3, 11), (9, 1), (0, 8)] {
            pending.count(Outcome::Filtered, record(partition, kafka_ms));
        }
        assert_eq!(pending.newest_ms(), [(3, 11), (0, 8), (9, 1)]);
    }

    #[test]
    fn filling_ends_where_the_commit_begins() {
        let mut pending = Pending::default();
        assert_eq!(pending.times(), (Duration::ZERO, Duration::ZERO));
        pending.count(Outcome::Filtered, record(0, 1));
        pending.close();
        let (fill, _) = pending.times();
        pending.close();
        assert_eq!(pending.times().0, fill, "the first close counts");
    }
}
