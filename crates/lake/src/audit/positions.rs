//! Offsets divided into passes that fit the memory, and sets of them, one bit each. Pure.

use std::collections::BTreeMap;

use super::report::Ranges;
use crate::compact::Fingerprint;

/// Offsets `[from, to)` of Kafka partitions.
pub type OffsetRanges = BTreeMap<i32, (i64, i64)>;

/// Divides offsets into passes: each costs at most `budget_bytes` at `planes` bits an offset, and takes its partitions in order.
pub fn passes(ranges: &OffsetRanges, planes: usize, budget_bytes: usize) -> Vec<OffsetRanges> {
    // At least one word of offsets, so that every pass gets on.
    let per_pass = i64::try_from(budget_bytes.saturating_mul(8) / planes.max(1))
        .unwrap_or(i64::MAX)
        .max(64);
    let mut passes = Vec::new();
    let mut pass = OffsetRanges::new();
    let mut left = per_pass;
    for (partition, (from, to)) in ranges {
        let mut from = *from;
        while from < *to {
            let end = (*to).min(from.saturating_add(left));
            pass.insert(*partition, (from, end));
            left -= end - from;
            from = end;
            if left == 0 {
                passes.push(std::mem::take(&mut pass));
                left = per_pass;
            }
        }
    }
    if !pass.is_empty() {
        passes.push(pass);
    }
    passes
}

/// Bits of offsets from `from` on.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    from: i64,
    words: Vec<u64>,
}

impl Plane {
    pub(super) fn new(from: i64, to: i64) -> Self {
        let bits = usize::try_from(to.saturating_sub(from).max(0)).unwrap_or(0);
        Self {
            from,
            words: vec![0; bits.div_ceil(64)],
        }
    }

    /// Sets a bit; true when it was set before.
    pub(super) fn set(&mut self, offset: i64) -> bool {
        let index = (offset - self.from).unsigned_abs();
        let (word, bit) = ((index / 64) as usize, 1_u64 << (index % 64));
        let before = self.words[word] & bit != 0;
        self.words[word] |= bit;
        before
    }

    /// How many words of 64 bits.
    pub(super) fn words(&self) -> usize {
        self.words.len()
    }

    pub(super) fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// Whether an offset is set.
    pub(super) fn has(&self, offset: i64) -> bool {
        let index = (offset - self.from).unsigned_abs();
        self.word((index / 64) as usize) & (1 << (index % 64)) != 0
    }
}

/// What a window has of one side and not of the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) ranges: Ranges,
    pub(super) fingerprint: Fingerprint,
}

impl Difference {
    pub(super) fn push(&mut self, partition: i32, offset: i64) {
        self.ranges.push(offset);
        self.fingerprint.add(partition, offset);
    }

    /// Adds what a later pass found.
    pub(super) fn append(&mut self, later: &Self) {
        self.ranges.append(&later.ranges);
        self.fingerprint.merge(later.fingerprint);
    }
}

/// Calls `take` for every bit of `words` words, in order.
pub(super) fn each(words: usize, word: impl Fn(usize) -> u64, mut take: impl FnMut(i64)) {
    for index in 0..words {
        let mut bits = word(index);
        while bits != 0 {
            take(index as i64 * 64 + i64::from(bits.trailing_zeros()));
            bits &= bits - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn passes_cover_every_offset_once_and_keep_the_budget(
            ranges in proptest::collection::btree_map(0..8_i32, (0..10_000_i64, 0..10_000_i64), 0..6),
            planes in 1..4_usize,
            budget in 1..2_000_usize,
        ) {
            let ranges: OffsetRanges = ranges.into_iter().map(|(p, (from, rows))| (p, (from, from + rows))).collect();
            let mut reached: BTreeMap<i32, i64> = ranges.iter().map(|(p, (from, _))| (*p, *from)).collect();
            for pass in passes(&ranges, planes, budget) {
                let offsets: i64 = pass.values().map(|(from, to)| to - from).sum();
                prop_assert!(offsets > 0 && offsets <= ((budget * 8 / planes) as i64).max(64));
                for (partition, (from, to)) in pass {
                    prop_assert_eq!(reached.insert(partition, to), Some(from));
                }
            }
            for (partition, (_, to)) in &ranges {
                prop_assert_eq!(reached[partition], *to);
            }
        }
    }
}
