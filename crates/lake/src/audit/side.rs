//! What an audit keeps of each Kafka partition, over all passes and in one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::positions::Difference;
use super::published::Judged;
use super::report::{Comparison, PartitionSummary, Ranges};
use super::window::{Seen, Window};
use crate::compact::Fingerprint;
use crate::compact::fingerprint::hash;
use crate::table::TableName;

/// Hours that are compared, over all Kafka partitions; later ones are not told apart.
pub(super) const MAX_HOURS: usize = 200_000;
/// Offsets that are remembered where there should be none.
const MAX_KNOWN: usize = 4_096;
pub(super) const HOUR_MS: i64 = 3_600_000;

/// What an hour of a Kafka partition has, by the times of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hour {
    /// Rows of both tables.
    pub(super) rows: Fingerprint,
    /// Those of them that are in `rejected`.
    pub(super) rejected: u64,
    /// Records of the topic.
    pub(super) records: Fingerprint,
}

/// Hour since the epoch → what it has.
pub(super) type Hours = BTreeMap<i64, Hour>;

/// Offsets that come in any order: the first of them, and how many there are.
#[derive(Clone, Debug, Default)]
pub(super) struct SomeOffsets {
    known: BTreeSet<i64>,
    pub(super) count: u64,
}

impl SomeOffsets {
    /// Keeps the least ones, whatever the order.
    fn push(&mut self, offset: i64) {
        self.count += 1;
        self.known.insert(offset);
        if self.known.len() > MAX_KNOWN {
            self.known.pop_last();
        }
    }

    pub(super) fn ranges(&self) -> Ranges {
        let mut ranges = Ranges::default();
        self.known.iter().for_each(|offset| ranges.push(*offset));
        ranges
    }
}

/// What is compared of a Kafka partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    /// Next offsets of all incarnations that `logins` has.
    pub(super) ends: Vec<i64>,
    /// Where the table began with the newest incarnation.
    pub(super) from: Option<i64>,
    /// The end of what may be in `logins`, and in `rejected`.
    pub(super) logins_end: i64,
    pub(super) rejected_end: i64,
    /// Offsets that are compared with the topic.
    pub(super) compared: (i64, i64),
    pub(super) gaps: Vec<(i64, i64)>,
    pub(super) erased: Fingerprint,
    /// Whether records that were erased may be gone from the topic as well.
    pub(super) cut_off: bool,
    pub(super) summary: PartitionSummary,
    pub(super) found: Found,
    pub(super) lacking: Difference,
    pub(super) extra: Difference,
    pub(super) too_often: Ranges,
    pub(super) differing: Ranges,
    pub(super) judged: Judged,
    pub(super) not_processed: Difference,
    pub(super) not_dead_lettered: Difference,
    pub(super) published_extra: Difference,
    pub(super) published_twice: Ranges,
    pub(super) input: Comparison,
    pub(super) speed_path: Comparison,
}

/// What is counted of a Kafka partition: rows in the first pass, hours in all of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) sum: Fingerprint,
    pub(super) logins: u64,
    pub(super) rejected: u64,
    pub(super) above: BTreeMap<TableName, SomeOffsets>,
    /// Rows that stand in another table partition than they say.
    pub(super) misplaced: SomeOffsets,
    pub(super) hours: Hours,
    pub(super) other_dates: u64,
}

/// A row, or a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) offset: i64,
    pub(super) time_ms: Option<i64>,
    pub(super) misplaced: bool,
}

/// A Kafka partition in one pass.
#[derive(Debug)]
pub(super) struct PassSide {
    /// `None`: none of its offsets are of this pass.
    pub(super) window: Option<Window>,
    pub(super) found: Found,
    pub(super) compared: (i64, i64),
    pub(super) logins_end: i64,
    pub(super) rejected_end: i64,
    /// Rows are counted in the first pass, when every file is read.
    pub(super) first: bool,
}

impl PassSide {
    /// Takes up a row. Whether what it says is to be compared.
    pub(super) fn row(
        &mut self,
        table: TableName,
        partition: i32,
        place: Place,
        new_hours: &AtomicUsize,
    ) -> bool {
        let offset = place.offset;
        let end = match table {
            TableName::Rejected => self.rejected_end,
            _ => self.logins_end,
        };
        if self.first && place.misplaced {
            self.found.misplaced.push(offset);
        }
        if offset >= end {
            if self.first {
                self.found.above.entry(table).or_default().push(offset);
            }
            return false;
        }
        if offset >= self.logins_end {
            // Rejected rows of a batch whose logins are not committed yet.
            return false;
        }
        let hash = hash(partition, offset);
        if self.first {
            self.found.sum.add_hash(hash);
            match table {
                TableName::Rejected => self.found.rejected += 1,
                _ => self.found.logins += 1,
            }
        }
        let Some(window) = &mut self.window else {
            return false;
        };
        if window.see_row(offset) == Seen::Elsewhere {
            return false;
        }
        if table == TableName::Rejected {
            window.is_rejected(offset);
        }
        let contents = window.has_contents();
        let is_compared = (self.compared.0..self.compared.1).contains(&offset);
        if is_compared && let Some(hour) = hour(&mut self.found.hours, place.time_ms, new_hours) {
            hour.rows.add_hash(hash);
            hour.rejected += u64::from(table == TableName::Rejected);
        }
        is_compared && contents
    }

    /// Takes up a record of the topic. Whether what it says is to be compared.
    pub(super) fn record(&mut self, partition: i32, place: Place, new_hours: &AtomicUsize) -> bool {
        let is_compared = (self.compared.0..self.compared.1).contains(&place.offset);
        let Some(window) = &mut self.window else {
            return false;
        };
        if !is_compared || !window.covers(place.offset) {
            return false;
        }
        window.see_topic(place.offset);
        let contents = window.has_contents();
        if let Some(hour) = hour(&mut self.found.hours, place.time_ms, new_hours) {
            hour.records.add_hash(hash(partition, place.offset));
        }
        contents
    }
}

/// The hour of a time; `None`: it has no time, or there are too many hours.
fn hour<'a>(hours: &'a mut Hours, time_ms: Option<i64>, new_hours: &AtomicUsize) -> Option<&'a mut Hour> {
    let key = time_ms?.div_euclid(HOUR_MS);
    if !hours.contains_key(&key) && new_hours.fetch_add(1, Ordering::Relaxed) >= MAX_HOURS {
        return None;
    }
    Some(hours.entry(key).or_default())
}
