//! Between which source positions the speed path can be judged, whatever retention took of its topics. Pure.
//!
//! A source partition's records are spread over all partitions of an output topic, each in the order of the source. Where
//! retention cut an output partition, a record before the first one that is left may have been there; so what is judged begins
//! where every partition that was cut has begun. It ends with what the speed path has committed: by its group's offsets, or,
//! when it has none, by what was published before the ends of the topics were asked for.

use std::collections::BTreeMap;

use super::window::Output;
use crate::ingest::TopicBounds;

/// An output topic, as far as it matters.
#[derive(Clone, Debug, Default)]
pub struct OutputFacts {
    /// First and last stable offset of each of its partitions; everything that was sent before `before` is below the last.
    pub bounds: TopicBounds,
    /// The last stable offset of each of its partitions at an earlier moment, the same for all that was published by then.
    pub before: BTreeMap<i32, i64>,
    /// Whether the broker compacts the topic: records may be gone.
    pub compacted: bool,
}

/// What is known of the speed path before its topics are read.
#[derive(Clone, Debug, Default)]
pub struct SpeedPath {
    /// The processed topic.
    pub processed: OutputFacts,
    /// The dead letters.
    pub dead_letters: OutputFacts,
    /// The next offset of each source partition that its group had committed before the ends of the topics were asked for.
    pub committed: BTreeMap<i32, i64>,
    /// It holds records back by filters: what is in `logins` need not be published.
    pub filtered: bool,
    /// It repeats records after a crash.
    pub at_least_once: bool,
}

impl SpeedPath {
    /// The topic of an output.
    pub fn facts(&self, output: Output) -> &OutputFacts {
        match output {
            Output::Processed => &self.processed,
            Output::DeadLetters => &self.dead_letters,
        }
    }
}

/// A record of an output topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishedRecord {
    /// Its own partition.
    pub output_partition: i32,
    /// Its own offset.
    pub output_offset: i64,
    /// The partition of the record that it was made from.
    pub source_partition: i32,
    /// The offset of the record that it was made from.
    pub source_offset: i64,
}

/// What an output partition has of a source partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// The first record that is left: its own offset, and its source's.
    first: (i64, i64),
    /// The least and the greatest source offset.
    least: i64,
    greatest: i64,
    /// The greatest among those that were there at the earlier moment.
    greatest_before: Option<i64>,
}

/// The spans of all output partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spans(BTreeMap<(Output, i32, i32), Span>);

/// Source offsets `[from, to)` that are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) logins: (i64, i64),
    pub(super) rejected: (i64, i64),
}

impl Judged {
    /// All that is judged of either kind.
    pub(super) fn both(&self) -> (i64, i64) {
        let from = self.logins.0.max(self.rejected.0);
        (from, self.logins.1.max(from))
    }
}

impl Spans {
    pub(super) fn push(&mut self, output: Output, record: PublishedRecord, before: &BTreeMap<i32, i64>) {
        let own = (record.output_offset, record.source_offset);
        let was_there = before
            .get(&record.output_partition)
            .is_some_and(|before| record.output_offset < *before);
        let greatest_before = was_there.then_some(record.source_offset);
        let key = (output, record.output_partition, record.source_partition);
        self.0
            .entry(key)
            .and_modify(|span| {
                span.first = span.first.min(own);
                span.least = span.least.min(record.source_offset);
                span.greatest = span.greatest.max(record.source_offset);
                span.greatest_before = span.greatest_before.max(greatest_before);
            })
            .or_insert(Span {
                first: own,
                least: record.source_offset,
                greatest: record.source_offset,
                greatest_before,
            });
    }

    pub(super) fn append(&mut self, other: Spans) {
        for (key, found) in other.0 {
            self.0
                .entry(key)
                .and_modify(|span| {
                    span.first = span.first.min(found.first);
                    span.least = span.least.min(found.least);
                    span.greatest = span.greatest.max(found.greatest);
                    span.greatest_before = span.greatest_before.max(found.greatest_before);
                })
                .or_insert(found);
        }
    }

    fn of(&self, source_partition: i32) -> impl Iterator<Item = (Output, i32, &Span)> {
        let is_of = move |key: &(Output, i32, i32)| key.2 == source_partition;
        let found = self.0.iter().filter(move |(key, _)| is_of(key));
        found.map(|((output, partition, _), span)| (*output, *partition, span))
    }

    /// The least source offset that was published.
    pub(super) fn least(&self, source_partition: i32) -> Option<i64> {
        self.of(source_partition).map(|(.., span)| span.least).min()
    }

    /// Where an output is whole from on; `None`: it is cut, and nothing tells where.
    fn whole_from(&self, path: &SpeedPath, output: Output, source_partition: i32) -> Option<i64> {
        let cut = path.facts(output).bounds.iter().filter(|(_, (low, _))| *low > 0);
        let mut whole_from = 0;
        for (output_partition, _) in cut {
            let span = self.0.get(&(output, *output_partition, source_partition))?;
            whole_from = whole_from.max(span.first.1);
        }
        Some(whole_from)
    }

