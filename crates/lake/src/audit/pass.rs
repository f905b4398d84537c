//! What an audit keeps of each Kafka partition, and what one pass over a part of the offsets sees.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::Array;

use super::files::{Positions, stated_bounds};
use super::positions::{Difference, OffsetRanges, Seen, Window};
use super::report::{PartitionSummary, Ranges};
use crate::compact::Fingerprint;
use crate::table::{DataFile, TableName};

/// Hours that are compared, over all Kafka partitions; later ones are not told apart.
const MAX_HOURS: usize = 200_000;
/// Offsets that are remembered where there should be none.
const MAX_KNOWN: usize = 4_096;
pub(super) const HOUR_MS: i64 = 3_600_000;

/// (Kafka partition, hour since the epoch) → rows of the tables, records of the topic.
pub(super) type Hours = BTreeMap<(i32, i64), (Fingerprint, Fingerprint)>;

/// Offsets that come in any order: the first of them, and how many there are.
#[derive(Clone, Debug, Default)]
pub(super) struct SomeOffsets {
    known: BTreeSet<i64>,
    pub(super) count: u64,
}

impl SomeOffsets {
    fn push(&mut self, offset: i64) {
        self.count += 1;
        if self.known.len() < MAX_KNOWN {
            self.known.insert(offset);
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
    pub(super) sum: Fingerprint,
    pub(super) lacking: Difference,
    pub(super) extra: Difference,
    pub(super) too_often: Ranges,
    pub(super) above: BTreeMap<&'static str, SomeOffsets>,
    pub(super) not_published: Difference,
    pub(super) published_extra: Difference,
}

/// One pass over a part of the offsets.
#[derive(Debug)]
pub struct Pass {
    pub(super) windows: BTreeMap<i32, Window>,
    pub(super) compared: OffsetRanges,
    pub(super) hours: Hours,
    pub(super) published_range: BTreeMap<i32, (i64, i64)>,
}

impl Pass {
    /// The records of the topic that this pass wants, `[from, to)` of each partition.
    pub fn topic_ranges(&self) -> OffsetRanges {
        self.windows
            .iter()
            .filter_map(|(partition, window)| {
                let (from, to) = *self.compared.get(partition)?;
                let range = (from.max(window.from), to.min(window.to));
                (range.0 < range.1).then_some((*partition, range))
            })
            .collect()
    }

    /// A record of the topic.
    pub fn see_topic(&mut self, partition: i32, offset: i64, timestamp_ms: Option<i64>) {
        if let Some(window) = self.windows.get_mut(&partition) {
            window.see_topic(offset);
            if let Some(hour) = self.hour(partition, offset, timestamp_ms) {
                hour.1.add(partition, offset);
            }
        }
    }

    /// A record that the speed path published, by the source position in its headers.
    pub fn see_published(&mut self, partition: i32, offset: i64) {
        if let Some(window) = self.windows.get_mut(&partition) {
            window.see_published(offset);
        }
        let range = self
            .published_range
            .entry(partition)
            .or_insert((offset, offset + 1));
        *range = (range.0.min(offset), range.1.max(offset + 1));
    }

    fn hour(
        &mut self,
        partition: i32,
        offset: i64,
        timestamp_ms: Option<i64>,
    ) -> Option<&mut (Fingerprint, Fingerprint)> {
        let (from, to) = *self.compared.get(&partition)?;
        if !(from..to).contains(&offset) {
            return None;
        }
        let key = (partition, timestamp_ms?.div_euclid(HOUR_MS));
        if self.hours.len() >= MAX_HOURS && !self.hours.contains_key(&key) {
            return None;
        }
        Some(self.hours.entry(key).or_default())
    }
}

/// Takes up rows of a file. Counts only in the first pass, when every file is read.
pub(super) fn take(
    table: TableName,
    positions: &Positions<'_>,
    first: bool,
    sides: &mut BTreeMap<i32, Side>,
    pass: &mut Pass,
    unknown: &mut BTreeMap<i32, u64>,
) {
    for (row, (partition, offset)) in positions.partitions.iter().zip(positions.offsets).enumerate() {
        let (partition, offset) = (*partition, *offset);
        let Some(side) = sides.get_mut(&partition) else {
            *unknown.entry(partition).or_default() += 1;
            continue;
        };
        let end = match table {
            TableName::Rejected => side.rejected_end,
            _ => side.logins_end,
        };
        if offset >= end {
            if first {
                side.above.entry(table.as_str()).or_default().push(offset);
            }
            continue;
        }
        if offset >= side.logins_end {
            // Rejected rows of a batch whose logins are not committed yet.
            continue;
        }
        if first {
            side.sum.add(partition, offset);
            match table {
                TableName::Rejected => side.summary.rejected += 1,
                _ => side.summary.logins += 1,
            }
        }
        let Some(window) = pass.windows.get_mut(&partition) else {
            continue;
        };
        if window.see_row(offset) == Seen::Counted
            && let Some(times_us) = positions.times_us
            && times_us.is_valid(row)
            && let Some(hour) = pass.hour(partition, offset, Some(times_us.value(row).div_euclid(1_000)))
        {
            hour.0.add(partition, offset);
        }
    }
}

/// Whether a file may have offsets of a pass, by its statistics.
pub(super) fn may_have(file: &DataFile, pass: &Pass) -> bool {
    let partitions = stated_bounds(file, "kafka_partition").unwrap_or((i64::MIN, i64::MAX));
    let offsets = stated_bounds(file, "kafka_offset").unwrap_or((i64::MIN, i64::MAX));
    pass.windows.iter().any(|(partition, window)| {
        (partitions.0..=partitions.1).contains(&i64::from(*partition))
            && offsets.0 < window.to
            && offsets.1 >= window.from
    })
}
