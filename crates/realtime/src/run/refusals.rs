//! Records that the output topic refuses: which ones they are, and why.
//!
//! A broker refuses a batch as a whole. The records of a refused batch are suspects and are sent again one by one; one that
//! is refused alone is to blame, and becomes a dead letter. Pure, bounded: what is forgotten is found out once more.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use loginlake_kafka::producer::RefusedRecord;

use super::transform::Refused;

/// Records that are remembered.
const MAX_REMEMBERED: usize = 10_000;

/// Input partition and offset.
type Position = (i32, i64);

/// What is known of refused records that are not settled yet.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    /// Refused alone, with the error, and whether what was published instead was refused, too.
    refused: HashMap<Position, (String, bool)>,
    /// Refused together with others.
    suspects: BTreeSet<Position>,
}

impl Refusals {
    /// Takes note of refused records; `alone`: each was the only one of its batch.
    pub fn note(&mut self, records: Vec<RefusedRecord>, alone: bool) {
        for record in records {
            let position = (record.kafka_partition, record.kafka_offset);
            if self.refused.len().max(self.suspects.len()) >= MAX_REMEMBERED {
                self.refused.clear();
                self.suspects.clear();
            }
            if !alone {
                self.suspects.insert(position);
                continue;
            }
            tracing::warn!(
                partition = position.0,
                offset = position.1,
                error = record.error,
                "the output topic refused a record; it becomes a dead letter"
            );
            self.suspects.remove(&position);
            let again = self.refused.contains_key(&position);
            self.refused.insert(position, (record.error, again));
        }
    }

    /// Whether records have to be sent one by one.
    pub fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Why this record was refused, when it was to blame.
    pub fn reason(&self, position: Position) -> Option<Refused<'_>> {
        if self.refused.is_empty() {
            return None;
        }
        self.refused
            .get(&position)
            .map(|(error, again)| Refused { error, again: *again })
    }

    /// What is below a committed offset is settled.
    pub fn settle(&mut self, next_offsets: &BTreeMap<i32, i64>) {
        let is_open =
            |(partition, offset): &Position| next_offsets.get(partition).is_none_or(|next| offset >= next);
        self.suspects.retain(is_open);
        self.refused.retain(|position, _| is_open(position));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: i64) -> RefusedRecord {
        RefusedRecord {
            kafka_partition: 0,
            kafka_offset: offset,
            error: "too large".to_owned(),
        }
    }

    #[test]
    fn only_a_record_that_was_alone_is_to_blame() {
        let mut refusals = Refusals::default();
        refusals.note(vec![record(4), record(5)], false);
        assert!(refusals.has_suspects());
        assert_eq!(refusals.reason((0, 5)), None);
        refusals.note(vec![record(5)], true);
        let refused = |again| {
            Some(Refused {
                error: "too large",
                again,
            })
        };
        assert_eq!(refusals.reason((0, 5)), refused(false));
        refusals.note(vec![record(5)], true);
        assert_eq!(refusals.reason((0, 5)), refused(true), "its dead letter, too");
        refusals.settle(&BTreeMap::from([(0, 5)]));
        assert!(!refusals.has_suspects(), "4 is committed");
        assert_eq!(refusals.reason((0, 5)), refused(true), "5 is not");
        refusals.settle(&BTreeMap::from([(0, 6), (1, 9)]));
        assert_eq!(refusals.reason((0, 5)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut refusals = Refusals::default();
        refusals.note((0..50_000).map(record).collect(), false);
        assert!(refusals.suspects.len() <= MAX_REMEMBERED);
    }
}
