//! The rows that wait for the next commit, and what their commit adds to the metrics.
//!
//! Guarantee: counts go the way of their rows. What leaves with a Kafka partition or is discarded is never counted, a batch
//! takes exactly the counts of its own rows along. Memory: 3.6 KB for each Kafka partition of a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use loginlake_events::columns::SourcePosition;
use loginlake_events::{LoginEvent, RejectReason, Rejection};
use loginlake_lake::LakeError;
use loginlake_lake::ingest::{Batch, BatchBuffer, BatchRanges, BatchSize, Rows};
use loginlake_service::delays::Delays;

/// What a commit adds to the metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    partitions: Vec<PartitionCounts>,
    /// Where the last record was counted: the next one often is of the same Kafka partition.
    last: usize,
}

#[derive(Clone, Debug)]
struct PartitionCounts {
    kafka_partition: i32,
    rejected: BTreeMap<RejectReason, u64>,
    delays: Delays,
    /// Logins of dates that the lake does not hold, and when the first of them was read.
    left_out: Option<(u64, Instant)>,
}

impl Counts {
    fn of(&mut self, kafka_partition: i32) -> &mut PartitionCounts {
        let is_here = |counts: &PartitionCounts| counts.kafka_partition == kafka_partition;
        if !self.partitions.get(self.last).is_some_and(is_here) {
            self.last = self.partitions.iter().position(is_here).unwrap_or_else(|| {
                self.partitions.push(PartitionCounts {
                    kafka_partition,
                    rejected: BTreeMap::new(),
                    delays: Delays::default(),
                    left_out: None,
                });
                self.partitions.len() - 1
            });
        }
        &mut self.partitions[self.last]
    }

    /// Counts a record that was read at `now_ms`. One without a Kafka timestamp has no delay.
    fn count(&mut self, source: SourcePosition, now_ms: i64) -> &mut PartitionCounts {
        let counts = self.of(source.kafka_partition);
        if let Some(timestamp_ms) = source.kafka_timestamp_ms {
            counts.delays.count(now_ms, timestamp_ms);
        }
        counts
    }

    fn drop_kafka_partitions(&mut self, leaving: &BTreeSet<i32>) {
        self.partitions
            .retain(|counts| !leaving.contains(&counts.kafka_partition));
    }

    /// Rejected rows by reason; a reason may come more than once.
    pub fn rejected(&self) -> impl Iterator<Item = (RejectReason, u64)> {
        let all = self.partitions.iter().flat_map(|counts| &counts.rejected);
        all.map(|(reason, rows)| (*reason, *rows))
    }

    /// Rejected rows.
    pub fn rejected_rows(&self) -> u64 {
        self.rejected().map(|(_, rows)| rows).sum()
    }

    /// Logins that the lake does not hold, because they are of other dates.
    pub fn left_out(&self) -> u64 {
        let all = self.partitions.iter().filter_map(|counts| counts.left_out);
        all.map(|(logins, _)| logins).sum()
    }

    /// The delays of all rows, good and rejected.
    pub fn delays(&self) -> impl Iterator<Item = &Delays> {
        self.partitions.iter().map(|counts| &counts.delays)
    }
}

/// A buffer of rows and their counts.
pub(super) struct CountedRows {
    buffer: BatchBuffer,
    counts: Counts,
}

/// A closed batch and the counts of its rows.
pub(super) struct CountedBatch {
    pub batch: Batch,
    pub counts: Counts,
}

impl CountedRows {
    pub fn new(buffer: BatchBuffer) -> Self {
        Self {
            buffer,
            counts: Counts::default(),
        }
    }

    /// Buffers a good record, read at `now_ms`.
    pub fn append_login(&mut self, event: &LoginEvent<'_>, source: SourcePosition, now_ms: i64) {
        self.counts.count(source, now_ms);
        self.buffer.append_login(event, source, now_ms);
    }

