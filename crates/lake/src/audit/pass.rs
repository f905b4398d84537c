//! One pass of an audit over a part of the offsets: fed by any number of threads with rows of files, records of the topic and
//! what was published, in any order.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;

use super::contents::{columns, sums};
use super::files::Positions;
use super::positions::OffsetRanges;
use super::published::{PublishedRecord, Spans, SpeedPath};
use super::records::Records;
use super::side::{PassSide, Place};
use super::window::Output;
use crate::table::{DataFile, TableName};

/// Micro- and milliseconds.
const MS_US: i64 = 1_000;

/// One pass over a part of the offsets.
#[derive(Debug)]
pub struct Pass {
    pub(super) sides: BTreeMap<i32, Mutex<PassSide>>,
    /// Kafka partition → offsets of this pass.
    pub(super) windows: OffsetRanges,
    pub(super) compared: OffsetRanges,
    /// Hours that were begun, over all Kafka partitions.
    pub(super) hours: AtomicUsize,
    /// What the tables say less what the topic says, column by column.
    pub(super) columns: [(TableName, Mutex<Vec<u64>>); 2],
    pub(super) speed_path: Option<SpeedPath>,
    /// Where what was published stands; looked at in the first pass, which reads all of it.
    pub(super) spans: Mutex<Spans>,
    pub(super) first: bool,
}

/// Waits for the others. What a thread that panicked left is judged by whoever joins it.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// No sums yet.
pub(super) fn no_columns() -> [(TableName, Mutex<Vec<u64>>); 2] {
    [TableName::Logins, TableName::Rejected].map(|table| (table, Mutex::new(vec![0; columns(table).len()])))
}

impl Pass {
    /// The records of the topic that this pass wants, `[from, to)` of each partition.
    pub fn topic_ranges(&self) -> OffsetRanges {
        self.windows
            .iter()
            .filter_map(|(partition, window)| {
                let (from, to) = *self.compared.get(partition)?;
                let range = (from.max(window.0), to.min(window.1));
                (range.0 < range.1).then_some((*partition, range))
            })
            .collect()
    }

    /// Whether everything that was published is wanted; later passes want only what may be of their own offsets.
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// The source offsets of this pass, `[from, to)` of each partition.
    pub fn source_ranges(&self) -> &OffsetRanges {
        &self.windows
    }

    /// Records of the topic; `records` is empty afterwards.
    ///
    /// # Errors
    /// A sentence: they cannot be compared.
    pub fn see_topic(&self, records: &mut Records) -> Result<(), String> {
        for (partition, count) in std::mem::take(&mut records.other_dates) {
            if let Some(side) = self.sides.get(&partition) {
                locked(side).found.other_dates += count;
            }
        }
        let positions = std::mem::take(&mut records.positions);
        let partitions: Vec<i32> = positions
            .iter()
            .map(|position| position.kafka_partition)
            .collect();
        for (partition, indices) in by_partition(&partitions) {
            let Some(side) = self.sides.get(&partition) else {
                continue;
            };
            let mut side = locked(side);
            for index in indices {
                let place = Place {
                    offset: positions[index].kafka_offset,
                    time_ms: positions[index].kafka_timestamp_ms,
                    misplaced: false,
                };
                side.record(partition, place, &self.hours);
            }
        }
        let batches = [
            (TableName::Logins, records.take_logins()),
            (TableName::Rejected, records.take_rejected()),
        ];
        for (table, batch) in batches {
            if let Some(batch) = batch {
                self.see(table, &batch, &BTreeMap::new(), &[], true)?;
            }
        }
        Ok(())
    }

    /// Rows of a file. `misplaced`: which of them stand in another table partition than they say; empty when none does.
    pub(super) fn see_rows(
        &self,
        table: TableName,
        file: &DataFile,
        rows: &RecordBatch,
        misplaced: &[bool],
    ) -> Result<(), String> {
        self.see(table, rows, &file.partition_values, misplaced, false)
    }

