//! The rejected rows of a closed batch: one file, put together and compressed once. A batch that is tried again uses it as
//! it is; only when another process has stored a part of its rows already it is read back and those are left out.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Int32Type, Int64Type};
use loginlake_events::columns::rejected_schema;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::buffer::{REJECTED_CHUNK_BYTES, encode_error};
use super::tables::RejectedRows;
use crate::error::LakeError;
use crate::file::encode::{EncodedRowGroup, encode};
use crate::file::properties::Tier;
use crate::file::upload::AssembledFile;

/// Rows that are decoded at a time: payloads are up to 1 MiB each.
const DECODE_ROWS: usize = 16;

/// The rejected rows of a batch as one file.
pub struct RejectedFile {
    file: AssembledFile,
    /// The lowest offset of each Kafka partition that the rows came from.
    first_offsets: BTreeMap<i32, i64>,
}

impl RejectedFile {
    /// Puts row groups together; `None`: there are none. `first_offsets` are the lowest of each Kafka partition in them.
    ///
    /// # Errors
    /// The row groups do not fit together, which a test rules out.
    pub(super) fn assemble(
        groups: Vec<EncodedRowGroup>,
        first_offsets: BTreeMap<i32, i64>,
    ) -> Result<Option<Self>, LakeError> {
        if groups.is_empty() {
            return Ok(None);
        }
        let file = AssembledFile::assemble(groups, Tier::Hot).map_err(encode_error)?;
        Ok(Some(Self { file, first_offsets }))
    }
}

impl RejectedRows<AssembledFile> for RejectedFile {
    fn file_without(
        &self,
        held: &BTreeMap<i32, i64>,
    ) -> Result<Option<(AssembledFile, BTreeSet<i32>)>, LakeError> {
        let is_wanted = |partition: i32, offset: i64| held.get(&partition).is_none_or(|held| offset >= *held);
        if self
            .first_offsets
            .iter()
            .all(|(partition, first)| is_wanted(*partition, *first))
        {
            let moved = self.first_offsets.keys().copied().collect();
            return Ok(Some((self.file.clone(), moved)));
        }
        let rows = ParquetRecordBatchReaderBuilder::try_new(self.file.bytes.clone())
            .and_then(|reader| reader.with_batch_size(DECODE_ROWS).build())
            .map_err(encode_error)?;
        let (mut groups, mut kept, mut kept_bytes) = (Vec::new(), Vec::new(), 0);
        for part in rows {
            let part = part.map_err(|error| LakeError::Invariant(error.to_string()))?;
            kept.push(keep_rows(&part, is_wanted)?);
            kept_bytes += part.get_array_memory_size();
            if kept_bytes >= REJECTED_CHUNK_BYTES {
                groups.extend(encode_all(&kept)?);
                kept.clear();
                kept_bytes = 0;
            }
        }
        groups.extend(encode_all(&kept)?);
        if groups.is_empty() {
            return Ok(None);
        }
        let moved = groups
            .iter()
            .flat_map(|group| group.kafka_partitions.iter().copied())
            .collect();
        let file = AssembledFile::assemble(groups, Tier::Hot).map_err(encode_error)?;
        Ok(Some((file, moved)))
    }
}

fn encode_all(parts: &[RecordBatch]) -> Result<Vec<EncodedRowGroup>, LakeError> {
    let rows =
        concat_batches(&rejected_schema(), parts).map_err(|error| LakeError::Invariant(error.to_string()))?;
    if rows.num_rows() == 0 {
        return Ok(Vec::new());
    }
    encode(&rows, &[], Tier::Hot).map_err(encode_error)
}

/// The rows whose Kafka partition and offset are wanted.
fn keep_rows(part: &RecordBatch, wanted: impl Fn(i32, i64) -> bool) -> Result<RecordBatch, LakeError> {
    let missing = || LakeError::Invariant("rows without kafka_partition and kafka_offset".to_owned());
    let partitions = part
        .column_by_name("kafka_partition")
        .ok_or_else(missing)?
        .as_primitive::<Int32Type>();
    let offsets = part
        .column_by_name("kafka_offset")
        .ok_or_else(missing)?
        .as_primitive::<Int64Type>();
    let mask: BooleanArray = partitions
        .values()
        .iter()
        .zip(offsets.values())
        .map(|(p, o)| Some(wanted(*p, *o)))
        .collect();
    filter_record_batch(part, &mask).map_err(|error| LakeError::Invariant(error.to_string()))
}
