//! The files that a version names: there, of the size stated, with the rows and bounds that their statistics say, each row in the
//! table partition that its event time is of. Rows are handed on while they are read: only the columns that are compared.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::file::metadata::ParquetMetaData;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::contents::{columns, number_of};
use super::pass::Pass;
use super::report::{Finding, What};
use crate::compact::Fingerprint;
use crate::compact::fingerprint::POSITION_COLUMNS;
use crate::error::LakeError;
use crate::file::stored::StoredFile;
use crate::store::Lake;
use crate::table::{DataFile, TableName};

/// The column that hours are told by.
const TIME_COLUMN: &str = "kafka_timestamp";
/// The column that table partitions are told by.
const EVENT_TIME: &str = "event_time";
/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8 * 1024;
const HOUR_US: i64 = 3_600_000_000;
const HOURS_OF_DAY: i64 = 24;
/// The unit in which memory is given out, bytes.
pub(super) const PERMIT_BYTES: usize = 64 << 10;
/// What a row group takes while it is decoded, by its size in the file.
const DECODED: usize = 3;

/// Positions of rows, column by column.
pub(super) struct Positions<'a> {
    pub(super) partitions: &'a [i32],
    pub(super) offsets: &'a [i64],
    /// Microseconds since the epoch; `None` when they were not asked for, or the file has none.
    pub(super) times_us: Option<&'a TimestampMicrosecondArray>,
}

/// What is wanted of files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// The times of the records.
    pub(super) times: bool,
    /// All columns that are compared.
    pub(super) contents: bool,
}

/// The memory that files are decoded in; each takes what its largest row group needs.
pub(super) struct Room {
    pub(super) semaphore: Semaphore,
    pub(super) permits: u32,
}

impl Room {
    pub(super) fn of(bytes: usize) -> Self {
        let permits = u32::try_from(bytes / PERMIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self {
            semaphore: Semaphore::new(permits as usize),
            permits,
        }
    }
}

/// What a file was found to hold.
pub(super) struct FileFacts {
    pub(super) fingerprint: Fingerprint,
    pub(super) finding: Option<Finding>,
    /// Rows of Kafka partitions that the table has no offset of.
    pub(super) unknown: BTreeMap<i32, u64>,
}

/// Bounds of a column by the file's statistics.
pub(super) fn stated_bounds(file: &DataFile, column: &str) -> Option<(i64, i64)> {
    let stats: Value = serde_json::from_str(file.stats_json.as_deref()?).ok()?;
    Some((
        stats["minValues"][column].as_i64()?,
        stats["maxValues"][column].as_i64()?,
    ))
}

/// Reads a file into a pass. What is wrong with the file is a finding, not an error.
///
/// # Errors
/// The store failed.
pub(super) async fn read(
    lake: &Lake,
    table: TableName,
    file: &DataFile,
    wanted: Wanted,
    pass: &Pass,
    room: &Room,
) -> Result<FileFacts, LakeError> {
    let store = lake.table_store(table);
    let location = Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()));
    let wrong = |what: What, detail: String| FileFacts {
        fingerprint: Fingerprint::default(),
        unknown: BTreeMap::new(),
        finding: Some(
            Finding::new(what, detail)
                .in_table(table.as_str())
                .in_file(&file.path),
        ),
    };
    match store.head(&location).await {
        Ok(found) if found.size == file.size_bytes => {}
        Ok(found) => {
            let detail = format!(
                "it has {} bytes, and the log says {}",
                found.size, file.size_bytes
            );
            return Ok(wrong(What::FileDamaged, detail));
        }
        Err(object_store::Error::NotFound { .. }) => {
            let rows = file
                .rows
                .map_or_else(String::new, |rows| format!(" with {rows} rows"));
            let mut facts = wrong(
                What::FileMissing,
                format!("the file{rows} is gone{}", whose(file)),
            );
            if let Some(finding) = &mut facts.finding {
                finding.count = file.rows.unwrap_or(1);
            }
            return Ok(facts);
        }
        Err(error) => return Err(LakeError::from_store(&lake.table_place(table), error)),
    }
    let mut held = Held::default();
    let stored = StoredFile::new(store, location, file.size_bytes);
    match read_rows(stored, table, file, wanted, pass, room, &mut held).await {
        Ok(()) => {}
        Err(ReadError::Store(error)) => return Err(LakeError::from_store(&lake.table_place(table), error)),
        Err(ReadError::File(detail)) => return Ok(wrong(What::FileDamaged, detail)),
    }
    let finding = held.differs(file).map(|detail| {
        Finding::new(What::StatisticsWrong, detail)
            .in_table(table.as_str())
            .in_file(&file.path)
    });
    Ok(FileFacts {
        fingerprint: held.fingerprint,
        finding,
        unknown: held.unknown,
    })
}

/// Which offsets a file had, as its statistics say.
fn whose(file: &DataFile) -> String {
    match (
        stated_bounds(file, POSITION_COLUMNS[0]),
        stated_bounds(file, POSITION_COLUMNS[1]),
    ) {
        (Some((first, last)), Some((from, to))) => {
            format!("; its rows were of partitions {first} to {last}, offsets {from} to {to}")
        }
        _ => String::new(),
    }
}

/// What was read of a file so far.
#[derive(Default)]
struct Held {
    fingerprint: Fingerprint,
    bounds: Option<(i64, i64)>,
    unknown: BTreeMap<i32, u64>,
}

impl Held {
    fn take(&mut self, positions: &Positions<'_>) {
        for (partition, offset) in positions.partitions.iter().zip(positions.offsets) {
            self.fingerprint.add(*partition, *offset);
        }
        let least = positions.offsets.iter().min();
        let most = positions.offsets.iter().max();
        if let (Some(least), Some(most)) = (least, most) {
            let (from, to) = self.bounds.unwrap_or((*least, *most));
            self.bounds = Some((from.min(*least), to.max(*most)));
        }
    }