    /// Buffers a rejected record, read at `now_ms`.
    pub fn append_rejected(
        &mut self,
        rejection: &Rejection,
        payload: Option<&[u8]>,
        source: SourcePosition,
        now_ms: i64,
    ) {
        let counts = self.counts.count(source, now_ms);
        *counts.rejected.entry(rejection.reason).or_insert(0) += 1;
        self.buffer.append_rejected(rejection, payload, source);
    }

    /// Notes a good record of a date that the lake does not hold.
    pub fn leave_out(&mut self, source: SourcePosition) {
        let counts = self.counts.of(source.kafka_partition);
        counts.left_out.get_or_insert_with(|| (0, Instant::now())).0 += 1;
    }

    /// What the batch holds. Logins that are left out let it age, so that their offsets are committed; they never fill it.
    pub fn size(&self) -> BatchSize {
        let mut size = self.buffer.size();
        if size.rows == 0 && self.left_out_since().is_some() {
            size.rows = 1;
        }
        size
    }

    /// When its first record was buffered or left out; `None` when there is none.
    pub fn begun(&self) -> Option<Instant> {
        self.left_out_since().into_iter().chain(self.buffer.begun()).min()
    }

    fn left_out_since(&self) -> Option<Instant> {
        let all = self.counts.partitions.iter().filter_map(|counts| counts.left_out);
        all.map(|(_, since)| since).min()
    }

    /// Bytes in columns that are still being filled.
    pub fn open_bytes(&self) -> u64 {
        self.buffer.open_bytes()
    }
}

impl Rows for CountedRows {
    type Batch = CountedBatch;

    fn drop_kafka_partitions(&mut self, leaving: &BTreeSet<i32>) -> Result<(), LakeError> {
        self.counts.drop_kafka_partitions(leaving);
        self.buffer.drop_kafka_partitions(leaving)
    }

    fn clear(&mut self) {
        self.counts = Counts::default();
        self.buffer.clear();
    }

    fn close(&mut self, ranges: BatchRanges) -> CountedBatch {
        CountedBatch {
            batch: self.buffer.close(ranges),
            counts: std::mem::take(&mut self.counts),
        }
    }
}

#[cfg(test)]
mod tests {
    use loginlake_events::Contract;
    use loginlake_lake::ingest::{MemoryGauge, Session, Verdict};
    use loginlake_service::delays::DelayHistogram;

    use super::*;

    const NOW: i64 = 1_700_000_000_000;
    const GOOD: &[u8] = br#"{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","device_id":"d","ip":"8.8.8.8","timestamp":1699999999}"#;

    fn session(runtime: &tokio::runtime::Runtime) -> Session<CountedRows> {
        let buffer = BatchBuffer::new(
            runtime.handle().clone(),
            MemoryGauge::default(),
            vec!["login_date".to_owned()],
        );
        let mut session = Session::new(CountedRows::new(buffer), BTreeMap::new());
        session
            .assign(&BTreeMap::from([(0, 0), (1, 0), (2, 0)]))
            .expect("nothing is buffered");
        session
    }

    /// A record that was in Kafka for `age_ms` when it was read.
    fn read(session: &mut Session<CountedRows>, kafka_partition: i32, age_ms: i64, payload: &[u8]) {
        let source = SourcePosition {
            kafka_partition,
            kafka_offset: session
                .offsets()
                .next_offset(kafka_partition)
                .expect("it is here"),
            kafka_timestamp_ms: Some(NOW - age_ms),
        };
        assert_eq!(
            session.accept(kafka_partition, source.kafka_offset),
            Verdict::Buffer
        );
        let contract = Contract::builder().build().expect("the defaults are right");
        match contract.decode(Some(payload), source.kafka_timestamp_ms) {
            Ok(event) => session.rows_mut().append_login(&event, source, NOW),
            Err(rejection) => session
                .rows_mut()
                .append_rejected(&rejection, Some(payload), source, NOW),
        }
    }

