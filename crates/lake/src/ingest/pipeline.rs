//! The name under which a topic's incarnation keeps its offsets in the table: one application id per Kafka partition.
//!
//! A topic that is deleted and made again has another topic id, and so other application ids: its offsets begin anew and
//! must not be taken for those of its predecessor (CORRECTNESS, OLAP path 2).

use std::collections::BTreeMap;

/// First part of every application id of ingestion.
const PREFIX: &str = "loginlake";

/// Last part of the application id that holds, as its version, from which time on the table has the topic (epoch
/// milliseconds). Only a lake that was begun with `--from-timestamp` has it.
const BEGINS_AT: &str = "begins-at-ms";

/// The version of an application id whose incarnation was given up by an accepted gap: nothing ever stands there, so
/// whoever still ingests the old topic is fenced.
pub const RETIRED: i64 = i64::MAX;

/// A topic's incarnation as a source of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    topic: String,
    incarnation: String,
}

/// Another incarnation of the same topic whose offsets the table still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Its topic id.
    pub incarnation: String,
    /// The next offset of each of its Kafka partitions.
    pub offsets: BTreeMap<i32, i64>,
}

impl Pipeline {
    /// `incarnation` is the broker's topic id.
    pub fn new(topic: impl Into<String>, incarnation: impl Into<String>) -> Self {
        Self {
            topic: topic.into(),
            incarnation: incarnation.into(),
        }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The topic id.
    pub fn incarnation(&self) -> &str {
        &self.incarnation
    }

    /// The application id of one of its Kafka partitions.
    pub fn app_id(&self, kafka_partition: i32) -> String {
        self.app_id_of(&self.incarnation, kafka_partition)
    }

    /// The application id of a Kafka partition of another incarnation of the topic.
    pub fn app_id_of(&self, incarnation: &str, kafka_partition: i32) -> String {
        format!("{PREFIX}/{}/{incarnation}/{kafka_partition}", self.topic)
    }

    /// Whether an application id is that of a Kafka partition of another incarnation of the same topic.
    pub fn is_other_incarnation(&self, app_id: &str) -> bool {
        let of_topic = app_id
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix('/'));
        let rest = of_topic.and_then(|rest| rest.strip_prefix(self.topic.as_str())?.strip_prefix('/'));
        rest.and_then(|rest| rest.rsplit_once('/'))
            .is_some_and(|(incarnation, last)| incarnation != self.incarnation && last.parse::<i32>().is_ok())
    }

    /// The application id whose version is the time from which on the table has the topic.
    pub fn begins_at_app_id(&self) -> String {
        format!("{PREFIX}/{}/{}/{BEGINS_AT}", self.topic, self.incarnation)
    }

    /// The time from which on the table has the topic, epoch milliseconds; `None`: from its oldest record on.
    pub fn begins_at_ms(&self, transactions: &BTreeMap<String, i64>) -> Option<i64> {
        transactions.get(&self.begins_at_app_id()).copied()
    }

    /// The next offset of each Kafka partition of this incarnation, as a table's `txn` actions say it. [`RETIRED`] for one
    /// that was given up.
    pub fn offsets(&self, transactions: &BTreeMap<String, i64>) -> BTreeMap<i32, i64> {
        let prefix = format!("{PREFIX}/{}/{}/", self.topic, self.incarnation);
        transactions
            .iter()
            .filter_map(|(app_id, version)| Some((app_id.strip_prefix(&prefix)?.parse().ok()?, *version)))
            .collect()
    }

    /// Another incarnation of the same topic that the table has offsets of, and that was not given up.
    pub fn predecessor(&self, transactions: &BTreeMap<String, i64>) -> Option<Predecessor> {
        let prefix = format!("{PREFIX}/{}/", self.topic);
        let mut found: Option<Predecessor> = None;
        for (app_id, version) in transactions {
            let Some((incarnation, last)) = app_id
                .strip_prefix(&prefix)
                .and_then(|rest| rest.rsplit_once('/'))
            else {
                continue;
            };
            if incarnation == self.incarnation || *version == RETIRED {
                continue;
            }
            let Ok(kafka_partition) = last.parse() else {
                continue;
            };
            let predecessor = found.get_or_insert_with(|| Predecessor {
                incarnation: incarnation.to_owned(),
                offsets: BTreeMap::new(),
            });
            if predecessor.incarnation == incarnation {
                predecessor.offsets.insert(kafka_partition, *version);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_those_of_this_incarnation_only() {
        let old = Pipeline::new("user-login", "AAA");
        let new = Pipeline::new("user-login", "BBB");
        let mut transactions = BTreeMap::from([
            (old.app_id(0), 5),
            (old.app_id(1), 6),
            (new.app_id(0), 7),
            (new.app_id(12), 9),
            (new.begins_at_app_id(), 1_000),
            ("other".to_owned(), 1),
        ]);
        assert_eq!(new.offsets(&transactions), BTreeMap::from([(0, 7), (12, 9)]));
        assert!(new.is_other_incarnation(&old.app_id(1)) && !new.is_other_incarnation(&new.app_id(1)));
        assert!(!old.is_other_incarnation(&new.begins_at_app_id()) && !new.is_other_incarnation("other"));
        assert_eq!(new.begins_at_ms(&transactions), Some(1_000));
        assert_eq!(old.begins_at_ms(&transactions), None);
        assert_eq!(
            new.predecessor(&transactions),
            Some(Predecessor {
                incarnation: "AAA".to_owned(),
                offsets: BTreeMap::from([(0, 5), (1, 6)]),
            })
        );
        assert_eq!(Pipeline::new("logins", "AAA").predecessor(&transactions), None);

        for kafka_partition in [0, 1] {
            transactions.insert(old.app_id(kafka_partition), RETIRED);
        }
        assert_eq!(new.predecessor(&transactions), None, "given up");
    }
}
