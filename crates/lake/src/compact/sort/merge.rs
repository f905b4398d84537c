//! Sorted runs into chunks of sorted rows.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use arrow::array::RecordBatch;

use super::SortError;
use super::codes::Codebook;
use super::layout::Layout;
use super::run::{Key, Ranks, Run};

/// Sorted rows, as pieces of the blocks that they are in.
pub(crate) struct Chunk {
    /// The blocks.
    pub(super) blocks: Vec<RecordBatch>,
    /// Pieces in order: a block's number, and its rows.
    pub(super) pieces: Vec<(usize, Range<usize>)>,
    /// Number of rows.
    pub rows: usize,
}

/// A run that is being merged.
struct Cursor {
    rest: Run,
    rows: RecordBatch,
    keys: Vec<Key>,
    at: usize,
    /// The block's number in the chunk that is being made.
    number: Option<usize>,
}

impl Cursor {
    /// Goes on to the next block. `false`: there is none.
    fn next_block(&mut self, ranks: &Ranks) -> Result<bool, SortError> {
        let Some(block) = self.rest.pop_front() else {
            return Ok(false);
        };
        self.rows = block.load()?;
        self.keys = ranks.keys(&self.rows);
        self.at = 0;
        self.number = None;
        Ok(true)
    }
}

/// All runs.
pub(super) struct Merge {
    ranks: Ranks,
    cursors: Vec<Cursor>,
    /// The next key of each run that has one, the least on top; of equal ones that of the first run.
    heads: BinaryHeap<Reverse<(Key, usize)>>,
}

impl Merge {
    pub(super) fn new(runs: Vec<Run>, layout: &Layout, codebook: &Codebook) -> Result<Self, SortError> {
        let ranks = Ranks::new(layout, codebook);
        let mut cursors = Vec::with_capacity(runs.len());
        let mut heads = BinaryHeap::with_capacity(runs.len());
        for run in runs {
            let mut cursor = Cursor {
                rest: run,
                rows: RecordBatch::new_empty(layout.held.clone()),
                keys: Vec::new(),
                at: 0,
                number: None,
            };
            if cursor.next_block(&ranks)? {
                heads.push(Reverse((cursor.keys[0], cursors.len())));
                cursors.push(cursor);
            }
        }
        Ok(Self {
            ranks,
            cursors,
            heads,
        })
    }

    /// The next `rows` rows, or what is left; `None`: nothing is left.
    pub(super) fn next_chunk(&mut self, rows: usize) -> Result<Option<Chunk>, SortError> {
        let mut chunk = Chunk {
            blocks: Vec::new(),
            pieces: Vec::new(),
            rows: 0,
        };
        for cursor in &mut self.cursors {
            cursor.number = None;
        }
        while chunk.rows < rows {
            let Some(Reverse((_, index))) = self.heads.pop() else {
                break;
            };
            let limit = self.heads.peek().map(|Reverse(head)| *head);
            let cursor = &mut self.cursors[index];
            loop {
                let from = cursor.at;
                let most = cursor.keys.len().min(from + (rows - chunk.rows));
                // What comes before the head of every other run.
                let piece = match limit {
                    None => most - from,
                    Some(limit) => prefix(&cursor.keys[from..most], |key| (*key, index) <= limit),
                };
                if piece > 0 {
                    let number = *cursor.number.get_or_insert_with(|| {
                        chunk.blocks.push(cursor.rows.clone());
                        chunk.blocks.len() - 1
                    });
                    chunk.pieces.push((number, from..from + piece));
                    chunk.rows += piece;
                    cursor.at += piece;
                }
                if cursor.at < cursor.keys.len() {
                    self.heads.push(Reverse((cursor.keys[cursor.at], index)));
                    break;
                }
                if !cursor.next_block(&self.ranks)? {
                    break;
                }
                if chunk.rows >= rows {
                    self.heads.push(Reverse((cursor.keys[0], index)));
                    break;
                }
            }
        }
        Ok((chunk.rows > 0).then_some(chunk))
    }
}

/// How many keys at the beginning are wanted; they are sorted, so the wanted ones come first. Looks at few of them whether
/// the answer is small or large.
fn prefix(keys: &[Key], wanted: impl Fn(&Key) -> bool) -> usize {
    let mut step = 1;
    let mut known = 0;
    while known + step <= keys.len() && wanted(&keys[known + step - 1]) {
        known += step;
        step *= 2;
    }
    let end = keys.len().min(known + step);
    known + keys[known..end].partition_point(wanted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_prefix_is_found_wherever_it_ends(mut keys in proptest::collection::vec(0..20_u128, 0..40), limit in 0..21_u128) {
            keys.sort_unstable();
            let expected = keys.iter().filter(|key| **key < limit).count();
            prop_assert_eq!(prefix(&keys, |key| *key < limit), expected);
        }
    }
}