    /// What the statistics say that is not so. They may be wider than the rows, never narrower.
    fn differs(&self, file: &DataFile) -> Option<String> {
        let rows = self.fingerprint.rows;
        if let Some(stated) = file.rows.filter(|stated| *stated != rows) {
            return Some(format!("it has {rows} rows, and the log says {stated}"));
        }
        let (from, to) = self.bounds?;
        let (least, most) = stated_bounds(file, POSITION_COLUMNS[1])?;
        (from < least || to > most)
            .then(|| format!("its offsets go from {from} to {to}, and the log says from {least} to {most}"))
    }
}

enum ReadError {
    Store(object_store::Error),
    File(String),
}

impl From<parquet::errors::ParquetError> for ReadError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        match error {
            parquet::errors::ParquetError::External(source) => match source.downcast::<object_store::Error>()
            {
                Ok(error) => ReadError::Store(*error),
                Err(other) => ReadError::File(format!("it cannot be read: {other}")),
            },
            error => ReadError::File(format!("it cannot be read: {error}")),
        }
    }
}

async fn read_rows(
    stored: StoredFile,
    table: TableName,
    file: &DataFile,
    wanted: Wanted,
    pass: &Pass,
    room: &Room,
    held: &mut Held,
) -> Result<(), ReadError> {
    // Types as Parquet has them: what another writer called them does not matter.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(stored, options).await?;
    let compared = columns(table);
    let is_wanted = |name: &str| {
        POSITION_COLUMNS.contains(&name)
            || (wanted.times && name == TIME_COLUMN)
            || (table == TableName::Logins && name == EVENT_TIME)
            || (wanted.contents && compared.iter().any(|field| field.name() == name))
    };
    let indices: Vec<usize> = (0..builder.schema().fields().len())
        .filter(|index| is_wanted(builder.schema().field(*index).name()))
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), indices);
    let needed = largest_row_group(builder.metadata(), &mask) * DECODED / PERMIT_BYTES;
    let needed = u32::try_from(needed).unwrap_or(u32::MAX).clamp(1, room.permits);
    let _taken = room.semaphore.acquire_many(needed).await;
    let mut batches = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()?;
    while let Some(batch) = batches.try_next().await? {
        let positions = Positions::of(&batch).map_err(ReadError::File)?;
        held.take(&positions);
        for (partition, rows) in pass.unknown(positions.partitions) {
            *held.unknown.entry(partition).or_default() += rows;
        }
        let misplaced = misplaced(&batch, file);
        pass.see_rows(table, file, &batch, &misplaced)
            .map_err(ReadError::File)?;
    }
    Ok(())
}

/// The bytes of the largest row group, as far as its columns are read.
fn largest_row_group(metadata: &Arc<ParquetMetaData>, mask: &ProjectionMask) -> usize {
    let bytes_of = |group: &parquet::file::metadata::RowGroupMetaData| -> i64 {
        let columns = group.columns().iter().enumerate();
        columns
            .filter(|(index, _)| mask.leaf_included(*index))
            .map(|(_, column)| column.compressed_size())
            .sum()
    };
    let largest = metadata.row_groups().iter().map(bytes_of).max();
    usize::try_from(largest.unwrap_or(0)).unwrap_or(0)
}

/// Which rows have an event time of another date, or hour, than the file's table partition; empty when none has.
fn misplaced(batch: &RecordBatch, file: &DataFile) -> Vec<bool> {
    let Some(times) = batch
        .column_by_name(EVENT_TIME)
        .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
    else {
        return Vec::new();
    };
    let schema = crate::table::schema::table_schema(TableName::Logins);
    let stated = |name: &str| -> Option<i64> {
        let value = file.partition_values.get(name)?.as_deref()?;
        number_of(value, schema.field_with_name(name).ok()?)
    };
    let (date, hour) = (stated("login_date"), stated("login_hour"));
    if date.is_none() && hour.is_none() {
        return Vec::new();
    }
    let is_misplaced = |time_us: i64| {
        let hours = time_us.div_euclid(HOUR_US);
        date.is_some_and(|date| date != hours.div_euclid(HOURS_OF_DAY))
            || hour.is_some_and(|hour| hour != hours.rem_euclid(HOURS_OF_DAY))
    };
    let found: Vec<bool> = (0..times.len())
        .map(|row| times.is_valid(row) && is_misplaced(times.value(row)))
        .collect();
    match found.contains(&true) {
        true => found,
        false => Vec::new(),
    }
}

impl<'a> Positions<'a> {
    /// The positions of some rows.
    ///
    /// # Errors
    /// A sentence when a row has none.
    pub(super) fn of(batch: &'a RecordBatch) -> Result<Self, String> {
        let unusable = || "its rows have no kafka_partition and kafka_offset".to_owned();
        let partitions = batch
            .column_by_name(POSITION_COLUMNS[0])
            .and_then(|column| column.as_primitive_opt::<Int32Type>())
            .ok_or_else(unusable)?;
        let offsets = batch
            .column_by_name(POSITION_COLUMNS[1])
            .and_then(|column| column.as_primitive_opt::<Int64Type>())
            .ok_or_else(unusable)?;
        if partitions.null_count() + offsets.null_count() > 0 {
            return Err("it has rows without kafka_partition and kafka_offset".to_owned());
        }
        Ok(Self {
            partitions: partitions.values(),
            offsets: offsets.values(),
            times_us: batch
                .column_by_name(TIME_COLUMN)
                .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>()),
        })
    }
}
