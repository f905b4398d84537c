//! Rows into an encoded row group that waits in memory, compressed to about a tenth of its Arrow size, until the file that
//! it belongs to is written. So memory holds large batches, and a file has large row groups however it was filled.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use arrow::datatypes::{Date32Type, Int8Type, Int32Type, SchemaRef};
use bytes::Bytes;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::errors::ParquetError;
use parquet::file::writer::SerializedFileWriter;

use super::properties::{Tier, row_group_properties};

/// The values of a table partition's columns, as `column=value` folders have them.
pub type PartitionValues = Vec<(String, String)>;

/// A row group, encoded and compressed, of one table partition.
pub struct EncodedRowGroup {
    /// Partition columns with their values; empty for an unpartitioned table.
    pub partition_values: PartitionValues,
    /// Number of rows.
    pub rows: u64,
    /// Bytes that it holds in memory, and about those of the file.
    pub bytes: u64,
    /// The Kafka partitions that its rows came from.
    pub kafka_partitions: BTreeSet<i32>,
    /// Columns of the file.
    pub(crate) file_schema: SchemaRef,
    pub(crate) columns: Vec<ArrowColumnChunk>,
}

/// Splits rows by table partition and encodes each part. `partition_columns` are left out of the files, as Delta wants it.
///
/// # Errors
/// The rows do not fit the Parquet writer, which a test rules out.
pub fn encode(
    batch: &RecordBatch,
    partition_columns: &[String],
    tier: Tier,
) -> Result<Vec<EncodedRowGroup>, ParquetError> {
    let mut encoded = Vec::new();
    for (partition_values, part) in split_by_partition(batch, partition_columns)? {
        let kept: Vec<usize> = (0..part.num_columns())
            .filter(|index| {
                !partition_columns
                    .iter()
                    .any(|column| column == part.schema().field(*index).name())
            })
            .collect();
        encoded.push(encode_part(&part.project(&kept)?, partition_values, tier)?);
    }
    Ok(encoded)
}

fn encode_part(
    part: &RecordBatch,
    partition_values: PartitionValues,
    tier: Tier,
) -> Result<EncodedRowGroup, ParquetError> {
    let file_schema = part.schema();
    let rows = part.num_rows() as u64;
    let properties = row_group_properties(part, tier);
    let parquet_schema = ArrowSchemaConverter::new().convert(&file_schema)?;
    // Writers of columns can be had from a file writer only; this one's file is never finished.
    let file = SerializedFileWriter::new(Vec::new(), parquet_schema.root_schema_ptr(), properties)?;
    let factory = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&file_schema));
    let mut writers = factory.create_column_writers(0)?.into_iter();
    let mut columns = Vec::with_capacity(file_schema.fields().len());
    for (field, array) in file_schema.fields().iter().zip(part.columns()) {
        for leaf in compute_leaves(field, array)? {
            let mut writer = writers
                .next()
                .ok_or_else(|| ParquetError::General("fewer column writers than leaves".to_owned()))?;
            writer.write(&leaf)?;
            columns.push(writer.close()?);
        }
    }
    let bytes = columns.iter().map(|column| column.close().bytes_written).sum();
    Ok(EncodedRowGroup {
        partition_values,
        rows,
        bytes,
        kafka_partitions: kafka_partitions_of(part),
        file_schema,
        columns,
    })
}

/// Drops the rows of these Kafka partitions. Rare: only when partitions leave while rows wait.
///
/// # Errors
/// What was just encoded cannot be decoded.
pub fn without_kafka_partitions(
    group: EncodedRowGroup,
    leaving: &BTreeSet<i32>,
    tier: Tier,
) -> Result<Option<EncodedRowGroup>, ParquetError> {
    if group.kafka_partitions.is_disjoint(leaving) {
        return Ok(Some(group));
    }
    if group.kafka_partitions.is_subset(leaving) {
        return Ok(None);
    }
    let partition_values = group.partition_values.clone();
    let file_schema = Arc::clone(&group.file_schema);
    let mut file = Vec::new();
    super::upload::write_file(vec![group], tier, &mut file)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file))?.build()?;
    let mut parts = Vec::new();
    for batch in reader {
        let batch = batch?;
        let kept = batch.column_by_name("kafka_partition").map(|column| {
            column
                .as_primitive::<Int32Type>()
                .iter()
                .map(|value| value.map(|p| !leaving.contains(&p)))
                .collect()
        });
        let kept: BooleanArray =
            kept.ok_or_else(|| ParquetError::General("rows without kafka_partition".to_owned()))?;
        parts.push(filter_record_batch(&batch, &kept)?);
    }
    let rest = arrow::compute::concat_batches(&file_schema, &parts)?;
    if rest.num_rows() == 0 {
        Ok(None)
    } else {
        encode_part(&rest, partition_values, tier).map(Some)
    }
}