    /// Delays at or below a bound of the histogram, and all of them.
    fn delays(counts: &Counts, bound: &str) -> (u64, u64) {
        let histogram = DelayHistogram::default();
        for delays in counts.delays() {
            histogram.observe(delays, NOW + 1_000);
        }
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("delay", "Delay", histogram);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes everything");
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|rest| rest.trim().parse().ok())
                .unwrap_or_else(|| panic!("{name}: {text}"))
        };
        (
            value(&format!("delay_bucket{{le=\"{bound}\"}}")),
            value("delay_count"),
        )
    }

    #[test]
    fn every_row_counts_with_its_own_delay() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut session = session(&runtime);
        for _ in 0..90 {
            read(&mut session, 0, 0, GOOD);
            read(&mut session, 1, 500, b"no JSON");
        }
        read(&mut session, 2, 3_600_000 * 5, GOOD);
        let CountedBatch { batch, counts } = session.close().expect("rows");
        assert_eq!((batch.rows, batch.rejected_rows), (181, 90));
        assert_eq!(counts.rejected_rows(), 90);
        assert_eq!(delays(&counts, "1.0"), (90, 181), "a second after they were read");
        assert_eq!(delays(&counts, "2.0"), (180, 181), "not as late as the oldest");
        assert_eq!(delays(&counts, "21600.0"), (181, 181));
        read(&mut session, 0, 0, GOOD);
        let next = session.close().expect("a row");
        assert_eq!(delays(&next.counts, "+Inf"), (1, 1), "each batch has its own");
    }

    #[test]
    fn what_leaves_or_is_discarded_does_not_count() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut session = session(&runtime);
        for kafka_partition in [0, 1, 2, 1] {
            read(&mut session, kafka_partition, 10, GOOD);
            read(&mut session, kafka_partition, 10, b"no JSON");
        }
        session.revoke(&[1]).expect("rows can be told apart");
        read(&mut session, 2, 10, GOOD);
        let CountedBatch { batch, counts } = session.close().expect("rows");
        assert_eq!((batch.rows, batch.rejected_rows), (5, 2));
        assert_eq!((delays(&counts, "+Inf"), counts.rejected_rows()), ((5, 5), 2));

        read(&mut session, 0, 10, GOOD);
        session.restart(&BTreeMap::from([(0, 0), (2, 0)]));
        read(&mut session, 0, 10, b"no JSON");
        let CountedBatch { batch, counts } = session.close().expect("a row");
        assert_eq!((batch.rows, counts.rejected_rows()), (1, 1));
        assert_eq!(
            delays(&counts, "+Inf"),
            (1, 1),
            "fenced: only what was read again"
        );
    }

    #[test]
    fn what_is_left_out_ages_and_leaves_with_its_partition() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let mut session = session(&runtime);
        let leave_out = |session: &mut Session<CountedRows>| {
            let source = SourcePosition {
                kafka_partition: 1,
                kafka_offset: session.offsets().next_offset(1).expect("it is here"),
                kafka_timestamp_ms: Some(NOW),
            };
            assert_eq!(session.accept(1, source.kafka_offset), Verdict::Buffer);
            session.rows_mut().leave_out(source);
        };
        for _ in 0..5 {
            leave_out(&mut session);
        }
        assert_eq!(
            session.rows().size().rows,
            1,
            "whatever is left out fills nothing"
        );
        assert!(session.rows().begun().is_some());
        let CountedBatch { batch, counts } = session.close().expect("offsets moved");
        assert_eq!((batch.rows, counts.left_out()), (0, 5));
        assert_eq!(delays(&counts, "+Inf"), (0, 0));
        assert_eq!(
            (session.rows().size().rows, session.rows().begun()),
            (0, None),
            "the next batch has none"
        );

        leave_out(&mut session);
        session.revoke(&[1]).expect("rows can be told apart");
        assert_eq!((session.rows().size().rows, session.rows().begun()), (0, None));
    }

    #[test]
    fn a_record_without_a_kafka_timestamp_has_no_delay() {
        let mut counts = Counts::default();
        let source = SourcePosition {
            kafka_partition: 0,
            kafka_offset: 0,
            kafka_timestamp_ms: None,
        };
        counts.count(source, NOW);
        assert_eq!(delays(&counts, "+Inf"), (0, 0));
    }
}
