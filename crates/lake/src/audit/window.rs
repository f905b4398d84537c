//! What was seen of the offsets of one Kafka partition in one pass: in the tables, in the topic, published. Pure.
//!
//! An offset may be there once for each incarnation of the topic that reaches it, so the tables have as many planes of bits as
//! there are incarnations, and one more for what is there too often. What rows and records say is one sum an offset: rows add,
//! records take away, and where something is left the two differ.

use super::positions::{Difference, Plane, each};
use super::report::Ranges;
use crate::compact::Fingerprint;

/// How a position was taken up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// It counts.
    Counted,
    /// It is not of this pass.
    Elsewhere,
}

/// Which sides are compared with the tables.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// The records of the topic.
    pub topic: bool,
    /// What they say, too.
    pub contents: bool,
    /// What the speed path published.
    pub published: bool,
}

impl Sides {
    /// Bits of memory that an offset costs, at most, when it may be there once for each of so many incarnations.
    pub fn bits(self, incarnations: usize) -> usize {
        let too_often = 1;
        incarnations
            + too_often
            + usize::from(self.topic)
            + 32 * usize::from(self.contents)
            + 4 * usize::from(self.published)
    }
}

/// Where the speed path publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Output {
    /// Enriched logins.
    Processed,
    /// Rejected records.
    DeadLetters,
}

/// What was published of some offsets.
#[derive(Clone, Debug)]
struct Published {
    processed: Plane,
    dead_letters: Plane,
    /// Rows of `rejected`: their dead letters are wanted.
    rejected: Plane,
    twice: Option<Plane>,
    again: u64,
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
    /// The sums of rows less those of records: nothing is left where both say the same.
    contents: Vec<u32>,
    published: Option<Published>,
}

impl Window {
    /// `ends`: the next offset of each incarnation.
    pub fn new(from: i64, to: i64, ends: &[i64], sides: Sides) -> Self {
        let plane = || Plane::new(from, to);
        let offsets = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
        // An offset that was there in two incarnations has two contents.
        let contents = sides.contents && ends.len() == 1;
        Self {
            from,
            to,
            tables: ends.iter().map(|_| plane()).collect(),
            ends: ends.to_vec(),
            too_often: None,
            topic: sides.topic.then(plane),
            contents: vec![0; if contents { offsets } else { 0 }],
            published: sides.published.then(|| Published {
                processed: plane(),
                dead_letters: plane(),
                rejected: plane(),
                twice: None,
                again: 0,
            }),
        }
    }

    /// Whether what rows say is compared, beside their positions.
    pub fn has_contents(&self) -> bool {
        !self.contents.is_empty()
    }

    fn content(&mut self, offset: i64) -> Option<&mut u32> {
        let index = usize::try_from(offset.checked_sub(self.from)?).ok()?;
        self.contents.get_mut(index)
    }

    /// What a row says.
    pub fn row_says(&mut self, offset: i64, sum: u32) {
        if let Some(content) = self.content(offset) {
            *content = content.wrapping_add(sum);
        }
    }

    /// What a record of the topic says.
    pub fn record_says(&mut self, offset: i64, sum: u32) {
        if let Some(content) = self.content(offset) {
            *content = content.wrapping_sub(sum);
        }
    }

    /// A row that was taken up is one of `rejected`.
    pub fn is_rejected(&mut self, offset: i64) {
        if let Some(published) = &mut self.published {
            published.rejected.set(offset);
        }
    }