    fn see(
        &self,
        table: TableName,
        rows: &RecordBatch,
        partition_values: &BTreeMap<String, Option<String>>,
        misplaced: &[bool],
        of_topic: bool,
    ) -> Result<(), String> {
        let positions = Positions::of(rows)?;
        let mut said = vec![false; rows.num_rows()];
        for (partition, indices) in by_partition(positions.partitions) {
            let Some(side) = self.sides.get(&partition) else {
                continue;
            };
            let mut side = locked(side);
            for index in indices {
                let place = Place {
                    offset: positions.offsets[index],
                    time_ms: positions
                        .times_us
                        .filter(|times| times.is_valid(index))
                        .map(|times| times.value(index).div_euclid(MS_US)),
                    misplaced: misplaced.get(index).copied().unwrap_or(false),
                };
                said[index] = match of_topic {
                    true => side.record(partition, place, &self.hours),
                    false => side.row(table, partition, place, &self.hours),
                };
            }
        }
        if !said.contains(&true) {
            return Ok(());
        }
        let filtered;
        let rows = if said.contains(&false) {
            filtered =
                filter_record_batch(rows, &BooleanArray::from(said)).map_err(|error| error.to_string())?;
            &filtered
        } else {
            rows
        };
        let sums = sums(table, rows, partition_values)?;
        for (of, columns) in &self.columns {
            if *of == table {
                for (sum, found) in locked(columns).iter_mut().zip(&sums.columns) {
                    *sum = match of_topic {
                        true => sum.wrapping_sub(*found),
                        false => sum.wrapping_add(*found),
                    };
                }
            }
        }
        let positions = Positions::of(rows)?;
        for (partition, indices) in by_partition(positions.partitions) {
            let Some(side) = self.sides.get(&partition) else {
                continue;
            };
            let mut side = locked(side);
            let Some(window) = &mut side.window else { continue };
            for index in indices {
                match of_topic {
                    true => window.record_says(positions.offsets[index], sums.rows[index]),
                    false => window.row_says(positions.offsets[index], sums.rows[index]),
                }
            }
        }
        Ok(())
    }

    /// Records that the speed path published, by the source positions in their headers.
    pub fn see_published(&self, output: Output, records: &[PublishedRecord]) {
        let Some(speed_path) = &self.speed_path else {
            return;
        };
        if self.first {
            let before = &speed_path.facts(output).before;
            let mut spans = Spans::default();
            for record in records {
                spans.push(output, *record, before);
            }
            locked(&self.spans).append(spans);
        }
        let partitions: Vec<i32> = records.iter().map(|record| record.source_partition).collect();
        for (partition, indices) in by_partition(&partitions) {
            let Some(side) = self.sides.get(&partition) else {
                continue;
            };
            if let Some(window) = &mut locked(side).window {
                for index in indices {
                    window.see_published(output, records[index].source_offset);
                }
            }
        }
    }

    /// Rows of Kafka partitions that the table has no offset of.
    pub(super) fn unknown(&self, partitions: &[i32]) -> BTreeMap<i32, u64> {
        let mut unknown = BTreeMap::new();
        let mut known = None;
        for partition in partitions {
            if known == Some(partition) {
                continue;
            }
            if self.sides.contains_key(partition) {
                known = Some(partition);
            } else {
                *unknown.entry(*partition).or_default() += 1;
            }
        }
        unknown
    }
}

/// The rows of each Kafka partition, in their order.
fn by_partition(partitions: &[i32]) -> HashMap<i32, Vec<usize>> {
    let mut found: HashMap<i32, Vec<usize>> = HashMap::new();
    let mut index = 0;
    // Records of a partition come in runs.
    while let Some(partition) = partitions.get(index) {
        let run = partitions[index..]
            .iter()
            .take_while(|other| *other == partition)
            .count();
        found.entry(*partition).or_default().extend(index..index + run);
        index += run;
    }
    found
}
