//! The rows of one file of the table in the layout of a sort.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt16Array, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Schema};
use object_store::ObjectStore;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader};
use parquet::arrow::async_reader::{ParquetRecordBatchStream, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;

use super::SortError;
use super::codes::{Codebook, NULL, TooMany};
use super::layout::Layout;
use crate::compact::scan::location;
use crate::file::stored::StoredFile;
use crate::table::DataFile;

/// Rows that are decoded at a time.
const BATCH_ROWS: usize = 8192;

fn dictionary() -> DataType {
    DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
}

/// A file that is being read, a row group at a time.
pub(super) struct Rows {
    stream: ParquetRecordBatchStream<StoredFile>,
    group: Option<ParquetRecordBatchReader>,
}

impl Rows {
    /// The next rows; `None`: that were all.
    pub(super) async fn next(&mut self) -> Result<Option<RecordBatch>, ParquetError> {
        loop {
            if let Some(batch) = self.group.as_mut().and_then(Iterator::next) {
                return Ok(Some(batch?));
            }
            self.group = self.stream.next_row_group().await?;
            if self.group.is_none() {
                return Ok(None);
            }
        }
    }
}

/// Opens a file: its columns of `layout`, the numbered ones as dictionaries, which is how they are stored.
pub(super) async fn open(
    store: Arc<dyn ObjectStore>,
    file: &DataFile,
    layout: &Layout,
) -> Result<Rows, ParquetError> {
    let mut reader = StoredFile::new(store, location(&file.path), file.size_bytes);
    let stored = ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::default()).await?;
    let mut wanted = Vec::new();
    let mut fields = Vec::new();
    for (index, field) in stored.schema().fields().iter().enumerate() {
        let held = layout.held.column_with_name(field.name());
        if held.is_some() {
            wanted.push(index);
        }
        let is_coded = held.is_some_and(|(place, _)| layout.coded[place].is_some());
        fields.push(match field.data_type() {
            DataType::Utf8 if is_coded => Arc::new(field.as_ref().clone().with_data_type(dictionary())),
            _ => Arc::clone(field),
        });
    }
    let schema = Schema::new_with_metadata(fields, stored.schema().metadata().clone());
    let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
    let metadata = ArrowReaderMetadata::try_new(Arc::clone(stored.metadata()), options)?;
    let mask = ProjectionMask::roots(metadata.parquet_schema(), wanted);
    let stream = ParquetRecordBatchStreamBuilder::new_with_metadata(reader, metadata)
        .with_batch_size(BATCH_ROWS)
        .with_projection(mask)
        .build()?;
    Ok(Rows { stream, group: None })
}

/// The numbers of one dictionary's texts.
struct Known {
    texts: ArrayRef,
    codes: Vec<u16>,
}

/// Puts batches of one file into the layout.
pub(super) struct Numbered<'a> {
    layout: &'a Layout,
    codebook: &'a Codebook,
    /// The dictionary seen last, by place in the codebook: all batches of a row group share one.
    known: Vec<Option<Known>>,
}

impl<'a> Numbered<'a> {
    pub(super) fn new(layout: &'a Layout, codebook: &'a Codebook) -> Self {
        let columns = layout.coded.iter().flatten().count();
        Self {
            layout,
            codebook,
            known: (0..columns).map(|_| None).collect(),
        }
    }

    /// The rows with the columns of the layout: missing ones are null, numbered ones are numbers.
    pub(super) fn batch(&mut self, batch: &RecordBatch) -> Result<Result<RecordBatch, TooMany>, SortError> {
        let mut columns = Vec::with_capacity(self.layout.coded.len());
        let held = self.layout.held.fields().iter();
        for (field, coded) in held.zip(&self.layout.coded) {
            let found = batch.column_by_name(field.name());
            columns.push(match (coded, found) {
                (Some(_), None) => Arc::new(UInt16Array::from(vec![NULL; batch.num_rows()])) as ArrayRef,
                (None, None) => new_null_array(field.data_type(), batch.num_rows()),
                (Some(place), Some(column)) => match self.numbers(*place, column)? {
                    Ok(numbers) => Arc::new(numbers),
                    Err(too_many) => return Ok(Err(too_many)),
                },
                (None, Some(column)) if column.data_type() == field.data_type() => Arc::clone(column),
                (None, Some(column)) => cast(column, field.data_type())?,
            });
        }
        Ok(Ok(RecordBatch::try_new(Arc::clone(&self.layout.held), columns)?))
    }

    fn numbers(
        &mut self,
        place: usize,
        column: &ArrayRef,
    ) -> Result<Result<UInt16Array, TooMany>, SortError> {
        let cast_column;
        let column = if *column.data_type() == dictionary() {
            column
        } else {
            cast_column = cast(column, &dictionary())?;
            &cast_column
        };
        let column = column.as_dictionary::<Int32Type>();
        let texts = column.values();
        let is_known = |known: &Known| {
            known.texts.len() == texts.len()
                && std::ptr::eq(
                    known.texts.as_string::<i32>().value_data().as_ptr(),
                    texts.as_string::<i32>().value_data().as_ptr(),
                )
        };
        if !self.known[place].as_ref().is_some_and(is_known) {
            let codes = match self.codebook.codes_of(place, texts.as_string::<i32>()) {
                Ok(codes) => codes,
                Err(too_many) => return Ok(Err(too_many)),
            };
            self.known[place] = Some(Known {
                texts: Arc::clone(texts),
                codes,
            });
        }
        let codes = self.known[place]
            .as_ref()
            .map(|known| known.codes.as_slice())
            .unwrap_or_default();
        let keys = column.keys();
        let numbers: Vec<u16> = if keys.null_count() == 0 {
            keys.values().iter().map(|key| codes[*key as usize]).collect()
        } else {
            keys.iter()
                .map(|key| key.map_or(NULL, |key| codes[key as usize]))
                .collect()
        };
        Ok(Ok(numbers.into()))
    }
}
