//! As many rows as fit the memory, sorted, in blocks: in a temporary file, or in memory when they were few.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{TimestampMicrosecondType, UInt16Type};
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;

use super::codes::Codebook;
use super::layout::Layout;
use super::{SortError, SortOptions};

/// Bytes that a row takes while it is held, about; what more there is the buffers' own counts say.
const ROW_BYTES: usize = 256;
/// Rows of a block: what is read of a run at a time.
const BLOCK_ROWS: std::ops::RangeInclusive<usize> = 64..=8192;

/// Rows of the blocks of runs, so that one block of each run fits `rows_bytes` when all of `rows` are merged at once.
pub(super) fn block_rows(rows: u64, rows_bytes: usize, threads: usize) -> usize {
    let held = (rows_bytes / ROW_BYTES).max(1);
    let runs = usize::try_from(rows).unwrap_or(usize::MAX) / (held / threads).max(1) + threads;
    (held / runs).clamp(*BLOCK_ROWS.start(), *BLOCK_ROWS.end())
}

/// By which the rows of runs are compared: the ranks of both texts, then the time.
pub(super) type Key = u128;

/// Where numbers stand in the alphabet.
pub(super) struct Ranks {
    keys: [usize; 3],
    first: Vec<u16>,
    second: Vec<u16>,
}

impl Ranks {
    /// The ranks of the texts that are known now.
    pub(super) fn new(layout: &Layout, codebook: &Codebook) -> Self {
        let of =
            |key: usize| layout.coded[layout.keys[key]].map_or_else(Vec::new, |place| codebook.ranks(place));
        Self {
            keys: layout.keys,
            first: of(0),
            second: of(1),
        }
    }

    /// The keys of some rows, as the upper 96 of 128 bits; the lower 32 are zero.
    pub(super) fn keys(&self, rows: &RecordBatch) -> Vec<Key> {
        let [first, second, time] = self.keys.map(|index| rows.column(index));
        let first = first.as_primitive::<UInt16Type>().values();
        let second = second.as_primitive::<UInt16Type>().values();
        let time = time.as_primitive::<TimestampMicrosecondType>();
        let values = time.values();
        (0..rows.num_rows())
            .map(|row| {
                // Null comes first, then all times in their order.
                let time = if time.is_null(row) {
                    0
                } else {
                    values[row].cast_unsigned() ^ (1 << 63)
                };
                let texts = u128::from(self.first[usize::from(first[row])]) << 16
                    | u128::from(self.second[usize::from(second[row])]);
                texts << 96 | u128::from(time) << 32
            })
            .collect()
    }
}

/// A block of sorted rows.
pub(super) enum Block {
    /// In memory.
    Held(RecordBatch),
    /// In a temporary file.
    Spilled {
        /// The file.
        file: Arc<File>,
        /// Where it begins.
        at: u64,
        /// Its length in bytes.
        bytes: usize,
    },
}

impl Block {
    /// The rows.
    pub(super) fn load(self) -> Result<RecordBatch, SortError> {
        let (file, at, bytes) = match self {
            Block::Held(rows) => return Ok(rows),
            Block::Spilled { file, at, bytes } => (file, at, bytes),
        };
        let mut encoded = vec![0; bytes];
        file.read_exact_at(&mut encoded, at).map_err(SortError::Spill)?;
        let mut blocks = StreamReader::try_new(encoded.as_slice(), None)?;
        match blocks.next() {
            Some(block) => Ok(block?),
            None => Err(SortError::Spill(io::Error::other("a block without rows"))),
        }
    }
}

/// Sorted rows.
pub(super) type Run = VecDeque<Block>;

/// Takes the rows of one thread and makes runs of them.
pub(super) struct RunWriter<'a> {
    layout: &'a Layout,
    codebook: &'a Codebook,
    options: &'a SortOptions,
    block_rows: usize,
    waiting: Vec<RecordBatch>,
    waiting_bytes: usize,
    runs: Vec<Run>,
    spill: Option<Spill>,
}

struct Spill {
    file: Arc<File>,
    bytes: u64,
}

impl<'a> RunWriter<'a> {
    pub(super) fn new(
        layout: &'a Layout,
        codebook: &'a Codebook,
        options: &'a SortOptions,
        block_rows: usize,
    ) -> Self {
        Self {
            layout,
            codebook,
            options,
            block_rows,
            waiting: Vec::new(),
            waiting_bytes: 0,
            runs: Vec::new(),
            spill: None,
        }
    }

    /// Adds rows. Sorts and spills what waits when it fills the memory.
    pub(super) fn push(&mut self, rows: RecordBatch) -> Result<(), SortError> {
        self.waiting_bytes += rows.get_array_memory_size();
        self.waiting.push(rows);
        if self.waiting_bytes >= self.options.rows_bytes {
            self.spill()?;
        }
        Ok(())
    }

    /// The runs, and the bytes of them that are in temporary files.
    pub(super) fn finish(mut self) -> Result<(Vec<Run>, u64), SortError> {
        if self.spill.is_some() {
            self.spill()?;
        } else {
            let held = self.sorted_blocks(|_, rows| Ok(Block::Held(rows)))?;
            self.runs.push(held);
        }
        Ok((self.runs, self.spill.map_or(0, |spill| spill.bytes)))
    }

    fn spill(&mut self) -> Result<(), SortError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        if self.spill.is_none() {
            let file = match &self.options.spill_directory {
                Some(directory) => tempfile::tempfile_in(directory),
                None => tempfile::tempfile(),
            };
            self.spill = Some(Spill {
                file: Arc::new(file.map_err(SortError::Spill)?),
                bytes: 0,
            });
        }
        let run = self.sorted_blocks(|spill, rows| {
            let Some(spill) = spill else {
                return Err(SortError::Layout("no temporary file".to_owned()));
            };
            let mut encoded = Vec::with_capacity(rows.get_array_memory_size());
            let mut writer = StreamWriter::try_new(&mut encoded, &rows.schema())?;
            writer.write(&rows)?;
            writer.finish()?;
            drop(writer);
            let at = spill.bytes;
            spill.file.write_all_at(&encoded, at).map_err(SortError::Spill)?;
            spill.bytes += encoded.len() as u64;
            Ok(Block::Spilled {
                file: Arc::clone(&spill.file),
                at,
                bytes: encoded.len(),
            })
        })?;
        self.runs.push(run);
        Ok(())
    }

    /// Sorts what waits and makes a block of each few rows.
    fn sorted_blocks(
        &mut self,
        mut block: impl FnMut(&mut Option<Spill>, RecordBatch) -> Result<Block, SortError>,
    ) -> Result<Run, SortError> {
        let batches = std::mem::take(&mut self.waiting);
        self.waiting_bytes = 0;
        let ranks = Ranks::new(self.layout, self.codebook);
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        let mut order: Vec<Key> = Vec::with_capacity(rows);
        // Where a row is goes into the lower bits: equal rows keep their order, and sorting moves nothing else.
        let mut places = Vec::with_capacity(rows);
        for (number, batch) in batches.iter().enumerate() {
            for (row, key) in ranks.keys(batch).into_iter().enumerate() {
                order.push(key | places.len() as Key);
                places.push((number, row));
            }
        }
        order.sort_unstable();
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        order
            .chunks(self.block_rows)
            .map(|keys| {
                let picked: Vec<(usize, usize)> =
                    keys.iter().map(|key| places[(*key as u32) as usize]).collect();
                block(&mut self.spill, interleave_record_batch(&batches, &picked)?)
            })
            .collect()
    }
}
