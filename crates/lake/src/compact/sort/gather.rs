//! A column of a chunk: put together from its pieces, and encoded.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, RecordBatch, StringArray, UInt16Array, make_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::interleave;
use arrow::datatypes::{FieldRef, UInt16Type};
use arrow::util::bit_util;
use parquet::arrow::arrow_writer::{ArrowColumnWriter, compute_leaves};
use parquet::errors::ParquetError;

use super::codes::{Codebook, NULL};
use super::layout::Layout;
use super::merge::Chunk;

/// Rows of a piece, on average, from which on copying pieces is quicker than copying rows.
const LONG_PIECE: usize = 8;

struct Column {
    field: FieldRef,
    /// The texts of a numbered column.
    texts: Option<Arc<StringArray>>,
}

/// Encodes columns of chunks.
pub(crate) struct ColumnEncoder {
    columns: Vec<Column>,
    /// The columns, those that take longest first.
    order: Vec<usize>,
}

impl ColumnEncoder {
    pub(super) fn new(layout: &Layout, codebook: &Codebook) -> Self {
        let columns: Vec<Column> = layout
            .schema
            .fields()
            .iter()
            .zip(&layout.coded)
            .map(|(field, coded)| Column {
                field: Arc::clone(field),
                texts: coded.map(|place| Arc::new(codebook.texts(place))),
            })
            .collect();
        let mut order: Vec<usize> = (0..columns.len()).collect();
        let is_long = |column: &Column| column.texts.is_none() && !column.field.data_type().is_primitive();
        order.sort_by_key(|index| !is_long(&columns[*index]));
        Self { columns, order }
    }

    /// The columns' places in the schema, those that take longest first.
    pub(crate) fn order(&self) -> &[usize] {
        &self.order
    }

    /// Puts a column of a chunk together and encodes it with `writer`.
    pub(crate) fn encode(
        &self,
        index: usize,
        chunk: &Chunk,
        writer: &mut ArrowColumnWriter,
    ) -> Result<(), ParquetError> {
        let column = &self.columns[index];
        let values = match &column.texts {
            Some(texts) => dictionary(chunk, index, texts)?,
            None => gathered(chunk, index)?,
        };
        for leaf in compute_leaves(&column.field, &values)? {
            writer.write(&leaf)?;
        }
        Ok(())
    }
}

fn gathered(chunk: &Chunk, index: usize) -> Result<ArrayRef, ParquetError> {
    if chunk.pieces.len() * LONG_PIECE > chunk.rows {
        let blocks: Vec<&dyn Array> = chunk
            .blocks
            .iter()
            .map(|rows| rows.column(index).as_ref())
            .collect();
        let picked: Vec<(usize, usize)> = chunk
            .pieces
            .iter()
            .flat_map(|(number, rows)| rows.clone().map(|row| (*number, row)))
            .collect();
        return Ok(interleave(&blocks, &picked)?);
    }
    let data: Vec<_> = chunk
        .blocks
        .iter()
        .map(|rows| rows.column(index).to_data())
        .collect();
    let mut values = arrow::array::MutableArrayData::new(data.iter().collect(), false, chunk.rows);
    for (number, rows) in &chunk.pieces {
        values.try_extend(*number, rows.start, rows.end)?;
    }
    Ok(make_array(values.freeze()))
}

/// A numbered column with its texts.
fn dictionary(chunk: &Chunk, index: usize, texts: &Arc<StringArray>) -> Result<ArrayRef, ParquetError> {
    let blocks: Vec<&[u16]> = chunk
        .blocks
        .iter()
        .map(|rows: &RecordBatch| rows.column(index).as_primitive::<UInt16Type>().values().as_ref())
        .collect();
    let mut codes: Vec<u16> = Vec::with_capacity(chunk.rows);
    for (number, rows) in &chunk.pieces {
        let rows: Range<usize> = rows.clone();
        codes.extend_from_slice(&blocks[*number][rows]);
    }
    let nulls = codes.contains(&NULL).then(|| {
        let mut valid = vec![0; bit_util::ceil(codes.len(), 8)];
        for (row, code) in codes.iter().enumerate() {
            if *code != NULL {
                bit_util::set_bit(&mut valid, row);
            }
        }
        NullBuffer::new(arrow::buffer::BooleanBuffer::new(valid.into(), 0, codes.len()))
    });
    let keys = UInt16Array::new(codes.into(), nulls);
    Ok(Arc::new(DictionaryArray::try_new(
        keys,
        Arc::clone(texts) as ArrayRef,
    )?))
}
