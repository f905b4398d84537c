//! Where records go: a file of lines. Kafka is the other sink, in [`crate::to_kafka`].

use std::fs::File;
use std::io::{self, BufWriter, Write, stdout};
use std::path::{Path, PathBuf};

use loginlake_kafka::KafkaError;

use crate::ndjson::write_line;
use crate::record::RecordBuffer;

/// Why a record could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The file cannot be made or written.
    #[error("cannot write {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Standard output is closed or cannot be written.
    #[error("cannot write to standard output: {0}")]
    Stdout(#[source] io::Error),
    /// The cluster, the topic or a record was refused.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The brokers gave up on records that had been handed over.
    #[error("{failed} of {sent} records were not delivered: {cause}")]
    NotDelivered {
        /// Records that were given up.
        failed: u64,
        /// Records handed over, these included.
        sent: u64,
        /// Why the first one was given up.
        cause: String,
    },
}

/// Something that takes records.
pub trait RecordSink {
    /// Takes one record. It may stay in a buffer until [`RecordSink::flush`].
    ///
    /// # Errors
    /// The record cannot be taken, or an earlier one was lost.
    fn send(&mut self, record: &RecordBuffer) -> Result<(), SinkError>;

    /// Called before a pause, so that what was sent does not wait for what follows.
    ///
    /// # Errors
    /// The records cannot be passed on.
    fn before_pause(&mut self) -> Result<(), SinkError>;

    /// Returns once every record that was taken is safely where it belongs.
    ///
    /// # Errors
    /// At least one record is not.
    fn flush(&mut self) -> Result<(), SinkError>;
}

/// Writes lines (see [`crate::ndjson`]) to a file or to standard output.
pub struct FileSink {
    /// `None` is standard output.
    path: Option<PathBuf>,
    out: BufWriter<Box<dyn Write>>,
}

impl FileSink {
    /// Creates or empties `path`; `-` is standard output.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn create(path: &Path) -> Result<FileSink, SinkError> {
        let (path, out): (_, Box<dyn Write>) = if path == Path::new("-") {
            (None, Box::new(stdout()))
        } else {
            let file = File::create(path).map_err(|source| SinkError::File {
                path: path.to_owned(),
                source,
            })?;
            (Some(path.to_owned()), Box::new(file))
        };
        Ok(FileSink {
            path,
            out: BufWriter::with_capacity(1 << 16, out),
        })
    }

    fn checked(&self, result: io::Result<()>) -> Result<(), SinkError> {
        result.map_err(|source| match &self.path {
            Some(path) => SinkError::File {
                path: path.clone(),
                source,
            },
            None => SinkError::Stdout(source),
        })
    }
}

impl RecordSink for FileSink {
    fn send(&mut self, record: &RecordBuffer) -> Result<(), SinkError> {
        let result = write_line(record.payload(), &mut self.out);
        self.checked(result)
    }

    fn before_pause(&mut self) -> Result<(), SinkError> {
        self.flush()
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        let result = self.out.flush();
        self.checked(result)
    }
}
