//! The files that a version names: there, of the size stated, with the rows and bounds that their statistics say. Their rows'
//! positions are handed on while they are read: two or three columns of each file.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type, TimestampMicrosecondType};
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use serde_json::Value;

use super::report::{Finding, What};
use crate::compact::Fingerprint;
use crate::compact::fingerprint::POSITION_COLUMNS;
use crate::error::LakeError;
use crate::file::stored::StoredFile;
use crate::store::Lake;
use crate::table::{DataFile, TableName};

/// The column that hours are told by.
const TIME_COLUMN: &str = "kafka_timestamp";
/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 32 * 1024;

/// Positions of rows, column by column.
pub(super) struct Positions<'a> {
    pub(super) partitions: &'a [i32],
    pub(super) offsets: &'a [i64],
    /// Microseconds since the epoch; `None` when they were not asked for, or the file has none.
    pub(super) times_us: Option<&'a arrow::array::TimestampMicrosecondArray>,
}

/// What a file was found to hold.
pub(super) struct FileFacts {
    pub(super) fingerprint: Fingerprint,
    pub(super) finding: Option<Finding>,
}

/// Bounds of a column by the file's statistics.
pub(super) fn stated_bounds(file: &DataFile, column: &str) -> Option<(i64, i64)> {
    let stats: Value = serde_json::from_str(file.stats_json.as_deref()?).ok()?;
    Some((
        stats["minValues"][column].as_i64()?,
        stats["maxValues"][column].as_i64()?,
    ))
}

/// Reads a file. What is wrong with the file is a finding, not an error.
///
/// # Errors
/// The store failed.
pub(super) async fn read(
    lake: &Lake,
    table: TableName,
    file: &DataFile,
    with_times: bool,
    mut each: impl FnMut(&Positions<'_>),
) -> Result<FileFacts, LakeError> {
    let store = lake.table_store(table);
    let location = Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()));
    let wrong = |what: What, detail: String| FileFacts {
        fingerprint: Fingerprint::default(),
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
    match read_rows(
        StoredFile::new(store, location, file.size_bytes),
        with_times,
        &mut held,
        &mut each,
    )
    .await
    {
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
    with_times: bool,
    held: &mut Held,
    each: &mut impl FnMut(&Positions<'_>),
) -> Result<(), ReadError> {
    let builder = ParquetRecordBatchStreamBuilder::new(stored).await?;
    let wanted: Vec<usize> = (0..builder.schema().fields().len())
        .filter(|index| {
            let name = builder.schema().field(*index).name().as_str();
            POSITION_COLUMNS.contains(&name) || (with_times && name == TIME_COLUMN)
        })
        .collect();
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let mut batches = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()?;
    while let Some(batch) = batches.try_next().await? {
        let positions = positions(&batch).map_err(ReadError::File)?;
        held.take(&positions);
        each(&positions);
    }
    Ok(())
}

fn positions(batch: &RecordBatch) -> Result<Positions<'_>, String> {
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
    Ok(Positions {
        partitions: partitions.values(),
        offsets: offsets.values(),
        times_us: batch
            .column_by_name(TIME_COLUMN)
            .and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>()),
    })
}
