//! Where records come from: the generator, or a file that is replayed.

use std::fs::File;
use std::io::{BufRead, BufReader, stdin};
use std::path::{Path, PathBuf};

use crate::generator::Generator;
use crate::ndjson::{Line, LineError, LineReader};
use crate::record::RecordBuffer;
use crate::rng::Rng;

/// Why a source cannot give its next record.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds something that is not a record.
    #[error("cannot replay {path}: {source}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, and what is wrong with it.
        source: LineError,
    },
    /// The file was to be replayed again and again, and holds nothing.
    #[error("cannot replay {path} in a loop: it holds no record")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// Something that gives records.
pub trait RecordSource {
    /// Puts the next record into `record`; false when there is none.
    ///
    /// # Errors
    /// The source cannot be read on.
    fn next_record(&mut self, record: &mut RecordBuffer) -> Result<bool, SourceError>;
}

impl RecordSource for Generator {
    fn next_record(&mut self, record: &mut RecordBuffer) -> Result<bool, SourceError> {
        Ok(self.next_into(record))
    }
}

/// Gives the records of a file (see [`crate::ndjson`]) as they are, each with a fresh key.
pub struct Replay {
    path: PathBuf,
    reader: LineReader<Box<dyn BufRead>>,
    keys: Rng,
    remaining: Option<u64>,
    looping: bool,
    found_in_this_pass: bool,
}

impl Replay {
    /// Opens `path`, `-` for standard input. `seed` decides the keys, `count` limits the records, `looping` starts
    /// again at the end of the file (which needs a real file).
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, seed: u64, count: Option<u64>, looping: bool) -> Result<Replay, SourceError> {
        let reader = LineReader::new(open_input(path)?);
        let keys = Rng::from_seed(seed);
        Ok(Replay {
            path: path.to_owned(),
            reader,
            keys,
            remaining: count,
            looping,
            found_in_this_pass: false,
        })
    }
}

impl RecordSource for Replay {
    fn next_record(&mut self, record: &mut RecordBuffer) -> Result<bool, SourceError> {
        if self.remaining == Some(0) {
            return Ok(false);
        }
        loop {
            record.begin(&mut self.keys);
            let line = self
                .reader
                .read_into(&mut record.payload)
                .map_err(|source| SourceError::Line {
                    path: self.path.clone(),
                    source,
                })?;
            if let Some(line) = line {
                record.tombstone = line == Line::Tombstone;
                self.found_in_this_pass = true;
                self.remaining = self.remaining.map(|remaining| remaining - 1);
                return Ok(true);
            }
            if !self.looping {
                return Ok(false);
            }
            if !self.found_in_this_pass {
                return Err(SourceError::Empty {
                    path: self.path.clone(),
                });
            }
            self.reader = LineReader::new(open_input(&self.path)?);
            self.found_in_this_pass = false;
        }
    }
}

fn open_input(path: &Path) -> Result<Box<dyn BufRead>, SourceError> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::new(stdin())));
    }
    let open = || {
        let file = File::open(path)?;
        // A folder opens, and says so only when it is read.
        if file.metadata()?.is_dir() {
            Err(std::io::ErrorKind::IsADirectory.into())
        } else {
            Ok(file)
        }
    };
    match open() {
        Ok(file) => Ok(Box::new(BufReader::with_capacity(1 << 16, file))),
        Err(source) => Err(SourceError::Open {
            path: path.to_owned(),
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn payloads(replay: &mut Replay) -> Result<Vec<String>, SourceError> {
        let mut record = RecordBuffer::new();
        let mut payloads = Vec::new();
        while replay.next_record(&mut record)? {
            payloads.push(String::from_utf8_lossy(record.payload().unwrap_or(b"tombstone")).into_owned());
        }
        Ok(payloads)
    }

    #[test]
    fn a_replay_gives_the_lines_in_order() {
        let file = file("{}\n{\"$tombstone\":true}\n{\"$hex\":\"31\"}\n");
        let mut replay = Replay::open(file.path(), 1, None, false).unwrap();
        assert_eq!(payloads(&mut replay).unwrap(), ["{}", "tombstone", "1"]);
    }

    #[test]
    fn a_loop_starts_again_until_the_count_is_reached() {
        let file = file("1\n2\n");
        let mut replay = Replay::open(file.path(), 1, Some(5), true).unwrap();
        assert_eq!(payloads(&mut replay).unwrap(), ["1", "2", "1", "2", "1"]);
    }

    #[test]
    fn a_loop_over_nothing_is_an_error() {
        let file = file("\n\n");
        let error = payloads(&mut Replay::open(file.path(), 1, None, true).unwrap()).unwrap_err();
        assert!(error.to_string().ends_with("it holds no record"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Replay::open(Path::new("no/such/file"), 1, None, false)
            .err()
            .unwrap();
        assert!(
            error.to_string().starts_with("cannot open no/such/file: "),
            "{error}"
        );
    }
}
