//! The rows of a date counted, in bounded memory whatever clients invent.
//!
//! Groups are kept in memory up to a limit. A date that has more is read several times, each time for another share of its groups,
//! chosen by their hash; each share becomes a file of its own.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use futures::TryStreamExt;
use object_store::path::Path;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use crate::error::LakeError;
use crate::file::stored::StoredFile;
use crate::store::Lake;
use crate::table::{DataFile, TableName};

/// The dimensions in the order by which the rows of a file are sorted.
const DIMENSIONS: [(&str, DataType); 7] = [
    ("region", DataType::Utf8),
    ("device_type", DataType::Utf8),
    ("login_hour", DataType::Int8),
    ("local_hour", DataType::Int8),
    ("time_of_day", DataType::Utf8),
    ("locale", DataType::Utf8),
    ("app_version", DataType::Utf8),
];
/// What a group costs beside its key, in bytes: the table's slot, the allocation and the count.
const GROUP_BYTES: usize = 64;
/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8192;
/// A date is divided into at most so many shares.
const MAX_SHARES: u64 = 1 << 16;

/// The columns of a file of the view: the table's without its partition column, in the table's order.
pub(super) fn file_schema() -> SchemaRef {
    let table = crate::table::schema::table_schema(TableName::LoginsHourly);
    let fields: Vec<_> = table
        .fields()
        .iter()
        .filter(|field| field.name() != super::changes::DATE)
        .cloned()
        .collect();
    Arc::new(Schema::new(fields))
}

/// One of `of` shares of the groups of a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) index: u64,
    pub(super) of: u64,
}

impl Share {
    /// All groups.
    pub(super) const WHOLE: Share = Share { index: 0, of: 1 };
}

/// The groups of a share, or too many of them.
pub(super) enum Counted {
    Rows(RecordBatch),
    TooMany,
}

/// Twice as many shares, as long as that is sensible.
pub(super) fn divide(shares: u64) -> Result<u64, LakeError> {
    if shares >= MAX_SHARES {
        return Err(LakeError::Configuration(format!(
            "a date has too many groups to be counted in this memory, even in {shares} shares: raise --memory-budget"
        )));
    }
    Ok(shares * 2)
}

/// Counts the rows of `files` by the dimensions, those groups only that belong to `share`.
pub(super) async fn count(
    lake: &Lake,
    files: &[&DataFile],
    share: Share,
    limit_bytes: usize,
) -> Result<Counted, LakeError> {
    let mut groups = Groups::new(share, limit_bytes).map_err(|error| invariant(&error))?;
    let store = lake.table_store(TableName::Logins);
    for file in files {
        let unreadable = |source| LakeError::Parquet {
            action: "read",
            path: file.path.clone(),
            source,
        };
        let location = Path::parse(&file.path).unwrap_or_else(|_| Path::from(file.path.as_str()));
        let stored = StoredFile::new(Arc::clone(&store), location, file.size_bytes);
        let builder = ParquetRecordBatchStreamBuilder::new(stored)
            .await
            .map_err(unreadable)?;
        let wanted: Vec<usize> = (0..builder.schema().fields().len())
            .filter(|index| {
                let name = builder.schema().field(*index).name();
                DIMENSIONS.iter().any(|(dimension, _)| dimension == name)
            })
            .collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        let mut rows = builder
            .with_projection(mask)
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(unreadable)?;
        while let Some(batch) = rows.try_next().await.map_err(unreadable)? {
            let within = groups.add(&batch, file).map_err(|error| invariant(&error))?;
            if !within {
                return Ok(Counted::TooMany);
            }
        }
    }
    groups
        .finish()
        .map(Counted::Rows)
        .map_err(|error| invariant(&error))
}

fn invariant(error: &ArrowError) -> LakeError {
    LakeError::Invariant(format!("logins cannot be counted by hour: {error}"))
}

/// Groups and their counts. A key is the row format of the dimensions, whose order is that of the rows.
struct Groups {
    converter: RowConverter,
    counts: HashMap<Box<[u8]>, i64>,
    share: Share,
    bytes: usize,
    limit_bytes: usize,
}

impl Groups {
    fn new(share: Share, limit_bytes: usize) -> Result<Self, ArrowError> {
        let fields = DIMENSIONS.map(|(_, data_type)| SortField::new(data_type));
        Ok(Self {
            converter: RowConverter::new(fields.to_vec())?,
            counts: HashMap::new(),
            share,
            bytes: 0,
            limit_bytes,
        })
    }

    /// False: there are more groups than may be held.
    fn add(&mut self, batch: &RecordBatch, file: &DataFile) -> Result<bool, ArrowError> {
        let columns = DIMENSIONS
            .iter()
            .map(|(name, data_type)| dimension(batch, file, name, data_type))
            .collect::<Result<Vec<_>, _>>()?;
        let rows = self.converter.convert_columns(&columns)?;
        for row in &rows {
            let key = row.as_ref();
            if self.share.of > 1 && share_hash(key) % self.share.of != self.share.index {
                continue;
            }
            match self.counts.get_mut(key) {
                Some(count) => *count += 1,
                None => {
                    self.bytes += key.len() + GROUP_BYTES;
                    if self.bytes > self.limit_bytes {
                        return Ok(false);
                    }
                    self.counts.insert(key.into(), 1);
                }
            }
        }
        Ok(true)
    }

    /// The groups as rows of the view, sorted.
    fn finish(self) -> Result<RecordBatch, ArrowError> {
        let mut sorted: Vec<(Box<[u8]>, i64)> = self.counts.into_iter().collect();
        sorted.sort_unstable();
        let parser = self.converter.parser();
        let columns = self
            .converter
            .convert_rows(sorted.iter().map(|(key, _)| parser.parse(key)))?;
        let counts: ArrayRef = Arc::new(Int64Array::from_iter_values(
            sorted.iter().map(|(_, count)| *count),
        ));
        let schema = file_schema();
        let ordered = schema
            .fields()
            .iter()
            .map(|field: &Arc<Field>| {
                DIMENSIONS
                    .iter()
                    .position(|(name, _)| name == field.name())
                    .map_or_else(|| Arc::clone(&counts), |index| Arc::clone(&columns[index]))
            })
            .collect();
        RecordBatch::try_new(schema, ordered)
    }
}

/// A dimension of the rows: from the file, or the value of its partition, or null where an older file has none.
fn dimension(
    batch: &RecordBatch,
    file: &DataFile,
    name: &str,
    data_type: &DataType,
) -> Result<ArrayRef, ArrowError> {
    if let Some(column) = batch.column_by_name(name) {
        return cast(column, data_type);
    }
    match file.partition_values.get(name) {
        Some(Some(value)) => cast(
            &StringArray::from_iter_values(std::iter::repeat_n(value, batch.num_rows())),
            data_type,
        ),
        _ => Ok(new_null_array(data_type, batch.num_rows())),
    }
}

/// FNV-1a, folded. The share of a group must be the same in every pass, so there is no seed.
fn share_hash(key: &[u8]) -> u64 {
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^ (hash >> 32)
}
