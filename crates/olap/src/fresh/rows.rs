//! The rows that a scan needs of the rest of the topic, and which records give none, so that they are not even decoded.
//!
//! What is known of a record before it is decoded is its Kafka timestamp, which producers set as they like. Two things follow
//! from it all the same, and nothing else is taken from it:
//!
//! - The contract accepts no event that is further ahead of its record's own Kafka timestamp than `max-ahead`
//!   ([`Contract::latest_event_ms`]). So a record whose latest event is before all that the scan asks for is either rejected or
//!   of no use. A record without a Kafka timestamp may be of any time. From the other side nothing follows, as a login may be
//!   told late.
//! - `kafka_timestamp` is that timestamp.
//!
//! Both are judged record by record, from the timestamp that the record itself carries, so it does not matter in which order
//! timestamps come, who set them, and whether they lie. Offsets are never skipped by the broker's index of times: that does
//! not know records without a timestamp.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use loginlake_events::columns::{ChosenColumns, RejectedBuilder, SourcePosition};
use loginlake_events::privacy::PersonalField;
use loginlake_events::{Contract, LoginEvent, Rejection};
use loginlake_lake::TableName;
use loginlake_query::{TailNeed, TimeBounds};

/// Rows of a batch: what the query engine works on at a time.
pub const BATCH_ROWS: usize = 8192;
/// Bytes at which a batch is handed on early: rejected records can be large.
const BATCH_BYTES: usize = 8 << 20;

/// What the rest of a topic, or a part of it, gave to a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TailRows {
    /// Rows of the table among the records that were decoded.
    pub rows: u64,
    /// Records that were not decoded, as no row of the answer could come from them.
    pub skipped: u64,
    /// The newest `event_time` among the rows, epoch milliseconds; `rejected` has none.
    pub newest_event_ms: Option<i64>,
    /// No event of the skipped records is newer.
    pub latest_skipped_ms: Option<i64>,
}

impl TailRows {
    /// All rows of the table in the rest; `None` when records were skipped.
    pub fn all_rows(&self) -> Option<u64> {
        (self.skipped == 0).then_some(self.rows)
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            skipped: self.skipped + other.skipped,
            newest_event_ms: self.newest_event_ms.max(other.newest_event_ms),
            latest_skipped_ms: self.latest_skipped_ms.max(other.latest_skipped_ms),
        }
    }
}

/// Collects the rows of one table.
pub struct Rows {
    builder: RowBuilder,
    times: TimeBounds,
    /// What was found so far, whether handed on or not.
    pub found: TailRows,
}

/// Rows with their columns, or only their number when no column is needed.
enum RowBuilder {
    Logins(Box<ChosenColumns>),
    Rejected(Box<RejectedBuilder>),
    Count(usize),
}

impl Rows {
    pub fn new(table: TableName, need: &TailNeed) -> Self {
        let builder = match table {
            TableName::Rejected => RowBuilder::Rejected(Box::new(RejectedBuilder::new())),
            _ if need.columns.is_empty() => RowBuilder::Count(0),
            _ => {
                let names = need.columns.iter().map(String::as_str);
                RowBuilder::Logins(Box::new(ChosenColumns::new(names)))
            }
        };
        Self {
            builder,
            times: need.times,
            found: TailRows::default(),
        }
    }

    /// The personal fields that no column shows: no pseudonym has to be made of them.
    pub fn unread(&self) -> Vec<PersonalField> {
        let shows = |field: PersonalField| match &self.builder {
            RowBuilder::Logins(columns) => columns.shows(field),
            RowBuilder::Rejected(_) | RowBuilder::Count(_) => false,
        };
        PersonalField::ALL
            .into_iter()
            .filter(|field| !shows(*field))
            .collect()
    }

    /// Skips a record with this Kafka timestamp, if no row that is of use can come from it.
    pub fn skips(&mut self, contract: &Contract, kafka_timestamp_ms: Option<i64>) -> bool {
        let latest_ms = contract.latest_event_ms(kafka_timestamp_ms);
        let is_logins = !matches!(self.builder, RowBuilder::Rejected(_));
        let is_too_early = is_logins && microseconds(latest_ms) < self.times.event.from_us;
        let is_outside = self.times.kafka.is_some_and(|range| {
            kafka_timestamp_ms.is_none_or(|timestamp_ms| !range.has(microseconds(timestamp_ms)))
        });
        if is_too_early || is_outside {
            self.found.skipped += 1;
            self.found.latest_skipped_ms = self.found.latest_skipped_ms.max(Some(latest_ms));
        }
        is_too_early || is_outside
    }