fn kafka_partitions_of(part: &RecordBatch) -> BTreeSet<i32> {
    let Some(column) = part.column_by_name("kafka_partition") else {
        return BTreeSet::new();
    };
    let mut found = BTreeSet::new();
    let mut last = None;
    // Rows come in runs of one partition: look a value up only when it changes.
    for value in column.as_primitive::<Int32Type>().values() {
        if last != Some(*value) {
            found.insert(*value);
            last = Some(*value);
        }
    }
    found
}

/// The rows of each table partition, in the order in which they came. The usual batch has one partition and is not copied.
fn split_by_partition(
    batch: &RecordBatch,
    partition_columns: &[String],
) -> Result<Vec<(PartitionValues, RecordBatch)>, ParquetError> {
    if partition_columns.is_empty() || batch.num_rows() == 0 {
        return Ok(vec![(Vec::new(), batch.clone())]);
    }
    let mut keys: std::collections::BTreeMap<Vec<i32>, Vec<u32>> = std::collections::BTreeMap::new();
    let columns: Vec<Vec<i32>> = partition_columns
        .iter()
        .map(|name| integers(batch, name))
        .collect::<Result<_, _>>()?;
    let mut last: Option<(Vec<i32>, Vec<u32>)> = None;
    for row in 0..batch.num_rows() {
        let same = last
            .as_ref()
            .is_some_and(|(key, _)| key.iter().zip(&columns).all(|(k, c)| *k == c[row]));
        if !same {
            if let Some((key, rows)) = last.take() {
                keys.entry(key).or_default().extend(rows);
            }
            last = Some((columns.iter().map(|column| column[row]).collect(), Vec::new()));
        }
        if let Some((_, rows)) = &mut last {
            rows.push(u32::try_from(row).unwrap_or(u32::MAX));
        }
    }
    if let Some((key, rows)) = last {
        keys.entry(key).or_default().extend(rows);
    }
    let only_one = keys.len() == 1;
    keys.into_iter()
        .map(|(key, rows)| {
            let values = partition_columns
                .iter()
                .zip(&key)
                .map(|(name, value)| (name.clone(), text(name, *value)));
            let part = if only_one {
                batch.clone()
            } else {
                take_record_batch(batch, &UInt32Array::from(rows))?
            };
            Ok((values.collect(), part))
        })
        .collect()
}

/// A partition column as integers: dates are days since the epoch, hours are hours.
fn integers(batch: &RecordBatch, name: &str) -> Result<Vec<i32>, ParquetError> {
    let column = batch
        .column_by_name(name)
        .ok_or_else(|| ParquetError::General(format!("no partition column {name}")))?;
    if let Some(dates) = column.as_primitive_opt::<Date32Type>() {
        Ok(dates.values().to_vec())
    } else if let Some(hours) = column.as_primitive_opt::<Int8Type>() {
        Ok(hours.values().iter().map(|hour| i32::from(*hour)).collect())
    } else {
        Err(ParquetError::General(format!(
            "cannot partition by {name} of type {}",
            column.data_type()
        )))
    }
}

/// A partition value as Delta writes it.
fn text(name: &str, value: i32) -> String {
    if name == "login_date" {
        let date = chrono::NaiveDate::from_epoch_days(value).unwrap_or_default();
        date.format("%Y-%m-%d").to_string()
    } else {
        value.to_string()
    }
}
