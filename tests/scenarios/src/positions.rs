//! Sets of positions, (partition, offset), a bit each: a million of them are 125 kB.

use std::collections::BTreeMap;

/// Partition and offset in the input topic.
pub type Position = (i32, i64);

const BITS: usize = u64::BITS as usize;
/// Above this no offset of a scenario lies: a set stays small whatever a broken header says.
const MAX_OFFSET: i64 = 1 << 32;

/// A set of positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    words: BTreeMap<i32, Vec<u64>>,
    len: u64,
}

impl Positions {
    /// Adds a position. False: it was there.
    ///
    /// # Panics
    /// When the offset is negative or beyond 2^32.
    pub fn insert(&mut self, (partition, offset): Position) -> bool {
        assert!(
            (0..MAX_OFFSET).contains(&offset),
            "no offset of a scenario: {offset}"
        );
        let (word, bit) = place(offset);
        let words = self.words.entry(partition).or_default();
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        let is_new = words[word] & bit == 0;
        words[word] |= bit;
        self.len += u64::from(is_new);
        is_new
    }

    /// Is it there?
    pub fn contains(&self, (partition, offset): Position) -> bool {
        let (word, bit) = place(offset);
        let words = self.words.get(&partition);
        words
            .and_then(|words| words.get(word))
            .is_some_and(|word| word & bit != 0)
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Position> {
        self.words.iter().flat_map(|(partition, words)| {
            let set = |index: &usize| words[index / BITS] & (1 << (index % BITS)) != 0;
            (0..words.len() * BITS)
                .filter(set)
                .map(|index| (*partition, index as i64))
        })
    }

    /// Those that another set does not have.
    pub fn without(&self, other: &Positions) -> impl Iterator<Item = Position> {
        self.iter().filter(|position| !other.contains(*position))
    }
}

impl FromIterator<Position> for Positions {
    fn from_iter<I: IntoIterator<Item = Position>>(positions: I) -> Positions {
        let mut set = Positions::default();
        for position in positions {
            set.insert(position);
        }
        set
    }
}

fn place(offset: i64) -> (usize, u64) {
    let index = usize::try_from(offset).unwrap_or(usize::MAX);
    (index / BITS, 1 << (index % BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_knows_what_was_put_into_it() {
        let wanted = [(0, 0), (0, 63), (0, 64), (7, 1_000_000)];
        let mut set: Positions = wanted.into_iter().collect();
        assert!(set.iter().eq(wanted));
        assert_eq!(
            (set.len(), set.insert((0, 64)), set.insert((0, 65))),
            (4, false, true)
        );
        assert!(!set.contains((1, 0)) && !set.contains((0, 1 << 40)) && !set.contains((0, -1)));
        let other: Positions = [(0, 0), (9, 9)].into_iter().collect();
        assert_eq!(set.without(&other).count(), 4);
        assert_eq!(other.without(&set).collect::<Vec<_>>(), [(9, 9)]);
    }
}
