//! Next offsets of the records of one transaction or batch: noted for each record, so noting is a comparison and a store.

use std::collections::BTreeMap;

/// Next offset by Kafka partition. Records come in runs of one partition, so the last one is looked at first.
#[derive(Clone, Debug, Default)]
pub(super) struct NextOffsets {
    entries: Vec<(i32, i64)>,
    last: usize,
}

impl NextOffsets {
    /// Everything of the partition below `next_offset` is handled.
    pub fn set(&mut self, partition: i32, next_offset: i64) {
        match self.entries.get_mut(self.last) {
            Some((last, offset)) if *last == partition => *offset = next_offset,
            _ => self.find(partition, next_offset),
        }
    }

    fn find(&mut self, partition: i32, next_offset: i64) {
        let known = self.entries.iter().position(|(known, _)| *known == partition);
        self.last = known.unwrap_or(self.entries.len());
        match self.entries.get_mut(self.last) {
            Some((_, offset)) => *offset = next_offset,
            None => self.entries.push((partition, next_offset)),
        }
    }

    /// Forgets partitions.
    pub fn remove(&mut self, partitions: &[i32]) {
        self.entries
            .retain(|(partition, _)| !partitions.contains(partition));
    }

    /// Whether nothing was noted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All of them.
    pub fn to_map(&self) -> BTreeMap<i32, i64> {
        self.entries.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_partition_counts() {
        let mut offsets = NextOffsets::default();
        assert!(offsets.is_empty());
        for (partition, next_offset) in [(3, 1), (3, 2), (0, 7), (3, 3), (0, 8), (5, 1)] {
            offsets.set(partition, next_offset);
        }
        assert_eq!(offsets.to_map(), BTreeMap::from([(0, 8), (3, 3), (5, 1)]));
        offsets.remove(&[5, 0]);
        assert_eq!(offsets.to_map(), BTreeMap::from([(3, 3)]));
        offsets.set(5, 2);
        offsets.set(3, 4);
        assert_eq!(offsets.to_map(), BTreeMap::from([(3, 4), (5, 2)]));
    }
}
