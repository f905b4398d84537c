//! The multiset of Kafka positions of some rows, as a count and two sums that do not depend on the order: what compaction
//! proves unchanged before it commits (invariant 8).

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, Int64Type};

/// Columns that say where a row came from.
pub(crate) const POSITION_COLUMNS: [&str; 2] = ["kafka_partition", "kafka_offset"];

/// Count, wrapping sum and exclusive or of the hashes of (`kafka_partition`, `kafka_offset`). Equal multisets have equal
/// fingerprints; different ones differ in one of the three, by all odds: a lost, doubled or exchanged row shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    /// Number of rows.
    pub rows: u64,
    /// Wrapping sum of the hashes.
    pub sum: u64,
    /// Exclusive or of the hashes.
    pub xor: u64,
}

impl Fingerprint {
    /// Adds the rows of a batch.
    ///
    /// # Errors
    /// A sentence when a row has no position.
    pub(crate) fn add_batch(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| format!("the rows have no column {name}"))
        };
        let wrong_type = || format!("{} are not 32 and 64 bits wide", POSITION_COLUMNS.join(" and "));
        let partitions = column(POSITION_COLUMNS[0])?
            .as_primitive_opt::<Int32Type>()
            .ok_or_else(wrong_type)?;
        let offsets = column(POSITION_COLUMNS[1])?
            .as_primitive_opt::<Int64Type>()
            .ok_or_else(wrong_type)?;
        if partitions.null_count() > 0 || offsets.null_count() > 0 {
            return Err(format!("rows without {}", POSITION_COLUMNS.join(" and ")));
        }
        for (partition, offset) in partitions.values().iter().zip(offsets.values()) {
            self.add(*partition, *offset);
        }
        Ok(())
    }

    /// Adds the rows of another fingerprint.
    pub(crate) fn merge(&mut self, other: Fingerprint) {
        self.rows += other.rows;
        self.sum = self.sum.wrapping_add(other.sum);
        self.xor ^= other.xor;
    }

    /// Adds one position.
    pub(crate) fn add(&mut self, partition: i32, offset: i64) {
        self.add_hash(hash(partition, offset));
    }

    /// Adds one position by its hash.
    pub(crate) fn add_hash(&mut self, hash: u64) {
        self.rows += 1;
        self.sum = self.sum.wrapping_add(hash);
        self.xor ^= hash;
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} rows, sum {:016x}, xor {:016x}",
            self.rows, self.sum, self.xor
        )
    }
}

/// A 64-bit hash of a position, the same in every version of this software: it is written into commits.
pub(crate) fn hash(partition: i32, offset: i64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let partition = mix(u64::from(partition.cast_unsigned()).wrapping_add(GOLDEN));
    mix(partition
        .wrapping_add(offset.cast_unsigned())
        .wrapping_add(GOLDEN))
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection in which each input bit moves half of the output's.
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, Int64Array};
    use proptest::prelude::*;

    use super::*;

    fn of(positions: &[(i32, i64)]) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        positions
            .iter()
            .for_each(|(partition, offset)| fingerprint.add(*partition, *offset));
        fingerprint
    }

    proptest! {
        #[test]
        fn order_does_not_matter_and_every_change_does(
            mut positions in proptest::collection::vec((0..8_i32, 0..1_000_i64), 1..50),
            index in any::<prop::sample::Index>(),
        ) {
            let before = of(&positions);
            positions.reverse();
            prop_assert_eq!(before, of(&positions));
            let index = index.index(positions.len());
            let mut moved = positions.clone();
            moved[index].1 += 1_000;
            prop_assert_ne!(before, of(&moved));
            let mut doubled = positions.clone();
            doubled.push(positions[index]);
            prop_assert_ne!(before, of(&doubled));
            positions.remove(index);
            prop_assert_ne!(before, of(&positions));
        }
    }

    #[test]
    fn two_losses_do_not_cancel_each_other() {
        // A pair of equal rows replaced by another pair of equal rows: the exclusive or alone would not see it.
        let before = of(&[(0, 1), (0, 1), (1, 5)]);
        let after = of(&[(0, 2), (0, 2), (1, 5)]);
        assert_eq!(before.xor, after.xor);
        assert_ne!(before, after);
    }

    #[test]
    fn rows_without_a_position_are_refused() {
        let partition: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None]));
        let offset: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("kafka_partition", partition, true),
            ("kafka_offset", offset, true),
        ]);
        let error = Fingerprint::default().add_batch(&batch.unwrap()).unwrap_err();
        assert!(error.contains("without kafka_partition"), "{error}");
    }
}
