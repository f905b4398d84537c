//! Which offsets were seen, one bit each, in passes that fit the memory. Pure.
//!
//! An offset may be there once for each incarnation of the topic that reaches it, so there are as many planes of bits as
//! incarnations, and one more for what is there too often.

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
pub struct Plane {
    from: i64,
    words: Vec<u64>,
}

impl Plane {
    fn new(from: i64, to: i64) -> Self {
        let bits = usize::try_from(to.saturating_sub(from).max(0)).unwrap_or(0);
        Self {
            from,
            words: vec![0; bits.div_ceil(64)],
        }
    }

    /// Sets a bit; true when it was set before.
    fn set(&mut self, offset: i64) -> bool {
        let index = (offset - self.from).unsigned_abs();
        let (word, bit) = ((index / 64) as usize, 1_u64 << (index % 64));
        let before = self.words[word] & bit != 0;
        self.words[word] |= bit;
        before
    }

    fn word(&self, index: usize) -> u64 {
        self.words.get(index).copied().unwrap_or(0)
    }

    /// Whether an offset is set.
    pub fn has(&self, offset: i64) -> bool {
        let index = (offset - self.from).unsigned_abs();
        self.word((index / 64) as usize) & (1 << (index % 64)) != 0
    }
}

/// How a position was taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It counts.
    Counted,
    /// It is not of this pass.
    Elsewhere,
}

/// The offsets of one Kafka partition in one pass.
#[derive(Clone, Debug)]
pub struct Window {
    /// First offset.
    pub from: i64,
    /// One more than the last.
    pub to: i64,
    /// In the tables: once, twice, …
    tables: Vec<Plane>,
    /// Where each incarnation ends: an offset may be there as often as there are ends above it.
    ends: Vec<i64>,
    too_often: Option<Plane>,
    topic: Option<Plane>,
    published: Option<Plane>,
    /// Records that the speed path published again.
    pub published_again: u64,
}

/// What a window has of one side and not of the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) ranges: Ranges,
    pub(super) fingerprint: Fingerprint,
}

impl Difference {
    fn push(&mut self, partition: i32, offset: i64) {
        self.ranges.push(offset);
        self.fingerprint.add(partition, offset);
    }

    /// Adds what a later pass found.
    pub(super) fn append(&mut self, later: &Self) {
        self.ranges.append(&later.ranges);
        self.fingerprint.merge(later.fingerprint);
    }
}

impl Window {
    /// `ends`: the next offset of each incarnation.
    pub fn new(from: i64, to: i64, ends: &[i64], topic: bool, published: bool) -> Self {
        let plane = || Plane::new(from, to);
        Self {
            from,
            to,
            tables: ends.iter().map(|_| plane()).collect(),
            ends: ends.to_vec(),
            too_often: None,
            topic: topic.then(plane),
            published: published.then(plane),
            published_again: 0,
        }
    }

    fn covers(&self, offset: i64) -> bool {
        (self.from..self.to).contains(&offset)
    }

    /// A row of the tables.
    pub fn see_row(&mut self, offset: i64) -> Seen {
        if !self.covers(offset) {
            return Seen::Elsewhere;
        }
        let allowed = match self.ends.len() {
            1 => 1,
            _ => self.ends.iter().filter(|end| offset < **end).count(),
        };
        let too_often = self
            .tables
            .iter_mut()
            .take(allowed)
            .all(|plane| plane.set(offset));
        if too_often {
            let (from, to) = (self.from, self.to);
            self.too_often
                .get_or_insert_with(|| Plane::new(from, to))
                .set(offset);
        }
        Seen::Counted
    }

    /// A record of the topic.
    pub fn see_topic(&mut self, offset: i64) {
        if self.covers(offset)
            && let Some(topic) = &mut self.topic
        {
            topic.set(offset);
        }
    }

    /// A record that the speed path published for this source.
    pub fn see_published(&mut self, offset: i64) {
        if self.covers(offset)
            && let Some(published) = &mut self.published
            && published.set(offset)
        {
            self.published_again += 1;
        }
    }