    /// Adds what a record was judged to be, if it belongs to the table and may be of use.
    pub fn add(
        &mut self,
        verdict: Result<LoginEvent<'_>, Rejection>,
        payload: Option<&[u8]>,
        position: SourcePosition,
        processed_at_ms: i64,
    ) {
        match (verdict, &mut self.builder) {
            (Ok(_), RowBuilder::Rejected(_)) | (Err(_), RowBuilder::Logins(_) | RowBuilder::Count(_)) => {}
            (Err(rejection), RowBuilder::Rejected(builder)) => {
                self.found.rows += 1;
                builder.append(&rejection, payload, position);
            }
            (Ok(event), builder) => {
                let event_time_ms = event.event_time_ms();
                self.found.rows += 1;
                self.found.newest_event_ms = self.found.newest_event_ms.max(Some(event_time_ms));
                if !self.times.event.has(microseconds(event_time_ms)) {
                    return;
                }
                match builder {
                    RowBuilder::Logins(columns) => columns.append(&event, position, processed_at_ms),
                    RowBuilder::Count(count) => *count += 1,
                    RowBuilder::Rejected(_) => {}
                }
            }
        }
    }

    fn len(&self) -> usize {
        match &self.builder {
            RowBuilder::Logins(builder) => builder.len(),
            RowBuilder::Rejected(builder) => builder.len(),
            RowBuilder::Count(count) => *count,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a batch is to be handed on.
    pub fn is_full(&self) -> bool {
        let bytes = match &self.builder {
            RowBuilder::Logins(builder) => builder.memory_bytes(),
            RowBuilder::Rejected(builder) => builder.memory_bytes(),
            RowBuilder::Count(_) => 0,
        };
        self.len() >= BATCH_ROWS || bytes >= BATCH_BYTES
    }

    /// The collected rows; none are held afterwards.
    pub fn finish(&mut self) -> RecordBatch {
        match &mut self.builder {
            RowBuilder::Logins(builder) => builder.finish(),
            RowBuilder::Rejected(builder) => builder.finish(),
            RowBuilder::Count(count) => {
                let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(count)));
                RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &options)
                    .expect("a batch without columns has any number of rows")
            }
        }
    }
}

