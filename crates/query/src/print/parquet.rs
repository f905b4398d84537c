//! Parquet, in row groups of bounded size, each written as soon as it is full.

use std::fmt;
use std::io::{self, Write};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::PrintError;

/// A row group ends with the first of both.
const ROW_GROUP_ROWS: usize = 131_072;
const ROW_GROUP_BYTES: usize = 32 << 20;

/// State between the calls for one result.
#[derive(Default)]
pub(super) struct Parquet {
    /// Writes into memory what is then taken from there.
    writer: Option<ArrowWriter<Vec<u8>>>,
    has_begun: bool,
}

impl fmt::Debug for Parquet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parquet")
            .field("has_begun", &self.has_begun)
            .finish_non_exhaustive()
    }
}

impl Parquet {
    pub(super) fn begin(&mut self, schema: &SchemaRef) -> io::Result<()> {
        if std::mem::replace(&mut self.has_begun, true) {
            return Err(io::Error::other(PrintError::SeveralResults));
        }
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .set_created_by("loginlake".to_owned())
            .build();
        let writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties)).map_err(failed)?;
        self.writer = Some(writer);
        Ok(())
    }

    pub(super) fn rows(&mut self, batch: &RecordBatch, out: &mut impl Write) -> io::Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        writer.write(batch).map_err(failed)?;
        if writer.in_progress_rows() >= ROW_GROUP_ROWS || writer.in_progress_size() >= ROW_GROUP_BYTES {
            writer.flush().map_err(failed)?;
        }
        out.write_all(&std::mem::take(writer.inner_mut()))
    }

    pub(super) fn end(&mut self, out: &mut impl Write) -> io::Result<()> {
        match self.writer.take() {
            Some(writer) => out.write_all(&writer.into_inner().map_err(failed)?),
            None => Ok(()),
        }
    }
}

fn failed(error: ParquetError) -> io::Error {
    match error {
        ParquetError::NYI(detail) | ParquetError::ArrowError(detail) => {
            io::Error::other(PrintError::NotParquet { detail })
        }
        other => io::Error::other(other),
    }
}
