//! The rows of any number of files, sorted, in bounded memory: an external merge sort made for logins.
//!
//! In the order in which a row goes through it:
//! - [`layout`]: which columns are held how: texts of few different values become numbers of two bytes ([`codes`]);
//! - [`source`]: the rows of a file, fingerprinted, in that layout;
//! - [`run`]: as many rows as fit the memory, sorted by one number each, into a temporary file or, when they are few, not;
//! - [`merge`]: the runs into chunks of sorted rows;
//! - [`gather`]: a column of a chunk, put together from its pieces and encoded, on all processors.
//!
//! Files hold what came at about the same time, so that pieces of one run follow each other in the result for long: pieces
//! are copied, not rows.

mod codes;
mod gather;
mod layout;
mod merge;
mod run;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use object_store::ObjectStore;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use self::codes::{Codebook, TooMany};
pub(super) use self::gather::ColumnEncoder;
use self::layout::Layout;
pub(super) use self::merge::Chunk;
use self::merge::Merge;
use self::run::{Run, RunWriter};
use super::fingerprint::Fingerprint;
use crate::table::DataFile;

/// How the memory of a sort is divided, and where it spills to.
#[derive(Clone, Debug)]
pub(super) struct SortOptions {
    /// Bytes of rows that wait to be sorted, and later of rows that wait to be merged.
    pub rows_bytes: usize,
    /// Files that are read next to each other.
    pub threads: usize,
    /// Where temporary files go; `None`: the system's directory for them.
    pub spill_directory: Option<PathBuf>,
}

/// Why a sort ended early.
pub(super) enum SortError {
    /// A file's rows could not be read.
    Source {
        /// Its path in the table.
        path: String,
        /// What Parquet or the store says.
        error: parquet::errors::ParquetError,
    },
    /// A temporary file could not be written or read.
    Spill(std::io::Error),
    /// The rows do not fit the layout, which a test rules out.
    Layout(String),
}

impl From<arrow::error::ArrowError> for SortError {
    fn from(error: arrow::error::ArrowError) -> Self {
        match error {
            arrow::error::ArrowError::IoError(_, error) => SortError::Spill(error),
            error => SortError::Layout(error.to_string()),
        }
    }
}

/// Rows that were read and are in runs, ready to be merged.
pub(super) struct Sorted {
    merge: Merge,
    layout: Arc<Layout>,
    codebook: Arc<Codebook>,
    /// What was read.
    pub fingerprint: Fingerprint,
    /// Bytes in temporary files.
    pub spilled_bytes: u64,
}

impl Sorted {
    /// The next rows, in order; `None`: that were all. May read temporary files.
    pub(super) fn next_chunk(&mut self, rows: usize) -> Result<Option<Chunk>, SortError> {
        self.merge.next_chunk(rows)
    }

    /// What encodes the columns of chunks.
    pub(super) fn encoder(&self) -> ColumnEncoder {
        ColumnEncoder::new(&self.layout, &self.codebook)
    }
}

/// Tells the threads of a sort that nobody waits for them any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads the rows of `sources`, whose columns are those of `schema` as far as they have them, and sorts them by `keys`: two
/// columns of text and one of time. `None`: one of these texts has too many different values for this sort.
pub(super) async fn sorted(
    store: &Arc<dyn ObjectStore>,
    sources: &[DataFile],
    schema: &SchemaRef,
    keys: [&str; 3],
    options: &SortOptions,
) -> Result<Option<Sorted>, SortError> {
    let mut plain = BTreeSet::new();
    loop {
        let Some(layout) = Layout::new(schema, keys, &plain) else {
            return Ok(None);
        };
        match read(store, sources, Arc::new(layout), options).await? {
            Ok(sorted) => return Ok(Some(sorted)),
            // Begun anew with that column as plain text: rare, and at most once for each column.
            Err(TooMany { column }) => {
                tracing::debug!(column, "too many different values to be numbered");
                plain.insert(column);
            }
        }
    }
}