    /// Offsets that are there too often.
    pub(super) fn too_often(&self) -> Ranges {
        let mut ranges = Ranges::default();
        if let Some(plane) = &self.too_often {
            each(
                plane.words.len(),
                |index| plane.word(index),
                |bit| ranges.push(self.from + bit),
            );
        }
        ranges
    }

    /// (In the topic and not in the tables, the other way round), within a range.
    /// Offsets of `except` are left out.
    pub(super) fn against_topic(
        &self,
        partition: i32,
        range: (i64, i64),
        except: &[(i64, i64)],
    ) -> (Difference, Difference) {
        self.against(self.topic.as_ref(), partition, range, except)
    }

    /// (Published and not in the tables, the other way round), within a range.
    /// Offsets of `except` are left out.
    pub(super) fn against_published(
        &self,
        partition: i32,
        range: (i64, i64),
        except: &[(i64, i64)],
    ) -> (Difference, Difference) {
        self.against(self.published.as_ref(), partition, range, except)
    }

    fn against(
        &self,
        other: Option<&Plane>,
        partition: i32,
        (from, to): (i64, i64),
        except: &[(i64, i64)],
    ) -> (Difference, Difference) {
        let (mut lacking, mut extra) = (Difference::default(), Difference::default());
        if let (Some(other), Some(table)) = (other, self.tables.first()) {
            let take = |bit: i64, into: &mut Difference| {
                let offset = self.from + bit;
                let is_out = || except.iter().any(|(from, to)| (*from..*to).contains(&offset));
                if (from..to).contains(&offset) && !is_out() {
                    into.push(partition, offset);
                }
            };
            let words = table.words.len();
            each(
                words,
                |i| other.word(i) & !table.word(i),
                |bit| take(bit, &mut lacking),
            );
            each(
                words,
                |i| table.word(i) & !other.word(i),
                |bit| take(bit, &mut extra),
            );
        }
        (lacking, extra)
    }

    /// How many records of the topic were seen.
    pub fn topic_records(&self) -> u64 {
        count(self.topic.as_ref())
    }

    /// How many source positions the speed path published.
    pub fn published(&self) -> u64 {
        count(self.published.as_ref())
    }
}

fn count(plane: Option<&Plane>) -> u64 {
    plane.map_or(0, |plane| {
        plane.words.iter().map(|word| u64::from(word.count_ones())).sum()
    })
}

/// Calls `take` for every bit of `words` words, in order.
fn each(words: usize, word: impl Fn(usize) -> u64, mut take: impl FnMut(i64)) {
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

        #[test]
        fn a_window_finds_what_counting_finds(
            rows in proptest::collection::vec(90..240_i64, 0..200),
            topic in proptest::collection::btree_set(90..240_i64, 0..150),
        ) {
            let mut window = Window::new(100, 230, &[230, 150], true, false);
            let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
            for row in &rows {
                let seen = window.see_row(*row);
                prop_assert_eq!(seen == Seen::Counted, (100..230).contains(row));
                if seen == Seen::Counted {
                    *counts.entry(*row).or_default() += 1;
                }
            }
            topic.iter().for_each(|offset| window.see_topic(*offset));
            let allowed = |offset: i64| if offset < 150 { 2 } else { 1 };
            let too_often = counts.iter().filter(|(offset, count)| **count > allowed(**offset)).count();
            prop_assert_eq!(window.too_often().offsets, too_often as u64);
            let (lacking, extra) = window.against_topic(0, (110, 220), &[(115, 120)]);
            let in_range = |offset: &i64| (110..220).contains(offset) && !(115..120).contains(offset);
            let lost = topic.iter().filter(|o| in_range(o) && !counts.contains_key(o)).count();
            let added = counts.keys().filter(|o| in_range(o) && !topic.contains(o)).count();
            prop_assert_eq!((lacking.ranges.offsets, extra.ranges.offsets), (lost as u64, added as u64));
            prop_assert_eq!(lacking.fingerprint.rows, lost as u64);
        }
    }

    #[test]
    fn what_was_published_again_is_counted() {
        let mut window = Window::new(0, 10, &[10], false, true);
        for offset in [1, 2, 2, 2, 50] {
            window.see_published(offset);
        }
        assert_eq!((window.published(), window.published_again), (2, 2));
        assert!(window.see_row(1) == Seen::Counted && window.tables[0].has(1));
    }
}