    /// One more than the last source offset that must have been published.
    fn end(&self, path: &SpeedPath, source_partition: i32) -> i64 {
        if let Some(committed) = path.committed.get(&source_partition) {
            return *committed;
        }
        let ends = self
            .of(source_partition)
            .filter(|(output, ..)| !path.at_least_once || *output == Output::Processed)
            .map(|(.., span)| span.greatest_before.map_or(0, |greatest| greatest + 1));
        // A transaction is published as a whole; without, each output partition is as far as it is.
        let end = if path.at_least_once {
            ends.min()
        } else {
            ends.max()
        };
        end.unwrap_or(0)
    }

    /// What can be judged of a source partition, of which the tables have `[from, to)`.
    pub(super) fn judged(&self, path: &SpeedPath, source_partition: i32, tables: (i64, i64)) -> Judged {
        let to = self.end(path, source_partition).min(tables.1);
        // The speed path may have begun later than the lake.
        let least = match self.least(source_partition) {
            Some(least) => least.max(tables.0),
            None if path.committed.contains_key(&source_partition) => tables.0,
            None => to,
        };
        let range = |output| match self.whole_from(path, output, source_partition) {
            Some(from) if !path.facts(output).compacted => (from.max(least).min(to), to),
            _ => (to, to),
        };
        Judged {
            logins: range(Output::Processed),
            rejected: range(Output::DeadLetters),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(output_partition: i32, output_offset: i64, source_offset: i64) -> PublishedRecord {
        PublishedRecord {
            output_partition,
            output_offset,
            source_partition: 0,
            source_offset,
        }
    }

    fn path(bounds: &[(i64, i64)]) -> SpeedPath {
        let bounds: TopicBounds = (0..).zip(bounds.iter().copied()).collect();
        let facts = OutputFacts {
            before: bounds
                .iter()
                .map(|(partition, (_, high))| (*partition, *high))
                .collect(),
            bounds,
            compacted: false,
        };
        SpeedPath {
            processed: facts.clone(),
            ..SpeedPath::default()
        }
    }

    fn spans(path: &SpeedPath, records: &[PublishedRecord]) -> Spans {
        let mut spans = Spans::default();
        for record in records {
            spans.push(Output::Processed, *record, &path.processed.before);
        }
        spans
    }

    #[test]
    fn what_is_judged_begins_where_every_cut_partition_has_begun() {
        let records = [
            record(0, 50, 10),
            record(0, 51, 13),
            record(1, 7, 30),
            record(1, 8, 31),
        ];
        let whole = path(&[(0, 60), (0, 9)]);
        assert_eq!(
            spans(&whole, &records).judged(&whole, 0, (5, 100)).logins,
            (10, 32)
        );
        let cut = path(&[(50, 60), (0, 9)]);
        assert_eq!(spans(&cut, &records).judged(&cut, 0, (5, 100)).logins, (10, 32));
        let both = path(&[(50, 60), (7, 9)]);
        assert_eq!(spans(&both, &records).judged(&both, 0, (5, 100)).logins, (30, 32));
        assert_eq!(spans(&both, &records).judged(&both, 0, (5, 31)).logins, (30, 31));
        // One of them has nothing left of it.
        let emptied = path(&[(50, 60), (7, 9), (3, 3)]);
        let judged = spans(&emptied, &records).judged(&emptied, 0, (5, 100));
        assert_eq!(judged.logins, (32, 32));
        // Nobody cut the dead letters.
        assert_eq!(judged.rejected, (10, 32));
        assert_eq!(judged.both(), (32, 32));
    }

    #[test]
    fn what_is_judged_ends_with_what_must_have_been_published() {
        let records = [record(0, 0, 0), record(0, 1, 7), record(1, 0, 3), record(1, 5, 9)];
        let mut path = path(&[(0, 2), (0, 6)]);
        // The last record came after the earlier moment.
        path.processed.before.insert(1, 5);
        let spans = spans(&path, &records);
        assert_eq!(spans.judged(&path, 0, (0, 100)).logins, (0, 8));
        path.at_least_once = true;
        assert_eq!(spans.judged(&path, 0, (0, 100)).logins, (0, 4));
        path.committed.insert(0, 12);
        assert_eq!(spans.judged(&path, 0, (0, 100)).logins, (0, 12));
        path.processed.compacted = true;
        assert_eq!(spans.judged(&path, 0, (0, 100)).logins, (12, 12));
    }

    #[test]
    fn a_committed_partition_without_any_output_is_judged_and_an_unknown_one_is_not() {
        let mut path = path(&[(0, 0)]);
        assert_eq!(Spans::default().judged(&path, 3, (0, 50)).logins, (0, 0));
        path.committed.insert(3, 40);
        assert_eq!(Spans::default().judged(&path, 3, (2, 50)).logins, (2, 40));
    }

    #[test]
    fn the_first_record_that_is_left_counts_not_the_least() {
        // After a repeat (at least once) an older record stands behind a newer one.
        let cut = path(&[(5, 9)]);
        let records = [
            record(0, 5, 12),
            record(0, 6, 10),
            record(0, 7, 11),
            record(0, 8, 12),
        ];
        let mut reversed = records;
        reversed.reverse();
        let judged = spans(&cut, &records).judged(&cut, 0, (0, 100));
        assert_eq!(judged.logins, (12, 13));
        assert_eq!(spans(&cut, &reversed).judged(&cut, 0, (0, 100)), judged);
        let mut halves = spans(&cut, &records[..2]);
        halves.append(spans(&cut, &records[2..]));
        assert_eq!(halves, spans(&cut, &records));
    }
}