    pub(super) fn covers(&self, offset: i64) -> bool {
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

    /// A record that the speed path published, by its source position.
    pub fn see_published(&mut self, output: Output, offset: i64) {
        if !self.covers(offset) {
            return;
        }
        let (from, to) = (self.from, self.to);
        let Some(published) = &mut self.published else {
            return;
        };
        let (own, other) = match output {
            Output::Processed => (&mut published.processed, &published.dead_letters),
            Output::DeadLetters => (&mut published.dead_letters, &published.processed),
        };
        if other.has(offset) | own.set(offset) {
            published.again += 1;
            published
                .twice
                .get_or_insert_with(|| Plane::new(from, to))
                .set(offset);
        }
    }

    /// Offsets that are there too often.
    pub(super) fn too_often(&self) -> Ranges {
        self.ranges_of(self.too_often.as_ref())
    }

    /// Offsets that were published more often than once, and how many records were too many.
    pub(super) fn published_twice(&self) -> (Ranges, u64) {
        let twice = self
            .published
            .as_ref()
            .and_then(|published| published.twice.as_ref());
        let again = self.published.as_ref().map_or(0, |published| published.again);
        (self.ranges_of(twice), again)
    }

    fn ranges_of(&self, plane: Option<&Plane>) -> Ranges {
        let mut ranges = Ranges::default();
        if let Some(plane) = plane {
            each(
                plane.words(),
                |index| plane.word(index),
                |bit| ranges.push(self.from + bit),
            );
        }
        ranges
    }

    /// Offsets within a range whose bits `word` gives. Those of `except` are left out.
    fn difference(
        &self,
        partition: i32,
        (from, to): (i64, i64),
        except: &[(i64, i64)],
        word: impl Fn(usize) -> u64,
    ) -> Difference {
        let mut found = Difference::default();
        let words = self.tables.first().map_or(0, |table| table.words());
        each(words, word, |bit| {
            let offset = self.from + bit;
            let is_out = || except.iter().any(|(from, to)| (*from..*to).contains(&offset));
            if (from..to).contains(&offset) && !is_out() {
                found.push(partition, offset);
            }
        });
        found
    }

    fn table(&self, index: usize) -> u64 {
        self.tables.first().map_or(0, |table| table.word(index))
    }

    /// (In the topic and not in the tables, the other way round), within a range.
    pub(super) fn against_topic(
        &self,
        partition: i32,
        range: (i64, i64),
        except: &[(i64, i64)],
    ) -> (Difference, Difference) {
        let Some(topic) = &self.topic else {
            return Default::default();
        };
        (
            self.difference(partition, range, except, |i| topic.word(i) & !self.table(i)),
            self.difference(partition, range, except, |i| self.table(i) & !topic.word(i)),
        )
    }

    /// Offsets whose rows say something else than their records. Rows that are there too often are told otherwise.
    pub(super) fn differing(&self, (from, to): (i64, i64)) -> Ranges {
        let mut ranges = Ranges::default();
        let Some(topic) = &self.topic else {
            return ranges;
        };
        for (offset, content) in (self.from..).zip(&self.contents) {
            if *content != 0
                && (from..to).contains(&offset)
                && topic.has(offset)
                && self.tables.first().is_some_and(|table| table.has(offset))
                && !self.too_often.as_ref().is_some_and(|plane| plane.has(offset))
            {
                ranges.push(offset);
            }
        }
        ranges
    }

    /// Rows of `logins` that were not published within one range, rows of `rejected` without a dead letter within another one.
    pub(super) fn not_published(
        &self,
        partition: i32,
        logins: (i64, i64),
        rejected: (i64, i64),
        except: &[(i64, i64)],
    ) -> (Difference, Difference) {
        let Some(published) = &self.published else {
            return Default::default();
        };
        let dead = |i| published.dead_letters.word(i);
        let of_rejected = |i| published.rejected.word(i);
        // What the output topic refused is a dead letter, too.
        (
            self.difference(partition, logins, except, |i| {
                self.table(i) & !of_rejected(i) & !published.processed.word(i) & !dead(i)
            }),
            self.difference(partition, rejected, except, |i| of_rejected(i) & !dead(i)),
        )
    }

    /// What was published within a range and is not in the tables.
    pub(super) fn published_extra(
        &self,
        partition: i32,
        range: (i64, i64),
        except: &[(i64, i64)],
    ) -> Difference {
        self.difference(partition, range, except, |i| {
            self.any_published(i) & !self.table(i)
        })
    }

    fn any_published(&self, index: usize) -> u64 {
        self.published.as_ref().map_or(0, |published| {
            published.processed.word(index) | published.dead_letters.word(index)
        })
    }

    /// The sums of what is there within a range: in the tables, in the topic, published.
    pub(super) fn sums(&self, partition: i32, range: (i64, i64), of: Which) -> Fingerprint {
        let topic = |i| self.topic.as_ref().map_or(0, |topic| topic.word(i));
        let word = |i| match of {
            Which::Tables => self.table(i),
            Which::Topic => topic(i),
            Which::Published => self.any_published(i),
        };
        let mut sum = Fingerprint::default();
        each(
            self.tables.first().map_or(0, |table| table.words()),
            word,
            |bit| {
                let offset = self.from + bit;
                if (range.0..range.1).contains(&offset) {
                    sum.add(partition, offset);
                }
            },
        );
        sum
    }

    /// How many source positions the speed path published.
    pub fn published(&self) -> u64 {
        let words = self.tables.first().map_or(0, |table| table.words());
        (0..words)
            .map(|i| u64::from(self.any_published(i).count_ones()))
            .sum()
    }
}

/// One of the sides that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Tables,
    Topic,
    Published,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_window_finds_what_counting_finds(
            rows in proptest::collection::vec(90..240_i64, 0..200),
            topic in proptest::collection::btree_set(90..240_i64, 0..150),
        ) {
            let mut window = Window::new(100, 230, &[230, 150], Sides { topic: true, ..Sides::default() });
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
    fn what_was_published_again_or_not_at_all_is_told() {
        let sides = Sides {
            published: true,
            ..Sides::default()
        };
        let mut window = Window::new(0, 10, &[10], sides);
        for offset in [1, 2, 2, 2, 50] {
            window.see_published(Output::Processed, offset);
        }
        window.see_published(Output::DeadLetters, 1);
        window.see_published(Output::DeadLetters, 4);
        let (twice, again) = window.published_twice();
        assert_eq!((window.published(), again), (3, 3));
        assert_eq!(twice.first, [(1, 3)]);
        for offset in [1, 2, 4, 5, 6, 7] {
            assert_eq!(window.see_row(offset), Seen::Counted);
        }
        for offset in [4, 6] {
            window.is_rejected(offset);
        }
        let (logins, rejected) = window.not_published(0, (0, 7), (0, 10), &[]);
        assert_eq!(
            (logins.ranges.first, rejected.ranges.first),
            (vec![(5, 6)], vec![(6, 7)])
        );
        assert!(window.published_extra(0, (0, 10), &[]).ranges.is_empty());
        assert_eq!(window.sums(0, (2, 10), Which::Published).rows, 2);
        assert_eq!(window.sums(0, (2, 10), Which::Tables).rows, 5);
    }

    #[test]
    fn contents_that_differ_are_told_once_both_sides_are_there() {
        let sides = Sides {
            topic: true,
            contents: true,
            published: false,
        };
        let mut window = Window::new(100, 110, &[110], sides);
        for (offset, row, record) in [
            (101, Some(7), Some(7)),
            (102, Some(7), Some(8)),
            (103, Some(7), None),
            (104, None, Some(7)),
            (105, Some(u32::MAX), Some(0)),
        ] {
            if let Some(sum) = row {
                window.see_row(offset);
                window.row_says(offset, sum);
            }
            if let Some(sum) = record {
                window.see_topic(offset);
                window.record_says(offset, sum);
            }
        }
        assert_eq!(window.differing((0, 200)).first, [(102, 103), (105, 106)]);
        assert_eq!(window.differing((0, 105)).first, [(102, 103)]);
        // Where an offset may be there twice its contents are two.
        assert!(!Window::new(100, 110, &[110, 105], sides).has_contents());
        assert_eq!((sides.bits(1), Sides::default().bits(2)), (35, 3));
    }
}