/// As the columns have it.
fn microseconds(milliseconds: i64) -> i64 {
    milliseconds.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use arrow::array::AsArray;
    use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
    use loginlake_query::TimeRange;
    use proptest::prelude::*;

    use super::*;

    const NOW_MS: i64 = 1_741_000_000_000;
    const HOUR_MS: i64 = 3_600_000;

    /// A record as producers with right, wrong and no clocks send it.
    #[derive(Clone, Debug)]
    struct Record {
        event_ms: i64,
        kafka_timestamp_ms: Option<i64>,
        is_bad: bool,
    }

    fn times() -> impl Strategy<Value = i64> {
        prop_oneof![
            4 => (-60 * HOUR_MS..60 * HOUR_MS).prop_map(|ahead| NOW_MS + ahead),
            1 => Just(NOW_MS),
            1 => Just(NOW_MS - 24 * HOUR_MS),
            1 => Just(NOW_MS + 24 * HOUR_MS),
        ]
    }

    fn kafka_times() -> impl Strategy<Value = Option<i64>> {
        prop_oneof![
            6 => times().prop_map(Some),
            1 => Just(None),
            1 => proptest::sample::select(vec![0, 1, -7, i64::MIN, i64::MAX, i64::MAX / 1_000]).prop_map(Some),
        ]
    }

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let record = (times(), kafka_times(), proptest::bool::weighted(0.1));
        let record = record.prop_map(|(event_ms, kafka_timestamp_ms, is_bad)| Record {
            event_ms,
            kafka_timestamp_ms,
            is_bad,
        });
        proptest::collection::vec(record, 0..40)
    }

    fn ranges() -> impl Strategy<Value = TimeRange> {
        let end = prop_oneof![times().prop_map(|ms| Some(ms * 1_000)), Just(None)];
        (end.clone(), end, -1_i64..2).prop_map(|(from, to, off)| TimeRange {
            from_us: from.map_or(i64::MIN, |us| us + off),
            to_us: to.map_or(i64::MAX, |us| us - off),
        })
    }

    /// What the filters of a scan keep of these records: the offsets and event times.
    fn read(records: &[Record], table: TableName, times: TimeBounds) -> (Vec<(i64, i64)>, TailRows) {
        let contract = Contract::default();
        let columns = ["kafka_offset", "event_time", "kafka_timestamp"];
        let need = TailNeed {
            columns: columns.map(str::to_owned).to_vec(),
            times,
        };
        let mut rows = Rows::new(table, &need);
        for (offset, record) in (0..).zip(records) {
            if rows.skips(&contract, record.kafka_timestamp_ms) {
                continue;
            }
            let ip = if record.is_bad { "nowhere" } else { "1.2.3.4" };
            let payload = format!(
                r#"{{"user_id":"a6397988-1649-4859-ae5f-a1407b638ca6","ip":"{ip}","device_id":"d","timestamp":{}}}"#,
                record.event_ms
            );
            let position = SourcePosition {
                kafka_partition: 0,
                kafka_offset: offset,
                kafka_timestamp_ms: record.kafka_timestamp_ms,
            };
            let payload = Some(payload.as_bytes());
            rows.add(
                contract.decode(payload, record.kafka_timestamp_ms),
                payload,
                position,
                0,
            );
        }
        let batch = rows.finish();
        let offsets = batch["kafka_offset"]
            .as_primitive::<Int64Type>()
            .values()
            .to_vec();
        let kept = offsets.into_iter().enumerate().filter_map(|(row, offset)| {
            let time_of = |name: &str| {
                let column = batch
                    .column_by_name(name)?
                    .as_primitive::<TimestampMicrosecondType>();
                column.iter().nth(row).flatten()
            };
            let event_us = time_of("event_time");
            let is_of_time = event_us.is_none_or(|us| times.event.has(us));
            let is_of_kafka = times
                .kafka
                .is_none_or(|range| time_of("kafka_timestamp").is_some_and(|us| range.has(us)));
            (is_of_time && is_of_kafka).then_some((offset, event_us.unwrap_or_default()))
        });
        (kept.collect(), rows.found)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]
        #[test]
        fn what_is_skipped_would_have_given_no_row(
            records in records(),
            event in ranges(),
            kafka in proptest::option::of(ranges()),
            of_rejected in any::<bool>(),
        ) {
            let table = if of_rejected { TableName::Rejected } else { TableName::Logins };
            let times = TimeBounds { event: if of_rejected { TimeRange::default() } else { event }, kafka };
            let (all, everything) = read(&records, table, TimeBounds::default());
            let (found, counted) = read(&records, table, times);
            // The same filter on the rows of a reader that skips nothing.
            let expected: Vec<(i64, i64)> = all
                .into_iter()
                .filter(|(offset, event_us)| {
                    let kafka_ms = records[usize::try_from(*offset).unwrap()].kafka_timestamp_ms;
                    (of_rejected || times.event.has(*event_us))
                        && kafka.is_none_or(|range| kafka_ms.is_some_and(|ms| range.has(microseconds(ms))))
                })
                .collect();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(everything.skipped, 0);
            if let Some(rows) = counted.all_rows() {
                prop_assert_eq!(rows, everything.rows);
            }
            // The newest event is known when it is not older than what was skipped can be.
            if counted.newest_event_ms >= counted.latest_skipped_ms {
                prop_assert_eq!(counted.newest_event_ms, everything.newest_event_ms);
            }
        }
    }

    #[test]
    fn old_records_are_skipped_and_those_without_a_time_are_not() {
        let times = TimeBounds {
            event: TimeRange {
                from_us: NOW_MS * 1_000,
                to_us: i64::MAX,
            },
            kafka: None,
        };
        let need = TailNeed {
            columns: Vec::new(),
            times,
        };
        let contract = Contract::default();
        let mut rows = Rows::new(TableName::Logins, &need);
        let mut skips = |kafka_ms| rows.skips(&contract, kafka_ms);
        assert!(skips(Some(NOW_MS - 24 * HOUR_MS - 1)) && skips(Some(0)));
        assert!(!skips(Some(NOW_MS - 24 * HOUR_MS)) && !skips(Some(i64::MAX)) && !skips(None));
        assert_eq!(rows.found.all_rows(), None);
        let mut rejected = Rows::new(TableName::Rejected, &need);
        assert!(
            !rejected.skips(&contract, Some(0)),
            "rejected records have no event time"
        );
    }
}