/// What the threads that read share.
struct Reading {
    runtime: Handle,
    store: Arc<dyn ObjectStore>,
    layout: Arc<Layout>,
    codebook: Arc<Codebook>,
    waiting: Mutex<VecDeque<DataFile>>,
    stop: Arc<AtomicBool>,
    options: SortOptions,
    block_rows: usize,
}

/// What one thread has read.
struct Read {
    runs: Vec<Run>,
    fingerprint: Fingerprint,
    spilled_bytes: u64,
}

async fn read(
    store: &Arc<dyn ObjectStore>,
    sources: &[DataFile],
    layout: Arc<Layout>,
    options: &SortOptions,
) -> Result<Result<Sorted, TooMany>, SortError> {
    let codebook = Arc::new(Codebook::new(layout.coded_names()));
    let stop = StopOnDrop(Arc::new(AtomicBool::new(false)));
    let threads = options.threads.clamp(1, sources.len().max(1));
    let rows = sources.iter().map(|file| file.rows.unwrap_or(0)).sum();
    let reading = Arc::new(Reading {
        runtime: Handle::current(),
        store: Arc::clone(store),
        layout: Arc::clone(&layout),
        codebook: Arc::clone(&codebook),
        waiting: Mutex::new(sources.iter().cloned().collect()),
        stop: Arc::clone(&stop.0),
        block_rows: run::block_rows(rows, options.rows_bytes, threads),
        options: SortOptions {
            rows_bytes: options.rows_bytes / threads,
            ..options.clone()
        },
    });
    let mut running = JoinSet::new();
    for _ in 0..threads {
        let reading = Arc::clone(&reading);
        running.spawn_blocking(move || reading.work());
    }
    let mut all = Read {
        runs: Vec::new(),
        fingerprint: Fingerprint::default(),
        spilled_bytes: 0,
    };
    while let Some(done) = running.join_next().await {
        match done {
            Ok(Ok(Ok(one))) => {
                all.runs.extend(one.runs);
                all.fingerprint.merge(one.fingerprint);
                all.spilled_bytes += one.spilled_bytes;
            }
            Ok(Ok(Err(too_many))) => return Ok(Err(too_many)),
            Ok(Err(error)) => return Err(error),
            Err(panic) => return Err(SortError::Layout(format!("a reader panicked: {panic}"))),
        }
    }
    let merge = Merge::new(all.runs, &layout, &codebook)?;
    Ok(Ok(Sorted {
        merge,
        layout,
        codebook,
        fingerprint: all.fingerprint,
        spilled_bytes: all.spilled_bytes,
    }))
}

impl Reading {
    /// Reads one file after the other, as long as there are any.
    fn work(&self) -> Result<Result<Read, TooMany>, SortError> {
        let mut runs = RunWriter::new(&self.layout, &self.codebook, &self.options, self.block_rows);
        let mut fingerprint = Fingerprint::default();
        loop {
            let next = self
                .waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_front();
            let Some(file) = next else { break };
            let failed = |error| SortError::Source {
                path: file.path.clone(),
                error,
            };
            let mut rows = self
                .runtime
                .block_on(source::open(Arc::clone(&self.store), &file, &self.layout))
                .map_err(failed)?;
            let mut numbered = source::Numbered::new(&self.layout, &self.codebook);
            while let Some(batch) = self.runtime.block_on(rows.next()).map_err(failed)? {
                if self.stop.load(Ordering::Relaxed) {
                    return Err(SortError::Layout("nobody waits for the rows any more".to_owned()));
                }
                let batch = match numbered.batch(&batch)? {
                    Ok(batch) => batch,
                    Err(too_many) => return Ok(Err(too_many)),
                };
                fingerprint.add_batch(&batch).map_err(SortError::Layout)?;
                runs.push(batch)?;
            }
        }
        let (runs, spilled_bytes) = runs.finish()?;
        Ok(Ok(Read {
            runs,
            fingerprint,
            spilled_bytes,
        }))
    }
}
